//! Pages in memory that are taken from a cgroup: out of the stock of the thread that frees them, or from
//! wherever they were charged.
//!
//! Pages are rarely freed by the thread that charged them. A thread whose shard has too few goes to the
//! shards that have some ([`Slot::holder`]), one after the other, and moves what is there to the cgroup's
//! slot: there it finds the pages of its next calls. A shard becomes a holder when a thread puts pages there,
//! and is none any more after a visit. So there are no more visits than calls that put pages somewhere,
//! however many shards there are.
//!
//! That a cgroup has too few pages is found out with the locks of all shards held. Pages move from a stock to
//! the slot and back under the lock of the stock's shard, so each of them is in a stock or in the slot then.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::shard::{BATCH, Held, SHARDS, Shards, Stock, here};
use super::slot::{Slot, State};
use crate::id::MemcgId;

impl<L: RawMutex> Memcgs<L> {
    /// Takes `nr` pages from those that the cgroup has in memory, and adds `then` to what is its own. Says that they
    /// are `taken` before the lock is freed, since that may unwind. `None`, with nothing done, where the cgroup is
    /// being freed and the caller can `wait`; a caller in a section that began before that need not.
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

    /// From the calling thread's stock, with what the slot has. Where that is too few, all of it is in the
    /// slot afterwards.
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

    /// From the slot, with what this shard has, which is in the slot afterwards: so the caller has it for its
    /// next calls.
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
        // A stock that is here is one that css_offline did not come to yet, if it comes. None is made.
        match shard.find(id) {
            Some(stock) => {
                stock.add(then);
                self.trim(id, stock);
            }
            None => self.settle(id, then),
        }
        true
    }

    /// From the shards that have pages of the cgroup, one after the other, until that is enough.
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
        // Each is a holder no more after the visit. Others may become one meanwhile, but not for ever.
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

    /// From all shards, with all locks: for a cgroup that has too few, and for a thread that others overtake
    /// all the time.
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

    /// What another thread charged. Its batch stays with it; the pages that nobody asked for are in the slot.
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
        // The next ones are here.
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

    /// A shard is a holder still whose stock was evicted. A visit makes no stock there.
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

    /// css_offline has not come to the shard of the pages yet: they are found, and no stock is made.
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

    /// A thread that may wait is told to; one in a section that css_free waits for must not wait.
    #[test]
    fn pages_of_a_cgroup_that_is_being_freed_are_for_who_began_before() {
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
