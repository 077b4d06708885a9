//! Work that fits every table. Each function returns a number that is the same for two tables with the same
//! records, so a wrong answer is noticed.

use std::ops::Range;

use fastrand::Rng;

use swap_records_sim::tables::Table;

use crate::{LIVE, REGION};

/// Returns a slot below `slots` and a live id, with a single step of the generator. The speed of random
/// numbers is not what is measured.
#[inline]
pub fn slot_and_id(rng: &mut Rng, slots: usize) -> (usize, u16) {
    let random = rng.u64(..);
    // 40 bits select the slot, of a map of up to 2^24 GiB, and 16 bits the id.
    let slot = ((u128::from(random & 0xff_ffff_ffff) * slots as u128) >> 40) as usize;
    let id = ((random >> 48) * u64::from(LIVE)) >> 16;
    #[expect(clippy::cast_possible_truncation, reason = "below LIVE")]
    let id = id as u16 + 1;
    (slot, id)
}

/// Records a random id in `count` random slots. Returns the sum of the previous owners.
pub fn record_random(table: &impl Table, slots: usize, count: u64, seed: u64) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut sum = 0;
    for _ in 0..count {
        let (slot, id) = slot_and_id(&mut rng, slots);
        sum += u64::from(table.record(slot, id));
    }
    sum
}

/// Clears `count` random slots. Returns how many had an owner.
pub fn clear_random(table: &impl Table, slots: usize, count: u64, seed: u64) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut owned = 0;
    for _ in 0..count {
        let (slot, _) = slot_and_id(&mut rng, slots);
        owned += u64::from(table.record(slot, 0) != 0);
    }
    owned
}

/// Records in the same slots again. Returns how many had no owner.
pub fn record_free(table: &impl Table, slots: usize, count: u64, seed: u64) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut free = 0;
    for _ in 0..count {
        let (slot, id) = slot_and_id(&mut rng, slots);
        free += u64::from(table.record(slot, id) == 0);
    }
    free
}

/// Records a random id in each of these slots, in order. Returns the sum of the previous owners.
pub fn record_sequential(table: &impl Table, slots: Range<usize>, seed: u64) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut sum = 0;
    for slot in slots {
        let (_, id) = slot_and_id(&mut rng, 1);
        sum += u64::from(table.record(slot, id));
    }
    sum
}

/// Records a random id in each range of `nr` slots, in order.
pub fn record_ranges(table: &impl Table, slots: Range<usize>, nr: usize, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for slot in slots.step_by(nr) {
        let (_, id) = slot_and_id(&mut rng, 1);
        table.record_range(slot, nr, id);
    }
}

/// Returns the sum of the owners of all these slots.
pub fn sum_of(table: &impl Table, slots: Range<usize>) -> u64 {
    slots.map(|slot| u64::from(table.lookup(slot))).sum()
}

/// Looks up `count` random slots. Returns the sum of their owners.
#[inline]
pub fn lookup_random(lookup: impl Fn(usize) -> u16, slots: usize, count: u64, seed: u64) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut sum = 0;
    for _ in 0..count {
        let (slot, _) = slot_and_id(&mut rng, slots);
        sum += u64::from(lookup(slot));
    }
    sum
}

/// A compare-exchange that succeeds if all earlier ones have been done.
#[derive(Clone, Copy, Debug)]
pub struct Swap {
    slot: u32,
    old: u16,
    new: u16,
}

/// Makes `count` of them for random slots, from the current records of a table.
pub fn swaps(table: &impl Table, slots: usize, count: u64, seed: u64) -> Vec<Swap> {
    let mut owners: Vec<u16> = (0..slots).map(|slot| table.lookup(slot)).collect();
    let mut rng = Rng::with_seed(seed);
    let swap = |_| {
        let (slot, new) = slot_and_id(&mut rng, slots);
        let old = std::mem::replace(&mut owners[slot], new);
        let slot = u32::try_from(slot).expect("a small map");
        Swap { slot, old, new }
    };
    (0..count).map(swap).collect()
}

/// Does all of them, then undoes all in reverse order. The table is then as before. Returns how many
/// succeeded, which must be all.
pub fn cmpxchg_there_and_back(table: &impl Table, swaps: &[Swap]) -> u64 {
    let mut stored = 0;
    for swap in swaps {
        let was = table.cmpxchg(swap.slot as usize, swap.old, swap.new);
        stored += u64::from(was == swap.old);
    }
    for swap in swaps.iter().rev() {
        let was = table.cmpxchg(swap.slot as usize, swap.new, swap.old);
        stored += u64::from(was == swap.new);
    }
    stored
}

/// The number of slots, at the end of each region, that the id of a full scan owns. So it is in every region,
/// and a scan must read each region to its end.
pub const TAIL: usize = 8;

/// Returns the last slots of each region of a map.
pub fn tails(slots: usize) -> impl Iterator<Item = usize> {
    (REGION..=slots)
        .step_by(REGION)
        .flat_map(|end| end - TAIL..end)
}

/// Maps a slot to a slot outside of the [`tails`].
#[inline]
pub fn before_tails(slot: usize) -> usize {
    slot - slot % REGION + (slot % REGION).min(REGION - TAIL - 1)
}
