//! Turns a swapfile on whose entries are those of a file.
//!
//! It goes through the same states as any other swapfile. In state 1, it takes the file's lock, finds or
//! makes the map of the file, and makes the index. That takes no lock of a region, and calls the caller's
//! progress callback. If one of these fails or unwinds, [`Starting`] goes to state 4, with an empty index,
//! and releases the file. Its map stays (invariant 7).

use core::{mem, ptr};
use std::fs::File;
use std::io;

use lock_api::RawMutex;

use super::{OFF, SwapFile};
use crate::area::Area;
use crate::file::FileError;
use crate::rebuild::{Failed, Found, Progress};
use crate::region::{Entries, REGION_ENTRIES};
use crate::regions::Regions;
use crate::storage::file::{Locked, Map};
use crate::storage::{Refused, Slot, Zeroed};
use crate::sync::{Ordering, fence};

/// Why a swapfile was not turned on with a file.
#[derive(Debug)]
pub(crate) enum NotOn {
    /// The type is on, or another thread is turning it on or off.
    On,
    Refused(Refused),
    File(FileError),
    /// The file has this number of records, and must not have any.
    Records(u64),
}

impl From<Refused> for NotOn {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<FileError> for NotOn {
    fn from(why: FileError) -> Self {
        Self::File(why)
    }
}

/// How to make the index.
pub(crate) struct Options<'a> {
    pub(crate) threads: usize,
    pub(crate) progress: Option<&'a mut dyn FnMut(Progress)>,
    /// Whether to refuse a file that has records.
    pub(crate) empty: bool,
}

impl<L: RawMutex> SwapFile<L> {
    /// Turns the type on with the records that are in the file.
    pub(crate) fn swapon_file(
        &self,
        max_pages: u64,
        file: &File,
        options: Options<'_>,
    ) -> Result<Found, NotOn> {
        let off = self.generation.load(Ordering::Relaxed);
        if off % 4 != OFF || !self.advance(off) {
            return Err(NotOn::On);
        }
        let mut starting = Starting {
            file: self,
            off,
            area: None,
        };
        let locked = Locked::new(file, max_pages)?;
        let half_emptied = locked.is_half_emptied();
        let area = self.area_of_file(max_pages, locked)?;
        starting.area = Some(area);
        if half_emptied {
            empty(area.chunks()).map_err(FileError::io("writing the header of"))?;
        }
        let pages = usize::try_from(max_pages);
        let pages = pages.map_err(|_| Refused { bytes: usize::MAX })?;
        let found = area.rebuild(pages, options.threads, options.progress);
        let found = found.map_err(|failed| match failed {
            Failed::Refused(refused) => NotOn::Refused(refused),
            Failed::PastEnd { offset, id } => NotOn::File(FileError::PastEnd {
                slot: offset as u64,
                found: id,
                max_pages,
            }),
        })?;
        if options.empty && found.records > 0 {
            return Err(NotOn::Records(found.records));
        }
        mem::forget(starting);
        self.publish(off, max_pages, ptr::from_ref(area).cast_mut());
        Ok(found)
    }

    /// Returns the area of this file, and makes it if there is none. Its index is empty, and it has the
    /// file's lock. Called in state 1.
    fn area_of_file(&self, max_pages: u64, locked: Locked) -> Result<&Area<L>, NotOn> {
        let mut next = self.areas.load(Ordering::Acquire);
        while let Some(area) = self.area(next) {
            if let Some(map) = area.chunks().file()
                && map.identity() == locked.identity()
            {
                map.take(locked);
                return Ok(area);
            }
            next = area.next.load(Ordering::Acquire);
        }
        let area = Area::with::<NotOn>(|| {
            let regions = usize::try_from(max_pages.div_ceil(REGION_ENTRIES as u64));
            let regions = regions.ok().and_then(usize::checked_next_power_of_two);
            let regions = regions.ok_or(Refused { bytes: usize::MAX })?;
            let chunks = Zeroed::of_file(locked).map_err(|error| match error.kind() {
                io::ErrorKind::OutOfMemory => NotOn::Refused(Refused {
                    bytes: regions.saturating_mul(size_of::<Entries>()),
                }),
                _ => FileError::io("mapping")(error).into(),
            })?;
            Ok(Regions::new(regions, chunks)?)
        })?;
        let area = self.area(self.keep(area));
        area.ok_or(NotOn::On)
    }
}

