//! [`Region`]: what is done under one lock.
//!
//! A region is [`REGION_ENTRIES`] consecutive entries. It has one lock, and for each counter (an id,
//! or several that share one) one cell: how many entries of the region hold such an id, and the
//! exclusive-or of their positions. Adding or removing a record changes both, in any order; where the
//! number is one, the other half *is* the position (a one-cell invertible Bloom lookup table:
//! Goodrich and Mitzenmacher, "Invertible Bloom Lookup Tables", 2011).
//!
//! **Invariants (design, 1 and 2):** entries, cells and presence bits of a region are written only
//! while its lock is held, that is, through a [`Region`]. Whenever the lock is free, for each counter:
//! the cell's number is that of the entries whose id maps to it, its exclusive-or is that of their
//! positions, and the presence bit is set exactly if the number is not zero. Where one owner replaces another, the presence
//! bit of the new one is set before that of the old one is cleared. An id from `COUNTERS` on that
//! an entry has is noted in [`Shared`](crate::shared::Shared).

use core::ops::Range;
use core::ptr;

use lock_api::{MutexGuard, RawMutex};
use smallvec::SmallVec;

use crate::cell::{COUNTERS, Cell, Tally, counter, narrow};
use crate::regions::Regions;
use crate::scan::{self, Backend};
use crate::store::{InRegion, Usual, entry, parts, whole};
use crate::sync::{AtomicU16, Ordering, prefetch};

/// Entries in a chunk: a page of 16-bit ids.
pub const CHUNK_ENTRIES: usize = if cfg!(swap_records_loom) {
    2
} else if cfg!(miri) {
    16
} else {
    4096 / size_of::<u16>()
};

/// Entries under one lock: 16 chunks. What a position in a cell can address, and the most work that is
/// ever done in one hold of a lock.
pub const REGION_ENTRIES: usize = if cfg!(swap_records_loom) { 2 } else { 16 } * CHUNK_ENTRIES;

/// Entries that an iterator copies at once and keeps in itself: 1 KiB, which fits on a kernel's stack.
pub(crate) const PIECE: usize = if CHUNK_ENTRIES < 512 {
    CHUNK_ENTRIES
} else {
    512
};

const _: () = assert!(CHUNK_ENTRIES.is_multiple_of(PIECE));

/// The entries of a region, where they lie side by side. Those at and past `max_pages` are there too, and stay 0.
#[cfg(feature = "std")]
pub(crate) type Entries = [AtomicU16; REGION_ENTRIES];

const _: () = assert!(REGION_ENTRIES.is_power_of_two());
// The number may be that of a whole region, and a position less: they fit into their halves.
const _: () = assert!(REGION_ENTRIES <= u16::MAX as usize);

/// Runs of equal owners: position of the first, how many, and the id. No more than are inline.
pub(crate) type Owners = SmallVec<[(u32, u32, u16); 32]>;

/// Adds a run to the note, which has room for it: it never grows, and the check leaves no text that would let it.
#[inline]
pub(crate) fn push(owners: &mut Owners, run: (u32, u32, u16)) {
    debug_assert!(owners.len() < owners.inline_size());
    if owners.len() < owners.capacity() {
        owners.push(run);
    }
}

