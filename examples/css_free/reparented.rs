//! The machine with this crate: the parent inherits the records.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use swap_records::memcg::{Memcg, MemcgError, Memcgs};
use swap_records::{RawSpinLock, SwapEntry};

use crate::machine::{Machine, Numbers, SWAP_TYPE};
use crate::work::{SLICES, SLOTS};
use swap_records_sim::TimedLock;

/// The number of entries that css_offline may scan: one region.
const BUDGET: u64 = 32_768;

pub(crate) struct Reparented {
    memcgs: Memcgs<TimedLock<RawSpinLock>>,
    slices: Vec<Memcg>,
    created: AtomicU64,
    /// Cgroups between css_offline and the end of css_free.
    offline: AtomicU64,
    freed: AtomicU64,
    reparented: AtomicU64,
    nanos: AtomicU64,
}

impl Reparented {
    pub(crate) fn new() -> Result<Self, String> {
        let memcgs = Memcgs::with_raw_mutex();
        memcgs
            .swapon(SWAP_TYPE, SLOTS)
            .map_err(|error| error.to_string())?;
        let slices: Result<_, _> = (0..SLICES).map(|_| memcgs.create(memcgs.root())).collect();
        Ok(Self {
            slices: slices.map_err(text)?,
            memcgs,
            created: AtomicU64::new(0),
            offline: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            reparented: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
        })
    }

    /// Frees the slices as well. Then checks that nothing is left.
    pub(crate) fn check_all_gone(&self) -> Result<(), String> {
        self.memcgs.validate()?;
        for &slice in &self.slices {
            let usage = self.memcgs.usage(slice).map_err(text)?;
            if (usage.memory, usage.memsw, usage.swap) != (0, 0, 0) {
                return Err(format!("{slice} is not empty: {usage:?}"));
            }
            self.memcgs.css_offline(slice, 0).map_err(text)?;
            self.memcgs.css_free(slice).map_err(text)?;
        }
        let root = self.memcgs.usage(self.memcgs.root()).map_err(text)?;
        if (root.memory, root.memsw, root.swap) != (0, 0, 0) {
            return Err(format!("the root is not empty: {root:?}"));
        }
        match self.memcgs.ids_in_use() {
            1 => self.memcgs.validate(),
            ids => Err(format!("{ids} ids are in use after all cgroups are freed")),
        }
    }
}

impl Machine for Reparented {
    type Cgroup = Memcg;

    fn create(&self, slice: usize, nr: u64) -> Result<Option<Memcg>, String> {
        let memcg = match self.memcgs.create(self.slices[slice]) {
            Ok(memcg) => memcg,
            Err(MemcgError::NoId) => return Ok(None),
            Err(error) => return Err(text(error)),
        };
        self.created.fetch_add(1, Relaxed);
        self.memcgs.charge(memcg, nr).map_err(text)?;
        Ok(Some(memcg))
    }

    fn swap_out(&self, memcg: Memcg, slot: u64, nr: u64) -> Result<(), String> {
        let out = self.memcgs.swap_out(memcg, entry(slot)?, nr);
        out.map(|_| ()).map_err(text)
    }

    fn free_swap(&self, slot: u64, nr: u64) -> Result<(), String> {
        let freed = self.memcgs.free_swap(entry(slot)?, nr).map_err(text)?;
        if freed == nr {
            Ok(())
        } else {
            Err(format!("slot {slot}: freed {freed} of {nr} records"))
        }
    }

    fn remove(&self, memcg: Memcg, nr: u64) -> Result<(), String> {
        self.memcgs.uncharge(memcg, nr).map_err(text)?;
        self.offline.fetch_add(1, Relaxed);
        let began = Instant::now();
        let early = self.memcgs.css_offline(memcg, BUDGET).map_err(text)?;
        let last = self.memcgs.css_free(memcg).map_err(text)?;
        let nanos = began.elapsed().as_nanos();
        self.nanos
            .fetch_add(u64::try_from(nanos).unwrap_or(u64::MAX), Relaxed);
        self.reparented.fetch_add(early.moved + last.moved, Relaxed);
        self.offline.fetch_sub(1, Relaxed);
        self.freed.fetch_add(1, Relaxed);
        Ok(())
    }

    fn created(&self) -> u64 {
        self.created.load(Relaxed)
    }

    fn numbers(&self) -> Numbers {
        let (ids, offline) = (self.ids(), self.offline.load(Relaxed));
        Numbers {
            // Without the root and the slices.
            live: ids.saturating_sub(offline + SLICES as u64 + 1),
            offline,
            freed: self.freed.load(Relaxed),
            reparented: self.reparented.load(Relaxed),
            reparenting: Duration::from_nanos(self.nanos.load(Relaxed)),
            ids,
        }
    }

    fn ids(&self) -> u64 {
        self.memcgs.ids_in_use().into()
    }
}

fn entry(slot: u64) -> Result<SwapEntry, String> {
    SwapEntry::new(SWAP_TYPE, slot).ok_or_else(|| format!("slot {slot} is out of range"))
}

fn text(error: MemcgError) -> String {
    error.to_string()
}
