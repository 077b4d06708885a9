//! Several threads at once, and operations during a migration.

use std::cell::Cell;
use std::time::Duration;

use fastrand::Rng;
use hdrhistogram::Histogram;

use crate::maps::{Maps, TAILS};
use crate::measure::{Shuttle, pairs, timed_pairs};
use crate::report::{Amount, Report};
use swap_records_benches::latency::{Latencies, QUANTILES, during_migrations, histogram};
use swap_records_benches::ours::Ours;
use swap_records_benches::work::{before_tails, slot_and_id};
use swap_records_benches::{REGION, threads};
use swap_records_sim::tables::Table;

/// Operations of all threads in a run.
const COUNT: u64 = 1 << 22;

/// Records on this many threads. Each uses one of the tables, and the slots that `place` returns for its
/// number.
fn record(
    tables: &[&Ours],
    nr: usize,
    slots: usize,
    place: impl Fn(usize, usize) -> usize + Sync,
) -> (u64, Duration) {
    let each = COUNT / nr as u64;
    let records = |table: &Ours| table.0.owners().map(|(_, nr)| nr).sum::<u64>();
    let before: Vec<u64> = tables.iter().map(|&table| records(table)).collect();
    let done = threads::together(nr, |thread| {
        let table = tables[thread % tables.len()];
        let mut rng = Rng::with_seed(thread as u64);
        let mut owned = 0;
        for _ in 0..each {
            let (slot, id) = slot_and_id(&mut rng, slots);
            owned += u64::from(table.record(place(thread, slot), id) != 0);
        }
        owned
    });
    // A lost update of a count would show here.
    let after: Vec<u64> = tables.iter().map(|&table| records(table)).collect();
    assert_eq!(after, before, "the index has a wrong number of records");
    done
}

/// Measures how throughput follows the number of threads.
pub(crate) fn scaling(report: &mut Report, ours: &Ours, nr: usize) -> Result<(), String> {
    /// Regions of each thread.
    const OWN: usize = 16;
    let throughput = |seconds: f64| Amount::OperationsASecond(COUNT as f64 / seconds);
    // The regions of the threads alternate, so they are as close as possible.
    let own = |thread, slot: usize| (slot / REGION * 2 + thread) * REGION + slot % REGION;
    let two = pairs(
        "threads on different regions",
        nr,
        |_| record(&[ours], 2, OWN * REGION, own),
        |_| record(&[ours], 1, OWN * REGION, own),
    );
    let (ours_2, ours_1) = (throughput(two.ours), throughput(two.theirs));
    report.ratio("record_2_threads_scaling", two.faster, ours_2, ours_1);

    // Two threads that share only the machine.
    let other = Ours::with_slots(2 * OWN * REGION).map_err(crate::memory::refused)?;
    other.fill(1, 1);
    let apart = pairs(
        "threads on different tables",
        nr,
        |_| record(&[ours, &other], 2, OWN * REGION, own),
        |_| record(&[ours], 1, OWN * REGION, own),
    );
    report.ratio(
        "two_tables_2_threads_scaling",
        apart.faster,
        throughput(apart.ours),
        throughput(apart.theirs),
    );

    // The two sides alternate, since the machine may be faster or slower a minute later.
    let together = pairs(
        "threads in one table and in two",
        nr * 3,
        |_| record(&[ours], 2, OWN * REGION, own),
        |_| record(&[ours, &other], 2, OWN * REGION, own),
    );
    report.ratio(
        "record_2_threads_vs_two_tables",
        together.faster,
        throughput(together.ours),
        throughput(together.theirs),
    );

    let crowd = pairs(
        "threads on the same region",
        nr,
        |_| record(&[ours], 8, REGION, |_, slot| slot),
        |_| {
            let threads = swap_records_sim::threads().min(2);
            record(&[ours], threads, REGION, |_, slot| slot)
        },
    );
    let (ours_8, ours_2) = (throughput(crowd.ours), throughput(crowd.theirs));
    report.ratio("record_8_on_2_cores", crowd.faster, ours_8, ours_2);
    Ok(())
}

/// Measures a full scan on two threads against one. All scans look for the same id, so each finds all of its
/// records.
pub(crate) fn full_scan_scaling(report: &mut Report, ours: &Ours, in_tails: u64, nr: usize) {
    if swap_records_sim::threads() < 2 {
        report.skip("migrate_2_threads_scaling", "there is one core");
        return;
    }
    let there = Cell::new(Shuttle(TAILS.0, TAILS.1));
    let migrate = |threads| {
        let mut shuttle = there.get();
        let moved = shuttle.go(|old, new| ours.migrate_with(old, new, threads));
        there.set(shuttle);
        assert_eq!(moved, in_tails, "records moved by {threads} threads");
        moved
    };
    let two = timed_pairs(
        "full scan on two threads",
        nr,
        |_| migrate(2),
        |_| migrate(1),
    );
    let (two_s, one_s) = (Amount::Seconds(two.ours), Amount::Seconds(two.theirs));
    report.ratio("migrate_2_threads_scaling", two.faster, two_s, one_s);
}

/// Records at a steady rate while another thread migrates all of the map again and again.
fn while_migrating(
    table: &impl Table,
    slots: usize,
    in_tails: u64,
    at_least: Duration,
    mut migrate: impl FnMut(u16, u16) -> u64 + Send,
) -> Latencies {
    let mut there = Shuttle(TAILS.0, TAILS.1);
    let mut free = 0;
    let done = during_migrations(
        at_least,
        || there.go(&mut migrate),
        |rng| {
            let (slot, id) = slot_and_id(rng, slots);
            free += u64::from(table.record(before_tails(slot), id) == 0);
        },
    );
    assert_eq!(free, 0, "every slot has an owner");
    for &moved in &done.moved {
        assert_eq!(moved, in_tails, "records moved while others record");
    }
    done
}

/// Measures the 99.99th percentile of a record during a migration, by this table and by that of 2014.
pub(crate) fn latency(report: &mut Report, maps: &Maps, nr: usize, at_least: Duration) {
    let (mut all, mut all_2014) = (histogram(), histogram());
    let p9999 = |times: &Histogram<u64>| Duration::from_nanos(times.value_at_quantile(0.9999));
    let pairs = pairs(
        "record while migrating",
        nr,
        |_| {
            let in_tails = maps.complete_tails();
            let (ours, slots) = (&maps.ours, maps.slots);
            let migrate = |old, new| ours.migrate(old, new);
            let times = while_migrating(ours, slots, in_tails, at_least, migrate).times;
            all += &times;
            (in_tails, p9999(&times))
        },
        |_| {
            let in_tails = maps.complete_tails();
            let (of_2014, slots) = (&maps.of_2014, maps.slots);
            let migrate = |old, new| of_2014.migrate(old, new);
            let times = while_migrating(of_2014, slots, in_tails, at_least, migrate).times;
            all_2014 += &times;
            (in_tails, p9999(&times))
        },
    );
    let (ours, theirs) = (Amount::Seconds(pairs.ours), Amount::Seconds(pairs.theirs));
    report.ratio(
        "record_p9999_during_migrate_vs_2014_loop",
        pairs.faster,
        ours,
        theirs,
    );
    for (name, quantile) in QUANTILES {
        let at = |times: &Histogram<u64>| {
            Amount::Seconds(times.value_at_quantile(quantile) as f64 / 1e9)
        };
        report.latencies.push((name, at(&all), at(&all_2014)));
    }
}
