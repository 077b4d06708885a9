//! Begins where another manager was killed. It finds the records, a word for each page, the bytes in memory
//! and in the swapfile, and the guests, which wait or go on. It makes everything else from these.
//!
//! The rules that every step of a manager keeps, so that this can be done after any of them, are in
//! `docs/manager.md`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use swap_records::{MemcgId, Run};

use crate::admit::has_ended;
use crate::books::{Books, Piece, entry};
use crate::manager::{Guest, Manager};
use crate::memory::Memory;
use crate::page::State;
use crate::stats::Count;
use crate::step::Step;
use crate::tree::Tree;
use crate::{Result, index};

/// What the records and the words of all pages say.
struct Found {
    /// The owner that the record of each slot has.
    owners: Vec<Option<MemcgId>>,
    /// Guests whose end was under way, or is to come.
    ended: HashSet<MemcgId>,
    /// Slots that have a page.
    named: Vec<bool>,
    /// Pages in memory of each owner.
    charged: HashMap<MemcgId, u64>,
}

impl Manager<Tree> {
    /// Restores slots, charges and limits, and finishes or takes back what was under way. No other thread is
    /// at work yet.
    pub(crate) fn recover(&self, guests: &[Arc<Guest>]) -> Result<()> {
        let mut found = Found {
            owners: vec![None; index(self.options.slots())],
            ended: HashSet::new(),
            named: vec![false; index(self.options.slots())],
            charged: HashMap::new(),
        };
        self.books.seldom(|tree| {
            for run in tree.runs() {
                // The runs lie in the swapfile, so there is an owner for each slot.
                for slot in run.slots() {
                    found.owners[index(slot.offset())] = Some(run.id);
                }
            }
        });
        for guest in guests {
            if has_ended(guest)? {
                found.ended.insert(guest.id);
            }
        }
        self.recover_memory(&self.region, false, &mut found)?;
        for guest in guests {
            let ended = found.ended.contains(&guest.id);
            self.recover_memory(&guest.private, ended, &mut found)?;
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
            // The manager before may have read a fault and not served it. All threads that wait ask again.
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
            match self.recover_page(memory, at, ended, found)? {
                State::Swap { slot, .. } => {
                    let named = &mut found.named[index(slot)];
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

    /// Brings a page to a state that is not on the way to another, and returns it.
    fn recover_page(
        &self,
        memory: &Memory,
        at: usize,
        ended: bool,
        found: &mut Found,
    ) -> Result<State> {
        let page = memory.lock(at);
        let host = self.books.host();
        let (State::Filling { slot, owner } | State::Swap { slot, owner }) = page.state() else {
            return Ok(page.state());
        };
        let recorded = *found
            .owners
            .get(index(slot))
            .ok_or_else(|| format!("page {at} is in slot {slot}, past the end of the swapfile"))?;
        if let Some(recorded) = recorded
            && recorded != owner
            && !(recorded == host && found.ended.contains(&owner))
        {
            return Err(format!(
                "slot {slot} has a record of {recorded}, and page {at}, which is in it, is one of {owner}"
            )
            .into());
        }
        if let State::Filling { .. } = page.state() {
            self.stats.add(Count::OnTheirWay, 1);
            self.steps.at(Step::Repaired);
            let known = self.books.held(owner).ok().map(|_| owner);
            let owner = recorded.or(known).unwrap_or(host);
            if memory.is_present(at)? {
                // A guest may have written to it. The record, if it is there still, names a slot without a
                // page.
                page.set(State::Memory(owner));
            } else {
                if recorded.is_none() {
                    self.books.charge(owner, 1)?;
                    self.books
                        .swap_out(owner, Piece::Scattered(&[entry(slot)?]))?;
                    found.owners[index(slot)] = Some(owner);
                }
                page.set(State::Swap { slot, owner });
            }
        } else if recorded.is_none() {
            if !ended {
                return Err(format!(
                    "page {at} is lost: it is in slot {slot}, which has no record"
                )
                .into());
            }
            // The manager before was freeing all that this guest had.
            page.set(State::Untouched);
        } else if let Some(owner) = recorded {
            // The manager before had removed the guest, and was naming the host in the words.
            page.set(State::Swap { slot, owner });
        }
        Ok(page.state())
    }

    /// Frees records of slots that no page is in, and marks the others as in use.
    fn recover_slots(&self, found: &Found) -> Result<()> {
        let tree = &self.books.books;
        // docs: orphans
        // Slots of evictions that were not finished: the pages are still in memory, and no page needs the
        // copies.
        let recorded = tree.runs().flat_map(Run::slots);
        let orphans: Vec<_> = recorded
            .filter(|slot| !found.named[index(slot.offset())])
            .collect();
        let undone = self.books.free(&orphans, self.books.host())?;
        let mut slots = self.slots.lock();
        for run in tree.runs() {
            slots.mark(run.start.offset()..run.start.offset() + run.len)?;
        }
        // docs: end
        self.stats.add(Count::Undone, undone.owned + undone.others);
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
