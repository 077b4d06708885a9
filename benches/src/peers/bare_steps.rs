//! The minimal steps of a record with a counting index: take a lock, read and write the entry and two cells,
//! release the lock. This is not a usable table: it has no swapon or swapoff, no range checks, no presence
//! bits and no errors. It is a lower bound for tables that keep their index under a lock.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

use swap_records_sim::Pages;
use swap_records_sim::tables::Table;

/// Entries under one lock. Their counters are contiguous, as in the crate.
const REGION: usize = swap_records::REGION_ENTRIES;
const BLOCK: usize = 64;
/// Blocks of counters per region: enough for the live ids of the maps.
const BLOCKS: usize = 4;
/// The distance between the locks of neighbouring regions.
const SPREAD: usize = 64;

/// One swapfile.
#[derive(Debug)]
pub struct BareSteps {
    entries: Pages<AtomicU16>,
    cells: Pages<AtomicU32>,
    locks: Vec<AtomicBool>,
    /// The cells have room for `1 << shift` regions.
    shift: u32,
}

impl BareSteps {
    /// Makes a table with the first `slots` records of another. Its cells do not count them, since their
    /// values do not affect the time.
    pub fn like(other: &impl Table, slots: usize) -> io::Result<Self> {
        let bare = Self::with_slots(slots)?;
        for (slot, entry) in bare.entries.iter().enumerate() {
            entry.store(other.lookup(slot), Ordering::Relaxed);
        }
        Ok(bare)
    }

    /// Makes a table over existing ids. Its cells do not count them, since their values do not affect the
    /// time.
    pub fn over(ids: Pages<u16>) -> io::Result<Self> {
        Self::of(ids.retype())
    }

    /// Returns the ids, for another table.
    #[must_use]
    pub fn into_ids(self) -> Pages<u16> {
        self.entries.retype()
    }

    fn of(entries: Pages<AtomicU16>) -> io::Result<Self> {
        let regions = entries.len().div_ceil(REGION).next_power_of_two();
        let locks = regions.max(SPREAD * regions.min(SPREAD));
        Ok(Self {
            entries,
            cells: Pages::zeroed(regions * BLOCK * BLOCKS)?,
            locks: (0..locks).map(|_| AtomicBool::new(false)).collect(),
            shift: regions.ilog2(),
        })
    }

    fn cell(&self, region: usize, id: u16) -> &AtomicU32 {
        let id = usize::from(id);
        &self.cells[(((id / BLOCK) << self.shift) + region) * BLOCK + id % BLOCK]
    }
}

impl Table for BareSteps {
    fn with_slots(slots: usize) -> io::Result<Self> {
        Self::of(Pages::zeroed(slots)?)
    }

    #[inline]
    fn lookup(&self, slot: usize) -> u16 {
        self.entries[slot].load(Ordering::Relaxed)
    }

    #[inline]
    fn record(&self, slot: usize, id: u16) -> u16 {
        let (region, position) = (slot / REGION, slot % REGION);
        let entry = &self.entries[slot];
        let to = self.cell(region, id);
        let lock = &self.locks[(region * (SPREAD + 1)) & (self.locks.len() - 1)];
        let take = || lock.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        while take().is_err() {
            std::hint::spin_loop();
        }
        let old = entry.load(Ordering::Relaxed);
        if old != id {
            let position = u32::try_from(position).expect("below a region") << 16;
            let from = self.cell(region, old);
            entry.store(id, Ordering::Relaxed);
            let less = from.load(Ordering::Relaxed).wrapping_sub(1) ^ position;
            from.store(less, Ordering::Relaxed);
            let more = to.load(Ordering::Relaxed).wrapping_add(1) ^ position;
            to.store(more, Ordering::Relaxed);
        }
        lock.store(false, Ordering::Release);
        old
    }

    fn record_range(&self, slot: usize, nr: usize, id: u16) {
        for slot in slot..slot + nr {
            self.record(slot, id);
        }
    }

    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16 {
        let owner = self.lookup(slot);
        if owner == old {
            self.record(slot, new);
        }
        owner
    }

    fn migrate(&self, old: u16, new: u16) -> u64 {
        let moved = |&slot: &usize| self.cmpxchg(slot, old, new) == old;
        (0..self.entries.len()).filter(moved).count() as u64
    }
}
