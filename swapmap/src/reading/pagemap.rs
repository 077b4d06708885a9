//! Finds the swapped-out pages of a process, in its `pagemap`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use swap_records::{MAX_SWAPFILES, SwapEntry};

use super::bytes::{self, Mapping};
use super::kinds::Kinds;
use super::process::Task;
use super::scan::{self, Region};
use super::{Refused, page_size};

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

/// The map of the first user namespace: all ids to themselves.
const ALL_IDS: [&str; 3] = ["0", "0", "4294967295"];

/// Checks that this process may read the slots of other users' pages.
pub fn check_privilege() -> Result<(), Refused> {
    const STATUS: &str = "/proc/self/status";
    let status = fs::read(STATUS).map_err(|error| Refused::File(STATUS.into(), error))?;
    let effective = bytes::lines(&status)
        .find_map(|line| line.strip_prefix(b"CapEff:"))
        .and_then(|hex| u64::from_str_radix(std::str::from_utf8(hex.trim_ascii()).ok()?, 16).ok())
        .ok_or_else(|| Refused::Malformed(STATUS, "(no line CapEff)".to_owned()))?;
    let capable = |cap: &u32| effective & 1 << cap != 0;
    if ![CAP_SYS_PTRACE, CAP_SYS_ADMIN].iter().all(capable) {
        return Err(Refused::NotPrivileged);
    }
    // A kernel without user namespaces has no such file.
    match fs::read_to_string("/proc/self/uid_map") {
        Ok(map) if !map.split_whitespace().eq(ALL_IDS) => Err(Refused::OffsetsHidden),
        _ => Ok(()),
    }
}

/// A way to find the swapped-out pages of an address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Asks the kernel for them, from 0 to the end of all addresses: `PAGEMAP_SCAN`, Linux 6.7.
    Scan { end: u64 },
    /// Reads the mappings for which `smaps` shows swapped-out pages.
    Smaps,
}

impl Method {
    /// Returns the fastest way that this kernel has.
    pub fn best() -> Self {
        scan::end_of_addresses(page_size()).map_or(Self::Smaps, |end| Self::Scan { end })
    }
}

const WORD: usize = size_of::<u64>();

/// Ranges up to this many pages apart are read by one call, which costs less than two.
const GAP: u64 = 64;

/// Reads page tables. Uses the same buffers for each process.
pub(super) struct Walk {
    method: Method,
    page_size: u64,
    /// 1 MiB stands for 512 MiB of address space.
    words: Vec<u8>,
    regions: Vec<Region>,
    smaps: Vec<u8>,
}

impl Walk {
    pub(super) fn new(method: Method) -> Self {
        Self {
            method,
            page_size: page_size(),
            words: vec![0; 1 << 20],
            regions: vec![Region::default(); 512],
            smaps: Vec::new(),
        }
    }

    /// Calls `found` with the entry of every page of `task` that is swapped out.
    ///
    /// Pages of shared mappings and tmpfs have no entry in a page table while they are swapped out, so they
    /// are not found.
    ///
    /// # Errors
    ///
    /// Returns `ESRCH` if the address space ends during the call. Some pages were then not found, and all of
    /// them are free.
    pub(super) fn swapped_pages(
        &mut self,
        task: &Task,
        mut found: impl FnMut(SwapEntry),
    ) -> io::Result<()> {
        let alive = match self.method {
            Method::Scan { end } => self.range((0, end), &task.pagemap, &mut found)?,
            // VmSwap of `status` is cheaper to read, but recent kernels round it: it may be 0 with dozens of
            // pages swapped out. The kernel counts `smaps` from the page tables.
            Method::Smaps => {
                for mapping in self.mappings(task)?.iter().filter(|m| m.swap > 0) {
                    self.range((mapping.start, mapping.end), &task.pagemap, &mut found)?;
                }
                false
            }
        };
        // If the address space has ended, the kernel finds nothing and returns no error.
        if alive { Ok(()) } else { task.check_alive() }
    }

    /// Learns from the mappings of `task` which types are not slots.
    ///
    /// The kernel shows `Swap:` and the entries of a mapping at different times. A page that is read back in
    /// between makes them disagree, and a wrong conclusion would hold for the whole reading. So both are read
    /// twice, in turns: `Swap:`, entries, `Swap:`, entries. Only a mapping that shows the same values both
    /// times is used.
    ///
    /// Such a mapping is misleading only if all of this holds:
    ///
    /// - Some of its pages were not in swap at both readings of `Swap:`.
    /// - These pages were in swap at both readings of the entries.
    /// - Their number was the number of entries of unknown types.
    pub(super) fn learn(&mut self, task: &Task, kinds: &mut Kinds) -> io::Result<()> {
        let first = self.counted(task)?;
        let second = self.counted(task)?;
        for (mapping, entries) in unchanged(&first, &second) {
            if entries.iter().any(|&nr| nr > 0) {
                kinds.learn(entries, mapping.swap / self.page_size, mapping.of_file);
            }
        }
        Ok(())
    }

