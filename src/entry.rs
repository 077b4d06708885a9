//! [`SwapType`], [`SwapEntry`], and [`Run`]: which slot a record is for.

use core::cmp::Ordering;
use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;

use crate::id::MemcgId;
use crate::parse::pad;

/// The number of swap types, 32: the kernel's `MAX_SWAPFILES`. `include/linux/swap.h` keeps five bits for the
/// type, as `/proc/PID/pagemap` does.
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
/// Linux gives a swapfile the lowest number that is free when it is turned on. So the order of numbers is the
/// order of turning on only while no swapfile is turned off: after a swapoff of type 0, the next swapon is
/// type 0 again. `/proc/swaps` lists swapfiles in the order of their types, without their numbers.
///
/// Linux reserves some of the highest numbers for page table entries that do not name a slot: see
/// [`SwapEntry::from_pagemap`].
///
/// # Examples
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
    /// Returns the type with this number, or `None` for [`MAX_SWAPFILES`] and above.
    #[must_use]
    pub const fn new(ty: u8) -> Option<Self> {
        if (ty as usize) < MAX_SWAPFILES {
            Some(Self(ty))
        } else {
            None
        }
    }

    /// Returns the number of this type, 0 to 31.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns an iterator over all types, from 0 to 31.
    pub const fn all() -> SwapTypes {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_SWAPFILES is 32")]
        SwapTypes(0..MAX_SWAPFILES as u8)
    }
}

/// An iterator over every [`SwapType`] in order. [`SwapType::all`] creates it.
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
/// The bits are those that `/proc/PID/pagemap` shows for a swapped page: the type in bits 0 to 4, the offset
/// in bits 5 to 54 (the kernel's `Documentation/admin-guide/mm/pagemap.rst`). Entries are ordered by their
/// type, then by their offset, as in a table. That order differs from the order of the bits.
///
/// # Examples
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

    /// Returns the slot at `offset` pages in the swapfile `ty`, or `None` above
    /// [`MAX_OFFSET`](Self::MAX_OFFSET).
    #[must_use]
    pub const fn new(ty: SwapType, offset: u64) -> Option<Self> {
        if offset <= Self::MAX_OFFSET {
            Some(Self(offset << TYPE_BITS | ty.0 as u64))
        } else {
            None
        }
    }

    /// Returns the entry with these bits, or `None` if a bit above bit 54 is set. [`to_bits`](Self::to_bits)
    /// returns such bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits <= Self::MAX_BITS {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Returns the bits of this entry: the type in bits 0 to 4, the offset in bits 5 to 54.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Returns the slot that a page was swapped out to, from its 64 bits in `/proc/PID/pagemap`. Returns
    /// `None` if the bits say that the page has no slot.
    ///
    /// | bit | meaning (the kernel's `pagemap.rst`) | has the page a slot? |
    /// | --- | --- | --- |
    /// | 63 | present | no |
    /// | 62 | swapped | only if it is set |
    /// | 58 | a guard region (Linux 6.15) | no |
    /// | 61 | of a file, or shared | the bit does not say |
    /// | 57 | write-protected by userfaultfd | the bit does not say |
    /// | 56 | mapped once | the bit does not say |
    /// | 55 | soft-dirty | the bit does not say |
    ///
    /// The result may be an entry that does not name a slot. Bit 62 is set for every page table entry that is
    /// not empty and not present. Linux reserves some of the highest of the 32 types for entries that are not
    /// slots:
    ///
    /// - markers of userfaultfd, of poison, and of guard regions before 6.15, which have no bit 58,
    /// - pages that are being migrated,
    /// - pages of devices, and
    /// - poisoned pages.
    ///
    /// The number of reserved types depends on the version and the configuration of the kernel. On one 6.18,
    /// type 31 is markers, type 29 is migration, and 28 swapfiles (0 to 27) can be on at once. The word
    /// itself does not say so.
    ///
    /// Callers that know which types are on must skip entries of other types. A table refuses such an entry
    /// with [`EntryError::TypeOff`](crate::EntryError::TypeOff), unless a swapfile was turned on under that
    /// number.
    ///
    /// # Examples
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

    /// Returns the swap type of this slot.
    #[must_use]
    pub const fn swap_type(self) -> SwapType {
        #[expect(clippy::cast_possible_truncation, reason = "five bits")]
        SwapType((self.0 & (MAX_SWAPFILES as u64 - 1)) as u8)
    }

    /// Returns the offset of this slot in its swapfile, in pages.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0 >> TYPE_BITS
    }

    /// Returns the slot that is `nr` pages further in the same swapfile, or `None` above
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
        // The type becomes the most significant part of the key.
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
/// Runs are ordered by their first slot, then by their length, then by their owner. As text, a run is its
/// first slot, its length and its owner: `3:4711+16 of 7`.
///
/// # Examples
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
    /// The number of slots, at least 1.
    pub len: u64,
    /// The owner of each slot.
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
    fn numbers_that_do_not_fit_are_refused() {
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
    fn pagemap_flags_are_not_part_of_the_entry() {
        // Soft-dirty (55), exclusively mapped (56) and file-page (61) may be set on a swapped page.
        let bits = 1 << 62 | 1 << 61 | 1 << 56 | 1 << 55 | 77 << 5 | 3;
        let entry = SwapEntry::from_pagemap(bits).unwrap();
        assert_eq!((entry.swap_type().get(), entry.offset()), (3, 77));
        assert_eq!(SwapEntry::from_pagemap(bits | 1 << 63), None);
        // A guard page, with any other bits.
        assert_eq!(SwapEntry::from_pagemap(0x4400_0000_0000_009f), None);
        assert_eq!(SwapEntry::from_pagemap(bits | 1 << 58), None);
        // A page that is write-protected by userfaultfd may have a slot.
        assert_eq!(SwapEntry::from_pagemap(bits | 1 << 57), Some(entry));
        // A page that is neither in memory nor in swap.
        assert_eq!(SwapEntry::from_pagemap(9 << 5 | 2), None);
    }

    #[test]
    fn there_are_thirty_two_types() {
        assert_eq!(SwapType::all().len(), MAX_SWAPFILES);
        assert_eq!(SwapType::all().next_back(), SwapType::new(31));
    }
}
