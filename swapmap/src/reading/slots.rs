//! Records the slots that were found. Of several processes with one slot, the one that began first keeps it.

use std::collections::BTreeMap;

use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};

use super::assign::Seen;
use super::process::Holder;
use super::{Refused, SwapFile, Tally};

pub(super) struct Slots {
    pub(super) records: SwapRecords,
    /// Slots of the longest swapfile, the header's included.
    longest: u64,
    types: BTreeMap<SwapType, Of>,
    holders: Vec<Holder>,
}

/// The slots of a type.
struct Of {
    max_offset: u64,
    /// The number of the process of each slot. Pages of this list that are not written to take no memory.
    holders: Vec<u32>,
}

impl Slots {
    pub(super) fn new(swapfiles: &[SwapFile]) -> Self {
        let longest = swapfiles.iter().map(|file| file.max_pages).max();
        Self {
            records: SwapRecords::new(),
            longest: longest.unwrap_or(0),
            types: BTreeMap::new(),
            holders: Vec::new(),
        }
    }

    /// Returns the processes that have slots, by their numbers.
    pub(super) fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// Clears all slots that are recorded for the process `holder`. Reads the whole of each type.
    pub(super) fn forget(&self, holder: usize) -> Result<(), Refused> {
        let holder = u32::try_from(holder).unwrap_or(u32::MAX);
        for (&ty, of) in &self.types {
            let slots = (0_u64..).zip(&of.holders);
            for (offset, _) in slots.filter(|&(_, &of)| of == holder) {
                // The process 0 also stands for slots without a record, which are cleared in vain.
                if let Some(entry) = SwapEntry::new(ty, offset) {
                    let cleared = self.records.clear_range(entry, 1);
                    cleared.map_err(Refused::Entry)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a process, and returns its number.
    pub(super) fn holder(&mut self, holder: Holder) -> usize {
        self.holders.push(holder);
        self.holders.len() - 1
    }

    /// Records a slot of the process `holder`, which is in the memcg `id`.
    ///
    /// The kernel charged the process that touched the page first. This is the process that began first: its
    /// forks got the slot from it.
    pub(super) fn record(
        &mut self,
        entry: SwapEntry,
        id: MemcgId,
        holder: usize,
        tally: &mut Tally,
    ) -> Result<(), Refused> {
        let (ty, offset) = (entry.swap_type(), entry.offset());
        // Slot 0 of every swapfile is its header. The kernel never writes a page there.
        if offset == 0 {
            return Err(Refused::OffsetsHidden);
        }
        tally.past_the_end += u64::from(offset >= self.longest);
        // The swapfile of the type is not known yet. A table that is too long takes only address space.
        let records = &self.records;
        match records.max_pages(ty) {
            None => records
                .swapon(ty, self.longest.max(offset + 1))
                .map_err(Refused::Swapon)?,
            // The size doubles, so the slots are rarely recorded again.
            Some(max_pages) if offset >= max_pages => {
                let doubled = max_pages.saturating_mul(2).min(SwapEntry::MAX_OFFSET + 1);
                resize(records, ty, doubled.max(offset + 1))?;
            }
            Some(_) => {}
        }
        let slots = usize::try_from(records.max_pages(ty).unwrap_or(0)).unwrap_or(0);
        let of = self.types.entry(ty).or_insert_with(|| Of {
            max_offset: 0,
            holders: vec![0; slots],
        });
        if of.holders.len() < slots {
            of.holders.resize(slots, 0);
        }
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let number = u32::try_from(holder).unwrap_or(u32::MAX);
        if let Some(owner) = records.lookup(entry) {
            if owner == id {
                tally.shared += 1;
            } else {
                tally.disputed += 1;
            }
            let first = &self.holders[of.holders[at] as usize];
            if !self.holders[holder].began_before(first) {
                return Ok(());
            }
        }
        records.record(entry, id).map_err(Refused::Entry)?;
        of.holders[at] = number;
        of.max_offset = of.max_offset.max(offset);
        Ok(())
    }

    /// Shrinks the types that grew to the size that their last slot needs. Called at the end of the reading.
    pub(super) fn trim(&self) -> Result<(), Refused> {
        for (&ty, of) in &self.types {
            let needed = self.longest.max(of.max_offset + 1);
            if self.records.max_pages(ty).is_some_and(|is| is > needed) {
                resize(&self.records, ty, needed)?;
            }
        }
        Ok(())
    }

    /// Returns what was found of each type, lowest first.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let seen = |(&ty, of): (&SwapType, &Of)| Seen {
            ty,
            max_offset: of.max_offset,
            found: self.records.owners_on(ty).map(|(_, slots)| slots).sum(),
        };
        self.types.iter().map(seen).collect()
    }
}

/// Turns `ty` off, and on again with `max_pages`, and keeps its records. All records must be below
/// `max_pages`.
fn resize(records: &SwapRecords, ty: SwapType, max_pages: u64) -> Result<(), Refused> {
    let runs: Vec<_> = records.runs(ty).collect();
    records.swapoff(ty).map_err(Refused::Entry)?;
    records.swapon(ty, max_pages).map_err(Refused::Swapon)?;
    for run in runs {
        records
            .record_range(run.start, run.len, run.id)
            .map_err(Refused::Entry)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_grows_keeps_its_records() {
        let mut slots = Slots::new(&[]);
        let mut tally = Tally::default();
        let ty = SwapType::new(3).unwrap();
        let id = MemcgId::new(7).unwrap();
        let holder = slots.holder(Holder::new(u32::MAX, 0, false));
        for offset in [9, 19, 100] {
            let entry = SwapEntry::new(ty, offset).unwrap();
            slots.record(entry, id, holder, &mut tally).unwrap();
        }
        slots.trim().unwrap();
        assert_eq!(slots.records.max_pages(ty), Some(101));
        assert_eq!(slots.records.count(id), 3);
        assert_eq!(tally.past_the_end, 3);
        let seen = &slots.seen()[0];
        assert_eq!((seen.ty, seen.max_offset, seen.found), (ty, 100, 3));
    }

    #[test]
    fn many_slots_past_the_end_take_linear_time() {
        let mut slots = Slots::new(&[]);
        let mut tally = Tally::default();
        let ty = SwapType::new(0).unwrap();
        let ids = [1, 2].map(|id| MemcgId::new(id).unwrap());
        let holder = slots.holder(Holder::new(u32::MAX, 0, false));
        let began = std::time::Instant::now();
        for offset in 1..=40_000 {
            let entry = SwapEntry::new(ty, offset).unwrap();
            // Neighbours are never of one cgroup.
            let id = ids[usize::from(offset % 2 == 0)];
            slots.record(entry, id, holder, &mut tally).unwrap();
        }
        slots.trim().unwrap();
        let took = began.elapsed();
        assert_eq!(ids.map(|id| slots.records.count(id)), [20_000; 2]);
        assert_eq!(slots.records.max_pages(ty), Some(40_001));
        assert!(took.as_secs() < 1, "{took:?}");
    }

    #[test]
    fn a_slot_of_two_processes_goes_to_the_one_that_has_not_ended() {
        let file = SwapFile {
            name: b"a".to_vec(),
            max_pages: 100,
            used: 9,
        };
        let mut slots = Slots::new(&[file]);
        let mut tally = Tally::default();
        let [a, b] = [1, 2].map(|id| MemcgId::new(id).unwrap());
        let entry = SwapEntry::new(SwapType::new(0).unwrap(), 9).unwrap();
        let gone = slots.holder(Holder::new(u32::MAX, 0, false));
        let own = slots.holder(Holder::new(std::process::id(), u64::MAX, false));
        for (id, holder) in [(a, gone), (b, own), (a, gone)] {
            slots.record(entry, id, holder, &mut tally).unwrap();
        }
        assert_eq!(slots.records.lookup(entry), Some(b));
        assert_eq!((tally.disputed, tally.shared), (2, 0));
        slots.forget(gone).unwrap();
        assert_eq!(slots.records.lookup(entry), Some(b));
        slots.forget(own).unwrap();
        assert_eq!(slots.records.lookup(entry), None);
        let hidden = SwapEntry::new(entry.swap_type(), 0).unwrap();
        let refused = slots.record(hidden, a, own, &mut tally);
        assert!(matches!(refused, Err(Refused::OffsetsHidden)));
    }
}
