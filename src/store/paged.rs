//! The memory of an area as pages that are made when a slot is first written.
//!
//! Entries come in chunks, a page each. Cells come in pages of a block of 64 counters for a *group* of 16 regions, bitmaps in
//! pages of 2048 counters for a group, 16 bits each. So a group whose slots are owned by ids that lie side by side takes
//! four pages beside its 256 chunks: one says where the others are.
//!
//! **Invariant 14: where a chunk is, the bitmaps of its group are**: [`Chunks::make`] comes after [`Bits::make`]. So what
//! moves a record, which is in a chunk, to another id finds a bit for it without making anything.
//!
//! **Invariant 15: an id is counted in its own cell, or in its region's spill cell.** A cell's page may be missing when a
//! migration gives records to an id that has none in the group yet. A migration must not allocate, so then the *block* of
//! the id is *spilled* in that region: the entries of its counters are counted, together, in the *spill cell* of
//! the region, which is always there. Their counters are noted as shared before that ([`Shared`](crate::shared::Shared)), so what
//! is asked of the index is answered by a look, as for ids that share a counter; and while a block is spilled, its own
//! cells of the region are zero, so that no record takes the usual way. The next record that is to be written by an id of the
//! block in the region makes the page and counts them anew ([`Cells::settle`]). All of it happens under the region's lock.

use core::iter;
use core::ops::{Index, Range};

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::radix::{Paged, look, made_now, make, root, unmake};
use crate::cell::{BLOCK, COUNTERS, Cell, Tally, counter};
use crate::footprint::Extent;
use crate::pages::{Block, PAGE_SIZE, Pages};
use crate::region::{CHUNK_ENTRIES, REGION_ENTRIES};
use crate::storage::{Refused, Slot};
use crate::sync::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The entries of a page.
type Chunk = [AtomicU16; CHUNK_ENTRIES];

/// Chunks in a region.
const CHUNKS: usize = REGION_ENTRIES / CHUNK_ENTRIES;

/// Regions that share pages of cells and bitmaps.
const GROUP: usize = if cfg!(swap_records_loom) { 2 } else { 16 };

/// The cells of a block of counters in each region of a group.
type CellPage = [[AtomicU32; BLOCK]; GROUP];

/// Blocks of counters.
const BLOCKS: usize = COUNTERS / BLOCK;

/// Counters whose bits share a page.
const HALF: usize = if COUNTERS < 2048 { COUNTERS } else { 2048 };
const HALVES: usize = COUNTERS / HALF;

/// For each of so many counters, a bit for each region of a group.
type BitPage = [AtomicU16; HALF];

const _: () = assert!(size_of::<u16>() * CHUNK_ENTRIES <= PAGE_SIZE);
const _: () = assert!(GROUP <= u16::BITS as usize && 64_usize.is_multiple_of(GROUP));
const _: () = assert!(BLOCKS <= u64::BITS as usize);

/// Where the pages of 16 regions are: one look for an entry and its cells.
#[repr(C)]
pub(crate) struct Group {
    chunks: [[AtomicPtr<Block<Chunk>>; CHUNKS]; GROUP],
    cells: [AtomicPtr<Block<CellPage>>; BLOCKS],
    spills: [Spill; GROUP],
}

/// What is counted of ids whose cells are not there: see invariant 15.
#[repr(C)]
struct Spill {
    /// The blocks that they are of, a bit each.
    blocks: AtomicU64,
    /// All of their entries.
    cell: AtomicU32,
}

const _: () = assert!(size_of::<Group>() <= PAGE_SIZE);

// SAFETY: pointers that are null, and numbers that are 0.
#[cfg(not(swap_records_loom))]
unsafe impl bytemuck::Zeroable for Group {}

#[cfg(swap_records_loom)]
impl crate::pages::Zero for Group {
    fn zero() -> Self {
        use crate::pages::Zero;
        Self {
            chunks: core::array::from_fn(|_| Zero::zero()),
            cells: Zero::zero(),
            spills: core::array::from_fn(|_| Spill {
                blocks: Zero::zero(),
                cell: Zero::zero(),
            }),
        }
    }
}

/// All entries of an area, as far as they were written, and the pages of its cells.
pub(crate) struct Chunks {
    groups: Box<[AtomicPtr<Block<Group>>]>,
    regions: usize,
    /// How many pages there are of entries; of cells and groups.
    entries: AtomicU64,
    index: AtomicU64,
    pages: Pages,
}

