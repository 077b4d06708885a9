//! Where a record is: [`SwapType`], [`SwapEntry`], and a [`Run`] of entries with one owner.

use core::cmp::Ordering;
use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;

use crate::id::MemcgId;
use crate::parse::pad;

/// How many swap types there are: 32, the kernel's `MAX_SWAPFILES` (`include/linux/swap.h` keeps
/// five bits for the type, and so does `/proc/PID/pagemap`).
pub const MAX_SWAPFILES: usize = if cfg!(swap_records_loom) {
    1
} else {
    1 << TYPE_BITS
};

/// The type is in the lowest bits of an entry.
pub(crate) const TYPE_BITS: u32 = 5;
const OFFSET_BITS: u32 = 50;

/// The number of a swapfile, 0 to 31.
///
/// Linux gives a swapfile the lowest number that is free when it is turned on. So types are in the order of turning on
/// only while nothing is turned off: after a swapoff of type 0, the next swapon is type 0 again. `/proc/swaps` lists
/// swapfiles in the order of their types, without their numbers.
///
/// Linux keeps some of the highest numbers for entries of page tables that are no slots; see
/// [`SwapEntry::from_pagemap`].
///
/// ```
/// use swap_records::SwapType;
///
/// assert_eq!(SwapType::new(31).unwrap().get(), 31);
/// assert_eq!(SwapType::new(32), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u8", into = "u8"))]
pub struct SwapType(u8);

impl SwapType {
    /// The type with this number; `None` for [`MAX_SWAPFILES`] and above.
    #[must_use]
    pub const fn new(ty: u8) -> Option<Self> {
        if (ty as usize) < MAX_SWAPFILES {
            Some(Self(ty))
        } else {
            None
        }
    }

    /// The number of this type, 0 to 31.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Every type, from 0 to 31.
    pub const fn all() -> SwapTypes {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_SWAPFILES is 32")]
        SwapTypes(0..MAX_SWAPFILES as u8)
    }
}

/// Every [`SwapType`] in order: see [`SwapType::all`].
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct SwapTypes(Range<u8>);

impl Iterator for SwapTypes {
    type Item = SwapType;

    fn next(&mut self) -> Option<SwapType> {
        self.0.next().map(SwapType)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    fn nth(&mut self, n: usize) -> Option<SwapType> {
        self.0.nth(n).map(SwapType)
    }
}

impl DoubleEndedIterator for SwapTypes {
    fn next_back(&mut self) -> Option<SwapType> {
        self.0.next_back().map(SwapType)
    }
}

impl ExactSizeIterator for SwapTypes {}
impl FusedIterator for SwapTypes {}

impl fmt::Display for SwapType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A page slot of a swapfile: its [`SwapType`], and its offset in pages.
///
/// The bits are those that `/proc/PID/pagemap` shows for a swapped page: the type in bits 0 to 4,
/// the offset in bits 5 to 54 (the kernel's `Documentation/admin-guide/mm/pagemap.rst`). Entries are ordered
/// as a table gives them: by their type, then by their offset, which is not the order of the bits.
///
/// ```
/// use swap_records::{SwapEntry, SwapType};
///
/// let entry = SwapEntry::new(SwapType::new(1).unwrap(), 4096).unwrap();
/// assert_eq!(entry.swap_type().get(), 1);
/// assert_eq!(entry.offset(), 4096);
/// assert_eq!(entry.to_bits(), 4096 << 5 | 1);
/// assert_eq!(SwapEntry::from_bits(entry.to_bits()), Some(entry));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SwapEntry(u64);

impl SwapEntry {
    /// The highest offset that an entry can have, in pages: 2^50 - 1.
    pub const MAX_OFFSET: u64 = (1 << OFFSET_BITS) - 1;

    /// Bits 0 to 54.
    pub(crate) const MAX_BITS: u64 = (1 << (TYPE_BITS + OFFSET_BITS)) - 1;

    /// The slot at `offset` pages in the swapfile `ty`; `None` above [`MAX_OFFSET`](Self::MAX_OFFSET).
    #[must_use]
    pub const fn new(ty: SwapType, offset: u64) -> Option<Self> {
        if offset <= Self::MAX_OFFSET {
            Some(Self(offset << TYPE_BITS | ty.0 as u64))
        } else {
            None
        }
    }

    /// The entry with these bits, as [`to_bits`](Self::to_bits) gives them; `None` where a bit above
    /// bit 54 is set.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits <= Self::MAX_BITS {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The bits of this entry: the type in bits 0 to 4, the offset in bits 5 to 54.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The slot that a page was swapped out to, from its 64 bits in `/proc/PID/pagemap`; `None` where they say that
    /// there is none.
    ///
    /// | bit | what it says (the kernel's `pagemap.rst`) | a slot? |
    /// | --- | --- | --- |
    /// | 63 | present | no |
    /// | 62 | swapped | only if it is set |
    /// | 58 | a guard region (Linux 6.15) | no |
    /// | 61, 57, 56, 55 | of a file or shared, write-protected by userfaultfd, mapped once, soft-dirty | says nothing about it |
    ///
    /// A word can look like a slot and be none. Bit 62 is set for every entry of a page table that is not empty and not
    /// present. Linux keeps some of the highest of the 32 types for those that are not slots: markers (of
    /// userfaultfd, of poison, and of guard regions before 6.15, which have no bit 58), pages that are being migrated,
    /// pages of devices, and poisoned pages. How many types that takes depends on the kernel's version and
    /// configuration: on one 6.18, type 31 is markers, 29 is migration, and 28 swapfiles (0 to 27) could be on at once.
    /// The word does not say so. Callers that know which types are on leave the others out; a table refuses them with
    /// [`EntryError::TypeOff`](crate::EntryError::TypeOff), if no swapfile was turned on under such a number.
    ///
    /// ```
    /// use swap_records::SwapEntry;
    ///
    /// let swapped = SwapEntry::from_pagemap(1 << 62 | 9 << 5 | 2).unwrap();
    /// assert_eq!((swapped.swap_type().get(), swapped.offset()), (2, 9));
    /// assert_eq!(SwapEntry::from_pagemap(1 << 63 | 1234), None);
    /// // A guard page.
    /// assert_eq!(SwapEntry::from_pagemap(0x4400_0000_0000_009f), None);
    /// ```
    #[must_use]
    pub const fn from_pagemap(bits: u64) -> Option<Self> {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const GUARD: u64 = 1 << 58;
        if bits & (PRESENT | SWAPPED | GUARD) == SWAPPED {
            Some(Self(bits & Self::MAX_BITS))
        } else {
            None
        }
    }

