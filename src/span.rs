//! [`Span`]: a range of entries of one swapfile, worked through region by region; and [`Piece`]: the owners
//! of a part of it.
//!
//! A span belongs to the swapfile that was on when the span was made, even if the type is turned off and on
//! again. It writes under that swapfile's generation (invariant 6). It returns what it reads without a lock
//! only if that swapfile is still on. Nothing here allocates, except the pages that `make` and `reserve` make
//! without `std`.

use lock_api::RawMutex;

use crate::entry::{Run, SwapEntry, SwapType};
use crate::error::EntryError;
use crate::id::MemcgId;
use crate::region::{Owners, REGION_ENTRIES, Region, push};
use crate::runs::Joined;
use crate::scan::Backend;
use crate::storage::Refused;
use crate::swapfile::On;
use crate::sync::Ordering;

/// The entries of one swapfile that an operation has still to visit.
pub(crate) struct Span<'a, L> {
    on: On<'a, L>,
    ty: SwapType,
    /// The first entry that has not been visited, and the end.
    at: usize,
    end: usize,
    /// Whether `set` may try to write the rest of the region in one step. False after an attempt that failed.
    untried: bool,
}

impl<L> Clone for Span<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Span<'_, L> {}

impl<'a, L> Span<'a, L> {
    /// Makes a span of these slots. Fails unless the swapfile has all of them.
    pub(crate) fn new(on: On<'a, L>, start: SwapEntry, nr: u64) -> Result<Self, EntryError> {
        let (at, end) = locate(&on, start, nr)?;
        Ok(Self {
            on,
            ty: start.swap_type(),
            at,
            end,
            untried: true,
        })
    }

    /// Returns the swapfile of the span.
    pub(crate) fn on(&self) -> &On<'a, L> {
        &self.on
    }

    pub(crate) fn swap_type(&self) -> SwapType {
        self.ty
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// Returns whether one hold of a lock covers the whole span.
    pub(crate) fn is_in_one_region(&self) -> bool {
        self.at / REGION_ENTRIES == self.end.saturating_sub(1) / REGION_ENTRIES || self.is_empty()
    }

    /// Removes the part that lies in the next region from the front, and returns it.
    pub(crate) fn take_region(&mut self) -> Option<Self> {
        if self.is_empty() {
            return None;
        }
        let end = self.region_end();
        let part = Self { end, ..*self };
        self.at = end;
        self.untried = true;
        Some(part)
    }

    /// Returns the part of this span that comes before `rest`. `rest` is the same span after some entries
    /// were visited.
    pub(crate) fn before(&self, rest: &Self) -> Self {
        let end = rest.at;
        Self { end, ..*self }
    }

    /// Returns the end of the part that lies in the next region.
    fn region_end(&self) -> usize {
        (self.at / REGION_ENTRIES + 1)
            .saturating_mul(REGION_ENTRIES)
            .min(self.end)
    }

    /// Returns the error that the swapfile was turned off before the next entry was written.
    #[cold]
    pub(crate) fn off(&self) -> EntryError {
        EntryError::TypeOff {
            ty: self.ty,
            offset: Some(self.at as u64),
        }
    }

    /// Checks that what was read without a lock belongs to the swapfile.
    fn still_on(&self) -> Result<(), EntryError> {
        if self.on.is_still_on() {
            Ok(())
        } else {
            Err(self.off())
        }
    }
}

