//! The first page of a file of records.
//!
//! | byte | contents, little-endian |
//! | ---: | --- |
//! | 0 | `SWAPTABL` |
//! | 8 | the version, 1: 4 bytes |
//! | 12 | bytes per entry, 2: 4 bytes |
//! | 16 | slots: 8 bytes |
//! | 24 | slots per region, 32768: 4 bytes |
//! | 28 | `0x01020304` in the order of bytes of the entries: 4 bytes |
//! | 32 | a random number, which tells the file from others: 8 bytes |
//! | 40 | FNV-1a, of 64 bits, of the bytes before it: 8 bytes |
//! | 48 | 0, or `EMPT` while a swapoff empties the file: 4 bytes |
//! | 52 | nothing, up to byte 4096 |
//!
//! The entries follow at byte 4096, in whole regions. The header is written once, when the file has its
//! length. Only the word at byte 48 changes later.

use core::hash::{BuildHasher, Hasher};
use core::ops::Range;
use std::hash::RandomState;

use crate::file::FileError;
use crate::region::{Entries, REGION_ENTRIES};
use crate::sync::AtomicU16;
use crate::table::MAX_PAGES;

/// Where the entries begin.
pub(crate) const HEADER: u64 = 4096;

/// The magic number differs from that of an image, so that a file and an image are never mistaken for each
/// other.
const MAGIC: [u8; 8] = *b"SWAPTABL";
/// The magic number of an image, which an error names.
pub(crate) const IMAGE: [u8; 8] = *b"SWAPRECS";
const VERSION: u32 = 1;
const ORDER: u32 = 0x0102_0304;

/// The offset of the checksum, which covers all bytes before it.
const CHECKSUM_AT: usize = 40;
/// The offset of the state, which says whether a swapoff is under way.
pub(crate) const STATE_AT: usize = 48;
/// The two values of the state.
pub(crate) const IN_USE: [u8; 4] = [0; 4];
pub(crate) const EMPTYING: [u8; 4] = *b"EMPT";
/// The number of bytes of the page that are used.
pub(crate) const USED: usize = STATE_AT + EMPTYING.len();

/// The fields of a header that differ from file to file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) max_pages: u64,
    /// A random number, drawn when the file was made.
    pub(crate) random: u64,
    /// Whether a swapoff has begun to empty the file.
    pub(crate) emptying: bool,
}

/// Checks that a swapfile may have this number of pages.
pub(crate) fn check_pages(max_pages: u64) -> Result<(), FileError> {
    if (1..=MAX_PAGES).contains(&max_pages) {
        return Ok(());
    }
    Err(FileError::Pages {
        asked: max_pages,
        limit: MAX_PAGES,
    })
}

/// Returns the length in bytes of a file for this number of slots, which [`check_pages`] must have accepted.
pub(crate) fn file_len(max_pages: u64) -> u64 {
    HEADER + max_pages.div_ceil(REGION_ENTRIES as u64) * size_of::<Entries>() as u64
}

