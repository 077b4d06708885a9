//! Operations on single entries: in order, at random in a small map, and at random in a large one.

use std::cell::LazyCell;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};

use swap_records_benches::group;
use swap_records_benches::ours::Ours;
use swap_records_benches::peers::dash::Dash;
use swap_records_benches::work::{
    clear_random, cmpxchg_there_and_back, lookup_random, record_free, record_random,
    record_sequential, swaps,
};
use swap_records_benches::{LIVE, SEED, index, timed};
use swap_records_sim::tables::Linux2024;
use swap_records_sim::tables::Loop2014;
use swap_records_sim::tables::Table;
use swap_records_sim::{self as sim, Family, Map};

/// 2 MiB and 256 MiB of table.
const HOT: usize = 1 << 20;
const DRAM: usize = 1 << 27;
/// The number of operations per iteration.
const COUNT: u64 = 1 << 14;

/// Makes a table in which every slot has an owner.
fn filled<P: Table>(slots: usize) -> P {
    let table = P::with_slots(slots).expect("memory for a map");
    let map = Map::new(Family::Interleaved(LIVE), slots as u64, SEED);
    map.fill(
        sim::threads(),
        |start, len, id| match len {
            1 => _ = table.record(index(start), id),
            _ => table.record_range(index(start), index(len), id),
        },
        |_| (),
    );
    table
}

/// Measures all operations at random slots.
fn anywhere<P: Table>(criterion: &mut Criterion, name: &str, size: &str, slots: usize) {
    // Fill the table only if one of these benchmarks runs.
    let table = LazyCell::new(|| filled::<P>(slots));
    let id = || BenchmarkId::new(name, size);
    let mut seed = 0;
    let mut next = || {
        seed += 1;
        seed
    };

    let mut group = group(criterion, "record");
    group.bench_function(id(), |bencher| {
        bencher.iter(|| {
            let owners = record_random(&*table, slots, COUNT, next());
            assert!(owners >= COUNT, "every slot has an owner");
        });
    });
    group.finish();

    let mut group = self::group(criterion, "lookup");
    group.bench_function(id(), |bencher| {
        bencher.iter(|| {
            let owners = lookup_random(|slot| table.lookup(slot), slots, COUNT, next());
            assert!(owners >= COUNT, "every slot has an owner");
        });
    });
    group.finish();

    let mut group = self::group(criterion, "clear");
    group.bench_function(id(), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut all = Duration::ZERO;
            for _ in 0..iterations {
                let seed = next();
                let (cleared, time) = timed(|| clear_random(&*table, slots, COUNT, seed));
                all += time;
                let free = record_free(&*table, slots, COUNT, seed);
                assert_eq!(cleared, free, "as many are recorded again as were cleared");
            }
            all
        });
    });
    group.finish();

    let swaps = LazyCell::new(|| swaps(&*table, slots, COUNT / 2, SEED));
    let mut group = self::group(criterion, "cmpxchg");
    group.bench_function(id(), |bencher| {
        bencher.iter(|| {
            let stored = cmpxchg_there_and_back(&*table, &swaps);
            assert_eq!(stored, COUNT, "every compare-exchange succeeds");
        });
    });
    group.finish();
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = group::group(criterion, name);
    group.throughput(group::ids(COUNT));
    group
}

/// Measures records in order, over and over.
fn in_order<P: Table>(criterion: &mut Criterion, name: &str, slots: usize) {
    // Fill the table only if this benchmark runs.
    let table = LazyCell::new(|| filled::<P>(slots));
    let mut group = group(criterion, "record");
    let mut from = 0;
    group.bench_function(BenchmarkId::new(name, "sequential"), |bencher| {
        bencher.iter(|| {
            let owners = record_sequential(&*table, from..from + index(COUNT), from as u64);
            assert!(owners >= COUNT, "every slot has an owner");
            from = (from + index(COUNT)) % slots;
        });
    });
    group.finish();
}

fn operations(criterion: &mut Criterion) {
    in_order::<Ours>(criterion, "swap-records", DRAM);
    in_order::<Linux2024>(criterion, "linux_2024", DRAM);
    in_order::<Loop2014>(criterion, "loop_2014", DRAM);
    in_order::<Dash>(criterion, "dashmap", HOT);
    anywhere::<Ours>(criterion, "swap-records", "hot", HOT);
    anywhere::<Linux2024>(criterion, "linux_2024", "hot", HOT);
    anywhere::<Loop2014>(criterion, "loop_2014", "hot", HOT);
    anywhere::<Dash>(criterion, "dashmap", "hot", HOT);
    anywhere::<Ours>(criterion, "swap-records", "dram", DRAM);
    anywhere::<Linux2024>(criterion, "linux_2024", "dram", DRAM);
    anywhere::<Loop2014>(criterion, "loop_2014", "dram", DRAM);
}

criterion_group!(benches, operations);
criterion_main!(benches);
