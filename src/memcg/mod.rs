//! Keeps a tree of memory cgroups on top of the table, and charges each page to the cgroup that owns it.
//!
//! This module is for memory managers that swap: a kernel, a daemon over `userfaultfd`, a simulator.
//! [`Memcgs`] owns a [`SwapRecords`] and does the accounting around it. Each cgroup has three counters, which
//! include all of its descendants and may have limits:
//!
//! - *memory*: pages in memory,
//! - *memsw*: pages in memory and records,
//! - *records*: records, which are pages in swap.
//!
//! Two more numbers do not include descendants: the cgroup's own pages in memory, and its own records (the
//! *swap* statistic). All numbers are in pages. [`Usage`] has them.
//!
//! When a cgroup is removed, its records migrate to its parent ([`css_offline`](Memcgs::css_offline),
//! [`css_free`](Memcgs::css_free)). So no record keeps a removed cgroup in memory, and the next cgroup can
//! use its id at once. The memsw counter of the removed cgroup is the hint that ends the migration early.
//!
//! ```
//! use swap_records::memcg::{MemcgError, Memcgs};
//! use swap_records::{SwapEntry, SwapType};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ty = SwapType::new(0).unwrap();
//! let memcgs = Memcgs::new();
//! memcgs.swapon(ty, 1 << 20)?; // 4 GiB of swap
//!
//! let parent = memcgs.create(memcgs.root())?;
//! let child = memcgs.create(parent)?;
//! memcgs.charge(child, 16)?; // a folio of 16 pages
//! let folio = SwapEntry::new(ty, 4096).unwrap();
//! memcgs.swap_out(child, folio, 16)?;
//! assert_eq!(memcgs.usage(child)?.swap, 16);
//! assert_eq!(memcgs.usage(parent)?.memsw, 16); // with its children
//!
//! // The child goes away. No thread waits for its last swapped page.
//! memcgs.css_offline(child, 100_000)?;
//! memcgs.css_free(child)?;
//! assert!(matches!(memcgs.usage(child), Err(MemcgError::Gone { .. })));
//! assert_eq!(memcgs.create(parent)?.id(), child.id());
//!
//! // A page of it is wanted again: the parent pays.
//! let charged = memcgs.swap_in(folio, 1)?;
//! assert_eq!(charged, parent);
//! assert_eq!(memcgs.free_swap(folio, 16)?, 15); // its slot is free already
//! memcgs.uncharge(charged, 1)?;
//! assert_eq!(memcgs.usage(memcgs.root())?.memsw, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # What a page goes through
//!
//! | operation | memory | memsw | swap, and records |
//! | --- | --- | --- | --- |
//! | [`charge`](Memcgs::charge) | +1 | +1 | |
//! | [`swap_out`](Memcgs::swap_out), [`swap_out_batch`](Memcgs::swap_out_batch) | -1 | | +1 |
//! | [`swap_in`](Memcgs::swap_in) | +1 | | -1 |
//! | [`swap_in_cached`](Memcgs::swap_in_cached) | +1 | +1 | |
//! | [`free_swap`](Memcgs::free_swap), [`free_swap_batch`](Memcgs::free_swap_batch) | | -1 | -1 |
//! | [`uncharge`](Memcgs::uncharge) | -1 | -1 | |
//!
//! `swap_in` clears the record, as version 1 of memory cgroups does: the charge of the slot becomes the
//! charge of the page. `swap_in_cached` is for callers that keep a copy of the page in the slot: the page and
//! the slot are both charged until `free_swap`.
//!
//! The caller keeps track of the pages in memory, and of the cgroup that each of them is charged to. This
//! crate keeps track of the pages in swap.
//!
//! # States of a cgroup
//!
//! | state | charges and children | its records | next step |
//! | --- | --- | --- | --- |
//! | online | accepted | its own | [`css_offline`](Memcgs::css_offline), when none of its children is online |
//! | offline | refused; its pages that are swapped out or in are charged to its first online ancestor | those that have not migrated yet | [`css_free`](Memcgs::css_free), when it has no children and no pages in memory |
//! | freed | refused | none: its parent has them | [`create`](Memcgs::create) may use the id again |
//!
//! The root is online from the start and has the lowest id, 1. It has no parent to migrate its records to, so
//! it can neither go offline nor be freed ([`IsRoot`](MemcgError::IsRoot)).
//!
//! Pages *in memory* keep a cgroup from being freed, as in the kernel: `css_free` refuses it with
//! [`Busy`](MemcgError::Busy). To reparent these pages, call [`move_account`](Memcgs::move_account) for them.
//! The tree cannot do this by itself, because the caller keeps track of pages in memory.
//!
//! # Limits
//!
//! [`set_limit`](Memcgs::set_limit) limits any of the three counters of a cgroup ([`Resource`]). A charge is
//! refused with [`OverLimit`](MemcgError::OverLimit) if it exceeds a limit of the cgroup or of one of its
//! ancestors. Limits are exact: no counter ever exceeds its limit, and no charge that fits is refused. The
//! root has no limits.
//!
//! # Threads
//!
//! Operations take `&self`, and any thread may call them. ([`trim_pages`](Memcgs::trim_pages) takes `&mut
//! self`, and [`into_records`](Memcgs::into_records) takes the tree.)
//!
//! Threads take charges in batches of up to 256 pages, which 16 shards keep. Each shard serves some of the
//! threads. So threads that charge different cgroups rarely meet at the counters of a common ancestor. Before
//! a charge is refused, all batches of that resource below the limit in the way are given back.
//!
//! `css_offline` and `css_free` wait for operations that are under way, but never for operations that begin
//! later. Of an operation on a long range they wait for one region at most, of a batch for 64 slots. They
//! hold no lock while they wait. After `css_offline` has returned, the cgroup gets no new charge, child or
//! record, except records of its offline children. While `css_free` runs, an operation that found a record of
//! the cgroup can still use its counters.
//!
//! An operation on slots works on the swapfile that was on when the operation began. If that swapfile is
//! turned off meanwhile, the operation is refused with [`TypeOff`](crate::EntryError::TypeOff), also if
//! another swapfile is on under the same type by then. Operations on ranges and batches are not transactions:
//! other threads may write between two of their slots. What can refuse such an operation is checked before
//! its first write. The operations document the exceptions.
//!
//! # Ordering
//!
//! Operations on a cgroup and on a slot take effect under locks, one after the other. [`Records::lookup`]
//! takes no lock and promises what [`SwapRecords::lookup`] promises. [The page about
//! concurrency](crate::docs::concurrency#trees-of-cgroups) says when each operation takes effect.
//!
//! # Cost
//!
//! | operation | cost |
//! | --- | --- |
//! | [`charge`](Memcgs::charge) | the lock of one shard; about one call per 256 pages also walks up to the root |
//! | [`uncharge`](Memcgs::uncharge) | the same, and the locks of the shards that have the pages if other threads charged them |
//! | `swap_out`, `swap_in`, `free_swap` | per region, at least the lock of the region and the lock of a shard |
//! | batches | per 64 slots, the lock of a shard, and the locks of the regions |
//! | a charge that is refused | the locks of all shards |
//! | [`usage`](Memcgs::usage), [`set_limit`](Memcgs::set_limit) | the lock of the tree, and the locks of all shards |
//! | [`css_free`](Memcgs::css_free) | two waits for operations that are under way, and one migration |
//!
//! # Memory
//!
//! A tree takes about 32 KiB, and 8 KiB per 64 cgroups. Operations that create cgroups, make a tree over a
//! table, or turn a swapfile on allocate memory. They return an error if an allocation fails. With the
//! feature `std`, no other operation allocates.
//!
//! Without `std`, [`swap_out`](Memcgs::swap_out) and [`swap_out_batch`](Memcgs::swap_out_batch) allocate
//! pages for slots that were never written, unless these pages were [reserved](Memcgs::reserve). If an
//! allocation fails, they return [`OutOfMemory`](crate::EntryError::OutOfMemory) and have changed nothing.
//!
//! # Locks that unwind
//!
//! A lock of type `L` may unwind when it is taken, or after it was freed. The operation has then taken effect
//! in part or not at all. All counters are right in either case, and the operation can be called again. A
//! cgroup that was being freed is offline. A swapfile that was being turned off is on, with the records that
//! it still has.

