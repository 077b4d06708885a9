//! Operations on ranges of slots: [`SwapRecords::record_range`], [`SwapRecords::clear_range`], and both with
//! a callback.

use lock_api::RawMutex;

use crate::entry::{Run, SwapEntry};
use crate::error::EntryError;
use crate::id::MemcgId;
use crate::runs::Runs;
use crate::scan::Backend;
use crate::span::{Span, make};
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Makes `id` the owner of `nr` slots from `start` on. Returns the previous owners, as runs.
    ///
    /// Each slot changes atomically. The range as a whole is not a transaction: a lookup may see it in part,
    /// and other threads may write between its regions. A range of 0 slots changes nothing, and may start at
    /// the end of the swapfile.
    ///
    /// # Examples
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
    /// # Cost
    ///
    /// Up to [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots share one hold of a lock. The index takes one
    /// step per run of equal owners.
    ///
    /// # Memory
    ///
    /// Allocates nothing for a range of up to 4 slots, or if the range lies in one region and all its slots
    /// have the same owner or all have none.
    ///
    /// Otherwise it allocates room for `nr` runs, the most that there can be, before it writes anything:
    /// `size_of::<Run>()`, 24 bytes, per slot, even if few slots have an owner. It returns the unused room at
    /// the end. A range of 2^30 slots asks for 24 GiB, and fails if they are refused. For long ranges, call
    /// [`record_range_with`](Self::record_range_with) or [`clear_range_with`](Self::clear_range_with), which
    /// need no memory for owners.
    ///
    /// # Errors
    ///
    /// Returns an [`EntryError`] if the type is off, the range ends past the last slot, or there is no
    /// memory. Nothing is then written.
    ///
    /// If another thread turns the type off during the call, the error is [`TypeOff`](EntryError::TypeOff).
    /// The slots that were written are dropped with the swapfile, and that swapoff counts them. Their
    /// previous owners are not reported.
    pub fn record_range(&self, start: SwapEntry, nr: u64, id: MemcgId) -> Result<Runs, EntryError> {
        self.set_range(start, nr, id.get())
    }

    /// Removes the records of `nr` slots from `start` on. Returns the owners that they had, as runs, so that
    /// a caller can uncharge them.
    ///
    /// Works as [`record_range`](Self::record_range) otherwise, and asks for the same memory. For long
    /// ranges, call [`clear_range_with`](Self::clear_range_with), which needs none.
    ///
    /// # Errors
    ///
    /// Returns an [`EntryError`] as [`record_range`](Self::record_range) does.
    pub fn clear_range(&self, start: SwapEntry, nr: u64) -> Result<Runs, EntryError> {
        self.set_range(start, nr, 0)
    }

    /// Makes `id` the owner of `nr` slots from `start` on, and calls `each` with every [`Run`] of previous
    /// owners.
    ///
    /// The runs come in the order of their offsets. Two runs that touch have different owners. `each` is
    /// called with no lock held, after the slots of the run have been written. It may use the table. Works as
    /// [`record_range`](Self::record_range) otherwise.
    ///
    /// # Memory
    ///
    /// With the feature `std`, allocates nothing. Without it, takes pages for slots that were never written,
    /// before the first slot is written.
    ///
    /// # Examples
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
    /// Returns an [`EntryError`] if the type is off, the range ends past the last slot, or, without `std`,
    /// there are no pages for the range. Nothing is then written.
    ///
    /// If another thread turns the type off during the call, the error is [`TypeOff`](EntryError::TypeOff),
    /// with the first offset that was not written. `each` has been called for every slot that was written and
    /// had an owner.
    ///
    /// # Panics
    ///
    /// Panics if `each` or a lock panics. Slots that were written by then stay written. Runs that `each` was
    /// not called with are not reported.
    pub fn record_range_with(
        &self,
        start: SwapEntry,
        nr: u64,
        id: MemcgId,
        each: impl FnMut(Run),
    ) -> Result<(), EntryError> {
        self.set_range_with((start, nr), id.get(), each)
    }

    /// Removes the records of `nr` slots from `start` on, and calls `each` with every [`Run`] of owners that
    /// they had, so that a caller can uncharge them.
    ///
    /// Allocates nothing, so swap can be freed when memory is short. Works as
    /// [`record_range_with`](Self::record_range_with) otherwise. A record that existed when the call began is
    /// cleared, even if writers and migrations change its owner during the call.
    ///
    /// # Cost
    ///
    /// As [`record_range`](Self::record_range). If the range covers a whole region that has no records, the
    /// region costs a read of 2 bytes.
    ///
    /// # Errors
    ///
    /// Returns an [`EntryError`] as [`record_range_with`](Self::record_range_with) does.
    ///
    /// # Panics
    ///
    /// Panics as [`record_range_with`](Self::record_range_with) does.
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
        // Without std, all callbacks share one copy of the code, which keeps the text small.
        #[cfg(not(feature = "std"))]
        let each: &mut dyn FnMut(Run) = &mut { each };
        self.set_range_each(range, new, each)
    }

    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn set_range_each(
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

    /// If all slots lie in one region and have one owner, makes `new` their owner, and returns the previous one: 0 for
    /// none. Otherwise writes nothing, and all of the span is left. A folio lies in one region, and mostly had one
    /// owner.
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

    /// Writes a range of several regions or several owners.
    #[inline(never)]
    fn set_range_slow(
        span: Span<'_, L>,
        backend: Backend,
        (start, nr): (SwapEntry, u64),
        new: u16,
    ) -> Result<Runs, EntryError> {
        // The room must be there before anything is written: afterwards it is too late to refuse. It must be
        // for all slots: the index cannot bound the number of runs, since other threads may write until each
        // region is locked.
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
