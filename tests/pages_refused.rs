//! Tables without an operating system: random operations while random pages are refused, compared with a simple map.
//!
//! With feature `std`, this file is empty.
#![cfg(not(feature = "std"))]

use core::ptr::NonNull;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use fastrand::Rng;
use swap_records::{
    CHUNK_ENTRIES, EntryError, Exchange, GlobalPages, MemcgId, Migration, Page, PageSource,
    REGION_ENTRIES, Run, Step, SwapEntry, SwapRecords, SwapType,
};

const REGION: u64 = REGION_ENTRIES as u64;
const CHUNK: u64 = CHUNK_ENTRIES as u64;
const TYPES: [SwapType; 2] = [SwapType::new(0).unwrap(), SwapType::new(31).unwrap()];
/// Blocks of several ids, of one, and ids that share counters with them.
const IDS: [u16; 12] = [1, 2, 3, 64, 65, 200, 201, 4095, 4096, 4097, 4160, 65535];
const SIZES: [u64; 6] = [
    1,
    CHUNK + 3,
    REGION,
    2 * REGION + 5,
    17 * REGION - 7,
    33 * REGION,
];

thread_local! {
    /// One of so many pages is refused; 0: none.
    static REFUSE: Cell<u32> = const { Cell::new(0) };
    static RNG: RefCell<Option<Rng>> = const { RefCell::new(None) };
    static OUT: Cell<u64> = const { Cell::new(0) };
}

struct Source;

// SAFETY: the pages are those of `GlobalPages`.
unsafe impl PageSource for Source {
    fn alloc_page(&self) -> Option<NonNull<Page>> {
        let one_of = REFUSE.get();
        if one_of > 0
            && RNG.with_borrow_mut(|rng| rng.as_mut().is_none_or(|rng| rng.u32(0..one_of) == 0))
        {
            return None;
        }
        OUT.set(OUT.get() + 1);
        GlobalPages.alloc_page()
    }

    unsafe fn free_page(&self, page: NonNull<Page>) {
        OUT.set(OUT.get() - 1);
        // SAFETY: the caller's promise.
        unsafe { GlobalPages.free_page(page) };
    }
}

#[derive(Default)]
struct Model {
    pages: u64,
    records: BTreeMap<u64, u16>,
    /// Ranges that are reserved.
    reserved: Vec<core::ops::Range<u64>>,
}

impl Model {
    fn runs(&self, ty: SwapType) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (&at, &owner) in &self.records {
            match runs.last_mut() {
                Some(run) if run.id.get() == owner && run.start.offset() + run.len == at => {
                    run.len += 1;
                }
                _ => runs.push(Run {
                    start: SwapEntry::new(ty, at).unwrap(),
                    len: 1,
                    id: MemcgId::new(owner).unwrap(),
                }),
            }
        }
        runs
    }

    fn is_reserved(&self, at: u64) -> bool {
        self.reserved.iter().any(|range| range.contains(&at))
    }
}

