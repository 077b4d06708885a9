//! The invariants of a tree at a quiescent point, checked by adding everything up: for tests.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use lock_api::RawMutex;

use super::Memcgs;
use super::slot::State;
use crate::entry::SwapType;
use crate::id::MemcgId;

impl<L: RawMutex> Memcgs<L> {
    /// Checks the table, and for each cgroup that its counters are what it and its children have, and that
    /// no record is of an id that nobody has (design, invariants 9 to 11). Nobody may be at work
    /// meanwhile. For tests: it looks at everything, and empties the stocks.
    ///
    /// # Errors
    ///
    /// What was found, and where.
    #[doc(hidden)]
    pub fn validate(&self) -> Result<(), String> {
        self.records.validate()?;
        let mut records = vec![0_i64; usize::from(u16::MAX) + 1];
        for ty in SwapType::all() {
            let mut of_type = 0;
            for run in self.records.runs(ty) {
                records[usize::from(run.id.get())] += run.len.cast_signed();
                of_type += run.len.cast_signed();
            }
            let charged = self.records_on(ty);
            if charged != of_type {
                return Err(format!(
                    "swap type {ty} has {of_type} records, and {charged} are charged"
                ));
            }
        }
        let _tree = self.tree.lock();
        for mut shard in self.shards.each() {
            self.settle_all(&mut shard, None);
        }
        // Of the children: memory, memsw, how many, how many online.
        let mut below = vec![(0, 0, 0, 0); usize::from(u16::MAX) + 1];
        for memcg in self.iter() {
            let slot = self.slots.get(memcg.id());
            if let Some((slot, parent)) = slot.and_then(|slot| Some((slot, slot.parent()?))) {
                let (memory, memsw, any, online) = &mut below[usize::from(parent.get())];
                *memory += slot.memory.usage();
                *memsw += slot.memsw.usage();
                *any += 1;
                *online += u32::from(slot.state() == State::Online);
            }
        }
        for id in (0..=u16::MAX).filter_map(MemcgId::new) {
            let index = usize::from(id.get());
            let (recorded, (memory, memsw, any, online)) = (records[index], below[index]);
            let slot = self.slots.get(id);
            let Some(slot) = slot.filter(|slot| slot.state() != State::Free) else {
                if (recorded, any) != (0, 0) {
                    return Err(format!(
                        "id {id} is free, with {recorded} records, {any} children"
                    ));
                }
                continue;
            };
            let swap = slot.swap();
            let expected = (
                recorded,
                memory + slot.used(),
                memsw + slot.used() + recorded.unsigned_abs(),
            );
            if (swap, slot.memory.usage(), slot.memsw.usage()) != expected {
                return Err(format!(
                    "cgroup {id}: swap, memory and memsw should be {expected:?} by the table and the \
                     children: {slot:?}"
                ));
            }
            let children = slot.children();
            if (children.any, children.online) != (any, online) {
                return Err(format!(
                    "cgroup {id}: {children:?}, but there are {any}, {online} online"
                ));
            }
        }
        Ok(())
    }
}
