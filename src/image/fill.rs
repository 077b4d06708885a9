//! Fills areas and their index with the ids of an image, on threads: [`Reader::fill`].
//!
//! The types are starting, so no other thread knows of their areas. The threads share the number of the next
//! claim, which only grows. Each claim is written by the thread that took it.

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
    /// Reads the ids of each type into its area, and makes the index. No other thread knows of the areas.
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
                    chunks: area.chunks(),
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

/// Starts a type of the image in this table. The type is not on yet, and no other thread can use it.
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
    match records.file(ty).begin(max_pages, records.pages()) {
        Ok(Some(starting)) => Ok(starting),
        Ok(None) => Err(SwaponError::TypeOn { ty }),
        Err(Refused { bytes }) => Err(SwaponError::OutOfMemory {
            ty,
            max_pages,
            bytes,
        }),
    }
}

/// The number of units that a thread claims at a time: the units of the 64 regions that share a word of
/// presence bits, and at least one.
const CLAIM: usize = if 64 * REGION_ENTRIES > UNIT {
    64 * REGION_ENTRIES / UNIT
} else {
    1
};

/// A type of the image, and the area that receives its ids.
struct To<'a> {
    of: &'a TypeAt,
    chunks: &'a Zeroed<Entries>,
    index: regions::Index<'a>,
}

impl To<'_> {
    fn claims(&self) -> usize {
        // The table has an area of that size.
        usize::try_from(self.of.units().div_ceil(CLAIM as u64)).unwrap_or(usize::MAX)
    }
}

/// The state that the threads share.
struct Job<'a, 'b> {
    reader: &'a Reader<'b>,
    backend: Backend,
    types: Vec<To<'a>>,
    /// The first claim that no thread has taken, counted over all types.
    next: AtomicUsize,
    claims: usize,
    /// The first error.
    result: Mutex<Result<(), ImageError>>,
}

impl Job<'_, '_> {
    fn run(self, threads: usize) -> Result<(), ImageError> {
        thread::scope(|scope| {
            for _ in 1..threads {
                // The threads that were started do all the work.
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
            // After an error, the other threads take no more claims.
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
        // A thread that reads a cell that is written below also sees the generation of this state.
        fence(Ordering::Release);
        loop {
            let claim = |next: usize| (next < self.claims).then_some(next + 1);
            // Relaxed: it only deals out units.
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

    /// Reads the units of a claim. Units that were read are in the index even if a later unit is wrong: the
    /// index may be needed to clear them again.
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
    /// Puts the ids of a unit, in the byte order of the file, into the area and the index. Returns the word
    /// of presence bits that is still to be stored.
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
                // Chunks without a record are not touched, since they may not have taken memory yet.
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
