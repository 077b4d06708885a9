//! [`SwapFile`]: one swap type, on or off; and [`On`], a swapfile as it was when an operation began.
//!
//! # Turning on and off
//!
//! | `generation % 4` | state | the thread that leaves the state | next |
//! | --- | --- | --- | --- |
//! | 0 | off | one `swapon`, by compare-exchange | 1 |
//! | 1 | starting | that `swapon`: finds an area, indexes it (`file`), publishes it | 2, or 4 without one |
//! | 2 | on | one `swapoff`, by compare-exchange | 3 |
//! | 3 | stopping | that `swapoff`: takes every lock once, empties the area | 4, or 2 if a lock unwinds |
//!
//! Only the thread in states 1 and 3 writes the other fields, so they need no lock of their own.
//!
//! `swapoff` changes nothing of the area until it has taken its last lock. If a lock unwinds before, [`Back`]
//! goes back to the generation that was on. Operations that did not notice continue; those that did were
//! refused. After the last lock nothing can unwind. `swapon` takes no lock.
//!
//! **Invariant 6: an operation writes only under a lock of the area, and after it has seen, under that lock,
//! the generation that it began with.** `swapoff` changes the generation before it takes and releases each
//! lock. A thread that held the lock before has finished its work; a thread that takes it later sees the
//! change. So no thread writes to an area that is being emptied. No operation that began before a swapoff
//! writes to what the next swapon put there.
//!
//! `swapon` makes the locks, and dropping the table drops them, possibly on another thread. So a table is
//! `Sync` only if its locks are `Send`.
//!
//! ```compile_fail
//! # struct NotSend(core::marker::PhantomData<*const ()>);
//! # unsafe impl Sync for NotSend {}
//! fn shared<T: Sync>() {}
//! shared::<swap_records::SwapRecords<NotSend>>();
//! ```
//!
//! **Invariant 7: an area stays mapped until the table is dropped, and stays with its type.** So `lookup`
//! needs no lock and no count of readers. It reads 0, or the entry of a swapfile of this type that is on at
//! that moment. (With a file, a lookup that began before a swapoff may read what the file holds by then.)

use core::marker::PhantomData;
use core::ops::Range;
use core::{fmt, iter, mem, ptr};

use alloc::boxed::Box;
use lock_api::RawMutex;

use crate::area::Area;
use crate::cell::counter;
use crate::id::MemcgId;
use crate::pages::Pages;
use crate::region::{CHUNK_ENTRIES, REGION_ENTRIES, Region};
use crate::regions::Regions;
use crate::storage::Refused;
use crate::sync::{AtomicPtr, AtomicU16, AtomicU64, Ordering, fence, prefetch};

#[cfg(all(feature = "std", target_os = "linux", not(swap_records_loom)))]
mod file;
#[cfg(all(feature = "std", target_os = "linux", not(swap_records_loom)))]
pub(crate) use file::{NotOn, Options};
#[cfg(all(feature = "std", not(swap_records_loom)))]
mod starting;
#[cfg(all(feature = "std", not(swap_records_loom)))]
pub(crate) use starting::Starting;

const OFF: u64 = 0;
const ON: u64 = 2;

/// One swap type.
pub(crate) struct SwapFile<L> {
    generation: AtomicU64,
    /// In pages. Written in state 1. At most the size of `current`.
    max_pages: AtomicU64,
    /// The area that holds the records. Null in states 0 and 3.
    current: AtomicPtr<Area<L>>,
    /// Owned list of all areas that this type ever had: one of each size and one of each file, linked by
    /// `next`.
    areas: AtomicPtr<Area<L>>,
    /// `AtomicPtr` is `Send` and `Sync` for any pointee. This marker removes both; the impls below say what
    /// is needed.
    locks: PhantomData<*mut L>,
}

// SAFETY: a `SwapFile` owns its areas, and through them its locks, as a `Box` does.
unsafe impl<L: Send> Send for SwapFile<L> {}
// SAFETY: a shared `SwapFile` shares its locks. `swapon` may make locks on another thread than the one that
// drops them, so they must be `Send` as well.
unsafe impl<L: Send + Sync> Sync for SwapFile<L> {}

