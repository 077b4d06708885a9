//! `swapmap live`: who owns this machine's swap, cgroup by cgroup, as text and as a picture.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use swapmap::reading::{self, Reading};
use swapmap::{picture, report};

pub(crate) const ABOUT: &str = "\
Prints the owners of each swapfile of this machine, largest first.

It reads /proc/swaps, the page tables of every process (/proc/PID/pagemap) and the processes of
every memory cgroup, and records each swapped page in a table. It must run as root (CAP_SYS_ADMIN
and CAP_SYS_PTRACE). Where its figures and the kernel's disagree it reads the kernel's again for up
to 2 seconds, because these may be as old as that.

Columns:
  slots        slots of this swapfile that page tables of the cgroup's processes point to
  all          the same, in all swapfiles
  kernel       what the kernel says of the cgroup alone, in all swapfiles: v1 memory.stat `swap`,
               v2 memory.swap.current less that of the cgroups below it
  swap cache   pages in memory that have a slot too. v1: `kernel` is without them, so
               kernel <= all <= kernel + swap cache; v2: it is with them, so
               kernel - swap cache <= all <= kernel
  cgroup       its path; the numbers that the kernel gives to cgroups are not shown to anybody
  not found    slots that the cgroup has by the kernel's figure, and no page table shows

The kernel does not tell which swap type a swapfile is. Where several are possible, all are named.
Names are escaped as in Rust; bytes that are not UTF-8 as \\xe9.

The last table has what is in use and was not found, with the reasons: pages of tmpfs and shared
memory are in no page table, and so is what removed cgroups left. `all` and `kernel` differ further
where a process was moved to another cgroup after it touched its pages, and because the machine
goes on while it is read.";

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
