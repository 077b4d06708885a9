//! [`Regions`]: where the locks, cells and presence bits of an area are. What they mean, and what is done with
//! them, is in `region`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use lock_api::{Mutex, MutexGuard, RawMutex};

use crate::cell::{BLOCK, COUNTERS, Cell, Tally, counter};
use crate::footprint::{Extent, Footprint};
use crate::presence::Presence;
use crate::shared::Shared;
use crate::storage::{Refused, Slot, Zeroed};
use crate::sync::{AtomicU32, Ordering, prefetch};

/// How far apart the locks of neighbouring regions are: a cache line of one-byte locks.
const LOCK_SPREAD: usize = if cfg!(swap_records_loom) { 2 } else { 64 };

/// The cells and presence bits of an area that nobody else writes to: one that is made, or made ready.
#[cfg(all(feature = "std", not(swap_records_loom)))]
#[derive(Clone, Copy)]
pub(crate) struct Index<'a> {
    cells: &'a [[AtomicU32; BLOCK]],
    shift: u32,
    pub(crate) presence: &'a Presence,
    pub(crate) shared: &'a Shared,
}

#[cfg(all(feature = "std", not(swap_records_loom)))]
impl Index<'_> {
    /// The cells of this region for the counters of this block.
    pub(crate) fn block(&self, region: usize, block: usize) -> &[AtomicU32; BLOCK] {
        &self.cells[(block << self.shift) + region]
    }
}

/// The locks and cells of one area, and where the cells are not zero.
pub(crate) struct Regions<L> {
    /// `lock_mask + 1` of them, a power of two: see `lock_index`.
    locks: Box<[Mutex<L, ()>]>,
    lock_mask: usize,
    /// There are `1 << shift` regions.
    shift: u32,
    /// From a cell in one block to that of the same region in the next block.
    stride: usize,
    /// `[block of counters][region][counter in the block]`.
    cells: Zeroed<[AtomicU32; BLOCK]>,
    presence: Presence,
    shared: Shared,
}

#[cfg(all(feature = "std", not(swap_records_loom)))]
impl<L> Regions<L> {
    /// Cells and presence bits without the locks: for a rebuild, on threads that locks may not be shared with.
    pub(crate) fn index(&self) -> Index<'_> {
        Index {
            cells: &self.cells,
            shift: self.shift,
            presence: &self.presence,
            shared: &self.shared,
        }
    }
}

/// The cells of one region.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// From its first one on.
    cells: &'a [AtomicU32],
    shift: u32,
}

impl<'a> Row<'a> {
    #[inline(always)]
    pub(crate) fn cell(self, counter: usize) -> &'a AtomicU32 {
        &self.cells[((counter & !(BLOCK - 1)) << self.shift) + counter % BLOCK]
    }
}

impl<L: RawMutex> Regions<L> {
    pub(crate) fn new(len: usize) -> Result<Self, Refused> {
        const HUGE_PAGE: usize = 2 << 20;
        debug_assert!(len.is_power_of_two());
        let blocks = len
            .checked_mul(COUNTERS / BLOCK)
            .ok_or(Refused { bytes: usize::MAX })?;
        // A huge page must not reach over blocks: an unused one would be paid for.
        let cells = Zeroed::new(blocks, len * BLOCK * size_of::<AtomicU32>() >= HUGE_PAGE)?;
        let presence = Presence::new(len)?;
        let shared = Shared::new()?;
        // The locks come last: they alone are written, and a table that is refused must not pay for them.
        // A line of locks for each region while there are few regions, then a lock.
        let nr_locks = len.max(LOCK_SPREAD * len.min(LOCK_SPREAD));
        let mut locks = Vec::new();
        locks.try_reserve_exact(nr_locks).map_err(|_| Refused {
            bytes: nr_locks.saturating_mul(size_of::<Mutex<L, ()>>()),
        })?;
        locks.resize_with(nr_locks, || Mutex::new(()));
        // Loom's atomics are made at their first access, which must be before they are shared.
        #[cfg(swap_records_loom)]
        locks.iter().for_each(|lock| assert!(!lock.is_locked()));
        Ok(Self {
            lock_mask: locks.len() - 1,
            locks: locks.into_boxed_slice(),
            cells,
            shift: len.ilog2(),
            stride: len * BLOCK,
            presence,
            shared,
        })
    }

    /// Locks are dense, so that those of a large map stay in the cache while its entries do not, but
    /// those of neighbours lie in different lines, so that neighbours do not slow each other down.
    #[inline]
    fn lock_index(&self, region: usize) -> usize {
        region.wrapping_mul(LOCK_SPREAD + 1) & self.lock_mask
    }

