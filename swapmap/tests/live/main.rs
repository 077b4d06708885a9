//! Compares the table with the kernel's own figures, on a swapfile and memory cgroups made for this test.
//!
//! The test turns on a swapfile, makes cgroups and fills them. So it runs only if `SWAP_RECORDS_LIVE=1` is
//! set, as root, with a memory controller. Otherwise it prints the reason and is counted as ignored, or as
//! failed if `SWAP_RECORDS_REQUIRE_LIVE=1` is set. It removes everything that it made. The next run removes
//! what a killed run left.
//!
//! # Why the bounds are what they are
//!
//! Page tables and cgroup figures disagree about the pages of the swap cache, which are in memory and have a
//! slot. A page table may point to the slot (read ahead, or just written) or to the page. `swap` of v1 counts
//! none of these pages, so a cgroup has at least `swap` and at most `swap + swapcached` entries.
//! `memory.swap.current` of v2 counts all of them, so the bounds are `memory.swap.current - swapcached` and
//! `memory.swap.current`.

mod actors;
mod machine;
mod printed;
mod scenes;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use machine::Machine;
use swap_records::{MemcgId, Run};
use swapmap::reading::{Figures, Reading, page_size};

const MEMCGS: usize = 4;
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 8 * MIB;
const TOUCHED: u64 = 24 * MIB;
/// More than twice the size of the pages that are swapped out: a kernel frees the slots of pages that it has
/// read back when half of all swap is in use.
const SWAPFILE: u64 = 192 * MIB;

/// The kernel adds its counts per processor to a cgroup's figures every 2 seconds, or sooner if they are
/// large.
const STILL_FOR: Duration = Duration::from_secs(3);
const STILL_WITHIN: Duration = Duration::from_secs(20);

/// The variable that turns the test on.
const ASK: &str = "SWAP_RECORDS_LIVE";
/// The variable that makes a test that cannot run a failure.
const REQUIRE: &str = "SWAP_RECORDS_REQUIRE_LIVE";

/// A test. An error is the reason why this machine cannot run it.
type Test = fn() -> Result<(), String>;

fn main() -> ExitCode {
    if machine::is_toucher() {
        return machine::touch();
    }
    if let Some(code) = actors::play() {
        return code;
    }
    let table = "the_table_agrees_with_the_kernel_and_reparenting_loses_nothing";
    let tests = [(table, test as Test)].into_iter().chain(scenes::ALL);
    let trials = tests.map(|(name, test)| {
        Trial::ignorable_test(name, move || {
            match reason_not_to_run().map_or_else(test, Err) {
                Ok(()) => Ok(Completion::Completed),
                Err(reason) if is_set(REQUIRE) => {
                    Err(Failed::from(format!("it must run, and cannot: {reason}")))
                }
                Err(reason) => Ok(Completion::ignored_with(reason)),
            }
        })
    });
    let mut arguments = Arguments::from_args();
    // All scenes use the swap of the machine, so they run one after another.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty() && value != "0")
}

fn reason_not_to_run() -> Option<String> {
    if !is_set(ASK) && !is_set(REQUIRE) {
        return Some(format!(
            "it would turn on a swapfile of {} MiB and make {MEMCGS} memory cgroups: run it with {ASK}=1, as root",
            SWAPFILE / MIB
        ));
    }
    machine::reason_not_to_run()
}

/// An error is the reason why this machine cannot run the test.
fn test() -> Result<(), String> {
    let machine = Machine::set_up(MEMCGS, LIMIT, SWAPFILE)?;
    let touchers = machine.touch_at_once(TOUCHED);
    let (mut reading, figures) = read_in_peace(&machine);

    let ids: Vec<MemcgId> = touchers
        .iter()
        .map(|toucher| reading.memcgs.id_of(&toucher.memcg_path()).unwrap())
        .collect();
    let counts: Vec<u64> = ids.iter().map(|&id| reading.records.count(id)).collect();
    for (nr, (count, figures)) in counts.iter().zip(&figures).enumerate() {
        let (least, most) = (figures.at_least(), figures.at_most());
        println!(
            "memcg {nr}: swap {} + swapcached {}: {least} <= {count} <= {most}",
            figures.swap, figures.swapcached
        );
        assert!(
            (least..=most).contains(count),
            "memcg {nr}: the table has {count} records, the kernel {figures:?}"
        );
        // The charged pages fit below the limit, so all other pages that were touched are in swap.
        let swapped_out = (TOUCHED - LIMIT) / page_size();
        assert!(*count >= swapped_out, "memcg {nr} has {count} records only");
    }
    reparenting_loses_nothing(&reading, &ids, &counts);
    Ok(())
}

/// Returns a reading before and after which the figures are the same, and the figures.
fn read_in_peace(machine: &Machine) -> (Reading, Vec<Figures>) {
    let began = Instant::now();
    let mut before = machine.figures();
    let mut since = Instant::now();
    loop {
        assert!(
            began.elapsed() < STILL_WITHIN,
            "the kernel's figures did not come to rest: {before:?}"
        );
        thread::sleep(Duration::from_millis(250));
        let now = machine.figures();
        if now != before {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() >= STILL_FOR {
            let reading = Reading::take().unwrap_or_else(|refused| panic!("{refused}"));
            let after = machine.figures();
            if after == before {
                return (reading, after);
            }
            (before, since) = (after, Instant::now());
        }
    }
}

fn reparenting_loses_nothing(reading: &Reading, ids: &[MemcgId], counts: &[u64]) {
    let records = &reading.records;
    let (old, new) = (ids[0], ids[1]);
    let moving: Vec<Run> = records.runs_of(old).collect();
    assert_eq!(moving.iter().map(|run| run.len).sum::<u64>(), counts[0]);

    assert_eq!(records.migrate(old, new), counts[0]);

    assert_eq!(records.count(old), 0, "records of the old id are left");
    assert_eq!(
        records.count_upper_bound(old),
        0,
        "the counters still know it"
    );
    assert_eq!(records.runs_of(old).next(), None);
    assert_eq!(records.count(new), counts[0] + counts[1]);
    for run in &moving {
        for at in 0..run.len {
            let entry = run.start.checked_add(at).unwrap();
            assert_eq!(records.lookup(entry), Some(new), "{entry}");
        }
    }
    for (&id, &count) in ids.iter().zip(counts).skip(2) {
        assert_eq!(records.count(id), count, "a third memcg changed");
    }
    assert_eq!(records.migrate(old, new), 0, "a second time");
}
