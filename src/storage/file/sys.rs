//! The system calls that the standard library lacks.

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

/// Creates a `memfd` that is closed on exec and can be sealed. It cannot be made executable, if the system
/// supports that.
pub(crate) fn memfd(name: &CStr) -> io::Result<File> {
    let create = |more| {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | more;
        // SAFETY: the call reads the name, which ends with a zero.
        checked(unsafe { libc::memfd_create(name.as_ptr(), flags) })
    };
    // Linux before 6.3 refuses the flag, which it does not know.
    let fd = match create(libc::MFD_NOEXEC_SEAL) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(0),
        made => made,
    }?;
    // SAFETY: the descriptor was just made, and nothing else owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(owned.into())
}

/// Returns the seals of a `memfd`. Fails with `EINVAL` for a file that cannot have seals.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: the call takes numbers, and the descriptor is open.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) })
}

pub(crate) fn add_seals(fd: BorrowedFd<'_>, seals: c_int) -> io::Result<()> {
    // SAFETY: as above.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// Returns whether the descriptor is open for reading and writing.
pub(crate) fn is_read_write(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: as above.
    let flags = checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    Ok(flags & libc::O_ACCMODE == libc::O_RDWR)
}

fn fallocate(file: &File, mode: c_int, bytes: Range<u64>) -> io::Result<()> {
    let (start, len) = (offset(bytes.start)?, offset(bytes.end - bytes.start)?);
    loop {
        // SAFETY: the call takes numbers, and the descriptor is open. The callers say what it does to a file
        // that is mapped.
        match checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, start, len) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map(drop),
        }
    }
}

/// Makes these bytes read as 0, and gives their memory back. In maps of the file, it acts as a store of 0 to
/// each byte.
pub(crate) fn punch_hole(file: &File, bytes: Range<u64>) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(file, mode, bytes)
}

/// Allocates memory, or space on the device, for these bytes. They read as before.
pub(crate) fn allocate(file: &File, bytes: Range<u64>) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_KEEP_SIZE, bytes)
}

/// Returns the place of the first byte from `from` on that is data (`SEEK_DATA`) or in a hole (`SEEK_HOLE`).
pub(crate) fn seek(file: &File, from: u64, whence: c_int) -> io::Result<u64> {
    let from = offset(from)?;
    // SAFETY: as above. Nothing else uses the offset that this sets.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
    u64::try_from(at).map_err(|_| io::Error::last_os_error())
}
