//! Finding the records of one id in a run of entries, and giving them to another.
//!
//! There is one kernel for vectors (`generic`), written over a small vector trait, one for targets without
//! (`words`), and one oracle (`scalar`). A backend of vectors is an implementation of the trait: `wide` on every
//! target that always has vectors, `x86_64` with AVX2 and AVX-512BW. Which backend runs is decided once for each
//! call, from what the processor said.
//!
//! Rules on memory, which all backends keep (invariant 3):
//!
//! - Entries are loaded plainly, many at a time. The caller holds the lock of their region, so
//!   nobody writes; relaxed loads by others beside ours are no race.
//! - Entries are never stored plainly, for that would race with those loads. `scalar`, `words` and `wide`
//!   store each match through its `AtomicU16`. AVX2 and AVX-512BW store a vector from `asm!`,
//!   which stands for one relaxed `AtomicU16` store a lane, in some order. Miri, which cannot run
//!   assembly, is given just those stores.
//! - Vectors are loaded and stored where their own size is aligned: none lies in two cache lines.

use core::fmt;

use crate::cell::Tally;
use crate::sync::AtomicU16;

// Loom's atomics are objects and no plain memory, so that no vector can be loaded from them: its models
// scan one entry at a time.
#[cfg_attr(swap_records_loom, allow(dead_code))]
#[cfg(any(
    feature = "simd",
    all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2"))
))]
mod generic;
#[cfg(all(
    feature = "std",
    not(swap_records_loom),
    any(feature = "simd", target_arch = "x86_64")
))]
mod ids;
mod scalar;
#[cfg_attr(swap_records_loom, allow(dead_code))]
#[cfg(feature = "simd")]
mod wide;
#[cfg_attr(swap_records_loom, allow(dead_code))]
mod words;
#[cfg_attr(swap_records_loom, allow(dead_code))]
#[cfg(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2")))]
mod x86_64;

#[cfg(test)]
mod tests;

/// The most entries in one call: positions are 16 bits wide.
const MAX_ENTRIES: usize = 1 << 16;

/// The most entries that are looked at between two looks at how many were found, where no more than
/// [`FEW`] are still to be found.
pub(crate) const MAX_BLOCK: usize = 128;

/// The same where more are.
#[allow(dead_code, reason = "of the vector scans, which may be left out")]
const MAX_PIECE: usize = if cfg!(miri) { 256 } else { 2048 };

#[allow(dead_code, reason = "of the vector scans, which may be left out")]
const FEW: u32 = 7;

/// Whether [`Backend::Wide`] is compiled in. The targets are those where `wide` has instructions for a `u16x8`;
/// elsewhere it has eight integers, which take as long as `scalar` and several times its text.
const HAS_WIDE: bool = cfg!(all(
    feature = "simd",
    any(
        target_feature = "sse2",
        target_feature = "simd128",
        all(target_feature = "neon", target_arch = "aarch64")
    )
));

/// Which instructions the scan uses.
///
/// Every backend finds the same records. They differ in speed only, and from memory that is not in
/// a cache even [`Wide`](Self::Wide) comes near to what the memory delivers.
///
/// # What is compiled in
///
/// A program links the backends that its target may have, and no others:
///
/// | backend | is compiled in |
/// | --- | --- |
/// | [`Scalar`](Self::Scalar), [`Words`](Self::Words) | always |
/// | [`Wide`](Self::Wide) | with the feature `simd`, if every processor of the target has its vectors |
/// | [`Avx2`](Self::Avx2), [`Avx512`](Self::Avx512) | for x86-64, with the feature `std`, or if the compiler is told that the processor has AVX2 |
///
/// So a kernel that is built without vector registers, as for `x86_64-unknown-none`, links `Scalar` and `Words`,
/// whatever its features.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Backend {
    /// One entry at a time, in safe code: what the others are tested against.
    Scalar,
    /// 4 entries in a word of 64 bits, with plain integers: for targets without vectors. About 1.7 instructions
    /// per entry where it finds nothing, and [`Scalar`](Self::Scalar) 8.
    Words,
    /// 8 entries per vector, with what the target always has: SSE2, NEON of 64 bits, or `simd128`. Needs the
    /// feature `simd`.
    Wide,
    /// 16 entries in a vector: x86-64 with AVX2.
    Avx2,
    /// 32 entries in a vector, and masked stores: x86-64 with AVX-512BW.
    Avx512,
}

