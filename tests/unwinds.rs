//! A lock that unwinds, which `lock_api` allows: at each lock and each unlock of an operation, one after
//! another. Each entry is then written or not. The table agrees with its entries, and can be used further.
//!
//! `lock_api::RawMutex` defines the result: a lock that unwinds has not been taken, and an unlock that
//! unwinds has freed the lock.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use lock_api::RawMutex;
use swap_records::{
    CHUNK_ENTRIES, MemcgId, Migration, REGION_ENTRIES, RawSpinLock, Run, Step, SwapEntry,
    SwapRecords, SwapType,
};

const REGION: u64 = REGION_ENTRIES as u64;
const TYPE: SwapType = SwapType::new(0).unwrap();
const OTHER: SwapType = SwapType::new(3).unwrap();
const A: MemcgId = MemcgId::new(1).unwrap();
const B: MemcgId = MemcgId::new(2).unwrap();
const C: MemcgId = MemcgId::new(3).unwrap();
/// This id shares the counter of A.
const SHARED: MemcgId = MemcgId::new(4097).unwrap();
const PAGES: u64 = 3 * REGION - 100;

/// The number of locks, or unlocks, until one of them unwinds. 0: none does.
static FUSE: AtomicU64 = AtomicU64::new(0);
static AT_UNLOCK: AtomicBool = AtomicBool::new(false);

/// The tests share the fuse, because an operation may have threads of its own.
static ALONE: Mutex<()> = Mutex::new(());

struct Blown;

fn burn(unlock: bool) {
    if AT_UNLOCK.load(Ordering::Relaxed) != unlock {
        return;
    }
    let left = FUSE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    });
    if left == Ok(1) {
        resume_unwind(Box::new(Blown));
    }
}

/// A [`RawSpinLock`] that unwinds before it is taken, or after it is freed.
struct Fused(RawSpinLock);

// SAFETY: the inner lock excludes. If this lock unwinds, the inner one is not taken, or is free again.
unsafe impl RawMutex for Fused {
    const INIT: Self = Self(RawSpinLock::INIT);
    type Guard = <RawSpinLock as RawMutex>::Guard;

    fn lock(&self) {
        burn(false);
        self.0.lock();
    }

    fn try_lock(&self) -> Option<()> {
        burn(false);
        self.0.try_lock()
    }

