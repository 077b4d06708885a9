//! [`Memcg`]: a handle that names one cgroup, and no later cgroup with the same id.

use core::fmt;
use core::num::NonZeroU64;

use crate::id::MemcgId;

/// A handle of a cgroup in a [`Memcgs`](super::Memcgs): its id, and its generation among all cgroups that
/// have had the id.
///
/// Ids are used again, handles are not. The handle of a freed cgroup is refused with
/// [`Gone`](super::MemcgError::Gone), even if another cgroup has the id by then. (Handles repeat after 2^46
/// cgroups with the same id.) A handle of another tree is not detected.
///
/// A handle takes 8 bytes, as does an `Option` of one.
///
/// ```
/// # use swap_records::memcg::{MemcgError, Memcgs};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let memcgs = Memcgs::new();
/// let first = memcgs.create(memcgs.root())?;
/// memcgs.css_offline(first, 0)?;
/// memcgs.css_free(first)?;
///
/// let second = memcgs.create(memcgs.root())?;
/// assert_eq!(second.id(), first.id());
/// assert_ne!(second, first);
/// assert_eq!(memcgs.charge(first, 1), Err(MemcgError::Gone { memcg: first }));
/// assert_eq!(second.to_string(), "cgroup 2 (generation 2)");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memcg(NonZeroU64);

const ID_BITS: u32 = u16::BITS;

impl Memcg {
    /// A generation fits into a word together with an id of 16 bits, or with a state of 2 bits.
    pub(super) const GENERATIONS: u64 = 1 << (u64::BITS - ID_BITS - 2);

    pub(super) const fn new(id: MemcgId, generation: u64) -> Self {
        let bits = (generation % Self::GENERATIONS) << ID_BITS | id.get() as u64;
        match NonZeroU64::new(bits) {
            Some(bits) => Self(bits),
            // Cannot happen: an id is not 0.
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Returns the id of the cgroup. This is the number that a record holds.
    #[must_use]
    pub const fn id(self) -> MemcgId {
        #[expect(clippy::cast_possible_truncation, reason = "the id is the low half")]
        match MemcgId::new(self.0.get() as u16) {
            Some(id) => id,
            // Cannot happen: `new` stored an id.
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

/// Writes the id and the generation, as in "cgroup 7 (generation 2)".
impl fmt::Display for Memcg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cgroup {} (generation {})", self.id(), self.generation())
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
