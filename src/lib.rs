//! Tracks which memory cgroup owns each swap slot, in 2 bytes per slot, and hands all records of one cgroup to another
//! without a scan of what does not hold any.
//!
//! ```
//! use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ty = SwapType::new(0).unwrap();
//! let (dying, parent) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
//!
//! let records = SwapRecords::new();
//! records.swapon(ty, 1 << 20)?; // in pages: 4 GiB of swap
//! records.record(SwapEntry::new(ty, 4711).unwrap(), dying)?;
//! assert_eq!(records.migrate(dying, parent), 1);
//! assert!(records.owners().eq([(parent, 1)]));
//! # Ok(())
//! # }
//! ```
//!
//! [`memcg`] has the cgroups: charges, a hierarchy, and what becomes of a page and of a cgroup that dies. `image`, with the
//! feature `std`, keeps a table as a file.
//!
//! # Trade-offs
//!
//! [`SwapRecords`] pays a little at each [`record`](SwapRecords::record) so that
//! [`migrate`](SwapRecords::migrate) need not look for what is not there. Beside the 2 bytes of a
//! slot it keeps, for each region of [`REGION_ENTRIES`] slots and each id in use, 4 bytes: how many slots,
//! and the exclusive-or of their positions.
//!
//! - A migration reads a bitmap with one bit per region. Where a region has one record of the id, it goes
//!   straight to it; where it has more, it scans the region at the speed of the memory.
//! - A record takes one uncontended lock of a byte and writes the entry and two cells. A table that is
//!   never migrated is cheaper without this crate: an array of `AtomicU16`.
//! - [`lookup`](SwapRecords::lookup) costs little more than an array: no lock, no count of readers.
//! - [`owners`](SwapRecords::owners) says which ids have records, and how many, from the index: a thousandth of a walk.
//! - Memory is resident once it is touched; a [`swapon`](SwapRecords::swapon) of terabytes takes little more than
//!   address space.
//!
//! # Memory
//!
//! This is what [`swapon`](SwapRecords::swapon) takes before anything is recorded:
//!
//! | swapfile | with `std`: resident | with `std`: reserved | without `std` |
//! | --- | ---: | ---: | ---: |
//! | 1 GiB | 512 bytes | 681 KiB | 9,416 bytes |
//! | 1 TiB | 8 KiB | 644 MiB | 21,200 bytes |
//! | 8 TiB | 64 KiB | 5.0 GiB | 107,440 bytes |
//!
//! With the feature `std`, address space is reserved for all slots, and the operating system provides memory when a slot is first
//! written. [`SwapRecords::footprint`] gives both numbers. What is reserved is rounded up to a power of two of regions.
//!
//! Without `std`, nothing is reserved. A record takes pages of 4 KiB from a [`PageSource`] when its slot is first written: one for
//! each [`CHUNK_ENTRIES`] slots, and a few for the index of each 16 regions. So 1 GiB of swap with one record takes 29,896
//! bytes. No allocation is larger than a page, but for one table of pointers: 32 KiB for 8 TiB. Where there is
//! no page, the operation gives an error and has written nothing.
//! [`reserve`](SwapRecords::reserve) makes pages ahead, and [`trim_pages`](SwapRecords::trim_pages) gives them back after a swapoff.
//!
//! # Without the standard library
//!
//! ```toml
//! [dependencies]
//! swap-records = { version = "0.1", default-features = false }
//! ```
//!
//! The crate then needs `core`, `alloc` and atomics of 64 bits. Three things can be the caller's own:
//!
//! - the lock, for example one that disables interrupts: [`lock`] has such a lock. [`Migration::max_hold`] bounds how long it is
//!   held.
//! - the pages: [`PageSource`].
//! - the allocator, `#[global_allocator]`, for what is not a page.
//!
//! # Threads and memory ordering
//!
//! All operations take `&self`. Writes of entries of one region follow one another under its lock, with
//! acquire and release; a write that happened before another operation is seen by it. `lookup` is a
//! relaxed load: it sees the last write that happened before it or a later one, never anything else, and
//! orders nothing. A range, and a migration, change each slot atomically and are no transaction.
//! [`swapon`](SwapRecords::swapon) and [`swapoff`](SwapRecords::swapoff) may race with everything: an operation
//! that comes too late gives `None` or an error, and never touches freed memory or another swapfile's records.
//!
//! # Features
//!
//! - `std` (default): storage in anonymous maps and, on Linux, in files (`swapon_file`), images, vector
//!   instructions detected at run time, a spinlock that yields, `parking_lot`. Without it the crate is `core` and `alloc`,
//!   and memory comes in pages of a [`PageSource`].
//! - `simd` (default): the portable vector scan, with the crate `wide`, where each processor of the target has vectors.
//!   Without it, a scan uses AVX2 or AVX-512 where they are available, and words of 64 bits elsewhere; the crate compiles
//!   in a third of the time. [`Backend`] says what is compiled in.
//! - `serde`: the small types in its formats. Numbers, entries and runs are checked on the way in. A [`SwapEntry`] is its
//!   text, such as `"3:4711"`, where people read the format, and its bits elsewhere.