fn refused(done: &Result<(), EntryError>) -> bool {
    match done {
        Ok(()) => false,
        Err(EntryError::OutOfMemory { bytes: 4096, .. }) => {
            assert!(REFUSE.get() > 0);
            true
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn check(table: &SwapRecords, models: &[Model; 2]) {
    table.validate().unwrap();
    let mut counts = BTreeMap::<u16, u64>::new();
    for (model, ty) in models.iter().zip(TYPES) {
        let runs: Vec<Run> = table.runs(ty).collect();
        assert_eq!(runs, model.runs(ty));
        for &owner in model.records.values() {
            *counts.entry(owner).or_default() += 1;
        }
        for run in runs.iter().take(3) {
            assert_eq!(table.lookup(run.start), Some(run.id));
        }
    }
    let owners: Vec<_> = table.owners().map(|(id, nr)| (id.get(), nr)).collect();
    assert_eq!(owners, counts.clone().into_iter().collect::<Vec<_>>());
    for owner in IDS {
        let id = MemcgId::new(owner).unwrap();
        let number = counts.get(&owner).copied().unwrap_or(0);
        assert_eq!(table.count(id), number);
        assert!(table.count_upper_bound(id) >= number);
        assert_eq!(table.runs_of(id).map(|run| run.len).sum::<u64>(), number);
    }
}

fn run(seed: u64, operations: u32) {
    let mut rng = Rng::with_seed(seed);
    RNG.set(Some(Rng::with_seed(seed + 1_000_000)));
    REFUSE.set(0);
    let before = OUT.get();
    let table = SwapRecords::new().with_page_source(&Source);
    let mut models = [Model::default(), Model::default()];
    let mut kept: Option<(Migration<'_>, u16, u16)> = None;
    let mut walk = table.runs(TYPES[0]);
    for _ in 0..operations {
        REFUSE.set([0, 1, 1, 2, 4][rng.usize(0..5)]);
        let n = rng.usize(0..8).saturating_sub(6).min(1);
        let (ty, model) = (TYPES[n], &mut models[n]);
        let owner = IDS[rng.usize(0..IDS.len())];
        let other = IDS[rng.usize(0..IDS.len())];
        let (id, to) = (MemcgId::new(owner).unwrap(), MemcgId::new(other).unwrap());
        let borders = [0, CHUNK, REGION, 16 * REGION, 32 * REGION, REGION - CHUNK];
        let near = borders[rng.usize(0..borders.len())] + rng.u64(0..20);
        let at = near.saturating_sub(10).min(model.pages.saturating_sub(1));
        let entry = |at| SwapEntry::new(ty, at).unwrap();
        let is_on = model.pages > 0;
        match rng.u32(0..26) {
            0 if !is_on => {
                let pages = SIZES[rng.usize(0..SIZES.len())];
                table.swapon(ty, pages).unwrap();
                *model = Model {
                    pages,
                    ..Model::default()
                };
            }
            1 if is_on && rng.u32(0..4) == 0 => {
                assert_eq!(table.swapoff(ty), Ok(model.records.len() as u64));
                *model = Model::default();
            }
            2 if rng.u32(0..3) == 0 => {
                // SAFETY: there is no other thread.
                let _ = unsafe { table.begin_trim().finish() };
                if models.iter().all(|model| model.pages == 0) {
                    assert_eq!(OUT.get(), before);
                }
            }
            3..=6 if is_on => {
                let done = table.record(entry(at), id);
                let had = model.records.get(&at).copied();
                if refused(&done.map(drop)) {
                    assert!(had.is_none() && !model.is_reserved(at), "{at}");
                } else {
                    assert_eq!(done.unwrap().map(MemcgId::get), had);
                    model.records.insert(at, owner);
                }
            }
            7 | 8 if is_on => {
                let had = model.records.remove(&at);
                assert_eq!(table.clear(entry(at)).unwrap().map(MemcgId::get), had);
            }
            9 | 10 if is_on => {
                let had = model.records.get(&at).copied();
                let old = if rng.bool() { had } else { Some(other) };
                let new = rng.bool().then_some(owner);
                let done = table.cmpxchg(
                    entry(at),
                    old.and_then(MemcgId::new),
                    new.and_then(MemcgId::new),
                );
                if !refused(&done.map(drop)) {
                    if old == had {
                        assert_eq!(done, Ok(Exchange::Stored));
                        match new {
                            Some(new) => model.records.insert(at, new),
                            None => model.records.remove(&at),
                        };
                    } else {
                        assert_eq!(done, Ok(Exchange::Mismatch(had.and_then(MemcgId::new))));
                    }
                }
            }
            11..=13 if is_on => {
                let nr = [3, 20, CHUNK, 2 * CHUNK + 9][rng.usize(0..4)].min(model.pages - at);
                let done = table.record_range(entry(at), nr, id);
                if refused(&done.clone().map(drop)) {
                    assert!(!(at..at + nr).all(|at| model.is_reserved(at)));
                } else {
                    let had: u64 = done.unwrap().iter().map(|run| run.len).sum();
                    assert_eq!(had, model.records.range(at..at + nr).count() as u64);
                    model.records.extend((at..at + nr).map(|at| (at, owner)));
                }
            }
            14 if is_on => {
                let nr = [3, 20, CHUNK, 2 * CHUNK + 9, REGION + 1][rng.usize(0..5)]
                    .min(model.pages - at);
                let had: u64 = table
                    .clear_range(entry(at), nr)
                    .unwrap()
                    .iter()
                    .map(|run| run.len)
                    .sum();
                assert_eq!(had, model.records.range(at..at + nr).count() as u64);
                model
                    .records
                    .retain(|&slot, _| !(at..at + nr).contains(&slot));
            }
            15 | 16 if is_on => {
                let batch: Vec<_> = (0..rng.usize(1..90))
                    .map(|_| {
                        let near = borders[rng.usize(0..borders.len())] + rng.u64(0..40);
                        let id = MemcgId::new(IDS[rng.usize(0..IDS.len())]).unwrap();
                        (entry(near.min(model.pages - 1)), id)
                    })
                    .collect();
                let mut had = 0;
                if !refused(&table.record_batch_ids(&batch, |_, _| had += 1)) {
                    let mut has = 0;
                    for (entry, id) in batch {
                        has += u32::from(model.records.insert(entry.offset(), id.get()).is_some());
                    }
                    assert_eq!(had, has);
                }
            }
            17 if is_on => {
                let batch: Vec<_> = (0..rng.u64(1..90))
                    .map(|_| entry(rng.u64(0..model.pages.min(60))))
                    .collect();
                table.clear_batch(&batch, |_, _| ()).unwrap();
                for entry in batch {
                    model.records.remove(&entry.offset());
                }
            }
            18 if is_on => {
                let nr = rng.u64(0..2 * CHUNK).min(model.pages - at);
                if !refused(&table.reserve(entry(at), nr)) {
                    model.reserved.push(at..at + nr);
                }
            }
            19..=21 => {
                let hold = [0, CHUNK_ENTRIES, 3 * CHUNK_ENTRIES, usize::MAX][rng.usize(0..4)];
                let migrated = table.migration(id, to).max_hold(hold).run();
                let mut moved = 0;
                for model in &mut models {
                    for it in model
                        .records
                        .values_mut()
                        .filter(|it| **it == owner && owner != other)
                    {
                        *it = other;
                        moved += 1;
                    }
                }
                assert_eq!(migrated.moved, moved);
            }
            22 => {
                kept = Some((
                    table.migration(id, to).max_hold(CHUNK_ENTRIES),
                    owner,
                    other,
                ));
            }
            23 | 24 => {
                // What a step has moved is what the table says.
                if let Some((migration, old, new)) = &mut kept {
                    let before = migration.so_far().moved;
                    let done = matches!(migration.step(1), Step::Done(_));
                    let moved = migration.so_far().moved - before;
                    let mut changed = 0;
                    for (model, ty) in models.iter_mut().zip(TYPES) {
                        for run in table.runs(ty).filter(|run| run.id.get() == *new) {
                            for at in run.start.offset()..run.start.offset() + run.len {
                                let it = model.records.get_mut(&at).unwrap();
                                if *it != *new {
                                    assert_eq!(*it, *old);
                                    *it = *new;
                                    changed += 1;
                                }
                            }
                        }
                    }
                    assert_eq!(moved, changed);
                    if done {
                        kept = None;
                    }
                }
            }
            _ => {
                if walk.next().is_none() {
                    walk = table.runs(TYPES[0]);
                }
            }
        }
        check(&table, &models);
    }
    drop((kept, walk));
    drop(table);
    assert_eq!(OUT.get(), before);
}

#[test]
fn random_operations_agree_with_a_map_while_pages_are_refused() {
    let number = |name, or| std::env::var(name).map_or(or, |n: String| n.parse().unwrap());
    let (first, seeds) = (number("SEED", 0), number("SEEDS", 40));
    for seed in first..first + seeds {
        eprintln!("seed {seed}");
        run(seed, 120);
    }
}
