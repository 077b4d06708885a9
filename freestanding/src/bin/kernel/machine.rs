//! A machine with one processor: its flag of interrupts, and the locks that are held.
//!
//! [`IrqLock`] disables interrupts while it is held. It ends the program where a rule is broken that such a lock rests on:
//!
//! - A lock that is held is never taken again: with one processor, nobody else would free it.
//! - The locks of a table's regions are held one at a time, and nothing is locked under one.
//! - Those of a tree nest in their order: the tree's own, then those of shards by their numbers, then one of a region.
//! - Locks are freed last to first. Each gives the flag back as it found it, so in another order interrupts would be enabled under a
//!   lock.

use core::fmt::{self, Write};
use core::marker::PhantomData;
use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use swap_records::lock::lock_api::RawMutex;
use swap_records_freestanding::exit;

use crate::memory::HEAP;

/// The exit code where a check fails.
const FAILED: u8 = 1;

static INTERRUPTS: AtomicBool = AtomicBool::new(true);

/// The addresses of the locks that are held, and how many there are: a tree has 18 in one call at most.
static HELD: [AtomicUsize; 32] = [const { AtomicUsize::new(0) }; 32];
static DEPTH: AtomicUsize = AtomicUsize::new(0);

/// How many locks have been taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// The address of the tree's own lock; 0 where it is not known, 1 where the next lock is it.
static OF_TREE: AtomicUsize = AtomicUsize::new(0);

/// Text as a stream.
struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        swap_records_freestanding::write(text);
        Ok(())
    }
}

/// Writes a line.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    // It does not fail.
    let _ = writeln!(Out, "kernel: {line}");
}

/// Ends the program, and says what is wrong, and where that was found.
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

/// What must be so wherever code of the caller runs, or memory is asked for or given back.
#[track_caller]
pub(crate) fn check_unlocked(what: &str) {
    if DEPTH.load(Relaxed) > 0 {
        fail(what);
    }
    check(INTERRUPTS.load(Relaxed), "interrupts stay disabled");
}

/// How many locks were taken since the last call.
pub(crate) fn taken() -> u64 {
    TAKEN.swap(0, Relaxed)
}

/// `first` takes the tree's own lock, before any other. It must lie where it does until it is forgotten.
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

/// Whether interrupts were enabled when the lock was taken. It stays on its processor.
pub(crate) struct Flag {
    enabled: bool,
    processor: PhantomData<*mut ()>,
}

impl IrqLock {
    fn address(&self) -> usize {
        (&raw const *self).addr()
    }

    /// Whether it may be taken under the lock at this address.
    fn comes_after(&self, before: usize) -> bool {
        let of_tree = OF_TREE.load(Relaxed);
        // Those of regions are on the heap; the others are in the tree.
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
