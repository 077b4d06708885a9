//! Pages that go to swap, and records that are freed.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::in_hand::{Charge, Pages, Unsettled, With};
use super::shard::Stock;
use super::slot::{Slot, State};
use crate::entry::{Run, SwapEntry};
use crate::error::EntryError;
use crate::runs::Joined;
use crate::span::{Piece, Span};

impl<L: RawMutex> Memcgs<L> {
    /// Swaps `nr` pages of the cgroup out to as many slots from `start` on: memory is uncharged, memsw
    /// stays, swap is charged, the records are written. Only a limit of swap can refuse; then the pages stay in memory.
    ///
    /// Gives the cgroup that owns the records: `memcg`, or where that is offline, its first ancestor that is
    /// online, to which the charge moves; so a dying cgroup gets no new records, as in the kernel. A slot
    /// must be the caller's own to write to, as one from a swap allocator is. If another thread gives it an
    /// owner at that very moment, that owner is uncharged as if it had been freed.
    ///
    /// # More than one region
    ///
    /// The slots are checked and the pages taken before anything is written. Then one region after the other is
    /// written, [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots at most, and `css_free` and `swapoff` wait for one of
    /// them only. Until the end, `css_free` refuses the cgroup as [`Busy`](MemcgError::Busy), as it does for any page
    /// in memory. Where the cgroup goes offline meanwhile, it owns what was written by then, and an
    /// ancestor, which is the one that is given, owns the rest.
    ///
    /// # Errors
    ///
    /// [`NotCharged`](MemcgError::NotCharged) where the cgroup itself has fewer pages in memory;
    /// [`OverLimit`](MemcgError::OverLimit) of [`Swap`](super::Resource::Swap), of the owner or an ancestor of it;
    /// [`Occupied`](MemcgError::Occupied); [`Entry`](MemcgError::Entry) where the range is not in a swapfile
    /// that is on, or where there is no page for its slots (without the feature `std`); [`Gone`](MemcgError::Gone). Then nothing has changed, but in one case: where another thread turns
    /// the swapfile off between two regions, the slots below the offset in the error have gone with the swapfile, as if
    /// they had been swapped out before, and the other pages are in memory.
    pub fn swap_out(&self, memcg: Memcg, start: SwapEntry, nr: u64) -> Result<Memcg, MemcgError> {
        let slot = self.slot(memcg)?;
        if slot.state_of(memcg) == State::Free {
            return Err(MemcgError::Gone { memcg });
        }
        let mut span = self.records.span(start, nr)?;
        if let Some((entry, owner)) = span.first_record()? {
            return Err(MemcgError::Occupied { entry, owner });
        }
        if span.is_in_one_region() {
            span.make(memcg.id().get())?;
            return self.section_while_live(memcg, |slot| {
                // In this order: what is charged here and given back could be in the way of others. From the charge
                // on, nothing refuses: a swapoff that begins now waits for this section.
                let mut pages = self.take_pages(memcg, slot, nr, &span)?;
                let mut charge = self.charge_slots(memcg, nr)?;
                self.write(span, memcg, &mut pages, &mut charge)
            });
        }
        // What is kept of the cgroup keeps its ancestors as well, one of which may be charged for the records.
        let (mut pages, mut charge) = self.section_while_live(memcg, |slot| {
            let mut pages = self.take_pages(memcg, slot, nr, &span)?;
            let charge = self.charge_slots(memcg, nr)?;
            pages.keep();
            Ok((pages, charge))
        })?;
        // Where it is refused, what is in hand goes back. (For another owner, it is made as far as it matters.)
        span.make(memcg.id().get())?;
        let mut owner = memcg;
        while let Some(region) = span.take_region() {
            owner = self.section_while_live(memcg, |_| {
                if self.is_stopping(&region) {
                    return Err(region.off().into());
                }
                charge.rise();
                self.write(region, memcg, &mut pages, &mut charge)
            })?;
        }
        Ok(owner)
    }

    /// Takes the records of `nr` slots from `start` on away, and uncharges whoever owns them at that
    /// moment: memsw and the swap statistic. Slots without a record are left alone.
    ///
    /// Gives how many records there were. Needs no memory. [`free_swap_with`](Self::free_swap_with) says whose they
    /// were.
    ///
    /// # Errors
    ///
    /// As for [`free_swap_with`](Self::free_swap_with).
    pub fn free_swap(&self, start: SwapEntry, nr: u64) -> Result<u64, MemcgError> {
        self.free_swap_with(start, nr, |_| ())
    }

