//! The memory of an area as flat maps: see [`Zeroed`].

use core::iter;
use core::marker::PhantomData;
use core::ops::{Index, Range};

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::cell::{BLOCK, COUNTERS, Tally};
use crate::footprint::Extent;
use crate::pages::Pages;
use crate::region::{Entries, REGION_ENTRIES};
use crate::storage::{Refused, Slot, Zeroed};
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// All entries of an area: there from the start, wherever they are.
pub(crate) type Chunks = Zeroed<Entries>;

/// The entries of one region.
pub(crate) type InRegion<'a> = &'a Entries;

impl Zeroed<Entries> {
    /// Zeroes for so many regions.
    pub(crate) fn of_regions(regions: usize, _: Pages) -> Result<Self, Refused> {
        /// From how many bytes of table on huge pages are asked for: from the first one that it fills.
        /// At worst all of the table is resident, which is a two-thousandth of the swap.
        const HUGE_TABLE: usize = 2 << 20;
        Self::new(regions, regions >= HUGE_TABLE / size_of::<Entries>())
    }

    /// The entries of a region; `None` past the end of the area.
    #[inline(always)]
    pub(crate) fn region(&self, region: usize) -> Option<InRegion<'_>> {
        self.get(region)
    }

    /// The entry at this offset; `None` past the end.
    #[inline(always)]
    pub(crate) fn entry(&self, offset: usize) -> Option<&AtomicU16> {
        self.as_flattened().get(offset)
    }

    /// The entries of an aligned block of slots, where all of them are there.
    #[inline(always)]
    pub(crate) fn block(&self, offsets: Range<usize>) -> &[AtomicU16] {
        self.as_flattened().get(offsets).unwrap_or_default()
    }

    /// What there is of these entries, in their order, each part with the offset of its first.
    pub(crate) fn parts(
        &self,
        offsets: Range<usize>,
    ) -> impl Iterator<Item = (usize, &[AtomicU16])> {
        iter::once((offsets.start, self.block(offsets)))
    }

    /// Whether these entries can be written.
    #[inline(always)]
    pub(crate) fn has(&self, _: usize) -> bool {
        true
    }

    /// Makes what is missing of these entries.
    #[inline(always)]
    pub(crate) fn make(&self, _: usize) -> Result<(), Refused> {
        Ok(())
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent::of(self)
    }
}

/// The entry at this position.
#[inline(always)]
pub(crate) fn entry(of: InRegion<'_>, position: usize) -> Option<&AtomicU16> {
    Some(&of[position % REGION_ENTRIES])
}

/// What there is of these entries, in their order, each part with the position of its first. The rest is 0.
#[inline(always)]
pub(crate) fn parts(
    of: InRegion<'_>,
    positions: Range<usize>,
) -> impl Iterator<Item = (usize, &[AtomicU16])> {
    iter::once((positions.start, &of[positions]))
}

/// These entries, where they lie side by side.
#[inline(always)]
pub(crate) fn whole(of: InRegion<'_>, positions: Range<usize>) -> Option<&[AtomicU16]> {
    of.get(positions)
}

/// All cells of an area.
#[derive(Debug)]
pub(crate) struct Cells {
    chunks: Chunks,
    /// `[block of counters][region][counter in the block]`.
    blocks: Zeroed<[AtomicU32; BLOCK]>,
    /// There are `1 << shift` regions.
    shift: u32,
    /// From a cell in one block to that of the same region in the next block.
    stride: usize,
    /// Per region, how many of its presence bits are set.
    bits: Zeroed<AtomicU16>,
    bitmaps: Bits,
}

// The number fits.
const _: () = assert!(COUNTERS <= u16::MAX as usize);

impl Cells {
    /// The cells of these entries, of so many regions, a power of two.
    pub(crate) fn new(regions: usize, chunks: Chunks) -> Result<Self, Refused> {
        const HUGE_PAGE: usize = 2 << 20;
        let blocks = regions
            .checked_mul(COUNTERS / BLOCK)
            .ok_or(Refused { bytes: usize::MAX })?;
        // A huge page must not reach over blocks: an unused one would be paid for.
        let huge = regions * BLOCK * size_of::<AtomicU32>() >= HUGE_PAGE;
        Ok(Self {
            chunks,
            blocks: Zeroed::new(blocks, huge)?,
            shift: regions.ilog2(),
            stride: regions * BLOCK,
            bits: Zeroed::new(regions, false)?,
            bitmaps: Bits::new(regions)?,
        })
    }

