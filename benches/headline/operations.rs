//! Operations on single entries and on ranges.

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

/// Adds a row of our time over their time. Both sides did this many operations.
pub(crate) fn row(report: &mut Report, name: &'static str, operations: u64, pairs: Pairs) {
    let each = |seconds: f64| Amount::Nanoseconds(seconds * 1e9 / operations as f64);
    report.ratio(name, pairs.slower(), each(pairs.ours), each(pairs.theirs));
}

/// A table that fits into the caches, in the three forms that are compared.
struct Hot {
    ours: Ours,
    theirs: Linux2024,
    bare: BareSteps,
}

impl Hot {
    fn new(slots: usize) -> std::io::Result<Self> {
        let map = Map::new(Family::Interleaved(LIVE), slots as u64, SEED);
        let ours = Ours::with_map(&map)?;
        let theirs = Linux2024::with_slots(slots)?;
        map.fill(
            1,
            |start, len, id| theirs.record_range(index(start), index(len), id),
            |_| (),
        );
        let bare = BareSteps::like(&theirs, slots)?;
        Ok(Self { ours, theirs, bare })
    }
}

/// Copies the records of `from` to `to`.
fn copy(from: &impl Table, to: &impl Table, slots: usize) {
    for slot in 0..slots {
        to.record(slot, from.lookup(slot));
    }
}

/// Measures tables that fit into the caches.
pub(crate) fn hot(report: &mut Report, slots: usize, nr: usize) -> Result<(), String> {
    const COUNT: u64 = 1 << 21;
    const SWAPS: u64 = 1 << 18;
    /// Cache behaviour depends on the pages that the system provides: with a single table, a row takes 13 ns
    /// in one run and 20 in the next.
    const TABLES: usize = 5;
    let no_memory = |error| format!("no memory for tables of 2 MiB: {error}");
    let tables: Vec<Hot> = (0..TABLES)
        .map(|_| Hot::new(slots))
        .collect::<Result<_, _>>()
        .map_err(no_memory)?;
    let of = |pair: usize| &tables[pair % TABLES];
    let raw: Vec<AtomicU16> = (0..slots)
        .map(|slot| AtomicU16::new(of(0).theirs.lookup(slot)))
        .collect();

    let nr = nr * TABLES;
    let pairs = timed_pairs(
        "lookup",
        nr,
        |pair| lookup_random(|slot| of(0).ours.lookup(slot), slots, COUNT, pair as u64),
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
        |pair| record_random(&of(pair).ours, slots, COUNT, pair as u64),
        |pair| record_random(&of(pair).theirs, slots, COUNT, pair as u64),
    );
    row(report, "record_hot_vs_linux_2024", COUNT, pairs);

    // Each comparison begins with the same records in both tables.
    for Hot { theirs, bare, .. } in &tables {
        copy(theirs, bare, slots);
    }
    let pairs = timed_pairs(
        "record and bare steps",
        nr,
        |pair| record_random(&of(pair).ours, slots, COUNT, pair as u64),
        |pair| record_random(&of(pair).bare, slots, COUNT, pair as u64),
    );
    row(report, "record_hot_vs_bare_steps", COUNT, pairs);

    for Hot { theirs, bare, .. } in &tables {
        copy(bare, theirs, slots);
    }
    let pairs = timed_pairs(
        "bare steps",
        nr,
        |pair| record_random(&of(pair).bare, slots, COUNT, (nr + pair) as u64),
        |pair| record_random(&of(pair).theirs, slots, COUNT, (nr + pair) as u64),
    );
    row(report, "bare_steps_hot_vs_linux_2024", COUNT, pairs);

    let Hot { ours, theirs, .. } = of(0);
    copy(theirs, ours, slots);
    let swaps = swaps(ours, slots, SWAPS, SEED);
    let pairs = timed_pairs(
        "cmpxchg",
        nr,
        |_| {
            let stored = cmpxchg_there_and_back(ours, &swaps);
            assert_eq!(stored, SWAPS * 2, "every compare-exchange succeeds");
            stored
        },
        |_| cmpxchg_there_and_back(theirs, &swaps),
    );
    row(report, "cmpxchg_hot_vs_linux_2024", SWAPS * 2, pairs);
    assert_eq!(sum_of(ours, 0..slots), sum_of(theirs, 0..slots));
    Ok(())
}

/// Measures the large table. Every record is made in both tables.
pub(crate) fn large(
    report: &mut Report,
    ours: &Ours,
    ids: Pages<u16>,
    nr: usize,
) -> Result<Pages<u16>, String> {
    const RANGE: usize = 64;
    let slots = ours.slots();
    let theirs = Linux2024::over(ids);

    // Each pair uses its own range of slots, which is in no cache.
    let stretch = (slots / 16).min(1 << 23);
    let at = |pair: usize| pair % 16 * stretch..(pair % 16 + 1) * stretch;
    let seq = timed_pairs(
        "record one after the other",
        nr,
        |pair| record_sequential(ours, at(pair), pair as u64),
        |pair| record_sequential(&theirs, at(pair), pair as u64),
    );
    row(report, "record_seq_vs_linux_2024", stretch as u64, seq);

    let dram = timed_pairs(
        "record anywhere",
        nr,
        |pair| record_random(ours, slots, RANDOM, pair as u64),
        |pair| record_random(&theirs, slots, RANDOM, pair as u64),
    );
    row(report, "record_dram_vs_linux_2024", RANDOM, dram);

    // Ranges over owned slots, as folios are recorded over folios. Free slots cost less, since they have no
    // old owner.
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
    against_bare_steps(report, ours, theirs.into_ids(), nr, (seq, dram))
}

/// Measures the lower bound of records in order and at random, on a table of the same size with the same
/// records. Its ratio to Linux 2024 follows from the medians that are passed in: measuring it would need a
/// third large table.
fn against_bare_steps(
    report: &mut Report,
    ours: &Ours,
    ids: Pages<u16>,
    nr: usize,
    (seq_2024, dram_2024): (Pairs, Pairs),
) -> Result<Pages<u16>, String> {
    let slots = ours.slots();
    let bare = BareSteps::over(ids).map_err(crate::memory::refused)?;
    let stretch = (slots / 16).min(1 << 23);
    let at = |pair: usize| pair % 16 * stretch..(pair % 16 + 1) * stretch;
    let mut rows = |names: [&'static str; 2], operations: u64, bare: Pairs, of_2024: Pairs| {
        row(report, names[0], operations, bare);
        let each = |seconds: f64| Amount::Nanoseconds(seconds * 1e9 / operations as f64);
        let (bare, of_2024) = (bare.theirs, of_2024.theirs);
        report.ratio(names[1], bare / of_2024, each(bare), each(of_2024));
    };
    let seq = timed_pairs(
        "bare steps one after the other",
        nr,
        |pair| record_sequential(ours, at(pair), (nr + pair) as u64),
        |pair| record_sequential(&bare, at(pair), (nr + pair) as u64),
    );
    let names = ["record_seq_vs_bare_steps", "bare_steps_seq_vs_linux_2024"];
    rows(names, stretch as u64, seq, seq_2024);
    let dram = timed_pairs(
        "bare steps anywhere",
        nr,
        |pair| record_random(ours, slots, RANDOM, (nr + pair) as u64),
        |pair| record_random(&bare, slots, RANDOM, (nr + pair) as u64),
    );
    let names = ["record_dram_vs_bare_steps", "bare_steps_dram_vs_linux_2024"];
    rows(names, RANDOM, dram, dram_2024);
    Ok(bare.into_ids())
}

/// Random records per run.
const RANDOM: u64 = 1 << 21;
