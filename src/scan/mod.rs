//! Finds the records of one id in a slice of entries, and replaces the id.
//!
//! There is one kernel for vectors (`generic`), written over a small vector trait; one for targets without
//! vectors (`words`); and one oracle (`scalar`). A vector backend is an implementation of the trait: `wide`
//! for every target that always has vectors, `x86_64` for AVX2 and AVX-512BW. Each call chooses its backend
//! once, by what the processor supports.
//!
//! All backends keep these rules on memory (invariant 3):
//!
//! - Entries are loaded plainly, many at a time. The caller holds the lock of their region, so no thread
//!   writes them. Concurrent relaxed loads are not a race.
//! - Entries are never stored plainly, since that would race with concurrent loads. `scalar`, `words` and
//!   `wide` store each match through its `AtomicU16`. AVX2 and AVX-512BW store a vector from `asm!`, which
//!   stands for one relaxed `AtomicU16` store per lane, in some order. Miri, which cannot run assembly, runs
//!   these stores instead.
//! - Vectors are loaded and stored at addresses aligned to their size, so none lies in two cache lines.

use core::fmt;

use crate::cell::Tally;
use crate::sync::AtomicU16;

// Loom's atomics are objects, not plain memory, so vectors cannot be loaded from them. Models scan one entry
// at a time.
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

/// The most entries of one call: positions are 16 bits wide.
const MAX_ENTRIES: usize = 1 << 16;

/// The most entries that are looked at between two checks of how many were found, if no more than [`FEW`] are
/// still to be found.
pub(crate) const MAX_BLOCK: usize = 128;

/// The same if more are still to be found.
#[allow(dead_code, reason = "of the vector scans, which may be left out")]
const MAX_PIECE: usize = if cfg!(miri) { 256 } else { 2048 };

#[allow(dead_code, reason = "of the vector scans, which may be left out")]
const FEW: u32 = 7;

/// Whether [`Backend::Wide`] is compiled in: on targets where `wide` has instructions for a `u16x8`.
/// Elsewhere, `wide` uses eight integers, which are as slow as `scalar` and take several times its code.
const HAS_WIDE: bool = cfg!(all(
    feature = "simd",
    any(
        target_feature = "sse2",
        target_feature = "simd128",
        all(target_feature = "neon", target_arch = "aarch64")
    )
));

/// The instructions that a scan uses.
///
/// Every backend finds the same records; they differ in speed only. On memory that is not in a cache, even
/// [`Wide`](Self::Wide) comes near to what the memory delivers.
///
/// # What is compiled in
///
/// A program links only the backends that its target may support:
///
///
/// | backend | is compiled in |
/// | --- | --- |
/// | [`Scalar`](Self::Scalar), [`Words`](Self::Words) | always |
/// | [`Wide`](Self::Wide) | with the feature `simd`, if every processor of the target has its vectors |
/// | [`Avx2`](Self::Avx2), [`Avx512`](Self::Avx512) | for x86-64, with `std` or the target feature AVX2 |
///
/// So a kernel that is built without vector registers, as for `x86_64-unknown-none`, links only `Scalar` and
/// `Words`, with any features.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Backend {
    /// One entry at a time, in safe code. The other backends are tested against it.
    Scalar,
    /// 4 entries per word of 64 bits, with plain integers, for targets without vectors. It takes about 1.7
    /// instructions per entry where it finds nothing; [`Scalar`](Self::Scalar) takes 8.
    Words,
    /// 8 entries per vector, with vectors that the target always has: SSE2, NEON of AArch64, or `simd128`.
    /// Needs the feature `simd`.
    Wide,
    /// 16 entries per vector: x86-64 with AVX2.
    Avx2,
    /// 32 entries per vector, and masked stores: x86-64 with AVX-512BW.
    Avx512,
}

impl Backend {
    /// All backends of all targets, from the slowest to the fastest.
    pub const ALL: &'static [Self] = &[
        Self::Scalar,
        Self::Words,
        Self::Wide,
        Self::Avx2,
        Self::Avx512,
    ];

    /// The backend that replaces one that is not available.
    pub(crate) const PORTABLE: Self = if HAS_WIDE { Self::Wide } else { Self::Words };

    /// Returns whether this backend is compiled in and the processor can run it.
    ///
    /// With the feature `std`, the processor is asked once, and the answer is kept. Without `std`, the answer
    /// depends on the compiler's flags: `-C target-feature=+avx2` or `-C target-cpu`.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar | Self::Words => true,
            Self::Wide => HAS_WIDE,
            Self::Avx2 => has_avx2(),
            Self::Avx512 => has_avx512(),
        }
    }

    /// Returns the fastest backend that is available.
    ///
    /// # Cost
    ///
    /// A load and one or two tests.
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

    /// Returns whether `Wide` runs for this backend: it is [`Wide`](Self::Wide), or is not available and
    /// replaced by it.
    #[cfg(feature = "simd")]
    fn is_wide(self) -> bool {
        HAS_WIDE && self != Self::Words
    }

    /// Returns the name that `Display` writes.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Words => "words",
            Self::Wide => "wide",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512bw",
        }
    }

    /// Runs the scan by itself, for fuzzing. Replaces every `old` of `entries`, at most 65536 of them, by
    /// `new` (`write`), or counts them. Goes from the front until it has found `stop_at` or a few more.
    /// Returns the number of matches, the exclusive-or of their positions, and the number of entries that it
    /// looked at.
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
            // SAFETY: the entries are borrowed exclusively for this call, so no thread writes them (invariant
            // 3).
            unsafe { replace(self, entries, old, new, stop_at) }
        } else {
            // SAFETY: as above.
            unsafe { count(self, entries, old, stop_at) }
        };
        (found.tally.count, found.tally.xor, found.end)
    }

    /// Runs the scan of ranges by itself, for fuzzing. Replaces all `entries` by `new` if each of them is
    /// `old`, and returns whether they were. Otherwise writes nothing.
    #[cfg(not(swap_records_loom))]
    #[doc(hidden)]
    pub fn replace_all(self, entries: &mut [AtomicU16], old: u16, new: u16) -> bool {
        // SAFETY: the entries are borrowed exclusively for this call, so no thread writes them (invariant 3).
        unsafe { replace_all(self, entries, old, new) }
    }
}

