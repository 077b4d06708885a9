//! What moves from one cgroup to another: pages in memory, and records.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::in_hand::{Charge, Moved, Pages};
use super::shard::Stock;
use crate::entry::SwapEntry;
use crate::span::Span;

impl<L: RawMutex> Memcgs<L> {
    /// Makes `nr` pages in memory that are charged to `from` charges of `to`, which is online: what
    /// a caller does who hands the pages of a dying cgroup to its parent.
    ///
    /// Ancestors that both have in common see nothing of it, so that moving to an ancestor exceeds
    /// no limit.
    ///
    /// # Errors
    ///
    /// [`NotCharged`](MemcgError::NotCharged) where `from` has fewer pages in memory;
    /// [`OverLimit`](MemcgError::OverLimit); [`Offline`](MemcgError::Offline) where `to` is;
    /// [`Gone`](MemcgError::Gone). Then nothing has changed.
    pub fn move_account(&self, from: Memcg, to: Memcg, nr: u64) -> Result<(), MemcgError> {
        self.section_while_live(from, |slot| {
            let of_to = self.online(to)?;
            let mut pages = Pages::none(from.id(), slot);
            self.take(from, slot, nr, Stock::default(), false, || pages.nr = nr)?;
            let common = self.common_ancestor(from.id(), to.id());
            let mut charge = Charge::none(self, (to.id(), of_to), common);
            self.charge_path(to.id(), common, nr, nr, 0, || {
                (charge.memory, charge.memsw) = (nr, nr);
            })?;
            // Until the lock is held, both are put back; when it is freed, both are done.
            let mut shard = self.shards.here();
            let moved = Stock {
                used: nr,
                ..Stock::default()
            };
            self.put_at(&mut shard, to.id(), moved);
            self.uncharge_path(from.id(), common, nr, nr, 0);
            (charge.memory, charge.memsw, pages.nr) = (0, 0, 0);
            drop(shard);
            Ok(())
        })
    }

    /// Gives those of the `nr` slots from `start` on that `from` owns to `to`, which is online, and their
    /// charges with them. Gives how many.
    ///
    /// Ancestors that both have in common see nothing of it. A slot whose owner changes meanwhile is
    /// moved or not. Regions in which `from` has no records are not looked at.
    ///
    /// # More than one region
    ///
    /// All slots are counted and charged to `to` before the first is moved. Then one region after the other is moved,
    /// and `css_free` and `swapoff` wait for one of them only; `css_free` refuses `to` as
    /// [`Busy`](MemcgError::Busy) until the end. Where `to` goes offline meanwhile, or `from` is freed, it ends there:
    /// the number says how many were moved, and the rest belongs to `from` or its parent.
    ///
    /// # Errors
    ///
    /// [`OverLimit`](MemcgError::OverLimit) of `to` or an ancestor of it;
    /// [`Offline`](MemcgError::Offline) where `to` is; [`Gone`](MemcgError::Gone);
    /// [`Entry`](MemcgError::Entry) where the range is not in a swapfile that is on. Then nothing has changed, but in
    /// one case: where another thread turns the swapfile off meanwhile, slots below the offset in the error
    /// may have been moved before they went with the swapfile.
    pub fn move_swap_account(
        &self,
        start: SwapEntry,
        nr: u64,
        from: Memcg,
        to: Memcg,
    ) -> Result<u64, MemcgError> {
        let (old, new) = (from.id(), to.id());
        let mut span = self.section_while_live(from, |_| {
            self.online(to)?;
            Ok(self.records.span(start, nr)?)
        })?;
        if old == new {
            return Ok(0);
        }
        // In no section: it may take long.
        let due = span.count(old)?;
        if span.is_in_one_region() {
            return self.section_while_live(from, |_| {
                let mut charge = self.charge_records(from, to, due)?;
                self.move_records(span, from, &mut charge)
            });
        }
        let mut charge = self.section_while_live(from, |_| {
            let mut charge = self.charge_records(from, to, due)?;
            charge.keep();
            Ok(charge)
        })?;
        let mut moved = 0;
        loop {
            span.skip_to(old);
            let Some(region) = span.take_region() else {
                return Ok(moved);
            };
            let here = self.section_while_live(from, |_| {
                self.online(to)?;
                self.move_records(region, from, &mut charge)
            });
            match here {
                Ok(more) => moved += more,
                Err(off @ MemcgError::Entry(_)) => return Err(off),
                Err(_) => return Ok(moved),
            }
        }
    }

    /// Charges `to` for so many records of `from`. In a section.
    fn charge_records(
        &self,
        from: Memcg,
        to: Memcg,
        due: u64,
    ) -> Result<Charge<'_, L>, MemcgError> {
        let slot = self.online(to)?;
        let common = self.common_ancestor(from.id(), to.id());
        let mut charge = Charge::none(self, (to.id(), slot), common);
        self.charge_path(to.id(), common, 0, due, due, || {
            (charge.memsw, charge.swap) = (due, due);
        })?;
        Ok(charge)
    }

    /// Moves records of `from` in the span, which is in one region: no more than are charged, as others may come to
    /// `from` meanwhile. In a section.
    fn move_records<'a>(
        &'a self,
        mut span: Span<'_, L>,
        from: Memcg,
        charge: &mut Charge<'a, L>,
    ) -> Result<u64, MemcgError> {
        let (to, most) = (charge.id, charge.memsw);
        let mut moved = Moved::none(from.id(), charge);
        span.replace_region(from.id(), to, most, &mut moved.nr)?;
        let nr = moved.nr;
        moved.settle();
        Ok(nr)
    }
}
