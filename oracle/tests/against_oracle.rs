//! Any sequence of operations gives the answers of a simple map, with every lock and backend. The fuzz
//! target `ops` does the same from bytes.

use lock_api::RawMutex;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use swap_records::{Backend, RawSpinLock, SwapEntry, SwapRecords};
use swap_records_oracle::{
    AT_FIRST, BORDERS, Both, CHUNK, Hint, IDS, MANY_AT_FIRST, MANY_BORDERS, MANY_PAGES,
    MANY_REGIONS, MOST_PAGES, Op, REGION, SIZES, Slot, TYPES, backends,
};

fn ty() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(TYPES[0]), 2 => Just(TYPES[1]), 1 => Just(TYPES[2])]
}

fn id() -> impl Strategy<Value = u16> {
    select(&IDS)
}

fn owner() -> impl Strategy<Value = u16> {
    prop_oneof![3 => Just(0), 7 => id()]
}

/// A slot, usually near a border.
fn slot() -> impl Strategy<Value = Slot> {
    let near = (select(&BORDERS), 0..12_u64);
    let offset = prop_oneof![
        8 => near.prop_map(|(border, by)| (border + by).saturating_sub(6)),
        2 => 0..MOST_PAGES,
        1 => Just(SwapEntry::MAX_OFFSET),
    ];
    (ty(), offset)
}

fn nr() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..20_u64,
        2 => 0..2 * CHUNK,
        1 => REGION - 3..2 * REGION,
        1 => prop_oneof![Just(u64::MAX), Just(u64::MAX - 5)],
    ]
}

fn budget() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), 0..100_000_u64, Just(u64::MAX)]
}

fn hint() -> impl Strategy<Value = Hint> {
    let by = || prop_oneof![1..40_u64, Just(u64::MAX)];
    prop_oneof![
        Just(Hint::Right),
        by().prop_map(Hint::TooHigh),
        by().prop_map(Hint::TooLow),
        (0..40_u64, 0..9_u64).prop_map(|(first, by)| Hint::Falling(first, by)),
    ]
}

fn migrate_with_hint(
    old: impl Strategy<Value = u16>,
    new: impl Strategy<Value = u16>,
) -> impl Strategy<Value = Op> {
    let budget = prop_oneof![Just(None), budget().prop_map(Some)];
    (old, new, hint(), 0..5_u8, budget).prop_map(|(old, new, hint, threads, budget)| {
        Op::MigrateWithHint(old, new, hint, threads, budget)
    })
}

/// A few slots, and copies of them some pages further on. So windows have several regions, one region or one
/// block, and slots that occur twice. Few batches have an impossible slot.
fn batch() -> impl Strategy<Value = Vec<(Slot, u16)>> {
    let inside = (select(&BORDERS), 0..12_u64)
        .prop_map(|(border, by)| (border + by).saturating_sub(6).min(MOST_PAGES - 100));
    let inside = (
        prop_oneof![9 => Just(TYPES[0]), 1 => Just(TYPES[1])],
        inside,
    );
    let slot = prop_oneof![40 => inside, 1 => slot()];
    let few =
        prop_oneof![3 => vec((slot, id()), 1..6), 1 => vec((slot_of_a_block(), id()), 60..70)];
    (few, 1..20_u64, 0..3_u64).prop_map(|(few, times, step)| {
        let copies = (0..times).flat_map(|time| {
            let further = move |&((ty, offset), id): &(Slot, u16)| {
                (
                    (
                        ty,
                        offset
                            .saturating_add(time * step)
                            .min(SwapEntry::MAX_OFFSET),
                    ),
                    id,
                )
            };
            few.iter().map(further).collect::<Vec<_>>()
        });
        copies.collect()
    })
}

/// Any limit, but usually one that divides a region into parts.
fn max_hold() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (1..=20_u64).prop_map(|chunks| chunks * CHUNK),
        1 => 0..=2 * REGION,
        1 => Just(u64::MAX),
    ]
}

fn slot_of_a_block() -> impl Strategy<Value = Slot> {
    (REGION - CHUNK..REGION).prop_map(|offset| (TYPES[0], offset))
}

