//! [`Presence`]: for each counter, a bitmap of the regions where its count is not zero; and for each region, a count of its
//! bits that are set.
//!
//! **Invariant (design, 2):** under a region's lock, the region's bit of a counter is set exactly if
//! the count of that counter's cell in the region is not zero. Regions share words, so the bits are
//! changed by atomic read-modify-writes. A reader without the lock may see a bit late, but never
//! misses one that was set before its read began and stayed set.
//!
//! A reader looks at one bitmap after the other. A record that moves from a bitmap not yet read to one already read is seen
//! in neither. The count of set bits closes that gap. Where one owner replaces another, the bit of the new owner is set before
//! that of the old one is cleared ([`Region`](crate::region::Region) keeps that order). So the count does not pass through 0, and
//! a reader that finds 0 knows that the region had no record, but for one whose call had not returned.

use core::iter;
use core::ops::Range;

use crate::cell::{BLOCK, COUNTERS};
use crate::footprint::Extent;
use crate::storage::{Refused, Slot, Zeroed};
use crate::sync::{AtomicU16, AtomicU64, Ordering};

// A region's count of bits fits.
const _: () = assert!(COUNTERS <= u16::MAX as usize);

/// The number of counters in use is tracked by blocks, one bit each.
const _: () = assert!(COUNTERS / BLOCK <= u64::BITS as usize);

#[derive(Debug)]
pub(crate) struct Presence {
    /// `[counter][word]`, one bit per region.
    words: Zeroed<AtomicU64>,
    /// Words per counter.
    stride: usize,
    /// Per region, how many counters have their bit set. Written under the region's lock.
    counts: Zeroed<AtomicU16>,
    /// The blocks of counters of which a bit was ever set since the start or the last `discard`.
    used: AtomicU64,
}

impl Presence {
    pub(crate) fn new(regions: usize) -> Result<Self, Refused> {
        let stride = regions.div_ceil(64);
        let len = stride.checked_mul(COUNTERS);
        Ok(Self {
            words: Zeroed::new(len.ok_or(Refused { bytes: usize::MAX })?, false)?,
            stride,
            counts: Zeroed::new(stride * 64, false)?,
            used: AtomicU64::new(0),
        })
    }

    fn row(&self, counter: usize) -> &[AtomicU64] {
        &self.words[counter * self.stride..][..self.stride]
    }

    #[inline]
    fn word(&self, counter: usize, region: usize) -> &AtomicU64 {
        &self.words[counter * self.stride + region / 64]
    }

    /// Changes a region's count of set bits. The caller holds the region's lock, or is the only writer.
    #[inline]
    fn change_count(&self, region: usize, change: impl FnOnce(u16) -> u16) {
        let count = &self.counts[region];
        count.store(change(count.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// The region's lock is held, and the bit is clear.
    #[inline]
    pub(crate) fn set(&self, counter: usize, region: usize) {
        let block = 1 << (counter / BLOCK);
        if self.used.load(Ordering::Relaxed) & block == 0 {
            self.used.fetch_or(block, Ordering::Relaxed);
        }
        self.word(counter, region)
            .fetch_or(1 << (region % 64), Ordering::Relaxed);
        self.change_count(region, |count| count + 1);
    }

    /// Sets bits of the 64 regions of this word, which are clear. Nobody else writes to these regions.
    #[cfg(all(feature = "std", not(swap_records_loom)))]
    pub(crate) fn set_word(&self, counter: usize, word: usize, bits: u64) {
        self.used
            .fetch_or(1 << (counter / BLOCK), Ordering::Relaxed);
        self.row(counter)[word].fetch_or(bits, Ordering::Relaxed);
        for region in set_bits(word, bits) {
            self.change_count(region, |count| count + 1);
        }
    }

    /// The region's lock is held, and the bit is set. Where another counter takes the place of this one, its bit has been
    /// set.
    #[inline]
    pub(crate) fn clear(&self, counter: usize, region: usize) {
        self.word(counter, region)
            .fetch_and(!(1 << (region % 64)), Ordering::Relaxed);
        self.change_count(region, |count| count - 1);
    }

    pub(crate) fn is_set(&self, counter: usize, region: usize) -> bool {
        self.word(counter, region).load(Ordering::Relaxed) >> (region % 64) & 1 != 0
    }

    /// The first of `regions` where the counter's bit is set. There may be no such regions.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn next(&self, counter: usize, regions: Range<usize>) -> Option<usize> {
        let row = self.row(counter);
        let words = regions.end.div_ceil(64).min(row.len());
        next_bit(words, regions.start, |word| {
            row[word].load(Ordering::Relaxed)
        })
        .filter(|&region| region < regions.end)
    }

    /// In how many of `regions`, and of those that share a word with them, the counter's bit is set.
    #[cfg(feature = "std")]
    pub(crate) fn about(&self, counter: usize, regions: Range<usize>) -> usize {
        let words = regions.start / 64..regions.end.div_ceil(64);
        let row = self.row(counter).get(words).unwrap_or_default();
        row.iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones() as usize)
            .sum()
    }

    /// How many words the bitmap of a counter has, of 64 regions each.
    pub(crate) fn words_a_counter(&self) -> usize {
        self.stride
    }

    /// The regions of this word where the counter's bit is set.
    pub(crate) fn in_word(
        &self,
        counter: usize,
        word: usize,
    ) -> impl Iterator<Item = usize> + use<> {
        set_bits(word, self.row(counter)[word].load(Ordering::Relaxed))
    }

    /// How many counters have their bit set in this region. Without the region's lock, 0 means that the region had no
    /// record at some time since this call began, apart from records whose call had not returned.
    pub(crate) fn count(&self, region: usize) -> u16 {
        self.counts[region].load(Ordering::Relaxed)
    }

    /// The first of `regions` that may have a record. The regions before it have a [`count`](Self::count) of 0.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn next_of_any(&self, regions: Range<usize>) -> Option<usize> {
        let counts = self.counts.get(regions.clone())?;
        let mut counts = counts.iter();
        let next = counts.position(|count| count.load(Ordering::Relaxed) != 0)?;
        Some(regions.start + next)
    }

