//! The tree: who there is, with which limits, and what is charged.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::{MemcgError, Resource};
use super::handle::Memcg;
use super::ids::Ids;
use super::slot::{Children, Slot, State};
use crate::id::MemcgId;

/// What is charged to a cgroup, in pages, at one moment.
///
/// Fields may come. With feature `serde`, all of these but `swap_total` and the limits must be there on the way in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Usage {
    /// Pages in memory, with those of all descendants.
    pub memory: u64,
    /// Pages in memory and records, with those of all descendants.
    pub memsw: u64,
    /// The cgroup's own pages in memory.
    pub own: u64,
    /// The cgroup's own records: the swap statistic.
    pub swap: u64,
    /// Records, with those of all descendants: what a limit of [`Resource::Swap`] is for.
    #[cfg_attr(feature = "serde", serde(default))]
    pub swap_total: u64,
    /// The most that `memory` may be; `None` where there is no limit.
    pub memory_limit: Option<u64>,
    /// The most that `memsw` may be; `None` where there is no limit.
    pub memsw_limit: Option<u64>,
    /// The most that `swap_total` may be; `None` where there is no limit.
    pub swap_limit: Option<u64>,
    /// Whether the cgroup is online.
    pub online: bool,
    /// How many children it has that were not freed.
    pub children: u32,
}

impl<L> Memcgs<L> {
    /// The root of the tree. It has the id 1 and is online always.
    #[must_use]
    pub const fn root(&self) -> Memcg {
        Memcg::new(MemcgId::MIN, 1)
    }
}

impl<L: RawMutex> Memcgs<L> {
    /// A new cgroup, online, under a parent that is online. It gets the lowest id that is free, and no
    /// limits.
    ///
    /// # Errors
    ///
    /// [`NoId`](MemcgError::NoId) where all 65,535 ids are in use;
    /// [`OutOfMemory`](MemcgError::OutOfMemory); of the parent, [`Offline`](MemcgError::Offline) and
    /// [`Gone`](MemcgError::Gone).
    pub fn create(&self, parent: Memcg) -> Result<Memcg, MemcgError> {
        loop {
            let id = {
                let mut ids = self.tree.lock();
                self.online(parent)?;
                let id = ids.lowest().ok_or(MemcgError::NoId)?;
                if let Some(slot) = self.slots.get(id) {
                    return Ok(self.bring_online(&mut ids, id, slot, parent.id()));
                }
                id
            };
            // Not under the lock.
            self.allocate(id)?;
        }
    }

    /// As [`create`](Self::create), with this id: for a tree that is made again as it was.
    ///
    /// # Errors
    ///
    /// [`IdInUse`](MemcgError::IdInUse) where a cgroup has it, which may be offline or about to be freed; otherwise as of
    /// [`create`](Self::create).
    pub fn create_with_id(&self, parent: Memcg, id: MemcgId) -> Result<Memcg, MemcgError> {
        loop {
            {
                let mut ids = self.tree.lock();
                self.online(parent)?;
                if !ids.is_free(id) {
                    return Err(MemcgError::IdInUse { id });
                }
                if let Some(slot) = self.slots.get(id) {
                    return Ok(self.bring_online(&mut ids, id, slot, parent.id()));
                }
            }
            // Not under the lock.
            self.allocate(id)?;
        }
    }

    fn allocate(&self, id: MemcgId) -> Result<&Slot, MemcgError> {
        let refused = |bytes| MemcgError::OutOfMemory { bytes };
        self.slots.allocate(id).map_err(refused)?;
        self.slots.get(id).ok_or(refused(0))
    }

    fn bring_online(&self, ids: &mut Ids, id: MemcgId, slot: &Slot, parent: MemcgId) -> Memcg {
        ids.take(id);
        let mut depth = 0;
        if let Some(of_parent) = self.slots.get(parent) {
            depth = of_parent.depth() + 1;
            let Children { any, online } = of_parent.children();
            of_parent.set_children(Children {
                any: any + 1,
                online: online + 1,
            });
        }
        slot.bring_online(id, parent, depth)
    }

    /// The cgroup that has this id, online or offline; `None` where there is none.
    #[must_use]
    pub fn find(&self, id: MemcgId) -> Option<Memcg> {
        self.slots.get(id)?.memcg(id)
    }

    /// How many ids are in use, with that of the root.
    #[must_use]
    pub fn ids_in_use(&self) -> u32 {
        self.tree.lock().used()
    }

