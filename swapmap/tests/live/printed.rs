//! Runs `swapmap live`, and finds rows in its output.

use std::ffi::OsStr;
use std::process::Command;

use swapmap::reading::{Method, Reading};
use swapmap::report;

/// The command's two streams.
#[derive(Debug)]
pub struct Printed {
    pub table: String,
    pub notes: String,
}

/// The figures of a cgroup in one of the tables.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// The first line of the section.
    pub heading: String,
    pub slots: u64,
    pub all: u64,
    pub kernel: u64,
}

impl Printed {
    /// Runs the command.
    pub fn live() -> Self {
        let done = Command::new(env!("CARGO_BIN_EXE_swapmap"))
            .arg("live")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let printed = Self {
            table: text(done.stdout),
            notes: text(done.stderr),
        };
        println!("{}{}", printed.table, printed.notes);
        assert!(done.status.success(), "{printed:?}");
        printed
    }

    /// Runs the command with arguments. Returns its standard output.
    pub fn live_with(arguments: &[&OsStr]) -> String {
        let done = Command::new(env!("CARGO_BIN_EXE_swapmap"))
            .arg("live")
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        println!("{text}");
        assert!(done.status.success(), "{:?}", done.stderr);
        text
    }

    /// Returns the output of the command on a kernel without `PAGEMAP_SCAN`.
    pub fn by_smaps() -> Self {
        let reading = Reading::take_by(Method::Smaps).unwrap_or_else(|refused| panic!("{refused}"));
        let [mut table, mut notes] = [Vec::new(), Vec::new()];
        report::owners(&reading, &mut table).unwrap();
        report::notes(&reading, &mut notes).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            table: text(table),
            notes: text(notes),
        }
    }

    /// Returns the rows of cgroups whose path ends in `end`. A section begins after an empty line.
    pub fn rows(&self, end: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for section in self.table.split("\n\n") {
            let heading = section.lines().next().unwrap_or_default();
            for line in section.lines().filter(|line| line.ends_with(end)) {
                let figures: Vec<u64> = line
                    .split_whitespace()
                    .map_while(|word| match word {
                        "-" => Some(0),
                        word => word.parse().ok(),
                    })
                    .collect();
                if let [slots, all, kernel, _cached] = figures[..] {
                    rows.push(Row {
                        heading: heading.to_owned(),
                        slots,
                        all,
                        kernel,
                    });
                }
            }
        }
        rows
    }

    /// Returns the number after `text` in the notes.
    pub fn note(&self, text: &str) -> Option<u64> {
        let rest = self.notes.split_once(text)?.1;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    }

    /// Returns the slots in all swapfiles of the cgroup whose path ends in `end`; 0 if it has no row.
    pub fn all(&self, end: &str) -> u64 {
        self.rows(end).first().map_or(0, |row| row.all)
    }
}
