//! [`Area`]: holds the memory of one size of swapfile, and empties it.

use core::mem::MaybeUninit;
use core::ptr;

use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;
use lock_api::RawMutex;

use crate::cell::Tally;
use crate::pages::Pages;
use crate::region::REGION_ENTRIES;
use crate::regions::Regions;
use crate::storage::{Refused, Slot};
use crate::store::Chunks;
use crate::sync::{AtomicPtr, AtomicU16, Ordering};

/// Holds the records of a swapfile of up to `regions.len()` regions.
///
/// Every record reads the area, so its cache lines must not be written. An allocator may place other data,
/// such as the locks, in the same line: two threads were then slower by a fifth. The alignment is 128 bytes,
/// two lines, which processors fetch together.
#[repr(align(128))]
pub(crate) struct Area<L> {
    pub(crate) regions: Regions<L>,
    /// Another area of the same type, of another size or of a file.
    pub(crate) next: AtomicPtr<Area<L>>,
}

impl<L> Area<L> {
    /// Returns the table: page-sized chunks, one after the other, by region. Entries past `max_pages` are
    /// zero. A table in a file has only the regions of the file, while `regions` is rounded up.
    #[inline(always)]
    pub(crate) fn chunks(&self) -> &Chunks {
        self.regions.chunks()
    }
}

impl<L: RawMutex> Area<L> {
    /// Makes an empty area. If memory is refused, all of it is given back.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn new(regions: usize, pages: Pages) -> Result<Box<Self>, Refused> {
        Self::with(|| {
            let chunks = Chunks::of_regions(regions, pages)?;
            Regions::new(regions, chunks)
        })
    }

    /// Makes an area with these entries and this index.
    pub(crate) fn with<E: From<Refused>>(
        regions: impl FnOnce() -> Result<Regions<L>, E>,
    ) -> Result<Box<Self>, E> {
        // The box may be refused. It comes first, so that no locks are written if it is.
        // SAFETY: an area has a size.
        let place = unsafe { alloc(Layout::new::<Self>()) }.cast::<MaybeUninit<Self>>();
        if place.is_null() {
            let bytes = size_of::<Self>();
            return Err(Refused { bytes }.into());
        }
        // SAFETY: it was allocated with the layout of an area, and may hold anything.
        let place = unsafe { Box::from_raw(place) };
        let next = AtomicPtr::new(ptr::null_mut());
        let regions = regions()?;
        Ok(Box::write(place, Self { regions, next }))
    }

    /// Makes all entries, cells and presence bits zero. The first `used` regions were in use; no thread
    /// writes to them any more.
    ///
    /// The memory goes back to the system if the system takes it. Otherwise the entries with a record are
    /// cleared, and nothing else is touched: by invariant 2 the rest is zero.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn discard(&self, used: usize) {
        // The index is needed until the entries are cleared.
        if !self.chunks().give_back(used) {
            self.clear_entries();
        }
        self.regions.discard();
        self.chunks().emptied();
    }

    /// Gives back the pages of the table and of its index, if they came from a page source. Returns their
    /// number. Memory that `swapon` takes at once stays.
    ///
    /// # Safety
    ///
    /// The type must be off, and must stay off during the call. No operation that began before it was turned
    /// off may be under way (invariant 13).
    pub(crate) unsafe fn trim(&self) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { self.regions.trim() }
    }

    /// Clears each entry that has a record. Some may have been cleared already.
    fn clear_entries(&self) {
        let presence = self.regions.presence();
        // As many regions at a time as share a word of the bitmaps, so that each word is read once.
        for word in 0..presence.words_a_counter() {
            let mut left = [0; 64];
            for counter in presence.counters() {
                for region in presence.in_word(counter, word) {
                    let tally = self.regions.tally(region, counter);
                    match tally.last_without(Tally::default()) {
                        Some(only) => {
                            let entry = self.chunks().entry(region * REGION_ENTRIES + only);
                            entry.into_iter().for_each(Slot::clear);
                        }
                        None => left[region % 64] += tally.count,
                    }
                }
            }
            for (bit, &left) in left.iter().enumerate().filter(|&(_, &left)| left > 0) {
                let first = (word * 64 + bit) * REGION_ENTRIES;
                let entries = self.chunks().parts(first..first + REGION_ENTRIES);
                clear_some(entries.flat_map(|(_, entries)| entries), left);
            }
        }
    }
}

