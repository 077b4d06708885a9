//! Compares migrations over hundreds of regions, in steps and on threads, with a map.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swap_records::SwapRecords;
use swap_records_fuzz::ManyOps;
use swap_records_oracle::{Both, MANY_AT_FIRST};

fuzz_target!(|input: ManyOps| {
    let table = SwapRecords::new();
    let mut both = Both::new(&table);
    for op in MANY_AT_FIRST.iter().chain(&input.ops) {
        both.apply(op);
    }
    if input.validate {
        both.finish();
    } else {
        both.turn_off();
    }
});
