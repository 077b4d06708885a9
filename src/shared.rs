//! [`Shared`]: notes of the counters that are shared, because an id from [`COUNTERS`] on was recorded.
//!
//! Each id below [`COUNTERS`] has its own counter. The cells of a counter count the records of its lowest id
//! alone, unless another id that is congruent to it modulo [`COUNTERS`] was recorded. Each of those ids gets
//! a note here. An id from [`COUNTERS`] on without a note has no records.
//!
//! **Invariant 2, the part about notes:** whenever a region's lock is free, each id from [`COUNTERS`] on that
//! an entry of the region holds has its note, and so has its counter. A note is made under the lock, before
//! the cell is written. It stays until the swapfile is turned off. The cell is then stored with release. So a
//! thread that reads the cell without the lock, and then issues an acquire fence, sees the note if what it
//! read counts a record of such an id.

use core::hint::black_box;

use crate::cell::{BLOCK, COUNTERS, counter};
use crate::footprint::Extent;
use crate::presence::next_bit;
use crate::storage::{Refused, Slot};
use crate::store::Notes;
use crate::sync::Ordering;

/// The number of ids, with 0. A model has few, since each of its atomics costs time in every order of its
/// threads.
pub(crate) const IDS: usize = if cfg!(swap_records_loom) { 64 } else { 1 << 16 };

const WORD: usize = u64::BITS as usize;

/// The number of words for all bits.
const WORDS: usize = (IDS + COUNTERS).div_ceil(WORD);

const _: () = assert!(IDS.is_multiple_of(WORD) && COUNTERS < IDS);

/// One bit per id, unused below `COUNTERS`, followed by one bit per counter.
#[derive(Debug)]
pub(crate) struct Shared(Notes);

impl Shared {
    pub(crate) fn new() -> Result<Self, Refused> {
        Notes::of_words(WORDS).map(Self)
    }

    fn is_set(&self, bit: usize) -> bool {
        self.0[bit / WORD].load(Ordering::Relaxed) >> (bit % WORD) & 1 != 0
    }

    /// Notes an id from `COUNTERS` on. The caller holds the lock of the id's region, and has not written the
    /// cell yet.
    #[cold]
    pub(crate) fn note(&self, id: u16) {
        // Both bits are checked: another thread may have set the first and not yet the second.
        for bit in [usize::from(id), IDS + counter(id)] {
            self.set(bit);
        }
    }

    /// Notes that the cells of a counter may count ids of other counters, too: see `store`. The caller holds
    /// the lock of their region, and has not written the cell yet.
    #[cold]
    pub(crate) fn note_counter(&self, counter: usize) {
        self.set(IDS + counter);
    }

    fn set(&self, bit: usize) {
        if !self.is_set(bit) {
            self.0[bit / WORD].fetch_or(1 << (bit % WORD), Ordering::Relaxed);
        }
    }

    /// Returns whether the counter of this id counts no other id, as far as notes say.
    pub(crate) fn is_alone(&self, id: u16) -> bool {
        let id = usize::from(id);
        // A step that the compiler does not know keeps the loop a loop.
        let mut others = (id + COUNTERS..IDS).step_by(black_box(COUNTERS));
        id < COUNTERS && !others.any(|id| self.is_set(id))
    }

    /// Returns whether an id from `COUNTERS` on was noted. Ids below have no note.
    pub(crate) fn knows(&self, id: u16) -> bool {
        self.is_set(usize::from(id))
    }

    /// Returns whether an id of this counter was noted, so that its cells may count several ids.
    pub(crate) fn has(&self, counter: usize) -> bool {
        self.is_set(IDS + counter)
    }

    /// Returns [`has`](Self::has) for each counter of this block, one bit per counter.
    pub(crate) fn has_block(&self, block: usize) -> u64 {
        const { assert!(WORD.is_multiple_of(BLOCK) && IDS.is_multiple_of(WORD)) };
        let first = IDS + block * BLOCK;
        let bits = self.0[first / WORD].load(Ordering::Relaxed) >> (first % WORD);
        bits & (u64::MAX >> (WORD - BLOCK))
    }

    /// Returns the first noted id from `from` on.
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        next_bit(IDS / WORD, from, |word| {
            self.0[word].load(Ordering::Relaxed)
        })
    }

    pub(crate) fn extent(&self) -> Extent {
        self.0.extent()
    }

    /// Removes all notes. No thread that would make a note can take the lock of a region any more.
    pub(crate) fn discard(&self) {
        // The notes take two pages and a little, so they are cleared in place. If no counter has a note, no
        // id has one.
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
