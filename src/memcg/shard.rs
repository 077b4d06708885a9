//! [`Shard`]: charges that some threads keep ready, so that most of their charges touch no counter that other
//! threads touch.
//!
//! A thread works on one shard, under its lock. A shard has a few [`Stock`]s, each for one cgroup. A stock
//! holds:
//!
//! - pages that are charged to the counters of the cgroup and all its ancestors, but not used yet;
//! - changes of the statistics that the cgroup's [`Slot`] does not have yet.
//!
//! (The kernel has per-cpu stocks of charges, and a page counter.)
//!
//! An operation that needs exact numbers takes the locks of all shards, in their order. An operation that
//! needs pages that another thread charged visits the shards that have some, with one lock at a time.
//! [`Slot::holder`] names these shards.
//!
//! A cgroup that is not online has no stock. A thread that made one before the cgroup went offline held the
//! lock, and `css_offline` empties each shard after that.

use core::fmt;
use core::ops::{Deref, DerefMut};

use crossbeam_utils::CachePadded;
use lock_api::{Mutex, MutexGuard, RawMutex};

use super::error::Resource;
use super::slot::Slot;
use crate::entry::{MAX_SWAPFILES, SwapType};
use crate::id::MemcgId;

/// A power of two, and as few as serve a large machine, since `css_free` visits all of them.
pub(super) const SHARDS: usize = if cfg!(any(swap_records_loom, miri)) {
    2
} else {
    16
};
/// The number of cgroups that a shard has stocks for.
const STOCKS: usize = if cfg!(any(swap_records_loom, miri)) {
    2
} else {
    4
};
/// The most pages that are charged ahead; near a limit it is fewer. The kernel's `MEMCG_CHARGE_BATCH` is 64.
/// Here, these pages are given back before a charge is refused, so limits stay exact with a larger batch.
/// With a larger batch, threads under one parent meet less often at its counters: with 64, two threads were
/// 1.2 to 1.5 times as fast as one.
pub(super) const BATCH: u64 = 256;

/// The counters of which a stock holds something ahead of use: its `memory`, `memsw` and `slots`, in this
/// order.
pub(super) const RESOURCES: [Resource; 3] = [Resource::Memory, Resource::Memsw, Resource::Swap];

/// What a shard holds for one cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Stock {
    /// Pages in memory that were charged here and not uncharged yet.
    pub(super) used: u64,
    /// Pages that are charged to the counter, but not used yet. The same for `memsw`.
    pub(super) memory: u64,
    pub(super) memsw: u64,
    /// Records that are charged to the counter, but not written yet.
    pub(super) slots: u64,
    /// Records written minus records cleared, as far as the slot does not have the change yet.
    pub(super) swap: i64,
    /// For each of [`RESOURCES`], how much the next refill may charge ahead of use. Never more than
    /// [`BATCH`].
    pub(super) ahead: [u16; 3],
    /// Whether the slot lists this shard as a holder. It must if `used` is not 0 (invariant 12).
    pub(super) known: bool,
}

impl Stock {
    pub(super) fn add(&mut self, more: Self) {
        self.used += more.used;
        self.memory += more.memory;
        self.memsw += more.memsw;
        self.slots += more.slots;
        self.swap += more.swap;
    }

    /// Called after pages were added to this stock, which is in shard `at`.
    #[inline]
    pub(super) fn make_known(&mut self, slot: &Slot, at: usize) {
        if !self.known {
            slot.set_holder(at);
            self.known = true;
        }
    }
}

/// The stocks that some threads share.
#[derive(Debug)]
pub(super) struct Shard {
    /// For each type, the records that these threads wrote minus the records that they cleared.
    records: [i64; MAX_SWAPFILES],
    stocks: [(Option<MemcgId>, Stock); STOCKS],
    /// The place that the next cgroup takes.
    next: usize,
}

impl Shard {
    const fn new() -> Self {
        const NONE: (Option<MemcgId>, Stock) = (
            None,
            Stock {
                used: 0,
                memory: 0,
                memsw: 0,
                slots: 0,
                swap: 0,
                ahead: [0; 3],
                known: false,
            },
        );
        Self {
            records: [0; MAX_SWAPFILES],
            stocks: [NONE; STOCKS],
            next: 0,
        }
    }

