//! Names the operations that the manager needs of a table with its tree. [`Tree`](crate::tree::Tree) has
//! those of `swap_records`; [`Plain`](crate::plain::Plain) has a `HashMap` to compare with.

use std::error::Error;
use std::fmt;
use std::io;

use swap_records::{MemcgId, SwapEntry, SwapType};

use crate::Result;
use crate::slots::CLUSTER;

/// The one swapfile.
pub(crate) const TYPE: SwapType = match SwapType::new(0) {
    Some(ty) => ty,
    None => panic!("types are 0 to 31"),
};

/// The swap entry of a slot.
pub(crate) fn entry(slot: u64) -> Result<SwapEntry> {
    SwapEntry::new(TYPE, slot).ok_or_else(|| format!("slot {slot} is past all swapfiles").into())
}

/// The fewest slots in a row that are worth a call of their own.
const RANGE: usize = 8;

/// Slots that one call of the table takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece<'a> {
    /// Slots in a row, in one cluster, and the first of them.
    Range(SwapEntry, &'a [SwapEntry]),
    /// Slots that lie anywhere.
    Scattered(&'a [SwapEntry]),
}

impl<'a> Piece<'a> {
    /// Returns the slots in the order in which they were given.
    pub(crate) fn slots(self) -> &'a [SwapEntry] {
        match self {
            Self::Range(_, slots) | Self::Scattered(slots) => slots,
        }
    }
}

/// Splits slots into ranges where 8 or more lie in a row, and scattered slots in between. The pieces keep the
/// order of the slots.
pub(crate) fn pieces(slots: &[SwapEntry]) -> Vec<Piece<'_>> {
    let (mut pieces, mut at, mut scattered) = (Vec::new(), 0, 0);
    // A cluster lies in one region of the table, so all records of a range get the same owner.
    let in_a_row = |one: &SwapEntry, next: &SwapEntry| {
        one.offset() + 1 == next.offset() && !next.offset().is_multiple_of(CLUSTER)
    };
    for run in slots.chunk_by(in_a_row) {
        if run.len() >= RANGE {
            if scattered < at {
                pieces.push(Piece::Scattered(&slots[scattered..at]));
            }
            pieces.push(Piece::Range(run[0], run));
            scattered = at + run.len();
        }
        at += run.len();
    }
    if scattered < at {
        pieces.push(Piece::Scattered(&slots[scattered..]));
    }
    pieces
}

/// Says why a page may not come to memory.
#[derive(Debug)]
pub(crate) enum Refused {
    /// This owner has all the memory that it may have: evict some of its pages, and ask again.
    Full(MemcgId),
    /// An operation failed that must not.
    Failed(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(id) => write!(f, "owner {id} has all the memory that it may have"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl Error for Refused {}

impl From<Box<dyn Error + Send + Sync>> for Refused {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<String> for Refused {
    fn from(error: String) -> Self {
        Self::Failed(error.into())
    }
}

impl From<&str> for Refused {
    fn from(error: &str) -> Self {
        Self::Failed(error.into())
    }
}

/// Pages that are charged.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Held {
    /// Pages in memory.
    pub(crate) memory: u64,
    /// Records.
    pub(crate) swap: u64,
}

/// Records that were freed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Freed {
    /// Records of the owner that was named.
    pub(crate) owned: u64,
    /// Records of other owners.
    pub(crate) others: u64,
}

/// Keeps the charges of owners, and the owner of each slot. A page in memory and a slot both count as one.
pub(crate) trait Books: Send + Sync {
    /// Returns the owner that gets the records of owners that are removed.
    fn host(&self) -> MemcgId;

    /// Makes an owner for a guest, with the most pages that it may have in memory.
    fn create(&self, limit: u64) -> Result<MemcgId>;

    /// Sets the most pages of an owner. Returns `false` where the owner has more already.
    fn limit(&self, id: MemcgId, pages: u64) -> Result<bool>;

    /// Charges pages in memory.
    fn charge(&self, id: MemcgId, nr: u64) -> Result<(), Refused>;

    /// Takes the charge of pages in memory back.
    fn uncharge(&self, id: MemcgId, nr: u64) -> Result<()>;

    /// Makes as many pages in memory records as there are slots. Returns the owner of the records.
    fn swap_out(&self, id: MemcgId, piece: Piece<'_>) -> Result<MemcgId>;

    /// Makes a slot a page in memory, and returns the owner that is charged for it.
    fn swap_in(&self, slot: SwapEntry) -> Result<MemcgId, Refused>;

    /// Frees slots, wherever they lie. Returns how many records this owner had, and how many others had.
    fn free(&self, slots: &[SwapEntry], owner: MemcgId) -> Result<Freed>;

    /// Takes the owner offline: after the return, nothing more is charged to it.
    fn offline(&self, id: MemcgId) -> Result<()>;

    /// Makes pages in memory the host's.
    fn move_to_host(&self, id: MemcgId, nr: u64) -> Result<()>;

    /// Removes the owner, and gives its slots to the host. Returns how many.
    fn remove(&self, id: MemcgId) -> Result<u64>;

    /// Returns the charges of one owner.
    fn held(&self, id: MemcgId) -> Result<Held>;

    /// Returns the charges of all owners together, and the number of owners.
    fn all(&self) -> Result<(Held, u64)>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_in_a_row_are_ranges_within_a_cluster_and_no_slot_is_left_out() {
        let slots = |offsets: &[u64]| -> Vec<SwapEntry> {
            offsets.iter().map(|&slot| entry(slot).unwrap()).collect()
        };
        assert_eq!(pieces(&[]), []);
        let few = slots(&[5, 6, 7, 8, 9, 10, 11, 3]);
        assert_eq!(pieces(&few), [Piece::Scattered(&few)]);
        let over_a_cluster: Vec<u64> = (CLUSTER - 9..CLUSTER + 8).collect();
        let all = slots(&[&[7, 2][..], &over_a_cluster, &[1], &[20, 22]].concat());
        let (first, second, rest) = (&all[2..11], &all[11..19], &all[19..]);
        assert_eq!(
            pieces(&all),
            [
                Piece::Scattered(&all[..2]),
                Piece::Range(first[0], first),
                Piece::Range(second[0], second),
                Piece::Scattered(rest),
            ]
        );
        let mut random = fastrand::Rng::with_seed(18);
        for _ in 0..500 {
            let mut offsets = Vec::new();
            while offsets.len() < 100 {
                let start = random.u64(..4 * CLUSTER);
                offsets.extend(start..start + random.u64(1..20));
            }
            let all = slots(&offsets);
            let pieces = pieces(&all);
            assert_eq!(
                pieces
                    .iter()
                    .map(|piece| piece.slots())
                    .collect::<Vec<_>>()
                    .concat(),
                all
            );
            for piece in pieces {
                if let Piece::Range(start, slots) = piece {
                    let end = start.offset() + slots.len() as u64;
                    assert!(
                        slots.len() >= RANGE && start.offset() / CLUSTER == (end - 1) / CLUSTER
                    );
                    assert!(
                        slots
                            .iter()
                            .map(|slot| slot.offset())
                            .eq(start.offset()..end)
                    );
                }
            }
        }
    }
}
