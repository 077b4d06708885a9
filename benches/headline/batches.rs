//! Slots anywhere that are recorded or cleared together.
//!
//! Both sides go through the same list of slots, which is made before the clock starts. What a pair cleared is recorded
//! again before the next one.

use std::time::Duration;

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

/// Slots in each call: a process that exits frees thousands.
const TOGETHER: usize = 4096;
/// Slots in each run.
const COUNT: usize = 1 << 21;
/// Slots that lie together, where they lie in clusters, and regions that the clusters lie in.
const CLUSTER: usize = 512;
const REGIONS: usize = 64;
/// How far the other side looks ahead, where it asks for its slots.
const WINDOW: usize = 32;

/// Slots, in the order of their turns, each with an id to record.
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

    /// In the order of an address space: cluster by cluster, in any order inside.
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

/// What is done to each slot, 0 for a slot that is cleared.
type Owner = fn(u16) -> u16;

fn one_by_one(theirs: &Linux2024, work: &Work, owner: Owner) -> u64 {
    let had = |&(slot, id): &(usize, u16)| u64::from(theirs.record(slot, owner(id)));
    work.slots.iter().map(had).sum()
}

fn prefetched(theirs: &Linux2024, work: &Work, owner: Owner) -> u64 {
    let mut sum = 0;
    for window in work.slots.chunks(WINDOW) {
        for &(slot, _) in window {
            theirs.prefetch(slot);
        }
        for &(slot, id) in window {
            sum += u64::from(theirs.record(slot, owner(id)));
        }
    }
    sum
}

/// On the large table. What it records, it records in both.
pub(crate) fn rows(report: &mut Report, ours: &Ours, ids: Pages<u16>, nr: usize) -> Pages<u16> {
    let theirs = Linux2024::over(ids);
    let slots = ours.slots();
    let mut compare =
        |name, work: &Work, clear: bool, other: fn(&Linux2024, &Work, Owner) -> u64| {
            let owner: Owner = if clear { |_| 0 } else { |id| id };
            let pairs = pairs(
                name,
                nr,
                |_| -> (u64, Duration) {
                    if clear {
                        work.record(ours);
                        timed(|| work.clear(ours))
                    } else {
                        timed(|| work.record(ours))
                    }
                },
                |_| {
                    if clear {
                        one_by_one(&theirs, work, |id| id);
                    }
                    timed(|| other(&theirs, work, owner))
                },
            );
            row(report, name, work.slots.len() as u64, pairs);
        };
    let work = Work::anywhere(slots, 1);
    compare("clear_batch_dram_vs_linux_2024", &work, true, one_by_one);
    compare("clear_batch_dram_vs_prefetched", &work, true, prefetched);
    let work = Work::anywhere(slots, 2);
    compare("record_batch_dram_vs_linux_2024", &work, false, one_by_one);
    compare("record_batch_dram_vs_prefetched", &work, false, prefetched);
    let work = Work::clustered(slots, 3);
    compare(
        "clear_batch_clustered_vs_linux_2024",
        &work,
        true,
        one_by_one,
    );
    compare(
        "clear_batch_clustered_vs_prefetched",
        &work,
        true,
        prefetched,
    );
    // Every slot has an owner again.
    for work in [Work::anywhere(slots, 1), work] {
        let had = work.record(ours);
        assert_eq!(
            had,
            one_by_one(&theirs, &work, |id| id),
            "records in batches"
        );
    }
    theirs.into_ids()
}
