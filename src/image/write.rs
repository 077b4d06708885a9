//! Writes a table to an image: [`Writer`].

use core::fmt;
use std::boxed::Box;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::vec::Vec;

use lock_api::RawMutex;

use super::error::ImageError;
use super::format::{Layout, PAGE, Page, Sums, UNIT, UNIT_ENTRY};
use super::replace::Replacement;
use super::{room, tree};
use crate::entry::SwapType;
use crate::memcg::Memcgs;
use crate::region::REGION_ENTRIES;
use crate::scan::{self, Backend};
use crate::swapfile::On;
use crate::sync::RawSpinLock;
use crate::table::SwapRecords;

const _: () = assert!(UNIT.is_multiple_of(REGION_ENTRIES));

/// The size of an image that was written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Written {
    /// The length of the image in bytes. It includes holes, so the file may take less space on the disk.
    pub len: u64,
    /// The number of records in the image.
    pub records: u64,
}

/// Writes an image of a table, or of a tree with its table.
///
/// The table may be in use during the write: see the [module](super). By default, writes all types that are
/// on.
///
/// ```
/// use swap_records::{SwapRecords, SwapType, image};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let [first, second] = [SwapType::new(0).unwrap(), SwapType::new(1).unwrap()];
/// let records = SwapRecords::new();
/// records.swapon(first, 1000)?;
/// records.swapon(second, 1000)?;
///
/// let mut bytes = Vec::new();
/// image::Writer::new(&records).types([second]).write_to(&mut bytes)?;
/// let again = image::Reader::of(&bytes)?.table()?;
/// assert_eq!((again.max_pages(first), again.max_pages(second)), (None, Some(1000)));
/// # Ok(())
/// # }
/// ```
#[must_use = "a writer writes when `write` or `write_to` is called"]
pub struct Writer<'a, L = RawSpinLock> {
    records: &'a SwapRecords<L>,
    tree: Option<&'a Memcgs<L>>,
    /// A bit mask of the types to be written.
    types: u32,
}

impl<'a, L: RawMutex> Writer<'a, L> {
    /// Makes a writer of a table.
    pub fn new(records: &'a SwapRecords<L>) -> Self {
        Self {
            records,
            tree: None,
            types: u32::MAX,
        }
    }

    /// Makes a writer of a tree of cgroups and its table.
    ///
    /// If the tree is not in use during the write, the image is a snapshot of it. Otherwise each cgroup and
    /// each region is written as it is at some moment of the write. [`Reader::tree`](super::Reader::tree)
    /// says how it reads such an image.
    pub fn of_tree(memcgs: &'a Memcgs<L>) -> Self {
        Self {
            tree: Some(memcgs),
            ..Self::new(memcgs.table())
        }
    }

    /// Writes only these types, if they are on.
    pub fn types(mut self, types: impl IntoIterator<Item = SwapType>) -> Self {
        let bits = types.into_iter().map(|ty| 1 << ty.get());
        self.types = bits.fold(0, |all, bit| all | bit);
        self
    }

    /// Writes the image to a file, as [`write`](super::write()) does.
    ///
    /// # Errors
    ///
    /// As for [`write`](super::write()).
    pub fn write(self, path: impl AsRef<Path>) -> Result<Written, ImageError> {
        let path = path.as_ref();
        let new = Replacement::begin(path)?;
        let mut file = Sparse::new(new.file());
        let written = self.emit(&mut file, Some(path))?;
        new.commit()?;
        Ok(written)
    }

    /// Writes the image to a stream, as [`write_to`](super::write_to) does.
    ///
    /// # Errors
    ///
    /// As for [`write_to`](super::write_to).
    pub fn write_to(self, to: impl Write) -> Result<Written, ImageError> {
        let mut stream = Stream::new(to)?;
        let written = self.emit(&mut stream, None)?;
        stream.flush().map_err(ImageError::io(WRITE, None))?;
        Ok(written)
    }

    fn emit(&self, to: &mut impl Sink, path: Option<&Path>) -> Result<Written, ImageError> {
        let failed = |error| ImageError::io(WRITE, path)(error);
        let tree = match self.tree {
            Some(memcgs) => tree::save(memcgs)?,
            None => Vec::new(),
        };
        let on = |&(ty, _): &(SwapType, _)| self.types >> ty.get() & 1 != 0;
        let files: Vec<_> = self.records.all_on().filter(on).collect();
        let sizes = files.iter().map(|(ty, on)| (*ty, on.max_pages()));
        let layout = Layout::new(sizes, tree.len() as u64);

        let header = layout.header();
        to.put(&header.0).map_err(failed)?;
        let mut units = Units::with_room(&layout, self.records.backend())?;
        for (of, &(ty, on)) in layout.types.iter().zip(&files) {
            for unit in 0..of.units() {
                units.copy(on, unit).ok_or(ImageError::TypeOff { ty })?;
                let (_, padded) = of.ids_in(unit);
                units.put(padded, to).map_err(failed)?;
            }
        }
        let mut sums = Sums {
            records: units.records,
            tree: 0,
            units: 0,
        };
        if !tree.is_empty() {
            sums.tree = put_padded(&tree, to).map_err(failed)?;
        }
        sums.units = put_padded(&units.table, to).map_err(failed)?;
        let trailer: Page = layout.trailer(header.sum(), &sums);
        to.put(&trailer.0).map_err(failed)?;
        Ok(Written {
            len: layout.len,
            records: sums.records,
        })
    }
}

impl<L> fmt::Debug for Writer<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("records", self.records)
            .field("tree", &self.tree.is_some())
            .field("types", &format_args!("{:#x}", self.types))
            .finish()
    }
}

