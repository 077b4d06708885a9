//! The table against the kernel's own figures, on a swapfile and memory cgroups made for it.
//!
//! It turns on a swapfile, makes cgroups, and fills them, so it runs only where `SWAP_RECORDS_LIVE=1` asks for it, as
//! root, with a memory controller. Elsewhere it says why not and is counted as ignored, unless
//! `SWAP_RECORDS_REQUIRE_LIVE=1` makes that a failure. It leaves nothing behind; what a killed run left, the next one
//! clears away.
//!
//! # Why the bounds are what they are
//!
//! Page tables and cgroup figures disagree about one kind of page: those of the swap cache, in
//! memory and with a slot at once. A page table may point to the slot (read ahead, or just written)
//! or to the page. v1's `swap` counts none of them, so a cgroup has at least `swap` and at most
//! `swap + swapcached` entries. v2's `memory.swap.current` counts all of them, so there the same
//! bounds begin at `memory.swap.current - swapcached`.

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
/// More than twice what is swapped out: a kernel frees the slots of pages it has read back as soon
/// as half of all swap is in use.
const SWAPFILE: u64 = 192 * MIB;

/// The kernel folds its per-CPU counts into a cgroup's figures every 2 seconds; sooner only if
/// they are large.
const STILL_FOR: Duration = Duration::from_secs(3);
const STILL_WITHIN: Duration = Duration::from_secs(20);

/// Asks for the test.
const ASK: &str = "SWAP_RECORDS_LIVE";
/// Makes it a failure if the test cannot run.
const REQUIRE: &str = "SWAP_RECORDS_REQUIRE_LIVE";

/// A test: the error is the reason why this machine does not allow it.
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
    // Swapfiles and what is in them are the machine's: one scene at a time.
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

/// The error is the reason why this machine does not allow it.
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
        // Whatever is charged fits below the limit, so the rest of what was touched is in swap.
        let swapped_out = (TOUCHED - LIMIT) / page_size();
        assert!(*count >= swapped_out, "memcg {nr} has {count} records only");
    }
    reparenting_loses_nothing(&reading, &ids, &counts);
    Ok(())
}

/// A reading before and after which the figures are the same, and the figures.
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
