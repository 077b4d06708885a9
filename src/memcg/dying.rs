//! The end of a cgroup, in two parts: [`Memcgs::css_offline`] and [`Memcgs::css_free`].

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::slot::{Children, Slot, State};
use crate::id::MemcgId;
use crate::migrate::Migrated;

impl<L: RawMutex> Memcgs<L> {
    /// Takes a cgroup offline, and hands over to its parent as many of its records as a scan of `budget`
    /// entries allows ([`Migration::step`](crate::Migration::step)); at 0, none.
    ///
    /// It takes no charges, children or records from now on: those of pages that are still in memory go to its first
    /// ancestor that is online. This is the part without hard requirements: it may leave records
    /// behind, and may be called again, for more of them. Statistics and charges follow the records.
    ///
    /// Gives what it moved and, in [`left_at_most`](Migrated::left_at_most), how many are left.
    ///
    /// # Errors
    ///
    /// [`IsRoot`](MemcgError::IsRoot); [`HasChildren`](MemcgError::HasChildren) where any of them is online;
    /// [`Dying`](MemcgError::Dying); [`Gone`](MemcgError::Gone).
    pub fn css_offline(&self, memcg: Memcg, budget: u64) -> Result<Migrated, MemcgError> {
        let (slot, parent) = {
            let _tree = self.tree.lock();
            let (slot, parent) = self.mortal(memcg)?;
            let Children { online, .. } = slot.children();
            if online > 0 {
                return Err(MemcgError::HasChildren {
                    id: memcg.id(),
                    children: online,
                });
            }
            if slot.state() == State::Online {
                slot.set_state(State::Offline);
                self.change_children(parent, |children| children.online -= 1);
            }
            slot.set_dying(true);
            (slot, parent)
        };
        // Whoever has the lock of a shard after this sees that the cgroup is offline.
        for mut shard in self.shards.each() {
            self.settle_all(&mut shard, Some(memcg.id()));
        }
        let migrated = self.hand_over(memcg.id(), slot, parent, Some(budget));
        let _tree = self.tree.lock();
        slot.set_dying(false);
        Ok(migrated)
    }

    /// Frees a cgroup that is offline. When it returns, nothing of it is left behind: its records and their
    /// charges are its parent's, the statistics have moved by as many on both sides, and its id is free
    /// for the next [`create`](Self::create). The cgroup's memsw counter is the hint that ends the
    /// hand-over, so that where nothing is left nothing is looked for.
    ///
    /// Waits for the operations on pages that are under way, twice; for none that begins later.
    ///
    /// # Errors
    ///
    /// [`Busy`](MemcgError::Busy) while the cgroup has pages in memory;
    /// [`HasChildren`](MemcgError::HasChildren) while it has any; [`Online`](MemcgError::Online);
    /// [`IsRoot`](MemcgError::IsRoot); [`Dying`](MemcgError::Dying); [`Gone`](MemcgError::Gone).
    pub fn css_free(&self, memcg: Memcg) -> Result<Migrated, MemcgError> {
        let id = memcg.id();
        let (slot, parent) = {
            let _tree = self.tree.lock();
            let (slot, parent) = self.mortal(memcg)?;
            if slot.state() == State::Online {
                return Err(MemcgError::Online { id });
            }
            let Children { any: children, .. } = slot.children();
            if children > 0 {
                return Err(MemcgError::HasChildren { id, children });
            }
            slot.set_dying(true);
            slot.set_state(State::Freeing);
            (slot, parent)
        };
        // Whoever began before that is done: nobody writes a record of this id any more, and nobody has
        // pages of this cgroup in hand. So if it has none now, it never will.
        self.synchronize();
        let pages = slot.used();
        if pages > 0 {
            let _tree = self.tree.lock();
            slot.set_state(State::Offline);
            slot.set_dying(false);
            return Err(MemcgError::Busy { id, pages });
        }
        {
            let _tree = self.tree.lock();
            slot.set_state(State::Free);
        }
        let migrated = self.hand_over(id, slot, parent, None);
        // Whoever found the id in a record is done with it.
        self.synchronize();
        debug_assert_eq!((slot.memory.usage(), slot.memsw.usage()), (0, 0));
        debug_assert_eq!((slot.used(), slot.swap()), (0, 0));
        let mut ids = self.tree.lock();
        slot.set_dying(false);
        self.change_children(parent, |children| children.any -= 1);
        ids.free(id);
        Ok(migrated)
    }

    /// The slot of a cgroup that is there and may go, and its parent. Under the tree's mutex.
    fn mortal(&self, memcg: Memcg) -> Result<(&Slot, MemcgId), MemcgError> {
        let slot = self.live(memcg)?;
        let parent = slot.parent().ok_or(MemcgError::IsRoot)?;
        if slot.dying() {
            return Err(MemcgError::Dying { id: memcg.id() });
        }
        Ok((slot, parent))
    }

    /// Under the tree's mutex.
    fn change_children(&self, id: MemcgId, change: impl FnOnce(&mut Children)) {
        if let Some(slot) = self.slots.get(id) {
            let mut children = slot.children();
            change(&mut children);
            slot.set_children(children);
        }
    }

    /// Waits until every operation that was under way is done.
    fn synchronize(&self) {
        self.grace.synchronize();
        // Charges are in no section, but under the lock of a shard.
        self.shards.each().for_each(drop);
    }

    /// Hands records to the parent, and then what is charged for them.
    ///
    /// The hint: memsw of a cgroup without descendants counts its own pages in memory and its records, so
    /// it is never less than the records. A record is charged before it is written and uncharged
    /// after it is cleared, and what this migration moves is not taken out before it has ended.
    fn hand_over(
        &self,
        id: MemcgId,
        slot: &Slot,
        parent: MemcgId,
        budget: Option<u64>,
    ) -> Migrated {
        let hint = || slot.memsw.usage();
        let mut migration = self.records.migration(id, parent).memsw_hint(&hint);
        let migrated = match budget {
            None => migration.run(),
            Some(0) => migration.so_far(),
            Some(budget) => {
                let _ = migration.step(budget);
                migration.so_far()
            }
        };
        let moved = migrated.moved;
        if moved > 0 {
            slot.add_swap(-moved.cast_signed());
            if let Some(of_parent) = self.slots.get(parent) {
                of_parent.add_swap(moved.cast_signed());
            }
            // The parent's counter has them already.
            slot.memsw.uncharge(moved);
        }
        migrated
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
        assert!(!slot.dying());
        slot.set_dying(true);
        let dying = MemcgError::Dying { id: child.id() };
        assert_eq!(memcgs.css_offline(child, 0), Err(dying));
        assert_eq!(memcgs.css_free(child), Err(dying));
        slot.set_dying(false);
        assert!(memcgs.css_free(child).is_ok() && !slot.dying());
    }
}
