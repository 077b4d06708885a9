//! Compares `record`, `clear`, `cmpxchg`, `lookup` and batches with a map, on so few slots and ids that they
//! meet all the time. The fuzz target `cmpxchg` does the same from bytes.

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
    let id = || select(&CMPXCHG_OWNERS[1..]);
    // Usually without the slots for which a batch is refused.
    let slots = || {
        let good = select(&CMPXCHG_SLOTS[..CMPXCHG_SLOTS.len() - 2]);
        vec(prop_oneof![20 => good, 1 => slot()], 0..20)
    };
    let with_ids = vec((slots(), id()), 1..4).prop_map(|parts| {
        let parts = parts.into_iter();
        let with_id = |(slots, id): (Vec<_>, _)| slots.into_iter().map(move |slot| (slot, id));
        parts.flat_map(with_id).collect()
    });
    prop_oneof![
        4 => (slot(), id()).prop_map(|(slot, id)| Op::Record(slot, id)),
        2 => slot().prop_map(Op::Clear),
        8 => (slot(), owner(), owner()).prop_map(|(slot, old, new)| Op::Cmpxchg(slot, old, new)),
        1 => slot().prop_map(Op::Lookup),
        2 => (slots(), id()).prop_map(|(slots, id)| Op::RecordBatch(slots, id)),
        2 => with_ids.prop_map(Op::RecordBatchIds),
        2 => slots().prop_map(Op::ClearBatch),
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
