//! Slots anywhere, many at once: [`SwapRecords::record_batch`], [`SwapRecords::record_batch_ids`] and
//! [`SwapRecords::clear_batch`].

use lock_api::RawMutex;

#[cfg(feature = "std")]
use crate::batch::Nobody;
use crate::batch::{Batch, Each, Same, Window, Work};
use crate::entry::SwapEntry;
use crate::error::EntryError;
use crate::id::MemcgId;
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Makes `id` the owner of each of these slots, and calls `each` with every slot that had an owner, and that owner.
    /// The slots may lie anywhere, in several swapfiles and in any order. Allocates nothing with feature `std`; without it,
    /// pages for slots that were never written, before the first of them is.
    ///
    /// Slots change one by one, in the order of the slice. One that comes twice has `id` the second time. `each` is
    /// called in that order too, with no lock held, when the slot has been written; it may use the table.
    ///
    /// A batch is no transaction: other writers come between its slots, a lookup may see it in part, and a swapoff may
    /// end it.
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
    /// A slot on its own costs its cache misses, one after the other. A batch goes through its slots 64 at a time, and
    /// asks for all that these need before it takes the first lock, so that their misses overlap. Slots that follow
    /// each other in the slice and lie in the same [`REGION_ENTRIES`](crate::REGION_ENTRIES) share one hold of a lock,
    /// up to 64 of them. So slots in the order of their offsets, or cluster by cluster, cost least; to sort a batch for
    /// that is not worth it. Longer slices cost less per slot.
    ///
    /// # Errors
    ///
    /// [`EntryError`], which names the slot: its type is off, or it lies past the end of its swapfile. The whole slice is
    /// looked at first; then nothing is written.
    ///
    /// Where another thread turns a type off meanwhile, its slots that have not been written by then are passed over: their
    /// records go with the swapfile. All slots of other types are written, so there is nothing to do again. The
    /// error is [`TypeOff`](EntryError::TypeOff) then, with the first slot that was passed over, and `each` has been told
    /// about every slot that was written.
    ///
    /// # Panics
    ///
    /// If `each` does, or a lock. What was written by then stays. Of up to 64 slots that were written last, `each` may
    /// not have been told.
    pub fn record_batch(
        &self,
        slots: &[SwapEntry],
        id: MemcgId,
        each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<(), EntryError> {
        self.set_batch(slots, Same(id.get()), each)
    }

    /// Makes the id beside each of these slots its owner. As [`record_batch`](Self::record_batch) otherwise. Of a slot that
    /// comes twice, `each` gets the first id as the second one's old owner, and the second one stays.
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
    /// As for [`record_batch`](Self::record_batch).
    ///
    /// # Panics
    ///
    /// As [`record_batch`](Self::record_batch).
    pub fn record_batch_ids(
        &self,
        slots: &[(SwapEntry, MemcgId)],
        each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<(), EntryError> {
        self.set_batch(slots, Each, each)
    }

    /// Takes the records of these slots away, and calls `each` with every slot that had an owner, and that owner: what a
    /// caller uncharges. As [`record_batch`](Self::record_batch) otherwise: it allocates nothing, so that a process that
    /// exits can free its swap when memory is short.
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
    /// As for [`record_batch`](Self::record_batch).
    ///
    /// # Panics
    ///
    /// As [`record_batch`](Self::record_batch).
    pub fn clear_batch(
        &self,
        slots: &[SwapEntry],
        each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<(), EntryError> {
        // Without std, for small text: as `record_batch`, and one copy for all callbacks.
        #[cfg(feature = "std")]
        let nobody = Nobody;
        #[cfg(not(feature = "std"))]
        let nobody = Same(0);
        self.set_batch(slots, nobody, each)
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

    /// A slot in each region in turn, so that no two neighbours share a lock, and two types.
    #[test]
    fn a_batch_of_many_windows_is_told_slot_by_slot_in_its_order() {
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
        let told = |slots: &[(SwapEntry, MemcgId)]| {
            let mut told = Vec::new();
            let done = table.record_batch_ids(slots, |entry, id| told.push((entry, id)));
            done.map(|()| told)
        };
        assert_eq!(told(&slots), Ok(Vec::new()));
        assert_eq!(told(&slots), Ok(slots.clone()));
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
    fn a_slot_that_comes_twice_has_what_it_got_the_first_time() {
        let table = SwapRecords::new();
        table.swapon(TYPE, 100).unwrap();
        let at = entry(TYPE, 9);
        let counter_of_2 = id(2 + u16::try_from(crate::cell::COUNTERS).unwrap());
        let mut told = Vec::new();
        let ids = [id(1), id(2), id(2), counter_of_2, id(1)];
        let slots = ids.map(|id| (at, id));
        table
            .record_batch_ids(&slots, |_, id| told.push(id))
            .unwrap();
        assert_eq!(told, ids[..4]);
        table.validate().unwrap();
        told.clear();
        table.clear_batch(&[at, at], |_, id| told.push(id)).unwrap();
        assert_eq!(told, [id(1)]);
        table.validate().unwrap();
    }

    /// The last slot of the last window is the one that is refused.
    #[test]
    fn a_batch_is_refused_whole_for_its_last_slot() {
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
