//! [`Slot`]: the counters and the state of the cgroup that has an id.

use super::error::MemcgError;
use super::handle::Memcg;
use super::shard::{RESOURCES, SHARDS};
use crate::id::MemcgId;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// A number of pages, and its limit.
///
/// All accesses are relaxed. A thread that needs an exact number holds the locks of all shards; other threads
/// change it under these locks.
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

    /// Adds `nr` if the limit allows it. Returns the room that the limit leaves, or as an error what is
    /// charged already. The caller holds the lock of a shard, so that a thread that holds all locks finds no
    /// charge half way up.
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

    /// Subtracts `nr`, which was charged before.
    pub(super) fn uncharge(&self, nr: u64) {
        if nr != 0 {
            let before = self.usage.fetch_sub(nr, Ordering::Relaxed);
            debug_assert!(before >= nr, "{before} pages are charged, not {nr}");
        }
    }
}

/// The state of a cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// There is no cgroup, or another one than the one that was asked for.
    Free,
    Online,
    Offline,
    /// Offline, while `css_free` finds out whether it can be freed. This takes as long as the operations that
    /// are under way. New operations on the cgroup wait.
    Freeing,
}

/// What is kept for an id, and for the cgroup that has it.
///
/// | field | is changed |
/// | --- | --- |
/// | `children`, `online_children` | under the tree's lock |
/// | `state`, `in_removal` | under the tree's lock; the thread that set `in_removal` also goes back to offline and clears `in_removal` without it |
/// | `parent`, `depth` | under the tree's lock, by `create`; they stay until the cgroup is freed |
/// | the others | under the lock of a shard, or in a section of [`Grace`](super::grace::Grace): `css_free` waits for both |
#[derive(Debug)]
pub(super) struct Slot {
    /// The generation in the upper bits, and the state in the lowest two.
    state: AtomicU64,
    parent: AtomicU32,
    depth: AtomicU32,
    /// With all descendants, and with what the stocks of the shards hold. The same for `memsw`.
    pub(super) memory: Counter,
    pub(super) memsw: Counter,
    /// Records, with all descendants, and with what the stocks of the shards hold.
    pub(super) swapped: Counter,
    /// Pages in memory that are charged to this cgroup itself, without those that stocks hold.
    used: AtomicU64,
    /// One bit per shard. It is set if the shard's stock of this cgroup has pages of `used`; it may also be
    /// set if the stock has none any more. It is written under the lock of that shard (invariant 12).
    holders: AtomicU32,
    /// The records of this cgroup itself, without the changes that stocks hold. Two's complement: a record
    /// that was migrated may be freed before its new owner's statistic includes it.
    swap: AtomicU64,
    /// Pages, and charges for records, that operations have in hand between two of their sections. `css_free`
    /// refuses the cgroup until these operations have ended.
    kept: AtomicU64,
    children: AtomicU32,
    online_children: AtomicU32,
    in_removal: AtomicBool,
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
            in_removal: AtomicBool::new(false),
        }
    }

    pub(super) const fn free() -> Self {
        Self::new(FREE)
    }

    pub(super) const fn root() -> Self {
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

    /// Returns the state, of any cgroup that has the id.
    pub(super) fn state(&self) -> State {
        Self::decode(self.state.load(Ordering::Acquire))
    }

    /// Returns the state of this cgroup: `Free` if another generation has the id.
    #[inline]
    pub(super) fn state_of(&self, memcg: Memcg) -> State {
        let state = self.state.load(Ordering::Acquire);
        if state >> 2 == memcg.generation() {
            Self::decode(state)
        } else {
            State::Free
        }
    }

    /// Returns the handle of the cgroup that has the id.
    pub(super) fn memcg(&self, id: MemcgId) -> Option<Memcg> {
        let state = self.state.load(Ordering::Acquire);
        (Self::decode(state) != State::Free).then(|| Memcg::new(id, state >> 2))
    }

    /// Returns the handle of the cgroup that has the id, if it is online.
    pub(super) fn online(&self, id: MemcgId) -> Option<Memcg> {
        let state = self.state.load(Ordering::Acquire);
        (Self::decode(state) == State::Online).then(|| Memcg::new(id, state >> 2))
    }

    /// Brings the next generation online. The counters have been 0 since the last cgroup was freed.
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

    /// Sets the state, and keeps the generation. The caller holds the tree's lock, or has marked the cgroup
    /// as being in removal.
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

    /// Returns the parent, or `None` for the root.
    pub(super) fn parent(&self) -> Option<MemcgId> {
        let parent = u16::try_from(self.parent.load(Ordering::Relaxed));
        MemcgId::new(parent.ok()?)
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth.load(Ordering::Relaxed)
    }

    /// Charges this cgroup and not its ancestors, for a caller that adds up the ancestors itself. No other
    /// thread uses the tree. After an error, a part may be charged.
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

    /// Returns what is charged: memory, memsw and swap.
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

    /// Takes `least` to `most` pages from `used`, and returns how many. Takes nothing if `used` is below
    /// `least`.
    pub(super) fn take_used(&self, least: u64, most: u64) -> Option<u64> {
        let left = |used: u64| (used >= least).then(|| used - used.min(most));
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .ok()
            .map(|used| used.min(most))
    }

    /// Returns a shard whose stock may have pages of this cgroup: the first one from shard `from` on,
    /// wrapping around.
    ///
    /// Without the lock of that shard, this is a hint. The pages may be gone, and other shards may have got
    /// some.
    pub(super) fn holder(&self, from: usize) -> Option<usize> {
        const { assert!(SHARDS <= u32::BITS as usize, "a bit for each shard") };
        let bits = self.holders.load(Ordering::Relaxed);
        let (before, after) = (bits & ((1 << from) - 1), bits >> from << from);
        let bits = if after != 0 { after } else { before };
        (bits != 0).then(|| bits.trailing_zeros() as usize)
    }

    /// Returns whether this shard is a holder. The caller holds the lock of the shard.
    pub(super) fn is_holder(&self, at: usize) -> bool {
        self.holders.load(Ordering::Relaxed) & 1 << at != 0
    }

    /// Makes this shard a holder. The caller holds the lock of the shard.
    #[cold]
    pub(super) fn set_holder(&self, at: usize) {
        if !self.is_holder(at) {
            self.holders.fetch_or(1 << at, Ordering::Relaxed);
        }
    }

    /// Makes this shard not a holder. The caller holds the lock of the shard.
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

    /// Returns what operations keep, also after their sections have ended. Acquire: a caller that reads 0
    /// sees what was given back.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }

    /// Adds to what operations keep. The caller is in a section.
    pub(super) fn keep(&self, nr: u64) {
        self.kept.fetch_add(nr, Ordering::Relaxed);
    }

    /// Subtracts from what operations keep, after all of it was given back.
    pub(super) fn let_go(&self, nr: u64) {
        if nr != 0 {
            self.kept.fetch_sub(nr, Ordering::Release);
        }
    }

    /// The caller holds the tree's lock.
    pub(super) fn children(&self) -> Children {
        Children {
            any: self.children.load(Ordering::Relaxed),
            online: self.online_children.load(Ordering::Relaxed),
        }
    }

    /// The caller holds the tree's lock.
    pub(super) fn set_children(&self, children: Children) {
        self.children.store(children.any, Ordering::Relaxed);
        self.online_children
            .store(children.online, Ordering::Relaxed);
    }

    /// Returns whether a thread is in `css_offline` or `css_free` of the cgroup. The caller holds the tree's
    /// lock.
    pub(super) fn in_removal(&self) -> bool {
        self.in_removal.load(Ordering::Acquire)
    }

    /// The caller holds the tree's lock, or clears its own mark. Release: what the thread did comes before it
    /// clears the mark.
    pub(super) fn set_in_removal(&self, in_removal: bool) {
        self.in_removal.store(in_removal, Ordering::Release);
    }
}

/// The number of children of a cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Children {
    pub(super) any: u32,
    pub(super) online: u32,
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
