//! [`Reader`]: from an image to a table.

use core::fmt;
use core::ops::Range;
use std::fs::File;
use std::path::{Path, PathBuf};

use lock_api::RawMutex;

use super::error::ImageError;
use super::fill::begin;
use super::format::{TypeAt, UNIT};
use super::room;
use super::source::{Index, OnDisk, Source, read_unit};
use super::tree::{self, Restored};
use crate::entry::SwapType;
use crate::scan::Backend;
use crate::swapfile::Starting;
use crate::table::SwapRecords;

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
    fn is_hole(&self, bytes: Range<u64>) -> bool {
        match self {
            Self::Bytes(of) => of.is_hole(bytes),
            Self::Disk(file) => file.is_hole(bytes),
        }
    }

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
    /// [`REGION_ENTRIES`](crate::REGION_ENTRIES) * 64 slots: for each 4 MiB of the image.
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

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn most_threads(&self) -> usize {
        self.threads
    }

    pub(super) fn read_unit<'i>(
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
        self.tree_over(records)
    }

    /// The tree of the image over a table that is there already, as one whose records outlived the process in a file
    /// (module `file`). What the image has of records is not read: a tree that is written for this needs no types,
    /// `Writer::of_tree(&memcgs).types([])`.
    ///
    /// Each cgroup is charged for the records that the table has, and for the pages in memory that the image has. So the
    /// image may be older than the records. An id that has records and no cgroup in the image becomes a child of the
    /// root. A limit that is below what is charged is raised to that: [`Restored::raised`] names it.
    ///
    /// ```
    /// use swap_records::memcg::{Memcgs, Resource};
    /// use swap_records::{SwapEntry, SwapType, image};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ty = SwapType::new(0).unwrap();
    /// let memcgs = Memcgs::new();
    /// memcgs.swapon(ty, 1000)?;
    /// let child = memcgs.create(memcgs.root())?;
    /// memcgs.set_limit(child, Resource::Memory, Some(100))?;
    /// let mut bytes = Vec::new();
    /// image::Writer::of_tree(&memcgs).types([]).write_to(&mut bytes)?;
    ///
    /// // What comes after the image is in the table.
    /// memcgs.charge(child, 6)?;
    /// memcgs.swap_out(child, SwapEntry::new(ty, 0).unwrap(), 6)?;
    /// let records = memcgs.into_records();
    ///
    /// let again = image::Reader::of(&bytes)?.tree_over(records)?.memcgs;
    /// let usage = again.usage(again.find(child.id()).unwrap())?;
    /// assert_eq!((usage.swap, usage.memory_limit), (6, Some(100)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NoTree`](ImageError::NoTree); [`Memcg`](ImageError::Memcg) where there is no memory for a cgroup. The table is
    /// dropped then; records in a file stay there.
    pub fn tree_over<L: RawMutex>(
        &self,
        records: SwapRecords<L>,
    ) -> Result<Restored<L>, ImageError> {
        if !self.has_tree() {
            return Err(ImageError::NoTree);
        }
        let layout = &self.index.layout;
        tree::restore(records, &self.index.tree, layout.tree, layout.tree_len)
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
