//! Counts the locks that an operation on pages takes while other threads are at work.
//!
//! Pages are rarely freed by the thread that charged them. `cargo test --test memcg_locks -- --nocapture`
//! prints the number of locks per call.

use std::cell::Cell;
use std::sync::{Mutex, mpsc};
use std::thread;

use lock_api::RawMutex;
use swap_records::memcg::{Memcg, MemcgError, Memcgs};
use swap_records::{RawSpinLock, SwapEntry, SwapType};

thread_local! {
    /// The number of locks that this thread took.
    static TAKEN: Cell<u64> = const { Cell::new(0) };
    /// The number of locks that it holds.
    static HELD: Cell<u64> = const { Cell::new(0) };
    /// The most locks that it held at once.
    static MOST: Cell<u64> = const { Cell::new(0) };
}

/// [`RawSpinLock`], counted.
struct Counted(RawSpinLock);

impl Counted {
    fn taken() {
        TAKEN.set(TAKEN.get() + 1);
        HELD.set(HELD.get() + 1);
        MOST.set(MOST.get().max(HELD.get()));
    }
}

// SAFETY: the inner lock is one, and is taken and freed whenever this is.
unsafe impl RawMutex for Counted {
    const INIT: Self = Self(RawSpinLock::INIT);
    type Guard = <RawSpinLock as RawMutex>::Guard;

    fn lock(&self) {
        self.0.lock();
        Self::taken();
    }

    fn try_lock(&self) -> Option<()> {
        self.0.try_lock()?;
        Self::taken();
        Some(())
    }

