//! Keeps the presence bits of an area in pages.

use super::paged::{Chunks, GROUP};
use super::place::{Place, clear, look};
use crate::cell::COUNTERS;
use crate::sync::{AtomicU16, Ordering};

/// The number of counters whose bits share a page.
const HALF: usize = if COUNTERS < 2048 { COUNTERS } else { 2048 };
pub(super) const HALVES: usize = COUNTERS / HALF;

/// For each counter of a half, a bit per region of a group.
pub(super) type BitPage = [AtomicU16; HALF];

const _: () = assert!(GROUP <= u16::BITS as usize && 64_usize.is_multiple_of(GROUP));

/// A bit for each counter and each region.
#[derive(Clone, Copy)]
pub(crate) struct Bits<'a>(pub(super) &'a Chunks);

impl<'a> Bits<'a> {
    /// Returns the number of words per counter. A word has the bits of 64 regions.
    pub(crate) fn words(self) -> usize {
        self.0.regions.div_ceil(64)
    }

    /// Returns the bits of a counter in the group of this region, if their page is there.
    #[inline(never)]
    fn of(self, region: usize, counter: usize) -> Option<&'a AtomicU16> {
        let page: &Place<BitPage> = self.0.group(region)?.bits.get(counter / HALF)?;
        Some(&look(page)?[counter % HALF])
    }

    #[inline(never)]
    pub(crate) fn word(self, counter: usize, word: usize) -> u64 {
        let bits = (0..64).step_by(GROUP).map(|at| {
            let of = self.of(word * 64 + at, counter);
            of.map_or(0, |of| u64::from(of.load(Ordering::Relaxed)) << at)
        });
        bits.fold(0, |all, bits| all | bits)
    }

    /// Sets the bit. By invariant 14 its page is there.
    pub(crate) fn set(self, counter: usize, region: usize) {
        let of = self.of(region, counter);
        debug_assert!(of.is_some(), "region {region} has records and no bits");
        if let Some(of) = of {
            of.fetch_or(1 << (region % GROUP), Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(self, counter: usize, region: usize) {
        if let Some(of) = self.of(region, counter) {
            of.fetch_and(!(1 << (region % GROUP)), Ordering::Relaxed);
        }
    }

    /// Makes all bits 0, and keeps their pages for the next swapon.
    pub(crate) fn discard(self, _end: usize, _counters: impl Iterator<Item = usize>) {
        for group in self.0.groups() {
            clear(&group.bits);
        }
    }
}
