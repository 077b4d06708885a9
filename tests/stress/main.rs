//! Stress tests that know the right result. Threads record, clear, exchange and migrate at random, while
//! swapfiles are turned on and off. The tests check what must hold at the end, or at every moment.
//!
//! Each test runs with the spinlock, with the lock of `parking_lot`, and with a lock that
//! [dawdles](dawdling::Dawdling). With that one, threads come between two steps that are nanoseconds apart.
//!
//! `SWAP_RECORDS_STRESS=N` makes the tests N times as long.

mod accounts;
mod dawdling;
mod own_slots;
mod promises;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use lock_api::RawMutex;
use swap_records::{MemcgId, REGION_ENTRIES, Step, SwapEntry, SwapRecords, SwapType};

const REGION: u64 = REGION_ENTRIES as u64;
/// Three regions, the last one partial.
const PAGES: u64 = 2 * REGION + REGION / 3;
const THREADS: u64 = if cfg!(miri) { 2 } else { 4 };
/// The slots in use: as many on both sides of the first border of a region, so that all threads use the same
/// two regions.
const USED: u64 = if cfg!(miri) { 64 } else { 4096 };
const FIRST: u64 = REGION - USED / 2;
/// The number of ids that are migrated away.
const IDS: u16 = 6;

const ALWAYS_ON: SwapType = SwapType::new(0).unwrap();
const COMES_AND_GOES: SwapType = SwapType::new(3).unwrap();

fn operations() -> u64 {
    let times = std::env::var("SWAP_RECORDS_STRESS").ok();
    let times = times.map_or(1, |times| {
        times.parse().expect("SWAP_RECORDS_STRESS is a number")
    });
    times
        * if cfg!(miri) {
            60
        } else if std::env::var_os("SWAP_RECORDS_FEW_CASES").is_some() {
            // Fewer where each operation takes ten times as long: ci/tsan.sh, ci/asan.sh.
            5_000
        } else {
            15_000
        }
}

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(ty: SwapType, offset: u64) -> SwapEntry {
    SwapEntry::new(ty, offset).unwrap()
}

/// Migrates `old` in one of the possible ways. Returns the number of records.
fn migrate_somehow<L: RawMutex + Send + Sync>(
    table: &SwapRecords<L>,
    rng: &mut Rng,
    old: MemcgId,
    new: MemcgId,
) -> u64 {
    match rng.u8(..4) {
        0 => table.migrate(old, new),
        1 => table.migration(old, new).threads(3).run().moved,
        2 => {
            // The hint is only about right: other threads write meanwhile.
            let hint = || table.count_upper_bound(old) + 3;
            table.migration(old, new).memsw_hint(&hint).run().moved
        }
        _ => {
            let mut migration = table.migration(old, new);
            loop {
                if let Step::Done(migrated) = migration.step(rng.u64(..3 * REGION)) {
                    return migrated.moved;
                }
                thread::yield_now();
            }
        }
    }
}

/// Turns a type on and off, with sizes of all kinds. Returns the number of records that were dropped.
fn come_and_go<L: RawMutex>(table: &SwapRecords<L>, done: &AtomicBool) -> u64 {
    let mut rng = Rng::with_seed(4);
    let mut dropped = 0;
    loop {
        table.swapon(COMES_AND_GOES, rng.u64(1..=PAGES)).unwrap();
        for _ in 0..rng.u8(..20) {
            thread::yield_now();
        }
        dropped += table.swapoff(COMES_AND_GOES).unwrap();
        if done.load(Ordering::Relaxed) {
            return dropped;
        }
    }
}

/// Makes a test of each of these, with each lock.
macro_rules! with_each_lock {
    ($($module:ident::$test:ident)*) => {$(
        mod $test {
            #[test]
            fn with_the_spinlock() {
                crate::$module::$test::<swap_records::RawSpinLock>();
            }

            #[test]
            fn with_parking_lot() {
                crate::$module::$test::<parking_lot::RawMutex>();
            }

            #[test]
            #[cfg_attr(miri, ignore = "there, threads are preempted anywhere")]
            fn with_a_lock_that_dawdles() {
                crate::$module::$test::<crate::dawdling::Dawdling>();
            }
        }
    )*};
}

with_each_lock! {
    own_slots::every_slot_holds_what_its_thread_wrote_last_or_its_heir
    accounts::gains_and_losses_add_up_to_what_is_there
    promises::every_migration_moves_records_that_no_other_thread_touches
    promises::migrations_on_threads_miss_no_record
    promises::records_that_a_swapoff_dropped_stay_dropped
    promises::owners_are_right_while_no_thread_changes_their_records
}
