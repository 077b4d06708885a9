//! A table whose records outlive its process: they lie in a file. Needs feature `std`, on Linux.
//!
//! A [`RecordFile`] holds the records of one swapfile. [`swapon_file`](crate::SwapRecords::swapon_file)
//! maps it, and records, hand-overs and ranges then write to the file's pages as they do to memory: no
//! operation costs more, and none makes a system call. Only the records are in the file. Locks and index
//! are the process's own memory; the next process makes them anew from the records, on as many threads as
//! it likes.
//!
//! ```
//! use swap_records::file::RecordFile;
//! use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ty = SwapType::new(0).unwrap();
//! let owner = MemcgId::new(7).unwrap();
//! let file = RecordFile::memfd(1 << 20)?; // 4 GiB of swap
//!
//! let records = SwapRecords::new();
//! records.swapon_file(ty, 1 << 20, &file).run()?;
//! records.record(SwapEntry::new(ty, 4711).unwrap(), owner)?;
//! drop(records); // or the process is killed, and a service manager has kept the descriptor
//!
//! let records = SwapRecords::new();
//! let found = records.swapon_file(ty, 1 << 20, &file).threads(2).run()?;
//! assert_eq!(found.records, 1);
//! assert_eq!(records.migrate(owner, MemcgId::MIN), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What is kept, and what is not
//!
//! | what happens | the records in the file |
//! | --- | --- |
//! | the process is killed, at any instruction | all that operations wrote. Of one that was under way, each slot is as before it or as after it |
//! | the process ends, or the table is dropped | all of them |
//! | [`swapoff`](crate::SwapRecords::swapoff) | none; the file's memory goes back to the system, its length stays |
//! | the process is killed within `swapoff` | all of them, or none: what `swapoff` began, the next `swapon_file` ends. (Some, where the system had refused to write 4 bytes of the header, since the device was full or broken) |
//! | the process is killed within `swapon_file` | as before |
//! | [`Memcgs::swapoff`](crate::memcg::Memcgs::swapoff) is killed | some of them: a tree frees records one region after the other |
//! | the machine stops | undefined: nothing is synced to a device, since what was in swap is gone as well |
//!
//! # Restart
//!
//! With a tree, turn the types on first, and then make the tree over the table:
//!
//! 1. Take the descriptor of each file from the parent or the service manager, or open the files.
//! 2. Turn each type on with `swapon_file`.
//! 3. Make the tree over that table. [`Memcgs::with_records`](crate::memcg::Memcgs::with_records) takes ids and parents, and leaves
//!    limits and pages in memory to you. [`image::Reader::tree_over`](crate::image::Reader::tree_over) takes all of that from
//!    an image of the tree, which a daemon writes now and then ([`image::Writer`](crate::image::Writer), without the types).
//!    Both charge each cgroup for the records that the table has by then. If they fail, the records stay in the files.
//! 4. Turn on what is new, and so has no records, with [`Memcgs::swapon_file`](crate::memcg::Memcgs::swapon_file).
//!
//! # One table at a time
//!
//! While a type is on with a file, its table has a lock on the file (`flock`), on a description of its own,
//! which it opens through `/proc/self/fd`. So a second table is refused with [`FileError::InUse`], in this
//! process or another, also where both have the very same descriptor. The lock ends with the process, with
//! the table, and with `swapoff`. The lock is advisory: it keeps out tables, and nothing else.
//!
//! # Children that are forked
//!
//! A child that is forked has the same lock, the same entries, and its own copy of all else. It must not use
//! its copy of the table, but for dropping it: its writes would reach the entries of the parent, whose index
//! would not know of them. Its drop leaves the lock to the parent. (Child and parent are told apart by their
//! process ids, so do not drop it in a child that has the same id in a PID namespace of its own.)
//!
//! When the parent turns the type off, or drops its table, the lock is free, whatever its children do. When the
//! parent is killed, the lock stays until those children have ended, called `exec`, or dropped their tables.
//!
//! # Memory
//!
//! The file is sparse. It takes memory, or space on its device, for chunks of
//! [`CHUNK_ENTRIES`](crate::CHUNK_ENTRIES) slots that were touched: 2 bytes per slot. In a `memfd`, a chunk
//! is also touched by a lookup in it, and by a scan of its region. A `swapon_file` reads no hole. The index
//! is memory of the process, as for a
//! [`swapon`](crate::SwapRecords::swapon).
//!
//! Where the system has no page for a chunk that is touched, since the memory, the limit of a control group
//! or the device is full, it sends `SIGBUS`, which ends the process. [`allocate`](RecordFile::allocate)
//! takes all that the file can need at once, and may be refused instead.
//!
//! Maps stay until the table is dropped, as address space. A file that is turned on again under the same
//! type takes the map that it had. So a type that is turned on with ever new files costs, for each, 2.5
//! bytes of address space per slot and a byte of memory per [`REGION_ENTRIES`](crate::REGION_ENTRIES)
//! slots, 4 KiB at least; and a file that was deleted is not freed before the table is. Take one file per
//! swapfile, or drop the table.
//!
//! A process that locks its memory (`mlockall` with `MCL_FUTURE`, without `MCL_ONFAULT`) makes all of the
//! file resident.

