//! Errors of files of records: [`FileError`] and [`SwaponFileError`].

use core::error::Error;
use core::fmt;
use std::io;

use crate::entry::SwapType;
use crate::error::SwaponError;
use crate::storage::file::header::{HEADER, IMAGE};
use crate::sync::AtomicU16;

/// Says why a file cannot be turned on, or cannot become a file of records. No type was turned on.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// The header is empty. The process that made the file ended before it wrote the header, or nothing was
    /// ever written.
    Unfinished {
        /// The length of the file, in bytes.
        len: u64,
    },
    /// The file does not begin as a file of records does. An [image](crate::image) begins with `SWAPRECS`.
    Foreign {
        /// The first bytes of the file.
        found: [u8; 8],
    },
    /// The file was made by a later version of this crate.
    Version {
        /// The version of the file.
        found: u32,
        /// The latest version that this crate knows.
        known: u32,
    },
    /// The file was made on a machine with the other byte order.
    ByteOrder,
    /// A field of the header has a wrong value.
    Damaged {
        /// The byte offset of the field in the file.
        offset: u64,
        /// The value that was found.
        found: u64,
        /// The value that was expected.
        expected: u64,
    },
    /// The file is truncated or too long.
    Length {
        /// The length of the file, in bytes.
        found: u64,
        /// The length that it must have, in bytes.
        expected: u64,
        /// The number of slots that the file was made for.
        max_pages: u64,
    },
    /// The file was made for another number of slots.
    MaxPages {
        /// The number of slots that the file was made for.
        found: u64,
        /// The number of slots that the caller asked for.
        asked: u64,
    },
    /// The number of slots is 0 or more than a swapfile can have. It was asked for, or the header has it.
    Pages {
        /// The number of slots.
        asked: u64,
        /// The highest number of slots that a swapfile can have on this machine.
        limit: u64,
    },
    /// An entry past the last slot is not 0.
    PastEnd {
        /// The index of the entry, counted from the first slot.
        slot: u64,
        /// The value of the entry.
        found: u16,
        /// The number of slots of the file.
        max_pages: u64,
    },
    /// Another table has the file on, in this process or another.
    InUse,
    /// The descriptor is not open for writing, or the `memfd` is sealed against writes.
    ReadOnly,
    /// The descriptor cannot be sealed. It is not a `memfd`, or the `memfd` was made without
    /// `MFD_ALLOW_SEALING`.
    NotSealable,
    /// The `memfd` is not sealed against shrinking and growing.
    NotSealed {
        /// The seals of the `memfd`, as `F_GET_SEALS` returns them.
        seals: i32,
    },
    /// `/proc` is not mounted. The table needs it to open the file again, which gives the table its own lock.
    NoProc,
    /// The user that runs the process may not open the file again. The table does that to get its own lock.
    Denied {
        /// The error of the system.
        error: io::Error,
    },
    /// A system call failed.
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The error of the system.
        error: io::Error,
    },
}

impl FileError {
    /// Returns a closure for `map_err`.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished { len } => write!(
                f,
                "the file of {len} bytes has an empty header at byte 0: its creation was interrupted, so it \
                 has no records; delete it and create a new one"
            ),
            Self::Foreign { found: IMAGE } => f.write_str(
                "the file begins with \"SWAPRECS\": it is an image; read it with image::read, or pass a \
                 file of records that RecordFile has made",
            ),
            Self::Foreign { found } => write!(
                f,
                "the file begins with \"{}\" and is not a file of records: pass one that RecordFile has made",
                found.escape_ascii()
            ),
            Self::Version { found, known } => write!(
                f,
                "the file has version {found} at byte 8, and this crate knows versions up to {known}: \
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
                "the header of the file is damaged: found {found:#x} at byte {offset}, expected {expected:#x}; \
                 keep the file: its records begin at byte 4096; copy them to a new file with as many slots"
            ),
            Self::Length {
                found,
                expected,
                max_pages,
            } => {
                let is = if found < expected { "truncated" } else { "too long" };
                write!(
                    f,
                    "the file is {is}: it has {found} bytes, and {max_pages} slots need {expected}; keep the \
                     file: its records begin at byte 4096; copy them to a new file for {max_pages} slots"
                )
            }
            Self::MaxPages { found, asked } => write!(
                f,
                "the file was made for {found} slots, and {asked} were asked for: turn it on with {found} \
                 slots, or create another file"
            ),
            Self::Pages { asked, limit } => write!(
                f,
                "a file cannot have {asked} slots: pass at least 1 and at most {limit}"
            ),
            Self::PastEnd {
                slot,
                found,
                max_pages,
            } => write!(
                f,
                "the file has {max_pages} slots, and id {found} in slot {slot} past its end: another program \
                 wrote to it; keep the file, and set the 2 bytes at byte {} to 0 to use the other records",
                HEADER + size_of::<AtomicU16>() as u64 * slot
            ),
            Self::InUse => f.write_str(
                "another table has the file on: turn the type off there, drop that table, or wait until its \
                 process has ended",
            ),
            Self::ReadOnly => f.write_str(
                "the descriptor of the file is not writable: open the file for reading and writing, \
                 and do not seal it against writes",
            ),
            Self::NotSealable => f.write_str(
                "the descriptor cannot be sealed: make a memfd with RecordFile::memfd or \
                 MFD_ALLOW_SEALING, or use RecordFile::from_file for another file",
            ),
            Self::NotSealed { seals } => write!(
                f,
                "the memfd has the seals {seals:#x}, so its length could change: add F_SEAL_SHRINK and \
                 F_SEAL_GROW"
            ),
            Self::NoProc => f.write_str(
                "/proc/self/fd is missing, and the table needs it to lock the file: mount /proc",
            ),
            Self::Denied { error } => write!(
                f,
                "the file cannot be opened again through /proc/self/fd ({error}): run as a user that may open \
                 the file for reading and writing, or use a memfd"
            ),
            Self::Io { doing, error } => {
                write!(f, "{doing} the file of records failed: {error}")
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

/// Says why a type was not turned on with a file. The table and the file are unchanged.
#[derive(Debug)]
#[non_exhaustive]
pub enum SwaponFileError {
    /// The type cannot be turned on. The file is not the reason.
    Swapon(SwaponError),
    /// The file was refused.
    File {
        /// The swapfile.
        ty: SwapType,
        /// The reason.
        why: FileError,
    },
    /// The file has records, and a tree that is in use cannot charge them to their owners. See
    /// [`Memcgs::swapon_file`](crate::memcg::Memcgs::swapon_file).
    HasRecords {
        /// The swapfile.
        ty: SwapType,
        /// The number of records in the file.
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
                "swap type {ty} was not turned on: the file has {records} records, and this tree has not \
                 charged their owners; turn it on with SwapRecords::swapon_file, then make the tree over that table"
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
