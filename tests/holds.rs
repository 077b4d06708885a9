//! How long locks are held, and which threads wait. The tests use a lock that notes what happens to it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use lock_api::RawMutex;
use swap_records::memcg::{Memcg, MemcgError, Memcgs};
use swap_records::{MemcgId, REGION_ENTRIES, RawSpinLock, Step, SwapEntry, SwapRecords, SwapType};

const REGION: u64 = REGION_ENTRIES as u64;

thread_local! {
    /// The number of locks that this thread holds.
    static HELD: Cell<u32> = const { Cell::new(0) };
    /// The number of locks that it has taken.
    static TAKEN: Cell<u64> = const { Cell::new(0) };
    /// Called once, while this thread holds the next lock that it takes.
    static NEXT: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// The number of times that a thread had to wait for a lock.
static WAITED: AtomicU64 = AtomicU64::new(0);

/// The tests share `WAITED`.
static ALONE: Mutex<()> = Mutex::new(());

/// A [`RawSpinLock`] that notes what happens to it.
struct Watched(RawSpinLock);

impl Watched {
    fn taken() {
        assert_eq!(HELD.replace(1), 0, "a second lock is taken under a first");
        TAKEN.set(TAKEN.get() + 1);
        if let Some(then) = NEXT.take() {
            then();
        }
    }
}

// SAFETY: the inner lock excludes, and is taken and freed exactly when this lock is.
unsafe impl RawMutex for Watched {
    const INIT: Self = Self(RawSpinLock::INIT);
    type Guard = <RawSpinLock as RawMutex>::Guard;

    fn lock(&self) {
        if self.0.try_lock().is_none() {
            WAITED.fetch_add(1, Ordering::Relaxed);
            self.0.lock();
        }
        Self::taken();
    }

    fn try_lock(&self) -> Option<()> {
        self.0.try_lock()?;
        Self::taken();
        Some(())
    }

    unsafe fn unlock(&self, (): ()) {
        HELD.set(0);
        // SAFETY: the caller holds it.
        unsafe { self.0.unlock(()) };
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(SwapType::new(0).unwrap(), offset).unwrap()
}

fn table(regions: u64) -> SwapRecords<Watched> {
    let table = SwapRecords::with_raw_mutex();
    let ty = SwapType::new(0).unwrap();
    table.swapon(ty, regions * REGION).unwrap();
    table
}

fn taken_by<R>(what: impl FnOnce() -> R) -> u64 {
    let before = TAKEN.get();
    what();
    assert_eq!(HELD.get(), 0, "a lock is still held");
    TAKEN.get() - before
}

/// Checks invariant 5. `Watched` itself asserts that no lock is taken under another one.
#[test]
fn no_operation_holds_two_locks_or_takes_more_than_one_per_region() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let table = table(8);
    let start = entry(REGION / 2);
    let all = taken_by(|| table.record_range(start, 6 * REGION, id(1)).unwrap());
    assert_eq!(all, 7, "one a region that it reaches into");

    // A presence bit changes: one hold to see this, one to do it.
    assert!(taken_by(|| table.record(entry(3), id(2)).unwrap()) <= 2);
    assert!(taken_by(|| table.cmpxchg(entry(3), Some(id(2)), None).unwrap()) <= 2);
    assert_eq!(taken_by(|| table.lookup(start)), 0);
    assert_eq!(taken_by(|| table.count_upper_bound(id(1))), 0);
    assert_eq!(taken_by(|| table.count(id(1))), 0, "the index knows");
    assert_eq!(taken_by(|| assert_eq!(table.owners().count(), 1)), 0);
    // Once the counter is shared: one hold per region that may hold the id, and no more if another id is in
    // it.
    let shared = 1 + 4096;
    table.record(entry(REGION / 2), id(shared)).unwrap();
    assert_eq!(taken_by(|| table.count(id(1))), 7);
    let both = taken_by(|| assert_eq!(table.owners().count(), 2));
    assert_eq!(both, 2 * 7, "each of the two by itself");
    table.record(entry(REGION / 2), id(1)).unwrap();
    let other = taken_by(|| assert_eq!(table.count(id(2 + 4096)), 0));
    assert_eq!(other, 0, "it was never recorded");

    assert_eq!(taken_by(|| table.migrate(id(3), id(4))), 0);
    assert_eq!(taken_by(|| table.migrate(id(1), id(2))), 7);
    let steps = taken_by(|| {
        let mut migration = table.migration(id(2), id(1));
        while migration.step(1) == Step::More {}
        let longest = migration.so_far().longest_hold;
        assert_eq!(longest, REGION, "entries in one hold");
    });
    assert_eq!(steps, 7);
    taken_by(|| {
        assert_eq!(table.runs(entry(0).swap_type()).count(), 1);
        assert_eq!(table.runs_of(id(1)).count(), 1);
        table.clear_range(start, 6 * REGION).unwrap();
        table.swapoff(entry(0).swap_type()).unwrap();
    });
    // In the next swapfile, no counter is shared.
    table.swapon(entry(0).swap_type(), 8 * REGION).unwrap();
    table.record(start, id(1)).unwrap();
    assert_eq!(taken_by(|| assert_eq!(table.count(id(1)), 1)), 0);
}

/// Neighbouring slots of a batch in the same region share a hold, which has 64 slots at most. The callback
/// runs without a lock.
#[test]
fn a_batch_holds_one_lock_for_neighbours_and_none_for_its_callback() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let table = table(8);
    let window = if cfg!(miri) { 8 } else { 64 };
    let slots = |offsets: &mut dyn Iterator<Item = u64>| offsets.map(entry).collect::<Vec<_>>();
    let close = slots(&mut (0..window + 1).map(|n| 3 * REGION + n));
    let far = slots(&mut (0..7).map(|n| n * REGION + 5));
    let in_pairs = slots(&mut (0..8).map(|n| n / 2 * REGION + n));
    for (slots, locks) in [(close, 2), (far, 7), (in_pairs, 4)] {
        let with_ids: Vec<_> = slots.iter().map(|&slot| (slot, id(3))).collect();
        let each = |_, _| assert_eq!(HELD.get(), 0, "called under a lock");
        for _ in 0..2 {
            let taken = taken_by(|| table.record_batch(&slots, id(2), each).unwrap());
            assert_eq!(taken, locks, "{slots:?}");
            let taken = taken_by(|| table.record_batch_ids(&with_ids, each).unwrap());
            assert_eq!(taken, locks, "{slots:?}");
        }
        let taken = taken_by(|| table.clear_batch(&slots, each).unwrap());
        assert_eq!(taken, locks, "{slots:?}");
        // A batch that is refused takes no lock.
        let past = [slots[0], entry(8 * REGION)];
        let refused = taken_by(|| table.clear_batch(&past, each).unwrap_err());
        assert_eq!(refused, 0);
    }
}

