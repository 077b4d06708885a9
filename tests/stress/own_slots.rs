//! Threads that have slots of their own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use lock_api::RawMutex;
use swap_records::{EntryError, Exchange, MemcgId, Run, SwapRecords};

use crate::{
    ALWAYS_ON, COMES_AND_GOES, FIRST, IDS, PAGES, THREADS, USED, come_and_go, entry, id,
    migrate_somehow, operations,
};
use swap_records_oracle::Ends;

/// The number of consecutive slots of one thread.
const STRIPE: u64 = 8;
/// A record of `id` may be migrated to `id + HEIR`, which no thread records.
const HEIR: u16 = 1000;

fn heir(of: MemcgId) -> MemcgId {
    id(of.get() + HEIR)
}

/// Returns whether a slot may hold `holds` if the last write was `wrote`.
fn fits(wrote: Option<MemcgId>, holds: Option<MemcgId>) -> bool {
    holds == wrote || holds == wrote.map(heir)
}

/// Each thread has slots of its own. So it knows what it must find there: its last write, or the id to which
/// that one was migrated. It must never see writes of other threads, not even to neighbouring slots of the
/// same vector.
pub fn every_slot_holds_what_its_thread_wrote_last_or_its_heir<L: RawMutex + Send + Sync>() {
    let table = SwapRecords::<L>::with_raw_mutex();
    table.swapon(ALWAYS_ON, PAGES).unwrap();
    let done = AtomicBool::new(false);
    let wrote: Vec<BTreeMap<u64, Option<MemcgId>>> = thread::scope(|s| {
        let (table, done) = (&table, &done);
        let ends = Ends(done);
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| s.spawn(move || write_own_slots(table, thread)))
            .collect();
        for seed in 0..2 {
            s.spawn(move || {
                let mut rng = Rng::with_seed(100 + seed);
                while !done.load(Ordering::Relaxed) {
                    let old = id(rng.u16(1..=IDS));
                    migrate_somehow(table, &mut rng, old, heir(old));
                }
            });
        }
        s.spawn(move || come_and_go(table, done));
        let wrote = writers.into_iter().map(|writer| writer.join().unwrap());
        let wrote = wrote.collect();
        drop(ends);
        wrote
    });

    table.validate().unwrap();
    let mut owned = BTreeMap::<MemcgId, u64>::new();
    for (&offset, &wrote) in wrote.iter().flatten() {
        let holds = table.lookup(entry(ALWAYS_ON, offset));
        assert!(
            fits(wrote, holds),
            "slot {offset}: {holds:?} after {wrote:?}"
        );
        if let Some(wrote) = wrote {
            *owned.entry(wrote).or_default() += 1;
        }
    }
    for old in (1..=IDS).map(id) {
        let owned = owned.get(&old).copied().unwrap_or(0);
        let (left, moved) = (table.count(old), table.count(heir(old)));
        assert_eq!(left + moved, owned, "records of {old} and its heir");
        assert_eq!(table.migrate(old, heir(old)), left);
        assert_eq!(
            (table.count_upper_bound(old), table.count(heir(old))),
            (0, owned)
        );
    }
    let all: u64 = owned.values().sum();
    assert_eq!(table.swapoff(ALWAYS_ON), Ok(all));
}

fn write_own_slots<L: RawMutex + Send + Sync>(
    table: &SwapRecords<L>,
    thread: u64,
) -> BTreeMap<u64, Option<MemcgId>> {
    let mut rng = Rng::with_seed(thread);
    let mut wrote = BTreeMap::new();
    let stripes = USED / STRIPE / THREADS;
    for _ in 0..operations() {
        let stripe = rng.u64(..stripes) * THREADS + thread;
        let at = rng.u64(..STRIPE);
        let offset = FIRST + stripe * STRIPE + at;
        let ent = entry(ALWAYS_ON, offset);
        let last = wrote.get(&offset).copied().flatten();
        let new = id(rng.u16(1..=IDS));
        match rng.u8(..8) {
            0 | 1 => {
                assert!(fits(last, table.record(ent, new).unwrap()));
                wrote.insert(offset, Some(new));
            }
            2 => {
                assert!(fits(last, table.clear(ent).unwrap()));
                wrote.insert(offset, None);
            }
            3 | 4 => match table.cmpxchg(ent, last, new).unwrap() {
                Exchange::Stored => drop(wrote.insert(offset, Some(new))),
                Exchange::Mismatch(owner) => {
                    assert!(last.is_some() && owner == last.map(heir), "{owner:?}");
                }
            },
            5 => assert!(fits(last, table.lookup(ent))),
            way => {
                let nr = rng.u64(1..=STRIPE - at);
                let (had, new) = if way == 6 {
                    (table.record_range(ent, nr, new), Some(new))
                } else {
                    (table.clear_range(ent, nr), None)
                };
                let had = by_slot(&had.unwrap());
                for offset in offset..offset + nr {
                    let last = wrote.insert(offset, new).flatten();
                    assert!(fits(last, had.get(&offset).copied()));
                }
            }
        }
        // In the temporary swapfile, a thread cannot know what it must find.
        let ent = entry(COMES_AND_GOES, rng.u64(..PAGES));
        match table.record(ent, new) {
            Ok(_) => {}
            Err(EntryError::TypeOff { .. } | EntryError::OutOfRange { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    wrote
}

/// Returns the owners of single slots.
fn by_slot(runs: &[Run]) -> BTreeMap<u64, MemcgId> {
    let slots = |run: &Run| {
        let (start, id) = (run.start.offset(), run.id);
        (start..start + run.len).map(move |offset| (offset, id))
    };
    runs.iter().flat_map(slots).collect()
}
