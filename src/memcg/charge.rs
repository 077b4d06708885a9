//! Charges: pages in memory, and the counters of a cgroup and its ancestors.

use lock_api::RawMutex;

use super::error::MemcgError;
use super::handle::Memcg;
use super::shard::{BATCH, SHARDS, Shard, Stock};
use super::slot::{Slot, State};
use super::{Backoff, Memcgs};
use crate::id::MemcgId;

impl<L: RawMutex> Memcgs<L> {
    /// Charges `nr` pages in memory to the cgroup and all its ancestors: memory and memsw.
    ///
    /// Most calls take a lock that few other threads use, and no other shared memory. One for each 256
    /// pages walks up to the root, and more where a limit is near. One that finds a limit in the way takes
    /// back what the shards keep before it is refused.
    ///
    /// # Errors
    ///
    /// [`OverLimit`](MemcgError::OverLimit), and then nobody is charged;
    /// [`Offline`](MemcgError::Offline), [`Gone`](MemcgError::Gone).
    #[inline]
    pub fn charge(&self, memcg: Memcg, nr: u64) -> Result<(), MemcgError> {
        self.charge_to(nr, || Ok((memcg.id(), self.online(memcg)?)))
            .map(|_| ())
    }

    /// Takes the charge of `nr` pages in memory back: memory and memsw, of the cgroup and all its
    /// ancestors. Offline, too. Costs what [`charge`](Self::charge) does.
    ///
    /// # Errors
    ///
    /// [`NotCharged`](MemcgError::NotCharged) where the cgroup itself, without its children, has fewer
    /// pages in memory; [`Gone`](MemcgError::Gone).
    #[inline]
    pub fn uncharge(&self, memcg: Memcg, nr: u64) -> Result<(), MemcgError> {
        let freed = Stock {
            memory: nr,
            memsw: nr,
            ..Stock::default()
        };
        self.wait_while_freeing(memcg, |slot| {
            self.take(memcg, slot, nr, freed, true, || ()).transpose()
        })
    }

    /// The slot of a cgroup that is there, or was.
    #[inline]
    pub(super) fn slot(&self, memcg: Memcg) -> Result<&Slot, MemcgError> {
        self.slots.get(memcg.id()).ok_or(MemcgError::Gone { memcg })
    }

    /// The slot of a cgroup that takes charges.
    #[inline]
    pub(super) fn online(&self, memcg: Memcg) -> Result<&Slot, MemcgError> {
        let slot = self.slot(memcg)?;
        match slot.state_of(memcg) {
            State::Online => Ok(slot),
            State::Offline | State::Freeing => Err(MemcgError::Offline { id: memcg.id() }),
            State::Free => Err(MemcgError::Gone { memcg }),
        }
    }

    /// Does `work` on the cgroup until it gives an answer; it gives `None` where it found that the cgroup is
    /// being freed. No lock is held and no section is open between two attempts.
    #[inline]
    fn wait_while_freeing<'a, R>(
        &'a self,
        memcg: Memcg,
        mut work: impl FnMut(&'a Slot) -> Option<Result<R, MemcgError>>,
    ) -> Result<R, MemcgError> {
        let slot = self.slot(memcg)?;
        let backoff = Backoff::new();
        loop {
            if let Some(done) = work(slot) {
                return done;
            }
            // Not by trying again: that takes the lock of a shard, and css_free is waiting for it.
            while slot.state_of(memcg) == State::Freeing {
                backoff.snooze();
            }
        }
    }

    /// Does `work` in a section that began when the cgroup was there: so it is until `work` is done.
    pub(super) fn section_while_live<'a, R>(
        &'a self,
        memcg: Memcg,
        mut work: impl FnMut(&'a Slot) -> Result<R, MemcgError>,
    ) -> Result<R, MemcgError> {
        self.wait_while_freeing(memcg, |slot| {
            let _section = self.grace.section();
            match slot.state_of(memcg) {
                State::Online | State::Offline => Some(work(slot)),
                State::Freeing => None,
                State::Free => Some(Err(MemcgError::Gone { memcg })),
            }
        })
    }

    /// Charges `nr` pages to the cgroup that `target` gives under a lock, which is online.
    #[inline]
    pub(super) fn charge_to<'a>(
        &'a self,
        nr: u64,
        target: impl Fn() -> Result<(MemcgId, &'a Slot), MemcgError>,
    ) -> Result<MemcgId, MemcgError> {
        {
            let mut shard = self.shards.here();
            let (id, _) = target()?;
            if self.charge_from_stock(&mut shard, id, nr) {
                return Ok(id);
            }
        }
        self.charge_exactly(nr, target)
    }

    #[inline]
    fn charge_from_stock(&self, shard: &mut Shard, id: MemcgId, nr: u64) -> bool {
        let stock = shard.stock(id, |id, stock| self.settle(id, stock));
        if (stock.memory < nr || stock.memsw < nr) && !self.refill(id, stock, nr) {
            return false;
        }
        stock.memory -= nr;
        stock.memsw -= nr;
        stock.used += nr;
        self.trim(id, stock);
        true
    }

