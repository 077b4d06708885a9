//! Takes pages in memory from a cgroup: from the stock of the thread that frees them, or from the shard where
//! they were charged.
//!
//! Pages are rarely freed by the thread that charged them. If a thread's shard and the cgroup's slot together
//! have too few, the thread visits the shards that have some ([`Slot::holder`]), one after the other. It
//! moves what is there to the cgroup's slot, where its next calls find the pages. A shard becomes a holder
//! when a thread puts pages there, and stops being one after a visit. So there are at most as many visits as
//! calls that put pages into a shard, for any number of shards.
//!
//! Whether a cgroup has too few pages is decided with the locks of all shards held. Pages move between a
//! stock and the slot under the lock of the stock's shard. So at that moment, each page is in a stock or in
//! the slot.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::shard::{BATCH, Held, SHARDS, Shards, Stock, here};
use super::slot::{Slot, State};
use crate::id::MemcgId;

impl<L: RawMutex> Memcgs<L> {
    /// Takes `nr` of the cgroup's pages in memory, and adds `then` to what the cgroup has. Calls `taken`
    /// before the lock is unlocked, since unlocking may unwind.
    ///
    /// If the cgroup is being freed and the caller may `wait`, returns `None` and does nothing. A caller in a
    /// section that began before that need not wait.
    #[inline]
    pub(super) fn take(
        &self,
        memcg: Memcg,
        slot: &Slot,
        nr: u64,
        then: Stock,
        wait: bool,
        taken: impl FnOnce(),
    ) -> Result<Option<()>, MemcgError> {
        {
            let mut shard = self.shards.here();
            let enough = match slot.state_of(memcg) {
                State::Online => self.take_from_stock(&mut shard, memcg.id(), slot, nr, then),
                State::Freeing if wait => return Ok(None),
                State::Offline | State::Freeing => {
                    self.take_from_slot(&mut shard, memcg.id(), slot, nr, then)
                }
                State::Free => return Err(MemcgError::Gone { memcg }),
            };
            if enough {
                taken();
                return Ok(Some(()));
            }
        }
        self.take_from_others(memcg, slot, nr, then, wait, taken)
    }

    /// Takes from the calling thread's stock, and from the slot what the stock lacks. If both have too few,
    /// moves all pages of the stock to the slot.
    #[inline]
    fn take_from_stock(
        &self,
        shard: &mut Held<'_, L>,
        id: MemcgId,
        slot: &Slot,
        nr: u64,
        then: Stock,
    ) -> bool {
        let at = shard.at;
        let stock = shard.stock(id, |id, stock| self.settle(id, stock));
        if stock.used < nr {
            let lacks = nr - stock.used;
            let Some(taken) = slot.take_used(lacks, lacks.saturating_add(BATCH)) else {
                shard.give_used(id, slot);
                return false;
            };
            stock.used += taken;
            stock.make_known(slot, at);
        }
        stock.used -= nr;
        stock.add(then);
        self.trim(id, stock);
        true
    }

    /// Moves this shard's pages to the slot, then takes from the slot. So the caller finds the rest there in
    /// its next calls.
    fn take_from_slot(
        &self,
        shard: &mut Held<'_, L>,
        id: MemcgId,
        slot: &Slot,
        nr: u64,
        then: Stock,
    ) -> bool {
        shard.give_used(id, slot);
        if slot.take_used(nr, nr).is_none() {
            return false;
        }
        // A stock is still here if css_offline has not visited this shard yet. No new one is made.
        match shard.find(id) {
            Some(stock) => {
                stock.add(then);
                self.trim(id, stock);
            }
            None => self.settle(id, then),
        }
        true
    }

    /// Takes from the shards that have pages of the cgroup, one after the other, until there are enough.
    #[cold]
    fn take_from_others(
        &self,
        memcg: Memcg,
        slot: &Slot,
        nr: u64,
        then: Stock,
        wait: bool,
        taken: impl FnOnce(),
    ) -> Result<Option<()>, MemcgError> {
        // A visited shard stops being a holder. Others may become holders meanwhile, so the visits are
        // limited.
        for _ in 0..SHARDS {
            let Some(at) = slot.holder(here()) else {
                break;
            };
            let mut shard = self.shards.at(at);
            match slot.state_of(memcg) {
                State::Free => return Err(MemcgError::Gone { memcg }),
                State::Freeing if wait => return Ok(None),
                State::Online | State::Offline | State::Freeing => {}
            }
            if self.take_from_slot(&mut shard, memcg.id(), slot, nr, then) {
                taken();
                return Ok(Some(()));
            }
        }
        self.take_exactly(memcg, slot, nr, then, wait, taken)
    }

