//! The table of this crate behind the trait [`Table`].

use std::io;

use lock_api::RawMutex;
use swap_records::{Backend, Exchange, MemcgId, RawSpinLock, SwapEntry, SwapRecords, SwapType};

use swap_records_sim::tables::Table;
use swap_records_sim::{Map, threads};

use crate::{REGION, index};

/// The only swapfile.
pub const TYPE: SwapType = SwapType::new(0).expect("below 32");

const ON: &str = "the swapfile is on and has the slot";

/// One swapfile of this crate.
#[derive(Debug)]
pub struct Ours<L = RawSpinLock>(pub SwapRecords<L>);

/// Returns the id. Panics for 0.
#[inline]
pub fn id(id: u16) -> MemcgId {
    MemcgId::new(id).expect("not 0")
}

/// Returns the entry of a slot.
#[inline]
pub fn entry(slot: usize) -> SwapEntry {
    SwapEntry::new(TYPE, slot as u64).expect(ON)
}

fn raw(id: Option<MemcgId>) -> u16 {
    id.map_or(0, MemcgId::get)
}

impl<L: RawMutex> Ours<L> {
    /// Makes a swapfile of this many slots that scans with this backend.
    pub fn with_backend(slots: usize, backend: Backend) -> io::Result<Self> {
        Self::on(SwapRecords::with_raw_mutex().with_backend(backend), slots)
    }

    /// Returns a sink that records a map. The swapfile must be as large as the map.
    pub fn sink(&self) -> impl Fn(u64, u64, u16) + Sync
    where
        L: Send + Sync,
    {
        |start, len, owner| match len {
            1 => _ = self.record(index(start), owner),
            _ => self.record_range(index(start), index(len), owner),
        }
    }

    fn on(table: SwapRecords<L>, slots: usize) -> io::Result<Self> {
        table.swapon(TYPE, slots as u64).map_err(io::Error::other)?;
        Ok(Self(table))
    }

    /// Returns the number of slots.
    pub fn slots(&self) -> usize {
        index(self.0.max_pages(TYPE).expect(ON))
    }

    /// Returns the number of records of an id, according to the index.
    pub fn count(&self, of: u16) -> u64 {
        self.0.count_upper_bound(id(of))
    }
}

impl<L: RawMutex + Send + Sync> Ours<L> {
    /// Does what [`migrate`](Table::migrate) does, on this many threads.
    pub fn migrate_with(&self, old: u16, new: u16, threads: usize) -> u64 {
        let migration = self.0.migration(id(old), id(new));
        migration.threads(threads).run().moved
    }

    /// Makes a swapfile with this map.
    pub fn with_map(map: &Map) -> io::Result<Self> {
        let ours = Self::with_slots(index(map.slots()))?;
        map.fill(threads(), ours.sink(), |_| ());
        Ok(ours)
    }

    /// Makes `id` the owner of every slot, region by region, on `threads` threads.
    pub fn fill(&self, owner: u16, threads: usize) {
        let slots = self.slots();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    for start in (thread * REGION..slots).step_by(threads * REGION) {
                        self.record_range(start, REGION.min(slots - start), owner);
                    }
                });
            }
        });
    }
}

impl<L: RawMutex + Send + Sync> Table for Ours<L> {
    fn with_slots(slots: usize) -> io::Result<Self> {
        Self::on(SwapRecords::with_raw_mutex(), slots)
    }

    #[inline]
    fn lookup(&self, slot: usize) -> u16 {
        raw(self.0.lookup(entry(slot)))
    }

    #[inline]
    fn record(&self, slot: usize, id: u16) -> u16 {
        let old = match MemcgId::new(id) {
            Some(id) => self.0.record(entry(slot), id),
            None => self.0.clear(entry(slot)),
        };
        raw(old.expect(ON))
    }

    fn record_range(&self, slot: usize, nr: usize, id: u16) {
        let nr = nr as u64;
        let runs = match MemcgId::new(id) {
            Some(id) => self.0.record_range(entry(slot), nr, id),
            None => self.0.clear_range(entry(slot), nr),
        };
        drop(runs.expect(ON));
    }

    #[inline]
    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16 {
        let done = self
            .0
            .cmpxchg(entry(slot), MemcgId::new(old), MemcgId::new(new));
        match done.expect(ON) {
            Exchange::Stored => old,
            Exchange::Mismatch(owner) => raw(owner),
        }
    }

    fn migrate(&self, old: u16, new: u16) -> u64 {
        self.0.migrate(id(old), id(new))
    }
}
