//! The one generator of synthetic maps, shared by benchmarks, examples and tests.
//!
//! A map is a function of its family, size and seed alone: each region of [`REGION`] slots has a
//! random sequence of its own, so any number of threads makes the same map. It goes out as runs
//! `(first slot, slots, id)`, id 0 for "cleared", into a table, a slice or any other sink.

#![allow(
    dead_code,
    reason = "compiled into each benchmark, example and test, and each takes its part"
)]

mod scatter;
pub mod size;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};

use scatter::{Scatter, mix};

/// Slots that share a random sequence, and the step in which progress is reported.
pub const REGION: u64 = 32_768;
/// Slots in a chunk of the table: 4 KiB of 16-bit ids.
pub const CHUNK: u64 = 2_048;

/// Ids of the families that have no number of cgroups of their own.
const MANY: u16 = 16_384;

/// Who owns the slots.
#[derive(Clone, Copy, Debug)]
pub enum Family {
    /// As measured on Linux 6.18 with this many cgroups swapping at once: runs of about 1.1 slots,
    /// and nearly every cgroup in nearly every chunk.
    Interleaved(u16),
    /// Ids that live for a while, a few at a time, and leave contiguous stretches.
    Jobs,
    /// 16,384 ids, each slot anyone's.
    Uniform,
}

impl Family {
    /// The highest id that owns a slot; the lowest is 1.
    pub fn highest_id(self) -> u16 {
        match self {
            Self::Interleaved(cgroups) => cgroups,
            Self::Jobs | Self::Uniform => MANY,
        }
    }

    fn region(self, region: u64, slots: Range<u64>, rng: &mut Rng, sink: &mut impl Sink) {
        match self {
            Self::Interleaved(cgroups) => interleaved(cgroups, slots, rng, sink),
            Self::Jobs => runs_of(slots, sink, || (rng.u64(64..=CHUNK), job(region, rng))),
            Self::Uniform => runs_of(slots, sink, || (1, 1 + rng.u16(..MANY))),
        }
    }

    /// An owner as the family has them in this region.
    fn owner(self, region: u64, rng: &mut Rng) -> u16 {
        match self {
            Self::Interleaved(_) | Self::Uniform => 1 + rng.u16(..self.highest_id()),
            Self::Jobs => job(region, rng),
        }
    }
}

/// Takes the runs of one region: first slot, slots, id.
trait Sink: FnMut(u64, u64, u16) {}
impl<F: FnMut(u64, u64, u16)> Sink for F {}

/// Fills `slots` with runs of the length and id that `next` gives, the last one cut to fit.
fn runs_of(slots: Range<u64>, sink: &mut impl Sink, mut next: impl FnMut() -> (u64, u16)) {
    let mut slot = slots.start;
    while slot < slots.end {
        let (len, id) = next();
        let len = len.min(slots.end - slot);
        sink(slot, len, id);
        slot += len;
    }
}

fn interleaved(cgroups: u16, slots: Range<u64>, rng: &mut Rng, sink: &mut impl Sink) {
    // A run goes on with this chance of 65,536, so it is 1.1 slots long on average.
    const GOES_ON: u16 = 5_958;
    // Measured: a chunk has a median of 40 owners of 40 cgroups, 144 of 150. The more there are, the
    // likelier one of them swaps nothing out for as long as it takes to fill a chunk.
    let idle = f64::from(cgroups) / 3_750.0;
    let idle = idle.min(0.25);
    let mut active = Vec::with_capacity(cgroups.into());
    for start in slots.clone().step_by(index(CHUNK)) {
        active.clear();
        active.extend((1..=cgroups).filter(|_| rng.f64() >= idle));
        if active.is_empty() {
            active.extend(1..=cgroups);
        }
        runs_of(start..slots.end.min(start + CHUNK), sink, || {
            let mut len = 1;
            while rng.u16(..) < GOES_ON {
                len += 1;
            }
            (len, active[rng.usize(..active.len())])
        });
    }
}

/// One of the eight jobs that run while this region fills; two of them end with it.
fn job(region: u64, rng: &mut Rng) -> u16 {
    let first = region * 2 % u64::from(MANY);
    let id = (first + rng.u64(..8)) % u64::from(MANY);
    1 + u16::try_from(id).expect("MANY is a u16")
}

/// A synthetic map: who owns each slot of one swapfile.
#[derive(Clone, Debug)]
pub struct Map {
    family: Family,
    slots: u64,
    seed: u64,
    turnovers: u64,
    remains: Vec<(u16, u64)>,
}

impl Map {
    /// Every slot owned, as the family has it.
    pub fn new(family: Family, slots: u64, seed: u64) -> Self {
        assert!(slots > 0 && family.highest_id() > 0, "an empty map");
        Self {
            family,
            slots,
            seed,
            turnovers: 0,
            remains: Vec::new(),
        }
    }

