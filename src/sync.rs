//! Atomics, and [`RawSpinLock`], the lock of a region.

#[cfg(swap_records_loom)]
use crate::model::Backoff;
#[cfg(swap_records_loom)]
pub(crate) use crate::model::{
    AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering, fence,
};
#[cfg(not(swap_records_loom))]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering, fence,
};
#[cfg(not(swap_records_loom))]
use crossbeam_utils::Backoff;

/// Prefetches the cache line at `wanted`. The address may be any: a prefetch is a hint and has no effect that
/// the program can see. Does nothing on targets without such an instruction.
#[inline]
pub(crate) fn prefetch<T>(wanted: *const T) {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse", not(miri)))]
    // SAFETY: the target has SSE, and a prefetch may name any address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(wanted.cast());
    }
    // The instruction is the same. Where SSE registers may not be used, the intrinsic compiles to a call.
    #[cfg(all(target_arch = "x86_64", not(target_feature = "sse"), not(miri)))]
    // SAFETY: every x86-64 processor has this instruction. It uses no SSE register and may name any address.
    unsafe {
        core::arch::asm!("prefetcht0 [{}]", in(reg) wanted, options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = wanted;
}

/// A test-and-test-and-set spinlock of one byte that spins a little and then yields.
///
/// The default lock of a [`SwapRecords`](crate::SwapRecords). It is held for the work of one region at most:
/// nanoseconds for a record, a few microseconds for a scan. With the feature `std`, a waiter that spins
/// without success yields its time slice, so that a holder that was preempted can run. Without `std`, it only
/// spins. The lock is not fair, and it does not poison.
///
/// Choose another lock in these cases:
///
/// - There are many more threads than processors, and they often need the same regions.
/// - A waiter must not burn its processor.
/// - Threads run under a real-time scheduler, where yielding does not let a holder of lower priority run.
///
/// `parking_lot::RawMutex` puts waiters to sleep. It is also one byte, and costs the same while no thread
/// waits.
///
/// | state | `locked` | next |
/// | --- | --- | --- |
/// | free | `false` | `lock`, `try_lock`: to held, with acquire |
/// | held | `true` | `unlock`: to free, with release |
///
/// # Examples
///
/// ```
/// use swap_records::{RawSpinLock, SwapRecords};
///
/// assert_eq!(size_of::<RawSpinLock>(), 1);
/// // Any other lock_api::RawMutex works, too. The one of parking_lot puts waiters to sleep.
/// # #[cfg(feature = "std")]
/// let table = SwapRecords::<swap_records::lock::parking_lot::RawMutex>::with_raw_mutex();
/// ```
#[derive(Debug)]
pub struct RawSpinLock {
    locked: AtomicBool,
}

impl RawSpinLock {
    #[inline]
    fn take(&self) -> bool {
        self.locked
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[cold]
    fn lock_slow(&self) {
        let backoff = Backoff::new();
        loop {
            // Waiters only read while the lock is held, so that they share the line.
            while self.locked.load(Ordering::Relaxed) {
                backoff.snooze();
            }
            if self.take() {
                return;
            }
        }
    }
}

/// Creates a lock that is free.
impl Default for RawSpinLock {
    fn default() -> Self {
        <Self as lock_api::RawMutex>::INIT
    }
}

// SAFETY: `locked` goes from false to true only by one compare-exchange. Its winner holds the lock until its
// own `unlock`. Acquire and release order the work of successive holders. An acquisition has no state that
// could be lost, and nothing unwinds.
unsafe impl lock_api::RawMutex for RawSpinLock {
    const INIT: Self = Self {
        locked: AtomicBool::new(false),
    };

    type Guard = ();

    #[inline]
    fn lock(&self) {
        if !self.take() {
            self.lock_slow();
        }
    }

    #[inline]
    fn try_lock(&self) -> Option<()> {
        self.take().then_some(())
    }

    #[inline]
    unsafe fn unlock(&self, (): ()) {
        self.locked.store(false, Ordering::Release);
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_api::RawMutex;

    #[test]
    fn a_held_lock_is_not_taken_again() {
        let lock = RawSpinLock::INIT;
        assert!(!lock.is_locked());
        assert!(lock.try_lock().is_some());
        assert!(lock.is_locked());
        assert!(lock.try_lock().is_none());
        // SAFETY: this thread took the lock two lines above.
        unsafe { lock.unlock(()) };
        lock.lock();
        assert!(lock.is_locked() && lock.try_lock().is_none());
    }

    #[test]
    #[cfg(feature = "std")]
    fn increments_under_the_lock_are_not_lost() {
        const TIMES: u64 = if cfg!(miri) { 50 } else { 50_000 };
        let counter = lock_api::Mutex::<RawSpinLock, u64>::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..TIMES).for_each(|_| *counter.lock() += 1));
            }
        });
        assert_eq!(*counter.lock(), 4 * TIMES);
    }
}
