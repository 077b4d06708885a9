//! Frees slots that lie anywhere with one call: [`Memcgs::free_swap_batch`].

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::in_hand::Sums;
use super::shard::Stock;
use crate::batch::{Batch, NoOwner, Window};
use crate::entry::SwapEntry;
use crate::id::MemcgId;
use crate::sync::Ordering;

impl<L: RawMutex> Memcgs<L> {
    /// Frees these slots: clears their records, and uncharges memsw and swap of the cgroup that owns each of
    /// them at that moment. Slots without a record stay as they are.
    ///
    /// The slots may lie anywhere, in several swapfiles and in any order, like the slots of a process that
    /// exits. Returns the number of records that were cleared. It allocates nothing.
    ///
    /// Calls `each` with every slot that had a record and with its owner, in the order of the slice, as
    /// [`clear_batch`](crate::SwapRecords::clear_batch) does. `each` is called with no lock held, and may use
    /// the tree. The owner may have been freed by then, because `css_free` does not wait for `each`.
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
    /// The cost of [`clear_batch`](crate::SwapRecords::clear_batch), and the lock of a shard per window. A window
    /// is up to 64 slots that lie close together in one region, or up to 32 slots that lie anywhere. Under that
    /// lock, each owner of its slots is uncharged about once. `css_free`, `css_offline` and `swapoff` wait for
    /// one window at most. Each of its slots may wait for the lock of a region.
    ///
    /// # Errors
    ///
    /// [`Entry`](MemcgError::Entry) names the first slot whose type is off, or that lies past the end of its
    /// swapfile; nothing has changed then.
    ///
    /// If another thread turns a type off meanwhile, the call passes over the slots of that type, frees all
    /// other slots, and returns an error that names the first slot that it passed over. No charge is lost:
    /// `each` was called for all records that this call uncharged, and the other thread uncharges the records
    /// of its type.
    ///
    /// # Panics
    ///
    /// If `each` panics, or a lock of type `L` does. All records that were cleared by then are uncharged,
    /// including those that `each` was not called with.
    pub fn free_swap_batch(
        &self,
        slots: &[SwapEntry],
        mut each: impl FnMut(SwapEntry, MemcgId),
    ) -> Result<u64, MemcgError> {
        let mut batch = Batch::new(&self.records, slots, NoOwner)?;
        let mut window = Window::new();
        let mut freed = 0;
        while !batch.is_empty() {
            // An owner whose record is cleared must exist until it is uncharged, so both happen in one
            // section. A section ends after each window and not after the batch, because css_free waits for
            // it.
            {
                let _section = self.grace.section();
                let unsettled = Freed::new(self, slots, &mut window);
                batch.set(unsettled.window);
                unsettled.settle();
            }
            for (slot, owner) in window.owners::<NoOwner>(slots) {
                freed += 1;
                each(slot, owner);
            }
        }
        batch.end()?;
        Ok(freed)
    }
}

/// Slots of a window that were freed, but whose owners are not uncharged yet. The same as
/// [`Unsettled`](super::in_hand::Unsettled), for slots of several types.
struct Freed<'a, 'w, L: RawMutex> {
    memcgs: &'a Memcgs<L>,
    slots: &'w [SwapEntry],
    window: &'w mut Window,
    settled: bool,
}

impl<'a, 'w, L: RawMutex> Freed<'a, 'w, L> {
    /// Returns a guard for the slots that will be in `window`.
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

    /// Uncharges all owners. The caller is in the section in which the slots were cleared.
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
        self.window.owners::<NoOwner>(self.slots)
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
