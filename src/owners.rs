//! [`TableOwners`]: which ids have records, and how many.

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
    /// The ids that have records, lowest first, each with how many it has on all types.
    ///
    /// Exact where nobody writes meanwhile. It is no snapshot: ids are counted 64 at a time, so beside writers their numbers
    /// are those of different moments. An id with a record that nobody changes is given, and its number is right where nobody
    /// changes any of its records. One whose records all move meanwhile, from a slot to another, may be missed. A type that is turned off meanwhile counts as one without records, for ids that come after that.
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
    /// Numbers come from the index: a cell for each id and each region that holds it, and no entry. No lock is taken, and
    /// nothing is allocated. Only where an id from 4096 on was recorded since its type was turned on, it and the ids that are
    /// equal to it modulo 4096 are counted by a scan of the regions that may hold them, each under its lock: as much as
    /// [`count`](Self::count) of each such id.
    pub fn owners(&self) -> TableOwners<'_, L> {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_SWAPFILES is 32")]
        let types = 0..MAX_SWAPFILES as u8;
        TableOwners::new(self, types)
    }

    /// [`owners`](Self::owners) of one type: the ids that have records there, and how many; none while it is off.
    pub fn owners_on(&self, ty: SwapType) -> TableOwners<'_, L> {
        TableOwners::new(self, ty.get()..ty.get() + 1)
    }
}

/// The ids that have records and their numbers, lowest id first: of [all types](SwapRecords::owners), or of
/// [one](SwapRecords::owners_on).
///
/// It holds no lock between two calls of `next`, so the table may change meanwhile, through the same thread
/// too. After `None` it gives `None` for good. It takes about half a KiB; a clone goes on from where the original is.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct TableOwners<'t, L = RawSpinLock> {
    table: &'t SwapRecords<L>,
    types: Range<u8>,
    /// The ids below this one have had their turn, or are in `counted`.
    ahead: usize,
    /// The numbers of the `BLOCK` ids before `ahead`, on the types where the id has its counter alone.
    counted: [u64; BLOCK],
    /// Which of these are still to be given.
    left: u64,
    /// Which of them share their counter on some type, and have to be counted anew.
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

    /// The types that are on.
    fn on(&self) -> impl Iterator<Item = On<'t, L>> + use<'t, L> {
        let table = self.table;
        let types = self.types.clone().filter_map(SwapType::new);
        types.filter_map(|ty| table.file(ty).on())
    }

    /// The next id that may have records, and its number if that is known by now.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn next_id(&mut self) -> Option<(usize, Option<u64>)> {
        while self.left == 0 {
            if self.ahead >= COUNTERS {
                // From here on there are few: those that were noted when they were recorded.
                let from = self.ahead;
                let next = self.on().filter_map(|on| on.index().shared().next(from));
                let next = next.min();
                // At the end it stays there, whatever is recorded afterwards.
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

    /// Counts the next `BLOCK` ids, one for each counter of a block.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn count_block(&mut self) {
        let first = self.ahead;
        self.ahead += BLOCK;
        self.counted = [0; BLOCK];
        self.shared = 0;
        for on in self.on() {
            let mut counted = [0; BLOCK];
            let mut some = on.index().count_block(first / BLOCK, &mut counted);
            // Cells that tell of another id are stored after its note: see `Shared`.
            fence(Ordering::Acquire);
            let shared = on.index().shared().has_block(first / BLOCK);
            // Of one that was turned off meanwhile, nothing is left.
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
            // The counter 0 has no id of its own, but those that share it.
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

/// Writes how far it has come.
impl<L> fmt::Debug for TableOwners<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableOwners")
            .field("types", &self.types)
            .field("counted_below", &self.ahead)
            .finish_non_exhaustive()
    }
}
