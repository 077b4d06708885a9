//! Checks the invariants of a tree while no operation is under way, by adding everything up. For tests.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use lock_api::RawMutex;

use super::Memcgs;
use super::slot::State;
use super::swapfiles::NONE;
use crate::entry::SwapType;
use crate::id::MemcgId;
use crate::sync::Ordering;

impl<L: RawMutex> Memcgs<L> {
    /// Checks the table, that the counters of each cgroup are what it and its children have, and that no
    /// record has an id that is free (invariants 9, 10 and 12).
    ///
    /// For tests: no operation may be under way. It looks at everything, allocates memory, and empties the
    /// stocks.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    #[doc(hidden)]
    pub fn validate(&self) -> Result<(), String> {
        self.records.validate()?;
        let mut records = BTreeMap::<MemcgId, i64>::new();
        for ty in SwapType::all() {
            let mut of_type = 0;
            for run in self.records.runs(ty) {
                *records.entry(run.id).or_default() += run.len.cast_signed();
                of_type += run.len.cast_signed();
            }
            let charged = self.records_on(ty);
            if charged != of_type {
                return Err(format!(
                    "swap type {ty} has {of_type} records, but {charged} are charged"
                ));
            }
        }
        if self
            .stopping
            .iter()
            .any(|of| of.load(Ordering::Relaxed) != NONE)
        {
            return Err(String::from("a swapoff has not ended"));
        }
        let _tree = self.tree.lock();
        for mut shard in self.shards.each() {
            for (id, stock) in shard.stocks() {
                let slot = self.slots.get(id);
                if !slot.is_some_and(|slot| stock.used == 0 || slot.is_holder(shard.at)) {
                    return Err(format!(
                        "shard {} has {stock:?} of cgroup {id}, but is not a holder of it",
                        shard.at
                    ));
                }
            }
            self.settle_all(&mut shard, None);
        }
        // For each parent, of its children: memory, memsw and swap, how many there are, and how many are
        // online.
        let mut below = BTreeMap::<MemcgId, ([u64; 3], u32, u32)>::new();
        for memcg in self.iter() {
            let slot = self.slots.get(memcg.id());
            if let Some((slot, parent)) = slot.and_then(|slot| Some((slot, slot.parent()?))) {
                let ([memory, memsw, swapped], any, online) = below.entry(parent).or_default();
                *memory += slot.memory.usage();
                *memsw += slot.memsw.usage();
                *swapped += slot.swapped.usage();
                *any += 1;
                *online += u32::from(slot.state() == State::Online);
            }
        }
        let named = records.keys().chain(below.keys()).copied();
        for id in self.slots.ids().chain(named) {
            let recorded = records.get(&id).copied().unwrap_or_default();
            let ([memory, memsw, swapped], any, online) =
                below.get(&id).copied().unwrap_or_default();
            let slot = self.slots.get(id);
            let Some(slot) = slot.filter(|slot| slot.state() != State::Free) else {
                if (recorded, any) != (0, 0) {
                    return Err(format!(
                        "id {id} is free, but has {recorded} records and {any} children"
                    ));
                }
                continue;
            };
            if slot.in_removal() || slot.state() == State::Freeing || slot.kept() != 0 {
                return Err(format!("cgroup {id}: an operation has not ended: {slot:?}"));
            }
            let swap = slot.swap();
            let expected = (
                recorded,
                memory + slot.used(),
                memsw + slot.used() + recorded.unsigned_abs(),
                swapped + recorded.unsigned_abs(),
            );
            let counters = [&slot.memory, &slot.memsw, &slot.swapped];
            let [memory, memsw, swapped] = counters.map(super::slot::Counter::usage);
            if (swap, memory, memsw, swapped) != expected {
                return Err(format!(
                    "cgroup {id}: swap, memory, memsw and records should be {expected:?}, by the table and \
                     its children, but it has {slot:?}"
                ));
            }
            let children = slot.children();
            if (children.any, children.online) != (any, online) {
                return Err(format!(
                    "cgroup {id} counts {children:?}, but has {any}, of which {online} are online"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::SwapEntry;
    use crate::memcg::Memcg;

    /// Returns a tree, a parent, and its child with 3 pages in memory and 2 in swap.
    fn family() -> (Memcgs, Memcg, Memcg) {
        let memcgs = Memcgs::new();
        let ty = SwapType::new(0).unwrap();
        memcgs.swapon(ty, 10).unwrap();
        let parent = memcgs.create(memcgs.root()).unwrap();
        let child = memcgs.create(parent).unwrap();
        memcgs.charge(child, 5).unwrap();
        let start = SwapEntry::new(ty, 4).unwrap();
        memcgs.swap_out(child, start, 2).unwrap();
        assert_eq!(memcgs.validate(), Ok(()));
        (memcgs, parent, child)
    }

    fn found(memcgs: &Memcgs, text: &str) {
        let found = memcgs.validate().unwrap_err();
        assert!(found.contains(text), "{found}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes a minute, and nothing here is unsafe")]
    fn a_wrong_counter_or_statistic_is_found() {
        let (memcgs, parent, child) = family();
        for (memcg, above) in [(parent, memcgs.root()), (child, parent)] {
            let slot = memcgs.slots.get(memcg.id()).unwrap();
            let wrong = |memcg: Memcg| format!("cgroup {}: swap, memory", memcg.id());
            // A wrong counter is first found one level up.
            for counter in [&slot.memory, &slot.memsw, &slot.swapped] {
                counter.try_charge(1).unwrap();
                found(&memcgs, &wrong(above));
                counter.uncharge(1);
            }
            slot.add_used(1);
            found(&memcgs, &wrong(memcg));
            assert_eq!(slot.take_used(1, 1), Some(1));
            slot.add_swap(1);
            found(&memcgs, &wrong(memcg));
            slot.add_swap(-1);
            assert_eq!(memcgs.validate(), Ok(()));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes a minute, and nothing here is unsafe")]
    fn a_stock_whose_shard_is_not_a_holder_is_found() {
        let (memcgs, _, child) = family();
        memcgs.charge(child, 1).unwrap();
        let slot = memcgs.slots.get(child.id()).unwrap();
        let at = memcgs.shards.here().at;
        slot.clear_holder(at);
        found(&memcgs, "is not a holder");
        slot.set_holder(at);
        assert_eq!(memcgs.validate(), Ok(()));
        // A holder whose stock has no pages any more is allowed.
        assert!(slot.is_holder(at));
        assert_eq!(memcgs.validate(), Ok(()));
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes a minute, and nothing here is unsafe")]
    fn a_wrong_number_of_children_is_found() {
        let (memcgs, parent, _) = family();
        let slot = memcgs.slots.get(parent.id()).unwrap();
        let right = slot.children();
        for (any, online) in [(2, 1), (0, 1), (1, 0), (1, 2)] {
            slot.set_children(crate::memcg::slot::Children { any, online });
            found(&memcgs, "has 1, of which 1 are online");
        }
        slot.set_children(right);
        assert_eq!(memcgs.validate(), Ok(()));
    }

    #[test]
    fn records_of_a_free_id_and_records_without_a_charge_are_found() {
        let (memcgs, ..) = family();
        let ty = SwapType::new(0).unwrap();
        let free = MemcgId::new(9).unwrap();
        let entry = SwapEntry::new(ty, 9).unwrap();
        memcgs.records.record(entry, free).unwrap();
        found(&memcgs, "swap type 0 has 3 records, but 2 are charged");
        memcgs.shards.here().add_records(ty, 1);
        found(&memcgs, "id 9 is free, but has 1 records and 0 children");
    }
}