    unsafe fn unlock(&self, (): ()) {
        HELD.set(HELD.get() - 1);
        // SAFETY: the caller holds it.
        unsafe { self.0.unlock(()) };
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

type Tree = Memcgs<Counted>;

const ROUNDS: u64 = if cfg!(miri) { 3 } else { 300 };

fn ty() -> SwapType {
    SwapType::new(0).unwrap()
}

fn tree() -> (Tree, Memcg) {
    let memcgs = Tree::with_raw_mutex();
    memcgs.swapon(ty(), 1 << 15).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let child = memcgs.create(parent).unwrap();
    (memcgs, child)
}

/// The locks that the operations of one thread took.
#[derive(Default)]
struct Locks {
    calls: u64,
    taken: u64,
    /// The most locks that a call held at once.
    most: u64,
}

impl Locks {
    fn of(&mut self, call: impl FnOnce()) {
        let before = TAKEN.replace(0);
        MOST.set(0);
        call();
        self.taken += TAKEN.replace(before);
        self.calls += 1;
        self.most = self.most.max(MOST.get());
    }

    #[expect(clippy::cast_precision_loss, reason = "of few")]
    fn per_call(&self) -> f64 {
        self.taken as f64 / self.calls as f64
    }
}

/// Runs `call` without counting its locks.
fn uncounted<R>(call: impl FnOnce() -> R) -> R {
    let before = TAKEN.get();
    let result = call();
    TAKEN.set(before);
    result
}

/// Runs rounds. In each round, each producer charges `nr` pages `charges` times. Then this thread consumes as
/// many pages, `at_once` per call. Returns the locks that these calls took.
fn in_turn(
    (memcgs, child): (&Tree, Memcg),
    producers: u64,
    (charges, nr): (u64, u64),
    at_once: u64,
    consume: impl Fn(u64),
) -> Locks {
    let mut locks = Locks::default();
    thread::scope(|s| {
        let (done, all_done) = mpsc::channel();
        let producers: Vec<_> = (0..producers)
            .map(|_| {
                let (go, told) = mpsc::channel();
                let done = done.clone();
                s.spawn(move || {
                    for () in told {
                        (0..charges).for_each(|_| memcgs.charge(child, nr).unwrap());
                        done.send(()).unwrap();
                    }
                });
                go
            })
            .collect();
        for _ in 0..ROUNDS {
            producers.iter().for_each(|go| go.send(()).unwrap());
            producers.iter().for_each(|_| all_done.recv().unwrap());
            let pages = producers.len() as u64 * charges * nr;
            assert_eq!(pages % at_once, 0);
            (0..pages / at_once).for_each(|_| locks.of(|| consume(at_once)));
        }
    });
    locks
}

/// How many charges of how many pages a producer makes per round, and how many pages are freed per call.
const SCENES: [((u64, u64), u64); 6] = [
    ((1, 1), 1),
    ((1, 16), 16),
    ((16, 1), 16),
    ((16, 1), 1),
    ((1, 16), 1),
    ((1000, 1), 1),
];

/// Returns the highest average of locks per call of all scenes.
fn the_most(name: &str, free: impl Fn(&Tree, Memcg, u64)) -> f64 {
    let mut most = 0.0_f64;
    for producers in [1, 2, 4, 15] {
        for (charged, at_once) in SCENES {
            let (memcgs, child) = tree();
            let free = |nr| free(&memcgs, child, nr);
            let locks = in_turn((&memcgs, child), producers, charged, at_once, free);
            let (charges, nr) = charged;
            let per_call = locks.per_call();
            assert_eq!(locks.most, 1, "locks that a call held at once");
            println!(
                "{producers:2} producers, {charges:4} charges of {nr:2}, {name} of {at_once:2}: {per_call:.2} \
                 locks per call"
            );
            most = most.max(per_call);
            assert_eq!(memcgs.usage(memcgs.root()).unwrap().memsw, 0);
            memcgs.validate().unwrap();
        }
    }
    most
}

/// A regression: a call that did not find the pages in the shard of its thread took the locks of all 16
/// shards.
#[test]
fn a_page_that_another_thread_charged_is_uncharged_with_two_locks() {
    let most = the_most("uncharge", |memcgs, child, nr| {
        memcgs.uncharge(child, nr).unwrap();
    });
    assert!(most <= 2.0, "{most} locks per call");
}

/// Two locks for the page, one for the charge of swap, one of the region, and one for the statistics. (The
/// first record of a region takes the region's lock twice.)
#[test]
fn a_page_that_another_thread_charged_is_swapped_out_with_five_locks() {
    let start = SwapEntry::new(ty(), 9).unwrap();
    let most = the_most("swap_out", |memcgs, child, nr| {
        memcgs.swap_out(child, start, nr).unwrap();
        uncounted(|| memcgs.free_swap(start, nr).unwrap());
    });
    assert!(most <= 5.5, "{most} locks per call");
}

/// Two locks for the page, one for the charge, and one to give the page to the new owner.
#[test]
fn a_page_that_another_thread_charged_is_moved_with_four_locks() {
    let most = the_most("move_account", |memcgs, child, nr| {
        let parent = uncounted(|| memcgs.parent(child).unwrap().unwrap());
        memcgs.move_account(child, parent, nr).unwrap();
        uncounted(|| memcgs.uncharge(parent, nr).unwrap());
    });
    assert!(most <= 4.0, "{most} locks per call");
}

/// A call that frees more pages than any one thread has charged visits several shards, and never more shards
/// than there were charges.
#[test]
fn pages_of_many_threads_are_collected_with_a_lock_for_each_charge() {
    for producers in [1, 2, 4, 15] {
        let (memcgs, child) = tree();
        let uncharge = |nr| memcgs.uncharge(child, nr).unwrap();
        let locks = in_turn((&memcgs, child), producers, (1, 1), producers, uncharge);
        let charges = producers * ROUNDS;
        println!(
            "{producers:2} producers, 1 charge of 1, uncharge of all: {:.2} locks per call",
            locks.per_call()
        );
        assert!(locks.taken <= locks.calls + charges);
        memcgs.validate().unwrap();
    }
}

/// Threads that free pages also take them from each other. So a call may find that another thread was faster.
/// It takes the locks of all shards only if other threads were faster at every shard.
#[test]
fn threads_that_race_for_pages_of_others_take_three_locks_at_most() {
    const PAGES: u64 = if cfg!(miri) { 20 } else { 20_000 };
    for (producers, consumers) in [(1, 2), (2, 3), (4, 4)] {
        let (memcgs, child) = tree();
        let (charged, pages) = mpsc::sync_channel(5);
        let pages = Mutex::new(pages);
        let (memcgs, pages) = (&memcgs, &pages);
        let all: Vec<Locks> = thread::scope(|s| {
            for _ in 0..producers {
                let charged = charged.clone();
                s.spawn(move || {
                    for _ in 0..PAGES / producers {
                        memcgs.charge(child, 1).unwrap();
                        charged.send(()).unwrap();
                    }
                });
            }
            drop(charged);
            let consumers: Vec<_> = (0..consumers)
                .map(|_| {
                    s.spawn(move || {
                        let mut locks = Locks::default();
                        let next = || pages.lock().unwrap().recv();
                        while let Ok(()) = next() {
                            locks.of(|| memcgs.uncharge(child, 1).unwrap());
                        }
                        locks
                    })
                })
                .collect();
            consumers.into_iter().map(|c| c.join().unwrap()).collect()
        });
        let taken = all.iter().map(|locks| locks.taken).sum();
        let calls = all.iter().map(|locks| locks.calls).sum();
        assert_eq!(calls, PAGES);
        let most = all.iter().map(|locks| locks.most).max().unwrap();
        let per_call = Locks { calls, taken, most }.per_call();
        println!(
            "{producers} producers and {consumers} consumers: {per_call:.2} locks per call, {most} at once at most"
        );
        assert!(per_call <= 3.0, "{per_call} locks per call");
        memcgs.validate().unwrap();
    }
}

/// A refusal of pages that are not charged is decided with all locks held, and takes no page from any shard.
#[test]
fn more_pages_than_all_threads_have_charged_are_not_there() {
    let (memcgs, child) = tree();
    let sibling = memcgs.create(memcgs.root()).unwrap();
    memcgs.charge(sibling, 100).unwrap();
    thread::scope(|s| {
        for nr in 1..=5 {
            let memcgs = &memcgs;
            s.spawn(move || memcgs.charge(child, nr).unwrap());
        }
    });
    let not_charged = |nr, charged| MemcgError::NotCharged {
        id: child.id(),
        nr,
        charged,
    };
    assert_eq!(memcgs.uncharge(child, 16), Err(not_charged(16, 15)));
    assert_eq!(memcgs.usage(child).unwrap().memory, 15);
    memcgs.uncharge(child, 14).unwrap();
    assert_eq!(memcgs.uncharge(child, 2), Err(not_charged(2, 1)));
    memcgs.uncharge(child, 1).unwrap();
    assert_eq!(memcgs.uncharge(child, 1), Err(not_charged(1, 0)));
    memcgs.validate().unwrap();
}