    /// Then clears one to eight slots and records them anew, this many times all over the map;
    /// every eighth time they stay free.
    pub fn aged(mut self, turnovers: u64) -> Self {
        self.turnovers = turnovers;
        self
    }

    /// Puts `k` records of a dead `id` on top, in exactly `k` slots anywhere in the map. Those of
    /// one call and of the next share no slot.
    pub fn remains(mut self, id: u16, k: u64) -> Self {
        self.remains.push((id, k));
        let all: u64 = self.remains.iter().map(|(_, k)| k).sum();
        let slots = self.slots;
        assert!(all <= slots, "{all} scattered records in {slots} slots");
        self
    }

    /// How many slots the map has.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Sends the map into `sink`. Threads work on one region each, the scattered records come last.
    /// `progress` hears of each region when it is done, in slots.
    pub fn fill(
        &self,
        threads: usize,
        sink: impl Fn(u64, u64, u16) + Sync,
        progress: impl Fn(u64) + Sync,
    ) {
        in_parallel(self.slots.div_ceil(REGION), threads, |region| {
            self.region(region, &mut |start, len, id| sink(start, len, id));
            progress(self.slots_of(region).end - region * REGION);
        });
        let scatter = Scatter::new(self.slots, self.seed);
        let mut first = 0;
        for &(id, k) in &self.remains {
            in_parallel(k.div_ceil(REGION), threads, |batch| {
                for i in batch * REGION..k.min((batch + 1) * REGION) {
                    sink(scatter.slot(first + i), 1, id);
                }
            });
            first += k;
        }
    }

    /// Writes the map into a slice of [`slots`](Self::slots) ids, 0 for a free slot.
    pub fn fill_slice(&self, threads: usize, ids: &mut [u16], progress: impl Fn(u64) + Sync) {
        assert_eq!(ids.len() as u64, self.slots, "a slice of another size");
        let regions = Mutex::new((0..).zip(ids.chunks_mut(index(REGION))));
        in_parallel(self.slots.div_ceil(REGION), threads, |_| {
            let next = regions.lock().expect("no thread panics here").next();
            let (region, ids) = next.expect("one slice a region");
            let base = region * REGION;
            self.region(region, &mut |start, len, id| {
                let at = index(start - base);
                // A run is mostly one slot: storing it needs no call of memset.
                ids[at] = id;
                if len > 1 {
                    ids[at + 1..at + index(len)].fill(id);
                }
            });
            progress(ids.len() as u64);
        });
        let scatter = Scatter::new(self.slots, self.seed);
        let owners = self
            .remains
            .iter()
            .flat_map(|&(id, k)| std::iter::repeat_n(id, index(k)));
        for (i, id) in (0..).zip(owners) {
            ids[index(scatter.slot(i))] = id;
        }
    }

    fn slots_of(&self, region: u64) -> Range<u64> {
        region * REGION..self.slots.min((region + 1) * REGION)
    }

    fn region(&self, region: u64, sink: &mut impl Sink) {
        let slots = self.slots_of(region);
        let mut rng = Rng::with_seed(mix(self.seed, region));
        self.family.region(region, slots.clone(), &mut rng, sink);
        // This region's part of the turnovers, by its part of the slots.
        let until = |slot| u128::from(self.turnovers) * u128::from(slot) / u128::from(self.slots);
        for _ in until(slots.start)..until(slots.end) {
            let start = rng.u64(slots.clone());
            let len = rng.u64(1..=8).min(slots.end - start);
            sink(start, len, 0);
            if rng.u8(..8) != 0 {
                sink(start, len, self.family.owner(region, &mut rng));
            }
        }
    }
}

/// The sink that records into the swapfile `ty` of a table. The swapfile must be on, and as large
/// as the map.
pub fn into_table<L: lock_api::RawMutex + Send + Sync>(
    table: &SwapRecords<L>,
    ty: SwapType,
) -> impl Fn(u64, u64, u16) + Sync {
    const ON: &str = "the swapfile is on and as large as the map";
    let entry = move |slot| SwapEntry::new(ty, slot).expect(ON);
    move |start, len, id| match (MemcgId::new(id), len) {
        (Some(id), 1) => drop(table.record(entry(start), id).expect(ON)),
        (Some(id), _) => drop(table.record_range(entry(start), len, id).expect(ON)),
        (None, _) => {
            for slot in start..start + len {
                table.clear(entry(slot)).expect(ON);
            }
        }
    }
}

/// One thread for each processor that the process may use.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn in_parallel(tasks: u64, threads: usize, task: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= tasks {
                break;
            }
            task(number);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

fn index(n: u64) -> usize {
    usize::try_from(n).expect("the map is in memory")
}
