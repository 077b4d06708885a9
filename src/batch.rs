//! [`Batch`]: slots anywhere, worked through window by window, and [`Window`], what was done to some of them.
//!
//! What a scattered slot costs is its cache misses. A batch asks for all that a *window* of its slots needs before it takes
//! the first lock, so that these misses overlap:
//!
//! 1. It asks for each entry, and for the cell of the new owner.
//! 2. It reads each entry, as a hint, and asks for the cell of the owner that it names.
//! 3. It writes the entries in the order of the slice, and takes each region's lock once for all neighbours in the
//!    window that lie in the same region.
//!
//! Where a window lies close together, the first two steps cost more than they save: then it asks for the lines of the
//! entries, and for nothing else.
//!
//! A batch belongs to the swapfiles that were on when it was made: what it writes, it writes under their generations
//! (design, invariant 6). Nothing here allocates.

use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType, TYPE_BITS};
use crate::error::EntryError;
use crate::id::MemcgId;
use crate::region::REGION_ENTRIES;
use crate::span::locate;
use crate::swapfile::On;
use crate::table::{SwapRecords, no_memory, off};

/// The most slots of a window, and so of one hold of a lock: those that lie close together.
pub(crate) const WINDOW: usize = 2 * SCATTERED;

/// The slots of a window that lie anywhere: as many as the processor can ask for at once.
const SCATTERED: usize = if cfg!(swap_records_loom) {
    2
} else if cfg!(miri) {
    4
} else {
    32
};

/// A slot of a batch, and what it is to hold: the number of its new owner, or 0.
pub(crate) trait Work: Copy {
    type Item;
    fn entry(item: &Self::Item) -> SwapEntry;
    fn owner(self, item: &Self::Item) -> u16;
}

/// The same for all slots.
#[derive(Clone, Copy)]
pub(crate) struct Same(pub(crate) u16);

impl Work for Same {
    type Item = SwapEntry;

    #[inline(always)]
    fn entry(item: &SwapEntry) -> SwapEntry {
        *item
    }

    #[inline(always)]
    fn owner(self, _: &SwapEntry) -> u16 {
        self.0
    }
}

/// No owner. Known when it is compiled, it saves a fifth of the instructions of a slot.
#[derive(Clone, Copy)]
pub(crate) struct Nobody;

impl Work for Nobody {
    type Item = SwapEntry;

    #[inline(always)]
    fn entry(item: &SwapEntry) -> SwapEntry {
        *item
    }

    #[inline(always)]
    fn owner(self, _: &SwapEntry) -> u16 {
        0
    }
}

/// An owner for each slot.
#[derive(Clone, Copy)]
pub(crate) struct Each;

impl Work for Each {
    type Item = (SwapEntry, MemcgId);

    #[inline(always)]
    fn entry(item: &Self::Item) -> SwapEntry {
        item.0
    }

    #[inline(always)]
    fn owner(self, item: &Self::Item) -> u16 {
        item.1.get()
    }
}

/// Its owner beside each slot, or 0: what all other work is turned into without std, window by window. So there is one copy
/// of the text that writes.
#[cfg(not(feature = "std"))]
#[derive(Clone, Copy)]
struct Copied;

#[cfg(not(feature = "std"))]
impl Work for Copied {
    /// Without padding, so that an array of them is cleared by one call.
    type Item = (SwapEntry, u64);

