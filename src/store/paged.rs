//! Keeps the memory of an area in pages, which are made when a slot is first written.
//!
//! Entries come in chunks, a page each. Cells come in pages of a block of 64 counters for a *group* of 16
//! regions, bitmaps in pages of 2048 counters for a group, 16 bits each. So a group whose owners lie side by
//! side takes four pages and its 256 chunks. One of the four pages points to the others.
//!
//! **Invariant 14: where a chunk is, the bitmaps of its group are**: [`Chunks::make`] comes after
//! [`Cells::make`](super::Cells::make). So an operation that
//! moves a record, which is in a chunk, to another id finds the bit for that id, and makes nothing.
//!
//! **Invariant 15: an id is counted in its own cell, or in its region's spill cell.** A cell's page may be
//! missing when a migration gives records to an id that has none in the group yet. A migration must not
//! allocate. So it *spills* the *block* of the id in that region: the entries of all counters of the block
//! are counted together in the *spill cell* of the region, which is always there. Their counters are noted as
//! shared before that ([`Shared`](crate::shared::Shared)), so questions about them are answered by a look at
//! the entries, as for ids that share a counter. While a block is spilled, its own cells in the region are
//! zero, so that no record takes the usual way. The next record of an id of the block in the region makes the
//! page and counts the entries anew ([`Cells::settle`](super::Cells::settle)). All of this happens under the
//! region's lock, except that pages are made before it is taken.

use core::iter;
use core::ops::Range;

use alloc::boxed::Box;

use super::bits::{BitPage, HALVES};
use super::place::{Place, clear, extent, look, made_now, make, places, unmake};
use crate::cell::{BLOCK, COUNTERS};
use crate::footprint::Extent;
use crate::pages::{PAGE_SIZE, Pages};
use crate::region::{CHUNK_ENTRIES, REGION_ENTRIES};
use crate::storage::Refused;
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The entries in a page.
type Chunk = [AtomicU16; CHUNK_ENTRIES];

/// The number of chunks in a region.
pub(super) const CHUNKS: usize = REGION_ENTRIES / CHUNK_ENTRIES;

/// The number of regions that share pages of cells and bitmaps.
pub(super) const GROUP: usize = if cfg!(swap_records_loom) { 2 } else { 16 };

/// The cells of a block of counters in each region of a group.
pub(super) type CellPage = [AtomicU32; GROUP * BLOCK];

/// The number of blocks of counters.
pub(super) const BLOCKS: usize = COUNTERS / BLOCK;

const _: () = assert!(size_of::<u16>() * CHUNK_ENTRIES <= PAGE_SIZE);
const _: () = assert!(BLOCKS <= u64::BITS as usize);

/// Points to the pages of 16 regions. One look at a group serves an entry and its cells.
#[repr(C)]
pub(crate) struct Group {
    pub(super) chunks: [[Place<Chunk>; CHUNKS]; GROUP],
    pub(super) cells: [Place<CellPage>; BLOCKS],
    pub(super) bits: [Place<BitPage>; HALVES],
    /// Of each region, the blocks that are spilled (invariant 15), a bit each.
    pub(super) spilled: [AtomicU64; GROUP],
    /// Of each region, the cell that counts the entries of these blocks.
    pub(super) spills: [AtomicU32; GROUP],
    /// Of each region, how many presence bits are set. They lie here since there is room.
    pub(super) set: [AtomicU16; GROUP],
}

// The number fits.
const _: () = assert!(COUNTERS <= u16::MAX as usize);

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
            bits: Zero::zero(),
            spilled: Zero::zero(),
            spills: Zero::zero(),
            set: Zero::zero(),
        }
    }
}

/// The pages of an area: its entries, cells and bitmaps, so far as they were written.
pub(crate) struct Chunks {
    groups: Box<[Place<Group>]>,
    pub(super) regions: usize,
    /// The number of pages of entries, of cells and groups, and of bitmaps.
    entries: AtomicU64,
    pub(super) index: AtomicU64,
    pub(super) bits: AtomicU64,
    pub(super) pages: Pages,
}

/// The most regions of an area: 256 TiB of swap. The first table of pointers then takes 1 MiB.
const MAX_REGIONS: usize = 1 << 21;

/// The chunks of one region; `None` where no chunk of its group is there.
pub(crate) type InRegion<'a> = Option<&'a [Place<Chunk>; CHUNKS]>;

impl Chunks {
    /// Makes the table of groups for `regions` regions, all of which read as zeroes.
    pub(crate) fn of_regions(regions: usize, pages: Pages) -> Result<Self, Refused> {
        if regions > MAX_REGIONS {
            let bytes = regions.saturating_mul(REGION_ENTRIES * size_of::<u16>());
            return Err(Refused { bytes });
        }
        let zero = || made_now(AtomicU64::new(0), |nr| _ = nr.load(Ordering::Relaxed));
        Ok(Self {
            groups: places(regions.div_ceil(GROUP))?,
            regions,
            entries: zero(),
            index: zero(),
            bits: zero(),
            pages,
        })
    }

    /// Returns the group of this region, if it is there.
    #[inline(always)]
    pub(super) fn group(&self, region: usize) -> Option<&Group> {
        look(self.groups.get(region / GROUP)?)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter_map(look)
    }

