//! A concurrent hash map of the slots that have an owner.

use std::io;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use swap_records_sim::tables::Table;

/// One swapfile.
#[derive(Debug)]
pub struct Dash {
    owners: DashMap<u64, u16>,
}

impl Table for Dash {
    fn with_slots(_: usize) -> io::Result<Self> {
        let owners = DashMap::new();
        Ok(Self { owners })
    }

    fn lookup(&self, slot: usize) -> u16 {
        self.owners.get(&(slot as u64)).map_or(0, |owner| *owner)
    }

    fn record(&self, slot: usize, id: u16) -> u16 {
        let slot = slot as u64;
        let old = if id == 0 {
            self.owners.remove(&slot).map(|(_, owner)| owner)
        } else {
            self.owners.insert(slot, id)
        };
        old.unwrap_or(0)
    }

    fn record_range(&self, slot: usize, nr: usize, id: u16) {
        for slot in slot..slot + nr {
            self.record(slot, id);
        }
    }

    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16 {
        match self.owners.entry(slot as u64) {
            Entry::Occupied(mut owner) => {
                let was = *owner.get();
                if was == old && new == 0 {
                    owner.remove();
                } else if was == old {
                    owner.insert(new);
                }
                was
            }
            Entry::Vacant(free) => {
                if old == 0 && new != 0 {
                    free.insert(new);
                }
                0
            }
        }
    }

    fn migrate(&self, old: u16, new: u16) -> u64 {
        let mut moved = 0;
        for mut owner in self.owners.iter_mut().filter(|owner| **owner == old) {
            *owner = new;
            moved += 1;
        }
        moved
    }
}
