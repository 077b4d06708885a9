//! Places of the parts of an image: [`Layout`]. `docs/image-format.md` describes the format for readers.
//!
//! **Invariant: the sizes of the types and of the tree decide where every byte of an image is, and every byte
//! is checked.** A reader computes the header from these sizes and compares it with the header in the file.
//! It never follows an offset from the file, so offsets that overlap or lie past the end do no harm. Header
//! and trailer have their own checksums. The table of units has one per unit of ids. The trailer has those of
//! the table of units and of the tree.

use std::vec::Vec;

use super::error::{ImageError, Part};
use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType};

/// The alignment of all sections, which are padded with zeros.
pub(super) const PAGE: usize = 4096;

/// The number of ids that one checksum covers. The format fixes it, whatever the size of a region.
pub(super) const UNIT: usize = 32_768;

pub(super) const UNIT_BYTES: usize = UNIT * size_of::<u16>();

/// The checksum of a whole unit of zeros.
pub(super) const SUM_OF_ZEROS: u32 = 0x72c0_c4a4;

/// The bytes of an entry of the table of units: a checksum and the number of records.
pub(super) const UNIT_ENTRY: usize = 8;

pub(super) const VERSION: u32 = 1;

pub(super) const MAGIC: [u8; 8] = *b"SWAPRECS";
/// The first bytes of a file of records. A user may confuse it with an image.
pub(super) const RECORD_FILE: [u8; 8] = *b"SWAPTABL";
const END_MAGIC: [u8; 8] = *b"SRECSEND";

/// The most bytes of a tree: its header, and an entry for each id.
pub(super) const MAX_TREE: u64 = (TREE_HEADER + u16::MAX as usize * TREE_ENTRY) as u64;
pub(super) const TREE_HEADER: usize = 8;
pub(super) const TREE_ENTRY: usize = 40;

const _: () = assert!(UNIT_BYTES.is_multiple_of(PAGE));

/// Rounds a number of bytes up to whole pages.
pub(super) const fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE as u64)
}

/// A page of the file. Its last four bytes are the checksum of the others.
#[derive(Clone)]
pub(super) struct Page(pub(super) [u8; PAGE]);

const SUM_AT: usize = PAGE - 4;

impl Page {
    pub(super) fn new() -> Self {
        Self([0; PAGE])
    }

    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.0[at..at + N].copy_from_slice(&bytes);
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        get_u32(&self.0, at)
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        get_u64(&self.0, at)
    }

    fn seal(mut self) -> Self {
        let sum = crc32c::crc32c(&self.0[..SUM_AT]);
        self.put(SUM_AT, sum.to_le_bytes());
        self
    }

    pub(super) fn sum(&self) -> u32 {
        self.u32(SUM_AT)
    }

    fn check(&self, part: Part, offset: u64) -> Result<(), ImageError> {
        let found = crc32c::crc32c(&self.0[..SUM_AT]);
        check_sum(part, offset, SUM_AT as u64, found, self.sum())
    }
}

/// Reads four bytes at `at`. Bytes past the end count as zeros.
pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u32::from_le_bytes(word.copied().unwrap_or_default())
}

/// Reads eight bytes at `at`. Bytes past the end count as zeros.
pub(super) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u64::from_le_bytes(word.copied().unwrap_or_default())
}

pub(super) fn check_sum(
    part: Part,
    offset: u64,
    len: u64,
    found: u32,
    expected: u32,
) -> Result<(), ImageError> {
    if found == expected {
        return Ok(());
    }
    Err(ImageError::Checksum {
        part,
        offset,
        len,
        found,
        expected,
    })
}

/// A type of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TypeAt {
    pub(super) ty: SwapType,
    pub(super) max_pages: u64,
    /// The offset of its ids in the file.
    pub(super) ids: u64,
    /// The number of its first unit.
    pub(super) first_unit: u64,
}

impl TypeAt {
    pub(super) fn units(&self) -> u64 {
        self.max_pages.div_ceil(UNIT as u64)
    }

    /// Returns the bytes of its ids in the file, padded to whole pages.
    pub(super) fn bytes(&self) -> u64 {
        padded(self.max_pages * 2)
    }

    /// Returns the offset of a unit in the file.
    pub(super) fn offset_of(&self, unit: u64) -> u64 {
        self.ids + unit * UNIT_BYTES as u64
    }

    /// Returns how many ids of the swapfile a unit has, and how many with the padding of its last page.
    pub(super) fn ids_in(&self, unit: u64) -> (usize, usize) {
        let before = unit * UNIT as u64;
        let ids = (self.max_pages - before).min(UNIT as u64);
        #[expect(clippy::cast_possible_truncation, reason = "a unit has 32,768")]
        let ids = ids as usize;
        (ids, ids.next_multiple_of(PAGE / 2))
    }
}

