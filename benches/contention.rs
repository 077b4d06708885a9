//! Records by several threads, in one region and in regions of their own, with a lock that spins and
//! with one that sleeps.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fastrand::Rng;

use swap_records_benches::group;
use swap_records_benches::ours::Ours;
use swap_records_benches::threads::together;
use swap_records_benches::work::slot_and_id;
use swap_records_benches::{REGION, index};
use swap_records_sim::tables::Linux2024;
use swap_records_sim::tables::Loop2014;
use swap_records_sim::tables::Table;

const MOST_THREADS: usize = 8;
/// Records of all threads together in an iteration: far longer than a thread takes to start.
const COUNT: u64 = 1 << 18;

fn contention<P: Table>(criterion: &mut Criterion, name: &str) {
    let table = P::with_slots(MOST_THREADS * REGION).expect("memory for a map");
    table.record_range(0, MOST_THREADS * REGION, 1);
    for (place, apart) in [("same_region", 0), ("different_regions", REGION)] {
        let mut group = group::group(criterion, place);
        group.throughput(group::ids(COUNT));
        for threads in [1, 2, 4, MOST_THREADS] {
            let each = COUNT / threads as u64;
            let work = |thread: usize| {
                let mut rng = Rng::with_seed(thread as u64);
                let records = (0..index(each)).map(|_| {
                    let (slot, id) = slot_and_id(&mut rng, REGION);
                    table.record(thread * apart + slot, id)
                });
                records.filter(|&was| was != 0).count() as u64
            };
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut all = Duration::ZERO;
                    for _ in 0..iterations {
                        let (owned, time) = together(threads, work);
                        assert_eq!(owned, COUNT, "every slot has an owner");
                        all += time;
                    }
                    all
                });
            });
        }
        group.finish();
    }
}

fn locks(criterion: &mut Criterion) {
    contention::<Ours>(criterion, "RawSpinLock");
    contention::<Ours<parking_lot::RawMutex>>(criterion, "parking_lot");
    contention::<Linux2024>(criterion, "linux_2024");
    contention::<Loop2014>(criterion, "loop_2014");
}

criterion_group!(benches, locks);
criterion_main!(benches);
