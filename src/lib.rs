//! Tracks which memory cgroup owns each swap slot, in 2 bytes per slot. Migrates all records of one cgroup to
//! another with an index of the regions that hold them.
//!
//! The crate is for hypervisors, user-space swap and tiering daemons, kernels in Rust (`no_std`), and
//! research. All of them meet the same problem: a cgroup that was removed may still own pages in swap, and
//! its id cannot be used again until its last record is gone. [`migrate`](SwapRecords::migrate) gives these
//! records to another cgroup, and reads only the regions that hold some.
//!
//! ```
//! use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ty = SwapType::new(0).unwrap();
//! let (child, parent) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
//!
//! let records = SwapRecords::new();
//! records.swapon(ty, 1 << 20)?; // in pages: 4 GiB of swap
//! records.record(SwapEntry::new(ty, 4711).unwrap(), child)?;
//! assert_eq!(records.migrate(child, parent), 1);
//! assert!(records.owners().eq([(parent, 1)]));
//! # Ok(())
//! # }
//! ```
//!
//! # Where to start
//!
//! | to | use |
//! | --- | --- |
//! | record, look up and clear the owners of slots | [`SwapRecords`] |
//! | work on many slots in one call | [`SwapRecords::record_range`], [`SwapRecords::record_batch`] |
//! | migrate in steps, on threads, or with a hint when to stop | [`Migration`] |
//! | count records, list owners | [`SwapRecords::count`], [`SwapRecords::owners`] |
//! | walk over runs of slots with one owner | [`SwapRecords::runs`] |
//! | keep a tree of cgroups with charges and limits | [`memcg`] |
//! | save a table to a file and read it back | [`image`](https://docs.rs/swap-records/latest/swap_records/image/), with the feature `std` |
//! | keep the records in a file that outlives the process | [`file`](https://docs.rs/swap-records/latest/swap_records/file/), with the feature `std`, on Linux |
//! | choose the lock of a region | [`lock`] |
//! | provide the memory of a table without `std` | [`PageSource`] |
//! | read why the crate is built as it is | [`docs::design`], [`docs::concurrency`] |
//! | replace the kernel's functions, or a table of your own | [`docs::porting`] |
//!
//! # Trade-offs
//!
//! [`SwapRecords`] pays a little for each [`record`](SwapRecords::record), so that
//! [`migrate`](SwapRecords::migrate) does not have to search the table. In addition to the 2 bytes per slot,
//! it keeps 4 bytes per region of [`REGION_ENTRIES`] slots and id in use. They hold the number of slots that
//! the id owns in the region, and the exclusive-or of their positions.
//!
//! - A migration reads a bitmap with one bit per region. If a region has one record of the id, the index
//!   holds its position. If it has more, the region is scanned at the speed of the memory.
//! - A record takes one uncontended lock of a byte and writes the entry and two cells. A table that is never
//!   migrated is cheaper without this crate: use an array of `AtomicU16`.
//! - [`lookup`](SwapRecords::lookup) costs little more than a load from an array. It takes no lock and counts
//!   no readers.
//! - [`owners`](SwapRecords::owners) reads from the index which ids have records, and how many. It takes
//!   about a thousandth of the time of a walk over the table.
//! - Memory becomes resident when it is first touched. A [`swapon`](SwapRecords::swapon) of terabytes takes
//!   little more than address space.
//!
//! # Memory
//!
//! [`swapon`](SwapRecords::swapon) takes this much memory before anything is recorded:
//!
//! | swapfile | with `std`: resident | with `std`: reserved | without `std` |
//! | --- | ---: | ---: | ---: |
//! | 1 GiB | 512 bytes | 681 KiB | 9,416 bytes |
//! | 1 TiB | 8 KiB | 644 MiB | 21,200 bytes |
//! | 8 TiB | 64 KiB | 5.0 GiB | 107,440 bytes |
//!
//! With the feature `std`, a swapon reserves address space for all slots, rounded up to a power of two of
//! regions. The operating system provides memory when a slot is first written. [`SwapRecords::footprint`]
//! returns both numbers.
//!
//! Without `std`, nothing is reserved. A record takes pages of 4 KiB from a [`PageSource`] when its slot is
//! first written: one page per [`CHUNK_ENTRIES`] slots, and a few for the index of each 16 regions. So 1 GiB
//! of swap with one record takes 29,896 bytes.
//!
//! - No allocation is larger than a page, except one table of pointers: 32 KiB for 8 TiB.
//! - If the source has no page, the operation returns an error and has written nothing.
//! - [`reserve`](SwapRecords::reserve) takes pages ahead of time. [`trim_pages`](SwapRecords::trim_pages)
//!   gives them back after a swapoff.
//!
//! # Without the standard library
//!
//! ```toml
//! [dependencies]
//! swap-records = { version = "0.1", default-features = false }
//! ```
//!
//! The crate then needs `core`, `alloc` and atomics of 64 bits. The caller can provide three things:
//!
//! - The lock, for example one that disables interrupts. [`lock`] shows such a lock. [`Migration::max_hold`]
//!   bounds how long a migration holds it.
//! - The pages, with a [`PageSource`].
//! - The allocator, with `#[global_allocator]`, for all memory that is not a page.
//!
//! A `static` may have both a lock and a source of its own:
//!
//! ```
//! # use swap_records::{GlobalPages as FramePool, RawSpinLock as IrqLock};
//! use swap_records::SwapRecords;
//!
//! static POOL: FramePool = FramePool; // implements PageSource
//! static RECORDS: SwapRecords<IrqLock> = SwapRecords::with_raw_mutex().with_page_source(&POOL);
//! ```
//!
//! If the source has no page, a record fails with [`EntryError::OutOfMemory`]. Nothing was written, so the
//! caller can free pages and try again, or fail the swap-out.
//!
//! The directory `freestanding/` of the repository has a program for `x86_64-unknown-none` that does all of
//! this. If nothing relocates a program of that target when it is loaded, build it with
//! `-C relocation-model=static`, or its first access to a `static` may fail.
//!
//! # Threads and memory ordering
//!
//! All operations except [`trim_pages`](SwapRecords::trim_pages) take `&self` and may be called from any number
//! of threads. [`docs::concurrency`] has the details.
//!
//! - Writes of entries in one region follow one another under its lock, with acquire and release. An
//!   operation sees every write that happened before it.
//! - [`lookup`](SwapRecords::lookup) is a relaxed load. It returns the last write that happened before it, or
//!   a later one. It orders nothing.
//! - A range and a migration change each slot atomically. They are not transactions: other threads may see
//!   them in part.
//! - [`swapon`](SwapRecords::swapon) and [`swapoff`](SwapRecords::swapoff) may run concurrently with all
//!   operations. An operation that comes too late returns `None` or an error. It never touches freed memory
//!   or the records of another swapfile.
//!
//! # Features
//!
//! - `std` (default): keeps memory in anonymous maps and, on Linux, in files (`swapon_file`). Adds images,
//!   vector instructions that are detected at run time, a spinlock that yields, and `parking_lot`. Without
//!   this feature the crate needs `core` and `alloc`, and memory comes in pages from a [`PageSource`].
//! - `simd` (default): adds the portable vector scan, with the crate `wide`, on targets whose processors all
//!   have vectors. Without this feature, a scan uses AVX2 or AVX-512 where they are available and words of 64
//!   bits elsewhere, and the crate compiles in a third of the time. [`Backend`] lists what is compiled in.
//! - `serde`: implements `Serialize` and `Deserialize` for the small types. Numbers, entries and runs are
//!   checked when they are read. Formats for people get a [`SwapEntry`] as text, such as `"3:4711"`; other
//!   formats get its bits.

#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]

extern crate alloc;
// Tests use std with and without the feature.
#[cfg(any(feature = "std", test, swap_records_loom))]
extern crate std;

/// Selects items by a condition. `cargo fmt` looks for modules in a macro only if the macro has this name.
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
        mod run_slots;
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
        pub use memory::Trim;
        pub use migrate::{MemswHint, Migrated, Migration, Step};
        pub use owners::TableOwners;
        pub use pages::{GlobalPages, PAGE_SIZE, Page, PageSource};
        pub use parse::ParseError;
        #[cfg(all(feature = "std", not(swap_records_loom)))]
        pub use rebuild::Progress;
        pub use region::{CHUNK_ENTRIES, REGION_ENTRIES};
        pub use run_slots::RunSlots;
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

/// The examples of the README, which run as doctests.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
