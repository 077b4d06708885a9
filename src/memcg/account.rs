//! Moves charges from a shard's stock to the [`Slot`] of a cgroup, and up the path to the root.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::{MemcgError, Resource};
use super::shard::{BATCH, Held, RESOURCES, SHARDS, Shard, Stock};
use super::slot::{Slot, State};
use crate::id::MemcgId;

impl<L: RawMutex> Memcgs<L> {
    /// Adds `part` to what the cgroup has. The caller holds the lock of this shard and is in a section, so
    /// that the cgroup is not freed meanwhile.
    pub(super) fn put_at(&self, shard: &mut Held<'_, L>, id: MemcgId, part: Stock) {
        let slot = self.slots.get(id);
        let Some(slot) = slot.filter(|slot| slot.state() == State::Online) else {
            return self.settle(id, part);
        };
        let at = shard.at;
        let stock = shard.stock(id, |id, stock| self.settle(id, stock));
        stock.add(part);
        self.trim(id, stock);
        if part.used > 0 {
            stock.make_known(slot, at);
        }
    }

    /// Gives back what a stock has beyond two batches.
    #[inline]
    pub(super) fn trim(&self, id: MemcgId, stock: &mut Stock) {
        let most = stock.used.max(stock.memory).max(stock.memsw);
        if most.max(stock.slots) > 2 * BATCH {
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
            slots: take(&mut stock.slots),
            ..Stock::default()
        };
        self.settle(id, surplus);
    }

    /// Moves a stock to the cgroup's slot and counters. The caller holds the lock of a shard or is in a
    /// section.
    pub(super) fn settle(&self, id: MemcgId, stock: Stock) {
        if let Some(slot) = self.slots.get(id) {
            slot.add_used(stock.used);
            slot.add_swap(stock.swap);
        }
        self.uncharge_path(id, None, stock.memory, stock.memsw, stock.slots);
    }

    /// Settles the stock of the cgroup `only`, or all stocks if `only` is `None`.
    pub(super) fn settle_all(&self, shard: &mut Shard, only: Option<MemcgId>) {
        for (id, stock) in shard.take(|of| only.is_none_or(|only| only == of)) {
            self.settle(id, stock);
        }
    }

    /// Settles the stocks of `top` and its descendants: all stocks that a limit of `top` applies to.
    pub(super) fn settle_below(&self, shard: &mut Shard, top: MemcgId) {
        for (id, stock) in shard.take(|of| self.is_below(of, top)) {
            self.settle(id, stock);
        }
    }

    /// Gives back what the stocks of `top` and its descendants hold of this resource ahead of use. Returns
    /// whether they held any.
    fn take_back_below(&self, shard: &mut Shard, top: MemcgId, resource: Resource) -> bool {
        let mut any = false;
        for (id, stock) in shard.stocks_mut() {
            let held = [&mut stock.memory, &mut stock.memsw, &mut stock.slots];
            let mut back = [0; 3];
            for (which, held) in held.into_iter().enumerate() {
                if RESOURCES[which] == resource && *held > 0 && self.is_below(id, top) {
                    back[which] = core::mem::take(held);
                    stock.ahead[which] = 0;
                    any = true;
                }
            }
            let [memory, memsw, slots] = back;
            self.uncharge_path(id, None, memory, memsw, slots);
        }
        any
    }

    /// Returns whether charges of `id` count for `top`, which is `id` itself or an ancestor of it.
    fn is_below(&self, id: MemcgId, top: MemcgId) -> bool {
        self.slots.up(id).any(|(at, _)| at == top)
    }

    /// Returns the cgroup and its ancestors below `end`.
    #[inline]
    fn path(&self, id: MemcgId, end: Option<MemcgId>) -> impl Iterator<Item = (MemcgId, &Slot)> {
        let path = self.slots.up(id);
        path.take_while(move |&(id, _)| Some(id) != end)
    }