    #[inline(always)]
    fn entry(item: &Self::Item) -> SwapEntry {
        item.0
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it was an id")]
    fn owner(self, item: &Self::Item) -> u16 {
        item.1 as u16
    }
}

/// Calls `then` with the work for these slots, at most a window.
#[cfg(feature = "std")]
#[inline(always)]
fn with_work<W: Work, R>(work: W, slots: &[W::Item], then: impl FnOnce(W, &[W::Item]) -> R) -> R {
    then(work, slots)
}

#[cfg(not(feature = "std"))]
fn with_work<W: Work, R>(
    work: W,
    slots: &[W::Item],
    then: impl FnOnce(Copied, &[(SwapEntry, u64)]) -> R,
) -> R {
    const FIRST: SwapEntry = SwapEntry::from_bits(0).unwrap();
    let mut window = [(FIRST, 0); WINDOW];
    let len = copy(work, slots, &mut window);
    then(Copied, &window[..len])
}

#[cfg(not(feature = "std"))]
#[inline(never)]
fn copy<W: Work>(work: W, slots: &[W::Item], window: &mut [(SwapEntry, u64); WINDOW]) -> usize {
    let both = window.iter_mut().zip(slots);
    both.map(|(to, item)| *to = (W::entry(item), work.owner(item).into()))
        .count()
}

/// Slots that are in the swapfiles that were on when it was made, from the front on.
pub(crate) struct Batch<'a, 'i, L, W: Work> {
    pinned: Pinned<'a, L>,
    items: &'i [W::Item],
    work: W,
    /// The first slot that has not had its turn.
    at: usize,
    /// Where the next window ends at the latest.
    end: usize,
}

impl<'a, 'i, L: RawMutex, W: Work> Batch<'a, 'i, L, W> {
    /// These slots, if each is in a swapfile that is on.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn new(
        table: &'a SwapRecords<L>,
        items: &'i [W::Item],
        work: W,
    ) -> Result<Self, EntryError> {
        let mut pinned = Pinned {
            on: [const { None }; MAX_SWAPFILES],
            passed: None,
        };
        for window in items.chunks(WINDOW) {
            with_work(work, window, |work, window| {
                pinned.check(table, work, window)
            })?;
        }
        let batch = Self {
            pinned,
            items,
            work,
            at: 0,
            end: items.len(),
        };
        batch.make()?;
        Ok(batch)
    }

    /// Makes what the slots take to be written.
    #[inline(always)]
    fn make(&self) -> Result<(), EntryError> {
        for item in self.items {
            let (entry, owner) = (W::entry(item), self.work.owner(item));
            let at = offset(entry);
            if let Some(on) = self.pinned.on(entry) {
                on.make(at..at + 1, owner)
                    .map_err(|refused| no_memory(on, entry, refused))?;
            }
        }
        Ok(())
    }

    /// Whether all slots were written; otherwise, that a swapfile was turned off, and its first slot that was passed over.
    pub(crate) fn end(self) -> Result<(), EntryError> {
        self.pinned.passed.map_or(Ok(()), Err)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.items.len()
    }

