//! The same work by several threads at once.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Runs `work` with the number of each thread, all from the same moment on. Gives the sum of what
/// they return, and the time from the first that began to the last that ended.
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
    // Who starts the threads may wake up last of all, so the threads look at the clock themselves.
    let began = done.iter().map(|&(_, began, _)| began).min();
    let ended = done.iter().map(|&(_, _, ended)| ended).max();
    let time = ended.zip(began).map_or(Duration::ZERO, |(e, b)| e - b);
    (done.iter().map(|&(result, ..)| result).sum(), time)
}
