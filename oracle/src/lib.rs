//! Operations on a table, and an oracle that knows their answers, for the tests and the fuzz targets.
//!
//! An operation is plain numbers, so that what `{:?}` writes of a failing sequence can be pasted into a
//! test as it is (see `agrees` in `oracle/tests/against_oracle.rs`).

// Regions are tiny in a model, and nothing of this is used there.
#![cfg(not(swap_records_loom))]
#![allow(
    missing_docs,
    missing_debug_implementations,
    reason = "for the tests of this repository, which read it"
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

/// One operation. Offsets may lie past the end, types may be off. An owner 0 is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// With so many pages.
    Swapon(u8, u64),
    Swapoff(u8),
    /// By an id, never 0.
    Record(Slot, u16),
    Clear(Slot),
    /// From an owner to another.
    Cmpxchg(Slot, u16, u16),
    Lookup(Slot),
    RecordRange(Slot, u64, u16),
    ClearRange(Slot, u64),
    /// An id for all of these slots, which may come twice.
    RecordBatch(Vec<Slot>, u16),
    /// An id for each of them.
    RecordBatchIds(Vec<(Slot, u16)>),
    ClearBatch(Vec<Slot>),
    /// So many slots, each this many behind the one before.
    RecordEvery(Slot, u64, u16, u16),
    Count(u16),
    /// The owners on all types, and on each.
    Owners,
    Runs(u8),
    RunsOf(u16),
    Migrate(u16, u16),
    /// With a budget for each step.
    MigrateInSteps(u16, u16, u64),
    /// To the end, on up to so many threads; before that a step with this budget, where there is one.
    MigrateWithHint(u16, u16, Hint, u8, Option<u64>),
    /// Opens a migration, in the place of the last one.
    Begin(u16, u16),
    /// A step of the open migration, with this budget.
    Step(u64),
    /// From here on, the open migration and those after it look at no more than so many entries under one hold.
    MaxHold(u64),
    /// Opens an iterator over a type, in the place of the last one.
    Walk(u8),
    /// The same over the runs of an id.
    WalkOf(u16),
    /// So many runs of the open iterator.
    Next(u8),
}

/// What is said to be charged to the old owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hint {
    Right,
    /// By so many.
    TooHigh(u64),
    /// By so many.
    TooLow(u64),
    /// So many at first, and so many fewer each time that it is asked.
    Falling(u64, u64),
}

/// Ids for all generators: few, so that they meet; some share a counter (they are equal modulo 4096).
pub const IDS: [u16; 8] = [1, 2, 3, 4097, 4098, 8193, 64, 65535];

/// The types that the generators use most: two that begin on, and one that begins off.
pub const TYPES: [u8; 3] = [0, 1, 31];

/// The oracle is slow: three regions, the last chunk in part, are enough to cross every border. What is
/// left of the last one is little, since `validate` looks up each entry there.
pub const MOST_PAGES: u64 = 3 * REGION - 7;

/// What `ops` and `against_oracle` begin with.
pub const AT_FIRST: [Op; 2] = [Op::Swapon(0, MOST_PAGES), Op::Swapon(1, REGION - 1)];

/// Where something ends and the next begins: chunks, regions, swapfiles.
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

/// Sizes of swapfiles: on and beside the borders, and what is refused.
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

/// Enough regions for a migration to start threads, and to look ahead more than once; the last one in part.
pub const MANY_REGIONS: u64 = if cfg!(miri) { 40 } else { 600 };
pub const MANY_PAGES: u64 = MANY_REGIONS * REGION - 5;

/// What a migration over many regions begins with.
pub const MANY_AT_FIRST: [Op; 2] = [Op::Swapon(0, MANY_PAGES), Op::Swapon(1, 2 * REGION + 1)];

/// Regions where a word of the bitmap, a look ahead, or the swapfile begins or ends.
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

/// The slots of the fuzz target and the test named `cmpxchg`, in a swapfile of [`CMPXCHG_PAGES`]:
/// at borders of chunks, the last one, one past the end and one of a type that is off.
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

