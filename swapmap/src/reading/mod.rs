//! Reads who owns what in this machine's swap: `/proc/swaps`, every `/proc/PID/pagemap`, and the
//! memory cgroup of every process, into one table.
//!
//! `swapmap live` prints what is read here; the test `live_kernel` holds it against the kernel's own
//! figures. There is one copy of this code, so what the test shows holds for the command.

mod memcgs;
mod pagemap;
mod swaps;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use procfs::ProcError;
use procfs::process::{Process, all_processes};
use swap_records::{EntryError, MemcgId, SwapEntry, SwapRecords, SwapType, SwaponError};

pub use memcgs::{Figures, Hierarchy, Memcgs, Version};
pub use pagemap::check_privilege;
pub use swaps::SwapFile;

use pagemap::{Stop, Walk};
use swaps::Seen;

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
    Proc(&'static str, ProcError),
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
                "more than {} memory cgroups have processes: an owner is a 16-bit id, \
                 there is none left for the next cgroup",
                MemcgId::MAX
            ),
            Self::File(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Proc(what, error) => write!(f, "cannot read {what}: {error}"),
            Self::Malformed(what, line) => write!(f, "{what} has a line of another form: {line:?}"),
            Self::Swapon(error) => error.fmt(f),
            Self::Entry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// What did not go smoothly: none of it stops the reading, all of it is to be told.
#[derive(Debug, Default)]
pub struct Tally {
    pub processes: u64,
    /// Ended before or while they were read.
    pub vanished: u64,
    /// Not readable for another reason; the first one is kept as an example.
    pub unreadable: u64,
    pub first_unreadable: Option<String>,
    /// Slots seen again in another process of the same memory cgroup.
    pub shared: u64,
    /// Slots seen again in a process of another memory cgroup: the first one keeps them.
    pub disputed: u64,
    /// Entries of a type that cannot be a swapfile's: markers, pages being migrated, device memory.
    pub no_slot: u64,
    /// Slots past the end of every swapfile known when the reading began.
    pub past_the_end: u64,
}

/// Which swapfile a type is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// No other line of `/proc/swaps` can be this type.
    Certain(usize),
    /// Several could be; taken is the one it is unless a swapfile before it was turned off.
    Assumed(usize),
    Unknown,
}

/// What was found.
pub struct Reading {
    pub records: SwapRecords,
    /// The lines of `/proc/swaps`.
    pub swapfiles: Vec<SwapFile>,
    /// The types that records were found for.
    pub names: BTreeMap<SwapType, Name>,
    pub memcgs: Memcgs,
    /// The kernel's figures for every memcg that has a record, read after the page tables; the v2
    /// root has none.
    pub figures: BTreeMap<MemcgId, Figures>,
    pub tally: Tally,
}

impl Reading {
    /// Reads the machine.
    pub fn take() -> Result<Self, Refused> {
        check_privilege()?;
        let swapfiles = SwapFile::read_all()?;
        let longest = swapfiles.iter().map(|file| file.max_pages).max();
        let Some(longest) = longest else {
            return Err(Refused::NoSwap);
        };
        let mut reading = Self {
            records: SwapRecords::new(),
            swapfiles,
            names: BTreeMap::new(),
            memcgs: Memcgs::new(Hierarchy::find()?),
            figures: BTreeMap::new(),
            tally: Tally::default(),
        };
        let mut seen = BTreeMap::new();
        let mut walk = Walk::new();
        for process in all_processes().map_err(|e| Refused::Proc("the processes in /proc", e))? {
            let done = match process {
                Ok(process) => reading.read_process(&process, &mut walk, longest, &mut seen)?,
                Err(error) => Err(error),
            };
            reading.tally_process(done);
        }
        reading.figures = reading.memcgs.figures();
        reading.name_types(seen)?;
        Ok(reading)
    }

