//! Table on single entries and on ranges.

use crate::measure::{Pairs, timed_pairs};
use crate::report::{Amount, Report};
use std::hint::black_box;
use std::sync::atomic::{AtomicU16, Ordering};
use swap_records_benches::ours::Ours;
use swap_records_benches::peers::bare_steps::BareSteps;
use swap_records_benches::work::{
    cmpxchg_there_and_back, lookup_random, record_random, record_ranges, record_sequential, sum_of,
    swaps,
};
use swap_records_benches::{LIVE, SEED, index};
use swap_records_sim::Pages;
use swap_records_sim::tables::Linux2024;
use swap_records_sim::tables::Table;
use swap_records_sim::{Family, Map};

/// Our time over theirs; both did this many operations.
fn row(report: &mut Report, name: &'static str, operations: u64, pairs: Pairs) {
    let each = |seconds: f64| Amount::Nanoseconds(seconds * 1e9 / operations as f64);
    report.ratio(name, pairs.slower(), each(pairs.ours), each(pairs.theirs));
}

/// On a table that the caches hold.
pub(crate) fn hot(report: &mut Report, slots: usize, nr: usize) -> Result<(), String> {
    const COUNT: u64 = 1 << 21;
    const SWAPS: u64 = 1 << 18;
    let no_memory = |error| format!("no memory for a table of 2 MiB: {error}");
    let map = Map::new(Family::Interleaved(LIVE), slots as u64, SEED);
    let ours = Ours::<swap_records::RawSpinLock>::with_map(&map).map_err(no_memory)?;
    let theirs = Linux2024::with_slots(slots).map_err(no_memory)?;
    map.fill(
        1,
        |start, len, id| theirs.record_range(index(start), index(len), id),
        |_| (),
    );
    let raw: Vec<AtomicU16> = (0..slots)
        .map(|slot| AtomicU16::new(theirs.lookup(slot)))
        .collect();

    let nr = nr * 3;
    let pairs = timed_pairs(
        "lookup",
        nr,
        |pair| lookup_random(|slot| ours.lookup(slot), slots, COUNT, pair as u64),
        |pair| {
            let raw = black_box(&raw[..]);
            let load = |slot| {
                raw.get(slot)
                    .map_or(0, |id: &AtomicU16| id.load(Ordering::Relaxed))
            };
            lookup_random(load, slots, COUNT, pair as u64)
        },
    );
    row(report, "lookup_hot_vs_raw_load", COUNT, pairs);

    let pairs = timed_pairs(
        "record",
        nr,
        |pair| record_random(&ours, slots, COUNT, pair as u64),
        |pair| record_random(&theirs, slots, COUNT, pair as u64),
    );
    row(report, "record_hot_vs_linux_2024", COUNT, pairs);

    // What the pairs below record, ours does not know of; it is told before it goes on.
    let bare = BareSteps::like(&theirs, slots).map_err(no_memory)?;
    let pairs = timed_pairs(
        "bare steps",
        nr,
        |pair| record_random(&bare, slots, COUNT, (nr + pair) as u64),
        |pair| record_random(&theirs, slots, COUNT, (nr + pair) as u64),
    );
    row(report, "bare_steps_hot_vs_linux_2024", COUNT, pairs);
    for slot in 0..slots {
        ours.record(slot, theirs.lookup(slot));
    }

    let swaps = swaps(&ours, slots, SWAPS, SEED);
    let pairs = timed_pairs(
        "cmpxchg",
        nr,
        |_| {
            let stored = cmpxchg_there_and_back(&ours, &swaps);
            assert_eq!(stored, SWAPS * 2, "all find what they expect");
            stored
        },
        |_| cmpxchg_there_and_back(&theirs, &swaps),
    );
    row(report, "cmpxchg_hot_vs_linux_2024", SWAPS * 2, pairs);
    assert_eq!(sum_of(&ours, 0..slots), sum_of(&theirs, 0..slots));
    Ok(())
}

/// On the large table. What it records, it records in both.
pub(crate) fn large(
    report: &mut Report,
    ours: &Ours,
    ids: Pages<u16>,
    nr: usize,
) -> Result<Pages<u16>, String> {
    const RANDOM: u64 = 1 << 21;
    const RANGE: usize = 64;
    let slots = ours.slots();
    let theirs = Linux2024::over(ids);

    // Each pair in a stretch of its own, which no cache has.
    let stretch = (slots / 16).min(1 << 23);
    let at = |pair: usize| pair % 16 * stretch..(pair % 16 + 1) * stretch;
    let pairs = timed_pairs(
        "record one after the other",
        nr,
        |pair| record_sequential(ours, at(pair), pair as u64),
        |pair| record_sequential(&theirs, at(pair), pair as u64),
    );
    row(report, "record_seq_vs_linux_2024", stretch as u64, pairs);

    let pairs = timed_pairs(
        "record anywhere",
        nr,
        |pair| record_random(ours, slots, RANDOM, pair as u64),
        |pair| record_random(&theirs, slots, RANDOM, pair as u64),
    );
    row(report, "record_dram_vs_linux_2024", RANDOM, pairs);

    // Over ranges, as folios are recorded over folios. Free slots cost less: there is no old owner.
    for pair in 0..nr.min(16) {
        record_ranges(ours, at(pair), RANGE, SEED);
        record_ranges(&theirs, at(pair), RANGE, SEED);
    }
    let pairs = timed_pairs(
        "record ranges",
        nr,
        |pair| {
            record_ranges(ours, at(pair), RANGE, pair as u64);
            0
        },
        |pair| {
            record_ranges(&theirs, at(pair), RANGE, pair as u64);
            0
        },
    );
    row(
        report,
        "record_range64_vs_linux_2024",
        stretch as u64,
        pairs,
    );
    for pair in 0..nr.min(16) {
        assert_eq!(
            sum_of(ours, at(pair)),
            sum_of(&theirs, at(pair)),
            "records in ranges"
        );
    }
    limits(report, &theirs, slots, nr)?;
    Ok(theirs.into_ids())
}

/// The floor under records in order and anywhere: on a part of the table that no cache holds. Ours has
/// no more use for what is there.
fn limits(report: &mut Report, theirs: &Linux2024, slots: usize, nr: usize) -> Result<(), String> {
    const RANDOM: u64 = 1 << 21;
    let slots = slots.min(1 << 28);
    let bare = BareSteps::like(theirs, slots).map_err(crate::memory::refused)?;
    let stretch = slots / 16;
    let at = |pair: usize| pair % 16 * stretch..(pair % 16 + 1) * stretch;
    let pairs = timed_pairs(
        "bare steps one after the other",
        nr,
        |pair| record_sequential(&bare, at(pair), pair as u64),
        |pair| record_sequential(theirs, at(pair), pair as u64),
    );
    row(
        report,
        "bare_steps_seq_vs_linux_2024",
        stretch as u64,
        pairs,
    );
    let pairs = timed_pairs(
        "bare steps anywhere",
        nr,
        |pair| record_random(&bare, slots, RANDOM, pair as u64),
        |pair| record_random(theirs, slots, RANDOM, pair as u64),
    );
    row(report, "bare_steps_dram_vs_linux_2024", RANDOM, pairs);
    Ok(())
}