    /// Returns the stock of this cgroup. Makes one if there is none. The stock that was in its place goes to
    /// `evicted`.
    #[inline]
    pub(super) fn stock(
        &mut self,
        id: MemcgId,
        evicted: impl FnOnce(MemcgId, Stock),
    ) -> &mut Stock {
        let place = match self.stocks.iter().position(|&(of, _)| of == Some(id)) {
            Some(place) => place,
            None => self.make_room(id, evicted),
        };
        &mut self.stocks[place].1
    }

    #[cold]
    fn make_room(&mut self, id: MemcgId, evicted: impl FnOnce(MemcgId, Stock)) -> usize {
        let free = self.stocks.iter().position(|&(of, _)| of.is_none());
        let place = free.unwrap_or(self.next);
        self.next = (place + 1) % STOCKS;
        let (of, stock) = core::mem::replace(&mut self.stocks[place], (Some(id), Stock::default()));
        if let Some(of) = of {
            evicted(of, stock);
        }
        place
    }

    #[inline]
    pub(super) fn add_records(&mut self, ty: SwapType, nr: i64) {
        self.records[usize::from(ty.get())] += nr;
    }

    pub(super) fn records(&self, ty: SwapType) -> i64 {
        self.records[usize::from(ty.get())]
    }

    /// Returns the stock of this cgroup, if there is one.
    pub(super) fn find(&mut self, id: MemcgId) -> Option<&mut Stock> {
        let mut stocks = self.stocks.iter_mut();
        stocks.find_map(|(of, stock)| (*of == Some(id)).then_some(stock))
    }

    /// Returns an iterator over the stocks.
    pub(super) fn stocks(&self) -> impl Iterator<Item = (MemcgId, Stock)> {
        self.stocks
            .iter()
            .filter_map(|&(of, stock)| Some((of?, stock)))
    }

    /// Returns an iterator over the stocks that can change them.
    pub(super) fn stocks_mut(&mut self) -> impl Iterator<Item = (MemcgId, &mut Stock)> {
        let stocks = self.stocks.iter_mut();
        stocks.filter_map(|(of, stock)| Some(((*of)?, stock)))
    }

    /// Removes the stocks of the cgroups that are `wanted`, and returns them.
    pub(super) fn take(
        &mut self,
        wanted: impl Fn(MemcgId) -> bool,
    ) -> impl Iterator<Item = (MemcgId, Stock)> {
        self.stocks.iter_mut().filter_map(move |(of, stock)| {
            let id = of.take_if(|id| wanted(*id))?;
            Some((id, core::mem::take(stock)))
        })
    }
}

/// A shard whose lock is held.
pub(super) struct Held<'a, L: RawMutex> {
    shard: MutexGuard<'a, L, Shard>,
    /// The number of the shard.
    pub(super) at: usize,
}

impl<L: RawMutex> Held<'_, L> {
    /// Moves the pages of the cgroup from here to its slot, where every thread finds them.
    pub(super) fn give_used(&mut self, id: MemcgId, slot: &Slot) {
        if let Some(stock) = self.shard.find(id) {
            slot.add_used(core::mem::take(&mut stock.used));
            stock.known = false;
        }
        slot.clear_holder(self.at);
    }
}

impl<L: RawMutex> Deref for Held<'_, L> {
    type Target = Shard;

    #[inline]
    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl<L: RawMutex> DerefMut for Held<'_, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

/// All shards, each with its lock.
pub(super) struct Shards<L>([CachePadded<Mutex<L, Shard>>; SHARDS]);

impl<L: RawMutex> Shards<L> {
    pub(super) const fn new() -> Self {
        Self([const { CachePadded::new(Mutex::new(Shard::new())) }; SHARDS])
    }