impl<L> SwapFile<L> {
    pub(crate) const fn new() -> Self {
        Self {
            generation: AtomicU64::new(OFF),
            max_pages: AtomicU64::new(0),
            current: AtomicPtr::new(ptr::null_mut()),
            areas: AtomicPtr::new(ptr::null_mut()),
            locks: PhantomData,
        }
    }

    /// Returns the area of this pointer, which must have been read from `current`, `areas` or `next`.
    #[inline]
    fn area(&self, area: *mut Area<L>) -> Option<&Area<L>> {
        // SAFETY: what these fields point to came from `Box::into_raw`, was published with release and read
        // with acquire. Only `drop` frees it (invariant 7), and `drop` has `self` exclusively.
        unsafe { area.as_ref() }
    }

    /// Returns all areas that the type ever had.
    pub(crate) fn areas(&self) -> impl Iterator<Item = &Area<L>> {
        let mut next = self.areas.load(Ordering::Acquire);
        iter::from_fn(move || {
            let area = self.area(next)?;
            next = area.next.load(Ordering::Acquire);
            Some(area)
        })
    }

    /// Returns the id at `offset`, or 0 if there is none. Takes no lock.
    #[inline]
    pub(crate) fn lookup(&self, offset: u64) -> u16 {
        let Some(area) = self.area(self.current.load(Ordering::Acquire)) else {
            return 0;
        };
        usize::try_from(offset)
            .ok()
            .and_then(|offset| Some(area.chunks().entry(offset)?.load(Ordering::Relaxed)))
            .unwrap_or(0)
    }

    /// Returns the swapfile if it is on.
    #[inline]
    pub(crate) fn on(&self) -> Option<On<'_, L>> {
        let generation = self.generation.load(Ordering::Acquire);
        if generation % 4 != ON {
            return None;
        }
        // `max_pages` and `current` may be of a later generation, and may not fit each other. `On::lock`
        // checks the generation before anything rests on them.
        let max_pages = usize::try_from(self.max_pages.load(Ordering::Acquire)).ok()?;
        let area = self.area(self.current.load(Ordering::Acquire))?;
        Some(On {
            file: self,
            area,
            generation,
            max_pages,
        })
    }
}