/// The most regions of an area: 256 TiB of swap, for which the first table of pointers has a MiB.
const MAX_REGIONS: usize = 1 << 21;

/// The chunks of one region; `None` where no chunk of its group is there.
pub(crate) type InRegion<'a> = Option<&'a [AtomicPtr<Block<Chunk>>; CHUNKS]>;

impl Chunks {
    /// Zeroes for so many regions.
    pub(crate) fn of_regions(regions: usize, pages: Pages) -> Result<Self, Refused> {
        if regions > MAX_REGIONS {
            let bytes = regions.saturating_mul(REGION_ENTRIES * size_of::<u16>());
            return Err(Refused { bytes });
        }
        let zero = || made_now(AtomicU64::new(0), |nr| _ = nr.load(Ordering::Relaxed));
        Ok(Self {
            groups: root(regions.div_ceil(GROUP))?,
            regions,
            entries: zero(),
            index: zero(),
            pages,
        })
    }

    /// The group that this region is in.
    #[inline(always)]
    fn group(&self, region: usize) -> Option<&Group> {
        look(self.groups.get(region / GROUP)?)
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter_map(look)
    }

    fn make_group(&self, region: usize) -> Result<&Group, Refused> {
        let past = Refused { bytes: usize::MAX };
        let place = self.groups.get(region / GROUP).ok_or(past)?;
        make(place, self.pages, &self.index)
    }

    /// The entries of a region; `None` past the end of the area.
    #[inline]
    pub(crate) fn region(&self, region: usize) -> Option<InRegion<'_>> {
        (region < self.regions).then(|| Some(&self.group(region)?.chunks[region % GROUP]))
    }

    /// A chunk, by its number in the area.
    #[inline(always)]
    fn chunk(&self, index: usize) -> Option<&Chunk> {
        let region = index / CHUNKS;
        look(&self.group(region)?.chunks[region % GROUP][index % CHUNKS])
    }

    /// The entry at this offset; `None` past the end, and where its chunk is not there.
    #[inline(always)]
    pub(crate) fn entry(&self, offset: usize) -> Option<&AtomicU16> {
        Some(&self.chunk(offset / CHUNK_ENTRIES)?[offset % CHUNK_ENTRIES])
    }

    /// The entries of an aligned block of slots, where all of them are there, in one chunk.
    #[inline(always)]
    pub(crate) fn block(&self, offsets: Range<usize>) -> &[AtomicU16] {
        let first = offsets.start % CHUNK_ENTRIES;
        let chunk = self.chunk(offsets.start / CHUNK_ENTRIES);
        chunk
            .and_then(|chunk| chunk.get(first..first + offsets.len()))
            .unwrap_or_default()
    }

    /// What there is of these entries, in their order, each part with the offset of its first.
    pub(crate) fn parts(
        &self,
        offsets: Range<usize>,
    ) -> impl Iterator<Item = (usize, &[AtomicU16])> {
        within(offsets, |chunk| self.chunk(chunk))
    }

    /// Whether this entry can be written.
    #[inline]
    pub(crate) fn has(&self, offset: usize) -> bool {
        self.chunk(offset / CHUNK_ENTRIES).is_some()
    }

    /// Makes the chunk of this entry, after the bits of its group (invariant 14).
    pub(crate) fn make(&self, offset: usize) -> Result<(), Refused> {
        let (region, chunk) = (offset / REGION_ENTRIES, offset / CHUNK_ENTRIES);
        let place = &self.make_group(region)?.chunks[region % GROUP][chunk % CHUNKS];
        make(place, self.pages, &self.entries).map(drop)
    }

    /// Makes all entries zero, and keeps their pages for the next swapon.
    #[must_use]
    pub(crate) fn give_back(&self, _used: usize) -> bool {
        let places = self.groups().flat_map(|group| group.chunks.as_flattened());
        places.filter_map(look).flatten().for_each(Slot::clear);
        true
    }

    /// Nothing is to be let go.
    pub(crate) fn emptied(&self) {}

    /// Nobody else writes here.
    pub(crate) fn is_own(&self) -> bool {
        true
    }

    pub(crate) fn extent(&self) -> Extent {
        let root = Extent::resident(size_of_val(&*self.groups));
        pages(self.entries.load(Ordering::Relaxed)).and(root)
    }

    /// Gives all pages back, those of cells with them.
    ///
    /// # Safety
    ///
    /// Nobody else uses this meanwhile, and nobody uses what it has given before, any more.
    unsafe fn trim(&self) -> u64 {
        let (mut entries, mut index) = (0, 0);
        for place in &self.groups {
            if let Some(group) = look(place) {
                for chunk in group.chunks.as_flattened() {
                    // SAFETY: the caller's promise.
                    entries += unsafe { unmake(chunk, self.pages) };
                }
                for cells in &group.cells {
                    // SAFETY: the caller's promise.
                    index += unsafe { unmake(cells, self.pages) };
                }
            }
            // SAFETY: the caller's promise.
            index += unsafe { unmake(place, self.pages) };
        }
        self.entries.fetch_sub(entries, Ordering::Relaxed);
        self.index.fetch_sub(index, Ordering::Relaxed);
        entries + index
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        // SAFETY: nobody else is left.
        unsafe { self.trim() };
    }
}

