//! Makes synthetic maps of swap, and keeps reference tables to measure swap-slot ownership against.
//!
//! A [`Map`] says which memory cgroup owns each slot of a swapfile. It is a function of its [`Family`], size and seed,
//! so two programs that name the same three see the same map. It goes out as runs of equal owners: into a slice,
//! into any sink, on any number of threads, or from an iterator.
//!
//! ```
//! use swap_records_sim::{Family, Map};
//!
//! // 150 cgroups that swap at once, as measured on Linux; 1,000 scattered remains of a dead one.
//! let map = Map::new(Family::Interleaved(150), 1 << 20, 2014).remains(151, 1_000);
//! let left_by_the_dead: u64 = map.runs().filter(|run| run.id == 151).map(|run| run.len).sum();
//! assert_eq!(left_by_the_dead, 1_000);
//! ```
//!
//! [`tables`] has the kernel's own tables of 2014 and 2024, and plain words, behind one trait. The crate does not depend
//! on `swap-records`: whatever keeps owners by slot can be filled and measured with it.
//!
//! - [`size`] parses sizes and fits them into the available memory.
//! - [`Pages`] is memory that is present before the clock starts.
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
