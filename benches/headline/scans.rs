//! Measures migrations from each kind of id: without records, with few, with many, and with records at the
//! end of each region.

use std::hint::black_box;
use std::time::Duration;

use crate::maps::{FEW, FEW_RECORDS, LOTS, LOTS_RECORDS, MANY, MANY_RECORDS, Maps, NONE, TAILS};
use crate::measure::{Pairs, Shuttle, pairs, timed_pairs};
use crate::read;
use crate::report::{Amount, Report};
use swap_records_benches::ours::{Ours, id};
use swap_records_benches::peers::iterator_loop::IteratorLoop;
use swap_records_benches::peers::roaring_sets::RoaringSets;
use swap_records_benches::work::tails;
use swap_records_benches::{LIVE, SEED, index, threads, timed};
use swap_records_sim::Pages;
use swap_records_sim::tables::Table;
use swap_records_sim::{self as sim, Family, Map};

/// Adds the median times of a comparison.
fn seconds(report: &mut Report, name: &'static str, pairs: Pairs) {
    let (ours, theirs) = (Amount::Seconds(pairs.ours), Amount::Seconds(pairs.theirs));
    report.ratio(name, pairs.faster, ours, theirs);
}

/// Adds the median rates of a comparison in which both sides process this many bytes.
fn rates(report: &mut Report, name: &'static str, bytes: usize, pairs: Pairs) {
    let rate = |seconds| Amount::BytesASecond(bytes as f64 / seconds);
    report.ratio(name, pairs.faster, rate(pairs.ours), rate(pairs.theirs));
}

/// Compares the migration of one id with the loop of 2014, which must move as many records.
fn versus_2014(
    report: &mut Report,
    name: &'static str,
    maps: &Maps,
    (old, new): (u16, u16),
    (records, threads): (u64, usize),
    nr: usize,
) {
    let (mut there, mut their_there) = (Shuttle(old, new), Shuttle(old, new));
    let pairs = timed_pairs(
        name,
        nr,
        |_| there.go(|old, new| maps.ours.migrate_with(old, new, threads)),
        |_| {
            let moved = their_there.go(|old, new| maps.of_2014.migrate(old, new));
            assert_eq!(moved, records, "{name}: records moved");
            moved
        },
    );
    seconds(report, name, pairs);
}

/// Compares everything on a map of 150 ids with the loop of 2014.
pub(crate) fn against_2014(report: &mut Report, maps: &Maps, nr: usize) {
    let mut row = |name, ids, records| versus_2014(report, name, maps, ids, (records, 1), nr);
    row("full_scan_vs_2014_loop", TAILS, maps.in_tails);
    row("no_records_vs_2014_loop", NONE, 0);
    row("records_1000_vs_2014_loop", FEW, FEW_RECORDS);
    row("records_10000_vs_2014_loop", MANY, MANY_RECORDS);
    row("records_100000_vs_2014_loop", LOTS, LOTS_RECORDS);
    let name = "records_100000_2_threads_vs_2014_loop";
    if sim::threads() < 2 {
        report.skip(name, "there is one core");
    } else {
        versus_2014(report, name, maps, LOTS, (LOTS_RECORDS, 2), nr);
    }
}

/// With 4,000 live ids in every region. The last id has no records, and the migration has no hint.
pub(crate) fn no_records_among_4000(report: &mut Report, maps: &Maps, nr: usize) {
    let name = "no_records_4000_ids_vs_2014_loop";
    versus_2014(report, name, maps, (4_001, 4_002), (0, 1), nr);
}

/// Compares with the speed of the memory and of this table itself.
pub(crate) fn against_memory(
    report: &mut Report,
    ours: &Ours,
    in_tails: u64,
    ids: Pages<u16>,
    nr: usize,
) -> Pages<u16> {
    let mut full = Shuttle(TAILS.0, TAILS.1);
    let mut full_scan = || {
        let moved = full.go(|old, new| ours.migrate(old, new));
        assert_eq!(moved, in_tails, "full scan: records moved");
    };
    let words = ids.retype::<u64>();
    let level = read::fastest(&words);
    let sum = read::read(level, &words).0;
    let pairs = timed_pairs(
        "full scan",
        nr,
        |_| {
            full_scan();
            sum
        },
        |_| read::read(level, black_box(&words)).0,
    );
    let bytes = words.len() * size_of::<u64>();
    rates(report, "full_scan_vs_read_bandwidth", bytes, pairs);

    read_scaling(report, level, &words, nr);

    // The full scan evicts the thousand records from the caches.
    let mut few = Shuttle(FEW.0, FEW.1);
    let pairs = timed_pairs(
        "a thousand records",
        nr,
        |_| few.go(|old, new| ours.migrate(old, new)),
        |_| {
            full_scan();
            FEW_RECORDS
        },
    );
    seconds(report, "records_1000_vs_full_scan", pairs);
    words.retype()
}