mod error;
mod swapon;

pub use error::{FileError, SwaponFileError};
pub use swapon::{Reopened, SwaponFile};

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::storage::file::header::{Header, check_pages, file_len};
use crate::storage::file::{read_header, sys};

/// A file that holds the records of one swapfile, to be turned on with
/// [`swapon_file`](crate::SwapRecords::swapon_file).
///
/// It is a descriptor and nothing else: it may be dropped while a table has the file on. It implements
/// [`AsFd`], so that the descriptor can be sent to another process (`SCM_RIGHTS`), or to the descriptor
/// store of a service manager.
///
/// # Other writers
///
/// While a table has the file on, nothing else may write to it: no other process, and no code of this one by the
/// descriptor. Hand the descriptor on, and do not write by it; give it only to processes that keep to this. The
/// crate cannot rule such writes out. As with `/proc/self/mem`, they go round the language, whose memory model
/// promises nothing about them.
///
/// What to expect of one: answers that are wrong, counts that are too high or too low, operations that panic, and
/// records that a [`swapoff`](crate::SwapRecords::swapoff) may leave in the file. All bytes are valid records,
/// and no address is taken from them without a check or a mask, so the table has no way known to other memory.
/// While no table has the file on, it may be written to: the next `swapon_file` takes what it finds.
///
/// The file is a page of 4096 bytes that says what it is, and then the ids of all slots, 2 bytes each in
/// the machine's order of bytes, up to the next multiple of [`REGION_ENTRIES`](crate::REGION_ENTRIES)
/// slots. `docs/design.md` has the page's fields.
#[derive(Debug)]
pub struct RecordFile {
    file: File,
}

impl RecordFile {
    /// Makes a file of `max_pages` slots in memory: a `memfd`, without a name in any folder.
    ///
    /// It is sealed against shrinking, growing, and more seals (`F_SEAL_SHRINK`, `F_SEAL_GROW`,
    /// `F_SEAL_SEAL`), so nobody can truncate it under a table. That is why this is safe. It lives as long
    /// as a descriptor, or a map, of it is open somewhere: hand the descriptor on if it is to outlive this
    /// process.
    ///
    /// No seal keeps a process that has the descriptor from writing. The type's docs say, under [Other
    /// writers](Self#other-writers), what is asked of it and what happens otherwise.
    ///
    /// Takes a page of memory. The rest follows the records.
    ///
    /// # Errors
    ///
    /// [`FileError::Pages`] where `max_pages` is 0 or more than a swapfile can have; [`FileError::Io`] where
    /// the system refuses.
    pub fn memfd(max_pages: u64) -> Result<Self, FileError> {
        check_pages(max_pages)?;
        let file = sys::memfd(c"swap-records").map_err(FileError::io("creating"))?;
        make(&file, max_pages)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        sys::add_seals(file.as_fd(), seals).map_err(FileError::io("sealing"))?;
        Ok(Self { file })
    }