#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]

extern crate alloc;
// The tests have it in any case.
#[cfg(any(feature = "std", test, swap_records_loom))]
extern crate std;

/// Items where a condition holds, others where it does not. `cargo fmt` looks for modules in a macro only if
/// it is called this.
macro_rules! cfg_if {
    (if #[cfg($condition:meta)] { $($yes:item)* } else { $($no:item)* }) => {
        $(#[cfg($condition)] $yes)*
        $(#[cfg(not($condition))] $no)*
    };
}

cfg_if! {
    if #[cfg(target_has_atomic = "64")] {
        mod area;
        mod batch;
        mod batches;
        mod cell;
        mod convert;
        mod count;
        #[cfg(any(doc, doctest))]
        pub mod docs;
        mod entry;
        mod error;
        mod footprint;
        #[cfg(all(feature = "std", target_os = "linux", not(swap_records_loom)))]
        pub mod file;
        mod id;
        #[cfg(all(feature = "std", not(swap_records_loom)))]
        pub mod image;
        mod iter;
        pub mod lock;
        pub mod memcg;
        mod memory;
        mod migrate;
        #[cfg(swap_records_loom)]
        mod model;
        mod owners;
        mod pages;
        mod parse;
        mod presence;
        mod ranges;
        #[cfg(all(feature = "std", not(swap_records_loom)))]
        mod rebuild;
        mod region;
        mod regions;
        mod runs;
        mod scan;
        #[cfg(feature = "serde")]
        mod serde;
        mod shared;
        mod span;
        #[cfg_attr(swap_records_loom, path = "model/storage.rs")]
        mod storage;
        mod store;
        mod swapfile;
        mod sync;
        mod table;
        mod validate;

        pub use convert::{Number, RangeError};
        pub use entry::{MAX_SWAPFILES, Run, SwapEntry, SwapType, SwapTypes};
        pub use error::{EntryError, SwaponError};
        pub use footprint::{Extent, Footprint};
        pub use id::MemcgId;
        pub use iter::TableRuns;
        pub use migrate::{MemswHint, Migrated, Migration, Step};
        pub use owners::TableOwners;
        pub use pages::{GlobalPages, PAGE_SIZE, Page, PageSource};
        pub use parse::ParseError;
        #[cfg(all(feature = "std", not(swap_records_loom)))]
        pub use rebuild::Progress;
        pub use region::{CHUNK_ENTRIES, REGION_ENTRIES};
        pub use runs::{Runs, RunsIntoIter};
        pub use scan::Backend;
        pub use sync::RawSpinLock;
        pub use table::{Exchange, SwapRecords};
    } else {
        compile_error!(
            "swap-records needs atomics of 64 bits, which this target does not have: build for a target that has them"
        );
    }
}

/// The example of the README, run with the other examples.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
