//! A plain loop over a slice of ids, which the compiler vectorizes. It writes every entry, and lookups at the
//! same time would race with it, so one lock protects the whole slice.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use swap_records_sim::Pages;
use swap_records_sim::tables::Table;

/// The vector width that the loop is compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// The baseline of the program: SSE2 on x86-64.
    Baseline,
    /// 256 bits.
    Avx2,
    /// 512 bits.
    Avx512bw,
}

impl Level {
    /// Returns the levels that this machine has, the best one last.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "one level"))]
        let mut levels = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                levels.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512bw") {
                levels.push(Self::Avx512bw);
            }
        }
        levels
    }
}

/// One swapfile.
#[derive(Debug)]
pub struct IteratorLoop {
    ids: Mutex<Pages<u16>>,
    level: Level,
}

impl IteratorLoop {
    /// Returns the ids.
    pub fn ids_mut(&mut self) -> &mut [u16] {
        self.ids.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Pages<u16>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what [`migrate`](Table::migrate) does, without counting: the least work of such a loop.
    pub fn overwrite(&mut self, old: u16, new: u16) {
        let level = self.level;
        let ids = self.ids_mut();
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `level` is available on this machine.
            Level::Avx2 => unsafe { overwrite_avx2(ids, old, new) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `level` is available on this machine.
            Level::Avx512bw => unsafe { overwrite_avx512bw(ids, old, new) },
            _ => overwrite(ids, old, new),
        }
    }

    /// Selects another level than the best. Panics if the machine does not have it.
    pub fn at_level(mut self, level: Level) -> Self {
        assert!(
            Level::available().contains(&level),
            "{level:?} is not available"
        );
        self.level = level;
        self
    }
}

impl Table for IteratorLoop {
    fn with_slots(slots: usize) -> io::Result<Self> {
        let best = Level::available().pop().expect("the baseline is available");
        Ok(Self {
            ids: Mutex::new(Pages::zeroed(slots)?),
            level: best,
        })
    }

    fn lookup(&self, slot: usize) -> u16 {
        self.lock()[slot]
    }

    fn record(&self, slot: usize, id: u16) -> u16 {
        std::mem::replace(&mut self.lock()[slot], id)
    }

    fn record_range(&self, slot: usize, nr: usize, id: u16) {
        self.lock()[slot..slot + nr].fill(id);
    }

    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16 {
        let id = &mut self.lock()[slot];
        let was = *id;
        if was == old {
            *id = new;
        }
        was
    }

    fn migrate(&self, old: u16, new: u16) -> u64 {
        let ids = &mut *self.lock();
        match self.level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `level` is available on this machine.
            Level::Avx2 => unsafe { replace_avx2(ids, old, new) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `level` is available on this machine.
            Level::Avx512bw => unsafe { replace_avx512bw(ids, old, new) },
            _ => replace(ids, old, new),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn replace_avx2(ids: &mut [u16], old: u16, new: u16) -> u64 {
    replace(ids, old, new)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
fn replace_avx512bw(ids: &mut [u16], old: u16, new: u16) -> u64 {
    replace(ids, old, new)
}

#[inline(always)]
fn replace(ids: &mut [u16], old: u16, new: u16) -> u64 {
    let mut moved = 0;
    // Counts in 16 bits as long as they suffice, so a count takes one lane, like an id.
    for ids in ids.chunks_mut(2_048) {
        let mut here = 0_u16;
        for id in ids {
            here += u16::from(*id == old);
            *id = if *id == old { new } else { *id };
        }
        moved += u64::from(here);
    }
    moved
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn overwrite_avx2(ids: &mut [u16], old: u16, new: u16) {
    overwrite(ids, old, new);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
fn overwrite_avx512bw(ids: &mut [u16], old: u16, new: u16) {
    overwrite(ids, old, new);
}

#[inline(always)]
fn overwrite(ids: &mut [u16], old: u16, new: u16) {
    for id in ids {
        *id = if *id == old { new } else { *id };
    }
}
