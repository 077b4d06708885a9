//! The one kernel, over the vectors of a backend.
//!
//! A slice is a head of single entries up to a cache line, blocks of many vectors, parts of a few,
//! single vectors, and a tail of single entries. Nearly all blocks hold no match: a block without
//! one costs a load and a comparison for each vector, and one branch for all. Where there are
//! matches, the kernel adds up how many there are and where without leaving the vectors. Where few are
//! still to come, it goes on part by part, to stop soon after the last one; where many are, piece by
//! piece, without a branch that depends on where they are.

use core::hint::black_box;

use super::{FEW, Found, MAX_BLOCK, MAX_ENTRIES, MAX_PIECE as PIECE, scalar};
use crate::sync::{AtomicU16, prefetch};

/// The bytes of a cache line. Blocks begin at one, so that no vector lies in two.
pub(super) const LINE: usize = 64;

/// How many bytes ahead lines are asked for within pieces: there the processor sees too few misses ahead of it to
/// keep the memory busy. Where there are no matches the plain loads do that alone, and better than
/// with prefetches in the loop.
const PREFETCH: usize = 2048;

/// A vector of entries.
///
/// `splat` and `load` are the only ways to a first value, and unsafe: a value is the proof
/// that the processor has the instructions of its type, so the other methods can be safe.
pub(super) trait Vector: Copy {
    /// The lanes where a comparison held.
    type Mask: Copy;

    /// How many entries a vector holds.
    const ENTRIES: usize;

    /// `value` in every lane.
    ///
    /// # Safety
    ///
    /// The processor has the instructions of this vector.
    unsafe fn splat(value: u16) -> Self;

    /// `first` and its successors, modulo 2^16; from any value.
    fn ramp(self, first: usize) -> Self;

    /// The `ENTRIES` entries at `from`, loaded plainly.
    ///
    /// # Safety
    ///
    /// The processor has the instructions of this vector. `from` is aligned to the vector, the
    /// entries lie in one slice, and nobody writes them (invariant 3).
    unsafe fn load(from: *const AtomicU16) -> Self;

    /// The lanes that are equal in both.
    fn equal(self, other: Self) -> Self::Mask;

    /// Whether one of the masks has a lane.
    fn any<const N: usize>(masks: [Self::Mask; N]) -> bool;

    /// Whether the mask has all lanes.
    fn all(mask: Self::Mask) -> bool;

    /// One more in the lanes of `mask`.
    fn one_more_where(self, mask: Self::Mask) -> Self;

    /// The sum of all lanes.
    fn sum_lanes(self) -> u32;

    /// The exclusive-or of both in the lanes of `mask`, `self` elsewhere.
    fn xor_where(self, mask: Self::Mask, other: Self) -> Self;

    /// The sums of the lanes, modulo 2^16.
    fn plus(self, other: Self) -> Self;

    /// The exclusive-or of all lanes.
    fn xor_lanes(self) -> u16;

    /// Stores `self` in the lanes of `masks`, for vectors that follow one another from `to` on, as
    /// relaxed `AtomicU16` stores: never plainly. May store again in the other lanes what they hold,
    /// but writes to no cache line in which no lane was asked for.
    ///
    /// # Safety
    ///
    /// `to` is aligned to the vector, the entries lie in one slice, and nobody else writes them
    /// (invariant 3).
    unsafe fn store_where<const N: usize>(self, masks: [Self::Mask; N], to: *const AtomicU16);

    /// Stores `self`, as relaxed `AtomicU16` stores: never plainly.
    ///
    /// # Safety
    ///
    /// `to` is aligned to the vector, and the entries lie in one slice.
    unsafe fn store(self, to: *const AtomicU16);
}

/// Finds `old` in `entries`, and replaces it by `new` if `WRITE`; `N` vectors make a block, `PART`
/// divides them, and `LINE_VECTORS` make a cache line.
///
/// # Safety
///
/// The processor has the instructions of `V`, and nobody else writes `entries` (invariant 3).
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

    // Whether the last piece matched all over.
    let mut dense = false;
    while !seen.enough() && entries.len() - at >= part {
        // SAFETY: a block fits from `at` on, at a boundary; nobody writes (invariant 3).
        while entries.len() - at >= block && unsafe { seen.none_in::<N>(entries, at) } {
            at += block;
        }
        // All masks of a block, kept for this case, would not fit in the registers. So they are
        // made again, from entries that the compiler cannot know to be the same.
        let entries = black_box(entries);
        if !dense && seen.many_left() && entries.len() - at >= PIECE {
            // SAFETY: a piece fits from `at` on, at a boundary; nobody else writes (invariant 3).
            dense = unsafe { seen.look_through::<LINE_VECTORS>(entries, at) };
            at += PIECE;
            continue;
        }
        // Part by part, until there was no match for as long as a block; where it is dense, which is
        // easy to predict, for a piece.
        let piece = at + PIECE;
        let mut until = at + block;
        dense = true;
        while at < until.min(piece) && entries.len() - at >= part && !seen.enough() {
            // SAFETY: a part fits from `at` on, at a boundary; nobody else writes (invariant 3).
            let any = unsafe { seen.look::<PART>(entries, at) };
            at += part;
            if any {
                until = at + block;
            }
            dense &= any;
        }
    }
    while !seen.enough() && entries.len() - at >= V::ENTRIES {
        // SAFETY: a vector fits from `at` on, at a boundary; nobody else writes (invariant 3).
        unsafe { seen.look::<1>(entries, at) };
        at += V::ENTRIES;
    }

    found.tally.count = seen.count();
    found.tally.xor ^= u32::from(seen.positions.xor_lanes());
    found.end = at;
    scalar::scan_from::<WRITE>(&entries[at..], at, old, new, stop_at, &mut found);
    found
}

