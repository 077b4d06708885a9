//! A machine with one processor: its interrupt flag, and the locks that are held.
//!
//! [`IrqLock`] disables interrupts while it is held. It ends the program if one of these rules is broken:
//!
//! - A lock that is held is never taken again. With one processor, no other code would free it.
//! - A table holds the lock of one region at a time, and takes no lock while it holds one.
//! - The locks of a tree nest in their order: the tree's own, then those of shards by number, then one of a
//!   region.
//! - Locks are freed from the last to the first. Each lock restores the flag that it found. In another order,
//!   interrupts would be enabled while a lock is held.

use core::fmt::{self, Write};
use core::marker::PhantomData;
use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use swap_records::lock::lock_api::RawMutex;
use swap_records_freestanding::exit;

use crate::memory::HEAP;

/// The exit code after a check has failed.
const FAILED: u8 = 1;

static INTERRUPTS: AtomicBool = AtomicBool::new(true);

/// The addresses of the locks that are held, and their number. A call of a tree holds 18 at most.
static HELD: [AtomicUsize; 32] = [const { AtomicUsize::new(0) }; 32];
static DEPTH: AtomicUsize = AtomicUsize::new(0);

/// The number of locks that were taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// The address of the tree's own lock. 0: unknown. 1: the next lock is the tree's own.
static OF_TREE: AtomicUsize = AtomicUsize::new(0);

/// Writes text to the standard output.
struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        swap_records_freestanding::write(text);
        Ok(())
    }
}

/// Writes a line.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    // Writing does not fail.
    let _ = writeln!(Out, "kernel: {line}");
}

/// Ends the program with a message that says what is wrong, and where that was found.
#[cold]
#[track_caller]
pub(crate) fn fail(what: &str) -> ! {
    let at = Location::caller();
    say(format_args!("FAIL: {what} ({}:{})", at.file(), at.line()));
    exit(FAILED)
}

/// Ends the program unless `holds`.
#[track_caller]
pub(crate) fn check(holds: bool, what: &str) {
    if !holds {
        fail(what);
    }
}

/// Checks what must hold when code of the caller runs, and when memory is allocated or freed.
#[track_caller]
pub(crate) fn check_unlocked(what: &str) {
    if DEPTH.load(Relaxed) > 0 {
        fail(what);
    }
    check(INTERRUPTS.load(Relaxed), "interrupts stay disabled");
}

/// Returns the number of locks that were taken since the last call.
pub(crate) fn taken() -> u64 {
    TAKEN.swap(0, Relaxed)
}

/// `first` takes the tree's own lock before any other lock. The tree must not move until its lock is
/// forgotten.
pub(crate) fn find_the_trees_lock(first: impl FnOnce()) {
    OF_TREE.store(1, Relaxed);
    first();
    check(OF_TREE.load(Relaxed) > 1, "no lock was taken");
}

pub(crate) fn forget_the_trees_lock() {
    OF_TREE.store(0, Relaxed);
}

/// A lock for one processor, which disables interrupts.
pub(crate) struct IrqLock {
    held: AtomicBool,
}

/// Whether interrupts were enabled when the lock was taken. The value stays on its processor.
pub(crate) struct Flag {
    enabled: bool,
    processor: PhantomData<*mut ()>,
}

impl IrqLock {
    fn address(&self) -> usize {
        (&raw const *self).addr()
    }

    /// Returns whether this lock may be taken while the lock at this address is held.
    fn comes_after(&self, before: usize) -> bool {
        let of_tree = OF_TREE.load(Relaxed);
        // Locks of regions are on the heap. The other locks are in the tree.
        match (HEAP.has(before), HEAP.has(self.address())) {
            (true, _) => false,
            (false, true) => true,
            (false, false) if self.address() == of_tree => false,
            (false, false) => before == of_tree || before < self.address(),
        }
    }

    fn take(&self) -> Flag {
        let enabled = INTERRUPTS.swap(false, Relaxed);
        if self.held.swap(true, Relaxed) {
            fail("a lock that is held is taken again");
        }
        let depth = DEPTH.fetch_add(1, Relaxed);
        check(
            enabled == (depth == 0),
            "interrupts are enabled under a lock",
        );
        if OF_TREE.load(Relaxed) == 1 {
            OF_TREE.store(self.address(), Relaxed);
        }
        let all_before = HELD[..depth].iter().map(|held| held.load(Relaxed));
        check(
            all_before
                .into_iter()
                .all(|before| self.comes_after(before)),
            "a lock is taken under another out of order",
        );
        HELD[depth].store(self.address(), Relaxed);
        TAKEN.fetch_add(1, Relaxed);
        Flag {
            enabled,
            processor: PhantomData,
        }
    }
}

// SAFETY: `held` goes from false to true once before it is false again, or the program ends.
unsafe impl RawMutex for IrqLock {
    const INIT: Self = Self {
        held: AtomicBool::new(false),
    };

    type Guard = Flag;

    fn lock(&self) -> Flag {
        self.take()
    }

    fn try_lock(&self) -> Option<Flag> {
        (!self.is_locked()).then(|| self.take())
    }

    unsafe fn unlock(&self, flag: Flag) {
        check(self.held.swap(false, Relaxed), "a lock is freed twice");
        let depth = DEPTH.fetch_sub(1, Relaxed) - 1;
        check(
            HELD[depth].load(Relaxed) == self.address(),
            "a lock is freed before another that was taken under it",
        );
        INTERRUPTS.store(flag.enabled, Relaxed);
    }

    fn is_locked(&self) -> bool {
        self.held.load(Relaxed)
    }
}
