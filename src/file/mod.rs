//! Keeps the records of a table in files, where they outlive the process. Needs feature `std` and Linux.
//!
//! A [`RecordFile`] holds the records of one swapfile. [`swapon_file`](crate::SwapRecords::swapon_file) maps
//! the file. Operations then write to the pages of the file as they write to memory. They cost the same, and
//! none makes a system call. The file holds only the records. Locks and index are memory of the process. The
//! next process makes them from the records, on as many threads as it likes.
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
//! # What is kept
//!
//! | event | records in the file |
//! | --- | --- |
//! | the process is killed, at any instruction | all that were written. An operation that was interrupted may have written some of its slots, each of them whole |
//! | the process ends, or the table is dropped | all |
//! | [`swapoff`](crate::SwapRecords::swapoff) | none. The memory of the file goes back to the system; its length stays |
//! | the process is killed during `swapoff` | all or none: the next `swapon_file` completes a `swapoff` that had begun. Some, if the system failed to write 4 bytes of the header because the device was full or broken |
//! | the process is killed during `swapon_file` | as before |
//! | the process is killed during [`Memcgs::swapoff`](crate::memcg::Memcgs::swapoff) | some: a tree frees records region by region |
//! | the machine stops | undefined: nothing is synced to a device, since the swapped pages are lost as well |
//!
//! # Restart
//!
//! A file holds the ids of owners. The program must store elsewhere what each id stands for.
//!
//! Without a tree, take the descriptor of each file as in step 1 below, and turn each type on. The example
//! `restart` (`examples/restart.rs`) does this with a daemon that is killed: its parent keeps the `memfd`, and
//! each daemon gets it as standard input.
//!
//! With a tree, turn on the types first, then make the tree over the table:
//!
//! 1. Take the descriptor of each file from the parent or the service manager, or open the files.
//! 2. Turn each type on with `swapon_file`.
//! 3. Make the tree over that table. [`Memcgs::with_records`](crate::memcg::Memcgs::with_records) takes ids
//!    and parents, and leaves limits and pages in memory to you.
//!    [`image::Reader::tree_over`](crate::image::Reader::tree_over) takes all of them from an image of the
//!    tree. A daemon writes such an image from time to time, with [`image::Writer`](crate::image::Writer) and
//!    without the types. Both functions charge each cgroup for the records that the table has. If they fail,
//!    the records stay in the files.
//! 4. Turn on new files, which have no records, with
//!    [`Memcgs::swapon_file`](crate::memcg::Memcgs::swapon_file).
//!
//! # One table at a time
//!
//! While a type is on with a file, its table holds a lock on the file (`flock`). The lock belongs to an open
//! file description of its own, which the table opens through `/proc/self/fd`. A second table is refused with
//! [`FileError::InUse`], in this process or another, even with the same descriptor. The lock ends with the
//! process, with the table, and with `swapoff`. The lock is advisory: it keeps out other tables only.
//!
//! # Forked children
//!
//! A forked child shares the lock and the entries, and has its own copy of everything else. It must not use
//! its copy of the table, except to drop it. Its writes would change the entries of the parent, but not the
//! parent's index. Dropping the copy leaves the lock to the parent. The table recognizes a child by its
//! process id. A child that has the same id in its own PID namespace must not drop its copy.
//!
//! When the parent turns the type off or drops its table, the lock is free, even while children are alive.
//! When the parent is killed, its children keep the lock until they end, call `exec`, or drop their tables.
//!
//! # Memory
//!
//! The file is sparse. It takes memory, or space on its device, for each chunk of
//! [`CHUNK_ENTRIES`](crate::CHUNK_ENTRIES) slots that was touched: 2 bytes per slot. In a `memfd`, a lookup in a chunk and a scan of its region
//! also touch it. `swapon_file` does not read holes. The index is memory of the process, as for
//! [`swapon`](crate::SwapRecords::swapon).
//!
//! Touching a chunk needs a page from the system. If memory is used up, a control group is at its limit, or
//! the device is full, the system sends `SIGBUS`, which ends the process. [`allocate`](RecordFile::allocate)
//! takes all the memory that the file can need in advance, and returns an error if it fails.
//!
//! The table keeps each mapping, as address space, until it is dropped. A file that is turned on again under
//! the same type reuses its mapping. Each new file of a type costs 2.5 bytes of address space per slot,
//! and memory for the locks of its regions ([`REGION_ENTRIES`](crate::REGION_ENTRIES) slots each). With locks
//! of one byte, that is 64 bytes per region for up to 64 regions, 4 KiB for up to 4096 regions, and 1 byte per
//! region from there on. A deleted file stays allocated until the table is dropped. Use one file per swapfile,
//! or drop the table.
//!
//! A process that locks its memory (`mlockall` with `MCL_FUTURE`, without `MCL_ONFAULT`) makes the whole file
//! resident.

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

