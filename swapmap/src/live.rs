//! `swapmap live`: who owns this machine's swap, cgroup by cgroup, as text and as a picture.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use swapmap::reading::{self, Reading};
use swapmap::{picture, report};

pub(crate) const ABOUT: &str = "\
Prints the owners of each swapfile of this machine, largest first.

It reads /proc/swaps, and /proc/PID/pagemap and /proc/PID/cgroup of every process, and records each
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
but its pages are not, and because the machine goes on while it is read.";

pub(crate) const ABOUT_PNG: &str = "\
Draw the swapfiles to this file as well: one pixel per slot, or one pixel per chunk of 2048 slots
where a swapfile has more than 4 Mi slots, in the colour of its (most frequent) owner; empty is dark";

pub(crate) fn show(png: Option<PathBuf>) -> Result<(), Failure> {
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

#[derive(Debug)]
pub(crate) enum Failure {
    Reading(reading::Refused),
    Output(io::Error),
    Picture(PathBuf, image::ImageError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reading(refused) => refused.fmt(f),
            Self::Output(error) => write!(f, "cannot print: {error}"),
            Self::Picture(path, error) => {
                write!(f, "cannot write the picture {}: {error}", path.display())
            }
        }
    }
}
