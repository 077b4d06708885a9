//! [`Ahead`]: the regions that a migration visits next, and the prefetches for them.

use core::ops::Range;

use lock_api::RawMutex;

use crate::id::MemcgId;
use crate::swapfile::On;

/// The next regions, found some at a time, so that the cache misses of all of them overlap: first those of
/// their cells and locks, then those of the entries that the cells point to.
///
/// No lock is taken between the prefetches. A locked instruction waits for the page walks of the prefetches
/// before it. Prefetches between the locks of single regions would be waited for one by one.
pub(super) struct Ahead {
    regions: [usize; Self::BATCH],
    /// The indexes of those in `regions` that have not been visited.
    left: Range<usize>,
    /// The first region that has not been visited: the one after the last visited region, even if it had no
    /// record when it was looked at.
    from: usize,
    /// The first position of region `from` that has not been visited. Above 0 only between two parts of that
    /// region.
    at: usize,
    /// The regions whose bits in the bitmap have not been read.
    rest: Range<usize>,
}

impl Ahead {
    /// Enough for all misses that the memory can overlap. Batches of 16 and 64 measured the same.
    const BATCH: usize = 32;

    /// Makes an `Ahead` that visits the regions in `rest`.
    pub(super) fn new(rest: Range<usize>) -> Self {
        Self {
            regions: [0; Self::BATCH],
            left: 0..0,
            from: rest.start,
            at: 0,
            rest,
        }
    }

    /// Goes back to the region after the last visited one, so that records written since to regions that had
    /// none are found, too.
    pub(super) fn forget(&mut self) {
        self.rest.start = self.from;
        self.left = 0..0;
    }

    /// Returns the next region that may hold a record of `old`, and its first position that has not been
    /// visited. Returns the same ones until they are [`passed`](Self::pass).
    #[inline]
    pub(super) fn next<L: RawMutex>(
        &mut self,
        on: &On<'_, L>,
        old: MemcgId,
        new: MemcgId,
    ) -> Option<(usize, usize)> {
        if self.left.is_empty() {
            self.look(on, old, new);
        }
        let region = self.regions[self.left.clone().next()?];
        let at = if region == self.from { self.at } else { 0 };
        Some((region, at))
    }

    /// Marks the next region as visited, up to position `rest`, or as a whole.
    #[inline]
    pub(super) fn pass(&mut self, rest: Option<usize>) {
        let Some(next) = self.left.clone().next() else {
            return;
        };
        (self.from, self.at) = match rest {
            Some(at) => (self.regions[next], at),
            None => {
                self.left.start += 1;
                (self.regions[next] + 1, 0)
            }
        };
    }

    /// Returns whether a region has been visited in part.
    #[cfg(feature = "std")]
    pub(super) fn is_within_region(&self) -> bool {
        self.at > 0
    }

    /// Finds the next regions, and prefetches what their visits need.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn look<L: RawMutex>(&mut self, on: &On<'_, L>, old: MemcgId, new: MemcgId) {
        let mut len = 0;
        while len < Self::BATCH
            && let Some(region) = on.next_region_in(old, self.rest.clone())
        {
            on.index().prefetch(region, old.get(), new.get());
            self.regions[len] = region;
            self.rest.start = region + 1;
            len += 1;
        }
        self.left = 0..len;
        for &region in &self.regions[..len] {
            on.prefetch_only(region, old);
        }
    }

    /// Returns the regions that have not been visited, as one range.
    #[cfg(feature = "std")]
    pub(super) fn into_rest(mut self) -> Range<usize> {
        self.forget();
        self.rest
    }
}
