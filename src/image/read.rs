//! [`Reader`]: from an image to a table.

use core::fmt;
use core::sync::atomic::AtomicUsize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::vec::Vec;

use lock_api::RawMutex;

use super::error::ImageError;
use super::format::{TypeAt, UNIT};
use super::room;
use super::source::{Index, OnDisk, Source, read_unit};
use super::tree::{self, Restored};
use crate::entry::SwapType;
use crate::error::SwaponError;
use crate::rebuild::Rebuild;
use crate::region::{CHUNK_ENTRIES, Entries, REGION_ENTRIES};
use crate::regions;
use crate::scan::Backend;
use crate::storage::{Refused, Zeroed};
use crate::swapfile::Starting;
use crate::sync::{Ordering, fence};
use crate::table::{MAX_PAGES, SwapRecords};

/// An image that is to be read: a file, or bytes.
///
/// Opening one reads and checks all but the ids.
///
/// ```
/// use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType, image};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ty = SwapType::new(0).unwrap();
/// let (owner, entry) = (MemcgId::new(7).unwrap(), SwapEntry::new(ty, 4711).unwrap());
/// let records = SwapRecords::new();
/// records.swapon(ty, 1 << 20)?;
/// records.record(entry, owner)?;
/// let mut bytes = Vec::new();
/// image::write_to(&records, &mut bytes)?;
///
/// let reader = image::Reader::of(&bytes)?;
/// assert!(reader.types().eq([(ty, 1 << 20)]));
/// assert_eq!((reader.records(), reader.has_tree()), (1, false));
/// let again = reader.threads(2).table()?;
/// assert_eq!(again.lookup(entry), Some(owner));
/// # Ok(())
/// # }
/// ```
pub struct Reader<'b> {
    source: From<'b>,
    path: Option<PathBuf>,
    index: Index,
    threads: usize,
}

enum From<'b> {
    Bytes(&'b [u8]),
    Disk(OnDisk),
}

impl Source for From<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => Source::len(bytes),
            Self::Disk(file) => file.len(),
        }
    }

    fn read_at(&self, to: &mut [u8], offset: u64) -> std::io::Result<()> {
        match self {
            Self::Bytes(bytes) => bytes.read_at(to, offset),
            Self::Disk(file) => file.read_at(to, offset),
        }
    }
}

impl Reader<'static> {
    /// Opens an image in a file.
    ///
    /// The file is read and not mapped, so it may be replaced meanwhile: this one is read to its end. If it is written to,
    /// or cut, an error says so.
    ///
    /// # Errors
    ///
    /// [`ImageError`]: the file cannot be opened or read, or is no image that is whole.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let file = File::open(path).and_then(OnDisk::new);
        let file = file.map_err(ImageError::io("open the image", Some(path)))?;
        Self::new(From::Disk(file), Some(path)).map_err(|error| error.at(path))
    }
}

impl<'b> Reader<'b> {
    /// Opens an image in memory.
    ///
    /// # Errors
    ///
    /// [`ImageError`]: the bytes are no image that is whole.
    pub fn of(bytes: &'b [u8]) -> Result<Self, ImageError> {
        Self::new(From::Bytes(bytes), None)
    }

    fn new(source: From<'b>, path: Option<&Path>) -> Result<Self, ImageError> {
        let index = Index::read(&source)?;
        if !index.tree.is_empty() {
            let layout = &index.layout;
            tree::check(&index.tree, layout.tree, layout.tree_len)?;
        }
        Ok(Self {
            source,
            path: path.map(PathBuf::from),
            index,
            threads: 1,
        })
    }

    /// Reads on up to so many threads, this one among them. At first it is 1; 0 is as good as 1. One is of use for each
    /// [`REGION_ENTRIES`] * 64 slots: for each 4 MiB of the image.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The types of the image and their sizes in pages, lowest type first.
    pub fn types(&self) -> impl Iterator<Item = (SwapType, u64)> {
        let types = self.index.layout.types.iter();
        types.map(|of| (of.ty, of.max_pages))
    }

