//! Pages that go to swap, come back, and leave it.

use lock_api::RawMutex;

use super::error::MemcgError;
use super::handle::Memcg;
use super::shard::Stock;
use super::slot::{Slot, State};
use super::{Backoff, Memcgs};
use crate::entry::{SwapEntry, SwapType};
use crate::error::EntryError;
use crate::id::MemcgId;
use crate::region::REGION_ENTRIES;
use crate::runs::Runs;
use crate::sync::Ordering;
use crate::table::Exchange;

impl<L: RawMutex> Memcgs<L> {
    /// Swaps `nr` pages of the cgroup out to as many slots from `start` on: memory is uncharged, memsw
    /// stays, the swap statistic grows, the records are written.
    ///
    /// Gives the cgroup that owns the records: `memcg`, or where that is offline, its first ancestor that is
    /// online, to which the charge moves; so a dying cgroup gets no new records, as in the kernel. A slot
    /// must be the caller's own to write to, as one from a swap allocator is. If another thread gives it an
    /// owner at that very moment, that owner is uncharged as if it had been freed.
    ///
    /// # Errors
    ///
    /// [`NotCharged`](MemcgError::NotCharged) where the cgroup itself has fewer pages in memory;
    /// [`Occupied`](MemcgError::Occupied); [`Entry`](MemcgError::Entry) where the range is not in a swapfile
    /// that is on; [`Gone`](MemcgError::Gone).
    pub fn swap_out(&self, memcg: Memcg, start: SwapEntry, nr: u64) -> Result<Memcg, MemcgError> {
        self.section_while_live(memcg, |slot| {
            self.check_free(start, nr)?;
            let (id, owner) = self.online_from(memcg)?;
            let used = Stock {
                used: nr,
                ..Stock::default()
            };
            self.take(memcg, slot, nr, Stock::default(), false)?;
            let had = match self.write(start, nr, id) {
                Ok(had) => had,
                Err(refused) => {
                    self.put(memcg.id(), used);
                    return Err(refused);
                }
            };
            let out = Stock {
                memory: nr,
                swap: nr.cast_signed(),
                ..Stock::default()
            };
            self.uncharge_path(memcg.id(), Some(id), nr, nr);
            self.put_records(start.swap_type(), id, out);
            self.uncharge_records(&had);
            Ok(owner)
        })
    }

    /// Charges the `nr` pages of the slots from `start` on as pages in memory, memory and memsw, to the
    /// owner of the first slot; where that is offline, to its first ancestor that is online. Gives
    /// the cgroup that was charged.
    ///
    /// The records stay, and with them their charge, until [`free_swap`](Self::free_swap).
    ///
    /// # Errors
    ///
    /// [`NoRecord`](MemcgError::NoRecord) where any of the slots has none;
    /// [`Entry`](MemcgError::Entry) where they are not in a swapfile that is on;
    /// [`OverLimit`](MemcgError::OverLimit), and then nobody is charged.
    pub fn swap_in(&self, start: SwapEntry, nr: u64) -> Result<Memcg, MemcgError> {
        // In a section, or the owner could be gone, and its id another's, before it is charged.
        let _section = self.grace.section();
        let owner = self.owner(start, nr)?;
        let online = || {
            let mut path = self.slots.up(owner);
            // The root is online always.
            path.find(|(_, slot)| slot.state() == State::Online)
                .ok_or(MemcgError::NoRecord { entry: start })
        };
        let charged = self.charge_to(nr, online)?;
        let memcg = self.slots.get(charged).and_then(|slot| slot.memcg(charged));
        memcg.ok_or(MemcgError::NoRecord { entry: start })
    }

