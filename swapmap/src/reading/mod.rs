//! Reads who owns what in this machine's swap: `/proc/swaps`, the `pagemap` of every process, and the
//! memory cgroup of every process, into one table.
//!
//! `swapmap live` prints what is read here; the test `live_kernel` holds it against the kernel's own
//! figures. There is one copy of this code, so what the test shows holds for the command.

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

/// How often something is read that changes meanwhile: a process that begins another program, the swapfiles.
const ATTEMPTS: usize = 3;

/// The kernel adds up what its processors counted for a cgroup every 2 seconds.
const FIGURES_LATE: Duration = Duration::from_millis(2250);
const FIGURES_AGAIN: Duration = Duration::from_millis(250);

/// Bytes per page.
pub fn page_size() -> u64 {
    // SAFETY: sysconf has no precondition.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// Why nothing could be read at all.
#[derive(Debug)]
pub enum Refused {
    /// Without `CAP_SYS_ADMIN` the kernel says that a page is swapped out, but not where.
    NotPrivileged,
    /// The capabilities are there, but they are those of a user namespace.
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
                "where a page is in swap is shown to CAP_SYS_ADMIN only, and the pagemap of another \
                 user's process to CAP_SYS_PTRACE only: run this as root",
            ),
            Self::OffsetsHidden => f.write_str(
                "a user namespace's root is not shown where pages are in swap: \
                 run this as root outside of it",
            ),
            Self::NoSwap => f.write_str(
                "no swap is on: /proc/swaps lists no swapfile, so there are no owners to show",
            ),
            Self::NoMemoryController => f.write_str(
                "the memory cgroup controller is mounted neither as v1 nor as v2, \
                 so swapped pages have no owner",
            ),
            Self::TooManyMemcgs => write!(
                f,
                "more than {} memory cgroups have swap: an owner is a 16-bit id, \
                 there is none left for the next cgroup",
                MemcgId::MAX
            ),
            Self::File(path, error) => write!(f, "cannot read {}: {error}", shown(path)),
            Self::Malformed(what, line) => write!(f, "{what} has a line of another form: \"{line}\""),
            Self::Swapon(error) => error.fmt(f),
            Self::Entry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// What did not go smoothly: none of it stops the reading, all of it is to be told.
#[derive(Debug, Default)]
pub struct Tally {
    /// Read from beginning to end.
    pub processes: u64,
    /// Ended before they were read to their end. What they had in swap is free by that.
    pub vanished: u64,
    /// Began another program at each attempt to read them, or had other threads each time: their slots are missing.
    pub restless: u64,
    /// Not readable for another reason: their slots are missing. The first one is kept as an example.
    pub unreadable: u64,
    pub first_unreadable: Option<String>,
    /// Read again, because their number was that of a process that had ended since the cgroups were read.
    pub reused: u64,
    /// Slots seen again in another process of the same memory cgroup.
    pub shared: u64,
    /// Slots seen again in a process of another memory cgroup: the process that began first keeps them.
    pub disputed: u64,
    /// Entries of a type that is no swapfile's: markers, pages being migrated, device memory.
    pub no_slot: u64,
    /// Entries of types that may be swapfiles' or not; no process could be read that tells.
    pub untold: BTreeMap<SwapType, u64>,
    /// Slots past the end of every swapfile known when the reading began.
    pub past_the_end: u64,
    /// A swapfile was turned on or off at each attempt.
    pub swapfiles_changed: bool,
    /// This is not the first namespace of processes: others are not seen.
    pub confined: bool,
    /// How long the kernel's figures were waited for.
    pub settled_in: Duration,
}

/// What was found.
pub struct Reading {
    pub records: SwapRecords,
    /// The lines of `/proc/swaps`.
    pub swapfiles: Vec<SwapFile>,
    /// The types that records were found for.
    pub names: BTreeMap<SwapType, Name>,
    pub memcgs: Memcgs,
    /// The kernel's figures for every memcg that has a record or, by them, swap. Read after the page tables; the v2
    /// root has none.
    pub figures: BTreeMap<MemcgId, Figures>,
    pub tally: Tally,
}

impl Reading {
    /// Reads the machine.
    pub fn take() -> Result<Self, Refused> {
        Self::take_by(Method::best())
    }

    /// As [`take`](Self::take); another thread may look at `watch` meanwhile.
    pub fn take_watched(watch: &Watch) -> Result<Self, Refused> {
        Self::take_as(Method::best(), watch)
    }

    /// As [`take`](Self::take), with swapped-out pages found in this way.
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
        // The counter before the slots in use, and after them at the end: then it covers every page that went to swap
        // between the two readings of the slots in use.
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

    /// Reads the kernel's figures until they agree with what was found, or are as new as what was found.
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
            // What agreed once does so: the machine goes on, and page tables are not read again.
            self.figures.retain(agrees);
            for (id, new) in self.memcgs.figures()? {
                self.figures.entry(id).or_insert(new);
            }
            self.tally.settled_in = began.elapsed();
        }
        Ok(())
    }
}

/// Pages that went to swap since the machine booted: to a swapfile, to memory in its stead, or nowhere, being zero.
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

    /// A reading of a machine with v1 cgroups: of each its name, the pages of `swap` and `swapcached`, and how many slots
    /// were found. One swapfile has `used` slots in use.
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
