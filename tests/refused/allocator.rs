//! The system's allocator. It counts the allocations of a thread, and refuses one of them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

thread_local! {
    /// Whether the allocations of this thread are counted, how many there were, and which one is refused.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static MADE: Cell<u64> = const { Cell::new(0) };
    static REFUSED: Cell<u64> = const { Cell::new(0) };
}

struct Refusing;

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

fn is_refused() -> bool {
    if !COUNTS.get() {
        return false;
    }
    MADE.set(MADE.get() + 1);
    MADE.get() == REFUSED.get()
}

// SAFETY: the system's allocator, which may refuse at any time.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_refused() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_refused() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) };
    }
}

/// Counts the allocations of `work` on this thread.
pub fn count(made: &mut u64, work: impl FnOnce()) {
    refuse(0, &mut false, || {
        work();
        *made = MADE.get();
    });
}

/// Refuses the `nth` allocation of `work` on this thread. Reports whether there was one.
pub fn refuse<R>(nth: u64, refused: &mut bool, work: impl FnOnce() -> R) -> R {
    MADE.set(0);
    REFUSED.set(nth);
    COUNTS.set(true);
    let result = work();
    COUNTS.set(false);
    *refused = nth > 0 && MADE.get() >= nth;
    result
}
