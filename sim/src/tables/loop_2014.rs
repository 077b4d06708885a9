//! The table of 2014, with the migration that was proposed for it: [`Loop2014`].

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering, Ordering::Relaxed};

use lock_api::{GuardSend, Mutex, RawMutex};

use super::Table;
use crate::pages::Pages;

/// Ids in a chunk of 4 KiB.
const CHUNK: usize = 2_048;

/// The kernel's table of 2014: 16-bit ids in chunks of 4 KiB, and one spinlock per swapfile.
///
/// [`migrate`](Table::migrate) is the loop that was proposed for it: it looks at every entry of the swapfile
/// under one hold of the lock. A range takes the lock once, as in the kernel since 2017. The lock is a
/// parameter, so its holds can be [timed](crate::TimedLock).
#[derive(Debug)]
pub struct Loop2014<L: RawMutex = Spin> {
    ids: Pages<AtomicU16>,
    lock: Mutex<L, ()>,
}

impl<L: RawMutex> Loop2014<L> {
    /// Makes a table over existing ids.
    #[must_use]
    pub fn over(ids: Pages<u16>) -> Self {
        Self {
            ids: ids.retype(),
            lock: Mutex::new(()),
        }
    }

    /// Returns the ids, for another table.
    #[must_use]
    pub fn into_ids(self) -> Pages<u16> {
        self.ids.retype()
    }

    /// Makes `id` the owner of `len` slots without taking the lock, to fill a table before it is used.
    ///
    /// Several threads may fill disjoint slots at once.
    pub fn preset(&self, start: usize, len: usize, id: u16) {
        for slot in &self.ids[start..start + len] {
            slot.store(id, Relaxed);
        }
    }

    /// Returns the number of chunks of 2,048 slots, all of which a migration reads.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.ids.len().div_ceil(CHUNK)
    }
}

impl<L: RawMutex + Sync> Table for Loop2014<L> {
    fn with_slots(slots: usize) -> io::Result<Self> {
        Ok(Self::over(Pages::zeroed(slots)?))
    }

    /// Takes no lock.
    fn lookup(&self, slot: usize) -> u16 {
        self.ids[slot].load(Relaxed)
    }

    fn record(&self, slot: usize, id: u16) -> u16 {
        let _held = self.lock.lock();
        let old = self.ids[slot].load(Relaxed);
        self.ids[slot].store(id, Relaxed);
        old
    }

    /// Holds the lock once for the range.
    fn record_range(&self, slot: usize, nr: usize, id: u16) {
        let _held = self.lock.lock();
        self.preset(slot, nr, id);
    }

    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16 {
        let _held = self.lock.lock();
        let was = self.ids[slot].load(Relaxed);
        if was == old {
            self.ids[slot].store(new, Relaxed);
        }
        was
    }

    fn migrate(&self, old: u16, new: u16) -> u64 {
        let _held = self.lock.lock();
        let mut moved = 0;
        for chunk in self.ids.chunks(CHUNK) {
            for slot in chunk {
                // Atomic, since `lookup` may read at the same time. It also keeps the compiler from
                // vectorizing the loop.
                if slot.load(Relaxed) == old {
                    slot.store(new, Relaxed);
                    moved += 1;
                }
            }
        }
        moved
    }
}

/// A spinlock of one byte that only spins, as the kernel's do.
#[derive(Debug)]
pub struct Spin(AtomicBool);

// SAFETY: `lock` and `try_lock` return only after they changed `false` to `true`. Only one thread at a time
// can do that, until `unlock` stores `false`. Acquire and release order the critical sections.
unsafe impl RawMutex for Spin {
    const INIT: Self = Self(AtomicBool::new(false));
    type Guard = GuardSend;

    fn lock(&self) -> GuardSend {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            while self.is_locked() {
                std::hint::spin_loop();
            }
        }
    }

    fn try_lock(&self) -> Option<GuardSend> {
        (!self.0.swap(true, Ordering::Acquire)).then(GuardSend::new)
    }

    unsafe fn unlock(&self, _: GuardSend) {
        self.0.store(false, Ordering::Release);
    }

    fn is_locked(&self) -> bool {
        self.0.load(Relaxed)
    }
}
