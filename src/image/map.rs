//! Looks up records in an image without a table: [`Map`].

use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;
use std::fs::File;
use std::path::Path;
use std::vec::{self, Vec};

use memmap2::{Mmap, MmapOptions};

use super::error::ImageError;
use super::format::{PAGE, TypeAt, UNIT};
use super::source::{Index, OnDisk};
use super::tally::Tally;
use crate::entry::{Run, SwapEntry, SwapType};
use crate::id::MemcgId;
use crate::scan::{Backend, count_ids};

/// Looks up records of an image in place, in bytes in memory or in a mapped file.
///
/// Opening an image reads and checks everything except the ids: a page at each end, 8 bytes per 32,768 slots,
/// and the tree. Operations read the ids that they need and do not check them. [`verify`](Self::verify)
/// checks all ids once. Nothing is copied, and the cost of opening does not depend on the number of records.
/// Units of 32,768 slots without a record are skipped.
///
/// ```
/// use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType, image};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ty = SwapType::new(0).unwrap();
/// let (a, b) = (MemcgId::new(7).unwrap(), MemcgId::new(9).unwrap());
/// let entry = |offset| SwapEntry::new(ty, offset).unwrap();
///
/// let records = SwapRecords::new();
/// records.swapon(ty, 1 << 20)?;
/// records.record_range(entry(4096), 512, a)?;
/// records.record(entry(4608), b)?;
/// let mut bytes = Vec::new();
/// image::write_to(&records, &mut bytes)?;
///
/// let map = image::Map::of(&bytes)?;
/// map.verify()?;
/// assert_eq!(map.lookup(entry(4097)), Some(a));
/// assert_eq!(map.count(a), 512);
/// assert!(map.owners().eq([(a, 512), (b, 1)]));
/// assert!(map.runs(ty).eq(records.runs(ty)));
/// assert!(map.runs_of(b).eq(records.runs_of(b)));
/// # Ok(())
/// # }
/// ```
pub struct Map<'b> {
    bytes: Bytes<'b>,
    index: Index,
    backend: Backend,
}

enum Bytes<'b> {
    Borrowed(&'b [u8]),
    Mapped(Mmap),
}

impl Map<'static> {
    /// Maps a file for reading.
    ///
    /// ```
    /// use swap_records::{SwapRecords, image};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("swap-records-map-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("records.image");
    /// image::write(&SwapRecords::new(), &path)?;
    /// // SAFETY: nothing writes to an image that is in place: `image::write` replaces it as a whole.
    /// let map = unsafe { image::Map::open(&path)? };
    /// assert_eq!(map.records(), 0);
    /// # drop(map);
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Safety
    ///
    /// No process may write to the file or truncate it while the `Map` lives, this process included. The
    /// crate cannot prevent that. A write is undefined behaviour, and an access to a page that was cut off is
    /// a `SIGBUS`. [`write`](super::write()) keeps this rule: it puts another file in the place of the mapped
    /// one, which stays unchanged. If you cannot promise this, read the file and pass its bytes to
    /// [`of`](Self::of), or use a [`Reader`](super::Reader).
    ///
    /// # Errors
    ///
    /// [`ImageError`], if the file cannot be opened or mapped, or is not a complete image.
    pub unsafe fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(ImageError::io("open the image", Some(path)))?;
        let source = file.try_clone().and_then(OnDisk::new);
        let source = source.map_err(ImageError::io("open the image", Some(path)))?;
        // By reads, since reading a hole through a mapping may take memory.
        let index = Index::read(&source).map_err(|error| error.at(path))?;
        // SAFETY: the caller promises that no program writes to the file or truncates it.
        let map = unsafe { MmapOptions::new().map(&file) };
        let map = map.map_err(ImageError::io("map the image", Some(path)))?;
        Self::new(Bytes::Mapped(map), index)
    }
}

impl<'b> Map<'b> {
    /// Opens an image in memory, which must begin at an even address.
    ///
    /// # Errors
    ///
    /// [`ImageError::Misaligned`] if the address is odd. Another [`ImageError`] if the bytes are not a
    /// complete image.
    pub fn of(bytes: &'b [u8]) -> Result<Self, ImageError> {
        let index = Index::read(&bytes)?;
        Self::new(Bytes::Borrowed(bytes), index)
    }

