//! [`Run::slots`]: the slots of a run, one by one.

use core::iter::FusedIterator;

use crate::entry::{Run, SwapEntry};

impl Run {
    /// Returns the slots of the run, in the order of their offsets.
    ///
    /// ```
    /// use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ty = SwapType::new(0).unwrap();
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1 << 20)?;
    /// records.record_range(SwapEntry::new(ty, 7).unwrap(), 3, MemcgId::MIN)?;
    /// records.record(SwapEntry::new(ty, 4711).unwrap(), MemcgId::MIN)?;
    ///
    /// // All slots that have a record.
    /// let slots = records.runs(ty).flat_map(|run| run.slots());
    /// let offsets: Vec<u64> = slots.map(SwapEntry::offset).collect();
    /// assert_eq!(offsets, [7, 8, 9, 4711]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A run that a caller made, and that is longer than its swap type can be, ends at
    /// [`SwapEntry::MAX_OFFSET`].
    #[must_use]
    pub fn slots(self) -> RunSlots {
        let end = self.start.offset().saturating_add(self.len);
        RunSlots {
            next: Some(self.start),
            left: end.min(SwapEntry::MAX_OFFSET + 1) - self.start.offset(),
        }
    }
}

/// Yields the slots of a run. Made by [`Run::slots`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunSlots {
    /// `None` only where no slot is left.
    next: Option<SwapEntry>,
    left: u64,
}

impl Iterator for RunSlots {
    type Item = SwapEntry;

    fn next(&mut self) -> Option<SwapEntry> {
        self.left = self.left.checked_sub(1)?;
        let slot = self.next?;
        self.next = slot.checked_add(1);
        Some(slot)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match usize::try_from(self.left) {
            Ok(left) => (left, Some(left)),
            Err(_) => (usize::MAX, None),
        }
    }

    fn nth(&mut self, n: usize) -> Option<SwapEntry> {
        let skipped = self.left.min(n as u64);
        self.next = self.next?.checked_add(skipped);
        self.left -= skipped;
        self.next()
    }
}

impl DoubleEndedIterator for RunSlots {
    fn next_back(&mut self) -> Option<SwapEntry> {
        self.left = self.left.checked_sub(1)?;
        self.next?.checked_add(self.left)
    }
}

impl FusedIterator for RunSlots {}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::entry::SwapType;
    use crate::id::MemcgId;

    fn run(start: u64, len: u64) -> Run {
        let start = SwapEntry::new(SwapType::new(3).unwrap(), start).unwrap();
        let id = MemcgId::MIN;
        Run { start, len, id }
    }

    fn offsets(slots: impl Iterator<Item = SwapEntry>) -> Vec<u64> {
        slots.map(SwapEntry::offset).collect()
    }

    #[test]
    fn the_slots_of_a_run_come_from_both_ends() {
        let slots = run(4711, 4).slots();
        assert!(slots.clone().all(|slot| slot.swap_type().get() == 3));
        assert_eq!(offsets(slots.clone()), [4711, 4712, 4713, 4714]);
        assert_eq!(offsets(slots.clone().rev()), [4714, 4713, 4712, 4711]);
        assert_eq!(slots.size_hint(), (4, Some(4)));
        let mut both = slots;
        assert_eq!(both.next().map(SwapEntry::offset), Some(4711));
        assert_eq!(both.next_back().map(SwapEntry::offset), Some(4714));
        assert_eq!(both.nth(1).map(SwapEntry::offset), Some(4713));
        assert_eq!((both.next(), both.next_back()), (None, None));
    }

    #[test]
    fn the_slots_of_a_run_end_with_its_type() {
        let most = SwapEntry::MAX_OFFSET;
        for len in [2, 3, u64::MAX] {
            assert_eq!(offsets(run(most - 1, len).slots()), [most - 1, most]);
        }
        assert_eq!(offsets(run(most, 1).slots().rev()), [most]);
        assert_eq!(run(7, 0).slots().next(), None);
        let mut far = run(0, u64::MAX).slots();
        assert_eq!(far.next_back().map(SwapEntry::offset), Some(most));
        let mut near = run(most - 9, u64::MAX).slots();
        assert_eq!(near.nth(9).map(SwapEntry::offset), Some(most));
        assert_eq!((near.next(), near.nth(usize::MAX)), (None, None));
        assert_eq!(run(most - 9, u64::MAX).slots().nth(usize::MAX), None);
    }
}
