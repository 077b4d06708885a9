//! Keeps the cells of an area in pages: the cell of each id, and the spill cell of each region (invariant
//! 15).

use core::ops::Range;

use super::bits::Bits;
use super::paged::{BLOCKS, CHUNKS, CellPage, Chunks, GROUP, Group, InRegion, parts};
use super::place::{Place, clear, extent, look, make, zero};
use crate::cell::{BLOCK, Cell, Tally, counter};
use crate::footprint::Extent;
use crate::region::{CHUNK_ENTRIES, REGION_ENTRIES};
use crate::storage::Refused;
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The cells of an area, so far as they were written, and its entries.
pub(crate) struct Cells {
    chunks: Chunks,
}

impl Cells {
    /// Takes the entries that the cells count.
    pub(crate) fn new(_regions: usize, chunks: Chunks) -> Result<Self, Refused> {
        Ok(Self { chunks })
    }

    #[inline(always)]
    pub(crate) fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The presence bits of these cells.
    #[inline(always)]
    pub(crate) fn bitmaps(&self) -> Bits<'_> {
        Bits(&self.chunks)
    }

    /// Returns the cell that counts this counter in this region; `None` if no cell does.
    #[inline(never)]
    pub(crate) fn counted(&self, region: usize, counter: usize) -> Option<&AtomicU32> {
        self.row(region).counted(counter)
    }

    /// Returns an entry and the cells of its region, for a record of `new` on the usual way. `None` if the
    /// entry is missing.
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

    /// Returns the counter's own cell in this region, which `usual` was made for; `None` past the last
    /// counter, or if its page is missing.
    #[inline(always)]
    pub(crate) fn own<'a>(
        &'a self,
        region: usize,
        counter: usize,
        usual: Usual<'a>,
    ) -> Option<&'a AtomicU32> {
        usual.cell(region, counter)
    }

    /// Returns the cells of a region.
    #[inline]
    pub(crate) fn row(&self, region: usize) -> Row<'_> {
        Row {
            group: self.chunks.group(region),
            region: region % GROUP,
        }
    }

    /// Returns whether the counter has a cell of its own.
    pub(crate) fn has(&self, region: usize, counter: usize) -> bool {
        self.row(region).own(counter).is_some()
    }

    /// Makes the bits of all counters in this region, and the cells of this counter, if one is given and
    /// there is memory for them.
    pub(crate) fn make(&self, region: usize, counter: Option<usize>) -> Result<(), Refused> {
        let Chunks {
            pages, index, bits, ..
        } = &self.chunks;
        let group = self.chunks.make_group(region)?;
        for place in &group.bits {
            make(place, *pages, bits)?;
        }
        if let Some(place) = counter.and_then(|counter| group.cells.get(counter / BLOCK)) {
            let _ = make(place, *pages, index);
        }
        Ok(())
    }

    fn spill_of(&self, region: usize) -> Option<Spill<'_>> {
        let group = self.chunks.group(region)?;
        Some(Spill {
            blocks: &group.spilled[region % GROUP],
            cell: &group.spills[region % GROUP],
        })
    }

    fn set_bits(&self, region: usize) -> Option<&AtomicU16> {
        Some(&self.chunks.group(region)?.set[region % GROUP])
    }

    /// Returns how many presence bits of this region are set.
    pub(crate) fn bits(&self, region: usize) -> u16 {
        let set = self.set_bits(region);
        set.map_or(0, |set| set.load(Ordering::Relaxed))
    }

    /// Changes the number of set presence bits. The caller holds the lock of the region, which has a chunk
    /// and so a group.
    pub(crate) fn change_bits(&self, region: usize, change: impl FnOnce(u16) -> u16) {
        let bits = self.set_bits(region);
        debug_assert!(bits.is_some(), "region {region} has records and no group");
        if let Some(bits) = bits {
            bits.store(change(bits.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }

    /// Returns the first of `regions` that has a presence bit set.
    pub(crate) fn next_in_use(&self, regions: Range<usize>) -> Option<usize> {
        let Range { mut start, end } = regions;
        while start < end {
            match self.chunks.group(start) {
                Some(_) if self.bits(start) != 0 => return Some(start),
                Some(_) => start += 1,
                // No region of the group has a bit set.
                None => start = (start / GROUP + 1) * GROUP,
            }
        }
        None
    }

    /// Does nothing: [`give_back`](Self::give_back) has cleared these numbers.
    pub(crate) fn discard_bits(&self) {}

    /// Returns whether ids of this counter are counted in the region's spill cell. The region's lock is held.
    #[inline(never)]
    pub(crate) fn is_spilled(&self, region: usize, counter: usize) -> bool {
        self.row(region).is_spilled(counter)
    }

    /// Returns the number in the spill cell, if the counter's block is spilled. Without the lock: a record that was
    /// settled and is missing here is found in the own cell, if that is read afterwards.
    #[inline(never)]
    pub(crate) fn spilled(&self, region: usize, counter: usize) -> Tally {
        match self.spill_of(region) {
            Some(Spill { blocks, cell })
                if blocks.load(Ordering::Acquire) >> (counter / BLOCK) & 1 != 0 =>
            {
                Cell(cell.load(Ordering::Acquire)).tally()
            }
            _ => Tally::default(),
        }
    }

    /// Counts ids of this counter in the spill cell from now on. The region's lock is held, and the counter
    /// is noted as shared.
    #[inline(never)]
    pub(crate) fn spill(&self, region: usize, counter: usize) {
        if let Some(spill) = self.spill_of(region) {
            // Release: a thread that counts without the lock, and finds the spill cell by this bit, sees the
            // note.
            let block = 1 << (counter / BLOCK);
            spill.blocks.fetch_or(block, Ordering::Release);
        }
    }

    /// Ends the spills of a region whose spill cell is empty, and returns their blocks. The region's lock is
    /// held.
    #[inline(never)]
    pub(crate) fn unspill(&self, region: usize) -> u64 {
        let Some(Spill { cell, blocks }) = self.spill_of(region) else {
            return 0;
        };
        let spilled = blocks.load(Ordering::Relaxed);
        if spilled == 0 || !Cell(cell.load(Ordering::Relaxed)).is_empty() {
            return 0;
        }
        // Release: a thread that finds no spilled block finds the own cells as they were settled before.
        blocks.store(0, Ordering::Release);
        spilled
    }

    /// Counts the entries of the counter's block in its own cells again, if their page has been made. Returns whether it
    /// did: then counters of the block that have no entries may have presence bits. The region's lock is held.
    #[inline]
    pub(crate) fn settle(&self, region: usize, of: usize, entries: InRegion<'_>) -> bool {
        match self.spill_of(region) {
            Some(spill) if spill.blocks.load(Ordering::Relaxed) != 0 => {
                self.settle_slow((region, spill), of, entries)
            }
            _ => false,
        }
    }

    #[cold]
    fn settle_slow(
        &self,
        (region, spill): (usize, Spill<'_>),
        of: usize,
        entries: InRegion<'_>,
    ) -> bool {
        let (block, row) = (of / BLOCK, self.row(region));
        if !row.is_spilled(of) || !self.has(region, of) {
            return false;
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
                    // Release, as for all cells that ids share. In this order: see `spilled`.
                    own.store(counted.with(one).0, Ordering::Release);
                    cell.store(spilled.without(one).0, Ordering::Release);
                }
            }
        }
        blocks.fetch_and(!(1 << block), Ordering::Release);
        true
    }

    /// Returns the number of all records. No thread writes meanwhile.
    pub(crate) fn sum(&self) -> Option<u64> {
        let mut sum = 0;
        for group in self.chunks.groups() {
            let pages = group.cells.iter().filter_map(look);
            sum += numbers(&group.spills) + pages.map(|page| numbers(page)).sum::<u64>();
        }
        Some(sum)
    }

    /// Makes all cells and the numbers of presence bits zero, and keeps their pages for the next swapon.
    #[must_use]
    pub(crate) fn give_back(&self, _blocks: usize) -> bool {
        for group in self.chunks.groups() {
            clear(&group.cells);
            zero(&group.spilled);
            zero(&group.spills);
            zero(&group.set);
        }
        true
    }

    /// Gives back all pages, also those of entries and bitmaps. Returns their number.
    ///
    /// # Safety
    ///
    /// No other thread may use the pages during the call, and no reference to them may still be used.
    pub(crate) unsafe fn trim(&self) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { self.chunks.trim() }
    }

    /// The memory of the presence bits. Their numbers lie in the groups.
    pub(crate) fn extent_of_bits(&self) -> Extent {
        extent(&self.chunks.bits)
    }

    pub(crate) fn extent(&self) -> Extent {
        extent(&self.chunks.index)
    }
}

