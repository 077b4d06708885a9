//! What the table is measured against gives the right answers.

#![cfg(not(miri))] // Memory maps.

#[path = "../benches/peers/mod.rs"]
mod peers;
#[path = "../benches/synthetic/mod.rs"]
mod synthetic;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use peers::dash::Dash;
use peers::iterator_loop::{IteratorLoop, Level};
use peers::linux_2024::Linux2024;
use peers::loop_2014::Loop2014;
use peers::roaring_sets::RoaringSets;
use peers::u64_words::U64Words;
use peers::{Operations, Reparent};
use synthetic::{Family, Map};

/// Few, so that most of them own something; the last has all bits of a lane, one only the highest.
const IDS: [u16; 6] = [0, 1, 2, 0x7fff, 0x8000, 0xffff];
/// Neither whole words nor whole chunks.
const SLOTS: usize = 3 * 2_048 + 1_001;

/// The slots that have an owner.
#[derive(Default)]
struct Oracle(BTreeMap<usize, u16>);

impl Oracle {
    fn owner(&self, slot: usize) -> u16 {
        self.0.get(&slot).copied().unwrap_or(0)
    }

    fn record(&mut self, slot: usize, id: u16) -> u16 {
        let old = if id == 0 {
            self.0.remove(&slot)
        } else {
            self.0.insert(slot, id)
        };
        old.unwrap_or(0)
    }

    fn migrate(&mut self, old: u16, new: u16) -> u64 {
        let found = self.0.values_mut().filter(|id| **id == old);
        found.map(|id| *id = new).count() as u64
    }
}

fn any_id(rng: &mut Rng) -> u16 {
    IDS[rng.usize(..IDS.len())]
}

fn any_range(rng: &mut Rng) -> (usize, usize) {
    let slot = rng.usize(..SLOTS);
    let longest = if rng.u8(..8) == 0 { 3_000 } else { 3 };
    (slot, rng.usize(1..=longest).min(SLOTS - slot))
}

fn operations_are_right<P: Operations>() {
    let mut rng = Rng::with_seed(1);
    let peer = P::with_slots(SLOTS).unwrap();
    let mut oracle = Oracle::default();
    for _ in 0..20_000 {
        let (slot, nr) = any_range(&mut rng);
        let (id, other) = (any_id(&mut rng), any_id(&mut rng));
        match rng.u8(..4) {
            0 => assert_eq!(peer.record(slot, id), oracle.record(slot, id)),
            1 if nr < 100 || rng.u8(..8) == 0 => {
                peer.record_range(slot, nr, id);
                for slot in slot..slot + nr {
                    oracle.record(slot, id);
                }
            }
            2 => {
                let was = oracle.owner(slot);
                assert_eq!(peer.cmpxchg(slot, id, other), was);
                if was == id {
                    oracle.record(slot, other);
                }
            }
            _ => assert_eq!(peer.lookup(slot), oracle.owner(slot)),
        }
    }
    for slot in 0..SLOTS {
        assert_eq!(peer.lookup(slot), oracle.owner(slot), "slot {slot}");
    }
}

/// Two threads take turns on neighbours: none may lose what the other wrote beside it.
fn neighbours_are_left_alone<P: Operations>() {
    const ROUNDS: u16 = 20_000;
    let peer = P::with_slots(2).unwrap();
    let lost = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for slot in 0..2 {
            let (peer, lost) = (&peer, &lost);
            scope.spawn(move || {
                for id in 1..=ROUNDS {
                    let was = peer.record(slot, id);
                    let then = peer.cmpxchg(slot, id, id);
                    let wrong = u64::from(was != id - 1) + u64::from(then != id);
                    lost.fetch_add(wrong, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(lost.into_inner(), 0);
    assert_eq!((peer.lookup(0), peer.lookup(1)), (ROUNDS, ROUNDS));
}

fn reparenting_is_right<P: Reparent>(adjust: impl Fn(P) -> P) {
    let mut rng = Rng::with_seed(2);
    for slots in [1, 2, 3, 5, 2_048, SLOTS] {
        let mut peer = adjust(P::with_slots(slots).unwrap());
        let mut oracle = Oracle::default();
        for _ in 0..25 {
            for _ in 0..200 {
                let (slot, nr) = any_range(&mut rng);
                let slot = slot % slots;
                let nr = nr.min(slots - slot);
                let id = any_id(&mut rng);
                peer.set(slot, nr, id);
                for slot in slot..slot + nr {
                    oracle.record(slot, id);
                }
            }
            let old = IDS[rng.usize(1..IDS.len())];
            let new = IDS[rng.usize(1..IDS.len())];
            if old != new {
                assert_eq!(peer.migrate(old, new), oracle.migrate(old, new));
                assert_eq!(peer.migrate(old, new), 0);
            }
            for slot in 0..slots {
                assert_eq!(peer.owner(slot), oracle.owner(slot), "{slot} of {slots}");
            }
        }
    }
}

#[test]
fn operations_of_each_are_right() {
    operations_are_right::<Loop2014>();
    operations_are_right::<Linux2024>();
    operations_are_right::<Dash>();
}

#[test]
fn each_leaves_neighbours_alone() {
    neighbours_are_left_alone::<Loop2014>();
    neighbours_are_left_alone::<Linux2024>();
    neighbours_are_left_alone::<Dash>();
}

#[test]
fn each_reparents_rightly() {
    reparenting_is_right::<Loop2014>(|peer| peer);
    reparenting_is_right::<U64Words>(|peer| peer);
    reparenting_is_right::<RoaringSets>(|peer| peer);
    for level in Level::available() {
        reparenting_is_right::<IteratorLoop>(|peer| peer.at_level(level));
    }
}

#[test]
fn all_reparent_the_same_map_alike() {
    const DEAD: u16 = 151;
    let slots = 5 * 32_768 + 99;
    let map = Map::new(Family::Interleaved(150), slots, 3).remains(DEAD, 1_000);
    let slots = usize::try_from(slots).unwrap();
    let mut reference = IteratorLoop::with_slots(slots).unwrap();
    map.fill_slice(2, reference.ids_mut(), |_| ());
    let of_2014 = Loop2014::<peers::loop_2014::Spin>::new(slots).unwrap();
    let index = |n| usize::try_from(n).unwrap();
    map.fill(
        2,
        |start, len, id| of_2014.preset(index(start), index(len), id),
        |_| (),
    );
    let mut words = U64Words::with_slots(slots).unwrap();
    let mut sets = RoaringSets::with_slots(slots).unwrap();
    for (slot, &id) in reference.ids_mut().iter().enumerate() {
        words.set(slot, 1, id);
        sets.set(slot, 1, id);
    }

    assert_eq!(of_2014.chunks(), slots.div_ceil(2_048));
    for (old, new) in [(DEAD, 152), (75, 153), (154, 155)] {
        let moved = reference.migrate(old, new);
        assert_eq!(of_2014.hand_over(old, new), moved);
        assert_eq!(words.migrate(old, new), moved);
        assert_eq!(sets.migrate(old, new), moved);
    }
    for slot in 0..slots {
        let owner = reference.owner(slot);
        assert_eq!(of_2014.lookup(slot), owner);
        assert_eq!(words.owner(slot), owner);
        assert_eq!(sets.owner(slot), owner);
    }
}
