//! Makes the calls of `userfaultfd` that the manager and its guests need.
//!
//! It uses the structures of `linux-raw-sys`. The crate `userfaultfd` needs libclang to build.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use linux_raw_sys::general as sys;
use linux_raw_sys::ioctl as op;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::mm::UserfaultfdFlags;

use crate::shared::Words;
use crate::{About, PAGE};

/// The header names it; the bindings leave it out, as other constants that are computed.
const WRITEPROTECT_MODE_WP: u32 = 1;
const FEATURES: u32 = sys::UFFD_FEATURE_PAGEFAULT_FLAG_WP
    | sys::UFFD_FEATURE_MISSING_SHMEM
    | sys::UFFD_FEATURE_WP_HUGETLBFS_SHMEM;

/// A `userfaultfd` of this process, or one that another process has sent.
#[derive(Debug)]
pub(crate) struct Uffd(OwnedFd);

/// A page of the guest that was touched and not there, or was written and protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    /// In the guest.
    pub(crate) address: u64,
    /// The page is there, and protected against writing.
    pub(crate) protected: bool,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Done {
    Yes,
    /// There was a page already. It was left as it is.
    Exists,
    /// The process has ended.
    Gone,
}

impl Uffd {
    /// For faults of this process in user mode, on shared memory, missing and write-protected.
    pub(crate) fn new() -> io::Result<Self> {
        // The bit that rustix has no name for.
        let user_mode = UserfaultfdFlags::from_bits_retain(sys::UFFD_USER_MODE_ONLY);
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK | user_mode;
        // SAFETY: a new descriptor, which changes no memory.
        let uffd = unsafe { rustix::mm::userfaultfd(flags) };
        let uffd = Self(uffd.about(|| "making a userfaultfd".into())?);
        let mut api = sys::uffdio_api {
            api: u64::from(sys::UFFD_API),
            features: u64::from(FEATURES),
            ioctls: 0,
        };
        uffd.call::<{ op::UFFDIO_API }, _>(&mut api)
            .about(|| "UFFDIO_API".into())?;
        Ok(uffd)
    }

    /// Makes the kernel report faults of these words.
    pub(crate) fn register(&self, words: &Words) -> io::Result<()> {
        let mode = sys::UFFDIO_REGISTER_MODE_MISSING | sys::UFFDIO_REGISTER_MODE_WP;
        let mut register = sys::uffdio_register {
            range: range(words.address(), words.bytes()),
            mode: u64::from(mode),
            ioctls: 0,
        };
        self.call::<{ op::UFFDIO_REGISTER }, _>(&mut register)
            .about(|| at("UFFDIO_REGISTER", words.address()))
    }

