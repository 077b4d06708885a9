//! Describes a page in one word, which outlives the manager.

use swap_records::MemcgId;

/// Says where the bytes of a page are, and which owner pays for them.
///
/// | state | bytes | in `memfd` | record of the slot |
/// | --- | --- | --- | --- |
/// | `Untouched` | zeros | no | |
/// | `Memory` | in the `memfd`; zeros, where it has none | yes, or not yet | |
/// | `Swap` | in the slot | no; or the same bytes, and no guest can write | yes |
/// | `Filling` | in the `memfd` where it has any, otherwise in the slot | maybe | maybe |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// No guest has touched it.
    Untouched,
    /// It is in memory, charged to this cgroup.
    Memory(MemcgId),
    /// It is in this slot. The record of the slot has the same owner; or the owner has ended, and the record
    /// is the host's.
    Swap { slot: u64, owner: MemcgId },
    /// It is on its way from the slot to memory. `owner` had the record.
    Filling { slot: u64, owner: MemcgId },
}

const KIND: u32 = 62;
const OWNER: u32 = 46;
/// Slots have fewer bits than this.
const SLOT: u64 = (1 << OWNER) - 1;

impl State {
    pub(crate) const fn to_bits(self) -> u64 {
        match self {
            Self::Untouched => 0,
            Self::Memory(owner) => 1 << KIND | (owner.get() as u64) << OWNER,
            Self::Swap { slot, owner } => 2 << KIND | (owner.get() as u64) << OWNER | slot & SLOT,
            Self::Filling { slot, owner } => {
                3 << KIND | (owner.get() as u64) << OWNER | slot & SLOT
            }
        }
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        let slot = bits & SLOT;
        let owner = u16::try_from(bits >> OWNER & u64::from(u16::MAX)).unwrap_or(0);
        // No state with an owner is written without one.
        let owner = MemcgId::new(owner).unwrap_or(MemcgId::MIN);
        match bits >> KIND {
            0 => Self::Untouched,
            1 => Self::Memory(owner),
            2 => Self::Swap { slot, owner },
            _ => Self::Filling { slot, owner },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_from_their_words() {
        for owner in [MemcgId::MIN, MemcgId::new(4711).unwrap(), MemcgId::MAX] {
            for slot in [0, 1, SLOT] {
                let states = [
                    State::Untouched,
                    State::Memory(owner),
                    State::Swap { slot, owner },
                    State::Filling { slot, owner },
                ];
                for state in states {
                    assert_eq!(State::from_bits(state.to_bits()), state);
                }
            }
        }
    }
}
