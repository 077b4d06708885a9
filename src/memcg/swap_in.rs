//! Pages that come back from swap: with their slots given up, or kept.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::in_hand::{Charge, Unsettled, With};
use super::shard::Stock;
use super::slot::{Slot, State};
use crate::entry::SwapEntry;
use crate::id::MemcgId;
use crate::span::{Piece, Span};

impl<L: RawMutex> Memcgs<L> {
    /// Swaps `nr` pages in from as many slots from `start` on, and gives the slots' records up: memory grows, memsw
    /// stays, the swap statistic shrinks, as in version 1 of memory cgroups. Gives the cgroup that is charged for the
    /// pages.
    ///
    /// That is the owner of the records; where it is offline, its first ancestor that is online. Then cgroups below that
    /// ancestor lose memsw, and for it and those above only memory changes. (Linux up to 6.18 charges the reader in this
    /// case. Changes that were proposed in 2026 charge the parent.) All pages must be one cgroup's to pay, as those of a
    /// folio are. Only a limit of memory can refuse: memsw has the pages already. The slots are the caller's to
    /// read from; [`swap_in_cached`](Self::swap_in_cached) is for callers that keep a copy in the slot.
    ///
    /// # More than one region
    ///
    /// The slots are checked and memory is charged before the first record is given up. Then `css_free` and `swapoff`
    /// wait for one region of [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots at most, and until the end `css_free`
    /// refuses the cgroup as [`Busy`](MemcgError::Busy). Where it goes offline meanwhile, an ancestor is charged
    /// for all of the pages.
    ///
    /// # Errors
    ///
    /// [`NoRecord`](MemcgError::NoRecord) where any of the slots has none;
    /// [`MixedOwners`](MemcgError::MixedOwners) where different cgroups are to be charged;
    /// [`OverLimit`](MemcgError::OverLimit); [`Entry`](MemcgError::Entry) where the slots are not in a swapfile that is
    /// on. Then nothing has changed, but in two cases. Where another thread turns the swapfile off meanwhile,
    /// nobody is charged for memory, and the slots below the offset in the error may have been freed before they
    /// went with it. Where another thread frees or moves some of the slots meanwhile, the others may belong to
    /// the cgroup that was to be charged instead of a descendant of it.
    pub fn swap_in(&self, start: SwapEntry, nr: u64) -> Result<Memcg, MemcgError> {
        let looked_at = self.records.span(start, nr.max(1))?;
        let span = self.records.span(start, nr)?;
        loop {
            let payer = self.payer_of_all(looked_at)?;
            if let Some(charged) = self.try_swap_in(span, payer, nr)? {
                return Ok(charged);
            }
        }
    }

    /// Charges `nr` pages in memory, memory and memsw, for as many slots from `start` on that keep their records:
    /// pages of the swap cache, of which the slot has a copy. Gives the cgroup that is charged.
    ///
    /// It differs from [`swap_in`](Self::swap_in) in that a page and its slot are both charged to memsw, until
    /// [`free_swap`](Self::free_swap). So memsw must have room for the pages. The same cgroup is charged.
    ///
    /// # Errors
    ///
    /// As of [`swap_in`](Self::swap_in). Then nothing has changed.
    pub fn swap_in_cached(&self, start: SwapEntry, nr: u64) -> Result<Memcg, MemcgError> {
        let span = self.records.span(start, nr.max(1))?;
        loop {
            let payer = self.payer_of_all(span)?;
            match self.charge(payer, nr) {
                // Since it was found online.
                Err(MemcgError::Offline { .. } | MemcgError::Gone { .. }) => {}
                charged => return charged.map(|()| payer),
            }
        }
    }

