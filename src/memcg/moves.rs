//! Moves charges from one cgroup to another: for pages in memory, and for records.

use lock_api::RawMutex;

use super::Memcgs;
use super::error::MemcgError;
use super::handle::Memcg;
use super::in_hand::{Charge, Moved, Pages};
use super::shard::Stock;
use crate::entry::SwapEntry;
use crate::span::Span;

impl<L: RawMutex> Memcgs<L> {
    /// Moves the charge of `nr` pages in memory from `from` to `to`, which must be online. Callers reparent
    /// the pages of an offline cgroup this way.
    ///
    /// The counters of common ancestors do not change. So moving pages to an ancestor never exceeds a limit.
    ///
    /// ```
    /// # use swap_records::memcg::{MemcgError, Memcgs};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let memcgs = Memcgs::new();
    /// # let parent = memcgs.create(memcgs.root())?;
    /// # let child = memcgs.create(parent)?;
    /// # memcgs.charge(child, 16)?;
    /// memcgs.css_offline(child, 0)?;
    /// assert!(matches!(memcgs.css_free(child), Err(MemcgError::Busy { pages: 16, .. })));
    /// memcgs.move_account(child, parent, 16)?;
    /// memcgs.css_free(child)?;
    /// assert_eq!(memcgs.usage(parent)?.own, 16);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`NotCharged`](MemcgError::NotCharged) if `from` has fewer than `nr` pages of its own in memory.
    /// - [`OverLimit`](MemcgError::OverLimit) if a limit of `to`, or of an ancestor below the nearest common
    ///   one, would be exceeded.
    /// - [`Offline`](MemcgError::Offline) if `to` is offline.
    /// - [`Gone`](MemcgError::Gone) if one of the two was freed.
    ///
    /// A call that is refused has changed nothing.
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
            // If taking the lock unwinds, the guards undo both steps. If freeing it unwinds, both are done.
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

    /// Makes `to` the owner of those of the `nr` slots from `start` on that `from` owns, and moves their
    /// charges. `to` must be online. Returns the number of records that were moved.
    ///
    /// The counters of common ancestors do not change. A slot whose owner changes meanwhile may be moved or
    /// not. The call does not look at regions in which `from` has no records.
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
    /// assert_eq!(memcgs.move_swap_account(slot(0), 2, child, parent)?, 2);
    /// assert_eq!((memcgs.usage(child)?.swap, memcgs.usage(parent)?.swap), (2, 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # More than one region
    ///
    /// All records are counted and charged to `to` before the first one is moved. Then the regions are done
    /// one by one. `css_offline`, `css_free` and `swapoff` wait for one of them only. `css_free` refuses `to`
    /// as [`Busy`](MemcgError::Busy) until the call returns. If `to` goes offline or `from` is freed
    /// meanwhile, the call ends there. It then returns the number of records moved so far, and the rest
    /// belongs to `from` or its parent.
    ///
    /// # Errors
    ///
    /// - [`OverLimit`](MemcgError::OverLimit) if a limit of `to`, or of an ancestor below the nearest common
    ///   one, would be exceeded.
    /// - [`Offline`](MemcgError::Offline) if `to` is offline.
    /// - [`Gone`](MemcgError::Gone) if one of the two was freed.
    /// - [`Entry`](MemcgError::Entry) if the range is not in a swapfile that is on.
    ///
    /// A call that is refused has changed nothing, with one exception. If another thread turns the swapfile
    /// off meanwhile, slots below the offset in the error may have been moved before they went with the
    /// swapfile.
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
        // In no section, because it may take long.
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

    /// Charges `to` for `due` records of `from`. The caller is in a section.
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

    /// Moves records of `from` in the span, which lies in one region. Moves at most as many as are charged,
    /// since `from` may have got more records meanwhile. The caller is in a section.
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