    /// The slots of the next window.
    fn ahead(&self) -> &'i [W::Item] {
        let rest = self.items.get(self.at..self.end).unwrap_or_default();
        &rest[..rest.len().min(WINDOW)]
    }

    /// Writes the next window, and notes in `window` whom its slots had. What was written under a lock is noted before that
    /// lock is freed, so that it is there also if to free it unwinds. Slots of a swapfile that turns out to be gone are passed
    /// over, as slots without an owner.
    pub(crate) fn set(&mut self, window: &mut Window) {
        self.set_window(window, false);
    }

    /// As [`set`](Self::set), but ends before the first slot of a swapfile that turns out to be gone, and says so: for
    /// slots that are lost unless they are written.
    pub(crate) fn set_or_stop(&mut self, window: &mut Window) -> Result<(), EntryError> {
        self.set_window(window, true);
        self.pinned.passed.map_or(Ok(()), Err)
    }

    /// Has the next window end before the first slot whose swapfile is gone, or stops. If that comes first, says so.
    pub(crate) fn stop_before(
        &mut self,
        stops: impl Fn(SwapType, &On<'a, L>) -> bool,
    ) -> Result<(), EntryError> {
        self.end = self.items.len();
        let mut seen = None;
        let stopping = self.ahead().iter().position(|item| {
            let ty = W::entry(item).swap_type();
            // Most slots are in the swapfile of the one before.
            let on = self.pinned.on(W::entry(item));
            seen.replace(ty) != Some(ty) && on.is_none_or(|on| stops(ty, on))
        });
        match stopping {
            Some(0) => Err(off(W::entry(&self.items[self.at]))),
            Some(nr) => {
                self.end = self.at + nr;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What the slots that have not had their turn are to hold.
    pub(crate) fn set_work(&mut self, work: W) {
        self.work = work;
    }

    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn set_window(&mut self, window: &mut Window, stop: bool) {
        window.clear();
        window.start = self.at;
        let ahead = self.ahead();
        let (pinned, at) = (&mut self.pinned, &mut self.at);
        with_work(self.work, ahead, |work, ahead| {
            pinned.set(work, ahead, at, window, stop);
        });
    }
}

/// The swapfiles of a batch.
struct Pinned<'a, L> {
    /// Of each type that a slot is in.
    on: [Option<On<'a, L>>; MAX_SWAPFILES],
    /// Why slots were passed over, and the first of them.
    passed: Option<EntryError>,
}

impl<'a, L: RawMutex> Pinned<'a, L> {
    /// Takes the swapfiles of these slots, at most a window, and finds out whether they have them.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn check<W: Work>(
        &mut self,
        table: &'a SwapRecords<L>,
        _: W,
        window: &[W::Item],
    ) -> Result<(), EntryError> {
        let first = window.first().map(|item| W::entry(item));
        // Most windows are of one swapfile, and not at its end.
        if let Some(first) = first {
            let spread = Spread::of::<W>(window);
            let on = self.pin(table, first)?;
            if spread.is_of_one_type() && spread.last(first) < on.max_pages() {
                return Ok(());
            }
        }
        for item in window {
            let entry = W::entry(item);
            locate(self.pin(table, entry)?, entry, 1)?;
        }
        Ok(())
    }

    /// The swapfile of a slot, which is from now on the one of its type.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn pin(
        &mut self,
        table: &'a SwapRecords<L>,
        entry: SwapEntry,
    ) -> Result<&On<'a, L>, EntryError> {
        let on = &mut self.on[usize::from(entry.swap_type().get())];
        Ok(match on {
            Some(on) => on,
            None => on.insert(table.on(entry)?),
        })
    }

    /// The swapfile of this slot has been turned off. Its slots have no records any more.
    #[cold]
    fn pass_over(&mut self, first: SwapEntry) {
        self.on[usize::from(first.swap_type().get())] = None;
        self.passed.get_or_insert(off(first));
    }

    /// The swapfile of this slot of the batch.
    #[inline(always)]
    fn on(&self, entry: SwapEntry) -> Option<&On<'a, L>> {
        self.on[usize::from(entry.swap_type().get())].as_ref()
    }

    /// Asks for what these slots will need. Gives those of them that it has asked for, from the front on.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn ask<'s, W: Work>(&self, work: W, slots: &'s [W::Item], spread: Spread) -> &'s [W::Item] {
        let each_on = |slots: &'s [W::Item]| {
            slots.iter().filter_map(|item| {
                let entry = W::entry(item);
                Some((item, offset(entry), self.on(entry)?))
            })
        };
        if let Some(block) = spread.block(slots.len()) {
            if let Some((_, offset, on)) = each_on(slots).next() {
                on.prefetch_block(offset, block);
            }
            return slots;
        }
        let slots = &slots[..slots.len().min(SCATTERED)];
        for (item, offset, on) in each_on(slots) {
            on.prefetch(offset, work.owner(item));
        }
        for (_, offset, on) in each_on(slots) {
            on.prefetch_owner(offset);
        }
        slots
    }

    /// [`Batch::set`], or [`Batch::set_or_stop`], for slots that are a window at most; `at` goes on with what is written.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn set<W: Work>(
        &mut self,
        work: W,
        mut ahead: &[W::Item],
        at: &mut usize,
        window: &mut Window,
        stop: bool,
    ) {
        let spread = Spread::of::<W>(ahead);
        ahead = self.ask(work, ahead, spread);
        while let Some(first) = ahead.first() {
            let first = W::entry(first);
            let nr = if spread.is_in_one_region() {
                ahead.len()
            } else {
                let others = ahead.iter().map(|item| W::entry(item));
                others
                    .take_while(|&other| Spread::between(first, other).is_in_one_region())
                    .count()
            };
            let (part, rest) = ahead.split_at(nr);
            let had = &mut window.had[window.len..];
            let region = self.on(first).and_then(|on| on.lock_of(offset(first)));
            match &region {
                Some(region) => {
                    let slots = part
                        .iter()
                        .map(|item| (offset(W::entry(item)) % REGION_ENTRIES, work.owner(item)));
                    region.set_each(slots, had);
                }
                None if stop => return self.pass_over(first),
                None => had[..nr].fill(0),
            }
            window.len += nr;
            *at += nr;
            ahead = rest;
            if region.is_none() {
                self.pass_over(first);
            }
            drop(region);
        }
    }
}

