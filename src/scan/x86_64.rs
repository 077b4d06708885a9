//! The backends of x86-64: AVX2 and AVX-512BW.

use core::arch::x86_64::*;

use super::{
    Found,
    generic::{self, LINE, Vector},
};
use crate::sync::AtomicU16;

/// A block is 512 bytes. With 128, the scan of a map in memory ran at 0.90 of a plain read of it,
/// with 512 at 0.97 (AVX2; AVX-512 follows it unmeasured). A part is what the registers hold.
const AVX2_BLOCK: usize = 16;
const AVX2_PART: usize = 4;
const AVX2_LINE: usize = LINE / size_of::<Avx2>();
const AVX512_BLOCK: usize = 8;
const AVX512_PART: usize = 4;
const AVX512_LINE: usize = LINE / size_of::<Avx512>();

#[cfg(feature = "std")]
mod has {
    #[inline]
    pub(in crate::scan) fn has_avx2() -> bool {
        std::arch::is_x86_feature_detected!("avx2")
    }

    #[inline]
    pub(in crate::scan) fn has_avx512() -> bool {
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
    }
}

#[cfg(not(feature = "std"))]
mod has {
    pub(in crate::scan) const fn has_avx2() -> bool {
        cfg!(target_feature = "avx2")
    }

    pub(in crate::scan) const fn has_avx512() -> bool {
        cfg!(all(target_feature = "avx512f", target_feature = "avx512bw"))
    }
}

pub(super) use has::{has_avx2, has_avx512};

/// Runs [`generic::scan`] with AVX2.
///
/// # Safety
///
/// The processor must have AVX2. No other thread may write `entries` (invariant 3).
#[target_feature(enable = "avx2")]
pub(super) unsafe fn scan_avx2<const WRITE: bool>(
    entries: &[AtomicU16],
    old: u16,
    new: u16,
    stop_at: u32,
) -> Found {
    // SAFETY: this function has AVX2; no other thread writes (invariant 3).
    unsafe {
        generic::scan::<Avx2, AVX2_BLOCK, AVX2_PART, AVX2_LINE, WRITE>(entries, old, new, stop_at)
    }
}

/// Runs [`generic::scan`] with AVX-512BW.
///
/// # Safety
///
/// The processor must have AVX-512F and AVX-512BW. No other thread may write `entries` (invariant 3).
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn scan_avx512<const WRITE: bool>(
    entries: &[AtomicU16],
    old: u16,
    new: u16,
    stop_at: u32,
) -> Found {
    // SAFETY: this function has AVX-512F and AVX-512BW; no other thread writes (invariant 3).
    unsafe {
        generic::scan::<Avx512, AVX512_BLOCK, AVX512_PART, AVX512_LINE, WRITE>(
            entries, old, new, stop_at,
        )
    }
}

/// Runs [`generic::replace_all`] with AVX2.
///
/// # Safety
///
/// As for [`scan_avx2`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn replace_all_avx2(entries: &[AtomicU16], old: u16, new: u16) -> bool {
    // SAFETY: this function has AVX2; no other thread writes (invariant 3).
    unsafe { generic::replace_all::<Avx2>(entries, old, new) }
}

/// Runs [`generic::replace_all`] with AVX-512BW.
///
/// # Safety
///
/// As for [`scan_avx512`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn replace_all_avx512(entries: &[AtomicU16], old: u16, new: u16) -> bool {
    // SAFETY: this function has AVX-512F and AVX-512BW; no other thread writes (invariant 3).
    unsafe { generic::replace_all::<Avx512>(entries, old, new) }
}

/// Runs [`ids::count`](super::ids::count) with AVX2.
#[cfg(all(feature = "std", not(swap_records_loom)))]
#[target_feature(enable = "avx2")]
pub(super) fn count_ids_avx2(ids: &[u16], id: u16) -> u64 {
    // SAFETY: this function has AVX2.
    unsafe { super::ids::count::<Avx2>(ids, id) }
}

