//! [`Regions`]: holds the locks, cells and presence bits of an area. `region` says what they mean and works
//! with them.

use core::ops::Range;

use lock_api::{Mutex, MutexGuard, RawMutex};

use crate::cell::{BLOCK, Cell, Tally, counter};
use crate::footprint::{Extent, Footprint};
use crate::presence::Presence;
#[cfg(all(feature = "std", not(swap_records_loom)))]
use crate::presence::set_bits;
use crate::shared::Shared;
use crate::storage::{Refused, Slot};
use crate::store::{Array, Cells, Chunks, InRegion, Row, Usual};
use crate::sync::{AtomicU16, AtomicU32, Ordering, prefetch};

/// The distance between the locks of neighbouring regions: a cache line of one-byte locks.
const LOCK_SPREAD: usize = if cfg!(swap_records_loom) { 2 } else { 64 };

/// The cells and presence bits of an area that no other thread writes to, because it is being made or
/// emptied.
#[cfg(all(feature = "std", not(swap_records_loom)))]
#[derive(Clone, Copy)]
pub(crate) struct Index<'a> {
    cells: &'a Cells,
    pub(crate) presence: &'a Presence,
    pub(crate) shared: &'a Shared,
}

#[cfg(all(feature = "std", not(swap_records_loom)))]
impl Index<'_> {
    /// Sets presence bits of the 64 regions of this word. None of them may be set yet.
    pub(crate) fn set_bits(&self, counter: usize, word: usize, bits: u64) {
        self.presence.set_word(counter, word, bits);
        for region in set_bits(word, bits) {
            self.cells.change_bits(region, |bits| bits + 1);
        }
    }

    /// Returns the cells of this region for the counters of this block.
    pub(crate) fn block(&self, region: usize, block: usize) -> &[AtomicU32; BLOCK] {
        self.cells.block(region, block)
    }
}

/// The locks, cells and presence bits of one area.
pub(crate) struct Regions<L> {
    /// `lock_mask + 1` of them, a power of two: see `lock_index`.
    locks: Array<Mutex<L, ()>>,
    lock_mask: usize,
    /// There are `1 << shift` regions.
    shift: u32,
    presence: Presence,
    shared: Shared,
}

#[cfg(all(feature = "std", not(swap_records_loom)))]
impl<L> Regions<L> {
    /// Returns the cells and presence bits without the locks, for a rebuild on threads that locks may not be
    /// shared with.
    pub(crate) fn index(&self) -> Index<'_> {
        Index {
            cells: self.cells(),
            presence: &self.presence,
            shared: &self.shared,
        }
    }
}

impl<L> Regions<L> {
    #[inline(always)]
    fn cells(&self) -> &Cells {
        self.presence.cells()
    }

    /// Returns the entries.
    #[inline(always)]
    pub(crate) fn chunks(&self) -> &Chunks {
        self.cells().chunks()
    }
}

impl<L: RawMutex> Regions<L> {
    /// Makes the regions of these entries. `len` is their number, a power of two.
    pub(crate) fn new(len: usize, chunks: Chunks) -> Result<Self, Refused> {
        debug_assert!(len.is_power_of_two());
        let presence = Presence::new(Cells::new(len, chunks)?);
        let shared = Shared::new()?;
        // The locks come last: only they are written, so a table that is refused does not pay for them.
        // There is a line of locks per region while regions are few, then one lock per region.
        let nr_locks = len.max(LOCK_SPREAD * len.min(LOCK_SPREAD));
        let locks = Array::new(nr_locks, || Mutex::new(()))?;
        // Loom's atomics are made at their first access, which must be before they are shared.
        #[cfg(swap_records_loom)]
        locks
            .iter()
            .for_each(|lock: &Mutex<L, ()>| assert!(!lock.is_locked()));
        Ok(Self {
            lock_mask: nr_locks - 1,
            locks,
            shift: len.ilog2(),
            presence,
            shared,
        })
    }

    /// Locks are dense, so that the locks of a large table stay in the cache while its entries do not. Locks of
    /// neighbours lie in different cache lines, so that neighbours do not slow each other down.
    #[inline]
    fn lock_index(&self, region: usize) -> usize {
        region.wrapping_mul(LOCK_SPREAD + 1) & self.lock_mask
    }

