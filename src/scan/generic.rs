//! The vector kernel, generic over the vectors of a backend.
//!
//! A slice is a head of single entries up to a cache line, blocks of many vectors, parts of a few, single
//! vectors, and a tail of single entries. Nearly all blocks hold no match. Such a block costs one load and
//! one comparison per vector, and one branch.
//!
//! If there are matches, the kernel adds up their number and positions within the vectors. If few are still
//! to be found, it goes on part by part, to stop soon after the last one. If many are, it goes on piece by
//! piece, without a branch that depends on where they are.

use core::hint::black_box;

use super::{FEW, Found, MAX_BLOCK, MAX_ENTRIES, MAX_PIECE as PIECE, scalar};
use crate::sync::{AtomicU16, prefetch};

/// The bytes of a cache line. Blocks begin at one, so that no vector lies in two.
pub(super) const LINE: usize = 64;

/// The distance of prefetches within pieces, in bytes. There the processor sees too few misses ahead to keep
/// the memory busy. Where there are no matches, the plain loads alone do better than with prefetches in the
/// loop.
const PREFETCH: usize = 2048;

/// A vector of entries.
///
/// Only `splat` and `load` create a value from nothing, and both are unsafe. So a value proves that the
/// processor has the instructions of its type, and the other methods can be safe.
pub(super) trait Vector: Copy {
    /// The lanes for which a comparison is true.
    type Mask: Copy;

    /// The number of entries of a vector.
    const ENTRIES: usize;

    /// Returns a vector with `value` in every lane.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions of this vector.
    unsafe fn splat(value: u16) -> Self;

    /// Returns `first` and its successors, modulo 2^16. The value of `self` does not matter.
    fn ramp(self, first: usize) -> Self;

    /// Loads the `ENTRIES` entries at `from`, plainly.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions of this vector. `from` must be aligned to the vector, the
    /// entries must lie in one slice, and no thread may write them (invariant 3).
    unsafe fn load(from: *const AtomicU16) -> Self;

    /// Returns the lanes that are equal in both.
    fn equal(self, other: Self) -> Self::Mask;

    /// Returns whether one of the masks has a lane.
    fn any<const N: usize>(masks: [Self::Mask; N]) -> bool;

    /// Returns whether the mask has all lanes.
    fn all(mask: Self::Mask) -> bool;

    /// Adds one to the lanes of `mask`.
    fn one_more_where(self, mask: Self::Mask) -> Self;

    /// Returns the sum of all lanes.
    fn sum_lanes(self) -> u32;

    /// Returns the exclusive-or of both in the lanes of `mask`, and `self` elsewhere.
    fn xor_where(self, mask: Self::Mask, other: Self) -> Self;

    /// Returns the sums of the lanes, modulo 2^16.
    fn plus(self, other: Self) -> Self;

    /// Returns the exclusive-or of all lanes.
    fn xor_lanes(self) -> u16;

    /// Stores `self` in the lanes of `masks`, for vectors that follow one another from `to` on. Acts as
    /// relaxed `AtomicU16` stores, never as plain ones. May store to the other lanes what they hold, but
    /// writes to no cache line without a lane in `masks`.
    ///
    /// # Safety
    ///
    /// `to` must be aligned to the vector, the entries must lie in one slice, and no other thread may write
    /// them (invariant 3).
    unsafe fn store_where<const N: usize>(self, masks: [Self::Mask; N], to: *const AtomicU16);

    /// Stores `self`. Acts as relaxed `AtomicU16` stores, never as plain ones.
    ///
    /// # Safety
    ///
    /// `to` must be aligned to the vector, and the entries must lie in one slice.
    unsafe fn store(self, to: *const AtomicU16);
}

