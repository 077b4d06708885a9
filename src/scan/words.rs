//! The backend for targets without vectors: four entries at a time, in a word of 64 bits.
//!
//! It computes the exclusive-or of a word and of `old` in all four lanes. A lane of the result is 0 exactly
//! if the entry is `old`. Nearly all blocks hold no match. For a block, it is enough to know whether any lane
//! is 0, which takes three operations per word. Only in a block with a match are the lanes told apart.

use super::{Found, MAX_BLOCK, scalar};
use crate::sync::{AtomicU16, Ordering::Relaxed};

/// The entries of a word.
const LANES: usize = size_of::<u64>() / size_of::<u16>();

/// The entries between two checks whether there was a match. A larger block would gain a fiftieth, and make
/// more code.
const BLOCK: usize = 8 * LANES;

const _: () = assert!(BLOCK <= MAX_BLOCK);

/// A 1 in each lane.
const ONES: u64 = 0x0001_0001_0001_0001;
/// The highest bit of each lane.
const HIGH: u64 = ONES << 15;
/// All bits but the highest of each lane.
const LOW: u64 = !HIGH;

/// The place of each lane in the order of memory.
const PLACES: u64 = if cfg!(target_endian = "little") {
    0x0003_0002_0001_0000
} else {
    0x0000_0001_0002_0003
};

/// The highest bit of each lane, in the order of memory.
const LANE_BITS: [u64; LANES] = if cfg!(target_endian = "little") {
    [1 << 15, 1 << 31, 1 << 47, 1 << 63]
} else {
    [1 << 63, 1 << 47, 1 << 31, 1 << 15]
};

/// Finds `old` in `entries`, and replaces it by `new` if that is `Some`. Goes on until `stop_at` are found,
/// or some more of the same block.
///
/// This function and those that it calls are not inlined: counting and replacing share them, which costs a
/// few instructions per call.
///
/// # Safety
///
/// No other thread may write `entries` (invariant 3).
#[inline(never)]
pub(super) unsafe fn scan(
    entries: &[AtomicU16],
    old: u16,
    new: Option<u16>,
    stop_at: u32,
) -> Found {
    let everywhere = u64::from(old) * ONES;
    let mut found = Found::default();
    let mut at = to_boundary(entries).min(entries.len());
    one_by_one(&entries[..at], 0, old, new, stop_at, &mut found);
    while found.tally.count < stop_at && entries.len() - at >= LANES {
        // SAFETY: the part begins at a boundary; no other thread writes (invariant 3).
        at += unsafe { without(&entries[at..], everywhere) };
        found.end = at;
        // SAFETY: as above.
        at = unsafe { matches(entries, at, everywhere, new, stop_at, &mut found) };
        found.end = at;
    }
    one_by_one(&entries[at..], at, old, new, stop_at, &mut found);
    found
}

/// Replaces all `entries` by `new` if each of them is `old`, and returns whether they were.
///
/// # Safety
///
/// As for [`scan`].
#[inline(never)]
pub(super) unsafe fn replace_all(entries: &[AtomicU16], old: u16, new: u16) -> bool {
    let (head, rest) = entries.split_at(to_boundary(entries).min(entries.len()));
    let (words, tail) = rest.split_at(rest.len() / LANES * LANES);
    let everywhere = u64::from(old) * ONES;
    let all = words.chunks_exact(LANES).all(|lanes| {
        // SAFETY: a word of the slice, at a boundary; no thread writes (invariant 3).
        everywhere == unsafe { load(lanes.as_ptr()) }
    });
    let all = all && [head, tail].into_iter().all(|end| scalar::all(end, old));
    if all {
        scalar::fill(entries, new);
    }
    all
}

/// Returns the number of `ids` that are `id`.
#[cfg(all(feature = "std", not(swap_records_loom)))]
pub(super) fn count_ids(ids: &[u16], id: u16) -> u64 {
    // This needs no unsafe code, because the ids are not atomics.
    let (head, words, tail) = bytemuck::pod_align_to::<u16, u64>(ids);
    let everywhere = u64::from(id) * ONES;
    let in_words = words
        .iter()
        .map(|word| u64::from(number(zeros(word ^ everywhere))));
    scalar::count_ids(head, id) + in_words.sum::<u64>() + scalar::count_ids(tail, id)
}