fn pages(nr: u64) -> Extent {
    Extent {
        resident: nr * PAGE_SIZE as u64,
        reserved: nr * PAGE_SIZE as u64,
    }
}

/// The parts of a range that are there, chunk by chunk.
fn within<'a>(
    range: Range<usize>,
    chunk: impl Fn(usize) -> Option<&'a Chunk>,
) -> impl Iterator<Item = (usize, &'a [AtomicU16])> {
    let mut next = range.start;
    iter::from_fn(move || {
        while next < range.end {
            let (start, index) = (next, next / CHUNK_ENTRIES);
            let first = index * CHUNK_ENTRIES;
            next = first.saturating_add(CHUNK_ENTRIES).min(range.end);
            if let Some(chunk) = chunk(index) {
                return Some((start, &chunk[start - first..next - first]));
            }
        }
        None
    })
}

/// The chunk of a region.
#[inline]
fn chunk(of: InRegion<'_>, index: usize) -> Option<&Chunk> {
    look(of?.get(index)?)
}

/// The entry at this position; `None` where its chunk is not there.
#[inline]
pub(crate) fn entry(of: InRegion<'_>, position: usize) -> Option<&AtomicU16> {
    Some(&chunk(of, position / CHUNK_ENTRIES)?[position % CHUNK_ENTRIES])
}

/// What there is of these entries, in their order, each part with the position of its first. The rest is 0.
pub(crate) fn parts(
    of: InRegion<'_>,
    positions: Range<usize>,
) -> impl Iterator<Item = (usize, &[AtomicU16])> {
    within(positions, move |index| chunk(of, index))
}

/// These entries, where they lie side by side.
#[inline]
pub(crate) fn whole(of: InRegion<'_>, positions: Range<usize>) -> Option<&[AtomicU16]> {
    let first = positions.start % CHUNK_ENTRIES;
    let chunk = chunk(of, positions.start / CHUNK_ENTRIES)?;
    chunk.get(first..first + positions.len())
}

/// All cells of an area, as far as they were written, and its entries.
pub(crate) struct Cells {
    chunks: Chunks,
}

impl Cells {
    /// The cells of these entries.
    pub(crate) fn new(_regions: usize, chunks: Chunks) -> Result<Self, Refused> {
        Ok(Self { chunks })
    }

    #[inline(always)]
    pub(crate) fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The cell that counts this counter in this region; `None` where it counts nothing.
    #[inline]
    pub(crate) fn counted(&self, region: usize, counter: usize) -> Option<&AtomicU32> {
        self.row(region).counted(counter)
    }

    /// An entry, and the cells of its region, for a record of `new` on the usual way. `None` where the entry is not there.
    #[inline(always)]
    pub(crate) fn slot(&self, offset: usize, new: usize) -> Option<(&AtomicU16, Usual<'_>)> {
        let region = offset / REGION_ENTRIES;
        let group = self.chunks.group(region)?;
        let chunk = &group.chunks[region % GROUP][offset / CHUNK_ENTRIES % CHUNKS];
        let entry = &look(chunk)?[offset % CHUNK_ENTRIES];
        let usual = Usual {
            cells: &group.cells,
            block: new / BLOCK,
            page: group.cells.get(new / BLOCK).and_then(look),
        };
        Some((entry, usual))
    }

