//! No lock and no vectors: four ids in each 64-bit atomic, looked at four at a time within the
//! register, and replaced by a compare-exchange of the word.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Pages, Reparent};

const IDS: usize = 4;
/// One in each lane: a factor that puts an id into all four.
const ONES: u64 = 0x0001_0001_0001_0001;
/// All bits of a lane but its highest.
const LOW: u64 = 0x7fff * ONES;

/// One swapfile.
#[derive(Debug)]
pub struct U64Words {
    words: Pages<AtomicU64>,
}

/// The highest bit of each lane that is zero, and no other: the exact one of the two tests in
/// "Determine if a word has a zero byte" (Anderson, "Bit Twiddling Hacks"), for lanes of 16 bits.
fn zero_lanes(word: u64) -> u64 {
    !(((word & LOW) + LOW) | word | LOW)
}

impl U64Words {
    fn place(&self, slot: usize) -> (&AtomicU64, usize) {
        (&self.words[slot / IDS], slot % IDS * 16)
    }
}

impl Reparent for U64Words {
    fn with_slots(slots: usize) -> io::Result<Self> {
        let words = Pages::zeroed(slots.div_ceil(IDS))?;
        Ok(Self { words })
    }

    fn owner(&self, slot: usize) -> u16 {
        let (word, shift) = self.place(slot);
        #[expect(clippy::cast_possible_truncation, reason = "the lowest lane is meant")]
        let id = (word.load(Relaxed) >> shift) as u16;
        id
    }

    fn set(&mut self, slot: usize, nr: usize, id: u16) {
        for slot in slot..slot + nr {
            let (word, shift) = self.place(slot);
            // `self` is borrowed exclusively: nothing comes between.
            let others = word.load(Relaxed) & !(0xffff << shift);
            word.store(others | u64::from(id) << shift, Relaxed);
        }
    }

    fn migrate(&mut self, old: u16, new: u16) -> u64 {
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
