//! Words of `/proc/self/pagemap` that say "swapped" but do not name a slot: a guard page of the running
//! kernel.
//!
//! If this is not a Linux that shows guard pages (6.15), the test reports this, and counts as ignored.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    let test = Trial::ignorable_test(
        "a_guard_page_of_the_running_kernel_is_no_slot",
        guard::a_guard_page_of_the_running_kernel_is_no_slot,
    );
    libtest_mimic::run(&Arguments::from_args(), vec![test]).exit_code()
}

#[cfg(not(target_os = "linux"))]
mod guard {
    use super::{Completion, Failed};

    pub fn a_guard_page_of_the_running_kernel_is_no_slot() -> Result<Completion, Failed> {
        Ok(Completion::ignored_with("it asks a Linux kernel"))
    }
}

#[cfg(target_os = "linux")]
mod guard {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::ptr;

    use swap_records::SwapEntry;

    use super::{Completion, Failed};

    /// `MADV_GUARD_INSTALL` of `include/uapi/asm-generic/mman-common.h`, Linux 6.13.
    const GUARD_INSTALL: libc::c_int = 102;
    /// Bit 58 of a pagemap word: a guard region (Linux 6.15). Bit 62: "swapped".
    const GUARD: u64 = 1 << 58;
    const SWAPPED: u64 = 1 << 62;

    /// Returns the pagemap word of a page that was made a guard page.
    fn word() -> io::Result<u64> {
        // SAFETY: it only asks.
        let size = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new map, at an address that the kernel chooses.
        let map = unsafe { libc::mmap(ptr::null_mut(), size, prot, flags, -1, 0) };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the page belongs to this function, and no code reads its contents.
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

    pub fn a_guard_page_of_the_running_kernel_is_no_slot() -> Result<Completion, Failed> {
        let word = match word() {
            Err(error) => {
                let why = format!("this kernel makes no guard pages (Linux 6.13): {error}");
                return Ok(Completion::ignored_with(why));
            }
            Ok(word) if word & GUARD == 0 => {
                let why = format!("this kernel does not show guard pages (Linux 6.15): {word:#x}");
                return Ok(Completion::ignored_with(why));
            }
            Ok(word) => word,
        };
        println!("a guard page is {word:#018x}");
        assert_eq!(word & SWAPPED, SWAPPED, "it looks like one");
        assert_eq!(SwapEntry::from_pagemap(word), None);
        Ok(Completion::Completed)
    }
}
