//! How many records an id has: [`SwapRecords::count`] is exact, [`SwapRecords::count_upper_bound`] takes no lock.

use lock_api::RawMutex;

use crate::cell::{COUNTERS, counter};
use crate::entry::SwapType;
use crate::id::MemcgId;
use crate::scan::Backend;
use crate::swapfile::On;
use crate::sync::{Ordering, fence};
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// How many records the id has, on all types.
    ///
    /// Exact where nobody writes meanwhile. Beside writers each region is counted as it was at one moment, so the number
    /// of an id whose records nobody changes is right. A record counts from when the call that wrote it has
    /// returned; a lookup may see it a little before. A type that is turned off meanwhile counts as one without records.
    ///
    /// # Cost
    ///
    /// The index has the number, at a cell for each region that holds the id: no lock is taken, no entry is looked at.
    /// Only where an id from 4096 on was recorded since the type was turned on, and it is this id or one that is equal to
    /// it modulo 4096, the regions that may hold the id are scanned, each under its lock. An id from 4096 on that was
    /// not recorded since then has no records there, which costs nothing to say.
    #[must_use]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub fn count(&self, id: MemcgId) -> u64 {
        self.all_on().map(|(_, on)| self.count_in(&on, id)).sum()
    }

    /// [`count`](Self::count) on one type; 0 while it is off.
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let (ty, other) = (SwapType::new(0).unwrap(), SwapType::new(1).unwrap());
    /// # let id = MemcgId::new(7).unwrap();
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 100).unwrap();
    /// records.record_range(SwapEntry::new(ty, 10).unwrap(), 5, id).unwrap();
    /// assert_eq!((records.count_on(ty, id), records.count_on(other, id)), (5, 0));
    /// ```
    #[must_use]
    pub fn count_on(&self, ty: SwapType, id: MemcgId) -> u64 {
        let on = self.file(ty).on();
        on.map_or(0, |on| self.count_in(&on, id))
    }

    /// A number that the records of the id do not exceed, from the index alone: no lock, no scan.
    ///
    /// That holds while nobody records the id or migrates to it, as for one whose cgroup is dead: a record
    /// that comes while the regions are added up may be missed. It is the exact number unless another id
    /// shares the counter: one that has records and is equal modulo 4096. Without `std`, ids also share a cell in regions where
    /// they have none of their own: see [`reserve`](Self::reserve). [`count`](Self::count) is always exact.
    #[must_use]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub fn count_upper_bound(&self, id: MemcgId) -> u64 {
        self.all_on().map(|(_, on)| bound_in(&on, id)).sum()
    }

    /// [`count_upper_bound`](Self::count_upper_bound) on one type; 0 while it is off.
    #[must_use]
    pub fn count_upper_bound_on(&self, ty: SwapType, id: MemcgId) -> u64 {
        self.file(ty).on().map_or(0, |on| bound_in(&on, id))
    }

    /// How many records the id has in this swapfile; 0 where it is turned off meanwhile.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn count_in(&self, on: &On<'_, L>, id: MemcgId) -> u64 {
        let shared = on.index().shared();
        let counter = counter(id.get());
        if usize::from(id.get()) >= COUNTERS {
            if !shared.knows(id.get()) {
                return 0;
            }
        } else if !shared.has(counter) {
            let counted = on.index().counted(counter);
            // Cells that tell of another id are stored after its note: see `Shared`.
            fence(Ordering::Acquire);
            if !shared.has(counter) {
                return if on.is_still_on() { counted } else { 0 };
            }
        }
        count_by_look(on, self.backend(), id).unwrap_or(0)
    }
}

/// How many records the id has, by a look at each region that may hold one; `None` where the swapfile is turned off.
#[cold]
fn count_by_look<L: RawMutex>(on: &On<'_, L>, backend: Backend, id: MemcgId) -> Option<u64> {
    let mut sum = 0;
    let mut from = 0;
    while let Some(index) = on.next_region(Some(id), from) {
        sum += u64::from(on.lock(index)?.count(backend, id.get()));
        from = index + 1;
    }
    Some(sum)
}

#[cfg_attr(not(feature = "std"), inline(never))]
fn bound_in<L: RawMutex>(on: &On<'_, L>, id: MemcgId) -> u64 {
    let counted = on.index().bound(counter(id.get()));
    // Of one that was turned off meanwhile, nothing is left.
    if on.is_still_on() { counted } else { 0 }
}
