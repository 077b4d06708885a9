//! Takes guests in, and runs the thread that serves each of them.

use std::fmt::Display;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::books::Books;
use crate::manager::{Clock, Guest, Manager};
use crate::memory::Memory;
use crate::report::complain;
use crate::stats::Count;
use crate::step::Step;
use crate::uffd::{Done, Uffd};
use crate::wire::{self, Kind};
use crate::{About, PAGE, Result, serve, shared};

/// How long a connection may take to say hello.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the manager waits after it could not accept a connection.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(10);

/// The least time between two lines about connections that were refused.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// What a guest says first.
struct Hello {
    /// Its number, and the addresses of its memory and of the region.
    numbers: [u64; 3],
    uffd: Uffd,
    memory: File,
}

/// A guest that has no id yet: the numbers of its hello, its userfaultfd, its memory, and the file of the
/// memory's words.
type Newcomer = ([u64; 3], Uffd, Memory, OwnedFd);

/// Prints which connections were refused: one line per second at most.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    /// Connections that were refused since, without a line.
    without: u64,
}

impl Refusals {
    fn note(&self, error: &dyn Display) {
        if let Some(line) = self.line(error, Instant::now()) {
            complain(&line);
        }
    }

    fn line(&self, error: &dyn Display, now: Instant) -> Option<String> {
        let mut said = self.0.lock();
        if said.last.is_some_and(|last| now - last < BETWEEN_LINES) {
            said.without += 1;
            return None;
        }
        said.last = Some(now);
        let more = match std::mem::take(&mut said.without) {
            0 => String::new(),
            nr => format!(" ({nr} more were refused before)"),
        };
        Some(format!("manager: refused a connection: {error}{more}"))
    }
}

/// Reads the first message of a connection. Returns `None` where the connection is closed.
///
/// An abstract socket has no file whose mode could keep other users out. So the kernel says which user
/// connected.
fn hello(connection: &UnixStream) -> Result<Option<Hello>> {
    // docs: peer
    let peer = rustix::net::sockopt::socket_peercred(connection)
        .about(|| "asking who connected".into())?;
    if peer.uid != rustix::process::geteuid() {
        return Err(format!("it is of user {}", peer.uid.as_raw()).into());
    }
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let hello = wire::receive(connection)?;
    // docs: end
    let Some(hello) = hello else { return Ok(None) };
    if hello.kind != Kind::Hello {
        return Err(format!("{:?} is not a guest's first message", hello.kind).into());
    }
    let [number, base, region_base, ..] = hello.numbers;
    let [uffd, memory] = <[OwnedFd; 2]>::try_from(hello.fds)
        .map_err(|_| "a guest sends its userfaultfd and its memory")?;
    let uffd = Uffd::from_other(uffd)?.ok_or("its first descriptor is not a userfaultfd")?;
    Ok(Some(Hello {
        numbers: [number, base, region_base],
        uffd,
        memory: memory.into(),
    }))
}

/// Starts a thread whose errors end the process.
pub(crate) fn spawn(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let work = move || work().unwrap_or_else(|error| serve::fail(&*error));
    thread::Builder::new()
        .spawn(work)
        .about(|| "starting a thread".into())?;
    Ok(())
}

