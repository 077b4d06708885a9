//! Operations on a table, and an oracle that knows their answers: a map of the records of each type.

use std::collections::BTreeMap;

use lock_api::RawMutex;
use swap_records::{
    EntryError, Exchange, MemcgId, Run, Step, SwapEntry, SwapRecords, SwapType, SwaponError,
};

/// One operation. Offsets may lie past the end, types may be off.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Swapon(SwapType, u64),
    Swapoff(SwapType),
    Record(SwapEntry, MemcgId),
    Clear(SwapEntry),
    Cmpxchg(SwapEntry, Option<MemcgId>, Option<MemcgId>),
    Lookup(SwapEntry),
    RecordRange(SwapEntry, u64, MemcgId),
    ClearRange(SwapEntry, u64),
    Count(MemcgId),
    Migrate(MemcgId, MemcgId),
    MigrateInSteps(MemcgId, MemcgId, u64),
    MigrateWithHint(MemcgId, MemcgId, u64),
    Runs(SwapType),
    RunsOf(MemcgId),
}

#[derive(Debug)]
struct File {
    max_pages: u64,
    records: BTreeMap<u64, MemcgId>,
}

/// What a table must be like after the same operations.
#[derive(Default, Debug)]
pub(crate) struct Oracle(BTreeMap<SwapType, File>);

impl Oracle {
    /// Does the operation on both, and asserts that they answer alike.
    pub(crate) fn apply<L: RawMutex>(&mut self, table: &SwapRecords<L>, op: &Op) {
        match *op {
            Op::Swapon(ty, pages) => assert_eq!(table.swapon(ty, pages), self.swapon(ty, pages)),
            Op::Swapoff(ty) => assert_eq!(table.swapoff(ty), self.swapoff(ty)),
            Op::Record(ent, id) => {
                let had = self.set(ent, 1, Some(id));
                assert_eq!(table.record(ent, id), had.map(only_id));
            }
            Op::Clear(ent) => {
                let had = self.set(ent, 1, None);
                assert_eq!(table.clear(ent), had.map(only_id));
            }
            Op::Cmpxchg(ent, old, new) => {
                assert_eq!(table.cmpxchg(ent, old, new), self.cmpxchg(ent, old, new));
            }
            Op::Lookup(ent) => assert_eq!(table.lookup(ent), self.lookup(ent)),
            Op::RecordRange(ent, nr, id) => {
                let had = self.set(ent, nr, Some(id));
                assert_eq!(
                    table.record_range(ent, nr, id).map(|runs| runs.to_vec()),
                    had
                );
            }
            Op::ClearRange(ent, nr) => {
                let had = self.set(ent, nr, None);
                assert_eq!(table.clear_range(ent, nr).map(|runs| runs.to_vec()), had);
            }
            Op::Count(id) => {
                let count = self.count(id);
                assert_eq!(table.count(id), count);
                assert!(table.count_at_most(id) >= count);
            }
            Op::Migrate(old, new) => {
                assert_eq!(table.migrate(old, new), self.migrate(old, new));
            }
            Op::MigrateInSteps(old, new, budget) => {
                let mut migration = table.migration(old, new);
                let migrated = loop {
                    if let Step::Done(migrated) = migration.step(budget) {
                        break migrated;
                    }
                };
                assert_eq!(migrated.moved, self.migrate(old, new));
                assert!(!migrated.stopped_by_hint);
                assert!(migrated.left_at_most >= table.count(old));
                assert_eq!(migration.step(budget), Step::Done(migrated));
            }
            Op::MigrateWithHint(old, new, hint) => self.migrate_with_hint(table, old, new, hint),
            Op::Runs(ty) => assert_eq!(table.runs(ty).collect::<Vec<_>>(), self.runs(ty)),
            Op::RunsOf(id) => {
                let runs = SwapType::all().flat_map(|ty| self.runs(ty));
                let runs: Vec<_> = runs.filter(|run| run.id == id).collect();
                assert_eq!(table.runs_of(id).collect::<Vec<_>>(), runs);
            }
        }
    }

    /// Asserts that the table holds what it should, and that its invariants stand.
    pub(crate) fn check<L: RawMutex>(&self, table: &SwapRecords<L>) {
        table.validate().unwrap();
        for ty in SwapType::all() {
            assert_eq!(
                table.max_pages(ty),
                self.0.get(&ty).map(|file| file.max_pages)
            );
            assert!(table.runs(ty).eq(self.runs(ty)), "type {ty}");
        }
    }

