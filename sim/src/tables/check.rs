//! A test suite that every [`Table`] must pass: [`check`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use super::Table;

/// Few ids, so that most of them own slots. The last has all bits of a lane; another has only the highest.
const IDS: [u16; 6] = [0, 1, 2, 0x7fff, 0x8000, 0xffff];
/// Not a multiple of a word or a chunk.
const SLOTS: usize = 3 * 2_048 + 1_001;

/// Tests a table: compares random operations and migrations with a simple map, and lets two threads write to
/// neighbouring slots.
///
/// Use it in tests of your own tables. Takes about a second.
///
/// # Panics
///
/// Panics if an answer is wrong, or the system refuses the memory.
pub fn check<T: Table>(seed: u64) {
    operations(
        T::with_slots(SLOTS).expect("memory for a small table"),
        seed,
    );
    for slots in [1, 2, 3, 5, 2_048, SLOTS] {
        migrations(
            &T::with_slots(slots).expect("memory for a small table"),
            slots,
            seed,
        );
    }
    neighbours(&T::with_slots(2).expect("memory for a small table"));
}

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

fn any_range(rng: &mut Rng, slots: usize) -> (usize, usize) {
    let slot = rng.usize(..slots);
    let longest = if rng.u8(..8) == 0 { 3_000 } else { 3 };
    (slot, rng.usize(1..=longest).min(slots - slot))
}

fn operations<T: Table>(table: T, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut oracle = Oracle::default();
    for _ in 0..20_000 {
        let (slot, nr) = any_range(&mut rng, SLOTS);
        let (id, other) = (any_id(&mut rng), any_id(&mut rng));
        match rng.u8(..4) {
            0 => assert_eq!(table.record(slot, id), oracle.record(slot, id)),
            1 if nr < 100 || rng.u8(..8) == 0 => {
                table.record_range(slot, nr, id);
                for slot in slot..slot + nr {
                    oracle.record(slot, id);
                }
            }
            2 => {
                let was = oracle.owner(slot);
                assert_eq!(table.cmpxchg(slot, id, other), was);
                if was == id {
                    oracle.record(slot, other);
                }
            }
            _ => assert_eq!(table.lookup(slot), oracle.owner(slot)),
        }
    }
    for slot in 0..SLOTS {
        assert_eq!(table.lookup(slot), oracle.owner(slot), "slot {slot}");
    }
}

fn migrations<T: Table>(table: &T, slots: usize, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut oracle = Oracle::default();
    for _ in 0..25 {
        for _ in 0..200 {
            let (slot, nr) = any_range(&mut rng, slots);
            let id = any_id(&mut rng);
            table.record_range(slot, nr, id);
            for slot in slot..slot + nr {
                oracle.record(slot, id);
            }
        }
        let old = IDS[rng.usize(1..IDS.len())];
        let new = IDS[rng.usize(1..IDS.len())];
        if old != new {
            assert_eq!(table.migrate(old, new), oracle.migrate(old, new));
            assert_eq!(table.migrate(old, new), 0);
        }
        for slot in 0..slots {
            assert_eq!(table.lookup(slot), oracle.owner(slot), "{slot} of {slots}");
        }
    }
}

/// Two threads write to neighbouring slots, each to its own. No write may be lost.
fn neighbours<T: Table>(table: &T) {
    const ROUNDS: u16 = 20_000;
    let lost = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for slot in 0..2 {
            let lost = &lost;
            scope.spawn(move || {
                for id in 1..=ROUNDS {
                    let was = table.record(slot, id);
                    let then = table.cmpxchg(slot, id, id);
                    let wrong = u64::from(was != id - 1) + u64::from(then != id);
                    lost.fetch_add(wrong, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(lost.into_inner(), 0, "lost writes to a neighbouring slot");
    assert_eq!((table.lookup(0), table.lookup(1)), (ROUNDS, ROUNDS));
}