mod account;
mod batch;
mod charge;
mod error;
mod grace;
mod handle;
mod ids;
mod in_hand;
mod iter;
mod moves;
mod offline;
mod out_batch;
mod records;
mod restore;
mod shard;
mod slot;
mod slots;
mod swap;
mod swap_in;
mod swapfiles;
mod take;
mod tree;
mod validate;

use core::fmt;

#[cfg(not(swap_records_loom))]
use crossbeam_utils::Backoff;
use lock_api::{Mutex, RawMutex};

pub use error::{MemcgError, Resource};
pub use handle::Memcg;
pub use iter::Iter;
pub use records::Records;
pub use tree::Usage;

use crate::entry::MAX_SWAPFILES;
use crate::id::MemcgId;
use crate::pages::PageSource;
use crate::region::REGION_ENTRIES;
// In a model, `snooze` must switch to another thread: a thread that spins there spins forever.
#[cfg(swap_records_loom)]
use crate::model::Backoff;
use crate::sync::{AtomicU64, RawSpinLock};
use crate::table::SwapRecords;
use grace::Grace;
use ids::Ids;
use shard::Shards;
use slots::Slots;

/// A tree of memory cgroups, and the swap records that they own.
///
/// See the [module](self) for an example, and for what a page and a cgroup go through. `L` is the type of all
/// locks: those of the table's regions, of the tree, and of the shards that keep batches of charges.
pub struct Memcgs<L = RawSpinLock> {
    records: SwapRecords<L>,
    /// The [`max_hold`](crate::Migration::max_hold) of migrations, in entries.
    max_hold: usize,
    slots: Slots,
    shards: Shards<L>,
    grace: Grace,
    /// The free ids. A thread that changes the state of a cgroup holds this lock. It is taken before the
    /// locks of shards. No operation on pages takes it.
    tree: Mutex<L, Ids>,
    /// For each type, the generation of the swapfile that is being turned off. No record is written to that
    /// swapfile.
    stopping: [AtomicU64; MAX_SWAPFILES],
    /// For each type: records written minus records cleared that no shard counts, because the lock of the
    /// shard unwound. Two's complement.
    adrift: [AtomicU64; MAX_SWAPFILES],
}

