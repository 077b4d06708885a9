//! Scans a region without a match, in functions that callgrind finds by their names. `ci/no_std.sh` prints
//! the number of instructions, and compares it with a limit.

#![no_std]
#![no_main]

use core::hint::black_box;
use core::sync::atomic::AtomicU16;

use swap_records::{Backend, REGION_ENTRIES};
use swap_records_freestanding::{Bump, check};

#[global_allocator]
static MEMORY: Bump = Bump::new();

type Entries = [AtomicU16; REGION_ENTRIES];

/// A region with memory of its own, which begins at a cache line.
#[repr(align(4096))]
struct Region(Entries);

/// The id that is looked for, and its replacement. No entry has the id, but 6 and 8 are similar to it.
const IDS: (u16, u16) = (7, 9);

#[unsafe(no_mangle)]
#[inline(never)]
fn scan_to_count(backend: Backend, entries: &mut Entries) -> u32 {
    backend.scan(entries, false, black_box(IDS), u32::MAX).0
}

#[unsafe(no_mangle)]
#[inline(never)]
fn scan_to_replace(backend: Backend, entries: &mut Entries) -> u32 {
    backend.scan(entries, true, black_box(IDS), u32::MAX).0
}

/// Compares the whole region with the id that all entries but the last one have.
#[unsafe(no_mangle)]
#[inline(never)]
fn scan_a_range(backend: Backend, entries: &mut Entries) -> bool {
    backend.replace_all(black_box(entries), 6, 8)
}

#[unsafe(no_mangle)]
fn run() -> u8 {
    let mut region = Region([const { AtomicU16::new(6) }; REGION_ENTRIES]);
    *region.0[REGION_ENTRIES - 1].get_mut() = 8;
    let backend = black_box(Backend::detect());
    check(
        backend == Backend::Words || cfg!(target_feature = "sse2"),
        2,
    );
    check(scan_to_count(backend, &mut region.0) == 0, 3);
    check(scan_to_replace(backend, &mut region.0) == 0, 4);
    check(!scan_a_range(backend, &mut region.0), 5);
    0
}
