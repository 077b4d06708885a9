//! [`SwapRecords`]: the table of all swap types, and the operations on one slot.

use core::fmt;

use crossbeam_utils::CachePadded;
use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType};
use crate::error::{EntryError, SwaponError};
use crate::id::{MemcgId, to_raw};
use crate::pages::{PageSource, Pages};
use crate::region::{REGION_ENTRIES, Region};
use crate::scan::Backend;
use crate::span::{Span, locate, make};
use crate::swapfile::{On, SwapFile};
use crate::sync::RawSpinLock;

/// The highest number of pages that a swapfile can have: what an entry and an index of the address space can
/// address.
pub(crate) const MAX_PAGES: u64 = if usize::BITS >= 64 {
    SwapEntry::MAX_OFFSET + 1
} else {
    1 << 29
};

/// Tracks which memory cgroup owns each page slot of up to 32 swapfiles.
///
/// All operations except [`trim_pages`](Self::trim_pages) take `&self` and may be called from any number of
/// threads. `L` is the lock of a region of [`REGION_ENTRIES`] slots: the crate's own [`RawSpinLock`], or any
/// `lock_api::RawMutex`.
///
/// A lock of your own may panic. The operation that called the lock then panics, too: before or after the
/// work on a region, never within. The table stays valid. What was written before the panic stays written.
///
/// # Examples
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
/// let (child, parent) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
/// let entry = SwapEntry::new(ty, 4711).unwrap();
/// assert_eq!(RECORDS.record(entry, child)?, None);
/// assert_eq!(RECORDS.lookup(entry), Some(child));
///
/// assert_eq!(RECORDS.migrate(child, parent), 1);
/// assert_eq!(RECORDS.cmpxchg(entry, parent, None)?, Exchange::Stored);
/// # Ok(())
/// # }
/// ```
pub struct SwapRecords<L = RawSpinLock> {
    files: [CachePadded<SwapFile<L>>; MAX_SWAPFILES],
    /// The backend that the scan was told to use. `None` stands for the fastest one of this machine.
    backend: Option<Backend>,
    pages: Pages,
}

/// The result of [`SwapRecords::cmpxchg`]. Callers must look at it to know whether anything was stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[must_use = "nothing was stored if it is a `Mismatch`"]
pub enum Exchange {
    /// The entry had the expected owner. It has the new one now.
    Stored,
    /// The entry has this owner, which is not the expected one. Nothing was stored.
    Mismatch(Option<MemcgId>),
}

impl SwapRecords {
    /// Creates a table with all types off and with the crate's own spinlock.
    ///
    /// The function is `const`, and allocates nothing. The table takes about 4 KiB before the first
    /// [`swapon`](Self::swapon).
    #[must_use]
    pub const fn new() -> Self {
        Self::with_raw_mutex()
    }
}

impl<L: RawMutex> SwapRecords<L> {
    /// Creates a table with all types off and with a lock of your choice.
    ///
    /// The lock is any type that implements `RawMutex` of [`lock::lock_api`](crate::lock), for example the
    /// mutex of [`lock::parking_lot`](crate::lock), which needs the feature `std`.
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

    /// Takes the memory of records from this source of pages, where the table is made of pages: without the
    /// feature `std`.
    ///
    /// The default is [`GlobalPages`](crate::GlobalPages). Call this before the first
    /// [`swapon`](Self::swapon): a type that was on before keeps its source for swapfiles of the same size.
    /// See [`PageSource`] for an example.
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

    /// Makes the scan use this backend, for tests and comparisons.
    ///
    /// If the backend is not available on this machine, the portable one is used. The default is
    /// [`Backend::detect`].
    #[must_use]
    pub const fn with_backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }
}

impl<L> SwapRecords<L> {
    /// Returns the backend that the scan uses.
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

    /// Returns the types that are on, lowest first.
    pub(crate) fn all_on(&self) -> impl Iterator<Item = (SwapType, On<'_, L>)> {
        SwapType::all().filter_map(|ty| Some((ty, self.file(ty).on()?)))
    }

