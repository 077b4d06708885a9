//! A manager that begins where another one was killed. What it finds: the records, a word for each page, the bytes in
//! memory and in the swapfile, and the guests, which wait or go on. All else it makes from these.
//!
//! The rules that every step of a manager keeps, so that this can be done after any of them, are in `docs/manager.md`.

use std::collections::HashMap;
use std::sync::Arc;

use swap_records::MemcgId;

use crate::admit::has_ended;
use crate::books::{Books, entry};
use crate::manager::{Guest, Manager};
use crate::memory::Memory;
use crate::page::State;
use crate::stats::Count;
use crate::step::Step;
use crate::tree::Tree;
use crate::{Result, index};

/// What the words of all pages say.
struct Found {
    /// Slots that have a page.
    named: Vec<bool>,
    /// Pages in memory of each owner.
    charged: HashMap<MemcgId, u64>,
}

impl Manager<Tree> {
    /// Makes slots, charges and limits as they were, and finishes or takes back what was under way. No other thread is at
    /// work yet.
    pub(crate) fn recover(&self, guests: &[Arc<Guest>]) -> Result<()> {
        let mut found = Found {
            named: vec![false; index(self.options.slots())],
            charged: HashMap::new(),
        };
        self.recover_memory(&self.region, false, &mut found)?;
        for guest in guests {
            self.recover_memory(&guest.private, has_ended(guest)?, &mut found)?;
        }
        self.recover_slots(&found)?;
        self.steps.at(Step::Marked);
        for (&owner, &nr) in &found.charged {
            self.books.charge(owner, nr)?;
            self.came(owner, nr);
        }
        self.guests
            .write()
            .extend(guests.iter().map(|guest| (guest.id, guest.clone())));
        for guest in guests {
            // Those that were on their way out are in memory again, and may be too many now.
            while !self.books.limit(guest.id, self.options.limit())? {
                self.evict(guest.id, Some(guest), 32)?;
            }
        }
        self.recover_limit_of_host()?;
        self.steps.at(Step::Limited);
        for guest in guests {
            // The one before may have read a fault and not have served it. All that wait ask again.
            guest
                .uffd
                .wake(guest.base, (guest.private.len() * crate::PAGE) as u64)?;
            guest
                .uffd
                .wake(guest.region_base, (self.region.len() * crate::PAGE) as u64)?;
        }
        Ok(())
    }

    fn recover_limit_of_host(&self) -> Result<()> {
        let host = self.books.host();
        while !self.books.limit(host, self.options.limit_of_all())? {
            self.make_room(host, 0)?;
        }
        Ok(())
    }

    /// Goes through the words of a memory.
    fn recover_memory(&self, memory: &Memory, ended: bool, found: &mut Found) -> Result<()> {
        let mut swapped = 0;
        for at in 0..memory.len() {
            match self.recover_page(memory, at, ended)? {
                State::Swap(slot) => {
                    let named = found
                        .named
                        .get_mut(index(slot))
                        .ok_or("a page is in a slot past the swapfile")?;
                    if std::mem::replace(named, true) {
                        return Err(format!("two pages are in slot {slot}").into());
                    }
                    swapped += 1;
                    continue;
                }
                State::Memory(owner) => *found.charged.entry(owner).or_default() += 1,
                State::Untouched | State::Filling { .. } => {}
            }
            give_back(memory, at, &mut swapped)?;
        }
        give_back(memory, memory.len(), &mut swapped)
    }

    /// Brings a page to a state that is not on the way to another, and gives it.
    fn recover_page(&self, memory: &Memory, at: usize, ended: bool) -> Result<State> {
        let page = memory.lock(at);
        match page.state() {
            State::Filling { slot, owner } => {
                self.stats.add(Count::OnTheirWay, 1);
                self.steps.at(Step::Repaired);
                let recorded = self.books.owner(entry(slot)?);
                let known = self.books.held(owner).ok().map(|_| owner);
                let owner = recorded.or(known).unwrap_or(self.books.host());
                if memory.is_present(at)? {
                    // A guest may have written to it. The record, if it is there still, names a slot without a page.
                    page.set(State::Memory(owner));
                } else {
                    if recorded.is_none() {
                        self.books.charge(owner, 1)?;
                        self.books.swap_out(owner, &[entry(slot)?])?;
                    }
                    page.set(State::Swap(slot));
                }
            }
            State::Swap(slot) if self.books.owner(entry(slot)?).is_none() => {
                if !ended {
                    return Err(format!(
                        "page {at} is lost: it is in slot {slot}, which has no record"
                    )
                    .into());
                }
                // The one before was freeing all that this guest had.
                page.set(State::Untouched);
            }
            State::Untouched | State::Memory(_) | State::Swap(_) => {}
        }
        Ok(page.state())
    }

    /// Frees records of slots that no page is in, and marks the others as in use.
    fn recover_slots(&self, found: &Found) -> Result<()> {
        let tree = &self.books.books;
        // docs: orphans
        let mut orphans = Vec::new();
        for run in tree.runs() {
            let slots = (0..run.len).filter_map(|at| run.start.checked_add(at));
            orphans.extend(slots.filter(|slot| !found.named[index(slot.offset())]));
        }
        // Evictions that were not finished: the pages are in memory still, and nobody needs the copies.
        let undone = self.books.free(&orphans)?;
        let mut slots = self.slots.lock();
        for run in tree.runs() {
            slots.mark(run.start.offset()..run.start.offset() + run.len)?;
        }
        // docs: end
        self.stats.add(Count::Undone, undone);
        let named = found.named.iter().filter(|&&named| named).count() as u64;
        if slots.used() != named {
            return Err(format!(
                "{named} pages are in slots, {} slots have a record",
                slots.used()
            )
            .into());
        }
        Ok(())
    }
}

/// Finishes the evictions of `nr` pages before `end`: their memory goes back, if it has not.
fn give_back(memory: &Memory, end: usize, nr: &mut usize) -> Result<()> {
    if *nr > 0 {
        memory.punch(end - *nr, *nr)?;
        *nr = 0;
    }
    Ok(())
}
