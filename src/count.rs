//! [`SwapRecords::count`], the exact number of records of an id, and [`SwapRecords::count_upper_bound`],
//! which takes no lock.

use lock_api::RawMutex;

use crate::cell::{COUNTERS, counter};
use crate::entry::SwapType;
use crate::id::MemcgId;
use crate::scan::Backend;
use crate::swapfile::On;
use crate::sync::{Ordering, fence};
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Returns the number of records that the id has, on all types.
    ///
    /// The number is exact if no thread writes during the call. While other threads write, each region is
    /// counted as it was at one moment, so the number of an id whose records no thread changes is right. A
    /// record counts as soon as the call that wrote it has returned; a lookup may see it a little earlier. A
    /// type that is turned off during the call counts as one without records.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let id = MemcgId::new(7).unwrap();
    /// let records = SwapRecords::new();
    /// for ty in [0, 1].map(|ty| SwapType::new(ty).unwrap()) {
    ///     records.swapon(ty, 100).unwrap();
    ///     records.record_range(SwapEntry::new(ty, 10).unwrap(), 5, id).unwrap();
    /// }
    /// assert_eq!(records.count(id), 10);
    /// ```
    ///
    /// # Cost
    ///
    /// Reads a cell per region that holds the id. Takes no lock and reads no entries.
    ///
    /// Ids from 4096 on share counters with the ids that are congruent to them modulo 4096. If this id or
    /// another id of its counter is such an id and was recorded since the type was turned on, the regions
    /// that may hold the id are scanned, each under its lock. An id from 4096 on that was not recorded since
    /// then costs no scan: it has no records there.
    ///
    /// Without `std`, these regions are also scanned if any region has counted an id of this counter together
    /// with ids of other counters since the type was turned on: see [`reserve`](Self::reserve).
    #[must_use]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub fn count(&self, id: MemcgId) -> u64 {
        self.all_on().map(|(_, on)| self.count_in(&on, id)).sum()
    }

    /// Returns [`count`](Self::count) of one type, or 0 while it is off.
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

    /// Returns an upper bound of the number of records that the id has, from the index alone.
    ///
    /// The bound holds while no thread records the id or migrates to it, as for the id of an offline cgroup.
    /// A record that is written while the regions are added up may be missed.
    ///
    /// The bound is the exact number unless another id shares the counter: an id that has records and is
    /// congruent modulo 4096. Without `std`, ids also share a cell in regions where their own cells were refused:
    /// see [`reserve`](Self::reserve). [`count`](Self::count) is always exact.
    ///
    /// # Cost
    ///
    /// Reads a cell per region that holds the counter. Takes no lock and scans nothing.
    #[must_use]
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub fn count_upper_bound(&self, id: MemcgId) -> u64 {
        self.all_on().map(|(_, on)| bound_in(&on, id)).sum()
    }

    /// Returns [`count_upper_bound`](Self::count_upper_bound) of one type, or 0 while it is off.
    #[must_use]
    pub fn count_upper_bound_on(&self, ty: SwapType, id: MemcgId) -> u64 {
        self.file(ty).on().map_or(0, |on| bound_in(&on, id))
    }

    /// Returns the number of records that the id has in this swapfile, or 0 if it was turned off.
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
            // A cell that counts another id is stored after that id's note: see `Shared`.
            fence(Ordering::Acquire);
            if !shared.has(counter) {
                return if on.is_still_on() { counted } else { 0 };
            }
        }
        count_by_scan(on, self.backend(), id).unwrap_or(0)
    }
}

/// Counts the records of the id in each region that may hold one, under its lock. Returns `None` if the
/// swapfile was turned off.
#[cold]
fn count_by_scan<L: RawMutex>(on: &On<'_, L>, backend: Backend, id: MemcgId) -> Option<u64> {
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
    // A swapfile that was turned off has no records.
    if on.is_still_on() { counted } else { 0 }
}
