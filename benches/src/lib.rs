//! Shared parts of the benchmarks of `swap-records`: the table behind the trait of the reference tables, work
//! that fits every table, and timing.

pub mod group;
pub mod latency;
pub mod ours;
pub mod peers;
pub mod threads;
pub mod work;

use std::time::{Duration, Instant};

/// Slots that share a lock.
pub const REGION: usize = swap_records::REGION_ENTRIES;
/// Live cgroups in the maps, by default.
pub const LIVE: u16 = 150;
/// The seed of the maps. Any value will do; the same seed makes the same map.
pub const SEED: u64 = 2014;

/// Runs `f`. Returns its result and its duration.
pub fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = f();
    (result, start.elapsed())
}

/// Converts a length to a number of slots in memory.
pub fn index(n: u64) -> usize {
    usize::try_from(n).expect("the length of data in memory fits a usize")
}
