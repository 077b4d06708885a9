//! Configures criterion, so that all benchmarks end in reasonable time.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};

/// Begins a group of short measurements.
pub fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    group
}

/// Returns a throughput of this many ids per iteration.
pub fn ids(elements: u64) -> Throughput {
    Throughput::ElementsAndBytes {
        elements,
        bytes: elements * size_of::<u16>() as u64,
    }
}