    /// The parent; `None` for the root.
    ///
    /// # Errors
    ///
    /// [`Gone`](MemcgError::Gone).
    pub fn parent(&self, memcg: Memcg) -> Result<Option<Memcg>, MemcgError> {
        let _tree = self.tree.lock();
        let slot = self.live(memcg)?;
        Ok(slot.parent().and_then(|id| self.find(id)))
    }

    /// The slot of a cgroup that is there. Under the tree's mutex it stays so.
    pub(super) fn live(&self, memcg: Memcg) -> Result<&Slot, MemcgError> {
        let slot = self.slot(memcg)?;
        match slot.state_of(memcg) {
            State::Free => Err(MemcgError::Gone { memcg }),
            State::Online | State::Offline | State::Freeing => Ok(slot),
        }
    }

    /// What is charged to the cgroup.
    ///
    /// Waits for the lock of each shard, and holds all of them while it adds up: exact where nobody is at
    /// work, and otherwise without what an operation that is under way has in hand.
    ///
    /// # Errors
    ///
    /// [`Gone`](MemcgError::Gone).
    pub fn usage(&self, memcg: Memcg) -> Result<Usage, MemcgError> {
        let _tree = self.tree.lock();
        let slot = self.live(memcg)?;
        let id = memcg.id();
        let all = self.shards.all();
        let (mut memory, mut memsw) = (slot.memory.usage(), slot.memsw.usage());
        let mut swap_total = slot.swapped.usage();
        let (mut own, mut swap) = (slot.used(), slot.swap());
        for (of, stock) in all.iter().flat_map(|shard| shard.stocks()) {
            if of == id {
                own += stock.used;
                swap += stock.swap;
            }
            // Charged, but to nobody's use.
            if self.slots.up(of).any(|(at, _)| at == id) {
                memory -= stock.memory;
                memsw -= stock.memsw;
                swap_total -= stock.slots;
            }
        }
        drop(all);
        let limit = |limit: u64| (limit != u64::MAX).then_some(limit);
        Ok(Usage {
            memory,
            memsw,
            own,
            // A record may be freed before its move is counted.
            swap: u64::try_from(swap).unwrap_or(0),
            swap_total,
            memory_limit: limit(slot.memory.limit()),
            memsw_limit: limit(slot.memsw.limit()),
            swap_limit: limit(slot.swapped.limit()),
            online: slot.state() == State::Online,
            children: slot.children().any,
        })
    }

    /// Sets the most that may be charged to the cgroup and its descendants, in pages; `None` for no limit.
    ///
    /// Whichever limit is reached first refuses. The limit of memory is never above that of memsw, as in the kernel,
    /// and no limit is the highest one. So raise memsw first, then memory; lower memory first, then memsw.
    /// Swap alone ([`Resource::Swap`], `memory.swap.max` of version 2) has a limit that is independent of these. No limit
    /// can be set below what is charged already: nothing is reclaimed here to make room, as a kernel may do.
    ///
    /// # Errors
    ///
    /// [`IsRoot`](MemcgError::IsRoot): the root has no limits; [`LimitOrder`](MemcgError::LimitOrder) where memsw would be
    /// below memory; [`LimitBelowUsage`](MemcgError::LimitBelowUsage); [`Gone`](MemcgError::Gone).
    pub fn set_limit(
        &self,
        memcg: Memcg,
        resource: Resource,
        limit: Option<u64>,
    ) -> Result<(), MemcgError> {
        let _tree = self.tree.lock();
        let slot = self.live(memcg)?;
        let counter = match resource {
            Resource::Memory => &slot.memory,
            Resource::Memsw => &slot.memsw,
            Resource::Swap => &slot.swapped,
        };
        let limit = limit.unwrap_or(u64::MAX);
        if slot.parent().is_none() {
            return Err(MemcgError::IsRoot);
        }
        let (memory, memsw) = match resource {
            Resource::Memory => (limit, slot.memsw.limit()),
            Resource::Memsw => (slot.memory.limit(), limit),
            Resource::Swap => (0, u64::MAX),
        };
        if memory > memsw {
            let id = memcg.id();
            return Err(MemcgError::LimitOrder { id, memory, memsw });
        }
        let mut all = self.shards.all();
        for shard in &mut all {
            self.settle_below(shard, memcg.id());
        }
        let usage = counter.usage();
        if usage > limit {
            return Err(MemcgError::LimitBelowUsage {
                id: memcg.id(),
                resource,
                limit,
                usage,
            });
        }
        counter.set_limit(limit);
        Ok(())
    }
}
