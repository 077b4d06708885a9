//! Runs the same work on several threads at once.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Runs `work` on each thread with the number of the thread. All threads start at the same moment. Returns
/// the sum of their results, and the time from the first start to the last end.
pub fn together(threads: usize, work: impl Fn(usize) -> u64 + Sync) -> (u64, Duration) {
    let barrier = Barrier::new(threads);
    let one = |thread| {
        barrier.wait();
        let began = Instant::now();
        let result = work(thread);
        (result, began, Instant::now())
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let one = &one;
        let all: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || one(thread)))
            .collect();
        all.into_iter()
            .map(|thread| thread.join().expect("the work does not panic"))
            .collect()
    });
    // The thread that starts the others may wake up last, so the threads read the clock themselves.
    let began = done.iter().map(|&(_, began, _)| began).min();
    let ended = done.iter().map(|&(_, _, ended)| ended).max();
    let time = ended.zip(began).map_or(Duration::ZERO, |(e, b)| e - b);
    (done.iter().map(|&(result, ..)| result).sum(), time)
}