    /// Takes from all shards, with all locks held: for a cgroup that has too few pages, and for a thread that
    /// other threads keep overtaking.
    #[cold]
    fn take_exactly(
        &self,
        memcg: Memcg,
        slot: &Slot,
        nr: u64,
        then: Stock,
        wait: bool,
        taken: impl FnOnce(),
    ) -> Result<Option<()>, MemcgError> {
        let mut all = self.shards.all();
        match slot.state_of(memcg) {
            State::Free => return Err(MemcgError::Gone { memcg }),
            State::Freeing if wait => return Ok(None),
            State::Online | State::Offline | State::Freeing => {}
        }
        let id = memcg.id();
        for shard in &mut all {
            shard.give_used(id, slot);
        }
        if !self.take_from_slot(Shards::here_in(&mut all), id, slot, nr, then) {
            let charged = slot.used();
            return Err(MemcgError::NotCharged { id, nr, charged });
        }
        taken();
        Ok(Some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pages were charged in another shard. What that shard charged ahead stays there. The pages that
    /// were not asked for are in the slot.
    #[test]
    fn pages_of_another_shard_are_taken_there_and_the_rest_is_at_hand() {
        let memcgs = Memcgs::new();
        let child = memcgs.create(memcgs.root()).unwrap();
        let slot = memcgs.slots.get(child.id()).unwrap();
        let root = memcgs.slots.get(memcgs.root().id()).unwrap();
        let other = (here() + 1) % SHARDS;
        for _ in 0..2 {
            let mut shard = memcgs.shards.at(other);
            assert!(memcgs.charge_from_stock(&mut shard, child.id(), slot, 50));
        }
        let charged = root.memory.usage();
        assert_eq!((slot.used(), slot.holder(0)), (0, Some(other)));
        assert_eq!(memcgs.uncharge(child, 30), Ok(()));
        assert_eq!((slot.used(), slot.holder(0)), (70, None));
        assert_eq!(root.memory.usage(), charged);
        let stock = |at: usize| memcgs.shards.at(at).find(child.id()).copied();
        let there = stock(other).unwrap();
        assert_eq!((there.used, there.memory), (0, 30 + BATCH));
        // The next pages are taken from here.
        assert_eq!(memcgs.uncharge(child, 1), Ok(()));
        assert_eq!((slot.used(), stock(here()).unwrap().used), (0, 69));
        assert_eq!(slot.holder(0), Some(here()));
        let too_few = MemcgError::NotCharged {
            id: child.id(),
            nr: 70,
            charged: 69,
        };
        assert_eq!(memcgs.uncharge(child, 70), Err(too_few));
        assert_eq!(memcgs.uncharge(child, 69), Ok(()));
        assert_eq!(memcgs.usage(child).unwrap().memory, 0);
        memcgs.validate().unwrap();
    }

    /// The stock was evicted, but its shard is still a holder. A visit makes no stock there.
    #[test]
    fn a_holder_whose_stock_is_gone_is_forgotten() {
        let memcgs = Memcgs::new();
        let child = memcgs.create(memcgs.root()).unwrap();
        let slot = memcgs.slots.get(child.id()).unwrap();
        let other = (here() + 1) % SHARDS;
        let mut shard = memcgs.shards.at(other);
        assert!(memcgs.charge_from_stock(&mut shard, child.id(), slot, 5));
        memcgs.settle_all(&mut shard, None);
        drop(shard);
        assert_eq!((slot.used(), slot.holder(0)), (5, Some(other)));
        assert!(memcgs.uncharge(child, 6).is_err());
        assert_eq!((slot.used(), slot.holder(0)), (5, None));
        assert_eq!(memcgs.shards.at(other).stocks().count(), 0);
        assert_eq!(memcgs.uncharge(child, 5), Ok(()));
        memcgs.validate().unwrap();
    }

    /// css_offline has not visited the shard of the pages yet. The pages are found, and no stock is made.
    #[test]
    fn pages_of_a_cgroup_that_is_going_offline_are_found_in_stocks() {
        let memcgs = Memcgs::new();
        let child = memcgs.create(memcgs.root()).unwrap();
        let slot = memcgs.slots.get(child.id()).unwrap();
        let other = (here() + 1) % SHARDS;
        {
            let mut shard = memcgs.shards.at(other);
            assert!(memcgs.charge_from_stock(&mut shard, child.id(), slot, 5));
        }
        slot.set_state(State::Offline);
        assert_eq!(memcgs.uncharge(child, 2), Ok(()));
        assert_eq!(memcgs.shards.here().stocks().count(), 0);
        assert_eq!(memcgs.shards.at(other).stocks().count(), 1);
        assert_eq!(slot.used(), 3);
        assert_eq!(memcgs.uncharge(child, 3), Ok(()));
        let _ = memcgs.css_offline(child, 0).unwrap();
        assert_eq!(memcgs.usage(child).unwrap().memory, 0);
        assert_eq!(slot.memory.usage(), 0);
    }

    /// A thread that may wait is told to. A thread in a section that css_free waits for must not wait.
    #[test]
    fn pages_of_a_cgroup_that_is_being_freed_are_taken_only_in_sections_that_began_before() {
        let memcgs = Memcgs::new();
        let child = memcgs.create(memcgs.root()).unwrap();
        let slot = memcgs.slots.get(child.id()).unwrap();
        memcgs.charge(child, 3).unwrap();
        let _ = memcgs.css_offline(child, 0).unwrap();
        slot.set_state(State::Freeing);
        let none = Stock::default();
        let take = |nr, wait| memcgs.take(child, slot, nr, none, wait, || ());
        let take_exactly = |nr, wait| memcgs.take_exactly(child, slot, nr, none, wait, || ());
        assert_eq!((take(1, true), take_exactly(1, true)), (Ok(None), Ok(None)));
        assert_eq!(slot.used(), 3);
        assert_eq!(take(1, false), Ok(Some(())));
        assert_eq!(take_exactly(1, false), Ok(Some(())));
        assert_eq!(slot.used(), 1);
        slot.set_state(State::Free);
        let gone = Err(MemcgError::Gone { memcg: child });
        assert_eq!((take(1, false), take_exactly(1, false)), (gone, gone));
    }
}