    /// Reads up to 16 faults that wait to be read.
    pub(crate) fn read(&self, faults: &mut Vec<Fault>) -> io::Result<()> {
        const MESSAGE: usize = size_of::<sys::uffd_msg>();
        faults.clear();
        let mut bytes = [0_u8; 16 * MESSAGE];
        let read = match rustix::io::read(&self.0, &mut bytes) {
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error).about(|| "reading a userfaultfd".into()),
        };
        for message in bytes[..read].chunks_exact(MESSAGE) {
            let word =
                |at: usize| u64::from_ne_bytes(message[at..at + 8].try_into().unwrap_or([0; 8]));
            // No other event was asked for.
            if u32::from(message[0]) == sys::UFFD_EVENT_PAGEFAULT {
                faults.push(Fault {
                    address: word(16) & !(PAGE as u64 - 1),
                    protected: word(8) & u64::from(sys::UFFD_PAGEFAULT_FLAG_WP) != 0,
                });
            }
        }
        Ok(())
    }

    /// Puts a page where there is none, and wakes those that wait for it.
    pub(crate) fn copy(&self, address: u64, page: &[u8; PAGE]) -> io::Result<Done> {
        loop {
            let mut copy = sys::uffdio_copy {
                dst: address,
                src: page.as_ptr() as u64,
                len: PAGE as u64,
                mode: 0,
                copy: 0,
            };
            match self.call::<{ op::UFFDIO_COPY }, _>(&mut copy) {
                Err(Errno::EXIST) => return Ok(Done::Exists),
                done => {
                    if let Some(done) = ended(done).about(|| at("UFFDIO_COPY", address))? {
                        return Ok(done);
                    }
                }
            }
        }
    }

    /// Protects these pages: a write is a fault, which waits. Also protects places that have no page yet.
    pub(crate) fn protect(&self, address: u64, bytes: u64) -> io::Result<Done> {
        self.write_protect(address, bytes, WRITEPROTECT_MODE_WP)
    }

    /// Lets these pages be written to, and wakes those that wait for it.
    pub(crate) fn unprotect(&self, address: u64, bytes: u64) -> io::Result<Done> {
        self.write_protect(address, bytes, 0)
    }

    fn write_protect(&self, address: u64, bytes: u64, mode: u32) -> io::Result<Done> {
        loop {
            let mut protect = sys::uffdio_writeprotect {
                range: range(address, bytes),
                mode: u64::from(mode),
            };
            let done = ended(self.call::<{ op::UFFDIO_WRITEPROTECT }, _>(&mut protect));
            if let Some(done) = done.about(|| at("UFFDIO_WRITEPROTECT", address))? {
                return Ok(done);
            }
        }
    }

    /// Wakes all threads that wait for these pages. They try again.
    pub(crate) fn wake(&self, address: u64, bytes: u64) -> io::Result<Done> {
        loop {
            let mut range = range(address, bytes);
            let done = ended(self.call::<{ op::UFFDIO_WAKE }, _>(&mut range));
            if let Some(done) = done.about(|| at("UFFDIO_WAKE", address))? {
                return Ok(done);
            }
        }
    }

    fn call<const OPCODE: Opcode, T>(&self, argument: &mut T) -> Result<(), Errno> {
        // SAFETY: the callers above name each request with the structure that it takes.
        let request = unsafe { Updater::<OPCODE, T>::new(argument) };
        // SAFETY: of memory of this process, the kernel reads and writes the structure, and reads the page
        // that a copy names, which is borrowed meanwhile. It writes to a page of a map only where none is
        // there, so under no reference that was read through; protection and wakes change no byte.
        unsafe { ioctl(&self.0, request) }
    }
}

/// Returns `None` where the call must be made again, since the guest is changing its maps.
fn ended(done: Result<(), Errno>) -> io::Result<Option<Done>> {
    match done {
        Ok(()) => Ok(Some(Done::Yes)),
        Err(Errno::AGAIN | Errno::INTR) => {
            std::thread::yield_now();
            Ok(None)
        }
        // A process that is ending has no memory, or none of these pages.
        Err(Errno::SRCH | Errno::NOENT) => Ok(Some(Done::Gone)),
        Err(error) => Err(error.into()),
    }
}

/// Names a request, and the address in the guest that it is about.
fn at(request: &str, address: u64) -> String {
    format!("{request} at {address:#x}")
}

fn range(start: u64, len: u64) -> sys::uffdio_range {
    sys::uffdio_range { start, len }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Uffd {
    /// Takes a descriptor that another process has sent. Returns `None` where it is not a `userfaultfd`: a
    /// request must not reach a file that understands its number in another way.
    pub(crate) fn from_other(fd: OwnedFd) -> io::Result<Option<Self>> {
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let file = std::fs::read_link(&name).about(|| format!("reading the link {name}"))?;
        let is_uffd = file.as_os_str() == "anon_inode:[userfaultfd]";
        Ok(is_uffd.then_some(Self(fd)))
    }
}

impl From<OwnedFd> for Uffd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// Says why no guest can run here. No privilege is needed: each `userfaultfd` is for faults in user mode only.
pub(crate) fn reason_not_to_run() -> Option<String> {
    let error = Uffd::new().err()?;
    Some(format!(
        "userfaultfd with write protection of shared memory is needed (Linux 5.19 or later): {error}"
    ))
}