/// Holds the records of one swapfile in a file, for [`swapon_file`](crate::SwapRecords::swapon_file).
///
/// A `RecordFile` is only a descriptor. It may be dropped while a table has the file on. It implements
/// [`AsFd`], so a program can send the descriptor to another process (`SCM_RIGHTS`) or to the descriptor
/// store of a service manager.
///
/// # Other writers
///
/// While a table has the file on, nothing else may write to the file: no other process, and no other code of
/// this process. Hand the descriptor only to processes that obey this rule. The crate cannot prevent such
/// writes. As with writes through `/proc/self/mem`, the memory model of the language promises nothing about
/// them.
///
/// After such a write, expect wrong answers, counts that are too high or too low, operations that panic, and
/// records that [`swapoff`](crate::SwapRecords::swapoff) leaves in the file. Any two bytes are a valid
/// record, and the table checks or masks each value before it uses it as an index. So no write to the file is
/// known to let the table access other memory. While no table has the file on, any program may write to it:
/// the next `swapon_file` takes the records that it finds.
///
/// # Format
///
/// The file begins with a header of 4096 bytes. The ids of all slots follow, 2 bytes each in the byte order
/// of the machine, up to the next multiple of [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots.
/// `docs/files.md` lists the fields of the header.
#[derive(Debug)]
pub struct RecordFile {
    file: File,
}

impl RecordFile {
    /// Makes a file for `max_pages` slots in memory: a `memfd`, which has no name in any directory.
    ///
    /// The file is sealed against shrinking, growing, and further seals (`F_SEAL_SHRINK`, `F_SEAL_GROW`,
    /// `F_SEAL_SEAL`). No process can truncate it under a table, so this function is safe. The file lives as
    /// long as any process holds a descriptor or a mapping of it. To keep it after this process, hand the
    /// descriptor on.
    ///
    /// No seal prevents a process that has the descriptor from writing: see [Other
    /// writers](Self#other-writers).
    ///
    /// Takes one page of memory. Records take more as they are written.
    ///
    /// # Errors
    ///
    /// [`FileError::Pages`] if `max_pages` is 0 or more than a swapfile can have. [`FileError::Io`] if a
    /// system call fails.
    pub fn memfd(max_pages: u64) -> Result<Self, FileError> {
        check_pages(max_pages)?;
        let file = sys::memfd(c"swap-records").map_err(FileError::io("creating"))?;
        make(&file, max_pages)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        sys::add_seals(file.as_fd(), seals).map_err(FileError::io("sealing"))?;
        Ok(Self { file })
    }