/// The owners there: none, and three of which two share a counter.
pub const CMPXCHG_OWNERS: [u16; 4] = [0, 1, 2, 4097];

/// The slots that threads fight for: neighbours, on both sides of the border of a region.
pub const SHARED_SLOTS: Range<u64> = REGION - 3..REGION + 3;
pub const SHARED_PAGES: u64 = 2 * REGION - 1;

/// How many cases a property has: `PROPTEST_CASES`, or few under Miri, and where `ci/machines.sh` emulates the processor.
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

/// How many operations a case has at most: few under Miri.
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

/// The backends that this machine can run.
pub fn backends() -> impl Iterator<Item = Backend> {
    Backend::ALL.iter().copied().filter(|b| b.is_available())
}

/// A migration that is not over, and what is known of it.
struct Open<'t, L> {
    migration: Migration<'t, L>,
    old: MemcgId,
    new: MemcgId,
    moved: u64,
    done: Option<Migrated>,
    /// The most that any of its holds may have been long.
    may_hold: u64,
}

/// An iterator that is not over.
struct Walk<'t> {
    runs: Box<dyn Iterator<Item = Run> + 't>,
    /// What it is of.
    of: Of,
    last: Option<Run>,
}

#[derive(Clone, Copy)]
enum Of {
    Type(u8),
    Id(MemcgId),
}

/// Which watch of the map is whose.
const MIGRATION: usize = 0;
const WALK: usize = 1;

/// A table, and the map that knows what it should answer.
pub struct Both<'t, L> {
    table: &'t SwapRecords<L>,
    map: Map,
    open: Option<Open<'t, L>>,
    walk: Option<Walk<'t>>,
    max_hold: usize,
}

impl<'t, L: RawMutex + Send + Sync> Both<'t, L> {
    /// A table with all types off.
    pub fn new(table: &'t SwapRecords<L>) -> Self {
        Self {
            table,
            map: Map::default(),
            open: None,
            walk: None,
            max_hold: REGION_ENTRIES,
        }
    }

