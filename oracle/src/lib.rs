//! Operations on a table, and an oracle that computes their answers, for tests and fuzz targets.
//!
//! An operation consists of plain numbers. So the `{:?}` text of a failing sequence can be pasted into a test
//! (see `agrees` in `oracle/tests/against_oracle.rs`), with `vec!` before the list of a batch. The fuzz
//! targets print a complete test.

// Models have tiny regions, and use nothing of this crate.
#![cfg(not(swap_records_loom))]
#![allow(
    missing_docs,
    missing_debug_implementations,
    reason = "for the tests of this repository, which have the source"
)]

mod ends;
pub mod history;
pub mod image;
mod map;
mod watch;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

pub use ends::Ends;
use lock_api::RawMutex;
use map::Map;
use swap_records::{
    Backend, CHUNK_ENTRIES, EntryError, MemcgId, Migrated, Migration, REGION_ENTRIES, Run,
    SwapEntry, SwapRecords, SwapType, SwaponError,
};
use watch::Watch;

pub const CHUNK: u64 = CHUNK_ENTRIES as u64;
pub const REGION: u64 = REGION_ENTRIES as u64;

/// A swap type, 0 to 31, and an offset in pages.
pub type Slot = (u8, u64);

/// An operation. Offsets may lie past the end, and types may be off. Owner 0 means none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// With this many pages.
    Swapon(u8, u64),
    Swapoff(u8),
    /// By this id, never 0.
    Record(Slot, u16),
    Clear(Slot),
    /// From one owner to another.
    Cmpxchg(Slot, u16, u16),
    Lookup(Slot),
    RecordRange(Slot, u64, u16),
    ClearRange(Slot, u64),
    /// One id for all of these slots, which may repeat.
    RecordBatch(Vec<Slot>, u16),
    /// An id for each slot.
    RecordBatchIds(Vec<(Slot, u16)>),
    ClearBatch(Vec<Slot>),
    /// This many slots, each this far after the one before.
    RecordEvery(Slot, u64, u16, u16),
    Count(u16),
    /// The owners over all types, and on each type.
    Owners,
    Runs(u8),
    RunsOf(u16),
    Migrate(u16, u16),
    /// With this budget for each step.
    MigrateInSteps(u16, u16, u64),
    /// A step with this budget, if any, and then a run to the end on up to this many threads.
    MigrateWithHint(u16, u16, Hint, u8, Option<u64>),
    /// Opens a migration, which replaces the open one.
    Begin(u16, u16),
    /// A step of the open migration, with this budget.
    Step(u64),
    /// Limits the open migration and those after it to so many entries per hold of a lock.
    MaxHold(u64),
    /// Opens an iterator over a type, which replaces the open one.
    Walk(u8),
    /// Opens an iterator over the runs of an id, which replaces the open one.
    WalkOf(u16),
    /// Takes this many runs from the open iterator.
    Next(u8),
}

/// The hint: how many records the old owner is said to be charged for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hint {
    Right,
    /// Too high by this many.
    TooHigh(u64),
    /// Too low by this many.
    TooLow(u64),
    /// The first value, and the amount by which it falls each time that it is read.
    Falling(u64, u64),
}

/// The ids of all generators. They are few, so operations meet. Three share a counter (they are congruent modulo
/// 4096), and three blocks of 64 counters have two ids or more each.
pub const IDS: [u16; 8] = [1, 2, 4097, 8193, 64, 65, 65534, 65535];

/// The types that generators use most: two that are on at first, and one that is off.
pub const TYPES: [u8; 3] = [0, 1, 31];

/// Three regions and a part of a chunk cross every border. More would be too slow for the oracle. The last
/// region is short, since `validate` looks up each of its entries.
pub const MOST_PAGES: u64 = 3 * REGION - 7;

/// The first operations of `ops` and `against_oracle`.
pub const AT_FIRST: [Op; 2] = [Op::Swapon(0, MOST_PAGES), Op::Swapon(1, REGION - 1)];

/// The borders of chunks, regions and swapfiles.
pub const BORDERS: [u64; 8] = [
    0,
    CHUNK,
    2 * CHUNK,
    REGION - CHUNK,
    REGION,
    2 * REGION,
    3 * REGION - CHUNK,
    MOST_PAGES,
];

/// Sizes of swapfiles: at the borders and next to them, and sizes that are refused.
pub const SIZES: [u64; 14] = [
    MOST_PAGES,
    MOST_PAGES - 7,
    1,
    2,
    CHUNK - 1,
    CHUNK,
    CHUNK + 1,
    REGION - 1,
    REGION,
    REGION + 1,
    0,
    1 << 50,
    (1 << 50) + 1,
    u64::MAX,
];

