//! Removes a cgroup in two steps: [`Memcgs::css_offline`] and [`Memcgs::css_free`].

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::slot::{Children, Slot, State};
use crate::id::MemcgId;
use crate::migrate::{Migrated, Migration, Step};

impl<L: RawMutex> Memcgs<L> {
    /// Takes a cgroup offline, and migrates some of its records to its parent: as many as a scan of `budget`
    /// entries allows ([`Migration::step`](crate::Migration::step)). If `budget` is 0, no record is migrated.
    ///
    /// Once this has returned, the cgroup gets no new charges, children or records, also not from operations
    /// that began earlier. When its pages that are still in memory are swapped out, the records go to its
    /// first online ancestor. (If it has offline children, their records still migrate to it. Its counters
    /// include these already.)
    ///
    /// This call may leave records behind. It may be called again to migrate more of them;
    /// [`css_free`](Self::css_free) migrates all that are left. The statistics and charges move with the
    /// records.
    ///
    /// A caller that is about to free most of the records should pass a `budget` of 0: a record that this call migrates
    /// is migrated only to be freed. [`css_free`](Self::css_free) migrates the records that are left.
    ///
    /// Returns the report of the migration. Its [`left_at_most`](Migrated::left_at_most) is an upper bound of
    /// the number of records that are left.
    ///
    /// ```
    /// # use swap_records::memcg::{MemcgError, Memcgs};
    /// # use swap_records::{SwapEntry, SwapType};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ty = SwapType::new(0).unwrap();
    /// # let memcgs = Memcgs::new();
    /// # memcgs.swapon(ty, 1 << 20)?;
    /// # let parent = memcgs.create(memcgs.root())?;
    /// # let child = memcgs.create(parent)?;
    /// # let slot = |offset| SwapEntry::new(ty, offset).unwrap();
    /// memcgs.charge(child, 5)?;
    /// memcgs.swap_out(child, slot(0), 4)?;
    /// let migrated = memcgs.css_offline(child, 100_000)?;
    /// assert_eq!((migrated.moved, migrated.left_at_most), (4, 0));
    /// let refused = memcgs.charge(child, 1);
    /// assert_eq!(refused, Err(MemcgError::Offline { id: child.id() }));
    /// // A page of it is still in memory. Its record will be the parent's.
    /// assert_eq!(memcgs.swap_out(child, slot(4), 1)?, parent);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`IsRoot`](MemcgError::IsRoot) for the root.
    /// - [`HasChildren`](MemcgError::HasChildren) if a child is online.
    /// - [`Dying`](MemcgError::Dying) if another thread is in `css_offline` or `css_free` of this cgroup.
    /// - [`Gone`](MemcgError::Gone) if it was freed.
    ///
    /// # Cost
    ///
    /// The migration, and one wait for the operations that are under way; of long ones, for one region. It
    /// never waits for operations that begin later, and holds no lock while it waits.
    pub fn css_offline(&self, memcg: Memcg, budget: u64) -> Result<Migrated, MemcgError> {
        let id = memcg.id();
        let tree = self.tree.lock();
        let (slot, parent) = self.mortal(memcg)?;
        let Children { online, .. } = slot.children();
        if online > 0 {
            let children = online;
            return Err(MemcgError::HasChildren { id, children });
        }
        let _removal = Removal::begin(slot);
        if slot.state() == State::Online {
            slot.set_state(State::Offline);
            self.change_children(parent, |children| children.online -= 1);
        }
        drop(tree);
        // After this, every operation that saw the cgroup online has ended. No stock of it is left, and none
        // can be made.
        self.synchronize(id);
        Ok(self.migrate_records(id, slot, parent, Some(budget)))
    }

    /// Frees a cgroup that is offline. When this returns, its parent has all of its records and their
    /// charges, and its id is free for the next [`create`](Self::create). The swap statistics of both have
    /// changed by the number of these records.
    ///
    /// The memsw counter of the cgroup is the hint of the migration. So if no record is left, the migration
    /// looks at nothing.
    ///
    /// Returns the report of the migration.
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
    /// memcgs.css_offline(child, 0)?;
    /// assert_eq!(memcgs.css_free(child)?.moved, 4);
    /// assert_eq!(memcgs.records().lookup(slot(0)), Some(parent.id()));
    /// assert_eq!(memcgs.usage(parent)?.swap, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Busy`](MemcgError::Busy) if the cgroup has pages in memory, or an operation over several regions
    ///   has pages or charges of it in hand.
    /// - [`HasChildren`](MemcgError::HasChildren) if it has children, online or offline.
    /// - [`Online`](MemcgError::Online) if it is online.
    /// - [`IsRoot`](MemcgError::IsRoot) for the root.
    /// - [`Dying`](MemcgError::Dying) if another thread is in `css_offline` or `css_free` of this cgroup.
    /// - [`Gone`](MemcgError::Gone) if it was freed.
    ///
    /// A cgroup that is refused as `Busy` is offline as before.
    ///
    /// # Cost
    ///
    /// The migration, and two waits for the operations that are under way; of long ones, for one region. It
    /// never waits for operations that begin later, and holds no lock while it waits.
    pub fn css_free(&self, memcg: Memcg) -> Result<Migrated, MemcgError> {
        let id = memcg.id();
        let tree = self.tree.lock();
        let (slot, parent) = self.mortal(memcg)?;
        if slot.state() == State::Online {
            return Err(MemcgError::Online { id });
        }
        let Children { any: children, .. } = slot.children();
        if children > 0 {
            return Err(MemcgError::HasChildren { id, children });
        }
        // If this call ends before the cgroup is freed, the guard makes it offline again.
        let removal = Removal::begin(slot);
        slot.set_state(State::Freeing);
        drop(tree);
        // After this, all operations that began earlier have ended. No thread writes a record of this id any
        // more, and only operations that keep pages of the cgroup have some in hand. So if it has none now,
        // it never gets any.
        self.synchronize(id);
        let kept = slot.kept();
        let pages = kept + slot.used();
        if pages > 0 {
            return Err(MemcgError::Busy { id, pages });
        }
        let tree = self.tree.lock();
        slot.set_state(State::Free);
        drop(tree);
        let migrated = self.migrate_records(id, slot, parent, None);
        // After this, no thread uses an id that it found in a record that was migrated.
        self.synchronize(id);
        debug_assert_eq!((slot.memory.usage(), slot.memsw.usage()), (0, 0));
        debug_assert_eq!((slot.used(), slot.swap(), slot.swapped.usage()), (0, 0, 0));
        let mut ids = self.tree.lock();
        removal.gone();
        self.change_children(parent, |children| children.any -= 1);
        ids.free(id);
        drop(ids);
        Ok(migrated)
    }