/// What was found in one region, and how much of it was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) found: Tally,
    /// Chunks of which at least one entry was looked at.
    pub(crate) chunks: u32,
    /// Entries that were looked at, rounded up to what the scan takes at once.
    pub(crate) entries: u32,
    /// The position that the cell gave away, where the scan did not get so far.
    last: Option<usize>,
    /// Where the region goes on, if there may be more of the id behind these positions.
    pub(crate) rest: Option<usize>,
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

    /// [`set`](Self::set) on the usual way: the lock is free and no presence bit changes. Stores `new` if
    /// the lock is taken `in_time`, the owner is another id, and it is `wanted`; gives the owner.
    /// `None`, and nothing is written, where this is not the usual way.
    ///
    /// No call and no panic between lock and unlock, so that little has to be kept on the stack: what is
    /// stored there has to be written out before the next locked instruction can go on.
    #[inline(always)]
    pub(crate) fn try_set(
        regions: &'a Regions<L>,
        index: usize,
        (entry, position, cells): (&'a AtomicU16, usize, Usual<'a>),
        new: u16,
        wanted: impl FnOnce(u16) -> bool,
        in_time: impl FnOnce() -> bool,
    ) -> Option<u16> {
        // The load of the entry comes after the lock; asked for now, it is on its way meanwhile. To ask for
        // the cells as well was no gain (docs/design.md, Locks).
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
        // An id from `COUNTERS` on has no cell here: it must be noted that its counter is shared.
        let to = regions.own(index, usize::from(new), cells)?;
        let taken = Cell(from.load(Ordering::Relaxed));
        let given = Cell(to.load(Ordering::Relaxed));
        // Each is loaded and stored once, so they must not be the same cell. A number of 0 is that of an owner that is
        // counted elsewhere (invariant 15).
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

    /// What there is of the entries from `from` on that are below `max_pages` (invariant 4), each part with the position of its
    /// first. The others are 0.
    #[inline(always)]
    fn parts(&self, from: usize) -> impl Iterator<Item = (usize, &'a [AtomicU16])> {
        parts(self.entries, from..self.len)
    }

    /// `None` where it is 0, and has no memory to be anything else.
    #[inline]
    fn entry(&self, position: usize) -> Option<&'a AtomicU16> {
        debug_assert!(position < self.len);
        entry(self.entries, position)
    }

    /// The id at `position`, 0 for none.
    #[inline]
    pub(crate) fn get(&self, position: usize) -> u16 {
        let entry = self.entry(position);
        entry.map_or(0, |entry| entry.load(Ordering::Relaxed))
    }

    /// Makes `new` the id at `position`; gives the one that was there. `None`, and nothing is written, where there is no
    /// memory for it: see `On::make`.
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

    /// Makes `new` the id at `position` if `old` is; gives the one that was there. `None` as of `set`.
    pub(crate) fn cmpxchg(&self, position: usize, old: u16, new: u16) -> Option<u16> {
        let owner = self.get(position);
        if owner == old {
            self.set(position, new)?;
        }
        Some(owner)
    }

    /// Makes `new` the id of the entries at `positions`, at least one, if all of them have one id,
    /// and gives that one: 0 for none. `None`, and nothing is written, if they have not.
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
        // Where they differ, it mostly shows here.
        if entries.last()?.load(Ordering::Relaxed) != old {
            return None;
        }
        self.settle(new);
        // SAFETY: this region's lock is held, so nobody else writes its entries (invariants 1, 7).
        if !unsafe { scan::replace_all(backend, entries, old, new) } {
            return None;
        }
        if old != new {
            let all = Tally::run(positions);
            self.change((old, all), (new, all));
        }
        Some(old)
    }

    /// Makes `new` the id of the entries at `positions`, from the front, and writes down the owners
    /// that they had, until the note is full. Gives the position that it got to: also where there is no memory for `new` to
    /// be written.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn set_range(&self, positions: Range<usize>, new: u16, had: &mut Owners) -> usize {
        self.settle(new);
        let mut at = positions.start;
        for (first, entries) in self.parts(at) {
            // What lies between has no owner.
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

    /// Gives each of these positions, in turn, the id beside it, 0 for none, and writes down the ids that were there. A
    /// position may come twice.
    #[inline(always)]
    pub(crate) fn set_each(&self, slots: impl Iterator<Item = (usize, u16)>, had: &mut [u16]) {
        let row = self.regions.row(self.index);
        // What one id has got is added up, and goes into its cell when another one comes.
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

    /// Makes `new`, another id than `old`, the id of those entries at `positions` that have `old`, from the front,
    /// `most` of them. Gives their number.
    pub(crate) fn replace(&self, positions: Range<usize>, old: u16, new: u16, most: u32) -> u32 {
        self.settle(new);
        let mut moved = Tally::default();
        for position in positions {
            if moved.count == most {
                break;
            }
            if let Some(entry) = self.entry(position)
                && entry.load(Ordering::Relaxed) == old
            {
                entry.store(new, Ordering::Relaxed);
                moved = moved.and(Tally::at(position));
            }
        }
        self.change((old, moved), (new, moved));
        moved.count
    }

    /// Makes `new`, another id than `old`, the id of each entry at `positions` that has `old`: a [`part`](part()) of the region, of
    /// which the parts before have had their turn. It looks at no more entries than `positions` are. Where the cell gives away
    /// the last entry that has `old`, that one is made `new` wherever it is.
    ///
    /// Entries, cells and presence bits agree when it returns, whatever is left (invariant 2): what it moved is taken from
    /// one cell and given to the other.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn migrate(
        &self,
        backend: Backend,
        (old, new): (u16, u16),
        positions: Range<usize>,
    ) -> Sweep {
        // `new` is not settled: that would be a look at all of the region, and this hold may be for a part of it.
        let (sweep, saw_all) = match self.migrate_only(old, new, positions.start) {
            Some(sweep) => (sweep, true),
            None => {
                let is_first = positions.start == 0;
                let sweep = self.sweep(backend, old, Some(new), positions);
                if let Some(last) = sweep.last.and_then(|last| self.entry(last)) {
                    last.store(new, Ordering::Relaxed);
                }
                self.change((old, sweep.found), (new, sweep.found));
                (sweep, is_first && sweep.rest.is_none())
            }
        };
        // What is left in a spill cell is not `old`'s, which has no record here.
        if saw_all && self.is_spilled(counter(old)) && self.regions.shared().is_alone(old) {
            self.regions.clear_bit(self.index, counter(old));
        }
        sweep
    }

    /// [`migrate`](Self::migrate) where the counter of `old` has one entry, as it has of most sparse remains: less than
    /// half the instructions of a sweep.
    #[inline]
    fn migrate_only(&self, old: u16, new: u16, start: usize) -> Option<Sweep> {
        let tally = self.tally_of(counter(old));
        if tally.count != 1 {
            return None;
        }
        let only = self.entry(tally.xor as usize)?;
        let mut sweep = Sweep {
            found: Tally::default(),
            // A chunk before the start was looked at by the part that it is in.
            chunks: u32::from(tally.xor >= narrow(start)),
            entries: 1,
            last: None,
            rest: None,
        };
        // It may be of another id that shares the counter.
        if only.load(Ordering::Relaxed) == old {
            only.store(new, Ordering::Relaxed);
            self.change((old, tally), (new, tally));
            sweep.found = tally;
        }
        Some(sweep)
    }

    /// How many entries have this id.
    pub(crate) fn count(&self, backend: Backend, id: u16) -> u32 {
        let sweep = self.sweep(backend, id, None, 0..REGION_ENTRIES);
        sweep.found.count
    }

    /// Finds the entries at `positions` that have `id`, and makes them `new` if there is one, but for the last. The scan stops
    /// as soon as it has all but one of those in the cell; the last one is then what is left of the cell, at these positions or
    /// not.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn sweep(&self, backend: Backend, id: u16, new: Option<u16>, positions: Range<usize>) -> Sweep {
        let cell = self.tally_of(counter(id));
        let most = positions.len();
        let end = positions.end.min(self.len);
        let start = positions.start.min(end);
        let mut found = Tally::default();
        // Where the scan ended; and what it looked at, which leaves out what is not there.
        let (mut stopped, mut seen, mut chunks) = (start, 0, 0);
        if cell.count > 1 {
            for (first, entries) in parts(self.entries, start..end) {
                let stop_at = cell.count - 1 - found.count;
                let part = match new {
                    // SAFETY: this region's lock is held, so nobody else writes its entries (invariants 1, 7).
                    Some(new) => unsafe { scan::replace(backend, entries, id, new, stop_at) },
                    // SAFETY: as above.
                    None => unsafe { scan::count(backend, entries, id, stop_at) },
                };
                found = found.and(part.tally.counted_from(first));
                stopped = first + part.end;
                seen += part.end;
                chunks += part.end.div_ceil(CHUNK_ENTRIES);
                if found.count >= cell.count - 1 {
                    break;
                }
            }
        }
        // The position of the only record of the cell that was not found. If the scan passed it, it belongs to another id
        // that shares the counter, and nothing is left to find. Otherwise it is looked at here, unless this hold has looked
        // at as many entries as it may.
        let left = cell.last_without(found);
        let was_passed = left.is_some_and(|left| (start..stopped).contains(&left));
        let unseen = left.filter(|_| !was_passed && seen < most);
        let last = unseen.filter(|&last| self.get(last) == id);
        if let Some(unseen) = unseen {
            seen += 1;
            // A chunk before the start was looked at by the part that it is in.
            let looked_at = (stopped - start).div_ceil(CHUNK_ENTRIES) * CHUNK_ENTRIES;
            chunks += usize::from(unseen >= start + looked_at);
        }
        if let Some(last) = last {
            found = found.and(Tally::at(last));
        }
        let all = cell.count == found.count || was_passed || unseen.is_some();
        Sweep {
            found,
            chunks: narrow(chunks),
            entries: narrow(seen),
            last,
            rest: (!all && end < self.len).then_some(end),
        }
    }

    /// What the cell of this counter says.
    pub(crate) fn tally_of(&self, counter: usize) -> Tally {
        self.regions.tally(self.index, counter)
    }

    /// Whether what the cell of this counter says is about other counters, too.
    pub(crate) fn is_spilled(&self, counter: usize) -> bool {
        self.regions.is_spilled(self.index, counter)
    }

    /// Sees to it that `new` (0: none) is counted in a cell of its own, if that is there. Before anything is written. Returns
    /// whether that took a look at all of the region.
    #[inline(always)]
    fn settle(&self, new: u16) -> bool {
        new != 0 && self.regions.settle(self.index, counter(new), self.entries)
    }

    /// Notes in the index that one id (0: none) has lost some positions and another one has gained some. The positions
    /// lost are among those gained.
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

    /// Whether the swapfile has an entry at this position.
    pub(crate) fn has(&self, position: usize) -> bool {
        position < self.len
    }

    /// The first position from `from` on that has `id`.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn find(&self, backend: Backend, id: u16, from: usize) -> Option<usize> {
        if from > self.len {
            return None;
        }
        let tally = self.tally_of(counter(id));
        if tally.count == 1 {
            let only = tally.xor as usize;
            return (only >= from && self.get(only) == id).then_some(only);
        }
        self.parts(from).find_map(|(first, entries)| {
            // SAFETY: this region's lock is held, so nobody writes its entries (invariants 1, 7).
            let found = unsafe { scan::count(backend, entries, id, 1) };
            if found.tally.count == 0 {
                return None;
            }
            // It stopped at the end of the block that the first one is in.
            let block = found.end.saturating_sub(scan::MAX_BLOCK)..found.end;
            block
                .map(|at| first + at)
                .find(|&position| self.get(position) == id)
        })
    }

    /// Copies the ids from `from`, a position of the swapfile, up to the end of its piece of `to.len()` ids,
    /// or of the swapfile. Gives how many. Pieces lie one after the other from the front of the region: each
    /// is copied under one hold.
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

    /// Copies the ids of the swapfile that are in this region to the front of `to`, which has room for them. Gives how
    /// many; 0, and nothing is copied, where none of them is a record.
    #[cfg(all(feature = "std", not(swap_records_loom)))]
    pub(crate) fn copy_all(&self, to: &mut [u16]) -> usize {
        if self.regions.bits(self.index) == 0 {
            return 0;
        }
        // SAFETY: this region's lock is held, so nobody writes its entries (invariants 1, 7).
        unsafe { scan::copy(&self.entries[..self.len], to) };
        self.len
    }
}

/// The positions of the part of a region that comes next, from `at` on, where no more than `most` entries may be looked at,
/// a power of two: as many as that, but no more than the lowest bit of `at` is. So all of its positions have the bits
/// of `at`, by whatever parts the region was worked through up to there.
pub(crate) fn part(at: usize, most: usize) -> Range<usize> {
    debug_assert!(most.is_power_of_two() && most <= REGION_ENTRIES);
    let lowest = at & at.wrapping_neg();
    let len = if at == 0 { most } else { most.min(lowest) };
    at..at + len
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

/// Notes in the index that the counter of `old` has no position left in this region, and that another id (0: none) has
/// gained these positions. Sets the presence bit of the second before it clears that of the first. So the region's count
/// of set bits does not pass through 0 (invariant 2).
///
/// It is out of line and takes no [`Region`], which would have to be in memory for it. A migration of a region's only record calls it
/// each time; there the call is cheap beside the cache misses.
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
