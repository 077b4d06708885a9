//! A descriptor that is sent to another process over a Unix socket.

use std::io::{Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use swap_records::file::{FileError, RecordFile, SwaponFileError};
use swap_records::{MemcgId, SwapRecords};

use crate::child::{Log, start};
use crate::work::{PAGES, TYPE, entry};

const A: MemcgId = MemcgId::new(1).unwrap();
const B: MemcgId = MemcgId::new(2).unwrap();

/// A control message with one descriptor, which follows the header without a gap.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fd: i32,
}

/// Calls `call` to send or receive a message of one byte and a descriptor. Returns the descriptor.
fn message(fd: i32, call: impl FnOnce(&mut libc::msghdr) -> isize) -> i32 {
    let mut byte = [0_u8; 1];
    // SAFETY: it computes a size.
    let len = unsafe { libc::CMSG_LEN(4) };
    let mut control = Control {
        header: libc::cmsghdr {
            cmsg_len: len as _,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        },
        fd,
    };
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: a header of zeroes is a message without contents.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    assert_eq!(call(&mut message), 1);
    assert_eq!(control.header.cmsg_type, libc::SCM_RIGHTS);
    assert_eq!(control.header.cmsg_len, len as _);
    control.fd
}

fn send(socket: &UnixStream, fd: BorrowedFd<'_>) {
    message(fd.as_raw_fd(), |message| {
        // SAFETY: everything that the message refers to lives until the caller of this function returns.
        unsafe { libc::sendmsg(socket.as_raw_fd(), message, 0) }
    });
}

fn receive(socket: &UnixStream) -> OwnedFd {
    let fd = message(-1, |message| {
        // SAFETY: as above.
        unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) }
    });
    assert!(fd >= 0);
    // SAFETY: it came with the message, and nothing else owns it in this process.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Takes a table over as soon as the other process closes it.
pub fn take(socket: OwnedFd) {
    let mut socket = UnixStream::from(socket);
    let file = RecordFile::from_memfd(receive(&socket)).unwrap();
    let table = SwapRecords::<swap_records::RawSpinLock>::new();
    let why = table.swapon_file(TYPE, PAGES, &file).run().unwrap_err();
    let in_use = matches!(
        why,
        SwaponFileError::File {
            why: FileError::InUse,
            ..
        }
    );
    assert!(in_use, "{why}");
    socket.write_all(b"d").unwrap();
    socket.read_exact(&mut [0]).unwrap();
    let found = table.swapon_file(TYPE, PAGES, &file).run().unwrap();
    assert_eq!((found.records, found.regions), (70_000, 3));
    assert_eq!(table.migrate(A, B), 70_000);
    table.clear(entry(5)).unwrap();
    table.validate().unwrap();
}

#[test]
fn a_descriptor_that_is_passed_over_a_socket_hands_the_table_on() {
    let file = RecordFile::memfd(PAGES).unwrap();
    let table = SwapRecords::new();
    table.swapon_file(TYPE, PAGES, &file).run().unwrap();
    table.record_range(entry(0), 70_000, A).unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let log = Log::new("take");
    let mut other = start("take", theirs.into(), &log, 0);
    send(&ours, file.as_fd());
    // The process found the file in use, although it has the very same descriptor.
    ours.read_exact(&mut [0]).unwrap();
    table.record(entry(0), A).unwrap();
    drop(table);
    ours.write_all(b"g").unwrap();
    other.end();
    let table = SwapRecords::new();
    let found = table.swapon_file(TYPE, PAGES, &file).run().unwrap();
    assert_eq!(found.records, 69_999);
    assert_eq!((table.count(A), table.count(B)), (0, 69_999));
    table.validate().unwrap();
}
