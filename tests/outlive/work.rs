//! The operations that a process runs until it is killed. A number selects them. They run on a table or on a
//! model of one.

use swap_records::{MemcgId, REGION_ENTRIES, SwapEntry, SwapRecords, SwapType};

pub const TYPE: SwapType = SwapType::new(3).unwrap();
const REGION: u64 = REGION_ENTRIES as u64;
pub const LANES: u64 = 2;
/// Regions in which blocks of the two lanes alternate.
const SHARED: u64 = 4 * REGION;
const BLOCK: u64 = 64;
/// Regions of one lane each, for long ranges.
const OWN: u64 = 2 * REGION;
pub const PAGES: u64 = SHARED + LANES * OWN;
/// The ids of the two lanes share counters: they are equal modulo 4096.
const IDS: u16 = 12;

pub fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// Operations on owners, where 0 means no owner.
pub trait Owners {
    fn lookup(&mut self, at: u64) -> u16;
    fn set(&mut self, at: u64, id: u16);
    fn cmpxchg(&mut self, at: u64, old: u16, new: u16);
    fn set_range(&mut self, at: u64, nr: u64, id: u16);
    fn migrate(&mut self, old: u16, new: u16);
}

impl Owners for &SwapRecords {
    fn lookup(&mut self, at: u64) -> u16 {
        SwapRecords::lookup(self, entry(at)).map_or(0, MemcgId::get)
    }

    fn set(&mut self, at: u64, id: u16) {
        match MemcgId::new(id) {
            Some(id) => self.record(entry(at), id),
            None => self.clear(entry(at)),
        }
        .unwrap();
    }

    fn cmpxchg(&mut self, at: u64, old: u16, new: u16) {
        let (old, new) = (MemcgId::new(old), MemcgId::new(new));
        let _ = SwapRecords::cmpxchg(self, entry(at), old, new).unwrap();
    }

    fn set_range(&mut self, at: u64, nr: u64, id: u16) {
        match MemcgId::new(id) {
            Some(id) => self.record_range_with(entry(at), nr, id, |_| ()),
            None => self.clear_range_with(entry(at), nr, |_| ()),
        }
        .unwrap();
    }

    fn migrate(&mut self, old: u16, new: u16) {
        let [old, new] = [old, new].map(|id| MemcgId::new(id).unwrap());
        SwapRecords::migrate(self, old, new);
    }
}

/// The owner of each slot.
#[derive(Clone)]
pub struct Model(pub Vec<u16>);

impl Model {
    fn slots(&mut self, at: u64, nr: u64) -> &mut [u16] {
        let at = usize::try_from(at).unwrap();
        &mut self.0[at..][..usize::try_from(nr).unwrap()]
    }
}

impl Owners for Model {
    fn lookup(&mut self, at: u64) -> u16 {
        self.slots(at, 1)[0]
    }

    fn set(&mut self, at: u64, id: u16) {
        self.slots(at, 1)[0] = id;
    }

    fn cmpxchg(&mut self, at: u64, old: u16, new: u16) {
        let slot = &mut self.slots(at, 1)[0];
        if *slot == old {
            *slot = new;
        }
    }

    fn set_range(&mut self, at: u64, nr: u64, id: u16) {
        self.slots(at, nr).fill(id);
    }

    fn migrate(&mut self, old: u16, new: u16) {
        for slot in self.0.iter_mut().filter(|slot| **slot == old) {
            *slot = new;
        }
    }
}

/// The operations of a lane. It has slots and ids of its own, so its operations do not depend on the other
/// lane. The n-th operation is the same on a table and on a model.
pub struct Lane {
    lane: u64,
    random: fastrand::Rng,
}

impl Lane {
    pub fn new(lane: u64, seed: u64) -> Self {
        Self {
            lane,
            random: fastrand::Rng::with_seed(LANES * seed + lane),
        }
    }

    /// Returns a slot, and the number of slots from there on that belong to the lane.
    fn slot(&mut self) -> (u64, u64) {
        if self.random.u8(0..4) > 0 {
            let start = self.random.u64(0..SHARED / BLOCK / LANES) * BLOCK * LANES;
            let skip = self.random.u64(0..BLOCK);
            (start + self.lane * BLOCK + skip, BLOCK - skip)
        } else {
            let skip = self.random.u64(0..OWN);
            (SHARED + self.lane * OWN + skip, OWN - skip)
        }
    }

    fn id(&mut self) -> u16 {
        let base = if self.lane == 0 { 1 } else { 4097 };
        base + self.random.u16(0..IDS)
    }

    fn id_or_none(&mut self) -> u16 {
        if self.random.bool() { self.id() } else { 0 }
    }

    pub fn next(&mut self, owners: &mut impl Owners) {
        let (at, most) = self.slot();
        match self.random.u16(0..1000) {
            0..400 => {
                let id = self.id();
                owners.set(at, id);
            }
            400..600 => owners.set(at, 0),
            600..800 => {
                let old = match self.random.u8(0..4) {
                    0 => self.id_or_none(),
                    _ => owners.lookup(at),
                };
                let new = self.id_or_none();
                owners.cmpxchg(at, old, new);
            }
            800..990 => {
                // Now and then over several regions.
                let most = if self.random.u8(0..40) == 0 {
                    most
                } else {
                    most.min(300)
                };
                let nr = self.random.u64(1..=most);
                let id = self.id_or_none();
                owners.set_range(at, nr, id);
            }
            _ => {
                let (old, new) = (self.id(), self.id());
                owners.migrate(old, new);
            }
        }
    }
}
