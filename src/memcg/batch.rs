//! Records anywhere that are freed together.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::in_hand::Sums;
use super::shard::Stock;
use crate::batch::{Batch, Nobody, Window};
use crate::entry::SwapEntry;
use crate::id::MemcgId;
use crate::sync::Ordering;

impl<L: RawMutex> Memcgs<L> {
    /// Takes the records of these slots away, and uncharges whoever owns them at that moment: memsw and the swap
    /// statistic. The slots may lie anywhere, in several swapfiles and in any order, as those of a process that exits do.
    /// Slots without a record are left alone. Gives how many records there were. Needs no memory.
    ///
    /// Calls `each` with every slot that had a record, and its owner, in the order of the slice, as
    /// [`clear_batch`](crate::SwapRecords::clear_batch) does. `each` is called with no lock held, and may use the tree.
    /// Nobody waits for it: by then, the owner may be gone.
    ///
    /// ```
    /// # use swap_records::memcg::Memcgs;
    /// # use swap_records::{SwapEntry, SwapType};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ty = SwapType::new(0).unwrap();
    /// let memcgs = Memcgs::new();
    /// memcgs.swapon(ty, 1 << 20)?;
    /// let memcg = memcgs.create(memcgs.root())?;
    /// memcgs.charge(memcg, 3)?;
    /// let slots = [4711, 29, 300_000].map(|offset| SwapEntry::new(ty, offset).unwrap());
    /// for slot in slots {
    ///     memcgs.swap_out(memcg, slot, 1)?;
    /// }
    /// assert_eq!(memcgs.free_swap_batch(&slots, |_, _| ())?, 3);
    /// assert_eq!(memcgs.usage(memcg)?.swap, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// That of [`clear_batch`](crate::SwapRecords::clear_batch), and for each 64 slots the lock of a shard, under which
    /// each of their owners is uncharged about once. `css_free`, `css_offline` and `swapoff` wait for 64 slots at most, each of
    /// which may wait for the lock of a region.
    ///
    /// # Errors
    ///
    /// [`Entry`](MemcgError::Entry), which names the slot: its type is off, or it lies past the end of its swapfile; then
    /// nothing has changed. Where another thread turns a type off meanwhile, nothing is lost: that thread uncharges the
    /// records of its type that this call passes over, and all slots of other types are freed. The error names the first slot
    /// that was passed over; `each` was told about all that this call uncharged.
    ///
    /// # Panics
    ///
    /// If `each` does, or a lock. What was freed by then is uncharged, told or not.
    pub fn free_swap_batch(
        &self,
        slots: &[SwapEntry],
        mut each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<u64, MemcgError> {
        let mut batch = Batch::new(&self.records, slots, Nobody)?;
        let mut window = Window::new();
        let mut freed = 0;
        while !batch.is_empty() {
            // An owner that has lost a record must be there until it is uncharged. So this is done once a window, and
            // not once a batch: css_free waits for the section.
            {
                let _section = self.grace.section();
                let unsettled = Freed::new(self, slots, &mut window);
                batch.set(unsettled.window);
                unsettled.settle();
            }
            for (slot, owner) in window.owners::<Nobody>(slots) {
                freed += 1;
                each(slot, owner);
            }
        }
        batch.end()?;
        Ok(freed)
    }
}

/// Slots of a window that were freed, and whose owners are not uncharged yet: [`Unsettled`](super::in_hand::Unsettled)
/// for slots of several types.
struct Freed<'a, 'w, L: RawMutex> {
    memcgs: &'a Memcgs<L>,
    slots: &'w [SwapEntry],
    window: &'w mut Window,
    settled: bool,
}

impl<'a, 'w, L: RawMutex> Freed<'a, 'w, L> {
    /// For what will be in `window`.
    fn new(memcgs: &'a Memcgs<L>, slots: &'w [SwapEntry], window: &'w mut Window) -> Self {
        window.clear();
        let settled = false;
        Self {
            memcgs,
            slots,
            window,
            settled,
        }
    }

    /// Takes from all owners what they lost. In the section in which the slots were written.
    fn settle(mut self) {
        if self.owners().next().is_none() {
            return;
        }
        let memcgs = self.memcgs;
        let mut shard = memcgs.shards.here();
        for (slot, _) in self.owners() {
            shard.add_records(slot.swap_type(), -1);
        }
        self.each_owner(|id, part| memcgs.put_at(&mut shard, id, part));
        self.settled = true;
        drop(shard);
    }

    fn owners(&self) -> impl Iterator<Item = (SwapEntry, MemcgId)> {
        self.window.owners::<Nobody>(self.slots)
    }

    fn each_owner(&self, mut tell: impl FnMut(MemcgId, Stock)) {
        let mut lost = |(id, nr): (MemcgId, u64)| {
            let lost = Stock {
                memsw: nr,
                slots: nr,
                swap: -nr.cast_signed(),
                ..Stock::default()
            };
            tell(id, lost);
        };
        let mut sums = Sums::default();
        for (_, id) in self.owners() {
            if let Some(sum) = sums.add(id, 1) {
                lost(sum);
            }
        }
        sums.into_iter().for_each(lost);
    }
}

impl<L: RawMutex> Drop for Freed<'_, '_, L> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        for (slot, _) in self.owners() {
            let adrift = &self.memcgs.adrift[usize::from(slot.swap_type().get())];
            adrift.fetch_sub(1, Ordering::Relaxed);
        }
        self.each_owner(|id, part| self.memcgs.settle(id, part));
    }
}