/// Enough regions for a migration to start threads, and to look ahead more than once. The last one is
/// partial.
pub const MANY_REGIONS: u64 = if cfg!(miri) { 40 } else { 600 };
pub const MANY_PAGES: u64 = MANY_REGIONS * REGION - 5;

/// The first operations of a migration over many regions.
pub const MANY_AT_FIRST: [Op; 2] = [Op::Swapon(0, MANY_PAGES), Op::Swapon(1, 2 * REGION + 1)];

/// Regions at which a word of the bitmap, a batch of the look ahead, or the swapfile begins or ends.
pub const MANY_BORDERS: [u64; 8] = [
    0,
    31,
    32,
    63,
    64,
    MANY_REGIONS / 2,
    MANY_REGIONS - 33,
    MANY_REGIONS - 1,
];

/// The slots that the fuzz target and the test named `cmpxchg` use, in a swapfile of [`CMPXCHG_PAGES`].
///
/// They are at borders of chunks, the last slot, the slot after it, and a slot of a type that is off.
pub const CMPXCHG_SLOTS: [Slot; 8] = [
    (0, 0),
    (0, 1),
    (0, CHUNK - 1),
    (0, CHUNK),
    (0, REGION - CHUNK),
    (0, CMPXCHG_PAGES - 1),
    (0, CMPXCHG_PAGES),
    (1, 0),
];
pub const CMPXCHG_PAGES: u64 = REGION - 3;

/// The owners in these slots: none, and three ids. Two of them share a counter.
pub const CMPXCHG_OWNERS: [u16; 4] = [0, 1, 2, 4097];

/// The slots that all threads use: neighbours on both sides of the border of a region.
pub const SHARED_SLOTS: Range<u64> = REGION - 3..REGION + 3;
pub const SHARED_PAGES: u64 = 2 * REGION - 1;

/// Returns the number of cases of a property: `PROPTEST_CASES`, or a few under Miri and in the emulator of
/// `ci/machines.sh`.
pub fn cases(all: u32) -> u32 {
    if let Ok(cases) = std::env::var("PROPTEST_CASES") {
        cases.parse().expect("PROPTEST_CASES is a number")
    } else if cfg!(miri) {
        3
    } else if std::env::var_os("SWAP_RECORDS_FEW_CASES").is_some() {
        8
    } else {
        all
    }
}

/// Returns the highest number of operations of a case: fewer under Miri.
pub const fn operations(most: usize) -> usize {
    if cfg!(miri) { most / 4 } else { most }
}

pub fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

pub fn owner(owner: u16) -> Option<MemcgId> {
    MemcgId::new(owner)
}

pub fn ty(ty: u8) -> SwapType {
    SwapType::new(ty).unwrap()
}

pub fn entry((of, offset): Slot) -> SwapEntry {
    SwapEntry::new(ty(of), offset).unwrap()
}

/// Returns the backends that this machine can run.
pub fn backends() -> impl Iterator<Item = Backend> {
    Backend::ALL.iter().copied().filter(|b| b.is_available())
}

/// An open migration, and its expected state.
struct Open<'t, L> {
    migration: Migration<'t, L>,
    old: MemcgId,
    new: MemcgId,
    moved: u64,
    done: Option<Migrated>,
    /// The most that any of its holds may have been long.
    may_hold: u64,
}

/// An open iterator.
struct Walk<'t> {
    runs: Box<dyn Iterator<Item = Run> + 't>,
    /// The type or id that it walks.
    of: Of,
    last: Option<Run>,
}

#[derive(Clone, Copy)]
enum Of {
    Type(u8),
    Id(MemcgId),
}

/// The index of each watch of the map.
const MIGRATION: usize = 0;
const WALK: usize = 1;

/// A table, and the map that has the expected answers.
pub struct Both<'t, L> {
    table: &'t SwapRecords<L>,
    map: Map,
    open: Option<Open<'t, L>>,
    walk: Option<Walk<'t>>,
    max_hold: usize,
}

impl<'t, L: RawMutex + Send + Sync> Both<'t, L> {
    /// Begins with all types off.
    pub fn new(table: &'t SwapRecords<L>) -> Self {
        Self {
            table,
            map: Map::default(),
            open: None,
            walk: None,
            max_hold: REGION_ENTRIES,
        }
    }

