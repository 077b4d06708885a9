//! Tests the tables that only the benchmarks use.

use swap_records_benches::index;
use swap_records_benches::ours::Ours;
use swap_records_benches::peers::dash::Dash;
use swap_records_benches::peers::iterator_loop::{IteratorLoop, Level};
use swap_records_benches::peers::roaring_sets::RoaringSets;
use swap_records_sim::tables::{Loop2014, Spin, Table, check};
use swap_records_sim::{Family, Map};

#[test]
fn each_peer_agrees_with_a_map() {
    check::<Dash>(1);
    check::<RoaringSets>(2);
    check::<IteratorLoop>(3);
    check::<Ours>(4);
}

#[test]
fn all_peers_reparent_the_same_map_alike() {
    const OFFLINE: u16 = 151;
    let slots = 5 * 32_768 + 99;
    let map = Map::new(Family::Interleaved(150), slots, 3).remains(OFFLINE, 1_000);
    let slots = index(slots);
    let of_2014 = Loop2014::<Spin>::with_slots(slots).unwrap();
    let sets = RoaringSets::with_slots(slots).unwrap();
    let dash = Dash::with_slots(slots).unwrap();
    let ours: Ours = Ours::with_map(&map).unwrap();
    for run in map.runs() {
        let (start, len) = (index(run.start), index(run.len));
        of_2014.preset(start, len, run.id);
        sets.record_range(start, len, run.id);
        dash.record_range(start, len, run.id);
    }
    for (old, new) in [(OFFLINE, 152), (75, 153), (154, 155)] {
        let moved = of_2014.migrate(old, new);
        assert_eq!(sets.migrate(old, new), moved);
        assert_eq!(dash.migrate(old, new), moved);
        assert_eq!(ours.migrate(old, new), moved);
    }
    for slot in 0..slots {
        let owner = of_2014.lookup(slot);
        assert_eq!(sets.lookup(slot), owner);
        assert_eq!(dash.lookup(slot), owner);
        assert_eq!(ours.lookup(slot), owner);
    }
}

/// Every vector level of this machine, on the same map.
#[test]
fn each_level_of_the_iterator_loop_reparents_alike() {
    const OFFLINE: u16 = 151;
    let map = Map::new(Family::Interleaved(150), 3 * 32_768 + 7, 5).remains(OFFLINE, 500);
    for level in Level::available() {
        let plain = IteratorLoop::with_slots(index(map.slots())).unwrap();
        let mut plain = plain.at_level(level);
        map.fill_slice(1, plain.ids_mut(), |_| ());
        assert_eq!(plain.migrate(OFFLINE, 152), 500, "{level:?}");
        assert_eq!(
            (plain.migrate(OFFLINE, 152), plain.migrate(152, OFFLINE)),
            (0, 500)
        );
    }
}
