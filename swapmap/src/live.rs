//! `swapmap live`: prints the owners of this machine's swap, and draws them.

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

`live` reads /proc/swaps, the page tables of every process (/proc/PID/pagemap) and the processes of
every memory cgroup, and records each swapped page in a table. It must run as root (CAP_SYS_ADMIN
and CAP_SYS_PTRACE). The kernel updates its figures only every 2 seconds. Where they disagree with
the table, `live` reads them again for up to 2 seconds.

Columns:
  slots        slots of this swapfile in the page tables of the cgroup's processes
  all          the same, in all swapfiles
  kernel       the kernel's figure for the cgroup alone, in all swapfiles: v1 memory.stat `swap`,
               v2 memory.swap.current minus that of the cgroups below it
  swap cache   pages in memory that also have a slot. v1: `kernel` excludes them, so
               kernel <= all <= kernel + swap cache; v2: `kernel` includes them, so
               kernel - swap cache <= all <= kernel
  cgroup       the path of the cgroup; the kernel does not show its own ids of cgroups
  not found    slots that the kernel counts for the cgroup, and no page table shows
  more found   slots that page tables show for the cgroup, and the kernel does not count

The kernel does not show which swap type a swapfile has. Where several are possible, all are named.

The last table has the slots in use whose owner was not found, with the reasons. Pages of tmpfs and
shared memory are in no page table, and neither are the remaining records of removed cgroups. `all`
and `kernel` also differ where a process moved to another cgroup after it touched its pages, and
because the machine keeps running during the reading.

Output for programs:
  --csv   the columns
          type,swapfile,id,slots,not_found,more_found,all,kernel,swap_cache,cgroup
          Rows of slots that were not found have no type and no swapfile.
  --json  an object with the members swapfiles, cgroups, removed_cgroups and reasons (lists), and
          numbers. README.md of swapmap lists them all";

pub(crate) const ABOUT_PNG: &str = "\
Also draw the swapfiles to this file: one pixel per slot, or one pixel per chunk of 2048 slots where
a swapfile has more than 4 Mi slots, in the colour of the most frequent owner. Empty slots are dark";

/// Reads the machine. Shows the progress on standard error if that takes longer than a second.
fn take() -> Result<Reading, Refused> {
    let watch = Watch::default();
    // No message is sent. The channel is closed when the reading is done.
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
                    // If this fails, there is no other place for the text.
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
            Ok(report::print_json(&reading, out)?)
        } else if args.csv {
            Ok(report::print_csv(&reading, out)?)
        } else {
            Ok(report::owners(&reading, out)?)
        }
    });
    match printed {
        // The files are written also where the reader of the pipe has ended.
        Err(failure) if failure.is_closed_pipe() => {}
        other => other?,
    }
    // On standard error, so that a pipe gets only the table.
    let _ = report::notes(&reading, &mut io::stderr());
    if let Some(to) = save {
        live_files::save(&reading, &to)?;
    }
    if let Some(path) = &args.png {
        live_files::write_png(path, &picture::draw(&reading))?;
    }
    Ok(Answer::Done)
}
