//! Accounts: from a shard's stock to the slot of a cgroup, and up the path to the root.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::{MemcgError, Resource};
use super::shard::{BATCH, Shard, Stock};
use super::slot::{Slot, State};
use crate::id::MemcgId;

impl<L: RawMutex> Memcgs<L> {
    /// Adds to what is the cgroup's own. Under the lock of this shard, and in a section, or the cgroup could be gone.
    pub(super) fn put_at(&self, shard: &mut Shard, id: MemcgId, part: Stock) {
        let online = self
            .slots
            .get(id)
            .is_some_and(|slot| slot.state() == State::Online);
        if online {
            let stock = shard.stock(id, |id, stock| self.settle(id, stock));
            stock.add(part);
            self.trim(id, stock);
        } else {
            self.settle(id, part);
        }
    }

    /// Leaves no more in a stock than is of use there.
    #[inline]
    pub(super) fn trim(&self, id: MemcgId, stock: &mut Stock) {
        if stock.used.max(stock.memory).max(stock.memsw) > 2 * BATCH {
            self.trim_slow(id, stock);
        }
    }

    #[cold]
    fn trim_slow(&self, id: MemcgId, stock: &mut Stock) {
        let take = |pages: &mut u64| {
            let surplus = if *pages > 2 * BATCH {
                *pages - BATCH
            } else {
                0
            };
            *pages -= surplus;
            surplus
        };
        let surplus = Stock {
            used: take(&mut stock.used),
            memory: take(&mut stock.memory),
            memsw: take(&mut stock.memsw),
            ..Stock::default()
        };
        self.settle(id, surplus);
    }

    /// Gives a stock to the cgroup's slot and the counters. Under the lock of a shard, or in a section.
    pub(super) fn settle(&self, id: MemcgId, stock: Stock) {
        if let Some(slot) = self.slots.get(id) {
            slot.add_used(stock.used);
            slot.add_swap(stock.swap);
        }
        self.uncharge_path(id, None, stock.memory, stock.memsw);
    }

    /// Settles the stock of `only`, or all where it is `None`.
    pub(super) fn settle_all(&self, shard: &mut Shard, only: Option<MemcgId>) {
        for (id, stock) in shard.take(only) {
            self.settle(id, stock);
        }
    }

    /// The cgroup and its ancestors below `end`.
    #[inline]
    fn path(&self, id: MemcgId, end: Option<MemcgId>) -> impl Iterator<Item = (MemcgId, &Slot)> {
        let path = self.slots.up(id);
        path.take_while(move |&(id, _)| Some(id) != end)
    }

    /// Charges all of the path, or nobody. Gives the least that any limit leaves. Under the lock of a shard:
    /// half way up, it is in the way of others that would have been within their limits.
    pub(super) fn try_charge_path(
        &self,
        id: MemcgId,
        end: Option<MemcgId>,
        memory: u64,
        memsw: u64,
    ) -> Result<u64, MemcgError> {
        let mut room = u64::MAX;
        for (at, slot) in self.path(id, end) {
            let of_memory = slot.memory.try_charge(memory);
            let of_memsw = of_memory.and_then(|_| slot.memsw.try_charge(memsw));
            let (resource, nr, usage, limit) = match (of_memory, of_memsw) {
                (Ok(memory), Ok(memsw)) => {
                    room = room.min(memory).min(memsw);
                    continue;
                }
                (Err(usage), _) => (Resource::Memory, memory, usage, slot.memory.limit()),
                (Ok(_), Err(usage)) => {
                    slot.memory.uncharge(memory);
                    (Resource::Memsw, memsw, usage, slot.memsw.limit())
                }
            };
            self.uncharge_path(id, Some(at), memory, memsw);
            return Err(MemcgError::OverLimit {
                id: at,
                resource,
                nr,
                usage,
                limit,
            });
        }
        Ok(room)
    }

    /// [`try_charge_path`](Self::try_charge_path); with what the shards give back, if need be. In a section. Says that
    /// all is `charged` before the lock is freed.
    pub(super) fn charge_path(
        &self,
        id: MemcgId,
        end: Option<MemcgId>,
        memory: u64,
        memsw: u64,
        charged: impl FnOnce(),
    ) -> Result<(), MemcgError> {
        {
            let _shard = self.shards.here();
            if self.try_charge_path(id, end, memory, memsw).is_ok() {
                charged();
                return Ok(());
            }
        }
        let mut all = self.shards.all();
        for shard in &mut all {
            self.settle_all(shard, None);
        }
        self.try_charge_path(id, end, memory, memsw)?;
        charged();
        Ok(())
    }

    pub(super) fn uncharge_path(&self, id: MemcgId, end: Option<MemcgId>, memory: u64, memsw: u64) {
        if (memory, memsw) == (0, 0) {
            return;
        }
        for (_, slot) in self.path(id, end) {
            slot.memory.uncharge(memory);
            slot.memsw.uncharge(memsw);
        }
    }

    /// The nearest that both have, which may be one of the two.
    pub(super) fn common_ancestor(&self, a: MemcgId, b: MemcgId) -> Option<MemcgId> {
        let (mut of_a, mut of_b) = (self.slots.up(a), self.slots.up(b));
        let (mut a, mut b) = (of_a.next()?, of_b.next()?);
        while a.0 != b.0 {
            // The root is nobody's descendant, so the deeper one has a parent.
            if a.1.depth() >= b.1.depth() {
                a = of_a.next()?;
            } else {
                b = of_b.next()?;
            }
        }
        Some(a.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_keeps_two_batches_and_of_more_one() {
        let memcgs = Memcgs::new();
        let id = memcgs.create(memcgs.root()).unwrap().id();
        let slot = memcgs.slots.get(id).unwrap();
        let two = 2 * BATCH;
        for (had, keeps) in [
            ([two, two, two], [two, two, two]),
            ([two + 1, two, 3], [BATCH, two, 3]),
            ([BATCH + 3, two + 1, two], [BATCH + 3, BATCH, two]),
            ([0, 5, 3 * BATCH], [0, 5, BATCH]),
        ] {
            let [used, memory, memsw] = had;
            memcgs.try_charge_path(id, None, memory, memsw).unwrap();
            let mut stock = Stock {
                used,
                memory,
                memsw,
                ..Stock::default()
            };
            memcgs.trim(id, &mut stock);
            assert_eq!([stock.used, stock.memory, stock.memsw], keeps, "{had:?}");
            // The rest is where it came from.
            let counters = [slot.memory.usage(), slot.memsw.usage()];
            assert_eq!(counters, keeps[1..]);
            assert_eq!(slot.used(), used - keeps[0]);
            memcgs.settle(id, stock);
            assert_eq!(slot.take_used(used, used), Some(used));
        }
    }

    #[test]
    fn no_stock_is_kept_of_a_cgroup_that_is_offline() {
        let memcgs = Memcgs::new();
        let child = memcgs.create(memcgs.root()).unwrap();
        let slot = memcgs.slots.get(child.id()).unwrap();
        let page = Stock {
            used: 1,
            ..Stock::default()
        };
        let kept = || {
            memcgs
                .shards
                .here()
                .stocks()
                .map(|(_, stock)| stock.used)
                .sum()
        };
        memcgs.put_at(&mut memcgs.shards.here(), child.id(), page);
        assert_eq!((slot.used(), kept()), (0, 1_u64));
        let _ = memcgs.css_offline(child, 0).unwrap();
        memcgs.put_at(&mut memcgs.shards.here(), child.id(), page);
        assert_eq!((slot.used(), kept()), (2, 0_u64));
    }
}
