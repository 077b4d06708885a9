//! Swaps pages out to a range of slots, and frees ranges of slots.

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
    /// Swaps out `nr` pages of the cgroup to the `nr` slots from `start` on: memory shrinks, memsw stays,
    /// swap grows, and the slots get records.
    ///
    /// Returns the cgroup that owns the records. That is `memcg`, or its first online ancestor if `memcg` is
    /// offline; then the charges move to the ancestor too. So an offline cgroup gets no new records, as in
    /// the kernel. Only a limit of swap can refuse the call; the pages then stay in memory.
    ///
    /// The slots must belong to the caller, as slots from a swap allocator do. If another thread gives one of
    /// them an owner at the same moment, that owner is uncharged as if the slot had been freed.
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
    /// memcgs.charge(child, 16)?;
    /// assert_eq!(memcgs.swap_out(child, slot(64), 16)?, child);
    /// assert_eq!(memcgs.records().lookup(slot(79)), Some(child.id()));
    /// let usage = memcgs.usage(child)?;
    /// assert_eq!((usage.memory, usage.memsw, usage.swap), (0, 16, 16));
    ///
    /// let refused = memcgs.swap_out(child, slot(200), 1);
    /// assert!(matches!(refused, Err(MemcgError::NotCharged { charged: 0, .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # More than one region
    ///
    /// The slots are checked and the pages are taken before anything is written. Then the regions are written
    /// one by one, [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots at most in each. `css_offline`, `css_free`
    /// and `swapoff` wait for one of them only. Until the call returns, `css_free` refuses the cgroup as
    /// [`Busy`](MemcgError::Busy), as it does for any page in memory. If the cgroup goes offline meanwhile,
    /// it owns the slots written so far. Its online ancestor owns the rest, and the call returns this
    /// ancestor.
    ///
    /// # Errors
    ///
    /// - [`NotCharged`](MemcgError::NotCharged) if the cgroup has fewer than `nr` pages of its own in memory.
    /// - [`OverLimit`](MemcgError::OverLimit) if a [`Swap`](super::Resource::Swap) limit of the owner or of
    ///   an ancestor would be exceeded.
    /// - [`Occupied`](MemcgError::Occupied) if a slot has an owner.
    /// - [`Entry`](MemcgError::Entry) if the range is not in a swapfile that is on, or, without the feature
    ///   `std`, if a page for its slots cannot be allocated.
    /// - [`Gone`](MemcgError::Gone) if the cgroup was freed.
    ///
    /// A call that is refused has changed nothing, with one exception. If another thread turns the swapfile
    /// off between two regions, the slots below the offset in the error were swapped out and have gone with
    /// the swapfile. The other pages are in memory.
    ///
    /// # Cost
    ///
    /// The lock of a shard twice, and per region at least the lock of the region and the lock of a shard.
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
                // In this order: swap that is charged and given back could make another thread's charge fail.
                // From this charge on, nothing refuses the call: a swapoff that begins now waits for this
                // section.
                let mut pages = self.take_pages(memcg, slot, nr, &span)?;
                let mut charge = self.charge_slots(memcg, nr)?;
                self.write(span, memcg, &mut pages, &mut charge)
            });
        }
        // What the cgroup keeps also keeps its ancestors, one of which may be charged for the records.
        let (mut pages, mut charge) = self.section_while_live(memcg, |slot| {
            let mut pages = self.take_pages(memcg, slot, nr, &span)?;
            let charge = self.charge_slots(memcg, nr)?;
            pages.keep();
            Ok((pages, charge))
        })?;
        // If this is refused, the guards give back what is in hand. (An ancestor that becomes the owner may
        // lack a page of cells here. Its records are then counted in the spill cell: invariant 15.)
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

    /// Frees the `nr` slots from `start` on: clears their records, and uncharges memsw and swap of the cgroup
    /// that owns each of them at that moment. Slots without a record stay as they are.
    ///
    /// Returns the number of records that were cleared. It allocates nothing. To learn the owners, use
    /// [`free_swap_with`](Self::free_swap_with).
    ///
    /// # Errors
    ///
    /// As for [`free_swap_with`](Self::free_swap_with).
    pub fn free_swap(&self, start: SwapEntry, nr: u64) -> Result<u64, MemcgError> {
        self.free_swap_with(start, nr, |_| ())
    }

    /// Frees slots as [`free_swap`](Self::free_swap) does, and calls `each` with every [`Run`] of owners that
    /// were uncharged, in the order of their offsets, as
    /// [`clear_range_with`](crate::SwapRecords::clear_range_with) does.
    ///
    /// `each` is called with no lock held, and may use the tree. The owner of a run may have been freed by
    /// then, because `css_free` does not wait for `each`.
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
    /// memcgs.charge(parent, 4)?;
    /// memcgs.charge(child, 4)?;
    /// memcgs.swap_out(parent, slot(0), 4)?;
    /// memcgs.swap_out(child, slot(4), 4)?;
    ///
    /// let mut freed = Vec::new();
    /// memcgs.free_swap_with(slot(0), 100, |run| freed.push((run.id, run.len)))?;
    /// assert_eq!(freed, [(parent.id(), 4), (child.id(), 4)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Entry`](MemcgError::Entry) if the range is not in a swapfile that is on; nothing has changed then.
    /// If another thread turns the swapfile off meanwhile, this call returns the same error. No charge is
    /// lost: `each` was called for all records that this call uncharged, which are below the offset in the
    /// error. The other thread uncharges the rest.
    ///
    /// # Panics
    ///
    /// If `each` panics, or a lock of type `L` does. All records that were cleared by then are uncharged,
    /// including those that `each` was not called with.
    ///
    /// # Cost
    ///
    /// Per region that may have a record, at least the lock of the region and the lock of a shard. Whole
    /// regions without a record are skipped.
    pub fn free_swap_with(
        &self,
        start: SwapEntry,
        nr: u64,
        each: impl FnMut(Run),
    ) -> Result<u64, MemcgError> {
        let span = self.records.span(start, nr)?;
        Ok(self.free(span, each)?)
    }

    /// Frees the slots of the span, one piece of a region per section.
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

    /// Takes pages of the cgroup in hand, to be written to the span. The caller is in a section.
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

    /// Writes one page to each slot of the span, which lies in one region. Returns the cgroup that owns the
    /// records. The caller is in a section that began before a swapoff of that swapfile did.
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

    /// Charges swap for `nr` records to the cgroup, or to its first online ancestor: the cgroup that will own
    /// them. The caller is in a section in which the cgroup exists.
    pub(super) fn charge_slots(&self, memcg: Memcg, nr: u64) -> Result<Charge<'_, L>, MemcgError> {
        loop {
            let owner = self.online_up(memcg.id());
            let owner = owner.ok_or(MemcgError::Gone { memcg })?;
            // The owner may have gone offline in between.
            if let Some(charge) = self.charge_part(owner, 0, 0, nr)? {
                return Ok(charge);
            }
        }
    }
}
