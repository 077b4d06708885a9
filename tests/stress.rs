//! Stress tests that know the answer: threads that record, clear, exchange and hand over at random, while
//! swapfiles come and go, and accounts that have to balance when all is done.
//!
//! `SWAP_RECORDS_STRESS=N` makes them N times as long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use lock_api::RawMutex;
use swap_records::{
    EntryError, Exchange, MemcgId, REGION_ENTRIES, RawSpinLock, Run, Step, SwapEntry, SwapRecords,
    SwapType,
};

const REGION: u64 = REGION_ENTRIES as u64;
/// Three regions, the last one in part.
const PAGES: u64 = 2 * REGION + REGION / 3;
const THREADS: u64 = if cfg!(miri) { 2 } else { 4 };
/// Slots that one thread has in a row.
const STRIPE: u64 = 8;
/// The slots that are used: as many on both sides of the first border of a region, so that all threads
/// meet in two regions.
const USED: u64 = if cfg!(miri) { 64 } else { 4096 };
const FIRST: u64 = REGION - USED / 2;
/// A record of `id` may be handed over to `id + HEIR`, which nobody records.
const HEIR: u16 = 1000;
/// How many ids die.
const IDS: u16 = 6;

const ALWAYS_ON: SwapType = SwapType::new(0).unwrap();
const COMES_AND_GOES: SwapType = SwapType::new(3).unwrap();

fn operations() -> u64 {
    let times = std::env::var("SWAP_RECORDS_STRESS").ok();
    let times = times.map_or(1, |times| {
        times.parse().expect("SWAP_RECORDS_STRESS is a number")
    });
    times * if cfg!(miri) { 60 } else { 40_000 }
}

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn heir(of: MemcgId) -> MemcgId {
    id(of.get() + HEIR)
}

fn entry(ty: SwapType, offset: u64) -> SwapEntry {
    SwapEntry::new(ty, offset).unwrap()
}

/// Whether a slot that was last written `wrote` may hold `holds`.
fn fits(wrote: Option<MemcgId>, holds: Option<MemcgId>) -> bool {
    holds == wrote || holds == wrote.map(heir)
}

/// Hands `old` over in one of the ways in which that can be done. Gives the number of records.
fn hand_over<L: RawMutex + Send + Sync>(
    table: &SwapRecords<L>,
    rng: &mut Rng,
    old: MemcgId,
    new: MemcgId,
) -> u64 {
    match rng.u8(..4) {
        0 => table.migrate(old, new),
        1 => table.migration(old, new).threads(3).run().moved,
        2 => {
            // It says what is there, more or less: others write meanwhile.
            let hint = || table.count_at_most(old) + 3;
            table.migration(old, new).memsw_hint(&hint).run().moved
        }
        _ => {
            let mut migration = table.migration(old, new);
            loop {
                if let Step::Done(migrated) = migration.step(rng.u64(..3 * REGION)) {
                    return migrated.moved;
                }
                thread::yield_now();
            }
        }
    }
}

/// Ends who goes on until it is set, also where an assertion fails before the end: they would keep the scope,
/// and the test, for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Turns a type on and off, with sizes of all kinds. Gives how many records went with it.
fn come_and_go<L: RawMutex>(table: &SwapRecords<L>, done: &AtomicBool) -> u64 {
    let mut rng = Rng::with_seed(4);
    let mut dropped = 0;
    loop {
        table.swapon(COMES_AND_GOES, rng.u64(1..=PAGES)).unwrap();
        for _ in 0..rng.u8(..20) {
            thread::yield_now();
        }
        dropped += table.swapoff(COMES_AND_GOES).unwrap();
        if done.load(Ordering::Relaxed) {
            return dropped;
        }
    }
}