    /// Locks the shard of this number.
    #[inline]
    pub(super) fn at(&self, at: usize) -> Held<'_, L> {
        Held {
            shard: self.0[at].lock(),
            at,
        }
    }

    /// Locks the shard of the calling thread.
    #[inline]
    pub(super) fn here(&self) -> Held<'_, L> {
        self.at(here())
    }

    /// Locks all shards, one after the other. Only one lock is held at a time.
    pub(super) fn each(&self) -> impl Iterator<Item = Held<'_, L>> {
        (0..SHARDS).map(|at| self.at(at))
    }

    /// Locks all shards, and returns them with the last one in front. They are always locked in the same
    /// order. No thread waits for a lock while it holds a later one.
    ///
    /// They are dropped from the front on, so they are unlocked from the last to the first. A lock that
    /// disables interrupts restores the flag as it found it. So the lock that found interrupts enabled must
    /// be unlocked last.
    pub(super) fn all(&self) -> [Held<'_, L>; SHARDS] {
        let mut all = core::array::from_fn(|at| self.at(at));
        all.reverse();
        all
    }

    /// Returns the shard of the calling thread, among all shards.
    pub(super) fn here_in<'h, 'a>(all: &'h mut [Held<'a, L>; SHARDS]) -> &'h mut Held<'a, L> {
        &mut all[SHARDS - 1 - here()]
    }
}

impl<L> fmt::Debug for Shards<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").finish_non_exhaustive()
    }
}

/// Returns the number of the calling thread's shard. Threads are assigned to the shards round-robin.
#[cfg(all(feature = "std", not(swap_records_loom)))]
#[inline]
pub(super) fn here() -> usize {
    use core::cell::Cell;
    use core::sync::atomic::{AtomicUsize, Ordering};

    static THREADS: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static HERE: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    #[cold]
    fn first(here: &Cell<usize>) -> usize {
        here.set(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
        here.get()
    }

    // A thread that is ending may have no thread-local values any more. Any shard will do then.
    HERE.try_with(|here| match here.get() {
        usize::MAX => first(here),
        shard => shard,
    })
    .unwrap_or(0)
        % SHARDS
}

/// Returns the number of the calling thread's shard. The threads of a model are assigned round-robin,
/// beginning with shard 0.
#[cfg(swap_records_loom)]
pub(super) fn here() -> usize {
    use core::cell::Cell;
    use core::sync::atomic::{AtomicUsize, Ordering};

    // Set up again for each order that loom runs. The atomic that counts threads is not part of the model.
    loom::lazy_static! {
        static ref THREADS: AtomicUsize = AtomicUsize::new(0);
    }
    loom::thread_local! {
        static HERE: Cell<Option<usize>> = Cell::new(None);
    }
    HERE.with(|here| {
        let first = || THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let shard = here.get().unwrap_or_else(first);
        here.set(Some(shard));
        shard
    })
}

/// Returns the number of the calling thread's shard, from the address of its stack. Stacks are some pages
/// apart.
#[cfg(not(any(feature = "std", swap_records_loom)))]
#[inline]
pub(super) fn here() -> usize {
    /// The smallest stack that is assumed: 16 KiB.
    const STACK_BITS: u32 = 14;
    let on_the_stack = 0_u8;
    let stack = core::ptr::from_ref(&on_the_stack).addr() >> STACK_BITS;
    // Fibonacci hashing: 2^32 divided by the golden ratio.
    #[expect(clippy::cast_possible_truncation, reason = "a hash")]
    let hash = (stack as u32).wrapping_mul(0x9e37_79b9);
    hash as usize >> (u32::BITS - SHARDS.ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_shard_evicts_in_turn_and_loses_nothing() {
        let mut shard = Shard::new();
        let id = |n: usize| MemcgId::new(u16::try_from(n + 1).unwrap()).unwrap();
        let mut evicted = Vec::new();
        for n in 0..STOCKS + 2 {
            let stock = shard.stock(id(n), |id, stock| evicted.push((id, stock.used)));
            stock.used += n as u64;
        }
        assert_eq!(evicted, [(id(0), 0), (id(1), 1)]);
        // A stock that exists is not evicted.
        let last = STOCKS + 1;
        let stock = shard.stock(id(last), |_, _| unreachable!());
        assert_eq!(stock.used, last as u64);
        assert_eq!(shard.take(|of| of == id(last)).count(), 1);
        assert_eq!(shard.stocks().count(), STOCKS - 1);
        assert_eq!(shard.take(|_| true).count(), STOCKS - 1);
        assert_eq!(shard.stocks().count(), 0);
    }

    #[test]
    fn a_thread_stays_with_its_shard() {
        let first = here();
        assert!(first < SHARDS);
        assert_eq!(here(), first);
    }
}