/// Makes all `entries` `new` if each of them is `old`, and says whether they were.
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
            // SAFETY: a vector of the slice, at a boundary; nobody writes (invariant 3).
            let vector = unsafe { V::load(vector.as_ptr()) };
            V::all(vector.equal(old_everywhere))
        })
        && scalar::all(tail, old);
    if all {
        scalar::fill(head, new);
        // SAFETY: the caller vouches for the instructions.
        let new_everywhere = unsafe { V::splat(new) };
        for vector in body.chunks_exact(V::ENTRIES) {
            // SAFETY: a vector of the slice, at a boundary; nobody else writes (invariant 3).
            unsafe { new_everywhere.store(vector.as_ptr()) };
        }
        scalar::fill(tail, new);
    }
    all
}

/// What is looked for, and what was seen of it.
struct Seen<V, const WRITE: bool> {
    old: V,
    new: V,
    /// In each lane, how far it is to the same lane of the next vector.
    step: V,
    /// In each lane, the exclusive-or of the positions that were found in that lane.
    positions: V,
    /// In each lane, how many were found in that lane: a 16-bit lane sees at most an eighth of
    /// `MAX_ENTRIES`.
    counts: V,
    /// How many were found before the vectors.
    before: u32,
    /// No more than this were found; exact where it reaches `stop_at`. Adding up the lanes after
    /// each part would cost a dense region more than the rest, so that waits until it may matter.
    at_most: u32,
    stop_at: u32,
}

impl<V: Vector, const WRITE: bool> Seen<V, WRITE> {
    /// # Safety
    ///
    /// The processor has the instructions of `V`.
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

    /// Whether so many are still to come that a whole piece may be looked through.
    #[inline(always)]
    fn many_left(&self) -> bool {
        self.stop_at - self.at_most > FEW
    }

    /// Looks at the [`PIECE`] of `entries` that begins at entry `at`, without a branch that depends on where
    /// the matches are: it writes down the lines that hold one, and goes back to those. Says whether
    /// nearly all did.
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
            // SAFETY: the line is in the slice, and nobody else writes (invariant 3).
            unsafe { self.new.store_where(masks, first) };
        }
        self.add_at_most(PIECE);
        len > LINES / 8 * 7
    }

    /// So many entries were looked at.
    #[inline(always)]
    fn add_at_most(&mut self, entries: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "a piece has 2048 entries")]
        let most = entries as u32;
        self.at_most += most;
        if self.at_most >= self.stop_at {
            self.at_most = self.count();
        }
    }

    /// Whether the `N` vectors of `entries` that begin at entry `at` hold no match.
    ///
    /// # Safety
    ///
    /// As for [`look`](Self::look).
    #[inline(always)]
    unsafe fn none_in<const N: usize>(&self, entries: &[AtomicU16], at: usize) -> bool {
        // SAFETY: as the caller promises (invariant 3).
        !V::any(unsafe { self.masks::<N>(entries, at) })
    }

    /// Where the `N` vectors of `entries` that begin at entry `at` match.
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
            // SAFETY: the vector is in the slice and aligned, `self` holds a `V`, and nobody
            // writes (invariant 3).
            masks[i] = unsafe { V::load(from) }.equal(self.old);
            i += 1;
        }
        masks
    }

    /// Looks at the `N` vectors of `entries` that begin at entry `at`; says whether one of them
    /// matched.
    ///
    /// # Safety
    ///
    /// The vectors lie in `entries`, entry `at` is aligned to a vector, and nobody else writes
    /// (invariant 3).
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
            // SAFETY: the block is in the slice and aligned, and nobody else writes (invariant 3).
            unsafe { self.new.store_where(masks, block) };
        }

        self.add_at_most(N * V::ENTRIES);
        true
    }
}
