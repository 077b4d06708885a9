//! Migrations: on every family of maps, of many and of few records, by every backend, from each level of the
//! memory.

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use swap_records::{Backend, RawSpinLock};

use swap_records_benches::group;
use swap_records_benches::ours::Ours;
use swap_records_benches::peers::iterator_loop::{IteratorLoop, Level};
use swap_records_benches::peers::roaring_sets::RoaringSets;
use swap_records_benches::work::tails;
use swap_records_benches::{LIVE, REGION, SEED, index, ours};
use swap_records_sim::tables::Loop2014;
use swap_records_sim::tables::Table;
use swap_records_sim::tables::U64Words;
use swap_records_sim::{self as sim, Family, Map};

/// The id that a full scan looks for, and the new owner. Both are above the ids of all families.
const TAILS: (u16, u16) = (20_001, 20_002);
/// The owner of scattered records, and the new owner.
const OFFLINE: (u16, u16) = (20_003, 20_004);
/// Slots of maps that fit into the L2 and L3 caches of common machines, and of one that does not.
const SIZES: [(&str, usize); 3] = [("L2", 1 << 18), ("L3", 1 << 22), ("DRAM", 1 << 27)];
const LARGE: usize = SIZES[2].1;

fn backends() -> impl Iterator<Item = Backend> {
    let all = [
        Backend::Scalar,
        Backend::Words,
        Backend::Wide,
        Backend::Avx2,
        Backend::Avx512,
    ];
    all.into_iter().filter(|backend| backend.is_available())
}

/// Makes a table with this map that scans with this backend.
fn filled(map: &Map, backend: Backend) -> Ours<RawSpinLock> {
    let table = Ours::with_backend(index(map.slots()), backend).expect("memory for a map");
    let record = table.sink();
    map.fill(sim::threads(), record, |_| ());
    table
}

/// Migrates to and fro between two ids, and checks the number of records each time. At the end the first id has
/// the records again, for the next benchmark.
fn shuttle(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    (mut old, mut new): (u16, u16),
    records: u64,
    mut migrate: impl FnMut(u16, u16) -> u64,
) {
    let first = old;
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            assert_eq!(migrate(old, new), records, "records moved");
            (old, new) = (new, old);
        });
    });
    if old != first {
        assert_eq!(migrate(old, new), records, "records moved");
    }
}

/// Makes a peer with the same map and tails.
fn peer<P: Table>(map: &Map) -> P {
    let slots = index(map.slots());
    let mut ids = vec![0; slots];
    map.fill_slice(sim::threads(), &mut ids, |_| ());
    let peer = P::with_slots(slots).expect("memory for a map");
    for (slot, id) in ids.into_iter().enumerate() {
        peer.record_range(slot, 1, id);
    }
    tails(slots).for_each(|slot| peer.record_range(slot, 1, TAILS.0));
    peer
}

/// A scan must read every region to its end.
fn full_scan(criterion: &mut Criterion) {
    for (size, slots) in SIZES {
        let mut group = group::group(criterion, "full_scan");
        group.throughput(group::ids(slots as u64));
        let map = Map::new(Family::Interleaved(LIVE), slots as u64, SEED);
        let records = tails(slots).count() as u64;
        for backend in backends() {
            let table = filled(&map, backend);
            for slot in tails(slots) {
                table.record(slot, TAILS.0);
            }
            let id = BenchmarkId::new(backend.to_string(), size);
            shuttle(&mut group, id, TAILS, records, |old, new| {
                table.migrate(old, new)
            });
        }
        let of_2014: Loop2014 = peer(&map);
        let id = BenchmarkId::new("2014_loop", size);
        shuttle(&mut group, id, TAILS, records, |old, new| {
            of_2014.migrate(old, new)
        });
        drop(of_2014);
        let words: U64Words = peer(&map);
        let id = BenchmarkId::new("u64_words", size);
        shuttle(&mut group, id, TAILS, records, |old, new| {
            words.migrate(old, new)
        });
        drop(words);
        let mut plain: IteratorLoop = peer(&map);
        for level in Level::available() {
            plain = plain.at_level(level);
            let id = BenchmarkId::new(format!("iterator_loop_{level:?}"), size);
            shuttle(&mut group, id, TAILS, records, |old, new| {
                plain.migrate(old, new)
            });
        }
        group.finish();
    }
}

