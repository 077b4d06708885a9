//! Measures the fastest plain read of memory.

use std::time::Duration;

use crate::measure::median;
pub(crate) use swap_records_benches::peers::iterator_loop::Level;
use swap_records_benches::timed;

/// Returns the level that reads these words fastest.
pub(crate) fn fastest(words: &[u64]) -> Level {
    let time = |level| {
        let times = (0..3).map(|_| read(level, words).1.as_secs_f64());
        median(times.collect())
    };
    let mut levels = Level::available();
    levels.sort_by(|&a, &b| time(a).total_cmp(&time(b)));
    levels[0]
}

/// Reads all of these words at a level, which must be available. Returns a sum that proves that each word was
/// read.
pub(crate) fn read(level: Level, words: &[u64]) -> (u64, Duration) {
    assert!(
        Level::available().contains(&level),
        "{level:?} is not available"
    );
    timed(|| sum_at(level, words))
}

fn sum_at(level: Level, words: &[u64]) -> u64 {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `read` has checked that the level is available.
        Level::Avx2 => unsafe { sum_avx2(words) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `read` has checked that the level is available.
        Level::Avx512bw => unsafe { sum_avx512bw(words) },
        _ => sum(words),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(words: &[u64]) -> u64 {
    sum(words)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
fn sum_avx512bw(words: &[u64]) -> u64 {
    sum(words)
}

/// Uses many sums, so that no addition waits for another.
#[inline(always)]
fn sum(words: &[u64]) -> u64 {
    let (blocks, rest) = words.as_chunks::<32>();
    let mut sums = [0_u64; 32];
    for block in blocks {
        for (sum, word) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(*word);
        }
    }
    rest.iter()
        .chain(&sums)
        .fold(0, |sum, word| sum.wrapping_add(*word))
}
