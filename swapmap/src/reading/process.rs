//! Lists processes, opens their page tables, and tells which process began first.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::bytes::{self, Start};
use super::pagemap::gone;

/// How often the threads of a process are listed.
const LISTED: usize = 64;

/// Returns the processes that `/proc` lists, in the order of their numbers.
pub(super) fn all() -> io::Result<Vec<u32>> {
    numbers("/proc")
}

/// Returns how many processes and threads have begun since the machine booted.
pub(super) fn begun() -> Option<u64> {
    bytes::field(&fs::read("/proc/stat").ok()?, b"processes")
}

/// Returns the names of folders that are numbers, in order.
fn numbers(folder: &str) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        numbers.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A thread that shows the address space of its process.
#[derive(Debug)]
pub(super) struct Task {
    /// `/proc/PID`, or `/proc/PID/task/TID`.
    pub(super) folder: String,
    pub(super) pagemap: File,
}

/// The result of opening a process.
#[derive(Debug)]
pub(super) enum Opened {
    Task(Task),
    /// A thread of the kernel, or a process that has ended and was not waited for.
    NoAddressSpace,
    /// It has ended, and its slots are free.
    Gone,
    /// Its main thread has ended, and at each attempt all threads that were listed had ended too.
    ThreadsChange,
}

impl Task {
    /// Opens the pagemap of a process.
    ///
    /// The main thread may have ended before the others. Then `/proc/PID` shows no address space, but another
    /// thread does. That thread may start a new one and end before it is opened. So the threads are listed
    /// again while the kernel counts more than one.
    pub(super) fn open(pid: u32) -> io::Result<Opened> {
        for _ in 0..LISTED {
            if let Some(main) = Self::open_folder(format!("/proc/{pid}"))? {
                return Ok(Opened::Task(main));
            }
            let threads = match numbers(&format!("/proc/{pid}/task")) {
                Err(error) if is_gone(&error) => return Ok(Opened::Gone),
                threads => threads?,
            };
            // The newest one first: where each starts the next, it lives longest.
            for thread in threads.into_iter().rev().filter(|&thread| thread != pid) {
                if let Some(task) = Self::open_folder(format!("/proc/{pid}/task/{thread}"))? {
                    return Ok(Opened::Task(task));
                }
            }
            let stat = match fs::read(format!("/proc/{pid}/stat")) {
                Err(error) if is_gone(&error) => return Ok(Opened::Gone),
                stat => stat?,
            };
            if bytes::threads(&stat).is_none_or(|threads| threads <= 1) {
                // The last thread may have started another program, which makes it the main one.
                return Ok(match Self::open_folder(format!("/proc/{pid}"))? {
                    Some(main) => Opened::Task(main),
                    None => Opened::NoAddressSpace,
                });
            }
        }
        Ok(Opened::ThreadsChange)
    }

    /// Returns `None` if the process has no address space, or has ended.
    fn open_folder(folder: String) -> io::Result<Option<Self>> {
        let opened = File::open(format!("{folder}/pagemap"))
            .map(|pagemap| Self { folder, pagemap })
            .and_then(|task| task.check_alive().map(|()| task));
        match opened {
            Err(error) if is_gone(&error) => Ok(None),
            task => task.map(Some),
        }
    }

    /// Fails with `ESRCH` if the process has no address space, or has ended.
    pub(super) fn check_alive(&self) -> io::Result<()> {
        // Linux up to 6.15 opens a pagemap without an address space, which then reads as empty.
        match self.pagemap.read_at(&mut [0; 8], 0)? {
            0 => Err(gone()),
            _ => Ok(()),
        }
    }

    /// Returns the text of `/proc/PID/cgroup`.
    pub(super) fn cgroup(&self) -> io::Result<Vec<u8>> {
        fs::read(format!("{}/cgroup", self.folder))
    }
}

/// Returns whether the error says that a process has ended.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH) || error.kind() == io::ErrorKind::NotFound
}

/// Returns the time since the machine booted, in the clock ticks of [`Start`].
pub(super) fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes a time to `time`.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    // SAFETY: sysconf has no precondition.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    let per_second = part(per_second).clamp(1, 1_000_000_000);
    if done != 0 {
        return 0;
    }
    part(time.tv_sec) * per_second + part(time.tv_nsec) / (1_000_000_000 / per_second)
}

