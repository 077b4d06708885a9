//! [`SwapRecords`]: the table of all swap types, and what is done to its entries.

use core::fmt;

use crossbeam_utils::CachePadded;
use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType};
use crate::error::{EntryError, SwaponError};
use crate::id::{MemcgId, to_raw};
use crate::pages::{PageSource, Pages};
use crate::region::{REGION_ENTRIES, Region};
use crate::scan::Backend;
use crate::span::{Span, locate};
use crate::storage::Refused;
use crate::swapfile::{On, SwapFile};
use crate::sync::RawSpinLock;

/// The most pages that a swapfile can have: what an entry can address, and what an index of an
/// address space can.
pub(crate) const MAX_PAGES: u64 = if usize::BITS >= 64 {
    SwapEntry::MAX_OFFSET + 1
} else {
    1 << 29
};

/// For every page slot of up to 32 swapfiles, the memory cgroup that owns it.
///
/// All operations take `&self` and may be called from any number of threads. `L` is the lock of a
/// region of [`REGION_ENTRIES`] slots: the crate's own [`RawSpinLock`], or any `lock_api::RawMutex`.
///
/// ```
/// use swap_records::{Exchange, MemcgId, SwapEntry, SwapRecords, SwapType};
///
/// static RECORDS: SwapRecords = SwapRecords::new();
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ty = SwapType::new(0).unwrap();
/// RECORDS.swapon(ty, 1 << 20)?; // 4 GiB of swap
///
/// let (dying, parent) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
/// let entry = SwapEntry::new(ty, 4711).unwrap();
/// assert_eq!(RECORDS.record(entry, dying)?, None);
/// assert_eq!(RECORDS.lookup(entry), Some(dying));
///
/// assert_eq!(RECORDS.migrate(dying, parent), 1);
/// assert_eq!(RECORDS.cmpxchg(entry, parent, None)?, Exchange::Stored);
/// # Ok(())
/// # }
/// ```
pub struct SwapRecords<L = RawSpinLock> {
    files: [CachePadded<SwapFile<L>>; MAX_SWAPFILES],
    /// What the scan was told to use; `None`: what is fastest here.
    backend: Option<Backend>,
    pages: Pages,
}

/// What [`SwapRecords::cmpxchg`] did: a caller that does not look at it cannot know whether anything was
/// stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[must_use = "nothing was stored where it is a `Mismatch`"]
pub enum Exchange {
    /// The entry had the expected owner, and has the new one now.
    Stored,
    /// The entry had this owner instead, and keeps it.
    Mismatch(Option<MemcgId>),
}

impl SwapRecords {
    /// A table with all types off, with the crate's own spinlock.
    ///
    /// It is `const`, takes about 4 KiB and allocates nothing before the first [`swapon`](Self::swapon).
    #[must_use]
    pub const fn new() -> Self {
        Self::with_raw_mutex()
    }
}

impl<L: RawMutex> SwapRecords<L> {
    /// A table with all types off, with the lock of your choice: a `RawMutex` of
    /// [`lock::lock_api`](crate::lock), as the mutex of [`lock::parking_lot`](crate::lock), which is there
    /// with `std`.
    ///
    /// ```
    /// # #[cfg(feature = "std")] {
    /// use swap_records::SwapRecords;
    /// use swap_records::lock::parking_lot;
    ///
    /// static RECORDS: SwapRecords<parking_lot::RawMutex> = SwapRecords::with_raw_mutex();
    /// # }
    /// ```
    #[must_use]
    pub const fn with_raw_mutex() -> Self {
        Self {
            files: [const { CachePadded::new(SwapFile::new()) }; MAX_SWAPFILES],
            backend: None,
            pages: Pages::GLOBAL,
        }
    }

    /// Takes the memory of records from this source of pages, where the table takes pages: without the feature `std`.
    /// Otherwise, and before this, it is [`GlobalPages`](crate::GlobalPages). Before the first [`swapon`](Self::swapon):
    /// what was taken elsewhere by then goes back there. See [`PageSource`] for an example.
    #[must_use]
    pub const fn with_page_source(mut self, source: &'static dyn PageSource) -> Self {
        self.set_pages(source);
        self
    }

    pub(crate) const fn set_pages(&mut self, source: &'static dyn PageSource) {
        self.pages = Pages::of(source);
    }

