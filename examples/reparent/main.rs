//! Reparents dying cgroups on a large synthetic map, with this table and with the loop of 2014.
//!
//! `cargo run --release --example reparent`, `-- --gib 0.0625` for a small one.

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
Reparents dying cgroups on a synthetic map, and the same with the loop of 2014.

Usage: cargo run --release --example reparent -- [--gib N]

  --gib N   GiB of table to fill, twice: fractions are fine [default: 1, which is 2 TiB of swap]
  --help    this text

The map is interleaved as real swap is: 150 live cgroups in runs of about 1.1 slots.
Times are medians. Exits with 1 if a check fails or the memory does not carry the map, with 2 for
a flag that is none.";

/// Live cgroups in the map.
const LIVE: u16 = 150;
/// Any number does: the same one makes the same map.
const SEED: u64 = 2014;
const SWAP_TYPE: SwapType = SwapType::new(0).expect("below 32");
/// Bytes of swap behind a slot.
const PAGE: u64 = 4096;
/// Time that the repetitions for one dying cgroup may take, if they are more than a few.
const TIME_EACH: Duration = Duration::from_secs(1);

/// A cgroup that is gone, who gets its records, and how many those are, if that is known.
struct Dying {
    what: String,
    id: u16,
    parent: u16,
    records: Option<u64>,
}

/// The table, and that of 2014, with the same map.
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

/// The slots that the arguments ask for; `None` where they ask for help.
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
            "two tables of {table} need {} of memory, and {} are available: free some, or ask for \
             less with --gib (up to {} would do)",
            bytes(size::bytes_needed(slots, 2)),
            bytes(available),
            // Rounded down, or it would not fit.
            (size::gib_of(size::slots_that_fit(available, 2)) * 100.0).floor() / 100.0,
        ));
    }
    report::say(&format!(
        "{table} of table = {} of swap, {} slots; {LIVE} live cgroups, interleaved",
        bytes(slots * PAGE),
        count(slots),
    ));

    let all_dying = dying(slots);
    let tables = fill(slots, &all_dying)?;
    let mut lines = Vec::new();
    for dying in &all_dying {
        lines.extend(tables.reparent(dying)?);
    }
    tables.check_equal(slots)?;
    report::print(&lines);
    report::say(
        "Times are medians; scanned and skipped are chunks of 2,048 slots; the longest hold is that of \
         any one lock in one run by itself, preemption included.\n\
         Checked: both moved the same, no record of a dying cgroup is left, the maps are equal.",
    );
    Ok(())
}

/// The four cgroups that die: new ids, but for the last, which is one of the live ones until then.
fn dying(slots: u64) -> Vec<Dying> {
    let scattered = |wanted: u64| {
        // More, and the map would be theirs.
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
        ("no remains".to_owned(), LIVE + 1, Some(0)),
        (format!("{} scattered", count(few)), LIVE + 2, Some(few)),
        (format!("{} scattered", count(many)), LIVE + 3, Some(many)),
        (format!("1/{LIVE} of every region"), LIVE / 2, None),
    ]
    .into_iter()
    .zip(LIVE + 4..)
    .map(|((what, id, records), parent)| Dying {
        what,
        id,
        parent,
        records,
    })
    .collect()
}

/// Makes both tables of one map, so they start alike.
fn fill(slots: u64, all_dying: &[Dying]) -> Result<Tables, String> {
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
    for dying in all_dying {
        if let Some(records) = dying.records {
            map = map.remains(dying.id, records);
        }
    }
    // It draws nothing where stderr is no terminal.
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
    /// Hands the records over with both tables, and back, and over again, until the median of the
    /// times says something; at the end the parent has them.
    ///
    /// The tables take turns, so each finds the other's map in the caches, not its own.
    fn reparent(&self, dying: &Dying) -> Result<[Line; 2], String> {
        let old = MemcgId::new(dying.id).expect("not 0");
        let new = MemcgId::new(dying.parent).expect("not 0");
        let began = Instant::now();
        let (report, first) = timed(|| self.ours.migration(old, new).run());
        let (moved_2014, first_2014) = timed(|| self.of_2014.migrate(dying.id, dying.parent));
        let moved = report.moved;
        self.check(dying, moved, moved_2014)?;

        let (mut times, mut times_2014) = (vec![first], vec![first_2014]);
        while times.len() < 5 || times.len() < 101 && began.elapsed() < TIME_EACH {
            for (from, to) in [(new, old), (old, new)] {
                let (again, time) = timed(|| self.ours.migration(from, to).run());
                let (again_2014, time_2014) = timed(|| self.of_2014.migrate(from.get(), to.get()));
                same_count(dying, &again, again_2014, moved)?;
                times.push(time);
                times_2014.push(time_2014);
            }
        }
        // Timing each lock takes time, so the holds have hand-overs of their own.
        let (back, _) = longest_hold(|| self.ours.migration(new, old).run());
        let back_2014 = self.of_2014.migrate(dying.parent, dying.id);
        same_count(dying, &back, back_2014, moved)?;
        let (again, hold) = longest_hold(|| self.ours.migration(old, new).run());
        let (again_2014, hold_2014) = longest_hold(|| self.of_2014.migrate(dying.id, dying.parent));
        same_count(dying, &again, again_2014, moved)?;
        self.check(dying, again.moved, again_2014)?;

        let (time, time_2014) = (median(times), median(times_2014));
        let faster = time_2014.as_secs_f64() / time.as_secs_f64();
        Ok([
            Line {
                dying: dying.what.clone(),
                table: "swap-records",
                moved,
                scanned: report.chunks_scanned,
                skipped: report.chunks_skipped,
                longest_hold: hold,
                time,
                faster: Some(faster),
            },
            Line {
                dying: String::new(),
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

    /// After a hand-over: as many as there were, the same with both, and nothing left behind.
    fn check(&self, dying: &Dying, moved: u64, moved_2014: u64) -> Result<(), String> {
        let what = &dying.what;
        let expected = dying.records.unwrap_or(moved_2014);
        if (moved, moved_2014) != (expected, expected) {
            return Err(format!(
                "{what}: {moved} moved, {moved_2014} with the 2014 loop, where {expected} were due"
            ));
        }
        let count = |id| self.ours.count(MemcgId::new(id).expect("not 0"));
        let (left, given) = (count(dying.id), count(dying.parent));
        if (left, given) != (0, moved) {
            return Err(format!(
                "{what}: {moved} moved, but {left} are left and the parent has {given}"
            ));
        }
        Ok(())
    }

    /// Slot by slot: the two tables hold the same.
    fn check_equal(&self, slots: u64) -> Result<(), String> {
        let owner = |slot: u64| usize::try_from(slot).map_or(0, |slot| self.of_2014.lookup(slot));
        let mut next = 0;
        let differs = |slots: std::ops::Range<u64>, id: u16| {
            let slot = slots.into_iter().find(|&slot| owner(slot) != id);
            slot.map_or(Ok(()), |slot| {
                let other = owner(slot);
                Err(format!(
                    "slot {slot} is owned by {id}, and by {other} in the table of 2014"
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

/// Each hand-over moves what the first did, in either direction: the parent owned nothing else.
fn same_count(dying: &Dying, ours: &Migrated, of_2014: u64, first: u64) -> Result<(), String> {
    if (ours.moved, of_2014) == (first, first) {
        return Ok(());
    }
    Err(format!(
        "{}: first {first} moved, again {}, {of_2014} with the 2014 loop",
        dying.what, ours.moved,
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
