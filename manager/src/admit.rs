//! Takes guests in, and runs the thread that serves each of them.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::books::Books;
use crate::manager::{Guest, Manager};
use crate::memory::Memory;
use crate::report::complain;
use crate::stats::Count;
use crate::step::Step;
use crate::wire::{self, Kind};
use crate::{About, PAGE, Result, serve, shared};

/// How long a connection may take to say hello.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a guest says first.
struct Hello {
    /// Its number, and the addresses of its memory and of the region.
    numbers: [u64; 3],
    /// Its userfaultfd and its memory.
    fds: [OwnedFd; 2],
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
    let fds = <[OwnedFd; 2]>::try_from(hello.fds)
        .map_err(|_| "a guest sends its userfaultfd and its memory")?;
    let numbers = [number, base, region_base];
    Ok(Some(Hello { numbers, fds }))
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
    /// Takes a guest in that has connected, and serves its faults. It runs on a thread of its own, so that a
    /// connection that says nothing keeps no other guest waiting.
    pub(crate) fn admit(self: &Arc<Self>, connection: UnixStream) -> Result<()> {
        let hello = match hello(&connection) {
            Ok(Some(hello)) => hello,
            // It was killed before it named itself.
            Ok(None) => return Ok(()),
            // The manager serves its guests whatever connects. A guest tries again.
            Err(error) => {
                complain(&format!("manager: refused a connection: {error}"));
                return Ok(());
            }
        };
        let [number, base, region_base] = hello.numbers;
        let [uffd, memory] = hello.fds;

        let change = self.change.lock();
        let id = self.books.create(self.options.limit())?;
        self.steps.at(Step::Created);
        let pages = self.options.guest_size / PAGE as u64;
        let words = OwnedFd::from(shared::memfd("words", Memory::bytes_of_words(pages))?);
        let fds = vec![uffd, memory, words.try_clone()?, connection.into()];
        let numbers = [number, id.get().into(), base, region_base, 0, 0, 0, 0];
        let guest = Arc::new(Guest::new(&numbers, fds)?);
        // Before the guest touches a page: from here on a successor knows of it.
        self.keeper
            .tell(Kind::Guest, &guest.to_numbers(), Some(&guest), Some(&words))?;
        self.steps.at(Step::Kept);
        self.guests.write().insert(id, guest.clone());
        drop(change);
        self.stats.add(Count::Lived, 1);
        self.live(&guest)
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
                Err(error) => return Err(error.into()),
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
    let mut fds = [PollFd::new(&guest.connection, PollFlags::RDHUP)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut fds, Some(&now)).about(|| "polling a guest's connection".into())?;
    Ok(has_hung_up(&fds[0]))
}
