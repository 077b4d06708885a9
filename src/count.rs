//! How many records an id has: [`SwapRecords::count`] looks, [`SwapRecords::count_upper_bound`] adds up.

use lock_api::RawMutex;

use crate::cell::counter;
use crate::id::MemcgId;
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// How many records the id has, on all types, by looking at each region that may hold one.
    ///
    /// Exact where nobody writes meanwhile; otherwise each region is counted as it was at one moment. A
    /// record counts from when the call that wrote it has returned; a lookup may see it a little before.
    #[must_use]
    pub fn count(&self, id: MemcgId) -> u64 {
        let backend = self.backend();
        let mut sum = 0;
        for (_, on) in self.all_on() {
            let mut from = 0;
            while let Some(index) = on.next_region(Some(id), from)
                && let Some(region) = on.lock(index)
            {
                sum += u64::from(region.count(backend, id.get()));
                from = index + 1;
            }
        }
        sum
    }

    /// A number that the records of the id do not exceed, from the index alone: no lock, no scan.
    ///
    /// That holds while nobody records the id or migrates to it, as for one whose cgroup is dead: a record
    /// that comes while the regions are added up may be missed. It is the exact number unless a live id
    /// shares the counter: one that is equal modulo 4096.
    #[must_use]
    pub fn count_upper_bound(&self, id: MemcgId) -> u64 {
        self.all_on()
            .map(|(_, on)| {
                let counted = on.index().counted(counter(id.get()));
                // Of one that was turned off meanwhile, nothing is left.
                if on.is_still_on() { counted } else { 0 }
            })
            .sum()
    }
}
