//! Counts events. The numbers lie in a `memfd`, so that they outlive a manager that is killed.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::shared::{self, Words};
use crate::{PAGE, index};

/// A number that only grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Count {
    /// Faults that were served.
    Faults,
    /// Of these, writes to a page that was protected.
    Protected,
    /// Pages that were evicted.
    Evicted,
    /// Of these, pages whose slots lie in a row, so that one call recorded them as a range.
    InRanges,
    /// Bytes that were written to the swapfile.
    Written,
    /// Bytes that were read from it.
    Read,
    /// Faults that had to evict before they were served.
    Reclaimed,
    /// Guests that were taken in, and guests whose pages were taken back after their end.
    Lived,
    Died,
    /// Records of guests that died which are the host's now.
    Migrated,
    /// Pages in memory of guests that died which are the host's now.
    Moved,
    /// Slots of guests that died.
    Freed,
    /// Pages whose eviction a kill had interrupted after the record was written.
    Undone,
    /// Pages that a kill had left on their way to memory.
    OnTheirWay,
    /// Nanoseconds of the processor that managers took.
    Processor,
    /// Nanoseconds between two readings of the clock with nothing in between, and the number of such pairs.
    ClockTime,
    ClockCalls,
    /// The first of two numbers per [`Call`]: nanoseconds between two readings of the clock with calls in
    /// between, and the number of calls. It is the last count.
    Calls,
}

/// Calls of the table and the tree, by what they are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Call {
    /// A fault of a page that was evicted.
    SwapIn,
    /// A fault of a page that is touched first.
    Charge,
    /// An eviction.
    SwapOut,
    /// The start and the end of a guest.
    Guests,
    /// The start of a manager: reopens the table, makes the tree, and looks at every record.
    Reopen,
}

impl Call {
    pub(crate) const ALL: [Self; 5] = [
        Self::SwapIn,
        Self::Charge,
        Self::SwapOut,
        Self::Guests,
        Self::Reopen,
    ];
}

const COUNTS: usize = Count::Calls as usize + 2 * Call::ALL.len();
/// Steps per power of two of a latency: each is less than 1% of it.
const STEPS: u64 = 128;
const BUCKETS: usize = 40 * 128;

/// The counts, shared by all processes that have the file.
#[derive(Clone, Debug)]
pub(crate) struct Stats(Arc<Words>);

impl Stats {
    pub(crate) fn file() -> io::Result<File> {
        let bytes = (8 * (COUNTS + BUCKETS)).next_multiple_of(PAGE);
        shared::memfd("stats", bytes as u64)
    }

    pub(crate) fn map(file: &File) -> io::Result<Self> {
        Ok(Self(Arc::new(Words::map(file)?)))
    }

    pub(crate) fn add(&self, count: Count, nr: u64) {
        self.0.get()[count as usize].fetch_add(nr, Relaxed);
    }

    pub(crate) fn get(&self, count: Count) -> u64 {
        self.0.get()[count as usize].load(Relaxed)
    }

    /// Adds calls and the nanoseconds that they took, the clock's included.
    pub(crate) fn add_calls(&self, call: Call, calls: u64, nanoseconds: u64) {
        let at = Count::Calls as usize + 2 * call as usize;
        self.0.get()[at].fetch_add(nanoseconds, Relaxed);
        self.0.get()[at + 1].fetch_add(calls, Relaxed);
    }

    /// Returns the number of calls, and the nanoseconds that they took without the clock's. The start of a
    /// manager is measured in a few long pieces, and counts with the clock's.
    pub(crate) fn calls(&self, call: Call) -> (u64, u64) {
        let at = Count::Calls as usize + 2 * call as usize;
        let [time, calls] = [at, at + 1].map(|at| self.0.get()[at].load(Relaxed));
        let clocks = self.get(Count::ClockCalls).max(1);
        if call == Call::Reopen {
            return (calls, time);
        }
        let clock = u128::from(self.get(Count::ClockTime)) * u128::from(calls) / u128::from(clocks);
        (
            calls,
            time.saturating_sub(u64::try_from(clock).unwrap_or(u64::MAX)),
        )
    }

    /// Notes how long a fault took.
    pub(crate) fn latency(&self, nanoseconds: u64) {
        self.0.get()[COUNTS + bucket(nanoseconds)].fetch_add(1, Relaxed);
    }

    /// Returns percentiles of the latencies, in nanoseconds, for shares in thousandths; 0 where there is no
    /// latency.
    pub(crate) fn percentiles<const N: usize>(&self, per_mille: [u64; N]) -> [u64; N] {
        let buckets: Vec<u64> = self.0.get()[COUNTS..][..BUCKETS]
            .iter()
            .map(|bucket| bucket.load(Relaxed))
            .collect();
        let all: u64 = buckets.iter().sum();
        per_mille.map(|share| {
            let (mut below, due) = (0, (all * share).div_ceil(1000).max(1));
            let found = buckets.iter().position(|&here| {
                below += here;
                below >= due
            });
            found.map_or(0, middle)
        })
    }
}

fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < 2 * STEPS {
        return index(nanoseconds);
    }
    let power = u64::from(nanoseconds.ilog2() - STEPS.ilog2());
    let bucket = power * STEPS + (nanoseconds >> power);
    index(bucket).min(BUCKETS - 1)
}

fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    let start = (bucket - power * STEPS) << power;
    start + (1 << power) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_known_to_a_hundredth() {
        for nanoseconds in
            (0..60).flat_map(|power| [1_u64 << power >> 22, (3 << power) >> 24, 12_345])
        {
            let back = middle(bucket(nanoseconds));
            assert!(
                back.abs_diff(nanoseconds) <= nanoseconds / 100,
                "{nanoseconds} {back}"
            );
        }
        let mut last = 0;
        for nanoseconds in 0..100_000 {
            let next = bucket(nanoseconds);
            assert!(next == last || next == last + 1);
            last = next;
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_noted() {
        let stats = Stats::map(&Stats::file().unwrap()).unwrap();
        assert_eq!(stats.percentiles([500]), [0]);
        for nanoseconds in 1..=1000 {
            stats.latency(nanoseconds);
        }
        let [median, high] = stats.percentiles([500, 990]);
        assert!(
            median.abs_diff(500) <= 5 && high.abs_diff(990) <= 10,
            "{median} {high}"
        );
        stats.add_calls(Call::Reopen, 3, 70);
        assert_eq!(stats.calls(Call::Reopen), (3, 70));
        assert_eq!(stats.percentiles([500]), [median]);
    }
}