    #[inline(never)]
    pub(super) fn make_group(&self, region: usize) -> Result<&Group, Refused> {
        let past = Refused { bytes: usize::MAX };
        let place = self.groups.get(region / GROUP).ok_or(past)?;
        make(place, self.pages, &self.index)
    }

    /// Returns the entries of a region; `None` past the end of the area.
    #[inline]
    pub(crate) fn region(&self, region: usize) -> Option<InRegion<'_>> {
        (region < self.regions).then(|| Some(&self.group(region)?.chunks[region % GROUP]))
    }

    /// Returns a chunk by its number in the area.
    #[inline(never)]
    fn chunk(&self, index: usize) -> Option<&Chunk> {
        let region = index / CHUNKS;
        look(&self.group(region)?.chunks[region % GROUP][index % CHUNKS])
    }

    /// Returns the entry at this offset; `None` past the end, or if its chunk is missing.
    #[inline(always)]
    pub(crate) fn entry(&self, offset: usize) -> Option<&AtomicU16> {
        Some(&self.chunk(offset / CHUNK_ENTRIES)?[offset % CHUNK_ENTRIES])
    }

    /// Returns the entries of an aligned block of slots, if all of them are there in one chunk.
    #[inline(always)]
    pub(crate) fn block(&self, offsets: Range<usize>) -> &[AtomicU16] {
        let first = offsets.start % CHUNK_ENTRIES;
        let chunk = self.chunk(offsets.start / CHUNK_ENTRIES);
        chunk
            .and_then(|chunk| chunk.get(first..first + offsets.len()))
            .unwrap_or_default()
    }

    /// Returns the parts of these entries that are there, in order, each with the offset of its first entry.
    pub(crate) fn parts(
        &self,
        offsets: Range<usize>,
    ) -> impl Iterator<Item = (usize, &[AtomicU16])> {
        within(offsets, |chunk| self.chunk(chunk))
    }

    /// Returns whether this entry can be written.
    #[inline]
    pub(crate) fn has(&self, offset: usize) -> bool {
        self.chunk(offset / CHUNK_ENTRIES).is_some()
    }

    /// Makes the chunk of this entry, after the bits of its group (invariant 14).
    #[inline(never)]
    pub(crate) fn make(&self, offset: usize) -> Result<(), Refused> {
        let (region, chunk) = (offset / REGION_ENTRIES, offset / CHUNK_ENTRIES);
        let place = &self.make_group(region)?.chunks[region % GROUP][chunk % CHUNKS];
        make(place, self.pages, &self.entries).map(drop)
    }

    /// Makes all entries zero, and keeps their pages for the next swapon.
    #[must_use]
    pub(crate) fn give_back(&self, _used: usize) -> bool {
        for group in self.groups() {
            clear(group.chunks.as_flattened());
        }
        true
    }

    /// Does nothing: pages are kept.
    pub(crate) fn emptied(&self) {}

    /// Returns true: no other program writes to these entries.
    pub(crate) fn is_own(&self) -> bool {
        true
    }

    pub(crate) fn extent(&self) -> Extent {
        let root = Extent::resident(size_of_val(&*self.groups));
        extent(&self.entries).and(root)
    }

    /// Gives back all pages, also those of cells and bitmaps. Returns their number.
    ///
    /// # Safety
    ///
    /// No other thread may use the pages during the call, and no reference to them may still be used.
    #[inline(never)]
    pub(super) unsafe fn trim(&self) -> u64 {
        let mut freed = 0;
        for group in self.groups() {
            // SAFETY: the caller's promise.
            freed += unsafe { unmake(group.chunks.as_flattened(), self.pages, &self.entries) };
            // SAFETY: the caller's promise.
            freed += unsafe { unmake(&group.cells, self.pages, &self.index) };
            // SAFETY: the caller's promise.
            freed += unsafe { unmake(&group.bits, self.pages, &self.bits) };
        }
        // SAFETY: the caller's promise.
        freed + unsafe { unmake(&self.groups, self.pages, &self.index) }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        // SAFETY: it is dropped, so nothing else uses the pages.
        unsafe { self.trim() };
    }
}

/// Returns the parts of a range that are there, chunk by chunk.
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

/// Returns a chunk of a region.
#[inline]
fn chunk(of: InRegion<'_>, index: usize) -> Option<&Chunk> {
    look(of?.get(index)?)
}

/// Returns the entry at this position; `None` if its chunk is missing.
#[inline]
pub(crate) fn entry(of: InRegion<'_>, position: usize) -> Option<&AtomicU16> {
    Some(&chunk(of, position / CHUNK_ENTRIES)?[position % CHUNK_ENTRIES])
}

/// Returns the parts of these entries that are there, in order, each with the position of its first entry.
/// Missing entries are 0.
pub(crate) fn parts(
    of: InRegion<'_>,
    positions: Range<usize>,
) -> impl Iterator<Item = (usize, &[AtomicU16])> {
    within(positions, move |index| chunk(of, index))
}

/// Returns these entries, if they lie side by side.
#[inline]
pub(crate) fn whole(of: InRegion<'_>, positions: Range<usize>) -> Option<&[AtomicU16]> {
    let first = positions.start % CHUNK_ENTRIES;
    let chunk = chunk(of, positions.start / CHUNK_ENTRIES)?;
    chunk.get(first..first + positions.len())
}