    /// Returns the number of pages that the type was turned on with, or `None` while the type is off.
    #[must_use]
    pub fn max_pages(&self, ty: SwapType) -> Option<u64> {
        let on = self.file(ty).on()?;
        on.is_still_on().then_some(on.max_pages())
    }

    /// Returns the owner of this slot.
    ///
    /// Returns `None` if the slot has no record, lies outside of its swapfile, or its type is off.
    ///
    /// # Ordering
    ///
    /// A relaxed load of the entry. It takes no lock and never waits. It sees the last write that happened
    /// before it, or a later one. To know which, a caller needs an order of its own; the kernel has the lock
    /// of the page.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let (ty, id) = (SwapType::new(0).unwrap(), MemcgId::new(1).unwrap());
    /// let records = SwapRecords::new();
    /// let entry = SwapEntry::new(ty, 99).unwrap();
    /// assert_eq!(records.lookup(entry), None); // the type is off
    /// records.swapon(ty, 100).unwrap();
    /// records.record(entry, id).unwrap();
    /// assert_eq!(records.lookup(entry), Some(id));
    /// ```
    #[must_use]
    #[inline]
    pub fn lookup(&self, ent: SwapEntry) -> Option<MemcgId> {
        MemcgId::new(self.file(ent.swap_type()).lookup(ent.offset()))
    }
}