pub(super) const WRITE: &str = "write the image";

/// A destination of an image, which is written from its front to its end.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Puts a page of zeros.
    fn put_hole(&mut self) -> io::Result<()>;
}

/// Writes holes as zeros.
pub(super) struct Stream<W> {
    to: W,
    zeros: Vec<u8>,
}

impl<W: Write> Stream<W> {
    pub(super) fn new(to: W) -> Result<Self, ImageError> {
        let mut zeros = room(PAGE)?;
        zeros.resize(PAGE, 0);
        Ok(Self { to, zeros })
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<W: Write> Sink for Stream<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    fn put_hole(&mut self) -> io::Result<()> {
        self.to.write_all(&self.zeros)
    }
}

/// Leaves holes in a file that was empty.
pub(super) struct Sparse<F> {
    file: F,
    /// The length of the hole before the next bytes. The last page of an image is never a hole.
    ahead: i64,
}

impl<F> Sparse<F> {
    pub(super) fn new(file: F) -> Self {
        Self { file, ahead: 0 }
    }
}

impl<F: Write + Seek> Sink for Sparse<F> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.ahead > 0 {
            self.file.seek(SeekFrom::Current(self.ahead))?;
            self.ahead = 0;
        }
        self.file.write_all(bytes)
    }

    fn put_hole(&mut self) -> io::Result<()> {
        self.ahead += PAGE as i64;
        Ok(())
    }
}

/// Puts bytes, padded with zeros to the end of a page. Returns the checksum of all of them.
pub(super) fn put_padded(bytes: &[u8], to: &mut impl Sink) -> io::Result<u32> {
    let (pages, rest) = bytes.as_chunks::<PAGE>();
    to.put(pages.as_flattened())?;
    let mut sum = crc32c::crc32c(pages.as_flattened());
    if !rest.is_empty() {
        let mut page = [0; PAGE];
        page[..rest.len()].copy_from_slice(rest);
        to.put(&page)?;
        sum = crc32c::crc32c_append(sum, &page);
    }
    Ok(sum)
}

/// The current unit, and the table of the units before it.
struct Units {
    ids: Box<[u16]>,
    backend: Backend,
    /// Whether `ids` may have a record.
    any: bool,
    /// The checksum of a number of zero bytes.
    of_zeros: (usize, u32),
    records: u64,
    table: Vec<u8>,
}

impl Units {
    fn with_room(layout: &Layout, backend: Backend) -> Result<Self, ImageError> {
        let bytes = usize::try_from(layout.units).ok();
        let bytes = bytes.and_then(|units| units.checked_mul(UNIT_ENTRY));
        let mut ids = room(UNIT)?;
        ids.resize(UNIT, 0);
        Ok(Self {
            ids: ids.into_boxed_slice(),
            backend,
            any: false,
            of_zeros: (0, 0),
            records: 0,
            table: room(bytes.unwrap_or(usize::MAX))?,
        })
    }

    /// Copies a unit of a swapfile, each region under its lock, padded with zeros. Returns `None` if the type
    /// was turned off.
    ///
    /// The lock is necessary: the copy loads plainly, and a region is to be as it was at one moment.
    fn copy<L: RawMutex>(&mut self, on: On<'_, L>, unit: u64) -> Option<()> {
        const REGIONS: usize = UNIT / REGION_ENTRIES;
        let had_any = core::mem::take(&mut self.any);
        let first = usize::try_from(unit).ok()?.checked_mul(REGIONS)?;
        for (index, ids) in (first..).zip(self.ids.chunks_mut(REGION_ENTRIES)) {
            let copied = if index < on.regions() {
                on.lock(index)?.copy_all(ids)
            } else {
                0
            };
            if copied > 0 {
                ids[copied..].fill(0);
                self.any = true;
            } else if had_any {
                ids.fill(0);
            }
        }
        Some(())
    }

    /// Puts the first `len` ids of the current unit: whole pages.
    fn put(&mut self, len: usize, to: &mut impl Sink) -> io::Result<()> {
        let ids = &mut self.ids[..len];
        let sum;
        let mut records = 0;
        if self.any {
            // In the byte order of the file.
            if cfg!(target_endian = "big") {
                ids.iter_mut().for_each(|id| *id = id.to_le());
            }
            records = len as u64 - scan::count_ids(self.backend, ids, 0);
            let bytes = bytemuck::cast_slice(ids);
            sum = crc32c::crc32c(bytes);
            put_pages(bytes, to)?;
        } else {
            let len = len * size_of::<u16>();
            if self.of_zeros.0 != len {
                self.of_zeros = (len, crc32c::crc32c(bytemuck::cast_slice(ids)));
            }
            sum = self.of_zeros.1;
            for _ in 0..len / PAGE {
                to.put_hole()?;
            }
        }
        self.records += records;
        self.table.extend_from_slice(&sum.to_le_bytes());
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        self.table.extend_from_slice(&records.to_le_bytes());
        Ok(())
    }
}

/// Puts whole pages. Consecutive pages with records are written at once, and other pages are holes.
pub(super) fn put_pages(bytes: &[u8], to: &mut impl Sink) -> io::Result<()> {
    let pages = bytes.as_chunks::<PAGE>().0;
    let is_hole = |page: &[u8; PAGE]| *page == [0; PAGE];
    for pages in pages.chunk_by(|before, after| is_hole(before) == is_hole(after)) {
        if is_hole(&pages[0]) {
            for _ in pages {
                to.put_hole()?;
            }
        } else {
            to.put(pages.as_flattened())?;
        }
    }
    Ok(())
}