/// Measures how much more two threads can read than one. A second thread cannot gain more for a scan.
fn read_scaling(report: &mut Report, level: read::Level, words: &[u64], nr: usize) {
    if sim::threads() < 2 {
        report.skip("read_2_threads_scaling", "there is one core");
        return;
    }
    const LOW: u64 = 0xffff_ffff;
    let half = words.len() / 2;
    let (first, second) = words.split_at(half);
    let pairs = pairs(
        "read on two threads",
        nr,
        |_| {
            let halves = [first, second];
            let read = |thread: usize| read::read(level, black_box(halves[thread])).0 & LOW;
            let (sum, time) = threads::together(halves.len(), read);
            (sum & LOW, time)
        },
        |_| {
            let (sum, time) = read::read(level, black_box(words));
            (sum & LOW, time)
        },
    );
    rates(report, "read_2_threads_scaling", size_of_val(words), pairs);
}

/// Compares with sets of slots. Both sides find nothing in the caches, as for a cgroup that has been offline for
/// long.
pub(crate) fn against_roaring(
    report: &mut Report,
    ours: &Ours,
    ids: Pages<u16>,
    nr: usize,
) -> Pages<u16> {
    /// Larger than the cache of a core on any machine.
    const OTHER: usize = 256 << 20;
    let other = vec![1_u64; OTHER / size_of::<u64>()];
    let level = read::fastest(&other);
    let empty_caches = || black_box(read::read(level, black_box(&other)));
    let sets = RoaringSets::over(ids);
    for run in ours.0.runs_of(id(FEW.0)) {
        sets.record_range(index(run.start.offset()), index(run.len), FEW.0);
    }
    let (mut there, mut their_there) = (Shuttle(FEW.0, FEW.1), Shuttle(FEW.0, FEW.1));
    // Both sides are short, so more pairs are cheap.
    let pairs = pairs(
        "a thousand records in sets",
        nr * 3,
        |_| {
            empty_caches();
            let (moved, time) = timed(|| there.go(|old, new| ours.migrate(old, new)));
            assert_eq!(moved, FEW_RECORDS, "records moved");
            (moved, time)
        },
        |_| {
            empty_caches();
            timed(|| their_there.go(|old, new| sets.migrate(old, new)))
        },
    );
    seconds(report, "records_1000_vs_roaring", pairs);
    sets.into_ids()
}

/// Compares a table of 2 MiB with the vectorized loop over a plain slice.
pub(crate) fn small(report: &mut Report, slots: usize, nr: usize) -> Result<(), String> {
    /// One migration is too short for the clock.
    const TIMES: u64 = 200;
    let no_memory = |error| format!("no memory for a table of 2 MiB: {error}");
    let map = Map::new(Family::Interleaved(LIVE), slots as u64, SEED);
    let ours = Ours::<swap_records::RawSpinLock>::with_map(&map).map_err(no_memory)?;
    let mut plain = IteratorLoop::with_slots(slots).map_err(no_memory)?;
    map.fill_slice(1, plain.ids_mut(), |_| ());
    for slot in tails(slots) {
        ours.record(slot, TAILS.0);
        plain.record_range(slot, 1, TAILS.0);
    }
    let records = tails(slots).count() as u64;
    let (mut there, mut their_there) = (Shuttle(TAILS.0, TAILS.1), Shuttle(TAILS.0, TAILS.1));
    let pairs = timed_pairs(
        "full scan of 2 MiB",
        nr * 5,
        |_| {
            (0..TIMES)
                .map(|_| there.go(|old, new| ours.migrate(old, new)))
                .sum()
        },
        |_| {
            for _ in 0..TIMES {
                their_there.go(|old, new| {
                    plain.overwrite(old, new);
                    0
                });
            }
            // This loop does not count. The result is checked below.
            TIMES * records
        },
    );
    let bytes = slots * size_of::<u16>() * index(TIMES);
    rates(report, "full_scan_l2_vs_vectorized_loop", bytes, pairs);
    for slot in 0..slots {
        assert_eq!(ours.lookup(slot), plain.lookup(slot), "slot {slot}");
    }
    Ok(())
}

/// Compares the migration of an id that owns everything with `slice::fill`.
pub(crate) fn dense(report: &mut Report, ours: &Ours, mut ids: Pages<u16>, nr: usize) {
    const IDS: (u16, u16) = (LIVE + 9, LIVE + 10);
    let slots = ours.slots();
    // Turning the type off and on clears the records of the other measurements.
    let dropped = ours.0.swapoff(swap_records_benches::ours::TYPE);
    assert_eq!(dropped, Ok(slots as u64), "every slot had a record");
    let on = ours
        .0
        .swapon(swap_records_benches::ours::TYPE, slots as u64);
    on.expect("the address space is available");
    ours.fill(IDS.0, sim::threads());
    let mut there = Shuttle(IDS.0, IDS.1);
    let pairs = pairs(
        "dense",
        nr,
        |_| timed(|| there.go(|old, new| ours.migrate(old, new))),
        |pair| {
            let owner = if pair.is_multiple_of(2) { IDS.1 } else { IDS.0 };
            let ((), time): ((), Duration) = timed(|| black_box(&mut ids[..]).fill(owner));
            (slots as u64, time)
        },
    );
    rates(report, "dense_vs_fill", slots * size_of::<u16>(), pairs);
    assert_eq!(
        (ours.lookup(0), ours.lookup(slots - 1)),
        (ids[0], ids[slots - 1])
    );
}