fn only_slots(batch: Vec<(Slot, u16)>) -> Vec<Slot> {
    batch.into_iter().map(|(slot, _)| slot).collect()
}

fn op() -> impl Strategy<Value = Op> {
    let pages =
        prop_oneof![4 => MOST_PAGES - 20..=MOST_PAGES, 1 => 1..100_u64, 3 => select(&SIZES)];
    prop_oneof![
        2 => (ty(), pages).prop_map(|(ty, pages)| Op::Swapon(ty, pages)),
        1 => ty().prop_map(Op::Swapoff),
        12 => (slot(), id()).prop_map(|(slot, id)| Op::Record(slot, id)),
        4 => slot().prop_map(Op::Clear),
        6 => (slot(), owner(), owner()).prop_map(|(slot, old, new)| Op::Cmpxchg(slot, old, new)),
        3 => slot().prop_map(Op::Lookup),
        6 => (slot(), nr(), id()).prop_map(|(slot, nr, id)| Op::RecordRange(slot, nr, id)),
        3 => (slot(), nr()).prop_map(|(slot, nr)| Op::ClearRange(slot, nr)),
        3 => (batch(), id()).prop_map(|(batch, id)| Op::RecordBatch(only_slots(batch), id)),
        4 => batch().prop_map(Op::RecordBatchIds),
        4 => batch().prop_map(|batch| Op::ClearBatch(only_slots(batch))),
        2 => id().prop_map(Op::Count),
        2 => Just(Op::Owners),
        1 => ty().prop_map(Op::Runs),
        1 => id().prop_map(Op::RunsOf),
        4 => (id(), id()).prop_map(|(old, new)| Op::Migrate(old, new)),
        2 => (id(), id(), budget())
            .prop_map(|(old, new, budget)| Op::MigrateInSteps(old, new, budget)),
        3 => migrate_with_hint(id(), id()),
        2 => (id(), id()).prop_map(|(old, new)| Op::Begin(old, new)),
        3 => budget().prop_map(Op::Step),
        2 => max_hold().prop_map(Op::MaxHold),
        1 => ty().prop_map(Op::Walk),
        1 => id().prop_map(Op::WalkOf),
        4 => (0..6_u8).prop_map(Op::Next),
    ]
}

/// For a table of many regions: records in one region or in each of some regions, and migrations of them.
fn op_over_many() -> impl Strategy<Value = Op> {
    // Few ids, so that one of them is in enough regions for threads. The last two share a counter.
    let id = || select(vec![IDS[1], IDS[0], IDS[3]]);
    let slot = || {
        let near = (select(&MANY_BORDERS), 0..12_u64);
        near.prop_map(|(region, by)| (0, (region * REGION + by).saturating_sub(6)))
    };
    let strides = select(vec![
        REGION,
        REGION / 2,
        REGION + 1,
        3 * REGION,
        64 * REGION,
    ]);
    prop_oneof![
        3 => id().prop_map(|id| Op::RecordEvery((0, 3), REGION, MANY_REGIONS.try_into().unwrap(), id)),
        3 => (select(&MANY_BORDERS), strides, 0..2 * MANY_REGIONS, id()).prop_map(
            |(region, stride, nr, id)| {
                let first = region * REGION;
                let nr = nr.min((MANY_PAGES - first).div_ceil(stride));
                Op::RecordEvery((0, first), stride, nr.try_into().unwrap(), id)
            }
        ),
        3 => (slot(), id()).prop_map(|(slot, id)| Op::Record(slot, id)),
        2 => slot().prop_map(Op::Clear),
        1 => id().prop_map(Op::Count),
        1 => Just(Op::Owners),
        1 => id().prop_map(Op::RunsOf),
        2 => (id(), id()).prop_map(|(old, new)| Op::Begin(old, new)),
        3 => budget().prop_map(Op::Step),
        1 => max_hold().prop_map(Op::MaxHold),
        1 => id().prop_map(Op::WalkOf),
        2 => (0..99_u8).prop_map(Op::Next),
        6 => migrate_with_hint(id(), id()),
    ]
}

