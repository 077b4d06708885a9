//! Prints the results: lines for programs, and tables for people.

use std::fmt;

use crate::bars::{BARS, Bar};

/// The time or rate of one side of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    Seconds(f64),
    /// Per operation.
    Nanoseconds(f64),
    BytesASecond(f64),
    OperationsASecond(f64),
    Bytes(f64),
}

impl Amount {
    pub(crate) fn number(self) -> f64 {
        match self {
            Self::Seconds(n)
            | Self::Nanoseconds(n)
            | Self::BytesASecond(n)
            | Self::OperationsASecond(n)
            | Self::Bytes(n) => n,
        }
    }

    /// Returns the amount that was formatted as this text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_once(' ')?;
        let n: f64 = number.parse().ok()?;
        Some(match unit {
            "us" => Self::Seconds(n / 1e6),
            "ms" => Self::Seconds(n / 1e3),
            "s" => Self::Seconds(n),
            "ns" => Self::Nanoseconds(n),
            "GB/s" => Self::BytesASecond(n * 1e9),
            "M/s" => Self::OperationsASecond(n * 1e6),
            "KiB" => Self::Bytes(n * 1024.0),
            "MiB" => Self::Bytes(n * 1024.0 * 1024.0),
            _ => return None,
        })
    }

    /// Returns another amount of the same kind.
    pub(crate) fn with_number(self, n: f64) -> Self {
        match self {
            Self::Seconds(_) => Self::Seconds(n),
            Self::Nanoseconds(_) => Self::Nanoseconds(n),
            Self::BytesASecond(_) => Self::BytesASecond(n),
            Self::OperationsASecond(_) => Self::OperationsASecond(n),
            Self::Bytes(_) => Self::Bytes(n),
        }
    }

    /// Returns the unit in which the ticks of an axis are round numbers: MiB for bytes, 1 for everything
    /// else.
    pub(crate) fn unit(self) -> f64 {
        match self {
            Self::Bytes(_) => 1024.0 * 1024.0,
            _ => 1.0,
        }
    }

    /// Formats the amount without trailing zeros.
    pub(crate) fn short(self) -> String {
        let text = self.to_string();
        let number_and_unit = text.split_once(' ');
        match number_and_unit.and_then(|(n, unit)| Some((n.parse::<f64>().ok()?, unit))) {
            Some((number, unit)) => format!("{number} {unit}"),
            None => text,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::Seconds(s) if s < 1e-3 => format!("{:.2} us", s * 1e6),
            Self::Seconds(s) if s < 1.0 => format!("{:.2} ms", s * 1e3),
            Self::Seconds(s) => format!("{s:.2} s"),
            Self::Nanoseconds(n) => format!("{n:.2} ns"),
            Self::BytesASecond(n) => format!("{:.1} GB/s", n / 1e9),
            Self::OperationsASecond(n) => format!("{:.1} M/s", n / 1e6),
            Self::Bytes(n) if n < 1e7 => format!("{:.0} KiB", n / 1024.0),
            Self::Bytes(n) => format!("{:.1} MiB", n / 1024.0 / 1024.0),
        };
        f.pad(&text)
    }
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) ours: Amount,
    /// `None` if the row has nothing to compare with.
    pub(crate) theirs: Option<Amount>,
}

/// A value of a plot that is not a row: its name, the amount of this crate, and that of the other side.
pub(crate) type Detail = (&'static str, Amount, Amount);

/// The results so far. Each row is printed when it is added.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) skipped: Vec<(&'static str, &'static str)>,
    /// Percentiles during a migration.
    pub(crate) latencies: Vec<Detail>,
}

impl Report {
    pub(crate) fn ratio(&mut self, name: &'static str, value: f64, ours: Amount, theirs: Amount) {
        println!("ratio {name} {}", plain(value));
        self.push(name, value, ours, Some(theirs));
    }

    pub(crate) fn value(&mut self, name: &'static str, bytes: u64) {
        println!("value {name} {bytes}");
        let bytes = bytes as f64;
        self.push(name, bytes, Amount::Bytes(bytes), None);
    }

