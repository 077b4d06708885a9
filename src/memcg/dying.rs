//! The end of a cgroup, in two parts: [`Memcgs::css_offline`] and [`Memcgs::css_free`].

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::slot::{Children, Slot, State};
use crate::id::MemcgId;
use crate::migrate::{Migrated, Migration, Step};

impl<L: RawMutex> Memcgs<L> {
    /// Takes a cgroup offline, and hands over to its parent as many of its records as a scan of `budget`
    /// entries allows ([`Migration::step`](crate::Migration::step)); at 0, none.
    ///
    /// Once this has returned, it gets no charges, children or records any more, whatever was under way: those of pages
    /// that are still in memory go to its first ancestor that is online. (Only a child of it, offline too, still leaves
    /// it its records and their charges when it is freed; its counters had them all along.) This is the part without hard
    /// requirements: it may leave records behind, and may be called again, for more of them. Statistics and
    /// charges follow the records.
    ///
    /// Waits for the operations on pages that are under way, for one region of long ones; for none that begins later.
    ///
    /// A caller that is about to free most of the records should pass a `budget` of 0: each record that this call moves is
    /// moved only to be freed. [`css_free`](Self::css_free) moves the records that are left.
    ///
    /// Gives what it moved and, in [`left_at_most`](Migrated::left_at_most), how many are left.
    ///
    /// # Errors
    ///
    /// [`IsRoot`](MemcgError::IsRoot); [`HasChildren`](MemcgError::HasChildren) where any of them is online;
    /// [`Dying`](MemcgError::Dying); [`Gone`](MemcgError::Gone).
    pub fn css_offline(&self, memcg: Memcg, budget: u64) -> Result<Migrated, MemcgError> {
        let id = memcg.id();
        let tree = self.tree.lock();
        let (slot, parent) = self.mortal(memcg)?;
        let Children { online, .. } = slot.children();
        if online > 0 {
            let children = online;
            return Err(MemcgError::HasChildren { id, children });
        }
        let _dying = Dying::begin(slot);
        if slot.state() == State::Online {
            slot.set_state(State::Offline);
            self.change_children(parent, |children| children.online -= 1);
        }
        drop(tree);
        // Whoever saw that it is online is done with it; then no stock of it is left, and none comes to be.
        self.synchronize(id);
        Ok(self.hand_over(id, slot, parent, Some(budget)))
    }

    /// Frees a cgroup that is offline. When it returns, nothing of it is left behind: its records and their
    /// charges are its parent's, the statistics have moved by as many on both sides, and its id is free
    /// for the next [`create`](Self::create). The cgroup's memsw counter is the hint that ends the
    /// hand-over, so that where nothing is left nothing is looked for.
    ///
    /// Waits for the operations on pages that are under way, twice, and for one region of long ones; for none that begins
    /// later.
    ///
    /// # Errors
    ///
    /// [`Busy`](MemcgError::Busy) while the cgroup has pages in memory, or an operation over several regions has some in
    /// hand; [`HasChildren`](MemcgError::HasChildren) while it has any; [`Online`](MemcgError::Online);
    /// [`IsRoot`](MemcgError::IsRoot); [`Dying`](MemcgError::Dying); [`Gone`](MemcgError::Gone).
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
        // From here on: offline again, if this ends before the cgroup is gone.
        let dying = Dying::begin(slot);
        slot.set_state(State::Freeing);
        drop(tree);
        // Whoever began before that is done: nobody writes a record of this id any more, and nobody has
        // pages of this cgroup in hand, but who keeps them. So if it has none now, it never will.
        self.synchronize(id);
        let kept = slot.kept();
        let pages = kept + slot.used();
        if pages > 0 {
            return Err(MemcgError::Busy { id, pages });
        }
        let tree = self.tree.lock();
        slot.set_state(State::Free);
        drop(tree);
        let migrated = self.hand_over(id, slot, parent, None);
        // Whoever found the id in a record is done with it.
        self.synchronize(id);
        debug_assert_eq!((slot.memory.usage(), slot.memsw.usage()), (0, 0));
        debug_assert_eq!((slot.used(), slot.swap(), slot.swapped.usage()), (0, 0, 0));
        let mut ids = self.tree.lock();
        dying.gone();
        self.change_children(parent, |children| children.any -= 1);
        ids.free(id);
        drop(ids);
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

    /// Waits until every operation that was under way is done, and takes the cgroup's stocks out of the shards. No lock
    /// may be held.
    fn synchronize(&self, id: MemcgId) {
        self.grace.synchronize();
        // Charges are in no section, but under the lock of a shard. It may also be that a css_offline before this one
        // was not able to end.
        for mut shard in self.shards.each() {
            self.settle_all(&mut shard, Some(id));
        }
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
        let migration = self.records.migration(id, parent).memsw_hint(&hint);
        let mut handed = HandedOver {
            migration: migration.max_hold(self.max_hold),
            slot,
            of_parent: self.slots.get(parent),
        };
        let migration = &mut handed.migration;
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

/// Marks a cgroup as one that a thread is in `css_offline` or `css_free` of, until this is dropped: then it is offline,
/// whatever became of it in between, and both can be called again.
struct Dying<'a>(&'a Slot);

impl<'a> Dying<'a> {
    /// Under the tree's mutex, if it is not marked already.
    fn begin(slot: &'a Slot) -> Self {
        slot.set_dying(true);
        Self(slot)
    }

    /// It was freed, and its slot is the next one's.
    fn gone(self) {
        self.0.set_dying(false);
        core::mem::forget(self);
    }
}

impl Drop for Dying<'_> {
    /// Without the tree's mutex, which may be what unwinds. Nobody else changes the state of a cgroup that is marked.
    fn drop(&mut self) {
        self.0.set_state(State::Offline);
        self.0.set_dying(false);
    }
}

/// The records that were moved are in the statistics and charges when this is dropped: of a hand-over that a lock
/// ended, those that it got to.
struct HandedOver<'a, L: RawMutex> {
    migration: Migration<'a, L>,
    slot: &'a Slot,
    of_parent: Option<&'a Slot>,
}

impl<L: RawMutex> Drop for HandedOver<'_, L> {
    fn drop(&mut self) {
        let moved = self.migration.moved();
        if moved > 0 {
            self.slot.add_swap(-moved.cast_signed());
            if let Some(of_parent) = self.of_parent {
                of_parent.add_swap(moved.cast_signed());
            }
            // The parent's counters have them already.
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
        assert!(!slot.dying());
        slot.set_dying(true);
        let dying = MemcgError::Dying { id: child.id() };
        assert_eq!(memcgs.css_offline(child, 0), Err(dying));
        assert_eq!(memcgs.css_free(child), Err(dying));
        slot.set_dying(false);
        assert!(memcgs.css_free(child).is_ok() && !slot.dying());
    }
}