impl<L: RawMutex> Span<'_, L> {
    /// Makes `new` the owner of all entries if they lie in one region and have one owner. Returns that owner,
    /// 0 for none. Returns `None`, with nothing written, if they do not. This is the fast path of a folio.
    #[cfg_attr(feature = "std", inline)]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn set_all(
        &mut self,
        backend: Backend,
        new: u16,
    ) -> Result<Option<u16>, EntryError> {
        let base = self.at / REGION_ENTRIES * REGION_ENTRIES;
        let positions = self.at - base..self.end - base;
        if positions.is_empty() || positions.end > REGION_ENTRIES {
            return Ok(None);
        }
        self.untried = false;
        let region = self
            .on
            .lock(base / REGION_ENTRIES)
            .ok_or_else(|| self.off())?;
        let owner = region.set_all(backend, positions, new);
        drop(region);
        Ok(owner)
    }

    /// Makes `new` the owner of some entries at the front, under one lock, and stores their previous owners
    /// in `piece`. The owners are stored before the lock is freed, so that they are there even if the unlock
    /// unwinds.
    #[cfg_attr(feature = "std", inline)]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn set(
        &mut self,
        backend: Backend,
        new: u16,
        piece: &mut Piece,
    ) -> Result<(), EntryError> {
        piece.begin(self.at);
        if self.is_empty() {
            return Ok(());
        }
        let (base, positions) = self.in_region();
        let region = self
            .on
            .lock(base / REGION_ENTRIES)
            .ok_or_else(|| self.off())?;
        // One step is not worth trying again after it failed, or after a part with several owners.
        let at_once = core::mem::take(&mut self.untried) || positions.len() == REGION_ENTRIES;
        let all = at_once.then(|| region.set_all(backend, positions.clone(), new));
        let end = match all.flatten() {
            Some(owner) => piece.all(positions, owner),
            None => region.set_range(positions, new, &mut piece.owners),
        };
        piece.end = base + end;
        self.at = piece.end;
        drop(region);
        // An empty piece means that the entries have no memory. After `make`, that cannot happen while the
        // swapfile is on.
        if piece.is_empty() {
            return Err(self.off());
        }
        Ok(())
    }

    /// Makes the memory that is needed to write this id to the entries, where it is missing. 0 stands for no
    /// owner. Called before the first entry is written.
    #[inline(always)]
    pub(crate) fn make(&self, new: u16) -> Result<(), EntryError> {
        let made = self.on.make(self.at..self.end, new);
        made.map_err(|Refused { bytes }| self.refused(bytes))
    }

    /// Makes the memory that is needed to write any id to the entries.
    pub(crate) fn reserve(&self) -> Result<(), EntryError> {
        let made = self.on.reserve(self.at..self.end);
        made.map_err(|Refused { bytes }| self.refused(bytes))
    }

    #[cold]
    fn refused(&self, bytes: usize) -> EntryError {
        match SwapEntry::new(self.ty, self.at as u64) {
            Some(start) => EntryError::OutOfMemory {
                start,
                nr: (self.end - self.at) as u64,
                bytes,
            },
            None => self.off(),
        }
    }

    /// Clears some entries at the front, under one lock: as many runs of them as a piece has room for. Calls
    /// `wanted` with these runs first. If `wanted` returns false, or one of the entries has no owner, nothing
    /// is cleared and the result is `false`.
    pub(crate) fn clear_if(
        &mut self,
        backend: Backend,
        wanted: impl FnOnce(&Piece) -> bool,
        piece: &mut Piece,
    ) -> Result<bool, EntryError> {
        piece.begin(self.at);
        if self.is_empty() {
            return Ok(true);
        }
        let (base, positions) = self.in_region();
        let region = self
            .on
            .lock(base / REGION_ENTRIES)
            .ok_or_else(|| self.off())?;
        let positions = positions.start..piece.note(&region, positions.clone());
        let is_whole = positions.end == self.region_end() - base || piece.is_full();
        if !is_whole || !wanted(piece) {
            piece.begin(self.at);
            return Ok(false);
        }
        if piece.owners.len() > 1 || region.set_all(backend, positions.clone(), 0).is_none() {
            piece.owners.clear();
            region.set_range(positions.clone(), 0, &mut piece.owners);
        }
        piece.end = base + positions.end;
        self.at = piece.end;
        drop(region);
        Ok(true)
    }

    /// Stores in `piece` the owners of some entries at the front, as seen under one lock: as many runs as a
    /// piece has room for, up to the first entry without an owner. Returns that entry.
    pub(crate) fn look(&mut self, piece: &mut Piece) -> Result<Option<SwapEntry>, EntryError> {
        piece.begin(self.at);
        if self.is_empty() {
            return Ok(None);
        }
        let (base, positions) = self.in_region();
        let region = self
            .on
            .lock(base / REGION_ENTRIES)
            .ok_or_else(|| self.off())?;
        let end = piece.note(&region, positions.clone());
        drop(region);
        self.at = base + end;
        if end == positions.end || piece.is_full() {
            return Ok(None);
        }
        Ok(SwapEntry::new(self.ty, self.at as u64))
    }

    /// Returns the owner of the first entry, as seen under the lock.
    pub(crate) fn first_owner(&self) -> Result<Option<MemcgId>, EntryError> {
        let (region, position) = (self.at / REGION_ENTRIES, self.at % REGION_ENTRIES);
        let region = self.on.lock(region).ok_or_else(|| self.off())?;
        let owner = MemcgId::new(region.get(position));
        drop(region);
        Ok(owner)
    }

    /// Returns the first entry of the next region, and the positions of this span in that region.
    fn in_region(&self) -> (usize, core::ops::Range<usize>) {
        let base = self.at / REGION_ENTRIES * REGION_ENTRIES;
        (base, self.at - base..self.region_end() - base)
    }

    /// Makes `new` the owner of all entries, and calls `each` with every run of previous owners, with no lock
    /// held.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn set_rest(
        mut self,
        backend: Backend,
        new: u16,
        each: impl FnMut(Run),
    ) -> Result<(), EntryError> {
        let mut piece = Piece::new();
        let mut runs = Joined::new(each);
        let done = loop {
            // Entries without a record need no clearing.
            if new == 0
                && let Err(off) = self.skip_empty()
            {
                break Err(off);
            }
            if self.is_empty() {
                break Ok(());
            }
            if let Err(off) = self.set(backend, new, &mut piece) {
                break Err(off);
            }
            piece.runs(self.ty).for_each(|run| runs.push(run));
        };
        runs.end();
        done
    }

    /// Makes `new` the owner of up to `most` entries in the next region that `old` owns. Adds their number to
    /// `moved` before the lock is freed.
    pub(crate) fn replace_region(
        &mut self,
        old: MemcgId,
        new: MemcgId,
        most: u64,
        moved: &mut u64,
    ) -> Result<(), EntryError> {
        let base = self.at / REGION_ENTRIES * REGION_ENTRIES;
        let positions = self.at - base..self.region_end() - base;
        let region = self
            .on
            .lock(base / REGION_ENTRIES)
            .ok_or_else(|| self.off())?;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        *moved += u64::from(region.replace(positions, old.get(), new.get(), most));
        self.at = self.region_end();
        drop(region);
        Ok(())
    }

    /// Goes on to the first region that may have a record. Does nothing if the rest is less than a region,
    /// since looking at the entries is as quick.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn skip_empty(&mut self) -> Result<(), EntryError> {
        let before = self.at;
        if self.end.saturating_sub(self.at) >= REGION_ENTRIES {
            let regions = self.at / REGION_ENTRIES..self.end / REGION_ENTRIES;
            let end = regions.end * REGION_ENTRIES;
            let next = self.on.index().next_in_use(regions);
            let next = next.map_or(end, |region| region * REGION_ENTRIES);
            // The first region may be empty only from some entry on.
            self.at = next.max(self.at);
        }
        if self.at > before {
            self.untried = true;
            if !self.on.is_still_on() {
                self.at = before;
                return Err(self.off());
            }
        }
        Ok(())
    }

    /// Goes on to the first region that may have a record of this id.
    pub(crate) fn skip_to(&mut self, id: MemcgId) {
        let regions = self.at / REGION_ENTRIES..self.end.div_ceil(REGION_ENTRIES);
        let next = self.on.next_region_in(id, regions);
        let next = next.map_or(self.end, |region| region * REGION_ENTRIES);
        self.at = self.at.max(next).min(self.end);
    }

    /// Returns the first entry that has an owner, with that owner. Takes no lock.
    pub(crate) fn first_record(mut self) -> Result<Option<(SwapEntry, MemcgId)>, EntryError> {
        let start = self;
        let first = loop {
            self.skip_empty().map_err(|_| start.off())?;
            let Some(part) = self.take_region() else {
                break None;
            };
            let mut owners = part.owners();
            if let Some(first) = owners.find_map(|(entry, id)| Some((entry, id?))) {
                break Some(first);
            }
        };
        start.still_on()?;
        Ok(first)
    }

    /// Returns the number of entries that this id owns. Takes no lock.
    pub(crate) fn count(mut self, id: MemcgId) -> Result<u64, EntryError> {
        let start = self;
        let mut sum = 0;
        loop {
            self.skip_to(id);
            let Some(part) = self.take_region() else {
                start.still_on()?;
                return Ok(sum);
            };
            sum += part.owners().filter(|&(_, of)| of == Some(id)).count() as u64;
        }
    }

    /// Returns the entries and their owners, by relaxed loads. They are of the swapfile if it is still on
    /// afterwards.
    fn owners(&self) -> impl Iterator<Item = (SwapEntry, Option<MemcgId>)> {
        let ty = self.ty;
        let parts = self.on.parts(self.at..self.end);
        let entries = parts.flat_map(|(at, entries)| (at as u64..).zip(entries));
        entries.filter_map(move |(at, id)| {
            let entry = SwapEntry::new(ty, at)?;
            Some((entry, MemcgId::new(id.load(Ordering::Relaxed))))
        })
    }
}