    /// Takes the descriptor of a file that [`memfd`](Self::memfd) has made, maybe in another process.
    ///
    /// Whether it holds records is found out by `swapon_file`. Whatever has the descriptor must keep to
    /// what [Other writers](Self#other-writers) asks.
    ///
    /// ```
    /// use std::os::fd::OwnedFd;
    /// use swap_records::file::RecordFile;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let fd = OwnedFd::from(RecordFile::memfd(1 << 20)?);
    /// let file = RecordFile::from_memfd(fd)?;
    /// assert_eq!(file.max_pages()?, 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`FileError::NotSealable`] where it is no `memfd`, [`FileError::NotSealed`] where it could shrink or
    /// grow, and [`FileError::ReadOnly`] where it cannot be written to. The descriptor is closed then.
    pub fn from_memfd(memfd: OwnedFd) -> Result<Self, FileError> {
        let seals = sys::seals(memfd.as_fd()).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => FileError::NotSealable,
            _ => FileError::io("asking for the seals of")(error),
        })?;
        let both = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        if seals & both != both {
            return Err(FileError::NotSealed { seals });
        }
        if seals & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE) != 0 {
            return Err(FileError::ReadOnly);
        }
        Self::from_writable(memfd.into())
    }

    /// Makes a new file of `max_pages` slots at `path`, where there must not be any.
    ///
    /// The header is written last. So a process that is killed meanwhile leaves a file that `swapon_file`
    /// refuses with
    /// [`FileError::Unfinished`]. Nothing is synced to the device.
    ///
    /// # Safety
    ///
    /// From when a table turns the file on until that table is dropped, nobody may truncate the file: an
    /// access to what is gone ends the process (`SIGBUS`). While it is on, nothing but that table may write
    /// to it. The lock of the table is advisory and keeps nobody from either.
    ///
    /// # Errors
    ///
    /// [`FileError::Pages`] as for [`memfd`](Self::memfd); [`FileError::Io`] where there is something at
    /// `path`, or the system refuses. Then no file was made.
    pub unsafe fn create(path: impl AsRef<Path>, max_pages: u64) -> Result<Self, FileError> {
        check_pages(max_pages)?;
        let path = path.as_ref();
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(path).map_err(FileError::io("creating"))?;
        make(&file, max_pages).inspect_err(|_| {
            // It is nobody's yet.
            let _ = fs::remove_file(path);
        })?;
        Ok(Self { file })
    }

    /// Takes a file that [`create`](Self::create) has made, open for reading and writing.
    ///
    /// ```no_run
    /// use std::fs::File;
    /// use swap_records::file::RecordFile;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file = File::options().read(true).write(true).open("/run/swapd/0.records")?;
    /// // SAFETY: the folder is this service's alone.
    /// let file = unsafe { RecordFile::from_file(file) }?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Safety
    ///
    /// As for [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// [`FileError::ReadOnly`] where it is not open for reading and writing.
    ///
    /// A table opens the file anew, by `swapon_file`, as the user that runs the process then. A process that opens
    /// the file and drops its privileges before that is refused with [`FileError::Denied`], unless the file's owner
    /// or mode lets that user open it for reading and writing. A `memfd` has no such need.
    pub unsafe fn from_file(file: File) -> Result<Self, FileError> {
        Self::from_writable(file)
    }

    fn from_writable(file: File) -> Result<Self, FileError> {
        let is_writable = sys::is_read_write(file.as_fd());
        if is_writable.map_err(FileError::io("asking for the mode of"))? {
            Ok(Self { file })
        } else {
            Err(FileError::ReadOnly)
        }
    }

    /// How many slots the file was made for. Reads the header.
    ///
    /// # Errors
    ///
    /// [`FileError`]: what `swapon_file` would refuse the file for, as far as its header and its length say.
    pub fn max_pages(&self) -> Result<u64, FileError> {
        Ok(read_header(&self.file)?.max_pages)
    }

    /// Takes memory, or space on the device, for all slots now: 2 bytes per slot. Records stay as they are.
    ///
    /// After this, no operation ends in `SIGBUS` for want of memory, up to the next `swapoff`, which gives
    /// all of it back. Takes as long as the system needs to zero that much memory. May be called while the
    /// file is on.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] where there is not as much, or the file system cannot; others as for
    /// [`max_pages`](Self::max_pages).
    pub fn allocate(&self) -> Result<(), FileError> {
        let len = file_len(self.max_pages()?);
        sys::allocate(&self.file, 0..len).map_err(FileError::io("allocating"))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Makes an empty file one of records.
fn make(file: &File, max_pages: u64) -> Result<(), FileError> {
    file.set_len(file_len(max_pages))
        .map_err(FileError::io("setting the length of"))?;
    // Last, and in one write: a file that has a header has all that there is to it.
    let header = Header::new(max_pages).to_bytes();
    file.write_all_at(&header, 0)
        .map_err(FileError::io("writing the header of"))
}

/// To hand the descriptor on. Do not write by it: see [Other writers](RecordFile#other-writers).
impl AsFd for RecordFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// To hand the descriptor on. Do not write by it: see [Other writers](RecordFile#other-writers).
impl From<RecordFile> for OwnedFd {
    fn from(file: RecordFile) -> Self {
        file.file.into()
    }
}
