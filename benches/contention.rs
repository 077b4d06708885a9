//! Records by several threads: in one region and in a region per thread, with a spinning lock and with a
//! sleeping lock; and in a cluster per thread, as processors fill a fresh swapfile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;

use swap_records_benches::group;
use swap_records_benches::ours::{Ours, entry, id};
use swap_records_benches::threads::together;
use swap_records_benches::work::slot_and_id;
use swap_records_benches::{LIVE, REGION, index};
use swap_records_sim::tables::Linux2024;
use swap_records_sim::tables::Loop2014;
use swap_records_sim::tables::Table;

const MOST_THREADS: usize = 8;
/// Records of all threads in an iteration. They take far longer than starting a thread.
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

/// The slots that an allocator gives to one processor at a time.
const CLUSTER: usize = 512;

/// A way to record an id in all slots of a cluster.
struct Way {
    name: &'static str,
    /// Slots per hold of the lock. An iteration records this many times more slots than with single records.
    nr: usize,
    /// Fills a cluster from this slot on. Returns how many slots had an owner.
    fill: fn(&Ours, usize, u16) -> u64,
}

const WAYS: [Way; 4] = [
    Way {
        name: "record",
        nr: 1,
        fill: |table, start, id| {
            let slots = start..start + CLUSTER;
            slots.filter(|&slot| table.record(slot, id) != 0).count() as u64
        },
    },
    Way {
        name: "record_batch_64",
        nr: 64,
        fill: |table, start, of| {
            let slots: [_; CLUSTER] = std::array::from_fn(|at| entry(start + shuffled(at)));
            let mut owned = 0;
            for slots in slots.chunks(64) {
                let done = table.0.record_batch(slots, id(of), |_, _| owned += 1);
                done.expect("the swapfile has these slots");
            }
            owned
        },
    },
    Way {
        name: "record_range_16",
        nr: 16,
        fill: |table, start, id| fill_by_ranges(table, start, 16, id),
    },
    Way {
        name: "record_range_512",
        nr: CLUSTER,
        fill: |table, start, id| fill_by_ranges(table, start, CLUSTER, id),
    },
];

/// Returns the place in a cluster for turn `at`. Each place has one turn, and successive places are not
/// neighbours.
const fn shuffled(at: usize) -> usize {
    // The factor is odd, so every place has a turn.
    at * 167 % CLUSTER
}

fn fill_by_ranges(table: &Ours, start: usize, nr: usize, of: u16) -> u64 {
    let had = (start..start + CLUSTER).step_by(nr).map(|slot| {
        let had = table.0.record_range(entry(slot), nr as u64, id(of));
        let had = had.expect("the swapfile has these slots");
        had.iter().map(|run| run.len).sum::<u64>()
    });
    had.sum()
}

/// Threads fill clusters of their own repeatedly, each time for another cgroup. The clusters are all in one
/// region, as are the first 64 clusters of a swapfile, or in a region per thread.
fn clusters(criterion: &mut Criterion) {
    const MOST_THREADS: usize = 16;
    let table = Ours::with_slots(MOST_THREADS * REGION).expect("memory for a map");
    table.record_range(0, MOST_THREADS * REGION, 1);
    for (place, apart) in [
        ("clusters_in_one_region", CLUSTER),
        ("clusters_in_different_regions", REGION),
    ] {
        let mut group = group::group(criterion, place);
        for Way { name, nr, fill } in WAYS {
            let count = COUNT * nr as u64;
            group.throughput(group::ids(count));
            for threads in [1, 2, 4, 8, MOST_THREADS] {
                let times = index(count) / CLUSTER / threads;
                let work = |thread: usize| {
                    let start = thread * apart;
                    let ids = (1..=LIVE).cycle().skip(thread).take(times);
                    ids.map(|id| fill(&table, start, id)).sum()
                };
                group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                    bencher.iter_custom(|iterations| {
                        let mut all = Duration::ZERO;
                        for _ in 0..iterations {
                            let (owned, time) = together(threads, work);
                            assert_eq!(owned, count, "every slot has an owner");
                            all += time;
                        }
                        all
                    });
                });
            }
        }
        group.finish();
    }
}

/// Measures how long a cache line takes to move from the processor that wrote it to another: two threads
/// increment a counter alternately. A lock that changes processors with each record costs this, for its own line
/// and for the lines of the cells.
fn line(criterion: &mut Criterion) {
    let mut group = group::group(criterion, "line_to_another_processor");
    group.throughput(Throughput::Elements(COUNT));
    group.bench_function("in_turns", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut all = Duration::ZERO;
            for _ in 0..iterations {
                let turn = AtomicU64::new(0);
                let (last, time) = together(2, |thread| {
                    for mine in (thread as u64..COUNT).step_by(2) {
                        while turn.load(Ordering::Acquire) != mine {
                            std::hint::spin_loop();
                        }
                        turn.store(mine + 1, Ordering::Release);
                    }
                    turn.load(Ordering::Relaxed)
                });
                assert!(last >= COUNT, "every turn was taken");
                all += time;
            }
            all
        });
    });
    group.finish();
}

criterion_group!(benches, locks, clusters, line);
criterion_main!(benches);
