//! Finds, counts and migrates the entries of one id in a region. [`Sweep`] says what was found.

use core::ops::Range;

use lock_api::RawMutex;

use super::{CHUNK_ENTRIES, REGION_ENTRIES, Region};
use crate::cell::{Tally, counter, narrow};
use crate::scan::{self, Backend};
use crate::store::parts;
use crate::sync::Ordering;

/// Says what was found in one region, and how many entries were looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) found: Tally,
    /// Chunks in which at least one entry was looked at.
    pub(crate) chunks: u32,
    /// Entries that were looked at, rounded up to the block of the scan.
    pub(crate) entries: u32,
    /// The position that followed from the cell, if the scan did not get so far.
    last: Option<usize>,
    /// The position to go on from, if there may be more entries of the id.
    pub(crate) rest: Option<usize>,
}

impl<L: RawMutex> Region<'_, L> {
    /// Makes `new`, another id than `old`, the id of up to `most` entries at `positions` that have `old`,
    /// from the front. Returns their number.
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

    /// Makes `new`, another id than `old`, the id of each entry at `positions` that has `old`. The positions
    /// are a [`part`](part()) of the region, and the parts before it are done. Looks at no more entries than
    /// there are `positions`. If the position of the last entry with `old` follows from the cell, that entry
    /// is made `new` wherever it is.
    ///
    /// Entries, cells and presence bits agree when it returns, also if entries are left (invariant 2): the
    /// positions that it moved are removed from one cell and added to the other.
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
        // `old` has no record here: what is left in the spill cell counts other ids only.
        if saw_all && self.is_spilled(counter(old)) && self.regions.shared().is_alone(old) {
            self.regions.clear_bit(self.index, counter(old));
        }
        sweep
    }

    /// Does [`migrate`](Self::migrate) if the counter of `old` has one entry, as most sparse remaining
    /// records do. This takes less than half the instructions of a sweep.
    #[inline]
    fn migrate_only(&self, old: u16, new: u16, start: usize) -> Option<Sweep> {
        let tally = self.tally_of(counter(old));
        if tally.count != 1 {
            return None;
        }
        let only = self.entry(tally.xor as usize)?;
        let mut sweep = Sweep {
            found: Tally::default(),
            // A chunk before the start was counted by its own part.
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

    /// Returns how many entries have this id.
    pub(crate) fn count(&self, backend: Backend, id: u16) -> u32 {
        let sweep = self.sweep(backend, id, None, 0..REGION_ENTRIES);
        sweep.found.count
    }

    /// Finds the entries at `positions` that have `id`. If there is a `new`, makes all of them `new` except
    /// the last. The scan stops as soon as it has found all but one of the cell's entries. The position of
    /// the last one then follows from the cell, and may lie outside of `positions`.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn sweep(&self, backend: Backend, id: u16, new: Option<u16>, positions: Range<usize>) -> Sweep {
        let cell = self.tally_of(counter(id));
        let most = positions.len();
        let end = positions.end.min(self.len);
        let start = positions.start.min(end);
        let mut found = Tally::default();
        // Where the scan ended, and what it looked at: missing chunks do not count.
        let (mut stopped, mut seen, mut chunks) = (start, 0, 0);
        if cell.count > 1 {
            for (first, entries) in parts(self.entries, start..end) {
                let stop_at = cell.count - 1 - found.count;
                // SAFETY: this region's lock is held, so no other thread writes its entries (invariants 1,
                // 7).
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
        // The position of the only record of the cell that was not found. If the scan passed it, it belongs
        // to another id that shares the counter, and nothing is left to find. Otherwise it is looked at here,
        // unless this hold has looked at as many entries as it may.
        let left = cell.last_without(found);
        let was_passed = left.is_some_and(|left| (start..stopped).contains(&left));
        let unseen = left.filter(|_| !was_passed && seen < most);
        let last = unseen.filter(|&last| self.get(last) == id);
        if let Some(unseen) = unseen {
            seen += 1;
            // A chunk before the start was counted by its own part.
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

    /// Returns the first position from `from` on that has `id`.
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
            // SAFETY: this region's lock is held, so no thread writes its entries (invariants 1, 7).
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

/// Returns the positions of the next part of a region, from `at` on. It has at most `most` entries, a power
/// of two, and at most as many as the lowest bit of `at`. So all of its positions have the bits of `at`,
/// whatever the parts before it were.
pub(crate) fn part(at: usize, most: usize) -> Range<usize> {
    debug_assert!(most.is_power_of_two() && most <= REGION_ENTRIES);
    let lowest = at & at.wrapping_neg();
    let len = if at == 0 { most } else { most.min(lowest) };
    at..at + len
}
