//! Swaps pages in: [`Memcgs::swap_in`] clears their slots, [`Memcgs::swap_in_cached`] keeps them.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::in_hand::{Charge, Unsettled, With};
use super::shard::Stock;
use super::slot::{Slot, State};
use crate::entry::{Run, SwapEntry, SwapType};
use crate::id::MemcgId;
use crate::span::{Piece, Span};

/// What happens to the slots whose pages are swapped in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slots {
    /// Their records are cleared, and the charges of the records become the charges of the pages.
    GivenUp,
    /// They keep a copy of the page, the record, and its charge.
    Kept,
}

impl<L: RawMutex> Memcgs<L> {
    /// Swaps in `nr` pages from the `nr` slots from `start` on, and clears the slots: memory grows, memsw
    /// stays, and swap shrinks, as in version 1 of memory cgroups.
    ///
    /// Returns the cgroup that is charged for the pages: the owner of the records, or its first online
    /// ancestor if the owner is offline. In the second case, cgroups below that ancestor lose memsw, and only
    /// memory of the ancestor and of those above it changes. (Linux up to 6.18 charges the reader in this
    /// case. Changes that were proposed in 2026 charge the parent.)
    ///
    /// One cgroup must pay for all pages, as it does for the pages of a folio. Only a limit of memory can
    /// refuse the call, because memsw includes the pages already. The slots must be the caller's to read
    /// from. Callers that keep a copy of the page in the slot use [`swap_in_cached`](Self::swap_in_cached).
    /// If `nr` is 0, nothing is charged or cleared, but the slot `start` must have a record.
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
    /// assert_eq!(memcgs.swap_in(slot(0), 3)?, child);
    /// let usage = memcgs.usage(child)?;
    /// assert_eq!((usage.memory, usage.memsw, usage.swap), (3, 4, 1));
    ///
    /// // The owner of the last record is offline, so its parent pays.
    /// memcgs.uncharge(child, 3)?;
    /// memcgs.css_offline(child, 0)?;
    /// assert_eq!(memcgs.swap_in(slot(3), 1)?, parent);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Long ranges
    ///
    /// The slots are checked and memory is charged before the first record is cleared. Records are cleared in
    /// pieces: a piece has up to 32 runs of owners in one region. `css_offline`, `css_free` and `swapoff`
    /// wait for one piece at most. If there are several, `css_free` refuses the cgroup as
    /// [`Busy`](MemcgError::Busy) until the call returns. If the cgroup goes offline meanwhile, its first
    /// online ancestor is charged for all of the pages, and is returned.
    ///
    /// # Errors
    ///
    /// - [`NoRecord`](MemcgError::NoRecord) if a slot has no record.
    /// - [`MixedOwners`](MemcgError::MixedOwners) if different cgroups would have to pay.
    /// - [`OverLimit`](MemcgError::OverLimit) if a limit of memory would be exceeded.
    /// - [`Entry`](MemcgError::Entry) if the slots are not in a swapfile that is on.
    ///
    /// A call that is refused has changed nothing, with two exceptions:
    ///
    /// - If another thread turns the swapfile off meanwhile, no memory is charged. Slots below the offset in
    ///   the error may have been freed before they went with the swapfile. If a third thread freed or moved some
    ///   of the slots, slots from the offset on may have been freed, too.
    /// - If another thread frees or moves some of the slots meanwhile, the other slots may now belong to the
    ///   cgroup that was to be charged, instead of to a descendant of it.
    ///
    /// # Cost
    ///
    /// Each piece takes the lock of the region twice and the lock of a shard once. The call takes the lock of a
    /// shard twice more.
    pub fn swap_in(&self, start: SwapEntry, nr: u64) -> Result<Memcg, MemcgError> {
        let looked_at = self.records.span(start, nr.max(1))?;
        let span = self.records.span(start, nr)?;
        loop {
            let payer = self.payer_of_all(looked_at)?;
            if let Some(charged) = self.try_come_in(span, payer, nr, Slots::GivenUp)? {
                return Ok(charged);
            }
        }
    }

