//! The presence bits of an area as pages.

use super::paged::GROUP;
use super::radix::Paged;
use crate::cell::COUNTERS;
use crate::footprint::Extent;
use crate::pages::Pages;
use crate::storage::{Refused, Slot};
use crate::sync::{AtomicU16, Ordering};

/// Counters whose bits share a page.
const HALF: usize = if COUNTERS < 2048 { COUNTERS } else { 2048 };
const HALVES: usize = COUNTERS / HALF;

/// For each of so many counters, a bit for each region of a group.
type BitPage = [AtomicU16; HALF];

const _: () = assert!(GROUP <= u16::BITS as usize && 64_usize.is_multiple_of(GROUP));

/// For each counter and each region, a bit.
#[derive(Debug)]
pub(crate) struct Bits {
    /// By group, and in it by counters.
    pages: Paged<BitPage>,
    regions: usize,
}

impl Bits {
    /// No bit is set.
    pub(crate) fn new(regions: usize, pages: Pages) -> Result<Self, Refused> {
        let len = regions.div_ceil(GROUP).checked_mul(HALVES);
        let len = len.ok_or(Refused { bytes: usize::MAX })?;
        Ok(Self {
            pages: Paged::new(len, pages)?,
            regions,
        })
    }

    /// How many words of 64 regions a counter has.
    pub(crate) fn words(&self) -> usize {
        self.regions.div_ceil(64)
    }

    /// The groups of a word, each with its first bit in it.
    fn groups(&self, word: usize) -> impl Iterator<Item = (usize, usize)> {
        let first = word * (64 / GROUP);
        let groups = first..(first + 64 / GROUP).min(self.regions.div_ceil(GROUP));
        groups.zip((0..64).step_by(GROUP))
    }

    /// The bits of a counter in a group.
    #[inline(never)]
    fn of(&self, group: usize, counter: usize) -> Option<&AtomicU16> {
        let page = self.pages.get(group * HALVES + counter / HALF)?;
        Some(&page[counter % HALF])
    }

    #[inline(never)]
    pub(crate) fn word(&self, counter: usize, word: usize) -> u64 {
        self.groups(word).fold(0, |bits, (group, at)| {
            let of = self.of(group, counter);
            bits | of.map_or(0, |of| u64::from(of.load(Ordering::Relaxed)) << at)
        })
    }

    /// By invariant 14 the page is there.
    pub(crate) fn set(&self, counter: usize, region: usize) {
        let of = self.of(region / GROUP, counter);
        debug_assert!(of.is_some(), "region {region} has records and no bits");
        if let Some(of) = of {
            of.fetch_or(1 << (region % GROUP), Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(&self, counter: usize, region: usize) {
        if let Some(of) = self.of(region / GROUP, counter) {
            of.fetch_and(!(1 << (region % GROUP)), Ordering::Relaxed);
        }
    }

    /// Makes all bits 0, and keeps their pages for the next swapon.
    pub(crate) fn discard(&self, _end: usize, _counters: impl Iterator<Item = usize>) {
        self.pages.each(|page| page.iter().for_each(Slot::clear));
    }

    /// Makes the bits of all counters in this region.
    pub(crate) fn make(&self, region: usize) -> Result<(), Refused> {
        let first = region / GROUP * HALVES;
        (first..first + HALVES).try_for_each(|page| self.pages.make(page).map(drop))
    }

    /// Gives all pages back.
    ///
    /// # Safety
    ///
    /// As of [`Paged::trim`].
    pub(crate) unsafe fn trim(&self) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { self.pages.trim() }
    }

    pub(crate) fn extent(&self) -> Extent {
        self.pages.extent()
    }
}
