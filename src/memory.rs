//! Memory that is made ahead, and memory that is given back: [`SwapRecords::reserve`], [`SwapRecords::trim_pages`].

use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType};
use crate::error::EntryError;
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Makes the memory that `nr` slots from `start` on take, so that to record them cannot fail for want of it, whatever the
    /// ids are, until the type is turned off.
    ///
    /// For callers that must not fail later, as when memory is being reclaimed. With feature `std` there is nothing
    /// to be made, and this only checks the slots.
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
    /// A page for each [`CHUNK_ENTRIES`](crate::CHUNK_ENTRIES) slots, and two for each 16 regions. The index of an id may take
    /// one more for each 16 regions when it is first recorded there. Where that is refused, the id is recorded all the
    /// same, and is counted together with others like it until there is memory: what is asked about it, and to hand its
    /// records over, costs a scan of the region.
    ///
    /// # Errors
    ///
    /// [`EntryError`]: the type is off, the range ends past its last slot, or there is no memory. What was made by then
    /// stays.
    pub fn reserve(&self, start: SwapEntry, nr: u64) -> Result<(), EntryError> {
        let span = self.span(start, nr)?;
        span.reserve()?;
        // What was made for a swapfile that is gone is not this one's.
        if span.on().is_still_on() {
            Ok(())
        } else {
            Err(span.off())
        }
    }

    /// Gives the pages back that types which are off keep for their next [`swapon`](Self::swapon). Gives the number of pages.
    ///
    /// With feature `std` there are none: a swapoff gives memory back at once.
    pub fn trim_pages(&mut self) -> u64 {
        // SAFETY: nobody else has the table, so no operation is under way.
        unsafe { self.trim_pages_after_grace() }
    }

    /// [`trim_pages`](Self::trim_pages) for a table that is shared, as one in a `static`.
    ///
    /// Operations take no reference to the pages that they read, so that a [`lookup`](Self::lookup) costs as little as it
    /// does. So it is the caller who knows when the last of them has ended: in a kernel, when a grace period of RCU has
    /// passed since the swapoff. Meanwhile, a type that is being trimmed cannot be turned on
    /// ([`TypeOn`](crate::SwaponError::TypeOn)). Takes no lock, and a time that grows with the number of pages.
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
    /// No operation of this table that began before the last [`swapoff`](Self::swapoff) of a type returned is still under way
    /// when this is called, and its end happens before this. Iterators and migrations may be kept: they
    /// are operations only while one of their methods runs. No swapoff returns between the wait for them and this call; what is
    /// turned off while this runs is left as it is.
    pub unsafe fn trim_pages_after_grace(&self) -> u64 {
        // First: nobody has waited for the operations of a type that is turned off while another one is trimmed.
        let mut off = [0; MAX_SWAPFILES];
        for (ty, off) in SwapType::all().zip(&mut off) {
            *off = self.file(ty).generation();
        }
        // SAFETY: the caller's promise.
        let trim = |(ty, off)| unsafe { self.file(ty).trim(off) };
        SwapType::all().zip(off).map(trim).sum()
    }
}
