//! Holds what the threads of a manager share.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::mpsc::Receiver;

use parking_lot::{Mutex, RwLock};
use swap_records::MemcgId;

use crate::admit::Refusals;
use crate::books::Books;
use crate::memory::Memory;
use crate::options::Options;
use crate::slots::Slots;
use crate::stats::Stats;
use crate::step::{EndAt, Steps};
use crate::swapfile::Swapfile;
use crate::timed::Timed;
use crate::uffd::Uffd;
use crate::wire::{self, Kind, NUMBERS};
use crate::{PAGE, Result};

/// A manager at work.
///
/// Its locks, in this order: `change`, a page's, `guests`, all others. A thread that has locked a page must
/// not wait for another page: evictions skip pages that are locked.
pub(crate) struct Manager<B> {
    pub(crate) books: Timed<B>,
    pub(crate) stats: Stats,
    pub(crate) options: Options,
    pub(crate) slots: Mutex<Slots>,
    pub(crate) swapfile: Swapfile,
    pub(crate) region: Memory,
    /// All guests that have the region. A page of it is evicted with this read, so that no guest joins
    /// meanwhile.
    pub(crate) guests: RwLock<Guests>,
    pub(crate) host: Clock,
    /// Pages in memory of each owner. The books know them as well; here they cost one load. `docs/manager.md`
    /// says why.
    resident: Box<[AtomicU64]>,
    /// One guest comes or goes at a time.
    pub(crate) change: Mutex<()>,
    pub(crate) keeper: Keeper,
    pub(crate) steps: Steps,
    pub(crate) refusals: Refusals,
}

/// By their ids.
pub(crate) type Guests = HashMap<MemcgId, Arc<Guest>>;

/// What the manager knows of a guest.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) number: u64,
    pub(crate) id: MemcgId,
    pub(crate) private: Memory,
    /// Where the guest has its own memory, and the region.
    pub(crate) base: u64,
    pub(crate) region_base: u64,
    pub(crate) uffd: Uffd,
    /// The system closes the guest's side when the guest ends.
    pub(crate) connection: UnixStream,
    pub(crate) clock: Clock,
}

/// Where the hand of an owner's clock is, and how many of its pages it has evicted.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    pub(crate) hand: Mutex<usize>,
    pub(crate) evicted: AtomicU32,
}

/// Talks to the process that keeps descriptors over a restart.
pub(crate) struct Keeper {
    pub(crate) socket: UnixStream,
    pub(crate) answers: Mutex<Receiver<()>>,
}

impl Keeper {
    /// Sends a message and waits until it has been taken.
    pub(crate) fn tell(
        &self,
        kind: Kind,
        numbers: &[u64],
        guest: Option<&Guest>,
        words: Option<&OwnedFd>,
    ) -> Result<()> {
        let answers = self.answers.lock();
        let mut fds = Vec::new();
        if let (Some(guest), Some(words)) = (guest, words) {
            fds.extend([
                guest.uffd.as_fd(),
                guest.private.file.as_fd(),
                words.as_fd(),
            ]);
            fds.push(guest.connection.as_fd());
        }
        wire::send(&self.socket, kind, numbers, &fds)?;
        Ok(answers
            .recv()
            .map_err(|_| "the command, which keeps the descriptors, has ended")?)
    }
}

impl Guest {
    /// Returns the numbers that a successor needs, besides the descriptors.
    pub(crate) fn to_numbers(&self) -> [u64; 4] {
        [
            self.number,
            u64::from(self.id.get()),
            self.base,
            self.region_base,
        ]
    }

    /// Makes a guest from a message: the same numbers, and its userfaultfd, memory, words and connection.
    pub(crate) fn new(numbers: &[u64; NUMBERS], fds: Vec<OwnedFd>) -> Result<Self> {
        let [uffd, memory, words, connection] = <[OwnedFd; 4]>::try_from(fds)
            .map_err(|fds| format!("a guest has 4 descriptors, not {}", fds.len()))?;
        let id = u16::try_from(numbers[1]).ok().and_then(MemcgId::new);
        Ok(Self {
            number: numbers[0],
            id: id.ok_or("a guest has an id")?,
            private: Memory::new(memory.into(), &words.into())?,
            base: numbers[2],
            region_base: numbers[3],
            uffd: uffd.into(),
            connection: connection.into(),
            clock: Clock::default(),
        })
    }

    /// Returns the address of a page in the guest.
    pub(crate) fn address(&self, at: Place) -> u64 {
        match at {
            Place::Private(page) => self.base + (page * PAGE) as u64,
            Place::Region(page) => self.region_base + (page * PAGE) as u64,
        }
    }

    /// Returns the page at an address of the guest.
    pub(crate) fn place(&self, address: u64, region: &Memory) -> Option<Place> {
        let within = |base: u64, memory: &Memory| {
            let page = crate::index(address.checked_sub(base)? / PAGE as u64);
            (page < memory.len()).then_some(page)
        };
        let private = within(self.base, &self.private).map(Place::Private);
        private.or_else(|| within(self.region_base, region).map(Place::Region))
    }
}

/// A page, in one of the two kinds of memory that a guest has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Private(usize),
    Region(usize),
}

impl<B: Books> Manager<B> {
    pub(crate) fn new(
        books: Timed<B>,
        stats: Stats,
        options: Options,
        swapfile: Swapfile,
        region: Memory,
        keeper: Keeper,
    ) -> Self {
        let steps = Steps::new(match options.end {
            Some(EndAt::This(end)) => Some(end),
            Some(EndAt::All) | None => None,
        });
        let slots = Mutex::new(Slots::new(options.slots()));
        Self {
            books,
            stats,
            options,
            slots,
            swapfile,
            region,
            guests: RwLock::default(),
            host: Clock::default(),
            resident: (0..=u16::MAX).map(|_| AtomicU64::new(0)).collect(),
            change: Mutex::new(()),
            keeper,
            steps,
            refusals: Refusals::default(),
        }
    }

    /// Returns the number of pages that an owner has in memory.
    pub(crate) fn resident(&self, id: MemcgId) -> u64 {
        self.resident[usize::from(id.get())].load(Relaxed)
    }

    pub(crate) fn came(&self, id: MemcgId, nr: u64) {
        self.resident[usize::from(id.get())].fetch_add(nr, Relaxed);
    }

    pub(crate) fn went(&self, id: MemcgId, nr: u64) {
        self.resident[usize::from(id.get())].fetch_sub(nr, Relaxed);
    }
}
