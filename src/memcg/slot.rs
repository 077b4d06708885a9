//! [`Slot`]: what is kept for an id, and [`Slots`], those of all ids.

use core::{fmt, ptr};

use alloc::boxed::Box;
use alloc::vec::Vec;
use crossbeam_utils::CachePadded;

use super::error::MemcgError;
use super::handle::Memcg;
use super::shard::{RESOURCES, SHARDS};
use crate::id::MemcgId;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// A number of pages, and the most that it may be.
///
/// Relaxed throughout: who needs an exact number holds the locks of all shards, under which the others
/// change it.
#[derive(Debug)]
pub(super) struct Counter {
    usage: AtomicU64,
    limit: AtomicU64,
}

impl Counter {
    const fn new() -> Self {
        Self {
            usage: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn usage(&self) -> u64 {
        self.usage.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Adds `nr`, unless it exceeds the limit: then it gives what was charged, and otherwise what the limit
    /// leaves. Under the lock of a shard, so that who has all of them knows that nobody is half way up.
    pub(super) fn try_charge(&self, nr: u64) -> Result<u64, u64> {
        if nr == 0 {
            return Ok(u64::MAX);
        }
        let limit = self.limit();
        let within = |usage: u64| usage.checked_add(nr).filter(|&usage| usage <= limit);
        self.usage
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .map(|before| limit - before - nr)
    }

    /// Takes `nr`, which was charged, away.
    pub(super) fn uncharge(&self, nr: u64) {
        if nr != 0 {
            let before = self.usage.fetch_sub(nr, Ordering::Relaxed);
            debug_assert!(before >= nr, "{before} pages are charged, not {nr}");
        }
    }
}

/// Whether a slot has a cgroup, and which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// None, or not the one that was asked for.
    Free,
    Online,
    Offline,
    /// Offline, and `css_free` is finding out whether it may go. That takes no longer than the
    /// operations that are under way; new ones on this cgroup wait.
    Freeing,
}

/// The cgroup of an id, if it has one.
///
/// | field | is changed |
/// | --- | --- |
/// | `children`, `online_children` | under the tree's mutex |
/// | `state`, `dying` | under it; back to offline and unmarked also without it, by the thread that marked it as dying |
/// | `parent`, `depth` | under it, by `create`; they stay until the cgroup is freed |
/// | the others | by anybody who may not be overtaken by `css_free`: under the lock of a shard, or in a section of [`Grace`](super::grace::Grace) |
#[derive(Debug)]
pub(super) struct Slot {
    /// The generation in the upper bits, and the state in the lowest two.
    state: AtomicU64,
    parent: AtomicU32,
    depth: AtomicU32,
    /// With what the stocks of the shards hold, and with all descendants.
    pub(super) memory: Counter,
    pub(super) memsw: Counter,
    /// Records, of all descendants too.
    pub(super) swapped: Counter,
    /// Pages in memory that are charged to this very cgroup, as far as no shard has them.
    used: AtomicU64,
    /// A bit for each shard: 1 where its stock of this cgroup has pages of `used`, and perhaps where it has
    /// none any more. It is written under the lock of that shard.
    holders: AtomicU32,
    /// The records of this very cgroup, as far as no shard knows better. Two's complement: a record
    /// that was moved may be freed before the statistic of its new owner has it.
    swap: AtomicU64,
    /// Pages, and charges for records, that operations have in hand between two of their sections: `css_free` refuses
    /// the cgroup until they are done.
    kept: AtomicU64,
    children: AtomicU32,
    online_children: AtomicU32,
    dying: AtomicBool,
}

const FREE: u64 = 0;
const ONLINE: u64 = 1;
const OFFLINE: u64 = 2;
const FREEING: u64 = 3;

impl Slot {
    const fn new(state: u64) -> Self {
        Self {
            state: AtomicU64::new(state),
            parent: AtomicU32::new(0),
            depth: AtomicU32::new(0),
            memory: Counter::new(),
            memsw: Counter::new(),
            swapped: Counter::new(),
            used: AtomicU64::new(0),
            holders: AtomicU32::new(0),
            swap: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            children: AtomicU32::new(0),
            online_children: AtomicU32::new(0),
            dying: AtomicBool::new(false),
        }
    }

    const fn root() -> Self {
        Self::new(1 << 2 | ONLINE)
    }

    #[inline]
    fn decode(state: u64) -> State {
        match state & 3 {
            ONLINE => State::Online,
            OFFLINE => State::Offline,
            FREEING => State::Freeing,
            _ => State::Free,
        }
    }

    /// Whichever cgroup it is that is here.
    pub(super) fn state(&self) -> State {
        Self::decode(self.state.load(Ordering::Acquire))
    }

    /// Of this cgroup: `Free` where it is not the one that is here.
    #[inline]
    pub(super) fn state_of(&self, memcg: Memcg) -> State {
        let state = self.state.load(Ordering::Acquire);
        if state >> 2 == memcg.generation() {
            Self::decode(state)
        } else {
            State::Free
        }
    }

    /// The handle of the cgroup that is here.
    pub(super) fn memcg(&self, id: MemcgId) -> Option<Memcg> {
        let state = self.state.load(Ordering::Acquire);
        (Self::decode(state) != State::Free).then(|| Memcg::new(id, state >> 2))
    }

    /// The handle of the cgroup that is here, if it is online.
    pub(super) fn online(&self, id: MemcgId) -> Option<Memcg> {
        let state = self.state.load(Ordering::Acquire);
        (Self::decode(state) == State::Online).then(|| Memcg::new(id, state >> 2))
    }

    /// The next generation comes online. Counters are 0 since the last one was freed.
    pub(super) fn bring_online(&self, id: MemcgId, parent: MemcgId, depth: u32) -> Memcg {
        self.parent.store(parent.get().into(), Ordering::Relaxed);
        self.depth.store(depth, Ordering::Relaxed);
        self.memory.set_limit(u64::MAX);
        self.memsw.set_limit(u64::MAX);
        self.swapped.set_limit(u64::MAX);
        let generation = (self.state.load(Ordering::Relaxed) >> 2) + 1;
        let memcg = Memcg::new(id, generation);
        self.state
            .store(memcg.generation() << 2 | ONLINE, Ordering::Release);
        memcg
    }

    /// Of the generation that it has. Under the tree's mutex, or by the thread that marked it as dying.
    pub(super) fn set_state(&self, state: State) {
        let bits = match state {
            State::Free => FREE,
            State::Online => ONLINE,
            State::Offline => OFFLINE,
            State::Freeing => FREEING,
        };
        let generation = self.state.load(Ordering::Relaxed) & !3;
        self.state.store(generation | bits, Ordering::Release);
    }

    /// `None` for the root.
    pub(super) fn parent(&self) -> Option<MemcgId> {
        let parent = u16::try_from(self.parent.load(Ordering::Relaxed));
        MemcgId::new(parent.ok()?)
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth.load(Ordering::Relaxed)
    }

    /// Charges this cgroup, and not its ancestors: where the caller adds up by itself, and nobody else is at work. After
    /// an error, a part may be charged.
    pub(super) fn charge_alone(
        &self,
        id: MemcgId,
        memory: u64,
        memsw: u64,
        swap: u64,
    ) -> Result<(), MemcgError> {
        let counters = [&self.memory, &self.memsw, &self.swapped];
        for ((counter, nr), resource) in counters
            .into_iter()
            .zip([memory, memsw, swap])
            .zip(RESOURCES)
        {
            counter
                .try_charge(nr)
                .map_err(|usage| MemcgError::OverLimit {
                    id,
                    resource,
                    nr,
                    usage,
                    limit: counter.limit(),
                })?;
        }
        Ok(())
    }

    /// Memory, memsw and swap.
    pub(super) fn charged(&self) -> [u64; 3] {
        [&self.memory, &self.memsw, &self.swapped].map(Counter::usage)
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn add_used(&self, nr: u64) {
        if nr != 0 {
            self.used.fetch_add(nr, Ordering::Relaxed);
        }
    }

    /// Takes `least` to `most` pages from `used`; nothing where it has less.
    pub(super) fn take_used(&self, least: u64, most: u64) -> Option<u64> {
        let left = |used: u64| (used >= least).then(|| used - used.min(most));
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .ok()
            .map(|used| used.min(most))
    }

    /// A shard whose stock may have pages of this cgroup: the first one from shard `from` on, and around.
    ///
    /// Without the lock of that shard, it is a hint: the pages may be gone, and others may have come
    /// elsewhere.
    pub(super) fn holder(&self, from: usize) -> Option<usize> {
        const { assert!(SHARDS <= u32::BITS as usize, "a bit for each shard") };
        let bits = self.holders.load(Ordering::Relaxed);
        let (before, after) = (bits & ((1 << from) - 1), bits >> from << from);
        let bits = if after != 0 { after } else { before };
        (bits != 0).then(|| bits.trailing_zeros() as usize)
    }

    /// Whether this shard is one. Under its lock.
    pub(super) fn is_holder(&self, at: usize) -> bool {
        self.holders.load(Ordering::Relaxed) & 1 << at != 0
    }

    /// This shard is one. Under its lock.
    #[cold]
    pub(super) fn set_holder(&self, at: usize) {
        if !self.is_holder(at) {
            self.holders.fetch_or(1 << at, Ordering::Relaxed);
        }
    }

    /// This shard is none any more. Under its lock.
    pub(super) fn clear_holder(&self, at: usize) {
        if self.is_holder(at) {
            self.holders.fetch_and(!(1 << at), Ordering::Relaxed);
        }
    }

    pub(super) fn swap(&self) -> i64 {
        self.swap.load(Ordering::Relaxed).cast_signed()
    }

    pub(super) fn add_swap(&self, nr: i64) {
        if nr != 0 {
            self.swap.fetch_add(nr.cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// Also after the sections of the operation that is at work. Acquire: what was given back is seen by who sees that
    /// nothing is kept.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }

    /// In a section.
    pub(super) fn keep(&self, nr: u64) {
        self.kept.fetch_add(nr, Ordering::Relaxed);
    }

    /// When all that was kept has been given back.
    pub(super) fn let_go(&self, nr: u64) {
        if nr != 0 {
            self.kept.fetch_sub(nr, Ordering::Release);
        }
    }

    /// Under the tree's mutex.
    pub(super) fn children(&self) -> Children {
        Children {
            any: self.children.load(Ordering::Relaxed),
            online: self.online_children.load(Ordering::Relaxed),
        }
    }

    /// Under the tree's mutex.
    pub(super) fn set_children(&self, children: Children) {
        self.children.store(children.any, Ordering::Relaxed);
        self.online_children
            .store(children.online, Ordering::Relaxed);
    }

    /// Whether a thread is in `css_offline` or `css_free` of it. Under the tree's mutex.
    pub(super) fn dying(&self) -> bool {
        self.dying.load(Ordering::Acquire)
    }

    /// Under the tree's mutex; to take the mark away, what that thread did comes before.
    pub(super) fn set_dying(&self, dying: bool) {
        self.dying.store(dying, Ordering::Release);
    }
}

/// How many children a cgroup has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Children {
    pub(super) any: u32,
    pub(super) online: u32,
}

/// Ids that get their memory together: some pages of it.
pub(super) const BLOCK: usize = if cfg!(swap_records_loom) { 4 } else { 64 };
type Block = [CachePadded<Slot>; BLOCK];
/// Of all ids. The stacks of models are small, and their trees too.
pub(super) const BLOCKS: usize = if cfg!(swap_records_loom) {
    1
} else {
    (u16::MAX as usize + 1) / BLOCK
};

/// The slots of all ids. A block of them that was allocated stays until the tree is dropped: who has
/// the handle of a freed cgroup finds a slot, and in it that the cgroup is gone.
pub(super) struct Slots {
    /// There from the start, so that a tree can be made without an allocation.
    root: CachePadded<Slot>,
    /// Owned.
    blocks: [AtomicPtr<Block>; BLOCKS],
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self {
            root: CachePadded::new(Slot::root()),
            blocks: [const { AtomicPtr::new(ptr::null_mut()) }; BLOCKS],
        }
    }

    /// The slot of this id; `None` where no cgroup ever had one of its block.
    #[inline]
    pub(super) fn get(&self, id: MemcgId) -> Option<&Slot> {
        if id == MemcgId::MIN {
            return Some(&self.root);
        }
        let index = usize::from(id.get());
        let block = self.blocks.get(index / BLOCK)?.load(Ordering::Acquire);
        // SAFETY: what is in `blocks` came from `Box::into_raw`, was published with release, and is
        // freed by `drop` only, which nobody shares `self` with (design, invariant 8).
        let block = unsafe { block.as_ref() }?;
        Some(&block[index % BLOCK])
    }

    /// Allocates the block of this id, unless another thread did. The bytes that were refused otherwise.
    pub(super) fn allocate(&self, id: MemcgId) -> Result<(), usize> {
        let place = &self.blocks[usize::from(id.get()) / BLOCK];
        let mut block = Vec::new();
        block
            .try_reserve_exact(BLOCK)
            .map_err(|_| size_of::<Block>())?;
        block.resize_with(BLOCK, || CachePadded::new(Slot::new(FREE)));
        let block: Box<Block> = block
            .into_boxed_slice()
            .try_into()
            .map_err(|_| size_of::<Block>())?;
        let block = Box::into_raw(block);
        let null = ptr::null_mut();
        if place
            .compare_exchange(null, block, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: it came from `Box::into_raw` above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(block) });
        }
        Ok(())
    }

    /// Whether a block of ids is there: [`get`](Self::get) gives its slots.
    pub(super) fn has_block(&self, index: usize) -> bool {
        !self.blocks[index].load(Ordering::Relaxed).is_null()
    }

    /// The cgroup of this id and its ancestors, up to the root.
    #[inline]
    pub(super) fn up(&self, id: MemcgId) -> impl Iterator<Item = (MemcgId, &Slot)> {
        let with_slot = |id| Some((id, self.get(id)?));
        core::iter::successors(with_slot(id), move |(_, slot)| with_slot(slot.parent()?))
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for block in &mut self.blocks {
            let block = core::mem::replace(block.get_mut(), ptr::null_mut());
            if !block.is_null() {
                // SAFETY: it came from `Box::into_raw`, and nobody else is left.
                drop(unsafe { Box::from_raw(block) });
            }
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_stops_at_its_limit_and_does_not_wrap() {
        let counter = Counter::new();
        assert_eq!(counter.try_charge(u64::MAX), Ok(0));
        assert_eq!(counter.try_charge(1), Err(u64::MAX));
        counter.uncharge(u64::MAX - 5);
        counter.set_limit(7);
        assert_eq!(counter.try_charge(3), Err(5));
        assert_eq!(counter.try_charge(u64::MAX), Err(5));
        assert_eq!(counter.try_charge(1), Ok(1));
        assert_eq!(counter.try_charge(1), Ok(0));
        assert!(counter.try_charge(0).is_ok());
        assert_eq!(counter.usage(), 7);
    }

    #[test]
    fn a_slot_knows_its_cgroup_from_the_one_before() {
        let slots = Slots::new();
        let id = MemcgId::new(77).unwrap();
        assert!(slots.get(id).is_none());
        slots.allocate(id).unwrap();
        slots.allocate(id).unwrap();
        let slot = slots.get(id).unwrap();
        let first = slot.bring_online(id, MemcgId::MIN, 1);
        assert_eq!(first, Memcg::new(id, 1));
        assert_eq!(slot.state_of(first), State::Online);
        slot.set_state(State::Freeing);
        assert_eq!(slot.state_of(first), State::Freeing);
        slot.set_state(State::Offline);
        assert_eq!(slot.state_of(first), State::Offline);
        slot.set_state(State::Free);
        assert_eq!((slot.state_of(first), slot.memcg(id)), (State::Free, None));
        let second = slot.bring_online(id, MemcgId::MIN, 1);
        assert_eq!(slot.state_of(first), State::Free);
        assert_eq!((slot.memcg(id), second), (Some(second), Memcg::new(id, 2)));
        assert!(slots.up(id).map(|(id, _)| id).eq([id, MemcgId::MIN]));
    }

    #[test]
    fn holders_are_found_from_a_shard_on_and_around() {
        let slot = Slot::root();
        assert_eq!(slot.holder(0), None);
        for at in [1, 5, 6] {
            slot.set_holder(at);
            slot.set_holder(at);
        }
        let first = |from| slot.holder(from);
        assert_eq!([0, 1, 2, 5, 6, 7].map(first), [1, 1, 5, 5, 6, 1].map(Some));
        slot.clear_holder(1);
        slot.clear_holder(1);
        assert_eq!([0, 6, 7].map(first), [5, 6, 5].map(Some));
        assert!(slot.is_holder(5) && !slot.is_holder(1));
        slot.clear_holder(5);
        slot.clear_holder(6);
        assert_eq!(slot.holder(3), None);
    }

    #[test]
    fn pages_are_taken_whole_or_not_at_all() {
        let slot = Slot::root();
        slot.add_used(10);
        assert_eq!(slot.take_used(11, 20), None);
        assert_eq!(slot.take_used(3, 8), Some(8));
        assert_eq!(slot.take_used(1, 64), Some(2));
        assert_eq!((slot.take_used(0, 64), slot.used()), (Some(0), 0));
    }
}
