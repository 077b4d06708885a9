//! Measures how long the table and the tree take: the processor time of the calling thread over a call, less
//! the time that two readings of that clock take.
//!
//! A reading is a system call, which costs more than a call of the table. So only one of 16 of the calls that
//! each fault makes is measured, and counts for all 16. At another one of 16, the clock is read twice without
//! a call. The caches are then as they are for a call. Time for which a thread waits for a processor counts
//! neither for the table nor for the manager.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use swap_records::{MemcgId, SwapEntry};

use crate::Result;
use crate::books::{Books, Freed, Held, Piece, Refused};
use crate::stats::{Call, Count, Stats};

/// One call of this many is measured, of the calls that each fault makes.
const ONE_OF: u64 = 16;

/// Books with a clock.
#[derive(Debug)]
pub(crate) struct Timed<B> {
    pub(crate) books: B,
    stats: Stats,
    calls: AtomicU64,
    /// The manager is not serving yet: all calls are for its start.
    reopening: AtomicBool,
}

impl<B: Books> Timed<B> {
    /// Opens books, and measures that. Until [`serve`](Self::serve), all calls count for the start.
    pub(crate) fn open(stats: Stats, open: impl FnOnce() -> Result<B>) -> Result<Self> {
        // Threads that `open` starts count as well, and nothing else runs yet.
        let start = now(ClockId::ProcessCPUTime);
        let books = open()?;
        stats.add_calls(Call::Reopen, 1, now(ClockId::ProcessCPUTime) - start);
        Ok(Self {
            books,
            stats,
            calls: AtomicU64::new(0),
            reopening: AtomicBool::new(true),
        })
    }

    /// The manager serves faults from here on.
    pub(crate) fn serve(&self) {
        self.reopening.store(false, Relaxed);
    }

    /// Measures a call that each fault makes.
    fn often<R>(&self, kind: Call, call: impl FnOnce(&B) -> R) -> R {
        // Not in step with the faults, which make two calls or three.
        let nr = self.calls.fetch_add(1, Relaxed);
        match nr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 {
            0 => self.measure(kind, ONE_OF, call),
            1 => {
                let start = of_thread();
                self.stats.add(Count::ClockTime, of_thread() - start);
                self.stats.add(Count::ClockCalls, 1);
                call(&self.books)
            }
            _ => call(&self.books),
        }
    }

    /// Measures a call that few faults make, or none.
    pub(crate) fn seldom<R>(&self, call: impl FnOnce(&B) -> R) -> R {
        self.measure(Call::Guests, 1, call)
    }

    fn measure<R>(&self, kind: Call, of: u64, call: impl FnOnce(&B) -> R) -> R {
        let start = of_thread();
        let result = call(&self.books);
        let took = of_thread() - start;
        let reopening = self.reopening.load(Relaxed);
        let kind = if reopening { Call::Reopen } else { kind };
        self.stats.add_calls(kind, of, of * took);
        result
    }
}

/// Nanoseconds of the processor that this thread has had.
fn of_thread() -> u64 {
    now(ClockId::ThreadCPUTime)
}

/// Reads a clock, in nanoseconds.
pub(crate) fn now(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds since then.
pub(crate) fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl<B: Books> Books for Timed<B> {
    fn host(&self) -> MemcgId {
        self.books.host()
    }

    fn create(&self, limit: u64) -> Result<MemcgId> {
        self.seldom(|books| books.create(limit))
    }

    fn limit(&self, id: MemcgId, pages: u64) -> Result<bool> {
        self.seldom(|books| books.limit(id, pages))
    }

    fn charge(&self, id: MemcgId, nr: u64) -> Result<(), Refused> {
        self.often(Call::Charge, |books| books.charge(id, nr))
    }

    fn uncharge(&self, id: MemcgId, nr: u64) -> Result<()> {
        self.seldom(|books| books.uncharge(id, nr))
    }

    fn swap_out(&self, id: MemcgId, piece: Piece<'_>) -> Result<MemcgId> {
        self.often(Call::SwapOut, |books| books.swap_out(id, piece))
    }

    fn swap_in(&self, slot: SwapEntry) -> Result<MemcgId, Refused> {
        self.often(Call::SwapIn, |books| books.swap_in(slot))
    }

    fn free(&self, slots: &[SwapEntry], owner: MemcgId) -> Result<Freed> {
        self.seldom(|books| books.free(slots, owner))
    }

    fn offline(&self, id: MemcgId) -> Result<()> {
        self.seldom(|books| books.offline(id))
    }

    fn move_to_host(&self, id: MemcgId, nr: u64) -> Result<()> {
        self.seldom(|books| books.move_to_host(id, nr))
    }

    fn remove(&self, id: MemcgId) -> Result<u64> {
        self.seldom(|books| books.remove(id))
    }

    fn held(&self, id: MemcgId) -> Result<Held> {
        self.seldom(|books| books.held(id))
    }

    fn all(&self) -> Result<(Held, u64)> {
        self.seldom(|books| books.all())
    }
}