/// Finishes a swapoff whose process was killed. There is no index that tells where the records are. Fails if
/// the header cannot be written: it would still say that the file is to be emptied, and the next process
/// would drop what is recorded from now on.
fn empty(chunks: &Zeroed<Entries>) -> io::Result<()> {
    if !chunks.give_back(chunks.len()) {
        let mut data = 0..0;
        let bytes = size_of_val(&**chunks);
        while data.end < bytes {
            data = chunks.next_data(data.end);
            let entries = data.start / 2..data.end.div_ceil(2);
            chunks.as_flattened()[entries].iter().for_each(Slot::clear);
        }
    }
    chunks.file().map_or(Ok(()), Map::emptied)
}

/// Takes a swapfile that was not turned on to state 4 when dropped.
struct Starting<'a, L: RawMutex> {
    file: &'a SwapFile<L>,
    off: u64,
    area: Option<&'a Area<L>>,
}

impl<L: RawMutex> Drop for Starting<'_, L> {
    #[cold]
    fn drop(&mut self) {
        if let Some(area) = self.area {
            // As in a swapoff: a thread that sees a cell cleared also sees the changed generation.
            fence(Ordering::Release);
            area.regions.discard();
            if let Some(map) = area.chunks().file() {
                map.release();
            }
        }
        self.file.generation.store(self.off + 4, Ordering::Release);
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::file::RecordFile;
    use crate::pages::Pages;
    use crate::sync::RawSpinLock;

    const PAGES: u64 = 3 * REGION_ENTRIES as u64 - 7;

    fn on(file: &RecordFile) -> (SwapFile<RawSpinLock>, Found) {
        let swapfile = SwapFile::new();
        let options = Options {
            empty: false,
            threads: 1,
            progress: None,
        };
        let found = swapfile.swapon_file(PAGES, file.file(), options).unwrap();
        (swapfile, found)
    }

    fn set(swapfile: &SwapFile<RawSpinLock>, offset: usize, id: u16) {
        let on = swapfile.on().unwrap();
        on.lock_of(offset).unwrap().set(offset % REGION_ENTRIES, id);
    }

    fn is_empty(chunks: &Zeroed<Entries>) -> bool {
        let mut all = chunks.as_flattened().iter();
        all.all(|entry| entry.load(Ordering::Relaxed) == 0)
    }

    const SOME: [usize; 5] = [0, 1, 5000, REGION_ENTRIES + 9, 3 * REGION_ENTRIES - 8];

    #[test]
    fn a_file_without_holes_is_cleared_by_the_index() {
        let file = RecordFile::memfd(PAGES).unwrap();
        let (swapfile, _) = on(&file);
        for (id, offset) in (1..).zip(SOME) {
            set(&swapfile, offset, id);
        }
        let chunks = &swapfile.on().unwrap().area.chunks();
        chunks.file().unwrap().refuse_holes();
        assert_eq!(swapfile.swapoff(), Some(5));
        assert!(is_empty(chunks));
        assert_eq!(on(&file).1, Found::default());
    }

    #[test]
    fn a_file_that_was_half_emptied_is_emptied_with_holes_and_without() {
        for holes in [true, false] {
            let file = RecordFile::memfd(PAGES).unwrap();
            let chunks = Zeroed::of_file(Locked::new(file.file(), PAGES).unwrap()).unwrap();
            for offset in SOME {
                chunks.as_flattened()[offset].store(9, Ordering::Relaxed);
            }
            if !holes {
                chunks.file().unwrap().refuse_holes();
            }
            // `refuse_holes` also refuses writes to the header.
            assert_eq!(empty(&chunks).is_ok(), holes);
            assert!(is_empty(&chunks));
            drop(chunks);
            assert_eq!(on(&file).1, Found::default());
        }
    }

    #[test]
    fn a_map_is_reused_for_its_own_file_only() {
        let files = [1, 2].map(|_| RecordFile::memfd(PAGES).unwrap());
        let (swapfile, _) = on(&files[0]);
        let first = ptr::from_ref(swapfile.on().unwrap().area);
        assert_eq!(swapfile.swapoff(), Some(0));
        let area_of = |file: &RecordFile| {
            let options = Options {
                empty: false,
                threads: 1,
                progress: None,
            };
            swapfile.swapon_file(PAGES, file.file(), options).unwrap();
            let area = ptr::from_ref(swapfile.on().unwrap().area);
            swapfile.swapoff().unwrap();
            area
        };
        assert_ne!(area_of(&files[1]), first);
        assert_eq!(area_of(&files[0]), first);
        // The area is not reused for an anonymous swapfile with as many regions.
        assert!(swapfile.swapon(PAGES, Pages::GLOBAL).unwrap());
        assert!(swapfile.on().unwrap().area.chunks().is_own());
    }
}