    /// Swaps in `nr` pages from the `nr` slots from `start` on, and keeps the slots: memory and memsw grow by
    /// `nr`, and swap stays. The page is in the swap cache, and its slot has a copy.
    ///
    /// Returns the cgroup that is charged for the pages. It is the same as for [`swap_in`](Self::swap_in). A
    /// page and its slot are both charged to memsw until [`free_swap`](Self::free_swap), so memsw must have
    /// room for the pages. A long range is swapped in piece by piece, as there.
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
    /// assert_eq!(memcgs.swap_in_cached(slot(0), 4)?, child);
    /// assert_eq!(memcgs.usage(child)?.memsw, 8);
    /// // The pages are changed, so their copies are of no use any more.
    /// memcgs.free_swap(slot(0), 4)?;
    /// assert_eq!(memcgs.usage(child)?.memsw, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`swap_in`](Self::swap_in), and also [`OverLimit`](MemcgError::OverLimit) if a limit of memsw
    /// would be exceeded. From the moment another thread begins to turn the swapfile off, the call is refused
    /// with [`TypeOff`](crate::EntryError::TypeOff). A call that is refused has changed nothing.
    pub fn swap_in_cached(&self, start: SwapEntry, nr: u64) -> Result<Memcg, MemcgError> {
        let span = self.records.span(start, nr.max(1))?;
        loop {
            let payer = self.payer_of_all(span)?;
            if let Some(charged) = self.try_come_in(span, payer, nr, Slots::Kept)? {
                return Ok(charged);
            }
        }
    }

