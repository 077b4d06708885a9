//! The operations of a tree, as plain numbers.

use swap_records::{MemcgId, SwapEntry};

use super::model::{At, CGROUPS, Model, PAGES_ON, Slots, TYPE, index};
use crate::model::{CHUNK, Numbers, REGION, entry};

/// An operation. It does the same each time that it is called.
#[derive(Clone, Copy)]
pub(crate) enum Op {
    Swapon,
    Swapoff,
    Trim,
    Reserve(Slots),
    Create(At),
    CreateWithId(At, MemcgId),
    Charge(At, u64),
    Uncharge(At, u64),
    MoveAccount(At, At, u64),
    /// Sets a limit that leaves room for this many pages, and charges one page more, which is refused.
    Limit(At, u64),
    SwapOut(At, Slots),
    SwapOutBatch(At, SwapEntry, u64),
    SwapIn(Slots),
    SwapInCached(Slots),
    Free(Slots),
    FreeBatch(SwapEntry, u64),
    MoveSwapAccount(Slots, At, At),
    Offline(At),
    CssFree(At),
    Usages,
}

impl Op {
    pub(super) fn any(numbers: &mut Numbers, model: &Model) -> Self {
        let mut cgroup = || loop {
            let at = index(numbers.below(CGROUPS as u64));
            if model.cgroups[at].is_some() {
                return at;
            }
        };
        let (a, b) = (cgroup(), cgroup());
        let borders = [0, CHUNK, REGION, PAGES_ON - 60];
        let start = match numbers.below(3) {
            0 => numbers.below(PAGES_ON),
            _ => numbers.one_of(borders) + numbers.below(60),
        };
        let start = entry(TYPE, start.saturating_sub(numbers.below(30)));
        let nr = 1 + match numbers.below(10) {
            0 => numbers.below(REGION),
            1..4 => numbers.below(8),
            _ => numbers.below(60),
        };
        match numbers.below(40) {
            0 => Self::Swapon,
            1 => Self::Swapoff,
            2 => Self::Trim,
            3 => Self::Reserve((start, nr)),
            4..6 => Self::Create(a),
            6 => {
                let ids =
                    [200, 1000, 5096, 65535].map(|id| MemcgId::new(id).unwrap_or(MemcgId::MIN));
                Self::CreateWithId(a, numbers.one_of(ids))
            }
            7..12 => Self::Charge(a, 1 + numbers.below(30_000)),
            12 => Self::Uncharge(a, numbers.below(300)),
            13 => Self::MoveAccount(a, b, nr),
            14 => Self::Limit(a, nr),
            15..21 => Self::SwapOut(a, (start, nr)),
            21..24 => Self::SwapOutBatch(a, start, 1 + numbers.below(40)),
            24..27 => Self::SwapIn((start, 1 + nr % 9)),
            27 => Self::SwapInCached((start, 1 + nr % 9)),
            28..30 => Self::Free((start, nr)),
            30 => Self::FreeBatch(start, 1 + numbers.below(40)),
            31..33 => Self::MoveSwapAccount((start, nr), a, b),
            33..35 => Self::Offline(a),
            35..38 => Self::CssFree(a),
            _ => Self::Usages,
        }
    }

    /// Returns whether the operation may allocate.
    pub(super) fn may_demand(self) -> bool {
        matches!(
            self,
            Self::Swapon
                | Self::Reserve(..)
                | Self::Create(..)
                | Self::CreateWithId(..)
                | Self::SwapOut(..)
                | Self::SwapOutBatch(..)
        )
    }
}