/// The places of all parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) types: Vec<TypeAt>,
    /// The offset of the tree, and its length without padding. Both are 0 if the image has no tree.
    pub(super) tree: u64,
    pub(super) tree_len: u64,
    /// The offset of the table of units, and the number of units.
    pub(super) units_at: u64,
    pub(super) units: u64,
    /// The length of the file.
    pub(super) len: u64,
}

impl Layout {
    /// Computes the places from the sizes. Sizes must be in range: at most [`SwapEntry::MAX_OFFSET`] + 1
    /// pages for each of 32 types, and at most [`MAX_TREE`] bytes of tree. Then no sum below comes near 2^64.
    pub(super) fn new(types: impl IntoIterator<Item = (SwapType, u64)>, tree_len: u64) -> Self {
        let mut at = PAGE as u64;
        let mut units = 0;
        let types = types.into_iter();
        let types = types
            .map(|(ty, max_pages)| {
                let of = TypeAt {
                    ty,
                    max_pages,
                    ids: at,
                    first_unit: units,
                };
                at += of.bytes();
                units += of.units();
                of
            })
            .collect();
        let tree = if tree_len == 0 { 0 } else { at };
        let units_at = at + padded(tree_len);
        Self {
            types,
            tree,
            tree_len,
            units_at,
            units,
            len: units_at + padded(units * UNIT_ENTRY as u64) + PAGE as u64,
        }
    }

    pub(super) fn trailer_at(&self) -> u64 {
        self.len - PAGE as u64
    }

    pub(super) fn header(&self) -> Page {
        let mut page = Page::new();
        page.put(0, MAGIC);
        page.put(8, VERSION.to_le_bytes());
        page.put(12, to_u32(PAGE).to_le_bytes());
        page.put(16, to_u32(UNIT).to_le_bytes());
        page.put(20, to_u32(self.types.len()).to_le_bytes());
        page.put(24, self.len.to_le_bytes());
        page.put(32, self.tree.to_le_bytes());
        page.put(40, self.tree_len.to_le_bytes());
        page.put(48, self.units_at.to_le_bytes());
        page.put(56, self.units.to_le_bytes());
        for (at, of) in self.types.iter().enumerate() {
            let at = TYPES_AT + at * TYPE_BYTES;
            page.put(at, u32::from(of.ty.get()).to_le_bytes());
            page.put(at + 8, of.max_pages.to_le_bytes());
            page.put(at + 16, of.ids.to_le_bytes());
            page.put(at + 24, of.first_unit.to_le_bytes());
        }
        page.seal()
    }

    /// Returns the layout of a file of `len` bytes with this header, if [`header`](Self::header) can make
    /// that header.
    pub(super) fn parse(header: &Page, len: u64) -> Result<Self, ImageError> {
        let magic = *header.0.first_chunk().unwrap_or(&[0; 8]);
        if magic != MAGIC {
            return Err(ImageError::Magic { found: magic });
        }
        // A later version may have its checksum in another place.
        let version = header.u32(8);
        if version != VERSION {
            return Err(ImageError::Version { found: version });
        }
        header.check(Part::Header, 0)?;
        let nr = header.u32(20);
        if nr as usize > MAX_SWAPFILES {
            return Err(field(
                20,
                "number of types",
                u64::from(nr),
                MAX_SWAPFILES as u64,
            ));
        }
        let mut types = Vec::<(SwapType, u64)>::new();
        for at in 0..nr as usize {
            let at = TYPES_AT + at * TYPE_BYTES;
            let number = header.u32(at);
            let ty = u8::try_from(number).ok().and_then(SwapType::new);
            let ty = ty.ok_or(field(
                at,
                "swap type",
                number.into(),
                MAX_SWAPFILES as u64 - 1,
            ))?;
            if let Some(&(before, _)) = types.last().filter(|&&(before, _)| before >= ty) {
                return Err(ImageError::TypeOrder {
                    offset: at as u64,
                    before,
                    found: ty,
                });
            }
            let max_pages = header.u64(at + 8);
            if max_pages == 0 || max_pages > SwapEntry::MAX_OFFSET + 1 {
                return Err(ImageError::MaxPages {
                    offset: at as u64 + 8,
                    ty,
                    found: max_pages,
                });
            }
            types.push((ty, max_pages));
        }
        let tree_len = header.u64(40);
        if tree_len > MAX_TREE {
            return Err(field(40, "length of the tree", tree_len, MAX_TREE));
        }
        let layout = Self::new(types, tree_len);
        compare(header, &layout.header(), 0, name_in_header)?;
        if layout.len != len {
            return Err(ImageError::Length {
                found: len,
                expected: layout.len,
            });
        }
        Ok(layout)
    }

