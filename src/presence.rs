//! [`Presence`] keeps, for each counter, a bitmap of the regions where its count is not zero.
//!
//! **Invariant (design, 2):** under a region's lock, the region's bit of a counter is set exactly if
//! the number in that counter's cell of the region is not zero. (Invariant 15 has the exception for spilled
//! blocks, without `std`.) Regions share words, so the bits are changed by atomic read-modify-writes. A
//! reader without the lock may see a bit late, but never misses one that was set before its read began and
//! stayed set.
//!
//! A reader looks at one bitmap after the other. The reader misses a record that moves from a bitmap not yet
//! read to one already read. [`Regions`](crate::regions::Regions) closes that gap: it counts the bits of each
//! region.

use core::iter;
use core::ops::Range;

use crate::cell::{BLOCK, COUNTERS};
use crate::store::Cells;
use crate::sync::{AtomicU64, Ordering};

/// The number of counters in use is tracked by blocks, one bit each.
const _: () = assert!(COUNTERS / BLOCK <= u64::BITS as usize);

pub(crate) struct Presence {
    cells: Cells,
    /// The blocks of counters that had a bit set since the start or the last `discard`.
    used: AtomicU64,
}

impl Presence {
    /// Takes cells that have no bit set.
    pub(crate) fn new(cells: Cells) -> Self {
        Self {
            cells,
            used: AtomicU64::new(0),
        }
    }

    /// Returns the cells that the bits are about.
    #[inline(always)]
    pub(crate) fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Sets the bit. The caller holds the region's lock, and counts the bit.
    #[inline]
    pub(crate) fn set(&self, counter: usize, region: usize) {
        let block = 1 << (counter / BLOCK);
        if self.used.load(Ordering::Relaxed) & block == 0 {
            self.used.fetch_or(block, Ordering::Relaxed);
        }
        self.cells.bitmaps().set(counter, region);
    }

    /// Sets bits of the 64 regions of this word. No other thread writes to these regions. The caller counts
    /// the bits.
    #[cfg(all(feature = "std", not(swap_records_loom)))]
    pub(crate) fn set_word(&self, counter: usize, word: usize, bits: u64) {
        self.used
            .fetch_or(1 << (counter / BLOCK), Ordering::Relaxed);
        self.cells.bitmaps().set_word(counter, word, bits);
    }

    /// Clears the bit. The caller holds the region's lock, and counts the bit.
    #[inline]
    pub(crate) fn clear(&self, counter: usize, region: usize) {
        self.cells.bitmaps().clear(counter, region);
    }

    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn is_set(&self, counter: usize, region: usize) -> bool {
        self.cells.bitmaps().word(counter, region / 64) >> (region % 64) & 1 != 0
    }

    /// Returns the first of `regions` where the counter's bit is set. `regions` may lie past the end.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn next(&self, counter: usize, regions: Range<usize>) -> Option<usize> {
        let words = regions.end.div_ceil(64).min(self.cells.bitmaps().words());
        next_bit(words, regions.start, |word| {
            self.cells.bitmaps().word(counter, word)
        })
        .filter(|&region| region < regions.end)
    }

    /// Counts the set bits of the counter in `regions`, and in the regions that share a word with them.
    #[cfg(feature = "std")]
    pub(crate) fn about(&self, counter: usize, regions: Range<usize>) -> usize {
        let words = regions.start / 64..regions.end.div_ceil(64);
        if words.end > self.cells.bitmaps().words() {
            return 0;
        }
        let words = words.map(|word| self.cells.bitmaps().word(counter, word));
        words.map(|bits| bits.count_ones() as usize).sum()
    }

    /// Returns the number of words in the bitmap of a counter, one word per 64 regions.
    pub(crate) fn words_a_counter(&self) -> usize {
        self.cells.bitmaps().words()
    }

    /// Returns the regions of this word where the counter's bit is set.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn in_word(
        &self,
        counter: usize,
        word: usize,
    ) -> impl Iterator<Item = usize> + use<> {
        set_bits(word, self.cells.bitmaps().word(counter, word))
    }

    /// Returns the counters that may have a bit set: whole blocks, lowest first.
    pub(crate) fn counters(&self) -> impl Iterator<Item = usize> + use<> {
        let mut used = self.used.load(Ordering::Relaxed);
        let mut left = 0..0;
        iter::from_fn(move || {
            if left.is_empty() {
                let first = used.trailing_zeros() as usize * BLOCK;
                used &= used.checked_sub(1)?;
                left = first..first + BLOCK;
            }
            left.next()
        })
    }

    /// Returns whether a counter of this block may have a bit set.
    pub(crate) fn is_used(&self, block: usize) -> bool {
        self.used.load(Ordering::Relaxed) >> block & 1 != 0
    }

    /// Returns the number of counters up to the end of the last block that had a bit set.
    pub(crate) fn counters_end(&self) -> usize {
        (u64::BITS - self.used.load(Ordering::Relaxed).leading_zeros()) as usize * BLOCK
    }

    /// Clears all bits. No thread can take a region's lock any more to set one.
    pub(crate) fn discard(&self) {
        self.cells
            .bitmaps()
            .discard(self.counters_end(), self.counters());
        self.used.store(0, Ordering::Relaxed);
    }
}

