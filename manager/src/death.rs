//! Takes back the pages of a guest that has ended: frees those of its own memory, and gives those of the
//! region to the host.

use swap_records::MemcgId;

use crate::Result;
use crate::books::{Books, Freed, entry};
use crate::manager::{Guest, Manager};
use crate::memory::Page;
use crate::page::State;
use crate::stats::Count;
use crate::step::Step;
use crate::wire::Kind;

/// Pages of the region that are locked and moved together, at most.
const MOVED_TOGETHER: usize = 64;

impl<B: Books> Manager<B> {
    /// Takes back all pages of a guest that has ended. If the manager is killed meanwhile, its successor
    /// begins anew.
    pub(crate) fn bury(&self, guest: &Guest) -> Result<()> {
        let _change = self.change.lock();
        self.guests.write().remove(&guest.id);
        self.books.offline(guest.id)?;
        let freed = self.free_private(guest)?;
        let moved = self.move_region(guest)?;
        let migrated = self.books.remove(guest.id)?;
        self.steps.at(Step::Removed);
        self.rename_region(guest);
        self.slots.lock().leave(guest.number);
        // After the last use of the id, and before another guest gets it.
        self.keeper.tell(Kind::Drop, &[guest.number], None, None)?;
        self.stats.add(Count::Died, 1);
        self.stats.add(Count::Migrated, migrated);
        self.stats.add(Count::Moved, moved);
        self.stats.add(Count::Freed, freed);
        Ok(())
    }

    /// Frees all pages of the guest's own memory. Returns the number of slots.
    fn free_private(&self, guest: &Guest) -> Result<u64> {
        let (mut slots, mut places) = (Vec::new(), Vec::new());
        let (mut in_memory, mut owned) = (0, 0);
        for at in 0..guest.private.len() {
            let page = guest.private.lock(at);
            match page.state() {
                State::Untouched => {}
                State::Memory(_) => {
                    page.set(State::Untouched);
                    in_memory += 1;
                    self.steps.at(Step::Uncharged);
                }
                State::Swap { slot, owner } => {
                    slots.push(entry(slot)?);
                    places.push(at);
                    owned += u64::from(owner == guest.id);
                }
                State::Filling { .. } => {
                    return Err("a page of a guest that has ended is on its way".into());
                }
            }
        }
        if let Some(at) = guest.private.not_punched(in_memory, &places)? {
            let number = guest.number;
            return Err(format!("page {at} of guest {number} was evicted and is in memory").into());
        }
        self.books.uncharge(guest.id, in_memory)?;
        self.went(guest.id, in_memory);
        // docs: batch
        // In order, so that slots in a row are freed as ranges.
        slots.sort_unstable_by_key(|slot| slot.offset());
        let freed = self.books.free(&slots, guest.id)?;
        self.steps.at(Step::Cleared);
        // The slots are free for other pages only after no word names them. So no slot ever has two pages.
        for &at in &places {
            guest.private.lock(at).set(State::Untouched);
            self.steps.at(Step::Freed);
        }
        let mut free = self.slots.lock();
        for slot in &slots {
            free.free(slot.offset())?;
        }
        // docs: end
        // Those that were evicted while the guest went offline are the host's.
        let others = slots.len() as u64 - owned;
        if freed != (Freed { owned, others }) {
            return Err(format!(
                "guest {} had {owned} slots of its own and {others} of the host: {freed:?}",
                guest.number,
            )
            .into());
        }
        Ok(owned + others)
    }

    /// Makes pages of the region that are in memory and charged to the guest the host's. Returns how many.
    fn move_region(&self, guest: &Guest) -> Result<u64> {
        let (mut moved, mut pages) = (0, Vec::new());
        for at in 0..self.region.len() {
            if !may_be_charged(self.region.peek(at), guest.id) {
                continue;
            }
            // A thread that has a page must not wait for another one.
            let page = match self.region.try_lock(at) {
                Some(page) => page,
                None => {
                    moved += self.move_to_host(guest, &mut pages)?;
                    self.region.lock(at)
                }
            };
            if page.state() == State::Memory(guest.id) {
                pages.push(page);
            }
            if pages.len() == MOVED_TOGETHER {
                moved += self.move_to_host(guest, &mut pages)?;
            }
        }
        Ok(moved + self.move_to_host(guest, &mut pages)?)
    }

    /// Makes these pages the host's, and unlocks them. Returns how many.
    fn move_to_host(&self, guest: &Guest, pages: &mut Vec<Page<'_>>) -> Result<u64> {
        let (nr, host) = (pages.len() as u64, self.books.host());
        // docs: move
        // The crate cannot know whose pages these are. They are locked, so no thread charges or uncharges
        // them meanwhile.
        self.books.move_to_host(guest.id, nr)?;
        for page in pages.drain(..) {
            page.set(State::Memory(host));
            self.steps.at(Step::Moved);
        }
        // docs: end
        self.went(guest.id, nr);
        self.came(host, nr);
        Ok(nr)
    }

    /// Names the host in the words of pages whose records the host has got, before another guest gets the id.
    fn rename_region(&self, guest: &Guest) {
        let host = self.books.host();
        for at in 0..self.region.len() {
            let names = |state| match state {
                State::Swap { owner, .. } | State::Filling { owner, .. } => owner == guest.id,
                State::Untouched | State::Memory(_) => false,
            };
            if !names(self.region.peek(at)) {
                continue;
            }
            let page = self.region.lock(at);
            if let State::Swap { slot, owner } = page.state()
                && owner == guest.id
            {
                page.set(State::Swap { slot, owner: host });
            }
        }
    }
}

/// Whether a page that was in this state after the cgroup went offline may be in memory and charged to it
/// once it is locked.
fn may_be_charged(state: State, id: MemcgId) -> bool {
    match state {
        State::Memory(owner) => owner == id,
        // Another guest's fault: it may have been charged before, to the owner of the record at that time.
        State::Filling { .. } => true,
        // From here on it is charged to others.
        State::Untouched | State::Swap { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_on_its_way_when_its_owner_dies_is_waited_for() {
        let [dying, other] = [3, 4].map(|id| MemcgId::new(id).unwrap());
        for owner in [dying, other] {
            assert!(may_be_charged(State::Filling { slot: 7, owner }, dying));
        }
        assert!(may_be_charged(State::Memory(dying), dying));
        assert!(!may_be_charged(State::Memory(other), dying));
        assert!(!may_be_charged(
            State::Swap {
                slot: 7,
                owner: dying
            },
            dying
        ));
    }
}