impl<L: RawMutex> SwapRecords<L> {
    /// Turns a type on, with `max_pages` slots and no records.
    ///
    /// # Examples
    ///
    /// ```
    /// use swap_records::{SwapRecords, SwapType, SwaponError};
    ///
    /// let ty = SwapType::new(0).unwrap();
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1 << 20)?; // 4 GiB of swap
    /// assert_eq!(records.max_pages(ty), Some(1 << 20));
    /// assert_eq!(records.swapon(ty, 100), Err(SwaponError::TypeOn { ty }));
    /// # Ok::<(), SwaponError>(())
    /// ```
    ///
    /// # Cost
    ///
    /// With the feature `std`, it reserves 2.5 bytes of address space per page, for the next power of two of
    /// pages. It takes memory for the locks of its regions, of [`REGION_ENTRIES`] pages each. With locks of one
    /// byte, that is 64 bytes per region for up to 64 regions, 4 KiB for up to 4096 regions, and 1 byte per
    /// region from there on. For 8 TiB of swap, it takes 64 KiB and microseconds. Further memory becomes resident as
    /// slots are recorded.
    ///
    /// Without `std`, it reserves no address space. It takes one byte per lock, the notes of ids that share a
    /// counter (8.5 KiB), and 8 bytes per 2 GiB of swap. That is 9.4 KB for 1 GiB of swap, 21 KB for 1 TiB,
    /// and 107 KB for 8 TiB. Records take pages when their slots are first written: see [`PageSource`].
    ///
    /// # Locked memory
    ///
    /// A process that calls `mlockall` with `MCL_FUTURE` should add `MCL_ONFAULT`. Without `MCL_ONFAULT`, the
    /// kernel makes all of the address space resident, 2.5 bytes per page of swap: 1.25 GiB for 2 TiB. In
    /// both cases, all of it counts against `RLIMIT_MEMLOCK`. If the process has such a limit, `swapon` fails
    /// above it.
    ///
    /// # Errors
    ///
    /// Returns a [`SwaponError`] if
    ///
    /// - the type is on, or another thread is turning it on, turning it off or trimming it
    ///   ([`TypeOn`](SwaponError::TypeOn)),
    /// - `max_pages` is 0 ([`NoPages`](SwaponError::NoPages)), or more than an entry or the address space can
    ///   hold ([`TooLarge`](SwaponError::TooLarge)), or
    /// - the system or the allocator refuses the memory ([`OutOfMemory`](SwaponError::OutOfMemory)).
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

    /// Turns a type off, drops its records and returns their number.
    ///
    /// Waits for each lock of the swapfile once. Concurrent operations on the type finish or fail with
    /// [`EntryError::TypeOff`]. None of them writes after this call has returned, even if the type is turned
    /// on again.
    ///
    /// # Examples
    ///
    /// ```
    /// use swap_records::{EntryError, MemcgId, SwapEntry, SwapRecords, SwapType};
    ///
    /// let (ty, id) = (SwapType::new(0).unwrap(), MemcgId::new(1).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 100).unwrap();
    /// records.record_range(SwapEntry::new(ty, 10).unwrap(), 5, id).unwrap();
    /// assert_eq!(records.swapoff(ty), Ok(5));
    /// assert_eq!(records.swapoff(ty), Err(EntryError::TypeOff { ty, offset: None }));
    /// ```
    ///
    /// # Cost
    ///
    /// - With `std` on Linux, the memory goes back to the system, in microseconds to milliseconds. Memory
    ///   that is locked (`mlock`, `mlockall`) goes back from Linux 5.18 on.
    /// - With `std` elsewhere, and for locked memory before Linux 5.18, each region that has records is
    ///   cleared. Its memory stays with the table. Memory that had no records is not written to.
    /// - Without `std`, all pages of the type are cleared. They stay for the next swapon of this type and
    ///   size, until [`trim_pages`](Self::trim_pages).
    ///
    /// The address space always stays for the next swapon of this type and size.
    ///
    /// # Errors
    ///
    /// Returns [`EntryError::TypeOff`] if the type is off, or if another thread is turning it on or off.
    ///
    /// # Panics
    ///
    /// Panics if a lock panics, which [`lock_api`] allows. The type is then on again with all its records,
    /// and this may be called again. Concurrent operations may have failed with `TypeOff`; a range may have
    /// been written in part.
    pub fn swapoff(&self, ty: SwapType) -> Result<u64, EntryError> {
        self.file(ty)
            .swapoff()
            .ok_or(EntryError::TypeOff { ty, offset: None })
    }

    /// Makes `id` the owner of this slot. Returns its previous owner, or `None` if it had no record.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let (a, b) = (MemcgId::new(1).unwrap(), MemcgId::new(2).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 100).unwrap();
    /// let entry = SwapEntry::new(ty, 99).unwrap();
    /// assert_eq!(records.record(entry, a), Ok(None));
    /// assert_eq!(records.record(entry, b), Ok(Some(a)));
    /// ```
    ///
    /// # Ordering
    ///
    /// The entry is written under its region's lock, with acquire and release. A later operation on the
    /// region that takes the lock sees the write; a [`lookup`](Self::lookup) that happens after this call
    /// sees it, too.
    ///
    /// # Cost
    ///
    /// One lock, and writes of the entry and of two cells of the index.
    ///
    /// # Errors
    ///
    /// Returns an [`EntryError`] if the type is off, the slot lies past the end of the swapfile, or, without
    /// `std`, there is no page for the slot. Nothing is then written.
    #[inline]
    pub fn record(&self, ent: SwapEntry, id: MemcgId) -> Result<Option<MemcgId>, EntryError> {
        self.exchange(ent, None, id.get()).map(MemcgId::new)
    }

    /// Removes the record of this slot. Returns the owner that it had, or `None` if it had no record.
    ///
    /// Ordering and cost are those of [`record`](Self::record). Allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let (ty, id) = (SwapType::new(0).unwrap(), MemcgId::new(1).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 100).unwrap();
    /// let entry = SwapEntry::new(ty, 99).unwrap();
    /// records.record(entry, id).unwrap();
    /// assert_eq!(records.clear(entry), Ok(Some(id)));
    /// assert_eq!(records.clear(entry), Ok(None));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an [`EntryError`] if the type is off, or the slot lies past the end of the swapfile. Nothing
    /// is then written.
    #[inline]
    pub fn clear(&self, ent: SwapEntry) -> Result<Option<MemcgId>, EntryError> {
        self.exchange(ent, None, 0).map(MemcgId::new)
    }

    /// Makes `new` the owner of this slot if `old` owns it. `None` stands for "no record" on both sides.
    ///
    /// Ordering and cost are those of [`record`](Self::record).
    ///
    /// # Examples
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
    /// Returns an [`EntryError`] if the type is off, the slot lies past the end of the swapfile, or, without
    /// `std`, there is no page for `new`. Nothing is then written.
    #[inline]
    pub fn cmpxchg(
        &self,
        ent: SwapEntry,
        old: impl Into<Option<MemcgId>>,
        new: impl Into<Option<MemcgId>>,
    ) -> Result<Exchange, EntryError> {
        let (old, new) = (to_raw(old.into()), to_raw(new.into()));
        match self.exchange(ent, Some(old), new)? {
            owner if owner == old => Ok(Exchange::Stored),
            owner => Ok(Exchange::Mismatch(MemcgId::new(owner))),
        }
    }

    /// Makes `new` the owner of this slot if `old` owns it, or if `old` is `None`. Returns the previous owner, or the
    /// present one if nothing was stored.
    #[inline]
    fn exchange(&self, ent: SwapEntry, old: Option<u16>, new: u16) -> Result<u16, EntryError> {
        let on = self.on(ent)?;
        match try_set(&on, ent, new, |owner| old.is_none_or(|old| owner == old)) {
            Some(owner) => Ok(owner),
            None => self.exchange_slow(ent, old, new, on.generation()),
        }
    }

    #[cold]
    #[inline(never)]
    fn exchange_slow(
        &self,
        ent: SwapEntry,
        old: Option<u16>,
        new: u16,
        generation: u64,
    ) -> Result<u16, EntryError> {
        let on = self.on_of(ent, generation)?;
        let (offset, _) = locate(&on, ent, 1)?;
        // A slot that is not going to be written must not take memory.
        if let Some(old) = old
            && new != 0
            && !on.has(offset, new)
        {
            let owner = at(&on, ent, |region, position| Some(region.get(position)))?;
            if owner != old {
                return Ok(owner);
            }
        }
        make(&on, ent, 1, new)?;
        at(&on, ent, |region, position| {
            region.exchange(position, old, new)
        })
    }

    /// Returns the swapfile that is on now. The operation works on this one until its end, even if the type
    /// is turned off and on again.
    #[inline]
    pub(crate) fn on(&self, ent: SwapEntry) -> Result<On<'_, L>, EntryError> {
        self.file(ent.swap_type()).on().ok_or_else(|| off(ent))
    }

    /// Returns the swapfile that `on` returned before, identified by its generation. Passing the `On` itself
    /// would write it to memory on the fast path, too.
    fn on_of(&self, ent: SwapEntry, generation: u64) -> Result<On<'_, L>, EntryError> {
        let on = self.on(ent)?;
        if on.generation() == generation {
            Ok(on)
        } else {
            Err(off(ent))
        }
    }

    /// Returns these slots of the swapfile that is on now.
    #[inline]
    pub(crate) fn span(&self, start: SwapEntry, nr: u64) -> Result<Span<'_, L>, EntryError> {
        Span::new(self.on(start)?, start, nr)
    }
}

