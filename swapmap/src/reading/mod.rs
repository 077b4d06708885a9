//! Reads the owners of this machine's swap into one table, from `/proc/swaps`, the `pagemap` of every process
//! and the memory cgroup of every process.
//!
//! `swapmap live` prints a [`Reading`]. The test `live_kernel` compares a reading with the kernel's own
//! figures. Both run the same code, so the test holds for the command.

mod assign;
mod bytes;
mod figures;
mod hierarchy;
mod kinds;
mod memcgs;
mod pagemap;
mod process;
mod reader;
mod scan;
mod slots;
mod swaps;
mod untold;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use swap_records::{EntryError, MemcgId, SwapRecords, SwapType, SwaponError};

use crate::names::shown;

pub use assign::Name;
pub use figures::Figures;
pub use hierarchy::{Hierarchy, Version};
pub use memcgs::Memcgs;
pub use pagemap::{Method, check_privilege};
pub use swaps::SwapFile;
pub use watch::Watch;

use reader::Reader;

/// How often a thing is read that changes during the reading: a process that starts another program, the
/// swapfiles.
const ATTEMPTS: usize = 3;

/// The kernel adds up the counts of its processors for a cgroup every 2 seconds.
const FIGURES_LATE: Duration = Duration::from_millis(2250);
const FIGURES_AGAIN: Duration = Duration::from_millis(250);