/// A process in which slots were found.
///
/// Linux gives the number of a process that has ended to another one. The two are told apart by their start
/// times: a process that was read at `read_at` began before that.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) pid: u32,
    /// When its page tables had been read, by [`now`].
    read_at: u64,
    /// Its cgroup comes from the lists that were read before all processes.
    listed: bool,
    start: OnceCell<Option<Start>>,
}

impl Holder {
    pub(super) fn new(pid: u32, read_at: u64, listed: bool) -> Self {
        Self {
            pid,
            read_at,
            listed,
            start: OnceCell::new(),
        }
    }

    /// Returns the start time; `None` if the process has ended. Most processes share no slot, so it is read
    /// only for those that do.
    fn start(&self) -> Option<Start> {
        let read = || {
            self.not_later(bytes::start(
                &fs::read(format!("/proc/{}/stat", self.pid)).ok()?,
            ))
        };
        *self.start.get_or_init(read)
    }

    /// Returns the start time if it is that of the process that was read. A later one is that of another
    /// process, which got the number after this one had ended.
    fn not_later(&self, start: Option<Start>) -> Option<Start> {
        start.filter(|start| start.ticks <= self.read_at)
    }

    /// Returns whether the process that was read may have got its number after `lists`, the time at which the
    /// lists of the cgroups were read. Then its cgroup is the one of the process that had the number before.
    pub(super) fn may_be_another_than_listed(&self, lists: u64) -> bool {
        self.listed && self.start().is_some_and(|start| start.ticks >= lists)
    }

    /// Returns whether this process began before `other`. Start times order processes; their numbers do not,
    /// because Linux starts again at low numbers. A process that has ended counts as later: its
    /// slots are free, or were another process's first.
    pub(super) fn began_before(&self, other: &Self) -> bool {
        match (self.start(), other.start()) {
            (Some(a), Some(b)) => before((self.pid, a), (other.pid, b)),
            (own, _) => own.is_some(),
        }
    }
}

fn before((pid, start): (u32, Start), (other_pid, other): (u32, Start)) -> bool {
    if start.ticks != other.ticks {
        start.ticks < other.ticks
    } else if other.parent == pid || start.parent == other_pid {
        other.parent == pid
    } else {
        pid < other_pid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_is_after_its_parent_also_with_a_lower_number() {
        let start = |ticks, parent| Start { ticks, parent };
        assert!(before((900, start(5, 1)), (30, start(6, 900))));
        assert!(!before((30, start(6, 900)), (900, start(5, 1))));
        // In the same tick.
        assert!(before((900, start(5, 1)), (30, start(5, 900))));
        assert!(!before((30, start(5, 900)), (900, start(5, 1))));
        assert!(before((30, start(5, 1)), (900, start(5, 1))));
    }

    #[test]
    fn a_process_that_does_not_exist_is_gone_and_this_one_is_not() {
        assert!(matches!(Task::open(u32::MAX).unwrap(), Opened::Gone));
        let Opened::Task(own) = Task::open(std::process::id()).unwrap() else {
            panic!("this process has an address space");
        };
        assert!(!own.cgroup().unwrap().is_empty());
        assert!(
            Holder::new(std::process::id(), now(), true)
                .start()
                .is_some()
        );
        let (own, gone) = (
            Holder::new(std::process::id(), now(), true),
            Holder::new(u32::MAX, now(), true),
        );
        assert!(own.began_before(&gone) && !gone.began_before(&own));
    }

    #[test]
    fn a_number_that_is_used_again_is_seen_by_the_start_times() {
        let pid = std::process::id();
        let start = Holder::new(pid, u64::MAX, true).start().unwrap().ticks;
        assert!(start <= now() && start > 0);
        // This process began after the reading, so the process that was read has ended.
        let ended = Holder::new(pid, start - 1, true);
        assert_eq!(ended.start(), None);
        assert!(!ended.may_be_another_than_listed(0));
        // This process began after the lists were read, so its number in them is that of another process.
        let read = Holder::new(pid, now(), true);
        assert!(read.may_be_another_than_listed(start - 1));
        assert!(!read.may_be_another_than_listed(start + 1));
        // Its cgroup comes from the process itself.
        assert!(!Holder::new(pid, now(), false).may_be_another_than_listed(start - 1));
    }
}