    /// Charges the cgroup and its ancestors below `end`, or none of them if a limit refuses. Returns the
    /// least room that any limit leaves, for each of [`RESOURCES`].
    ///
    /// The caller holds the lock of a shard. Half way up, charges that are taken back later could make other
    /// charges fail. A thread that holds all locks never sees them.
    pub(super) fn try_charge_path(
        &self,
        id: MemcgId,
        end: Option<MemcgId>,
        memory: u64,
        memsw: u64,
        swap: u64,
    ) -> Result<[u64; 3], MemcgError> {
        let mut room = [u64::MAX; 3];
        for (at, slot) in self.path(id, end) {
            let parts = [
                (&slot.memory, memory),
                (&slot.memsw, memsw),
                (&slot.swapped, swap),
            ];
            for (which, &(counter, nr)) in parts.iter().enumerate() {
                match counter.try_charge(nr) {
                    Ok(left) => room[which] = room[which].min(left),
                    Err(usage) => {
                        for (counter, nr) in &parts[..which] {
                            counter.uncharge(*nr);
                        }
                        self.uncharge_path(id, Some(at), memory, memsw, swap);
                        return Err(MemcgError::OverLimit {
                            id: at,
                            resource: RESOURCES[which],
                            nr,
                            usage,
                            limit: counter.limit(),
                        });
                    }
                }
            }
        }
        Ok(room)
    }

    /// Charges the path as [`try_charge_path`](Self::try_charge_path) does. If a limit refuses, it tries
    /// again with what the shards give back. Calls `charged` before the lock is unlocked. The caller is in a
    /// section.
    pub(super) fn charge_path(
        &self,
        id: MemcgId,
        end: Option<MemcgId>,
        memory: u64,
        memsw: u64,
        swap: u64,
        charged: impl FnOnce(),
    ) -> Result<(), MemcgError> {
        {
            let _shard = self.shards.here();
            if self.try_charge_path(id, end, memory, memsw, swap).is_ok() {
                charged();
                return Ok(());
            }
        }
        let mut all = self.shards.all();
        self.charge_path_exactly(&mut all, id, end, memory, memsw, swap)?;
        charged();
        Ok(())
    }

