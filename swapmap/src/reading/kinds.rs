//! Tells the types of swapfiles from other types.
//!
//! A kernel reserves the highest of the 32 types for entries of page tables that are not slots: markers,
//! pages that are being migrated, pages of devices, poisoned pages. Their number depends on its version and
//! configuration, and `pagemap` does not show it. `smaps` shows it indirectly: the `Swap:` of a mapping
//! counts only its slots. So the `Swap:` of a mapping with entries of an unknown type tells what this type
//! is.

use swap_records::{MAX_SWAPFILES, SwapType};

/// Types below this one have swapfiles on every kernel so far (up to 6.18). At most 9 types are reserved: 1
/// for markers, 1 for poisoned pages, 3 for migration and 4 for devices. See `MAX_SWAPFILES` in the kernel's
/// `include/linux/swap.h`.
pub(super) const ALWAYS_SWAPFILES: usize = MAX_SWAPFILES - 9;

/// Says what an entry of a page table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Slot,
    NoSlot,
    /// Not known yet.
    Untold,
}

/// The bounds that are known for the first reserved type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds {
    least: usize,
    most: usize,
}

impl Kinds {
    /// Starts with the bounds for a machine with `swapfiles` on: each has a type.
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

    /// Returns the end of the types that may have swapfiles.
    pub(super) fn end(&self) -> usize {
        self.most
    }

    /// Narrows the bounds by a mapping that has `entries` of each type, and `swap` pages by its `Swap:`. For
    /// a file of tmpfs the kernel adds pages that no page table shows, so `swap` is then an upper bound of
    /// the slots.
    ///
    /// If no bound fits, the mapping changed between the reading of both, and the bounds stay as they are. A
    /// mapping whose changes go unseen would give a wrong bound for the whole reading: `Walk::learn` says how
    /// callers exclude that.
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
    fn the_number_of_a_type_alone_does_not_make_it_a_marker() {
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
    fn a_mapping_of_tmpfs_shows_only_markers() {
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
    fn a_mapping_that_changed_between_the_readings_is_not_used() {
        let mut known = Kinds::new(1);
        known.learn(&entries(&[(0, 5), (25, 2)]), 6, false);
        assert_eq!(known, Kinds::new(1));
    }
}