impl Backend {
    /// Every backend that exists, on any target, from the slowest to the fastest.
    pub const ALL: &'static [Self] = &[
        Self::Scalar,
        Self::Words,
        Self::Wide,
        Self::Avx2,
        Self::Avx512,
    ];

    /// What runs where a backend is not available.
    pub(crate) const PORTABLE: Self = if HAS_WIDE { Self::Wide } else { Self::Words };

    /// Whether this backend was compiled in and this processor can run it.
    ///
    /// With the feature `std` the processor is asked (once; the answer is kept). Without it, only
    /// what the compiler was told counts: `-C target-feature=+avx2` or `-C target-cpu`.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar | Self::Words => true,
            Self::Wide => HAS_WIDE,
            Self::Avx2 => has_avx2(),
            Self::Avx512 => has_avx512(),
        }
    }

    /// The fastest backend that is available. Costs a load and a test or two.
    #[must_use]
    pub fn detect() -> Self {
        if has_avx512() {
            Self::Avx512
        } else if has_avx2() {
            Self::Avx2
        } else {
            Self::PORTABLE
        }
    }

    /// Whether it is [`Wide`](Self::Wide), or one that is not available and has `Wide` in its place.
    #[cfg(feature = "simd")]
    fn is_wide(self) -> bool {
        HAS_WIDE && self != Self::Words
    }

    /// What it is called as a text.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Words => "words",
            Self::Wide => "wide",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512bw",
        }
    }

    /// The scan by itself, for fuzzing: turns every `old` of `entries`, at most 65536 of them, into `new`
    /// (`write`) or counts them, from the front, until it found `stop_at` or a few more. Gives how many it
    /// found, the exclusive-or of their positions, and how many entries it looked at.
    #[cfg(not(swap_records_loom))]
    #[doc(hidden)]
    pub fn scan(
        self,
        entries: &mut [AtomicU16],
        write: bool,
        (old, new): (u16, u16),
        stop_at: u32,
    ) -> (u32, u32, usize) {
        let found = if write {
            // SAFETY: they are borrowed for this call alone, so nobody else writes them (invariant 3).
            unsafe { replace(self, entries, old, new, stop_at) }
        } else {
            // SAFETY: as above.
            unsafe { count(self, entries, old, stop_at) }
        };
        (found.tally.count, found.tally.xor, found.end)
    }

    /// The same for ranges: turns all `entries` into `new` if each of them is `old`, and says whether
    /// they were; otherwise it writes nothing.
    #[cfg(not(swap_records_loom))]
    #[doc(hidden)]
    pub fn replace_all(self, entries: &mut [AtomicU16], old: u16, new: u16) -> bool {
        // SAFETY: they are borrowed for this call alone, so nobody else writes them (invariant 3).
        unsafe { replace_all(self, entries, old, new) }
    }
}

/// Writes the name: `scalar`, `words`, `wide`, `avx2` or `avx512bw`.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a scan found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Found {
    /// Their positions, counted from the first entry of the slice.
    pub(crate) tally: Tally,
    /// How many entries were looked at: all, or up to the end of the block where it stopped.
    pub(crate) end: usize,
}

/// Turns every `old` of `entries` into `new`, from the front.
///
/// May stop once it found `stop_at`, and looks at that once in up to 2048 entries, in up to
/// [`MAX_BLOCK`] where no more than [`FEW`] are to be found: it may find more. All that it found is
/// replaced, and nothing that it left is counted. A backend that is not available is replaced by
/// [`Backend::PORTABLE`].
///
/// # Safety
///
/// Nobody else writes `entries` during the call: the caller holds their region's lock
/// (invariants 1 and 3). Relaxed `AtomicU16` loads by others are fine.
pub(crate) unsafe fn replace(
    backend: Backend,
    entries: &[AtomicU16],
    old: u16,
    new: u16,
    stop_at: u32,
) -> Found {
    // SAFETY: as the caller promises (invariants 1 and 3).
    unsafe { dispatch::<true>(backend, entries, old, new, stop_at) }
}

/// Counts the entries that hold `id`, from the front; may stop once it found `stop_at`, as
/// [`replace`] does. Writes nothing.
///
/// # Safety
///
/// Nobody writes `entries` during the call: the caller holds their region's lock (invariants 1
/// and 3).
pub(crate) unsafe fn count(
    backend: Backend,
    entries: &[AtomicU16],
    id: u16,
    stop_at: u32,
) -> Found {
    // SAFETY: as the caller promises (invariants 1 and 3).
    unsafe { dispatch::<false>(backend, entries, id, id, stop_at) }
}

/// [`replace`] where there is a `new`, and [`count`] where there is none.
///
/// # Safety
///
/// As for both.
#[cfg_attr(feature = "std", inline(always))]
#[cfg_attr(not(feature = "std"), inline(never))]
pub(crate) unsafe fn scan(
    backend: Backend,
    entries: &[AtomicU16],
    old: u16,
    new: Option<u16>,
    stop_at: u32,
) -> Found {
    match new {
        // SAFETY: as the caller promises.
        Some(new) => unsafe { replace(backend, entries, old, new, stop_at) },
        // SAFETY: as the caller promises.
        None => unsafe { count(backend, entries, old, stop_at) },
    }
}

