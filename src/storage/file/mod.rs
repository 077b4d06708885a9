//! A file whose entries are mapped: [`Locked`], which one table has at a time, and [`Map`].

pub(crate) mod header;
pub(crate) mod sys;

use core::ops::Range;
use core::ptr::NonNull;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(all(test, not(miri)))]
use alloc::format;
use memmap2::{MmapOptions, MmapRaw};

use crate::file::FileError;
use header::{EMPTYING, HEADER, Header, IN_USE, STATE_AT, USED, file_len};

/// What tells a file from all other files that exist at the same time. The inode number of a `memfd` comes
/// from a counter of 32 bits; the random number covers its reuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    random: u64,
    /// A file may have grown, with its header, while it was off. Its old map is then too short.
    max_pages: u64,
}

/// Reads the header of a file, and compares it with the file's length.
pub(crate) fn read_header(file: &File) -> Result<Header, FileError> {
    let len = file
        .metadata()
        .map_err(FileError::io("asking for the length of"))?
        .len();
    let mut bytes = [0; USED];
    let mut at = 0;
    while at < USED {
        match file.read_at(&mut bytes[at..], at as u64) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::io("reading the header of")(error)),
        }
    }
    let header = Header::from_bytes(&bytes, len)?;
    let expected = file_len(header.max_pages);
    if len != expected {
        return Err(FileError::Length {
            found: len,
            expected,
            max_pages: header.max_pages,
        });
    }
    Ok(header)
}

/// A file of records that one table has until this is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    /// Opened anew, so that the lock is this table's own, even if other processes share the descriptor that
    /// it came by.
    file: File,
    /// The process that took the lock.
    process: u32,
    header: Header,
    identity: Identity,
}

impl Locked {
    /// Takes the file's lock, and checks that the file is whole and has this number of slots.
    pub(crate) fn new(of: &File, max_pages: u64) -> Result<Self, FileError> {
        let file = open_anew(of);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FileError::NoProc,
            io::ErrorKind::PermissionDenied => FileError::Denied { error },
            _ => FileError::io("opening anew")(error),
        })?;
        file.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => FileError::InUse,
            TryLockError::Error(error) => FileError::io("locking")(error),
        })?;
        // From here on, no other process empties the file.
        let header = read_header(&file)?;
        if header.max_pages != max_pages {
            return Err(FileError::MaxPages {
                found: header.max_pages,
                asked: max_pages,
            });
        }
        let metadata = file
            .metadata()
            .map_err(FileError::io("asking for the inode of"))?;
        let identity = Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            random: header.random,
            max_pages,
        };
        Ok(Self {
            file,
            process: process::id(),
            header,
            identity,
        })
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns whether a swapoff began to empty the file and did not finish.
    pub(crate) fn is_half_emptied(&self) -> bool {
        self.header.emptying
    }

    /// Writes to the file whether a swapoff is under way.
    fn set_state(&self, state: [u8; 4]) -> io::Result<()> {
        self.file.write_all_at(&state, STATE_AT as u64)
    }

    /// Returns the next bytes of entries from `from` on, up to `len`, that may not be zero. If the file
    /// system does not report holes, that is all of them.
    fn next_data(&self, from: usize, len: usize) -> Range<usize> {
        let end = len as u64 + HEADER;
        let seek = |from, whence| match sys::seek(&self.file, from, whence) {
            Ok(at) => Some(at.min(end)),
            // There is no such place up to the end of the file.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Some(end),
            Err(_) => None,
        };
        let data = from as u64 + HEADER;
        let data = seek(data, libc::SEEK_DATA).unwrap_or(data);
        let hole = seek(data, libc::SEEK_HOLE).unwrap_or(end);
        // The range has at least one byte, so that a caller that goes on after it makes progress.
        index(data)..index(hole.max(data + 1).min(end))
    }
}

