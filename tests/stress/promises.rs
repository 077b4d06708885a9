//! What holds at every moment, each held to by a thread that knows of nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use lock_api::RawMutex;
use swap_records::{EntryError, MemcgId, SwapRecords};

use crate::{ALWAYS_ON, COMES_AND_GOES, Ends, PAGES, REGION, entry, id, operations};

/// Records that others write come and go around one that stays, and with them the number of its cell: each hand-over
/// finds it, in its region and in the next one, which has none but it.
pub fn every_hand_over_moves_what_nobody_else_touches<L: RawMutex + Send + Sync>() {
    let ids = [id(1), id(2)];
    let stay = [7, REGION + 7].map(|offset| entry(ALWAYS_ON, offset));
    let table = SwapRecords::<L>::with_lock();
    table.swapon(ALWAYS_ON, PAGES).unwrap();
    for stays in stay {
        table.record(stays, ids[0]).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let (table, done) = (&table, &done);
        let _ends = Ends(done);
        for seed in 0..2 {
            s.spawn(move || {
                let mut rng = Rng::with_seed(seed);
                while !done.load(Ordering::Relaxed) {
                    // Slots of its own, all of the region's counters that the hand-over goes by.
                    let start = entry(ALWAYS_ON, 16 + 64 * seed + rng.u64(..8));
                    let nr = rng.u64(1..=48);
                    match rng.u8(..4) {
                        0 => drop(table.clear_range(start, nr).unwrap()),
                        1 => _ = table.record(start, ids[rng.usize(..2)]).unwrap(),
                        2 => _ = table.clear(start).unwrap(),
                        _ => drop(table.record_range(start, nr, ids[rng.usize(..2)]).unwrap()),
                    }
                }
            });
        }
        // A hand-over of so few is over soon.
        for round in 0..operations() * if cfg!(miri) { 1 } else { 8 } {
            let [old, new] = if round % 2 == 0 {
                ids
            } else {
                [ids[1], ids[0]]
            };
            assert!(table.migrate(old, new) >= 2, "in round {round}");
            for stays in stay {
                assert_eq!(table.lookup(stays), Some(new), "{stays} in round {round}");
            }
        }
    });
    table.validate().unwrap();
}

/// One thread fills a swapfile, turns it off, and finds the next one empty, though others go on in it: hand over its records,
/// exchange them, and look at them. A swapoff drops all of them, whoever has them by then.
pub fn what_a_swapoff_dropped_stays_dropped<L: RawMutex + Send + Sync>() {
    /// The ids in this circle are handed on in it.
    const CIRCLE: u16 = 3;
    let next = |owner: MemcgId| id(owner.get() % CIRCLE + 1);
    let table = SwapRecords::<L>::with_lock();
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

/// The same as of one thread, of hand-overs that start threads: in each of many regions a record stays that nobody
/// else touches, and all of them are moved, while others write beside them and a second swapfile with as many records of
/// the id comes and goes. A swapoff drops all of these, whoever has them by then.
pub fn hand_overs_on_threads_miss_nothing<L: RawMutex + Send + Sync>() {
    /// More than three times what a thread is started for.
    const REGIONS: u64 = if cfg!(miri) { 9 } else { 800 };
    let ids = [id(1), id(2)];
    let of_all = |ty| (0..REGIONS).map(move |region| entry(ty, region * REGION + region % 64));
    let table = SwapRecords::<L>::with_lock();
    table.swapon(ALWAYS_ON, REGIONS * REGION).unwrap();
    for stays in of_all(ALWAYS_ON) {
        table.record(stays, ids[0]).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let (table, done) = (&table, &done);
        let _ends = Ends(done);
        s.spawn(move || {
            let mut rng = Rng::with_seed(5);
            while !done.load(Ordering::Relaxed) {
                let start = entry(ALWAYS_ON, rng.u64(..REGIONS) * REGION + 64);
                let owner = ids[rng.usize(..2)];
                match rng.u8(..3) {
                    0 => drop(table.clear_range(start, 40).unwrap()),
                    1 => _ = table.record(start, owner).unwrap(),
                    _ => drop(table.record_range(start, 40, owner).unwrap()),
                }
            }
        });
        s.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                table.swapon(COMES_AND_GOES, REGIONS * REGION).unwrap();
                for guest in of_all(COMES_AND_GOES) {
                    assert_eq!(table.record(guest, ids[0]), Ok(None), "{guest} came back");
                }
                assert_eq!(table.swapoff(COMES_AND_GOES), Ok(REGIONS));
            }
        });
        for round in 0..operations().div_ceil(100) {
            let [old, new] = if round % 2 == 0 {
                ids
            } else {
                [ids[1], ids[0]]
            };
            let migrated = table.migration(old, new).threads(3).run();
            assert!(migrated.moved >= REGIONS, "{migrated:?} in round {round}");
            for stays in of_all(ALWAYS_ON) {
                assert_eq!(table.lookup(stays), Some(new), "{stays} in round {round}");
            }
        }
    });
    table.validate().unwrap();
}