/// The previous owners of some entries of one region, as seen in one hold of its lock.
pub(crate) struct Piece {
    start: usize,
    end: usize,
    owners: Owners,
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
    fn begin(&mut self, at: usize) {
        (self.start, self.end) = (at, at);
        self.owners.clear();
    }

    /// Stores the owners at these positions, until the piece is full or a position has no owner. Returns the
    /// position where it stopped. Writes nothing to the entries.
    fn note(
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
    fn is_full(&self) -> bool {
        self.owners.len() >= self.owners.inline_size()
    }

    /// Stores that all of these positions had this owner, 0 for none. Returns their end.
    fn all(&mut self, positions: core::ops::Range<usize>, owner: u16) -> usize {
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

/// Returns the offsets of the first of these slots and of their end. Fails unless the swapfile has all of
/// them.
pub(crate) fn locate<L>(
    on: &On<'_, L>,
    start: SwapEntry,
    nr: u64,
) -> Result<(usize, usize), EntryError> {
    let end = start.offset().checked_add(nr);
    match end.filter(|&end| end <= on.max_pages()) {
        #[expect(clippy::cast_possible_truncation, reason = "max_pages is from a usize")]
        Some(end) => Ok((start.offset() as usize, end as usize)),
        None => Err(EntryError::OutOfRange {
            start,
            nr,
            max_pages: on.max_pages(),
        }),
    }
}
