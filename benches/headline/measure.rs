//! Measures pairs of runs.

use std::time::Duration;

use swap_records_benches::timed;

/// The medians over pairs of runs. A pair has one run of each side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs {
    /// In seconds.
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
    /// The median of their time divided by our time.
    pub(crate) faster: f64,
}

impl Pairs {
    /// Returns our time divided by their time.
    pub(crate) fn slower(self) -> f64 {
        1.0 / self.faster
    }
}

/// Runs both sides alternately, with the number of the pair. Both must return the same number.
pub(crate) fn pairs(
    what: &str,
    pairs: usize,
    mut ours: impl FnMut(usize) -> (u64, Duration),
    mut theirs: impl FnMut(usize) -> (u64, Duration),
) -> Pairs {
    let (mut times, mut their_times, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        let (our_result, our_time) = ours(pair);
        let (their_result, their_time) = theirs(pair);
        assert_eq!(
            our_result, their_result,
            "{what}: one of the two answers is wrong"
        );
        let (our_time, their_time) = (our_time.as_secs_f64(), their_time.as_secs_f64());
        times.push(our_time);
        their_times.push(their_time);
        ratios.push(their_time / our_time);
    }
    Pairs {
        ours: median(times),
        theirs: median(their_times),
        faster: median(ratios),
    }
}

/// Does the same as [`pairs`] for closures that do not measure their own time.
pub(crate) fn timed_pairs(
    what: &str,
    nr: usize,
    mut ours: impl FnMut(usize) -> u64,
    mut theirs: impl FnMut(usize) -> u64,
) -> Pairs {
    pairs(
        what,
        nr,
        |pair| timed(|| ours(pair)),
        |pair| timed(|| theirs(pair)),
    )
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

/// Migrates records back and forth. After an even number of calls all records are as before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shuttle(pub(crate) u16, pub(crate) u16);

impl Shuttle {
    pub(crate) fn go(&mut self, migrate: impl FnOnce(u16, u16) -> u64) -> u64 {
        let Self(from, to) = *self;
        *self = Self(to, from);
        migrate(from, to)
    }
}
