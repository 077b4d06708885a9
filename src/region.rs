//! [`Region`]: reads and writes entries and their index under one lock.
//!
//! A region is [`REGION_ENTRIES`] consecutive entries. It has one lock, and for each counter (an id,
//! or several that share one) one cell: how many entries of the region hold such an id, and the
//! exclusive-or of their positions. Adding or removing a record changes both, in any order; where the
//! number is one, the other half *is* the position (a one-cell invertible Bloom lookup table:
//! Goodrich and Mitzenmacher, "Invertible Bloom Lookup Tables", 2011).
//!
//! **Invariants (design, 1 and 2):** entries, cells and presence bits of a region are written only while its
//! lock is held, that is, through a [`Region`]. Whenever the lock is free, the cell of each
//! counter has the number of the entries whose id maps to it, and the exclusive-or of their positions. The
//! presence bit is set exactly if the number is not zero. (Without `std`, invariant 15 says what holds for
//! spilled blocks instead.) When one owner replaces another, the presence bit of the new owner is set before
//! the bit of the old owner is cleared. Each id from `COUNTERS` on that an entry has is noted in
//! [`Shared`](crate::shared::Shared).

use core::ops::Range;
use core::ptr;

use lock_api::{MutexGuard, RawMutex};
use smallvec::SmallVec;

use crate::cell::{COUNTERS, Cell, Tally, counter, narrow};
use crate::regions::Regions;
use crate::scan::{self, Backend};
use crate::store::{InRegion, Usual, entry, parts, whole};
use crate::sync::{AtomicU16, Ordering, prefetch};

mod sweep;
pub(crate) use sweep::{Sweep, part};

/// Entries in a chunk: a page of 16-bit ids.
pub const CHUNK_ENTRIES: usize = if cfg!(swap_records_loom) {
    2
} else if cfg!(miri) {
    16
} else {
    4096 / size_of::<u16>()
};

/// Entries under one lock: 16 chunks. A position in a cell can address this many, and no hold of a lock looks
/// at more.
pub const REGION_ENTRIES: usize = if cfg!(swap_records_loom) { 2 } else { 16 } * CHUNK_ENTRIES;

/// Entries that an iterator copies at once and keeps in itself: 1 KiB, which fits on a kernel's stack.
pub(crate) const PIECE: usize = if CHUNK_ENTRIES < 512 {
    CHUNK_ENTRIES
} else {
    512
};

const _: () = assert!(CHUNK_ENTRIES.is_multiple_of(PIECE));

/// The entries of a region, side by side. Entries at and past `max_pages` exist too, and stay 0.
#[cfg(feature = "std")]
pub(crate) type Entries = [AtomicU16; REGION_ENTRIES];

const _: () = assert!(REGION_ENTRIES.is_power_of_two());
// A number is at most that of a whole region, and a position is less: both fit into their half of a cell.
const _: () = assert!(REGION_ENTRIES <= u16::MAX as usize);

/// Runs of equal owners: position of the first entry, number of entries, and id. There are never more runs
/// than fit inline.
pub(crate) type Owners = SmallVec<[(u32, u32, u16); 32]>;

/// Adds a run to a note that has room for it. The check shows the compiler that the note never grows.
#[inline]
pub(crate) fn push(owners: &mut Owners, run: (u32, u32, u16)) {
    debug_assert!(owners.len() < owners.inline_size());
    if owners.len() < owners.capacity() {
        owners.push(run);
    }
}

/// A region whose lock is held, until it is dropped.
pub(crate) struct Region<'a, L: RawMutex> {
    _held: MutexGuard<'a, L, ()>,
    regions: &'a Regions<L>,
    index: usize,
    entries: InRegion<'a>,
    len: usize,
}

impl<'a, L: RawMutex> Region<'a, L> {
    /// Waits for the lock of region `index`. The first `len` of its `entries` are below `max_pages`.
    #[inline]
    pub(crate) fn lock(
        regions: &'a Regions<L>,
        index: usize,
        entries: InRegion<'a>,
        len: usize,
    ) -> Self {
        debug_assert!(len <= REGION_ENTRIES);
        Self {
            _held: regions.hold(index),
            regions,
            index,
            entries,
            len,
        }
    }

