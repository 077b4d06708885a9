//! A slice of entries for the scan, between guards.

use std::ops::Range;
use std::sync::atomic::AtomicU16;

use arbitrary::{Arbitrary, Result, Unstructured};

/// The most entries of a scan.
const MOST: usize = 1 << 16;
/// The distance that a wrong block could reach.
const GUARD: usize = 256;
/// The distances from a cache line, in entries.
const SHIFTS: usize = 64;

/// The ids to search, the id to find, the id to write, and where to stop.
pub struct Content {
    pub ids: Vec<u16>,
    pub shift: usize,
    pub old: u16,
    pub new: u16,
    pub stop_at: u32,
}

impl<'a> Arbitrary<'a> for Content {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let shift = usize::from(u8::arbitrary(u)?) % SHIFTS;
        let [old, new] = <[u16; 2]>::arbitrary(u)?;
        let stop = u8::arbitrary(u)?;
        // All but the first four differ from `old` in a few bits.
        let others = [old, old, 0, new, old ^ 1, old ^ 0x8000, old ^ 0x100, !old];
        let mut ids = Vec::new();
        while !u.is_empty() && ids.len() < MOST {
            let [id, len] = <[u8; 2]>::arbitrary(u)?;
            // Runs of up to 7, 256, or 4096 entries.
            let len = match id >> 6 {
                0 | 1 => usize::from(len % 8),
                2 => usize::from(len),
                _ => usize::from(len) * 16,
            };
            let len = len.min(MOST - ids.len());
            ids.resize(ids.len() + len, others[usize::from(id) % others.len()]);
        }
        let there = ids.iter().filter(|&&id| id == old).count() as u32;
        let stop_at = match stop {
            0..128 => u32::MAX,
            128..192 => u32::from(stop - 128),
            // A few before or after the last match.
            _ => (there + u32::from(stop - 192)).saturating_sub(32),
        };
        Ok(Self {
            ids,
            shift,
            old,
            new,
            stop_at,
        })
    }
}

/// Entries between guards.
pub struct Guarded {
    all: Vec<AtomicU16>,
    range: Range<usize>,
}

impl Content {
    /// Returns the ids as entries, `shift` entries after a cache line. The guards hold `old`, so that a scan
    /// that goes too far finds something there.
    pub fn entries(&self) -> Guarded {
        let len = self.ids.len() + SHIFTS + 64 + 2 * GUARD;
        let mut all: Vec<_> = (0..len).map(|_| AtomicU16::new(self.old)).collect();
        let to_line = all[GUARD..].as_ptr().addr().wrapping_neg() % 128 / 2;
        let first = GUARD + to_line + self.shift;
        for (entry, &id) in all[first..].iter_mut().zip(&self.ids) {
            *entry.get_mut() = id;
        }
        let range = first..first + self.ids.len();
        Guarded { all, range }
    }
}

impl Guarded {
    pub fn entries(&mut self) -> &mut [AtomicU16] {
        &mut self.all[self.range.clone()]
    }

    /// Returns the present ids. Asserts that the guards are unchanged.
    pub fn into_ids(self, guard: u16) -> Vec<u16> {
        let mut all: Vec<_> = self.all.into_iter().map(AtomicU16::into_inner).collect();
        let mut ids = all.split_off(self.range.start);
        let after = ids.split_off(self.range.len());
        assert!(
            all.iter().chain(&after).all(|&id| id == guard),
            "nothing outside the slice is written"
        );
        ids
    }
}