    /// Applies the operation to both, and asserts that the answers are equal.
    pub fn apply(&mut self, op: &Op) {
        let table = self.table;
        match *op {
            Op::Swapon(of, pages) => {
                let mut said = table.swapon(ty(of), pages);
                if let Err(SwaponError::OutOfMemory { bytes, .. }) = &mut said {
                    assert!(*bytes > 0, "{op:?} must say how many bytes were refused");
                    *bytes = 0;
                }
                assert_eq!(said, self.map.swapon(ty(of), pages));
                assert_eq!(table.max_pages(ty(of)), self.map.max_pages(ty(of)));
            }
            Op::Swapoff(of) => {
                assert_eq!(table.swapoff(ty(of)), self.map.swapoff(ty(of)));
                assert_eq!(table.max_pages(ty(of)), None);
            }
            Op::Record(slot, id) => self.record(slot, id),
            Op::Clear(slot) => {
                let had = self.map.set(entry(slot), 1, None);
                assert_eq!(table.clear(entry(slot)), had.map(only_id));
            }
            Op::Cmpxchg(slot, old, new) => {
                let (ent, old, new) = (entry(slot), owner(old), owner(new));
                let said = table.cmpxchg(ent, old, new);
                assert_eq!(said, self.map.cmpxchg(ent, old, new));
            }
            Op::Lookup(slot) => {
                let ent = entry(slot);
                assert_eq!(table.lookup(ent), self.map.lookup(ent));
            }
            Op::RecordRange(slot, nr, id) => {
                let had = self.map.set(entry(slot), nr, owner(id));
                let (start, id) = (entry(slot), self::id(id));
                // Every other range uses a callback.
                let said = if nr % 2 == 0 {
                    table.record_range(start, nr, id).map(|runs| runs.to_vec())
                } else {
                    let mut runs = Vec::new();
                    let done = table.record_range_with(start, nr, id, |run| runs.push(run));
                    done.map(|()| runs)
                };
                assert_eq!(said, had);
            }
            Op::ClearRange(slot, nr) => {
                let had = self.map.set(entry(slot), nr, None);
                let start = entry(slot);
                let said = if nr % 2 == 0 {
                    table.clear_range(start, nr).map(|runs| runs.to_vec())
                } else {
                    let mut runs = Vec::new();
                    let done = table.clear_range_with(start, nr, |run| runs.push(run));
                    done.map(|()| runs)
                };
                assert_eq!(said, had);
            }
            Op::RecordBatch(ref slots, id) => {
                let had = self
                    .map
                    .set_each(slots.iter().map(|&slot| (entry(slot), owner(id))));
                let (entries, id) = (entries(slots), self::id(id));
                let said = told(|each| table.record_batch(&entries, id, each));
                assert_eq!(said, had);
            }
            Op::RecordBatchIds(ref slots) => {
                let ids = slots.iter().map(|&(slot, id)| (entry(slot), owner(id)));
                let had = self.map.set_each(ids);
                let slots: Vec<_> = slots
                    .iter()
                    .map(|&(slot, of)| (entry(slot), id(of)))
                    .collect();
                let said = told(|each| table.record_batch_ids(&slots, each));
                assert_eq!(said, had);
            }
            Op::ClearBatch(ref slots) => {
                let had = self
                    .map
                    .set_each(slots.iter().map(|&slot| (entry(slot), None)));
                let entries = entries(slots);
                let said = told(|each| table.clear_batch(&entries, each));
                assert_eq!(said, had);
            }
            Op::RecordEvery((of, first), stride, nr, id) => {
                for offset in (0..u64::from(nr)).map(|n| first + n * stride) {
                    self.record((of, offset), id);
                }
            }
            Op::Count(id) => {
                let id = self::id(id);
                assert_eq!(table.count(id), self.map.count(id));
                is_upper_bound(&self.map, table.count_upper_bound(id), id);
                for of in SwapType::all() {
                    assert_eq!(table.count_on(of, id), self.map.count_on(of, id));
                }
                let bounds = SwapType::all().map(|of| table.count_upper_bound_on(of, id));
                assert_eq!(bounds.sum::<u64>(), table.count_upper_bound(id));
            }
            Op::Owners => self.owners(),
            Op::Runs(of) => {
                let runs: Vec<_> = table.runs(ty(of)).collect();
                assert_eq!(runs, self.map.runs(ty(of)));
            }
            Op::RunsOf(id) => {
                let runs = SwapType::all().flat_map(|ty| self.map.runs(ty));
                let runs: Vec<_> = runs.filter(|run| run.id == self::id(id)).collect();
                assert_eq!(table.runs_of(self::id(id)).collect::<Vec<_>>(), runs);
            }
            Op::Migrate(old, new) => {
                let (old, new) = (id(old), id(new));
                let moved = self.map.migrate(old, new, |_| old != new);
                assert_eq!(table.migrate(old, new), moved);
            }
            Op::MigrateInSteps(old, new, budget) => {
                self.begin(id(old), id(new));
                while self.open.as_ref().is_some_and(|open| open.done.is_none()) {
                    self.step(budget);
                }
                self.step(budget);
            }
            Op::MigrateWithHint(old, new, hint, threads, budget) => {
                self.migrate_with_hint(id(old), id(new), hint, threads, budget);
            }
            Op::Begin(old, new) => self.begin(id(old), id(new)),
            Op::Step(budget) => self.step(budget),
            Op::MaxHold(entries) => {
                self.max_hold = usize::try_from(entries).unwrap_or(usize::MAX);
                if let Some(open) = self.open.take() {
                    let migration = open.migration.max_hold(self.max_hold);
                    self.open = Some(Open { migration, ..open });
                }
            }
            Op::Walk(of) => self.walk(Of::Type(of)),
            Op::WalkOf(of) => self.walk(Of::Id(id(of))),
            Op::Next(runs) => (0..runs).for_each(|_| self.next_run()),
        }
    }

