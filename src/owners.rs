//! [`TableOwners`]: the ids that have records, and the number of records of each.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;

use lock_api::RawMutex;

use crate::cell::{BLOCK, COUNTERS};
use crate::entry::{MAX_SWAPFILES, SwapType};
use crate::id::MemcgId;
use crate::shared::IDS;
use crate::swapfile::On;
use crate::sync::{Ordering, RawSpinLock, fence};
use crate::table::SwapRecords;

const _: () = assert!(BLOCK <= u64::BITS as usize && COUNTERS.is_multiple_of(BLOCK));

impl<L: RawMutex> SwapRecords<L> {
    /// Returns an iterator over the ids that have records, lowest first, with the number of records that each
    /// has on all types.
    ///
    /// The numbers are exact if no thread writes during the iteration. The iteration is not a snapshot: ids
    /// are counted 64 at a time, so numbers of different ids may be those of different moments. While other
    /// threads write,
    ///
    /// - an id with a record that no thread changes is always returned,
    /// - the number of an id is right if no thread changes any of its records,
    /// - an id whose records are all moved to other slots during the iteration may be missed, and
    /// - a type that is turned off counts as one without records, for the ids that follow.
    ///
    /// # Examples
    ///
    /// ```
    /// use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    ///
    /// let ty = SwapType::new(0).unwrap();
    /// let [a, b] = [7, 300].map(|id| MemcgId::new(id).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1 << 20).unwrap();
    /// records.record_range(SwapEntry::new(ty, 500).unwrap(), 4000, b).unwrap();
    /// records.record(SwapEntry::new(ty, 9).unwrap(), a).unwrap();
    /// assert!(records.owners().eq([(a, 1), (b, 4000)]));
    ///
    /// // Largest first.
    /// let mut owners: Vec<_> = records.owners().collect();
    /// owners.sort_by_key(|&(id, records)| (std::cmp::Reverse(records), id));
    /// assert_eq!(owners[0], (b, 4000));
    /// ```
    ///
    /// # Cost
    ///
    /// Reads a cell per id and region that holds the id, and no entries. Takes no lock and allocates nothing.
    ///
    /// If an id from 4096 on was recorded since its type was turned on, that id and the ids that are
    /// congruent to it modulo 4096 are counted by a scan. The scan reads the regions that may hold the id,
    /// each under its lock. It costs as much as [`count`](Self::count) of each such id. Without
    /// `std`, an id that was counted together with other ids since then, because memory was missing, is counted
    /// in the same way: see [`reserve`](Self::reserve).
    pub fn owners(&self) -> TableOwners<'_, L> {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_SWAPFILES is 32")]
        let types = 0..MAX_SWAPFILES as u8;
        TableOwners::new(self, types)
    }

    /// Returns [`owners`](Self::owners) of one type: the ids that have records there, with their numbers.
    /// Returns no ids while the type is off.
    pub fn owners_on(&self, ty: SwapType) -> TableOwners<'_, L> {
        TableOwners::new(self, ty.get()..ty.get() + 1)
    }
}

/// An iterator over the ids that have records and the number of records of each, lowest id first.
///
/// [`owners`](SwapRecords::owners) and [`owners_on`](SwapRecords::owners_on) create it. It holds no lock
/// between two calls of `next`, so any thread may change the table in between. After `None` it always returns
/// `None`. It takes about half a KiB. A clone continues from where the original is.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct TableOwners<'t, L = RawSpinLock> {
    table: &'t SwapRecords<L>,
    types: Range<u8>,
    /// Ids below this one have been returned, or are in `counted`.
    ahead: usize,
    /// The numbers of records of the `BLOCK` ids before `ahead`, on the types where the id does not share its
    /// counter.
    counted: [u64; BLOCK],
    /// One bit per id in `counted`: set if the id is still to be returned.
    left: u64,
    /// One bit per id in `counted`: set if the id shares its counter on some type, and must be counted by a
    /// scan.
    shared: u64,
}

impl<'t, L: RawMutex> TableOwners<'t, L> {
    fn new(table: &'t SwapRecords<L>, types: Range<u8>) -> Self {
        Self {
            table,
            types,
            ahead: 0,
            counted: [0; BLOCK],
            left: 0,
            shared: 0,
        }
    }

    /// Returns the swapfiles that are on.
    fn on(&self) -> impl Iterator<Item = On<'t, L>> + use<'t, L> {
        let table = self.table;
        let types = self.types.clone().filter_map(SwapType::new);
        types.filter_map(|ty| table.file(ty).on())
    }

    /// Returns the next id that may have records, and its number if that is known without a scan.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn next_id(&mut self) -> Option<(usize, Option<u64>)> {
        while self.left == 0 {
            if self.ahead >= COUNTERS {
                // Ids from here on are few: those that were noted when they were recorded.
                let from = self.ahead;
                let next = self.on().filter_map(|on| on.index().shared().next(from));
                let next = next.min();
                // At the end, `ahead` stays at `IDS`, even if more ids are recorded afterwards.
                self.ahead = next.map_or(IDS, |id| id + 1);
                return Some((next?, None));
            }
            self.count_block();
        }
        let at = self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        let number = (self.shared >> at & 1 == 0).then_some(self.counted[at]);
        Some((self.ahead - BLOCK + at, number))
    }

    /// Counts the next `BLOCK` ids, one per counter of a block.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn count_block(&mut self) {
        let first = self.ahead;
        self.ahead += BLOCK;
        self.counted = [0; BLOCK];
        self.shared = 0;
        for on in self.on() {
            let mut counted = [0; BLOCK];
            let mut some = on.index().count_block(first / BLOCK, &mut counted);
            // A cell that counts another id is stored after that id's note: see `Shared`.
            fence(Ordering::Acquire);
            let shared = on.index().shared().has_block(first / BLOCK);
            // A swapfile that was turned off has no records.
            if !on.is_still_on() {
                continue;
            }
            self.shared |= shared;
            self.left |= some;
            while some != 0 {
                let at = some.trailing_zeros() as usize;
                self.counted[at] += counted[at];
                some &= some - 1;
            }
        }
        self.left |= self.shared;
    }
}

impl<L: RawMutex> Iterator for TableOwners<'_, L> {
    type Item = (MemcgId, u64);

    fn next(&mut self) -> Option<(MemcgId, u64)> {
        loop {
            let (id, number) = self.next_id()?;
            // Counter 0 has no id below 4096, but it may be shared.
            let Some(id) = u16::try_from(id).ok().and_then(MemcgId::new) else {
                continue;
            };
            let number = number.unwrap_or_else(|| {
                let counts = self.on().map(|on| self.table.count_in(&on, id));
                counts.sum()
            });
            if number > 0 {
                return Some((id, number));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (
            0,
            Some(self.left.count_ones() as usize + (IDS - self.ahead)),
        )
    }
}

impl<L: RawMutex> FusedIterator for TableOwners<'_, L> {}

impl<L> Clone for TableOwners<'_, L> {
    fn clone(&self) -> Self {
        Self {
            types: self.types.clone(),
            ..*self
        }
    }
}

/// Writes the types, and the id below which ids have been counted.
impl<L> fmt::Debug for TableOwners<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableOwners")
            .field("types", &self.types)
            .field("counted_below", &self.ahead)
            .finish_non_exhaustive()
    }
}