/// Turns all `entries` into `new` if each of them is `old`, and says whether they were; otherwise it writes
/// nothing. A backend that is not available is replaced by [`Backend::PORTABLE`].
///
/// # Safety
///
/// As for [`replace`].
pub(crate) unsafe fn replace_all(
    backend: Backend,
    entries: &[AtomicU16],
    old: u16,
    new: u16,
) -> bool {
    match backend {
        Backend::Scalar => scalar::replace_all(entries, old, new),
        #[cfg(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2")))]
        // SAFETY: the processor has the instructions, and nobody writes (invariant 3).
        Backend::Avx2 if has_avx2() => unsafe { x86_64::replace_all_avx2(entries, old, new) },
        #[cfg(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2")))]
        // SAFETY: the processor has the instructions, and nobody writes (invariant 3).
        Backend::Avx512 if has_avx512() => unsafe { x86_64::replace_all_avx512(entries, old, new) },
        #[cfg(feature = "simd")]
        // SAFETY: nobody writes (invariant 3).
        _ if backend.is_wide() => unsafe { wide::replace_all(entries, old, new) },
        // SAFETY: nobody writes (invariant 3).
        _ => unsafe { words::replace_all(entries, old, new) },
    }
}

/// How many of `ids`, which nobody writes, are `id`: of any number of them, all of them. A backend that is not available
/// is replaced by [`Backend::PORTABLE`].
#[cfg(all(feature = "std", not(swap_records_loom)))]
pub(crate) fn count_ids(backend: Backend, ids: &[u16], id: u16) -> u64 {
    match backend {
        Backend::Scalar => scalar::count_ids(ids, id),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        Backend::Avx2 if has_avx2() => unsafe { x86_64::count_ids_avx2(ids, id) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        Backend::Avx512 if has_avx512() => unsafe { x86_64::count_ids_avx512(ids, id) },
        #[cfg(feature = "simd")]
        _ if backend.is_wide() => wide::count_ids(ids, id),
        _ => words::count_ids(ids, id),
    }
}

/// Copies the ids of `entries` to the front of `to`, which has room for them.
///
/// # Safety
///
/// Nobody writes `entries` during the call: the caller holds their region's lock (invariants 1 and 3).
#[cfg(all(feature = "std", not(swap_records_loom)))]
pub(crate) unsafe fn copy(entries: &[AtomicU16], to: &mut [u16]) {
    let to = &mut to[..entries.len()];
    // SAFETY: both have this length, and cannot overlap; nobody writes the entries (invariant 3), and an `AtomicU16` is
    // laid out as a `u16`.
    unsafe {
        core::ptr::copy_nonoverlapping(entries.as_ptr().cast::<u16>(), to.as_mut_ptr(), to.len());
    }
}

/// # Safety
///
/// As for [`replace`].
unsafe fn dispatch<const WRITE: bool>(
    backend: Backend,
    entries: &[AtomicU16],
    old: u16,
    new: u16,
    stop_at: u32,
) -> Found {
    debug_assert!(
        entries.len() <= MAX_ENTRIES,
        "{} entries in a scan",
        entries.len()
    );

    #[cfg(swap_records_loom)]
    {
        let _ = backend;
        scalar::scan::<WRITE>(entries, old, new, stop_at)
    }
    #[cfg(not(swap_records_loom))]
    match backend {
        Backend::Scalar => scalar::scan::<WRITE>(entries, old, new, stop_at),
        #[cfg(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2")))]
        // SAFETY: the processor has the instructions, and nobody writes (invariant 3).
        Backend::Avx2 if has_avx2() => unsafe {
            x86_64::scan_avx2::<WRITE>(entries, old, new, stop_at)
        },
        #[cfg(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2")))]
        // SAFETY: the processor has the instructions, and nobody writes (invariant 3).
        Backend::Avx512 if has_avx512() => unsafe {
            x86_64::scan_avx512::<WRITE>(entries, old, new, stop_at)
        },
        // Safe code can ask for a backend by name, so the last word is the processor's.
        #[cfg(feature = "simd")]
        // SAFETY: nobody writes (invariant 3).
        _ if backend.is_wide() => unsafe { wide::scan::<WRITE>(entries, old, new, stop_at) },
        // SAFETY: nobody writes (invariant 3).
        _ => unsafe { words::scan(entries, old, WRITE.then_some(new), stop_at) },
    }
}

#[inline]
fn has_avx2() -> bool {
    #[cfg(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2")))]
    return x86_64::has_avx2();
    #[cfg(not(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2"))))]
    return false;
}

#[inline]
fn has_avx512() -> bool {
    #[cfg(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2")))]
    return x86_64::has_avx512();
    #[cfg(not(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2"))))]
    return false;
}
