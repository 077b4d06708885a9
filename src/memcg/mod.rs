//! Memory cgroups on top of the table: a tree of them with charges, and what becomes of a page and of a
//! cgroup that dies.
//!
//! [`Memcgs`] owns a [`SwapRecords`] and keeps, for each cgroup, what the kernel keeps: a counter of pages
//! in memory (*memory*), one of pages in memory and in swap (*memsw*), and one of records, all with limits and with
//! all descendants, and the number of its own records (the *swap* statistic). A cgroup that dies hands
//! its records to its parent ([`css_offline`](Memcgs::css_offline), [`css_free`](Memcgs::css_free)), so no
//! record pins it, and its id can be used again at once. Its memsw counter tells the hand-over
//! when to stop.
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
//! // The child dies. Nobody waits for its last swapped page.
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
//! | | memory | memsw | swap, and records |
//! | --- | --- | --- | --- |
//! | [`charge`](Memcgs::charge) | +1 | +1 | |
//! | [`swap_out`](Memcgs::swap_out), [`swap_out_batch`](Memcgs::swap_out_batch) | -1 | | +1 |
//! | [`swap_in`](Memcgs::swap_in) | +1 | | -1 |
//! | [`swap_in_cached`](Memcgs::swap_in_cached) | +1 | +1 | |
//! | [`free_swap`](Memcgs::free_swap) | | -1 | -1 |
//! | [`uncharge`](Memcgs::uncharge) | -1 | -1 | |
//!
//! `swap_in` is what version 1 of memory cgroups does: the charge of the slot becomes that of the page.
//! `swap_in_cached` is for callers that keep a copy in the slot: page and slot are charged both, until `free_swap`.
//! The caller knows which pages there are, and to which cgroup each of those
//! in memory is charged; this crate knows that of those in swap.
//!
//! # What a cgroup goes through
//!
//! | state | charges, children | its records | next |
//! | --- | --- | --- | --- |
//! | online | yes | its own | [`css_offline`](Memcgs::css_offline), if no child is online |
//! | offline | no: the first ancestor that is online is charged in its stead | as many as were not handed over yet | [`css_free`](Memcgs::css_free), if it has no child and no page in memory |
//! | gone | | its parent's | its id is the next one's |
//!
//! The root is online from the start and has the lowest id, 1. It has no parent that could inherit, so
//! it goes neither offline nor away ([`IsRoot`](MemcgError::IsRoot)).
//!
//! Pages *in memory* pin a cgroup, as they do in the kernel: `css_free` refuses one that has any
//! ([`Busy`](MemcgError::Busy)). Who wants to have them reparented says so for each, with
//! [`move_account`](Memcgs::move_account), since only the caller can say that a page is another's now.
//!
//! # Threads
//!
//! All operations take `&self`. Charges are taken in batches of up to 256 pages that a few shards keep, each for
//! some threads, so that threads that charge cgroups of the same parent do not meet at its counters. A limit is
//! exact all the same: before a charge is refused, every batch of that resource below
//! that limit is given back. `css_free` waits for
//! the operations that are under way, so one that found a record of the dying cgroup still finds
//! its counters; `css_offline` waits for them, so what it has returned from stays so. Neither holds a lock
//! meanwhile, or waits for what begins later, or for more than a region of a long range.
//!
//! An operation on slots works on the swapfile that was on when it began, and is refused
//! ([`TypeOff`](crate::EntryError::TypeOff)) where that one is gone, whatever is on under the type by then. Operations
//! on ranges are no transactions, as those of [`SwapRecords`] are not; but what can be refused is refused before
//! anything is written.
//!
//! # Memory, and locks that unwind
//!
//! [`create`](Memcgs::create), [`with_records`](Memcgs::with_records) and [`swapon`](Memcgs::swapon) need memory, and say
//! so with an error where there is none. Nothing else does with the feature `std`. Without it, [`swap_out`](Memcgs::swap_out)
//! takes pages for slots that were never written, unless they were [reserved](Memcgs::reserve), and is refused with
//! [`OutOfMemory`](crate::EntryError::OutOfMemory) before anything has changed.
//!
//! A lock of `L` may unwind, when it is taken or when it has been freed. The operation has taken effect then, in part or
//! not at all, the books balance, and it can be called again. A cgroup that was going away is offline, a
//! swapfile that was being turned off is on with what it still has.

mod account;
mod batch;
mod charge;
mod dying;
mod error;
mod grace;
mod handle;
mod ids;
mod in_hand;
mod iter;
mod moves;
mod out_batch;
mod records;
mod restore;
mod shard;
mod slot;
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
// A model goes on with another thread; who spins in one spins forever.
#[cfg(swap_records_loom)]
use crate::model::Backoff;
use crate::sync::{AtomicU64, RawSpinLock};
use crate::table::SwapRecords;
use grace::Grace;
use ids::Ids;
use shard::Shards;
use slot::Slots;

/// A tree of memory cgroups, and the swap records that they own.
///
/// See the [module](self) for an example, and for what pages and cgroups go through. `L` is the lock of
/// the table's regions, of the tree, and of the shards that keep batches of charges.
pub struct Memcgs<L = RawSpinLock> {
    records: SwapRecords<L>,
    /// Of the hand-overs.
    max_hold: usize,
    slots: Slots,
    shards: Shards<L>,
    grace: Grace,
    /// The ids that are free. Who holds it changes the state of cgroups. It is taken before the locks
    /// of shards, and no page's operation takes it.
    tree: Mutex<L, Ids>,
    /// Of each type, the generation that is being turned off: no record is written to it.
    stopping: [AtomicU64; MAX_SWAPFILES],
    /// Of each type: records that came, less those that went, as far as no shard was told because its lock unwound.
    /// Two's complement.
    adrift: [AtomicU64; MAX_SWAPFILES],
}

impl Memcgs {
    /// A root without children, and no swapfile, with the crate's own lock.
    ///
    /// It is `const`, takes about 32 KiB and allocates nothing before the first
    /// [`create`](Self::create) or [`swapon`](Self::swapon).
    #[must_use]
    pub const fn new() -> Self {
        Self::with_raw_mutex()
    }
}

impl<L: RawMutex> Memcgs<L> {
    /// As [`new`](Memcgs::new), with the lock of your choice: see [`SwapRecords::with_raw_mutex`].
    #[must_use]
    pub const fn with_raw_mutex() -> Self {
        Self::over(SwapRecords::with_raw_mutex())
    }

    /// Makes [`css_offline`](Self::css_offline) and [`css_free`](Self::css_free) look at no more than about this many
    /// entries under one hold of a lock: the [`max_hold`](crate::Migration::max_hold) of their migrations. Without this, it is
    /// a region.
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

    /// Takes the memory of records from this source of pages: see [`SwapRecords::with_page_source`]. The tree itself, a block
    /// for each 64 cgroups, is of the global allocator.
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

/// Writes the cgroups that are there, and the swapfiles.
impl<L> fmt::Debug for Memcgs<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memcgs")
            .field("cgroups", &self.slots)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}
