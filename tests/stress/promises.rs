//! Guarantees that hold at every moment. A thread checks each of them without knowledge of the other threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use lock_api::RawMutex;
use swap_records::{EntryError, MemcgId, SwapEntry, SwapRecords};

use crate::{ALWAYS_ON, COMES_AND_GOES, PAGES, REGION, entry, id, operations};
use swap_records_oracle::Ends;

/// The old id and the new id: in one round the records move from the first to the second, in the next round
/// back.
fn there_and_back(round: u64) -> [MemcgId; 2] {
    let ids = [id(1), id(2)];
    if round.is_multiple_of(2) {
        ids
    } else {
        [ids[1], ids[0]]
    }
}

/// Writes up to `most` slots from `start` on, with one of these two ids, or with no owner.
fn write_any<L: RawMutex>(table: &SwapRecords<L>, rng: &mut Rng, start: SwapEntry, most: u64) {
    let owner = there_and_back(rng.u64(..2))[0];
    let nr = rng.u64(1..=most);
    match rng.u8(..4) {
        0 => drop(table.clear_range(start, nr).unwrap()),
        1 => _ = table.record(start, owner).unwrap(),
        2 => _ = table.clear(start).unwrap(),
        _ => drop(table.record_range(start, nr, owner).unwrap()),
    }
}

/// Asserts that `owner` owns all of these slots.
fn assert_owned<L: RawMutex>(
    table: &SwapRecords<L>,
    slots: impl Iterator<Item = SwapEntry>,
    owner: MemcgId,
    round: u64,
) {
    for slot in slots {
        assert_eq!(table.lookup(slot), Some(owner), "{slot} in round {round}");
    }
}

/// In one region, a record stays while other threads write and clear records around it, and so change the
/// number in its cell. In the next region, a record stays alone. Each migration finds both.
pub fn every_migration_moves_records_that_no_other_thread_touches<L: RawMutex + Send + Sync>() {
    let [first, _] = there_and_back(0);
    let stay = [7, REGION + 7].map(|offset| entry(ALWAYS_ON, offset));
    let table = SwapRecords::<L>::with_raw_mutex();
    table.swapon(ALWAYS_ON, PAGES).unwrap();
    for stays in stay {
        table.record(stays, first).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let (table, done) = (&table, &done);
        let _ends = Ends(done);
        for seed in 0..2 {
            s.spawn(move || {
                let mut rng = Rng::with_seed(seed);
                while !done.load(Ordering::Relaxed) {
                    // Slots of this thread, in the region of the first record that stays.
                    let start = entry(ALWAYS_ON, 16 + 64 * seed + rng.u64(..8));
                    write_any(table, &mut rng, start, 48);
                }
            });
        }
        // A migration of so few records ends soon.
        for round in 0..operations() * if cfg!(miri) { 1 } else { 8 } {
            let [old, new] = there_and_back(round);
            assert!(table.migrate(old, new) >= 2, "in round {round}");
            assert_owned(table, stay.into_iter(), new, round);
        }
    });
    table.validate().unwrap();
}