    /// Reads the mappings of `task` from `smaps`, and then counts the entries of each mapping by type.
    fn counted(&mut self, task: &Task) -> io::Result<Vec<Counted>> {
        let mut counted = Vec::new();
        for mapping in self.mappings(task)? {
            let looked_at = match self.method {
                // The kernel's own page, which x86 shows last, is past the end.
                Method::Scan { end } => mapping.end <= end,
                Method::Smaps => mapping.swap > 0,
            };
            if !looked_at {
                continue;
            }
            let mut entries = [0_u64; MAX_SWAPFILES];
            self.range((mapping.start, mapping.end), &task.pagemap, &mut |entry| {
                entries[usize::from(entry.swap_type().get())] += 1;
            })?;
            counted.push((mapping, entries));
        }
        Ok(counted)
    }

    fn mappings(&mut self, task: &Task) -> io::Result<Vec<Mapping>> {
        self.smaps.clear();
        File::open(format!("{}/smaps", task.folder))?.read_to_end(&mut self.smaps)?;
        Ok(bytes::mappings(&self.smaps))
    }

    /// Calls `found` with the entries of a range. Returns whether the address space is known to have existed
    /// at the end.
    fn range(
        &mut self,
        (start, end): (u64, u64),
        pagemap: &File,
        found: &mut impl FnMut(SwapEntry),
    ) -> io::Result<bool> {
        if self.method == Method::Smaps {
            self.read((start, end), pagemap, found)?;
            return Ok(end > start);
        }
        let mut read_since = false;
        let mut at = start;
        while at < end {
            let (nr, looked_up_to) = match scan::scan(pagemap, at, end, &mut self.regions) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => done?,
            };
            let near = GAP * self.page_size;
            let mut next = 0;
            while next < nr {
                let (start, mut end) = (self.regions[next].start, self.regions[next].end);
                next += 1;
                while next < nr && self.regions[next].start - end <= near {
                    end = self.regions[next].end;
                    next += 1;
                }
                self.read((start, end), pagemap, found)?;
            }
            read_since = nr > 0;
            if looked_up_to <= at {
                break;
            }
            at = looked_up_to;
        }
        Ok(read_since)
    }

    fn read(
        &mut self,
        (start, end): (u64, u64),
        pagemap: &File,
        found: &mut impl FnMut(SwapEntry),
    ) -> io::Result<()> {
        let (mut at, end) = (
            start / self.page_size * WORD as u64,
            end / self.page_size * WORD as u64,
        );
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let want = left.min(self.words.len());
            let got = match pagemap.read_at(&mut self.words[..want], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                got => got? / WORD * WORD,
            };
            if got == 0 {
                return Err(gone());
            }
            let (words, _) = self.words[..got].as_chunks::<WORD>();
            for &word in words {
                if let Some(entry) = SwapEntry::from_pagemap(u64::from_ne_bytes(word)) {
                    found(entry);
                }
            }
            at += got as u64;
        }
        Ok(())
    }
}

/// A mapping, and how many entries of each type it has.
type Counted = (Mapping, [u64; MAX_SWAPFILES]);

/// Returns what is the same in both readings.
fn unchanged<'f>(first: &'f [Counted], second: &[Counted]) -> impl Iterator<Item = &'f Counted> {
    first.iter().filter(|counted| second.contains(counted))
}

/// Returns the kernel's error for a process that has ended.
pub(super) fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_that_changed_between_two_readings_teaches_nothing() {
        let mapping = |start, swap| Mapping {
            start,
            end: start + 0x1000,
            of_file: false,
            swap,
        };
        let entries = |nr| {
            let mut entries = [0; MAX_SWAPFILES];
            entries[25] = nr;
            entries
        };
        let first = [
            (mapping(0x1000, 8192), entries(2)),
            (mapping(0x2000, 8192), entries(2)),
            (mapping(0x3000, 8192), entries(1)),
            (mapping(0x4000, 8192), entries(2)),
        ];
        let second = [
            first[0],
            (mapping(0x2000, 4096), entries(2)),
            (mapping(0x3000, 8192), entries(2)),
        ];
        let same: Vec<_> = unchanged(&first, &second).copied().collect();
        assert_eq!(same, [first[0]]);
    }
}
