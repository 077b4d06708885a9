//! [`Records`]: the table of a tree, to be read.

use core::fmt;

use lock_api::RawMutex;

use super::Memcgs;
use crate::entry::{SwapEntry, SwapType};
use crate::footprint::Footprint;
use crate::id::MemcgId;
use crate::iter::TableRuns;
use crate::owners::TableOwners;
use crate::sync::RawSpinLock;
use crate::table::SwapRecords;

/// The swap records of a [`Memcgs`], to be read: a record that is written is one that is charged, so
/// only the operations on pages write.
pub struct Records<'a, L = RawSpinLock>(&'a SwapRecords<L>);

impl<L> Clone for Records<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Records<'_, L> {}

impl<L: RawMutex> Memcgs<L> {
    /// The swap records, to be read.
    #[must_use]
    pub fn records(&self) -> Records<'_, L> {
        Records(&self.records)
    }

    /// The table itself: nothing outside of this module writes to it.
    #[cfg(all(feature = "std", not(swap_records_loom)))]
    pub(crate) fn table(&self) -> &SwapRecords<L> {
        &self.records
    }
}

impl<'a, L: RawMutex> Records<'a, L> {
    /// [`SwapRecords::max_pages`].
    #[must_use]
    pub fn max_pages(self, ty: SwapType) -> Option<u64> {
        self.0.max_pages(ty)
    }

    /// [`SwapRecords::lookup`].
    #[inline]
    #[must_use]
    pub fn lookup(self, ent: SwapEntry) -> Option<MemcgId> {
        self.0.lookup(ent)
    }

    /// [`SwapRecords::count`].
    #[must_use]
    pub fn count(self, id: MemcgId) -> u64 {
        self.0.count(id)
    }

    /// [`SwapRecords::count_upper_bound`].
    #[must_use]
    pub fn count_upper_bound(self, id: MemcgId) -> u64 {
        self.0.count_upper_bound(id)
    }

    /// [`SwapRecords::count_on`].
    #[must_use]
    pub fn count_on(self, ty: SwapType, id: MemcgId) -> u64 {
        self.0.count_on(ty, id)
    }

    /// [`SwapRecords::count_upper_bound_on`].
    #[must_use]
    pub fn count_upper_bound_on(self, ty: SwapType, id: MemcgId) -> u64 {
        self.0.count_upper_bound_on(ty, id)
    }

    /// [`SwapRecords::owners`].
    pub fn owners(self) -> TableOwners<'a, L> {
        self.0.owners()
    }

    /// [`SwapRecords::owners_on`].
    pub fn owners_on(self, ty: SwapType) -> TableOwners<'a, L> {
        self.0.owners_on(ty)
    }

    /// [`SwapRecords::footprint`].
    #[must_use]
    pub fn footprint(self) -> Footprint {
        self.0.footprint()
    }

    /// [`SwapRecords::footprint_on`].
    #[must_use]
    pub fn footprint_on(self, ty: SwapType) -> Footprint {
        self.0.footprint_on(ty)
    }

    /// [`SwapRecords::runs`].
    pub fn runs(self, ty: SwapType) -> TableRuns<'a, L> {
        self.0.runs(ty)
    }

    /// [`SwapRecords::runs_of`].
    pub fn runs_of(self, id: MemcgId) -> TableRuns<'a, L> {
        self.0.runs_of(id)
    }
}

impl<L> fmt::Debug for Records<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
