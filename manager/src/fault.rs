//! Serves faults: a guest has touched a page that is not there, or has written to one that is protected.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use swap_records::MemcgId;

use crate::books::{Books, Refused, entry};
use crate::manager::{Clock, Guest, Manager, Place};
use crate::memory::{Memory, Page};
use crate::page::State;
use crate::stats::Count;
use crate::step::Step;
use crate::timed::nanoseconds;
use crate::uffd::{Done, Fault};
use crate::{PAGE, Result};

/// The most rounds of the hand for which a page stays that comes back soon after each eviction.
const MOST_ROUNDS: u8 = 5;
/// If a guest is this near to its limit, the manager evicts some of its pages after a fault.
const NEAR: u64 = 32;
/// Pages that are evicted together at most.
pub(crate) const BATCH: usize = 32;

static ZEROS: [u8; PAGE] = [0; PAGE];

impl<B: Books> Manager<B> {
    /// Serves a fault, and then makes room for the next one.
    pub(crate) fn serve(&self, guest: &Guest, fault: Fault) -> Result<()> {
        let start = Instant::now();
        let place = guest.place(fault.address, &self.region);
        let place = place.ok_or_else(|| {
            format!(
                "guest {} has no memory at {:#x}",
                guest.number, fault.address
            )
        })?;
        let mut full = 0;
        let payer = loop {
            match self.try_serve(guest, place, fault) {
                Ok(payer) => break payer,
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Full(id)) => self.make_room(id, full)?,
            }
            full += 1;
        };
        self.stats.latency(nanoseconds(start));
        self.stats.add(Count::Faults, 1);
        self.stats.add(Count::Protected, u64::from(fault.protected));
        self.stats.add(Count::Reclaimed, u64::from(full > 0));
        // The guest goes on meanwhile.
        if payer == Some(guest.id) && self.resident(guest.id) + NEAR > self.options.limit() {
            self.evict(guest.id, Some(guest), BATCH)?;
        }
        Ok(())
    }

    /// Returns the owner that pays for the page, if the page was brought in.
    fn try_serve(
        &self,
        guest: &Guest,
        place: Place,
        fault: Fault,
    ) -> Result<Option<MemcgId>, Refused> {
        let (memory, at) = match place {
            Place::Private(at) => (&guest.private, at),
            Place::Region(at) => (&self.region, at),
        };
        let mut page = memory.lock(at);
        match page.state() {
            State::Untouched => {
                self.books.charge(guest.id, 1)?;
                self.steps.at(Step::Charged);
                // From here on the page has an owner, and a manager that finds it without bytes knows that
                // they are zeros.
                page.set(State::Memory(guest.id));
                self.steps.at(Step::Owned);
                self.came(guest.id, 1);
                self.fill(guest, place, &ZEROS)?;
                Ok(Some(guest.id))
            }
            State::Swap { slot, owner } => self
                .fault_in(guest, place, &mut page, slot, owner)
                .map(Some),
            // Another fault was served while this one waited; or it was never evicted, or no more.
            State::Memory(_) if fault.protected => {
                let address = guest.address(place);
                guest.uffd.unprotect(address, PAGE as u64)?;
                Ok(None)
            }
            State::Memory(_) => {
                self.fill(guest, place, &ZEROS)?;
                Ok(None)
            }
            State::Filling { .. } => {
                Err("a page is on its way to memory, and no thread has its lock".into())
            }
        }
    }

    fn fault_in(
        &self,
        guest: &Guest,
        place: Place,
        page: &mut Page<'_>,
        slot: u64,
        owner: MemcgId,
    ) -> Result<MemcgId, Refused> {
        let entry = entry(slot)?;
        // docs: fault
        let mut bytes = [0; PAGE];
        self.swapfile.read(slot, &mut bytes)?;
        // A manager that is killed from here on leaves a page whose bytes are in the slot, or in memory.
        page.set(State::Filling { slot, owner });
        self.steps.at(Step::Filling);
        let payer = self
            .books
            .swap_in(entry)
            .inspect_err(|_| page.set(State::Swap { slot, owner }))?;
        self.steps.at(Step::SwappedIn);
        self.fill(guest, place, &bytes)?;
        self.steps.at(Step::Filled);
        page.set(State::Memory(payer));
        self.steps.at(Step::InMemory);
        // Only now may another page have the slot.
        self.slots
            .lock()
            .free(slot)
            .map_err(|twice| twice.to_string())?;
        // docs: end
        self.check_payer(slot, owner, payer)?;
        self.came(payer, 1);
        self.stats.add(Count::Read, PAGE as u64);
        let clock = if payer == guest.id {
            &guest.clock
        } else {
            &self.host
        };
        self.warm(page, payer, clock);
        Ok(payer)
    }

    /// Checks that the record of a slot had the owner that the page's word names. While that owner's end is
    /// under way, the host may have the record.
    fn check_payer(&self, slot: u64, owner: MemcgId, payer: MemcgId) -> Result<()> {
        let lives = || self.guests.read().contains_key(&owner);
        if payer == owner || payer == self.books.host() && !lives() {
            return Ok(());
        }
        Err(format!(
            "slot {slot} has a page of {owner}, and {payer} is charged for it by its record"
        )
        .into())
    }

    /// Counts a page as hot if it came back before its owner had evicted as many others as it has in memory.
    /// The manager does not learn which pages a guest reads.
    fn warm(&self, page: &mut Page<'_>, payer: MemcgId, clock: &Clock) {
        let since = clock.evicted.load(Relaxed).wrapping_sub(page.heat.left_at);
        let heat = &mut page.heat;
        let soon = u64::from(since) < self.resident(payer);
        heat.had = if soon {
            (heat.had + 1).min(MOST_ROUNDS)
        } else {
            0
        };
        heat.rounds = heat.had;
    }

    /// Puts the bytes where the guest faulted, if no page is there, and wakes it.
    fn fill(&self, guest: &Guest, place: Place, bytes: &[u8; PAGE]) -> Result<()> {
        let address = guest.address(place);
        // Here and not in the caller: the word must be right immediately before the copy. If the page has only
        // zeros, no guest could see that the word was wrong.
        self.steps.at_if(Step::Copying, || *bytes != ZEROS);
        match guest.uffd.copy(address, bytes)? {
            Done::Yes => Ok(()),
            // Another guest's fault brought it in: the kernel maps it when this one tries again.
            Done::Exists => guest
                .uffd
                .wake(address, PAGE as u64)
                .map(|_| ())
                .map_err(Into::into),
            Done::Gone => match place {
                // No process reads it any more.
                Place::Private(_) => Ok(()),
                Place::Region(at) => self.fill_for_others(place, at, bytes),
            },
        }
    }

    /// Gives the page to another guest that has the region, since this guest has died.
    fn fill_for_others(&self, place: Place, at: usize, bytes: &[u8; PAGE]) -> Result<()> {
        let guests = self.guests.read();
        for other in guests.values() {
            if other.uffd.copy(other.address(place), bytes)? != Done::Gone {
                return Ok(());
            }
        }
        // No guest has the region, so none can see a page that is half written.
        if !self.region.is_present(at)? {
            self.region.file.write_all_at(bytes, (at * PAGE) as u64)?;
        }
        Ok(())
    }

    /// Evicts pages of an owner that has too many. If that is the host, evicts pages of the owner that has
    /// the most.
    pub(crate) fn make_room(&self, id: MemcgId, tries: u32) -> Result<()> {
        if tries > 100_000 {
            return Err(format!("owner {id} is full, and has no page that can be evicted").into());
        }
        let guest = {
            let guests = self.guests.read();
            let most = guests.values().max_by_key(|guest| self.resident(guest.id));
            match guests.get(&id).or(most) {
                Some(guest)
                    if id == guest.id
                        || self.resident(guest.id) > self.resident(self.books.host()) =>
                {
                    Some(guest.clone())
                }
                _ => None,
            }
        };
        let owner = guest.as_ref().map_or(self.books.host(), |guest| guest.id);
        if self.evict(owner, guest.as_deref(), BATCH)? == 0 {
            // Other threads are evicting these pages.
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Returns the memory of a page, and the page's number in it.
    pub(crate) fn memory<'a>(
        &'a self,
        guest: Option<&'a Guest>,
        place: Place,
    ) -> Result<(&'a Memory, usize)> {
        match (place, guest) {
            (Place::Region(at), _) => Ok((&self.region, at)),
            (Place::Private(at), Some(guest)) => Ok((&guest.private, at)),
            (Place::Private(_), None) => Err("the host has no memory of its own".into()),
        }
    }
}
