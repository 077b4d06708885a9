//! [`Sweep`]: what is done to the entries of one id in a region: they are found, counted and migrated.

use core::ops::Range;

use lock_api::RawMutex;

use super::{CHUNK_ENTRIES, REGION_ENTRIES, Region};
use crate::cell::{Tally, counter, narrow};
use crate::scan::{self, Backend};
use crate::store::parts;
use crate::sync::Ordering;

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

impl<L: RawMutex> Region<'_, L> {
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
        self.settle(new);
        if let Some(sweep) = self.migrate_only(old, new, positions.start) {
            return sweep;
        }
        let is_first = positions.start == 0;
        let sweep = self.sweep(backend, old, Some(new), positions);
        if let Some(last) = sweep.last.and_then(|last| self.entry(last)) {
            last.store(new, Ordering::Relaxed);
        }
        self.change((old, sweep.found), (new, sweep.found));
        // After a look at the whole region, what is left in a spill cell is not `old`'s, which has no record here.
        if is_first
            && sweep.rest.is_none()
            && self.is_spilled(counter(old))
            && self.regions.shared().is_alone(old)
        {
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
                // SAFETY: this region's lock is held, so nobody else writes its entries (invariants 1, 7).
                let part = unsafe { scan::scan(backend, entries, id, new, stop_at) };
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
            let found = unsafe { scan::scan(backend, entries, id, None, 1) };
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
