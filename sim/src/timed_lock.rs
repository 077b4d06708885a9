//! Measures the longest hold of a lock: [`TimedLock`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lock_api::RawMutex;

/// Whether holds are timed. If not, a hold costs the same as one of `R`.
static TIMED: AtomicBool = AtomicBool::new(false);
/// The longest hold since timing began, in nanoseconds; 0 if no lock was taken.
static LONGEST: AtomicU64 = AtomicU64::new(0);

/// Wraps a lock `R`, and times its holds while [`longest_hold`] runs.
///
/// The guard keeps the time at which the hold began. So the lock has the size of `R`, and the layout of a
/// table does not change.
///
/// ```
/// use swap_records_sim::tables::{Loop2014, Spin, Table};
/// use swap_records_sim::{TimedLock, longest_hold};
///
/// # if cfg!(miri) { return Ok(()); } // Memory maps.
/// let table = Loop2014::<TimedLock<Spin>>::with_slots(1 << 20)?;
/// let (moved, hold) = longest_hold(|| table.migrate(7, 1));
/// assert_eq!(moved, 0);
/// assert!(hold.is_some());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TimedLock<R>(R);

// SAFETY: locks and unlocks `R`, and passes its guard state on.
unsafe impl<R: RawMutex> RawMutex for TimedLock<R> {
    const INIT: Self = Self(R::INIT);
    type Guard = (R::Guard, Option<Instant>);

    #[inline]
    fn lock(&self) -> Self::Guard {
        let guard = self.0.lock();
        (guard, now())
    }

    #[inline]
    fn try_lock(&self) -> Option<Self::Guard> {
        let guard = self.0.try_lock()?;
        Some((guard, now()))
    }

    #[inline]
    unsafe fn unlock(&self, (guard, since): Self::Guard) {
        if let Some(since) = since {
            held(since);
        }
        // SAFETY: the caller holds this lock, and therefore `R`, with this guard.
        unsafe { self.0.unlock(guard) }
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

/// Runs `f`. Returns its result, and the longest time for which a [`TimedLock`] was held during the call, or
/// `None` if none was taken.
///
/// This is wall-clock time: it includes the time for which the system ran other threads. Only one call in a
/// process may run at a time, or the results are wrong.
pub fn longest_hold<T>(f: impl FnOnce() -> T) -> (T, Option<Duration>) {
    LONGEST.store(0, Relaxed);
    TIMED.store(true, Relaxed);
    let result = f();
    TIMED.store(false, Relaxed);
    let longest = LONGEST.load(Relaxed);
    (result, (longest > 0).then(|| Duration::from_nanos(longest)))
}

#[inline]
fn now() -> Option<Instant> {
    TIMED.load(Relaxed).then(Instant::now)
}

#[cold]
fn held(since: Instant) {
    // At least 1: a hold that is too short for the clock still counts.
    let nanos = since.elapsed().as_nanos().max(1);
    LONGEST.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX), Relaxed);
}
