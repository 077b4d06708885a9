//! [`Memcg`]: names one cgroup, and no later one with the same id.

use core::fmt;
use core::num::NonZeroU64;

use crate::id::MemcgId;

/// Names a cgroup of a [`Memcgs`](super::Memcgs): its id, and which of all those that had the id it is.
///
/// Ids are used again, handles are not: the handle of a freed cgroup is refused with
/// [`Gone`](super::MemcgError::Gone), whoever has the id by then. (They repeat after an id had 2^46
/// cgroups.) 8 bytes, also as an `Option`. A handle of another tree is not told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memcg(NonZeroU64);

const ID_BITS: u32 = u16::BITS;

impl Memcg {
    /// Generations fit into the rest of a word beside an id, and beside a state of two bits.
    pub(super) const GENERATIONS: u64 = 1 << (u64::BITS - ID_BITS - 2);

    pub(super) const fn new(id: MemcgId, generation: u64) -> Self {
        let bits = (generation % Self::GENERATIONS) << ID_BITS | id.get() as u64;
        match NonZeroU64::new(bits) {
            Some(bits) => Self(bits),
            // An id is not 0.
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The id of the cgroup, which is what a swap record holds.
    #[must_use]
    pub const fn id(self) -> MemcgId {
        #[expect(clippy::cast_possible_truncation, reason = "the id is the low half")]
        match MemcgId::new(self.0.get() as u16) {
            Some(id) => id,
            // `new` put an id there.
            None => MemcgId::MIN,
        }
    }

    pub(super) const fn generation(self) -> u64 {
        self.0.get() >> ID_BITS
    }
}

impl fmt::Debug for Memcg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memcg({}, {})", self.id(), self.generation())
    }
}

/// Writes the id, and the how manieth cgroup with it this is.
impl fmt::Display for Memcg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cgroup {} (use {} of the id)",
            self.id(),
            self.generation()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_generation_come_back() {
        assert_eq!(Memcg::GENERATIONS, 1 << 46);
        for id in [MemcgId::MIN, MemcgId::MAX] {
            for generation in [0, 1, Memcg::GENERATIONS - 1] {
                let memcg = Memcg::new(id, generation);
                assert_eq!((memcg.id(), memcg.generation()), (id, generation));
            }
            assert_eq!(Memcg::new(id, Memcg::GENERATIONS), Memcg::new(id, 0));
        }
    }
}
