//! [`Piece`]: the owners of a part of a span.

use lock_api::RawMutex;

use crate::entry::{Run, SwapEntry, SwapType};
use crate::id::MemcgId;
use crate::region::{Owners, REGION_ENTRIES, Region, push};

/// The previous owners of some entries of one region, as seen in one hold of its lock.
pub(crate) struct Piece {
    start: usize,
    pub(super) end: usize,
    pub(super) owners: Owners,
}

impl Piece {
    pub(crate) fn new() -> Self {
        Self {
            start: 0,
            end: 0,
            owners: Owners::new(),
        }
    }

    /// Makes the piece empty. It will begin at `at`.
    pub(super) fn begin(&mut self, at: usize) {
        (self.start, self.end) = (at, at);
        self.owners.clear();
    }

    /// Stores the owners at these positions, until the piece is full or a position has no owner. Returns the
    /// position where it stopped. Writes nothing to the entries.
    pub(super) fn note(
        &mut self,
        region: &Region<'_, impl RawMutex>,
        positions: core::ops::Range<usize>,
    ) -> usize {
        use crate::cell::narrow;
        let mut at = positions.start;
        while at < positions.end && !self.is_full() {
            let (start, owner) = (at, region.get(at));
            if owner == 0 {
                break;
            }
            at += 1;
            while at < positions.end && region.get(at) == owner {
                at += 1;
            }
            push(&mut self.owners, (narrow(start), narrow(at - start), owner));
        }
        at
    }

    /// Returns whether there is no room for another run.
    pub(super) fn is_full(&self) -> bool {
        self.owners.len() >= self.owners.inline_size()
    }

    /// Stores that all of these positions had this owner, 0 for none. Returns their end.
    pub(super) fn all(&mut self, positions: core::ops::Range<usize>, owner: u16) -> usize {
        use crate::cell::narrow;
        if owner != 0 {
            let len = narrow(positions.len());
            push(&mut self.owners, (narrow(positions.start), len, owner));
        }
        positions.end
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the number of entries that were written.
    pub(crate) fn len(&self) -> u64 {
        (self.end - self.start) as u64
    }

    /// Returns the number of entries that had an owner.
    pub(crate) fn records(&self) -> u64 {
        self.owners().map(|(_, nr)| nr).sum()
    }

    /// Returns the previous owners, each with the length of its run.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (MemcgId, u64)> {
        let owners = self.owners.iter();
        owners.filter_map(|&(_, len, id)| Some((MemcgId::new(id)?, u64::from(len))))
    }

    /// Returns the first run of each owner.
    pub(crate) fn firsts(&self, ty: SwapType) -> impl Iterator<Item = Run> {
        let is_first = |&(n, run): &(usize, Run)| {
            let before = &self.owners[..n];
            before.iter().all(|&(_, _, id)| id != run.id.get())
        };
        self.runs(ty)
            .enumerate()
            .filter(is_first)
            .map(|(_, run)| run)
    }

    /// Returns the runs of previous owners.
    pub(crate) fn runs(&self, ty: SwapType) -> impl Iterator<Item = Run> {
        let base = (self.start / REGION_ENTRIES * REGION_ENTRIES) as u64;
        self.owners.iter().filter_map(move |&(position, len, id)| {
            Some(Run {
                start: SwapEntry::new(ty, base + u64::from(position))?,
                len: u64::from(len),
                id: MemcgId::new(id)?,
            })
        })
    }
}
