//! [`Span`]: a range of entries of one swapfile, worked through region by region, and [`Piece`], what was done to a
//! part of it.
//!
//! A span belongs to the swapfile that was on when it was made, whatever comes after it under the type: what it
//! writes, it writes under that one's generation (design, invariant 6), and what it reads without a lock it
//! gives only if that one is still on. Nothing here allocates.

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

/// Entries of one swapfile, from the front on.
pub(crate) struct Span<'a, L> {
    on: On<'a, L>,
    ty: SwapType,
    /// The first entry that has not had its turn, and the end.
    at: usize,
    end: usize,
    /// Whether the rest of the region may be tried at once: not where it was.
    untried: bool,
}

impl<L> Clone for Span<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Span<'_, L> {}

impl<'a, L> Span<'a, L> {
    /// These slots, where the swapfile has all of them.
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

    /// The swapfile that it is in.
    pub(crate) fn on(&self) -> &On<'a, L> {
        &self.on
    }

    pub(crate) fn swap_type(&self) -> SwapType {
        self.ty
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// Whether one hold of a lock reaches all of it.
    pub(crate) fn is_in_one_region(&self) -> bool {
        self.at / REGION_ENTRIES == self.end.saturating_sub(1) / REGION_ENTRIES || self.is_empty()
    }

    /// Takes the part that is in the next region off its front.
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

    /// The part of this one that comes before `rest`, which is what is left of it.
    pub(crate) fn before(&self, rest: &Self) -> Self {
        let end = rest.at;
        Self { end, ..*self }
    }

    /// Where the part that is in the next region ends.
    fn region_end(&self) -> usize {
        (self.at / REGION_ENTRIES + 1)
            .saturating_mul(REGION_ENTRIES)
            .min(self.end)
    }

    /// That the swapfile is gone, from the next entry on.
    #[cold]
    pub(crate) fn off(&self) -> EntryError {
        EntryError::TypeOff {
            ty: self.ty,
            offset: Some(self.at as u64),
        }
    }

    /// What was read without a lock is the swapfile's.
    fn still_on(&self) -> Result<(), EntryError> {
        if self.on.is_still_on() {
            Ok(())
        } else {
            Err(self.off())
        }
    }
}

impl<L: RawMutex> Span<'_, L> {
    /// Makes `new` the owner of all entries if they lie in one region and have one owner, and gives that one: 0 for
    /// none. `None`, and nothing is written, if they do not. The usual way of a folio.
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

    /// Makes `new` the owner of some entries from the front on, under one lock, and writes down in `piece` whom they
    /// had. That is done when the lock is freed, so that it is there also if to free it unwinds.
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
        // Where it was tried before, or the part before had several owners, it is not worth it.
        let at_once = core::mem::take(&mut self.untried) || positions.len() == REGION_ENTRIES;
        let all = at_once.then(|| region.set_all(backend, positions.clone(), new));
        let end = match all.flatten() {
            Some(owner) => piece.all(positions, owner),
            None => region.set_range(positions, new, &mut piece.owners),
        };
        piece.end = base + end;
        self.at = piece.end;
        drop(region);
        // There was no memory for it: see `make`, which comes first.
        if piece.is_empty() {
            return Err(self.off());
        }
        Ok(())
    }

    /// Makes what its entries take to be written with this id, 0 for none: what is missing of it. Before the first is written.
    #[inline(always)]
    pub(crate) fn make(&self, new: u16) -> Result<(), EntryError> {
        let made = self.on.make(self.at..self.end, new);
        made.map_err(|Refused { bytes }| self.refused(bytes))
    }

    /// Makes what its entries take to be written with any id.
    pub(crate) fn reserve(&self) -> Result<(), EntryError> {
        let made = self.on.reserve(self.at..self.end);
        made.map_err(|Refused { bytes }| self.refused(bytes))
    }

    #[cold]
    fn refused(&self, bytes: usize) -> EntryError {
        match SwapEntry::new(self.ty, self.at as u64) {
            // Of a swapfile that is gone, nothing can be made.
            Some(start) if self.on.is_still_on() => EntryError::OutOfMemory {
                start,
                nr: (self.end - self.at) as u64,
                bytes,
            },
            _ => self.off(),
        }
    }

    /// Clears some entries from the front on, under one lock: as many runs of them as a piece has room for. `wanted` is
    /// asked about those runs, and no others, before. Nothing is done, and `false` is given, if it does not want them, or
    /// an entry among them has no owner.
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

    /// Writes down in `piece` who owns some entries from the front on, as seen under one lock: as many runs of them as a
    /// piece has room for, up to the first entry without an owner, which is given.
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

    /// The owner of the first entry, seen under the lock.
    pub(crate) fn first_owner(&self) -> Result<Option<MemcgId>, EntryError> {
        let (region, position) = (self.at / REGION_ENTRIES, self.at % REGION_ENTRIES);
        let region = self.on.lock(region).ok_or_else(|| self.off())?;
        let owner = MemcgId::new(region.get(position));
        drop(region);
        Ok(owner)
    }

    /// The first entry of the next region, and the positions of this span in that one.
    fn in_region(&self) -> (usize, core::ops::Range<usize>) {
        let base = self.at / REGION_ENTRIES * REGION_ENTRIES;
        (base, self.at - base..self.region_end() - base)
    }

    /// Makes `new` the owner of all entries, and tells `each` run of owners that they had, with no lock held.
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
            // What has no record is cleared.
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

    /// Makes `new` the owner of those entries in the next region that `old` owns, `most` of them, and adds their number
    /// to `moved` before the lock is freed.
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

    /// Goes on to the first region that may have a record; nothing where the rest is a part of a region, which is looked
    /// at as quickly.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn skip_empty(&mut self) -> Result<(), EntryError> {
        let before = self.at;
        if self.end.saturating_sub(self.at) >= REGION_ENTRIES {
            let regions = self.at / REGION_ENTRIES..self.end / REGION_ENTRIES;
            let end = regions.end * REGION_ENTRIES;
            let next = self.on.index().next_in_use(regions);
            let next = next.map_or(end, |region| region * REGION_ENTRIES);
            // The first region may be empty from some entry on, and not from its front.
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

    /// The first entry that has an owner, and that one. Takes no lock.
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

    /// How many entries this id owns. Takes no lock.
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

    /// The entries and their owners, by relaxed loads: of the swapfile, if it is still on afterwards.
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

/// What was done to some entries of one region, in one hold of its lock.
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

    /// Nothing yet, from `at` on.
    fn begin(&mut self, at: usize) {
        (self.start, self.end) = (at, at);
        self.owners.clear();
    }

    /// Notes the owners at these positions, until it is full or one has none. Gives where it got to. Nothing was done to
    /// them yet.
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

    /// Whether there is no room for another run.
    fn is_full(&self) -> bool {
        self.owners.len() >= self.owners.inline_size()
    }

    /// All of these positions had this owner, 0 for none. Gives their end.
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

    /// How many entries were written.
    pub(crate) fn len(&self) -> u64 {
        (self.end - self.start) as u64
    }

    /// How many of them had an owner.
    pub(crate) fn records(&self) -> u64 {
        self.owners().map(|(_, nr)| nr).sum()
    }

    /// Whom they had, and how many in a row.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (MemcgId, u64)> {
        let owners = self.owners.iter();
        owners.filter_map(|&(_, len, id)| Some((MemcgId::new(id)?, u64::from(len))))
    }

    /// The first run of each of them.
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

    /// The same, with where they are.
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

/// The offset of the first of these slots and of their end, where the swapfile has all of them.
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
