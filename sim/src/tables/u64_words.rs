//! [`U64Words`]: plain words of four ids.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Table;
use crate::pages::Pages;

const IDS: usize = 4;
/// A one in each lane. Multiplying it by an id puts the id into all four lanes.
const ONES: u64 = 0x0001_0001_0001_0001;
/// All bits of each lane except the highest.
const LOW: u64 = 0x7fff * ONES;

/// Plain 64-bit words of four ids each, without a lock or vector instructions.
///
/// A migration compares four ids at a time in a register. It replaces the matching ids with a
/// compare-exchange of their word.
#[derive(Debug)]
pub struct U64Words {
    words: Pages<AtomicU64>,
    /// The last word may have up to three slots more.
    slots: usize,
}

/// Returns the highest bit of each lane that is zero, and no other bit. It is the exact test of the two in
/// "Determine if a word has a zero byte" (Anderson, "Bit Twiddling Hacks"), for lanes of 16 bits.
fn zero_lanes(word: u64) -> u64 {
    !(((word & LOW) + LOW) | word | LOW)
}

impl U64Words {
    fn place(&self, slot: usize) -> (&AtomicU64, usize) {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        (&self.words[slot / IDS], slot % IDS * 16)
    }

    /// Stores the id that `new` returns for the id at `slot`, if any. Returns the previous id.
    fn update(&self, slot: usize, new: impl Fn(u16) -> Option<u16>) -> u16 {
        let (word, shift) = self.place(slot);
        let mut seen = word.load(Relaxed);
        loop {
            let was = id_at(seen, shift);
            let Some(id) = new(was) else { return was };
            let next = seen & !(0xffff << shift) | u64::from(id) << shift;
            match word.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return was,
                Err(now) => seen = now,
            }
        }
    }
}

fn id_at(word: u64, shift: usize) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "keeps the lowest lane")]
    let id = (word >> shift) as u16;
    id
}

impl Table for U64Words {
    fn with_slots(slots: usize) -> io::Result<Self> {
        let words = Pages::zeroed(slots.div_ceil(IDS))?;
        Ok(Self { words, slots })
    }

    fn lookup(&self, slot: usize) -> u16 {
        let (word, shift) = self.place(slot);
        id_at(word.load(Relaxed), shift)
    }

    fn record(&self, slot: usize, id: u16) -> u16 {
        self.update(slot, |_| Some(id))
    }

    fn record_range(&self, slot: usize, nr: usize, id: u16) {
        for slot in slot..slot + nr {
            self.record(slot, id);
        }
    }

    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16 {
        self.update(slot, |was| (was == old).then_some(new))
    }

    fn migrate(&self, old: u16, new: u16) -> u64 {
        let (old, new) = (u64::from(old) * ONES, u64::from(new) * ONES);
        let mut moved = 0;
        for word in &*self.words {
            let mut seen = word.load(Relaxed);
            loop {
                let found = zero_lanes(seen ^ old);
                if found == 0 {
                    break;
                }
                let lanes = (found >> 15) * 0xffff;
                let next = seen & !lanes | new & lanes;
                match word.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                    Ok(_) => {
                        moved += u64::from(found.count_ones());
                        break;
                    }
                    Err(now) => seen = now,
                }
            }
        }
        moved
    }
}