    fn owners(&self) {
        let (mut all, mut on_types) = (BTreeMap::new(), BTreeMap::new());
        for (slot, id) in self.map.records() {
            *all.entry(id).or_insert(0) += 1;
            *on_types.entry((slot.0, id)).or_insert(0) += 1;
        }
        let said: Vec<_> = self.table.owners().collect();
        assert_eq!(said, Vec::from_iter(all));
        let on_types = Vec::from_iter(on_types);
        let said: Vec<_> = SwapType::all()
            .flat_map(|ty| {
                let owners = self.table.owners_on(ty);
                owners.map(move |(id, nr)| ((ty.get(), id), nr))
            })
            .collect();
        assert_eq!(said, on_types);
    }

    /// Asserts the invariants of the table, and that it has all records of the map.
    pub fn check(&self) {
        self.table.validate().unwrap();
        self.owners();
        self.look_up_all();
    }

    /// Asserts the same as `check`, and that the table has no other records.
    pub fn finish(self) {
        self.check();
        self.turn_off();
    }

    /// Asserts that the table has the records of the map, and no others: each swapoff returns their number.
    /// On a large table, this takes a hundredth of the time of `finish`.
    pub fn turn_off(mut self) {
        self.look_up_all();
        for of in SwapType::all().map(SwapType::get) {
            self.apply(&Op::Swapoff(of));
        }
    }

    fn look_up_all(&self) {
        for (slot, id) in self.map.records() {
            assert_eq!(self.table.lookup(entry(slot)), Some(id), "{slot:?}");
        }
    }

    fn record(&mut self, slot: Slot, id: u16) {
        let had = self.map.set(entry(slot), 1, owner(id));
        let said = self.table.record(entry(slot), self::id(id));
        assert_eq!(said, had.map(only_id));
    }

    fn begin(&mut self, old: MemcgId, new: MemcgId) {
        let of_old = self.map.records().filter(|&(_, owner)| owner == old);
        self.map.watches[MIGRATION] = Some(Watch::new(of_old));
        self.open = Some(Open {
            migration: self.table.migration(old, new).max_hold(self.max_hold),
            old,
            new,
            moved: 0,
            done: None,
            may_hold: 0,
        });
    }

    /// The table chooses how far a step goes. Asserts that it reports its progress correctly.
    fn step(&mut self, budget: u64) {
        let Some(open) = &mut self.open else { return };
        let (old, new) = (open.old, open.new);
        let before = open.migration.so_far();
        let step = open.migration.step(budget);
        let longest = open.migration.so_far().longest_hold;
        open.may_hold = open.may_hold.max(most_in_a_hold(self.max_hold));
        assert!(longest <= open.may_hold, "{longest} entries in one hold");
        if let Some(done) = open.done {
            assert_eq!(
                step,
                swap_records::Step::Done(done),
                "a finished migration must repeat its result"
            );
            return;
        }
        // The migration's own moves do not count as changes to its records.
        let watch = self.map.watches[MIGRATION].take();
        open.moved += self.map.migrate(old, new, moved(self.table, old, new));
        let so_far = open.migration.so_far();
        assert_eq!(so_far.moved, open.moved);
        assert!(!so_far.stopped_by_hint);
        is_upper_bound(&self.map, so_far.left_at_most, old);
        let in_parts = self.max_hold < REGION_ENTRIES;
        keeps_to_its_budget(&before, &so_far, step, budget, in_parts);
        if let swap_records::Step::Done(migrated) = step {
            assert_eq!(migrated, so_far);
            open.done = Some(migrated);
            for (&slot, _) in watch.iter().flat_map(Watch::unchanged) {
                assert_eq!(
                    self.map.lookup(entry(slot)),
                    Some(new),
                    "{slot:?} was not moved"
                );
            }
        }
        self.map.watches[MIGRATION] = watch;
    }

