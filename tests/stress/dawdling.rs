//! [`Dawdling`]: a lock that takes its time.

use std::cell::Cell;
use std::{hint, thread};

use lock_api::RawMutex;
use swap_records::RawSpinLock;

thread_local! {
    /// How often this thread was here.
    static STEPS: Cell<u32> = const { Cell::new(0) };
}

/// [`RawSpinLock`] that now and then waits before or after it locks or unlocks: what a thread does too late, when it
/// has let go of the lock, or too early, before it has it, others get to see.
pub struct Dawdling(RawSpinLock);

fn dawdle() {
    let step = STEPS.get().wrapping_add(1);
    STEPS.set(step);
    // A hash scatters them: one time in 256 it yields, 15 times it spins a little.
    match step.wrapping_mul(0x9E37_79B9) >> 24 {
        0 => thread::yield_now(),
        1..16 => (0..200).for_each(|_| hint::spin_loop()),
        _ => {}
    }
}

// SAFETY: the inner lock is one, and is taken and freed whenever this is.
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
