//! What the benchmarks of `swap-records` share: the table as one of those that are measured, work that any of them can be
//! given, and how it is timed.

pub mod group;
pub mod latency;
pub mod ours;
pub mod peers;
pub mod threads;
pub mod work;

use std::time::{Duration, Instant};

/// Slots that share a lock.
pub const REGION: usize = swap_records::REGION_ENTRIES;
/// Live cgroups in the maps, if nothing else is said.
pub const LIVE: u16 = 150;
/// Any number does: the same one makes the same map.
pub const SEED: u64 = 2014;

/// What `f` returns, and how long it took.
pub fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = f();
    (result, start.elapsed())
}

/// A length as a number of slots in memory, and back.
pub fn index(n: u64) -> usize {
    usize::try_from(n).expect("what is in memory has an index")
}
