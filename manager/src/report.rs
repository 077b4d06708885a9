//! Prints a line during a run, and a table at the end.

use std::fmt;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar};

use crate::Result;
use crate::options::{Options, Table};
use crate::run::Ended;
use crate::stats::{Call, Count, Stats};
use crate::step::STEPS;

/// The state of a run, or its result.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    pub(crate) stats: Stats,
    pub(crate) ended: Ended,
    pub(crate) with_records: bool,
    pub(crate) must_evict: bool,
    /// At the end: slots, pages in memory and records that are still charged, and owners other than the host.
    pub(crate) left: Option<[u64; 4]>,
}

impl Outcome {
    /// Returns an error that says what did not balance.
    pub(crate) fn check(&self) -> Result<()> {
        let [slots, memory, records, owners] = self.left.unwrap_or([u64::MAX; 4]);
        if slots + memory + records + owners > 0 {
            return Err(format!(
                "{slots} slots are leaked, {memory} pages and {records} records are still charged, {owners} guests are left"
            )
            .into());
        }
        let missing = [
            ("no fault was served", self.stats.get(Count::Faults) == 0),
            ("no page was checked", self.ended.checked == 0),
            (
                "no page was evicted, and guests read more memory than they may have",
                self.must_evict && self.stats.get(Count::Evicted) == 0,
            ),
        ];
        match missing.into_iter().find(|&(_, missing)| missing) {
            Some((what, _)) => Err(what.into()),
            None => Ok(()),
        }
    }

    /// The table's and the tree's part of the manager's processor time, in percent. All calls count, those of
    /// a restart too.
    pub(crate) fn share(&self) -> f64 {
        self.share_of(&Call::ALL)
    }

    fn share_of(&self, calls: &[Call]) -> f64 {
        let time = calls.iter().map(|&call| self.stats.calls(call).1).sum();
        ratio(time, self.stats.get(Count::Processor)) * 100.0
    }

    pub(crate) fn median(&self) -> u64 {
        let [median] = self.stats.percentiles([500]);
        median
    }

    /// The table at the end of a run.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let count = |count| self.stats.get(count);
        let per_second = |nr: u64| {
            let rate = ratio(nr, 1) / self.elapsed.as_secs_f64();
            format!("{} ({rate:.0} per second)", HumanCount(nr))
        };
        let mut row = |name: &str, value: String| text += &format!("{name:<34} {value}\n");
        row("faults served", per_second(count(Count::Faults)));
        row(
            "  of these, writes to protected",
            HumanCount(count(Count::Protected)).to_string(),
        );
        row(
            "  that had to evict first",
            HumanCount(count(Count::Reclaimed)).to_string(),
        );
        row("pages evicted", per_second(count(Count::Evicted)));
        row(
            "  of these, to slots in a row",
            HumanCount(count(Count::InRanges)).to_string(),
        );
        row(
            "written to the swapfile",
            HumanBytes(count(Count::Written)).to_string(),
        );
        row("read from it", HumanBytes(count(Count::Read)).to_string());
        let percentiles = self.stats.percentiles([500, 900, 990, 999]);
        let [p50, p90, p99, p999] = percentiles.map(|nanoseconds| ratio(nanoseconds, 1000));
        row(
            "a fault, from read to woken, us",
            format!("p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}"),
        );
        let kind = if self.with_records {
            "table and tree"
        } else {
            "HashMap"
        };
        row(
            &format!("{kind}, of the manager's time"),
            format!(
                "{:.2}% of {:.1} s of the processor",
                self.share(),
                ratio(count(Count::Processor), 1_000_000_000)
            ),
        );
        for (name, call) in [
            ("  swapping in", Call::SwapIn),
            ("  charging first touches", Call::Charge),
            ("  swapping out", Call::SwapOut),
            ("  starting and ending guests", Call::Guests),
            ("  reopening, on each start", Call::Reopen),
        ] {
            let (calls, time) = self.stats.calls(call);
            let (calls, each) = (HumanCount(calls), ratio(time, calls));
            let share = self.share_of(&[call]);
            row(name, format!("{share:.2}% ({calls} calls of {each:.0} ns)"));
        }
        let Ended {
            started,
            killed,
            by_themselves,
            restarts,
            at_steps,
            at_each,
            checked,
            written,
        } = self.ended;
        row("guests that lived", HumanCount(started).to_string());
        row(
            "  that ended by themselves",
            HumanCount(by_themselves).to_string(),
        );
        row("  that were killed", HumanCount(killed).to_string());
        row(
            "slots of ended guests, freed",
            HumanCount(count(Count::Freed)).to_string(),
        );
        row(
            "records migrated to the host",
            HumanCount(count(Count::Migrated)).to_string(),
        );
        row(
            "pages moved to the host",
            HumanCount(count(Count::Moved)).to_string(),
        );
        if restarts > 0 {
            row(
                "managers that were killed",
                HumanCount(restarts).to_string(),
            );
            row(
                "  at a step that was named",
                format!("{at_steps}, at each of {} at least {at_each}", STEPS.len()),
            );
            row(
                "  evictions taken back",
                HumanCount(count(Count::Undone)).to_string(),
            );
            row(
                "  pages on their way to memory",
                HumanCount(count(Count::OnTheirWay)).to_string(),
            );
        }
        row(
            "pages checked",
            format!(
                "{}, and {} written, by those that ended by themselves",
                HumanCount(checked),
                HumanCount(written)
            ),
        );
        if count(Count::Evicted) == 0 {
            text += "nothing was evicted: all that each guest used may be in memory\n";
        }
        text += "every page that was read was right; no slot is leaked, and no charge is left\n";
        text
    }
}

