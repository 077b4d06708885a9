//! Reparents the records of offline cgroups on a large synthetic map, with this crate and with the loop of
//! 2014.
//!
//! Run `cargo run --release --example reparent`, or add `-- --gib 0.0625` for a small map.

mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lexopt::prelude::*;
use swap_records::{MemcgId, Migrated, RawSpinLock, SwapEntry, SwapRecords, SwapType};
use swap_records_sim::tables::{Loop2014, Spin, Table};
use swap_records_sim::{Family, Map, TimedLock, longest_hold, size, threads};

use report::{Line, bytes, count};

const HELP: &str = "\
Reparents offline cgroups on a synthetic map, with this crate and with the loop of 2014.

Usage: cargo run --release --example reparent -- [--gib N]

  --gib N   size of each of the two tables in GiB, such as 0.5 [default: 1, which is 2 TiB of swap]
  --help    print this text

The map is interleaved like real swap: 150 live cgroups in runs of about 1.1 slots.
Times are medians. Exits with 1 if a check fails or the memory is too small, and with 2 for a wrong
flag.";

/// Live cgroups in the map.
const LIVE: u16 = 150;
/// The seed of the map. Any value will do; the same seed makes the same map.
const SEED: u64 = 2014;
const SWAP_TYPE: SwapType = SwapType::new(0).expect("below 32");
/// The bytes of swap per slot.
const PAGE: u64 = 4096;
/// The time limit of the repetitions for one offline cgroup. A few are always done.
const TIME_EACH: Duration = Duration::from_secs(1);

/// An offline cgroup, the parent that gets its records, and their number if it is known.
struct Offline {
    what: String,
    id: u16,
    parent: u16,
    records: Option<u64>,
}

/// The table of this crate and that of 2014, with the same map.
struct Tables {
    ours: SwapRecords<TimedLock<RawSpinLock>>,
    of_2014: Loop2014<TimedLock<Spin>>,
}