/// Runs [`ids::count`](super::ids::count) with AVX-512BW.
#[cfg(all(feature = "std", not(swap_records_loom)))]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn count_ids_avx512(ids: &[u16], id: u16) -> u64 {
    // SAFETY: this function has AVX-512F and AVX-512BW.
    unsafe { super::ids::count::<Avx512>(ids, id) }
}

/// 0, 1, 2, ...
const RAMP: [u16; 32] = {
    let mut ramp = [0; 32];
    let mut lane = 0;
    while lane < 32 {
        ramp[lane as usize] = lane;
        lane += 1;
    }
    ramp
};

/// A vector of 16 entries. A value exists only if the processor has AVX2.
#[derive(Clone, Copy)]
struct Avx2(__m256i);

impl Vector for Avx2 {
    /// All bits of a lane are set, or none.
    type Mask = Self;

    const ENTRIES: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: u16) -> Self {
        // SAFETY: the caller vouches for AVX2.
        Self(unsafe { _mm256_set1_epi16(value.cast_signed()) })
    }

    #[inline(always)]
    fn ramp(self, first: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "positions are modulo 2^16")]
        // SAFETY: `self` proves AVX2.
        let first = unsafe { Self::splat(first as u16) };
        // SAFETY: `self` proves AVX2; the constant is long enough.
        let ramp = unsafe { _mm256_loadu_si256(RAMP.as_ptr().cast()) };
        // SAFETY: `self` proves AVX2.
        Self(unsafe { _mm256_add_epi16(first.0, ramp) })
    }

    #[inline(always)]
    unsafe fn load(from: *const AtomicU16) -> Self {
        // SAFETY: the caller vouches for AVX2. The vector is in one slice and aligned, and no thread writes
        // it (invariant 3). An `AtomicU16` has the layout of a `u16`.
        Self(unsafe { _mm256_load_si256(from.cast()) })
    }

    #[inline(always)]
    fn equal(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX2.
        Self(unsafe { _mm256_cmpeq_epi16(self.0, other.0) })
    }

    #[inline(always)]
    fn any<const N: usize>(masks: [Self; N]) -> bool {
        let mut all = masks[0];
        let mut i = 1;
        while i < N {
            // SAFETY: a mask proves AVX2.
            all = Self(unsafe { _mm256_or_si256(all.0, masks[i].0) });
            i += 1;
        }
        all.bits() != 0
    }

    #[inline(always)]
    fn all(mask: Self) -> bool {
        mask.bits() == u32::MAX
    }

    #[inline(always)]
    fn one_more_where(self, mask: Self) -> Self {
        // SAFETY: `self` proves AVX2.
        Self(unsafe { _mm256_add_epi16(self.0, mask.0) })
    }

    #[inline(always)]
    fn sum_lanes(self) -> u32 {
        self.lanes()
            .into_iter()
            .map(|lane| u32::from(lane.wrapping_neg()))
            .sum()
    }

    #[inline(always)]
    fn xor_where(self, mask: Self, other: Self) -> Self {
        // SAFETY: `self` proves AVX2.
        let other = unsafe { _mm256_and_si256(mask.0, other.0) };
        // SAFETY: `self` proves AVX2.
        Self(unsafe { _mm256_xor_si256(self.0, other) })
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX2.
        Self(unsafe { _mm256_add_epi16(self.0, other.0) })
    }

    #[inline(always)]
    fn xor_lanes(self) -> u16 {
        self.lanes().into_iter().fold(0, |all, lane| all ^ lane)
    }

    #[inline(always)]
    unsafe fn store_where<const N: usize>(self, masks: [Self; N], to: *const AtomicU16) {
        let mut i = 0;
        while i < N {
            // Stores both vectors of a line or neither. In a dense region, one branch for both is easier to
            // predict, and the line is written in both cases.
            let line = if i + 1 < N {
                [masks[i], masks[i + 1]]
            } else {
                [masks[i]; 2]
            };
            if Self::any(line) {
                // SAFETY: the vector is in the slice.
                let first = unsafe { to.add(i * Self::ENTRIES) };
                // SAFETY: in the slice and aligned; no other thread writes (invariant 3).
                unsafe { self.blend_into(masks[i], first) };
                if i + 1 < N {
                    // SAFETY: the vector is in the slice.
                    let second = unsafe { first.add(Self::ENTRIES) };
                    // SAFETY: in the slice and aligned; no other thread writes (invariant 3).
                    unsafe { self.blend_into(masks[i + 1], second) };
                }
            }
            i += 2;
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *const AtomicU16) {
        // SAFETY: in one slice; `self` proves AVX2.
        unsafe { store_avx2(self.0, to) };
    }
}

