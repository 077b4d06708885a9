//! Prints numbers in columns.

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

/// The result of one table for one offline cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) offline: String,
    pub(crate) table: &'static str,
    pub(crate) moved: u64,
    pub(crate) scanned: u64,
    pub(crate) skipped: u64,
    /// `None` if no lock was taken.
    pub(crate) longest_hold: Option<Duration>,
    pub(crate) time: Duration,
    /// How many times faster than the other table.
    pub(crate) faster: Option<f64>,
}

const HEAD: [&str; 8] = [
    "offline cgroup",
    "table",
    "moved",
    "scanned",
    "skipped",
    "longest hold",
    "time",
    "faster",
];
/// The number of columns with words, which are aligned left. Later columns have numbers, aligned right.
const WORDS: usize = 2;

/// Prints a line. Ends the program quietly if the reader closed the pipe.
pub(crate) fn say(text: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("reparent: standard output: {error}");
        std::process::exit(1);
    }
}

/// Prints the lines under a head: bold and ruled on a terminal, plain elsewhere.
pub(crate) fn print(lines: &[Line]) {
    let rows: Vec<[String; 8]> = lines.iter().map(row).collect();
    let widths: [usize; 8] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.fold(HEAD[column].len(), usize::max)
    });
    let (bold, plain, rule) = if std::io::stdout().is_terminal() {
        ("\x1b[1m", "\x1b[0m", true)
    } else {
        ("", "", false)
    };
    let head = line(&HEAD.map(String::from), &widths);
    say(&format!("{bold}{head}{plain}"));
    if rule {
        say(&widths.map(|width| "─".repeat(width)).join("  "));
    }
    for row in &rows {
        say(&line(row, &widths));
    }
}

fn row(line: &Line) -> [String; 8] {
    [
        line.offline.clone(),
        line.table.to_owned(),
        count(line.moved),
        count(line.scanned),
        count(line.skipped),
        line.longest_hold.map_or("none".to_owned(), duration),
        duration(line.time),
        line.faster.map_or(String::new(), times),
    ]
}

fn line(cells: &[String; 8], widths: &[usize; 8]) -> String {
    let padded = cells.iter().zip(widths).enumerate();
    let padded = padded.map(|(column, (cell, &width))| {
        if column < WORDS {
            format!("{cell:width$}")
        } else {
            format!("{cell:>width$}")
        }
    });
    let line = padded.collect::<Vec<_>>().join("  ");
    line.trim_end().to_owned()
}

/// Formats a number with commas between thousands.
pub(crate) fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

fn duration(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    if us < 1e3 {
        format!("{us:.2} us")
    } else if us < 1e6 {
        format!("{:.2} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

fn times(factor: f64) -> String {
    if factor < 10.0 {
        return format!("{factor:.2}x");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded"
    )]
    let whole = factor.round() as u64;
    format!("{}x", count(whole))
}

/// Formats a size in bytes, in the largest binary unit that is not larger than it.
pub(crate) fn bytes(n: u64) -> String {
    let mut size = n as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    // At most three decimals, without trailing zeros.
    let size = (size * 1e3).round() / 1e3;
    format!("{size} {unit}")
}