    /// Charges the path as [`try_charge_path`](Self::try_charge_path) does, with what the shards give back.
    /// It only takes back from stocks that count for the limit in the way, and only of that resource.
    /// Otherwise, each refusal of one cgroup would send every other cgroup up to the root.
    pub(super) fn charge_path_exactly(
        &self,
        all: &mut [Held<'_, L>; SHARDS],
        id: MemcgId,
        end: Option<MemcgId>,
        memory: u64,
        memsw: u64,
        swap: u64,
    ) -> Result<(), MemcgError> {
        loop {
            let refused = match self.try_charge_path(id, end, memory, memsw, swap) {
                Ok(_) => return Ok(()),
                Err(refused) => refused,
            };
            let MemcgError::OverLimit {
                id: top, resource, ..
            } = refused
            else {
                return Err(refused);
            };
            // No other thread fills a stock meanwhile. So the loop ends when all stocks that count for the
            // limit are empty. Then a limit further up may refuse.
            let mut any = false;
            for shard in all.iter_mut() {
                any |= self.take_back_below(shard, top, resource);
            }
            if !any {
                return Err(refused);
            }
        }
    }

    pub(super) fn uncharge_path(
        &self,
        id: MemcgId,
        end: Option<MemcgId>,
        memory: u64,
        memsw: u64,
        swap: u64,
    ) {
        if (memory, memsw, swap) == (0, 0, 0) {
            return;
        }
        for (_, slot) in self.path(id, end) {
            slot.memory.uncharge(memory);
            slot.memsw.uncharge(memsw);
            slot.swapped.uncharge(swap);
        }
    }

    /// Returns the nearest common ancestor, which may be `a` or `b` itself.
    pub(super) fn common_ancestor(&self, a: MemcgId, b: MemcgId) -> Option<MemcgId> {
        let (mut of_a, mut of_b) = (self.slots.up(a), self.slots.up(b));
        let (mut a, mut b) = (of_a.next()?, of_b.next()?);
        while a.0 != b.0 {
            // The root has no ancestors, so the deeper one has a parent.
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
    use crate::memcg::Memcg;

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
            memcgs.try_charge_path(id, None, memory, memsw, 0).unwrap();
            let mut stock = Stock {
                used,
                memory,
                memsw,
                ..Stock::default()
            };
            memcgs.trim(id, &mut stock);
            assert_eq!([stock.used, stock.memory, stock.memsw], keeps, "{had:?}");
            // The rest was given back to the counters and the slot.
            let counters = [slot.memory.usage(), slot.memsw.usage()];
            assert_eq!(counters, keeps[1..]);
            assert_eq!(slot.used(), used - keeps[0]);
            memcgs.settle(id, stock);
            assert_eq!(slot.take_used(used, used), Some(used));
        }
    }

    /// `outer` has the children `inner` and `aunt`; `inner` has `child` and `sibling`. `outer` and `inner`
    /// have limits.
    #[test]
    #[cfg_attr(
        miri,
        ignore = "a shard has stocks for two cgroups only under Miri, and nothing here is unsafe"
    )]
    fn a_charge_takes_back_what_is_in_its_way_limit_by_limit_and_no_more() {
        let memcgs = Memcgs::new();
        let root = memcgs.root();
        let outsider = memcgs.create(root).unwrap();
        let outer = memcgs.create(root).unwrap();
        let aunt = memcgs.create(outer).unwrap();
        let inner = memcgs.create(outer).unwrap();
        let [child, sibling] = [(); 2].map(|()| memcgs.create(inner).unwrap());
        let limit = |memcg, resource, pages| memcgs.set_limit(memcg, resource, Some(pages));
        limit(inner, Resource::Memory, 10).unwrap();
        limit(outer, Resource::Memory, 14).unwrap();
        limit(outer, Resource::Memsw, 14).unwrap();
        let ahead = |id: MemcgId, at: usize| {
            let shard = memcgs.shards.at(at);
            let mut stocks = shard.stocks().filter(|&(of, _)| of == id);
            stocks.next().map_or(0, |(_, stock)| stock.memory)
        };
        let hoard_of_each = |id: MemcgId, at: usize, [memory, memsw]: [u64; 2]| {
            let mut shard = memcgs.shards.at(at);
            memcgs.try_charge_path(id, None, memory, memsw, 0).unwrap();
            let evicted = |id, stock| memcgs.settle(id, stock);
            let stock = shard.stock(id, evicted);
            (stock.memory, stock.memsw) = (stock.memory + memory, stock.memsw + memsw);
        };
        let hoard = |id, at, nr| hoard_of_each(id, at, [nr, nr]);
        let here = crate::memcg::shard::here();
        let elsewhere = (here + 1) % SHARDS;
        hoard(sibling.id(), elsewhere, 8);
        hoard(aunt.id(), here, 5);
        hoard(outsider.id(), elsewhere, 7);
        let kept = || {
            [
                ahead(sibling.id(), elsewhere),
                ahead(aunt.id(), here),
                ahead(outsider.id(), elsewhere),
            ]
        };
        let over = |memcg: Memcg, resource, nr, usage, limit| MemcgError::OverLimit {
            id: memcg.id(),
            resource,
            nr,
            usage,
            limit,
        };
        // More than the inner limit allows, even with all stocks given back. The outer limit is not in the
        // way.
        let refused = over(inner, Resource::Memory, 11, 0, 10);
        assert_eq!(memcgs.charge(child, 11), Err(refused));
        assert_eq!(kept(), [0, 5, 7]);
        // Memsw was not in the way.
        let outer_memsw = || memcgs.slots.get(outer.id()).unwrap().memsw.usage();
        assert_eq!(outer_memsw(), 8 + 5);
        // After the inner limit gets something back, the outer limit is in the way, and gets something back
        // too.
        hoard_of_each(sibling.id(), elsewhere, [8, 0]);
        memcgs.charge(child, 10).unwrap();
        assert_eq!(kept(), [0, 0, 7]);
        assert_eq!(outer_memsw(), 10);
        // No stock has anything left to give back.
        let refused = over(inner, Resource::Memory, 1, 10, 10);
        assert_eq!(memcgs.charge(sibling, 1), Err(refused));
        let refused = over(outer, Resource::Memory, 5, 10, 14);
        assert_eq!(memcgs.charge(aunt, 5), Err(refused));
        memcgs.charge(aunt, 4).unwrap();
        // The same for a page that is moved from outside.
        memcgs.uncharge(aunt, 4).unwrap();
        memcgs.charge(outsider, 7).unwrap();
        memcgs.uncharge(child, 10).unwrap();
        // A new limit takes back what the stocks below it hold.
        assert_eq!([ahead(child.id(), here), ahead(aunt.id(), here)], [10, 4]);
        limit(inner, Resource::Memory, 9).unwrap();
        assert_eq!([ahead(child.id(), here), ahead(aunt.id(), here)], [0, 4]);
        hoard(aunt.id(), elsewhere, 8);
        hoard(outsider.id(), elsewhere, 7);
        memcgs.move_account(outsider, child, 7).unwrap();
        assert_eq!(ahead(aunt.id(), here) + ahead(aunt.id(), elsewhere), 0);
        assert_eq!(ahead(outsider.id(), elsewhere), 7 + 7);
        memcgs.uncharge(child, 7).unwrap();
        assert_eq!(memcgs.usage(root).unwrap().memsw, 0);
        memcgs.validate().unwrap();
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