impl Avx2 {
    /// Stores `self` in the lanes of `mask`, and stores to the other lanes what they hold.
    ///
    /// # Safety
    ///
    /// As for [`Vector::store_where`].
    #[inline(always)]
    unsafe fn blend_into(self, mask: Self, to: *const AtomicU16) {
        // SAFETY: in one slice and aligned; no other thread writes (invariant 3), so that the lanes
        // outside the mask still hold this when it is stored again.
        let held = unsafe { Self::load(to) };
        // SAFETY: `self` proves AVX2.
        let value = unsafe { _mm256_blendv_epi8(held.0, self.0, mask.0) };
        // SAFETY: in one slice; `self` proves AVX2.
        unsafe { store_avx2(value, to) };
    }

    #[inline(always)]
    fn lanes(self) -> [u16; 16] {
        // SAFETY: every bit pattern is valid in both.
        unsafe { core::mem::transmute(self.0) }
    }

    /// Returns two bits per lane: its sign.
    #[inline(always)]
    fn bits(self) -> u32 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_movemask_epi8(self.0) }.cast_unsigned()
    }
}

/// A vector of 32 entries. A value exists only if the processor has AVX-512F and AVX-512BW.
#[derive(Clone, Copy)]
struct Avx512(__m512i);

impl Vector for Avx512 {
    /// One bit per lane.
    type Mask = __mmask32;

    const ENTRIES: usize = 32;

    #[inline(always)]
    unsafe fn splat(value: u16) -> Self {
        // SAFETY: the caller vouches for AVX-512.
        Self(unsafe { _mm512_set1_epi16(value.cast_signed()) })
    }

    #[inline(always)]
    fn ramp(self, first: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "positions are modulo 2^16")]
        // SAFETY: `self` proves AVX-512.
        let first = unsafe { Self::splat(first as u16) };
        // SAFETY: `self` proves AVX-512; the constant is long enough.
        let ramp = unsafe { _mm512_loadu_si512(RAMP.as_ptr().cast()) };
        // SAFETY: `self` proves AVX-512.
        Self(unsafe { _mm512_add_epi16(first.0, ramp) })
    }

    #[inline(always)]
    unsafe fn load(from: *const AtomicU16) -> Self {
        // SAFETY: the caller vouches for AVX-512. The vector is in one slice and aligned, and no thread
        // writes it (invariant 3). An `AtomicU16` has the layout of a `u16`.
        Self(unsafe { _mm512_load_si512(from.cast()) })
    }

    #[inline(always)]
    fn equal(self, other: Self) -> __mmask32 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_cmpeq_epi16_mask(self.0, other.0) }
    }

    #[inline(always)]
    fn any<const N: usize>(masks: [__mmask32; N]) -> bool {
        let mut all = masks[0];
        let mut i = 1;
        while i < N {
            all |= masks[i];
            i += 1;
        }
        all != 0
    }

    #[inline(always)]
    fn all(mask: __mmask32) -> bool {
        mask == __mmask32::MAX
    }

    #[inline(always)]
    fn one_more_where(self, mask: __mmask32) -> Self {
        // SAFETY: `self` proves AVX-512.
        let one = unsafe { Self::splat(1) };
        // SAFETY: `self` proves AVX-512.
        Self(unsafe { _mm512_mask_add_epi16(self.0, mask, self.0, one.0) })
    }

    #[inline(always)]
    fn sum_lanes(self) -> u32 {
        self.lanes().into_iter().map(u32::from).sum()
    }

    #[inline(always)]
    fn xor_where(self, mask: __mmask32, other: Self) -> Self {
        // SAFETY: `self` proves AVX-512.
        let other = unsafe { _mm512_maskz_mov_epi16(mask, other.0) };
        // SAFETY: `self` proves AVX-512.
        Self(unsafe { _mm512_xor_si512(self.0, other) })
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: `self` proves AVX-512.
        Self(unsafe { _mm512_add_epi16(self.0, other.0) })
    }

    #[inline(always)]
    fn xor_lanes(self) -> u16 {
        self.lanes().into_iter().fold(0, |all, lane| all ^ lane)
    }

    #[inline(always)]
    unsafe fn store_where<const N: usize>(self, masks: [__mmask32; N], to: *const AtomicU16) {
        let mut i = 0;
        while i < N {
            if masks[i] != 0 {
                // SAFETY: the vector is in the slice.
                let vector = unsafe { to.add(i * Self::ENTRIES) };
                // SAFETY: in the slice; `self` proves AVX-512; no other thread writes (invariant 3).
                unsafe { store_avx512(self.0, masks[i], vector) };
            }
            i += 1;
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *const AtomicU16) {
        // SAFETY: in one slice; `self` proves AVX-512.
        unsafe { store_avx512(self.0, __mmask32::MAX, to) };
    }
}

