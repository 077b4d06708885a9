//! How long the table and the tree take: the processor time of the calling thread over the call, less what two readings
//! of that clock take.
//!
//! A reading is a system call, which costs more than a call of the table. So of the calls that every fault makes, one of 16
//! is measured, for all of them; and at one of 16 others the clock is read twice with nothing in between, where the caches
//! are what they are for a call. Time that passes while the thread waits for a processor is in neither number, the
//! table's or the manager's.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use swap_records::{MemcgId, SwapEntry};

use crate::Result;
use crate::books::{Books, Held, Refused};
use crate::stats::{Count, Stats};

/// Of the calls that each fault makes, one of so many is measured.
const ONE_OF: u64 = 16;

/// Books with a clock.
#[derive(Debug)]
pub(crate) struct Timed<B> {
    pub(crate) books: B,
    stats: Stats,
    calls: AtomicU64,
}

impl<B: Books> Timed<B> {
    pub(crate) fn new(books: B, stats: Stats) -> Self {
        let calls = AtomicU64::new(0);
        Self {
            books,
            stats,
            calls,
        }
    }

    /// A call that each fault makes.
    fn often<R>(&self, call: impl FnOnce(&B) -> R) -> R {
        // Not in step with the faults, which make two calls or three.
        let nr = self.calls.fetch_add(1, Relaxed);
        match nr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 {
            0 => self.measure(ONE_OF, call),
            1 => {
                let start = of_thread();
                self.stats.add(Count::ClockTime, of_thread() - start);
                self.stats.add(Count::ClockCalls, 1);
                call(&self.books)
            }
            _ => call(&self.books),
        }
    }

    fn measure<R>(&self, of: u64, call: impl FnOnce(&B) -> R) -> R {
        let start = of_thread();
        let result = call(&self.books);
        self.stats.add(Count::BooksTime, of * (of_thread() - start));
        self.stats.add(Count::BooksCalls, of);
        result
    }
}

/// Nanoseconds of the processor that this thread has had.
fn of_thread() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Since then.
pub(crate) fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl<B: Books> Books for Timed<B> {
    fn host(&self) -> MemcgId {
        self.books.host()
    }

    fn create(&self, limit: u64) -> Result<MemcgId> {
        self.measure(1, |books| books.create(limit))
    }

    fn limit(&self, id: MemcgId, pages: u64) -> Result<bool> {
        self.measure(1, |books| books.limit(id, pages))
    }

    fn charge(&self, id: MemcgId, nr: u64) -> Result<(), Refused> {
        self.often(|books| books.charge(id, nr))
    }

    fn uncharge(&self, id: MemcgId, nr: u64) -> Result<()> {
        self.measure(1, |books| books.uncharge(id, nr))
    }

    fn swap_out(&self, id: MemcgId, slots: &[SwapEntry]) -> Result<()> {
        self.often(|books| books.swap_out(id, slots))
    }

    fn swap_in(&self, slot: SwapEntry) -> Result<MemcgId, Refused> {
        self.often(|books| books.swap_in(slot))
    }

    fn owner(&self, slot: SwapEntry) -> Option<MemcgId> {
        self.often(|books| books.owner(slot))
    }

    fn free(&self, slots: &[SwapEntry]) -> Result<u64> {
        self.measure(1, |books| books.free(slots))
    }

    fn offline(&self, id: MemcgId) -> Result<()> {
        self.measure(1, |books| books.offline(id))
    }

    fn move_to_host(&self, id: MemcgId, nr: u64) -> Result<()> {
        self.measure(1, |books| books.move_to_host(id, nr))
    }

    fn remove(&self, id: MemcgId) -> Result<u64> {
        self.measure(1, |books| books.remove(id))
    }

    fn held(&self, id: MemcgId) -> Result<Held> {
        self.measure(1, |books| books.held(id))
    }

    fn all(&self) -> Result<(Held, u64)> {
        self.measure(1, |books| books.all())
    }
}