impl<L: RawMutex> SwapFile<L> {
    /// Turns the type on. Returns `Ok(false)` if it is not off.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn swapon(&self, max_pages: u64, pages: Pages) -> Result<bool, Refused> {
        let off = self.generation.load(Ordering::Relaxed);
        if off % 4 != OFF || !self.advance(off) {
            return Ok(false);
        }
        let area = usize::try_from(max_pages.div_ceil(REGION_ENTRIES as u64))
            .ok()
            .and_then(usize::checked_next_power_of_two)
            .ok_or(Refused { bytes: usize::MAX })
            .and_then(|regions| self.area_of(regions, pages));
        match area {
            Ok(area) => {
                self.publish(off, max_pages, area);
                Ok(true)
            }
            Err(refused) => {
                self.generation.store(off + 4, Ordering::Release);
                Err(refused)
            }
        }
    }

    /// Turns the type off. Returns the number of records that were dropped, or `None` if the type is not on.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn swapoff(&self) -> Option<u64> {
        let on = self.on()?;
        if !self.advance(on.generation) {
            return None;
        }
        let back = Back {
            file: self,
            area: self.current.load(Ordering::Relaxed),
            generation: on.generation,
        };
        self.current.store(ptr::null_mut(), Ordering::Release);
        let regions = &on.area.regions;
        for region in 0..on.regions() {
            // A thread that holds the lock finishes; a thread that takes it later sees the changed
            // generation.
            drop(regions.hold(region));
        }
        mem::forget(back);
        let dropped = regions.records();
        // There can be more only if something else wrote to the entries of a file (invariant 7).
        debug_assert!(dropped <= on.max_pages() || !on.area.chunks().is_own());
        let dropped = dropped.min(on.max_pages());
        // A reader that sees an entry cleared also sees the changed generation: see `On::is_still_on`.
        fence(Ordering::Release);
        on.area.discard(on.regions());
        // From stopping to off.
        self.generation.store(on.generation + 2, Ordering::Release);
        Some(dropped)
    }

    /// Returns the current generation, for [`trim`](Self::trim). Acquire: if the type is off, an operation that
    /// begins later finds it off.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Gives back the pages that the areas keep for the next swapon, if the type is off and has been off since it had
    /// the generation `off`. Returns their number.
    ///
    /// # Safety
    ///
    /// No operation that began before the type was turned off with this generation may be under way.
    pub(crate) unsafe fn trim(&self, off: u64) -> u64 {
        // In state 1, no other thread turns the type on, and operations find no area: `current` is null.
        if off % 4 != OFF || !self.advance(off) {
            return 0;
        }
        // SAFETY: the type is off until the store below. The caller promises that no earlier operation is
        // under way (13).
        let freed = self.areas().map(|area| unsafe { area.trim() }).sum();
        self.generation.store(off + 4, Ordering::Release);
        freed
    }

    /// Advances from state 0 or 2 to the next one. Succeeds for one thread.
    fn advance(&self, from: u64) -> bool {
        self.generation
            .compare_exchange(from, from + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Returns the empty area of this size, and makes it if there is none. Called in state 1.
    fn area_of(&self, regions: usize, pages: Pages) -> Result<*mut Area<L>, Refused> {
        let mut next = self.areas.load(Ordering::Acquire);
        while let Some(area) = self.area(next) {
            if area.regions.len() == regions && area.chunks().is_own() {
                return Ok(next);
            }
            next = area.next.load(Ordering::Acquire);
        }
        Ok(self.keep(Area::new(regions, pages)?))
    }

    /// Links an area to the list. It is dropped with the table. Called in state 1.
    fn keep(&self, area: Box<Area<L>>) -> *mut Area<L> {
        let first = self.areas.load(Ordering::Relaxed);
        area.next.store(first, Ordering::Relaxed);
        let area = Box::into_raw(area);
        self.areas.store(area, Ordering::Release);
        area
    }

    /// Advances from state 1 to state 2.
    fn publish(&self, off: u64, max_pages: u64, area: *mut Area<L>) {
        self.max_pages.store(max_pages, Ordering::Release);
        self.current.store(area, Ordering::Release);
        self.generation.store(off + ON, Ordering::Release);
    }
}

impl<L> Drop for SwapFile<L> {
    fn drop(&mut self) {
        let mut next = *self.areas.get_mut();
        while !next.is_null() {
            // SAFETY: the pointer came from `Box::into_raw` and is linked once. `drop` has `self`
            // exclusively.
            let mut area = unsafe { Box::from_raw(next) };
            next = *area.next.get_mut();
        }
    }
}

/// Turns a swapfile on again if its swapoff unwinds. Nothing of the area has been changed by then.
struct Back<'a, L> {
    file: &'a SwapFile<L>,
    area: *mut Area<L>,
    generation: u64,
}

impl<L> Drop for Back<'_, L> {
    #[cold]
    fn drop(&mut self) {
        self.file.current.store(self.area, Ordering::Release);
        self.file
            .generation
            .store(self.generation, Ordering::Release);
    }
}

/// A swapfile that was on when this was made, with its area and size.
pub(crate) struct On<'a, L> {
    file: &'a SwapFile<L>,
    area: &'a Area<L>,
    generation: u64,
    max_pages: usize,
}

impl<L> Clone for On<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for On<'_, L> {}

impl<'a, L> On<'a, L> {
    /// Returns whether the swapfile has been on ever since this was made. Filters what was read without a
    /// lock and may be stale; no write rests on it. The fence pairs with that of `swapoff`.
    pub(crate) fn is_still_on(&self) -> bool {
        fence(Ordering::Acquire);
        self.file.generation.load(Ordering::Relaxed) == self.generation
    }

    /// Returns the generation, which tells this swapfile from others of the type.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the number of pages of the swapfile.
    #[inline]
    pub(crate) fn max_pages(&self) -> u64 {
        self.max_pages as u64
    }

    /// Returns the number of chunks of the swapfile. The last one may be partial.
    pub(crate) fn chunks(&self) -> u64 {
        self.max_pages.div_ceil(CHUNK_ENTRIES) as u64
    }

