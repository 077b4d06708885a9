//! The table of 2014: 16-bit ids in 4 KiB chunks, one spinlock for the swapfile, and the proposed
//! hand-over: one lock hold for all of it, an entry at a time.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering, Ordering::Relaxed};

use lock_api::{GuardSend, Mutex, RawMutex};

use super::{Operations, Pages, Reparent};

/// Ids in a chunk of 4 KiB.
const CHUNK: usize = 2_048;

/// One swapfile.
#[derive(Debug)]
pub struct Loop2014<L: RawMutex = Spin> {
    ids: Pages<AtomicU16>,
    lock: Mutex<L, ()>,
}

impl<L: RawMutex> Loop2014<L> {
    /// A swapfile of this many slots, with no records.
    pub fn new(slots: usize) -> io::Result<Self> {
        Ok(Self {
            ids: Pages::zeroed(slots)?,
            lock: Mutex::new(()),
        })
    }

    /// A swapfile with the records that are there.
    pub fn over(ids: Pages<u16>) -> Self {
        Self {
            ids: ids.retype(),
            lock: Mutex::new(()),
        }
    }

    /// The ids, for another.
    pub fn into_ids(self) -> Pages<u16> {
        self.ids.retype()
    }

    /// Writes a part of a map that is being made and that nobody else looks at: takes no lock.
    pub fn preset(&self, start: usize, len: usize, id: u16) {
        for slot in &self.ids[start..start + len] {
            slot.store(id, Relaxed);
        }
    }

    /// How many chunks of 2,048 slots there are: what a hand-over looks through.
    pub fn chunks(&self) -> usize {
        self.ids.len().div_ceil(CHUNK)
    }

    /// Gives every record of `old` to `new`; returns how many.
    pub fn hand_over(&self, old: u16, new: u16) -> u64 {
        let _held = self.lock.lock();
        let mut moved = 0;
        for chunk in self.ids.chunks(CHUNK) {
            for slot in chunk {
                // Atomic, as `lookup` reads beside it: the compiler keeps it an entry at a time.
                if slot.load(Relaxed) == old {
                    slot.store(new, Relaxed);
                    moved += 1;
                }
            }
        }
        moved
    }
}

impl<L: RawMutex + Sync> Operations for Loop2014<L> {
    fn with_slots(slots: usize) -> io::Result<Self> {
        Self::new(slots)
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

    /// One lock hold for the range, as the kernel had it from 2017.
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
}

impl<L: RawMutex> Reparent for Loop2014<L> {
    fn with_slots(slots: usize) -> io::Result<Self> {
        Self::new(slots)
    }

    fn owner(&self, slot: usize) -> u16 {
        self.ids[slot].load(Relaxed)
    }

    fn set(&mut self, slot: usize, nr: usize, id: u16) {
        self.preset(slot, nr, id);
    }

    fn migrate(&mut self, old: u16, new: u16) -> u64 {
        self.hand_over(old, new)
    }
}

/// A spinlock of one byte that does nothing but spin, as in the kernel.
#[derive(Debug)]
pub struct Spin(AtomicBool);

// SAFETY: `lock` and `try_lock` return only after they made `false` to `true`, which one thread at
// a time can, until `unlock` makes it `false` again. Acquire and release order the sections.
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