    /// Takes the records of `nr` slots from `start` on away, and uncharges whoever owns them at that
    /// moment: memsw and the swap statistic. Slots without a record are left alone.
    ///
    /// Gives the owners, slot by slot, as [`clear_range`](crate::SwapRecords::clear_range) does.
    ///
    /// # Errors
    ///
    /// [`Entry`](MemcgError::Entry) where the range is not in a swapfile that is on. Where another thread
    /// turns it off meanwhile, nothing is lost: that thread uncharges what this one did not.
    pub fn free_swap(&self, start: SwapEntry, nr: u64) -> Result<Runs, MemcgError> {
        self.check_range(start, nr)?;
        let mut freed = Runs::default();
        let mut next = start;
        let mut left = nr;
        while left > 0 {
            // Region by region, so that no section is long.
            let len = left.min(REGION_ENTRIES as u64 - next.offset() % REGION_ENTRIES as u64);
            let _section = self.grace.section();
            let runs = self.records.clear_range(next, len)?;
            self.uncharge_records(&runs);
            if len == nr {
                return Ok(runs);
            }
            runs.iter().for_each(|&run| freed.push(run));
            left -= len;
            next = next.checked_add(len).unwrap_or(next);
        }
        Ok(freed)
    }

    /// Gives those of the `nr` slots from `start` on that `from` owns to `to`, which is online, and their
    /// charges with them, in one batch. Gives how many.
    ///
    /// Ancestors that both have in common see nothing of it. A slot whose owner changes meanwhile is
    /// moved or not.
    ///
    /// # Errors
    ///
    /// [`OverLimit`](MemcgError::OverLimit) of `to` or an ancestor of it;
    /// [`Offline`](MemcgError::Offline) where `to` is; [`Gone`](MemcgError::Gone);
    /// [`Entry`](MemcgError::Entry) where the range is not in a swapfile that is on. Where another thread
    /// turns it off meanwhile, what was moved until then is counted.
    pub fn move_swap_account(
        &self,
        start: SwapEntry,
        nr: u64,
        from: Memcg,
        to: Memcg,
    ) -> Result<u64, MemcgError> {
        self.section_while_live(from, |_| {
            self.online(to)?;
            self.check_range(start, nr)?;
            let (old, new) = (from.id(), to.id());
            if old == new {
                return Ok(0);
            }
            let owned = (0..nr).filter_map(|skip| {
                let entry = start.checked_add(skip)?;
                (self.records.lookup(entry) == Some(old)).then_some(entry)
            });
            let due = owned.clone().count() as u64;
            let common = self.common_ancestor(old, new);
            self.charge_path(new, common, 0, due)?;
            let mut moved = 0;
            // No more than are charged: others may come to `old` meanwhile.
            for entry in owned {
                if moved == due {
                    break;
                }
                match self.records.cmpxchg(entry, old, new) {
                    Ok(Exchange::Stored) => moved += 1,
                    Ok(Exchange::Mismatch(_)) => {}
                    Err(_) => break,
                }
            }
            self.uncharge_path(new, common, 0, due - moved);
            self.uncharge_path(old, common, 0, moved);
            let records = |swap: i64| Stock {
                swap,
                ..Stock::default()
            };
            self.put(old, records(-moved.cast_signed()));
            self.put(new, records(moved.cast_signed()));
            Ok(moved)
        })
    }

