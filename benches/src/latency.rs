//! Measures the latency of an operation while another thread migrates all of a map.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use hdrhistogram::Histogram;

/// The time between two operations.
pub const EVERY: Duration = Duration::from_micros(10);
/// The pause between two migrations. During it a waiting thread gets the lock, as with the fair lock of the
/// kernel.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest time that a histogram can record.
const LONGEST_NS: u64 = 100_000_000_000;

/// The latencies of operations, in nanoseconds.
#[derive(Debug)]
pub struct Latencies {
    /// Corrected for operations that were due while an earlier one waited.
    pub times: Histogram<u64>,
    /// The number of records that each concurrent migration moved.
    pub moved: Vec<u64>,
}

/// The quantiles that are printed.
pub const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];

/// Makes an empty histogram for nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("valid bounds")
}

/// Migrates repeatedly on one thread, while another thread does an operation every [`EVERY`]. Ends after
/// `at_least`, and after at least two migrations.
///
/// Neither closure may panic: the other thread would never stop.
pub fn during_migrations(
    at_least: Duration,
    mut migrate: impl FnMut() -> u64 + Send,
    mut operation: impl FnMut(&mut Rng),
) -> Latencies {
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (stop, done) = (&stop, &done);
    let mut times = histogram();
    let moved = std::thread::scope(|scope| {
        let migrations = scope.spawn(move || {
            let mut moved = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                moved.push(migrate());
                done.store(moved.len(), Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            moved
        });
        let mut rng = Rng::with_seed(crate::SEED);
        let every = u64::try_from(EVERY.as_nanos()).expect("microseconds");
        let start = Instant::now();
        let mut due = start;
        while start.elapsed() < at_least || done.load(Ordering::Relaxed) < 2 {
            let mut began = Instant::now();
            while began < due {
                std::hint::spin_loop();
                began = Instant::now();
            }
            operation(&mut rng);
            let ended = Instant::now();
            let nanos = u64::try_from((ended - began).as_nanos()).unwrap_or(LONGEST_NS);
            times
                .record_correct(nanos.min(LONGEST_NS), every)
                .expect("below the longest");
            // The histogram now includes the operations that were due in the meantime.
            due = (due + EVERY).max(ended);
        }
        stop.store(true, Ordering::Relaxed);
        migrations
            .join()
            .expect("the migrating thread does not panic")
    });
    Latencies { times, moved }
}