    fn swapon(&mut self, ty: SwapType, max_pages: u64) -> Result<(), SwaponError> {
        if max_pages == 0 {
            return Err(SwaponError::NoPages { ty });
        }
        if self.0.contains_key(&ty) {
            return Err(SwaponError::TypeOn { ty });
        }
        let records = BTreeMap::new();
        self.0.insert(ty, File { max_pages, records });
        Ok(())
    }

    fn swapoff(&mut self, ty: SwapType) -> Result<u64, EntryError> {
        let file = self.0.remove(&ty);
        file.map(|file| file.records.len() as u64)
            .ok_or(EntryError::TypeOff { ty, offset: None })
    }

    fn file(&mut self, start: SwapEntry, nr: u64) -> Result<&mut File, EntryError> {
        let (ty, offset) = (start.swap_type(), start.offset());
        let off = EntryError::TypeOff {
            ty,
            offset: Some(offset),
        };
        let file = self.0.get_mut(&ty).ok_or(off)?;
        let max_pages = file.max_pages;
        if u128::from(offset) + u128::from(nr) > u128::from(max_pages) {
            return Err(EntryError::OutOfRange {
                start,
                nr,
                max_pages,
            });
        }
        Ok(file)
    }

    fn set(
        &mut self,
        start: SwapEntry,
        nr: u64,
        owner: Option<MemcgId>,
    ) -> Result<Vec<Run>, EntryError> {
        let records = &mut self.file(start, nr)?.records;
        let offsets = start.offset()..start.offset() + nr;
        let had = records.range(offsets.clone()).map(|(&at, &id)| (at, id));
        let had = to_runs(start.swap_type(), had);
        for offset in offsets {
            match owner {
                Some(id) => records.insert(offset, id),
                None => records.remove(&offset),
            };
        }
        Ok(had)
    }

    fn lookup(&self, ent: SwapEntry) -> Option<MemcgId> {
        let file = self.0.get(&ent.swap_type())?;
        file.records.get(&ent.offset()).copied()
    }

    fn cmpxchg(
        &mut self,
        ent: SwapEntry,
        old: Option<MemcgId>,
        new: Option<MemcgId>,
    ) -> Result<Exchange, EntryError> {
        self.file(ent, 1)?;
        let owner = self.lookup(ent);
        if owner != old {
            return Ok(Exchange::Mismatch(owner));
        }
        self.set(ent, 1, new)?;
        Ok(Exchange::Stored)
    }

    fn owners(&mut self) -> impl Iterator<Item = &mut MemcgId> {
        let files = self.0.values_mut();
        files.flat_map(|file| file.records.values_mut())
    }

    fn count(&mut self, id: MemcgId) -> u64 {
        self.owners().filter(|owner| **owner == id).count() as u64
    }

    fn migrate(&mut self, old: MemcgId, new: MemcgId) -> u64 {
        if old == new {
            return 0;
        }
        let owners = self.owners().filter(|owner| **owner == old);
        owners.map(|owner| *owner = new).count() as u64
    }

    /// How far it gets is the table's choice; what it says of it must be so.
    fn migrate_with_hint<L: RawMutex>(
        &mut self,
        table: &SwapRecords<L>,
        old: MemcgId,
        new: MemcgId,
        hint: u64,
    ) {
        let before = self.count(old);
        let migrated = table.migration(old, new).memsw_hint(&hint).run();
        let left = table.count(old);
        if old == new {
            assert_eq!(migrated.moved, 0);
            return;
        }
        assert_eq!(migrated.moved + left, before);
        assert!(left <= migrated.left_at_most);
        assert!(migrated.moved >= hint.min(before));
        assert!(migrated.stopped_by_hint || left == 0);
        // What is left is left where it was, and nothing else has changed.
        for (ty, file) in &mut self.0 {
            for (&offset, owner) in &mut file.records {
                let now = table.lookup(SwapEntry::new(*ty, offset).unwrap()).unwrap();
                if *owner == old && now == new {
                    *owner = new;
                }
                assert_eq!(now, *owner);
            }
        }
    }

    fn runs(&self, ty: SwapType) -> Vec<Run> {
        self.0.get(&ty).map_or(Vec::new(), |file| {
            to_runs(ty, file.records.iter().map(|(&at, &id)| (at, id)))
        })
    }
}

fn only_id(had: Vec<Run>) -> Option<MemcgId> {
    had.first().map(|run| run.id)
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