/// A migration that is stopped by force in the middle of a region does not block other regions, and does not
/// block any reader.
#[test]
fn writers_of_other_regions_never_wait_for_a_migration() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let table = table(4);
    for region in 0..4 {
        table
            .record_range(entry(region * REGION), 100, id(1))
            .unwrap();
    }
    let (stopped, is_stopped) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let written = AtomicBool::new(false);
    thread::scope(|s| {
        let (table, written) = (&table, &written);
        // Dropped with the scope, so that the migration goes on and the test ends, whatever fails.
        let go_on = go_on;
        let migration = s.spawn(move || {
            // It has locked the first region, and now gets no more time.
            NEXT.set(Some(Box::new(move || {
                stopped.send(()).unwrap();
                let _ = goes_on.recv();
            })));
            table.migrate(id(1), id(2))
        });
        is_stopped.recv().unwrap();
        let waited = WAITED.load(Ordering::Relaxed);
        // On a thread of its own, because a thread that had to wait would wait forever.
        let (wrote, has_written) = mpsc::channel();
        s.spawn(move || {
            for region in 1..4 {
                let ent = entry(region * REGION + 7);
                assert_eq!(table.record(ent, id(3)), Ok(Some(id(1))));
                assert_eq!(table.record_range(ent, 60, id(3)).unwrap().len(), 2);
                assert_eq!(table.clear(ent), Ok(Some(id(3))));
            }
            wrote.send(()).unwrap();
        });
        let has_written = has_written.recv_timeout(Duration::from_secs(60));
        assert_eq!(has_written, Ok(()), "a writer of another region waits");
        assert_eq!(table.lookup(entry(5)), Some(id(1)), "read under its lock");
        assert_eq!(WAITED.load(Ordering::Relaxed), waited, "a thread waited");

        // A writer to the region itself does wait. So the test can see the difference.
        let writer = s.spawn(move || {
            table.record(entry(5), id(3)).unwrap();
            written.store(true, Ordering::Relaxed);
        });
        while WAITED.load(Ordering::Relaxed) == waited {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(5));
        assert!(
            !written.load(Ordering::Relaxed),
            "written under another's lock"
        );
        go_on.send(()).unwrap();
        writer.join().unwrap();
        assert_eq!(migration.join().unwrap(), 400 - 3 * 60);
    });
    assert_eq!(table.lookup(entry(5)), Some(id(3)));
    table.validate().unwrap();
}

/// The only processor, for threads that hold a lock. The lock disables preemption, so no other thread that
/// needs the processor runs while one thread holds it. A thread that waits for another one with the lock held
/// would wait forever.
static PROCESSOR: (Mutex<Option<thread::ThreadId>>, Condvar) = (Mutex::new(None), Condvar::new());

