//! The oracle: one entry at a time, in safe code. The other backends use it for the ends of a slice that are
//! too short for a vector.

use super::Found;
use crate::cell::Tally;
use crate::sync::{AtomicU16, Ordering::Relaxed};

/// Finds `old` in `entries`, and replaces it by `new` if `WRITE`, until `stop_at` are found.
pub(super) fn scan<const WRITE: bool>(
    entries: &[AtomicU16],
    old: u16,
    new: u16,
    stop_at: u32,
) -> Found {
    let mut found = Found::default();
    scan_from::<WRITE>(entries, 0, old, new, stop_at, &mut found);
    found
}

/// Works as [`scan`], for entries that begin at position `first` of a longer slice. Adds to `found`.
pub(super) fn scan_from<const WRITE: bool>(
    entries: &[AtomicU16],
    first: usize,
    old: u16,
    new: u16,
    stop_at: u32,
    found: &mut Found,
) {
    for (position, entry) in (first..).zip(entries) {
        if found.tally.count >= stop_at {
            return;
        }
        if entry.load(Relaxed) == old {
            if WRITE {
                entry.store(new, Relaxed);
            }
            found.tally = found.tally.and(Tally::at(position));
        }
        found.end = position + 1;
    }
}

/// Replaces all `entries` by `new` if each of them is `old`, and returns whether they were.
pub(super) fn replace_all(entries: &[AtomicU16], old: u16, new: u16) -> bool {
    let all = all(entries, old);
    if all {
        fill(entries, new);
    }
    all
}

#[inline]
pub(super) fn all(entries: &[AtomicU16], id: u16) -> bool {
    entries.iter().all(|entry| entry.load(Relaxed) == id)
}

#[inline]
pub(super) fn fill(entries: &[AtomicU16], id: u16) {
    for entry in entries {
        entry.store(id, Relaxed);
    }
}

/// Returns the number of `ids` that are `id`.
#[cfg(all(feature = "std", not(swap_records_loom)))]
pub(super) fn count_ids(ids: &[u16], id: u16) -> u64 {
    ids.iter().map(|&of| u64::from(of == id)).sum()
}
