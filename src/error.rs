//! The errors of the table: [`EntryError`] and [`SwaponError`].

use core::fmt;

use crate::entry::{SwapEntry, SwapType};

/// The error of an operation on entries.
///
/// An operation that returns an error has written nothing, with one exception. If another thread turns a type
/// off while a range or a batch is written, the records that were already written to that swapfile are
/// dropped with it. A batch keeps what it wrote to other swapfiles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum EntryError {
    /// The type is off, or was turned off during the operation.
    TypeOff {
        /// The type.
        ty: SwapType,
        /// The first slot that was not written, in pages. For a batch, the first slot in this swapfile that
        /// was not written. `None` if the operation is for the whole swapfile.
        offset: Option<u64>,
    },
    /// A slot lies at or past the end of the swapfile.
    OutOfRange {
        /// The first slot of the operation.
        start: SwapEntry,
        /// The number of slots of the operation.
        nr: u64,
        /// The number of slots that the swapfile has.
        max_pages: u64,
    },
    /// There is no memory: for the previous owners of a range, which are returned as [`Runs`](crate::Runs);
    /// or, without the feature `std`, for a page of the table. Nothing was written.
    OutOfMemory {
        /// The first slot of the operation.
        start: SwapEntry,
        /// The number of slots of the operation.
        nr: u64,
        /// The number of bytes that were refused.
        bytes: usize,
    },
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TypeOff { ty, offset } => {
                write!(f, "swap type {ty} is off")?;
                if let Some(offset) = offset {
                    write!(f, ", so it has no slot at offset {offset}")?;
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
                "{nr} swap entries from {start} are out of range: they must end at or before offset \
                 {max_pages}, the number of pages that type {} was turned on with",
                start.swap_type()
            ),
            Self::OutOfMemory { start, nr, bytes } => write!(
                f,
                "no memory for {nr} swap entries from {start}: {bytes} bytes were refused; call clear_range_with \
                 or record_range_with, which need no memory for owners, or reserve pages ahead of time"
            ),
        }
    }
}

impl core::error::Error for EntryError {}

/// The error of a swapon. The table is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SwaponError {
    /// The type is already on, or another thread is turning it on, turning it off or trimming it.
    TypeOn {
        /// The type.
        ty: SwapType,
    },
    /// The swapfile would have 0 pages.
    NoPages {
        /// The type.
        ty: SwapType,
    },
    /// The swapfile would have more pages than an entry, or an index of this target's address space, can
    /// address.
    TooLarge {
        /// The type.
        ty: SwapType,
        /// The number of pages that were asked for.
        max_pages: u64,
        /// The highest number of pages that a swapfile can have on this target.
        limit: u64,
    },
    /// The system refused the address space or the memory.
    OutOfMemory {
        /// The type.
        ty: SwapType,
        /// The number of pages that were asked for.
        max_pages: u64,
        /// The number of bytes that were refused.
        bytes: usize,
    },
}

impl fmt::Display for SwaponError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TypeOn { ty } => write!(
                f,
                "swap type {ty} is on already, or another thread is turning it on or off: turn it off with \
                 swapoff first, or use another type"
            ),
            Self::NoPages { ty } => write!(
                f,
                "swap type {ty} cannot be turned on with 0 pages: use at least 1"
            ),
            Self::TooLarge {
                ty,
                max_pages,
                limit,
            } => write!(
                f,
                "swap type {ty} cannot be turned on with {max_pages} pages: use at most {limit}"
            ),
            Self::OutOfMemory {
                ty,
                max_pages,
                bytes,
            } => write!(
                f,
                "no memory to turn on swap type {ty} with {max_pages} pages: the system refused {bytes} bytes; \
                 free memory, raise the limit on address space, or use fewer pages"
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
            "swap type 3 is off, so it has no slot at offset 17: turn it on with swapon first"
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
            "8 swap entries from 3:17 are out of range: they must end at or before offset 20, \
             the number of pages that type 3 was turned on with"
        );
        let refused = EntryError::OutOfMemory {
            start,
            nr: 8,
            bytes: 192,
        };
        assert_eq!(
            refused.to_string(),
            "no memory for 8 swap entries from 3:17: 192 bytes were refused; call clear_range_with or \
             record_range_with, which need no memory for owners, or reserve pages ahead of time"
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