    /// Takes the lock of a region, and waits for it.
    #[inline]
    pub(crate) fn hold(&self, region: usize) -> MutexGuard<'_, L, ()> {
        debug_assert!(region < self.len());
        self.locks[self.lock_index(region)].lock()
    }

    /// Takes the lock of a region, if it is free.
    #[inline]
    pub(crate) fn try_hold(&self, region: usize) -> Option<MutexGuard<'_, L, ()>> {
        self.locks.get(self.lock_index(region))?.try_lock()
    }

    /// Returns the cell that counts this counter in this region; `None` if no cell does.
    #[inline]
    pub(crate) fn counted_in(&self, region: usize, counter: usize) -> Option<&AtomicU32> {
        self.cells().counted(region, counter)
    }

    /// Returns the same cell, to add to it. Makes sure that there is one. The region's lock is held.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn to_count(&self, region: usize, counter: usize) -> Option<&AtomicU32> {
        if self.cells().is_spilled(region, counter) || !self.cells().has(region, counter) {
            // In this order: see `Shared`.
            self.shared.note_counter(counter);
            self.cells().spill(region, counter);
        }
        self.cells().counted(region, counter)
    }

    /// Counts the entries of a spilled block in their own cells, if these exist by now. Returns whether it did:
    /// that is a look at all of the region. The region's lock is held, and its index agrees with its entries.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn settle(&self, region: usize, counter: usize, entries: InRegion<'_>) -> bool {
        let did = self.cells().settle(region, counter, entries);
        if did {
            // While the block was spilled, a counter kept its presence bit when its last record went.
            self.clear_bits_without_records(region, counter / BLOCK);
            self.unspill(region);
        }
        did
    }

    /// Clears the presence bits of those counters of a block that have no record in the region. The block is not spilled.
    fn clear_bits_without_records(&self, region: usize, block: usize) {
        for counter in block * BLOCK..(block + 1) * BLOCK {
            if self.own_tally(region, counter).count == 0 {
                self.clear_bit(region, counter);
            }
        }
    }

    /// If the spill cell of the region is empty, ends the spill of its blocks and clears their presence bits. The
    /// region's lock is held.
    #[inline(always)]
    fn unspill(&self, region: usize) {
        let mut blocks = self.cells().unspill(region);
        while blocks != 0 {
            let block = blocks.trailing_zeros() as usize;
            blocks &= blocks - 1;
            self.clear_bits_without_records(region, block);
        }
    }

    /// Returns how many presence bits of this region are set. Without the region's lock, 0 means that the
    /// region had no record at some time since this call began, apart from records whose call had not
    /// returned.
    ///
    /// A reader of one bitmap after the other misses a record that moves from a bitmap not yet read to one
    /// already read. This number does not miss it. When one owner replaces another, the bit of the new owner
    /// is set before the bit of the old owner is cleared ([`Region`](crate::region::Region) keeps that
    /// order). So the number does not pass through 0.
    pub(crate) fn bits(&self, region: usize) -> u16 {
        self.cells().bits(region)
    }

    /// Returns the first of `regions` that may have a record. The regions before it have no
    /// [`bits`](Self::bits) set.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn next_in_use(&self, regions: Range<usize>) -> Option<usize> {
        self.cells().next_in_use(regions)
    }

    /// Sets the counter's presence bit in this region, and counts it. The region's lock is held.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn set_bit(&self, region: usize, counter: usize) {
        if !self.presence.is_set(counter, region) {
            self.presence.set(counter, region);
            self.cells().change_bits(region, |bits| bits + 1);
        }
    }

    /// Clears the counter's presence bit in this region, and no longer counts it. The region's lock is held.
    /// If another counter takes its place, the bit of that counter has been set before.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn clear_bit(&self, region: usize, counter: usize) {
        if self.presence.is_set(counter, region) {
            self.presence.clear(counter, region);
            self.cells().change_bits(region, |bits| bits - 1);
        }
    }

    /// Clears the presence bit of a cell that became empty, and ends the spills of a region whose spill cell
    /// did. The region's lock is held.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn emptied(&self, region: usize, counter: usize) {
        self.clear_bit(region, counter);
        self.unspill(region);
    }

    /// Returns whether the cell of this counter in this region also counts other counters. The region's lock
    /// is held.
    #[inline(always)]
    pub(crate) fn is_spilled(&self, region: usize, counter: usize) -> bool {
        self.cells().is_spilled(region, counter)
    }

    /// Makes the memory that a record in this region takes apart from its chunk. If a counter is given, its
    /// cells are made if there is memory for them. Otherwise they are spilled later.
    #[inline(always)]
    pub(crate) fn make(&self, region: usize, counter: Option<usize>) -> Result<(), Refused> {
        self.cells().make(region, counter)
    }

    /// Returns whether the counter has a cell of its own.
    #[inline(always)]
    pub(crate) fn has_cell(&self, region: usize, counter: usize) -> bool {
        self.cells().has(region, counter)
    }

    /// Returns an entry and the cells of its region, for a record of `new` on the usual way.
    #[inline(always)]
    pub(crate) fn slot(&self, offset: usize, new: usize) -> Option<(&AtomicU16, Usual<'_>)> {
        self.cells().slot(offset, new)
    }

    /// Returns the counter's own cell in this region, which `usual` was made for.
    #[inline(always)]
    pub(crate) fn own<'a>(
        &'a self,
        region: usize,
        counter: usize,
        usual: Usual<'a>,
    ) -> Option<&'a AtomicU32> {
        self.cells().own(region, counter, usual)
    }

    /// Returns the cells of a region.
    #[inline(always)]
    pub(crate) fn row(&self, region: usize) -> Row<'_> {
        self.cells().row(region)
    }

    /// Prefetches what a migration of this region from `old` to `new` needs first.
    #[inline]
    pub(crate) fn prefetch(&self, region: usize, old: u16, new: u16) {
        prefetch(&self.locks[self.lock_index(region)]);
        for id in [old, new] {
            if let Some(cell) = self.cells().counted(region, counter(id)) {
                prefetch(cell);
            }
        }
    }

    /// Returns the position of the counter's only entry in this region, as seen without the lock: a hint.
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

    /// Returns the sum of the numbers in the counter's own cells. It is exact for a counter without a note
    /// while no thread writes. Spilled counters have a note (invariant 15). Spill cells are not read here,
    /// because they may count other counters before the note is seen.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn counted(&self, counter: usize) -> u64 {
        self.sum(counter, |region| self.own_tally(region, counter))
    }

    /// Returns the sum with spill cells: never less than the number of records while no thread writes the
    /// counter's ids. Other threads may settle the block meanwhile, which moves records from the spill cell to own
    /// cells. So the spill cell is read first.
    pub(crate) fn bound(&self, counter: usize) -> u64 {
        self.sum(counter, |region| {
            let spilled = self.cells().spilled(region, counter);
            spilled.and(self.own_tally(region, counter))
        })
    }

    fn sum(&self, counter: usize, tally: impl Fn(usize) -> Tally) -> u64 {
        let mut sum = 0;
        let mut from = 0;
        while let Some(region) = self.presence.next(counter, from..self.len()) {
            sum += u64::from(tally(region).count);
            from = region + 1;
        }
        sum
    }

    /// Returns the number of records. No thread writes meanwhile.
    pub(crate) fn records(&self) -> u64 {
        self.cells().sum().unwrap_or_else(|| {
            let counters = self.presence.counters();
            counters.map(|counter| self.counted(counter)).sum()
        })
    }

    /// Adds the number of each counter of a block to `sums`. The numbers are exact for the counters while no
    /// thread writes. Returns a bit per counter: whether its number may be above 0.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn count_block(&self, block: usize, sums: &mut [u64; BLOCK]) -> u64 {
        /// Words of the bitmaps at a time: a cache line. The cells of these regions stay in the cache while
        /// all counters of the block are summed.
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
                        *sum += u64::from(self.own_tally(region, counter).count);
                        some |= 1 << at;
                    }
                }
            }
        }
        some
    }

    /// Returns the tally of the cell that counts this counter in this region, alone or with other counters.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn tally(&self, region: usize, counter: usize) -> Tally {
        tally(self.cells().counted(region, counter))
    }

    /// Returns the tally of the counter's own cell.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn own_tally(&self, region: usize, counter: usize) -> Tally {
        tally(self.cells().row(region).own(counter))
    }

    /// Adds the memory of the cells, bitmaps and locks to `all`. The table is not included.
    pub(crate) fn add_footprint(&self, all: &mut Footprint) {
        all.cells.add(self.cells().extent());
        all.bitmaps.add(self.cells().extent_of_bits());
        all.bitmaps.add(self.shared.extent());
        all.locks.add(Extent::resident(self.locks.bytes()));
    }

    /// Makes all cells and bits zero. No thread that would write to a region can take its lock any more.
    pub(crate) fn discard(&self) {
        let blocks = self.presence.counters_end() / BLOCK;
        if !self.cells().give_back(blocks) {
            self.clear_cells();
        }
        self.cells().discard_bits();
        self.presence.discard();
        self.shared.discard();
    }

    /// Clears each cell whose bit is set. All other cells are zero (invariant 2).
    pub(crate) fn clear_cells(&self) {
        for counter in self.presence.counters() {
            let mut from = 0;
            while let Some(region) = self.presence.next(counter, from..self.len()) {
                if let Some(cell) = self.cells().counted(region, counter) {
                    cell.clear();
                }
                from = region + 1;
            }
        }
    }

    /// Gives back all pages. Returns their number.
    ///
    /// # Safety
    ///
    /// As of `Area::trim`.
    pub(crate) unsafe fn trim(&self) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { self.cells().trim() }
    }
}

fn tally(cell: Option<&AtomicU32>) -> Tally {
    Cell(cell.map_or(0, |cell| cell.load(Ordering::Relaxed))).tally()
}
