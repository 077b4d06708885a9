//! Swaps pages out to slots that lie anywhere with one call: [`Memcgs::swap_out_batch`].

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::in_hand::{Charge, Pages, Sums};
use super::shard::Stock;
use super::slot::{Slot, State};
use crate::batch::{Batch, Same, Window};
use crate::entry::SwapEntry;
use crate::id::MemcgId;
use crate::sync::Ordering;

impl<L: RawMutex> Memcgs<L> {
    /// Swaps out one page of the cgroup to each of these slots: memory shrinks, memsw stays, swap grows, and
    /// the slots get records.
    ///
    /// The slots may lie anywhere, in several swapfiles and in any order, like the slots of an allocator
    /// whose swapfile has been in use for a while. Otherwise the call does the same as
    /// [`swap_out`](Self::swap_out).
    ///
    /// Returns the cgroup that owns the records: `memcg`, or its first online ancestor if `memcg` is offline.
    /// With the feature `std` it allocates nothing. If a slot occurs twice, it gets one record for two pages,
    /// as if it had been freed in between.
    ///
    /// ```
    /// # use swap_records::memcg::Memcgs;
    /// # use swap_records::{SwapEntry, SwapType};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ty = SwapType::new(0).unwrap();
    /// let memcgs = Memcgs::new();
    /// memcgs.swapon(ty, 1 << 20)?;
    /// let memcg = memcgs.create(memcgs.root())?;
    /// memcgs.charge(memcg, 5)?;
    /// let slots = [4711, 29, 300_000].map(|offset| SwapEntry::new(ty, offset).unwrap());
    /// assert_eq!(memcgs.swap_out_batch(memcg, &slots)?, memcg);
    /// let usage = memcgs.usage(memcg)?;
    /// assert_eq!((usage.own, usage.swap), (2, 3));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cost
    ///
    /// The cost of [`record_batch`](crate::SwapRecords::record_batch), a look at each slot before that, and
    /// the lock of a shard per window. A window is up to 64 slots that lie close together in one region, or up
    /// to 32 slots that lie anywhere. `css_free`, `css_offline` and `swapoff` wait for one window at most. Each
    /// of its slots may wait for the lock of a region.
    ///
    /// # Slices of several windows
    ///
    /// The slots are checked, the pages taken and swap is charged before anything is written. Until the call
    /// returns, `css_free` refuses the cgroup as [`Busy`](MemcgError::Busy). If the cgroup goes offline
    /// meanwhile, it owns the slots written so far. Its online ancestor owns the rest, and the call returns
    /// this ancestor.
    ///
    /// # Errors
    ///
    /// As for [`swap_out`](Self::swap_out). [`Entry`](MemcgError::Entry) and
    /// [`Occupied`](MemcgError::Occupied) name the first slot that is refused.
    ///
    /// A call that is refused has changed nothing, with one exception. If another thread turns one of the
    /// swapfiles off meanwhile, pages were swapped out to the slots that come before the slot in the error.
    /// All other pages are in memory.
    pub fn swap_out_batch(&self, memcg: Memcg, slots: &[SwapEntry]) -> Result<Memcg, MemcgError> {
        let slot = self.slot(memcg)?;
        if slot.state_of(memcg) == State::Free {
            return Err(MemcgError::Gone { memcg });
        }
        let mut batch = Batch::new(&self.records, slots, Same(memcg.id().get()))?;
        let taken = |&entry: &SwapEntry| Some((entry, self.records.lookup(entry)?));
        if let Some((entry, owner)) = slots.iter().find_map(taken) {
            return Err(MemcgError::Occupied { entry, owner });
        }
        let (mut in_hand, mut kept) = (None, false);
        let mut window = Window::new();
        loop {
            let owner = self.section_while_live(memcg, |slot| {
                // No swapfile of the slots that are left in the window is turned off before this section
                // ends.
                batch.stop_before(|ty, on| self.is_stopping_swapfile(ty, on.generation()))?;
                let (pages, charge) = match &mut in_hand {
                    Some(in_hand) => in_hand,
                    none => none.insert(self.take_for(memcg, slot, slots.len())?),
                };
                charge.rise();
                batch.set_work(Same(charge.id.get()));
                let owner = self
                    .slots
                    .get(charge.id)
                    .and_then(|slot| slot.memcg(charge.id));
                let out = Out::new(self, slots, &mut window, pages, charge);
                let set = batch.set_or_stop(out.window);
                out.settle();
                if !batch.is_empty() && !kept {
                    pages.keep();
                    kept = true;
                }
                set?;
                owner.ok_or(MemcgError::Gone { memcg })
            })?;
            if batch.is_empty() {
                return Ok(owner);
            }
        }
    }

