//! [`Records`]: reads the table of a tree.

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

/// Reads the swap records of a [`Memcgs`]. [`Memcgs::records`] returns it.
///
/// It has no operation that writes, because each record must be charged to its owner. Only operations on
/// pages, such as [`Memcgs::swap_out`], write records.
pub struct Records<'a, L = RawSpinLock>(&'a SwapRecords<L>);

impl<L> Clone for Records<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Records<'_, L> {}

impl<L: RawMutex> Memcgs<L> {
    /// Returns a view of the swap records that reads them.
    ///
    /// ```
    /// # use swap_records::memcg::Memcgs;
    /// # use swap_records::{SwapEntry, SwapType};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ty = SwapType::new(0).unwrap();
    /// # let memcgs = Memcgs::new();
    /// # memcgs.swapon(ty, 1 << 20)?;
    /// # let parent = memcgs.create(memcgs.root())?;
    /// # let child = memcgs.create(parent)?;
    /// # let slot = |offset| SwapEntry::new(ty, offset).unwrap();
    /// memcgs.charge(child, 4)?;
    /// memcgs.swap_out(child, slot(0), 4)?;
    /// let records = memcgs.records();
    /// assert_eq!(records.lookup(slot(3)), Some(child.id()));
    /// assert_eq!(records.count(child.id()), 4);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn records(&self) -> Records<'_, L> {
        Records(&self.records)
    }

    /// Returns the table itself. Code outside of this module only reads it.
    #[cfg(all(feature = "std", not(swap_records_loom)))]
    pub(crate) fn table(&self) -> &SwapRecords<L> {
        &self.records
    }
}

impl<'a, L: RawMutex> Records<'a, L> {
    /// Returns the number of slots of a type that is on: see [`SwapRecords::max_pages`].
    #[must_use]
    pub fn max_pages(self, ty: SwapType) -> Option<u64> {
        self.0.max_pages(ty)
    }

    /// Returns the owner of a slot: see [`SwapRecords::lookup`].
    #[inline]
    #[must_use]
    pub fn lookup(self, ent: SwapEntry) -> Option<MemcgId> {
        self.0.lookup(ent)
    }

    /// Counts the records of an id: see [`SwapRecords::count`].
    #[must_use]
    pub fn count(self, id: MemcgId) -> u64 {
        self.0.count(id)
    }

    /// Returns an upper bound of the number of records of an id: see [`SwapRecords::count_upper_bound`].
    #[must_use]
    pub fn count_upper_bound(self, id: MemcgId) -> u64 {
        self.0.count_upper_bound(id)
    }

    /// Counts the records of an id in one swapfile: see [`SwapRecords::count_on`].
    #[must_use]
    pub fn count_on(self, ty: SwapType, id: MemcgId) -> u64 {
        self.0.count_on(ty, id)
    }

    /// Returns an upper bound of the number of records of an id in one swapfile: see
    /// [`SwapRecords::count_upper_bound_on`].
    #[must_use]
    pub fn count_upper_bound_on(self, ty: SwapType, id: MemcgId) -> u64 {
        self.0.count_upper_bound_on(ty, id)
    }

    /// Returns an iterator over the owners and the number of their records: see [`SwapRecords::owners`].
    pub fn owners(self) -> TableOwners<'a, L> {
        self.0.owners()
    }

    /// Returns an iterator over the owners in one swapfile and the number of their records: see
    /// [`SwapRecords::owners_on`].
    pub fn owners_on(self, ty: SwapType) -> TableOwners<'a, L> {
        self.0.owners_on(ty)
    }

    /// Returns how much memory the table takes, in bytes: see [`SwapRecords::footprint`].
    #[must_use]
    pub fn footprint(self) -> Footprint {
        self.0.footprint()
    }

    /// Returns how much memory one swapfile takes, in bytes: see [`SwapRecords::footprint_on`].
    #[must_use]
    pub fn footprint_on(self, ty: SwapType) -> Footprint {
        self.0.footprint_on(ty)
    }

    /// Returns an iterator over the runs of a swapfile: see [`SwapRecords::runs`].
    pub fn runs(self, ty: SwapType) -> TableRuns<'a, L> {
        self.0.runs(ty)
    }

    /// Returns an iterator over the runs of one owner, in all swapfiles: see [`SwapRecords::runs_of`].
    pub fn runs_of(self, id: MemcgId) -> TableRuns<'a, L> {
        self.0.runs_of(id)
    }
}

impl<L> fmt::Debug for Records<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
