//! The expected state of a table: a map of the records of each type.

use std::collections::BTreeMap;

use swap_records::{
    EntryError, Exchange, MemcgId, REGION_ENTRIES, Run, SwapEntry, SwapType, SwaponError,
};

use super::Slot;
use super::watch::Watch;

/// The most pages of a swapfile.
const LIMIT: u64 = if usize::BITS >= 64 { 1 << 50 } else { 1 << 29 };

/// The distance between two ids that share a counter.
const COUNTERS: u16 = if cfg!(miri) { 16 } else { 4096 };

#[derive(Debug)]
struct File {
    max_pages: u64,
    records: BTreeMap<u64, MemcgId>,
}

/// The records of each type that is on, and the watches on them.
#[derive(Default, Debug)]
pub(super) struct Map {
    files: BTreeMap<SwapType, File>,
    /// The watches of the open migration and of the open iterator.
    pub(super) watches: [Option<Watch>; 2],
}

/// Changes one slot, and tells the watches.
fn change(
    records: &mut BTreeMap<u64, MemcgId>,
    watches: &mut [Option<Watch>; 2],
    slot: Slot,
    owner: Option<MemcgId>,
) {
    let had = match owner {
        Some(id) => records.insert(slot.1, id),
        None => records.remove(&slot.1),
    };
    if had != owner {
        for watch in watches.iter_mut().flatten() {
            watch.changed(slot, had, owner);
        }
    }
}

impl Map {
    pub(super) fn max_pages(&self, ty: SwapType) -> Option<u64> {
        Some(self.files.get(&ty)?.max_pages)
    }

