//! `swapmap live`: who owns this machine's swap, cgroup by cgroup, as text and as a picture.

use std::io::{self, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use swapmap::reading::{Reading, Refused, Watch};
use swapmap::{picture, report};

use crate::cli::LiveArgs;
use crate::commands::live_files;
use crate::failure::{Answer, Failure};
use crate::output::print;
use crate::progress::{LINES, QUIET};

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
  not found    slots that the cgroup has by the kernel's figure, and no page table of its processes shows
  more found   slots that page tables of its processes show beyond the kernel's figure

The kernel does not tell which swap type a swapfile is. Where several are possible, all are named.
Names are escaped as in Rust; bytes that are not UTF-8 as \\xe9.

The last table has what is in use and was not found, with the reasons: pages of tmpfs and shared
memory are in no page table, and so is what removed cgroups left. `all` and `kernel` differ further
where a process was moved to another cgroup after it touched its pages, and because the machine
goes on while it is read.";

pub(crate) const ABOUT_PNG: &str = "\
Draw the swapfiles to this file as well: one pixel per slot, or one pixel per chunk of 2048 slots
where a swapfile has more than 4 Mi slots, in the colour of its (most frequent) owner; empty is dark";

/// Reads the machine. Once that takes longer than a second, says on standard error how far it is.
fn take() -> Result<Reading, Refused> {
    let watch = Watch::default();
    // Nothing is sent: it is closed when the reading is done.
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(|| {
            let is_done = is_done;
            let (mut told, mut waited) = (None::<Instant>, false);
            let mut pause = QUIET;
            while is_done.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pause = Duration::from_millis(100);
                let waits = watch.waits();
                if waits != waited || told.is_none_or(|told| told.elapsed() >= LINES) {
                    // Nobody is left to be told if this fails.
                    let _ = writeln!(io::stderr(), "swapmap: {}", watch.doing());
                    (told, waited) = (Some(Instant::now()), waits);
                }
            }
        });
        let reading = Reading::take_watched(&watch);
        drop(done);
        reading
    })
}

pub(crate) fn run(args: &LiveArgs) -> Result<Answer, Failure> {
    let save = live_files::check(args)?;
    let reading = take().map_err(|refused| Failure::Refused(refused.to_string()))?;
    let printed = print(|out| {
        if args.json {
            live_files::print_json(&reading, out)
        } else if args.csv {
            live_files::print_csv(&reading, out)
        } else {
            Ok(report::owners(&reading, out)?)
        }
    });
    match printed {
        // The files are wanted all the same.
        Err(failure) if failure.is_closed_pipe() => {}
        other => other?,
    }
    // Apart from the table, so that a pipe gets the table alone.
    let _ = report::notes(&reading, &mut io::stderr());
    if let Some(to) = save {
        live_files::save(&reading, &to)?;
    }
    if let Some(path) = &args.png {
        live_files::write_png(path, &picture::draw(&reading))?;
    }
    Ok(Answer::Done)
}
