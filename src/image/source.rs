//! Sources of images: [`Source`]; and all parts of an image except its ids: [`Index`].

use core::ops::Range;
use std::fs::File;
use std::io;
use std::vec::Vec;

use super::error::{ImageError, Part};
use super::format::{
    Layout, MAGIC, PAGE, Page, SUM_OF_ZEROS, TypeAt, UNIT, UNIT_BYTES, UNIT_ENTRY, check_sum,
    get_u32, padded,
};
use super::room;
use crate::entry::SwapType;
use crate::scan::{self, Backend};

/// Bytes that threads can read at any offset.
pub(super) trait Source: Sync {
    fn len(&self) -> u64;

    fn read_at(&self, to: &mut [u8], offset: u64) -> io::Result<()>;

    /// Returns whether these bytes are known to be zeros without reading them: a hole in a file.
    fn is_hole(&self, bytes: Range<u64>) -> bool {
        let _ = bytes;
        false
    }
}

impl Source for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, to: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|at| self.get(at..)?.get(..to.len()));
        let from = from.ok_or(io::ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(from);
        Ok(())
    }
}

/// A file, with the length that it had when it was opened.
#[derive(Debug)]
pub(super) struct OnDisk {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
    len: u64,
}

impl OnDisk {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        #[cfg(not(unix))]
        let file = std::sync::Mutex::new(file);
        Ok(Self { file, len })
    }
}

impl Source for OnDisk {
    fn len(&self) -> u64 {
        self.len
    }

    #[cfg(unix)]
    fn read_at(&self, to: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, to, offset)
    }

    #[cfg(target_os = "linux")]
    fn is_hole(&self, bytes: Range<u64>) -> bool {
        use std::os::fd::AsRawFd;

        let Ok(from) = libc::off_t::try_from(bytes.start) else {
            return false;
        };
        // SAFETY: a system call on numbers. It moves the position of the file, which no read here uses.
        let data = unsafe { libc::lseek(self.file.as_raw_fd(), from, libc::SEEK_DATA) };
        match u64::try_from(data) {
            Ok(data) => data >= bytes.end,
            // The rest of the file is a hole, so the trailer was cut off. Or the file system does not report
            // holes. A read tells which.
            Err(_) => false,
        }
    }

    #[cfg(not(unix))]
    fn read_at(&self, to: &mut [u8], offset: u64) -> io::Result<()> {
        use io::{Read, Seek};

        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(io::SeekFrom::Start(offset))?;
        file.read_exact(to)
    }
}

const READ: &str = "read the image";

/// Checks the table of units before memory is allocated for it.
///
/// **Invariant: the memory that a reader needs is bounded by a constant plus the data in the file, holes
/// excluded.** A long file may be mostly holes, and holes have checksums as well. But no entry of the table
/// is all zeros, since the checksum of a unit without records is not 0. So this function stops at the first
/// hole of the table, and a table without holes lies on the disk as a whole.
fn look_through_units(from: &impl Source, layout: &Layout, sum: u32) -> Result<(), ImageError> {
    let at = layout.units_at;
    let (entries, bytes) = (
        layout.units * UNIT_ENTRY as u64,
        padded(layout.units * UNIT_ENTRY as u64),
    );
    #[expect(clippy::cast_possible_truncation, reason = "no more than a unit")]
    let piece = bytes.min(UNIT_BYTES as u64) as usize;
    let mut buffer = room(piece)?;
    buffer.resize(piece, 0);
    let mut found = 0;
    let mut done = 0;
    while done < bytes {
        #[expect(clippy::cast_possible_truncation, reason = "no more than a unit")]
        let piece = &mut buffer[..(bytes - done).min(UNIT_BYTES as u64) as usize];
        let read = from.read_at(piece, at + done);
        read.map_err(ImageError::io(READ, None))?;
        found = crc32c::crc32c_append(found, piece);
        let units = (done..entries).step_by(UNIT_ENTRY);
        let mut units = units.zip(piece.as_chunks::<UNIT_ENTRY>().0);
        if let Some((unit, _)) = units.find(|(_, entry)| **entry == [0; UNIT_ENTRY]) {
            let unit = unit / UNIT_ENTRY as u64;
            return Err(ImageError::Field {
                offset: at + unit * UNIT_ENTRY as u64,
                name: "checksum of a unit without records",
                found: 0,
                expected: sum_of_zeros(layout, unit).into(),
            });
        }
        done += piece.len() as u64;
    }
    check_sum(Part::Units, at, bytes, found, sum)
}

/// Returns the checksum of a unit of the image without records.
fn sum_of_zeros(layout: &Layout, unit: u64) -> u32 {
    let mut types = layout.types.iter().rev();
    let of = types.find(|of| of.first_unit <= unit);
    let ids = of.map_or(0, |of| of.ids_in(unit - of.first_unit).1);
    let page = [0; PAGE];
    let pages = ids * size_of::<u16>() / PAGE;
    (0..pages).fold(0, |sum, _| crc32c::crc32c_append(sum, &page))
}

/// All parts of an image except its ids.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) layout: Layout,
    /// The checksum and the number of records of each unit, [`UNIT_ENTRY`] bytes together.
    units: Vec<u8>,
    /// The tree; empty if there is none.
    pub(super) tree: Vec<u8>,
    pub(super) records: u64,
}

