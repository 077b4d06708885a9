//! The swapped-out pages of a process, from its `smaps` and `pagemap`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use procfs::ProcError;
use procfs::process::Process;
use swap_records::SwapEntry;

use super::Refused;

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

/// What the first user namespace maps: all ids to themselves.
const ALL_IDS: [&str; 3] = ["0", "0", "4294967295"];

/// Refuses a process that may not see where another user's pages are in swap.
pub fn check_privilege() -> Result<(), Refused> {
    let status = Process::myself()
        .and_then(|process| process.status())
        .map_err(|error| Refused::Proc("/proc/self/status", error))?;
    let capable = |cap: &u32| status.capeff & 1 << cap != 0;
    if ![CAP_SYS_PTRACE, CAP_SYS_ADMIN].iter().all(capable) {
        return Err(Refused::NotPrivileged);
    }
    // A kernel without user namespaces has no such file.
    match fs::read_to_string("/proc/self/uid_map") {
        Ok(map) if !map.split_whitespace().eq(ALL_IDS) => Err(Refused::OffsetsHidden),
        _ => Ok(()),
    }
}

/// Why a walk stopped: for this process, or for good.
pub enum Stop {
    Proc(ProcError),
    Refused(Refused),
}

impl From<ProcError> for Stop {
    fn from(error: ProcError) -> Self {
        Self::Proc(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Proc(error.into())
    }
}

/// Reads pagemaps through one buffer: 1 MiB of it stands for 512 MiB of address space.
pub struct Walk {
    buffer: Vec<u8>,
}

const WORD: usize = size_of::<u64>();

impl Walk {
    pub fn new() -> Self {
        Self {
            buffer: vec![0; 1 << 20],
        }
    }

    /// Calls `found` with the entry of every page of `process` that is swapped out.
    ///
    /// Pages of shared mappings and tmpfs have no entry in a page table while they are swapped
    /// out, so no process shows them.
    pub fn swapped_pages(
        &mut self,
        process: &Process,
        mut found: impl FnMut(SwapEntry) -> Result<(), Refused>,
    ) -> Result<(), Stop> {
        // The status line VmSwap would be cheaper to ask, but recent kernels round it: it may be
        // 0 with dozens of pages swapped out. The kernel counts smaps from the page tables.
        // A kernel thread has an empty smaps, and so has a zombie.
        let mut pagemap = None;
        for map in &process.smaps()? {
            if map
                .extension
                .map
                .get("Swap")
                .is_none_or(|&bytes| bytes == 0)
            {
                continue;
            }
            let pagemap = match &mut pagemap {
                Some(file) => file,
                none => none.insert(process.open_relative("pagemap")?),
            };
            self.range(pagemap, map.address, &mut found)?;
        }
        Ok(())
    }

    fn range(
        &mut self,
        pagemap: &File,
        (start, end): (u64, u64),
        found: &mut impl FnMut(SwapEntry) -> Result<(), Refused>,
    ) -> Result<(), Stop> {
        let page_size = procfs::page_size();
        let (mut at, end) = (
            start / page_size * WORD as u64,
            end / page_size * WORD as u64,
        );
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let want = left.min(self.buffer.len());
            let got = match pagemap.read_at(&mut self.buffer[..want], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                got => got? / WORD * WORD,
            };
            if got == 0 {
                // The address space went with its process.
                return Err(Stop::Proc(ProcError::NotFound(None)));
            }
            let (words, _) = self.buffer[..got].as_chunks::<WORD>();
            for &word in words {
                if let Some(entry) = SwapEntry::from_pagemap(u64::from_ne_bytes(word)) {
                    found(entry).map_err(Stop::Refused)?;
                }
            }
            at += got as u64;
        }
        Ok(())
    }
}
