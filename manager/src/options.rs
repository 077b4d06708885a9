//! The flags of the command. The processes that it starts get the same ones.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::PAGE;
use crate::step::End;

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
  --no-kills          kills no guest
  --seed N            of what is random [default: the time]
  --runs N            that many runs, one after the other [default: 1]
  --table KIND        records, or hashmap to keep the books in one instead [default: records]
  --compare           runs of both kinds in turn, and what the median latencies are beside each other
  --help              this text

Sizes take K, M or G. Needs root, and Linux 5.19. Exits with 1 if a byte is wrong or something does not balance, with 2
for a flag that is none.";

/// What keeps the books.
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
    pub(crate) runs: u64,
    pub(crate) table: Table,
    pub(crate) compare: bool,
    /// Of a manager: where it ends.
    pub(crate) end: Option<End>,
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
            runs: 1,
            table: Table::Records,
            compare: false,
            end: None,
        }
    }
}

impl Options {
    /// What the arguments ask for; `None` where they ask for help.
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
                Long("memory") => options.memory = args.value()?.parse_with(size)?,
                Long("guest-size") => options.guest_size = args.value()?.parse_with(size)?,
                Long("shared") => options.shared = Some(args.value()?.parse_with(size)?),
                Long("seconds") => options.seconds = args.value()?.parse_with(seconds)?,
                Long("swapfile") => options.swapfile = Some(args.value()?.into()),
                Long("restart") => options.restart = true,
                Long("no-kills") => options.kills = false,
                Long("seed") => options.seed = Some(args.value()?.parse()?),
                Long("runs") => {
                    options.runs = args.value()?.parse_with(|text| number(text, 1..=1000))?;
                }
                Long("table") => options.table = args.value()?.parse_with(table)?,
                // The command says so to a manager.
                Long("end-at") => options.end = Some(args.value()?.parse()?),
                Long("compare") => options.compare = true,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        if options.restart && (options.table == Table::HashMap || options.compare) {
            return Err("a HashMap does not outlive its process: leave --restart out".into());
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

    /// The flags that the manager needs, as text.
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
        let end = self
            .end
            .iter()
            .flat_map(|end| ["--end-at".to_owned(), end.to_arg()]);
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

    /// Pages that a guest may have in memory.
    pub(crate) fn limit(&self) -> u64 {
        self.memory / PAGE as u64 / self.guests
    }

    /// Pages that all may have.
    pub(crate) fn limit_of_all(&self) -> u64 {
        self.memory / PAGE as u64
    }

    /// Slots of the swapfile: room for all pages of all guests twice, since clusters are not full.
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

/// Bytes, in whole pages.
fn size(text: &str) -> Result<u64, String> {
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
            if bytes >= 64 * PAGE as u64 && bytes <= 1 << 40 && bytes % PAGE as u64 == 0 =>
        {
            Ok(bytes)
        }
        _ => Err("give whole pages of 4K, 256K to 1024G, as in 64M".into()),
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

    #[test]
    fn what_cannot_be_is_refused() {
        for args in [
            &["--memory", "1M", "--guests", "8"][..],
            &["--memory", "64.5M"],
            &["--memory", "1000000"],
            &["--guests", "0"],
            &["--seconds", "0"],
            &["--restart", "--table", "hashmap"],
            &["--what"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
        assert!(parse(&["--help"]).unwrap().is_none());
    }
}
