//! What an operation has in hand between two locks, put right if it ends there: by an error, or because a lock unwinds.
//!
//! Who takes pages, charges, or writes records does so under a lock, and has noted it here before the lock is freed.
//! The next step, under the next lock, takes it out of here again. So whichever lock unwinds, when it is taken or
//! when it is freed, what was begun and not ended is known, and `drop` ends it or takes it back. It takes no
//! lock for that: it changes slots, which are atomics, and not stocks.
//!
//! [`Unsettled`] and [`Moved`] are for a section, and end in it. [`Pages`] and [`Charge`] may outlive the section that
//! they began in, if they are *kept*: the cgroup has a note of them then, and `css_free` refuses it.

use lock_api::RawMutex;

use super::Memcgs;
use super::shard::Stock;
use super::slot::{Slot, State};
use crate::entry::SwapType;
use crate::id::MemcgId;
use crate::span::Piece;
use crate::sync::Ordering;

/// Pages in memory that were taken from a cgroup. What is left of them goes back to it.
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

    /// In a section, from whose end on the cgroup stays there for these pages.
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

/// What was charged to a cgroup and its ancestors below `end`, for records or pages that it does not have yet. What
/// is left of it is uncharged.
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

    /// In a section, from whose end on the cgroup stays there for this charge.
    pub(super) fn keep(&mut self) {
        let nr = self.memory.max(self.memsw);
        self.slot.keep(nr);
        self.kept += nr;
    }

    /// Goes up to the first ancestor that is online, whose path has the charge already; what is below it is uncharged.
    /// For a charge that goes up to the root. In a section.
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

/// What becomes of slots that are written, beside that their old owners lose them.
pub(super) enum With<'a, 'p, L: RawMutex> {
    /// Nothing: they are freed, and their charge with them.
    Nothing,
    /// Pages in memory become records of the cgroup that is charged for swap.
    Out(&'p mut Pages<'a>, &'p mut Charge<'a, L>),
    /// They are freed, and their charge for memsw and swap is taken in hand.
    In(&'p mut Charge<'a, L>),
    /// What is charged for memsw and swap becomes records of that cgroup again.
    Back(&'p mut Charge<'a, L>),
}

/// What was done to slots, and is not in the statistics and charges of their owners yet: old owners that have lost
/// their records, and pages in memory that have become records.
pub(super) struct Unsettled<'a, 'p, L: RawMutex> {
    memcgs: &'a Memcgs<L>,
    ty: SwapType,
    pub(super) piece: &'p mut Piece,
    with: With<'a, 'p, L>,
    settled: bool,
}

impl<'a, 'p, L: RawMutex> Unsettled<'a, 'p, L> {
    /// For what will be in `piece`.
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

    /// Gives all owners what is theirs. In the section in which the slots were written.
    pub(super) fn settle(mut self) {
        let memcgs = self.memcgs;
        let mut shard = memcgs.shards.here();
        shard.add_records(self.ty, self.came());
        self.each_owner(|id, part| memcgs.put_at(&mut shard, id, part));
        self.end();
        drop(shard);
    }

    /// Records that are there now, less those that were.
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

    /// How many slots each old owner has lost: in one sum, also where owners take turns, but for those that have to
    /// make room for others.
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
            // The cgroup that is charged is one of theirs, or an ancestor.
            let (memcgs, end) = (self.memcgs, charge.id);
            self.each_old_owner(|(id, nr)| memcgs.uncharge_path(id, Some(end), 0, nr, nr));
        }
        match &mut self.with {
            With::Nothing => {}
            With::Out(pages, charge) => {
                pages.nr -= nr;
                charge.swap -= nr;
                // The owner has them in its stock, and its ancestors have them anyway.
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

/// Records that were moved from one cgroup to the one that is charged for them, and are not in their statistics yet.
pub(super) struct Moved<'a, 'c, L: RawMutex> {
    from: MemcgId,
    to: &'c mut Charge<'a, L>,
    pub(super) nr: u64,
}

impl<'a, 'c, L: RawMutex> Moved<'a, 'c, L> {
    pub(super) fn none(from: MemcgId, to: &'c mut Charge<'a, L>) -> Self {
        Self { from, to, nr: 0 }
    }

    /// Gives both what is theirs. In the section in which the records were moved.
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

/// Pages by owner, for a few of them.
#[derive(Default)]
pub(super) struct Sums([Option<(MemcgId, u64)>; 8]);

impl Sums {
    /// Gives the sum of an owner that had to make room.
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

    /// Those that are left.
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