/// How far apart slots are: the bits in which any of them differs from the first one.
#[derive(Clone, Copy)]
struct Spread(u64);

impl Spread {
    #[inline(always)]
    fn between(a: SwapEntry, b: SwapEntry) -> Self {
        Self(a.to_bits() ^ b.to_bits())
    }

    #[inline(always)]
    fn of<W: Work>(items: &[W::Item]) -> Self {
        let Some(first) = items.first() else {
            return Self(0);
        };
        let first = W::entry(first);
        let others = items.iter().map(|item| W::entry(item));
        Self(others.fold(0, |all, other| all | Self::between(first, other).0))
    }

    #[inline(always)]
    fn is_of_one_type(self) -> bool {
        self.0.is_multiple_of(ENTRY)
    }

    /// An offset that none of them is above.
    #[inline(always)]
    fn last(self, first: SwapEntry) -> u64 {
        (first.to_bits() | self.0) / ENTRY
    }

    /// Whether one lock is for all of them.
    #[inline(always)]
    fn is_in_one_region(self) -> bool {
        self.0 & !(ENTRY * (REGION_ENTRIES as u64 - 1)) == 0
    }

    /// The size of the aligned block of slots, a power of two, that has all `nr` of them, if that is at most half as many
    /// cache lines.
    fn block(self, nr: usize) -> Option<usize> {
        const LINE: usize = 64 / size_of::<u16>();
        if !self.is_in_one_region() {
            return None;
        }
        let apart = usize::try_from(self.0 / ENTRY).ok()?;
        let slots = (apart + 1).next_power_of_two();
        (slots <= nr * LINE / 2).then_some(slots)
    }
}

/// From the bits of a slot to those of the next one.
const ENTRY: u64 = 1 << TYPE_BITS;

/// The place in its swapfile, which has it.
#[inline(always)]
fn offset(entry: SwapEntry) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "max_pages is from a usize")]
    {
        entry.offset() as usize
    }
}

/// What was done to some slots of a batch.
pub(crate) struct Window {
    /// The first of them, and how many were written.
    start: usize,
    len: usize,
    /// Whom they had, 0 for none.
    had: [u16; WINDOW],
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            start: 0,
            len: 0,
            had: [0; WINDOW],
        }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The slots that were written.
    pub(crate) fn written<'i, T>(&self, items: &'i [T]) -> &'i [T] {
        items
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    /// The slots that had an owner, and that one.
    pub(crate) fn owners<'w, W: Work>(
        &'w self,
        items: &'w [W::Item],
    ) -> impl Iterator<Item = (SwapEntry, MemcgId)> {
        let items = items.get(self.start..).unwrap_or_default();
        let had = self.had[..self.len].iter();
        let owned = |(item, &had)| Some((W::entry(item), MemcgId::new(had)?));
        items.iter().zip(had).filter_map(owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const TYPE: SwapType = SwapType::new(0).unwrap();
    const OTHER: SwapType = SwapType::new(1).unwrap();

    fn entry(ty: SwapType, offset: usize) -> SwapEntry {
        SwapEntry::new(ty, offset as u64).unwrap()
    }

    #[test]
    fn slots_are_as_far_apart_as_the_block_that_has_all_of_them() {
        let spread = |offsets: &[usize]| {
            let entries: Vec<_> = offsets.iter().map(|&at| entry(TYPE, at)).collect();
            Spread::of::<Nobody>(&entries)
        };
        for (offsets, slots) in [
            (&[7][..], 1),
            (&[7, 7], 1),
            (&[6, 7], 2),
            (&[7, 8], 16),
            (&[13, 100, 70], 128),
        ] {
            assert_eq!(spread(offsets).block(64), Some(slots), "{offsets:?}");
        }
        assert_eq!(spread(&[0, 127]).block(8), Some(128));
        assert_eq!(spread(&[0, 127]).block(7), None);
        assert!(spread(&[0, REGION_ENTRIES - 1]).is_in_one_region());
        let border = spread(&[REGION_ENTRIES - 1, REGION_ENTRIES]);
        assert!(!border.is_in_one_region() && border.is_of_one_type());
        assert_eq!(border.block(usize::MAX / 32), None);
        let types = Spread::between(entry(TYPE, 5), entry(OTHER, 5));
        assert!(!types.is_of_one_type() && !types.is_in_one_region());
    }
}