    fn migrate_with_hint(
        &mut self,
        old: MemcgId,
        new: MemcgId,
        hint: Hint,
        threads: u8,
        budget: Option<u64>,
    ) {
        let table = self.table;
        let before = self.map.count(old);
        let (first, by) = match hint {
            Hint::Right => (before, 0),
            Hint::TooHigh(more) => (before.saturating_add(more), 0),
            Hint::TooLow(less) => (before.saturating_sub(less), 0),
            Hint::Falling(first, by) => (first, by),
        };
        // The next value of the hint, and the last value that was read.
        let says = Mutex::new((first, None));
        let charged = || {
            let mut says = says.lock().unwrap();
            let now = says.0;
            *says = (now.saturating_sub(by), Some(now));
            now
        };
        let migration = table.migration(old, new).memsw_hint(&charged);
        let migration = migration.max_hold(self.max_hold);
        let mut migration = on_threads(migration, threads);
        let stepped = budget.map(|budget| migration.step(budget));
        let migrated = migration.run();
        if let Some(swap_records::Step::Done(stepped)) = stepped {
            assert_eq!(
                migrated, stepped,
                "a finished migration must repeat its result"
            );
        }
        let most_in_a_region = self.map.most_in_a_region(old);
        if old == new {
            assert_eq!(migrated.moved, 0);
            is_upper_bound(&self.map, migrated.left_at_most, old);
            return;
        }
        let moved = self.map.migrate(old, new, moved(table, old, new));
        let left = self.map.count(old);
        assert_eq!(migrated.moved, moved);
        is_upper_bound(&self.map, migrated.left_at_most, old);
        // The hint is read before each hold, and again at the end. With threads, another thread may have
        // read a lower value.
        let last = says
            .lock()
            .unwrap()
            .1
            .expect("the hint is read at least once");
        let enough = moved >= last;
        assert!(if by == 0 || threads <= 1 {
            migrated.stopped_by_hint == enough
        } else {
            enough || !migrated.stopped_by_hint
        });
        assert!(migrated.stopped_by_hint || left == 0);
        if by == 0 {
            assert!(moved >= first.min(before), "stopped too early");
            // Each thread may be inside a region, or a part of one, when the last record of the hint is moved.
            let in_hand = most_in_a_region.min(most_in_a_hold(self.max_hold));
            let in_hand = in_hand * u64::from(threads.max(1));
            assert!(
                moved == 0 || moved.saturating_sub(in_hand) < first,
                "stopped too late"
            );
        }
        let chunks: u64 = self.map.sizes().map(|pages| pages.div_ceil(CHUNK)).sum();
        assert_eq!(migrated.chunks_scanned + migrated.chunks_skipped, chunks);
        assert!(
            moved <= migrated.chunks_scanned * CHUNK,
            "moved more than was scanned"
        );
        assert_eq!(migrated.longest_hold > 0, migrated.chunks_scanned > 0);
        assert!(migrated.longest_hold <= most_in_a_hold(self.max_hold));
    }

    fn walk(&mut self, of: Of) {
        let records = self.map.records().filter(|&((ty, _), owner)| match of {
            Of::Type(of) => ty == of,
            Of::Id(id) => owner == id,
        });
        self.map.watches[WALK] = Some(Watch::new(records));
        self.walk = Some(Walk {
            runs: match of {
                Of::Type(of) => Box::new(self.table.runs(ty(of))),
                Of::Id(id) => Box::new(self.table.runs_of(id)),
            },
            of,
            last: None,
        });
    }