    /// Returns the entries at these offsets that have memory, in parts, each with the offset of its first
    /// entry. All other entries are 0. The entries are read without a lock: they are of this swapfile if it
    /// is still on afterwards.
    pub(crate) fn parts(
        &self,
        offsets: Range<usize>,
    ) -> impl Iterator<Item = (usize, &'a [AtomicU16])> + use<'a, L> {
        self.area.chunks().parts(offsets)
    }

    /// Returns the number of regions of the swapfile. The last one may be partial.
    pub(crate) fn regions(&self) -> usize {
        self.max_pages.div_ceil(REGION_ENTRIES)
    }
}

impl<'a, L: RawMutex> On<'a, L> {
    /// Calls [`Region::try_set`] for the entry at `offset`. Returns `None` also if there is no such entry.
    #[inline(always)]
    pub(crate) fn try_set(
        &self,
        offset: usize,
        new: u16,
        wanted: impl FnOnce(u16) -> bool,
    ) -> Option<u16> {
        if offset >= self.max_pages {
            return None;
        }
        let regions = &self.area.regions;
        let (entry, cells) = regions.slot(offset, usize::from(new))?;
        let (region, position) = (offset / REGION_ENTRIES, offset % REGION_ENTRIES);
        let in_time = || self.is_mine();
        let slot = (entry, position, cells);
        Region::try_set(regions, region, slot, new, wanted, in_time)
    }

    /// Prefetches an entry, and the cell that will count it for this owner. 0 stands for no owner.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: usize, new: u16) {
        if let Some(entry) = self.area.chunks().entry(offset) {
            prefetch(entry);
        }
        self.prefetch_cell(offset / REGION_ENTRIES, new);
    }

    /// Prefetches the entries of the aligned block that contains `offset`. `slots`, the size of the block, is
    /// a power of two.
    #[inline(always)]
    pub(crate) fn prefetch_block(&self, offset: usize, slots: usize) {
        let start = offset & !(slots - 1);
        for line in self.area.chunks().block(start..start + slots).chunks(32) {
            prefetch(line.as_ptr());
        }
    }

    /// Prefetches the cell that counts an entry, by the owner that it has when it is read here without the
    /// lock.
    #[inline(always)]
    pub(crate) fn prefetch_owner(&self, offset: usize) {
        if let Some(entry) = self.area.chunks().entry(offset) {
            self.prefetch_cell(offset / REGION_ENTRIES, entry.load(Ordering::Relaxed));
        }
    }

    #[inline(always)]
    fn prefetch_cell(&self, region: usize, id: u16) {
        if id != 0
            && let Some(cell) = self.index().counted_in(region, counter(id))
        {
            prefetch(cell);
        }
    }

    /// Makes the memory that is needed to write this id to these entries, where it is missing. Must not be
    /// called under a lock. The memory stays until the swapfile is turned off. An id of 0 needs no memory,
    /// since an entry without memory is 0.
    #[inline(always)]
    pub(crate) fn make(&self, offsets: Range<usize>, id: u16) -> Result<(), Refused> {
        let mut chunks = chunks(&offsets);
        if id == 0 || chunks.all(|at| self.has(at, id)) {
            return Ok(());
        }
        self.make_slow(offsets, Some(counter(id)))
    }

    /// Makes the memory that is needed to write any id. An id without a cell is counted in the region's spill
    /// cell.
    pub(crate) fn reserve(&self, offsets: Range<usize>) -> Result<(), Refused> {
        self.make_slow(offsets, None)
    }

    #[cold]
    fn make_slow(&self, offsets: Range<usize>, counter: Option<usize>) -> Result<(), Refused> {
        for at in chunks(&offsets) {
            self.index().make(at / REGION_ENTRIES, counter)?;
            // The entries come last: see `store`.
            self.area.chunks().make(at)?;
        }
        Ok(())
    }

    /// Returns whether this id can be written to this entry and counted in its own cell.
    #[inline(always)]
    pub(crate) fn has(&self, offset: usize, id: u16) -> bool {
        let region = offset / REGION_ENTRIES;
        self.area.chunks().has(offset) && self.index().has_cell(region, counter(id))
    }