    /// Returns the cgroup that pays for the pages of all of these slots. Each slot must have a record, and
    /// the first online ancestor must be the same for all owners. Looks at one piece per section. No region's
    /// lock is held while it looks for the ancestors.
    fn payer_of_all(&self, span: Span<'_, L>) -> Result<Memcg, MemcgError> {
        let mut piece = Piece::new();
        'anew: loop {
            let mut payer = None;
            let mut rest = span;
            while !rest.is_empty() {
                let _section = self.grace.section();
                let empty = rest.look(&mut piece)?;
                let other = piece.firsts(span.swap_type()).find(|run| {
                    let of_owner = self.online_up(run.id);
                    of_owner.is_none_or(|memcg| *payer.get_or_insert(memcg) != memcg)
                });
                let Some(entry) = other.map(|run| run.start).or(empty) else {
                    continue;
                };
                let (Some(Run { id: owner, .. }), Some(charged)) = (other, payer) else {
                    return Err(MemcgError::NoRecord { entry });
                };
                // A cgroup went offline or another thread moved the slots since the first owner was read, so
                // one cgroup may pay for all slots now.
                let first = span.first_owner()?;
                if first.and_then(|id| self.online_up(id)) != Some(charged) {
                    continue 'anew;
                }
                let charged = charged.id();
                return Err(MemcgError::MixedOwners {
                    entry,
                    owner,
                    charged,
                });
            }
            return payer.ok_or(span.off().into());
        }
    }

    /// Swaps in one piece per section. The payer is charged in the section of the first piece, and the pages
    /// arrive in the section of the last one. Returns `None` and changes nothing if the payer is offline, or
    /// does not pay for all slots any more.
    fn try_come_in(
        &self,
        span: Span<'_, L>,
        payer: Memcg,
        nr: u64,
        slots: Slots,
    ) -> Result<Option<Memcg>, MemcgError> {
        let mut rest = span;
        let mut piece = Piece::new();
        let mut charge = {
            let _section = self.grace.section();
            self.must_stay(&rest, slots)?;
            let memsw = match slots {
                Slots::GivenUp => 0,
                Slots::Kept => nr,
            };
            let Some(mut charge) = self.charge_part(payer, nr, memsw, 0)? else {
                return Ok(None);
            };
            if !self.next_piece(&mut rest, slots, &mut charge, &mut piece)? {
                return Ok(None);
            }
            if rest.is_empty() {
                return Ok(self.arrive(&mut charge));
            }
            charge.keep();
            charge
        };
        loop {
            let section = self.grace.section();
            self.must_stay(&rest, slots)?;
            charge.rise();
            if self.next_piece(&mut rest, slots, &mut charge, &mut piece)? {
                if rest.is_empty() {
                    return Ok(self.arrive(&mut charge));
                }
                continue;
            }
            drop(section);
            if slots == Slots::GivenUp {
                self.put_back(span.before(&rest), &mut charge)?;
            }
            return Ok(None);
        }
    }

    /// Refuses slots that are to be kept if their swapfile is being turned off. `swapoff` waits for the
    /// sections that began before that, so the records that they see exist until they end. The caller is in a
    /// section.
    fn must_stay(&self, span: &Span<'_, L>, slots: Slots) -> Result<(), MemcgError> {
        if slots == Slots::Kept && self.is_stopping(span) {
            return Err(span.off().into());
        }
        Ok(())
    }

    /// Charges the payer and its ancestors, and returns the charge. Returns `None` if the payer is not
    /// online. The caller is in a section. Three kinds of charges occur:
    ///
    /// - memory alone, for pages whose memsw comes from their records;
    /// - memory and memsw, for pages that are charged in addition to their records;
    /// - swap alone, for records whose memsw comes from their pages.
    pub(super) fn charge_part(
        &self,
        payer: Memcg,
        memory: u64,
        memsw: u64,
        swap: u64,
    ) -> Result<Option<Charge<'_, L>>, MemcgError> {
        let Ok(slot) = self.online(payer) else {
            return Ok(None);
        };
        let id = payer.id();
        let mut charge = Charge::none(self, (id, slot), None);
        {
            let mut shard = self.shards.here();
            // Checked under the lock. Otherwise, a stock of an offline cgroup could stay in the shard.
            if slot.state_of(payer) != State::Online {
                return Ok(None);
            }
            let stock = shard.stock(id, |id, stock| self.settle(id, stock));
            if stock.memory >= memory && stock.memsw >= memsw && stock.slots >= swap
                || self.refill(id, stock, memory, memsw, swap)
            {
                stock.memory -= memory;
                stock.memsw -= memsw;
                stock.slots -= swap;
                (charge.memory, charge.memsw, charge.swap) = (memory, memsw, swap);
            }
        }
        if (charge.memory, charge.memsw, charge.swap) != (memory, memsw, swap) {
            let mut all = self.shards.all();
            self.charge_path_exactly(&mut all, id, None, memory, memsw, swap)?;
            (charge.memory, charge.memsw, charge.swap) = (memory, memsw, swap);
            drop(all);
        }
        Ok(Some(charge))
    }

    /// Looks at the next slots. If they are given up, clears their records and adds their charges to
    /// `charge`. Returns `false` and does nothing if a slot has no record that the cgroup of `charge` pays
    /// for. The caller is in a section.
    fn next_piece<'a>(
        &'a self,
        rest: &mut Span<'_, L>,
        slots: Slots,
        charge: &mut Charge<'a, L>,
        piece: &mut Piece,
    ) -> Result<bool, MemcgError> {
        let (ty, backend, payer) = (rest.swap_type(), self.records.backend(), charge.id);
        if rest.is_empty() {
            return Ok(true);
        }
        if slots == Slots::Kept {
            let empty = rest.look(piece)?;
            return Ok(empty.is_none() && self.pays_for(payer, piece, ty));
        }
        let unsettled = Unsettled::new(self, ty, piece, With::In(charge));
        let is_paid_for = |piece: &Piece| self.pays_for(payer, piece, ty);
        if !rest.clear_if(backend, is_paid_for, unsettled.piece)? {
            return Ok(false);
        }
        unsettled.settle();
        Ok(true)
    }

    /// Returns whether this cgroup, which was online in this section, pays for all slots of the piece. Walks
    /// up once per owner.
    fn pays_for(&self, payer: MemcgId, piece: &Piece, ty: SwapType) -> bool {
        piece.firsts(ty).all(|run| {
            // The payer may have gone offline since, but css_offline waits for this section.
            let ends = |&(at, slot): &(MemcgId, &Slot)| at == payer || slot.online(at).is_some();
            let mut up = self.slots.up(run.id);
            up.find(ends).is_some_and(|(at, _)| at == payer)
        })
    }

    /// Makes records again of what was cleared. The slots are the caller's, so no other thread has written to
    /// them.
    fn put_back<'a>(
        &'a self,
        mut span: Span<'_, L>,
        charge: &mut Charge<'a, L>,
    ) -> Result<(), MemcgError> {
        let (ty, backend) = (span.swap_type(), self.records.backend());
        let mut piece = Piece::new();
        while let Some(mut region) = span.take_region() {
            let _section = self.grace.section();
            if self.is_stopping(&region) {
                return Err(region.off().into());
            }
            charge.rise();
            while !region.is_empty() {
                let owner = charge.id.get();
                let unsettled = Unsettled::new(self, ty, &mut piece, With::Back(charge));
                region.set(backend, owner, unsettled.piece)?;
                unsettled.settle();
            }
        }
        Ok(())
    }

    /// Makes the charge in hand a charge for pages in memory. The caller is in a section in which the cgroup
    /// was online.
    fn arrive(&self, charge: &mut Charge<'_, L>) -> Option<Memcg> {
        let memcg = self.slots.get(charge.id)?.memcg(charge.id)?;
        // If taking the lock unwinds, the guard uncharges what is in hand. If freeing it unwinds, the pages
        // have arrived.
        let mut shard = self.shards.here();
        let pages = Stock {
            used: charge.memory,
            slots: charge.swap,
            ..Stock::default()
        };
        self.put_at(&mut shard, charge.id, pages);
        (charge.memory, charge.memsw, charge.swap) = (0, 0, 0);
        drop(shard);
        Some(memcg)
    }

    /// Returns the cgroup of this id if it is online, or its first online ancestor. The caller is in a
    /// section in which the cgroup existed.
    pub(super) fn online_up(&self, id: MemcgId) -> Option<Memcg> {
        let mut up = self.slots.up(id);
        up.find_map(|(id, slot)| slot.online(id))
    }
}
