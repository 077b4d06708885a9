//! Runs a table and a tree as a kernel would: on one processor, with locks that disable interrupts, a page allocator and a heap of
//! its own, and nothing below but two system calls. The modules say which rules it ends at.
//!
//! Every operation is compared to an oracle, in sequences that are the same each time. Then each demand for memory of a sequence is
//! refused in turn.
//!
//! It writes a line for each part. The exit code is 0 where all holds, 1 where a check failed, which a line says, and
//! [`PANICKED`](swap_records_freestanding::PANICKED) after a panic.

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

/// Operations on a table or a tree: with a seed, how many, and what is refused.
type Sequence = fn(u64, u64, Refuse) -> Done;

/// A long sequence, with memory.
fn agrees_with_the_oracle(what: &str, sequence: Sequence, operations: u64) {
    let done = sequence(1, operations, Refuse::None);
    check(done.refused == 0, "memory was refused to nobody");
    say(format_args!(
        "the {what} agrees with the oracle: {} operations, {} locks, {} demands for memory",
        done.operations,
        taken(),
        done.demands,
    ));
}

/// A short sequence, with each demand for memory refused in turn, alone or with those that follow in its operation.
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
