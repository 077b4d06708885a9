//! A tree that is made again over a table that was kept.

use alloc::vec::Vec;

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use crate::entry::SwapType;
use crate::id::MemcgId;
use crate::table::SwapRecords;

impl<L: RawMutex> Memcgs<L> {
    /// A tree over a table with records, as one that was kept while the cgroups were not. `shape` gives the id of each
    /// cgroup and that of its parent, parents first. All are online, and charged for their records.
    ///
    /// An id that has records and is not in `shape` becomes a child of the root; so does every one, where `shape` is
    /// empty. Limits, and charges for pages in memory, are for the caller to make again, with
    /// [`set_limit`](Self::set_limit) and [`charge`](Self::charge). A cgroup that was offline goes offline again with
    /// [`css_offline`](Self::css_offline).
    ///
    /// Costs a look at the [`owners`](SwapRecords::owners_on) of each type, not a walk over all records, and a constant for
    /// each cgroup, however deep the tree is.
    ///
    /// ```
    /// use swap_records::memcg::{MemcgError, Memcgs};
    /// # use swap_records::{SwapEntry, SwapType};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let memcgs = Memcgs::new();
    /// # memcgs.swapon(SwapType::new(0).unwrap(), 100)?;
    /// # let parent = memcgs.create(memcgs.root())?;
    /// # let child = memcgs.create(parent)?;
    /// # memcgs.charge(child, 1)?;
    /// # memcgs.swap_out(child, SwapEntry::new(SwapType::new(0).unwrap(), 7).unwrap(), 1)?;
    /// let mut shape = Vec::new();
    /// for memcg in &memcgs {
    ///     if let Some(parent) = memcgs.parent(memcg)? {
    ///         shape.push((memcg.id(), parent.id()));
    ///     }
    /// }
    /// // A child may have a lower id than its parent: parents first.
    /// let depth = |id| {
    ///     let up = |&id: &_| shape.iter().find(|of| of.0 == id).map(|of| of.1);
    ///     std::iter::successors(Some(id), up).count()
    /// };
    /// let mut sorted = shape.clone();
    /// sorted.sort_by_key(|&(id, _)| depth(id));
    ///
    /// let again = Memcgs::with_records(memcgs.into_records(), sorted)?;
    /// let child = again.find(child.id()).unwrap();
    /// assert_eq!(again.parent(child)?, again.find(parent.id()));
    /// assert_eq!(again.usage(child)?.swap, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`UnknownParent`](MemcgError::UnknownParent) where a parent is not the root and does not come before;
    /// [`IdInUse`](MemcgError::IdInUse) where an id comes twice; [`IsRoot`](MemcgError::IsRoot) where the root has a
    /// parent; [`OutOfMemory`](MemcgError::OutOfMemory). The table is dropped.
    pub fn with_records(
        records: SwapRecords<L>,
        shape: impl IntoIterator<Item = (MemcgId, MemcgId)>,
    ) -> Result<Self, MemcgError> {
        Self::with_pages(records, shape, [])
    }

    /// As [`with_records`](Self::with_records), with pages in memory that are charged to cgroups of `shape` or the root.
    ///
    /// Each charge goes to its own cgroup first. Then each cgroup gives its sum to its parent, children first: so a path
    /// to the root is gone once, and not once for each cgroup on it.
    pub(crate) fn with_pages(
        records: SwapRecords<L>,
        shape: impl IntoIterator<Item = (MemcgId, MemcgId)>,
        pages: impl IntoIterator<Item = (MemcgId, u64)>,
    ) -> Result<Self, MemcgError> {
        let memcgs = Self::over(records);
        // All but the root, parents first.
        let mut order = Vec::<MemcgId>::new();
        for (id, parent) in shape {
            if id == memcgs.root().id() {
                return Err(MemcgError::IsRoot);
            }
            let of_parent = memcgs.find(parent);
            let of_parent = of_parent.ok_or(MemcgError::UnknownParent { id, parent })?;
            memcgs.create_with_id(of_parent, id)?;
            push(&mut order, id)?;
        }
        // Without limits, all of it is within them, up to 2^64; and nobody else is at work.
        let charge = |id, memory, memsw, swap| match memcgs.slots.get(id) {
            Some(slot) => slot.charge_alone(id, memory, memsw, swap),
            None => Ok(()),
        };
        for ty in SwapType::all() {
            let mut of_type = 0;
            for (id, nr) in memcgs.records.owners_on(ty) {
                if memcgs.find(id).is_none() {
                    memcgs.create_with_id(memcgs.root(), id)?;
                    push(&mut order, id)?;
                }
                if let Some(slot) = memcgs.slots.get(id) {
                    slot.add_swap(nr.cast_signed());
                }
                charge(id, 0, nr, nr)?;
                of_type += nr.cast_signed();
            }
            memcgs.shards.here().add_records(ty, of_type);
        }
        for (id, nr) in pages {
            charge(id, nr, nr, 0)?;
            if let Some(slot) = memcgs.slots.get(id) {
                slot.add_used(nr);
            }
        }
        for slot in order.iter().rev().filter_map(|&id| memcgs.slots.get(id)) {
            if let Some(parent) = slot.parent() {
                let [memory, memsw, swap] = slot.charged();
                charge(parent, memory, memsw, swap)?;
            }
        }
        Ok(memcgs)
    }

    /// The table, with the records as they are. Cgroups and charges are gone.
    #[must_use]
    pub fn into_records(self) -> SwapRecords<L> {
        self.records
    }
}

fn push(order: &mut Vec<MemcgId>, id: MemcgId) -> Result<(), MemcgError> {
    let bytes = size_of::<MemcgId>() * (order.len() + 1);
    order
        .try_reserve(1)
        .map_err(|_| MemcgError::OutOfMemory { bytes })?;
    order.push(id);
    Ok(())
}
