//! The oracle: an array of ids for each swap type, and a generator of numbers.

use core::iter;
use core::ops::Range;

use alloc::vec::Vec;
use swap_records::{CHUNK_ENTRIES, MemcgId, REGION_ENTRIES, Run, SwapEntry, SwapType};

use crate::machine::fail;

pub(crate) const CHUNK: u64 = CHUNK_ENTRIES as u64;
pub(crate) const REGION: u64 = REGION_ENTRIES as u64;

/// The types that have swapfiles.
pub(crate) const TYPES: [SwapType; 2] = [SwapType::new(0).unwrap(), SwapType::new(31).unwrap()];

/// The most pages of a swapfile: three regions, the last of which is not whole.
pub(crate) const MOST_PAGES: u64 = 3 * REGION - 7;

/// The ids, lowest first. Some share a counter, since they are congruent modulo 4096.
pub(crate) const IDS: [MemcgId; 8] = {
    let raw = [1, 2, 3, 64, 4097, 4098, 8193, 65535];
    let mut ids = [MemcgId::MIN; 8];
    let mut at = 0;
    while at < ids.len() {
        ids[at] = MemcgId::new(raw[at]).unwrap();
        at += 1;
    }
    ids
};

pub(crate) fn entry(ty: SwapType, offset: u64) -> SwapEntry {
    SwapEntry::new(ty, offset).unwrap_or_else(|| fail("an offset is too large for an entry"))
}

/// Marsaglia's xorshift of 64 bits.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    pub(crate) fn one_of<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[usize::try_from(self.below(N as u64)).unwrap_or(0)]
    }

    /// Returns a slot at a border or anywhere, and now and then just past the end.
    pub(crate) fn offset(&mut self) -> u64 {
        let borders = [CHUNK, REGION - CHUNK, REGION, 2 * REGION, MOST_PAGES];
        match self.below(3) {
            0 => self.below(MOST_PAGES),
            1 => self.below(80),
            _ => (self.one_of(borders) + self.below(80)).saturating_sub(40),
        }
    }

    /// Returns a number of slots, usually a small one.
    pub(crate) fn len(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(REGION),
            1 => self.below(3 * CHUNK),
            _ => self.below(100),
        }
    }
}

/// The owner of each slot of a swapfile, 0 for none. There are no slots while the type is off.
pub(crate) struct File(Vec<u16>);

pub(crate) struct Model([File; TYPES.len()]);

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Model {
    /// A model of a type that is off.
    pub(crate) fn new() -> Self {
        // Allocates now, so that it allocates nothing later.
        Self(TYPES.map(|_| File(Vec::with_capacity(index(MOST_PAGES)))))
    }

    fn file(&self, ty: SwapType) -> &File {
        &self.0[usize::from(ty != TYPES[0])]
    }

    fn file_mut(&mut self, ty: SwapType) -> &mut File {
        &mut self.0[usize::from(ty != TYPES[0])]
    }

    /// Returns the number of pages of a type that is on.
    pub(crate) fn pages(&self, ty: SwapType) -> Option<u64> {
        let pages = self.file(ty).0.len() as u64;
        (pages > 0).then_some(pages)
    }

    pub(crate) fn turn_on(&mut self, ty: SwapType, pages: u64) {
        self.file_mut(ty).0.resize(index(pages), 0);
    }

    pub(crate) fn turn_off(&mut self, ty: SwapType) {
        self.file_mut(ty).0.clear();
    }

    pub(crate) fn get(&self, ent: SwapEntry) -> Option<MemcgId> {
        let owner = self.file(ent.swap_type()).0.get(index(ent.offset()));
        MemcgId::new(*owner?)
    }

    /// Returns the previous owner.
    pub(crate) fn set(&mut self, ent: SwapEntry, id: Option<MemcgId>) -> Option<MemcgId> {
        let before = self.get(ent);
        self.fill(ent, 1, id);
        before
    }

    pub(crate) fn fill(&mut self, start: SwapEntry, nr: u64, id: Option<MemcgId>) {
        let slots = index(start.offset())..index(start.offset() + nr);
        let file = self.file_mut(start.swap_type());
        file.0[slots].fill(id.map_or(0, MemcgId::get));
    }

    /// Gives every record of `old` to `new`, and returns their number.
    pub(crate) fn migrate(&mut self, old: MemcgId, new: MemcgId) -> u64 {
        let mut moved = 0;
        if old == new {
            return moved;
        }
        for file in &mut self.0 {
            for owner in file.0.iter_mut().filter(|owner| **owner == old.get()) {
                *owner = new.get();
                moved += 1;
            }
        }
        moved
    }

    pub(crate) fn count_on(&self, ty: SwapType, id: MemcgId) -> u64 {
        let owners = self.file(ty).0.iter();
        owners.filter(|&&owner| owner == id.get()).count() as u64
    }

    pub(crate) fn count(&self, id: MemcgId) -> u64 {
        TYPES.map(|ty| self.count_on(ty, id)).iter().sum()
    }

    /// Returns all records of a type.
    pub(crate) fn records(&self, ty: SwapType) -> u64 {
        let owners = self.file(ty).0.iter();
        owners.filter(|&&owner| owner != 0).count() as u64
    }

    /// Returns the runs of equal owners of these slots of a type.
    pub(crate) fn runs(&self, ty: SwapType, slots: Range<u64>) -> impl Iterator<Item = Run> {
        let owners = &self.file(ty).0;
        let mut next = index(slots.start);
        let end = index(slots.end).min(owners.len());
        iter::from_fn(move || {
            while next < end {
                let first = next;
                let same = owners[first..end]
                    .iter()
                    .take_while(|&&owner| owner == owners[first]);
                next += same.count();
                if let Some(id) = MemcgId::new(owners[first]) {
                    return Some(Run {
                        start: entry(ty, first as u64),
                        len: (next - first) as u64,
                        id,
                    });
                }
            }
            None
        })
    }

    pub(crate) fn all_runs(&self) -> impl Iterator<Item = Run> {
        TYPES
            .into_iter()
            .flat_map(|ty| self.runs(ty, 0..MOST_PAGES))
    }
}