/// Each thread has slots of its own, so it knows what it will find there: what it wrote last, or who inherited
/// that. Nobody else's writes, not even of neighbours in the same vector, may be seen there.
fn every_slot_holds_what_its_thread_wrote_last_or_its_heir<L: RawMutex + Send + Sync>() {
    let table = SwapRecords::<L>::with_lock();
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
                    hand_over(table, &mut rng, old, heir(old));
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
            (table.count_at_most(old), table.count(heir(old))),
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
        // On the swapfile that comes and goes there is nothing to be known of one's own.
        let ent = entry(COMES_AND_GOES, rng.u64(..PAGES));
        match table.record(ent, new) {
            Ok(_) => {}
            Err(EntryError::TypeOff { .. } | EntryError::OutOfRange { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    wrote
}

/// The owners of single slots.
fn by_slot(runs: &[Run]) -> BTreeMap<u64, MemcgId> {
    let slots = |run: &Run| {
        let (start, id) = (run.start.offset(), run.id);
        (start..start + run.len).map(move |offset| (offset, id))
    };
    runs.iter().flat_map(slots).collect()
}

/// What each id gained and lost.
#[derive(Default)]
struct Account(BTreeMap<u16, i64>);

impl Account {
    fn change(&mut self, old: Option<MemcgId>, new: Option<MemcgId>, nr: u64) {
        let nr = i64::try_from(nr).unwrap();
        for (id, change) in [(old, -nr), (new, nr)] {
            *self.0.entry(id.map_or(0, MemcgId::get)).or_default() += change;
        }
    }

    fn add(&mut self, other: &Self) {
        for (&id, &change) in &other.0 {
            *self.0.entry(id).or_default() += change;
        }
    }

    /// The records that came and did not go.
    fn of(&self, id: u16) -> u64 {
        u64::try_from(self.0.get(&id).copied().unwrap_or(0)).expect("nobody lost what it never had")
    }
}

/// All threads write the same slots. Each is told who owned a slot before it, so what all of them were told adds
/// up to what the table holds: a write that is lost, or told to two, shows as a difference.
fn gains_and_losses_add_up_to_what_is_there<L: RawMutex + Send + Sync>() {
    /// Ids of the swapfile that comes and goes: its own, so that a hand-over of them is none of the others'.
    const GUEST: u16 = 20;
    let table = SwapRecords::<L>::with_lock();
    table.swapon(ALWAYS_ON, PAGES).unwrap();
    let done = AtomicBool::new(false);
    let (all, guests, dropped) = thread::scope(|s| {
        let (table, done) = (&table, &done);
        let ends = Ends(done);
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| s.spawn(move || write_shared_slots(table, thread, GUEST)))
            .collect();
        let migrations = s.spawn(move || {
            let mut rng = Rng::with_seed(200);
            let mut account = Account::default();
            while !done.load(Ordering::Relaxed) {
                // In circles, so that two of them may meet.
                let old = rng.u16(1..=IDS);
                let (old, new) = (id(old), id(old % IDS + 1));
                let moved = hand_over(table, &mut rng, old, new);
                account.change(Some(old), Some(new), moved);
                hand_over(table, &mut rng, id(GUEST), id(GUEST + 1));
            }
            account
        });
        let comes_and_goes = s.spawn(move || come_and_go(table, done));
        let (mut all, mut guests) = (Account::default(), Account::default());
        for writer in writers {
            let (own, guest) = writer.join().unwrap();
            all.add(&own);
            guests.add(&guest);
        }
        drop(ends);
        all.add(&migrations.join().unwrap());
        (all, guests, comes_and_goes.join().unwrap())
    });

    table.validate().unwrap();
    let mut there = BTreeMap::<u16, u64>::new();
    for run in table.runs(ALWAYS_ON) {
        *there.entry(run.id.get()).or_default() += run.len;
    }
    for number in 1..=IDS {
        let counted = there.remove(&number).unwrap_or(0);
        assert_eq!(all.of(number), counted, "gains less losses of {number}");
        let id = id(number);
        assert_eq!(
            (table.count(id), table.count_at_most(id)),
            (counted, counted)
        );
    }
    assert!(there.is_empty(), "nobody recorded {there:?}");
    // What came to the other swapfile was taken back, or went with it.
    assert_eq!(guests.of(GUEST) + guests.of(GUEST + 1), dropped);
}

fn write_shared_slots<L: RawMutex + Send + Sync>(
    table: &SwapRecords<L>,
    thread: u64,
    guest: u16,
) -> (Account, Account) {
    let mut rng = Rng::with_seed(1000 + thread);
    let (mut own, mut guests) = (Account::default(), Account::default());
    for _ in 0..operations() {
        let offset = FIRST + rng.u64(..USED / 8) * rng.u64(1..=8);
        let ent = entry(ALWAYS_ON, offset);
        let new = id(rng.u16(1..=IDS));
        match rng.u8(..8) {
            0 | 1 => own.change(table.record(ent, new).unwrap(), Some(new), 1),
            2 => own.change(table.clear(ent).unwrap(), None, 1),
            3 | 4 => {
                let old = table.lookup(ent);
                if table.cmpxchg(ent, old, new) == Ok(Exchange::Stored) {
                    own.change(old, Some(new), 1);
                }
            }
            5 => _ = table.lookup(ent),
            way => {
                let nr = rng.u64(1..=100.min(USED / 2));
                let (had, new) = if way == 6 {
                    (table.record_range(ent, nr, new), Some(new))
                } else {
                    (table.clear_range(ent, nr), None)
                };
                let had = had.unwrap();
                for run in &had {
                    own.change(Some(run.id), new, run.len);
                }
                let free = nr - had.iter().map(|run| run.len).sum::<u64>();
                own.change(None, new, free);
            }
        }
        // One slot at a time: of a range that a swapoff cuts short nobody is told.
        let ent = entry(COMES_AND_GOES, rng.u64(..PAGES));
        let new = (rng.u8(..4) != 0).then(|| id(guest));
        let had = match new {
            Some(new) => table.record(ent, new),
            None => table.clear(ent),
        };
        match had {
            // Who has it by now matters not: hand-overs of guests are in no account.
            Ok(had) => guests.change(had.map(|_| id(guest)), new, 1),
            Err(EntryError::TypeOff { .. } | EntryError::OutOfRange { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    (own, guests)
}

#[test]
fn every_slot_holds_what_its_thread_wrote_last_or_its_heir_with_the_spinlock() {
    every_slot_holds_what_its_thread_wrote_last_or_its_heir::<RawSpinLock>();
}

#[test]
fn every_slot_holds_what_its_thread_wrote_last_or_its_heir_with_parking_lot() {
    every_slot_holds_what_its_thread_wrote_last_or_its_heir::<parking_lot::RawMutex>();
}

#[test]
fn gains_and_losses_add_up_to_what_is_there_with_the_spinlock() {
    gains_and_losses_add_up_to_what_is_there::<RawSpinLock>();
}

#[test]
fn gains_and_losses_add_up_to_what_is_there_with_parking_lot() {
    gains_and_losses_add_up_to_what_is_there::<parking_lot::RawMutex>();
}