/// The cells of a region that are its counters' own, for a record.
#[derive(Clone, Copy)]
pub(crate) struct Usual<'a> {
    cells: &'a [Place<CellPage>; BLOCKS],
    /// The page of the block of the new owner, which is looked up before the lock is taken. The old one's is
    /// mostly the same: so a prediction takes the place of a load that would be waited for.
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
            Some(page) => Some(&page[in_page(region, counter)]),
            None => nobody(counter),
        }
    }
}

/// The spilled blocks of a region, and the cell that counts their entries (invariant 15).
#[derive(Clone, Copy)]
struct Spill<'a> {
    blocks: &'a AtomicU64,
    cell: &'a AtomicU32,
}

/// Returns the sum of the numbers in these cells.
#[inline(never)]
fn numbers(cells: &[AtomicU32]) -> u64 {
    let number = |cell: &AtomicU32| Cell(cell.load(Ordering::Relaxed)).tally().count;
    cells.iter().map(|cell| u64::from(number(cell))).sum()
}

/// Returns the index of the counter's cell in its page.
#[inline(always)]
fn in_page(region: usize, counter: usize) -> usize {
    region % GROUP * BLOCK + counter % BLOCK
}

/// Returns a cell that stands for slots without an owner, and that is never written. The page of their
/// counter, 0, may be missing. A record whose id has this counter finds the number 0 in it, and so leaves the
/// usual way.
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
    /// Returns the counter's own cell.
    #[inline]
    pub(crate) fn own(self, counter: usize) -> Option<&'a AtomicU32> {
        let page = look(self.group?.cells.get(counter / BLOCK)?)?;
        Some(&page[in_page(self.region, counter)])
    }

    fn is_spilled(self, counter: usize) -> bool {
        let spilled = self.group.map_or(0, |group| {
            group.spilled[self.region % GROUP].load(Ordering::Relaxed)
        });
        spilled >> (counter / BLOCK) & 1 != 0
    }

    /// Returns the cell that counts this counter; `None` if no cell does.
    #[inline]
    pub(crate) fn counted(self, counter: usize) -> Option<&'a AtomicU32> {
        if self.is_spilled(counter) {
            return Some(&self.group?.spills[self.region % GROUP]);
        }
        self.own(counter)
    }
}
