//! Runs a table and a tree as a kernel would: on one processor, with locks that disable interrupts, with a
//! page allocator and a heap of its own, and with only two system calls. The modules list the rules that it
//! checks.
//!
//! Every operation is compared with an oracle, in sequences that are the same each time. Then each allocation
//! of a sequence is refused, one after another.
//!
//! It writes a line for each part. The exit code is 0 if all checks hold, 1 if a check failed, with a
//! message, and [`PANICKED`](swap_records_freestanding::PANICKED) after a panic.

#![no_std]
#![no_main]

extern crate alloc;

mod machine;
mod memory;
mod model;
mod sequence;
mod table;
mod tree;

use machine::{check, say, taken};
use memory::Refuse;
use sequence::Done;

/// Operations on a table or a tree: a seed, their number, and which allocations are refused.
type Sequence = fn(u64, u64, Refuse) -> Done;

/// Runs a long sequence without refusals.
fn agrees_with_the_oracle(what: &str, sequence: Sequence, operations: u64) {
    let done = sequence(1, operations, Refuse::None);
    check(done.refused == 0, "an allocation was refused");
    say(format_args!(
        "the {what} agrees with the oracle: {} operations, {} locks, {} demands for memory",
        done.operations,
        taken(),
        done.demands,
    ));
}

/// Runs a short sequence once for each allocation, which is refused alone or with those that follow in the
/// same operation.
fn is_refused_each_demand(
    what: &str,
    sequence: Sequence,
    operations: u64,
    how: &str,
    which: fn(u64) -> Refuse,
) {
    let mut all = Done::default();
    for nr in 0.. {
        let done = sequence(2, operations, which(nr));
        let refusals = done.refused + done.did_without;
        if refusals == 0 {
            check(nr == done.demands, "some demands were not refused");
            break;
        }
        check(refusals == 1, "a sequence is refused memory once");
        all.operations += done.operations;
        all.refused += done.refused;
        all.did_without += done.did_without;
    }
    check(all.refused > 0, "no demand was refused");
    say(format_args!(
        "the {what} is refused {how}: {} operations, {} refused with nothing written, {} did without",
        all.operations, all.refused, all.did_without,
    ));
}

fn all_of(what: &str, sequence: Sequence, operations: u64, refused: u64) {
    agrees_with_the_oracle(what, sequence, operations);
    is_refused_each_demand(what, sequence, refused, "each demand in turn", Refuse::One);
    let from = "each demand and those after it";
    is_refused_each_demand(what, sequence, refused, from, Refuse::From);
}

#[unsafe(no_mangle)]
fn run() -> u8 {
    all_of("table", sequence::run::<table::Both>, 6000, 100);
    table::gives_back_pages_of_a_static();
    say(format_args!("a static table gives its pages back"));
    all_of("tree", sequence::run::<tree::Both>, 4000, 150);
    0
}