/// Finds `old` in `entries`, and replaces it by `new` if `WRITE`. `N` vectors make a block, `PART` divides
/// `N`, and `LINE_VECTORS` vectors make a cache line.
///
/// # Safety
///
/// The processor must have the instructions of `V`, and no other thread may write `entries` (invariant 3).
#[inline(always)]
pub(super) unsafe fn scan<
    V: Vector,
    const N: usize,
    const PART: usize,
    const LINE_VECTORS: usize,
    const WRITE: bool,
>(
    entries: &[AtomicU16],
    old: u16,
    new: u16,
    stop_at: u32,
) -> Found {
    const { assert!(N.is_multiple_of(PART) && PART * V::ENTRIES <= MAX_BLOCK) };
    const { assert!(LINE.is_multiple_of(size_of::<V>())) };
    let to_boundary = entries.as_ptr().addr().wrapping_neg() % LINE / size_of::<AtomicU16>();
    let head = to_boundary.min(entries.len());

    let mut found = Found::default();
    scalar::scan_from::<WRITE>(&entries[..head], 0, old, new, stop_at, &mut found);
    if found.tally.count >= stop_at {
        return found;
    }

    // SAFETY: the caller vouches for the instructions.
    let mut seen = unsafe { Seen::<V, WRITE>::new(old, new, found.tally.count, stop_at) };
    let mut at = head;

    let part = PART * V::ENTRIES;
    let block = N * V::ENTRIES;

    // Whether nearly all lines of the last piece matched.
    let mut dense = false;
    while !seen.enough() && entries.len() - at >= part {
        // SAFETY: a block fits from `at` on, at a boundary; no thread writes (invariant 3).
        while entries.len() - at >= block && unsafe { seen.none_in::<N>(entries, at) } {
            at += block;
        }
        // The masks of a whole block do not fit into the registers, so they are computed again. `black_box`
        // hides from the compiler that the entries are the same.
        let entries = black_box(entries);
        if !dense && seen.many_left() && entries.len() - at >= PIECE {
            // SAFETY: a piece fits from `at` on, at a boundary; no other thread writes (invariant 3).
            dense = unsafe { seen.look_through::<LINE_VECTORS>(entries, at) };
            at += PIECE;
            continue;
        }
        // Goes on part by part until there was no match for as long as a block. In a dense slice, whose
        // branches are easy to predict, it goes on for a piece.
        let piece = at + PIECE;
        let mut until = at + block;
        dense = true;
        while at < until.min(piece) && entries.len() - at >= part && !seen.enough() {
            // SAFETY: a part fits from `at` on, at a boundary; no other thread writes (invariant 3).
            let any = unsafe { seen.look::<PART>(entries, at) };
            at += part;
            if any {
                until = at + block;
            }
            dense &= any;
        }
    }
    while !seen.enough() && entries.len() - at >= V::ENTRIES {
        // SAFETY: a vector fits from `at` on, at a boundary; no other thread writes (invariant 3).
        unsafe { seen.look::<1>(entries, at) };
        at += V::ENTRIES;
    }

    found.tally.count = seen.count();
    found.tally.xor ^= u32::from(seen.positions.xor_lanes());
    found.end = at;
    scalar::scan_from::<WRITE>(&entries[at..], at, old, new, stop_at, &mut found);
    found
}

/// Replaces all `entries` by `new` if each of them is `old`, and returns whether they were.
///
/// # Safety
///
/// As for [`scan`].
#[inline(always)]
pub(super) unsafe fn replace_all<V: Vector>(entries: &[AtomicU16], old: u16, new: u16) -> bool {
    let to_boundary =
        entries.as_ptr().addr().wrapping_neg() % size_of::<V>() / size_of::<AtomicU16>();
    let (head, rest) = entries.split_at(to_boundary.min(entries.len()));
    let (body, tail) = rest.split_at(rest.len() / V::ENTRIES * V::ENTRIES);
    // SAFETY: the caller vouches for the instructions.
    let old_everywhere = unsafe { V::splat(old) };
    let all = scalar::all(head, old)
        && body.chunks_exact(V::ENTRIES).all(|vector| {
            // SAFETY: a vector of the slice, at a boundary; no thread writes (invariant 3).
            let vector = unsafe { V::load(vector.as_ptr()) };
            V::all(vector.equal(old_everywhere))
        })
        && scalar::all(tail, old);
    if all {
        scalar::fill(head, new);
        // SAFETY: the caller vouches for the instructions.
        let new_everywhere = unsafe { V::splat(new) };
        for vector in body.chunks_exact(V::ENTRIES) {
            // SAFETY: a vector of the slice, at a boundary; no other thread writes (invariant 3).
            unsafe { new_everywhere.store(vector.as_ptr()) };
        }
        scalar::fill(tail, new);
    }
    all
}