    /// The swapfile of this slot.
    #[must_use]
    pub const fn swap_type(self) -> SwapType {
        #[expect(clippy::cast_possible_truncation, reason = "five bits")]
        SwapType((self.0 & (MAX_SWAPFILES as u64 - 1)) as u8)
    }

    /// The offset of this slot in its swapfile, in pages.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0 >> TYPE_BITS
    }

    /// The slot `nr` pages further in the same swapfile; `None` above
    /// [`MAX_OFFSET`](Self::MAX_OFFSET).
    #[must_use]
    pub const fn checked_add(self, nr: u64) -> Option<Self> {
        match self.offset().checked_add(nr) {
            Some(offset) => Self::new(self.swap_type(), offset),
            None => None,
        }
    }
}

impl Ord for SwapEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The type above the offset.
        let key = |entry: &Self| entry.0.rotate_right(TYPE_BITS);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for SwapEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for SwapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SwapEntry({}:{})", self.swap_type(), self.offset())
    }
}

/// Writes the type and the offset, as in `2:4096`.
impl fmt::Display for SwapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        pad(f, format_args!("{}:{}", self.swap_type(), self.offset()))
    }
}

/// Consecutive slots of one swapfile with one owner.
///
/// Runs are ordered by their first slot, then by their length, then by their owner. As a text, a run is its
/// first slot, its length and its owner: `3:4711+16 of 7`.
///
/// ```
/// use swap_records::{MemcgId, Run, SwapEntry, SwapType};
///
/// let start = SwapEntry::new(SwapType::new(3).unwrap(), 4711).unwrap();
/// let run = Run { start, len: 16, id: MemcgId::new(7).unwrap() };
/// assert_eq!(run.to_string(), "3:4711+16 of 7");
/// assert!(run < Run { len: 17, ..run });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "crate::serde::RawRun"))]
pub struct Run {
    /// The first slot.
    pub start: SwapEntry,
    /// How many slots, at least 1.
    pub len: u64,
    /// The owner of each of them.
    pub id: MemcgId,
}

/// Writes the first slot, the length and the owner, as in `3:4711+16 of 7`.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        pad(
            f,
            format_args!("{}+{} of {}", self.start, self.len, self.id),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_lossless_at_the_corners() {
        for ty in [0, 1, 31] {
            for offset in [0, 1, SwapEntry::MAX_OFFSET - 1, SwapEntry::MAX_OFFSET] {
                let ty = SwapType::new(ty).unwrap();
                let entry = SwapEntry::new(ty, offset).unwrap();
                assert_eq!((entry.swap_type(), entry.offset()), (ty, offset));
                assert_eq!(SwapEntry::from_bits(entry.to_bits()), Some(entry));
                assert_eq!(
                    SwapEntry::from_pagemap(entry.to_bits() | 1 << 62),
                    Some(entry)
                );
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ty = SwapType::new(0).unwrap();
        assert_eq!(SwapEntry::new(ty, SwapEntry::MAX_OFFSET + 1), None);
        assert_eq!(SwapEntry::new(ty, u64::MAX), None);
        assert_eq!(SwapEntry::from_bits(1 << 55), None);
        let last = SwapEntry::new(ty, SwapEntry::MAX_OFFSET).unwrap();
        assert_eq!(last.checked_add(0), Some(last));
        assert_eq!(last.checked_add(1), None);
        assert_eq!(last.checked_add(u64::MAX), None);
    }

    #[test]
    fn pagemap_flags_are_no_part_of_the_entry() {
        // Soft-dirty (55), exclusively mapped (56) and file-page (61) may be set on a swapped page.
        let bits = 1 << 62 | 1 << 61 | 1 << 56 | 1 << 55 | 77 << 5 | 3;
        let entry = SwapEntry::from_pagemap(bits).unwrap();
        assert_eq!((entry.swap_type().get(), entry.offset()), (3, 77));
        assert_eq!(SwapEntry::from_pagemap(bits | 1 << 63), None);
        // A guard page, whatever else is said of it.
        assert_eq!(SwapEntry::from_pagemap(0x4400_0000_0000_009f), None);
        assert_eq!(SwapEntry::from_pagemap(bits | 1 << 58), None);
        // Write-protected by userfaultfd: a slot may be.
        assert_eq!(SwapEntry::from_pagemap(bits | 1 << 57), Some(entry));
        // A page that is neither in memory nor in swap.
        assert_eq!(SwapEntry::from_pagemap(9 << 5 | 2), None);
    }

    #[test]
    fn types_are_thirty_two() {
        assert_eq!(SwapType::all().len(), MAX_SWAPFILES);
        assert_eq!(SwapType::all().next_back(), SwapType::new(31));
    }
}
