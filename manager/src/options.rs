//! Parses the flags of the command. A manager that the command starts gets the same flags.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::PAGE;
use crate::step::EndAt;

pub(crate) const HELP: &str = "\
Guests under a memory manager: their memory is evicted to a swapfile and faulted in over userfaultfd, they are
killed and die, and every page that they read is checked.

Usage: cargo run --release --example manager -- [FLAGS]

  --guests N          guests at a time [default: 8]
  --memory SIZE       memory that all of them may have together [default: 64M]
  --guest-size SIZE   memory that each of them uses [default: 32M]
  --shared SIZE       a region that all of them use [default: half of --guest-size]
  --seconds N         how long [default: 20]
  --swapfile FILE     is made, and removed at once [default: a temporary file]
  --restart           kills the manager too, about every two seconds; its successor goes on
  --end-at STEP,N     with --restart: ends each manager but the first one when it is at this step for the Nth time;
                      manager/src/step.rs has the steps
  --end-at all        the same, at one step after the other; the run goes on after --seconds until each was met
  --no-kills          kills no guest
  --seed N            seed of all random choices [default: a random one]
  --runs N            that many runs, one after the other [default: 1; with --compare: 4]
  --table KIND        records, or hashmap to keep the books in one instead [default: records]
  --compare           as many pairs of runs as --runs says, with the table and with a HashMap, and the ratio of their
                      median latencies; pair N has the seed that --seed says [default: 1] plus N - 1
  --help              this text

Sizes take K, M or G. --guest-size is 256K at least, --shared is 4K at least, and --memory is 256K per guest at least.
Needs Linux 5.19 and no privilege. Exits with 1 if a byte is wrong or something does not balance, and with 2 for a
wrong flag. If all that a guest uses may be in memory, the manager may evict nothing. The end of the output says so.";

/// Which structure keeps the books.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    Records,
    HashMap,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) guests: u64,
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) guest_size: u64,
    pub(crate) shared: Option<u64>,
    pub(crate) seconds: f64,
    pub(crate) swapfile: Option<PathBuf>,
    pub(crate) restart: bool,
    pub(crate) kills: bool,
    pub(crate) seed: Option<u64>,
    pub(crate) runs: Option<u64>,
    pub(crate) table: Table,
    pub(crate) compare: bool,
    /// Where managers end.
    pub(crate) end: Option<EndAt>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            guests: 8,
            memory: 64 << 20,
            guest_size: 32 << 20,
            shared: None,
            seconds: 20.0,
            swapfile: None,
            restart: false,
            kills: true,
            seed: None,
            runs: None,
            table: Table::Records,
            compare: false,
            end: None,
        }
    }
}