/// Returns the number of entries before the first one at the boundary of a word.
fn to_boundary(entries: &[AtomicU16]) -> usize {
    entries.as_ptr().addr().wrapping_neg() % size_of::<u64>() / size_of::<u16>()
}

/// Scans the ends of a slice, which are shorter than a word.
#[inline(never)]
fn one_by_one(
    entries: &[AtomicU16],
    first: usize,
    old: u16,
    new: Option<u16>,
    stop_at: u32,
    found: &mut Found,
) {
    match new {
        Some(new) => scalar::scan_from::<true>(entries, first, old, new, stop_at, found),
        None => scalar::scan_from::<false>(entries, first, old, old, stop_at, found),
    }
}

/// Loads the `LANES` entries at `from`, plainly.
///
/// # Safety
///
/// `from` must be aligned to a word, the entries must lie in one slice, and no thread may write them
/// (invariant 3).
#[inline(always)]
unsafe fn load(from: *const AtomicU16) -> u64 {
    // SAFETY: the word is in one slice and aligned, and no thread writes it (invariant 3). An `AtomicU16` has
    // the layout of a `u16`.
    unsafe { from.cast::<u64>().read() }
}

/// Returns the highest bit of each lane that is 0. The result is exact: no lane carries into the next.
#[inline(always)]
fn zeros(lanes: u64) -> u64 {
    !(((lanes & LOW) + LOW) | lanes | LOW)
}

/// Returns the number of lanes that [`zeros`] found.
#[inline(always)]
fn number(zeros: u64) -> u32 {
    ((zeros >> 15).wrapping_mul(ONES) >> 48) as u32
}

/// Returns the number of `entries` before the first block that has a match, or before the rest that is
/// shorter than a block.
///
/// # Safety
///
/// As for [`load`], for each word.
#[inline(never)]
unsafe fn without(entries: &[AtomicU16], everywhere: u64) -> usize {
    let blocks = entries.chunks_exact(BLOCK);
    let passed = blocks.take_while(|block| {
        let mut any = 0;
        for lanes in block.chunks_exact(LANES) {
            // SAFETY: as the caller promises (invariant 3).
            let lanes = unsafe { load(lanes.as_ptr()) } ^ everywhere;
            // If no lane is 0, no lane borrows from the next. Then the highest bit of a lane is cleared only
            // if it was set.
            any |= lanes.wrapping_sub(ONES) & !lanes;
        }
        any & HIGH == 0
    });
    passed.count() * BLOCK
}

/// Counts the entries from position `at` on that match `everywhere`, and replaces them by `new` if that is
/// `Some`. Goes on word by word, until `stop_at` are found, there was no match for as long as a block, or no
/// whole word is left. Returns the position where it stopped.
///
/// # Safety
///
/// As for [`load`], for each word.
#[inline(never)]
unsafe fn matches(
    entries: &[AtomicU16],
    mut at: usize,
    everywhere: u64,
    new: Option<u16>,
    stop_at: u32,
    found: &mut Found,
) -> usize {
    let (mut count, mut positions) = (found.tally.count, 0);
    let mut until = at + BLOCK;
    for lanes in entries[at..].chunks_exact(LANES) {
        if at >= until || count >= stop_at {
            break;
        }
        // SAFETY: as the caller promises (invariant 3).
        let equal = zeros(unsafe { load(lanes.as_ptr()) } ^ everywhere);
        let here = at as u64 * ONES + PLACES;
        at += LANES;
        if equal == 0 {
            continue;
        }
        until = at + BLOCK;
        count += number(equal);
        // Widens the highest bit of each matching lane to all bits of the lane.
        positions ^= here & (equal | (equal - (equal >> 15)));
        let Some(new) = new else { continue };
        for (entry, lane) in lanes.iter().zip(LANE_BITS) {
            if equal & lane != 0 {
                // Each entry is stored by itself: all racing accesses to an entry are 2 bytes wide (invariant
                // 3).
                entry.store(new, Relaxed);
            }
        }
    }
    found.tally.count = count;
    let two = positions ^ positions >> 32;
    found.tally.xor ^= ((two ^ two >> 16) & 0xffff) as u32;
    at
}