/// Writes the name: `scalar`, `words`, `wide`, `avx2` or `avx512bw`.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The result of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Found {
    /// The number of matches, and the exclusive-or of their positions, counted from the first entry of the
    /// slice.
    pub(crate) tally: Tally,
    /// The number of entries that were looked at: all, or up to the end of the block where the scan stopped.
    pub(crate) end: usize,
}

/// Replaces every `old` of `entries` by `new`, from the front.
///
/// May stop when it has found `stop_at`. It checks that once per up to 2048 entries, or per up to
/// [`MAX_BLOCK`] if no more than [`FEW`] are still to be found, so it may find more. It replaces all that it
/// found, and counts nothing that it did not replace. If the backend is not available, [`Backend::PORTABLE`]
/// runs.
///
/// # Safety
///
/// No other thread may write `entries` during the call: the caller holds their region's lock (invariants 1
/// and 3). Concurrent relaxed `AtomicU16` loads are allowed.
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

/// Counts the entries that hold `id`, from the front. May stop when it has found `stop_at`, as [`replace`]
/// does. Writes nothing.
///
/// # Safety
///
/// No thread may write `entries` during the call: the caller holds their region's lock (invariants 1 and 3).
pub(crate) unsafe fn count(
    backend: Backend,
    entries: &[AtomicU16],
    id: u16,
    stop_at: u32,
) -> Found {
    // SAFETY: as the caller promises (invariants 1 and 3).
    unsafe { dispatch::<false>(backend, entries, id, id, stop_at) }
}

/// Calls [`replace`] if there is a `new`, and [`count`] otherwise.
///
/// # Safety
///
/// As for these functions.
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

/// Replaces all `entries` by `new` if each of them is `old`, and returns whether they were. Otherwise writes
/// nothing. If the backend is not available, [`Backend::PORTABLE`] runs.
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
        // SAFETY: the processor has the instructions, and no other thread writes (invariant 3).
        Backend::Avx2 if has_avx2() => unsafe { x86_64::replace_all_avx2(entries, old, new) },
        #[cfg(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2")))]
        // SAFETY: the processor has the instructions, and no other thread writes (invariant 3).
        Backend::Avx512 if has_avx512() => unsafe { x86_64::replace_all_avx512(entries, old, new) },
        #[cfg(feature = "simd")]
        // SAFETY: no other thread writes (invariant 3).
        _ if backend.is_wide() => unsafe { wide::replace_all(entries, old, new) },
        // SAFETY: no other thread writes (invariant 3).
        _ => unsafe { words::replace_all(entries, old, new) },
    }
}

/// Returns the number of `ids` that are `id`. No thread may write them. There may be any number of them. If
/// the backend is not available, [`Backend::PORTABLE`] runs.
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
/// No thread may write `entries` during the call: the caller holds their region's lock (invariants 1 and 3).
#[cfg(all(feature = "std", not(swap_records_loom)))]
pub(crate) unsafe fn copy(entries: &[AtomicU16], to: &mut [u16]) {
    let to = &mut to[..entries.len()];
    // SAFETY: both have this length, and cannot overlap. No thread writes the entries (invariant 3), and an
    // `AtomicU16` has the layout of a `u16`.
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
        // SAFETY: the processor has the instructions, and no other thread writes (invariant 3).
        Backend::Avx2 if has_avx2() => unsafe {
            x86_64::scan_avx2::<WRITE>(entries, old, new, stop_at)
        },
        #[cfg(all(target_arch = "x86_64", any(feature = "std", target_feature = "avx2")))]
        // SAFETY: the processor has the instructions, and no other thread writes (invariant 3).
        Backend::Avx512 if has_avx512() => unsafe {
            x86_64::scan_avx512::<WRITE>(entries, old, new, stop_at)
        },
        // Safe code can ask for any backend by name, so the processor is checked here.
        #[cfg(feature = "simd")]
        // SAFETY: no other thread writes (invariant 3).
        _ if backend.is_wide() => unsafe { wide::scan::<WRITE>(entries, old, new, stop_at) },
        // SAFETY: no other thread writes (invariant 3).
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