    /// Returns the [`Slot`] and the parent of a cgroup that may go offline or be freed. The caller holds the
    /// tree's lock.
    fn mortal(&self, memcg: Memcg) -> Result<(&Slot, MemcgId), MemcgError> {
        let slot = self.live(memcg)?;
        let parent = slot.parent().ok_or(MemcgError::IsRoot)?;
        if slot.in_removal() {
            return Err(MemcgError::Dying { id: memcg.id() });
        }
        Ok((slot, parent))
    }

    /// The caller holds the tree's lock.
    fn change_children(&self, id: MemcgId, change: impl FnOnce(&mut Children)) {
        if let Some(slot) = self.slots.get(id) {
            let mut children = slot.children();
            change(&mut children);
            slot.set_children(children);
        }
    }

    /// Waits until every operation that was under way has ended, and takes the cgroup's stocks out of the
    /// shards. The caller must hold no lock.
    fn synchronize(&self, id: MemcgId) {
        self.grace.synchronize();
        // Charges are in no section, but under the lock of a shard. An earlier css_offline may also have
        // ended early, because a lock unwound.
        for mut shard in self.shards.each() {
            self.settle_all(&mut shard, Some(id));
        }
    }

    /// Migrates records to the parent, and then moves what is charged for them.
    ///
    /// The hint is memsw. Without descendants, it counts the cgroup's own pages in memory and its records, so
    /// it is never less than the number of records. A record is charged before it is written and uncharged
    /// after it is cleared. What this migration moves is uncharged only after it has ended.
    fn migrate_records(
        &self,
        id: MemcgId,
        slot: &Slot,
        parent: MemcgId,
        budget: Option<u64>,
    ) -> Migrated {
        let hint = || slot.memsw.usage();
        let migration = self.records.migration(id, parent).memsw_hint(&hint);
        let mut migrated = MigratedRecords {
            migration: migration.max_hold(self.max_hold),
            slot,
            of_parent: self.slots.get(parent),
        };
        let migration = &mut migrated.migration;
        match budget {
            None => loop {
                if let Step::Done(migrated) = migration.step(u64::MAX) {
                    break migrated;
                }
            },
            Some(0) => migration.so_far(),
            Some(budget) => {
                let _ = migration.step(budget);
                migration.so_far()
            }
        }
    }
}

/// Marks a cgroup while a thread is in `css_offline` or `css_free` of it. When this is dropped, the
/// cgroup is offline, and both can be called again.
struct Removal<'a>(&'a Slot);

impl<'a> Removal<'a> {
    /// Sets the mark. The caller holds the tree's lock, and the mark is not set.
    fn begin(slot: &'a Slot) -> Self {
        slot.set_in_removal(true);
        Self(slot)
    }

    /// Removes the mark of a cgroup that was freed. Its [`Slot`] is for the next cgroup of the id.
    fn gone(self) {
        self.0.set_in_removal(false);
        core::mem::forget(self);
    }
}

impl Drop for Removal<'_> {
    /// Takes no lock, since the tree's lock may be the one that unwinds. No other thread changes the state of
    /// a cgroup that is marked.
    fn drop(&mut self) {
        self.0.set_state(State::Offline);
        self.0.set_in_removal(false);
    }
}

/// Moves statistics and charges when it is dropped, for all records that the migration has moved. So they are
/// right even if a lock ended the migration early.
struct MigratedRecords<'a, L: RawMutex> {
    migration: Migration<'a, L>,
    slot: &'a Slot,
    of_parent: Option<&'a Slot>,
}

impl<L: RawMutex> Drop for MigratedRecords<'_, L> {
    fn drop(&mut self) {
        let moved = self.migration.moved();
        if moved > 0 {
            self.slot.add_swap(-moved.cast_signed());
            if let Some(of_parent) = self.of_parent {
                of_parent.add_swap(moved.cast_signed());
            }
            // The parent's counters include these records already.
            self.slot.memsw.uncharge(moved);
            self.slot.swapped.uncharge(moved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_that_another_thread_takes_offline_or_away_is_refused() {
        let memcgs = Memcgs::new();
        let child = memcgs.create(memcgs.root()).unwrap();
        let _ = memcgs.css_offline(child, 0).unwrap();
        let slot = memcgs.slots.get(child.id()).unwrap();
        assert!(!slot.in_removal());
        slot.set_in_removal(true);
        let refused = MemcgError::Dying { id: child.id() };
        assert_eq!(memcgs.css_offline(child, 0), Err(refused));
        assert_eq!(memcgs.css_free(child), Err(refused));
        slot.set_in_removal(false);
        assert!(memcgs.css_free(child).is_ok() && !slot.in_removal());
    }
}
