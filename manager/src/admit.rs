//! A guest that comes, and the thread that serves it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::books::Books;
use crate::manager::{Guest, Manager};
use crate::memory::Memory;
use crate::stats::Count;
use crate::step::Step;
use crate::wire::{self, Kind};
use crate::{PAGE, Result, serve, shared};

impl<B: Books + 'static> Manager<B> {
    /// Takes a guest in that has connected, and serves its faults.
    pub(crate) fn admit(self: &Arc<Self>, connection: UnixStream) -> Result<()> {
        // It may be killed before it has said who it is.
        let Some(hello) = wire::receive(&connection)? else {
            return Ok(());
        };
        let [number, base, region_base, ..] = hello.numbers;
        let [uffd, memory] = <[OwnedFd; 2]>::try_from(hello.fds)
            .map_err(|_| "a guest sends its userfaultfd and its memory")?;

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
        self.begin(guest)
    }

    /// Serves a guest's faults on a thread of its own, and takes back what it has when it has ended.
    pub(crate) fn begin(self: &Arc<Self>, guest: Arc<Guest>) -> Result<()> {
        let manager = self.clone();
        thread::Builder::new().spawn(move || {
            let served = manager
                .serve_all(&guest)
                .and_then(|()| manager.bury(&guest));
            served.unwrap_or_else(|error| serve::fail(&*error));
        })?;
        Ok(())
    }

    /// Until the guest has ended.
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

/// Whether the guest's end of its connection is closed.
pub(crate) fn has_ended(guest: &Guest) -> Result<bool> {
    let mut fds = [PollFd::new(&guest.connection, PollFlags::RDHUP)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut fds, Some(&now))?;
    Ok(has_hung_up(&fds[0]))
}