fn main() -> ExitCode {
    let slots = match slots() {
        Ok(Some(slots)) => slots,
        Ok(None) => {
            report::say(HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("reparent: {error}; --help lists the flags");
            return ExitCode::from(2);
        }
    };
    match run(slots) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reparent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of slots that the arguments ask for, or `None` if they ask for help.
fn slots() -> Result<Option<u64>, lexopt::Error> {
    let mut slots = 1 << 29;
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("gib") => slots = args.value()?.parse_with(size::parse_gib)?,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(slots))
}

fn run(slots: u64) -> Result<(), String> {
    let table = bytes(slots * 2);
    if let Some(available) = size::available()
        && available < size::bytes_needed(slots, 2)
    {
        return Err(format!(
            "two tables of {table} need {} of memory, and {} are available: free some memory, or use a \
             smaller --gib (at most {})",
            bytes(size::bytes_needed(slots, 2)),
            bytes(available),
            // Rounded down, so that it fits.
            (size::gib_of(size::slots_that_fit(available, 2)) * 100.0).floor() / 100.0,
        ));
    }
    report::say(&format!(
        "{table} of table = {} of swap, {} slots; {LIVE} live cgroups, interleaved",
        bytes(slots * PAGE),
        count(slots),
    ));

    let all_offline = offline(slots);
    let tables = fill(slots, &all_offline)?;
    let mut lines = Vec::new();
    for offline in &all_offline {
        lines.extend(tables.reparent(offline)?);
    }
    tables.check_equal(slots)?;
    report::print(&lines);
    report::say(
        "Times are medians. Scanned and skipped count chunks of 2,048 slots. The longest hold of any lock\n\
         is from a separate run, and includes preemption.\n\
         Checked: both moved the same records, no offline cgroup has a record left, and the maps are equal.",
    );
    Ok(())
}

/// Returns the four offline cgroups. Three have new ids, and the last one is a live cgroup of the map.
fn offline(slots: u64) -> Vec<Offline> {
    let scattered = |wanted: u64| {
        // With more, the map would be mostly theirs.
        let most = slots / 8;
        if wanted > most {
            report::say(&format!(
                "{} scattered records instead of {}: the map is too small for more",
                count(most),
                count(wanted),
            ));
        }
        wanted.min(most)
    };
    let (few, many) = (scattered(1_000), scattered(1_000_000));
    [
        ("no records".to_owned(), LIVE + 1, Some(0)),
        (format!("{} scattered", count(few)), LIVE + 2, Some(few)),
        (format!("{} scattered", count(many)), LIVE + 3, Some(many)),
        (format!("1/{LIVE} of every region"), LIVE / 2, None),
    ]
    .into_iter()
    .zip(LIVE + 4..)
    .map(|((what, id, records), parent)| Offline {
        what,
        id,
        parent,
        records,
    })
    .collect()
}

/// Makes both tables from one map.
fn fill(slots: u64, all_offline: &[Offline]) -> Result<Tables, String> {
    let index = |n: u64| usize::try_from(n).expect("below the map's size, which is in memory");
    let tables = Tables {
        ours: SwapRecords::with_raw_mutex(),
        of_2014: Loop2014::with_slots(index(slots))
            .map_err(|error| format!("no memory for the table of 2014: {error}; see --gib"))?,
    };
    tables
        .ours
        .swapon(SWAP_TYPE, slots)
        .map_err(|error| error.to_string())?;

    let mut map = Map::new(Family::Interleaved(LIVE), slots, SEED);
    for offline in all_offline {
        if let Some(records) = offline.records {
            map = map.remains(offline.id, records);
        }
    }
    // Draws nothing if stderr is not a terminal.
    let style = ProgressStyle::with_template("filling {wide_bar} {percent}%, {eta} left");
    let bar = ProgressBar::new(slots).with_style(style.expect("a valid template"));
    let record = |start, len, id| {
        let id = MemcgId::new(id).expect("every slot has an owner");
        let start = SwapEntry::new(SWAP_TYPE, start).expect("a slot of the swapfile");
        match len {
            1 => tables.ours.record(start, id).map(drop),
            _ => tables.ours.record_range(start, len, id).map(drop),
        }
        .expect("the swapfile is on and as large as the map");
    };
    map.fill(
        threads(),
        |start, len, id| {
            record(start, len, id);
            tables.of_2014.preset(index(start), index(len), id);
        },
        |done| bar.inc(done),
    );
    bar.finish_and_clear();
    Ok(tables)
}

impl Tables {
    /// Migrates the records with both tables, back and forth, until the median of the times is stable. At the
    /// end the parent has them.
    ///
    /// The tables alternate, so each run finds the other table in the caches.
    fn reparent(&self, offline: &Offline) -> Result<[Line; 2], String> {
        let old = MemcgId::new(offline.id).expect("not 0");
        let new = MemcgId::new(offline.parent).expect("not 0");
        let began = Instant::now();
        let (report, first) = timed(|| self.ours.migration(old, new).run());
        let (moved_2014, first_2014) = timed(|| self.of_2014.migrate(offline.id, offline.parent));
        let moved = report.moved;
        self.check(offline, moved, moved_2014)?;

        let (mut times, mut times_2014) = (vec![first], vec![first_2014]);
        while times.len() < 5 || times.len() < 101 && began.elapsed() < TIME_EACH {
            for (from, to) in [(new, old), (old, new)] {
                let (again, time) = timed(|| self.ours.migration(from, to).run());
                let (again_2014, time_2014) = timed(|| self.of_2014.migrate(from.get(), to.get()));
                same_count(offline, &again, again_2014, moved)?;
                times.push(time);
                times_2014.push(time_2014);
            }
        }
        // Timing the lock takes time, so the longest hold is measured in separate migrations.
        let (back, _) = longest_hold(|| self.ours.migration(new, old).run());
        let back_2014 = self.of_2014.migrate(offline.parent, offline.id);
        same_count(offline, &back, back_2014, moved)?;
        let (again, hold) = longest_hold(|| self.ours.migration(old, new).run());
        let (again_2014, hold_2014) =
            longest_hold(|| self.of_2014.migrate(offline.id, offline.parent));
        same_count(offline, &again, again_2014, moved)?;
        self.check(offline, again.moved, again_2014)?;

        let (time, time_2014) = (median(times), median(times_2014));
        let faster = time_2014.as_secs_f64() / time.as_secs_f64();
        Ok([
            Line {
                offline: offline.what.clone(),
                table: "swap-records",
                moved,
                scanned: report.chunks_scanned,
                skipped: report.chunks_skipped,
                longest_hold: hold,
                time,
                faster: Some(faster),
            },
            Line {
                offline: String::new(),
                table: "2014 loop",
                moved: moved_2014,
                scanned: self.of_2014.chunks() as u64,
                skipped: 0,
                longest_hold: hold_2014,
                time: time_2014,
                faster: None,
            },
        ])
    }

    /// Checks a migration: both tables moved the expected number of records, and left none.
    fn check(&self, offline: &Offline, moved: u64, moved_2014: u64) -> Result<(), String> {
        let what = &offline.what;
        let expected = offline.records.unwrap_or(moved_2014);
        if (moved, moved_2014) != (expected, expected) {
            return Err(format!(
                "{what}: {moved} records moved, {moved_2014} with the 2014 loop, expected {expected}"
            ));
        }
        let count = |id| self.ours.count(MemcgId::new(id).expect("not 0"));
        let (left, given) = (count(offline.id), count(offline.parent));
        if (left, given) != (0, moved) {
            return Err(format!(
                "{what}: {moved} records moved, but {left} are left, and the parent has {given}"
            ));
        }
        Ok(())
    }

    /// Checks that the two tables have the same owner in each slot.
    fn check_equal(&self, slots: u64) -> Result<(), String> {
        let owner = |slot: u64| usize::try_from(slot).map_or(0, |slot| self.of_2014.lookup(slot));
        let mut next = 0;
        let differs = |slots: std::ops::Range<u64>, id: u16| {
            let slot = slots.into_iter().find(|&slot| owner(slot) != id);
            slot.map_or(Ok(()), |slot| {
                let other = owner(slot);
                Err(format!(
                    "slot {slot} is owned by {id}, but by {other} in the table of 2014"
                ))
            })
        };
        for run in self.ours.runs(SWAP_TYPE) {
            let start = run.start.offset();
            differs(next..start, 0)?;
            next = start + run.len;
            differs(start..next, run.id.get())?;
        }
        differs(next..slots, 0)
    }
}

/// Checks that a migration moved as many records as the first one. The parent had none before.
fn same_count(offline: &Offline, ours: &Migrated, of_2014: u64, first: u64) -> Result<(), String> {
    if (ours.moved, of_2014) == (first, first) {
        return Ok(());
    }
    Err(format!(
        "{}: {first} records moved first, then {}, and {of_2014} with the 2014 loop",
        offline.what, ours.moved,
    ))
}

fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = f();
    (result, start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
