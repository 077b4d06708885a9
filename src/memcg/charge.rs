//! Charges and uncharges pages in memory.

use lock_api::RawMutex;

use super::error::MemcgError;
use super::handle::Memcg;
use super::shard::{BATCH, Held, RESOURCES, SHARDS, Stock};
use super::slot::{Slot, State};
use super::{Backoff, Memcgs};
use crate::id::MemcgId;

impl<L: RawMutex> Memcgs<L> {
    /// Charges `nr` pages in memory to the cgroup: memory and memsw of the cgroup and all its ancestors grow
    /// by `nr`.
    ///
    /// ```
    /// # use swap_records::memcg::Memcgs;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let memcgs = Memcgs::new();
    /// # let parent = memcgs.create(memcgs.root())?;
    /// # let child = memcgs.create(parent)?;
    /// memcgs.charge(child, 16)?;
    /// assert_eq!(memcgs.usage(parent)?.memory, 16);
    /// memcgs.uncharge(child, 16)?;
    /// assert_eq!(memcgs.usage(parent)?.memory, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`OverLimit`](MemcgError::OverLimit) if a limit of the cgroup or of an ancestor would be exceeded.
    ///   No cgroup is charged then.
    /// - [`Offline`](MemcgError::Offline) if the cgroup is offline.
    /// - [`Gone`](MemcgError::Gone) if it was freed.
    ///
    /// # Cost
    ///
    /// Most calls take one lock that few other threads use, and touch no other memory that threads share.
    /// About one call per 256 pages also walks up to the root; near a limit, more calls do. A call that finds
    /// a limit in its way takes the locks of all shards. Before it is refused, it takes back what the shards
    /// have charged ahead to that resource below that limit.
    #[inline]
    pub fn charge(&self, memcg: Memcg, nr: u64) -> Result<(), MemcgError> {
        self.charge_to(nr, || Ok((memcg.id(), self.online(memcg)?)))
            .map(|_| ())
    }

    /// Uncharges `nr` pages in memory: memory and memsw of the cgroup and all its ancestors shrink by `nr`.
    /// The cgroup may be offline.
    ///
    /// # Errors
    ///
    /// - [`NotCharged`](MemcgError::NotCharged) if the cgroup has fewer than `nr` pages of its own in memory.
    ///   Pages of its children do not count.
    /// - [`Gone`](MemcgError::Gone) if it was freed.
    ///
    /// # Cost
    ///
    /// The same as [`charge`](Self::charge) if the thread has charged enough pages itself, or an earlier call
    /// of the thread has found them. Otherwise the call looks for pages that other threads charged. It takes
    /// the locks of their shards, one at a time. All pages that it finds there are then available to the
    /// calls that follow.
    ///
    /// All calls together take at most one such lock per call that charges or uncharges, for any number of
    /// shards. Races may add some. Uncharging page by page what other threads charge page by page takes two locks per
    /// call. It takes nearly one if the other threads are 16 pages ahead. A call that is refused takes the
    /// locks of all shards.
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

    /// Returns the [`Slot`] of a cgroup that exists or was freed.
    #[inline]
    pub(super) fn slot(&self, memcg: Memcg) -> Result<&Slot, MemcgError> {
        self.slots.get(memcg.id()).ok_or(MemcgError::Gone { memcg })
    }

    /// Returns the [`Slot`] of a cgroup that is online, and refuses others.
    #[inline]
    pub(super) fn online(&self, memcg: Memcg) -> Result<&Slot, MemcgError> {
        let slot = self.slot(memcg)?;
        match slot.state_of(memcg) {
            State::Online => Ok(slot),
            State::Offline | State::Freeing => Err(MemcgError::Offline { id: memcg.id() }),
            State::Free => Err(MemcgError::Gone { memcg }),
        }
    }

