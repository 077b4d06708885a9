//! Compares all operations of a table on several types with a map.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lock_api::RawMutex;
use swap_records::lock::parking_lot;
use swap_records::{RawSpinLock, SwapRecords};
use swap_records_fuzz::TableOps;
use swap_records_oracle::{AT_FIRST, Both};

fn agrees<L: RawMutex + Send + Sync>(input: &TableOps) {
    let table = SwapRecords::<L>::with_raw_mutex().with_backend(input.backend);
    let mut both = Both::new(&table);
    for (done, op) in AT_FIRST.iter().chain(&input.ops).enumerate() {
        both.apply(op);
        if done % 16 == 15 {
            both.check();
        }
    }
    both.finish();
}

fuzz_target!(|input: TableOps| {
    if input.parking_lot {
        agrees::<parking_lot::RawMutex>(&input);
    } else {
        agrees::<RawSpinLock>(&input);
    }
});
