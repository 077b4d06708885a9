//! Operations on batches of slots, which may lie anywhere: [`SwapRecords::record_batch`],
//! [`SwapRecords::record_batch_ids`] and [`SwapRecords::clear_batch`].

use lock_api::RawMutex;

#[cfg(feature = "std")]
use crate::batch::NoOwner;
use crate::batch::{Batch, Each, Same, Window, Work};
use crate::entry::SwapEntry;
use crate::error::EntryError;
use crate::id::MemcgId;
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Makes `id` the owner of each of these slots, and calls `each` with every slot that had an owner, and
    /// that owner.
    ///
    /// The slots may lie anywhere, in several swapfiles and in any order. They change one by one, in the
    /// order of the slice. If a slot comes twice, its previous owner is `id` the second time. `each` is
    /// called in the same order, with no lock held, after the slot has been written. It may use the table.
    ///
    /// A batch is not a transaction: other threads may write between its slots, a lookup may see it in part,
    /// and a swapoff may end it.
    ///
    /// # Memory
    ///
    /// With the feature `std`, allocates nothing. Without it, takes pages for slots that were never written,
    /// before the first slot is written.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let (a, b) = (MemcgId::new(1).unwrap(), MemcgId::new(2).unwrap());
    /// let [first, second] = [0, 1].map(|ty| SwapType::new(ty).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(first, 1 << 20).unwrap();
    /// records.swapon(second, 1 << 20).unwrap();
    ///
    /// let slots = [(first, 4711), (second, 29), (first, 12)]
    ///     .map(|(ty, offset)| SwapEntry::new(ty, offset).unwrap());
    /// records.record(slots[1], a).unwrap();
    /// let mut had = Vec::new();
    /// records.record_batch(&slots, b, |slot, owner| had.push((slot, owner))).unwrap();
    /// assert_eq!(had, [(slots[1], a)]);
    /// assert_eq!(records.count(b), 3);
    /// ```
    ///
    /// # Cost
    ///
    /// A single slot costs its cache misses, one after the other. A batch works on a window at a time: up to 64
    /// slots that lie close together in one region, or up to 32 slots that lie anywhere. It prefetches all that
    /// a window needs before it takes the first lock, so that the misses overlap. Longer slices cost less per
    /// slot.
    ///
    /// Slots that follow each other in the slice and lie in the same region of
    /// [`REGION_ENTRIES`](crate::REGION_ENTRIES) share one hold of a lock, up to 64 of them. So slots in the
    /// order of their offsets, or cluster by cluster, cost least. Sorting a batch for that costs more than it
    /// gains.
    ///
    /// # Errors
    ///
    /// Returns an [`EntryError`], which names the slot, if the type of a slot is off, a slot lies past the
    /// end of its swapfile, or, without `std`, there is no page for a slot. The whole slice is checked first:
    /// nothing is then written.
    ///
    /// If another thread turns a type off during the call, the slots of that type that were not yet written
    /// are skipped. All slots of other types are written, so no call has to be repeated. The error is then
    /// [`TypeOff`](EntryError::TypeOff), with the first slot that was skipped. `each` has been called for
    /// every slot that was written and had an owner.
    ///
    /// # Panics
    ///
    /// Panics if `each` or a lock panics. Slots that were written by then stay written. `each` may not have
    /// been called for up to 64 slots that were written last.
    pub fn record_batch(
        &self,
        slots: &[SwapEntry],
        id: MemcgId,
        each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<(), EntryError> {
        self.set_batch(slots, Same(id.get()), each)
    }

    /// Makes each of these ids the owner of its slot, and calls `each` with every slot that had an owner, and
    /// that owner.
    ///
    /// Works as [`record_batch`](Self::record_batch) otherwise. If a slot comes twice, `each` gets the first
    /// id as the previous owner of the second, and the second one stays.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let (a, b) = (MemcgId::new(1).unwrap(), MemcgId::new(2).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1000).unwrap();
    /// let [x, y] = [7, 500].map(|offset| SwapEntry::new(ty, offset).unwrap());
    /// let mut had = Vec::new();
    /// let slots = [(x, a), (y, b), (x, b)];
    /// records.record_batch_ids(&slots, |slot, owner| had.push((slot, owner))).unwrap();
    /// assert_eq!(had, [(x, a)]);
    /// assert_eq!(records.lookup(x), Some(b));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an [`EntryError`] as [`record_batch`](Self::record_batch) does.
    ///
    /// # Panics
    ///
    /// Panics as [`record_batch`](Self::record_batch) does.
    pub fn record_batch_ids(
        &self,
        slots: &[(SwapEntry, MemcgId)],
        each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<(), EntryError> {
        self.set_batch(slots, Each, each)
    }

    /// Removes the records of these slots, and calls `each` with every slot that had an owner, and that
    /// owner, so that a caller can uncharge them.
    ///
    /// Allocates nothing, so a process that exits can free its swap when memory is short. Works as
    /// [`record_batch`](Self::record_batch) otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let a = MemcgId::new(1).unwrap();
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1000).unwrap();
    /// let slots = [900, 4, 30].map(|offset| SwapEntry::new(ty, offset).unwrap());
    /// records.record_batch(&slots[..2], a, |_, _| ()).unwrap();
    /// let mut uncharged = 0;
    /// records.clear_batch(&slots, |_, owner| uncharged += u64::from(owner == a)).unwrap();
    /// assert_eq!((uncharged, records.count(a)), (2, 0));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an [`EntryError`] as [`record_batch`](Self::record_batch) does.
    ///
    /// # Panics
    ///
    /// Panics as [`record_batch`](Self::record_batch) does.
    pub fn clear_batch(
        &self,
        slots: &[SwapEntry],
        each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<(), EntryError> {
        // Without std, this shares the code of `record_batch`, and all callbacks share one copy, which keeps
        // the text small.
        #[cfg(feature = "std")]
        let no_owner = NoOwner;
        #[cfg(not(feature = "std"))]
        let no_owner = Same(0);
        self.set_batch(slots, no_owner, each)
    }

    #[inline]
    fn set_batch<W: Work>(
        &self,
        items: &[W::Item],
        work: W,
        each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<(), EntryError> {
        #[cfg(not(feature = "std"))]
        let each: &mut dyn FnMut(SwapEntry, MemcgId) = &mut { each };
        self.set_batch_with(items, work, each)
    }

    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn set_batch_with<W: Work>(
        &self,
        items: &[W::Item],
        work: W,
        mut each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<(), EntryError> {
        let mut batch = Batch::new(self, items, work)?;
        let mut window = Window::new();
        while !batch.is_empty() {
            batch.set(&mut window);
            let owners = window.owners::<W>(items);
            owners.for_each(|(entry, id)| each(entry, id));
        }
        batch.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::WINDOW;
    use crate::entry::SwapType;
    use crate::region::REGION_ENTRIES;
    use crate::table::off;
    use alloc::vec::Vec;

    const TYPE: SwapType = SwapType::new(0).unwrap();
    const OTHER: SwapType = SwapType::new(1).unwrap();

    fn id(id: u16) -> MemcgId {
        MemcgId::new(id).unwrap()
    }

    fn entry(ty: SwapType, offset: usize) -> SwapEntry {
        SwapEntry::new(ty, offset as u64).unwrap()
    }

    /// Consecutive slots lie in different regions, so that no two of them share a lock, and in two types.
    #[test]
    fn a_batch_of_many_windows_reports_owners_slot_by_slot_in_order() {
        let table = SwapRecords::new();
        for ty in [TYPE, OTHER] {
            table.swapon(ty, 3 * REGION_ENTRIES as u64).unwrap();
        }
        let slots: Vec<_> = (0..3 * WINDOW + 5)
            .map(|n| {
                let ty = if n % 5 == 0 { OTHER } else { TYPE };
                (
                    entry(ty, n % 3 * REGION_ENTRIES + n),
                    id(1 + u16::try_from(n % 7).unwrap()),
                )
            })
            .collect();
        let reported = |slots: &[(SwapEntry, MemcgId)]| {
            let mut reported = Vec::new();
            let done = table.record_batch_ids(slots, |entry, id| reported.push((entry, id)));
            done.map(|()| reported)
        };
        assert_eq!(reported(&slots), Ok(Vec::new()));
        assert_eq!(reported(&slots), Ok(slots.clone()));
        table.validate().unwrap();
        let entries: Vec<_> = slots.iter().map(|&(entry, _)| entry).collect();
        let mut cleared = Vec::new();
        let each = |entry, id| cleared.push((entry, id));
        table.clear_batch(&entries, each).unwrap();
        assert_eq!(cleared, slots);
        assert_eq!(table.swapoff(TYPE), Ok(0));
        assert_eq!(table.swapoff(OTHER), Ok(0));
    }

    #[test]
    fn a_slot_that_comes_twice_reports_the_first_id_as_previous_owner() {
        let table = SwapRecords::new();
        table.swapon(TYPE, 100).unwrap();
        let at = entry(TYPE, 9);
        let counter_of_2 = id(2 + u16::try_from(crate::cell::COUNTERS).unwrap());
        let mut reported = Vec::new();
        let ids = [id(1), id(2), id(2), counter_of_2, id(1)];
        let slots = ids.map(|id| (at, id));
        table
            .record_batch_ids(&slots, |_, id| reported.push(id))
            .unwrap();
        assert_eq!(reported, ids[..4]);
        table.validate().unwrap();
        reported.clear();
        table
            .clear_batch(&[at, at], |_, id| reported.push(id))
            .unwrap();
        assert_eq!(reported, [id(1)]);
        table.validate().unwrap();
    }

    /// The bad slot is the last one of the last window.
    #[test]
    fn a_batch_with_a_bad_last_slot_writes_nothing() {
        let table = SwapRecords::new();
        let pages = WINDOW as u64 + 10;
        table.swapon(TYPE, pages).unwrap();
        let good = (0..2 * WINDOW).map(|n| entry(TYPE, n % WINDOW));
        let past = entry(TYPE, WINDOW + 10);
        let out = EntryError::OutOfRange {
            start: past,
            nr: 1,
            max_pages: pages,
        };
        for (last, error) in [(past, out), (entry(OTHER, 3), off(entry(OTHER, 3)))] {
            let slots: Vec<_> = good.clone().chain([last]).collect();
            let each = |_, _| panic!("nothing had an owner");
            assert_eq!(table.record_batch(&slots, id(1), each), Err(error));
            assert_eq!(table.clear_batch(&slots, each), Err(error));
            let with_ids: Vec<_> = slots.iter().map(|&slot| (slot, id(1))).collect();
            assert_eq!(table.record_batch_ids(&with_ids, each), Err(error));
            assert_eq!(table.count(id(1)), 0);
        }
    }
}