/// Applies the operations to a table with types 0 and 1 on, and to a map.
fn agrees<L: RawMutex + Send + Sync>(table: &SwapRecords<L>, ops: &[Op]) {
    let mut both = Both::new(table);
    for op in AT_FIRST.iter().chain(ops) {
        both.apply(op);
    }
    for ty in TYPES {
        both.apply(&Op::Runs(ty));
    }
    both.finish();
}

/// Does the operations on a table with hundreds of regions, and on a map.
fn agrees_over_many(ops: &[Op]) {
    let table = SwapRecords::new();
    let mut both = Both::new(&table);
    for op in MANY_AT_FIRST.iter().chain(ops) {
        both.apply(op);
    }
    both.finish();
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: swap_records_oracle::cases(64),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn with_the_spinlock_and_each_backend(ops in vec(op(), 1..swap_records_oracle::operations(60))) {
        for backend in backends() {
            agrees(&SwapRecords::<RawSpinLock>::with_raw_mutex().with_backend(backend), &ops);
        }
    }

    #[test]
    fn with_parking_lot(ops in vec(op(), 1..swap_records_oracle::operations(60))) {
        agrees(&SwapRecords::<parking_lot::RawMutex>::with_raw_mutex(), &ops);
    }

    /// So many regions that a migration starts threads. The fuzz target `migrate` does the same from bytes.
    #[test]
    fn over_many_regions(ops in vec(op_over_many(), 1..swap_records_oracle::operations(20))) {
        agrees_over_many(&ops);
    }
}

/// Each region ends with a hold that scans no chunk: its last record belongs to an id that shares the counter, and
/// lies in a chunk of an earlier part.
#[test]
fn a_step_in_parts_pays_for_a_last_hold_of_each_region() {
    use Op::*;
    agrees_over_many(&[
        MaxHold(CHUNK),
        RecordEvery((0, 0), 32768, 568, 4097),
        RecordEvery((0, 2 * CHUNK - 1), 32768, 568, 1),
        MigrateInSteps(1, 4098, 184_150),
    ]);
}

#[test]
fn backends_that_this_machine_lacks_are_named() {
    for backend in Backend::ALL
        .iter()
        .filter(|backend| !backend.is_available())
    {
        eprintln!("skipped: no operations on {backend}: this processor does not have it");
    }
}

/// Without `std`, ids share a cell in regions where their own cells are refused, and get their own cells back with the next
/// record for which there is memory.
#[cfg(not(feature = "std"))]
mod with_cells_that_are_refused {
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicBool, Ordering};

    use swap_records::{GlobalPages, Page, PageSource};

    use super::*;

    /// The pages of the global allocator, while there is memory.
    struct Source {
        has_memory: AtomicBool,
    }

    // SAFETY: the pages are those of `GlobalPages`.
    unsafe impl PageSource for Source {
        fn alloc_page(&self) -> Option<NonNull<Page>> {
            let has_memory = self.has_memory.load(Ordering::Relaxed);
            has_memory.then(|| GlobalPages.alloc_page()).flatten()
        }

        unsafe fn free_page(&self, page: NonNull<Page>) {
            // SAFETY: the caller's promise.
            unsafe { GlobalPages.free_page(page) };
        }
    }

    static PAGES: Source = Source {
        has_memory: AtomicBool::new(true),
    };

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn the_index_is_right_after_each_operation(
            ops in vec((op(), any::<bool>()), 1..swap_records_oracle::operations(40))
        ) {
            let table = SwapRecords::new().with_page_source(&PAGES);
            PAGES.has_memory.store(true, Ordering::Relaxed);
            let mut both = Both::new(&table);
            for op in AT_FIRST {
                both.apply(&op);
                let Op::Swapon(ty, pages) = op else { unreachable!() };
                let start = SwapEntry::new(swap_records::SwapType::new(ty).unwrap(), 0).unwrap();
                table.reserve(start, pages).unwrap();
            }
            for (op, has_memory) in ops {
                // Another swapfile has other chunks, which may be refused.
                if matches!(op, Op::Swapon(..) | Op::Swapoff(_)) {
                    continue;
                }
                PAGES.has_memory.store(has_memory, Ordering::Relaxed);
                both.apply(&op);
                assert_eq!(table.validate(), Ok(()), "{op:?}");
            }
            both.finish();
        }
    }
}
