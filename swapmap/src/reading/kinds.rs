//! Which types are those of swapfiles.
//!
//! Of the 32 types a kernel keeps the highest for entries of page tables that are no slots: markers, pages that are being
//! migrated, pages of devices, poisoned pages. How many depends on its version and configuration, and `pagemap` does not
//! say. `smaps` does, indirectly: what it counts as `Swap:` of a mapping is the entries of swapfiles. So where a mapping
//! has entries of a type that may be either, its `Swap:` tells.

use swap_records::{MAX_SWAPFILES, SwapType};

/// Types below this one are swapfiles' on every kernel so far (up to 6.18): at most 9 are kept, 1 for markers, 1 for
/// poisoned pages, 3 for migration and 4 for devices. See `MAX_SWAPFILES` in the kernel's `include/linux/swap.h`.
pub(super) const ALWAYS_SWAPFILES: usize = MAX_SWAPFILES - 9;

/// What an entry of a page table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Slot,
    NoSlot,
    /// One of the two.
    Untold,
}

/// The bounds of the first type that is no swapfile's, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds {
    least: usize,
    most: usize,
}

impl Kinds {
    /// For a machine with `swapfiles` on: there is a type for each of them.
    pub(super) fn new(swapfiles: usize) -> Self {
        Self {
            least: ALWAYS_SWAPFILES.max(swapfiles).min(MAX_SWAPFILES),
            most: MAX_SWAPFILES,
        }
    }

    pub(super) fn of(&self, ty: SwapType) -> Kind {
        match usize::from(ty.get()) {
            ty if ty < self.least => Kind::Slot,
            ty if ty >= self.most => Kind::NoSlot,
            _ => Kind::Untold,
        }
    }

    /// The first type that may be no swapfile's; types from here on that are one are not known to be.
    pub(super) fn end(&self) -> usize {
        self.most
    }

    /// Learns from a mapping that has `entries` of each type, and `swap` pages by its `Swap:`. For a file of tmpfs the
    /// kernel adds pages that no page table shows, so there `swap` is the most that they can be.
    ///
    /// Where nothing fits, the mapping changed between the two readings; then nothing is learnt.
    pub(super) fn learn(&mut self, entries: &[u64; MAX_SWAPFILES], swap: u64, of_file: bool) {
        let fits = |&end: &usize| {
            let slots: u64 = entries[..end].iter().sum();
            slots == swap || (of_file && slots < swap)
        };
        let possible = self.least..=self.most;
        if let (Some(least), Some(most)) = (possible.clone().find(fits), possible.rev().find(fits))
        {
            *self = Self { least, most };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(of: &[(usize, u64)]) -> [u64; MAX_SWAPFILES] {
        let mut entries = [0; MAX_SWAPFILES];
        for &(ty, nr) in of {
            entries[ty] = nr;
        }
        entries
    }

    fn kinds(kinds: Kinds, types: [u8; 4]) -> [Kind; 4] {
        types.map(|ty| kinds.of(SwapType::new(ty).unwrap()))
    }

    #[test]
    fn a_type_above_the_least_is_no_marker_by_its_number() {
        use Kind::{Slot, Untold};
        assert_eq!(
            kinds(Kinds::new(1), [0, 22, 23, 31]),
            [Slot, Slot, Untold, Untold]
        );
        assert_eq!(
            kinds(Kinds::new(28), [0, 27, 28, 31]),
            [Slot, Slot, Untold, Untold]
        );
    }

    #[test]
    fn the_swap_of_a_mapping_tells_slots_from_markers() {
        use Kind::{NoSlot, Slot, Untold};
        let mut known = Kinds::new(1);
        known.learn(&entries(&[(0, 5), (25, 2), (31, 7)]), 7, false);
        assert_eq!(
            kinds(known, [25, 26, 30, 31]),
            [Slot, Untold, Untold, NoSlot]
        );
        known.learn(&entries(&[(28, 3)]), 0, false);
        assert_eq!(
            kinds(known, [25, 26, 28, 31]),
            [Slot, Untold, NoSlot, NoSlot]
        );
    }

    #[test]
    fn a_mapping_of_tmpfs_tells_markers_only() {
        use Kind::{NoSlot, Untold};
        let mut known = Kinds::new(1);
        known.learn(&entries(&[(25, 2), (31, 7)]), 100, true);
        assert_eq!(known, Kinds::new(1), "the 100 may be of the file alone");
        known.learn(&entries(&[(25, 2), (31, 7)]), 3, true);
        assert_eq!(
            kinds(known, [23, 25, 30, 31]),
            [Untold, Untold, Untold, NoSlot]
        );
    }

    #[test]
    fn a_mapping_that_changed_meanwhile_teaches_nothing() {
        let mut known = Kinds::new(1);
        known.learn(&entries(&[(0, 5), (25, 2)]), 6, false);
        assert_eq!(known, Kinds::new(1));
    }
}