    /// Returns the pages of each type that is on.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.files.values().map(|file| file.max_pages)
    }

    /// Does the same as [`swap_records::SwapRecords::swapon`], with 0 for the bytes of an `OutOfMemory`.
    pub(super) fn swapon(&mut self, ty: SwapType, max_pages: u64) -> Result<(), SwaponError> {
        if max_pages == 0 {
            return Err(SwaponError::NoPages { ty });
        }
        if max_pages > LIMIT {
            return Err(SwaponError::TooLarge {
                ty,
                max_pages,
                limit: LIMIT,
            });
        }
        if self.files.contains_key(&ty) {
            return Err(SwaponError::TypeOn { ty });
        }
        // 2 PiB of table, more than any address space has today.
        if max_pages == 1 << 50 {
            return Err(SwaponError::OutOfMemory {
                ty,
                max_pages,
                bytes: 0,
            });
        }
        let records = BTreeMap::new();
        self.files.insert(ty, File { max_pages, records });
        Ok(())
    }

    pub(super) fn swapoff(&mut self, ty: SwapType) -> Result<u64, EntryError> {
        let mut file = self
            .files
            .remove(&ty)
            .ok_or(EntryError::TypeOff { ty, offset: None })?;
        let dropped = file.records.len() as u64;
        while let Some((&offset, _)) = file.records.first_key_value() {
            let slot = (ty.get(), offset);
            change(&mut file.records, &mut self.watches, slot, None);
        }
        Ok(dropped)
    }

    /// Makes `owner` the owner of `nr` slots. Returns the previous owners.
    pub(super) fn set(
        &mut self,
        start: SwapEntry,
        nr: u64,
        owner: Option<MemcgId>,
    ) -> Result<Vec<Run>, EntryError> {
        let ty = start.swap_type();
        let offset = start.offset();
        let off = EntryError::TypeOff {
            ty,
            offset: Some(offset),
        };
        let File { max_pages, records } = self.files.get_mut(&ty).ok_or(off)?;
        let max_pages = *max_pages;
        if u128::from(offset) + u128::from(nr) > u128::from(max_pages) {
            return Err(EntryError::OutOfRange {
                start,
                nr,
                max_pages,
            });
        }
        let had = records.range(offset..offset + nr);
        let had = to_runs(ty, had.map(|(&at, &id)| (at, id)));
        for offset in offset..offset + nr {
            change(records, &mut self.watches, (ty.get(), offset), owner);
        }
        Ok(had)
    }

    /// Gives each slot its new owner, in order. Returns each slot that had an owner, with that owner. Changes
    /// nothing if a slot is refused.
    pub(super) fn set_each(
        &mut self,
        slots: impl Iterator<Item = (SwapEntry, Option<MemcgId>)> + Clone,
    ) -> Result<Vec<(SwapEntry, MemcgId)>, EntryError> {
        for (slot, _) in slots.clone() {
            // Storing the current owner checks the slot and changes nothing.
            self.set(slot, 1, self.lookup(slot))?;
        }
        let mut had = Vec::new();
        for (slot, owner) in slots {
            let runs = self.set(slot, 1, owner)?;
            had.extend(runs.iter().map(|run| (slot, run.id)));
        }
        Ok(had)
    }

    pub(super) fn lookup(&self, ent: SwapEntry) -> Option<MemcgId> {
        let file = self.files.get(&ent.swap_type())?;
        file.records.get(&ent.offset()).copied()
    }

    pub(super) fn cmpxchg(
        &mut self,
        ent: SwapEntry,
        old: Option<MemcgId>,
        new: Option<MemcgId>,
    ) -> Result<Exchange, EntryError> {
        let owner = self.lookup(ent);
        // Storing the current owner checks the slot and changes nothing.
        self.set(ent, 1, if owner == old { new } else { owner })?;
        Ok(if owner == old {
            Exchange::Stored
        } else {
            Exchange::Mismatch(owner)
        })
    }

    /// Returns every record, lowest type and lowest offset first.
    pub(super) fn records(&self) -> impl Iterator<Item = (Slot, MemcgId)> {
        self.files.iter().flat_map(|(ty, file)| {
            let records = file.records.iter();
            records.map(|(&offset, &id)| ((ty.get(), offset), id))
        })
    }

    pub(super) fn count(&self, id: MemcgId) -> u64 {
        self.records().filter(|&(_, owner)| owner == id).count() as u64
    }

    pub(super) fn count_on(&self, ty: SwapType, id: MemcgId) -> u64 {
        let records = self
            .files
            .get(&ty)
            .into_iter()
            .flat_map(|file| &file.records);
        records.filter(|&(_, &owner)| owner == id).count() as u64
    }

    /// Counts the records of this id and of the ids that share its counter.
    pub(super) fn count_of_counter(&self, id: MemcgId) -> u64 {
        let counter = |id: MemcgId| id.get() % COUNTERS;
        self.records()
            .filter(|&(_, owner)| counter(owner) == counter(id))
            .count() as u64
    }

    /// Returns the highest number of records of this id in one region.
    pub(super) fn most_in_a_region(&self, id: MemcgId) -> u64 {
        let mut regions = BTreeMap::<Slot, u64>::new();
        for ((ty, offset), owner) in self.records() {
            if owner == id {
                *regions
                    .entry((ty, offset / REGION_ENTRIES as u64))
                    .or_default() += 1;
            }
        }
        regions.into_values().max().unwrap_or(0)
    }

    /// Gives those records of `old` to `new` for which `moves` is true. Returns how many.
    pub(super) fn migrate(
        &mut self,
        old: MemcgId,
        new: MemcgId,
        mut moves: impl FnMut(SwapEntry) -> bool,
    ) -> u64 {
        let mut moved = 0;
        for (&ty, file) in &mut self.files {
            let of_old = file.records.iter().filter(|&(_, &owner)| owner == old);
            let offsets: Vec<_> = of_old.map(|(&offset, _)| offset).collect();
            for offset in offsets {
                if moves(SwapEntry::new(ty, offset).unwrap()) {
                    let slot = (ty.get(), offset);
                    change(&mut file.records, &mut self.watches, slot, Some(new));
                    moved += 1;
                }
            }
        }
        moved
    }

    pub(super) fn runs(&self, ty: SwapType) -> Vec<Run> {
        self.files.get(&ty).map_or(Vec::new(), |file| {
            to_runs(ty, file.records.iter().map(|(&at, &id)| (at, id)))
        })
    }
}

fn to_runs(ty: SwapType, records: impl Iterator<Item = (u64, MemcgId)>) -> Vec<Run> {
    let mut runs = Vec::<Run>::new();
    for (offset, id) in records {
        match runs.last_mut() {
            Some(last) if last.start.offset() + last.len == offset && last.id == id => {
                last.len += 1;
            }
            _ => runs.push(Run {
                start: SwapEntry::new(ty, offset).unwrap(),
                len: 1,
                id,
            }),
        }
    }
    runs
}
