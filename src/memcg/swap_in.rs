//! Pages that come back from swap: with their slots given up, or kept.

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

/// What becomes of the slots whose pages come in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slots {
    /// Their records are cleared, and their charges become those of the pages.
    GivenUp,
    /// They keep copies, records and charges.
    Kept,
}

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
    /// # Long ranges
    ///
    /// The slots are checked and memory is charged before the first record is given up. Then `css_free` and `swapoff`
    /// wait for one piece at most: up to 32 runs of owners in one region. Where there is more than one, until the end `css_free`
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
            if let Some(charged) = self.try_come_in(span, payer, nr, Slots::GivenUp)? {
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
    /// As of [`swap_in`](Self::swap_in), and [`TypeOff`](crate::EntryError::TypeOff) as soon as another thread has begun to
    /// turn the swapfile off. Then nothing has changed.
    pub fn swap_in_cached(&self, start: SwapEntry, nr: u64) -> Result<Memcg, MemcgError> {
        let span = self.records.span(start, nr.max(1))?;
        loop {
            let payer = self.payer_of_all(span)?;
            if let Some(charged) = self.try_come_in(span, payer, nr, Slots::Kept)? {
                return Ok(charged);
            }
        }
    }

    /// Who pays for the pages of all of these slots: each has a record, and of all owners this is the first one that is
    /// online on the way up. A piece in each section; owners are asked about with no lock held.
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
                // It went offline, or another thread has moved the slots, since the first was looked at: all may be
                // the same one's now.
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

    /// A piece in each section, the first one in that in which the payer is charged, the last one in that in which the
    /// pages are there. `None` where other cgroups own the slots now, or the payer is offline, and nothing has changed.
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

    /// Refuses slots that are to be kept, in a swapfile that is being turned off: it waits for the sections in which it
    /// was not, and their records are there until then. In a section.
    fn must_stay(&self, span: &Span<'_, L>, slots: Slots) -> Result<(), MemcgError> {
        if slots == Slots::Kept && self.is_stopping(span) {
            return Err(span.off().into());
        }
        Ok(())
    }

    /// Charges memory alone, for pages whose memsw comes from their records, memory and memsw, for pages beside their
    /// records, or swap alone, for records whose memsw comes from their pages. `None` where the cgroup is not online. In
    /// a section.
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
            // Under the lock, or a stock would be left of a cgroup that is offline.
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

    /// Looks at the next slots. Where they are given up, clears their records and takes what these were charged in hand.
    /// `false`, and nothing is done, if one of them is no record that the cgroup in hand pays for. In a section.
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

    /// Whether this cgroup, which was online in this section, pays for all that the piece has. Walks up once for each
    /// owner.
    fn pays_for(&self, payer: MemcgId, piece: &Piece, ty: SwapType) -> bool {
        piece.firsts(ty).all(|run| {
            // It may have gone offline since, but css_offline waits for this section.
            let ends = |&(at, slot): &(MemcgId, &Slot)| at == payer || slot.online(at).is_some();
            let mut up = self.slots.up(run.id);
            up.find(ends).is_some_and(|(at, _)| at == payer)
        })
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