    /// The counter's own cell in this region, which `usual` is of; `None` past the last counter, and where its page is not
    /// there.
    #[inline(always)]
    pub(crate) fn own<'a>(
        &'a self,
        region: usize,
        counter: usize,
        usual: Usual<'a>,
    ) -> Option<&'a AtomicU32> {
        usual.cell(region, counter)
    }

    /// The cells of a region.
    #[inline]
    pub(crate) fn row(&self, region: usize) -> Row<'_> {
        Row {
            group: self.chunks.group(region),
            region: region % GROUP,
        }
    }

    /// Whether the counter has a cell to be counted in.
    pub(crate) fn has(&self, region: usize, counter: usize) -> bool {
        self.row(region).own(counter).is_some()
    }

    pub(crate) fn make(&self, region: usize, counter: usize) -> Result<(), Refused> {
        let group = self.chunks.make_group(region)?;
        make(
            &group.cells[counter / BLOCK],
            self.chunks.pages,
            &self.chunks.index,
        )
        .map(drop)
    }

    fn spill_of(&self, region: usize) -> Option<&Spill> {
        Some(&self.chunks.group(region)?.spills[region % GROUP])
    }

    /// Whether ids of this counter are counted in the region's spill cell. Under the region's lock.
    #[inline]
    pub(crate) fn is_spilled(&self, region: usize, counter: usize) -> bool {
        self.row(region).is_spilled(counter)
    }

    /// They are from now on. Under the region's lock; the counter is noted as shared.
    pub(crate) fn spill(&self, region: usize, counter: usize) {
        if let Some(spill) = self.spill_of(region) {
            // Release: who counts without the lock, and finds the spill cell by it, sees the note.
            let block = 1 << (counter / BLOCK);
            spill.blocks.fetch_or(block, Ordering::Release);
        }
    }

    /// The blocks that were spilled in a region whose spill cell is empty: none any more. Under the region's lock.
    pub(crate) fn unspill(&self, region: usize) -> u64 {
        let Some(Spill { cell, blocks }) = self.spill_of(region) else {
            return 0;
        };
        let spilled = blocks.load(Ordering::Relaxed);
        if spilled == 0 || !Cell(cell.load(Ordering::Relaxed)).is_empty() {
            return 0;
        }
        blocks.store(0, Ordering::Relaxed);
        spilled
    }

    /// Counts the entries of the counter's block in its own cells again, where these are there by now. Under the region's
    /// lock.
    #[inline]
    pub(crate) fn settle(&self, region: usize, of: usize, entries: InRegion<'_>) {
        if let Some(spill) = self.spill_of(region)
            && spill.blocks.load(Ordering::Relaxed) != 0
        {
            self.settle_slow((region, spill), of, entries);
        }
    }

    #[cold]
    fn settle_slow(&self, (region, spill): (usize, &Spill), of: usize, entries: InRegion<'_>) {
        let (block, row) = (of / BLOCK, self.row(region));
        if !row.is_spilled(of) || !self.has(region, of) {
            return;
        }
        let Spill { cell, blocks } = spill;
        for (first, part) in parts(entries, 0..REGION_ENTRIES) {
            for (position, id) in (first..).zip(part) {
                let id = id.load(Ordering::Relaxed);
                let counter = counter(id);
                if id == 0 || counter / BLOCK != block {
                    continue;
                }
                let one = Tally::at(position);
                if let Some(own) = row.own(counter) {
                    let spilled = Cell(cell.load(Ordering::Relaxed));
                    let counted = Cell(own.load(Ordering::Relaxed));
                    // Release, as wherever ids share a cell.
                    cell.store(spilled.without(one).0, Ordering::Release);
                    own.store(counted.with(one).0, Ordering::Release);
                }
            }
        }
        blocks.fetch_and(!(1 << block), Ordering::Release);
    }

    /// All pages of cells.
    fn all(&self) -> impl Iterator<Item = &CellPage> {
        let places = self.chunks.groups().flat_map(|group| &group.cells);
        places.filter_map(look)
    }

    fn spills(&self) -> impl Iterator<Item = &Spill> {
        self.chunks.groups().flat_map(|group| &group.spills)
    }

    /// The sum of all numbers. Nobody writes.
    pub(crate) fn sum(&self) -> Option<u64> {
        let own = self.all().flat_map(|page| page.as_flattened());
        let all = own.chain(self.spills().map(|spill| &spill.cell));
        Some(
            all.map(|cell| u64::from(Cell(cell.load(Ordering::Relaxed)).tally().count))
                .sum(),
        )
    }

    /// Makes all cells zero, and keeps their pages for the next swapon.
    #[must_use]
    pub(crate) fn give_back(&self, _blocks: usize) -> bool {
        self.all().flatten().for_each(Slot::clear);
        for Spill { cell, blocks } in self.spills() {
            cell.clear();
            blocks.clear();
        }
        true
    }

    /// Gives all pages back, those of entries with them.
    ///
    /// # Safety
    ///
    /// Nobody else uses this meanwhile, and nobody uses what it has given before, any more.
    pub(crate) unsafe fn trim(&self) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { self.chunks.trim() }
    }

    pub(crate) fn extent(&self) -> Extent {
        pages(self.chunks.index.load(Ordering::Relaxed))
    }
}

