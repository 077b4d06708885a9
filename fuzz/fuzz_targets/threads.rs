//! Two or three threads on a few slots: an order of the operations must explain all answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swap_records::RawSpinLock;
use swap_records::lock::parking_lot;
use swap_records_fuzz::ThreadOps;
use swap_records_oracle::history::explains_all;

fuzz_target!(|input: ThreadOps| {
    if input.parking_lot {
        explains_all::<parking_lot::RawMutex>(&input.lists);
    } else {
        explains_all::<RawSpinLock>(&input.lists);
    }
});
