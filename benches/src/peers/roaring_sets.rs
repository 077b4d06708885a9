//! An inverted index: the ids, and a compressed bitmap of the slots of each id.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use roaring::RoaringTreemap;
use swap_records_sim::Pages;
use swap_records_sim::tables::Table;

/// One swapfile under one lock, measured on one thread.
#[derive(Debug)]
pub struct RoaringSets(Mutex<Sets>);

#[derive(Debug)]
struct Sets {
    ids: Pages<u16>,
    sets: HashMap<u16, RoaringTreemap>,
}

impl RoaringSets {
    /// Makes a swapfile with existing records. It has no sets yet: [`record_range`](Table::record_range) adds
    /// them. An id that is never migrated needs none.
    pub fn over(ids: Pages<u16>) -> Self {
        let sets = HashMap::new();
        Self(Mutex::new(Sets { ids, sets }))
    }

    /// Returns the ids, for another table.
    pub fn into_ids(self) -> Pages<u16> {
        let sets = self.0.into_inner();
        sets.unwrap_or_else(PoisonError::into_inner).ids
    }

    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sets {
    fn set(&mut self, slot: usize, nr: usize, id: u16) {
        let range = slot..slot + nr;
        // Remove runs of one owner from its set at once.
        let mut start = slot as u64;
        for stretch in self.ids[range.clone()].chunk_by(|a, b| a == b) {
            let end = start + stretch.len() as u64;
            if let Some(set) = self.sets.get_mut(&stretch[0]) {
                set.remove_range(start..end);
            }
            start = end;
        }
        self.ids[range].fill(id);
        if id != 0 {
            let set = self.sets.entry(id).or_default();
            set.insert_range(slot as u64..start);
        }
    }
}

impl Table for RoaringSets {
    fn with_slots(slots: usize) -> io::Result<Self> {
        Ok(Self::over(Pages::zeroed(slots)?))
    }

    fn lookup(&self, slot: usize) -> u16 {
        self.lock().ids[slot]
    }

    fn record(&self, slot: usize, id: u16) -> u16 {
        let mut sets = self.lock();
        let old = sets.ids[slot];
        sets.set(slot, 1, id);
        old
    }

    fn record_range(&self, slot: usize, nr: usize, id: u16) {
        self.lock().set(slot, nr, id);
    }

    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16 {
        let mut sets = self.lock();
        let was = sets.ids[slot];
        if was == old {
            sets.set(slot, 1, new);
        }
        was
    }

    fn migrate(&self, old: u16, new: u16) -> u64 {
        let mut sets = self.lock();
        let Some(set) = sets.sets.remove(&old) else {
            return 0;
        };
        for slot in &set {
            let slot = usize::try_from(slot).expect("the set has only slots of the swapfile");
            sets.ids[slot] = new;
        }
        let moved = set.len();
        *sets.sets.entry(new).or_default() |= set;
        moved
    }
}