/// Clears the first `nr` entries that are not zero. It stops there, because memory behind them may never have
/// been touched.
fn clear_some<'a>(entries: impl Iterator<Item = &'a AtomicU16>, mut nr: u32) {
    for entry in entries {
        if nr == 0 {
            return;
        }
        if entry.load(Ordering::Relaxed) != 0 {
            entry.clear();
            nr -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{COUNTERS, counter};
    use crate::region::Region;
    use crate::sync::RawSpinLock;
    use alloc::vec;
    use alloc::vec::Vec;

    fn area(regions: usize) -> Box<Area<RawSpinLock>> {
        Area::new(regions, Pages::GLOBAL).unwrap()
    }

    fn set(area: &Area<RawSpinLock>, region: usize, position: usize, id: u16) {
        area.regions.make(region, Some(counter(id))).unwrap();
        area.chunks()
            .make(region * REGION_ENTRIES + position)
            .unwrap();
        let entries = area.chunks().region(region).unwrap();
        let region = Region::lock(&area.regions, region, entries, REGION_ENTRIES);
        region.set(position, id).unwrap();
    }

    fn entry(area: &Area<RawSpinLock>, region: usize, position: usize) -> &AtomicU16 {
        area.chunks()
            .make(region * REGION_ENTRIES + position)
            .unwrap();
        area.chunks()
            .entry(region * REGION_ENTRIES + position)
            .unwrap()
    }

    /// The ids that are there, region by region.
    fn there(area: &Area<RawSpinLock>) -> Vec<u16> {
        let all = area.chunks().parts(0..4 * REGION_ENTRIES);
        let all = all.flat_map(|(_, entries)| entries);
        let ids = all.map(|entry| entry.load(Ordering::Relaxed));
        ids.filter(|&id| id != 0).collect()
    }

    #[test]
    fn what_the_index_names_is_cleared_and_nothing_else_is_looked_at() {
        let shared = 7 + u16::try_from(COUNTERS).unwrap();
        let area = area(4);
        for (region, position, id) in [
            (0, 0, 7),
            (0, REGION_ENTRIES - 1, 9),
            (1, 5, 7),
            (1, 6, shared),
            (1, 100, 7),
            (3, 2, shared),
        ] {
            set(&area, region, position, id);
        }
        // A region whose records are gone has a trace of them nowhere.
        set(&area, 2, 50, 7);
        set(&area, 2, 50, 0);
        // The index does not know this entry. It shows whether the code looks further than the index says.
        let strays = [(0, 17), (1, 101), (2, 50), (3, 1), (3, 3)];
        for (region, position) in strays {
            entry(&area, region, position).store(1, Ordering::Relaxed);
        }
        area.clear_entries();
        assert_eq!(there(&area), vec![1; strays.len()]);
        area.regions.clear_cells();
        area.regions.presence().discard();
        for counter in 0..COUNTERS {
            assert_eq!(area.regions.counted(counter), 0);
            for region in 0..4 {
                let cell = area.regions.tally(region, counter);
                assert_eq!(cell, Tally::default(), "region {region}, counter {counter}");
            }
        }
    }

    /// The system takes a part back and refuses the rest.
    #[test]
    fn what_is_given_back_in_part_is_cleared_in_whole() {
        let area = area(4);
        for position in [1, 2, 3, 900] {
            set(&area, 0, position % REGION_ENTRIES, 5);
        }
        set(&area, 0, 4, 6);
        set(&area, 1, 4, 6);
        for given_back in [(0, 2), (0, 4), (1, 4)] {
            entry(&area, given_back.0, given_back.1).store(0, Ordering::Relaxed);
        }
        area.clear_entries();
        assert_eq!(there(&area), []);
        area.regions.discard();
        set(&area, 0, 2, 5);
        assert_eq!(area.regions.counted(5), 1);
    }
}