impl Index {
    /// Reads and checks header, trailer, tree and table of units.
    pub(super) fn read(from: &impl Source) -> Result<Self, ImageError> {
        let failed = |error| ImageError::io(READ, None)(error);
        // The bytes of a short first page make a better error than its length.
        let mut header = Page::new();
        #[expect(clippy::cast_possible_truncation, reason = "no more than a page")]
        let len = from.len().min(PAGE as u64) as usize;
        from.read_at(&mut header.0[..len], 0).map_err(failed)?;
        let there = len.min(MAGIC.len());
        if header.0[..there] != MAGIC[..there] {
            let found = *header.0.first_chunk().unwrap_or(&[0; 8]);
            return Err(ImageError::Magic { found });
        }
        if len < PAGE {
            return Err(ImageError::Length {
                found: from.len(),
                expected: 2 * PAGE as u64,
            });
        }
        let layout = Layout::parse(&header, from.len())?;

        let mut trailer = Page::new();
        let at = layout.trailer_at();
        from.read_at(&mut trailer.0, at).map_err(failed)?;
        let sums = layout.parse_trailer(header.sum(), &trailer)?;

        let section = |at, len, part, sum| -> Result<Vec<u8>, ImageError> {
            let bytes = padded(len);
            let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
            let mut section = room(wanted)?;
            section.resize(wanted, 0);
            from.read_at(&mut section, at).map_err(failed)?;
            check_sum(part, at, bytes, crc32c::crc32c(&section), sum)?;
            let behind = (len..).zip(section.iter().skip(usize::try_from(len).unwrap_or(wanted)));
            match behind.into_iter().find(|&(_, &byte)| byte != 0) {
                Some((nth, &found)) => Err(ImageError::Field {
                    offset: at + nth,
                    name: "padding byte",
                    found: found.into(),
                    expected: 0,
                }),
                None => Ok(section),
            }
        };
        look_through_units(from, &layout, sums.units)?;
        let bytes = layout.units * UNIT_ENTRY as u64;
        let units = section(layout.units_at, bytes, Part::Units, sums.units)?;
        let tree = section(layout.tree, layout.tree_len, Part::Tree, sums.tree)?;
        let this = Self {
            layout,
            units,
            tree,
            records: sums.records,
        };
        this.check_records()?;
        Ok(this)
    }

    /// Checks that no unit has more records than ids, and that the numbers add up to the total.
    fn check_records(&self) -> Result<(), ImageError> {
        let mut sum = 0;
        for of in &self.layout.types {
            for unit in 0..of.units() {
                let (ids, _) = of.ids_in(unit);
                let (_, records) = self.unit(of, unit);
                if u64::from(records) > ids as u64 {
                    return Err(ImageError::Records {
                        offset: of.offset_of(unit),
                        found: ids as u64,
                        expected: records.into(),
                    });
                }
                sum += u64::from(records);
            }
        }
        if sum != self.records {
            return Err(ImageError::Records {
                offset: self.layout.trailer_at() + 16,
                found: sum,
                expected: self.records,
            });
        }
        Ok(())
    }

    /// Returns the checksum and the number of records of a unit of a type.
    pub(super) fn unit(&self, of: &TypeAt, unit: u64) -> (u32, u32) {
        let at = usize::try_from(of.first_unit + unit).ok();
        let at = at.map_or(usize::MAX, |at| at.saturating_mul(UNIT_ENTRY));
        (
            get_u32(&self.units, at),
            get_u32(&self.units, at.saturating_add(4)),
        )
    }

    /// Returns the place of a type, if the image has it.
    pub(super) fn type_at(&self, ty: SwapType) -> Option<&TypeAt> {
        self.layout.types.iter().find(|of| of.ty == ty)
    }

    /// Checks the ids of a unit, in the byte order of the file.
    pub(super) fn check(
        &self,
        backend: Backend,
        of: &TypeAt,
        unit: u64,
        ids: &[u16],
    ) -> Result<(), ImageError> {
        let (expected, records) = self.unit(of, unit);
        let offset = of.offset_of(unit);
        let bytes: &[u8] = bytemuck::cast_slice(ids);
        let found = crc32c::crc32c(bytes);
        let part = Part::Ids(of.ty);
        check_sum(part, offset, bytes.len() as u64, found, expected)?;
        let (len, _) = of.ids_in(unit);
        let past = ids[len..].iter().position(|&id| id != 0);
        if let Some(at) = past.map(|past| len + past) {
            return Err(ImageError::PastEnd {
                offset: offset + 2 * at as u64,
                ty: of.ty,
                found: u16::from_le(ids[at]),
            });
        }
        let found = ids.len() as u64 - scan::count_ids(backend, ids, 0);
        if found != u64::from(records) {
            return Err(ImageError::Records {
                offset,
                found,
                expected: records.into(),
            });
        }
        Ok(())
    }
}

/// Reads the ids of a unit into the front of `to`, in the byte order of the file, and checks them. Returns
/// the ids. Returns an empty slice, and reads nothing, if the whole unit is a hole.
pub(super) fn read_unit<'b>(
    from: &impl Source,
    index: &Index,
    backend: Backend,
    (of, unit): (&TypeAt, u64),
    to: &'b mut [u16],
) -> Result<&'b mut [u16], ImageError> {
    let (_, padded) = of.ids_in(unit);
    let start = of.offset_of(unit);
    let is_empty = padded == UNIT && index.unit(of, unit) == (SUM_OF_ZEROS, 0);
    if is_empty && from.is_hole(start..start + UNIT_BYTES as u64) {
        return Ok(&mut []);
    }
    let to = &mut to[..padded];
    let read = from.read_at(bytemuck::cast_slice_mut(to), of.offset_of(unit));
    read.map_err(ImageError::io(READ, None))?;
    index.check(backend, of, unit, to)?;
    Ok(to)
}
