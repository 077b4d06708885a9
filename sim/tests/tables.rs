//! Tests the reference tables.

#![cfg(not(miri))] // Memory maps.

use swap_records_sim::tables::{Linux2024, Loop2014, Spin, Table, U64Words, check};
use swap_records_sim::{Family, Map};

#[test]
fn each_table_agrees_with_a_map() {
    check::<Loop2014>(1);
    check::<Linux2024>(2);
    check::<U64Words>(3);
}

#[test]
fn all_tables_reparent_the_same_map_alike() {
    const DEAD: u16 = 151;
    let index = |n| usize::try_from(n).unwrap();
    let slots = 5 * 32_768 + 99;
    let map = Map::new(Family::Interleaved(150), slots, 3).remains(DEAD, 1_000);
    let slots = index(slots);
    let of_2014 = Loop2014::<Spin>::with_slots(slots).unwrap();
    let of_2024 = Linux2024::with_slots(slots).unwrap();
    let words = U64Words::with_slots(slots).unwrap();
    for run in map.runs() {
        let (start, len) = (index(run.start), index(run.len));
        of_2014.preset(start, len, run.id);
        of_2024.record_range(start, len, run.id);
        words.record_range(start, len, run.id);
    }
    assert_eq!(of_2014.chunks(), slots.div_ceil(2_048));
    assert_eq!(of_2014.migrate(DEAD, 152), 1_000);
    assert_eq!(of_2014.migrate(152, DEAD), 1_000);
    for (old, new) in [(DEAD, 152), (75, 153), (154, 155)] {
        let moved = of_2014.migrate(old, new);
        assert_eq!(of_2024.migrate(old, new), moved);
        assert_eq!(words.migrate(old, new), moved);
    }
    for slot in 0..slots {
        let owner = of_2014.lookup(slot);
        assert_eq!(of_2024.lookup(slot), owner);
        assert_eq!(words.lookup(slot), owner);
    }
}

#[test]
fn a_slot_past_the_end_is_refused() {
    fn refuses<T: Table + std::panic::RefUnwindSafe>() {
        // A word has more lanes than these slots.
        let table = T::with_slots(1).unwrap();
        let panics = |use_it: fn(&T)| std::panic::catch_unwind(|| use_it(&table)).is_err();
        assert!(panics(|table| _ = table.lookup(1)));
        assert!(panics(|table| _ = table.record(1, 9)));
        assert!(panics(|table| _ = table.cmpxchg(1, 0, 9)));
        assert!(panics(|table| table.record_range(0, 2, 9)));
        // The only slot.
        assert_eq!(table.migrate(9, 1), 1);
    }
    refuses::<Linux2024>();
    refuses::<U64Words>();
}