    /// The cell that counts this counter in this region. All are there.
    #[inline(always)]
    pub(crate) fn counted(&self, region: usize, counter: usize) -> Option<&AtomicU32> {
        Some(&self.blocks[((counter / BLOCK) << self.shift) + region][counter % BLOCK])
    }

    #[inline(always)]
    pub(crate) fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The presence bits of these cells.
    #[inline(always)]
    pub(crate) fn bitmaps(&self) -> &Bits {
        &self.bitmaps
    }

    /// An entry, and the cells of its region, for a record on the usual way. `None` past the end.
    #[inline(always)]
    pub(crate) fn slot(&self, offset: usize, _: usize) -> Option<(&AtomicU16, Usual<'_>)> {
        Some((self.chunks.entry(offset)?, Usual(PhantomData)))
    }

    /// The counter's own cell in this region; `None` past the last counter: there is another way to go on
    /// than a panic.
    #[inline(always)]
    pub(crate) fn own(&self, region: usize, counter: usize, _: Usual<'_>) -> Option<&AtomicU32> {
        // A product, and no shift: that needs one register more, and this is for two cells at once.
        let block = counter / BLOCK * self.stride + region * BLOCK;
        self.blocks.as_flattened().get(block + counter % BLOCK)
    }

    /// The cells of a region.
    #[inline(always)]
    pub(crate) fn row(&self, region: usize) -> Row<'_> {
        Row {
            cells: &self.blocks.as_flattened()[region * BLOCK..],
            shift: self.shift,
        }
    }

    /// Those of this region for the counters of this block.
    #[cfg(not(swap_records_loom))]
    pub(crate) fn block(&self, region: usize, block: usize) -> &[AtomicU32; BLOCK] {
        &self.blocks[(block << self.shift) + region]
    }

    /// How many presence bits of this region are set.
    pub(crate) fn bits(&self, region: usize) -> u16 {
        self.bits[region].load(Ordering::Relaxed)
    }

    /// Changes it. The caller holds the region's lock, or is the only writer.
    #[inline]
    pub(crate) fn change_bits(&self, region: usize, change: impl FnOnce(u16) -> u16) {
        let bits = &self.bits[region];
        bits.store(change(bits.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// The first of `regions` of which a presence bit is set.
    pub(crate) fn next_in_use(&self, regions: Range<usize>) -> Option<usize> {
        let mut bits = self.bits.get(regions.clone())?.iter();
        let next = bits.position(|bits| bits.load(Ordering::Relaxed) != 0)?;
        Some(regions.start + next)
    }

    /// No presence bit is set.
    pub(crate) fn discard_bits(&self) {
        if !self.bits.give_back(self.bits.len()) {
            self.bits.iter().for_each(Slot::clear);
        }
    }

    /// Whether the counter has a cell to be counted in.
    #[inline(always)]
    pub(crate) fn has(&self, _: usize, _: usize) -> bool {
        true
    }

    #[inline(always)]
    pub(crate) fn make(&self, _: usize, _: Option<usize>) -> Result<(), Refused> {
        Ok(())
    }

    /// Whether ids of this counter are counted in the region's spill cell.
    #[inline(always)]
    pub(crate) fn is_spilled(&self, _: usize, _: usize) -> bool {
        false
    }

    /// What is counted elsewhere: nothing.
    #[inline(always)]
    pub(crate) fn spilled(&self, _: usize, _: usize) -> Tally {
        Tally::default()
    }

    /// They are from now on. Here every counter has a cell.
    pub(crate) fn spill(&self, _: usize, _: usize) {}

    /// The counters that were spilled in a region whose spill cell is empty: none any more.
    #[inline(always)]
    pub(crate) fn unspill(&self, _: usize) -> u64 {
        0
    }

    /// Counts the entries of the counter's block in its own cells again. Returns whether it did.
    #[inline(always)]
    pub(crate) fn settle(&self, _: usize, _: usize, _: InRegion<'_>) -> bool {
        false
    }

    /// The sum of all numbers, where it is known without a look at what each of them is for.
    pub(crate) fn sum(&self) -> Option<u64> {
        None
    }

    /// Makes the cells of the first blocks of counters zero; `false` where the caller has to do it.
    #[must_use]
    pub(crate) fn give_back(&self, blocks: usize) -> bool {
        self.blocks.give_back(blocks << self.shift)
    }

    /// # Safety
    ///
    /// None is needed here.
    pub(crate) unsafe fn trim(&self) -> u64 {
        0
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent::of(&self.blocks)
    }

    /// Of the presence bits and their numbers.
    pub(crate) fn extent_of_bits(&self) -> Extent {
        Extent::of(&self.bitmaps.words).and(Extent::of(&self.bits))
    }
}

/// What is known of the cells of a slot ahead: nothing.
#[derive(Clone, Copy)]
pub(crate) struct Usual<'a>(PhantomData<&'a Cells>);

/// The cells of one region, for many slots.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// From its first one on.
    cells: &'a [AtomicU32],
    shift: u32,
}

