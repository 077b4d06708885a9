//! Guards for what an operation has in hand between two locks. If the operation ends there, by an error or
//! because a lock unwinds, the guard puts things right.
//!
//! An operation takes pages, charges, or writes records under a lock, and notes this in a guard before the
//! lock is unlocked. The next step, under the next lock, takes it out of the guard again. So if any lock
//! unwinds, when it is taken or when it is unlocked, the guard knows what was begun and not ended. Its `drop`
//! ends it or takes it back. It takes no lock for that: it changes the [`Slot`]s of cgroups, which are
//! atomics, and not stocks.
//!
//! [`Unsettled`] and [`Moved`] end in the section that they began in. [`Pages`] and [`Charge`] may outlive
//! their section if they are *kept*: the cgroup's slot counts them, and `css_free` refuses the cgroup.

use lock_api::RawMutex;

use super::Memcgs;
use super::shard::Stock;
use super::slot::{Slot, State};
use crate::entry::SwapType;
use crate::id::MemcgId;
use crate::span::Piece;
use crate::sync::Ordering;

/// Pages in memory that were taken from a cgroup. On drop, what is left of them goes back to it.
pub(super) struct Pages<'a> {
    pub(super) id: MemcgId,
    slot: &'a Slot,
    pub(super) nr: u64,
    kept: u64,
}

impl<'a> Pages<'a> {
    pub(super) fn none(id: MemcgId, slot: &'a Slot) -> Self {
        let (nr, kept) = (0, 0);
        Self { id, slot, nr, kept }
    }

    /// Keeps the cgroup from being freed after the section that the caller is in.
    pub(super) fn keep(&mut self) {
        self.slot.keep(self.nr);
        self.kept += self.nr;
    }
}

impl Drop for Pages<'_> {
    fn drop(&mut self) {
        self.slot.add_used(self.nr);
        self.slot.let_go(self.kept);
    }
}

/// What was charged to a cgroup and its ancestors below `end`, for records or pages that it does not have
/// yet. On drop, what is left of it is uncharged.
pub(super) struct Charge<'a, L: RawMutex> {
    memcgs: &'a Memcgs<L>,
    pub(super) id: MemcgId,
    slot: &'a Slot,
    end: Option<MemcgId>,
    pub(super) memory: u64,
    pub(super) memsw: u64,
    pub(super) swap: u64,
    kept: u64,
}

impl<'a, L: RawMutex> Charge<'a, L> {
    pub(super) fn none(
        memcgs: &'a Memcgs<L>,
        (id, slot): (MemcgId, &'a Slot),
        end: Option<MemcgId>,
    ) -> Self {
        Self {
            memcgs,
            id,
            slot,
            end,
            memory: 0,
            memsw: 0,
            swap: 0,
            kept: 0,
        }
    }

    /// Keeps the cgroup from being freed after the section that the caller is in.
    pub(super) fn keep(&mut self) {
        let nr = self.memory.max(self.memsw);
        self.slot.keep(nr);
        self.kept += nr;
    }

    /// Moves the charge to the first online ancestor, if the cgroup is offline. The ancestor and its path
    /// include the charge already; below it, it is uncharged. The charge must go up to the root. The caller
    /// is in a section.
    pub(super) fn rise(&mut self) {
        let memcgs = self.memcgs;
        let mut up = memcgs.slots.up(self.id);
        let online = up.find(|(_, slot)| slot.state() == State::Online);
        let Some((id, slot)) = online.filter(|&(id, _)| id != self.id) else {
            return;
        };
        slot.keep(self.kept);
        memcgs.uncharge_path(self.id, Some(id), self.memory, self.memsw, self.swap);
        self.slot.let_go(self.kept);
        (self.id, self.slot) = (id, slot);
    }
}

impl<L: RawMutex> Drop for Charge<'_, L> {
    fn drop(&mut self) {
        self.memcgs
            .uncharge_path(self.id, self.end, self.memory, self.memsw, self.swap);
        self.slot.let_go(self.kept);
    }
}

