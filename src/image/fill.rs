//! From the ids of an image to areas with an index, on threads: [`Reader::fill`].
//!
//! The types are starting: nobody else knows of their areas. The threads share the number of the next claim, which only
//! grows; what a claim is, is written by the one thread that has it.

use core::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::vec::Vec;

use lock_api::RawMutex;

use super::error::ImageError;
use super::format::{TypeAt, UNIT};
use super::read::Reader;
use super::room;
use crate::error::SwaponError;
use crate::rebuild::Rebuild;
use crate::region::{CHUNK_ENTRIES, Entries, REGION_ENTRIES};
use crate::regions;
use crate::scan::Backend;
use crate::storage::{Refused, Zeroed};
use crate::swapfile::Starting;
use crate::sync::{Ordering, fence};
use crate::table::{MAX_PAGES, SwapRecords};

impl Reader<'_> {
    /// Reads the ids of each type into its area, which nobody else knows of, and makes the index.
    pub(super) fn fill<L: RawMutex>(
        &self,
        files: &[Starting<'_, L>],
        backend: Backend,
    ) -> Result<(), ImageError> {
        let types = self.index().layout.types.iter().zip(files);
        let types: Vec<_> = types
            .filter_map(|(of, starting)| {
                let area = starting.area()?;
                Some(To {
                    of,
                    chunks: &area.chunks,
                    index: area.regions.index(),
                })
            })
            .collect();
        let claims = types.iter().map(To::claims).sum();
        let job = Job {
            reader: self,
            backend,
            types,
            next: AtomicUsize::new(0),
            claims,
            result: Mutex::new(Ok(())),
        };
        job.run(self.most_threads().min(claims))
    }
}

/// A type of the image in this table: not on yet, and nobody else's.
pub(super) fn begin<'t, L: RawMutex>(
    records: &'t SwapRecords<L>,
    of: &TypeAt,
) -> Result<Starting<'t, L>, SwaponError> {
    let (ty, max_pages) = (of.ty, of.max_pages);
    let limit = MAX_PAGES;
    if max_pages > limit {
        return Err(SwaponError::TooLarge {
            ty,
            max_pages,
            limit,
        });
    }
    match records.file(ty).begin(max_pages) {
        Ok(Some(starting)) => Ok(starting),
        Ok(None) => Err(SwaponError::TypeOn { ty }),
        Err(Refused { bytes }) => Err(SwaponError::OutOfMemory {
            ty,
            max_pages,
            bytes,
        }),
    }
}

/// Units that a thread takes at a time: those of as many regions as share a word of presence bits, and at least one.
const CLAIM: usize = if 64 * REGION_ENTRIES > UNIT {
    64 * REGION_ENTRIES / UNIT
} else {
    1
};

/// A type of the image, and the area that it goes to.
struct To<'a> {
    of: &'a TypeAt,
    chunks: &'a Zeroed<Entries>,
    index: regions::Index<'a>,
}

impl To<'_> {
    fn claims(&self) -> usize {
        // A table of that size was made.
        usize::try_from(self.of.units().div_ceil(CLAIM as u64)).unwrap_or(usize::MAX)
    }
}

/// What the threads share.
struct Job<'a, 'b> {
    reader: &'a Reader<'b>,
    backend: Backend,
    types: Vec<To<'a>>,
    /// The first claim that no thread has, counted over all types.
    next: AtomicUsize,
    claims: usize,
    /// The first error.
    result: Mutex<Result<(), ImageError>>,
}

impl Job<'_, '_> {
    fn run(self, threads: usize) -> Result<(), ImageError> {
        thread::scope(|scope| {
            for _ in 1..threads {
                // Those that there are do it.
                let thread = thread::Builder::new().spawn_scoped(scope, || self.take_part());
                if thread.is_err() {
                    break;
                }
            }
            self.take_part();
        });
        self.result
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take_part(&self) {
        if let Err(error) = self.work() {
            // The others have nothing to do any more.
            self.next.store(self.claims, Ordering::Relaxed);
            let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
            if result.is_ok() {
                *result = Err(error);
            }
        }
    }

    fn work(&self) -> Result<(), ImageError> {
        let refused = |Refused { bytes }| ImageError::OutOfMemory { bytes };
        let mut rebuild = Rebuild::new().map_err(refused)?;
        let mut ids = room(UNIT)?;
        ids.resize(UNIT, 0);
        // A thread that reads a cell that is written from now on sees the generation of this state.
        fence(Ordering::Release);
        loop {
            let claim = |next: usize| (next < self.claims).then_some(next + 1);
            // Relaxed: it deals out units.
            let claimed = self
                .next
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim);
            let Ok(mut claim) = claimed else {
                return Ok(());
            };
            for to in &self.types {
                let claims = to.claims();
                if claim < claims {
                    let first = claim * CLAIM;
                    self.fill(to, first as u64, &mut ids, &mut rebuild)?;
                    break;
                }
                claim -= claims;
            }
        }
    }

    /// Reads the units of a claim. What was read is in the index, also where a later unit is wrong: it may be by the
    /// index that it is cleared again.
    fn fill(
        &self,
        to: &To<'_>,
        first: u64,
        ids: &mut [u16],
        rebuild: &mut Rebuild,
    ) -> Result<(), ImageError> {
        let end = to.of.units().min(first + CLAIM as u64);
        let mut word = None;
        for unit in first..end {
            match self.reader.read_unit(self.backend, (to.of, unit), ids) {
                Ok(ids) => word = to.put(unit, ids, rebuild).or(word),
                Err(error) => {
                    to.end_word(word, rebuild);
                    return Err(error);
                }
            }
        }
        to.end_word(word, rebuild);
        Ok(())
    }
}

impl To<'_> {
    /// Puts the ids of a unit, as they are in the file, into the area, and into the index but for presence bits of the
    /// word that it gives.
    fn put(&self, unit: u64, ids: &mut [u16], rebuild: &mut Rebuild) -> Option<usize> {
        if cfg!(target_endian = "big") {
            ids.iter_mut().for_each(|id| *id = u16::from_le(*id));
        }
        let first = usize::try_from(unit).ok()? * (UNIT / REGION_ENTRIES);
        let mut word = None;
        for (region, ids) in (first..).zip(ids.chunks(REGION_ENTRIES)) {
            if word.is_some_and(|word| word != region / 64) {
                self.end_word(word.take(), rebuild);
            }
            let entries = self.chunks.get(region)?;
            let mut any = false;
            for (chunk, ids) in ids.chunks(CHUNK_ENTRIES).enumerate() {
                // What has no record is not touched: it may cost no memory yet.
                if *ids == [0; CHUNK_ENTRIES][..ids.len()] {
                    continue;
                }
                any = true;
                let entries = &entries[chunk * CHUNK_ENTRIES..][..ids.len()];
                for (entry, &id) in entries.iter().zip(ids) {
                    entry.store(id, Ordering::Relaxed);
                }
                rebuild.add(chunk * CHUNK_ENTRIES, entries);
            }
            if any {
                rebuild.store(self.index, region);
                word = Some(region / 64);
            }
        }
        word
    }

    fn end_word(&self, word: Option<usize>, rebuild: &mut Rebuild) {
        if let Some(word) = word {
            rebuild.store_bits(self.index, word);
        }
    }
}