    /// Combines the bytes with the index that was read from them.
    fn new(bytes: Bytes<'b>, index: Index) -> Result<Self, ImageError> {
        if !bytes
            .get()
            .as_ptr()
            .addr()
            .is_multiple_of(align_of::<u16>())
        {
            return Err(ImageError::Misaligned);
        }
        Ok(Self {
            bytes,
            index,
            backend: Backend::detect(),
        })
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

    /// Reads and checks all ids.
    ///
    /// # Errors
    ///
    /// [`Checksum`](ImageError::Checksum), [`PastEnd`](ImageError::PastEnd) or
    /// [`Records`](ImageError::Records), for the first unit that is wrong.
    pub fn verify(&self) -> Result<(), ImageError> {
        for of in &self.index.layout.types {
            let ids = self.section(of.ids, of.bytes());
            for (unit, ids) in (0..).zip(ids.chunks(UNIT)) {
                self.index.check(self.backend, of, unit, ids)?;
            }
        }
        Ok(())
    }

    /// Returns the owner of a slot. Returns `None` if the slot has no record or lies outside of its swapfile,
    /// or if the image does not have its type.
    #[must_use]
    pub fn lookup(&self, ent: SwapEntry) -> Option<MemcgId> {
        let of = self.index.type_at(ent.swap_type())?;
        let offset = usize::try_from(ent.offset()).ok()?;
        MemcgId::new(u16::from_le(*self.ids(of).get(offset)?))
    }

    /// Counts the records of an id, over all types. Reads each unit that has a record, at memory speed.
    #[must_use]
    pub fn count(&self, id: MemcgId) -> u64 {
        let raw = id.get().to_le();
        let units = self.occupied().map(|(_, ids)| ids);
        units.map(|ids| count_ids(self.backend, ids, raw)).sum()
    }

    /// Returns each id that has records, lowest first, with its number of records over all types.
    ///
    /// Reads all ids before it returns. Takes 792 KiB during the call, for the counts of all ids.
    pub fn owners(&self) -> MapOwners {
        Self::owners_in(self.occupied())
    }

    /// Returns the owners on one type, as [`owners`](Self::owners) does; none if the image does not have the
    /// type.
    pub fn owners_on(&self, ty: SwapType) -> MapOwners {
        Self::owners_in(self.occupied().filter(|(of, _)| of.ty == ty))
    }

    fn owners_in<'m>(units: impl Iterator<Item = (&'m TypeAt, &'m [u16])>) -> MapOwners {
        let mut tally = Tally::of_any();
        units.for_each(|(_, ids)| tally.add_le(ids));
        MapOwners(tally.owners().collect::<Vec<_>>().into_iter())
    }

    /// Returns the records of a type as runs of one owner, in the order of their offsets; none if the image
    /// does not have the type.
    pub fn runs(&self, ty: SwapType) -> MapRuns<'_> {
        let types = self.index.layout.types.iter();
        let at = types.take_while(|of| of.ty < ty).count();
        let has = self.index.type_at(ty).is_some();
        MapRuns::new(self, at..at + usize::from(has), None)
    }

    /// Returns the records of an id as runs, over all types, lowest type and lowest offset first.
    pub fn runs_of(&self, id: MemcgId) -> MapRuns<'_> {
        MapRuns::new(self, 0..self.index.layout.types.len(), Some(id))
    }

    /// Returns the ids of a type, in the byte order of the file.
    fn ids(&self, of: &TypeAt) -> &[u16] {
        self.section(of.ids, of.max_pages * 2)
    }

    /// Returns the units that have a record: their type, and their ids in the byte order of the file.
    fn occupied(&self) -> impl Iterator<Item = (&TypeAt, &[u16])> {
        self.index.layout.types.iter().flat_map(|of| {
            let units = (0..).zip(self.ids(of).chunks(UNIT));
            let occupied = units.filter(|&(unit, _)| self.index.unit(of, unit).1 > 0);
            occupied.map(move |(_, ids)| (of, ids))
        })
    }

    /// Returns a section of the file as ids. The layout was checked, so the section exists, and ids begin at
    /// a multiple of a page.
    fn section(&self, offset: u64, len: u64) -> &[u16] {
        debug_assert!(offset.is_multiple_of(PAGE as u64));
        let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.bytes.get().get(at(offset)..at(offset + len));
        bytes
            .and_then(|bytes| bytemuck::try_cast_slice(bytes).ok())
            .unwrap_or_default()
    }
}

