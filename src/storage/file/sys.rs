//! The calls of the system that the standard library lacks.

use core::ffi::{CStr, c_int};
use core::ops::Range;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn offset(bytes: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// A `memfd` that is closed on exec, can be sealed, and cannot be made executable where the system knows of
/// that.
pub(crate) fn memfd(name: &CStr) -> io::Result<File> {
    let create = |more| {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | more;
        // SAFETY: it reads the name, which ends with a zero.
        checked(unsafe { libc::memfd_create(name.as_ptr(), flags) })
    };
    // Systems before Linux 6.3 refuse a flag that they do not know.
    let fd = match create(libc::MFD_NOEXEC_SEAL) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(0),
        made => made,
    }?;
    // SAFETY: it was just made, and is nobody else's.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(owned.into())
}

/// The seals of a `memfd`; refused with `EINVAL` where there cannot be any.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: it takes numbers, and the descriptor is open.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) })
}

pub(crate) fn add_seals(fd: BorrowedFd<'_>, seals: c_int) -> io::Result<()> {
    // SAFETY: as above.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// Whether the descriptor is open for reading and writing.
pub(crate) fn is_read_write(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: as above.
    let flags = checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    Ok(flags & libc::O_ACCMODE == libc::O_RDWR)
}

fn fallocate(file: &File, mode: c_int, bytes: Range<u64>) -> io::Result<()> {
    let (start, len) = (offset(bytes.start)?, offset(bytes.end - bytes.start)?);
    loop {
        // SAFETY: it takes numbers, and the descriptor is open. What it does to a file that is mapped is
        // said by its callers.
        match checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, start, len) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map(drop),
        }
    }
}

/// Makes these bytes read as 0, and gives their memory back. In maps of the file, as a store of 0 to each
/// would.
pub(crate) fn punch_hole(file: &File, bytes: Range<u64>) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(file, mode, bytes)
}

/// Takes memory, or space on the device, for these bytes. They read as before.
pub(crate) fn allocate(file: &File, bytes: Range<u64>) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_KEEP_SIZE, bytes)
}

/// Where the first byte from `from` on lies that is data (`SEEK_DATA`) or in a hole (`SEEK_HOLE`).
pub(crate) fn seek(file: &File, from: u64, whence: c_int) -> io::Result<u64> {
    let from = offset(from)?;
    // SAFETY: as above. Nothing else uses the offset that this sets.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
    u64::try_from(at).map_err(|_| io::Error::last_os_error())
}
