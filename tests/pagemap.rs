//! Words of `/proc/self/pagemap` that say "swapped" and name no slot: a guard page of the running kernel.
//!
//! Elsewhere than on a Linux that shows guard pages (6.15), it says so and is counted as ignored.

#[path = "live_kernel/harness.rs"]
mod harness;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(
        "a_guard_page_of_the_running_kernel_is_no_slot",
        guard::reason_not_to_run,
        guard::a_guard_page_of_the_running_kernel_is_no_slot,
    )
}

#[cfg(not(target_os = "linux"))]
mod guard {
    use crate::harness::Outcome;

    pub fn reason_not_to_run() -> Option<String> {
        Some("it asks a Linux kernel".to_owned())
    }

    pub fn a_guard_page_of_the_running_kernel_is_no_slot() -> Outcome {
        Outcome::Passed
    }
}

#[cfg(target_os = "linux")]
mod guard {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::ptr;

    use swap_records::SwapEntry;

    use crate::harness::Outcome;

    /// `MADV_GUARD_INSTALL` of `include/uapi/asm-generic/mman-common.h`, Linux 6.13.
    const GUARD_INSTALL: libc::c_int = 102;
    /// Bit 58 of a pagemap word: a guard region (Linux 6.15). Bit 62: "swapped".
    const GUARD: u64 = 1 << 58;
    const SWAPPED: u64 = 1 << 62;

    /// What pagemap says of a page that was made a guard page.
    fn word() -> io::Result<u64> {
        let size = usize::try_from(procfs::page_size()).unwrap();
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new map, wherever the kernel puts it.
        let map = unsafe { libc::mmap(ptr::null_mut(), size, prot, flags, -1, 0) };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the page is this function's own, and nobody looks at what is in it.
        let installed = unsafe { libc::madvise(map, size, GUARD_INSTALL) };
        let word = if installed == 0 {
            let mut word = [0; 8];
            let at = (map.addr() / size * word.len()) as u64;
            File::open("/proc/self/pagemap")
                .and_then(|file| file.read_exact_at(&mut word, at))
                .map(|()| u64::from_ne_bytes(word))
        } else {
            Err(io::Error::last_os_error())
        };
        // SAFETY: it was mapped above, and nothing refers to it.
        unsafe { libc::munmap(map, size) };
        word
    }

    pub fn reason_not_to_run() -> Option<String> {
        match word() {
            Err(error) => Some(format!(
                "this kernel makes no guard pages (Linux 6.13): {error}"
            )),
            Ok(word) if word & GUARD == 0 => Some(format!(
                "this kernel does not show guard pages (Linux 6.15): {word:#x}"
            )),
            Ok(_) => None,
        }
    }

    pub fn a_guard_page_of_the_running_kernel_is_no_slot() -> Outcome {
        let word = word().unwrap();
        println!("a guard page is {word:#018x}");
        assert_eq!(word & SWAPPED, SWAPPED, "it looks like one");
        assert_eq!(SwapEntry::from_pagemap(word), None);
        Outcome::Passed
    }
}
