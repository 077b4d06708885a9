//! The cells of an area as pages: each id's own, and the spill cell of each region (invariant 15).

use core::ops::Range;

use super::paged::{BLOCKS, CHUNKS, CellPage, Chunks, GROUP, Group, InRegion, Spill, pages, parts};
use super::radix::{look, make};
use crate::cell::{BLOCK, Cell, Tally, counter};
use crate::footprint::Extent;
use crate::pages::Block;
use crate::region::{CHUNK_ENTRIES, REGION_ENTRIES};
use crate::storage::{Refused, Slot};
use crate::sync::{AtomicPtr, AtomicU16, AtomicU32, Ordering};

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
    #[inline(never)]
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

    /// How many presence bits of this region are set.
    pub(crate) fn bits(&self, region: usize) -> u16 {
        let spill = self.spill_of(region);
        spill.map_or(0, |spill| spill.bits.load(Ordering::Relaxed))
    }

    /// Changes it. The caller holds the lock of the region, which has a chunk, and so its group.
    pub(crate) fn change_bits(&self, region: usize, change: impl FnOnce(u16) -> u16) {
        let spill = self.spill_of(region);
        debug_assert!(spill.is_some(), "region {region} has records and no group");
        if let Some(Spill { bits, .. }) = spill {
            bits.store(change(bits.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }

    /// The first of `regions` of which a presence bit is set.
    pub(crate) fn next_in_use(&self, regions: Range<usize>) -> Option<usize> {
        let Range { mut start, end } = regions;
        while start < end {
            match self.chunks.group(start) {
                Some(_) if self.bits(start) != 0 => return Some(start),
                Some(_) => start += 1,
                // Of none of its regions.
                None => start = (start / GROUP + 1) * GROUP,
            }
        }
        None
    }

    /// No presence bit is set.
    pub(crate) fn discard_bits(&self) {
        for group in self.chunks.groups() {
            group.spills.iter().for_each(|spill| spill.bits.clear());
        }
    }

    /// Whether ids of this counter are counted in the region's spill cell. Under the region's lock.
    #[inline(never)]
    pub(crate) fn is_spilled(&self, region: usize, counter: usize) -> bool {
        self.row(region).is_spilled(counter)
    }

    /// What the spill cell says, where the counter's block is spilled. Without the lock: what is missing here, since it was
    /// settled, is found in the own cell by a look at that afterwards.
    #[inline(never)]
    pub(crate) fn spilled(&self, region: usize, counter: usize) -> Tally {
        match self.spill_of(region) {
            Some(Spill { blocks, cell, .. })
                if blocks.load(Ordering::Acquire) >> (counter / BLOCK) & 1 != 0 =>
            {
                Cell(cell.load(Ordering::Acquire)).tally()
            }
            _ => Tally::default(),
        }
    }

    /// They are from now on. Under the region's lock; the counter is noted as shared.
    #[inline(never)]
    pub(crate) fn spill(&self, region: usize, counter: usize) {
        if let Some(spill) = self.spill_of(region) {
            // Release: who counts without the lock, and finds the spill cell by it, sees the note.
            let block = 1 << (counter / BLOCK);
            spill.blocks.fetch_or(block, Ordering::Release);
        }
    }

    /// The blocks that were spilled in a region whose spill cell is empty: none any more. Under the region's lock.
    #[inline(never)]
    pub(crate) fn unspill(&self, region: usize) -> u64 {
        let Some(Spill { cell, blocks, .. }) = self.spill_of(region) else {
            return 0;
        };
        let spilled = blocks.load(Ordering::Relaxed);
        if spilled == 0 || !Cell(cell.load(Ordering::Relaxed)).is_empty() {
            return 0;
        }
        // Release: who finds no spilled block finds what was settled before.
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
        (region, spill): (usize, &Spill),
        of: usize,
        entries: InRegion<'_>,
    ) -> bool {
        let (block, row) = (of / BLOCK, self.row(region));
        if !row.is_spilled(of) || !self.has(region, of) {
            return false;
        }
        let Spill { cell, blocks, .. } = spill;
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
                    // Release, as wherever ids share a cell. In this order: see `spilled`.
                    own.store(counted.with(one).0, Ordering::Release);
                    cell.store(spilled.without(one).0, Ordering::Release);
                }
            }
        }
        blocks.fetch_and(!(1 << block), Ordering::Release);
        true
    }

    /// The sum of all numbers. Nobody writes.
    pub(crate) fn sum(&self) -> Option<u64> {
        let number = |cell: &AtomicU32| u64::from(Cell(cell.load(Ordering::Relaxed)).tally().count);
        let mut sum = 0;
        for group in self.chunks.groups() {
            for page in group.cells.iter().filter_map(look) {
                sum += page.as_flattened().iter().map(number).sum::<u64>();
            }
            sum += group
                .spills
                .iter()
                .map(|spill| number(&spill.cell))
                .sum::<u64>();
        }
        Some(sum)
    }

    /// Makes all cells zero, and keeps their pages for the next swapon.
    #[must_use]
    pub(crate) fn give_back(&self, _blocks: usize) -> bool {
        for group in self.chunks.groups() {
            for page in group.cells.iter().filter_map(look) {
                page.as_flattened().iter().for_each(Slot::clear);
            }
            for Spill { cell, blocks, .. } in &group.spills {
                cell.clear();
                blocks.clear();
            }
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

    /// Of the numbers of presence bits: they lie in the groups.
    pub(crate) fn extent_of_bits(&self) -> Extent {
        Extent::default()
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
    pub(crate) fn own(self, counter: usize) -> Option<&'a AtomicU32> {
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
