//! A sequence of operations on a subject (a table or a tree), each of which is also done on its oracle.

use crate::machine::{check, check_unlocked};
use crate::memory::{HEAP, PAGES, Refuse, counted, demands, refuse, validate};

/// There was no memory, and nothing was written. The oracle is unchanged.
pub(crate) struct OutOfMemory;

/// A subject of operations, and its oracle.
pub(crate) trait Subject: Sized {
    /// An operation. It does the same each time that it is called.
    type Op: Copy;

    fn new(seed: u64) -> Self;
    /// Returns the operation with this number, of so many. The last ones turn the types off, and trim.
    fn op(&mut self, nr: u64, operations: u64) -> Self::Op;
    /// Returns whether the operation may allocate. Operations that free, migrate or read must not.
    fn may_demand(op: Self::Op) -> bool;
    /// Does the operation on both, and compares the results.
    fn apply(&mut self, op: Self::Op) -> Result<(), OutOfMemory>;
    /// Compares all that the interface shows.
    fn check_all(&self);
    fn validate(&self) -> Result<(), alloc::string::String>;
}

/// The numbers of a sequence of operations.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) operations: u64,
    /// The number of allocations.
    pub(crate) demands: u64,
    /// Operations that were refused because there was no memory, and operations that succeeded without it.
    pub(crate) refused: u64,
    pub(crate) did_without: u64,
}

/// Does this many operations on a new subject. If an operation is refused because there is no memory, it is
/// done again with memory. At the end, all memory has been freed.
pub(crate) fn run<S: Subject>(seed: u64, operations: u64, which: Refuse) -> Done {
    let mut done = Done::default();
    let bytes = HEAP.bytes_out();
    let mut subject = S::new(seed);
    refuse(which);
    for nr in 0..operations {
        let op = subject.op(nr, operations);
        let (result, demanded, refused) = counted(|| subject.apply(op));
        check_unlocked("an operation ends under a lock");
        check(
            demanded == 0 || S::may_demand(op),
            "an operation demands memory that must not",
        );
        match result {
            Ok(()) => done.did_without += u64::from(refused > 0),
            Err(OutOfMemory) => {
                check(refused > 0, "OutOfMemory is said while there is memory");
                done.refused += 1;
                subject.check_all();
                validate(|| subject.validate());
                check(
                    subject.apply(op).is_ok(),
                    "OutOfMemory is said while there is memory again",
                );
                validate(|| subject.validate());
            }
        }
        done.operations += 1;
        if done.operations.is_multiple_of(64) {
            subject.check_all();
            validate(|| subject.validate());
        }
    }
    done.demands = demands();
    check(PAGES.nr_out() == 0, "pages are not back after a trim");
    drop(subject);
    check(
        HEAP.bytes_out() == bytes,
        "memory of the heap is not back after a drop",
    );
    done
}
