//! What a file of records is refused for: [`FileError`] and [`SwaponFileError`].

use core::error::Error;
use core::fmt;
use std::io;

use crate::entry::SwapType;
use crate::error::SwaponError;
use crate::storage::file::header::{HEADER, IMAGE};
use crate::sync::AtomicU16;

/// Why a file is not, or cannot become, a file of records that a table can be turned on with. Nothing was
/// turned on.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// The header is empty: the process that made the file was ended before it had written the header, or
    /// nothing was ever written.
    Unfinished {
        /// The file's length, in bytes.
        len: u64,
    },
    /// The file begins as no file of records does. That of an [image](crate::image) begins with `SWAPRECS`.
    Foreign {
        /// Its first bytes.
        found: [u8; 8],
    },
    /// The file is of a later version of this crate.
    Version {
        /// The file's version.
        found: u32,
        /// The latest version that is known here.
        known: u32,
    },
    /// The file was made on a machine with the other order of bytes.
    ByteOrder,
    /// A field of the header does not hold what it must.
    Damaged {
        /// Where the field begins in the file, in bytes.
        offset: u64,
        /// What it holds.
        found: u64,
        /// What it must hold.
        expected: u64,
    },
    /// The file is truncated, or too long.
    Length {
        /// Its length, in bytes.
        found: u64,
        /// What its length must be, in bytes.
        expected: u64,
        /// For how many slots it was made.
        max_pages: u64,
    },
    /// The file was made for another number of slots.
    MaxPages {
        /// For how many it was made.
        found: u64,
        /// How many were asked for.
        asked: u64,
    },
    /// A file was to be made, or says that it was made, for no slots, or for more than a swapfile can have.
    Pages {
        /// For how many slots.
        asked: u64,
        /// The most that a swapfile can have here.
        limit: u64,
    },
    /// An entry past the last slot is not 0.
    PastEnd {
        /// The entry, counted from the first slot.
        slot: u64,
        /// What it holds.
        found: u16,
        /// How many slots there are.
        max_pages: u64,
    },
    /// Another table, of this process or another, has the file on.
    InUse,
    /// The descriptor cannot be written to, or the `memfd` is sealed against writes.
    ReadOnly,
    /// The descriptor is of something that cannot be sealed: no `memfd`, or one without `MFD_ALLOW_SEALING`.
    NotSealable,
    /// The `memfd` is not sealed against shrinking and growing.
    NotSealed {
        /// The seals that it has, as `F_GET_SEALS` gives them.
        seals: i32,
    },
    /// `/proc` is not there, by which the table gets an open file, and so a lock, of its own.
    NoProc,
    /// The user that runs this may not open the file anew, as the table does to get a lock of its own.
    Denied {
        /// What the system says.
        error: io::Error,
    },
    /// The system refused.
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

impl FileError {
    /// For `map_err`.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished { len } => write!(
                f,
                "the file of {len} bytes has an empty header at byte 0: it was not made to its end, so it has \
                 no records; delete it and create a new one"
            ),
            Self::Foreign { found: IMAGE } => f.write_str(
                "the file begins with \"SWAPRECS\": this is an image; read it with image::read, and give a \
                 file that RecordFile has made",
            ),
            Self::Foreign { found } => write!(
                f,
                "the file begins with \"{}\" and is no file of records: give one that RecordFile has made",
                found.escape_ascii()
            ),
            Self::Version { found, known } => write!(
                f,
                "the file is of version {found}, at byte 8, and this crate knows versions up to {known}: \
                 use the crate that made it, or a later one"
            ),
            Self::ByteOrder => f.write_str(
                "the entries of the file are in the other order of bytes, as byte 28 says: use it on \
                 the kind of machine that made it",
            ),
            Self::Damaged {
                offset,
                found,
                expected,
            } => write!(
                f,
                "the header of the file is damaged: {found:#x} at byte {offset}, where {expected:#x} is \
                 expected; keep it: its records lie from byte 4096 on; copy them to a new file for as many slots"
            ),
            Self::Length {
                found,
                expected,
                max_pages,
            } => {
                let is = if found < expected { "truncated" } else { "too long" };
                write!(
                    f,
                    "the file is {is}: it has {found} bytes, and {max_pages} slots take {expected}; keep it: \
                     its records lie from byte 4096 on; copy them to a new file for {max_pages} slots"
                )
            }
            Self::MaxPages { found, asked } => write!(
                f,
                "the file was made for {found} slots, and {asked} were asked for: turn it on with {found}, or \
                 create another file"
            ),
            Self::Pages { asked, limit } => write!(
                f,
                "a file for {asked} slots cannot be: give one for at least 1 and at most {limit}"
            ),
            Self::PastEnd {
                slot,
                found,
                max_pages,
            } => write!(
                f,
                "the file holds {found} for slot {slot}, and ends at slot {max_pages}: something else wrote \
                 to it; keep it, and set the 2 bytes at byte {} to 0 to go on with the other records",
                HEADER + size_of::<AtomicU16>() as u64 * slot
            ),
            Self::InUse => f.write_str(
                "another table has the file on: turn it off there or drop that table, or wait for the \
                 end of its process",
            ),
            Self::ReadOnly => f.write_str(
                "the file cannot be written to by this descriptor: open it for reading and writing, \
                 and do not seal it against writes",
            ),
            Self::NotSealable => f.write_str(
                "the descriptor is of no memfd that can be sealed: make one with RecordFile::memfd or \
                 MFD_ALLOW_SEALING, or use RecordFile::from_file for a file",
            ),
            Self::NotSealed { seals } => write!(
                f,
                "the memfd has the seals {seals:#x}, so its length could change: add F_SEAL_SHRINK and \
                 F_SEAL_GROW to them"
            ),
            Self::NoProc => f.write_str(
                "/proc/self/fd is not there, by which the table gets a lock of its own: mount /proc",
            ),
            Self::Denied { error } => write!(
                f,
                "the file cannot be opened anew through /proc/self/fd ({error}): open the file as the user who \
                 runs this, or use a memfd"
            ),
            Self::Io { doing, error } => {
                write!(f, "{doing} the file of records was refused: {error}")
            }
        }
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Denied { error } | Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why a type was not turned on with a file. The table and the file are as they were.
#[derive(Debug)]
#[non_exhaustive]
pub enum SwaponFileError {
    /// For a reason that has nothing to do with the file.
    Swapon(SwaponError),
    /// Because of the file.
    File {
        /// The swapfile.
        ty: SwapType,
        /// What is wrong with the file.
        why: FileError,
    },
    /// The file has records, which a tree that is at work cannot charge to their owners:
    /// [`Memcgs::swapon_file`](crate::memcg::Memcgs::swapon_file).
    HasRecords {
        /// The swapfile.
        ty: SwapType,
        /// How many records it has.
        records: u64,
    },
}

impl fmt::Display for SwaponFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Swapon(error) => error.fmt(f),
            Self::File { ty, why } => write!(f, "swap type {ty} was not turned on: {why}"),
            Self::HasRecords { ty, records } => write!(
                f,
                "swap type {ty} was not turned on: the file has {records} records, whose owners this tree has not \
                 charged; turn it on with SwapRecords::swapon_file, and make the tree over that table"
            ),
        }
    }
}

impl Error for SwaponFileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Swapon(error) => error.source(),
            Self::File { why, .. } => why.source(),
            Self::HasRecords { .. } => None,
        }
    }
}

impl From<SwaponError> for SwaponFileError {
    fn from(error: SwaponError) -> Self {
        Self::Swapon(error)
    }
}