/// One thread fills a swapfile, turns it off, and finds the next one empty, while other threads migrate and
/// exchange its records. A swapoff drops all records, whichever ids own them by then.
pub fn records_that_a_swapoff_dropped_stay_dropped<L: RawMutex + Send + Sync>() {
    /// The ids of this circle are migrated from one to the next.
    const CIRCLE: u16 = 3;
    let next = |owner: MemcgId| id(owner.get() % CIRCLE + 1);
    let table = SwapRecords::<L>::with_raw_mutex();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let (table, done) = (&table, &done);
        let _ends = Ends(done);
        for seed in 0..2 {
            s.spawn(move || {
                let mut rng = Rng::with_seed(seed);
                while !done.load(Ordering::Relaxed) {
                    let old = id(rng.u16(1..=CIRCLE));
                    if rng.bool() {
                        table.migrate(old, next(old));
                        continue;
                    }
                    let ent = entry(COMES_AND_GOES, rng.u64(..PAGES));
                    match table.cmpxchg(ent, old, next(old)) {
                        Ok(_) | Err(EntryError::TypeOff { .. } | EntryError::OutOfRange { .. }) => {
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let mut rng = Rng::with_seed(9);
        for round in 0..operations().div_ceil(60) {
            // Mostly the same area again.
            let pages = if rng.u8(..8) == 0 { PAGES } else { REGION + 5 };
            table.swapon(COMES_AND_GOES, pages).unwrap();
            let all = entry(COMES_AND_GOES, 0);
            let had = table.record_range(all, pages, id(1)).unwrap();
            assert!(had.is_empty(), "{had:?} came back in round {round}");
            for _ in 0..rng.u8(..4) {
                thread::yield_now();
            }
            assert_eq!(table.swapoff(COMES_AND_GOES), Ok(pages), "in round {round}");
        }
    });
    table.swapon(COMES_AND_GOES, PAGES).unwrap();
    table.validate().unwrap();
    assert_eq!(table.runs(COMES_AND_GOES).next(), None);
}

/// Migrations that start threads. In each of many regions, a record stays that no other thread touches. All
/// of these are moved, while another thread writes to the same regions. A second swapfile with as many
/// records of the id is turned on and off. A swapoff drops all of its records, whichever ids own them by
/// then.
pub fn migrations_on_threads_miss_no_record<L: RawMutex + Send + Sync>() {
    /// More than three times as many regions as one thread is started for.
    const REGIONS: u64 = if cfg!(miri) { 9 } else { 800 };
    let [first, _] = there_and_back(0);
    let of_all = |ty| (0..REGIONS).map(move |region| entry(ty, region * REGION + region % 64));
    let table = SwapRecords::<L>::with_raw_mutex();
    table.swapon(ALWAYS_ON, REGIONS * REGION).unwrap();
    for stays in of_all(ALWAYS_ON) {
        table.record(stays, first).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let (table, done) = (&table, &done);
        let _ends = Ends(done);
        s.spawn(move || {
            let mut rng = Rng::with_seed(5);
            while !done.load(Ordering::Relaxed) {
                let start = entry(ALWAYS_ON, rng.u64(..REGIONS) * REGION + 64);
                write_any(table, &mut rng, start, 40);
            }
        });
        s.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                table.swapon(COMES_AND_GOES, REGIONS * REGION).unwrap();
                for guest in of_all(COMES_AND_GOES) {
                    assert_eq!(table.record(guest, first), Ok(None), "{guest} came back");
                }
                assert_eq!(table.swapoff(COMES_AND_GOES), Ok(REGIONS));
            }
        });
        for round in 0..operations().div_ceil(100) {
            let [old, new] = there_and_back(round);
            let migrated = table.migration(old, new).threads(3).run();
            assert!(migrated.moved >= REGIONS, "{migrated:?} in round {round}");
            assert_owned(table, of_all(ALWAYS_ON), new, round);
        }
    });
    table.validate().unwrap();
}

/// The numbers of ids whose records no thread changes are right all the time, while other threads record ids
/// that share their counters, from the first such record of a swapfile on. Two threads write, and a third one
/// reads.
pub fn owners_are_right_while_no_thread_changes_their_records<L: RawMutex + Send + Sync>() {
    /// The distance of two ids that share a counter.
    const COUNTERS: u16 = if cfg!(miri) { 16 } else { 4096 };
    /// Records of each of two ids, in two regions: alone in one, several in the other.
    const STAY: [(u64, u64, u16); 4] = [
        (3, 1, 1),
        (REGION + 3, 5, 1),
        (20, 7, 2),
        (REGION + 30, 1, 2),
    ];
    let stay = [(id(1), 6), (id(2), 8)];
    let table = SwapRecords::<L>::with_raw_mutex();
    for round in 0..operations().div_ceil(if cfg!(miri) { 20 } else { 60 }) {
        // In a new swapfile, no counter is shared.
        table.swapon(COMES_AND_GOES, PAGES).unwrap();
        for (start, nr, owner) in STAY {
            let start = entry(COMES_AND_GOES, start);
            table.record_range(start, nr, id(owner)).unwrap();
        }
        let done = AtomicBool::new(false);
        thread::scope(|s| {
            let (table, done) = (&table, &done);
            for seed in 0..2 {
                s.spawn(move || {
                    let mut rng = Rng::with_seed(round * 2 + seed);
                    let ids = [1, 2, 3, 1 + COUNTERS, 2 + COUNTERS, 2 + 2 * COUNTERS].map(id);
                    for _ in 0..20 {
                        // Slots of this thread, in both regions. It never writes ids 1 and 2.
                        let offset = 100 + 50 * seed + rng.u64(..40) + rng.u64(..2) * REGION;
                        let (start, owner) = (entry(COMES_AND_GOES, offset), ids[rng.usize(2..6)]);
                        match rng.u8(..5) {
                            0 => _ = table.record(start, owner).unwrap(),
                            1 => _ = table.clear(start).unwrap(),
                            2 => drop(table.record_range(start, rng.u64(..9), owner).unwrap()),
                            3 => _ = table.migrate(ids[rng.usize(2..6)], owner),
                            _ => _ = table.cmpxchg(start, table.lookup(start), owner).unwrap(),
                        }
                    }
                    done.store(true, Ordering::Relaxed);
                });
            }
            loop {
                let last = done.load(Ordering::Relaxed);
                let owners: Vec<_> = table.owners().collect();
                assert_eq!(owners[..2], stay, "in round {round}");
                assert!(owners.is_sorted_by_key(|&(id, _)| id));
                for (id, nr) in stay {
                    assert_eq!(table.count_on(COMES_AND_GOES, id), nr, "in round {round}");
                }
                if last {
                    break;
                }
            }
        });
        table.validate().unwrap();
        table.swapoff(COMES_AND_GOES).unwrap();
    }
}