thread_local! {
    /// The number of [`OneCpu`] locks that this thread holds.
    static DISABLED: Cell<u32> = const { Cell::new(0) };
    /// Called once, before this thread takes the next of them.
    static BEFORE: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// A [`RawSpinLock`] that disables preemption while it is held.
struct OneCpu(RawSpinLock);

impl OneCpu {
    fn disable_preemption() {
        if let Some(then) = BEFORE.take() {
            then();
        }
        if DISABLED.replace(DISABLED.get() + 1) == 0 {
            let processor = PROCESSOR.0.lock().unwrap();
            let mut mine = PROCESSOR
                .1
                .wait_while(processor, |by| by.is_some())
                .unwrap();
            *mine = Some(thread::current().id());
        }
    }

    fn enable_preemption() {
        DISABLED.set(DISABLED.get() - 1);
        if DISABLED.get() == 0 {
            *PROCESSOR.0.lock().unwrap() = None;
            PROCESSOR.1.notify_all();
        }
    }
}

// SAFETY: the inner lock excludes, and is taken and freed exactly when this lock is.
unsafe impl RawMutex for OneCpu {
    const INIT: Self = Self(RawSpinLock::INIT);
    type Guard = <RawSpinLock as RawMutex>::Guard;

    fn lock(&self) {
        Self::disable_preemption();
        self.0.lock();
    }

    fn try_lock(&self) -> Option<()> {
        Self::disable_preemption();
        let taken = self.0.try_lock();
        if taken.is_none() {
            Self::enable_preemption();
        }
        taken
    }

    unsafe fn unlock(&self, (): ()) {
        // SAFETY: the caller holds it.
        unsafe { self.0.unlock(()) };
        Self::enable_preemption();
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

type Operation = fn(&Memcgs<OneCpu>, [Memcg; 2]) -> Result<(), MemcgError>;

/// Runs each operation that waits for other threads, together with each operation that it waits for. The
/// second one has begun, and comes to its first lock. If the first one waits with a lock held, the second one
/// does not get its lock.
#[test]
#[cfg_attr(
    miri,
    ignore = "what waits for ever would be left behind, and each waits a while"
)]
fn nothing_waits_for_another_thread_with_a_lock_held() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let wait: [Operation; 4] = [
        |memcgs, [removed, _]| memcgs.css_free(removed).map(drop),
        |memcgs, [_, other]| memcgs.css_offline(other, 0).map(drop),
        |memcgs, _| Ok(memcgs.swapoff(entry(0).swap_type()).map(drop)?),
        // Two operations that wait for each other's turn.
        |memcgs, [removed, other]| {
            thread::scope(|s| {
                let free = s.spawn(|| memcgs.css_free(removed).map(drop));
                memcgs.css_offline(other, 0)?;
                free.join().unwrap()
            })
        },
    ];
    let are_waited_for: [Operation; 8] = [
        |memcgs, _| memcgs.swap_in(entry(0), 2).map(drop),
        |memcgs, _| memcgs.swap_in_cached(entry(0), 2).map(drop),
        |memcgs, _| memcgs.free_swap(entry(0), 2).map(drop),
        |memcgs, _| {
            let slots = [entry(1), entry(0)];
            memcgs.free_swap_batch(&slots, |_, _| ()).map(drop)
        },
        |memcgs, [_, other]| memcgs.swap_out(other, entry(9), 2).map(drop),
        |memcgs, [_, other]| memcgs.move_account(other, memcgs.root(), 2),
        |memcgs, [removed, _]| {
            let moved = memcgs.move_swap_account(entry(0), 9, removed, memcgs.root());
            moved.map(drop)
        },
        |memcgs, [_, other]| memcgs.charge(other, 1),
    ];
    for (which, waits) in wait.into_iter().enumerate() {
        for (other, is_waited_for) in are_waited_for.into_iter().enumerate() {
            let (done, is_done) = mpsc::channel();
            // On threads of their own: a thread that waits forever is left behind.
            thread::spawn(move || {
                let memcgs = Memcgs::<OneCpu>::with_raw_mutex();
                memcgs.swapon(entry(0).swap_type(), REGION).unwrap();
                let family = [(); 2].map(|()| memcgs.create(memcgs.root()).unwrap());
                for memcg in family {
                    memcgs.charge(memcg, 4).unwrap();
                }
                memcgs.swap_out(family[0], entry(0), 4).unwrap();
                memcgs.css_offline(family[0], 0).unwrap();
                let (start, starts) = mpsc::channel();
                thread::scope(|s| {
                    let memcgs = &memcgs;
                    s.spawn(move || {
                        starts.recv().unwrap();
                        // Any result is right: the charge may come first, or the swapfile may be gone.
                        let _ = waits(memcgs, family);
                    });
                    BEFORE.set(Some(Box::new(move || {
                        start.send(()).unwrap();
                        // Until it waits for this thread, or has ended.
                        thread::sleep(Duration::from_millis(20));
                    })));
                    let _ = is_waited_for(memcgs, family);
                });
                memcgs.validate().unwrap();
                let _ = done.send(());
            });
            let is_done = is_done.recv_timeout(Duration::from_secs(20));
            assert_eq!(
                is_done,
                Ok(()),
                "{which} waits for {other}, which cannot run"
            );
        }
    }
}