    #[cfg(all(feature = "std", not(swap_records_loom)))]
    pub(crate) fn pages(&self) -> Pages {
        self.pages
    }

    /// Makes the scan use this backend, for tests and comparisons; where it is not available on this
    /// machine, the portable one is used. Without this, it is [`Backend::detect`].
    #[must_use]
    pub const fn with_backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }
}

impl<L> SwapRecords<L> {
    /// The backend that the scan uses.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match self.backend {
            Some(backend) if backend.is_available() => backend,
            Some(_) => Backend::PORTABLE,
            None => Backend::detect(),
        }
    }

    #[inline]
    pub(crate) fn file(&self, ty: SwapType) -> &SwapFile<L> {
        &self.files[usize::from(ty.get())]
    }

    /// The types that are on, lowest first.
    pub(crate) fn all_on(&self) -> impl Iterator<Item = (SwapType, On<'_, L>)> {
        SwapType::all().filter_map(|ty| Some((ty, self.file(ty).on()?)))
    }

    /// How many pages the type was turned on with; `None` while it is off.
    #[must_use]
    pub fn max_pages(&self, ty: SwapType) -> Option<u64> {
        let on = self.file(ty).on()?;
        on.is_still_on().then_some(on.max_pages())
    }

    /// The owner of this slot; `None` where it has no record, lies outside of its swapfile, or its type
    /// is off.
    ///
    /// Takes no lock and never waits: a relaxed load of the entry. It sees the last write that
    /// happened before it, or a later one; a caller that must know which needs an order of its own, as
    /// the kernel has by the lock of the page.
    #[must_use]
    #[inline]
    pub fn lookup(&self, ent: SwapEntry) -> Option<MemcgId> {
        MemcgId::new(self.file(ent.swap_type()).lookup(ent.offset()))
    }
}

impl<L: RawMutex> SwapRecords<L> {
    /// Turns a type on, with `max_pages` slots and no records.
    ///
    /// Costs address space, 2.5 bytes a page of the next power of two, and a byte of memory for the lock
    /// of each [`REGION_ENTRIES`] pages: 64 KiB, and microseconds, for 8 TiB of swap. The rest of the
    /// memory follows the records.
    ///
    /// Without `std` it takes no address space, and a byte for each lock, the notes of ids that share a counter (8.5 KiB), and 8
    /// bytes for each 2 GiB of swap: 9.6 KB for 1 GiB of swap, 21 KB for 1 TiB, 108 KB for 8 TiB. Records take pages when
    /// their slots are first written: see [`PageSource`].
    ///
    /// A process that locks its memory (`mlockall` with `MCL_FUTURE`) should do so with `MCL_ONFAULT`. Without it, the
    /// kernel makes all of that address space resident here, 2.5 bytes per page of swap: 1.25 GiB for 2 TiB. Either way all
    /// of it counts against `RLIMIT_MEMLOCK`, where the process has one, and `swapon` is refused above that.
    ///
    /// # Errors
    ///
    /// [`SwaponError`]: the type is on (or another thread is turning it on or off), `max_pages` is 0 or
    /// more than an address space holds, or the system refuses.
    pub fn swapon(&self, ty: SwapType, max_pages: u64) -> Result<(), SwaponError> {
        check_pages(ty, max_pages)?;
        match self.file(ty).swapon(max_pages, self.pages) {
            Ok(true) => Ok(()),
            Ok(false) => Err(SwaponError::TypeOn { ty }),
            Err(refused) => Err(SwaponError::OutOfMemory {
                ty,
                max_pages,
                bytes: refused.bytes,
            }),
        }
    }

