//! [`Work`]: what a batch writes for each item of its slice.

use crate::entry::SwapEntry;
use crate::id::MemcgId;

/// The most slots of a window, and so of one hold of a lock. A window of this size lies close together.
pub(crate) const WINDOW: usize = 2 * SCATTERED;

/// The most slots of a window that is scattered: as many as the processor can prefetch at once.
pub(super) const SCATTERED: usize = if cfg!(swap_records_loom) {
    2
} else if cfg!(miri) {
    4
} else {
    32
};

/// An item of a batch: a slot, and the number of its new owner, or 0.
pub(crate) trait Work: Copy {
    type Item;
    fn entry(item: &Self::Item) -> SwapEntry;
    fn owner(self, item: &Self::Item) -> u16;
}

/// The same owner for all slots.
#[derive(Clone, Copy)]
pub(crate) struct Same(pub(crate) u16);

impl Work for Same {
    type Item = SwapEntry;

    #[inline(always)]
    fn entry(item: &SwapEntry) -> SwapEntry {
        *item
    }

    #[inline(always)]
    fn owner(self, _: &SwapEntry) -> u16 {
        self.0
    }
}

/// No owner. A constant 0 saves a fifth of the instructions per slot.
#[derive(Clone, Copy)]
pub(crate) struct NoOwner;

impl Work for NoOwner {
    type Item = SwapEntry;

    #[inline(always)]
    fn entry(item: &SwapEntry) -> SwapEntry {
        *item
    }

    #[inline(always)]
    fn owner(self, _: &SwapEntry) -> u16 {
        0
    }
}

/// An owner for each slot.
#[derive(Clone, Copy)]
pub(crate) struct Each;

impl Work for Each {
    type Item = (SwapEntry, MemcgId);

    #[inline(always)]
    fn entry(item: &Self::Item) -> SwapEntry {
        item.0
    }

    #[inline(always)]
    fn owner(self, item: &Self::Item) -> u16 {
        item.1.get()
    }
}

/// An owner, or 0, for each slot. Without std, all other work is copied to this form, window by window, so
/// that there is one copy of the code that writes.
#[cfg(not(feature = "std"))]
#[derive(Clone, Copy)]
pub(super) struct Copied;

#[cfg(not(feature = "std"))]
impl Work for Copied {
    /// The item has no padding, so that an array of them is cleared by one call.
    type Item = (SwapEntry, u64);

    #[inline(always)]
    fn entry(item: &Self::Item) -> SwapEntry {
        item.0
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it was an id")]
    fn owner(self, item: &Self::Item) -> u16 {
        item.1 as u16
    }
}

/// Calls `then` with the work for these slots, which are at most a window.
#[cfg(feature = "std")]
#[inline(always)]
pub(super) fn with_work<W: Work, R>(
    work: W,
    slots: &[W::Item],
    then: impl FnOnce(W, &[W::Item]) -> R,
) -> R {
    then(work, slots)
}

#[cfg(not(feature = "std"))]
pub(super) fn with_work<W: Work, R>(
    work: W,
    slots: &[W::Item],
    then: impl FnOnce(Copied, &[(SwapEntry, u64)]) -> R,
) -> R {
    const FIRST: SwapEntry = SwapEntry::from_bits(0).unwrap();
    let mut window = [(FIRST, 0); WINDOW];
    let len = copy(work, slots, &mut window);
    then(Copied, &window[..len])
}

#[cfg(not(feature = "std"))]
#[inline(never)]
fn copy<W: Work>(work: W, slots: &[W::Item], window: &mut [(SwapEntry, u64); WINDOW]) -> usize {
    let both = window.iter_mut().zip(slots);
    both.map(|(to, item)| *to = (W::entry(item), work.owner(item).into()))
        .count()
}