    /// Turns a type on: [`SwapRecords::swapon`](crate::SwapRecords::swapon).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn swapon(&self, ty: SwapType, max_pages: u64) -> Result<(), crate::SwaponError> {
        self.records.swapon(ty, max_pages)?;
        // The swapoff before this one may be about to return, and still keeps records away.
        let backoff = Backoff::new();
        while self.is_stopping(ty) {
            backoff.snooze();
        }
        Ok(())
    }

    /// Turns a type off: no page is swapped out to it any more, and who owns a record in it is uncharged,
    /// as if it had been freed. Gives the number of those records.
    ///
    /// A caller who wants the pages back swaps them in first. Costs a walk over what has
    /// records. Other types, and cgroups, go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`EntryError::TypeOff`] if the type is off, or another thread is turning it on or off.
    pub fn swapoff(&self, ty: SwapType) -> Result<u64, EntryError> {
        let off = EntryError::TypeOff { ty, offset: None };
        let stopping = &self.stopping[usize::from(ty.get())];
        if self.records.max_pages(ty).is_none() || stopping.swap(true, Ordering::AcqRel) {
            return Err(off);
        }
        // Whoever did not see that it stops is done after this.
        self.grace.synchronize();
        let mut dropped = 0;
        let backoff = Backoff::new();
        loop {
            dropped += self.drop_records(ty);
            // Whoever is still freeing knows by then what it freed.
            self.grace.synchronize();
            if self.records_on(ty) <= 0 {
                break;
            }
            // A hand-over moved some under the walk, which may miss them then; or somebody is freeing again.
            backoff.snooze();
        }
        let off = self.records.swapoff(ty);
        debug_assert!(!matches!(off, Ok(1..)), "{off:?} records without a charge");
        stopping.store(false, Ordering::Release);
        off.map(|_| dropped)
    }

    /// How many records of a type are charged: those that it has, and those that somebody is freeing.
    /// Those that are written meanwhile are in it or not.
    pub(super) fn records_on(&self, ty: SwapType) -> i64 {
        self.shards.all().iter().map(|all| all.records(ty)).sum()
    }

    /// Frees the records of a type that a walk finds.
    fn drop_records(&self, ty: SwapType) -> u64 {
        let mut dropped = 0;
        // The walk has a copy of a chunk, so runs that were cleared with their region may come again.
        let mut done = 0;
        for run in self.records.runs(ty) {
            let end = run.start.offset() + run.len;
            while end > done {
                let from = run.start.offset().max(done);
                let region = from - from % REGION_ENTRIES as u64;
                let max_pages = self.records.max_pages(ty).unwrap_or(0);
                let to = (region + REGION_ENTRIES as u64).min(max_pages);
                if to <= from {
                    return dropped;
                }
                if let Some(start) = SwapEntry::new(ty, from) {
                    let freed = self.free_swap(start, to - from).unwrap_or_default();
                    dropped += freed.iter().map(|run| run.len).sum::<u64>();
                }
                done = to;
            }
        }
        dropped
    }

    fn is_stopping(&self, ty: SwapType) -> bool {
        self.stopping[usize::from(ty.get())].load(Ordering::Acquire)
    }

    /// Gives the slots an owner, unless their type is being turned off. In a section.
    fn write(&self, start: SwapEntry, nr: u64, id: MemcgId) -> Result<Runs, MemcgError> {
        let ty = start.swap_type();
        if self.is_stopping(ty) {
            let offset = Some(start.offset());
            return Err(EntryError::TypeOff { ty, offset }.into());
        }
        Ok(self.records.record_range(start, nr, id)?)
    }

    /// The owners of these runs, which are of one type, have fewer records. In a section that began before
    /// they were cleared.
    fn uncharge_records(&self, runs: &[crate::Run]) {
        let Some(ty) = runs.first().map(|run| run.start.swap_type()) else {
            return;
        };
        // Where owners take turns, each is uncharged once.
        let mut sums = Sums::default();
        for run in runs {
            if let Some((id, nr)) = sums.add(run.id, run.len) {
                self.uncharge_swap(ty, id, nr);
            }
        }
        for (id, nr) in sums.0.into_iter().flatten() {
            self.uncharge_swap(ty, id, nr);
        }
    }

    fn uncharge_swap(&self, ty: SwapType, id: MemcgId, nr: u64) {
        let gone = Stock {
            memsw: nr,
            swap: -nr.cast_signed(),
            ..Stock::default()
        };
        self.put_records(ty, id, gone);
    }

    /// The cgroup itself if it is online, or its first ancestor that is.
    fn online_from(&self, memcg: Memcg) -> Result<(MemcgId, Memcg), MemcgError> {
        let online = |(id, slot): (MemcgId, &Slot)| {
            let memcg = slot.memcg(id)?;
            (slot.state() == State::Online).then_some((id, memcg))
        };
        let found = self.slots.up(memcg.id()).find_map(online);
        found.ok_or(MemcgError::Gone { memcg })
    }

    /// The owner of the first of these slots, all of which have one.
    fn owner(&self, start: SwapEntry, nr: u64) -> Result<MemcgId, MemcgError> {
        self.check_range(start, nr)?;
        let mut first = None;
        for skip in 0..nr.max(1) {
            let entry = start.checked_add(skip).unwrap_or(start);
            let owner = self.records.lookup(entry);
            let owner = owner.ok_or(MemcgError::NoRecord { entry })?;
            first = first.or(Some(owner));
        }
        first.ok_or(MemcgError::NoRecord { entry: start })
    }

    /// None of these slots has an owner.
    fn check_free(&self, start: SwapEntry, nr: u64) -> Result<(), MemcgError> {
        self.check_range(start, nr)?;
        for skip in 0..nr {
            let entry = start.checked_add(skip).unwrap_or(start);
            if let Some(owner) = self.records.lookup(entry) {
                return Err(MemcgError::Occupied { entry, owner });
            }
        }
        Ok(())
    }

    /// The swapfile is on, and has all of these slots.
    fn check_range(&self, start: SwapEntry, nr: u64) -> Result<(), EntryError> {
        let ty = start.swap_type();
        let offset = start.offset();
        let off = EntryError::TypeOff {
            ty,
            offset: Some(offset),
        };
        let max_pages = self.records.max_pages(ty).ok_or(off)?;
        match offset.checked_add(nr) {
            Some(end) if end <= max_pages => Ok(()),
            _ => Err(EntryError::OutOfRange {
                start,
                nr,
                max_pages,
            }),
        }
    }
}