    /// Turns a type off, drops its records and gives their number.
    ///
    /// Waits for each lock of the swapfile once. Operations that are under way on the type end or fail
    /// with [`EntryError::TypeOff`]; none of them writes once this has returned, also where the
    /// type is turned on again. The address space stays for the next swapon of this type and size.
    ///
    /// With `std` on Linux the memory goes back to the system, which takes microseconds to milliseconds; so does memory
    /// that is locked (`mlock`, `mlockall`), from Linux 5.18 on. Everywhere else what has a record is cleared, which
    /// costs a visit to each region that has any. Memory that had records then stays with the table; memory that had
    /// none is not written to. Without `std`, all pages of the type are cleared and stay for its next swapon of this size, until
    /// [`trim_pages`](Self::trim_pages).
    ///
    /// A lock of your own may unwind ([`lock_api`] allows it). Then the type is on again with all its records, and this
    /// may be called again. Operations that ran meanwhile may have been refused as by a swapoff; a range may have been
    /// written in part.
    ///
    /// # Errors
    ///
    /// [`EntryError::TypeOff`] if the type is off, or another thread is turning it on or off.
    pub fn swapoff(&self, ty: SwapType) -> Result<u64, EntryError> {
        self.file(ty)
            .swapoff()
            .ok_or(EntryError::TypeOff { ty, offset: None })
    }

    /// Makes `id` the owner of this slot. Gives the owner that it had.
    ///
    /// # Errors
    ///
    /// [`EntryError`]: the type is off, or the slot lies past its end; without `std`, there is no page for it. Nothing is
    /// written.
    #[inline]
    pub fn record(&self, ent: SwapEntry, id: MemcgId) -> Result<Option<MemcgId>, EntryError> {
        self.set(ent, id.get())
    }

    /// Takes the record of this slot away. Gives the owner that it had.
    ///
    /// # Errors
    ///
    /// [`EntryError`]: the type is off, or the slot lies past its end. Nothing is written.
    #[inline]
    pub fn clear(&self, ent: SwapEntry) -> Result<Option<MemcgId>, EntryError> {
        self.set(ent, 0)
    }

    /// Makes `new` the owner of this slot if `old` is. `None` stands for "no record" on either side.
    ///
    /// ```
    /// # use swap_records::{Exchange, MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let (a, b) = (MemcgId::new(1).unwrap(), MemcgId::new(2).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 100).unwrap();
    /// let entry = SwapEntry::new(ty, 99).unwrap();
    /// assert_eq!(records.cmpxchg(entry, None, a), Ok(Exchange::Stored));
    /// assert_eq!(records.cmpxchg(entry, b, None), Ok(Exchange::Mismatch(Some(a))));
    /// assert_eq!(records.lookup(entry), Some(a));
    /// ```
    ///
    /// # Errors
    ///
    /// [`EntryError`]: the type is off, or the slot lies past its end; without `std`, there is no page for `new`. Nothing is
    /// written.
    #[inline]
    pub fn cmpxchg(
        &self,
        ent: SwapEntry,
        old: impl Into<Option<MemcgId>>,
        new: impl Into<Option<MemcgId>>,
    ) -> Result<Exchange, EntryError> {
        let (old, new) = (to_raw(old.into()), to_raw(new.into()));
        match self.cmpxchg_raw(ent, old, new)? {
            owner if owner == old => Ok(Exchange::Stored),
            owner => Ok(Exchange::Mismatch(MemcgId::new(owner))),
        }
    }

    #[inline]
    fn set(&self, ent: SwapEntry, new: u16) -> Result<Option<MemcgId>, EntryError> {
        let on = self.on(ent)?;
        match try_set(&on, ent, new, |_| true) {
            Some(old) => Ok(MemcgId::new(old)),
            None => self.set_slow(ent, new, on.generation()),
        }
    }

    #[cold]
    #[inline(never)]
    fn set_slow(
        &self,
        ent: SwapEntry,
        new: u16,
        generation: u64,
    ) -> Result<Option<MemcgId>, EntryError> {
        let on = self.on_of(ent, generation)?;
        make(&on, ent, new)?;
        let old = at(&on, ent, |region, position| region.set(position, new))?;
        Ok(MemcgId::new(old))
    }

    #[inline]
    fn cmpxchg_raw(&self, ent: SwapEntry, old: u16, new: u16) -> Result<u16, EntryError> {
        let on = self.on(ent)?;
        match try_set(&on, ent, new, |owner| owner == old) {
            Some(owner) => Ok(owner),
            None => self.cmpxchg_slow(ent, old, new, on.generation()),
        }
    }

