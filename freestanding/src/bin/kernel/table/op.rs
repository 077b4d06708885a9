//! The operations of a table, as plain numbers.

use swap_records::{CHUNK_ENTRIES, MemcgId, REGION_ENTRIES, SwapEntry, SwapType};

use crate::model::{CHUNK, IDS, MOST_PAGES, Numbers, REGION, TYPES, entry};

/// The number of slots of a batch: more than one hold of a lock covers.
pub(super) const BATCH: usize = 80;

/// A slot and a number of slots.
pub(super) type Slots = (SwapEntry, u64);

/// An operation. It does the same each time that it is called.
#[derive(Clone, Copy)]
pub(crate) enum Op {
    Swapon(SwapType, u64),
    Swapoff(SwapType),
    Trim,
    Reserve(Slots),
    Record(SwapEntry, MemcgId),
    Clear(SwapEntry),
    Cmpxchg(SwapEntry, Option<MemcgId>, Option<MemcgId>),
    RecordRange(Slots, MemcgId),
    RecordRangeWith(Slots, MemcgId),
    ClearRange(Slots),
    ClearRangeWith(Slots),
    /// With the seed of the slots.
    RecordBatch(u64, MemcgId),
    RecordBatchIds(u64),
    ClearBatch(u64),
    Lookup(SwapEntry),
    Count(MemcgId),
    Owners,
    Runs,
    RunsOf(MemcgId),
    Footprint,
    Migrate(MemcgId, MemcgId),
    /// With a budget for each step, and the most entries in one hold.
    MigrateInSteps(MemcgId, MemcgId, u64, usize),
    MigrateWithHint(MemcgId, MemcgId),
}

impl Op {
    pub(super) fn any(numbers: &mut Numbers) -> Self {
        let ty = numbers.one_of(TYPES);
        let [a, b] = [(); 2].map(|()| numbers.one_of(IDS));
        let ent = entry(ty, numbers.offset());
        let slots = (ent, numbers.len());
        let seed = numbers.below(1 << 40);
        match numbers.below(45) {
            0 => {
                let sizes = [MOST_PAGES, REGION, REGION + 1, CHUNK - 1, 1, 0, 1 << 62];
                Self::Swapon(ty, numbers.one_of(sizes))
            }
            1 => Self::Swapon(ty, MOST_PAGES),
            2 => Self::Swapoff(ty),
            3 => Self::Trim,
            4 => Self::Reserve(slots),
            5..11 => Self::Record(ent, a),
            11..13 => Self::Clear(ent),
            13..15 => Self::Cmpxchg(ent, numbers.one_of([None, Some(a)]), Some(b)),
            15 => Self::Cmpxchg(ent, Some(a), None),
            16..19 => Self::RecordRange(slots, a),
            19..21 => Self::RecordRangeWith(slots, a),
            21..23 => Self::ClearRange(slots),
            23 => Self::ClearRangeWith(slots),
            24..27 => Self::RecordBatch(seed, a),
            27..30 => Self::RecordBatchIds(seed),
            30 => Self::ClearBatch(seed),
            31..33 => Self::Lookup(ent),
            33 => Self::Count(a),
            34 => Self::Owners,
            35 => Self::Runs,
            36 => Self::RunsOf(a),
            37 => Self::Footprint,
            38..41 => Self::Migrate(a, b),
            41..43 => {
                let most = [1, CHUNK_ENTRIES, 3 * CHUNK_ENTRIES, REGION_ENTRIES];
                let budget = numbers.one_of([1, CHUNK, u64::MAX]);
                Self::MigrateInSteps(a, b, budget, numbers.one_of(most))
            }
            _ => Self::MigrateWithHint(a, b),
        }
    }

    /// Returns whether the operation may allocate. Operations that free, migrate or read must not.
    pub(super) fn may_demand(self) -> bool {
        match self {
            Self::Swapon(..)
            | Self::Reserve(..)
            | Self::Record(..)
            | Self::RecordRange(..)
            | Self::RecordRangeWith(..)
            // With many owners.
            | Self::ClearRange(..)
            | Self::RecordBatch(..)
            | Self::RecordBatchIds(..) => true,
            Self::Cmpxchg(_, _, new) => new.is_some(),
            Self::Swapoff(..)
            | Self::Trim
            | Self::Clear(..)
            | Self::ClearRangeWith(..)
            | Self::ClearBatch(..)
            | Self::Lookup(..)
            | Self::Count(..)
            | Self::Owners
            | Self::Runs
            | Self::RunsOf(..)
            | Self::Footprint
            | Self::Migrate(..)
            | Self::MigrateInSteps(..)
            | Self::MigrateWithHint(..) => false,
        }
    }
}