/// Migrates few records, in maps of every family.
fn scattered_records(criterion: &mut Criterion) {
    let families = [
        ("interleaved_150", Family::Interleaved(LIVE), 0),
        ("aged", Family::Interleaved(LIVE), 2_000_000),
        ("jobs", Family::Jobs, 0),
        ("uniform", Family::Uniform, 0),
    ];
    let mut group = group::group(criterion, "scattered_records");
    for (name, family, turnovers) in families {
        for k in [0, 1, 1_000, 10_000, 100_000] {
            let map = Map::new(family, LARGE as u64 / 8, SEED).aged(turnovers);
            let table = filled(&map.remains(OFFLINE.0, k), Backend::detect());
            let id = BenchmarkId::new(name, k);
            shuttle(&mut group, id, OFFLINE, k, |old, new| {
                table.migrate(old, new)
            });
        }
    }
    group.finish();
}

/// From one record per region to a few thousand. With one record the index gives its position. With more, the
/// region is scanned for a few or for many. The throughput is in regions.
fn records_per_region(criterion: &mut Criterion) {
    let mut group = group::group(criterion, "records_per_region");
    let regions = LARGE / REGION;
    group.throughput(Throughput::Elements(regions as u64));
    let map = Map::new(Family::Interleaved(LIVE), LARGE as u64, SEED);
    let table = filled(&map, Backend::detect());
    let mut random = fastrand::Rng::with_seed(SEED);
    // The largest number first: the others are recorded over some of its records.
    let all = [3_000, 300, 100, 40, 10, 3, 2, 1];
    let ids = || (OFFLINE.0..).step_by(2).map(|old| (old, old + 1));
    for (nr, (offline, _)) in all.into_iter().zip(ids()) {
        for region in 0..regions {
            for position in random.choose_multiple(0..REGION, nr) {
                table.record(region * REGION + position, offline);
            }
        }
    }
    for (nr, offline) in all.into_iter().zip(ids()) {
        let records = table.0.count(ours::id(offline.0));
        let id = BenchmarkId::from_parameter(nr);
        shuttle(&mut group, id, offline, records, |old, new| {
            table.migrate(old, new)
        });
    }
    group.finish();
}

/// Migrates few records, by every backend and by sets of slots.
fn records_by_backend(criterion: &mut Criterion) {
    let mut group = group::group(criterion, "records_by_backend");
    for k in [1_000, 10_000, 100_000] {
        let map = Map::new(Family::Interleaved(LIVE), LARGE as u64 / 8, SEED);
        let map = map.remains(OFFLINE.0, k);
        let sets = RoaringSets::with_slots(index(map.slots())).expect("memory for a map");
        // Other ids need no set: they are never migrated.
        for run in filled(&map, Backend::detect())
            .0
            .runs_of(ours::id(OFFLINE.0))
        {
            sets.record_range(index(run.start.offset()), index(run.len), OFFLINE.0);
        }
        for backend in backends() {
            let table = filled(&map, backend);
            let id = BenchmarkId::new(backend.to_string(), k);
            shuttle(&mut group, id, OFFLINE, k, |old, new| {
                table.migrate(old, new)
            });
        }
        let id = BenchmarkId::new("roaring_sets", k);
        shuttle(&mut group, id, OFFLINE, k, |old, new| {
            sets.migrate(old, new)
        });
    }
    group.finish();
}

/// Migrates an id that owns every slot.
fn dense(criterion: &mut Criterion) {
    let mut group = group::group(criterion, "dense");
    for (size, slots) in SIZES {
        group.throughput(group::ids(slots as u64));
        for backend in backends() {
            let table: Ours = Ours::with_backend(slots, backend).expect("memory for a map");
            table.fill(OFFLINE.0, sim::threads());
            let id = BenchmarkId::new(backend.to_string(), size);
            shuttle(&mut group, id, OFFLINE, slots as u64, |old, new| {
                table.migrate(old, new)
            });
        }
    }
    group.finish();
}

criterion_group!(
    benches,
    full_scan,
    scattered_records,
    records_per_region,
    records_by_backend,
    dense
);
criterion_main!(benches);
