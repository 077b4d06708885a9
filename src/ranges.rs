//! Ranges of slots: [`SwapRecords::record_range`], [`SwapRecords::clear_range`], and both with a callback.

use lock_api::RawMutex;

use crate::entry::{Run, SwapEntry};
use crate::error::EntryError;
use crate::id::MemcgId;
use crate::runs::Runs;
use crate::scan::Backend;
use crate::span::{Span, make};
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Makes `id` the owner of `nr` slots from `start` on. Gives the owners that they had.
    ///
    /// Each slot changes atomically; the range as a whole is no transaction: a lookup may see it in
    /// part, and other writers come between its regions. One lock, and one step of the index for each
    /// run of equal owners, serve up to [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots. No slots (`nr` = 0) change nothing, and
    /// may start at the end.
    ///
    /// ```
    /// # use swap_records::{MemcgId, Run, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let (a, b) = (MemcgId::new(1).unwrap(), MemcgId::new(2).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1000).unwrap();
    /// let start = SwapEntry::new(ty, 64).unwrap();
    /// assert!(records.record_range(start, 8, a).unwrap().is_empty());
    /// let had = records.record_range(start, 512, b).unwrap();
    /// assert_eq!(*had, [Run { start, len: 8, id: a }]);
    /// ```
    ///
    /// # Memory
    ///
    /// None where the range lies in one region and has one owner, or none; and none for up to 4 slots. Otherwise it asks
    /// for room for `nr` runs, the most that there can be, before anything is written: `size_of::<Run>()`, 24 bytes, for each slot, also
    /// where few slots or none have an owner. What was not needed is given back at the end. So a range of 2^30 slots
    /// asks for 24 GiB, and is refused where that cannot be had. Long ranges are for
    /// [`record_range_with`](Self::record_range_with) and [`clear_range_with`](Self::clear_range_with), which need no
    /// memory, whatever there is.
    ///
    /// # Errors
    ///
    /// [`EntryError`]: the type is off, the range ends past its last slot, or there is no memory for the owners; then
    /// nothing is written. Where another thread turns the type off meanwhile, what was written goes with it, and who
    /// owned it before is not told: that swapoff counts all of it as dropped.
    pub fn record_range(&self, start: SwapEntry, nr: u64, id: MemcgId) -> Result<Runs, EntryError> {
        self.set_range(start, nr, id.get())
    }

    /// Takes the records of `nr` slots from `start` on away. Gives the owners that they had, which is
    /// what a caller uncharges. As [`record_range`](Self::record_range) otherwise, also in the memory that it asks
    /// for by the number of slots. Long ranges are for [`clear_range_with`](Self::clear_range_with), which needs none.
    ///
    /// # Errors
    ///
    /// As for [`record_range`](Self::record_range).
    pub fn clear_range(&self, start: SwapEntry, nr: u64) -> Result<Runs, EntryError> {
        self.set_range(start, nr, 0)
    }

    /// Makes `id` the owner of `nr` slots from `start` on, and calls `each` with every [`Run`] of owners that they had,
    /// in the order of their offsets. Allocates nothing with feature `std`; without it, pages for slots that were never written,
    /// before the first of them is.
    ///
    /// Otherwise as [`record_range`](Self::record_range). `each` is called with no lock held, when the slots of the
    /// run have been written; it may use the table. Two runs that touch have different owners.
    ///
    /// ```
    /// # use swap_records::{MemcgId, Run, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let (a, b) = (MemcgId::new(1).unwrap(), MemcgId::new(2).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1000).unwrap();
    /// let start = SwapEntry::new(ty, 64).unwrap();
    /// records.record_range(start, 8, a).unwrap();
    /// let mut uncharged = 0;
    /// records.record_range_with(start, 512, b, |run| uncharged += run.len).unwrap();
    /// assert_eq!(uncharged, 8);
    /// ```
    ///
    /// # Errors
    ///
    /// [`EntryError`]: the type is off, the range ends past its last slot, or, without `std`, there are no pages for it; then
    /// nothing is written. Where another thread turns the type off meanwhile, `each` has been told about every slot that was written. The offset in the
    /// error is the first one that was not.
    ///
    /// # Panics
    ///
    /// If `each` does, or a lock. What was written by then stays; of runs that `each` was not called with, nothing is
    /// told.
    pub fn record_range_with(
        &self,
        start: SwapEntry,
        nr: u64,
        id: MemcgId,
        each: impl FnMut(Run),
    ) -> Result<(), EntryError> {
        self.set_range_with((start, nr), id.get(), each)
    }

    /// Takes the records of `nr` slots from `start` on away, and calls `each` with every [`Run`] of owners that they had:
    /// what a caller uncharges. As [`record_range_with`](Self::record_range_with) otherwise: it allocates nothing, so
    /// that swap can be freed when memory is short.
    ///
    /// Clears a record that was there when the call began, also if writers and migrations change its owner meanwhile.
    /// A region without a record is skipped if the range covers it whole; a skipped region costs the read of 2 bytes.
    ///
    /// # Errors
    ///
    /// As for [`record_range_with`](Self::record_range_with).
    ///
    /// # Panics
    ///
    /// As [`record_range_with`](Self::record_range_with).
    pub fn clear_range_with(
        &self,
        start: SwapEntry,
        nr: u64,
        each: impl FnMut(Run),
    ) -> Result<(), EntryError> {
        self.set_range_with((start, nr), 0, each)
    }

    #[inline]
    fn set_range_with(
        &self,
        range: (SwapEntry, u64),
        new: u16,
        each: impl FnMut(Run),
    ) -> Result<(), EntryError> {
        // Without std, for small text: one copy for all callbacks.
        #[cfg(not(feature = "std"))]
        let each: &mut dyn FnMut(Run) = &mut { each };
        self.set_range_told(range, new, each)
    }

    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn set_range_told(
        &self,
        (start, nr): (SwapEntry, u64),
        new: u16,
        mut each: impl FnMut(Run),
    ) -> Result<(), EntryError> {
        let (span, owner) = self.set_all(start, nr, new)?;
        let Some(owner) = owner else {
            return span.set_rest(self.backend(), new, each);
        };
        if let Some(id) = MemcgId::new(owner) {
            each(Run { start, len: nr, id });
        }
        Ok(())
    }

    #[cfg_attr(not(feature = "std"), inline(never))]
    fn set_range(&self, start: SwapEntry, nr: u64, new: u16) -> Result<Runs, EntryError> {
        match self.set_all(start, nr, new)? {
            (_, Some(owner)) => Ok(Runs::of(start, nr, owner)),
            (span, None) => Self::set_range_slow(span, self.backend(), (start, nr), new),
        }
    }

    /// Makes `new` the owner of all slots if they lie in one region and have one owner, and gives that one: 0 for none. Nothing is
    /// written, and nothing of the span is done, if they do not. A folio lies in one region, and mostly had one owner.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn set_all(
        &self,
        start: SwapEntry,
        nr: u64,
        new: u16,
    ) -> Result<(Span<'_, L>, Option<u16>), EntryError> {
        let mut span = self.span(start, nr)?;
        make(span.on(), start, nr, new)?;
        let owner = span.set_all(self.backend(), new)?;
        Ok((span, owner))
    }

    /// Region by region, and with any owners.
    #[inline(never)]
    fn set_range_slow(
        span: Span<'_, L>,
        backend: Backend,
        (start, nr): (SwapEntry, u64),
        new: u16,
    ) -> Result<Runs, EntryError> {
        // Before anything is written: afterwards it would be too late to refuse. And for all slots: what the index counts
        // now is no bound, since others may write until each region is locked.
        let refused = |bytes| EntryError::OutOfMemory { start, nr, bytes };
        let mut had = Runs::with_room(nr).map_err(refused)?;
        let each = &mut |run| had.push(run);
        #[cfg(not(feature = "std"))]
        let each: &mut dyn FnMut(Run) = each;
        span.set_rest(backend, new, each)?;
        had.fit();
        Ok(had)
    }
}