    /// Charges as much as the stock lacks for `nr` pages, and some more.
    ///
    /// How much more is for the limits to say: where one is near, so little that the shards do not keep the
    /// most of what it leaves from each other. They are not asked twice, so this goes by what the last
    /// refill found, and the first one takes nothing ahead.
    #[cold]
    fn refill(&self, id: MemcgId, stock: &mut Stock, nr: u64) -> bool {
        let ahead = if nr <= BATCH { stock.ahead } else { 0 };
        let lacks = |has: u64| {
            if has < nr { nr - has + ahead } else { 0 }
        };
        let (memory, memsw) = (lacks(stock.memory), lacks(stock.memsw));
        let Ok(room) = self.try_charge_path(id, None, memory, memsw) else {
            stock.ahead = 0;
            return false;
        };
        stock.memory += memory;
        stock.memsw += memsw;
        stock.ahead = BATCH.min(room / (4 * SHARDS as u64));
        true
    }

    /// With what all shards have given back, and while they have nothing.
    #[cold]
    fn charge_exactly<'a>(
        &'a self,
        nr: u64,
        target: impl Fn() -> Result<(MemcgId, &'a Slot), MemcgError>,
    ) -> Result<MemcgId, MemcgError> {
        let mut all = self.shards.all();
        let (id, slot) = target()?;
        for shard in &mut all {
            self.settle_all(shard, None);
        }
        self.try_charge_path(id, None, nr, nr)?;
        slot.add_used(nr);
        Ok(id)
    }

    /// Takes `nr` pages from those that the cgroup has in memory, and adds `then` to what is its own. Says that they
    /// are `taken` before the lock is freed. `None`, with nothing done, where it is being freed and the caller can
    /// `wait`; who is in a section that began before that need not.
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
            match slot.state_of(memcg) {
                State::Online => {
                    if self.take_from_stock(&mut shard, memcg.id(), slot, nr, then) {
                        taken();
                        return Ok(Some(()));
                    }
                }
                State::Freeing if wait => return Ok(None),
                State::Offline | State::Freeing => {
                    if slot.take_used(nr, nr).is_some() {
                        self.settle(memcg.id(), then);
                        taken();
                        return Ok(Some(()));
                    }
                }
                State::Free => return Err(MemcgError::Gone { memcg }),
            }
        }
        self.take_exactly(memcg, slot, nr, then, wait, taken)
    }

    #[inline]
    fn take_from_stock(
        &self,
        shard: &mut Shard,
        id: MemcgId,
        slot: &Slot,
        nr: u64,
        then: Stock,
    ) -> bool {
        let stock = shard.stock(id, |id, stock| self.settle(id, stock));
        if stock.used < nr {
            let lacks = nr - stock.used;
            let Some(taken) = slot.take_used(lacks, lacks.saturating_add(BATCH)) else {
                return false;
            };
            stock.used += taken;
        }
        stock.used -= nr;
        stock.add(then);
        self.trim(id, stock);
        true
    }

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
            self.settle_all(shard, Some(id));
        }
        if slot.take_used(nr, nr).is_none() {
            let charged = slot.used();
            return Err(MemcgError::NotCharged { id, nr, charged });
        }
        self.settle(id, then);
        taken();
        Ok(Some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memcg::Resource;

    #[test]
    fn a_shard_keeps_little_where_a_limit_is_near() {
        let memcgs = Memcgs::new();
        let child = memcgs.create(memcgs.root()).unwrap();
        let kept = |limit| {
            memcgs.set_limit(child, Resource::Memsw, limit).unwrap();
            // The first one takes nothing ahead, and looks.
            memcgs.charge(child, 1).unwrap();
            memcgs.charge(child, 1).unwrap();
            let kept = memcgs.slots.get(child.id()).unwrap().memory.usage() - 2;
            memcgs.uncharge(child, 2).unwrap();
            kept
        };
        let share = 4 * SHARDS as u64;
        assert_eq!(kept(None), BATCH);
        assert_eq!(kept(Some(10 * share)), 9);
        assert_eq!(kept(Some(share)), 0);
        assert_eq!(kept(Some(u64::MAX - 1)), BATCH);
    }

    #[test]
    fn a_stock_is_as_full_after_a_charge_that_it_had_a_part_of() {
        let memcgs = Memcgs::new();
        let child = memcgs.create(memcgs.root()).unwrap();
        for nr in [1, 1, BATCH - 56, 100] {
            memcgs.charge(child, nr).unwrap();
        }
        let usage = memcgs.usage(child).unwrap();
        let slot = memcgs.slots.get(child.id()).unwrap();
        assert_eq!(usage.memory, BATCH + 46);
        assert_eq!(slot.memory.usage() - usage.memory, BATCH);
    }

    /// Who waits is told to; who is in a section that css_free waits for must not wait.
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