    /// The counters of which a bit may be set: whole blocks, lowest first.
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

    /// Whether a bit of any counter of this block may be set.
    pub(crate) fn is_used(&self, block: usize) -> bool {
        self.used.load(Ordering::Relaxed) >> block & 1 != 0
    }

    /// How many counters there are up to the last one of which a bit was set.
    pub(crate) fn counters_end(&self) -> usize {
        (u64::BITS - self.used.load(Ordering::Relaxed).leading_zeros()) as usize * BLOCK
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent::of(&self.words).and(Extent::of(&self.counts))
    }

    /// All bits clear. No region's lock can be taken any more to set one.
    pub(crate) fn discard(&self) {
        if !self.words.give_back(self.counters_end() * self.stride) {
            let words = self.counters().flat_map(|counter| self.row(counter));
            words.for_each(Slot::clear);
        }
        if !self.counts.give_back(self.counts.len()) {
            self.counts.iter().for_each(Slot::clear);
        }
        self.used.store(0, Ordering::Relaxed);
    }
}

/// The numbers of the bits that are set in the `word`-th word of a bitmap.
fn set_bits(word: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let bit = bits.trailing_zeros();
        bits &= bits.checked_sub(1)?;
        Some(word * 64 + bit as usize)
    })
}

/// The first set bit from `from` on of a bitmap of `len` words.
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

    #[test]
    fn bits_are_found_where_they_were_set() {
        let presence = Presence::new(200).unwrap();
        assert_eq!(presence.next_of_any(0..200), None);
        for region in [0, 63, 64, 199] {
            presence.set(5, region);
        }
        presence.set(COUNTERS - 1, 100);
        assert_eq!(regions(&presence, 5), [0, 63, 64, 199]);
        assert!(regions(&presence, 6).is_empty());
        assert_eq!(presence.next(5, 65..200), Some(199));
        assert_eq!(presence.next(5, 65..199), None);
        assert_eq!(presence.next(5, 10_000..10_001), None);
        assert_eq!(presence.next_of_any(65..200), Some(100));
        assert!(presence.is_set(5, 63) && !presence.is_set(5, 62));
        presence.clear(5, 63);
        assert_eq!(regions(&presence, 5), [0, 64, 199]);
        assert_eq!(presence.next_of_any(1..200), Some(64));
        assert_eq!(presence.next_of_any(101..199), None);
    }

    #[test]
    fn counters_in_use_are_whole_blocks() {
        let presence = Presence::new(1).unwrap();
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
        let presence = Presence::new(200).unwrap();
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
        let presence = Presence::new(200).unwrap();
        for region in [0, 64, 199] {
            presence.set(COUNTERS - 1, region);
        }
        presence.discard();
        assert_eq!(regions(&presence, COUNTERS - 1), []);
    }
}
