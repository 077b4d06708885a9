//! [`Dawdling`]: a lock that sometimes waits.

use std::cell::Cell;
use std::{hint, thread};

use lock_api::RawMutex;
use swap_records::RawSpinLock;

thread_local! {
    /// The number of operations of this thread on such locks.
    static STEPS: Cell<u32> = const { Cell::new(0) };
}

/// A [`RawSpinLock`] that sometimes waits before or after it locks or unlocks. If a thread does something
/// before it has the lock, or after it has freed the lock, other threads are likely to see it.
pub struct Dawdling(RawSpinLock);

fn dawdle() {
    let step = STEPS.get().wrapping_add(1);
    STEPS.set(step);
    // The hash scatters the waits. In 256 calls, one yields and 15 spin a little.
    match step.wrapping_mul(0x9E37_79B9) >> 24 {
        0 => thread::yield_now(),
        1..16 => (0..200).for_each(|_| hint::spin_loop()),
        _ => {}
    }
}

// SAFETY: the inner lock excludes, and is taken and freed exactly when this lock is.
unsafe impl RawMutex for Dawdling {
    const INIT: Self = Self(RawSpinLock::INIT);
    type Guard = <RawSpinLock as RawMutex>::Guard;

    fn lock(&self) {
        dawdle();
        self.0.lock();
        dawdle();
    }

    fn try_lock(&self) -> Option<()> {
        dawdle();
        self.0.try_lock()?;
        dawdle();
        Some(())
    }

    unsafe fn unlock(&self, (): ()) {
        dawdle();
        // SAFETY: the caller holds it.
        unsafe { self.0.unlock(()) };
        dawdle();
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}
