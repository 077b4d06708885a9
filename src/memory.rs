//! Makes memory ahead, and gives memory back: [`SwapRecords::reserve`], [`SwapRecords::trim_pages`].

use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType};
use crate::error::EntryError;
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
        unsafe { self.trim_pages_after_grace() }
    }

    /// [`trim_pages`](Self::trim_pages) for a table that is shared, for example one in a `static`.
    ///
    /// Operations do not count their references to pages, which keeps [`lookup`](Self::lookup) cheap. So the
    /// caller must know that the last operation has ended: in a kernel, a grace period of RCU has passed
    /// since the swapoff. While a type is being trimmed, it cannot be turned on
    /// ([`TypeOn`](crate::SwaponError::TypeOn)). This function takes no lock. Its time grows with the number
    /// of pages.
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// static RECORDS: SwapRecords = SwapRecords::new();
    /// RECORDS.swapon(ty, 1000).unwrap();
    /// RECORDS.record(SwapEntry::new(ty, 7).unwrap(), MemcgId::MIN).unwrap();
    /// RECORDS.swapoff(ty).unwrap();
    /// // A kernel waits for its readers here.
    /// // SAFETY: there is no other thread.
    /// let pages = unsafe { RECORDS.trim_pages_after_grace() };
    /// assert!(pages > 0 || cfg!(feature = "std"));
    /// ```
    ///
    /// # Safety
    ///
    /// Each operation of this table that began before the last [`swapoff`](Self::swapoff) of a type returned
    /// must have ended, and its end must happen before this call. Iterators and migrations may be kept: they
    /// are operations only while one of their methods runs. No swapoff may return between the wait for these
    /// operations and this call. Types that are turned off during this call are left as they are.
    pub unsafe fn trim_pages_after_grace(&self) -> u64 {
        // First, since the caller has not waited for the operations of a type that is turned off while another one
        // is trimmed.
        let mut off = [0; MAX_SWAPFILES];
        for (ty, off) in SwapType::all().zip(&mut off) {
            *off = self.file(ty).generation();
        }
        // SAFETY: the caller's promise.
        let trim = |(ty, off)| unsafe { self.file(ty).trim(off) };
        SwapType::all().zip(off).map(trim).sum()
    }
}