impl Options {
    /// Parses the arguments. Returns `None` where they ask for help.
    pub(crate) fn parse(
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self::default();
        let mut args = lexopt::Parser::from_args(args);
        while let Some(arg) = args.next()? {
            match arg {
                Long("guests") => {
                    options.guests = args.value()?.parse_with(|text| number(text, 1..=64))?;
                }
                Long("memory") => {
                    options.memory = args.value()?.parse_with(|text| size(text, 64))?;
                }
                Long("guest-size") => {
                    options.guest_size = args.value()?.parse_with(|text| size(text, 64))?;
                }
                Long("shared") => {
                    options.shared = Some(args.value()?.parse_with(|text| size(text, 1))?);
                }
                Long("seconds") => options.seconds = args.value()?.parse_with(seconds)?,
                Long("swapfile") => options.swapfile = Some(args.value()?.into()),
                Long("restart") => options.restart = true,
                Long("no-kills") => options.kills = false,
                Long("seed") => options.seed = Some(args.value()?.parse()?),
                Long("runs") => {
                    let runs = args.value()?.parse_with(|text| number(text, 1..=1000))?;
                    options.runs = Some(runs);
                }
                Long("table") => options.table = args.value()?.parse_with(table)?,
                Long("end-at") => options.end = Some(args.value()?.parse()?),
                Long("compare") => options.compare = true,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        if options.restart && (options.table == Table::HashMap || options.compare) {
            return Err("a HashMap does not outlive its process: leave --restart out".into());
        }
        if options.end.is_some() && !options.restart {
            return Err("a manager that ends needs a successor: add --restart to --end-at".into());
        }
        let least = options.guests * 64 * PAGE as u64;
        if options.memory < least {
            let least = least >> 10;
            return Err(
                format!("each guest needs 64 pages: give --memory {least}K at least").into(),
            );
        }
        Ok(Some(options))
    }

    /// Returns the flags that a manager needs, as text.
    pub(crate) fn to_args(&self) -> Vec<String> {
        let table = match self.table {
            Table::Records => "records",
            Table::HashMap => "hashmap",
        };
        let numbers = [
            ("--guests", self.guests),
            ("--memory", self.memory),
            ("--guest-size", self.guest_size),
            ("--shared", self.shared_size()),
        ];
        let end = self.end.iter().flat_map(|end| {
            let end = end.to_string();
            ["--restart".to_owned(), "--end-at".to_owned(), end]
        });
        let flags = numbers
            .into_iter()
            .flat_map(|(flag, number)| [flag.to_owned(), number.to_string()]);
        flags
            .chain(["--table".to_owned(), table.to_owned()])
            .chain(end)
            .collect()
    }

    pub(crate) fn shared_size(&self) -> u64 {
        let half = (self.guest_size / 2).next_multiple_of(PAGE as u64);
        self.shared.unwrap_or(half)
    }

    /// Returns the number of runs, or of pairs of runs.
    pub(crate) fn runs(&self) -> u64 {
        self.runs.unwrap_or(if self.compare { 4 } else { 1 })
    }

    /// Returns whether a guest that reads all of its memory must have pages evicted.
    pub(crate) fn must_evict(&self) -> bool {
        self.guest_size / PAGE as u64 > self.limit()
    }

    /// Returns the number of pages that a guest may have in memory.
    pub(crate) fn limit(&self) -> u64 {
        self.memory / PAGE as u64 / self.guests
    }

    /// Returns the number of pages that all guests may have in memory.
    pub(crate) fn limit_of_all(&self) -> u64 {
        self.memory / PAGE as u64
    }

    /// Returns the number of slots of the swapfile: twice the number of all pages, since clusters are not
    /// full.
    pub(crate) fn slots(&self) -> u64 {
        let pages = (self.guest_size * self.guests + self.shared_size()) / PAGE as u64;
        (2 * pages).next_multiple_of(crate::slots::CLUSTER)
    }
}

fn table(text: &str) -> Result<Table, &'static str> {
    match text {
        "records" => Ok(Table::Records),
        "hashmap" => Ok(Table::HashMap),
        _ => Err("give records or hashmap"),
    }
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(seconds) if (1.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number from 1 to 86400, as in --seconds 20"),
    }
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "give a number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

/// Parses a size of whole pages, `least` of them or more. Returns bytes.
fn size(text: &str, least: u64) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        Some(bytes)
            if bytes >= least * PAGE as u64 && bytes <= 1 << 40 && bytes % PAGE as u64 == 0 =>
        {
            Ok(bytes)
        }
        _ => {
            let least = 4 * least;
            Err(format!(
                "give whole pages of 4K, {least}K to 1024G, as in 64M"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Options>, lexopt::Error> {
        Options::parse(args.iter().map(Into::into))
    }

    #[test]
    fn the_manager_gets_the_flags_that_the_command_got() {
        let given = parse(&[
            "--guests",
            "3",
            "--memory",
            "12M",
            "--guest-size",
            "8M",
            "--table",
            "hashmap",
        ]);
        let options = given.unwrap().unwrap();
        assert_eq!((options.limit(), options.limit_of_all()), (1024, 3072));
        let args = options.to_args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let again = parse(&args).unwrap().unwrap();
        assert_eq!(again.to_args(), options.to_args());
        assert_eq!(
            (again.shared_size(), again.table),
            (4 << 20, Table::HashMap)
        );
    }

    /// Half of it, for the region, was refused by the manager, which gets the sizes as flags.
    #[test]
    fn the_least_guest_size_is_one_that_the_manager_takes() {
        let options = parse(&["--guest-size", "256K"]).unwrap().unwrap();
        let args = options.to_args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let again = parse(&args).unwrap().unwrap();
        assert_eq!(
            (again.guest_size, again.shared_size()),
            (256 << 10, 128 << 10)
        );
        assert!(!again.must_evict() && Options::default().must_evict());
        let error = parse(&["--guest-size", "252K"]).unwrap_err().to_string();
        assert!(error.contains("256K to"), "{error}");
    }

    #[test]
    fn pairs_are_compared_as_often_as_asked_and_four_times_otherwise() {
        let runs = |args: &[&str]| parse(args).unwrap().unwrap().runs();
        assert_eq!(runs(&[]), 1);
        assert_eq!(runs(&["--compare"]), 4);
        assert_eq!(runs(&["--compare", "--runs", "2"]), 2);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for args in [
            &["--memory", "1M", "--guests", "8"][..],
            &["--memory", "64.5M"],
            &["--memory", "1000000"],
            &["--guests", "0"],
            &["--seconds", "0"],
            &["--restart", "--table", "hashmap"],
            &["--end-at", "all"],
            &["--restart", "--end-at", "What,3"],
            &["--what"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
        assert!(parse(&["--help"]).unwrap().is_none());
    }
}
