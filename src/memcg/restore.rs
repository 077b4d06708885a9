//! Makes a tree again over a table that was kept.

use alloc::vec::Vec;

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use crate::entry::SwapType;
use crate::id::MemcgId;
use crate::table::SwapRecords;

impl<L: RawMutex> Memcgs<L> {
    /// Makes a tree over a table with records, for programs that kept the table but not the cgroups.
    ///
    /// `shape` yields the id of each cgroup and the id of its parent, parents first. All of these cgroups are
    /// online, and charged for their records. An id that has records but is not in `shape` becomes a child of
    /// the root. So `shape` may be empty.
    ///
    /// Limits and pages in memory are not restored. Set and charge them again with
    /// [`set_limit`](Self::set_limit) and [`charge`](Self::charge). To take a cgroup offline that was offline
    /// before, call [`css_offline`](Self::css_offline).
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
    /// - [`UnknownParent`](MemcgError::UnknownParent) if a parent is neither the root nor an earlier cgroup
    ///   of `shape`.
    /// - [`IdInUse`](MemcgError::IdInUse) if an id occurs twice.
    /// - [`IsRoot`](MemcgError::IsRoot) if `shape` has a parent for the root.
    /// - [`OutOfMemory`](MemcgError::OutOfMemory) if an allocation fails.
    ///
    /// The table is dropped in these cases.
    ///
    /// # Cost
    ///
    /// A look at the [`owners`](SwapRecords::owners_on) of each type, which is not a walk over all records,
    /// and a constant per cgroup, however deep the tree is.
    pub fn with_records(
        records: SwapRecords<L>,
        shape: impl IntoIterator<Item = (MemcgId, MemcgId)>,
    ) -> Result<Self, MemcgError> {
        Self::with_pages(records, shape, [])
    }

    /// Makes a tree as [`with_records`](Self::with_records) does, with pages in memory that are charged to
    /// cgroups of `shape` or to the root.
    ///
    /// Each charge goes to its own cgroup first. Then each cgroup adds its sums to its parent, children
    /// first. So the cost does not depend on the depth of the tree.
    pub(crate) fn with_pages(
        records: SwapRecords<L>,
        shape: impl IntoIterator<Item = (MemcgId, MemcgId)>,
        pages: impl IntoIterator<Item = (MemcgId, u64)>,
    ) -> Result<Self, MemcgError> {
        let memcgs = Self::over(records);
        // All cgroups but the root, parents first.
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
        // No cgroup has a limit, so only a sum above 2^64 can be refused. No other thread uses the tree yet.
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

    /// Returns the table with its records. The cgroups and their charges are dropped.
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
