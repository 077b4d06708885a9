//! Reads an image into a table: [`Reader`].

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

/// Reads an image from a file or from bytes.
///
/// Opening an image reads and checks everything except the ids.
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
    /// The file is read, not mapped. If the path gets another file, this reader still reads the old one. If
    /// the file is changed or truncated, reading it returns an error.
    ///
    /// # Errors
    ///
    /// [`ImageError`], if the file cannot be opened or read, or is not a complete image.
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
    /// [`ImageError`], if the bytes are not a complete image.
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

    /// Lets reads use up to `threads` threads, including the calling thread. The default is 1; 0 counts as 1.
    ///
    /// A read uses at most one thread per 64 regions of [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots,
    /// which are 4 MiB of the image.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Returns the types of the image and their sizes in pages, lowest type first.
    pub fn types(&self) -> impl Iterator<Item = (SwapType, u64)> {
        let types = self.index.layout.types.iter();
        types.map(|of| (of.ty, of.max_pages))
    }

    /// Returns the number of records in the image, over all types.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.index.records
    }

    /// Returns whether the image has a tree of cgroups.
    #[must_use]
    pub fn has_tree(&self) -> bool {
        !self.index.tree.is_empty()
    }

    /// Reads and checks all ids. Makes no table, and takes 64 KiB of memory.
    ///
    /// # Errors
    ///
    /// [`ImageError`], if the file cannot be read, or has changed since it was written.
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

    /// Reads the image into a new table, and turns on its types there.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn table(&self) -> Result<SwapRecords, ImageError> {
        let records = SwapRecords::new();
        self.load(&records)?;
        Ok(records)
    }

    /// Reads the image into a table in which its types are off, and turns them on, as
    /// [`read_into`](super::read_into) does. Ignores a tree.
    ///
    /// # Errors
    ///
    /// As for [`read_into`](super::read_into).
    pub fn load<L: RawMutex>(&self, records: &SwapRecords<L>) -> Result<(), ImageError> {
        let mut files = room(self.index.layout.types.len())?;
        for of in &self.index.layout.types {
            files.push(begin(records, of)?);
        }
        self.fill(&files, records.backend())?;
        files.into_iter().for_each(Starting::publish);
        Ok(())
    }

    /// Reads the image into a new table, and makes its tree of cgroups over that table.
    ///
    /// Each cgroup of the image has the same id, parent, limits and pages in memory as before, and is online
    /// or offline as before. Handles of the old tree are not valid in the new one.
    /// [`Memcgs::find`](crate::memcg::Memcgs::find) returns the handle of an id.
    ///
    /// If the tree was in use while it was written, cgroups and records may be from different moments:
    ///
    /// - An id that has records, but no cgroup in the image, becomes a child of the root.
    /// - A page that was swapped in or out during the write may be there twice, in memory and as a record, or
    ///   not at all.
    /// - A limit below the charge is raised to the charge, and [`Restored::raised`] lists it.
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
    /// As for [`load`](Self::load). [`NoTree`](ImageError::NoTree) if the image has no tree.
    /// [`Memcg`](ImageError::Memcg) if there is no memory for a cgroup.
    pub fn tree<L: RawMutex>(&self) -> Result<Restored<L>, ImageError> {
        if !self.has_tree() {
            return Err(ImageError::NoTree);
        }
        let records = SwapRecords::with_raw_mutex();
        self.load(&records)?;
        self.tree_over(records)
    }

    /// Makes the tree of the image over an existing table, such as one whose records are in a file (module
    /// `file`).
    ///
    /// Does not read the records of the image. `Writer::of_tree(&memcgs).types([])` writes a tree without
    /// them.
    ///
    /// Each cgroup is charged for its records in the table, and for its pages in memory in the image. So the
    /// image may be older than the records. An id that has records, but no cgroup in the image, becomes a
    /// child of the root. A limit below the charge is raised to the charge, and [`Restored::raised`] lists
    /// it.
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
    /// // Later records are only in the table.
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
    /// [`NoTree`](ImageError::NoTree) if the image has no tree. [`Memcg`](ImageError::Memcg) if there is no
    /// memory for a cgroup. The table is then dropped; records in a file stay there.
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
