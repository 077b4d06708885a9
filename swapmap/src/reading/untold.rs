//! Entries of types that may be those of swapfiles or of markers, kept until the end of the reading.
//!
//! **Invariant: an entry is counted once, as what its type is known to be when all processes have been
//! read.** A process that is read later may tell what the type is.

use swap_records::{MemcgId, SwapEntry};

use super::kinds::{Kind, Kinds};
use super::slots::Slots;
use super::{Refused, Tally};

/// The same entry, so many times in a row in the page table of one process. Markers have few different
/// values, so a million of them takes one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Repeated {
    entry: SwapEntry,
    id: MemcgId,
    holder: usize,
    nr: u64,
}

#[derive(Debug, Default)]
pub(super) struct Untold(Vec<Repeated>);

impl Untold {
    /// Keeps an entry of the process `holder`, which is in the memcg `id`.
    pub(super) fn add(&mut self, entry: SwapEntry, id: MemcgId, holder: usize) {
        match self.0.last_mut() {
            Some(last) if (last.entry, last.holder) == (entry, holder) => last.nr += 1,
            _ => self.0.push(Repeated {
                entry,
                id,
                holder,
                nr: 1,
            }),
        }
    }

    /// Drops the entries of a process.
    pub(super) fn forget(&mut self, holder: usize) {
        self.0.retain(|of| of.holder != holder);
    }

    /// Counts all entries by what is known now.
    pub(super) fn settle(
        self,
        kinds: &Kinds,
        slots: &mut Slots,
        tally: &mut Tally,
    ) -> Result<(), Refused> {
        for of in self.0 {
            let ty = of.entry.swap_type();
            match kinds.of(ty) {
                Kind::Slot => {
                    for _ in 0..of.nr {
                        slots.record(of.entry, of.id, of.holder, tally)?;
                    }
                }
                Kind::NoSlot => tally.no_slot += of.nr,
                Kind::Untold => *tally.untold.entry(ty).or_insert(0) += of.nr,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::Holder;
    use super::*;
    use swap_records::{MAX_SWAPFILES, SwapType};

    #[test]
    fn what_a_later_process_tells_holds_for_the_entries_before_it() {
        let mut kinds = Kinds::new(1);
        let mut slots = Slots::new(&[]);
        let mut tally = Tally::default();
        let mut untold = Untold::default();
        let entry = |ty, offset| SwapEntry::new(SwapType::new(ty).unwrap(), offset).unwrap();
        let id = MemcgId::new(7).unwrap();
        let holder = slots.holder(Holder::new(u32::MAX, 0, false));
        let dropped = slots.holder(Holder::new(u32::MAX, 0, false));
        for offset in 1..=3 {
            untold.add(entry(24, offset), id, holder);
        }
        for _ in 0..1_000_000 {
            untold.add(entry(31, 1), id, holder);
        }
        untold.add(entry(28, 1), id, holder);
        untold.add(entry(24, 9), id, dropped);
        assert_eq!(untold.0.len(), 6, "a marker that repeats is one");
        untold.forget(dropped);
        // Another process: 5 slots of type 25, and 2 markers.
        let mut of_it = [0; MAX_SWAPFILES];
        of_it[25] = 5;
        of_it[30] = 2;
        kinds.learn(&of_it, 5, false);
        untold.settle(&kinds, &mut slots, &mut tally).unwrap();
        assert_eq!(slots.records.count(id), 3);
        assert_eq!(tally.no_slot, 1_000_000);
        assert_eq!(tally.untold, [(SwapType::new(28).unwrap(), 1)].into());
    }
}