/// Pages by owner, for a few of them.
#[derive(Default)]
struct Sums([Option<(MemcgId, u64)>; 8]);

impl Sums {
    /// Gives the sum of an owner that had to make room.
    fn add(&mut self, id: MemcgId, nr: u64) -> Option<(MemcgId, u64)> {
        let place = usize::from(id.get()) % self.0.len();
        match &mut self.0[place] {
            Some((of, sum)) if *of == id => {
                *sum += nr;
                None
            }
            other => other.replace((id, nr)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thread finds between the first step of a swapoff and the last.
    #[test]
    fn a_type_that_is_being_turned_off_takes_no_record() {
        let memcgs = Memcgs::new();
        let ty = SwapType::new(1).unwrap();
        memcgs.swapon(ty, 9).unwrap();
        let child = memcgs.create(memcgs.root()).unwrap();
        memcgs.charge(child, 3).unwrap();
        let stopping = &memcgs.stopping[1];
        stopping.store(true, Ordering::Release);
        let start = SwapEntry::new(ty, 4).unwrap();
        let off = |offset| EntryError::TypeOff { ty, offset };
        let refused = memcgs.swap_out(child, start, 3);
        assert_eq!(refused, Err(MemcgError::Entry(off(Some(4)))));
        assert_eq!(memcgs.usage(child).unwrap().own, 3);
        assert_eq!(memcgs.swapoff(ty), Err(off(None)));
        stopping.store(false, Ordering::Release);
        memcgs.swap_out(child, start, 3).unwrap();
        assert_eq!(memcgs.swapoff(ty), Ok(3));
        memcgs.validate().unwrap();
    }

    #[test]
    fn owners_that_share_a_place_are_added_up_one_after_the_other() {
        let id = |id| MemcgId::new(id).unwrap();
        let mut sums = Sums::default();
        assert_eq!((sums.add(id(3), 5), sums.add(id(3), 2)), (None, None));
        assert_eq!(sums.add(id(4), 1), None);
        assert_eq!(sums.add(id(3 + 8), 1), Some((id(3), 7)));
        assert_eq!(sums.add(id(3 + 800), 9), Some((id(3 + 8), 1)));
        let left: u64 = sums.0.into_iter().flatten().map(|(_, nr)| nr).sum();
        assert_eq!(left, 10);
    }
}
