//! The machine as the kernel is today. Each record pins its cgroup, which keeps its id until its last record
//! is gone.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use swap_records::{MemcgId, SwapEntry, SwapRecords};

use crate::machine::{Machine, Numbers, SWAP_TYPE};
use crate::work::{SLICES, SLOTS};

pub(crate) struct Pinned {
    records: SwapRecords,
    ids: Mutex<Ids>,
}

struct Ids {
    free: BTreeSet<u16>,
    /// References by id: one for the cgroup while it is alive, and one per record.
    pins: Vec<u32>,
    created: u64,
    removed: u64,
    freed: u64,
    failed_after: Option<u64>,
}

impl Pinned {
    pub(crate) fn new() -> Result<Self, String> {
        let records = SwapRecords::new();
        let on = records.swapon(SWAP_TYPE, SLOTS);
        on.map_err(|error| error.to_string())?;
        // The root and the slices have the lowest ids, as on the other machine.
        let first = 2 + u16::try_from(SLICES).expect("a small number");
        Ok(Self {
            records,
            ids: Mutex::new(Ids {
                free: (first..=u16::MAX).collect(),
                pins: vec![0; usize::from(u16::MAX) + 1],
                created: 0,
                removed: 0,
                freed: 0,
                failed_after: None,
            }),
        })
    }

    /// Returns the number of cgroups created before no id was left.
    pub(crate) fn failed_after(&self) -> Option<u64> {
        self.lock().failed_after
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ids> {
        self.ids
            .lock()
            .expect("no thread panics while it holds the lock")
    }
}

impl Ids {
    fn unpin(&mut self, id: MemcgId, nr: u32) {
        let pins = &mut self.pins[usize::from(id.get())];
        *pins -= nr;
        if *pins == 0 {
            self.free.insert(id.get());
            self.freed += 1;
        }
    }
}

impl Machine for Pinned {
    type Cgroup = MemcgId;

    fn create(&self, _: usize, _: u64) -> Result<Option<MemcgId>, String> {
        let mut ids = self.lock();
        let Some(id) = ids.free.pop_first().and_then(MemcgId::new) else {
            ids.failed_after = ids.failed_after.or(Some(ids.created));
            return Ok(None);
        };
        ids.pins[usize::from(id.get())] = 1;
        ids.created += 1;
        Ok(Some(id))
    }

    fn swap_out(&self, id: MemcgId, slot: u64, nr: u64) -> Result<(), String> {
        let pins = u32::try_from(nr).expect("at most a folio");
        self.lock().pins[usize::from(id.get())] += pins;
        let had = self.records.record_range(entry(slot)?, nr, id);
        had.map(|_| ()).map_err(|error| error.to_string())
    }

    fn free_swap(&self, slot: u64, nr: u64) -> Result<(), String> {
        let had = self.records.clear_range(entry(slot)?, nr);
        for run in &*had.map_err(|error| error.to_string())? {
            let pins = u32::try_from(run.len).expect("at most a folio");
            self.lock().unpin(run.id, pins);
        }
        Ok(())
    }

    fn remove(&self, id: MemcgId, _: u64) -> Result<(), String> {
        let mut ids = self.lock();
        ids.removed += 1;
        ids.unpin(id, 1);
        Ok(())
    }

    fn created(&self) -> u64 {
        self.lock().created
    }

    fn numbers(&self) -> Numbers {
        let ids = self.ids();
        let all = self.lock();
        Numbers {
            live: all.created - all.removed,
            offline: all.removed - all.freed,
            freed: all.freed,
            reparented: 0,
            reparenting: Duration::ZERO,
            ids,
        }
    }

    fn ids(&self) -> u64 {
        u64::from(u16::MAX) - self.lock().free.len() as u64
    }
}

fn entry(slot: u64) -> Result<SwapEntry, String> {
    SwapEntry::new(SWAP_TYPE, slot).ok_or_else(|| format!("slot {slot} is out of range"))
}
