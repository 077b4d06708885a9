//! Ranges of entries, as folios are swapped out and in.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

use swap_records_benches::group;
use swap_records_benches::index;
use swap_records_benches::ours::Ours;
use swap_records_benches::work::{record_ranges, sum_of};
use swap_records_sim::tables::Linux2024;
use swap_records_sim::tables::Loop2014;
use swap_records_sim::tables::Table;

/// 32 MiB of table: more than the private caches hold.
const SLOTS: usize = 1 << 24;
/// Entries per iteration.
const COUNT: u64 = 1 << 14;

/// Records folios of `nr` pages in free slots, then clears them.
fn out_and_in<P: Table>(criterion: &mut Criterion, name: &str) {
    let table = P::with_slots(SLOTS).expect("memory for a map");
    let mut group = group::group(criterion, "record_and_clear_ranges");
    group.throughput(group::ids(COUNT * 2));
    for nr in [1, 8, 64, 512] {
        let mut from = 0;
        group.bench_function(BenchmarkId::new(name, nr), |bencher| {
            bencher.iter(|| {
                let slots = from..from + index(COUNT);
                record_ranges(&table, slots.clone(), nr, from as u64);
                assert_ne!(table.lookup(slots.end - 1), 0, "the last slot has an owner");
                for slot in slots.clone().step_by(nr) {
                    table.record_range(slot, nr, 0);
                }
                assert_eq!(table.lookup(slots.end - 1), 0, "the last slot is free");
                from = slots.end % SLOTS;
            });
        });
    }
    group.finish();
    assert_eq!(sum_of(&table, 0..SLOTS), 0, "all slots are free again");
}

/// Records folios of `nr` pages over other folios.
fn over<P: Table>(criterion: &mut Criterion, name: &str) {
    let table = P::with_slots(SLOTS).expect("memory for a map");
    let mut group = group::group(criterion, "record_ranges");
    group.throughput(group::ids(COUNT));
    for nr in [1, 8, 64, 512] {
        record_ranges(&table, 0..SLOTS, nr, 0);
        let mut from = 0;
        group.bench_function(BenchmarkId::new(name, nr), |bencher| {
            bencher.iter(|| {
                let slots = from..from + index(COUNT);
                record_ranges(&table, slots.clone(), nr, from as u64);
                from = slots.end % SLOTS;
            });
        });
        let free = (0..SLOTS).filter(|&slot| table.lookup(slot) == 0);
        assert_eq!(free.count(), 0, "every slot has an owner");
    }
    group.finish();
}

fn ranges(criterion: &mut Criterion) {
    out_and_in::<Ours>(criterion, "swap-records");
    out_and_in::<Linux2024>(criterion, "linux_2024");
    out_and_in::<Loop2014>(criterion, "loop_2014");
    over::<Ours>(criterion, "swap-records");
    over::<Linux2024>(criterion, "linux_2024");
    over::<Loop2014>(criterion, "loop_2014");
}

criterion_group!(benches, ranges);
criterion_main!(benches);
