//! Batches of slots that are recorded or cleared together.
//!
//! Both sides use the same list of slots, which is made before the clock starts. Slots that a pair cleared
//! are recorded again before the next pair.

use fastrand::Rng;

use crate::measure::pairs;
use crate::operations::row;
use crate::report::Report;
use swap_records::{MemcgId, SwapEntry};
use swap_records_benches::ours::{Ours, entry, id};
use swap_records_benches::work::slot_and_id;
use swap_records_benches::{REGION, timed};
use swap_records_sim::Pages;
use swap_records_sim::tables::{Linux2024, Table};

/// Slots per call. A process that exits frees thousands.
const TOGETHER: usize = 4096;
/// Slots per run.
const COUNT: usize = 1 << 21;
/// Slots per cluster, and regions that the clusters lie in.
const CLUSTER: usize = 512;
const REGIONS: usize = 64;
/// The number of slots that the other side prefetches.
const WINDOW: usize = 32;

/// Slots in the order of their turns, each with an id to record.
struct Work {
    slots: Vec<(usize, u16)>,
    entries: Vec<SwapEntry>,
    records: Vec<(SwapEntry, MemcgId)>,
}

impl Work {
    fn new(slots: Vec<(usize, u16)>) -> Self {
        let entries = slots.iter().map(|&(slot, _)| entry(slot)).collect();
        let records = slots.iter().map(|&(slot, owner)| (entry(slot), id(owner)));
        let records = records.collect();
        Self {
            slots,
            entries,
            records,
        }
    }

    fn anywhere(slots: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self::new((0..COUNT).map(|_| slot_and_id(&mut rng, slots)).collect())
    }

    /// Clusters in the order of an address space, with random order inside.
    fn clustered(slots: usize, seed: u64) -> Self {
        let slots = slots.min(REGIONS * REGION);
        let mut rng = Rng::with_seed(seed);
        let mut clusters: Vec<usize> = (0..slots / CLUSTER).collect();
        rng.shuffle(&mut clusters);
        let mut inside: Vec<usize> = (0..CLUSTER).collect();
        let mut all = Vec::with_capacity(slots);
        for cluster in clusters {
            rng.shuffle(&mut inside);
            for at in &inside {
                all.push((cluster * CLUSTER + at, slot_and_id(&mut rng, 1).1));
            }
        }
        Self::new(all)
    }

    fn record(&self, ours: &Ours) -> u64 {
        let mut sum = 0;
        for records in self.records.chunks(TOGETHER) {
            let done = ours
                .0
                .record_batch_ids(records, |_, owner| sum += u64::from(owner.get()));
            done.expect("the swapfile is on and has the slots");
        }
        sum
    }

    fn clear(&self, ours: &Ours) -> u64 {
        let mut sum = 0;
        for entries in self.entries.chunks(TOGETHER) {
            let done = ours
                .0
                .clear_batch(entries, |_, owner| sum += u64::from(owner.get()));
            done.expect("the swapfile is on and has the slots");
        }
        sum
    }
}

/// Does the turns one by one.
fn one_by_one<T: Copy>(turns: &[T], turn: impl Fn(T) -> u16) -> u64 {
    turns.iter().map(|&next| u64::from(turn(next))).sum()
}

/// Prefetches the slots of a window before their turns.
fn prefetched<T: Copy>(turns: &[T], ask: impl Fn(T), turn: impl Fn(T) -> u16) -> u64 {
    let mut sum = 0;
    for window in turns.chunks(WINDOW) {
        window.iter().for_each(|&next| ask(next));
        sum += one_by_one(window, &turn);
    }
    sum
}

/// Measures batches on the large table. Every record is made in both tables.
pub(crate) fn rows(report: &mut Report, ours: &Ours, ids: Pages<u16>, nr: usize) -> Pages<u16> {
    let theirs = Linux2024::over(ids);
    let slots = ours.slots();
    let record = |(slot, owner): (usize, u16)| theirs.record(slot, owner);
    let clear = |slot: usize| theirs.record(slot, 0);
    let mut cleared = |names: [&'static str; 2], work: &Work| {
        let slots: Vec<usize> = work.slots.iter().map(|&(slot, _)| slot).collect();
        let mut compare = |name, theirs_clear: &dyn Fn() -> u64| {
            let ours_clear = |_| {
                work.record(ours);
                timed(|| work.clear(ours))
            };
            let pairs = pairs(name, nr, ours_clear, |_| {
                one_by_one(&work.slots, record);
                timed(theirs_clear)
            });
            row(report, name, work.slots.len() as u64, pairs);
        };
        compare(names[0], &|| one_by_one(&slots, clear));
        compare(names[1], &|| {
            prefetched(&slots, |slot| theirs.prefetch(slot), clear)
        });
        // Every slot has an owner again.
        let had = (work.record(ours), one_by_one(&work.slots, record));
        assert_eq!(had.0, had.1, "records in batches");
    };
    let names = [
        "clear_batch_dram_vs_linux_2024",
        "clear_batch_dram_vs_prefetched",
    ];
    cleared(names, &Work::anywhere(slots, 1));
    let names = [
        "clear_batch_clustered_vs_linux_2024",
        "clear_batch_clustered_vs_prefetched",
    ];
    cleared(names, &Work::clustered(slots, 3));

    let work = Work::anywhere(slots, 2);
    let mut compare = |name, theirs_record: &dyn Fn() -> u64| {
        let ours_record = |_| timed(|| work.record(ours));
        let pairs = pairs(name, nr, ours_record, |_| timed(theirs_record));
        row(report, name, work.slots.len() as u64, pairs);
    };
    compare("record_batch_dram_vs_linux_2024", &|| {
        one_by_one(&work.slots, record)
    });
    let ask = |(slot, _)| theirs.prefetch(slot);
    compare("record_batch_dram_vs_prefetched", &|| {
        prefetched(&work.slots, ask, record)
    });
    theirs.into_ids()
}
