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
            rest,
        }
    }

    /// Goes back to behind the last region that has had its turn: what was written since to regions that had no
    /// record is found, too.
    pub(super) fn forget(&mut self) {
        self.rest.start = self.from;
        self.left = 0..0;
    }

    /// The next region that may hold a record of `old`: the same one until it is [`passed`](Self::pass).
    #[inline]
    pub(super) fn next<L: RawMutex>(
        &mut self,
        on: &On<'_, L>,
        old: MemcgId,
        new: MemcgId,
    ) -> Option<usize> {
        if self.left.is_empty() {
            self.look(on, old, new);
        }
        self.left.clone().next().map(|next| self.regions[next])
    }

    /// The next region has its turn.
    #[inline]
    pub(super) fn pass(&mut self) {
        if let Some(passed) = self.left.next() {
            self.from = self.regions[passed] + 1;
        }
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
