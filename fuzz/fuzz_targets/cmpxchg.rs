//! Compares `record`, `clear`, `cmpxchg`, `lookup` and batches on few slots and few ids with a map. On one
//! thread: `threads` is the target for races.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swap_records::SwapRecords;
use swap_records_fuzz::CmpxchgOps;
use swap_records_oracle::{Both, CMPXCHG_PAGES, Op};

fuzz_target!(|ops: CmpxchgOps| {
    let table = SwapRecords::new();
    let mut both = Both::new(&table);
    both.apply(&Op::Swapon(0, CMPXCHG_PAGES));
    for (done, op) in ops.0.iter().enumerate() {
        both.apply(op);
        if done % 16 == 15 {
            both.check();
        }
    }
    both.finish();
});
