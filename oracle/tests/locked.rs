//! Swapoffs of memory that cannot be given back. They touch only memory that had records.
//!
//! There are two such cases: locked memory (`mlockall`), which Linux does not take back, and without `std`
//! the memory of the allocator. Each test runs in a process of its own, because a process is locked as a
//! whole.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(code) = linux::child() {
        return code;
    }
    let test = Trial::ignorable_test(
        "a_swapoff_of_2_tib_with_one_record_touches_what_had_it_locked_or_not",
        linux::a_swapoff_of_2_tib_with_one_record_touches_what_had_it_locked_or_not,
    );
    libtest_mimic::run(&Arguments::from_args(), vec![test]).exit_code()
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use super::{Completion, Failed};

    pub fn a_swapoff_of_2_tib_with_one_record_touches_what_had_it_locked_or_not()
    -> Result<Completion, Failed> {
        Ok(Completion::ignored_with(
            "it asks a Linux kernel what is resident",
        ))
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::env;
    use std::io;
    use std::process::{Command, ExitCode, Output};
    use std::ptr;
    use std::time::{Duration, Instant};

    use swap_records::{MemcgId, REGION_ENTRIES, SwapEntry, SwapRecords, SwapType};

    use super::{Completion, Failed};

    const CHILD: &str = "SWAP_RECORDS_LOCKED";
    const REFUSED: u8 = 77;
    const TYPE: SwapType = SwapType::new(0).unwrap();
    /// 2 TiB of swap: a table of 1 GiB.
    const PAGES: u64 = 1 << 29;
    const MOST_BYTES: u64 = 4 << 20;
    /// Such a swapoff takes a fraction of a millisecond. Writing a zero to each slot takes about 1.8 s.
    const MOST_TIME: Duration = Duration::from_millis(200);

    /// The system's allocator, but large zeroed memory comes from a new map, and so is untouched, as in a
    /// kernel. (The system's allocator writes to memory that is aligned to a page.)
    struct Untouched;

    #[global_allocator]
    static ALLOCATOR: Untouched = Untouched;

    const LARGE: usize = 1 << 20;

    fn is_large(layout: Layout) -> bool {
        layout.size() >= LARGE && layout.align() == 4096
    }

    // SAFETY: large memory that is aligned to a page has a map of its own, in both directions. All other
    // memory is the system's.
    unsafe impl GlobalAlloc for Untouched {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if is_large(layout) {
                let (prot, flags) = (
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                );
                // SAFETY: a new map, at an address that the kernel chooses.
                let map = unsafe { libc::mmap(ptr::null_mut(), layout.size(), prot, flags, -1, 0) };
                if map == libc::MAP_FAILED {
                    return ptr::null_mut();
                }
                return map.cast();
            }
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            if is_large(layout) {
                // SAFETY: the caller's promise; a new map is zero.
                return unsafe { self.alloc(layout) };
            }
            // SAFETY: the caller's promise.
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            if is_large(layout) {
                // SAFETY: `alloc` mapped it with this size.
                unsafe { libc::munmap(at.cast(), layout.size()) };
            } else {
                // SAFETY: the caller's promise.
                unsafe { System.dealloc(at, layout) };
            }
        }
    }

    fn resident() -> u64 {
        memory_stats::memory_stats().unwrap().physical_mem as u64
    }

    fn id(id: u16) -> MemcgId {
        MemcgId::new(id).unwrap()
    }

    fn entry(offset: u64) -> SwapEntry {
        SwapEntry::new(TYPE, offset).unwrap()
    }

    /// Runs the test, in a process that was started for one.
    pub fn child() -> Option<ExitCode> {
        let locked = env::var(CHILD).ok()? == "locked";
        if locked {
            let what = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
            // SAFETY: it moves no memory and changes none.
            if unsafe { libc::mlockall(what) } != 0 {
                eprintln!("mlockall: {}", io::Error::last_os_error());
                return Some(ExitCode::from(REFUSED));
            }
        }
        one_record();
        every_kind_of_cell();
        if cfg!(feature = "std") && (!locked || takes_locked_pages_back()) {
            every_slot();
        }
        Some(ExitCode::SUCCESS)
    }

    fn one_record() {
        let table = SwapRecords::new();
        table.swapon(TYPE, PAGES).unwrap();
        table.record(entry(PAGES / 2 + 5), id(7)).unwrap();
        let before = resident();
        let began = Instant::now();
        assert_eq!(table.swapoff(TYPE), Ok(1));
        let took = began.elapsed();
        let grown = resident().saturating_sub(before);
        println!(
            "swapoff: {took:?}, resident {} KiB and {} KiB more",
            before >> 10,
            grown >> 10
        );
        assert!(
            grown <= MOST_BYTES,
            "{grown} bytes became resident in swapoff"
        );
        assert!(took <= MOST_TIME, "swapoff took {took:?}");
        table.swapon(TYPE, PAGES).unwrap();
        assert_eq!(table.lookup(entry(PAGES / 2 + 5)), None);
        assert_eq!(
            (table.count_upper_bound(id(7)), table.runs(TYPE).count()),
            (0, 0)
        );
    }

    /// `MADV_DONTNEED_LOCKED`, Linux 5.18.
    fn takes_locked_pages_back() -> bool {
        let page = vec![0_u8; 3 * 4096];
        let at = page.as_ptr().addr().next_multiple_of(4096) - page.as_ptr().addr();
        // SAFETY: a page in the middle of the vector's memory, which is zero and stays so.
        unsafe { libc::madvise(page.as_ptr().wrapping_add(at).cast_mut().cast(), 4096, 24) == 0 }
    }

    /// Memory that had records goes back to the system, whether it is locked or not.
    fn every_slot() {
        const PAGES: u64 = 1 << 24;
        let table = SwapRecords::new();
        let before = resident();
        table.swapon(TYPE, PAGES).unwrap();
        table.record_range(entry(0), PAGES, id(7)).unwrap();
        let full = resident();
        assert!(full - before >= PAGES * 2, "{before} to {full}");
        assert_eq!(table.swapoff(TYPE), Ok(PAGES));
        let after = resident();
        println!(
            "swapoff of 32 MiB of table: resident {} KiB, then {} KiB, then {} KiB",
            before >> 10,
            full >> 10,
            after >> 10
        );
        assert!(after <= before + MOST_BYTES, "{before} to {after}");
    }

    /// Cells with one record and with many, ids that share a cell, empty regions, and regions that were
    /// emptied.
    fn every_kind_of_cell() {
        const REGION: u64 = REGION_ENTRIES as u64;
        let table = SwapRecords::new();
        let pages = 70 * REGION - 3;
        for cycle in 0..3 {
            table.swapon(TYPE, pages).unwrap();
            assert_eq!(
                table.runs(TYPE).count(),
                0,
                "left from before cycle {cycle}"
            );
            table.validate().unwrap();
            let mut written = 0;
            for region in (0..70).filter(|region| region % 3 != 1) {
                let start = region * REGION;
                table.record(entry(start + region), id(7)).unwrap();
                table
                    .record(entry(start + 4000 + region), id(7 + 4096))
                    .unwrap();
                table
                    .record(
                        entry(start + REGION - 9),
                        id(1 + u16::try_from(region).unwrap()),
                    )
                    .unwrap();
                table.record(entry(start + 9000), id(4095)).unwrap();
                written += 4;
                if region % 2 == 0 {
                    table
                        .record_range(entry(start + 10_000), 1000, id(200))
                        .unwrap();
                    written += 1000;
                }
            }
            for region in (0..70).filter(|region| region % 3 == 1) {
                table
                    .record_range(entry(region * REGION), 100, id(9))
                    .unwrap();
                table.clear_range(entry(region * REGION), 100).unwrap();
            }
            table.validate().unwrap();
            assert_eq!(table.swapoff(TYPE), Ok(written));
        }
    }

    fn run(how: &str) -> Output {
        let me = env::current_exe().unwrap();
        Command::new(me).env(CHILD, how).output().unwrap()
    }

    pub fn a_swapoff_of_2_tib_with_one_record_touches_what_had_it_locked_or_not()
    -> Result<Completion, Failed> {
        for how in ["free", "locked"] {
            let output = run(how);
            let says = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.code() == Some(i32::from(REFUSED)) {
                let why = format!("it may not lock memory: {}", says.trim());
                return Ok(Completion::ignored_with(why));
            }
            print!("{how}: {}", String::from_utf8_lossy(&output.stdout));
            assert!(output.status.success(), "{how}: {}: {says}", output.status);
        }
        Ok(Completion::Completed)
    }
}