/// What happens to slots that are written, besides that their old owners lose them.
pub(super) enum With<'a, 'p, L: RawMutex> {
    /// The slots are freed, and their charges with them.
    Nothing,
    /// Pages in memory become records of the cgroup that is charged for swap.
    Out(&'p mut Pages<'a>, &'p mut Charge<'a, L>),
    /// The slots are freed, and their charges for memsw and swap are taken in hand.
    In(&'p mut Charge<'a, L>),
    /// The charges for memsw and swap in hand become records of that cgroup again.
    Back(&'p mut Charge<'a, L>),
}

/// Slots that were written, but that are not in the statistics and charges of their owners yet: old owners
/// have lost their records, and pages in memory have become records.
pub(super) struct Unsettled<'a, 'p, L: RawMutex> {
    memcgs: &'a Memcgs<L>,
    ty: SwapType,
    pub(super) piece: &'p mut Piece,
    with: With<'a, 'p, L>,
    settled: bool,
}

impl<'a, 'p, L: RawMutex> Unsettled<'a, 'p, L> {
    /// Returns a guard for what will be in `piece`.
    pub(super) fn new(
        memcgs: &'a Memcgs<L>,
        ty: SwapType,
        piece: &'p mut Piece,
        with: With<'a, 'p, L>,
    ) -> Self {
        let settled = false;
        Self {
            memcgs,
            ty,
            piece,
            with,
            settled,
        }
    }

    /// Updates all owners. The caller is in the section in which the slots were written.
    pub(super) fn settle(mut self) {
        let memcgs = self.memcgs;
        let mut shard = memcgs.shards.here();
        shard.add_records(self.ty, self.came());
        self.each_owner(|id, part| memcgs.put_at(&mut shard, id, part));
        self.end();
        drop(shard);
    }

    /// Returns the number of records that exist now, minus those that existed before.
    fn came(&self) -> i64 {
        let written = match self.with {
            With::Nothing | With::In(_) => 0,
            With::Out(..) | With::Back(_) => self.piece.len(),
        };
        written.cast_signed() - self.piece.records().cast_signed()
    }

    fn each_owner(&self, mut tell: impl FnMut(MemcgId, Stock)) {
        let nr = self.piece.len();
        let records = Stock {
            swap: nr.cast_signed(),
            ..Stock::default()
        };
        match &self.with {
            With::Nothing | With::In(_) => {}
            With::Out(_, charge) => {
                let memory = nr;
                tell(charge.id, Stock { memory, ..records });
            }
            With::Back(charge) => tell(charge.id, records),
        }
        let is_kept = matches!(self.with, With::In(_));
        let lost = |(id, nr): (MemcgId, u64)| {
            let uncharged = if is_kept { 0 } else { nr };
            let lost = Stock {
                memsw: uncharged,
                slots: uncharged,
                swap: -nr.cast_signed(),
                ..Stock::default()
            };
            tell(id, lost);
        };
        self.each_old_owner(lost);
    }

    /// Calls `tell` with how many slots each old owner has lost. An owner is told in one sum, even if owners
    /// alternate, unless its sum had to make room for another owner.
    fn each_old_owner(&self, mut tell: impl FnMut((MemcgId, u64))) {
        let mut sums = Sums::default();
        for (id, nr) in self.piece.owners() {
            if let Some(sum) = sums.add(id, nr) {
                tell(sum);
            }
        }
        sums.into_iter().for_each(tell);
    }

    fn end(&mut self) {
        let nr = self.piece.len();
        if let With::In(charge) = &self.with {
            // For each owner, the cgroup that is charged is that owner or an ancestor of it.
            let (memcgs, end) = (self.memcgs, charge.id);
            self.each_old_owner(|(id, nr)| memcgs.uncharge_path(id, Some(end), 0, nr, nr));
        }
        match &mut self.with {
            With::Nothing => {}
            With::Out(pages, charge) => {
                pages.nr -= nr;
                charge.swap -= nr;
                // From the owner upwards, its stock has the memory, and memsw stays. Below it, both are
                // uncharged.
                self.memcgs
                    .uncharge_path(pages.id, Some(charge.id), nr, nr, 0);
            }
            With::In(charge) => {
                charge.memsw += nr;
                charge.swap += nr;
            }
            With::Back(charge) => {
                charge.memsw -= nr;
                charge.swap -= nr;
            }
        }
        self.settled = true;
    }
}