    /// The outer error ends the reading, the inner one ends this process.
    fn read_process(
        &mut self,
        process: &Process,
        walk: &mut Walk,
        longest: u64,
        seen: &mut BTreeMap<SwapType, Seen>,
    ) -> Result<Result<(), ProcError>, Refused> {
        let path = match process.cgroups() {
            Ok(cgroups) => self.memcgs.hierarchy().path_in(&cgroups),
            Err(error) => return Ok(Err(error)),
        };
        // The id is asked for at the first swapped page only: most cgroups have none.
        let mut id = None;
        let done = walk.swapped_pages(process, |entry| {
            let id = match id {
                Some(id) => id,
                None => *id.insert(self.memcgs.id_of(&path)?),
            };
            self.found(entry, id, longest, seen)
        });
        match done {
            Ok(()) => Ok(Ok(())),
            Err(Stop::Proc(error)) => Ok(Err(error)),
            Err(Stop::Refused(refused)) => Err(refused),
        }
    }

    fn found(
        &mut self,
        entry: SwapEntry,
        id: MemcgId,
        longest: u64,
        seen: &mut BTreeMap<SwapType, Seen>,
    ) -> Result<(), Refused> {
        let (ty, offset) = (entry.swap_type(), entry.offset());
        if ty.get() >= swaps::MOST_SWAPFILES {
            self.tally.no_slot += 1;
            return Ok(());
        }
        // Slot 0 of every swapfile is its header, no page is ever written there.
        if offset == 0 {
            return Err(Refused::OffsetsHidden);
        }
        match self.records.max_pages(ty) {
            // Which swapfile this is comes out at the end. A table that is too long until then
            // costs address space only.
            None => self
                .records
                .swapon(ty, longest.max(offset + 1))
                .map_err(Refused::Swapon)?,
            Some(max_pages) if offset >= max_pages => grow(&self.records, ty, offset + 1)?,
            Some(_) => {}
        }
        self.tally.past_the_end += u64::from(offset >= longest);
        // The kernel charged the process that touched the page first. A fork comes after its
        // parent in /proc, so the first one seen is the better guess.
        match self.records.lookup(entry) {
            Some(owner) if owner == id => self.tally.shared += 1,
            Some(_) => self.tally.disputed += 1,
            None => {
                self.records.record(entry, id).map_err(Refused::Entry)?;
                let seen = seen.entry(ty).or_insert(Seen::new(ty));
                seen.max_offset = seen.max_offset.max(offset);
            }
        }
        Ok(())
    }

    fn tally_process(&mut self, done: Result<(), ProcError>) {
        self.tally.processes += 1;
        let Err(error) = done else { return };
        if is_gone(&error) {
            self.tally.vanished += 1;
        } else {
            self.tally.unreadable += 1;
            self.tally
                .first_unreadable
                .get_or_insert_with(|| error.to_string());
        }
    }

    fn name_types(&mut self, seen: BTreeMap<SwapType, Seen>) -> Result<(), Refused> {
        // A swapfile may have got its first page, or been turned on, during the walk.
        let after = SwapFile::read_all()?;
        for file in after {
            match self.swapfiles.iter_mut().find(|f| f.name == file.name) {
                Some(known) => known.used = known.used.max(file.used),
                None => self.swapfiles.push(file),
            }
        }
        let seen: Vec<Seen> = seen.into_values().collect();
        let names = swaps::match_names(&seen, &self.swapfiles);
        self.names = seen.iter().map(|seen| seen.ty).zip(names).collect();
        Ok(())
    }
}

/// A process that ended: its folder, or what is behind it, is gone.
fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => {
            error.raw_os_error() == Some(libc::ESRCH) || error.kind() == io::ErrorKind::NotFound
        }
        _ => false,
    }
}

/// Turns `ty` off and on again with more pages, and keeps its records.
fn grow(records: &SwapRecords, ty: SwapType, max_pages: u64) -> Result<(), Refused> {
    let runs: Vec<_> = records.runs(ty).collect();
    records.swapoff(ty).map_err(Refused::Entry)?;
    records.swapon(ty, max_pages).map_err(Refused::Swapon)?;
    for run in runs {
        records
            .record_range(run.start, run.len, run.id)
            .map_err(Refused::Entry)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_grows_keeps_its_records() {
        let records = SwapRecords::new();
        let ty = SwapType::new(3).unwrap();
        let id = MemcgId::new(7).unwrap();
        records.swapon(ty, 10).unwrap();
        let entry = SwapEntry::new(ty, 9).unwrap();
        records.record(entry, id).unwrap();
        grow(&records, ty, 20).unwrap();
        assert_eq!(records.max_pages(ty), Some(20));
        assert_eq!(records.lookup(entry), Some(id));
        assert_eq!(records.count(id), 1);
    }
}