    /// Adds a row in microseconds.
    pub(crate) fn time(&mut self, name: &'static str, seconds: f64) {
        let micros = seconds * 1e6;
        println!("value {name} {} us", plain(micros));
        self.push(name, micros, Amount::Seconds(seconds), None);
    }

    pub(crate) fn skip(&mut self, name: &'static str, why: &'static str) {
        println!("skipped {name}: {why}");
        self.skipped.push((name, why));
    }

    fn push(&mut self, name: &'static str, value: f64, ours: Amount, theirs: Option<Amount>) {
        self.rows.push(Row {
            name,
            value,
            ours,
            theirs,
        });
    }

    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Returns the cells of the table, in the order of the bars.
    fn cells(&self) -> impl Iterator<Item = [String; 6]> {
        BARS.iter().map(|&(name, bar)| match self.row(name) {
            Some(row) => self.measured(row, bar),
            None => {
                let why = self.skipped.iter().find(|(skipped, _)| *skipped == name);
                let why = why.map_or("not measured", |(_, why)| why).to_owned();
                let empty = String::new;
                [
                    name.to_owned(),
                    bar.to_string(),
                    empty(),
                    why,
                    empty(),
                    empty(),
                ]
            }
        })
    }

    fn measured(&self, row: &Row, bar: Bar) -> [String; 6] {
        let met = match bar.is_met(row.value) {
            Some(true) => "yes",
            Some(false) => "MISSED",
            None => "",
        };
        [
            row.name.to_owned(),
            bar.to_string(),
            plain(row.value),
            met.to_owned(),
            row.ours.to_string(),
            row.theirs.map_or(String::new(), |n| n.to_string()),
        ]
    }

    /// Prints the table in columns for a terminal.
    pub(crate) fn print_table(&self) {
        let rows: Vec<_> = std::iter::once(HEAD.map(String::from))
            .chain(self.cells())
            .collect();
        // The reason for a skipped row is the last cell of its line, so its width does not matter.
        let width = |column: usize| {
            let full = rows.iter().filter(|row| !row[2].is_empty());
            full.map(|row| row[column].len()).max().unwrap_or(0)
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        for row in &rows {
            let [name, bar, value, met, ours, theirs] = row;
            let line = format!(
                "{name:0$}  {bar:>1$}  {value:>2$}  {met:3$}  {ours:>4$}  {theirs:>5$}",
                widths[0], widths[1], widths[2], widths[3], widths[4], widths[5],
            );
            println!("{}", line.trim_end());
        }
        let met = BARS
            .iter()
            .filter_map(|&(name, bar)| bar.is_met(self.row(name)?.value));
        let (met, missed): (Vec<bool>, _) = met.partition(|&met| met);
        println!("{} of {} bars are met", met.len(), met.len() + missed.len());
        if !self.latencies.is_empty() {
            println!("\n{}", LATENCIES.join("  "));
        }
        for (quantile, ours, theirs) in &self.latencies {
            println!(
                "{quantile:0$}  {ours:>1$}  {theirs:>2$}",
                LATENCIES[0].len(),
                LATENCIES[1].len(),
                LATENCIES[2].len()
            );
        }
    }

    /// Prints the tables as markdown, which [`saved`](crate::saved) reads.
    pub(crate) fn print_markdown(&self) {
        println!("| {} |", HEAD.join(" | "));
        println!("| --- | ---: | ---: | --- | ---: | ---: |");
        for [name, rest @ ..] in self.cells() {
            println!("| `{name}` | {} |", rest.join(" | "));
        }
        if !self.latencies.is_empty() {
            println!("\n| {} |", LATENCIES.join(" | "));
            println!("| --- | ---: | ---: |");
        }
        for (quantile, ours, theirs) in &self.latencies {
            println!("| {quantile} | {ours} | {theirs} |");
        }
    }
}

const HEAD: [&str; 6] = ["row", "bar", "value", "met", "this crate", "compared with"];
/// The percentiles of a record during a migration.
const LATENCIES: [&str; 3] = ["percentile", "this crate", "2014 loop"];

/// Formats a value with its significant digits.
fn plain(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.4}")
    }
}
