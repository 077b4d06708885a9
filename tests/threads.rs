//! Threads that share a table. Each of them knows what it must find.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use lock_api::RawMutex;
use swap_records::{
    EntryError, MemcgId, REGION_ENTRIES, RawSpinLock, SwapEntry, SwapRecords, SwapType,
};
use swap_records_oracle::Ends;

const REGION: u64 = REGION_ENTRIES as u64;
const ROUNDS: u64 = if cfg!(miri) { 2 } else { 40 };
const SLOTS: u64 = if cfg!(miri) { 24 } else { 3_000 };

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(SwapType::new(0).unwrap(), offset).unwrap()
}

/// Two writers, each of every second slot, over the border of a region, and a thread that migrates their
/// records. At the end, each slot has the last id of its writer, or the id to which that was migrated.
fn disjoint_slots_keep_their_last_owner<L: RawMutex + Send + Sync>() {
    let table = SwapRecords::<L>::with_raw_mutex();
    table.swapon(entry(0).swap_type(), 2 * REGION).unwrap();
    let first = REGION - SLOTS;
    let done = AtomicBool::new(false);
    let moved = AtomicU64::new(0);
    thread::scope(|s| {
        let _ends = Ends(&done);
        let writers: Vec<_> = [(0, id(10)), (1, id(20))]
            .map(|(lane, owner)| {
                let table = &table;
                s.spawn(move || {
                    for round in 0..ROUNDS {
                        for slot in 0..SLOTS {
                            let ent = entry(first + 2 * slot + lane);
                            let had = table.record(ent, owner).unwrap();
                            // Only this thread and the migrations write the slot.
                            let migrated = id(owner.get() + 1);
                            assert!(if round == 0 {
                                had.is_none()
                            } else {
                                had == Some(owner) || had == Some(migrated)
                            });
                            let seen = table.lookup(ent);
                            assert!(seen == Some(owner) || seen == Some(migrated));
                        }
                    }
                })
            })
            .into();
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let count = table.migrate(id(10), id(11)) + table.migrate(id(20), id(21));
                moved.fetch_add(count, Ordering::Relaxed);
                thread::yield_now();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
    });
    table.validate().unwrap();
    for (owner, migrated) in [(id(10), id(11)), (id(20), id(21))] {
        assert_eq!(table.count(owner) + table.count(migrated), SLOTS);
        table.migrate(owner, migrated);
        assert_eq!((table.count(owner), table.count(migrated)), (0, SLOTS));
    }
    table.validate().unwrap();
}

#[test]
fn disjoint_slots_keep_their_last_owner_with_the_spinlock() {
    disjoint_slots_keep_their_last_owner::<RawSpinLock>();
}

#[test]
fn disjoint_slots_keep_their_last_owner_with_parking_lot() {
    disjoint_slots_keep_their_last_owner::<parking_lot::RawMutex>();
}

/// Writers, readers and migrations run while the type is turned off and on with other sizes. The table is
/// consistent at every moment, and an area that is used again is empty at first.
#[test]
fn everything_races_with_swapon_and_swapoff() {
    let table = SwapRecords::new();
    let ty = entry(0).swap_type();
    let cycles = ROUNDS * if cfg!(miri) { 1 } else { 25 };
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let (table, done) = (&table, &done);
        let _ends = Ends(done);
        for lane in 0..2 {
            s.spawn(move || {
                for at in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let owner = id(u16::try_from(1 + at % 1000).unwrap());
                    let start = entry(lane + at % 7 * (REGION / 3));
                    match table.record(start, owner) {
                        Ok(_) | Err(EntryError::TypeOff { .. } | EntryError::OutOfRange { .. }) => {
                        }
                        Err(error) => panic!("{error}"),
                    }
                    let _ = table.record_range(start, 9, owner);
                    let _ = table.lookup(start);
                }
            });
        }
        s.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                table.migrate(id(2000), id(2001));
                let _ = table.count(id(1));
                table.runs_of(id(1)).count();
                thread::yield_now();
            }
        });
        for cycle in 0..cycles {
            let pages = [3 * REGION, REGION / 2, 2 * REGION + 7][(cycle % 3) as usize];
            table.swapon(ty, pages).unwrap();
            let ent = entry(cycle % 100);
            table.record(ent, id(2000)).unwrap();
            thread::yield_now();
            table.validate().unwrap();
            let owner = table.lookup(ent).map(MemcgId::get);
            assert!(owner.is_some());
            table.swapoff(ty).unwrap();
            assert_eq!((table.lookup(ent), table.runs(ty).count()), (None, 0));
            assert_eq!(table.count_upper_bound(id(2000)), 0);
        }
    });
    // The type is turned off and on again after all threads have ended. It is empty, whichever operations
    // were late.
    table.swapon(ty, 3 * REGION).unwrap();
    assert_eq!(table.runs(ty).count(), 0);
    table.validate().unwrap();
}