    unsafe fn unlock(&self, (): ()) {
        // SAFETY: the caller holds it.
        unsafe { self.0.unlock(()) };
        burn(true);
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

type Table = SwapRecords<Fused>;

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// Makes a table with many and few records of A in each of three regions and in another type, and some of
/// other ids.
fn table() -> Table {
    let table = Table::with_raw_mutex();
    table.swapon(TYPE, PAGES).unwrap();
    table.swapon(OTHER, 1000).unwrap();
    table.record_range(entry(REGION - 70), 150, A).unwrap();
    table.record_range(entry(REGION - 10), 5, B).unwrap();
    table.record(entry(2 * REGION + 9), A).unwrap();
    table.record(entry(2 * REGION + 20), B).unwrap();
    table
        .record(SwapEntry::new(OTHER, 999).unwrap(), A)
        .unwrap();
    table
}

fn runs(table: &Table) -> Vec<Run> {
    [TYPE, OTHER]
        .into_iter()
        .flat_map(|ty| table.runs(ty))
        .collect()
}

/// Returns the owner of each slot of both types.
fn owners(table: &Table) -> Vec<Option<MemcgId>> {
    let mut owners = vec![None; 4 * REGION_ENTRIES];
    for run in runs(table) {
        let base = if run.start.swap_type() == TYPE {
            0
        } else {
            3 * REGION
        };
        let start = usize::try_from(base + run.start.offset()).unwrap();
        owners[start..][..usize::try_from(run.len).unwrap()].fill(Some(run.id));
    }
    owners
}

/// Sets the fuse to the `nth` lock or unlock. Returns whether `operation` ended without reaching it.
fn gets_through(nth: u64, unlock: bool, operation: impl FnOnce()) -> bool {
    AT_UNLOCK.store(unlock, Ordering::Relaxed);
    FUSE.store(nth, Ordering::Relaxed);
    let done = catch_unwind(AssertUnwindSafe(operation));
    let blown = FUSE.swap(0, Ordering::Relaxed) == 0;
    match done {
        Ok(()) => !blown,
        Err(why) if why.is::<Blown>() => false,
        Err(why) => resume_unwind(why),
    }
}

/// Lets `operation` unwind on a new [`table`], at one place after another, and calls `check` after each. Ends
/// when the operation gets through.
fn at_each_lock(operation: impl Fn(&Table), check: impl Fn(&Table, u64, bool)) {
    for unlock in [false, true] {
        let mut nth = 1;
        loop {
            let table = table();
            if gets_through(nth, unlock, || operation(&table)) {
                break;
            }
            check(&table, nth, unlock);
            nth += 1;
        }
        assert!(nth > 1, "it takes no lock");
    }
}

/// An operation and its name.
type Operation = (&'static str, fn(&Table));

/// Slots in several regions and both types, with and without an owner. Some of them are neighbours.
fn anywhere() -> [SwapEntry; 9] {
    let in_other = |offset| SwapEntry::new(OTHER, offset).unwrap();
    let [a, b, c] = [REGION - 9, REGION - 40, 7].map(entry);
    let [d, e, f] = [REGION + 60, 2 * REGION + 20, REGION - 8].map(entry);
    [
        a,
        b,
        c,
        d,
        in_other(999),
        in_other(3),
        e,
        f,
        entry(2 * REGION + 9),
    ]
}

fn migrate_in_steps(table: &Table) {
    let mut migration = table.migration(A, C);
    while migration.step(1) == Step::More {}
}

const OPERATIONS: &[Operation] = &[
    ("record", |t| _ = t.record(entry(5), A)),
    ("record over another", |t| {
        _ = t.record(entry(REGION - 9), C);
    }),
    ("record of a counter that has some", |t| {
        _ = t.record(entry(5), B);
    }),
    ("clear", |t| _ = t.clear(entry(REGION + 3))),
    ("clear of the last", |t| _ = t.clear(entry(2 * REGION + 9))),
    ("cmpxchg", |t| _ = t.cmpxchg(entry(REGION - 10), B, C)),
    ("cmpxchg that does not match", |t| {
        _ = t.cmpxchg(entry(REGION - 10), A, C);
    }),
    ("record_range in a region", |t| {
        _ = t.record_range(entry(REGION - 30), 30, C);
    }),
    ("record_range", |t| {
        _ = t.record_range(entry(REGION - 100), REGION + 300, C);
    }),
    ("clear_range", |t| _ = t.clear_range(entry(0), PAGES)),
    ("record_batch", |t| {
        _ = t.record_batch(&anywhere(), C, |_, _| ());
    }),
    ("record_batch_ids", |t| {
        let slots = anywhere().map(|slot| (slot, if slot.offset() % 2 == 0 { B } else { C }));
        _ = t.record_batch_ids(&slots, |_, _| ());
    }),
    ("clear_batch", |t| _ = t.clear_batch(&anywhere(), |_, _| ())),
    ("migrate", |t| _ = t.migrate(A, C)),
    ("migrate in steps", migrate_in_steps),
    ("migrate in parts of regions", |t| {
        _ = t.migration(A, C).max_hold(CHUNK_ENTRIES).run();
    }),
    // From the first id that shares its counter on, records are counted by a scan.
    ("count", |t| {
        _ = t.record(entry(5), SHARED);
        _ = t.count(A);
    }),
    ("owners", |t| {
        _ = t.record(entry(5), SHARED);
        _ = t.owners().count();
    }),
    ("runs", |t| _ = t.runs(TYPE).count()),
    ("runs_of", |t| _ = t.runs_of(A).count()),
    ("swapoff", |t| _ = t.swapoff(TYPE)),
];

#[test]
fn an_operation_that_a_lock_ends_leaves_each_slot_as_before_or_as_after() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for &(name, operation) in OPERATIONS {
        let before = owners(&table());
        let after = {
            let table = table();
            operation(&table);
            owners(&table)
        };
        at_each_lock(operation, |table, nth, unlock| {
            let what = format!("{name}, lock {nth}, unlock: {unlock}");
            table
                .validate()
                .unwrap_or_else(|found| panic!("{what}: {found}"));
            let now = owners(table);
            for (slot, now) in now.iter().enumerate() {
                let allowed = [before[slot], after[slot]];
                assert!(
                    allowed.contains(now),
                    "{what}: slot {slot} has {now:?}, not of {allowed:?}"
                );
            }
            // Each record can be found, and the type can be turned off and on.
            let there = now[..3 * REGION_ENTRIES].iter().flatten().count() as u64;
            if table.max_pages(TYPE).is_some() {
                assert_eq!(table.swapoff(TYPE), Ok(there), "{what}");
            }
            table
                .swapon(TYPE, PAGES)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(table.runs(TYPE).count(), 0, "{what}");
            table.record(entry(PAGES - 1), B).unwrap();
            table
                .validate()
                .unwrap_or_else(|found| panic!("{what}: {found}"));
            assert_eq!(table.swapoff(TYPE), Ok(1), "{what}");
        });
    }
}

/// A lock ends a batch before the callback gets the owners of the current window.
#[test]
fn a_batch_that_a_lock_ends_has_reported_all_windows_but_the_last() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let slots: Vec<_> = (0..100).map(|n| entry(n % 3 * (REGION - 70) + n)).collect();
    let had: Vec<_> = {
        let table = table();
        let owner = |&slot: &SwapEntry| Some((slot, table.lookup(slot)?));
        slots.iter().filter_map(owner).collect()
    };
    let told = Mutex::new(Vec::new());
    let clear = |table: &Table| {
        told.lock().unwrap().clear();
        let each = |slot, id| told.lock().unwrap().push((slot, id));
        table.clear_batch(&slots, each).unwrap();
    };
    at_each_lock(clear, |table, nth, unlock| {
        let told = told.lock().unwrap();
        assert!(had.starts_with(&told), "lock {nth}, unlock: {unlock}");
        let cleared = had
            .iter()
            .filter(|&&(slot, _)| table.lookup(slot).is_none());
        let cleared = cleared.count();
        // A window has 64 slots at most.
        assert!((told.len()..=told.len() + 64).contains(&cleared));
        table.validate().unwrap();
    });
    clear(&table());
    assert_eq!(told.into_inner().unwrap(), had);
}

/// Three regions have a lock each. Until all of them were taken and freed, nothing has changed.
#[test]
fn a_swapoff_that_a_lock_ends_leaves_the_type_on_with_its_records() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let had = runs(&table());
    let off = |table: &Table| _ = table.swapoff(TYPE);
    at_each_lock(off, |table, nth, unlock| {
        assert!(nth <= 3, "lock {nth}");
        assert_eq!(
            table.max_pages(TYPE),
            Some(PAGES),
            "lock {nth}, unlock: {unlock}"
        );
        assert_eq!(runs(table), had);
        assert_eq!(table.record(entry(1), C), Ok(None));
        assert_eq!(table.lookup(entry(1)), Some(C));
        assert!(table.swapon(TYPE, PAGES).is_err());
        table.validate().unwrap();
        assert_eq!(table.swapoff(TYPE), Ok(152 + 1));
    });
}

