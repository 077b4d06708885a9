//! Saves a table to a file, an *image*, and reads it back or looks up records in place.
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
//! | write to a file or a stream; write some types, or a tree of cgroups | [`write()`], [`write_to`], [`Writer`] | one copy of the regions that have records |
//! | read a table, on threads, from bytes, with its tree | [`read()`], [`read_into`], [`Reader`] | one pass that makes the index |
//! | look up or count without a table | [`Map`] | opening reads no ids |
//! | read it unit by unit, count owners | [`Reader::units`], [`Tally`] | one pass, in 64 KiB |
//! | write generated ids, without a table | [`IdsWriter`] | one pass, in 1 MiB per thread |
//! | read it from Python | `numpy.memmap`: [the format][format] | |
//!
//! [format]: crate::docs::image_format
//!
//! The format is little-endian on every machine. It has a version, and a checksum per 32,768 slots. Checksums
//! cover every byte of an image. A flipped bit is an error that names the place.
//!
//! # While the table is in use
//!
//! A write copies each region of [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots under its lock, as it is at
//! that moment. A record is in the image if its call returned before the write began and no call changed it
//! since. Changes that are made during the write may be in the image. No lock is held while the file is
//! written.
//!
//! # Memory
//!
//! An allocation that grows with the table or the tree may fail, with [`ImageError::OutOfMemory`]. The
//! standard library allocates a few hundred bytes more, for paths, lists of types and threads. It ends the
//! process if that fails.

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

/// Writes an image of all types that are on to a file, and replaces the file that was there.
///
/// Writes the image to `.NAME.partial` in the same directory, syncs it to the disk, and renames it to the
/// path. After an error, a crash, a full disk or a `SIGKILL`, the path names the whole old file or the whole
/// new one. After an error, `.NAME.partial` is removed.
///
/// - If a process was killed, the next write to the path removes the `.NAME.partial` that it left.
/// - If something else has that name, it is left alone, and the write fails.
/// - NAME may have up to 246 bytes on a file system that allows names of 255.
/// - A symbolic link at the path is replaced, not followed. Then, and where nothing is at the path, the new file has
///   the permissions of a new file.
/// - A regular file at the path passes its permissions on to the new file, and its owner and group where the process
///   may give files away. Until then the new file has mode 600. Access control lists are not copied.
/// - A device, a pipe or a socket at the path is left alone, and the write fails.
///
/// Pages of the file that have no record, 2048 slots each, are holes and take no space on the disk.
///
/// The [module](self) says which records are written while other threads use the table.
///
/// # Memory
///
/// 64 KiB, and 8 bytes per 32,768 slots.
///
/// # Errors
///
/// Returns an [`ImageError`] if
///
/// - an operation on the file fails,
/// - another write to the path is in progress,
/// - something else has the name `.NAME.partial`,
/// - a type is turned off during the write, or
/// - there is no memory.
///
/// The last step syncs the directory. If only that fails, the new image is in place, and
/// [`Io`](ImageError::Io) names the directory.
///
/// # Panics
///
/// Panics if a lock panics. The old file is then unchanged, and `.NAME.partial` is removed.
pub fn write<L: RawMutex>(
    records: &SwapRecords<L>,
    path: impl AsRef<Path>,
) -> Result<Written, ImageError> {
    Writer::new(records).write(path)
}

/// Writes an image of all types that are on to a stream, such as a socket or a compressor.
///
/// The bytes are those that [`write()`] puts into a file, with zeros in place of holes. They are written in
/// pieces of 4 to 64 KiB, and the stream is flushed at the end.
///
/// # Errors
///
/// [`ImageError`], if the stream fails, a type is turned off during the write, or there is no memory. Readers
/// refuse the incomplete image that was written.
pub fn write_to<L: RawMutex>(
    records: &SwapRecords<L>,
    to: impl io::Write,
) -> Result<Written, ImageError> {
    Writer::new(records).write_to(to)
}

/// Reads an image into a new table, and turns on its types there.
///
/// Checks every byte, and makes the index on the way. [`Reader`] offers threads, other locks, images in
/// memory, and trees of cgroups.
///
/// # Errors
///
/// [`ImageError`], if the file cannot be read, is not a complete image, or its types cannot be turned on. The
/// memory that is asked for is in proportion to the length of the file. That length is first compared with
/// the header.
pub fn read(path: impl AsRef<Path>) -> Result<SwapRecords, ImageError> {
    Reader::open(path)?.table()
}

/// Reads an image into a table in which its types are off, and turns them on.
///
/// Turns on all types together, after it has read the whole image. Until then they are off for other threads,
/// and other threads cannot turn them on. Does not touch other types.
///
/// # Errors
///
/// As for [`read()`], or if one of the types is on. All types are then as they were before.
pub fn read_into<L: RawMutex>(
    records: &SwapRecords<L>,
    path: impl AsRef<Path>,
) -> Result<(), ImageError> {
    Reader::open(path)?.load(records)
}

/// Returns an empty vector with room for `nr` elements.
fn room<T>(nr: usize) -> Result<Vec<T>, ImageError> {
    let mut room = Vec::new();
    match room.try_reserve_exact(nr) {
        Ok(()) => Ok(room),
        Err(_) => Err(ImageError::OutOfMemory {
            bytes: nr.saturating_mul(size_of::<T>()),
        }),
    }
}
