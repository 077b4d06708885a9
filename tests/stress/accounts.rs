//! Threads that share slots, and count what each id gains and loses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use lock_api::RawMutex;
use swap_records::{EntryError, Exchange, MemcgId, SwapRecords};

use crate::{
    ALWAYS_ON, COMES_AND_GOES, FIRST, IDS, PAGES, THREADS, USED, come_and_go, entry, id,
    migrate_somehow, operations,
};
use swap_records_oracle::Ends;

/// The records that each id gained and lost.
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

    /// The difference: the records that must be left.
    fn of(&self, id: u16) -> u64 {
        u64::try_from(self.0.get(&id).copied().unwrap_or(0))
            .expect("an owner lost only records that it had")
    }
}

/// All threads write the same slots. Each call returns the previous owner, so the sum of all answers is what
/// the table must hold. A write that is lost, or reported to two threads, makes a difference.
pub fn gains_and_losses_add_up_to_what_is_there<L: RawMutex + Send + Sync>() {
    /// Ids that are used in the temporary swapfile only, so that their migrations do not change the counts of
    /// other ids.
    const GUEST: u16 = 20;
    let table = SwapRecords::<L>::with_raw_mutex();
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
                // The ids form circles, so that two migrations may meet.
                let old = rng.u16(1..=IDS);
                let (old, new) = (id(old), id(old % IDS + 1));
                let moved = migrate_somehow(table, &mut rng, old, new);
                account.change(Some(old), Some(new), moved);
                migrate_somehow(table, &mut rng, id(GUEST), id(GUEST + 1));
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
    let owners = table.owners_on(ALWAYS_ON).map(|(id, nr)| (id.get(), nr));
    assert!(owners.eq(there.iter().map(|(&id, &nr)| (id, nr))));
    for number in 1..=IDS {
        let counted = there.remove(&number).unwrap_or(0);
        assert_eq!(all.of(number), counted, "gains less losses of {number}");
        let id = id(number);
        assert_eq!(
            (table.count(id), table.count_upper_bound(id)),
            (counted, counted)
        );
    }
    assert!(there.is_empty(), "no thread recorded {there:?}");
    // Records in the other swapfile were taken back, or dropped with it.
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
        // One slot at a time: if a swapoff ends a range early, no caller gets the owners.
        let ent = entry(COMES_AND_GOES, rng.u64(..PAGES));
        let new = (rng.u8(..4) != 0).then(|| id(guest));
        let had = match new {
            Some(new) => table.record(ent, new),
            None => table.clear(ent),
        };
        match had {
            // The present owner does not matter: migrations of these ids are not counted.
            Ok(had) => guests.change(had.map(|_| id(guest)), new, 1),
            Err(EntryError::TypeOff { .. } | EntryError::OutOfRange { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    (own, guests)
}
