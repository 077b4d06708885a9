//! [`Linux2024`]: the kernel's table since 2024.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Table;
use crate::pages::Pages;

const IDS: usize = 2;
const MASK: u32 = 0xffff;

/// The kernel's table since 2024. It has no lock, and two ids per 32-bit atomic. Each entry takes a
/// compare-exchange loop, in ranges as well.
///
/// The kernel has no migration of records for it. [`migrate`](Table::migrate) is the loop that one would
/// write.
#[derive(Debug)]
pub struct Linux2024 {
    words: Pages<AtomicU32>,
    /// The last word may have one slot more.
    slots: usize,
}

impl Linux2024 {
    /// Makes a table over existing ids. On a little-endian processor each id keeps its slot.
    #[must_use]
    pub fn over(ids: Pages<u16>) -> Self {
        let slots = ids.len();
        let words = ids.retype();
        Self { words, slots }
    }

    /// Returns the ids, for another table.
    #[must_use]
    pub fn into_ids(self) -> Pages<u16> {
        self.words.retype()
    }

    /// Prefetches the cache line of a slot. Does nothing on other processors than x86-64.
    #[inline]
    pub fn prefetch(&self, slot: usize) {
        let (word, _) = self.place(slot);
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: every x86-64 processor has SSE, and a prefetch may name any address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast());
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = word;
    }

    #[inline]
    fn place(&self, slot: usize) -> (&AtomicU32, u32) {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        let shift = if slot.is_multiple_of(IDS) {
            0
        } else {
            u16::BITS
        };
        (&self.words[slot / IDS], shift)
    }
}

#[inline]
fn id_at(word: u32, shift: u32) -> u16 {
    (word >> shift & MASK) as u16
}

#[inline]
fn with_id(word: u32, shift: u32, id: u16) -> u32 {
    word & !(MASK << shift) | u32::from(id) << shift
}

impl Table for Linux2024 {
    fn with_slots(slots: usize) -> io::Result<Self> {
        let words = Pages::zeroed(slots.div_ceil(IDS))?;
        Ok(Self { words, slots })
    }

    #[inline]
    fn lookup(&self, slot: usize) -> u16 {
        let (word, shift) = self.place(slot);
        id_at(word.load(Relaxed), shift)
    }

    #[inline]
    fn record(&self, slot: usize, id: u16) -> u16 {
        let (word, shift) = self.place(slot);
        let mut seen = word.load(Relaxed);
        while let Err(now) =
            word.compare_exchange_weak(seen, with_id(seen, shift, id), Relaxed, Relaxed)
        {
            seen = now;
        }
        id_at(seen, shift)
    }

    fn record_range(&self, slot: usize, nr: usize, id: u16) {
        for slot in slot..slot + nr {
            self.record(slot, id);
        }
    }

    #[inline]
    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16 {
        let (word, shift) = self.place(slot);
        let mut seen = word.load(Relaxed);
        while id_at(seen, shift) == old {
            match word.compare_exchange_weak(seen, with_id(seen, shift, new), Relaxed, Relaxed) {
                Ok(_) => return old,
                Err(now) => seen = now,
            }
        }
        id_at(seen, shift)
    }

    fn migrate(&self, old: u16, new: u16) -> u64 {
        (0..self.slots)
            .filter(|&slot| self.lookup(slot) == old && self.cmpxchg(slot, old, new) == old)
            .count() as u64
    }
}
