//! [`Ahead`]: the regions that a migration comes to next, and what is asked of the memory for them.

use core::ops::Range;

use lock_api::RawMutex;

use crate::id::MemcgId;
use crate::swapfile::On;

/// The regions that are next, found some at a time, so that what all of them need comes from memory
/// side by side: first their cells and locks, then the entries that the cells point to.
///
/// Nothing is locked while it is asked for. A locked instruction waits for the page walk of a
/// prefetch before it; asked for one by one between the regions' locks, each would be waited for.
pub(super) struct Ahead {
    regions: [usize; Self::BATCH],
    /// Those that have not had their turn.
    left: Range<usize>,
    /// Where those begin that have not had their turn: behind the last one that had it, whether or not the next one had
    /// a record when it was looked at.
    from: usize,
    /// Of region `from`, the positions below this have had their turn: not 0 only between two parts of that region.
    at: usize,
    /// Where the bitmap goes on, and where it ends for this.
    rest: Range<usize>,
}

impl Ahead {
    /// Enough for all that the memory does side by side; measured, and flat around here.
    const BATCH: usize = 32;

    /// For the regions in `rest`.
    pub(super) fn new(rest: Range<usize>) -> Self {
        Self {
            regions: [0; Self::BATCH],
            left: 0..0,
            from: rest.start,
            at: 0,
            rest,
        }
    }

    /// Goes back to behind the last region that has had its turn: what was written since to regions that had no
    /// record is found, too.
    pub(super) fn forget(&mut self) {
        self.rest.start = self.from;
        self.left = 0..0;
    }

    /// The next region that may hold a record of `old`, and the first of its positions that has not had its turn: the same
    /// ones until they are [`passed`](Self::pass).
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

    /// The next region has its turn, up to position `rest`, or as a whole.
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

    /// Whether a region has had its turn in part.
    #[cfg(feature = "std")]
    pub(super) fn is_within_region(&self) -> bool {
        self.at > 0
    }

    /// Finds the next regions, and asks for what they need.
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

    /// The regions that have not had their turn, as one range.
    #[cfg(feature = "std")]
    pub(super) fn into_rest(mut self) -> Range<usize> {
        self.forget();
        self.rest
    }
}