impl Memcgs {
    /// Returns a tree that has a root without children, no swapfile, and the crate's own lock.
    ///
    /// It is `const`, takes about 32 KiB, and allocates nothing before the first [`create`](Self::create) or
    /// [`swapon`](Self::swapon).
    #[must_use]
    pub const fn new() -> Self {
        Self::with_raw_mutex()
    }
}

impl<L: RawMutex> Memcgs<L> {
    /// Returns a tree as [`new`](Memcgs::new) does, with a lock of your choice: see
    /// [`SwapRecords::with_raw_mutex`].
    #[must_use]
    pub const fn with_raw_mutex() -> Self {
        Self::over(SwapRecords::with_raw_mutex())
    }

    /// Limits the entries that [`css_offline`](Self::css_offline) and [`css_free`](Self::css_free) look at
    /// under one hold of a lock: the [`max_hold`](crate::Migration::max_hold) of their migrations, in
    /// entries. The default is one region, [`REGION_ENTRIES`].
    ///
    /// ```
    /// use swap_records::{CHUNK_ENTRIES, memcg::Memcgs};
    ///
    /// static MEMCGS: Memcgs = Memcgs::new().with_max_hold(CHUNK_ENTRIES);
    /// ```
    #[must_use]
    pub const fn with_max_hold(mut self, entries: usize) -> Self {
        self.max_hold = entries;
        self
    }

    /// Takes the pages of the table from `source`: see [`SwapRecords::with_page_source`]. The tree itself
    /// always takes its memory, one block per 64 cgroups, from the global allocator.
    #[must_use]
    pub const fn with_page_source(mut self, source: &'static dyn PageSource) -> Self {
        self.records.set_pages(source);
        self
    }

    const fn over(records: SwapRecords<L>) -> Self {
        let mut ids = Ids::new();
        ids.take(MemcgId::MIN);
        Self {
            records,
            max_hold: REGION_ENTRIES,
            slots: Slots::new(),
            shards: Shards::new(),
            grace: Grace::new(),
            tree: Mutex::new(ids),
            stopping: [const { AtomicU64::new(swapfiles::NONE) }; MAX_SWAPFILES],
            adrift: [const { AtomicU64::new(0) }; MAX_SWAPFILES],
        }
    }
}

impl<L: RawMutex> Default for Memcgs<L> {
    fn default() -> Self {
        Self::with_raw_mutex()
    }
}

/// Writes the cgroups and the swapfiles that are on.
impl<L> fmt::Debug for Memcgs<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memcgs")
            .field("cgroups", &self.slots)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}