impl Header {
    pub(crate) fn new(max_pages: u64) -> Self {
        Self {
            max_pages,
            // The keys of a `RandomState` are random.
            random: RandomState::new().build_hasher().finish(),
            emptying: false,
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; USED] {
        let mut bytes = [0; USED];
        let mut put = |at: usize, field: &[u8]| bytes[at..][..field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &constant(size_of::<AtomicU16>()).to_le_bytes());
        put(16, &self.max_pages.to_le_bytes());
        put(24, &constant(REGION_ENTRIES).to_le_bytes());
        put(28, &ORDER.to_ne_bytes());
        put(32, &self.random.to_le_bytes());
        if self.emptying {
            put(STATE_AT, &EMPTYING);
        }
        let checksum = fnv_1a(&bytes[..CHECKSUM_AT]).to_le_bytes();
        bytes[CHECKSUM_AT..][..checksum.len()].copy_from_slice(&checksum);
        bytes
    }

    /// Parses the header of a file of `len` bytes. Bytes past the end of the file are 0.
    pub(crate) fn from_bytes(bytes: &[u8; USED], len: u64) -> Result<Self, FileError> {
        if *bytes == [0; USED] {
            return Err(FileError::Unfinished { len });
        }
        let found = bytes[..MAGIC.len()].try_into().unwrap_or_default();
        if found != MAGIC {
            return Err(FileError::Foreign { found });
        }
        let found = u32::from_le_bytes(bytes[8..12].try_into().unwrap_or_default());
        // The rest of the header may have another meaning in a later version.
        if found > VERSION {
            return Err(FileError::Version {
                found,
                known: VERSION,
            });
        }
        let checksum = le(bytes, CHECKSUM_AT..STATE_AT);
        expect(CHECKSUM_AT, checksum, fnv_1a(&bytes[..CHECKSUM_AT]))?;
        expect(8, found.into(), VERSION.into())?;
        expect(12, le(bytes, 12..16), size_of::<AtomicU16>() as u64)?;
        expect(24, le(bytes, 24..28), REGION_ENTRIES as u64)?;
        if bytes[28..32] != ORDER.to_ne_bytes() {
            return Err(FileError::ByteOrder);
        }
        let emptying = bytes[STATE_AT..USED] == EMPTYING;
        if !emptying {
            expect(STATE_AT, le(bytes, STATE_AT..USED), 0)?;
        }
        let max_pages = le(bytes, 16..24);
        // After this check, nothing that is computed from the number can overflow.
        check_pages(max_pages)?;
        Ok(Self {
            max_pages,
            random: le(bytes, 32..40),
            emptying,
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "small constants")]
const fn constant(n: usize) -> u32 {
    n as u32
}

/// Returns a number of up to 8 bytes.
fn le(bytes: &[u8; USED], at: Range<usize>) -> u64 {
    bytes[at]
        .iter()
        .rev()
        .fold(0, |n, &byte| n << 8 | u64::from(byte))
}

fn expect(offset: usize, found: u64, expected: u64) -> Result<(), FileError> {
    if found == expected {
        return Ok(());
    }
    Err(FileError::Damaged {
        offset: offset as u64,
        found,
        expected,
    })
}

/// Computes a checksum that detects every change of a single byte:
/// <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv_1a(bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(BASIS, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            max_pages: 40_000,
            random: 0x0123_4567_89ab_cdef,
            emptying: false,
        }
    }

    fn parse(bytes: &[u8; USED]) -> Result<Header, FileError> {
        Header::from_bytes(bytes, 4096)
    }

    #[test]
    fn a_header_that_is_written_is_read_again() {
        for emptying in [false, true] {
            let header = Header {
                emptying,
                ..header()
            };
            assert_eq!(parse(&header.to_bytes()).unwrap(), header);
        }
        assert_ne!(Header::new(1).random, Header::new(1).random);
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_found() {
        let whole = header().to_bytes();
        for bit in 0..USED * 8 {
            let mut bytes = whole;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bytes).is_err(), "bit {bit}");
        }
        // The bytes after the checksum are 0.
        for len in 0..STATE_AT {
            let mut bytes = whole;
            bytes[len..].fill(0);
            match parse(&bytes) {
                Err(FileError::Unfinished { .. }) => assert_eq!(len, 0),
                Err(FileError::Foreign { .. }) => assert!(len < 8),
                Err(FileError::Damaged { .. }) => assert!(len >= 8),
                other => panic!("{len} bytes: {other:?}"),
            }
        }
    }

    #[test]
    fn fields_of_another_format_are_refused_although_the_checksum_matches() {
        for (at, value) in [
            (8, 0),
            (8, 2),
            (12, 4),
            (24, 64),
            (28, ORDER.swap_bytes().to_ne_bytes()[0]),
        ] {
            let mut bytes = header().to_bytes();
            bytes[at..at + 4].fill(0);
            bytes[at] = value;
            if at == 28 {
                bytes[28..32].copy_from_slice(&ORDER.swap_bytes().to_ne_bytes());
            }
            let checksum = fnv_1a(&bytes[..CHECKSUM_AT]).to_le_bytes();
            bytes[CHECKSUM_AT..STATE_AT].copy_from_slice(&checksum);
            let refused = parse(&bytes).unwrap_err();
            let fits = match refused {
                FileError::Version { found, known } => at == 8 && (found, known) == (2, 1),
                FileError::ByteOrder => at == 28,
                FileError::Damaged { offset, found, .. } => {
                    (offset, found) == (at as u64, value.into())
                }
                _ => false,
            };
            assert!(fits, "{at}, {value}: {refused:?}");
        }
    }

    #[test]
    fn files_have_whole_regions() {
        let region = size_of::<Entries>() as u64;
        assert_eq!(file_len(1), HEADER + region);
        assert_eq!(file_len(REGION_ENTRIES as u64), HEADER + region);
        assert_eq!(file_len(REGION_ENTRIES as u64 + 1), HEADER + 2 * region);
    }
}
