//! [`Regions`]: where the locks, cells and presence bits of an area are. What they mean, and what is done with
//! them, is in `region`.

use core::ops::Range;

use lock_api::{Mutex, MutexGuard, RawMutex};

use crate::cell::{BLOCK, Cell, Tally, counter};
use crate::footprint::{Extent, Footprint};
use crate::pages::Pages;
use crate::presence::Presence;
#[cfg(all(feature = "std", not(swap_records_loom)))]
use crate::presence::set_bits;
use crate::shared::Shared;
use crate::storage::{Refused, Slot};
use crate::store::{Array, Cells, Chunks, InRegion, Row, Usual};
use crate::sync::{AtomicU16, AtomicU32, Ordering, prefetch};

/// How far apart the locks of neighbouring regions are: a cache line of one-byte locks.
const LOCK_SPREAD: usize = if cfg!(swap_records_loom) { 2 } else { 64 };

/// The cells and presence bits of an area that nobody else writes to: one that is made, or made ready.
#[cfg(all(feature = "std", not(swap_records_loom)))]
#[derive(Clone, Copy)]
pub(crate) struct Index<'a> {
    cells: &'a Cells,
    pub(crate) presence: &'a Presence,
    pub(crate) shared: &'a Shared,
}

#[cfg(all(feature = "std", not(swap_records_loom)))]
impl Index<'_> {
    /// Sets presence bits of the 64 regions of this word, none of which is set.
    pub(crate) fn set_bits(&self, counter: usize, word: usize, bits: u64) {
        self.presence.set_word(counter, word, bits);
        for region in set_bits(word, bits) {
            self.cells.change_bits(region, |bits| bits + 1);
        }
    }

    /// The cells of this region for the counters of this block.
    pub(crate) fn block(&self, region: usize, block: usize) -> &[AtomicU32; BLOCK] {
        self.cells.block(region, block)
    }
}

/// The locks and cells of one area, and where the cells are not zero.
pub(crate) struct Regions<L> {
    /// `lock_mask + 1` of them, a power of two: see `lock_index`.
    locks: Array<Mutex<L, ()>>,
    lock_mask: usize,
    /// There are `1 << shift` regions.
    shift: u32,
    cells: Cells,
    presence: Presence,
    shared: Shared,
}

#[cfg(all(feature = "std", not(swap_records_loom)))]
impl<L> Regions<L> {
    /// Cells and presence bits without the locks: for a rebuild, on threads that locks may not be shared with.
    pub(crate) fn index(&self) -> Index<'_> {
        Index {
            cells: &self.cells,
            presence: &self.presence,
            shared: &self.shared,
        }
    }
}

impl<L> Regions<L> {
    /// The entries.
    #[inline(always)]
    pub(crate) fn chunks(&self) -> &Chunks {
        self.cells.chunks()
    }
}

impl<L: RawMutex> Regions<L> {
    /// Those of these entries, of so many regions.
    pub(crate) fn new(len: usize, chunks: Chunks, pages: Pages) -> Result<Self, Refused> {
        debug_assert!(len.is_power_of_two());
        let cells = Cells::new(len, chunks)?;
        let presence = Presence::new(len, pages)?;
        let shared = Shared::new()?;
        // The locks come last: they alone are written, and a table that is refused must not pay for them.
        // A line of locks for each region while there are few regions, then a lock.
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
            cells,
            shift: len.ilog2(),
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

    /// The cell that counts this counter in this region; `None` where it counts nothing.
    #[inline]
    pub(crate) fn counted_in(&self, region: usize, counter: usize) -> Option<&AtomicU32> {
        self.cells.counted(region, counter)
    }

    /// The same, to be given more. The region's lock is held.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn to_count(&self, region: usize, counter: usize) -> Option<&AtomicU32> {
        if self.cells.is_spilled(region, counter) || !self.cells.has(region, counter) {
            // In this order: see `Shared`.
            self.shared.note_counter(counter);
            self.cells.spill(region, counter);
        }
        self.cells.counted(region, counter)
    }