    /// Waits for the lock of a region.
    #[inline]
    pub(crate) fn hold(&self, region: usize) -> MutexGuard<'_, L, ()> {
        debug_assert!(region < self.len());
        self.locks[self.lock_index(region)].lock()
    }

    /// The lock of a region, if it is free.
    #[inline]
    pub(crate) fn try_hold(&self, region: usize) -> Option<MutexGuard<'_, L, ()>> {
        self.locks.get(self.lock_index(region))?.try_lock()
    }

    #[inline]
    pub(crate) fn cell(&self, region: usize, counter: usize) -> &AtomicU32 {
        &self.cells[((counter / BLOCK) << self.shift) + region][counter % BLOCK]
    }

    /// `cell`, for who has another way to go on than a panic. There always is one.
    #[inline]
    pub(crate) fn get_cell(&self, region: usize, counter: usize) -> Option<&AtomicU32> {
        // A product, and no shift: that needs one register more, and this is for two cells at once.
        let block = counter / BLOCK * self.stride + region * BLOCK;
        self.cells.as_flattened().get(block + counter % BLOCK)
    }

    /// The cells of a region.
    #[inline(always)]
    pub(crate) fn row(&self, region: usize) -> Row<'_> {
        Row {
            cells: &self.cells.as_flattened()[region * BLOCK..],
            shift: self.shift,
        }
    }

    /// Asks for what a migration of this region from `old` to `new` will need first.
    #[inline]
    pub(crate) fn prefetch(&self, region: usize, old: u16, new: u16) {
        prefetch(&self.locks[self.lock_index(region)]);
        prefetch(self.cell(region, counter(old)));
        prefetch(self.cell(region, counter(new)));
    }

    /// The position of the counter's only entry in this region, as far as can be told without the lock.
    #[inline]
    pub(crate) fn only(&self, region: usize, counter: usize) -> Option<usize> {
        self.tally(region, counter).last_without(Tally::default())
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn len(&self) -> usize {
        1 << self.shift
    }

    /// The sum of the counter's numbers: exact for the counter when nobody writes.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn counted(&self, counter: usize) -> u64 {
        let mut sum = 0;
        let mut from = 0;
        while let Some(region) = self.presence.next(counter, from..self.len()) {
            sum += u64::from(self.tally(region, counter).count);
            from = region + 1;
        }
        sum
    }

    /// Adds to `sums` the numbers of each counter of a block: exact for the counter when nobody writes. Gives which of them may
    /// be above 0, a bit each.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn count_block(&self, block: usize, sums: &mut [u64; BLOCK]) -> u64 {
        /// Words of the bitmaps at a time: a line of them. The cells of so many regions stay in the cache
        /// while each of the block's counters has its turn.
        const WORDS: usize = 8;
        if !self.presence.is_used(block) {
            return 0;
        }
        let mut some = 0;
        let words = self.presence.words_a_counter();
        for first in (0..words).step_by(WORDS) {
            for (at, sum) in sums.iter_mut().enumerate() {
                let counter = block * BLOCK + at;
                for word in first..words.min(first + WORDS) {
                    for region in self.presence.in_word(counter, word) {
                        *sum += u64::from(self.tally(region, counter).count);
                        some |= 1 << at;
                    }
                }
            }
        }
        some
    }

    /// What the cell of this counter says in this region.
    pub(crate) fn tally(&self, region: usize, counter: usize) -> Tally {
        Cell(self.cell(region, counter).load(Ordering::Relaxed)).tally()
    }

    /// What its cells, bitmaps and locks take; the table is not here.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint {
            table: Extent::default(),
            cells: Extent::of(&self.cells),
            bitmaps: self.presence.extent().and(self.shared.extent()),
            locks: Extent::resident(size_of_val(&*self.locks)),
        }
    }

    /// Makes all cells and bits zero. No region can be locked any more by who would write to it.
    pub(crate) fn discard(&self) {
        let blocks = self.presence.counters_end() / BLOCK;
        if !self.cells.give_back(blocks << self.shift) {
            self.clear_cells();
        }
        self.presence.discard();
        self.shared.discard();
    }

    /// Clears each cell that has its bit set: the others are zero (invariant 2).
    pub(crate) fn clear_cells(&self) {
        for counter in self.presence.counters() {
            let mut from = 0;
            while let Some(region) = self.presence.next(counter, from..self.len()) {
                self.cell(region, counter).clear();
                from = region + 1;
            }
        }
    }
}