/// It is the same swapfile, so operations that began before go on with it.
#[test]
fn a_migration_goes_on_after_a_swapoff_that_a_lock_ended() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let table = table();
    let mut migration = table.migration(A, C);
    assert_eq!(migration.step(1), Step::More);
    assert!(!gets_through(2, false, || _ = table.swapoff(TYPE)));
    let Step::Done(report) = migration.step(u64::MAX) else {
        panic!("all of it");
    };
    assert_eq!((report.moved, report.left_at_most), (147, 0));
    table.validate().unwrap();
}

/// A migration and a walk go on after a lock has ended them. They leave nothing out, and repeat nothing.
#[test]
fn migrations_and_walks_go_on_after_a_lock_that_unwound() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    fn until<R>(mut step: impl FnMut() -> R) -> R {
        loop {
            match catch_unwind(AssertUnwindSafe(&mut step)) {
                Ok(done) => return done,
                Err(why) => assert!(why.is::<Blown>()),
            }
        }
    }
    let (all, of_a) = (runs(&table()), 145 + 1 + 1);
    for unlock in [false, true] {
        for nth in 1.. {
            let arm = || {
                AT_UNLOCK.store(unlock, Ordering::Relaxed);
                FUSE.store(nth, Ordering::Relaxed);
            };
            let done = || FUSE.swap(0, Ordering::Relaxed) > 0;

            let mut through = true;
            for (budget, max_hold) in [
                (1, REGION_ENTRIES),
                (u64::MAX, REGION_ENTRIES),
                (1, CHUNK_ENTRIES),
                (u64::MAX, CHUNK_ENTRIES),
            ] {
                let table = table();
                arm();
                let mut migration = table.migration(A, C).max_hold(max_hold);
                let report = loop {
                    if let Step::Done(report) = until(|| migration.step(budget)) {
                        break report;
                    }
                };
                through &= done();
                let what = format!("lock {nth}, unlock: {unlock}, budget {budget}");
                assert_eq!((report.moved, report.left_at_most), (of_a, 0), "{what}");
                assert_eq!((table.count(A), table.count(C)), (0, of_a), "{what}");
            }

            let table = table();
            for ty in [TYPE, OTHER] {
                arm();
                let mut walk = table.runs(ty);
                let found: Vec<Run> = std::iter::from_fn(|| until(|| walk.next())).collect();
                through &= done();
                let had = all.iter().filter(|run| run.start.swap_type() == ty);
                assert!(had.eq(&found), "lock {nth}, unlock: {unlock}: {found:?}");
            }
            arm();
            let mut walk = table.runs_of(A);
            let found: Vec<Run> = std::iter::from_fn(|| until(|| walk.next())).collect();
            through &= done();
            let had = all.iter().filter(|run| run.id == A);
            assert!(had.eq(&found), "lock {nth}, unlock: {unlock}: {found:?}");
            if through {
                break;
            }
        }
    }
}