    /// Does the operation on both, and asserts that they answer alike.
    pub fn apply(&mut self, op: &Op) {
        let table = self.table;
        match *op {
            Op::Swapon(of, pages) => {
                let mut said = table.swapon(ty(of), pages);
                if let Err(SwaponError::OutOfMemory { bytes, .. }) = &mut said {
                    assert!(*bytes > 0, "{op:?} says which bytes were refused");
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
                // Half of them with a callback.
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
                assert_eq!(table.count_upper_bound(id), self.map.count_of_counter(id));
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

    /// Asserts that the invariants of the table stand, and that it holds what it should.
    pub fn check(&self) {
        self.table.validate().unwrap();
        self.owners();
        self.look_up_all();
    }

    /// Asserts the same, and that the table holds nothing else.
    pub fn finish(self) {
        self.check();
        self.turn_off();
    }

    /// Asserts that the table holds what it should, and, by turning everything off, which says how many records
    /// there were, that it holds nothing else. Where the table is large, that is a hundredth of `finish`.
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

    /// How far it gets is the table's choice; what it says of that must be so.
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
                "it says the same again"
            );
            return;
        }
        // Its own work is no change to what it was to move.
        let watch = self.map.watches[MIGRATION].take();
        open.moved += self.map.migrate(old, new, moved(self.table, old, new));
        let so_far = open.migration.so_far();
        assert_eq!(so_far.moved, open.moved);
        assert!(!so_far.stopped_by_hint);
        assert_eq!(so_far.left_at_most, self.map.count_of_counter(old));
        // The last record of a region that it was in may have been in a chunk that it had looked at.
        let more = u64::from(self.max_hold < REGION_ENTRIES);
        keeps_to_its_budget(&before, &so_far, step, budget, more);
        if let swap_records::Step::Done(migrated) = step {
            assert_eq!(migrated, so_far);
            open.done = Some(migrated);
            for (&slot, _) in watch.iter().flat_map(Watch::unchanged) {
                assert_eq!(self.map.lookup(entry(slot)), Some(new), "{slot:?} is left");
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
        // What it is to say next, and what it said last.
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
            assert_eq!(migrated, stepped, "it says the same again");
        }
        let left_at_most = self.map.count_of_counter(old);
        let most_in_a_region = self.map.most_in_a_region(old);
        if old == new {
            assert_eq!(migrated.moved, 0);
            assert_eq!(migrated.left_at_most, left_at_most);
            return;
        }
        let moved = self.map.migrate(old, new, moved(table, old, new));
        let left = self.map.count(old);
        assert_eq!(migrated.moved, moved);
        assert_eq!(migrated.left_at_most, self.map.count_of_counter(old));
        // It is asked before each hold, and last at the end. Of threads, another one may have been told of
        // fewer by then.
        let last = says.lock().unwrap().1.expect("it is asked at least once");
        let enough = moved >= last;
        assert!(if by == 0 || threads <= 1 {
            migrated.stopped_by_hint == enough
        } else {
            enough || !migrated.stopped_by_hint
        });
        assert!(migrated.stopped_by_hint || left == 0);
        if by == 0 {
            assert!(moved >= first.min(before), "too early");
            // Each thread may be in a region, or a part of one, when the last record of the hint is moved.
            let in_hand = most_in_a_region.min(most_in_a_hold(self.max_hold));
            let in_hand = in_hand * u64::from(threads.max(1));
            assert!(
                moved == 0 || moved.saturating_sub(in_hand) < first,
                "too late"
            );
        }
        let chunks: u64 = self.map.sizes().map(|pages| pages.div_ceil(CHUNK)).sum();
        assert_eq!(migrated.chunks_scanned + migrated.chunks_skipped, chunks);
        assert!(moved <= migrated.chunks_scanned * CHUNK, "not looked at");
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
            assert_eq!(left, None, "it was there all the time, and not seen");
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

/// What a migration may look at under one hold, when it is told to look at no more than so many entries.
fn most_in_a_hold(entries: usize) -> u64 {
    entries.clamp(CHUNK_ENTRIES, REGION_ENTRIES) as u64
}

/// A region counts with the entries that were scanned, or as a few thousand where they were fewer; the last one
/// may go over the budget. Chunks are what can be told of that from outside.
fn keeps_to_its_budget(
    before: &Migrated,
    after: &Migrated,
    step: swap_records::Step,
    budget: u64,
    more: u64,
) {
    const LEAST: u64 = if CHUNK > 2048 { CHUNK } else { 2048 };
    let chunks = after.chunks_scanned - before.chunks_scanned;
    // Each region has one chunk at most more than its entries fill.
    let most = 2 * (budget / CHUNK).saturating_add(REGION / CHUNK);
    assert!(chunks <= most, "{chunks} chunks for {budget}");
    let chunks = chunks + more;
    if step == swap_records::Step::More {
        assert!(
            chunks > 0 && chunks.saturating_mul(LEAST) >= budget,
            "{chunks} chunks are no {budget} entries"
        );
    }
    assert!(
        after.moved - before.moved <= chunks * CHUNK,
        "not looked at"
    );
}

/// Without `std` there is one thread.
fn on_threads<L: RawMutex + Send + Sync>(migration: Migration<'_, L>, n: u8) -> Migration<'_, L> {
    #[cfg(feature = "std")]
    return migration.threads(n.into());
    #[cfg(not(feature = "std"))]
    {
        let _ = n;
        migration
    }
}

/// Whether a record of `old` has been moved to `new`; it must be the one or the other.
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

/// What a batch tells its callback.
fn told(
    batch: impl FnOnce(&mut dyn FnMut(SwapEntry, MemcgId)) -> Result<(), EntryError>,
) -> Result<Vec<(SwapEntry, MemcgId)>, EntryError> {
    let mut told = Vec::new();
    let done = batch(&mut |slot, id| told.push((slot, id)));
    if done.is_err() {
        assert_eq!(told, [], "it was refused whole");
    }
    done.map(|()| told)
}

fn only_id(had: Vec<Run>) -> Option<MemcgId> {
    had.first().map(|run| run.id)
}