    /// Takes pages of the cgroup, and charges swap for their records. The caller is in a section in which the
    /// cgroup exists.
    fn take_for<'a>(
        &'a self,
        memcg: Memcg,
        slot: &'a Slot,
        nr: usize,
    ) -> Result<(Pages<'a>, Charge<'a, L>), MemcgError> {
        let nr = nr as u64;
        let mut pages = Pages::none(memcg.id(), slot);
        self.take(memcg, slot, nr, Stock::default(), false, || pages.nr = nr)?;
        let charge = self.charge_slots(memcg, nr)?;
        Ok((pages, charge))
    }
}

/// Slots of a window that were written, but that are not in the counters of their old and new owners yet. The
/// same as [`Unsettled`](super::in_hand::Unsettled), for slots of several types.
struct Out<'a, 'w, L: RawMutex> {
    memcgs: &'a Memcgs<L>,
    slots: &'w [SwapEntry],
    window: &'w mut Window,
    pages: &'w mut Pages<'a>,
    charge: &'w mut Charge<'a, L>,
    settled: bool,
}

impl<'a, 'w, L: RawMutex> Out<'a, 'w, L> {
    /// Returns a guard for the slots that will be in `window`.
    fn new(
        memcgs: &'a Memcgs<L>,
        slots: &'w [SwapEntry],
        window: &'w mut Window,
        pages: &'w mut Pages<'a>,
        charge: &'w mut Charge<'a, L>,
    ) -> Self {
        window.clear();
        let settled = false;
        Self {
            memcgs,
            slots,
            window,
            pages,
            charge,
            settled,
        }
    }

    /// Makes records of the pages. The caller is in the section in which the slots were written.
    fn settle(mut self) {
        let memcgs = self.memcgs;
        let mut shard = memcgs.shards.here();
        for slot in self.window.written(self.slots) {
            shard.add_records(slot.swap_type(), 1);
        }
        for (slot, _) in self.window.owners::<Same>(self.slots) {
            shard.add_records(slot.swap_type(), -1);
        }
        self.each_owner(|id, part| memcgs.put_at(&mut shard, id, part));
        self.end();
        drop(shard);
    }

    fn nr(&self) -> u64 {
        self.window.written(self.slots).len() as u64
    }

    fn each_owner(&self, mut tell: impl FnMut(MemcgId, Stock)) {
        let came = Stock {
            memory: self.nr(),
            swap: self.nr().cast_signed(),
            ..Stock::default()
        };
        tell(self.charge.id, came);
        // Owners of slots that were checked to have none: another thread has written there since, or the slot
        // occurs twice.
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
        for (_, id) in self.window.owners::<Same>(self.slots) {
            if let Some(sum) = sums.add(id, 1) {
                lost(sum);
            }
        }
        sums.into_iter().for_each(lost);
    }

    fn end(&mut self) {
        let nr = self.nr();
        self.pages.nr -= nr;
        self.charge.swap -= nr;
        // From the owner upwards, its stock has the memory, and memsw stays. Below it, both are uncharged.
        let (from, to) = (self.pages.id, self.charge.id);
        self.memcgs.uncharge_path(from, Some(to), nr, nr, 0);
        self.settled = true;
    }
}

impl<L: RawMutex> Drop for Out<'_, '_, L> {
    fn drop(&mut self) {
        if self.settled || self.nr() == 0 {
            return;
        }
        let adrift = |slot: SwapEntry| &self.memcgs.adrift[usize::from(slot.swap_type().get())];
        for &slot in self.window.written(self.slots) {
            adrift(slot).fetch_add(1, Ordering::Relaxed);
        }
        for (slot, _) in self.window.owners::<Same>(self.slots) {
            adrift(slot).fetch_sub(1, Ordering::Relaxed);
        }
        self.each_owner(|id, part| self.memcgs.settle(id, part));
        self.end();
    }
}
