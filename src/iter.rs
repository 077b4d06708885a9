//! The runs of a table: [`SwapRecords::runs`], [`SwapRecords::runs_of`], a chunk at a time.

use core::ops::Range;

use alloc::vec::Vec;
use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, Run, SwapEntry, SwapType};
use crate::id::MemcgId;
use crate::region::{CHUNK_ENTRIES, REGION_ENTRIES};
use crate::runs::continues;
use crate::scan::Backend;
use crate::swapfile::On;
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// The records of a type as runs of one owner, in the order of their offsets; none while it is off.
    ///
    /// Each chunk is as it was at one moment; a record whose call had returned when the iteration began and
    /// that nobody changed is in it. It ends early where the type is turned off. Chunks of regions
    /// without records are not touched.
    pub fn runs(&self, ty: SwapType) -> impl Iterator<Item = Run> + use<'_, L> {
        Walk::new(self, Some(ty), None)
    }

    /// The records of an id on all types as runs, lowest type first, in the order of their offsets.
    ///
    /// As [`runs`](Self::runs), but it looks only into regions that may hold the id.
    pub fn runs_of(&self, id: MemcgId) -> impl Iterator<Item = Run> + use<'_, L> {
        Walk::new(self, None, Some(id))
    }
}

/// Runs of some types in the order of their entries, of one owner or of any.
///
/// It copies a chunk under its region's lock and then works on the copy, so each chunk is as it was at
/// one moment, and no lock is held between two calls of `next`. Regions that the index knows to be
/// empty are not touched.
pub(crate) struct Walk<'t, L> {
    table: &'t SwapRecords<L>,
    /// The types that are still to be begun.
    types: Range<u8>,
    only: Option<MemcgId>,
    backend: Backend,
    /// The type that is being walked, while it is on.
    on: Option<(SwapType, On<'t, L>)>,
    /// The copy, and the offset of its first entry and of the first one not looked at.
    copy: Vec<u16>,
    start: usize,
    at: usize,
    /// A run that the next one may continue.
    ready: Option<Run>,
}

impl<'t, L: RawMutex> Walk<'t, L> {
    pub(crate) fn new(
        table: &'t SwapRecords<L>,
        ty: Option<SwapType>,
        only: Option<MemcgId>,
    ) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_SWAPFILES is 32")]
        let types = ty.map_or(0..MAX_SWAPFILES as u8, |ty| ty.get()..ty.get() + 1);
        Self {
            table,
            types,
            only,
            backend: table.backend(),
            on: None,
            copy: Vec::with_capacity(CHUNK_ENTRIES),
            start: 0,
            at: 0,
            ready: None,
        }
    }

    /// The next run in the copy, taken on to later chunks and types while it is used up.
    fn piece(&mut self) -> Option<Run> {
        loop {
            let rest = &self.copy[self.at - self.start..];
            let only = self.only.map(MemcgId::get);
            let wanted = |&id: &u16| only.map_or(id != 0, |only| id == only);
            if let Some(skip) = rest.iter().position(wanted) {
                let id = rest[skip];
                let len = rest[skip..].iter().take_while(|&&next| next == id).count();
                let offset = self.at + skip;
                self.at = offset + len;
                let (ty, _) = self.on?;
                return Some(Run {
                    start: SwapEntry::new(ty, offset as u64)?,
                    len: len as u64,
                    id: MemcgId::new(id)?,
                });
            }
            self.next_chunk()?;
        }
    }

    /// Copies the next chunk that may have a wanted record; `None` at the end of the last type.
    fn next_chunk(&mut self) -> Option<()> {
        loop {
            let offset = self.start + self.copy.len();
            if let Some((_, on)) = self.on
                && self.copy_from(on, offset).is_some()
            {
                return Some(());
            }
            let ty = SwapType::new(self.types.next()?)?;
            self.on = self.table.file(ty).on().map(|on| (ty, on));
            (self.start, self.at) = (0, 0);
            self.copy.clear();
        }
    }

    /// Copies as much as a chunk of the entries from `offset` on, from where a wanted record may be;
    /// `None` at the end of the type.
    fn copy_from(&mut self, on: On<'t, L>, mut offset: usize) -> Option<()> {
        loop {
            // Within a region, the index has been asked already.
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
                region.copy(first, &mut self.copy);
                drop(region);
                self.start = index * REGION_ENTRIES + first;
                self.at = self.start;
                return Some(());
            }
            offset = (index + 1) * REGION_ENTRIES;
        }
    }
}

impl<L: RawMutex> Iterator for Walk<'_, L> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        loop {
            match (self.ready, self.piece()) {
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
