//! Distinct slots in random order, without a list of those that were used: a permutation of the map.

/// A random permutation of `0..slots`: a Feistel network over the next power of four, walked until
/// it is back inside (cycle walking; Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
/// 2002).
///
/// Taking one slot in each of `k` equal ranges would also give distinct slots, but spread them more evenly
/// than chance does: two records would never be in one region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scatter {
    slots: u64,
    half_bits: u32,
    seed: u64,
}

impl Scatter {
    pub(crate) fn new(slots: u64, seed: u64) -> Self {
        let bits = u64::BITS - (slots - 1).leading_zeros();
        Self {
            slots,
            half_bits: bits.div_ceil(2).max(1),
            seed: mix(seed, u64::MAX),
        }
    }

    /// Returns slot `i` of the permutation. `i` must be below the number of slots.
    pub(crate) fn slot(self, i: u64) -> u64 {
        debug_assert!(i < self.slots, "slot {i} of {}", self.slots);
        let mut slot = i;
        loop {
            slot = self.shuffle(slot);
            if slot < self.slots {
                return slot;
            }
        }
    }

    fn shuffle(self, slot: u64) -> u64 {
        let half = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (slot >> self.half_bits, slot & half);
        for round in 0..4 {
            let key = self.seed.wrapping_add(round);
            (left, right) = (right, left ^ (mix(key, right) & half));
        }
        left << self.half_bits | right
    }
}

/// Returns a number that looks random for each pair of seed and index: splitmix64 (Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", 2014), applied twice.
pub(crate) fn mix(seed: u64, index: u64) -> u64 {
    let splitmix = |x: u64| {
        let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    };
    splitmix(splitmix(seed) ^ index)
}
