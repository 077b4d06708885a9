//! Makes synthetic maps of swap, and provides reference tables to measure swap-slot ownership against.
//!
//! A [`Map`] says which memory cgroup owns each slot of a swapfile. Its [`Family`], size and seed determine
//! the map, so two programs with the same three values see the same map. A map provides runs of equal owners:
//! in a slice, to a callback on several threads, or from an iterator.
//!
//! ```
//! use swap_records_sim::{Family, Map};
//!
//! // 150 cgroups that swap at once, as measured on Linux; 1,000 scattered records of an offline one.
//! let map = Map::new(Family::Interleaved(150), 1 << 20, 2014).remains(151, 1_000);
//! let left_by_the_dead: u64 = map.runs().filter(|run| run.id == 151).map(|run| run.len).sum();
//! assert_eq!(left_by_the_dead, 1_000);
//! ```
//!
//! [`tables`] has the kernel's tables of 2014 and 2024, and plain words, behind one trait. The crate does not
//! depend on `swap-records`, so it can fill and measure any table that keeps owners by slot.
//!
//! - [`size`] parses sizes and fits them into the available memory.
//! - [`Pages`] is memory whose pages are present before a measurement begins.
//! - [`TimedLock`] finds the longest hold of a lock.

#![warn(unreachable_pub)]

mod map;
mod pages;
mod runs;
mod scatter;
pub mod size;
pub mod tables;
mod timed_lock;

pub use map::{CHUNK, Family, Map, ParseFamilyError, REGION, threads};
pub use pages::{Pages, Word};
pub use runs::{Regions, Run, Runs};
pub use timed_lock::{TimedLock, longest_hold};

/// The example of the README, run with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
