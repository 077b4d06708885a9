//! `record`, `clear`, `cmpxchg` and `lookup` on so few slots and ids that they meet all the time, beside
//! a map. The fuzz target `cmpxchg` does the same from bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use swap_records::SwapRecords;
use swap_records_oracle::{Both, CMPXCHG_OWNERS, CMPXCHG_PAGES, CMPXCHG_SLOTS, Op, Slot};

fn slot() -> impl Strategy<Value = Slot> {
    select(&CMPXCHG_SLOTS)
}

fn owner() -> impl Strategy<Value = u16> {
    select(&CMPXCHG_OWNERS)
}

fn op() -> impl Strategy<Value = Op> {
    let id = select(&CMPXCHG_OWNERS[1..]);
    prop_oneof![
        4 => (slot(), id).prop_map(|(slot, id)| Op::Record(slot, id)),
        2 => slot().prop_map(Op::Clear),
        8 => (slot(), owner(), owner()).prop_map(|(slot, old, new)| Op::Cmpxchg(slot, old, new)),
        1 => slot().prop_map(Op::Lookup),
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: swap_records_oracle::cases(512),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_answer_is_that_of_a_map(ops in vec(op(), 1..swap_records_oracle::operations(100))) {
        let table = SwapRecords::new();
        let mut both = Both::new(&table);
        both.apply(&Op::Swapon(0, CMPXCHG_PAGES));
        for (done, op) in ops.iter().enumerate() {
            both.apply(op);
            if done % 16 == 15 {
                both.check();
            }
        }
        both.finish();
    }
}