    /// Makes the last page of the file.
    pub(super) fn trailer(&self, header_sum: u32, sums: &Sums) -> Page {
        let mut page = Page::new();
        page.put(0, END_MAGIC);
        page.put(8, self.len.to_le_bytes());
        page.put(16, sums.records.to_le_bytes());
        page.put(24, header_sum.to_le_bytes());
        page.put(28, sums.units.to_le_bytes());
        page.put(32, sums.tree.to_le_bytes());
        page.seal()
    }

    /// Reads the last page, if it belongs to this header.
    pub(super) fn parse_trailer(&self, header_sum: u32, page: &Page) -> Result<Sums, ImageError> {
        let offset = self.trailer_at();
        let magic = *page.0.first_chunk().unwrap_or(&[0; 8]);
        if magic != END_MAGIC {
            return Err(ImageError::NotWhole {
                offset,
                found: magic,
            });
        }
        page.check(Part::Trailer, offset)?;
        let sums = Sums {
            records: page.u64(16),
            units: page.u32(28),
            tree: page.u32(32),
        };
        compare(
            page,
            &self.trailer(header_sum, &sums),
            offset,
            name_in_trailer,
        )?;
        Ok(sums)
    }
}

/// The fields of a trailer that do not follow from the layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sums {
    pub(super) records: u64,
    /// The checksum of the table of units, with its padding.
    pub(super) units: u32,
    /// The checksum of the tree, with its padding; 0 if there is no tree.
    pub(super) tree: u32,
}

const TYPES_AT: usize = 64;
const TYPE_BYTES: usize = 32;

const _: () = assert!(TYPES_AT + MAX_SWAPFILES * TYPE_BYTES <= SUM_AT);

fn to_u32(n: usize) -> u32 {
    crate::cell::narrow(n)
}

fn field(at: usize, name: &'static str, found: u64, expected: u64) -> ImageError {
    ImageError::Field {
        offset: at as u64,
        name,
        found,
        expected,
    }
}

/// Compares a page with the page that the sizes imply.
fn compare(
    found: &Page,
    expected: &Page,
    offset: u64,
    name: fn(usize) -> (&'static str, usize),
) -> Result<(), ImageError> {
    let differ = (0..PAGE).find(|&at| found.0[at] != expected.0[at]);
    let Some(at) = differ else { return Ok(()) };
    let (name, width) = name(at);
    let at = at - at % width;
    let value = |page: &Page| match width {
        8 => page.u64(at),
        _ => u64::from(page.u32(at)),
    };
    Err(ImageError::Field {
        offset: offset + at as u64,
        name,
        found: value(found),
        expected: value(expected),
    })
}

/// Returns the name and the width of the field that this byte of a header belongs to.
fn name_in_header(at: usize) -> (&'static str, usize) {
    match at {
        0..8 => ("magic", 8),
        8..12 => ("version", 4),
        12..16 => ("bytes per page", 4),
        16..20 => ("ids per unit", 4),
        20..24 => ("number of types", 4),
        24..32 => ("length of the file", 8),
        32..40 => ("offset of the tree", 8),
        40..48 => ("length of the tree", 8),
        48..56 => ("offset of the table of units", 8),
        56..64 => ("number of units", 8),
        TYPES_AT..SUM_AT if at < TYPES_AT + MAX_SWAPFILES * TYPE_BYTES => match at % TYPE_BYTES {
            0..4 => ("swap type", 4),
            8..16 => ("pages of a type", 8),
            16..24 => ("offset of the ids of a type", 8),
            24..32 => ("first unit of a type", 8),
            _ => ("reserved bytes", 4),
        },
        SUM_AT.. => ("checksum of the header", 4),
        _ => ("reserved bytes", 4),
    }
}

fn name_in_trailer(at: usize) -> (&'static str, usize) {
    match at {
        0..8 => ("magic of the trailer", 8),
        8..16 => ("length of the file", 8),
        16..24 => ("number of records", 8),
        24..28 => ("checksum of the header", 4),
        28..32 => ("checksum of the table of units", 4),
        32..36 => ("checksum of the tree", 4),
        SUM_AT.. => ("checksum of the trailer", 4),
        _ => ("reserved bytes", 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_zeros_is_a_constant_of_the_format() {
        assert_eq!(crc32c::crc32c(&[0; UNIT_BYTES]), SUM_OF_ZEROS);
    }
}
