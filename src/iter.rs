//! [`TableRuns`]: an iterator over the runs of a table.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;

use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, Run, SwapEntry, SwapType};
use crate::id::MemcgId;
use crate::region::{PIECE, REGION_ENTRIES};
use crate::runs::continues;
use crate::scan::Backend;
use crate::swapfile::On;
use crate::sync::RawSpinLock;
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Returns an iterator over the records of a type, as runs of slots with one owner, in the order of their
    /// offsets. Returns no runs while the type is off.
    ///
    /// Slots are read in pieces of up to 512. Each piece is as it was at one moment. A record is returned if
    /// its call had returned when the iteration began and no thread changed it since. If the type is turned
    /// off, the iteration ends early.
    ///
    /// # Cost
    ///
    /// Regions without records are not touched. Nothing is allocated.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, Run, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let id = MemcgId::new(7).unwrap();
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 10_000).unwrap();
    /// let start = SwapEntry::new(ty, 500).unwrap();
    /// records.record_range(start, 4000, id).unwrap();
    /// assert!(records.runs(ty).eq([Run { start, len: 4000, id }]));
    /// ```
    pub fn runs(&self, ty: SwapType) -> TableRuns<'_, L> {
        TableRuns::new(self, ty.get()..ty.get() + 1, None)
    }

    /// Returns an iterator over the records of an id on all types, as runs, lowest type first, in the order
    /// of their offsets.
    ///
    /// Works as [`runs`](Self::runs), but reads only regions that may hold the id.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let [a, b] = [7, 8].map(|id| MemcgId::new(id).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 10_000).unwrap();
    /// for (offset, id) in [(5, a), (6, b), (7, a), (8, a)] {
    ///     records.record(SwapEntry::new(ty, offset).unwrap(), id).unwrap();
    /// }
    /// let runs: Vec<_> = records.runs_of(a).map(|run| run.to_string()).collect();
    /// assert_eq!(runs, ["0:5+1 of 7", "0:7+2 of 7"]);
    /// ```
    pub fn runs_of(&self, id: MemcgId) -> TableRuns<'_, L> {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_SWAPFILES is 32")]
        let types = 0..MAX_SWAPFILES as u8;
        TableRuns::new(self, types, Some(id))
    }
}

/// An iterator over the runs of a table.
///
/// [`runs`](SwapRecords::runs) and [`runs_of`](SwapRecords::runs_of) create it. It holds no lock between two
/// calls of `next`, so any thread may change the table in between. After `None` it always returns `None`. It
/// takes about 1.2 KiB, which includes a copy of a piece of the table. A clone continues from where the
/// original is.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct TableRuns<'t, L = RawSpinLock> {
    table: &'t SwapRecords<L>,
    /// The types that come next.
    types: Range<u8>,
    only: Option<MemcgId>,
    backend: Backend,
    /// The current type, if it is on. `None` at the end.
    on: Option<(SwapType, On<'t, L>)>,
    /// Ids that were copied under the lock of their region, their number, and the offset of the first.
    piece: [u16; PIECE],
    len: usize,
    start: usize,
    /// The number of ids in `piece` that have been looked at.
    seen: usize,
    /// A run that the next one may continue.
    ready: Option<Run>,
}

impl<'t, L: RawMutex> TableRuns<'t, L> {
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn new(table: &'t SwapRecords<L>, types: Range<u8>, only: Option<MemcgId>) -> Self {
        Self {
            table,
            types,
            only,
            backend: table.backend(),
            on: None,
            piece: [0; PIECE],
            len: 0,
            start: 0,
            seen: 0,
            ready: None,
        }
    }

    /// Returns the next run within a piece.
    fn next_part(&mut self) -> Option<Run> {
        loop {
            let rest = &self.piece[self.seen..self.len];
            let only = self.only.map(MemcgId::get);
            let wanted = |&id: &u16| only.map_or(id != 0, |only| id == only);
            if let Some(skip) = rest.iter().position(wanted) {
                let id = rest[skip];
                let len = rest[skip..].iter().take_while(|&&next| next == id).count();
                let offset = self.start + self.seen + skip;
                self.seen += skip + len;
                let (ty, _) = self.on?;
                return Some(Run {
                    start: SwapEntry::new(ty, offset as u64)?,
                    len: len as u64,
                    id: MemcgId::new(id)?,
                });
            }
            self.next_piece()?;
        }
    }

    /// Copies the next piece that may have a wanted record. Returns `None` at the end of the last type.
    fn next_piece(&mut self) -> Option<()> {
        loop {
            let offset = self.start + self.len;
            // What was turned off between two calls may be trimmed by now (invariant 13).
            if let Some((_, on)) = self.on
                && on.is_still_on()
                && self.copy_from(on, offset).is_some()
            {
                return Some(());
            }
            // At the end, `on` must be `None`, so that records that are written later are not found.
            self.on = None;
            (self.start, self.len, self.seen) = (0, 0, 0);
            let ty = SwapType::new(self.types.next()?)?;
            self.on = self.table.file(ty).on().map(|on| (ty, on));
        }
    }

    /// Copies up to a piece of entries, from the first place at or after `offset` that may hold a wanted
    /// record. Returns `None` at the end of the type.
    fn copy_from(&mut self, on: On<'t, L>, mut offset: usize) -> Option<()> {
        loop {
            // Within a region, the index has been read already.
            if offset.is_multiple_of(REGION_ENTRIES) {
                let region = on.next_region(self.only, offset / REGION_ENTRIES)?;
                offset = region * REGION_ENTRIES;
            }
            let index = offset / REGION_ENTRIES;
            let region = on.lock(index)?;
            let from = offset % REGION_ENTRIES;
            let first = match self.only {
                Some(id) => region.find(self.backend, id.get(), from),
                None => region.has(from).then_some(from),
            };
            if let Some(first) = first {
                self.len = region.copy(first, &mut self.piece);
                self.start = index * REGION_ENTRIES + first;
                self.seen = 0;
                // The region is dropped last: an unlock may unwind, and the piece and its place must agree.
                drop(region);
                return Some(());
            }
            offset = (index + 1) * REGION_ENTRIES;
        }
    }
}

impl<L: RawMutex> Iterator for TableRuns<'_, L> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        loop {
            match (self.ready, self.next_part()) {
                (Some(ready), Some(next)) if continues(&ready, &next) => {
                    self.ready = Some(Run {
                        len: ready.len + next.len,
                        ..ready
                    });
                }
                (None, Some(next)) => self.ready = Some(next),
                (ready, next) => {
                    self.ready = next;
                    return ready;
                }
            }
        }
    }
}

impl<L: RawMutex> FusedIterator for TableRuns<'_, L> {}

impl<L> Clone for TableRuns<'_, L> {
    fn clone(&self) -> Self {
        Self {
            types: self.types.clone(),
            ..*self
        }
    }
}

/// Writes the id, the types that come next and the current type.
impl<L> fmt::Debug for TableRuns<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableRuns")
            .field("only", &self.only)
            .field("types_ahead", &self.types)
            .field("ty", &self.on.map(|(ty, _)| ty))
            .finish_non_exhaustive()
    }
}