/// Makes a step that ends early.
type End<'a> = &'a dyn Fn(&mut Migration<'_, Fused>);

/// Each step looks ahead. The next step looks again, whether a lock or the budget ended the previous one.
#[test]
fn a_step_moves_records_that_were_written_ahead_however_the_previous_step_ended() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let by_lock = |unlock| {
        move |migration: &mut Migration<'_, Fused>| {
            assert!(!gets_through(1, unlock, || _ = migration.step(u64::MAX)));
        }
    };
    let by_budget =
        |migration: &mut Migration<'_, Fused>| assert_eq!(migration.step(1), Step::More);
    let ends: [(&str, End<'_>); 3] = [
        ("lock", &by_lock(false)),
        ("unlock", &by_lock(true)),
        ("budget", &by_budget),
    ];
    for (name, end_step) in ends {
        let table = Table::with_raw_mutex();
        table.swapon(TYPE, PAGES).unwrap();
        for region in [0, 2] {
            table.record(entry(region * REGION), A).unwrap();
        }
        let mut migration = table.migration(A, C);
        end_step(&mut migration);
        table.record(entry(REGION), A).unwrap();
        let Step::Done(report) = migration.step(u64::MAX) else {
            panic!("all of it");
        };
        let counted = (report.moved, report.left_at_most, table.count(A));
        assert_eq!(counted, (3, 0, 0), "{name}");
        table.validate().unwrap();
    }
}

/// The panic of one thread reaches the caller when the other threads are done, and the table is whole.
#[test]
#[cfg(feature = "std")]
fn a_lock_that_unwinds_on_a_thread_unwinds_the_caller() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const REGIONS: u64 = 600;
    for unlock in [false, true] {
        for nth in [1, 2, 300, REGIONS] {
            let table = Table::with_raw_mutex();
            table.swapon(TYPE, REGIONS * REGION).unwrap();
            for region in 0..REGIONS {
                table.record_range(entry(region * REGION), 2, A).unwrap();
            }
            let run = || _ = table.migration(A, C).threads(3).run();
            let through = gets_through(nth, unlock, run);
            assert!(!through, "lock {nth}");
            table.validate().unwrap();
            assert_eq!(table.count(A) + table.count(C), 2 * REGIONS);
            table.migrate(A, C);
            assert_eq!(table.migrate(C, A), 2 * REGIONS);
            assert_eq!(table.swapoff(TYPE), Ok(2 * REGIONS));
        }
    }
}