impl<'a> Row<'a> {
    /// The cell that counts this counter.
    #[inline(always)]
    pub(crate) fn counted(self, counter: usize) -> Option<&'a AtomicU32> {
        Some(&self.cells[((counter & !(BLOCK - 1)) << self.shift) + counter % BLOCK])
    }

    /// The same: each counter has its own.
    #[inline(always)]
    pub(crate) fn own(self, counter: usize) -> Option<&'a AtomicU32> {
        self.counted(counter)
    }
}

/// For each counter, a bitmap of the regions.
#[derive(Debug)]
pub(crate) struct Bits {
    /// `[counter][word]`, one bit per region.
    words: Zeroed<AtomicU64>,
    /// Words per counter.
    stride: usize,
}

impl Bits {
    /// No bit is set.
    fn new(regions: usize) -> Result<Self, Refused> {
        let stride = regions.div_ceil(64);
        let len = stride.checked_mul(COUNTERS);
        Ok(Self {
            words: Zeroed::new(len.ok_or(Refused { bytes: usize::MAX })?, false)?,
            stride,
        })
    }

    /// How many words the bitmap of a counter has, of 64 regions each.
    #[inline]
    pub(crate) fn words(&self) -> usize {
        self.stride
    }

    #[inline]
    fn at(&self, counter: usize, region: usize) -> &AtomicU64 {
        &self.words[counter * self.stride + region / 64]
    }

    #[inline]
    pub(crate) fn word(&self, counter: usize, word: usize) -> u64 {
        self.words[counter * self.stride + word].load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set(&self, counter: usize, region: usize) {
        self.at(counter, region)
            .fetch_or(1 << (region % 64), Ordering::Relaxed);
    }

    /// Sets bits of the 64 regions of this word.
    #[cfg(not(swap_records_loom))]
    pub(crate) fn set_word(&self, counter: usize, word: usize, bits: u64) {
        self.words[counter * self.stride + word].fetch_or(bits, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn clear(&self, counter: usize, region: usize) {
        self.at(counter, region)
            .fetch_and(!(1 << (region % 64)), Ordering::Relaxed);
    }

    /// Makes the bits of the first counters 0, of whose blocks these are the ones that were used.
    pub(crate) fn discard(&self, end: usize, counters: impl Iterator<Item = usize>) {
        if !self.words.give_back(end * self.stride) {
            let row = |counter: usize| &self.words[counter * self.stride..][..self.stride];
            counters.flat_map(row).for_each(Slot::clear);
        }
    }
}

/// Values that are made at once and stay.
pub(crate) struct Array<T>(Box<[T]>);

impl<T> Array<T> {
    pub(crate) fn new(len: usize, make: impl FnMut() -> T) -> Result<Self, Refused> {
        let mut values = Vec::new();
        values.try_reserve_exact(len).map_err(|_| Refused {
            bytes: len.saturating_mul(size_of::<T>()),
        })?;
        values.resize_with(len, make);
        Ok(Self(values.into_boxed_slice()))
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)
    }

    #[cfg(swap_records_loom)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl<T> Index<usize> for Array<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, index: usize) -> &T {
        &self.0[index]
    }
}

/// Some words of bits.
pub(crate) type Notes = Zeroed<AtomicU64>;

impl Zeroed<AtomicU64> {
    pub(crate) fn of_words(words: usize) -> Result<Self, Refused> {
        Self::new(words, false)
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent::of(self)
    }
}
