//! Defines [`Tally`], a set of positions as the index knows it; [`Cell`], the 32 bits that hold one; and
//! [`counter`], which says which cell of a region an id has.

use core::ops::Range;

/// The number of counters in each region. Ids share a counter if they are equal modulo this number. The
/// kernel hands out ids lowest first, so this many live cgroups have a counter each.
pub(crate) const COUNTERS: usize = if cfg!(swap_records_loom) {
    4
} else if cfg!(miri) {
    16
} else {
    4096
};

/// The number of cells in a block. Blocks whose ids are not used cost no memory.
pub(crate) const BLOCK: usize = if cfg!(swap_records_loom) {
    2
} else if cfg!(miri) {
    4
} else {
    64
};

const _: () = assert!(COUNTERS.is_power_of_two() && BLOCK.is_power_of_two());

/// Returns the counter of this id.
#[inline]
pub(crate) fn counter(id: u16) -> usize {
    usize::from(id) % COUNTERS
}

/// The number of positions in a set, and their exclusive-or.
///
/// Sets that share no position can be added and removed in any order. For a set of one position, the
/// exclusive-or is the position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) count: u32,
    pub(crate) xor: u32,
}

impl Tally {
    /// The set of this one position.
    #[inline]
    pub(crate) fn at(position: usize) -> Self {
        Self {
            count: 1,
            xor: narrow(position),
        }
    }

    /// The set of these positions.
    #[inline(always)]
    pub(crate) fn run(positions: Range<usize>) -> Self {
        Self {
            count: narrow(positions.len()),
            xor: xor_below(narrow(positions.start)) ^ xor_below(narrow(positions.end)),
        }
    }

    /// The union of two sets that share no position.
    #[inline]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            xor: self.xor ^ other.xor,
        }
    }

    /// Adds `start` to each position. All bits of `start` are above theirs.
    #[inline(always)]
    pub(crate) fn counted_from(self, start: usize) -> Self {
        let odd = self.count & 1;
        debug_assert!(self.xor & narrow(start) == 0, "{self:?} from {start}");
        Self {
            count: self.count,
            xor: self.xor | (narrow(start) * odd),
        }
    }

    /// Returns the position that is in this set and not in its subset `part`, if there is exactly one.
    #[inline]
    pub(crate) fn last_without(self, part: Self) -> Option<usize> {
        (self.count == part.count + 1).then_some((self.xor ^ part.xor) as usize)
    }
}

/// Converts a position or a count within a region, which is far below 2^32.
#[inline]
pub(crate) fn narrow(n: usize) -> u32 {
    debug_assert!(u32::try_from(n).is_ok());
    #[expect(clippy::cast_possible_truncation, reason = "see above")]
    {
        n as u32
    }
}

/// Returns the exclusive-or of all numbers below `n`. Each aligned group of four cancels out, so the last `n
/// % 4` numbers remain. Their upper bits remain if `n` is odd. Their lower bits give 0, 0, 0^1, 0^1^2. There
/// is no branch, because a folio begins and ends anywhere.
#[inline]
fn xor_below(n: u32) -> u32 {
    let upper = n & !3 & (n & 1).wrapping_neg();
    upper | 0b11_01_00_00 >> (2 * (n % 4)) & 3
}

/// A [`Tally`] of at most 65535 positions below 65536, the count in the low half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cell(pub(crate) u32);

impl Cell {
    #[inline]
    pub(crate) fn tally(self) -> Tally {
        Tally {
            count: self.0 & 0xffff,
            xor: self.0 >> 16,
        }
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 & 0xffff == 0
    }

    /// Adds these positions, none of which it has yet.
    #[inline]
    pub(crate) fn with(self, more: Tally) -> Self {
        debug_assert!(self.tally().count + more.count <= 0xffff);
        Self(self.0.wrapping_add(more.count) ^ more.xor << 16)
    }

    /// Removes these positions, all of which it has.
    #[inline]
    pub(crate) fn without(self, part: Tally) -> Self {
        debug_assert!(self.tally().count >= part.count);
        Self(self.0.wrapping_sub(part.count) ^ part.xor << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_its_positions_one_by_one() {
        let most = if cfg!(miri) { 10 } else { 40 };
        for start in 0..most {
            for end in start..most + 4 {
                let by_one = (start..end).fold(Tally::default(), |all, at| all.and(Tally::at(at)));
                assert_eq!(Tally::run(start..end), by_one, "{start}..{end}");
            }
        }
        let all = Tally::run(0..0x8000);
        assert_eq!((all.count, all.xor), (0x8000, 0));
    }

    #[test]
    fn positions_that_were_counted_from_a_start_are_what_they_are() {
        for start in [0, 32, 96, 0x7000] {
            for end in 0..32 {
                let run = Tally::run(3.min(end)..end).counted_from(start);
                assert_eq!(run, Tally::run(start + 3.min(end)..start + end));
            }
        }
    }

    #[test]
    fn what_is_put_in_comes_out_in_any_order() {
        let (a, b, c) = (Tally::at(7), Tally::run(100..131), Tally::at(0x7fff));
        let cell = Cell(0).with(a).with(b).with(c);
        assert_eq!(cell.tally().count, 33);
        assert_eq!(cell.without(b).without(c).tally(), a);
        assert_eq!(cell.without(c).without(a).tally(), b);
        assert_eq!(cell.without(a.and(b)).tally(), c);
        assert_eq!(cell.without(a).without(b).without(c), Cell(0));
        assert!(!cell.is_empty() && Cell(0).is_empty());
    }

    #[test]
    fn a_full_region_fits() {
        let cell = Cell(0).with(Tally::run(0..0x8000));
        assert_eq!(cell.tally().count, 0x8000);
        assert_eq!(cell.without(Tally::at(0)).tally().count, 0x7fff);
    }

    #[test]
    fn the_last_one_is_what_the_others_leave() {
        let all = Tally::at(5).and(Tally::at(9)).and(Tally::at(300));
        assert_eq!(all.last_without(Tally::at(5).and(Tally::at(300))), Some(9));
        assert_eq!(all.last_without(Tally::at(5)), None);
        assert_eq!(all.last_without(all), None);
    }
}