/// The ids to find and to write, and what has been found.
struct Seen<V, const WRITE: bool> {
    old: V,
    new: V,
    /// In each lane, the distance to the same lane of the next vector.
    step: V,
    /// In each lane, the exclusive-or of the positions that were found in that lane.
    positions: V,
    /// In each lane, the number of matches in that lane. A lane of 16 bits sees at most an eighth of
    /// `MAX_ENTRIES`.
    counts: V,
    /// The number of matches in the head, before the vectors.
    before: u32,
    /// An upper bound of the number of matches. It is exact when it reaches `stop_at`. Adding up the lanes
    /// after each part would cost more than the rest in a dense region, so that is done only when it may
    /// matter.
    at_most: u32,
    stop_at: u32,
}

impl<V: Vector, const WRITE: bool> Seen<V, WRITE> {
    /// # Safety
    ///
    /// The processor must have the instructions of `V`.
    #[inline(always)]
    unsafe fn new(old: u16, new: u16, before: u32, stop_at: u32) -> Self {
        const { assert!(MAX_ENTRIES / V::ENTRIES <= u16::MAX as usize) };
        // SAFETY: the caller vouches for the instructions.
        let old = unsafe { V::splat(old) };
        // SAFETY: as above.
        let new = unsafe { V::splat(new) };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a vector has 32 entries at most"
        )]
        // SAFETY: as above.
        let step = unsafe { V::splat(V::ENTRIES as u16) };
        // SAFETY: as above.
        let zero = unsafe { V::splat(0) };
        Self {
            old,
            new,
            step,
            positions: zero,
            counts: zero,
            before,
            at_most: before,
            stop_at,
        }
    }

    #[inline(always)]
    fn enough(&self) -> bool {
        self.at_most >= self.stop_at
    }

    #[inline(always)]
    fn count(&self) -> u32 {
        self.before + self.counts.sum_lanes()
    }

    /// Returns whether so many matches are still to be found that the next piece may be looked at without a
    /// check.
    #[inline(always)]
    fn many_left(&self) -> bool {
        self.stop_at - self.at_most > FEW
    }

    /// Looks at the [`PIECE`] of `entries` that begins at entry `at`, without a branch that depends on where
    /// the matches are. Notes the lines that have a match, and stores to them afterwards. Returns whether
    /// nearly all lines have one.
    ///
    /// # Safety
    ///
    /// As for [`look`](Self::look).
    #[inline(always)]
    unsafe fn look_through<const N: usize>(&mut self, entries: &[AtomicU16], at: usize) -> bool {
        const LINE_ENTRIES: usize = LINE / size_of::<AtomicU16>();
        const LINES: usize = PIECE / LINE_ENTRIES;
        const { assert!(N * V::ENTRIES == LINE_ENTRIES) };

        let mut matched = [0; LINES];
        let mut len = 0;
        let mut here = self.old.ramp(at);
        for line in 0..LINES {
            // SAFETY: as the caller promises (invariant 3).
            let masks = unsafe { self.masks::<N>(entries, at + line * LINE_ENTRIES) };
            let ahead = (at + line * LINE_ENTRIES) * size_of::<AtomicU16>() + PREFETCH;
            prefetch(entries.as_ptr().wrapping_byte_add(ahead));
            for mask in masks {
                self.counts = self.counts.one_more_where(mask);
                self.positions = self.positions.xor_where(mask, here);
                here = here.plus(self.step);
            }
            matched[len % LINES] = line;
            len += usize::from(V::any(masks));
        }
        let written = if WRITE { len.min(LINES) } else { 0 };
        for &line in &matched[..written] {
            let first = at + line * LINE_ENTRIES;
            // SAFETY: as the caller promises (invariant 3).
            let masks = unsafe { self.masks::<N>(entries, first) };
            // SAFETY: the line is in the slice.
            let first = unsafe { entries.as_ptr().add(first) };
            // SAFETY: the line is in the slice, and no other thread writes (invariant 3).
            unsafe { self.new.store_where(masks, first) };
        }
        self.add_at_most(PIECE);
        len > LINES / 8 * 7
    }

    /// Raises the upper bound by this number of entries.
    #[inline(always)]
    fn add_at_most(&mut self, entries: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "a piece has 2048 entries")]
        let most = entries as u32;
        self.at_most += most;
        if self.at_most >= self.stop_at {
            self.at_most = self.count();
        }
    }

    /// Returns whether the `N` vectors of `entries` that begin at entry `at` hold no match.
    ///
    /// # Safety
    ///
    /// As for [`look`](Self::look).
    #[inline(always)]
    unsafe fn none_in<const N: usize>(&self, entries: &[AtomicU16], at: usize) -> bool {
        // SAFETY: as the caller promises (invariant 3).
        !V::any(unsafe { self.masks::<N>(entries, at) })
    }

    /// Returns the lanes that match in the `N` vectors of `entries` that begin at entry `at`.
    ///
    /// # Safety
    ///
    /// As for [`look`](Self::look).
    #[inline(always)]
    unsafe fn masks<const N: usize>(&self, entries: &[AtomicU16], at: usize) -> [V::Mask; N] {
        debug_assert!(at + N * V::ENTRIES <= entries.len());
        let mut masks = [self.old.equal(self.old); N];
        let mut i = 0;
        while i < N {
            // SAFETY: the vector is in the slice.
            let from = unsafe { entries.as_ptr().add(at + i * V::ENTRIES) };
            // SAFETY: the vector is in the slice and aligned, `self` holds a `V`, and no thread writes
            // (invariant 3).
            masks[i] = unsafe { V::load(from) }.equal(self.old);
            i += 1;
        }
        masks
    }

    /// Looks at the `N` vectors of `entries` that begin at entry `at`. Returns whether one of them has a
    /// match.
    ///
    /// # Safety
    ///
    /// The vectors must lie in `entries`, entry `at` must be aligned to a vector, and no other thread may
    /// write (invariant 3).
    #[inline(always)]
    unsafe fn look<const N: usize>(&mut self, entries: &[AtomicU16], at: usize) -> bool {
        // SAFETY: as the caller promises (invariant 3).
        let masks = unsafe { self.masks::<N>(entries, at) };
        if !V::any(masks) {
            return false;
        }

        if WRITE {
            for line in 0..(N * size_of::<V>()).div_ceil(LINE) {
                let ahead = at * size_of::<AtomicU16>() + line * LINE + PREFETCH;
                prefetch(entries.as_ptr().wrapping_byte_add(ahead));
            }
        }

        let mut here = self.old.ramp(at);
        let mut i = 0;
        while i < N {
            self.counts = self.counts.one_more_where(masks[i]);
            self.positions = self.positions.xor_where(masks[i], here);
            here = here.plus(self.step);
            i += 1;
        }
        if WRITE {
            // SAFETY: `at` is in the slice.
            let block = unsafe { entries.as_ptr().add(at) };
            // SAFETY: the block is in the slice and aligned, and no other thread writes (invariant 3).
            unsafe { self.new.store_where(masks, block) };
        }

        self.add_at_most(N * V::ENTRIES);
        true
    }
}