/// Prints the line during a run.
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    every: Duration,
    last: Instant,
    faults: u64,
    stats: Stats,
}

impl Live {
    pub(crate) fn new(options: &Options, stats: &Stats) -> Self {
        let bar = stderr().is_terminal().then(ProgressBar::new_spinner);
        let plain = (options.seconds / 10.0).max(1.0);
        Self {
            every: if bar.is_some() {
                Duration::from_millis(200)
            } else {
                Duration::from_secs_f64(plain)
            },
            bar,
            last: Instant::now(),
            faults: 0,
            stats: stats.clone(),
        }
    }

    pub(crate) fn tick(&mut self, now: &Outcome) {
        let since = self.last.elapsed();
        if since < self.every {
            return;
        }
        let faults = self.stats.get(Count::Faults);
        let rate = ratio(faults - self.faults, 1) / since.as_secs_f64();
        let line = format!(
            "{:>5.1} s: {rate:>7.0} faults per second, p50 {:>5.1} us, {} evicted, {} guests lived, {} died, {} restarts",
            now.elapsed.as_secs_f64(),
            ratio(now.median(), 1000),
            HumanCount(self.stats.get(Count::Evicted)),
            now.ended.started,
            now.ended.killed + now.ended.by_themselves,
            now.ended.restarts,
        );
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None => complain(&line),
        }
        (self.last, self.faults) = (Instant::now(), faults);
    }

    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The reader of the output has closed it, as `head` does.
#[derive(Debug)]
pub(crate) struct ClosedOutput;

impl fmt::Display for ClosedOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the output is closed")
    }
}

impl std::error::Error for ClosedOutput {}

/// Writes to the standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ClosedOutput.into()),
        Err(error) => Err(format!("writing to the standard output: {error}").into()),
    }
}

/// Writes a line to the standard error, if that is open.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Runs pairs, with the table and with a `HashMap`, so that a change of the machine's speed affects both.
pub(crate) fn compare(options: &Options, run: impl Fn(&Options) -> Result<Outcome>) -> Result<()> {
    let mut ratios = Vec::new();
    let first = options.seed.unwrap_or(1);
    for nr in 1..=options.runs() {
        let seed = first.wrapping_add(nr - 1);
        let with = |table| {
            let options = Options {
                table,
                seed: Some(seed),
                ..options.clone()
            };
            run(&options)
        };
        // The machine may get slower or faster meanwhile: each comes first as often as the other.
        let (records, map) = if nr % 2 == 1 {
            let records = with(Table::Records)?;
            (records, with(Table::HashMap)?)
        } else {
            let map = with(Table::HashMap)?;
            (with(Table::Records)?, map)
        };
        let of = ratio(records.median(), map.median());
        print(&format!(
            "pair {nr}, seed {seed}: p50 {:.2} us with the table ({:.2}% of the time), {:.2} us with a HashMap ({:.2}%): \
             {of:.3}\n",
            ratio(records.median(), 1000),
            records.share(),
            ratio(map.median(), 1000),
            map.share(),
        ))?;
        ratios.push(of);
    }
    ratios.sort_by(f64::total_cmp);
    // Of an even number, the mean of the two in the middle.
    let median = f64::midpoint(ratios[(ratios.len() - 1) / 2], ratios[ratios.len() / 2]);
    print(&format!(
        "p50 with the table, compared with a HashMap: {median:.3}, the median of {} pairs\n",
        ratios.len()
    ))?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "printed with few digits")]
fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}
