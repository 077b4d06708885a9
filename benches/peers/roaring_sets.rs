//! An inverted index: beside the ids, the set of slots of each id as a compressed bitmap.

use std::collections::HashMap;
use std::io;

use roaring::RoaringTreemap;

use super::{Pages, Reparent};

/// One swapfile.
#[derive(Debug)]
pub struct RoaringSets {
    ids: Pages<u16>,
    sets: HashMap<u16, RoaringTreemap>,
}

impl RoaringSets {
    /// A swapfile with the records that are there. Sets come with [`set`](Reparent::set): those of
    /// ids that are never migrated need not be made.
    pub fn over(ids: Pages<u16>) -> Self {
        Self {
            ids,
            sets: HashMap::new(),
        }
    }

    /// The ids, for another.
    pub fn into_ids(self) -> Pages<u16> {
        self.ids
    }
}

impl Reparent for RoaringSets {
    fn with_slots(slots: usize) -> io::Result<Self> {
        Ok(Self {
            ids: Pages::zeroed(slots)?,
            sets: HashMap::new(),
        })
    }

    fn owner(&self, slot: usize) -> u16 {
        self.ids[slot]
    }

    fn set(&mut self, slot: usize, nr: usize, id: u16) {
        let range = slot..slot + nr;
        // Stretches of one owner leave its set at once.
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

    fn migrate(&mut self, old: u16, new: u16) -> u64 {
        let Some(set) = self.sets.remove(&old) else {
            return 0;
        };
        for slot in &set {
            let slot = usize::try_from(slot).expect("a slot of this swapfile");
            self.ids[slot] = new;
        }
        let moved = set.len();
        *self.sets.entry(new).or_default() |= set;
        moved
    }
}