    /// Counts the entries of a spilled block in their own cells, if they have any by now. Returns whether it did, which is a
    /// look at all of the region. The region's lock is held, and its index is as its entries are.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn settle(&self, region: usize, counter: usize, entries: InRegion<'_>) -> bool {
        let did = self.cells.settle(region, counter, entries);
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
        let mut blocks = self.cells.unspill(region);
        while blocks != 0 {
            let block = blocks.trailing_zeros() as usize;
            blocks &= blocks - 1;
            self.clear_bits_without_records(region, block);
        }
    }

    /// How many presence bits of this region are set. Without the region's lock, 0 means that the region had no record at
    /// some time since this call began, apart from records whose call had not returned.
    ///
    /// A reader of one bitmap after the other misses a record that moves from one not yet read to one already read. This
    /// does not miss it: where one owner replaces another, the bit of the new owner is set before that of the old one is
    /// cleared ([`Region`](crate::region::Region) keeps that order), so the number does not pass through 0.
    pub(crate) fn bits(&self, region: usize) -> u16 {
        self.cells.bits(region)
    }

    /// The first of `regions` that may have a record. The regions before it have no [`bits`](Self::bits).
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn next_in_use(&self, regions: Range<usize>) -> Option<usize> {
        self.cells.next_in_use(regions)
    }

    /// Sets the counter's presence bit in this region, and counts it. The region's lock is held.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn set_bit(&self, region: usize, counter: usize) {
        if !self.presence.is_set(counter, region) {
            self.presence.set(counter, region);
            self.cells.change_bits(region, |bits| bits + 1);
        }
    }

    /// Clears the counter's presence bit in this region, and no longer counts it. The region's lock is held. Where another
    /// counter takes the place of this one, its bit has been set.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn clear_bit(&self, region: usize, counter: usize) {
        if self.presence.is_set(counter, region) {
            self.presence.clear(counter, region);
            self.cells.change_bits(region, |bits| bits - 1);
        }
    }

    /// A cell of the region has become empty. The region's lock is held.
    #[cfg_attr(feature = "std", inline(always))]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn emptied(&self, region: usize, counter: usize) {
        self.clear_bit(region, counter);
        self.unspill(region);
    }

    /// Whether what the cell of this counter says in this region is about other counters, too. The region's lock is held.
    #[inline(always)]
    pub(crate) fn is_spilled(&self, region: usize, counter: usize) -> bool {
        self.cells.is_spilled(region, counter)
    }

    /// Makes what entries of this region take beside themselves. The cells of this counter, if one is given, are made if
    /// there is memory for them; otherwise they will be spilled.
    #[inline(always)]
    pub(crate) fn make(&self, region: usize, counter: Option<usize>) -> Result<(), Refused> {
        self.presence.make(region)?;
        if let Some(counter) = counter {
            let _ = self.cells.make(region, counter);
        }
        Ok(())
    }

    /// Whether the counter has a cell of its own.
    #[inline(always)]
    pub(crate) fn has_cell(&self, region: usize, counter: usize) -> bool {
        self.cells.has(region, counter)
    }

    /// An entry, and the cells of its region, for a record of `new` on the usual way.
    #[inline(always)]
    pub(crate) fn slot(&self, offset: usize, new: usize) -> Option<(&AtomicU16, Usual<'_>)> {
        self.cells.slot(offset, new)
    }

    /// The counter's own cell in this region, which `usual` is of.
    #[inline(always)]
    pub(crate) fn own<'a>(
        &'a self,
        region: usize,
        counter: usize,
        usual: Usual<'a>,
    ) -> Option<&'a AtomicU32> {
        self.cells.own(region, counter, usual)
    }

    /// The cells of a region.
    #[inline(always)]
    pub(crate) fn row(&self, region: usize) -> Row<'_> {
        self.cells.row(region)
    }

    /// Asks for what a migration of this region from `old` to `new` will need first.
    #[inline]
    pub(crate) fn prefetch(&self, region: usize, old: u16, new: u16) {
        prefetch(&self.locks[self.lock_index(region)]);
        for id in [old, new] {
            if let Some(cell) = self.cells.counted(region, counter(id)) {
                prefetch(cell);
            }
        }
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

    /// The sum of the numbers in the counter's own cells: exact for a counter without a note when nobody writes. What is
    /// spilled has a note (invariant 15); a spill cell is not read here, since it may tell of others before that is seen.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn counted(&self, counter: usize) -> u64 {
        self.sum(counter, |region| self.own_tally(region, counter))
    }

    /// The same with spill cells, so that it is no less than the number when nobody writes the counter's ids. Others may
    /// settle their block meanwhile, which takes records from the spill cell to own cells: it is read first.
    pub(crate) fn bound(&self, counter: usize) -> u64 {
        self.sum(counter, |region| {
            let spilled = self.cells.spilled(region, counter);
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

    /// How many records there are. Nobody writes.
    pub(crate) fn records(&self) -> u64 {
        self.cells.sum().unwrap_or_else(|| {
            let counters = self.presence.counters();
            counters.map(|counter| self.counted(counter)).sum()
        })
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
                        *sum += u64::from(self.own_tally(region, counter).count);
                        some |= 1 << at;
                    }
                }
            }
        }
        some
    }

    /// What is said of this counter in this region, alone or with others.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn tally(&self, region: usize, counter: usize) -> Tally {
        tally(self.cells.counted(region, counter))
    }

    /// What its own cell says.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn own_tally(&self, region: usize, counter: usize) -> Tally {
        tally(self.cells.row(region).own(counter))
    }

    /// What its cells, bitmaps and locks take; the table is not here.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint {
            table: Extent::default(),
            cells: self.cells.extent(),
            bitmaps: self
                .presence
                .extent()
                .and(self.cells.extent_of_bits())
                .and(self.shared.extent()),
            locks: Extent::resident(self.locks.bytes()),
        }
    }

    /// Makes all cells and bits zero. No region can be locked any more by who would write to it.
    pub(crate) fn discard(&self) {
        let blocks = self.presence.counters_end() / BLOCK;
        if !self.cells.give_back(blocks) {
            self.clear_cells();
        }
        self.cells.discard_bits();
        self.presence.discard();
        self.shared.discard();
    }

    /// Clears each cell that has its bit set: the others are zero (invariant 2).
    pub(crate) fn clear_cells(&self) {
        for counter in self.presence.counters() {
            let mut from = 0;
            while let Some(region) = self.presence.next(counter, from..self.len()) {
                if let Some(cell) = self.cells.counted(region, counter) {
                    cell.clear();
                }
                from = region + 1;
            }
        }
    }

    /// Gives all pages back.
    ///
    /// # Safety
    ///
    /// As of `Area::trim`.
    pub(crate) unsafe fn trim(&self) -> u64 {
        // SAFETY: the caller's promise.
        let cells = unsafe { self.cells.trim() };
        // SAFETY: as above.
        cells + unsafe { self.presence.trim() }
    }
}

fn tally(cell: Option<&AtomicU32>) -> Tally {
    Cell(cell.map_or(0, |cell| cell.load(Ordering::Relaxed))).tally()
}