/// Returns the numbers of the bits that are set in the `word`-th word of a bitmap.
pub(crate) fn set_bits(word: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let bit = bits.trailing_zeros();
        bits &= bits.checked_sub(1)?;
        Some(word * 64 + bit as usize)
    })
}

/// Returns the first set bit from `from` on in a bitmap of `len` words.
pub(crate) fn next_bit(len: usize, from: usize, word: impl Fn(usize) -> u64) -> Option<usize> {
    let mut index = from / 64;
    if index >= len {
        return None;
    }
    let mut bits = word(index) & (u64::MAX << (from % 64));
    while bits == 0 {
        index += 1;
        if index == len {
            return None;
        }
        bits = word(index);
    }
    Some(index * 64 + bits.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Pages;
    use crate::store::Chunks;
    use alloc::vec::Vec;

    fn regions(presence: &Presence, counter: usize) -> Vec<usize> {
        let mut from = 0;
        iter::from_fn(|| {
            let region = presence.next(counter, from..200)?;
            from = region + 1;
            Some(region)
        })
        .collect()
    }

    /// Presence bits with memory for all regions.
    fn of(regions: usize) -> Presence {
        let chunks = Chunks::of_regions(regions, Pages::GLOBAL).unwrap();
        let cells = Cells::new(regions, chunks).unwrap();
        (0..regions).for_each(|region| cells.make(region, None).unwrap());
        Presence::new(cells)
    }

    #[test]
    fn bits_are_found_where_they_were_set() {
        let presence = of(200);
        for region in [0, 63, 64, 199] {
            presence.set(5, region);
        }
        presence.set(COUNTERS - 1, 100);
        assert_eq!(regions(&presence, 5), [0, 63, 64, 199]);
        assert!(regions(&presence, 6).is_empty());
        assert_eq!(presence.next(5, 65..200), Some(199));
        assert_eq!(presence.next(5, 65..199), None);
        assert_eq!(presence.next(5, 10_000..10_001), None);
        assert!(presence.is_set(5, 63) && !presence.is_set(5, 62));
        presence.clear(5, 63);
        assert_eq!(regions(&presence, 5), [0, 64, 199]);
    }

    #[test]
    fn counters_in_use_are_whole_blocks() {
        let presence = of(1);
        assert_eq!(
            (presence.counters().count(), presence.counters_end()),
            (0, 0)
        );
        presence.set(1, 0);
        presence.set(BLOCK * 2, 0);
        assert_eq!(presence.counters().count(), 2 * BLOCK);
        assert_eq!(presence.counters_end(), 3 * BLOCK);
        presence.discard();
        assert_eq!(presence.counters_end(), 0);
        assert_eq!(
            (presence.next(1, 0..64), presence.next(2 * BLOCK, 0..64)),
            (None, None)
        );
    }

    #[test]
    #[cfg(feature = "std")]
    fn regions_are_counted_by_the_words_that_they_are_in() {
        let presence = of(200);
        for region in [0, 1, 63, 64, 199] {
            presence.set(5, region);
        }
        for (regions, about) in [
            (0..200, 5),
            (0..64, 3),
            (1..2, 3),
            (63..65, 4),
            (64..128, 1),
        ] {
            assert_eq!(presence.about(5, regions), about);
        }
        assert_eq!(
            (presence.about(5, 128..199), presence.about(6, 0..200)),
            (1, 0)
        );
    }

    #[test]
    fn all_words_of_a_counter_are_emptied() {
        let presence = of(200);
        for region in [0, 64, 199] {
            presence.set(COUNTERS - 1, region);
        }
        presence.discard();
        assert_eq!(regions(&presence, COUNTERS - 1), []);
    }
}