    /// Does [`set`](Self::set) in the usual case: the lock is free and no presence bit changes. Stores `new`
    /// if the lock is taken `in_time`, and the owner is another id that is `wanted`. Returns the owner.
    /// Returns `None`, with nothing written, in any other case.
    ///
    /// There is no call and no panic between lock and unlock, so little is kept on the stack. A store to the
    /// stack must be written out before the next locked instruction can go on.
    #[inline(always)]
    pub(crate) fn try_set(
        regions: &'a Regions<L>,
        index: usize,
        (entry, position, cells): (&'a AtomicU16, usize, Usual<'a>),
        new: u16,
        wanted: impl FnOnce(u16) -> bool,
        in_time: impl FnOnce() -> bool,
    ) -> Option<u16> {
        // The entry is loaded after the lock is taken. A prefetch lets it arrive meanwhile. To prefetch the
        // cells as well gained nothing (docs/decisions.md).
        prefetch(entry);
        let _held = regions.try_hold(index)?;
        if !in_time() {
            return None;
        }
        let old = entry.load(Ordering::Relaxed);
        if old == new || !wanted(old) {
            return Some(old);
        }
        let from = regions.own(index, counter(old), cells)?;
        // An id from `COUNTERS` on has no cell here, because its counter must be noted as shared.
        let to = regions.own(index, usize::from(new), cells)?;
        let taken = Cell(from.load(Ordering::Relaxed));
        let given = Cell(to.load(Ordering::Relaxed));
        // Each cell is loaded and stored once, so they must not be the same cell. An owner whose cell has the
        // number 0 is counted elsewhere (invariant 15).
        if old != 0 && taken.tally().count <= 1 || new != 0 && given.is_empty() || ptr::eq(from, to)
        {
            return None;
        }
        let one = Tally::at(position);
        entry.store(new, Ordering::Relaxed);
        if old != 0 {
            // Release, here and below, for ids that share their counters: see `change`.
            from.store(taken.without(one).0, Ordering::Release);
        }
        if new != 0 {
            to.store(given.with(one).0, Ordering::Release);
        }
        Some(old)
    }

    /// Returns the entries from `from` on that are there and below `max_pages` (invariant 4), each part with
    /// the position of its first entry. All others are 0.
    #[inline(always)]
    fn parts(&self, from: usize) -> impl Iterator<Item = (usize, &'a [AtomicU16])> {
        parts(self.entries, from..self.len)
    }