    /// How many records the image has, on all types.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.index.records
    }

    /// Whether there is a tree of cgroups in it.
    #[must_use]
    pub fn has_tree(&self) -> bool {
        !self.index.tree.is_empty()
    }

    /// Reads all ids, and checks that they are those that were written. Makes no table, and takes 64 KiB.
    ///
    /// # Errors
    ///
    /// [`ImageError`]: the file cannot be read, or says something else than what was written.
    pub fn verify(&self) -> Result<(), ImageError> {
        let mut ids = room(UNIT)?;
        ids.resize(UNIT, 0);
        for of in &self.index.layout.types {
            for unit in 0..of.units() {
                self.read_unit(Backend::detect(), (of, unit), &mut ids)?;
            }
        }
        Ok(())
    }

    fn read_unit<'i>(
        &self,
        backend: Backend,
        at: (&TypeAt, u64),
        to: &'i mut [u16],
    ) -> Result<&'i mut [u16], ImageError> {
        read_unit(&self.source, &self.index, backend, at, to).map_err(|error| self.say(error))
    }

    fn say(&self, error: ImageError) -> ImageError {
        match &self.path {
            Some(path) => error.at(path),
            None => error,
        }
    }

    /// Reads the image into a new table, in which its types are on.
    ///
    /// # Errors
    ///
    /// As of [`load`](Self::load).
    pub fn table(&self) -> Result<SwapRecords, ImageError> {
        let records = SwapRecords::new();
        self.load(&records)?;
        Ok(records)
    }

    /// Reads the image into a table in which its types are off, and turns them on: see [`read_into`](super::read_into). A
    /// tree is passed over.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn load<L: RawMutex>(&self, records: &SwapRecords<L>) -> Result<(), ImageError> {
        let mut files = room(self.index.layout.types.len())?;
        for of in &self.index.layout.types {
            files.push(begin(records, of)?);
        }
        self.fill(&files, records.backend())?;
        files.into_iter().for_each(Starting::publish);
        Ok(())
    }

    /// Makes a tree of cgroups from the image, and its table.
    ///
    /// Each cgroup of the image is there again, with its id, parent, limits and pages in memory, and online or offline as
    /// it was. Handles of the tree that was written are none of this one: [`Memcgs::find`](crate::memcg::Memcgs::find)
    /// gives those of an id.
    ///
    /// If others worked in the tree while it was written, cgroups and records may be of different moments:
    ///
    /// - An id that has records and is no cgroup of the image becomes a child of the root.
    /// - A page that was swapped out or in at that time may be there twice, in memory and as a record, or not at all.
    /// - A limit that is exceeded by then is raised to what is charged, and is named in [`Restored::raised`].
    ///
    /// ```
    /// use swap_records::memcg::{Memcgs, Resource};
    /// use swap_records::{RawSpinLock, SwapEntry, SwapType, image};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ty = SwapType::new(0).unwrap();
    /// let memcgs = Memcgs::new();
    /// memcgs.swapon(ty, 1000)?;
    /// let child = memcgs.create(memcgs.root())?;
    /// memcgs.set_limit(child, Resource::Memory, Some(100))?;
    /// memcgs.charge(child, 16)?;
    /// memcgs.swap_out(child, SwapEntry::new(ty, 0).unwrap(), 6)?;
    ///
    /// let mut bytes = Vec::new();
    /// image::Writer::of_tree(&memcgs).write_to(&mut bytes)?;
    /// let again = image::Reader::of(&bytes)?.tree::<RawSpinLock>()?.memcgs;
    /// let found = again.find(child.id()).unwrap();
    /// assert_eq!(again.usage(found)?, memcgs.usage(child)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`load`](Self::load); [`NoTree`](ImageError::NoTree); [`Memcg`](ImageError::Memcg) where there is no memory for a
    /// cgroup.
    pub fn tree<L: RawMutex>(&self) -> Result<Restored<L>, ImageError> {
        if !self.has_tree() {
            return Err(ImageError::NoTree);
        }
        let records = SwapRecords::with_raw_mutex();
        self.load(&records)?;
        let layout = &self.index.layout;
        tree::restore(records, &self.index.tree, layout.tree, layout.tree_len)
    }

    /// Reads the ids of each type into its area, which nobody else knows of, and makes the index.
    fn fill<L: RawMutex>(
        &self,
        files: &[Starting<'_, L>],
        backend: Backend,
    ) -> Result<(), ImageError> {
        let types = self.index.layout.types.iter().zip(files);
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
        job.run(self.threads.min(claims))
    }
}

/// A type of the image in this table: not on yet, and nobody else's.
fn begin<'t, L: RawMutex>(
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
        // Who reads a cell that is written from now on sees the generation of this state.
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

/// Writes the types of the image and their sizes.
impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (ty, max_pages) in self.types() {
            map.entry(&ty.get(), &format_args!("{max_pages} pages"));
        }
        map.finish()
    }
}