/// Checks that a swapfile may have this many pages.
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

/// Makes `new` the owner of this slot if `wanted` accepts the owner that it has. Returns that owner. Returns
/// `None`, with nothing written, where the slot needs the slow path: see `Region::try_set`.
#[inline(always)]
fn try_set<L: RawMutex>(
    on: &On<'_, L>,
    ent: SwapEntry,
    new: u16,
    wanted: impl FnOnce(u16) -> bool,
) -> Option<u16> {
    on.try_set(usize::try_from(ent.offset()).ok()?, new, wanted)
}

/// Calls `work` with the entry's region, under the region's lock, and the entry's position in it. The memory
/// that the entry needs must have been made.
fn at<L: RawMutex, R>(
    on: &On<'_, L>,
    ent: SwapEntry,
    work: impl FnOnce(&Region<'_, L>, usize) -> Option<R>,
) -> Result<R, EntryError> {
    let (offset, _) = locate(on, ent, 1)?;
    let region = on.lock_of(offset).ok_or_else(|| off(ent))?;
    work(&region, position(ent)).ok_or_else(|| off(ent))
}

/// Returns the position of the entry in its region.
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

/// Writes the types that are on, and the number of pages of each.
impl<L> fmt::Debug for SwapRecords<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (ty, on) in self.all_on() {
            map.entry(&ty.get(), &format_args!("{} pages", on.max_pages()));
        }
        map.finish()
    }
}