/// The cells of a region that are its counters' own, for a record.
#[derive(Clone, Copy)]
pub(crate) struct Usual<'a> {
    cells: &'a [AtomicPtr<Block<CellPage>>; BLOCKS],
    /// The page of the block of the new owner, which is looked up before the lock is taken. The old one's is mostly the same:
    /// so a prediction takes the place of a load that would be waited for.
    block: usize,
    page: Option<&'a CellPage>,
}

impl<'a> Usual<'a> {
    #[inline(always)]
    fn cell(self, region: usize, counter: usize) -> Option<&'a AtomicU32> {
        let page = if counter / BLOCK == self.block {
            self.page
        } else {
            look(self.cells.get(counter / BLOCK)?)
        };
        match page {
            Some(page) => Some(&page[region % GROUP][counter % BLOCK]),
            None => nobody(counter),
        }
    }
}

/// A cell for slots without an owner, which is not written: their counter, 0, may have no page. An id that has this counter
/// is not found in it, and so takes the other way.
#[cold]
fn nobody<'a>(counter: usize) -> Option<&'a AtomicU32> {
    #[cfg(not(swap_records_loom))]
    {
        static NOBODY: AtomicU32 = AtomicU32::new(0);
        (counter == 0).then_some(&NOBODY)
    }
    // A model's atomics are its own.
    #[cfg(swap_records_loom)]
    {
        let _ = counter;
        None
    }
}

/// The cells of one region, and its spill cell.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    group: Option<&'a Group>,
    /// In its group.
    region: usize,
}

impl<'a> Row<'a> {
    /// The counter's own cell.
    #[inline]
    fn own(self, counter: usize) -> Option<&'a AtomicU32> {
        let page = look(self.group?.cells.get(counter / BLOCK)?)?;
        Some(&page[self.region % GROUP][counter % BLOCK])
    }

    fn is_spilled(self, counter: usize) -> bool {
        let spilled = self.group.map_or(0, |group| {
            group.spills[self.region % GROUP]
                .blocks
                .load(Ordering::Relaxed)
        });
        spilled >> (counter / BLOCK) & 1 != 0
    }

    /// The cell that counts this counter; `None` where it counts nothing.
    #[inline]
    pub(crate) fn counted(self, counter: usize) -> Option<&'a AtomicU32> {
        if self.is_spilled(counter) {
            return Some(&self.group?.spills[self.region % GROUP].cell);
        }
        self.own(counter)
    }
}

/// For each counter and each region, a bit.
#[derive(Debug)]
pub(crate) struct Bits {
    /// By group, and in it by counters.
    pages: Paged<BitPage>,
    regions: usize,
}

impl Bits {
    /// No bit is set.
    pub(crate) fn new(regions: usize, pages: Pages) -> Result<Self, Refused> {
        let len = regions.div_ceil(GROUP).checked_mul(HALVES);
        let len = len.ok_or(Refused { bytes: usize::MAX })?;
        Ok(Self {
            pages: Paged::new(len, pages)?,
            regions,
        })
    }

    /// How many words of 64 regions a counter has.
    pub(crate) fn words(&self) -> usize {
        self.regions.div_ceil(64)
    }

    /// The groups of a word, each with its first bit in it.
    fn groups(&self, word: usize) -> impl Iterator<Item = (usize, usize)> {
        let first = word * (64 / GROUP);
        let groups = first..(first + 64 / GROUP).min(self.regions.div_ceil(GROUP));
        groups.zip((0..64).step_by(GROUP))
    }

    /// The bits of a counter in a group.
    fn of(&self, group: usize, counter: usize) -> Option<&AtomicU16> {
        let page = self.pages.get(group * HALVES + counter / HALF)?;
        Some(&page[counter % HALF])
    }