/// Opens the same file once more, for reading and writing. Allocates nothing.
fn open_anew(of: &File) -> io::Result<File> {
    let mut path = [0; 32];
    let mut rest = &mut path[..];
    write!(rest, "/proc/self/fd/{}", of.as_fd().as_raw_fd())?;
    let unused = rest.len();
    let path = OsStr::from_bytes(&path[..path.len() - unused]);
    File::options().read(true).write(true).open(path)
}

/// Returns the index of a byte of the entries, from its offset in the file. All entries are mapped.
fn index(offset: u64) -> usize {
    usize::try_from(offset - HEADER).unwrap_or(usize::MAX)
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing the file would not release the lock: the map, and a forked child, keep the description
        // open. For the same reason, a child must not unlock: its descriptor shares the description, so the
        // lock is its parent's.
        if self.process == process::id() {
            let _ = self.file.unlock();
        }
    }
}

/// The map of a file's entries, which stays when the file is released.
#[derive(Debug)]
pub(crate) struct Map {
    map: MmapRaw,
    identity: Identity,
    /// The locked file while a swapfile is on with it. Only the thread that turns the swapfile on or off
    /// changes it.
    locked: Mutex<Option<Locked>>,
}

impl Map {
    /// Maps all entries of a file.
    pub(crate) fn new(locked: Locked) -> Result<(Self, NonNull<u8>), io::Error> {
        let len = file_len(locked.header.max_pages) - HEADER;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let map = MmapOptions::new()
            .offset(HEADER)
            .len(len)
            .map_raw(&locked.file)?;
        let start = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = Self {
            map,
            identity: locked.identity,
            locked: Mutex::new(Some(locked)),
        };
        Ok((map, start))
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    #[cfg(not(miri))]
    pub(super) fn raw(&self) -> &MmapRaw {
        &self.map
    }

    /// Returns the length in bytes, of whole regions.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    fn locked(&self) -> MutexGuard<'_, Option<Locked>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the locked file when a swapfile is turned on with it again.
    pub(crate) fn take(&self, locked: Locked) {
        debug_assert_eq!(self.identity, locked.identity);
        *self.locked() = Some(locked);
    }

    /// Releases the file, so that any table can turn it on.
    pub(crate) fn release(&self) {
        *self.locked() = None;
    }

    /// Writes to the file that its entries are zero and that no swapoff is under way. If this fails, the file
    /// still says that a swapoff is under way, so no table may record in it.
    pub(crate) fn emptied(&self) -> io::Result<()> {
        let locked = self.locked();
        let locked = locked.as_ref();
        locked.map_or(Ok(()), |locked| locked.set_state(IN_USE))
    }

    /// Zeroes the first `bytes`, and returns whether that succeeded. From before that until
    /// [`emptied`](Self::emptied), the file says that a swapoff is under way. If the process is killed in
    /// between, the next table that turns the file on empties it.
    pub(crate) fn give_back(&self, bytes: usize) -> bool {
        self.locked().as_ref().is_some_and(|locked| {
            // If this is refused, a process that is killed from here on leaves some of the records. A swapoff
            // cannot fail because of that, since the swapfile is gone.
            let _ = locked.set_state(EMPTYING);
            // All references to the map are shared atomics. For them, the hole is a store of 0 by another
            // thread.
            sys::punch_hole(&locked.file, HEADER..HEADER + bytes as u64).is_ok()
        })
    }

    /// Makes the system refuse holes, as some file systems do, and writes to the header.
    #[cfg(all(test, not(miri)))]
    pub(crate) fn refuse_holes(&self) {
        if let Some(locked) = &mut *self.locked() {
            let path = format!("/proc/self/fd/{}", locked.file.as_raw_fd());
            locked.file.unlock().expect("it is locked");
            locked.file = File::open(path).expect("the file may be read");
        }
    }

    pub(crate) fn next_data(&self, from: usize) -> Range<usize> {
        let len = self.map.len();
        match &*self.locked() {
            Some(locked) => locked.next_data(from, len),
            None => from..len,
        }
    }
}
