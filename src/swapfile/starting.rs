//! A swapfile that is filled before it is on.
//!
//! It stays in state 1 until it is [published](Starting::publish). So no operation finds it before all of its
//! records are there, with their index. The one exception is a lookup that began before an earlier swapoff:
//! it may see a record already, since it reads the area without a check of the generation.

use core::mem;

use lock_api::RawMutex;

use super::{OFF, ON, SwapFile};
use crate::area::Area;
use crate::pages::Pages;
use crate::region::REGION_ENTRIES;
use crate::storage::Refused;
use crate::sync::{Ordering, fence};

/// A swapfile in state 1. Only the owner of this value may change its state. If the value is dropped, the
/// swapfile is off again, and empty.
pub(crate) struct Starting<'a, L: RawMutex> {
    file: &'a SwapFile<L>,
    area: *mut Area<L>,
    /// The generation of the state off before.
    off: u64,
    max_pages: u64,
}

impl<L: RawMutex> SwapFile<L> {
    /// Advances from state 0 to 1, with an empty area for this number of pages. Returns `Ok(None)` if the
    /// type is not off.
    pub(crate) fn begin(
        &self,
        max_pages: u64,
        pages: Pages,
    ) -> Result<Option<Starting<'_, L>>, Refused> {
        let off = self.generation.load(Ordering::Relaxed);
        if off % 4 != OFF || !self.advance(off) {
            return Ok(None);
        }
        let regions = regions_of(max_pages).and_then(usize::checked_next_power_of_two);
        let refused = Refused { bytes: usize::MAX };
        let area = regions
            .ok_or(refused)
            .and_then(|all| self.area_of(all, pages));
        match area {
            Ok(area) => Ok(Some(Starting {
                file: self,
                area,
                off,
                max_pages,
            })),
            Err(refused) => {
                self.generation.store(off + 4, Ordering::Release);
                Err(refused)
            }
        }
    }
}

fn regions_of(max_pages: u64) -> Option<usize> {
    usize::try_from(max_pages.div_ceil(REGION_ENTRIES as u64)).ok()
}

impl<L: RawMutex> Starting<'_, L> {
    /// Advances to state 2.
    pub(crate) fn publish(self) {
        let file = self.file;
        file.max_pages.store(self.max_pages, Ordering::Release);
        file.current.store(self.area, Ordering::Release);
        file.generation.store(self.off + ON, Ordering::Release);
        mem::forget(self);
    }

    /// Returns the area that will hold the records. It is zero at first. The index must count what is stored
    /// there when this is published or dropped.
    pub(crate) fn area(&self) -> Option<&Area<L>> {
        self.file.area(self.area)
    }
}

impl<L: RawMutex> Drop for Starting<'_, L> {
    #[cold]
    fn drop(&mut self) {
        if let (Some(area), Some(regions)) = (self.area(), regions_of(self.max_pages)) {
            // As in a swapoff: a thread that sees an entry cleared also sees the changed generation.
            fence(Ordering::Release);
            area.discard(regions);
        }
        self.file.generation.store(self.off + 4, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Region;
    use crate::sync::RawSpinLock;

    #[test]
    fn a_swapfile_that_starts_is_not_found_until_it_is_published() {
        let file = SwapFile::<RawSpinLock>::new();
        let starting = file.begin(10, Pages::GLOBAL).unwrap().unwrap();
        assert!(file.on().is_none() && file.swapoff().is_none());
        assert!(
            file.begin(10, Pages::GLOBAL).unwrap().is_none()
                && !file.swapon(10, Pages::GLOBAL).unwrap()
        );
        let area = starting.area().unwrap();
        Region::lock(&area.regions, 0, &area.chunks()[0], 10).set(7, 9);
        assert_eq!(file.lookup(7), 0);
        starting.publish();
        assert_eq!((file.lookup(7), file.on().unwrap().max_pages()), (9, 10));
        assert_eq!(file.swapoff(), Some(1));
    }

    #[test]
    fn a_swapfile_that_starts_and_is_dropped_is_off_and_empty() {
        let file = SwapFile::<RawSpinLock>::new();
        for _ in 0..2 {
            let starting = file.begin(10, Pages::GLOBAL).unwrap().unwrap();
            let area = starting.area().unwrap();
            Region::lock(&area.regions, 0, &area.chunks()[0], 10).set(7, 9);
            drop(starting);
            assert!(file.on().is_none());
            // The same size takes the same area.
            assert!(file.swapon(10, Pages::GLOBAL).unwrap());
            assert_eq!(file.lookup(7), 0);
            assert_eq!(file.swapoff(), Some(0));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri aborts where an allocator would refuse")]
    fn a_swapfile_that_is_refused_is_off() {
        let file = SwapFile::<RawSpinLock>::new();
        assert!(file.begin(1 << 50, Pages::GLOBAL).is_err());
        assert!(file.on().is_none() && file.swapon(1, Pages::GLOBAL).unwrap());
    }
}