impl Avx512 {
    #[inline(always)]
    fn lanes(self) -> [u16; 32] {
        // SAFETY: every bit pattern is valid in both.
        unsafe { core::mem::transmute(self.0) }
    }
}

/// Stores all lanes of `value`: one relaxed `AtomicU16` store per lane, in some order (invariant 3).
///
/// # Safety
///
/// The 16 entries at `to` must lie in one slice.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_avx2(value: __m256i, to: *const AtomicU16) {
    #[cfg(not(any(miri, store_lanes)))]
    // SAFETY: the instruction writes the 32 bytes at `to` and nothing else, and does not touch flags or
    // stack.
    unsafe {
        core::arch::asm!(
            "vmovdqu [{to}], {value}",
            to = in(reg) to,
            value = in(ymm_reg) value,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(any(miri, store_lanes))]
    {
        // SAFETY: every bit pattern is valid in both types.
        let lanes = unsafe { core::mem::transmute::<__m256i, [u16; 16]>(value) };
        // SAFETY: the caller promises it.
        unsafe { store_lanes(lanes, u32::MAX, to) };
    }
}

/// Stores the lanes of `value` that are in `mask`: one relaxed `AtomicU16` store per lane, in some order
/// (invariant 3).
///
/// # Safety
///
/// The 32 entries at `to` must lie in one slice.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn store_avx512(value: __m512i, mask: __mmask32, to: *const AtomicU16) {
    #[cfg(not(any(miri, store_lanes)))]
    // SAFETY: the instruction writes to the 64 bytes at `to` and nothing else, and does not touch flags or
    // stack.
    unsafe {
        core::arch::asm!(
            "vmovdqu16 [{to}] {{{mask}}}, {value}",
            to = in(reg) to,
            mask = in(kreg) mask,
            value = in(zmm_reg) value,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(any(miri, store_lanes))]
    {
        // SAFETY: every bit pattern is valid in both types.
        let lanes = unsafe { core::mem::transmute::<__m512i, [u16; 32]>(value) };
        // SAFETY: the caller promises it.
        unsafe { store_lanes(lanes, mask, to) };
    }
}

/// Stores the lanes in `mask` by relaxed stores, which is what the assembly stands for. Used where a tool has
/// to see the stores: under Miri, and with `--cfg store_lanes` under sanitizers.
///
/// # Safety
///
/// The `N` entries at `to` must lie in one slice.
#[cfg(any(miri, store_lanes))]
unsafe fn store_lanes<const N: usize>(lanes: [u16; N], mask: u32, to: *const AtomicU16) {
    for (lane, value) in lanes.into_iter().enumerate() {
        if mask >> lane & 1 == 1 {
            // SAFETY: the lane is in the slice.
            let entry = unsafe { to.add(lane) };
            // SAFETY: as above. Shared references to an atomic may coexist with any others.
            unsafe { &*entry }.store(value, crate::sync::Ordering::Relaxed);
        }
    }
}
