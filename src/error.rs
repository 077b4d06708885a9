//! What an operation refuses: [`EntryError`] and [`SwaponError`].

use core::fmt;

use crate::entry::{SwapEntry, SwapType};

/// Why an operation on entries was refused. Nothing was written; or, where another thread turned the type off while a
/// range or a batch was being written, what was written to that swapfile went with it. Of a batch, what was written to
/// other swapfiles stays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum EntryError {
    /// The swapfile is off, or was turned off while the operation ran.
    TypeOff {
        /// The swapfile.
        ty: SwapType,
        /// In pages: the first slot that was asked for, or the first one that was not reached any more; of a batch, the
        /// first one that is in this swapfile and was not written. `None` where the whole swapfile was meant.
        offset: Option<u64>,
    },
    /// A slot lies at or past the swapfile's end.
    OutOfRange {
        /// The first slot that was asked for.
        start: SwapEntry,
        /// How many slots were asked for.
        nr: u64,
        /// How many slots the swapfile has.
        max_pages: u64,
    },
    /// No memory: for the owners that a range had, which were to be given as [`Runs`](crate::Runs), or, without the feature
    /// `std`, for a page of the table. Nothing was written.
    OutOfMemory {
        /// The first slot that was asked for.
        start: SwapEntry,
        /// How many slots were asked for.
        nr: u64,
        /// The bytes that were refused.
        bytes: usize,
    },
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TypeOff { ty, offset } => {
                write!(f, "swap type {ty} is off")?;
                if let Some(offset) = offset {
                    write!(f, ", so it has no entry {ty}:{offset}")?;
                }
                f.write_str(": turn it on with swapon first")
            }
            Self::OutOfRange {
                start,
                nr: 1,
                max_pages,
            } => write!(
                f,
                "swap entry {start} is out of range: use an offset below {max_pages}, \
                 the number of pages that type {} was turned on with",
                start.swap_type()
            ),
            Self::OutOfRange {
                start,
                nr,
                max_pages,
            } => write!(
                f,
                "{nr} swap entries from {start} are out of range: start and end at or before offset \
                 {max_pages}, the number of pages that type {} was turned on with",
                start.swap_type()
            ),
            Self::OutOfMemory { start, nr, bytes } => write!(
                f,
                "no memory for {nr} swap entries from {start}: {bytes} bytes were refused; use \
                 clear_range_with or record_range_with, which need none for owners, or reserve pages ahead"
            ),
        }
    }
}

impl core::error::Error for EntryError {}

/// Why a swapfile was not turned on. The table is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SwaponError {
    /// The type is on, or another thread is turning it on or off.
    TypeOn {
        /// The swapfile.
        ty: SwapType,
    },
    /// A swapfile of zero pages was asked for.
    NoPages {
        /// The swapfile.
        ty: SwapType,
    },
    /// More pages were asked for than an entry, or an index of this target, can address.
    TooLarge {
        /// The swapfile.
        ty: SwapType,
        /// How many pages were asked for.
        max_pages: u64,
        /// The most pages that a swapfile can have here.
        limit: u64,
    },
    /// The system would not give the address space or the memory.
    OutOfMemory {
        /// The swapfile.
        ty: SwapType,
        /// How many pages were asked for.
        max_pages: u64,
        /// The bytes that were refused.
        bytes: usize,
    },
}

impl fmt::Display for SwaponError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TypeOn { ty } => write!(
                f,
                "swap type {ty} is on already, or going on or off: turn it off with swapoff first, or use \
                 another type"
            ),
            Self::NoPages { ty } => write!(
                f,
                "swap type {ty} was to be turned on with 0 pages: give it at least 1"
            ),
            Self::TooLarge {
                ty,
                max_pages,
                limit,
            } => write!(
                f,
                "swap type {ty} was to be turned on with {max_pages} pages: \
                 at most {limit} can be addressed"
            ),
            Self::OutOfMemory {
                ty,
                max_pages,
                bytes,
            } => write!(
                f,
                "no memory to turn on swap type {ty} with {max_pages} pages: the system refused \
                 {bytes} bytes; free some, raise the limit on address space, or ask for fewer pages"
            ),
        }
    }
}

impl core::error::Error for SwaponError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn errors_say_what_where_and_what_to_do() {
        let ty = SwapType::new(3).unwrap();
        let start = SwapEntry::new(ty, 17).unwrap();
        let off = EntryError::TypeOff {
            ty,
            offset: Some(17),
        };
        assert_eq!(
            off.to_string(),
            "swap type 3 is off, so it has no entry 3:17: turn it on with swapon first"
        );
        let all_off = EntryError::TypeOff { ty, offset: None };
        assert_eq!(
            all_off.to_string(),
            "swap type 3 is off: turn it on with swapon first"
        );
        let one = EntryError::OutOfRange {
            start,
            nr: 1,
            max_pages: 10,
        };
        assert_eq!(
            one.to_string(),
            "swap entry 3:17 is out of range: use an offset below 10, \
             the number of pages that type 3 was turned on with"
        );
        let range = EntryError::OutOfRange {
            start,
            nr: 8,
            max_pages: 20,
        };
        assert_eq!(
            range.to_string(),
            "8 swap entries from 3:17 are out of range: start and end at or before offset 20, \
             the number of pages that type 3 was turned on with"
        );
        let refused = EntryError::OutOfMemory {
            start,
            nr: 8,
            bytes: 192,
        };
        assert_eq!(
            refused.to_string(),
            "no memory for 8 swap entries from 3:17: 192 bytes were refused; use clear_range_with or \
             record_range_with, which need none for owners, or reserve pages ahead"
        );
        for (error, says) in [
            (SwaponError::TypeOn { ty }, "swapoff first"),
            (SwaponError::NoPages { ty }, "at least 1"),
            (
                SwaponError::TooLarge {
                    ty,
                    max_pages: 9,
                    limit: 8,
                },
                "at most 8",
            ),
            (
                SwaponError::OutOfMemory {
                    ty,
                    max_pages: 9,
                    bytes: 4096,
                },
                "refused 4096 bytes",
            ),
        ] {
            let text = error.to_string();
            assert!(
                text.contains("swap type 3") && text.contains(says),
                "{text}"
            );
        }
    }
}