    /// As [`free_swap`](Self::free_swap), and calls `each` with every [`Run`] of owners that were uncharged, in the order
    /// of their offsets, as [`clear_range_with`](crate::SwapRecords::clear_range_with) does.
    ///
    /// `each` is called with no lock held, and may use the tree. Nobody waits for it: by then, the owner of a run may be
    /// gone.
    ///
    /// # Errors
    ///
    /// [`Entry`](MemcgError::Entry) where the range is not in a swapfile that is on; then nothing has changed. Where
    /// another thread turns it off meanwhile, nothing is lost: `each` was told about all that this one uncharged, the
    /// slots below the offset in the error, and that thread uncharges the rest.
    ///
    /// # Panics
    ///
    /// If `each` does. What was freed by then is uncharged, told or not.
    pub fn free_swap_with(
        &self,
        start: SwapEntry,
        nr: u64,
        each: impl FnMut(Run),
    ) -> Result<u64, MemcgError> {
        let span = self.records.span(start, nr)?;
        Ok(self.free(span, each)?)
    }

    /// Frees what is in the span, a piece of a region in each section.
    pub(super) fn free(
        &self,
        mut span: Span<'_, L>,
        each: impl FnMut(Run),
    ) -> Result<u64, EntryError> {
        let (ty, backend) = (span.swap_type(), self.records.backend());
        let mut piece = Piece::new();
        let mut runs = Joined::new(each);
        let mut freed = 0;
        let done = loop {
            if let Err(off) = span.skip_empty() {
                break Err(off);
            }
            if span.is_empty() {
                break Ok(freed);
            }
            {
                let _section = self.grace.section();
                let unsettled = Unsettled::new(self, ty, &mut piece, With::Nothing);
                if let Err(off) = span.set(backend, 0, unsettled.piece) {
                    break Err(off);
                }
                unsettled.settle();
            }
            freed += piece.records();
            piece.runs(ty).for_each(|run| runs.push(run));
        };
        runs.end();
        done
    }

    /// Takes pages of the cgroup in hand, to be written to the span. In a section.
    fn take_pages<'a>(
        &'a self,
        memcg: Memcg,
        slot: &'a Slot,
        nr: u64,
        span: &Span<'_, L>,
    ) -> Result<Pages<'a>, MemcgError> {
        if self.is_stopping(span) {
            return Err(span.off().into());
        }
        let mut pages = Pages::none(memcg.id(), slot);
        self.take(memcg, slot, nr, Stock::default(), false, || pages.nr = nr)?;
        Ok(pages)
    }

    /// Writes as many of the pages as there are slots, which are in one region. Gives the cgroup that owns them. In a
    /// section that began before a swapoff of theirs did.
    fn write<'a>(
        &'a self,
        mut span: Span<'_, L>,
        memcg: Memcg,
        pages: &mut Pages<'a>,
        charge: &mut Charge<'a, L>,
    ) -> Result<Memcg, MemcgError> {
        let id = charge.id;
        let owner = self.slots.get(id).and_then(|slot| slot.memcg(id));
        let (ty, backend) = (span.swap_type(), self.records.backend());
        let mut piece = Piece::new();
        while !span.is_empty() {
            let unsettled =
                Unsettled::new(self, ty, &mut piece, With::Out(&mut *pages, &mut *charge));
            span.set(backend, id.get(), unsettled.piece)?;
            unsettled.settle();
        }
        owner.ok_or(MemcgError::Gone { memcg })
    }

    /// Charges swap for so many records to the cgroup itself if it is online, or to its first ancestor that is, and so to
    /// who will own them. In a section in which it is there.
    pub(super) fn charge_slots(&self, memcg: Memcg, nr: u64) -> Result<Charge<'_, L>, MemcgError> {
        loop {
            let owner = self.online_up(memcg.id());
            let owner = owner.ok_or(MemcgError::Gone { memcg })?;
            // It may go offline in between.
            if let Some(charge) = self.charge_part(owner, 0, 0, nr)? {
                return Ok(charge);
            }
        }
    }
}
