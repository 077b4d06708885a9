//! What is printed: a line while it runs, and a table at the end.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar};

use crate::Result;
use crate::options::{Options, Table};
use crate::run::Ended;
use crate::stats::{Count, Stats};

/// How a run went, or goes.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    pub(crate) stats: Stats,
    pub(crate) ended: Ended,
    pub(crate) seed: u64,
    pub(crate) with_records: bool,
    /// At the end: slots, pages in memory and records that are still charged, owners beside the host.
    pub(crate) left: Option<[u64; 4]>,
}

impl Outcome {
    /// The error is what did not balance.
    pub(crate) fn check(&self) -> Result<()> {
        let [slots, memory, records, owners] = self.left.unwrap_or([u64::MAX; 4]);
        if slots + memory + records + owners > 0 {
            return Err(format!(
                "{slots} slots are leaked, {memory} pages and {records} records are still charged, {owners} guests are left \
                 (seed {})",
                self.seed
            )
            .into());
        }
        if self.stats.get(Count::Faults) == 0
            || self.stats.get(Count::Evicted) == 0
            || self.ended.checked == 0
        {
            return Err("nothing was faulted in, evicted or checked".into());
        }
        Ok(())
    }

    /// Of a hundred, to the table and the tree, of the processor time of the manager.
    pub(crate) fn share(&self) -> f64 {
        ratio(self.books_time(), self.stats.get(Count::Processor)) * 100.0
    }

    /// Nanoseconds, without the clock's.
    fn books_time(&self) -> u64 {
        let clocks = self.stats.get(Count::ClockCalls).max(1);
        let clock = self.stats.get(Count::ClockTime) * self.stats.get(Count::BooksCalls) / clocks;
        self.stats.get(Count::BooksTime).saturating_sub(clock)
    }

    pub(crate) fn median(&self) -> u64 {
        let [median] = self.stats.percentiles([500]);
        median
    }

    pub(crate) fn print(&self) {
        let count = |count| self.stats.get(count);
        let per_second = |nr: u64| {
            let rate = ratio(nr, 1) / self.elapsed.as_secs_f64();
            format!("{} ({rate:.0} per second)", HumanCount(nr))
        };
        let row = |name: &str, text: String| println!("{name:<34} {text}");
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
        let each = ratio(self.books_time(), count(Count::BooksCalls));
        let kind = if self.with_records {
            "table and tree"
        } else {
            "HashMap"
        };
        row(
            &format!("{kind}, of the manager's time"),
            format!(
                "{:.2}% ({} calls of {each:.0} ns, in {:.1} s of the processor)",
                self.share(),
                HumanCount(count(Count::BooksCalls)),
                ratio(count(Count::Processor), 1_000_000_000)
            ),
        );
        let Ended {
            started,
            killed,
            by_themselves,
            restarts,
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
            "slots of theirs that were freed",
            HumanCount(count(Count::Freed)).to_string(),
        );
        row(
            "records handed to the host",
            HumanCount(count(Count::HandedOver)).to_string(),
        );
        row(
            "pages in memory, likewise",
            HumanCount(count(Count::Moved)).to_string(),
        );
        if restarts > 0 {
            row(
                "managers that were killed",
                HumanCount(restarts).to_string(),
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
        println!("every page that was read was right; no slot is leaked, and no charge is left");
    }
}

/// The line while it runs.
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
            None => eprintln!("{line}"),
        }
        (self.last, self.faults) = (Instant::now(), faults);
    }

    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Runs with the table and with a `HashMap` in turn, so that what the machine does meets both.
pub(crate) fn compare(options: &Options, run: impl Fn(&Options) -> Result<Outcome>) -> Result<()> {
    let mut ratios = Vec::new();
    for nr in 1..=options.runs.max(4) {
        let with = |table| {
            let options = Options {
                table,
                seed: Some(nr),
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
        println!(
            "pair {nr}: p50 {:.2} us with the table ({:.2}% of the time), {:.2} us with a HashMap ({:.2}%): {of:.3}",
            ratio(records.median(), 1000),
            records.share(),
            ratio(map.median(), 1000),
            map.share(),
        );
        ratios.push(of);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "p50 with the table beside a HashMap: {:.3}, the median of the pairs",
        // Of an even number, the mean of the two in the middle.
        f64::midpoint(ratios[(ratios.len() - 1) / 2], ratios[ratios.len() / 2])
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "printed with few digits")]
fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}
