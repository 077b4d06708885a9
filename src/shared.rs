//! [`Shared`]: which counters may be shared, because an id from [`COUNTERS`] on was recorded.
//!
//! The ids below [`COUNTERS`] have a counter each. So the cells of a counter tell how many records its lowest id
//! has, unless one of the other ids that are equal to it modulo [`COUNTERS`] was ever recorded. Those are noted
//! here, each for itself: what has no note has no records.
//!
//! **Invariant (design, 2):** whenever a region's lock is free, each id of its entries from [`COUNTERS`] on has
//! its note, and so has its counter. A note is made under the lock, before the cell is written, and stays until
//! the swapfile is turned off. The cell is then stored with release: a thread that reads the cell without the
//! lock, and issues an acquire fence, reads the note as well, if any record of such an id is in what it read.

use core::hint::black_box;

use crate::cell::{BLOCK, COUNTERS, counter};
use crate::footprint::Extent;
use crate::presence::next_bit;
use crate::storage::{Refused, Slot};
use crate::store::Notes;
use crate::sync::Ordering;

/// All ids, and 0. A model has few, since each of its atomics costs time in every order of its threads.
pub(crate) const IDS: usize = if cfg!(swap_records_loom) { 64 } else { 1 << 16 };

const WORD: usize = u64::BITS as usize;

/// Of all bits.
const WORDS: usize = (IDS + COUNTERS).div_ceil(WORD);

const _: () = assert!(IDS.is_multiple_of(WORD) && COUNTERS < IDS);

/// A bit for each id, those below `COUNTERS` unused, and then one for each counter.
#[derive(Debug)]
pub(crate) struct Shared(Notes);

impl Shared {
    pub(crate) fn new() -> Result<Self, Refused> {
        Notes::of_words(WORDS).map(Self)
    }

    fn is_set(&self, bit: usize) -> bool {
        self.0[bit / WORD].load(Ordering::Relaxed) >> (bit % WORD) & 1 != 0
    }

    /// Notes an id from `COUNTERS` on. The lock of its region is held, and the cell has not been written yet.
    #[cold]
    pub(crate) fn note(&self, id: u16) {
        // Each is looked at by itself: another thread may have written one and not yet the other.
        for bit in [usize::from(id), IDS + counter(id)] {
            self.set(bit);
        }
    }

    /// Notes that the cells of a counter may tell of ids of other counters, too: see `store`. The lock of their region is held,
    /// and the cell has not been written yet.
    #[cold]
    pub(crate) fn note_counter(&self, counter: usize) {
        self.set(IDS + counter);
    }

    fn set(&self, bit: usize) {
        if !self.is_set(bit) {
            self.0[bit / WORD].fetch_or(1 << (bit % WORD), Ordering::Relaxed);
        }
    }

    /// Whether no other id than this one can be counted by its counter, as far as ids have notes.
    pub(crate) fn is_alone(&self, id: u16) -> bool {
        let id = usize::from(id);
        // A step that the compiler does not know keeps the loop a loop.
        let mut others = (id + COUNTERS..IDS).step_by(black_box(COUNTERS));
        id < COUNTERS && !others.any(|id| self.is_set(id))
    }

    /// Whether an id from `COUNTERS` on was noted; those below have no note.
    pub(crate) fn knows(&self, id: u16) -> bool {
        self.is_set(usize::from(id))
    }

    /// Whether any id of this counter was noted, so that its cells may tell of several ids.
    pub(crate) fn has(&self, counter: usize) -> bool {
        self.is_set(IDS + counter)
    }

    /// Of the counters of this block, which [`has`](Self::has) is true of: a bit each.
    pub(crate) fn has_block(&self, block: usize) -> u64 {
        const { assert!(WORD.is_multiple_of(BLOCK) && IDS.is_multiple_of(WORD)) };
        let first = IDS + block * BLOCK;
        let bits = self.0[first / WORD].load(Ordering::Relaxed) >> (first % WORD);
        bits & (u64::MAX >> (WORD - BLOCK))
    }

    /// The first noted id from `from` on.
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        next_bit(IDS / WORD, from, |word| {
            self.0[word].load(Ordering::Relaxed)
        })
    }

    pub(crate) fn extent(&self) -> Extent {
        self.0.extent()
    }

    /// No notes. No region's lock can be taken any more by a thread that would make one.
    pub(crate) fn discard(&self) {
        // Two pages and a bit: cleared where they are. What has no note of a counter has none of an id.
        let mut counters = IDS / WORD..WORDS;
        if counters.any(|word| self.0[word].load(Ordering::Relaxed) != 0) {
            (0..WORDS).for_each(|word| self.0[word].clear());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::iter;

    fn all(shared: &Shared) -> Vec<usize> {
        let mut from = 0;
        iter::from_fn(|| {
            let id = shared.next(from)?;
            from = id + 1;
            Some(id)
        })
        .collect()
    }

    #[test]
    fn ids_and_their_counters_are_noted_until_all_are_discarded() {
        let shared = Shared::new().unwrap();
        assert_eq!(all(&shared), []);
        let counters = u16::try_from(COUNTERS).unwrap();
        let ids = [counters, 3 * counters + 5, u16::MAX];
        for id in ids {
            shared.note(id);
            shared.note(id);
            assert!(shared.knows(id) && shared.has(counter(id)));
            let block = shared.has_block(counter(id) / BLOCK);
            assert_eq!(block >> (counter(id) % BLOCK) & 1, 1);
        }
        assert_eq!(all(&shared), ids.map(usize::from));
        assert!(!shared.knows(counters + 5) && !shared.has(1));
        assert!(shared.has(0) && shared.has(5) && shared.has(COUNTERS - 1));
        assert_eq!(shared.next(IDS), None);
        shared.discard();
        assert_eq!(all(&shared), []);
        assert!((0..COUNTERS).all(|counter| !shared.has(counter)));
        assert!((0..COUNTERS / BLOCK).all(|block| shared.has_block(block) == 0));
    }
}
