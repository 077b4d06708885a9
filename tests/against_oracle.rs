//! Any sequence of operations gives the answers of a simple map, with every lock and backend.

mod oracle;

use lock_api::RawMutex;
use oracle::{Op, Oracle};
use proptest::collection::vec;
use proptest::prelude::*;
use swap_records::{
    Backend, CHUNK_ENTRIES, MemcgId, REGION_ENTRIES, RawSpinLock, SwapEntry, SwapRecords, SwapType,
};

/// The oracle is slow: two regions and a bit are enough to cross every border.
const MOST_PAGES: u64 = 2 * REGION_ENTRIES as u64 + CHUNK_ENTRIES as u64 + 7;

fn ty() -> impl Strategy<Value = SwapType> {
    prop_oneof![4 => Just(0), 2 => Just(1), 1 => Just(31)].prop_map(|ty| SwapType::new(ty).unwrap())
}

/// Few ids, so that they meet; 4101 and 8197 share a counter with 5.
fn id() -> impl Strategy<Value = MemcgId> {
    let ids = prop_oneof![1..=6_u16, Just(4101), Just(8197), Just(65535)];
    ids.prop_map(|id| MemcgId::new(id).unwrap())
}

fn owner() -> impl Strategy<Value = Option<MemcgId>> {
    proptest::option::weighted(0.7, id())
}

/// Mostly near a border of a chunk, a region or the swapfile.
fn offset() -> impl Strategy<Value = u64> {
    let chunk = CHUNK_ENTRIES as u64;
    let region = REGION_ENTRIES as u64;
    let border = prop_oneof![
        Just(0),
        Just(chunk),
        Just(region),
        Just(2 * region),
        Just(MOST_PAGES)
    ];
    prop_oneof![
        8 => (border, 0..12_u64).prop_map(|(border, by)| (border + by).saturating_sub(6)),
        2 => 0..MOST_PAGES,
        1 => Just(SwapEntry::MAX_OFFSET),
    ]
}

fn entry() -> impl Strategy<Value = SwapEntry> {
    (ty(), offset()).prop_map(|(ty, offset)| SwapEntry::new(ty, offset).unwrap())
}

fn nr() -> impl Strategy<Value = u64> {
    let region = REGION_ENTRIES as u64;
    prop_oneof![
        6 => 0..20_u64,
        2 => 0..2 * CHUNK_ENTRIES as u64,
        1 => region - 3..2 * region,
        1 => prop_oneof![Just(u64::MAX), Just(u64::MAX - 5)],
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let pages = prop_oneof![
        1 => Just(0),
        1 => 1..100_u64,
        4 => MOST_PAGES - 20..=MOST_PAGES,
    ];
    prop_oneof![
        2 => (ty(), pages).prop_map(|(ty, pages)| Op::Swapon(ty, pages)),
        1 => ty().prop_map(Op::Swapoff),
        12 => (entry(), id()).prop_map(|(ent, id)| Op::Record(ent, id)),
        4 => entry().prop_map(Op::Clear),
        6 => (entry(), owner(), owner()).prop_map(|(ent, old, new)| Op::Cmpxchg(ent, old, new)),
        4 => entry().prop_map(Op::Lookup),
        6 => (entry(), nr(), id()).prop_map(|(ent, nr, id)| Op::RecordRange(ent, nr, id)),
        3 => (entry(), nr()).prop_map(|(ent, nr)| Op::ClearRange(ent, nr)),
        2 => id().prop_map(Op::Count),
        4 => (id(), id()).prop_map(|(old, new)| Op::Migrate(old, new)),
        2 => (id(), id(), 0..100_000_u64)
            .prop_map(|(old, new, budget)| Op::MigrateInSteps(old, new, budget)),
        2 => (id(), id(), 0..40_u64).prop_map(|(old, new, hint)| Op::MigrateWithHint(old, new, hint)),
        1 => ty().prop_map(Op::Runs),
        1 => id().prop_map(Op::RunsOf),
    ]
}

fn agrees<L: RawMutex>(table: &SwapRecords<L>, ops: &[Op]) {
    let mut oracle = Oracle::default();
    for ty in [0, 1] {
        let on = Op::Swapon(SwapType::new(ty).unwrap(), MOST_PAGES);
        oracle.apply(table, &on);
    }
    for op in ops {
        oracle.apply(table, op);
    }
    oracle.check(table);
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn with_the_spinlock_and_each_backend(ops in vec(op(), 1..60)) {
        for &backend in Backend::ALL.iter().filter(|backend| backend.is_available()) {
            agrees(&SwapRecords::<RawSpinLock>::with_lock().with_backend(backend), &ops);
        }
    }

    #[test]
    fn with_parking_lot(ops in vec(op(), 1..60)) {
        agrees(&SwapRecords::<parking_lot::RawMutex>::with_lock(), &ops);
    }
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
