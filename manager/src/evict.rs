//! Evicts pages of one owner: writes them to slots, and gives their memory back to the system.

use std::sync::atomic::Ordering::Relaxed;

use swap_records::MemcgId;

use crate::books::{Books, Piece, entry, pieces};
use crate::manager::{Clock, Guest, Guests, Manager, Place};
use crate::memory::Page;
use crate::page::State;
use crate::stats::Count;
use crate::step::Step;
use crate::{PAGE, Result, index};

impl<B: Books> Manager<B> {
    /// Evicts up to `most` pages that are charged to an owner: a guest's own, and those of the region.
    /// Returns how many.
    pub(crate) fn evict(
        &self,
        owner: MemcgId,
        guest: Option<&Guest>,
        most: usize,
    ) -> Result<usize> {
        let clock = guest.map_or(&self.host, |guest| &guest.clock);
        let private = guest.map_or(0, |guest| guest.private.len());
        let victims = self.choose(owner, guest, clock, private, most);
        if victims.is_empty() {
            return Ok(0);
        }
        let runs = runs(&victims);
        let mut bytes = vec![0; victims.len() * PAGE];
        let mut rest = &mut bytes[..];
        // docs: protect
        // No guest joins the region until its pages are out.
        let sharers = self.guests.read();
        for &(place, nr) in &runs {
            // From here on a write waits, in each process that has the pages. So the copy stays as good as
            // the page.
            self.protect(guest, &sharers, place, nr)?;
            let (here, behind) = rest.split_at_mut(nr * PAGE);
            let (memory, at) = self.memory(guest, place)?;
            memory.read(at, here)?;
            rest = behind;
        }
        // docs: end
        self.steps.at(Step::Protected);
        self.write_out(owner, guest, &victims, &bytes)?;
        self.steps.at(Step::Named);
        // docs: punch
        for (place, nr) in runs {
            let (memory, at) = self.memory(guest, place)?;
            // The memory goes back to the system. The next touch is a missing fault.
            memory.punch(at, nr)?;
            self.steps.at(Step::Punched);
        }
        // docs: end
        let nr = victims.len();
        let before = clock
            .evicted
            .fetch_add(u32::try_from(nr).unwrap_or(0), Relaxed);
        for (_, mut page) in victims {
            page.heat.left_at = before;
        }
        self.went(owner, nr as u64);
        self.stats.add(Count::Evicted, nr as u64);
        Ok(nr)
    }

    /// Writes these bytes of protected pages to slots, records the slots, and names them in the words of the
    /// pages.
    fn write_out(
        &self,
        owner: MemcgId,
        guest: Option<&Guest>,
        pages: &[(Place, Page<'_>)],
        mut bytes: &[u8],
    ) -> Result<()> {
        let key = guest.map_or(u64::MAX, |guest| guest.number);
        // docs: take
        let mut slots = Vec::with_capacity(pages.len());
        while slots.len() < pages.len() {
            let run = self
                .slots
                .lock()
                .take(key, (pages.len() - slots.len()) as u64);
            let run = run.ok_or("the swapfile is full")?;
            let (here, rest) = bytes.split_at(index(run.end - run.start) * PAGE);
            self.swapfile.write(run.start, here)?;
            slots.extend(run.map(entry).collect::<Result<Vec<_>>>()?);
            bytes = rest;
        }
        // docs: end
        self.steps.at(Step::Written);
        // docs: evict
        // In this order, and the memory of the pages goes last. So whenever the manager is killed, the bytes
        // are in memory, or in a slot that has a record.
        let mut unnamed = pages.iter();
        for piece in pieces(&slots) {
            let owner = self.books.swap_out(owner, piece)?;
            self.steps.at(Step::Recorded);
            for (slot, (_, page)) in piece.slots().iter().zip(&mut unnamed) {
                let slot = slot.offset();
                page.set(State::Swap { slot, owner });
                self.steps.at(Step::SomeNamed);
            }
        }
        // docs: end
        for piece in pieces(&slots) {
            if let Piece::Range(_, slots) = piece {
                self.stats.add(Count::InRanges, slots.len() as u64);
            }
        }
        self.stats.add(Count::Written, (pages.len() * PAGE) as u64);
        Ok(())
    }

    /// Turns the hand of the owner's clock until it has found as many pages that have no round left, or has
    /// been everywhere as often as a page has rounds. Returns the pages locked.
    fn choose<'a>(
        &'a self,
        owner: MemcgId,
        guest: Option<&'a Guest>,
        clock: &Clock,
        private: usize,
        most: usize,
    ) -> Vec<(Place, Page<'a>)> {
        let mut victims = Vec::with_capacity(most);
        // Of two threads that evict for the same owner, one is enough.
        let Some(mut hand) = clock.hand.try_lock() else {
            return victims;
        };
        let all = private + self.region.len();
        for _ in 0..7 * all {
            if victims.len() == most {
                break;
            }
            let place = match *hand {
                at if at < private => Place::Private(at),
                at => Place::Region(at - private),
            };
            *hand = if *hand + 1 < all { *hand + 1 } else { 0 };
            let Ok((memory, at)) = self.memory(guest, place) else {
                continue;
            };
            if memory.peek(at) != State::Memory(owner) {
                continue;
            }
            // A page that is victim already is locked, too.
            let Some(mut page) = memory.try_lock(at) else {
                continue;
            };
            if page.heat.rounds > 0 {
                page.heat.rounds -= 1;
            } else if page.state() == State::Memory(owner) {
                victims.push((place, page));
            }
        }
        victims
    }

    /// Protects these pages in every guest that has them: a write waits. From here on, a copy is as good as
    /// the page.
    fn protect(
        &self,
        guest: Option<&Guest>,
        sharers: &Guests,
        place: Place,
        nr: usize,
    ) -> Result<()> {
        let bytes = (nr * PAGE) as u64;
        if let (Place::Private(_), Some(guest)) = (place, guest) {
            guest.uffd.protect(guest.address(place), bytes)?;
            return Ok(());
        }
        for sharer in sharers.values() {
            sharer.uffd.protect(sharer.address(place), bytes)?;
        }
        Ok(())
    }
}

/// Joins pages that lie together: returns the first one of each run, and the length of the run.
fn runs(pages: &[(Place, Page<'_>)]) -> Vec<(Place, usize)> {
    let mut runs: Vec<(Place, usize)> = Vec::with_capacity(pages.len());
    for &(place, _) in pages {
        match runs.last_mut() {
            Some((first, nr)) if follows(*first, *nr, place) => *nr += 1,
            _ => runs.push((place, 1)),
        }
    }
    runs
}

/// Whether `next` is the page `nr` behind `place`.
fn follows(place: Place, nr: usize, next: Place) -> bool {
    match (place, next) {
        (Place::Private(at), Place::Private(next)) | (Place::Region(at), Place::Region(next)) => {
            at + nr == next
        }
        _ => false,
    }
}