    fn next_run(&mut self) {
        let (Some(walk), Some(watch)) = (&mut self.walk, &mut self.map.watches[WALK]) else {
            return;
        };
        let Some(run) = walk.runs.next() else {
            let left = watch.unchanged().next();
            assert_eq!(
                left, None,
                "a record that no thread changed was not returned"
            );
            self.walk = None;
            self.map.watches[WALK] = None;
            return;
        };
        match walk.of {
            Of::Type(of) => assert_eq!(run.start.swap_type(), ty(of)),
            Of::Id(id) => assert_eq!(run.id, id),
        }
        let place = |run: &Run| (run.start.swap_type(), run.start.offset());
        assert!(run.len > 0);
        if let Some(last) = walk.last {
            let end = (last.start.swap_type(), last.start.offset() + last.len);
            assert!(end <= place(&run), "{run:?} after {last:?}");
        }
        walk.last = Some(run);
        watch.saw(run);
    }
}

/// Returns the most entries that a migration may scan under one hold with this limit.
fn most_in_a_hold(entries: usize) -> u64 {
    entries.clamp(CHUNK_ENTRIES, REGION_ENTRIES) as u64
}

/// Asserts that the number is the one that the index must give for the counter of this id. Without `std`, the index may
/// count records of other ids as well, in regions where ids share a cell for lack of memory.
fn is_upper_bound(map: &Map, bound: u64, id: MemcgId) {
    let least = map.count_of_counter(id);
    if cfg!(feature = "std") {
        assert_eq!(bound, least);
    } else {
        let all = map.records().count() as u64;
        assert!(
            (least..=all).contains(&bound),
            "{bound} must be in {least}..={all}"
        );
    }
}

/// A hold costs its scanned entries, and at least a few thousand. The last hold of a step may exceed the
/// budget. Only whole chunks are visible from outside.
///
/// In parts, a region may end with a hold that looks at one record in a chunk that an earlier part has scanned. The report
/// does not count that chunk again. Each region has at most one such hold, and a chunk that counts before it: but for the
/// first region of the step, whose chunks may belong to the step before.
fn keeps_to_its_budget(
    before: &Migrated,
    after: &Migrated,
    step: swap_records::Step,
    budget: u64,
    in_parts: bool,
) {
    const LEAST: u64 = if CHUNK > 2048 { CHUNK } else { 2048 };
    let chunks = after.chunks_scanned - before.chunks_scanned;
    // A region has at most one chunk more than its entries fill.
    let most = 2 * (budget / CHUNK).saturating_add(REGION / CHUNK);
    assert!(chunks <= most, "{chunks} chunks for {budget}");
    let chunks = if in_parts { 2 * chunks + 1 } else { chunks };
    // Without `std`, a part may lie where no chunk has been made. Such parts cannot be counted from outside.
    let are_all_there = cfg!(feature = "std") || !in_parts;
    if step == swap_records::Step::More && are_all_there {
        assert!(
            chunks > 0 && chunks.saturating_mul(LEAST) >= budget,
            "{chunks} chunks are too few for {budget} entries"
        );
    }
    assert!(
        after.moved - before.moved <= chunks * CHUNK,
        "moved more than was scanned"
    );
}

/// Sets the number of threads. Without `std` there is one.
fn on_threads<L: RawMutex + Send + Sync>(migration: Migration<'_, L>, n: u8) -> Migration<'_, L> {
    #[cfg(feature = "std")]
    return migration.threads(n.into());
    #[cfg(not(feature = "std"))]
    {
        let _ = n;
        migration
    }
}

/// Returns a closure that tells whether a record of `old` was moved to `new`. Its owner must be one of the
/// two.
fn moved<L: RawMutex>(
    table: &SwapRecords<L>,
    old: MemcgId,
    new: MemcgId,
) -> impl FnMut(SwapEntry) -> bool {
    move |ent| {
        let now = table.lookup(ent);
        assert!(now == Some(old) || now == Some(new), "{ent} has {now:?}");
        old != new && now == Some(new)
    }
}

fn entries(slots: &[Slot]) -> Vec<SwapEntry> {
    slots.iter().map(|&slot| entry(slot)).collect()
}

/// Collects the calls that a batch makes to its callback.
fn told(
    batch: impl FnOnce(&mut dyn FnMut(SwapEntry, MemcgId)) -> Result<(), EntryError>,
) -> Result<Vec<(SwapEntry, MemcgId)>, EntryError> {
    let mut told = Vec::new();
    let done = batch(&mut |slot, id| told.push((slot, id)));
    if done.is_err() {
        assert_eq!(told, [], "a refused batch must not change anything");
    }
    done.map(|()| told)
}

fn only_id(had: Vec<Run>) -> Option<MemcgId> {
    had.first().map(|run| run.id)
}
