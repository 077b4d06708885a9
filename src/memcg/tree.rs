//! Creates and finds cgroups, sets their limits, and says what is charged to them.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::{MemcgError, Resource};
use super::handle::Memcg;
use super::ids::Ids;
use super::slot::{Children, Slot, State};
use crate::id::MemcgId;

/// What is charged to a cgroup at one moment, and its limits, in pages. [`Memcgs::usage`] returns it.
///
/// Fields may be added. With the feature `serde`, deserialization requires all of these fields except
/// `swap_total` and the limits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Usage {
    /// Pages in memory, of the cgroup and all its descendants.
    pub memory: u64,
    /// Pages in memory and records, of the cgroup and all its descendants.
    pub memsw: u64,
    /// The cgroup's own pages in memory, without those of its children.
    pub own: u64,
    /// The cgroup's own records, without those of its children: the swap statistic.
    pub swap: u64,
    /// Records of the cgroup and all its descendants. [`Resource::Swap`] limits this number.
    #[cfg_attr(feature = "serde", serde(default))]
    pub swap_total: u64,
    /// The limit of `memory`, or `None` if it has none.
    pub memory_limit: Option<u64>,
    /// The limit of `memsw`, or `None` if it has none.
    pub memsw_limit: Option<u64>,
    /// The limit of `swap_total`, or `None` if it has none.
    pub swap_limit: Option<u64>,
    /// Whether the cgroup is online.
    pub online: bool,
    /// The number of children, online and offline, that were not freed.
    pub children: u32,
}

impl<L> Memcgs<L> {
    /// Returns the root of the tree. It has the id 1 and is always online.
    #[must_use]
    pub const fn root(&self) -> Memcg {
        Memcg::new(MemcgId::MIN, 1)
    }
}