impl Bytes<'_> {
    fn get(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// Shows the types of the image and their sizes.
impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (ty, max_pages) in self.types() {
            map.entry(&ty.get(), &format_args!("{max_pages} pages"));
        }
        map.finish()
    }
}

/// Iterates over the ids that have records, with their counts: see [`Map::owners`].
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct MapOwners(vec::IntoIter<(MemcgId, u64)>);

impl Iterator for MapOwners {
    type Item = (MemcgId, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for MapOwners {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back()
    }
}

impl ExactSizeIterator for MapOwners {}
impl FusedIterator for MapOwners {}

/// Iterates over the runs of an image: of [one type](Map::runs), or of [one id](Map::runs_of). Allocates
/// nothing.
#[derive(Clone)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct MapRuns<'m> {
    map: &'m Map<'m>,
    /// The types of the image that are still to be walked.
    types: Range<usize>,
    only: Option<MemcgId>,
    /// The current type, its ids, and the offset of the next one.
    at: Option<(&'m TypeAt, &'m [u16], usize)>,
}

impl<'m> MapRuns<'m> {
    fn new(map: &'m Map<'_>, types: Range<usize>, only: Option<MemcgId>) -> Self {
        Self {
            map,
            types,
            only,
            at: None,
        }
    }

    /// Returns the offset of the next matching record, from `at` on.
    fn next_record(&self, of: &TypeAt, ids: &[u16], mut at: usize) -> Option<usize> {
        /// Slots that are counted at once. The first `NEAR` slots are compared one by one before that.
        const PIECE: usize = 2048;
        const NEAR: usize = 32;
        let only = self.only.map(|id| id.get().to_le());
        let wanted = |&id: &u16| only.map_or(id != 0, |only| id == only);
        while at < ids.len() {
            let unit = at / UNIT;
            let end = ids.len().min((unit + 1) * UNIT);
            if self.map.index.unit(of, unit as u64).1 == 0 {
                at = end;
                continue;
            }
            // The next record of an id is often near the last one. If it is far, whole pieces are skipped.
            let near = end.min(at + NEAR);
            if let Some(skip) = ids[at..near].iter().position(wanted) {
                return Some(at + skip);
            }
            at = near;
            let piece = end.min((at / PIECE + 1) * PIECE);
            let none = match only {
                Some(only) => count_ids(self.map.backend, &ids[at..piece], only) == 0,
                None => false,
            };
            if !none && let Some(skip) = ids[at..piece].iter().position(wanted) {
                return Some(at + skip);
            }
            at = piece;
        }
        None
    }
}

impl Iterator for MapRuns<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        loop {
            if let Some((of, ids, at)) = self.at
                && let Some(start) = self.next_record(of, ids, at)
            {
                let id = ids[start];
                let len = ids[start..].iter().take_while(|&&next| next == id).count();
                self.at = Some((of, ids, start + len));
                return Some(Run {
                    start: SwapEntry::new(of.ty, start as u64)?,
                    len: len as u64,
                    id: MemcgId::new(u16::from_le(id))?,
                });
            }
            self.at = None;
            let of = self.map.index.layout.types.get(self.types.next()?)?;
            self.at = Some((of, self.map.ids(of), 0));
        }
    }
}

impl FusedIterator for MapRuns<'_> {}

/// Shows the id and the position.
impl fmt::Debug for MapRuns<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapRuns")
            .field("only", &self.only)
            .field("at", &self.at.map(|(of, _, at)| (of.ty, at)))
            .finish_non_exhaustive()
    }
}