    /// Returns the entry at `position`; `None` if it has no memory, and so is 0.
    #[inline]
    fn entry(&self, position: usize) -> Option<&'a AtomicU16> {
        debug_assert!(position < self.len);
        entry(self.entries, position)
    }

    /// Returns the id at `position`, 0 for none.
    #[inline]
    pub(crate) fn get(&self, position: usize) -> u16 {
        let entry = self.entry(position);
        entry.map_or(0, |entry| entry.load(Ordering::Relaxed))
    }

    /// Makes `new` the id at `position`, and returns the id that was there. Returns `None`, with nothing
    /// written, if there is no memory for the entry: see `On::make`.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn set(&self, position: usize, new: u16) -> Option<u16> {
        let Some(entry) = self.entry(position) else {
            return (new == 0).then_some(0);
        };
        let old = entry.load(Ordering::Relaxed);
        if old != new {
            self.settle(new);
            entry.store(new, Ordering::Relaxed);
            self.change((old, Tally::at(position)), (new, Tally::at(position)));
        }
        Some(old)
    }

    /// Does [`set`](Self::set) if `old` is the id at `position` or is `None`. Returns the id that was there.
    pub(crate) fn exchange(&self, position: usize, old: Option<u16>, new: u16) -> Option<u16> {
        let owner = self.get(position);
        if old.is_none_or(|old| owner == old) {
            self.set(position, new)?;
        }
        Some(owner)
    }

    /// Makes `new` the id of the entries at `positions`, at least one, if all of them have the same id.
    /// Returns that id, 0 for none. Returns `None`, with nothing written, if they differ.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn set_all(
        &self,
        backend: Backend,
        positions: Range<usize>,
        new: u16,
    ) -> Option<u16> {
        let entries =
            whole(self.entries, positions.clone()).filter(|_| positions.end <= self.len)?;
        let old = entries.first()?.load(Ordering::Relaxed);
        // Entries that differ mostly differ here.
        if entries.last()?.load(Ordering::Relaxed) != old {
            return None;
        }
        self.settle(new);
        // SAFETY: this region's lock is held, so no other thread writes its entries (invariants 1, 7).
        if !unsafe { scan::replace_all(backend, entries, old, new) } {
            return None;
        }
        if old != new {
            let all = Tally::run(positions);
            self.change((old, all), (new, all));
        }
        Some(old)
    }

    /// Makes `new` the id of the entries at `positions`, from the front, and notes the owners that they had.
    /// Stops when the note is full, or at an entry without memory for `new`. Returns the position where it
    /// stopped.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn set_range(&self, positions: Range<usize>, new: u16, had: &mut Owners) -> usize {
        self.settle(new);
        let mut at = positions.start;
        for (first, entries) in self.parts(at) {
            // The entries in between have no owner, and no memory.
            if first > at && new != 0 {
                break;
            }
            if first >= positions.end {
                break;
            }
            at = first;
            let entries = &entries[..entries.len().min(positions.end - first)];
            while at - first < entries.len() && had.len() < had.inline_size() {
                let start = at;
                let old = entries[at - first].load(Ordering::Relaxed);
                let len = entries[start - first..]
                    .iter()
                    .take_while(|entry| entry.load(Ordering::Relaxed) == old)
                    .map(|entry| entry.store(new, Ordering::Relaxed))
                    .count();
                at += len;
                if old != new {
                    let run = Tally::run(start..at);
                    self.change((old, run), (new, run));
                }
                if old != 0 {
                    push(had, (narrow(start), narrow(len), old));
                }
            }
            if had.len() == had.inline_size() {
                return at;
            }
        }
        if new == 0 { positions.end } else { at }
    }

    /// Stores the id of each slot at its position, in order, 0 for none. Writes the ids that were there to
    /// `had`. A position may come twice.
    #[inline(always)]
    pub(crate) fn set_each(&self, slots: impl Iterator<Item = (usize, u16)>, had: &mut [u16]) {
        let row = self.regions.row(self.index);
        // The positions of one id are added up, and go into its cell when another id comes.
        let (mut to, mut added) = (0, Tally::default());
        // To settle a block is a look at all of the region: once in a hold, whatever the slots are.
        let mut settled = false;
        for ((position, new), had) in slots.zip(had) {
            let Some(entry) = self.entry(position) else {
                debug_assert!(new == 0, "its chunk was made");
                *had = 0;
                continue;
            };
            let old = entry.load(Ordering::Relaxed);
            *had = old;
            if new != to {
                self.add(to, added);
                (to, added) = (new, Tally::default());
                settled = settled || self.settle(to);
            }
            if old == new {
                continue;
            }
            let one = Tally::at(position);
            entry.store(new, Ordering::Relaxed);
            added = added.and(one);
            if old != 0
                && let Some(cell) = row.counted(counter(old))
            {
                let after = Cell(cell.load(Ordering::Relaxed)).without(one);
                if after.is_empty() {
                    lose_last(self.regions, self.index, old, (new, added));
                    added = Tally::default();
                } else {
                    // Release, as in `change`.
                    cell.store(after.0, Ordering::Release);
                }
            }
        }
        self.add(to, added);
    }

    /// Returns the tally in the cell of this counter.
    pub(crate) fn tally_of(&self, counter: usize) -> Tally {
        self.regions.tally(self.index, counter)
    }

    /// Returns whether the cell of this counter also counts other counters.
    pub(crate) fn is_spilled(&self, counter: usize) -> bool {
        self.regions.is_spilled(self.index, counter)
    }

    /// Makes sure that `new` (0: none) is counted in its own cell, if that cell exists. Must come before
    /// anything is written. Returns whether it has looked at all of the region for that.
    #[inline(always)]
    fn settle(&self, new: u16) -> bool {
        new != 0 && self.regions.settle(self.index, counter(new), self.entries)
    }

    /// Notes in the index that one id (0: none) lost some positions and another id (0: none) gained some. The
    /// lost positions are among the gained ones.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn change(&self, (old, lost): (u16, Tally), (new, gained): (u16, Tally)) {
        if old != 0 && lost.count > 0 {
            let Some(cell) = self.regions.counted_in(self.index, counter(old)) else {
                debug_assert!(false, "an id that an entry has is counted");
                return;
            };
            let after = Cell(cell.load(Ordering::Relaxed)).without(lost);
            if after.is_empty() {
                return lose_last(self.regions, self.index, old, (new, gained));
            }
            // Release, as in `add`: others that share the cell may have been added to it by another thread.
            cell.store(after.0, Ordering::Release);
        }
        self.add(new, gained);
    }

    /// Notes in the index that `id` (0: none) has these positions now.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn add(&self, id: u16, more: Tally) {
        add(self.regions, self.index, id, more);
    }

    /// Returns whether the swapfile has an entry at this position.
    pub(crate) fn has(&self, position: usize) -> bool {
        position < self.len
    }

    /// Copies the ids from `from`, a position of the swapfile, up to the end of its piece of `to.len()` ids,
    /// or of the swapfile. Returns their number. Pieces lie one after the other from the front of the region.
    /// Each piece is copied under one hold.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn copy(&self, from: usize, to: &mut [u16; PIECE]) -> usize {
        let end = self.len.min((from / PIECE + 1) * PIECE);
        // A piece lies within a chunk.
        let to = &mut to[..end - from];
        match whole(self.entries, from..end) {
            Some(ids) => {
                for (to, id) in to.iter_mut().zip(ids) {
                    *to = id.load(Ordering::Relaxed);
                }
            }
            None => to.fill(0),
        }
        end - from
    }

    /// Copies the ids of the swapfile in this region to the front of `to`, which has room for them. Returns
    /// their number. If none of them is a record, copies nothing and returns 0.
    #[cfg(all(feature = "std", not(swap_records_loom)))]
    pub(crate) fn copy_all(&self, to: &mut [u16]) -> usize {
        if self.regions.bits(self.index) == 0 {
            return 0;
        }
        // SAFETY: this region's lock is held, so no thread writes its entries (invariants 1, 7).
        unsafe { scan::copy(&self.entries[..self.len], to) };
        self.len
    }
}

