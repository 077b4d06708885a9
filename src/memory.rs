//! Makes memory ahead, and gives memory back: [`SwapRecords::reserve`], [`SwapRecords::trim_pages`].

use core::fmt;

use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType};
use crate::error::EntryError;
use crate::sync::RawSpinLock;
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Makes the memory that `nr` slots from `start` on take. Until the type is turned off, a record of any
    /// id in these slots never fails because this memory is missing.
    ///
    /// This is for callers that must not fail later, for example while memory is being reclaimed. With
    /// feature `std` there is nothing to make, and this function only checks the slots.
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1 << 20).unwrap();
    /// let cluster = SwapEntry::new(ty, 512).unwrap();
    /// records.reserve(cluster, 512).unwrap();
    /// // Takes no memory for the slots.
    /// records.record(cluster, MemcgId::new(7).unwrap()).unwrap();
    /// ```
    ///
    /// # Memory
    ///
    /// One page per [`CHUNK_ENTRIES`](crate::CHUNK_ENTRIES) slots, and three per 16 regions. The index of an
    /// id may take one more page per 16 regions when the id is first recorded there. If that page is refused,
    /// the id is still recorded. In that region, it is then counted together with other ids whose pages are
    /// missing:
    ///
    /// - A migration of the id scans the region, until a later record of the id there finds memory for the page.
    /// - [`count`](Self::count) scans all regions that may hold the id, until the type is turned off.
    ///
    /// # Errors
    ///
    /// [`EntryError`]: the type is off, the range ends past its last slot, or there is no memory. Pages that
    /// were made before the error stay.
    pub fn reserve(&self, start: SwapEntry, nr: u64) -> Result<(), EntryError> {
        let span = self.span(start, nr)?;
        span.reserve()?;
        // Memory of a swapfile that was turned off meanwhile does not serve the current one.
        if span.on().is_still_on() {
            Ok(())
        } else {
            Err(span.off())
        }
    }

    /// Gives back the pages that types keep for their next [`swapon`](Self::swapon) while they are off.
    /// Returns the number of pages.
    ///
    /// With feature `std` there are none: a swapoff gives its memory back at once.
    pub fn trim_pages(&mut self) -> u64 {
        // SAFETY: the table is borrowed exclusively, so no operation is under way.
        unsafe { self.begin_trim().finish() }
    }

    /// Begins a [`trim_pages`](Self::trim_pages) of a table that is shared, for example one in a `static`.
    ///
    /// Operations do not count their references to pages, which keeps [`lookup`](Self::lookup) cheap. So a
    /// trim has two steps. This function notes which types are off. Then the caller waits until all operations
    /// that began before have ended: in a kernel, for a grace period of RCU. [`Trim::finish`] frees the pages.
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// static RECORDS: SwapRecords = SwapRecords::new();
    /// RECORDS.swapon(ty, 1000).unwrap();
    /// RECORDS.record(SwapEntry::new(ty, 7).unwrap(), MemcgId::MIN).unwrap();
    /// RECORDS.swapoff(ty).unwrap();
    /// let trim = RECORDS.begin_trim();
    /// // A kernel waits for its readers here.
    /// // SAFETY: there is no other thread.
    /// let pages = unsafe { trim.finish() };
    /// assert!(pages > 0 || cfg!(feature = "std"));
    /// ```
    pub fn begin_trim(&self) -> Trim<'_, L> {
        let mut off = [0; MAX_SWAPFILES];
        for (ty, off) in SwapType::all().zip(&mut off) {
            *off = self.file(ty).generation();
        }
        Trim { table: self, off }
    }
}

/// The types of a table that were off when [`SwapRecords::begin_trim`] was called, and whose pages
/// [`finish`](Self::finish) frees.
///
/// It may be dropped instead. Then the types keep their pages.
#[must_use = "no page is freed before `finish`"]
pub struct Trim<'t, L = RawSpinLock> {
    table: &'t SwapRecords<L>,
    /// The generation of each type, which changes when the type is turned on or off.
    off: [u64; MAX_SWAPFILES],
}

impl<L: RawMutex> Trim<'_, L> {
    /// Gives back the pages of the types that were off when the trim began, and have been off since. Returns
    /// the number of pages.
    ///
    /// Types that were turned on or off in the meantime keep their pages, for the next trim. A type cannot be
    /// turned on while its pages are being freed ([`TypeOn`](crate::SwaponError::TypeOn)). This function takes
    /// no lock. Its time grows with the number of pages.
    ///
    /// # Safety
    ///
    /// Each operation of the table must either have ended before this call, or have begun after
    /// [`begin_trim`](SwapRecords::begin_trim) returned. "Before" and "after" mean *happens before*, which a
    /// grace period of RCU guarantees. For the table of a tree of cgroups, the operations of the tree count
    /// as well. Iterators and migrations may be kept: they are operations only while one of their methods
    /// runs.
    pub unsafe fn finish(self) -> u64 {
        // SAFETY: an operation that began after the generations were read finds these types off. The caller
        // promises that all others have ended.
        let trim = |(ty, off)| unsafe { self.table.file(ty).trim(off) };
        SwapType::all().zip(self.off).map(trim).sum()
    }
}

impl<L> fmt::Debug for Trim<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trim").finish_non_exhaustive()
    }
}
