//! Calls `PAGEMAP_SCAN` (Linux 6.7), which finds the swapped-out entries in the page tables of a process
//! without reading its mappings. `include/uapi/linux/fs.h` and `Documentation/admin-guide/mm/pagemap.rst`
//! describe it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A range of addresses whose pages are all swapped out.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) end: u64,
    _categories: u64,
}

/// The kernel's `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct Args {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<Args>() == 96 && size_of::<Region>() == 24);

const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGEMAP_SCAN: libc::Ioctl = libc::_IOWR::<Args>(b'f' as u32, 16);

/// Finds the ranges from `start` to `end` that are swapped out, as many as `regions` has room for. Returns
/// the number of ranges, and the address up to which the kernel looked.
///
/// `pagemap` must have an address space. Kernels from 6.7 to 6.15 follow a null pointer if it has none.
pub(super) fn scan(
    pagemap: &File,
    start: u64,
    end: u64,
    regions: &mut [Region],
) -> io::Result<(usize, u64)> {
    let mut args = Args {
        size: size_of::<Args>() as u64,
        start,
        end,
        // The kernel writes through this address.
        vec: regions.as_mut_ptr().expose_provenance() as u64,
        vec_len: regions.len() as u64,
        category_mask: PAGE_IS_SWAPPED,
        return_mask: PAGE_IS_SWAPPED,
        ..Args::default()
    };
    // SAFETY: the descriptor is open. The kernel reads and writes `args`, whose size it is told, and writes
    // up to `vec_len` regions to `vec`, which is `regions`, borrowed for longer than the call; any bits are a
    // `Region`.
    let nr = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut args) };
    match usize::try_from(nr) {
        Ok(nr) => Ok((nr.min(regions.len()), args.walk_end)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Returns the highest end of addresses that the kernel accepts; `None` if it has no `PAGEMAP_SCAN`.
pub(super) fn end_of_addresses(page_size: u64) -> Option<u64> {
    let own = File::open("/proc/self/pagemap").ok()?;
    // The end depends on the architecture and the processor. The kernel refuses an address past it.
    (32..u64::BITS)
        .rev()
        .map(|bits| (1 << bits) - page_size)
        .find(|&end| scan(&own, 0, end, &mut [Region::default()]).is_ok())
}