    /// Who pays for the pages of all of these slots: each has a record, and of all owners this is the first one that is
    /// online on the way up. A region in each section.
    fn payer_of_all(&self, span: Span<'_, L>) -> Result<Memcg, MemcgError> {
        'anew: loop {
            let mut payer = None;
            let mut rest = span;
            while let Some(region) = rest.take_region() {
                let _section = self.grace.section();
                let mut last = None;
                let other = region.first_unlike(|owner| {
                    if owner.is_some() && last == owner {
                        return true;
                    }
                    last = owner;
                    let of_owner = owner.and_then(|id| self.online_up(id));
                    of_owner.is_some_and(|memcg| *payer.get_or_insert(memcg) == memcg)
                })?;
                let Some((entry, owner)) = other else {
                    continue;
                };
                let (Some(owner), Some(charged)) = (owner, payer) else {
                    return Err(MemcgError::NoRecord { entry });
                };
                // It went offline, or another thread has moved the slots, since the first was looked at: all may be
                // the same one's now.
                let mut first = None;
                span.first_unlike(|owner| {
                    first = owner;
                    false
                })?;
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

    /// `None` where other cgroups own the slots now, or the payer is offline, and nothing has changed.
    fn try_swap_in(
        &self,
        span: Span<'_, L>,
        payer: Memcg,
        nr: u64,
    ) -> Result<Option<Memcg>, MemcgError> {
        if span.is_in_one_region() {
            let _section = self.grace.section();
            let Some(mut charge) = self.charge_part(payer, nr, 0)? else {
                return Ok(None);
            };
            let mut rest = span;
            if !self.give_up(&mut rest, &mut charge)? {
                self.put_back(span.before(&rest), &mut charge)?;
                return Ok(None);
            }
            return Ok(self.arrive(&mut charge));
        }
        let mut charge = {
            let _section = self.grace.section();
            let Some(mut charge) = self.charge_part(payer, nr, 0)? else {
                return Ok(None);
            };
            charge.keep();
            charge
        };
        let mut rest = span;
        while let Some(mut region) = rest.take_region() {
            let all = {
                let _section = self.grace.section();
                charge.rise();
                self.give_up(&mut region, &mut charge)?
            };
            if !all {
                self.put_back(span.before(&region), &mut charge)?;
                return Ok(None);
            }
        }
        let _section = self.grace.section();
        charge.rise();
        Ok(self.arrive(&mut charge))
    }

    /// Charges memory alone, for pages whose memsw comes from their records, or swap alone, for records whose memsw comes
    /// from their pages. `None` where the cgroup is not online. In a section.
    pub(super) fn charge_part(
        &self,
        payer: Memcg,
        memory: u64,
        swap: u64,
    ) -> Result<Option<Charge<'_, L>>, MemcgError> {
        let Ok(slot) = self.online(payer) else {
            return Ok(None);
        };
        let id = payer.id();
        let mut charge = Charge::none(self, (id, slot), None);
        {
            let mut shard = self.shards.here();
            // Under the lock, or a stock would be left of a cgroup that is offline.
            if slot.state_of(payer) != State::Online {
                return Ok(None);
            }
            let stock = shard.stock(id, |id, stock| self.settle(id, stock));
            if stock.memory >= memory && stock.slots >= swap
                || self.refill(id, stock, memory, 0, swap)
            {
                stock.memory -= memory;
                stock.slots -= swap;
                (charge.memory, charge.swap) = (memory, swap);
            }
        }
        if (charge.memory, charge.swap) != (memory, swap) {
            let mut all = self.shards.all();
            self.charge_path_exactly(&mut all, id, None, memory, 0, swap)?;
            (charge.memory, charge.swap) = (memory, swap);
            drop(all);
        }
        Ok(Some(charge))
    }

    /// Clears the records of these slots, which are in one region, and takes their charge in hand. `false`, as soon as
    /// one of them is no record that the cgroup in hand pays for. In a section.
    fn give_up<'a>(
        &'a self,
        region: &mut Span<'_, L>,
        charge: &mut Charge<'a, L>,
    ) -> Result<bool, MemcgError> {
        let (ty, backend, payer) = (region.swap_type(), self.records.backend(), charge.id);
        let mut piece = Piece::new();
        while !region.is_empty() {
            let unsettled = Unsettled::new(self, ty, &mut piece, With::In(charge));
            let mut last = None;
            let is_paid_for = |owner: Option<MemcgId>| {
                if owner.is_some() && last == owner {
                    return true;
                }
                last = owner;
                owner.is_some_and(|id| {
                    // It may have gone offline since, but css_offline waits for this section.
                    let ends =
                        |&(at, slot): &(MemcgId, &Slot)| at == payer || slot.online(at).is_some();
                    let mut up = self.slots.up(id);
                    up.find(ends).is_some_and(|(at, _)| at == payer)
                })
            };
            if !region.clear_if(backend, is_paid_for, unsettled.piece)? {
                return Ok(false);
            }
            unsettled.settle();
        }
        Ok(true)
    }

    /// Makes records again of what was given up. Their slots are the caller's, so nobody else has written to them.
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

    /// Makes pages in memory of what is in hand. In a section in which the cgroup was online.
    fn arrive(&self, charge: &mut Charge<'_, L>) -> Option<Memcg> {
        let memcg = self.slots.get(charge.id)?.memcg(charge.id)?;
        // Until the lock is held, what is in hand is uncharged; when it is freed, the pages are there.
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

    /// The cgroup of this id if it is online, or its first ancestor that is. In a section in which it was there.
    pub(super) fn online_up(&self, id: MemcgId) -> Option<Memcg> {
        let mut up = self.slots.up(id);
        up.find_map(|(id, slot)| slot.online(id))
    }
}