    /// Calls `work` until it returns a result. `work` returns `None` if it found that the cgroup is being
    /// freed. No lock is held and no section is open between two calls.
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
            // Do not call `work` here: it takes the lock of a shard, which css_free is waiting for.
            while slot.state_of(memcg) == State::Freeing {
                backoff.snooze();
            }
        }
    }

    /// Calls `work` in a section that began while the cgroup existed. So it exists until `work` has returned.
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

    /// Charges `nr` pages to the cgroup that `target` returns. `target` is called under a lock, and the
    /// cgroup is online.
    #[inline]
    pub(super) fn charge_to<'a>(
        &'a self,
        nr: u64,
        target: impl Fn() -> Result<(MemcgId, &'a Slot), MemcgError>,
    ) -> Result<MemcgId, MemcgError> {
        {
            let mut shard = self.shards.here();
            let (id, slot) = target()?;
            if self.charge_from_stock(&mut shard, id, slot, nr) {
                return Ok(id);
            }
        }
        self.charge_exactly(nr, target)
    }

    #[inline]
    pub(super) fn charge_from_stock(
        &self,
        shard: &mut Held<'_, L>,
        id: MemcgId,
        slot: &Slot,
        nr: u64,
    ) -> bool {
        let at = shard.at;
        let stock = shard.stock(id, |id, stock| self.settle(id, stock));
        if (stock.memory < nr || stock.memsw < nr) && !self.refill(id, stock, nr, nr, 0) {
            return false;
        }
        stock.memory -= nr;
        stock.memsw -= nr;
        stock.used += nr;
        stock.make_known(slot, at);
        self.trim(id, stock);
        true
    }

    /// Charges what the stock lacks for these numbers, and some more ahead of use.
    ///
    /// The limits decide how much more. Near a limit it is little, so that the shards do not keep most of the
    /// room from each other. To read the limits twice would cost too much, so this call uses the room that
    /// the last refill of the resource found. The first refill charges nothing ahead.
    #[cold]
    pub(super) fn refill(
        &self,
        id: MemcgId,
        stock: &mut Stock,
        memory: u64,
        memsw: u64,
        slots: u64,
    ) -> bool {
        let few = memory.max(memsw).max(slots) <= BATCH;
        let has = [stock.memory, stock.memsw, stock.slots];
        let mut lacks = [memory, memsw, slots];
        for (which, nr) in lacks.iter_mut().enumerate() {
            *nr = if has[which] < *nr {
                let ahead = if few { stock.ahead[which] } else { 0 };
                *nr - has[which] + u64::from(ahead)
            } else {
                0
            };
        }
        let [memory, memsw, slots] = lacks;
        let room = match self.try_charge_path(id, None, memory, memsw, slots) {
            Ok(room) => room,
            Err(refused) => {
                if let MemcgError::OverLimit { resource, .. } = refused
                    && let Some(which) = RESOURCES.iter().position(|&of| of == resource)
                {
                    stock.ahead[which] = 0;
                }
                return false;
            }
        };
        stock.memory += memory;
        stock.memsw += memsw;
        stock.slots += slots;
        for (which, &nr) in lacks.iter().enumerate() {
            // A counter that was not charged says nothing about its room.
            if nr > 0 {
                let ahead = BATCH.min(room[which] / (4 * SHARDS as u64));
                stock.ahead[which] = u16::try_from(ahead).unwrap_or(0);
            }
        }
        true
    }

    /// Charges with the locks of all shards held, and takes back what they have charged ahead if a limit is
    /// in the way.
    #[cold]
    fn charge_exactly<'a>(
        &'a self,
        nr: u64,
        target: impl Fn() -> Result<(MemcgId, &'a Slot), MemcgError>,
    ) -> Result<MemcgId, MemcgError> {
        let mut all = self.shards.all();
        let (id, slot) = target()?;
        self.charge_path_exactly(&mut all, id, None, nr, nr, 0)?;
        slot.add_used(nr);
        Ok(id)
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
            // The limit of memory is never above the limit of memsw.
            memcgs.set_limit(child, Resource::Memory, Some(0)).unwrap();
            memcgs.set_limit(child, Resource::Memsw, limit).unwrap();
            memcgs.set_limit(child, Resource::Memory, limit).unwrap();
            // The first charge takes nothing ahead. It only reads the limits.
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
    fn a_charge_that_a_stock_has_a_part_of_leaves_the_stock_as_full() {
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

    /// Each refusal emptied the stocks of all cgroups, so each charge of the sibling walked up to the root.
    #[test]
    fn a_refusal_leaves_the_batches_of_cgroups_that_are_not_below_its_limit() {
        const CHARGES: u64 = if cfg!(miri) { 600 } else { 10_000 };
        let memcgs = Memcgs::new();
        let [limited, sibling] = [(); 2].map(|()| memcgs.create(memcgs.root()).unwrap());
        memcgs.charge(limited, 5).unwrap();
        let limit = |pages| memcgs.set_limit(limited, Resource::Memory, Some(pages));
        limit(5).unwrap();
        let move_here = || memcgs.move_account(sibling, limited, 1);
        let refusals: [(&str, &dyn Fn() -> bool); 3] = [
            ("charge", &|| memcgs.charge(limited, 1).is_err()),
            ("move_account", &|| move_here().is_err()),
            ("set_limit", &|| limit(4).is_err()),
        ];
        let root = memcgs.slots.get(memcgs.root().id()).unwrap();
        for (name, is_refused) in refusals {
            let mut counter = root.memory.usage();
            let mut walks = 0;
            let mut look = || {
                let now = root.memory.usage();
                walks += u64::from(now != counter);
                counter = now;
            };
            for _ in 0..CHARGES {
                memcgs.charge(sibling, 1).unwrap();
                look();
                assert!(is_refused());
                look();
            }
            let batches = CHARGES / BATCH + 2;
            assert!(
                walks <= batches,
                "{walks} of {CHARGES} charges walked up, with a refused {name} after each: at most {batches} may"
            );
        }
    }

    /// A refusal of swap took back batches of memory. Swap-outs also decided how many pages of memory were
    /// charged ahead.
    #[test]
    fn a_refusal_of_swap_leaves_the_batches_of_memory() {
        use crate::entry::{SwapEntry, SwapType};
        const CHARGES: u64 = if cfg!(miri) { 600 } else { 10_000 };
        let memcgs = Memcgs::new();
        let ty = SwapType::new(0).unwrap();
        memcgs.swapon(ty, 1).unwrap();
        let parent = memcgs.create(memcgs.root()).unwrap();
        let [full, sibling] = [(); 2].map(|()| memcgs.create(parent).unwrap());
        memcgs.charge(full, 5).unwrap();
        memcgs.set_limit(parent, Resource::Swap, Some(0)).unwrap();
        let root = memcgs.slots.get(memcgs.root().id()).unwrap();
        for refused in [full, sibling] {
            let mut counter = root.memory.usage();
            let mut walks = 0;
            for _ in 0..CHARGES {
                memcgs.charge(sibling, 1).unwrap();
                let out = memcgs.swap_out(refused, SwapEntry::new(ty, 0).unwrap(), 1);
                assert!(matches!(out, Err(MemcgError::OverLimit { .. })));
                let now = root.memory.usage();
                walks += u64::from(now != counter);
                counter = now;
            }
            let batches = CHARGES / BATCH + 2;
            assert!(
                walks <= batches,
                "{walks} of {CHARGES} charges walked up, with a refused swap-out of {refused:?} after each: \
                 at most {batches} may"
            );
        }
        memcgs.validate().unwrap();
    }

    /// The room that a swap-out finds for swap says nothing about memory, and vice versa.
    #[test]
    fn only_the_limits_of_a_resource_decide_how_much_of_it_is_charged_ahead() {
        let memcgs = Memcgs::new();
        let child = memcgs.create(memcgs.root()).unwrap();
        let slot = memcgs.slots.get(child.id()).unwrap();
        let share = 4 * SHARDS as u64;
        memcgs
            .set_limit(child, Resource::Memory, Some(2 * share))
            .unwrap();
        // No limit of swap: a whole batch of it is charged ahead.
        for _ in 0..2 {
            let charge = memcgs.charge_part(child, 0, 0, 1).unwrap();
            assert!(charge.is_some());
        }
        assert_eq!(slot.swapped.usage(), BATCH);
        for _ in 0..2 {
            memcgs.charge(child, 1).unwrap();
        }
        let counted = [slot.memory.usage(), slot.memsw.usage()];
        assert_eq!(counted, [2 + 1, 2 + BATCH]);
        memcgs.validate().unwrap();
    }
}