impl<B: Books + 'static> Manager<B> {
    /// Accepts connections. One that cannot be accepted, for example because too many files are open, does not
    /// end the manager.
    pub(crate) fn accept_all(self: &Arc<Self>, listener: &UnixListener) -> ! {
        loop {
            let accepted = listener.accept().about(|| "accepting a connection".into());
            let admitted = accepted.map_err(Into::into).and_then(|(connection, _)| {
                let manager = self.clone();
                spawn(move || manager.admit(connection))
            });
            if let Err(error) = admitted {
                self.refusals.note(&error);
                thread::sleep(AFTER_FAILED_ACCEPT);
            }
        }
    }

    /// Takes a guest in that has connected, and serves its faults. It runs on a thread of its own, so that a
    /// connection that says nothing keeps no other guest waiting.
    fn admit(self: &Arc<Self>, connection: UnixStream) -> Result<()> {
        let (numbers, uffd, private, words) = match self.prepare(&connection) {
            Ok(Some(prepared)) => prepared,
            // It was killed before it named itself.
            Ok(None) => return Ok(()),
            // The manager serves its guests whatever connects. A guest tries again.
            Err(error) => {
                self.refusals.note(&error);
                return Ok(());
            }
        };
        let [number, base, region_base] = numbers;

        let change = self.change.lock();
        let id = self.books.create(self.options.limit())?;
        self.steps.at(Step::Created);
        let guest = Arc::new(Guest {
            number,
            id,
            private,
            base,
            region_base,
            uffd,
            connection,
            clock: Clock::default(),
        });
        // Before the guest touches a page: from here on a successor knows of it.
        self.keeper
            .tell(Kind::Guest, &guest.to_numbers(), Some(&guest), Some(&words))?;
        self.steps.at(Step::Kept);
        self.guests.write().insert(id, guest.clone());
        drop(change);
        self.stats.add(Count::Lived, 1);
        self.live(&guest)
    }

    /// Reads a guest's first message, checks it, and makes the guest's memory with the file of its words. All
    /// that can fail because of the guest is done here, before it has an id. Returns `None` where the guest
    /// has ended.
    fn prepare(&self, connection: &UnixStream) -> Result<Option<Newcomer>> {
        let Some(hello) = hello(connection)? else {
            return Ok(None);
        };
        let Hello {
            numbers,
            uffd,
            memory,
        } = hello;
        let bytes = self.options.guest_size;
        Memory::check_file(&memory, bytes)?;
        let [_, base, region_base] = numbers;
        let region_bytes = (self.region.len() * PAGE) as u64;
        // The guest has not touched a page yet, so no page is protected. The call shows whether a write to
        // these addresses could be.
        for (start, bytes) in [(base, bytes), (region_base, region_bytes)] {
            if uffd.unprotect(start, bytes)? == Done::Gone {
                if is_closed(connection)? {
                    return Ok(None);
                }
                return Err(format!("its userfaultfd has no {bytes} bytes at {start:#x}").into());
            }
        }
        let words = shared::memfd("words", Memory::bytes_of_words(bytes / PAGE as u64))?;
        let private = Memory::new(memory, &words)?;
        Ok(Some((numbers, uffd, private, words.into())))
    }

    /// Begins to serve a guest that a manager before this one took in.
    pub(crate) fn begin(self: &Arc<Self>, guest: Arc<Guest>) -> Result<()> {
        let manager = self.clone();
        spawn(move || manager.live(&guest))
    }

    /// Serves a guest's faults until it has ended, and then takes back its pages.
    fn live(&self, guest: &Guest) -> Result<()> {
        self.serve_all(guest)?;
        self.bury(guest)
    }

    /// Serves faults until the guest has ended.
    fn serve_all(&self, guest: &Guest) -> Result<()> {
        // It may have ended.
        let _ = wire::send(&guest.connection, Kind::Welcome, &[], &[]);
        let mut faults = Vec::new();
        loop {
            let mut fds = [
                PollFd::new(&guest.uffd, PollFlags::IN),
                PollFd::new(&guest.connection, PollFlags::RDHUP),
            ];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    let what = || format!("polling for faults of guest {}", guest.number);
                    return Err(error).about(what)?;
                }
            }
            let ended = has_hung_up(&fds[1]);
            guest.uffd.read(&mut faults)?;
            for &fault in &faults {
                self.serve(guest, fault)?;
            }
            if ended {
                return Ok(());
            }
        }
    }
}

fn has_hung_up(fd: &PollFd<'_>) -> bool {
    fd.revents()
        .intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR)
}

/// Returns whether the guest's side of its connection is closed.
pub(crate) fn has_ended(guest: &Guest) -> Result<bool> {
    is_closed(&guest.connection)
}

fn is_closed(connection: &UnixStream) -> Result<bool> {
    let mut fds = [PollFd::new(connection, PollFlags::RDHUP)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut fds, Some(&now)).about(|| "polling a guest's connection".into())?;
    Ok(has_hung_up(&fds[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_one_line_per_second_and_the_next_line_counts_the_others() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let line = |milliseconds| refusals.line(&"no", start + Duration::from_millis(milliseconds));
        assert_eq!(line(0).unwrap(), "manager: refused a connection: no");
        for milliseconds in [1, 500, 999] {
            assert_eq!(line(milliseconds), None);
        }
        let counted = "manager: refused a connection: no (3 more were refused before)";
        assert_eq!(line(1000).unwrap(), counted);
        assert_eq!(line(1999), None);
    }
}