    /// Takes the lock of the region of this entry. Returns `None` if there is no such entry, or the swapfile
    /// was turned off.
    pub(crate) fn lock_of(&self, offset: usize) -> Option<Region<'a, L>> {
        if offset < self.max_pages {
            self.lock(offset / REGION_ENTRIES)
        } else {
            None
        }
    }

    /// Takes the lock of a region below `regions()`. Returns `None` if the swapfile has been turned off.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn lock(&self, region: usize) -> Option<Region<'a, L>> {
        // A region can lie past the area's end only if `max_pages` is of a later generation.
        let entries = self.area.chunks().region(region)?;
        let len = self.max_pages - region * REGION_ENTRIES;
        let len = len.min(REGION_ENTRIES);
        let region = Region::lock(&self.area.regions, region, entries, len);
        self.is_mine().then_some(region)
    }

    /// Returns whether the swapfile is still on. The caller holds a lock of the area. A relaxed load is
    /// enough: the lock orders it after the `swapoff` that held the lock before (invariant 6).
    #[inline]
    fn is_mine(&self) -> bool {
        self.file.generation.load(Ordering::Relaxed) == self.generation
    }

    /// Returns the first region from `from` on that may hold a record of this id, or of any id if it is
    /// `None`.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn next_region(&self, id: Option<MemcgId>, from: usize) -> Option<usize> {
        match id {
            Some(id) => self.next_region_in(id, from..self.regions()),
            None => self.index().next_in_use(from..self.regions()),
        }
    }

    /// Returns the first of `regions` that may hold a record of this id.
    pub(crate) fn next_region_in(&self, id: MemcgId, regions: Range<usize>) -> Option<usize> {
        self.index().presence().next(counter(id.get()), regions)
    }

    /// Prefetches the entry of this id in a region, if the region has one record of it.
    #[inline]
    pub(crate) fn prefetch_only(&self, region: usize, id: MemcgId) {
        let only = self.area.regions.only(region, counter(id.get()));
        let entry = only.map(|only| region * REGION_ENTRIES + only % REGION_ENTRIES);
        if let Some(entry) = entry.and_then(|entry| self.area.chunks().entry(entry)) {
            prefetch(entry);
        }
    }

    pub(crate) fn index(&self) -> &'a Regions<L> {
        &self.area.regions
    }
}

/// Returns the first entry of each chunk that contains some of these offsets.
#[inline(always)]
fn chunks(offsets: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
    let chunks = offsets.start / CHUNK_ENTRIES..offsets.end.div_ceil(CHUNK_ENTRIES);
    chunks.map(|chunk| chunk * CHUNK_ENTRIES)
}

impl<L> fmt::Debug for SwapFile<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.on() {
            Some(on) => write!(f, "on, {} pages", on.max_pages),
            None => f.write_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::RawSpinLock;
    use alloc::format;

    #[test]
    fn an_operation_from_before_a_swapoff_gets_no_lock_after_the_next_swapon() {
        let file = SwapFile::<RawSpinLock>::new();
        assert!(file.swapon(10, Pages::GLOBAL).unwrap());
        let before = file.on().unwrap();
        assert!(before.lock(0).is_some() && before.is_still_on());
        assert_eq!(file.swapoff(), Some(0));
        assert!(before.lock(0).is_none() && !before.is_still_on());
        // The same size takes the same area, and the same locks.
        assert!(file.swapon(10, Pages::GLOBAL).unwrap());
        let after = file.on().unwrap();
        assert!(ptr::eq(before.area, after.area));
        assert!(before.lock(0).is_none() && before.lock_of(9).is_none());
        assert!(after.lock_of(9).is_some() && after.lock_of(10).is_none());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri aborts where an allocator would refuse")]
    fn a_table_that_is_refused_stays_off() {
        let file = SwapFile::<RawSpinLock>::new();
        assert!(file.swapon(1 << 50, Pages::GLOBAL).is_err());
        assert!(file.on().is_none() && file.swapoff().is_none());
        assert!(file.swapon(1, Pages::GLOBAL).unwrap());
        assert!(!file.swapon(1, Pages::GLOBAL).unwrap());
    }

    #[test]
    fn an_entry_past_the_end_is_found() {
        let ty = crate::SwapType::new(4).unwrap();
        let table = crate::SwapRecords::new();
        table.swapon(ty, REGION_ENTRIES as u64 + 9).unwrap();
        let past = REGION_ENTRIES + 9;
        let area = table.file(ty).on().unwrap().area;
        area.chunks().make(past).unwrap();
        let entry = area.chunks().entry(past).unwrap();
        entry.store(7, Ordering::Relaxed);
        let what = table.validate().unwrap_err();
        assert_eq!(what, format!("type 4: entry {past} past the end holds 7"));
    }
}