impl<L: RawMutex> Memcgs<L> {
    /// Creates a cgroup under a parent that is online. The cgroup is online, has the lowest free id, and has
    /// no limits.
    ///
    /// ```
    /// # use swap_records::memcg::Memcgs;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let memcgs = Memcgs::new();
    /// let parent = memcgs.create(memcgs.root())?;
    /// let child = memcgs.create(parent)?;
    /// assert_eq!((parent.id().get(), child.id().get()), (2, 3));
    /// assert_eq!(memcgs.parent(child)?, Some(parent));
    /// assert_eq!(memcgs.ids_in_use(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Offline`](MemcgError::Offline) or [`Gone`](MemcgError::Gone) if the parent is offline or was
    ///   freed.
    /// - [`NoId`](MemcgError::NoId) if all 65,535 ids are in use.
    /// - [`OutOfMemory`](MemcgError::OutOfMemory) if an allocation fails.
    ///
    /// # Cost
    ///
    /// The lock of the tree. The first cgroup of each 64 ids allocates memory for all of these, with no lock
    /// held.
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
            // Allocates with no lock held (invariant 5).
            self.allocate(id)?;
        }
    }

    /// Creates a cgroup with this id, to make a tree again as it was. Otherwise it does the same as
    /// [`create`](Self::create).
    ///
    /// ```
    /// # use swap_records::memcg::{MemcgError, Memcgs};
    /// # use swap_records::MemcgId;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let memcgs = Memcgs::new();
    /// let id = MemcgId::new(4711).unwrap();
    /// let memcg = memcgs.create_with_id(memcgs.root(), id)?;
    /// assert_eq!(memcgs.find(id), Some(memcg));
    /// let refused = memcgs.create_with_id(memcgs.root(), id);
    /// assert_eq!(refused, Err(MemcgError::IdInUse { id }));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`IdInUse`](MemcgError::IdInUse) if a cgroup has the id, also if that cgroup is offline or is being
    /// freed. Otherwise as for [`create`](Self::create), without `NoId`.
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
            // Allocates with no lock held (invariant 5).
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

    /// Returns the cgroup that has this id, online or offline, or `None` if no cgroup has it.
    ///
    /// Takes no lock. Another thread may free the cgroup at any time; operations then refuse the handle with
    /// [`Gone`](MemcgError::Gone).
    #[must_use]
    pub fn find(&self, id: MemcgId) -> Option<Memcg> {
        self.slots.get(id)?.memcg(id)
    }

    /// Returns the number of ids that are in use, including the id of the root.
    #[must_use]
    pub fn ids_in_use(&self) -> u32 {
        self.tree.lock().used()
    }

    /// Returns the parent, or `None` for the root.
    ///
    /// # Errors
    ///
    /// [`Gone`](MemcgError::Gone) if the cgroup was freed.
    pub fn parent(&self, memcg: Memcg) -> Result<Option<Memcg>, MemcgError> {
        let _tree = self.tree.lock();
        let slot = self.live(memcg)?;
        Ok(slot.parent().and_then(|id| self.find(id)))
    }

    /// Returns the [`Slot`] of a cgroup that was not freed. It stays so while the caller holds the tree's
    /// lock.
    pub(super) fn live(&self, memcg: Memcg) -> Result<&Slot, MemcgError> {
        let slot = self.slot(memcg)?;
        match slot.state_of(memcg) {
            State::Free => Err(MemcgError::Gone { memcg }),
            State::Online | State::Offline | State::Freeing => Ok(slot),
        }
    }

    /// Returns what is charged to the cgroup, and its limits, in pages.
    ///
    /// The numbers are exact if no operation is under way. Otherwise they leave out what an operation has in
    /// hand at that moment.
    ///
    /// ```
    /// # use swap_records::memcg::Memcgs;
    /// # use swap_records::{SwapEntry, SwapType};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ty = SwapType::new(0).unwrap();
    /// # let memcgs = Memcgs::new();
    /// # memcgs.swapon(ty, 1 << 20)?;
    /// # let parent = memcgs.create(memcgs.root())?;
    /// # let child = memcgs.create(parent)?;
    /// # let slot = |offset| SwapEntry::new(ty, offset).unwrap();
    /// memcgs.charge(child, 5)?;
    /// memcgs.swap_out(child, slot(0), 2)?;
    ///
    /// let usage = memcgs.usage(child)?;
    /// assert_eq!((usage.memory, usage.memsw, usage.swap), (3, 5, 2));
    /// // The parent has nothing of its own.
    /// let usage = memcgs.usage(parent)?;
    /// assert_eq!((usage.memory, usage.memsw, usage.swap_total), (3, 5, 2));
    /// assert_eq!((usage.own, usage.swap), (0, 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Gone`](MemcgError::Gone) if the cgroup was freed.
    ///
    /// # Cost
    ///
    /// Takes the lock of the tree and the locks of all shards. It holds all of them while it adds up. So it
    /// delays every charge for that time.
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
            // Charged ahead of use: no page or record uses it yet.
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
            // The number is negative for a moment if a record is freed before its migration is counted.
            swap: u64::try_from(swap).unwrap_or(0),
            swap_total,
            memory_limit: limit(slot.memory.limit()),
            memsw_limit: limit(slot.memsw.limit()),
            swap_limit: limit(slot.swapped.limit()),
            online: slot.state() == State::Online,
            children: slot.children().any,
        })
    }

    /// Sets the limit of one counter of the cgroup, in pages, or removes it with `None`. The counter includes
    /// all descendants.
    ///
    /// The limits of a cgroup and of all its ancestors apply. The limit of memory is never above the limit of
    /// memsw, as in the kernel. `None` counts as the highest limit. To raise both, set memsw first. To lower
    /// both, set memory first. The limit of swap alone ([`Resource::Swap`], `memory.swap.max` of version 2)
    /// is independent of these two. A limit cannot be set below what is charged: this crate does not reclaim
    /// pages to make room, as a kernel may do.
    ///
    /// ```
    /// # use swap_records::memcg::{MemcgError, Memcgs, Resource};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let memcgs = Memcgs::new();
    /// # let memcg = memcgs.create(memcgs.root())?;
    /// // Without limits, memory is set first.
    /// memcgs.set_limit(memcg, Resource::Memory, Some(100))?;
    /// memcgs.set_limit(memcg, Resource::Memsw, Some(150))?;
    /// memcgs.charge(memcg, 100)?;
    /// let refused = memcgs.charge(memcg, 1);
    /// assert!(matches!(refused, Err(MemcgError::OverLimit { limit: 100, .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`IsRoot`](MemcgError::IsRoot) for the root, which has no limits.
    /// - [`LimitOrder`](MemcgError::LimitOrder) if the limit of memory would be above the limit of memsw.
    /// - [`LimitBelowUsage`](MemcgError::LimitBelowUsage) if more is charged than the new limit allows.
    /// - [`Gone`](MemcgError::Gone) if the cgroup was freed.
    ///
    /// # Cost
    ///
    /// Takes the lock of the tree and the locks of all shards. The cgroup and its descendants lose the
    /// batches that were charged ahead for them.
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