impl<L: RawMutex> Drop for Unsettled<'_, '_, L> {
    fn drop(&mut self) {
        if self.settled || self.piece.is_empty() {
            return;
        }
        let adrift = &self.memcgs.adrift[usize::from(self.ty.get())];
        adrift.fetch_add(self.came().cast_unsigned(), Ordering::Relaxed);
        self.each_owner(|id, part| self.memcgs.settle(id, part));
        self.end();
    }
}

/// Records that were moved to the cgroup that is charged for them, but that are not in the statistics of both
/// cgroups yet.
pub(super) struct Moved<'a, 'c, L: RawMutex> {
    from: MemcgId,
    to: &'c mut Charge<'a, L>,
    pub(super) nr: u64,
}

impl<'a, 'c, L: RawMutex> Moved<'a, 'c, L> {
    pub(super) fn none(from: MemcgId, to: &'c mut Charge<'a, L>) -> Self {
        Self { from, to, nr: 0 }
    }

    /// Updates both cgroups. The caller is in the section in which the records were moved.
    pub(super) fn settle(mut self) {
        let memcgs = self.to.memcgs;
        let mut shard = memcgs.shards.here();
        self.both(|id, part| memcgs.put_at(&mut shard, id, part));
        self.end();
        drop(shard);
    }

    fn both(&self, mut tell: impl FnMut(MemcgId, Stock)) {
        let records = |swap: i64| Stock {
            swap,
            ..Stock::default()
        };
        tell(self.from, records(-self.nr.cast_signed()));
        tell(self.to.id, records(self.nr.cast_signed()));
    }

    fn end(&mut self) {
        let memcgs = self.to.memcgs;
        memcgs.uncharge_path(self.from, self.to.end, 0, self.nr, self.nr);
        self.to.memsw -= self.nr;
        self.to.swap -= self.nr;
        self.nr = 0;
    }
}

impl<L: RawMutex> Drop for Moved<'_, '_, L> {
    fn drop(&mut self) {
        if self.nr > 0 {
            self.both(|id, part| self.to.memcgs.settle(id, part));
            self.end();
        }
    }
}

/// Sums of pages per owner, for a few owners at a time.
#[derive(Default)]
pub(super) struct Sums([Option<(MemcgId, u64)>; 8]);

impl Sums {
    /// Adds `nr` to the sum of this owner. Returns the sum of another owner if that had to make room.
    pub(super) fn add(&mut self, id: MemcgId, nr: u64) -> Option<(MemcgId, u64)> {
        let place = usize::from(id.get()) % self.0.len();
        match &mut self.0[place] {
            Some((of, sum)) if *of == id => {
                *sum += nr;
                None
            }
            other => other.replace((id, nr)),
        }
    }

    /// Returns the sums that are left.
    pub(super) fn into_iter(self) -> impl Iterator<Item = (MemcgId, u64)> {
        self.0.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_that_share_a_place_are_added_up_one_after_the_other() {
        let id = |id| MemcgId::new(id).unwrap();
        let mut sums = Sums::default();
        assert_eq!((sums.add(id(3), 5), sums.add(id(3), 2)), (None, None));
        assert_eq!(sums.add(id(4), 1), None);
        assert_eq!(sums.add(id(3 + 8), 1), Some((id(3), 7)));
        assert_eq!(sums.add(id(3 + 800), 9), Some((id(3 + 8), 1)));
        let left: u64 = sums.into_iter().map(|(_, nr)| nr).sum();
        assert_eq!(left, 10);
    }
}