    pub(crate) fn word(&self, counter: usize, word: usize) -> u64 {
        self.groups(word).fold(0, |bits, (group, at)| {
            let of = self.of(group, counter);
            bits | of.map_or(0, |of| u64::from(of.load(Ordering::Relaxed)) << at)
        })
    }

    /// Of the 64 regions of this word, those where a bit of any of these counters is set; none past the end.
    pub(crate) fn any(&self, counters: impl Iterator<Item = usize> + Clone, word: usize) -> u64 {
        self.groups(word).fold(0, |bits, (group, at)| {
            if self.pages.get(group * HALVES).is_none() {
                return bits;
            }
            let of = counters
                .clone()
                .filter_map(|counter| self.of(group, counter));
            let any = of.fold(0, |any, of| any | of.load(Ordering::Relaxed));
            bits | u64::from(any) << at
        })
    }

    /// By invariant 14 the page is there.
    pub(crate) fn set(&self, counter: usize, region: usize) {
        let of = self.of(region / GROUP, counter);
        debug_assert!(of.is_some(), "region {region} has records and no bits");
        if let Some(of) = of {
            of.fetch_or(1 << (region % GROUP), Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(&self, counter: usize, region: usize) {
        if let Some(of) = self.of(region / GROUP, counter) {
            of.fetch_and(!(1 << (region % GROUP)), Ordering::Relaxed);
        }
    }

    /// Makes all bits 0, and keeps their pages for the next swapon.
    pub(crate) fn discard(&self, _end: usize, _counters: impl Iterator<Item = usize>) {
        let bits = self.pages.all().flat_map(|(_, page)| page);
        bits.for_each(Slot::clear);
    }

    /// Makes the bits of all counters in this region.
    pub(crate) fn make(&self, region: usize) -> Result<(), Refused> {
        let first = region / GROUP * HALVES;
        (first..first + HALVES).try_for_each(|page| self.pages.make(page).map(drop))
    }

    /// Gives all pages back.
    ///
    /// # Safety
    ///
    /// As of [`Paged::trim`].
    pub(crate) unsafe fn trim(&self) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { self.pages.trim() }
    }

    pub(crate) fn extent(&self) -> Extent {
        self.pages.extent()
    }
}

/// Values that are made at once and stay: allocations of a page at most, but for the list of them.
#[derive(Debug)]
pub(crate) struct Array<T> {
    pieces: Box<[Box<[T]>]>,
}

impl<T> Array<T> {
    /// Values in a page, a power of two.
    const PIECE: usize = {
        let size = if size_of::<T>() == 0 {
            1
        } else {
            size_of::<T>()
        };
        if size > PAGE_SIZE {
            1
        } else {
            1 << (PAGE_SIZE / size).ilog2()
        }
    };

    pub(crate) fn new(len: usize, mut make: impl FnMut() -> T) -> Result<Self, Refused> {
        let nr = len.div_ceil(Self::PIECE);
        let mut pieces = Vec::new();
        pieces.try_reserve_exact(nr).map_err(|_| Refused {
            bytes: nr.saturating_mul(size_of::<Box<[T]>>()),
        })?;
        let mut left = len;
        while left > 0 {
            let nr = left.min(Self::PIECE);
            let mut piece = Vec::new();
            piece.try_reserve_exact(nr).map_err(|_| Refused {
                bytes: nr * size_of::<T>(),
            })?;
            piece.resize_with(nr, &mut make);
            pieces.push(piece.into_boxed_slice());
            left -= nr;
        }
        Ok(Self {
            pieces: pieces.into_boxed_slice(),
        })
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.pieces
            .get(index / Self::PIECE)?
            .get(index % Self::PIECE)
    }

    #[cfg(swap_records_loom)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    pub(crate) fn bytes(&self) -> usize {
        let values: usize = self.pieces.iter().map(|piece| size_of_val(&**piece)).sum();
        values + size_of_val(&*self.pieces)
    }
}

impl<T> Index<usize> for Array<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, index: usize) -> &T {
        &self.pieces[index / Self::PIECE][index % Self::PIECE]
    }
}

/// Some words of bits.
pub(crate) type Notes = Array<AtomicU64>;

impl Array<AtomicU64> {
    pub(crate) fn of_words(words: usize) -> Result<Self, Refused> {
        Self::new(words, || {
            made_now(AtomicU64::new(0), |word| _ = word.load(Ordering::Relaxed))
        })
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent::resident(self.bytes())
    }
}