/// Returns the bytes per page.
pub fn page_size() -> u64 {
    // SAFETY: sysconf has no precondition.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// Says why the machine cannot be read.
#[derive(Debug)]
pub enum Refused {
    /// Without `CAP_SYS_ADMIN` the kernel shows that a page is swapped out, but not its slot.
    NotPrivileged,
    /// The process has the capabilities, but in a user namespace.
    OffsetsHidden,
    NoSwap,
    NoMemoryController,
    TooManyMemcgs,
    File(PathBuf, io::Error),
    Malformed(&'static str, String),
    Swapon(SwaponError),
    Entry(EntryError),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPrivileged => f.write_str(
                "the kernel shows the slots of pages only to CAP_SYS_ADMIN, and the pagemaps of other users' \
                 processes only to CAP_SYS_PTRACE: run this as root",
            ),
            Self::OffsetsHidden => f.write_str(
                "the kernel does not show the slots of pages to the root of a user namespace: run this as root \
                 outside of it",
            ),
            Self::NoSwap => f.write_str(
                "no swap is on: /proc/swaps lists no swapfile, so no slot has an owner",
            ),
            Self::NoMemoryController => f.write_str(
                "the memory controller is mounted neither as cgroup v1 nor as v2, so swapped pages have no owner: \
                 mount it",
            ),
            Self::TooManyMemcgs => write!(
                f,
                "more than {} memory cgroups have swap, and there are no more 16-bit ids for them: remove some \
                 cgroups",
                MemcgId::MAX
            ),
            Self::File(path, error) => write!(f, "cannot read {}: {error}", shown(path)),
            Self::Malformed(what, line) => write!(
                f,
                "{what}: unexpected line \"{line}\": this kernel writes a form that swapmap does not know"
            ),
            Self::Swapon(error) => error.fmt(f),
            Self::Entry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// Counts the problems of a reading. None of them stops it, and the notes name all of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Processes that were read completely.
    pub processes: u64,
    /// Processes that ended before they were read completely. Their slots are free.
    pub vanished: u64,
    /// Processes that started another program or other threads at each attempt to read them. Their slots are
    /// missing.
    pub restless: u64,
    /// Processes that could not be read for another reason. Their slots are missing. The first one is kept as
    /// an example.
    pub unreadable: u64,
    pub first_unreadable: Option<String>,
    /// Processes that were read again, because they got the number of a process that ended after the cgroups
    /// were read.
    pub reused: u64,
    /// Slots that were found again in another process of the same memory cgroup.
    pub shared: u64,
    /// Slots that were found again in a process of another memory cgroup. The process that began first keeps
    /// them.
    pub disputed: u64,
    /// Entries of types without a swapfile: markers, pages that are being migrated, device memory.
    pub no_slot: u64,
    /// Entries of types that may have a swapfile or not: no process that was read tells.
    pub untold: BTreeMap<SwapType, u64>,
    /// Slots past the end of every swapfile known when the reading began.
    pub past_the_end: u64,
    /// A swapfile was turned on or off at each attempt.
    pub swapfiles_changed: bool,
    /// This is not the first PID namespace: processes outside of it are not read.
    pub confined: bool,
    /// How long the kernel's figures were read again.
    pub settled_in: Duration,
}

/// The owners of this machine's swap.
pub struct Reading {
    pub records: SwapRecords,
    /// The lines of `/proc/swaps`.
    pub swapfiles: Vec<SwapFile>,
    /// The types that have records, and their swapfiles.
    pub names: BTreeMap<SwapType, Name>,
    pub memcgs: Memcgs,
    /// The kernel's figures for every cgroup that has a record, or swap by these figures. They are read after
    /// the page tables. The root of v2 has no figures.
    pub figures: BTreeMap<MemcgId, Figures>,
    pub tally: Tally,
}

impl Reading {
    /// Reads the machine.
    pub fn take() -> Result<Self, Refused> {
        Self::take_by(Method::best())
    }

    /// Reads the machine as [`take`](Self::take) does. Another thread may read `watch` concurrently.
    pub fn take_watched(watch: &Watch) -> Result<Self, Refused> {
        Self::take_as(Method::best(), watch)
    }

    /// Reads the machine as [`take`](Self::take) does, and finds swapped-out pages by `method`.
    pub fn take_by(method: Method) -> Result<Self, Refused> {
        Self::take_as(method, &Watch::default())
    }

    fn take_as(method: Method, watch: &Watch) -> Result<Self, Refused> {
        check_privilege()?;
        let mut attempt = 1;
        loop {
            let reading = Self::attempt(method, watch)?;
            if !reading.tally.swapfiles_changed || attempt == ATTEMPTS {
                return Ok(reading);
            }
            attempt += 1;
        }
    }

    fn attempt(method: Method, watch: &Watch) -> Result<Self, Refused> {
        // The counter before the slots in use, and after them at the end: then it covers every page that went
        // to swap between the two readings of the slots in use.
        let out_before = pages_swapped_out();
        let before = SwapFile::read_all()?;
        if before.is_empty() {
            return Err(Refused::NoSwap);
        }
        let mut reader = Reader::new(method, &before)?;
        reader.read_processes(watch)?;
        reader.slots.trim()?;
        let swapfiles = SwapFile::read_all()?;
        let out = pages_swapped_out().saturating_sub(out_before);
        let out = assign::not_in_use_before(&before, &swapfiles, out);
        let mut tally = reader.tally;
        tally.swapfiles_changed =
            before.len() != swapfiles.len() || !before.iter().zip(&swapfiles).all(|(a, b)| a.is(b));
        let seen = reader.slots.seen();
        let names = if tally.swapfiles_changed {
            vec![Name::Unknown; seen.len()]
        } else {
            assign::match_names(&seen, &before, reader.kinds.end(), out)
        };
        let mut reading = Self {
            records: reader.slots.records,
            swapfiles,
            names: seen.iter().map(|seen| seen.ty).zip(names).collect(),
            memcgs: reader.memcgs,
            figures: BTreeMap::new(),
            tally,
        };
        watch.wait();
        reading.settle_figures()?;
        Ok(reading)
    }

    /// Reads the kernel's figures until they agree with the table, or are as new as the table.
    fn settle_figures(&mut self) -> Result<(), Refused> {
        let began = Instant::now();
        self.figures = self.memcgs.figures()?;
        let found: BTreeMap<MemcgId, u64> = self.records.owners().collect();
        let agrees = |id: &MemcgId, figures: &mut Figures| {
            let found = found.get(id).copied().unwrap_or(0);
            figures.agrees_with(found) && figures.gone == 0
        };
        while !self
            .figures
            .iter_mut()
            .all(|(id, figures)| agrees(id, figures))
            && began.elapsed() < FIGURES_LATE
        {
            thread::sleep(FIGURES_AGAIN);
            // A figure that agreed once is kept: the machine keeps running, and the table does not change.
            self.figures.retain(agrees);
            for (id, new) in self.memcgs.figures()? {
                self.figures.entry(id).or_insert(new);
            }
            self.tally.settled_in = began.elapsed();
        }
        Ok(())
    }
}

/// Returns how many pages were swapped out since the machine booted: to a swapfile, to compressed memory, or
/// as pages of zeros.
fn pages_swapped_out() -> u64 {
    let text = fs::read("/proc/vmstat").unwrap_or_default();
    let field = |name: &&[u8]| bytes::field(&text, name);
    let names: [&[u8]; 3] = [b"pswpout", b"zswpout", b"swpout_zero"];
    names.iter().filter_map(field).sum()
}

#[cfg(test)]
pub(crate) mod fake {
    use super::memcgs::fake::Fake;
    use super::*;

    /// Returns a reading of a machine with v1 cgroups. Each has a name, the pages of `swap` and `swapcached`,
    /// and the number of slots that were found. One swapfile has `used` slots in use.
    pub(crate) fn reading(name: &str, cgroups: &[(&str, [u64; 2], u64)], used: u64) -> Reading {
        let mut fake = Fake::new(name);
        for &(name, [swap, cached], _) in cgroups {
            let [swap, cached] = [swap, cached].map(|pages| pages * page_size());
            let stat = format!("swap {swap}\nswapcached {cached}\ntotal_swap {swap}\n");
            fake = fake.with(name, "memory.stat", &stat);
        }
        let mut memcgs = Memcgs::new(fake.hierarchy(Version::V1, "/"));
        let (records, ty) = (SwapRecords::new(), SwapType::new(0).unwrap());
        records.swapon(ty, 10_000).unwrap();
        let mut at = 1;
        for &(name, _, found) in cgroups.iter().filter(|&&(_, _, found)| found > 0) {
            let id = memcgs.id_of(format!("/{name}").as_bytes()).unwrap();
            let start = swap_records::SwapEntry::new(ty, at).unwrap();
            records.record_range(start, found, id).unwrap();
            at += found;
        }
        let figures = memcgs.figures().unwrap();
        let file = SwapFile {
            name: b"/swapfile".to_vec(),
            max_pages: 10_000,
            used,
        };
        Reading {
            records,
            swapfiles: vec![file],
            names: [(ty, Name::Certain(0))].into(),
            memcgs,
            figures,
            tally: Tally::default(),
        }
    }
}
