//! Runs a manager.

use std::error::Error;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::Signal;
use rustix::time::ClockId;

use crate::admit::spawn;
use crate::books::{Books, entry};
use crate::manager::{Guest, Keeper, Manager};
use crate::memory::Memory;
use crate::options::{Options, Table};
use crate::page::State;
use crate::plain::Plain;
use crate::report::complain;
use crate::stats::{Count, Stats};
use crate::swapfile::Swapfile;
use crate::timed::{self, Timed};
use crate::tree::Tree;
use crate::wire::{self, Kind, Message};
use crate::{About, Result, duplicate, standard_input};

/// Ends the process with an error. A manager cannot work without one of its threads.
pub(crate) fn fail(error: &(dyn Error + Send + Sync)) -> ! {
    complain(&format!("manager: {error}"));
    process::exit(1)
}

/// Runs the process: gets descriptors over its standard input, and serves until it is told to finish or is
/// killed.
pub(crate) fn main(args: Vec<OsString>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .about(|| "asking for a signal when the command ends".into())?;
    let options = Options::parse(args)?.ok_or("a manager needs no help")?;
    let socket = standard_input()?;
    let files = wire::receive(&socket)?.ok_or("the command has ended")?;
    let [records, swapfile, region, words, listener, stats] =
        <[OwnedFd; 6]>::try_from(files.fds).map_err(|_| "a manager needs six descriptors")?;
    let mut guests = Vec::new();
    loop {
        match wire::receive(&socket)?.ok_or("the command has ended")? {
            Message {
                kind: Kind::Guest,
                numbers,
                fds,
            } => guests.push(Arc::new(Guest::new(&numbers, fds)?)),
            Message { kind: Kind::Go, .. } => break,
            other => return Err(format!("{:?} is not a message for the start", other.kind).into()),
        }
    }
    let stats = Stats::map(&stats.into())?;
    let region = Memory::new(region.into(), &words.into())?;
    let (answer, answers) = channel();
    let keeper = Keeper {
        socket: duplicate(&socket)?,
        answers: Mutex::new(answers),
    };
    let swapfile = Swapfile(swapfile.into());
    let listener = UnixListener::from(listener);
    match options.table {
        Table::Records => {
            let ids: Vec<_> = guests.iter().map(|guest| guest.id).collect();
            let tree = Timed::open(stats.clone(), || Tree::open(records, &ids))?;
            let manager = Arc::new(Manager::new(tree, stats, options, swapfile, region, keeper));
            manager.recover(&guests)?;
            manager.run(guests, listener, &socket, &answer)
        }
        Table::HashMap => {
            let plain = Timed::open(stats.clone(), || Ok(Plain::new()))?;
            plain.limit(plain.host(), options.limit_of_all())?;
            let manager = Arc::new(Manager::new(
                plain, stats, options, swapfile, region, keeper,
            ));
            manager.run(guests, listener, &socket, &answer)
        }
    }
}

impl<B: Books + 'static> Manager<B> {
    fn run(
        self: &Arc<Self>,
        guests: Vec<Arc<Guest>>,
        listener: UnixListener,
        socket: &UnixStream,
        answer: &Sender<()>,
    ) -> Result<()> {
        self.books.serve();
        for guest in guests {
            self.begin(guest)?;
        }
        let manager = self.clone();
        spawn(move || manager.accept_all(&listener))?;
        let stats = self.stats.clone();
        spawn(move || note_processor_time(&stats))?;
        loop {
            match wire::receive(socket)? {
                Some(Message {
                    kind: Kind::Kept, ..
                }) => answer.send(())?,
                Some(Message {
                    kind: Kind::Finish, ..
                }) => {
                    // Another thread, since this one must take the answers about guests whose end is under
                    // way.
                    let (manager, socket) = (self.clone(), duplicate(socket)?);
                    spawn(move || {
                        let left = manager.finish()?;
                        wire::send(&socket, Kind::Ended, &left, &[])?;
                        process::exit(0)
                    })?;
                }
                // The command has ended, so there is nothing left to do.
                None => return Ok(()),
                Some(other) => {
                    return Err(format!("{:?} is not a message for a manager", other.kind).into());
                }
            }
        }
    }

    /// Waits until all guests have ended. Checks that the host has exactly what the region's words say, and
    /// frees that. Returns what is left: slots, pages that are charged, records, and owners other than the
    /// host.
    fn finish(&self) -> Result<[u64; 4]> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.guests.read().is_empty() {
            if Instant::now() > deadline {
                return Err(
                    "guests have ended, and their pages were not taken back in 30 seconds".into(),
                );
            }
            thread::sleep(Duration::from_millis(1));
        }
        // The last guest's end may be under way.
        let _change = self.change.lock();
        let host = self.books.host();
        let (mut slots, mut places, mut in_memory) = (Vec::new(), Vec::new(), 0);
        for at in 0..self.region.len() {
            match self.region.peek(at) {
                State::Untouched => {}
                State::Memory(owner) if owner == host => in_memory += 1,
                State::Swap { slot, owner } if owner == host => {
                    slots.push(entry(slot)?);
                    places.push(at);
                }
                other => return Err(format!("page {at} of the region is left in {other:?}").into()),
            }
        }
        let held = self.books.held(host)?;
        let (used, resident) = (self.slots.lock().used(), self.resident(host));
        if (held.memory, held.swap, used, resident)
            != (in_memory, slots.len() as u64, slots.len() as u64, in_memory)
        {
            return Err(format!(
                "the region has {in_memory} pages in memory and {} in slots; the host is charged {held:?}, {resident} are \
                 counted, and {used} slots are in use",
                slots.len()
            )
            .into());
        }
        if let Some(at) = self.region.not_punched(in_memory, &places)? {
            return Err(format!("page {at} of the region was evicted and is in memory").into());
        }
        self.books.uncharge(host, in_memory)?;
        slots.sort_unstable_by_key(|slot| slot.offset());
        let freed = self.books.free(&slots, host)?;
        if freed.owned != slots.len() as u64 {
            return Err(format!(
                "the region has {} slots of the host: {freed:?}",
                slots.len()
            )
            .into());
        }
        for slot in &slots {
            self.slots.lock().free(slot.offset())?;
        }
        let (left, owners) = self.books.all()?;
        let slots = self.slots.lock().used();
        Ok([slots, left.memory, left.swap, owners - 1])
    }
}

/// Counts the processor time of the process, until the process ends.
fn note_processor_time(stats: &Stats) -> ! {
    let mut last = 0;
    loop {
        let now = timed::now(ClockId::ProcessCPUTime);
        stats.add(Count::Processor, now - last);
        last = now;
        thread::sleep(Duration::from_millis(20));
    }
}
