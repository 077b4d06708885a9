//! The portable backend: the vectors that every processor of the target has, through the crate `wide`.

use wide::u16x8;

use super::{
    Found,
    generic::{self, LINE, Vector},
};
use crate::sync::{AtomicU16, Ordering::Relaxed};

/// A block is 256 bytes, and a part of it 128. Larger ones were not faster with SSE2.
const BLOCK: usize = 16;
const PART: usize = 8;
const LINE_VECTORS: usize = LINE / size_of::<u16x8>();

/// Runs [`generic::scan`] with vectors that every processor of the target has.
///
/// # Safety
///
/// No other thread may write `entries` (invariant 3).
pub(super) unsafe fn scan<const WRITE: bool>(
    entries: &[AtomicU16],
    old: u16,
    new: u16,
    stop_at: u32,
) -> Found {
    // SAFETY: `u16x8` needs nothing that the target may lack. No other thread writes (invariant 3).
    unsafe { generic::scan::<u16x8, BLOCK, PART, LINE_VECTORS, WRITE>(entries, old, new, stop_at) }
}

/// Runs [`generic::replace_all`] with vectors that every processor of the target has.
///
/// # Safety
///
/// As for [`scan`].
pub(super) unsafe fn replace_all(entries: &[AtomicU16], old: u16, new: u16) -> bool {
    // SAFETY: as for `scan`.
    unsafe { generic::replace_all::<u16x8>(entries, old, new) }
}

/// Runs [`ids::count`](super::ids::count) with vectors that every processor of the target has.
#[cfg(all(feature = "std", not(swap_records_loom)))]
pub(super) fn count_ids(ids: &[u16], id: u16) -> u64 {
    // SAFETY: `u16x8` needs nothing that the target may lack.
    unsafe { super::ids::count::<u16x8>(ids, id) }
}

impl Vector for u16x8 {
    /// All bits of a lane are set, or none.
    type Mask = Self;

    const ENTRIES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: u16) -> Self {
        Self::splat(value)
    }

    #[inline(always)]
    fn ramp(self, first: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "positions are modulo 2^16")]
        let first = first as u16;
        Self::splat(first) + Self::new([0, 1, 2, 3, 4, 5, 6, 7])
    }

    #[inline(always)]
    unsafe fn load(from: *const AtomicU16) -> Self {
        // SAFETY: the vector is in one slice and aligned, and no thread writes it (invariant 3). An
        // `AtomicU16` has the layout of a `u16`.
        unsafe { from.cast::<Self>().read() }
    }

    #[inline(always)]
    fn equal(self, other: Self) -> Self {
        self.simd_eq(other)
    }

    #[inline(always)]
    fn any<const N: usize>(masks: [Self; N]) -> bool {
        let mut all = masks[0];
        let mut i = 1;
        while i < N {
            all |= masks[i];
            i += 1;
        }
        all.any()
    }

    #[inline(always)]
    fn all(mask: Self) -> bool {
        mask.all()
    }

    #[inline(always)]
    fn one_more_where(self, mask: Self) -> Self {
        // A lane of the mask that is set is -1.
        self - mask
    }

    #[inline(always)]
    fn sum_lanes(self) -> u32 {
        self.to_array().into_iter().map(u32::from).sum()
    }

    #[inline(always)]
    fn xor_where(self, mask: Self, other: Self) -> Self {
        self ^ (mask & other)
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }

    #[inline(always)]
    fn xor_lanes(self) -> u16 {
        self.to_array().into_iter().fold(0, |all, lane| all ^ lane)
    }

    #[inline(always)]
    unsafe fn store_where<const N: usize>(self, masks: [Self; N], to: *const AtomicU16) {
        let value = self.to_array()[0];
        let mut i = 0;
        while i < N {
            let mut lanes = masks[i].to_bitmask();
            // SAFETY: the vector is in the slice.
            let first = unsafe { to.add(i * Self::ENTRIES) };
            // SAFETY: as above. Shared references to atomics may coexist with any others.
            let vector = unsafe { &*first.cast::<[AtomicU16; 8]>() };
            if lanes == 0xff {
                for entry in vector {
                    entry.store(value, Relaxed);
                }
            } else {
                while lanes != 0 {
                    vector[lanes.trailing_zeros() as usize & 7].store(value, Relaxed);
                    lanes &= lanes - 1;
                }
            }
            i += 1;
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *const AtomicU16) {
        // SAFETY: the vector is in the slice. Shared references to atomics may coexist with any others.
        let vector = unsafe { &*to.cast::<[AtomicU16; 8]>() };
        for (entry, value) in vector.iter().zip(self.to_array()) {
            entry.store(value, Relaxed);
        }
    }
}
