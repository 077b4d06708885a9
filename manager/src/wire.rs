//! Sends messages between processes over Unix sockets: a kind, numbers, and descriptors.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::About;

/// The kind of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Kind {
    /// Command to manager: the files that are there from the start.
    Files = 1,
    /// Command to manager, and back to be kept: a guest.
    Guest,
    /// Command to manager: nothing more comes; serve.
    Go,
    /// Command to manager: kept, or dropped.
    Kept,
    /// Manager to command: this guest is gone.
    Drop,
    /// Command to manager, or to a guest: come to an end.
    Finish,
    /// Manager to command, or guest to command: the end, and how it was.
    Ended,
    /// Guest to manager: here I am.
    Hello,
    /// Manager to guest: your faults are served.
    Welcome,
}

const KINDS: [Kind; 9] = [
    Kind::Files,
    Kind::Guest,
    Kind::Go,
    Kind::Kept,
    Kind::Drop,
    Kind::Finish,
    Kind::Ended,
    Kind::Hello,
    Kind::Welcome,
];

/// The most numbers of a message.
pub(crate) const NUMBERS: usize = 8;
/// The most descriptors of a message.
const FDS: usize = 8;
const BYTES: usize = 8 * (1 + NUMBERS);

/// A message. All have the same length on the wire.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) numbers: [u64; NUMBERS],
    pub(crate) fds: Vec<OwnedFd>,
}

/// Sends a message whole. Numbers that are not given are 0.
pub(crate) fn send(
    to: &UnixStream,
    kind: Kind,
    numbers: &[u64],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut bytes = [0; BYTES];
    let all = [&[kind as u64], numbers].concat();
    for (place, number) in bytes.chunks_exact_mut(8).zip(all) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let mut sent = 0;
    while sent < BYTES {
        let rest = [IoSlice::new(&bytes[sent..])];
        match rustix::net::sendmsg(to, &rest, &mut control, SendFlags::NOSIGNAL) {
            Ok(more) => {
                sent += more;
                // They go with the first byte.
                control.clear();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).about(|| format!("sending {kind:?} over a socket")),
        }
    }
    Ok(())
}

/// Waits for a message. Returns `None` where the other side is closed.
pub(crate) fn receive(from: &UnixStream) -> io::Result<Option<Message>> {
    let mut bytes = [0; BYTES];
    let mut fds = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut into = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(from, &mut into, &mut control, flags) {
            Ok(message) => break message,
            Err(rustix::io::Errno::INTR) => {}
            // An end that was killed with bytes to read.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error).about(|| "receiving a message over a socket".into()),
        }
    };
    let read = message.bytes;
    if read == 0 {
        return Ok(None);
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        // The kernel drops those that do not fit below the limit of open files.
        let error = "receiving a message over a socket: some of its descriptors were dropped; raise the limit \
                     of open files (ulimit -n)";
        return Err(io::Error::other(error));
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let mut rest = from;
    match rest.read_exact(&mut bytes[read..]) {
        Ok(()) => {}
        // Killed while it wrote.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error).about(|| "receiving the rest of a message".into()),
    }
    let mut all = bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap_or([0; 8])));
    let kind = all.next().unwrap_or(0);
    let kind = KINDS.into_iter().find(|&known| known as u64 == kind);
    let kind = kind.ok_or_else(|| io::Error::other("a message of an unknown kind"))?;
    let mut numbers = [0; NUMBERS];
    numbers
        .iter_mut()
        .zip(all)
        .for_each(|(to, from)| *to = from);
    Ok(Some(Message { kind, numbers, fds }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_message_comes_with_its_numbers_and_descriptors() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut inner, mut far) = UnixStream::pair().unwrap();
        send(&one, Kind::Hello, &[3, u64::MAX], &[far.as_fd()]).unwrap();
        send(&one, Kind::Go, &[], &[]).unwrap();
        let hello = receive(&other).unwrap().unwrap();
        assert_eq!(
            (hello.kind, hello.numbers[..3].to_vec()),
            (Kind::Hello, vec![3, u64::MAX, 0])
        );
        let [fd] = <[OwnedFd; 1]>::try_from(hello.fds).unwrap();
        UnixStream::from(fd).write_all(b"x").unwrap();
        let mut byte = [0];
        inner.read_exact(&mut byte).unwrap();
        far.write_all(b"y").unwrap();
        assert_eq!(byte, *b"x");
        let go = receive(&other).unwrap().unwrap();
        assert_eq!((go.kind, go.fds.len()), (Kind::Go, 0));
        drop(one);
        assert!(receive(&other).unwrap().is_none());
    }
}
