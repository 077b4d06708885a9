//! Prints who owns this machine's swap, cgroup by cgroup, and draws it.
//!
//! `cargo run --release --example live_swap -- --help`

mod picture;
mod reading;
mod report;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use reading::Reading;

const HELP: &str = "\
Prints the owners of each swapfile of this machine, largest first.

Usage: live_swap [--png FILE]

  --png FILE   draw the swapfiles as well: a pixel a slot, or a pixel a chunk of 2048 slots
               where a swapfile has more than 4 Mi slots, in the colour of its (most frequent)
               owner; empty is dark
  -h, --help   print this

It reads /proc/swaps, /proc/PID/pagemap and /proc/PID/cgroup of every process, and records each
swapped page in a table. It must run as root (CAP_SYS_ADMIN and CAP_SYS_PTRACE).

Columns:
  slots        slots of this swapfile that page tables of the cgroup's processes point to
  all          the same, in all swapfiles
  kernel       what the kernel says of the cgroup alone, in all swapfiles: v1 memory.stat `swap`,
               v2 memory.swap.current less that of the cgroups below it
  swap cache   pages in memory that have a slot too. v1: `kernel` is without them, so
               kernel <= all <= kernel + swap cache; v2: it is with them, so
               kernel - swap cache <= all <= kernel
  cgroup       its path; the numbers that the kernel gives to cgroups are not shown to anybody

`all` and `kernel` differ further where pages are not in any page table (tmpfs, shared memory),
where a process was moved to another cgroup after it touched its pages, where a cgroup is gone
but its pages are not, and because the machine goes on while it is read.

Exit code: 0 done, 1 nothing could be read or written, 2 wrong usage.
";

fn main() -> ExitCode {
    let failure = match Order::parse(std::env::args_os().skip(1)) {
        Ok(Order::Help) => print(|out| out.write_all(HELP.as_bytes())).err(),
        Ok(Order::Show { png }) => show(png).err(),
        Err(usage) => Some(Failure::Usage(usage)),
    };
    match failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            // Nobody is left to be told if this fails too.
            let _ = writeln!(io::stderr(), "live_swap: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn show(png: Option<PathBuf>) -> Result<(), Failure> {
    let reading = Reading::take().map_err(Failure::Reading)?;
    print(|out| report::owners(&reading, out))?;
    // Apart from the table, so that a pipe gets the table alone.
    let _ = report::notes(&reading, &mut io::stderr());
    let Some(path) = png else { return Ok(()) };
    picture::draw(&reading)
        .save_with_format(&path, image::ImageFormat::Png)
        .map_err(|error| Failure::Picture(path, error))
}

/// Writes to standard output. That the reader of a pipe has seen enough is no failure.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = write(&mut out).and_then(|()| out.flush());
    match done {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

enum Order {
    Help,
    Show { png: Option<PathBuf> },
}

impl Order {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut png = None;
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            let file = match text.as_ref() {
                "-h" | "--help" => return Ok(Self::Help),
                "--png" => args
                    .next()
                    .filter(|file| !file.to_string_lossy().starts_with("--")),
                // A lossy name would be another file's: names beyond UTF-8 take the other form.
                _ if text.starts_with("--png=") => arg
                    .to_str()
                    .and_then(|arg| arg.strip_prefix("--png="))
                    .map(OsString::from),
                _ => return Err(format!("unknown argument {text:?}")),
            };
            match file.filter(|file| !file.is_empty()) {
                Some(_) if png.is_some() => return Err("--png was given twice".to_owned()),
                Some(file) => png = Some(PathBuf::from(file)),
                None => return Err("--png needs the name of a file to write".to_owned()),
            }
        }
        Ok(Self::Show { png })
    }
}

enum Failure {
    Usage(String),
    Reading(reading::Refused),
    Output(io::Error),
    Picture(PathBuf, image::ImageError),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "{what}; --help tells what there is"),
            Self::Reading(refused) => refused.fmt(f),
            Self::Output(error) => write!(f, "cannot print: {error}"),
            Self::Picture(path, error) => {
                write!(f, "cannot write the picture {}: {error}", path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Order, String> {
        Order::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn a_picture_is_asked_for_in_two_ways() {
        for args in [&["--png", "a.png"][..], &["--png=a.png"]] {
            let Ok(Order::Show { png }) = parse(args) else {
                panic!("{args:?} was refused")
            };
            assert_eq!(png, Some(PathBuf::from("a.png")));
        }
        assert!(matches!(parse(&[]), Ok(Order::Show { png: None })));
        assert!(matches!(parse(&["--help"]), Ok(Order::Help)));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for args in [
            &["--png"][..],
            &["--png="],
            &["--png", "--help"],
            &["--png", "a", "--png", "b"],
            &["--pgn", "a"],
            &["swap"],
            &["-x"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
