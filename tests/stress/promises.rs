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