    /// Takes the descriptor of a file that [`memfd`](Self::memfd) made, in this process or another.
    ///
    /// Does not look for records: `swapon_file` does. All processes that have the descriptor must obey the
    /// rule of [Other writers](Self#other-writers).
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
    /// [`FileError::NotSealable`] if the descriptor is not a `memfd`, [`FileError::NotSealed`] if the file
    /// could shrink or grow, and [`FileError::ReadOnly`] if it is not writable. The descriptor is closed in
    /// each case.
    pub fn from_memfd(memfd: OwnedFd) -> Result<Self, FileError> {
        let seals = sys::seals(memfd.as_fd()).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => FileError::NotSealable,
            _ => FileError::io("reading the seals of")(error),
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

    /// Makes a new file for `max_pages` slots at `path`. No file may exist there.
    ///
    /// Writes the header last. If the process is killed before that, `swapon_file` refuses the file with
    /// [`FileError::Unfinished`]. Nothing is synced to the device.
    ///
    /// # Safety
    ///
    /// No process may truncate the file from the moment a table turns it on until that table is dropped. An
    /// access to a page that was cut off ends the process (`SIGBUS`). While the file is on, nothing but that
    /// table may write to it. The lock of the table is advisory and prevents neither.
    ///
    /// # Errors
    ///
    /// [`FileError::Pages`] as for [`memfd`](Self::memfd). [`FileError::Io`] if `path` exists or a system
    /// call fails. No new file is left then.
    pub unsafe fn create(path: impl AsRef<Path>, max_pages: u64) -> Result<Self, FileError> {
        check_pages(max_pages)?;
        let path = path.as_ref();
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(path).map_err(FileError::io("creating"))?;
        make(&file, max_pages).inspect_err(|_| {
            // The file is new, so nothing else uses it.
            let _ = fs::remove_file(path);
        })?;
        Ok(Self { file })
    }

    /// Takes a file that [`create`](Self::create) made, open for reading and writing.
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
    /// [`FileError::ReadOnly`] if the file is not open for reading and writing.
    ///
    /// `swapon_file` opens the file again, as the user that runs the process at that time. If the process
    /// opened the file and then dropped its privileges, `swapon_file` fails with [`FileError::Denied`],
    /// unless owner or mode of the file let that user read and write it. A `memfd` has no such condition.
    pub unsafe fn from_file(file: File) -> Result<Self, FileError> {
        Self::from_writable(file)
    }

    fn from_writable(file: File) -> Result<Self, FileError> {
        let is_writable = sys::is_read_write(file.as_fd());
        if is_writable.map_err(FileError::io("reading the mode of"))? {
            Ok(Self { file })
        } else {
            Err(FileError::ReadOnly)
        }
    }

    /// Returns the number of slots that the file was made for. Reads the header.
    ///
    /// # Errors
    ///
    /// [`FileError`], if `swapon_file` would refuse the header or the length of the file.
    pub fn max_pages(&self) -> Result<u64, FileError> {
        Ok(read_header(&self.file)?.max_pages)
    }

    /// Allocates memory, or space on the device, for all slots: 2 bytes per slot. Keeps the records.
    ///
    /// After this, no operation ends in `SIGBUS` for lack of memory until the next `swapoff`, which gives the
    /// memory back. May be called while the file is on.
    ///
    /// # Cost
    ///
    /// As long as the system needs to zero that much memory.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] if there is not enough memory or space, or the file system does not support it.
    /// Others as for [`max_pages`](Self::max_pages).
    pub fn allocate(&self) -> Result<(), FileError> {
        let len = file_len(self.max_pages()?);
        sys::allocate(&self.file, 0..len).map_err(FileError::io("allocating"))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Makes an empty file a file of records.
fn make(file: &File, max_pages: u64) -> Result<(), FileError> {
    file.set_len(file_len(max_pages))
        .map_err(FileError::io("setting the length of"))?;
    // Last, and in one write, so a file that has a header is complete.
    let header = Header::new(max_pages).to_bytes();
    file.write_all_at(&header, 0)
        .map_err(FileError::io("writing the header of"))
}

/// Lends the descriptor, to hand it on. Do not write through it: see [Other
/// writers](RecordFile#other-writers).
impl AsFd for RecordFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Gives the descriptor away, to hand it on. Do not write through it: see [Other
/// writers](RecordFile#other-writers).
impl From<RecordFile> for OwnedFd {
    fn from(file: RecordFile) -> Self {
        file.file.into()
    }
}