/// Notes in the index that `id` (0: none) has these positions in this region now.
#[inline(always)]
fn add<L: RawMutex>(regions: &Regions<L>, region: usize, id: u16, more: Tally) {
    if id == 0 || more.count == 0 {
        return;
    }
    if usize::from(id) >= COUNTERS {
        regions.shared().note(id);
    }
    let Some(cell) = regions.to_count(region, counter(id)) else {
        debug_assert!(false, "every counter is counted somewhere");
        return;
    };
    let before = Cell(cell.load(Ordering::Relaxed));
    // Release: a thread that reads the cell without the lock reads that it is shared, too.
    cell.store(before.with(more).0, Ordering::Release);
    if before.is_empty() || regions.is_spilled(region, counter(id)) {
        regions.set_bit(region, counter(id));
    }
}

/// Notes in the index that the counter of `old` has no position left in this region, and that another id (0:
/// none) has gained these positions. Sets the presence bit of the second before it clears that of the first.
/// So the region's count of set bits does not pass through 0 (invariant 2).
///
/// It is out of line and takes no [`Region`], which would otherwise have to be in memory. A migration of a
/// region's only record calls it each time. There the call is cheap compared with the cache misses.
#[cold]
#[inline(never)]
fn lose_last<L: RawMutex>(
    regions: &Regions<L>,
    region: usize,
    old: u16,
    (new, gained): (u16, Tally),
) {
    let lost = counter(old);
    if new != 0 && gained.count > 0 {
        if usize::from(new) >= COUNTERS {
            regions.shared().note(new);
        }
        let to = regions.to_count(region, counter(new));
        let from = regions.counted_in(region, lost);
        if let (Some(to), Some(from)) = (to, from)
            && ptr::eq(to, from)
        {
            // Both are counted here. Release, as in `add`.
            to.store(Cell(0).with(gained).0, Ordering::Release);
            regions.set_bit(region, counter(new));
            if lost != counter(new) {
                regions.clear_bit(region, lost);
            }
            return;
        }
        add(regions, region, new, gained);
    }
    if let Some(from) = regions.counted_in(region, lost) {
        from.store(0, Ordering::Release);
    }
    regions.emptied(region, lost);
}
