//! [`Batch`]: slots anywhere, worked through window by window; and [`Window`]: the previous owners of the
//! slots of a window.
//!
//! A scattered slot costs its cache misses. A batch prefetches all that a *window* of its slots needs before
//! it takes the first lock, so that these misses overlap:
//!
//! 1. It prefetches each entry, and the cell of the new owner.
//! 2. It reads each entry, as a hint, and prefetches the cell of the owner that it names.
//! 3. It writes the entries in the order of the slice. Neighbours in the window that lie in the same region
//!    share one hold of its lock.
//!
//! If a window lies close together, the first two steps cost more than they save. The batch then prefetches
//! the lines of the entries, and nothing else.
//!
//! A batch belongs to the swapfiles that were on when it was made. It writes under their generations
//! (invariant 6). Nothing here allocates, except the pages that are made without `std`.

use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType, TYPE_BITS};
use crate::error::EntryError;
use crate::id::MemcgId;
use crate::region::REGION_ENTRIES;
use crate::span::{locate, make};
use crate::swapfile::On;
use crate::table::{SwapRecords, off};

mod work;

pub(crate) use work::{Each, NoOwner, Same, WINDOW, Work};
use work::{SCATTERED, with_work};

/// The slots of a batch, and the swapfiles that were on when the batch was made.
pub(crate) struct Batch<'a, 'i, L, W: Work> {
    pinned: Pinned<'a, L>,
    items: &'i [W::Item],
    work: W,
    /// The index of the first slot that has not been written or skipped.
    at: usize,
    /// The index at which the next window ends at the latest.
    end: usize,
}

impl<'a, 'i, L: RawMutex, W: Work> Batch<'a, 'i, L, W> {
    /// Makes a batch of these slots. Fails unless each slot is in a swapfile that is on.
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
        for window in items.chunks(WINDOW) {
            with_work(work, window, |work, window| pinned.make(work, window))?;
        }
        Ok(Self {
            pinned,
            items,
            work,
            at: 0,
            end: items.len(),
        })
    }

    /// Returns an error if a swapfile was turned off. The error names its first slot that was skipped.
    pub(crate) fn end(self) -> Result<(), EntryError> {
        self.pinned.passed.map_or(Ok(()), Err)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.items.len()
    }

    /// Returns the slots of the next window.
    fn ahead(&self) -> &'i [W::Item] {
        let rest = self.items.get(self.at..self.end).unwrap_or_default();
        &rest[..rest.len().min(WINDOW)]
    }

    /// Writes the next window, and stores the previous owners in `window`. Slots of a swapfile that was
    /// turned off are skipped, as slots without an owner. The owners are stored before the lock is freed, so
    /// that they are there even if the unlock unwinds.
    pub(crate) fn set(&mut self, window: &mut Window) {
        self.set_window(window, false);
    }

    /// Works as [`set`](Self::set), but stops before the first slot of a swapfile that was turned off, and
    /// returns the error. This is for slots that are lost unless they are written.
    pub(crate) fn set_or_stop(&mut self, window: &mut Window) -> Result<(), EntryError> {
        self.set_window(window, true);
        self.pinned.passed.map_or(Ok(()), Err)
    }

    /// Ends the next window before the first slot whose swapfile is gone or for which `stops` returns true.
    /// Returns an error if that is the next slot.
    pub(crate) fn stop_before(
        &mut self,
        stops: impl Fn(SwapType, &On<'a, L>) -> bool,
    ) -> Result<(), EntryError> {
        self.end = self.items.len();
        let mut seen = None;
        let stopping = self.ahead().iter().position(|item| {
            let ty = W::entry(item).swap_type();
            // Most slots are in the swapfile of the slot before.
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

    /// Changes the work for the slots that have not been written or skipped.
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
    /// The swapfile of each type that has slots in the batch.
    on: [Option<On<'a, L>>; MAX_SWAPFILES],
    /// The error that names the first slot that was skipped.
    passed: Option<EntryError>,
}

impl<'a, L: RawMutex> Pinned<'a, L> {
    /// Pins the swapfiles of these slots, at most a window, and checks that the slots lie in them.
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

    /// Makes the memory that is needed to write these slots.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn make<W: Work>(&self, work: W, window: &[W::Item]) -> Result<(), EntryError> {
        for item in window {
            let entry = W::entry(item);
            if let Some(on) = self.on(entry) {
                make(on, entry, 1, work.owner(item))?;
            }
        }
        Ok(())
    }

    /// Returns the swapfile of a slot. The batch uses this one for the type from now on.
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

    /// Skips the slots of this slot's swapfile, which has been turned off: they have no records any more.
    #[cold]
    fn pass_over(&mut self, first: SwapEntry) {
        self.on[usize::from(first.swap_type().get())] = None;
        self.passed.get_or_insert(off(first));
    }

    /// Returns the swapfile of this slot of the batch, or `None` if it was turned off.
    #[inline(always)]
    fn on(&self, entry: SwapEntry) -> Option<&On<'a, L>> {
        self.on[usize::from(entry.swap_type().get())].as_ref()
    }

    /// Prefetches what these slots need. Returns the slots that it has prefetched for: all of them, or the
    /// first ones.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn prefetch<'s, W: Work>(
        &self,
        work: W,
        slots: &'s [W::Item],
        spread: Spread,
    ) -> &'s [W::Item] {
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

    /// Works as [`Batch::set`] or [`Batch::set_or_stop`], for slots that are at most a window. Advances `at`
    /// by the slots that it has written or skipped.
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
        ahead = self.prefetch(work, ahead, spread);
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

    /// Returns an offset that is at or above those of all slots.
    #[inline(always)]
    fn last(self, first: SwapEntry) -> u64 {
        (first.to_bits() | self.0) / ENTRY
    }

    /// Returns whether all slots share one lock.
    #[inline(always)]
    fn is_in_one_region(self) -> bool {
        self.0 & !(ENTRY * (REGION_ENTRIES as u64 - 1)) == 0
    }

    /// Returns the size, a power of two, of the aligned block of slots that contains all `nr` of them.
    /// Returns `None` if that block has more than half as many cache lines as there are slots.
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

/// The difference between the bits of a slot and those of the next one.
const ENTRY: u64 = 1 << TYPE_BITS;

/// Returns the offset of a slot in its swapfile. The slot must have been checked.
#[inline(always)]
fn offset(entry: SwapEntry) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "max_pages is from a usize")]
    {
        entry.offset() as usize
    }
}

/// The previous owners of the slots of a window.
pub(crate) struct Window {
    /// The index of the first slot, and the number of slots that were written or skipped.
    start: usize,
    len: usize,
    /// The previous owners. 0 stands for none.
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

    /// Returns the slots that were written or skipped.
    pub(crate) fn written<'i, T>(&self, items: &'i [T]) -> &'i [T] {
        items
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    /// Returns the slots that had an owner, with that owner.
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
    fn the_spread_of_slots_is_the_aligned_block_that_contains_them() {
        let spread = |offsets: &[usize]| {
            let entries: Vec<_> = offsets.iter().map(|&at| entry(TYPE, at)).collect();
            Spread::of::<NoOwner>(&entries)
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