    #[cold]
    #[inline(never)]
    fn cmpxchg_slow(
        &self,
        ent: SwapEntry,
        old: u16,
        new: u16,
        generation: u64,
    ) -> Result<u16, EntryError> {
        let on = self.on_of(ent, generation)?;
        let (offset, _) = locate(&on, ent, 1)?;
        // Only what is going to be written takes memory.
        if new != 0 && !on.has(offset, new) {
            let owner = at(&on, ent, |region, position| Some(region.get(position)))?;
            if owner != old {
                return Ok(owner);
            }
            make(&on, ent, new)?;
        }
        at(&on, ent, |region, position| {
            region.cmpxchg(position, old, new)
        })
    }

    /// The swapfile that an operation works on from now to its end, whatever comes after it under the type.
    #[inline]
    pub(crate) fn on(&self, ent: SwapEntry) -> Result<On<'_, L>, EntryError> {
        self.file(ent.swap_type()).on().ok_or_else(|| off(ent))
    }

    /// The swapfile that `on` gave, by its generation: handed on itself it would be written to memory on the usual
    /// way, too.
    fn on_of(&self, ent: SwapEntry, generation: u64) -> Result<On<'_, L>, EntryError> {
        let on = self.on(ent)?;
        if on.generation() == generation {
            Ok(on)
        } else {
            Err(off(ent))
        }
    }

    /// These slots of the swapfile that is on now.
    #[inline]
    pub(crate) fn span(&self, start: SwapEntry, nr: u64) -> Result<Span<'_, L>, EntryError> {
        Span::new(self.on(start)?, start, nr)
    }
}

/// Whether a swapfile may have so many pages.
pub(crate) fn check_pages(ty: SwapType, max_pages: u64) -> Result<(), SwaponError> {
    if max_pages == 0 {
        return Err(SwaponError::NoPages { ty });
    }
    if max_pages > MAX_PAGES {
        return Err(SwaponError::TooLarge {
            ty,
            max_pages,
            limit: MAX_PAGES,
        });
    }
    Ok(())
}

/// Makes `new` the owner of this slot if the one it has is `wanted`. Gives that one; `None`, with
/// nothing written, where it takes more than the usual: see `Region::try_set`.
#[inline(always)]
fn try_set<L: RawMutex>(
    on: &On<'_, L>,
    ent: SwapEntry,
    new: u16,
    wanted: impl FnOnce(u16) -> bool,
) -> Option<u16> {
    on.try_set(usize::try_from(ent.offset()).ok()?, new, wanted)
}

/// Does `work` on the entry, at its position in its region, under the region's lock. What it takes is made.
fn at<L: RawMutex, R>(
    on: &On<'_, L>,
    ent: SwapEntry,
    work: impl FnOnce(&Region<'_, L>, usize) -> Option<R>,
) -> Result<R, EntryError> {
    let (offset, _) = locate(on, ent, 1)?;
    let region = on.lock_of(offset).ok_or_else(|| off(ent))?;
    work(&region, position(ent)).ok_or_else(|| off(ent))
}

/// Makes what this entry takes to be written with this id.
fn make<L: RawMutex>(on: &On<'_, L>, ent: SwapEntry, new: u16) -> Result<(), EntryError> {
    let (offset, end) = locate(on, ent, 1)?;
    on.make(offset..end, new)
        .map_err(|refused| no_memory(on, ent, refused))
}

/// Of a swapfile that is gone, nothing can be made: its successor may have no such slot.
#[cold]
pub(crate) fn no_memory<L>(on: &On<'_, L>, ent: SwapEntry, refused: Refused) -> EntryError {
    if !on.is_still_on() {
        return off(ent);
    }
    EntryError::OutOfMemory {
        start: ent,
        nr: 1,
        bytes: refused.bytes,
    }
}

/// Of the entry in its region.
#[inline]
fn position(ent: SwapEntry) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is what counts"
    )]
    {
        ent.offset() as usize % REGION_ENTRIES
    }
}

#[cold]
pub(crate) fn off(ent: SwapEntry) -> EntryError {
    EntryError::TypeOff {
        ty: ent.swap_type(),
        offset: Some(ent.offset()),
    }
}

impl<L: RawMutex> Default for SwapRecords<L> {
    fn default() -> Self {
        Self::with_raw_mutex()
    }
}

/// Writes the types that are on and their sizes.
impl<L> fmt::Debug for SwapRecords<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (ty, on) in self.all_on() {
            map.entry(&ty.get(), &format_args!("{} pages", on.max_pages()));
        }
        map.finish()
    }
}
