//! A table as a file: written at once or not at all, read back with its index, or looked into where it lies.
//!
//! ```
//! use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType, image};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = std::env::temp_dir().join(format!("swap-records-image-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("records.image");
//! let ty = SwapType::new(0).unwrap();
//! let (owner, entry) = (MemcgId::new(7).unwrap(), SwapEntry::new(ty, 4711).unwrap());
//! let records = SwapRecords::new();
//! records.swapon(ty, 1 << 20)?;
//! records.record(entry, owner)?;
//!
//! image::write(&records, &path)?;
//! let again = image::read(&path)?;
//! assert_eq!(again.lookup(entry), Some(owner));
//! assert_eq!(again.count(owner), 1);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok(())
//! # }
//! ```
//!
//! | to | use | cost |
//! | --- | --- | --- |
//! | write a file, a stream, some types, a tree of cgroups | [`write()`], [`write_to`], [`Writer`] | one copy of what has records |
//! | get the table back, on threads, from bytes, with its tree | [`read()`], [`read_into`], [`Reader`] | one pass that makes the index |
//! | look up or count without a table | [`Map`] | nothing before the first look |
//! | read it piece by piece, count owners | [`Reader::units`], [`Tally`] | one pass, in 64 KiB |
//! | write ids that are made on the way, without a table | [`IdsWriter`] | one pass, in 1 MiB per thread |
//! | look into it from Python | `numpy.memmap`: [the format][format] | |
//!
//! [format]: crate::docs::image_format
//!
//! The format is little-endian on every machine, has a version, and a checksum for each 32,768 slots. Each byte of an image
//! is checked: one bit that changed is an error that says where.
//!
//! # While the table is in use
//!
//! Each region of [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots is copied under its lock, so it is written as it was at
//! one moment, and what is written to the table meanwhile is in the image or not. A record whose call had returned before
//! the write began, and that nobody changed since, is in it. No lock is held while anything is written to the file.
//!
//! # Memory
//!
//! What grows with the table or the tree is asked for by ways that may be refused: [`ImageError::OutOfMemory`]. A few hundred bytes
//! for paths, lists of types and threads come from the standard library, which ends the process where it gets none.

mod error;
mod fill;
mod format;
mod ids;
mod map;
mod read;
mod replace;
mod source;
mod tally;
mod tree;
mod units;
mod write;

use std::io;
use std::path::Path;
use std::vec::Vec;

use lock_api::RawMutex;

pub use error::{ImageError, Part};
pub use ids::IdsWriter;
pub use map::{Map, MapOwners, MapRuns};
pub use read::Reader;
pub use tally::Tally;
pub use tree::{Raised, Restored};
pub use units::{Unit, Units};
pub use write::{Writer, Written};

use crate::table::SwapRecords;

/// Writes an image of all types that are on to a file, in the place of what is there.
///
/// The image is written beside the path, under the name `.NAME.partial`, reaches the disk, and then takes the place of the
/// file that was there. So after an error, a crash, a full disk or a `SIGKILL` the old file is there, whole, or the new
/// one. After an error nothing else is left. What a killed process left beside the path is removed by the next
/// write; anything else that has that name is left alone, and is an error. So NAME may have up to 246 bytes where a file
/// system has names of 255. A symbolic link at the path is replaced, not followed, and a device, a pipe or a socket is left alone, which is an
/// error. The new file has the permissions of a new file.
///
/// Pages of the file without a record, 2048 slots, are holes: they take none of the disk.
///
/// Copies 64 KiB of table at a time, and needs 64 KiB and 8 bytes for each 32,768 slots of memory. What else is promised
/// beside others is in the [module](self).
///
/// # Errors
///
/// [`ImageError`]: the system refuses an operation on the file, another write to the path is under way, something is in
/// the way of `.NAME.partial`, a type is turned off meanwhile, or there is no memory. If the very last step is refused, to make the new name reach the disk, the new
/// image is in place, and an [`Io`](ImageError::Io) says so by its folder.
///
/// # Panics
///
/// If a lock does. Nothing has changed then.
pub fn write<L: RawMutex>(
    records: &SwapRecords<L>,
    path: impl AsRef<Path>,
) -> Result<Written, ImageError> {
    Writer::new(records).write(path)
}

/// Writes an image of all types that are on to a stream, such as a socket or a compressor.
///
/// What would be a hole of a file is written as zeros. The bytes are those of [`write()`]. They go out in pieces of 4 to 64
/// KiB, and the stream is flushed at the end.
///
/// # Errors
///
/// [`ImageError`]: the stream refuses a write, a type is turned off meanwhile, or there is no memory. What was written by
/// then is no image: a reader refuses it.
pub fn write_to<L: RawMutex>(
    records: &SwapRecords<L>,
    to: impl io::Write,
) -> Result<Written, ImageError> {
    Writer::new(records).write_to(to)
}

/// Reads an image into a new table, in which the types of the image are on.
///
/// Every byte is checked, and the index is made on the way. More threads, a lock of your own, or a tree of cgroups:
/// [`Reader`].
///
/// # Errors
///
/// [`ImageError`]: the file cannot be read, is no image that is whole, or its types cannot be turned on. What is asked of
/// the system is in proportion to the length of the file, which is compared with what the image says before that.
pub fn read(path: impl AsRef<Path>) -> Result<SwapRecords, ImageError> {
    Reader::open(path)?.table()
}

/// Reads an image into a table in which its types are off, and turns them on.
///
/// The types are turned on together, when all of the image has been read. Until then they are off to everybody else,
/// and cannot be turned on. Other types are left alone.
///
/// # Errors
///
/// As for [`read()`]; and where one of the types is on. All of them are as they were before.
pub fn read_into<L: RawMutex>(
    records: &SwapRecords<L>,
    path: impl AsRef<Path>,
) -> Result<(), ImageError> {
    Reader::open(path)?.load(records)
}

/// A vector with room for so many, or the error that says that there is none.
fn room<T>(nr: usize) -> Result<Vec<T>, ImageError> {
    let mut room = Vec::new();
    match room.try_reserve_exact(nr) {
        Ok(()) => Ok(room),
        Err(_) => Err(ImageError::OutOfMemory {
            bytes: nr.saturating_mul(size_of::<T>()),
        }),
    }
}
