//! Models: small programs of two or three threads, run by loom in every order of their atomic
//! accesses (up to a number of preemptions), with every value that a relaxed load may give.
//! `ci/loom.sh` builds and runs them; in a build without `--cfg swap_records_loom` there is nothing here.
//!
//! Under loom a chunk has 2 entries, a region 4 and a table one type; a swapfile of two regions has
//! all that a larger one has: neighbours that share words of the presence bitmap.
#![cfg(swap_records_loom)]

mod explore;

use std::sync::Arc;

use explore::explore;
use loom::thread;
use swap_records::{
    EntryError, Exchange, MemcgId, REGION_ENTRIES, RawSpinLock, Run, SwapEntry, SwapRecords,
    SwapType,
};

const REGION: u64 = REGION_ENTRIES as u64;
const A: MemcgId = MemcgId::new(1).unwrap();
const B: MemcgId = MemcgId::new(2).unwrap();
const C: MemcgId = MemcgId::new(3).unwrap();
/// It shares the counter of A.
const SHARED: MemcgId = MemcgId::new(5).unwrap();
const TYPE: SwapType = SwapType::new(0).unwrap();

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// A table of one type of two regions, with these records.
fn table(records: &[(u64, MemcgId)]) -> Arc<SwapRecords> {
    let table = SwapRecords::new();
    table.swapon(TYPE, 2 * REGION).unwrap();
    for &(offset, owner) in records {
        assert_eq!(table.record(entry(offset), owner), Ok(None));
    }
    Arc::new(table)
}

/// Starts a thread that shares the table.
fn spawn<T: 'static>(
    table: &Arc<SwapRecords>,
    work: impl FnOnce(&SwapRecords) -> T + 'static,
) -> thread::JoinHandle<T> {
    let table = Arc::clone(table);
    thread::spawn(move || work(&table))
}

/// What the entry holds, seen when all threads have ended.
fn owner(table: &SwapRecords, offset: u64) -> Option<MemcgId> {
    table.lookup(entry(offset))
}

/// The lock orders plain accesses to what it guards: on that rest the plain loads of the vector scans.
#[test]
fn lock() {
    explore("lock", None, || {
        let counter = loom::cell::UnsafeCell::new(0);
        let counter = Arc::new(lock_api::Mutex::<RawSpinLock, _>::new(counter));
        assert!(!counter.is_locked());
        let add = |counter: &lock_api::Mutex<RawSpinLock, loom::cell::UnsafeCell<u32>>| {
            let held = counter.lock();
            // SAFETY: the lock is held; loom checks that this is enough.
            held.with_mut(|counter| unsafe { *counter += 1 });
        };
        let theirs = Arc::clone(&counter);
        let thread = thread::spawn(move || add(&theirs));
        add(&counter);
        thread.join().unwrap();
        let held = counter.lock();
        // SAFETY: the lock is held.
        assert_eq!(held.with(|counter| unsafe { *counter }), 2);
    });
}

/// Of two records of one slot, each is told of the owner before it, and the index counts the last one.
#[test]
fn record_vs_record() {
    explore("record_vs_record", None, || {
        let table = table(&[]);
        let other = spawn(&table, |table| table.record(entry(1), A).unwrap());
        let had_b = table.record(entry(1), B).unwrap();
        let had_a = other.join().unwrap();
        let last = match (had_a, had_b) {
            (None, Some(A)) => B,
            (Some(B), None) => A,
            impossible => panic!("{impossible:?}"),
        };
        assert_eq!(owner(&table, 1), Some(last));
        table.validate().unwrap();
    });
}

/// Two records of one id in one region are both counted: no update of a cell is lost.
#[test]
fn record_vs_record_of_one_cell() {
    explore("record_vs_record_of_one_cell", None, || {
        let table = table(&[]);
        let other = spawn(&table, |table| table.record(entry(1), A).unwrap());
        assert_eq!(table.record(entry(2), A), Ok(None));
        assert_eq!(other.join().unwrap(), None);
        assert_eq!(table.count_upper_bound(A), 2);
        table.validate().unwrap();
    });
}

/// The same where the cell is in use already, and no presence bit has to change: the way that most records take.
#[test]
fn record_vs_record_of_a_cell_in_use() {
    explore("record_vs_record_of_a_cell_in_use", None, || {
        let table = table(&[(0, A), (1, B), (2, B), (3, B)]);
        let other = spawn(&table, |table| table.record(entry(1), A).unwrap());
        assert_eq!(table.record(entry(2), A), Ok(Some(B)));
        assert_eq!(other.join().unwrap(), Some(B));
        assert_eq!(
            (table.count_upper_bound(A), table.count_upper_bound(B)),
            (3, 1)
        );
        table.validate().unwrap();
    });
}

/// A record of a third id is kept, whenever it comes; the old id's other records are all moved.
#[test]
fn record_vs_migrate() {
    explore("record_vs_migrate", None, || {
        let table = table(&[(0, A), (1, A), (REGION, A)]);
        let writer = spawn(&table, |table| table.record(entry(1), C).unwrap().unwrap());
        let moved = table.migrate(A, B);
        let had = writer.join().unwrap();
        assert_eq!((had, moved), if moved == 3 { (B, 3) } else { (A, 2) });
        assert_eq!(owner(&table, 0), Some(B));
        assert_eq!(owner(&table, 1), Some(C));
        assert_eq!(owner(&table, REGION), Some(B));
        table.validate().unwrap();
    });
}

/// A range that takes some of a region's records away leaves the others where a migration finds them: their
/// presence bit is never clear, not even for a moment.
#[test]
fn record_range_vs_migrate() {
    explore("record_range_vs_migrate", None, || {
        let table = table(&[(0, A), (1, A), (2, A)]);
        let writer = spawn(&table, |table| {
            table.record_range(entry(1), 2, C).unwrap().to_vec()
        });
        let moved = table.migrate(A, B);
        let had = writer.join().unwrap();
        let owner_then = if moved == 3 { B } else { A };
        assert!(moved == 3 || moved == 1, "{moved} moved");
        assert!(had.iter().all(|run| run.id == owner_then));
        assert_eq!(had.iter().map(|run| run.len).sum::<u64>(), 2);
        let now = [0, 1, 2].map(|at| owner(&table, at));
        assert_eq!(now, [Some(B), Some(C), Some(C)]);
        table.validate().unwrap();
    });
}

/// A record of the old id that comes meanwhile is moved or stays; neither it nor another one is lost.
#[test]
fn record_of_old_vs_migrate() {
    explore("record_of_old_vs_migrate", None, || {
        let table = table(&[(0, A)]);
        let writer = spawn(&table, |table| table.record(entry(REGION), A).unwrap());
        let moved = table.migrate(A, B);
        assert_eq!(writer.join().unwrap(), None);
        assert_eq!(owner(&table, 0), Some(B));
        let late = owner(&table, REGION);
        assert_eq!(late, Some(if moved == 2 { B } else { A }));
        table.validate().unwrap();
        // Nobody records it any more.
        assert_eq!(table.migrate(A, B), 2 - moved);
        assert_eq!(table.count_upper_bound(A), 0);
    });
}

/// In parts of a region, each under a hold of its own: what nobody changes is moved, whichever part it lies in, and what a
/// third id gets, or nobody, stays so. The presence bit of the old id is clear only when its cell says so.
#[test]
fn writers_vs_migrate_in_parts() {
    explore("writers_vs_migrate_in_parts", Some(3), || {
        // A chunk has two entries: two parts of the first region.
        let table = table(&[(0, A), (1, A), (2, A), (3, A)]);
        let writer = spawn(&table, |table| {
            let had = table.record(entry(3), C).unwrap();
            (had, table.clear(entry(0)).unwrap())
        });
        let migrated = table.migration(A, B).max_hold(1).run();
        let (had_3, had_0) = writer.join().unwrap();
        assert!(migrated.longest_hold <= 2, "{migrated}");
        let were_b = [had_3, had_0].iter().filter(|&&had| had == Some(B)).count() as u64;
        assert_eq!(migrated.moved, 2 + were_b);
        assert_eq!(migrated.left_at_most, 0);
        let now = [0, 1, 2, 3].map(|at| owner(&table, at));
        assert_eq!(now, [None, Some(B), Some(B), Some(C)]);
        table.validate().unwrap();
    });
}

/// A record of the old id that comes between two parts is moved or stays, behind them and ahead; the cell and the presence
/// bit know of it, so that another migration finds it.
#[test]
fn records_of_old_vs_migrate_in_parts() {
    explore("records_of_old_vs_migrate_in_parts", Some(3), || {
        let table = table(&[(1, A), (2, A), (3, C)]);
        let writer = spawn(&table, |table| {
            table.record(entry(0), A).unwrap();
            table.record(entry(3), A).unwrap();
        });
        let moved = table.migration(A, B).max_hold(1).run().moved;
        writer.join().unwrap();
        let now = [0, 1, 2, 3].map(|at| owner(&table, at).unwrap());
        assert_eq!((now[1], now[2]), (B, B), "nobody changed them");
        let left = now.iter().filter(|&&owner| owner == A).count() as u64;
        assert_eq!(moved + left, 4);
        table.validate().unwrap();
        assert_eq!(table.migration(A, B).max_hold(1).run().moved, left);
        assert_eq!(table.count_upper_bound(A), 0);
        table.validate().unwrap();
    });
}

/// A cmpxchg from the old id comes before the part that its slot is in, or after it, and is told which.
#[test]
fn cmpxchg_vs_migrate_in_parts() {
    explore("cmpxchg_vs_migrate_in_parts", Some(3), || {
        let table = table(&[(0, A), (1, A), (2, A), (3, A)]);
        let writer = spawn(&table, |table| {
            [1, 2].map(|at| table.cmpxchg(entry(at), A, C).unwrap())
        });
        let moved = table.migration(A, B).max_hold(1).run().moved;
        let mut stored = 0;
        for (at, said) in [1, 2].into_iter().zip(writer.join().unwrap()) {
            let heir = match said {
                Exchange::Stored => C,
                Exchange::Mismatch(other) => other.unwrap(),
            };
            stored += u64::from(heir == C);
            assert_eq!(owner(&table, at), Some(heir));
        }
        assert_eq!(moved + stored, 4);
        assert_eq!([0, 3].map(|at| owner(&table, at)), [Some(B); 2]);
        table.validate().unwrap();
    });
}

/// A swapoff between two parts ends the migration there; the next swapfile of the type is left as it is, or migrated where
/// the migration came to the type after its swapon.
#[test]
fn swapoff_and_swapon_vs_migrate_in_parts() {
    explore("swapoff_and_swapon_vs_migrate_in_parts", Some(3), || {
        let table = table(&[(0, A), (1, A), (2, A), (3, A)]);
        let migration = spawn(&table, |table| {
            table.migration(A, B).max_hold(1).run().moved
        });
        assert_eq!(table.swapoff(TYPE), Ok(4));
        table.swapon(TYPE, REGION).unwrap();
        table.record(entry(3), A).unwrap();
        let moved = migration.join().unwrap();
        let now = owner(&table, 3).unwrap();
        assert!(now == A || (now, moved) == (B, 1), "{now:?}, {moved} moved");
        assert_eq!([0, 1, 2].map(|at| owner(&table, at)), [None; 3]);
        table.validate().unwrap();
    });
}

/// A cmpxchg from the old id comes before the migration of its slot or after it, and is told which.
#[test]
fn cmpxchg_vs_migrate() {
    explore("cmpxchg_vs_migrate", None, || {
        let table = table(&[(1, A), (2, A)]);
        let writer = spawn(&table, |table| table.cmpxchg(entry(1), A, C).unwrap());
        let moved = table.migrate(A, B);
        match writer.join().unwrap() {
            Exchange::Stored => assert_eq!((moved, owner(&table, 1)), (1, Some(C))),
            Exchange::Mismatch(other) => {
                assert_eq!((other, moved), (Some(B), 2));
                assert_eq!(owner(&table, 1), Some(B));
            }
        }
        assert_eq!(owner(&table, 2), Some(B));
        table.validate().unwrap();
    });
}

/// A lookup beside a migration sees the old id or the new one, never another value, and never the old
/// one again once it saw the new one.
#[test]
fn lookup_vs_migrate() {
    explore("lookup_vs_migrate", None, || {
        let table = table(&[(0, A), (1, A), (3, A)]);
        let reader = spawn(&table, |table| {
            let slots = [0, 1, 3];
            let before = slots.map(|at| owner(table, at).unwrap());
            let after = slots.map(|at| owner(table, at).unwrap());
            for (before, after) in before.into_iter().zip(after) {
                assert!([(A, A), (A, B), (B, B)].contains(&(before, after)));
            }
        });
        assert_eq!(table.migrate(A, B), 3);
        reader.join().unwrap();
    });
}

/// A record is dropped by the swapoff, and counted, or refused; and nothing of it is left.
#[test]
fn swapoff_vs_record() {
    explore("swapoff_vs_record", None, || {
        let table = table(&[(0, A)]);
        let writer = spawn(&table, |table| table.record(entry(1), B));
        let dropped = table.swapoff(TYPE).unwrap();
        match writer.join().unwrap() {
            Ok(had) => assert_eq!((had, dropped), (None, 2)),
            Err(EntryError::TypeOff { .. }) => assert_eq!(dropped, 1),
            Err(error) => panic!("{error}"),
        }
        table.swapon(TYPE, 2 * REGION).unwrap();
        assert_eq!((owner(&table, 0), owner(&table, 1)), (None, None));
        table.validate().unwrap();
    });
}

/// A lookup beside a swapoff sees the record or nothing, and nothing ever after.
#[test]
fn swapoff_vs_lookup() {
    explore("swapoff_vs_lookup", None, || {
        let table = table(&[(1, A)]);
        let reader = spawn(&table, |table| {
            let seen = [owner(table, 1), owner(table, 1)];
            assert!(seen.iter().flatten().all(|&owner| owner == A));
            assert!(seen[0].is_some() || seen[1].is_none());
        });
        assert_eq!(table.swapoff(TYPE), Ok(1));
        assert_eq!(owner(&table, 1), None);
        reader.join().unwrap();
    });
}

/// A bound that is read beside a swapoff is that of before or that of after, never of a swapfile half emptied.
#[test]
fn swapoff_vs_count_upper_bound() {
    explore("swapoff_vs_count_upper_bound", Some(3), || {
        let table = table(&[(0, A), (REGION, A)]);
        let reader = spawn(&table, |table| table.count_upper_bound(A));
        assert_eq!(table.swapoff(TYPE), Ok(2));
        let count = reader.join().unwrap();
        assert!(count == 0 || count == 2, "{count}");
    });
}

/// The number of an id whose records nobody changes is right beside the first record of an id that shares its counter,
/// and beside one that takes that record away again: the cell tells of both ids, and a thread that reads it knows that.
///
/// Here and below the reader is a thread of its own: loom looks for other orders of a load that comes after a store, not
/// of one that comes before a load and a store of the same cell.
#[test]
fn count_vs_first_record_of_a_shared_counter() {
    explore("count_vs_first_record_of_a_shared_counter", Some(3), || {
        let table = table(&[(0, A), (3, B)]);
        let reader = spawn(&table, |table| table.count(A));
        assert_eq!(table.record(entry(1), SHARED), Ok(None));
        assert_eq!(table.record(entry(2), SHARED), Ok(None));
        assert_eq!(table.record(entry(2), B), Ok(Some(SHARED)));
        assert_eq!(reader.join().unwrap(), 1);
        assert_eq!((table.count(A), table.count(SHARED)), (1, 1));
        table.validate().unwrap();
    });
}

/// The same where another thread takes it away, which has not noted it: on the usual way, and on the slow one.
#[test]
fn count_vs_two_writers_of_a_shared_counter() {
    for slow in [false, true] {
        explore(
            "count_vs_two_writers_of_a_shared_counter",
            Some(3),
            move || {
                let table = table(&[(0, A), (3, B)]);
                let first = spawn(&table, |table| {
                    table.record_range(entry(1), 2, SHARED).map(drop)
                });
                let reader = spawn(&table, |table| table.count(A));
                first.join().unwrap().unwrap();
                if slow {
                    assert_eq!(table.record_range(entry(2), 2, B).unwrap().len(), 2);
                } else {
                    assert_eq!(table.record(entry(2), B), Ok(Some(SHARED)));
                }
                assert_eq!(reader.join().unwrap(), 1);
                table.validate().unwrap();
            },
        );
    }
}

/// The same where a batch takes it away, or a record whose new owner is the one that is counted.
#[test]
fn count_vs_a_batch_of_a_shared_counter() {
    explore("count_vs_a_batch_of_a_shared_counter", Some(3), || {
        let table = table(&[(0, A), (3, B)]);
        let first = spawn(&table, |table| {
            table.record_range(entry(1), 2, SHARED).map(drop)
        });
        let reader = spawn(&table, |table| table.count(A));
        first.join().unwrap().unwrap();
        table.clear_batch(&[entry(2)], |_, _| ()).unwrap();
        assert_eq!(reader.join().unwrap(), 1);
        table.validate().unwrap();
    });
}

#[test]
fn count_vs_a_record_over_an_id_that_shares_its_counter() {
    explore(
        "count_vs_a_record_over_an_id_that_shares_its_counter",
        Some(3),
        || {
            let table = table(&[(0, A), (3, B), (2, B)]);
            let first = spawn(&table, |table| table.record(entry(1), SHARED).map(drop));
            let reader = spawn(&table, |table| table.count(A));
            first.join().unwrap().unwrap();
            assert_eq!(table.record(entry(2), A), Ok(Some(B)));
            let count = reader.join().unwrap();
            assert!(count == 1 || count == 2, "{count}");
            table.validate().unwrap();
        },
    );
}

/// As `count`, so `owners`, beside a batch.
#[test]
fn owners_vs_a_batch_of_a_shared_counter() {
    explore("owners_vs_a_batch_of_a_shared_counter", Some(2), || {
        let table = table(&[(0, A), (3, B)]);
        let first = spawn(&table, |table| {
            table.record_range(entry(1), 2, SHARED).map(drop)
        });
        let reader = spawn(&table, |table| table.owners().next());
        first.join().unwrap().unwrap();
        table.record_batch(&[entry(2)], B, |_, _| ()).unwrap();
        assert_eq!(reader.join().unwrap(), Some((A, 1)));
        table.validate().unwrap();
    });
}

/// Owners that are read beside writers: of ids whose records nobody changes, the numbers are right.
#[test]
fn owners_vs_records() {
    explore("owners_vs_records", Some(2), || {
        let table = table(&[(0, A), (REGION, A), (1, C)]);
        let reader = spawn(&table, |table| table.owners().collect::<Vec<_>>());
        assert_eq!(table.record(entry(2), SHARED), Ok(None));
        assert_eq!(table.migrate(C, B), 1);
        let owners = reader.join().unwrap();
        assert_eq!(owners[0], (A, 2), "{owners:?}");
        assert!(owners.is_sorted(), "{owners:?}");
        assert!(table.owners().eq([(A, 2), (B, 1), (SHARED, 1)]));
    });
}

/// Owners beside a swapoff are those of before or those of after; of one whose counter is shared, too.
#[test]
fn swapoff_vs_owners() {
    for third in [C, SHARED] {
        explore("swapoff_vs_owners", Some(2), move || {
            let table = table(&[(0, A), (REGION, A), (1, third)]);
            let reader = spawn(&table, |table| table.owners().collect::<Vec<_>>());
            assert_eq!(table.swapoff(TYPE), Ok(3));
            let owners = reader.join().unwrap();
            let all = [(A, 2), (third, 1)];
            assert!(all.starts_with(&owners) || owners == all[1..], "{owners:?}");
            assert_eq!(table.owners().next(), None);
        });
    }
}

/// A cmpxchg beside a swapoff that the next swapon follows is stored and dropped, or refused; the next
/// swapfile is empty.
#[test]
fn swapoff_and_swapon_vs_cmpxchg() {
    explore("swapoff_and_swapon_vs_cmpxchg", Some(3), || {
        let table = table(&[(1, A), (2, B)]);
        let writer = spawn(&table, |table| table.cmpxchg(entry(1), A, B));
        assert_eq!(table.swapoff(TYPE), Ok(2));
        table.swapon(TYPE, REGION).unwrap();
        match writer.join().unwrap() {
            // Began after the swapon.
            Ok(Exchange::Mismatch(None))
            | Ok(Exchange::Stored)
            | Err(EntryError::TypeOff { .. }) => {}
            impossible => panic!("{impossible:?}"),
        }
        assert_eq!((owner(&table, 1), owner(&table, 2)), (None, None));
        table.validate().unwrap();
    });
}

/// An iteration beside a swapoff gives records that were there, each once, and ends.
#[test]
fn swapoff_vs_runs() {
    explore("swapoff_vs_runs", Some(3), || {
        let table = table(&[(0, A), (REGION, B)]);
        let reader = spawn(&table, |table| {
            let runs = table
                .runs(TYPE)
                .map(|run| (run.start.offset(), run.len, run.id));
            runs.collect::<Vec<_>>()
        });
        assert_eq!(table.swapoff(TYPE), Ok(2));
        let all = [(0, 1, A), (REGION, 1, B)];
        let seen = reader.join().unwrap();
        assert!(all.starts_with(&seen), "{seen:?}");
    });
}

/// A lookup that overlaps swapoff and the next swapon sees no record of the first swapfile any more once
/// it saw that it was gone: neither as nothing nor as a record of the second one.
#[test]
fn swapoff_and_swapon_vs_lookup() {
    explore("swapoff_and_swapon_vs_lookup", None, || {
        let table = table(&[(1, A)]);
        let reader = spawn(&table, |table| {
            let seen = [(); 3].map(|()| owner(table, 1));
            assert!(seen.iter().flatten().all(|&owner| owner == A || owner == B));
            let gone = seen.iter().skip_while(|&&owner| owner == Some(A));
            assert!(gone.flatten().all(|&owner| owner == B), "{seen:?}");
        });
        assert_eq!(table.swapoff(TYPE), Ok(1));
        table.swapon(TYPE, REGION + 1).unwrap();
        table.record(entry(1), B).unwrap();
        reader.join().unwrap();
    });
}

/// A migration beside a swapoff moves what it still finds; the swapoff drops each record once.
#[test]
fn swapoff_vs_migrate() {
    explore("swapoff_vs_migrate", None, || {
        let table = table(&[(0, A), (1, A), (REGION, A)]);
        let migration = spawn(&table, |table| table.migrate(A, B));
        assert_eq!(table.swapoff(TYPE), Ok(3));
        assert!([0, 2, 3].contains(&migration.join().unwrap()));
        table.swapon(TYPE, 2 * REGION).unwrap();
        assert_eq!(table.count_upper_bound(A) + table.count_upper_bound(B), 0);
        assert_eq!(table.runs(TYPE).count(), 0);
        table.validate().unwrap();
    });
}

/// A writer that began before a swapoff writes nothing to the next swapfile of the type: a record of a
/// slot that only the first one has is dropped with it, or refused.
#[test]
fn swapoff_and_swapon_vs_stale_record() {
    explore("swapoff_and_swapon_vs_stale_record", Some(5), || {
        let table = table(&[]);
        let writer = spawn(&table, |table| table.record(entry(REGION + 2), A));
        let dropped = table.swapoff(TYPE).unwrap();
        // The same area, of other use.
        table.swapon(TYPE, REGION + 1).unwrap();
        match writer.join().unwrap() {
            Ok(had) => assert_eq!((had, dropped), (None, 1)),
            Err(_) => assert_eq!(dropped, 0),
        }
        assert_eq!(owner(&table, REGION + 2), None);
        table.validate().unwrap();
    });
}

/// The same for a migration: what the next swapfile holds of the old id is moved only where it came to the type
/// after its swapon, and the index agrees in each case.
#[test]
fn swapoff_and_swapon_vs_stale_migrate() {
    explore("swapoff_and_swapon_vs_stale_migrate", Some(4), || {
        let table = table(&[(0, A), (REGION, A)]);
        let migration = spawn(&table, |table| table.migrate(A, B));
        assert_eq!(table.swapoff(TYPE), Ok(2));
        table.swapon(TYPE, REGION + 1).unwrap();
        table.record(entry(REGION), A).unwrap();
        let moved = migration.join().unwrap();
        let now = owner(&table, REGION);
        // It was there for the first swapfile, for the second one, or for neither.
        match moved {
            0 => assert_eq!(now, Some(A)),
            1 => assert!(now == Some(A) || now == Some(B)),
            2 => assert_eq!(now, Some(A)),
            more => panic!("{more} moved"),
        }
        table.validate().unwrap();
    });
}

/// Of two swapoffs one wins, and of two swapons; the others are refused and change nothing.
#[test]
fn swapoff_vs_swapoff_and_swapon_vs_swapon() {
    explore("swapoff_vs_swapoff", None, || {
        let table = table(&[(0, A)]);
        let other = spawn(&table, |table| table.swapoff(TYPE));
        let mine = table.swapoff(TYPE);
        let theirs = other.join().unwrap();
        assert_ne!(mine.is_ok(), theirs.is_ok());
        assert_eq!(mine.or(theirs), Ok(1));
    });
    explore("swapon_vs_swapon", None, || {
        let table = table(&[]);
        table.swapoff(TYPE).unwrap();
        let other = spawn(&table, |table| table.swapon(TYPE, REGION).is_ok());
        let mine = table.swapon(TYPE, 2 * REGION).is_ok();
        assert_ne!(mine, other.join().unwrap());
        let pages = if mine { 2 * REGION } else { REGION };
        assert_eq!(table.max_pages(TYPE), Some(pages));
        table.validate().unwrap();
    });
}

/// The presence bits of neighbouring regions lie in one word; one is set while the other is cleared, and
/// both changes last.
#[test]
fn presence_set_vs_clear() {
    explore("presence_set_vs_clear", None, || {
        let table = table(&[(0, A)]);
        let clears = spawn(&table, |table| table.clear(entry(0)).unwrap());
        assert_eq!(table.record(entry(REGION), A), Ok(None));
        assert_eq!(clears.join().unwrap(), Some(A));
        table.validate().unwrap();
        assert_eq!(table.migrate(A, B), 1);
        assert_eq!(owner(&table, REGION), Some(B));
    });
}

/// Migrations of `a` to `b` and of `b` to `c` beside each other: what was `b` is `c`, what was `a` is `b`
/// or `c`, and nothing is lost.
#[test]
fn migrate_a_to_b_vs_b_to_c() {
    explore("migrate_a_to_b_vs_b_to_c", None, || {
        let table = table(&[(0, A), (1, B), (REGION, A)]);
        let other = spawn(&table, |table| table.migrate(A, B));
        let to_c = table.migrate(B, C);
        assert_eq!(other.join().unwrap(), 2);
        assert_eq!(owner(&table, 1), Some(C));
        let were_a = [owner(&table, 0), owner(&table, REGION)];
        let now_c = were_a.iter().filter(|&&owner| owner == Some(C)).count() as u64;
        assert!(
            were_a
                .iter()
                .flatten()
                .all(|&owner| owner == B || owner == C)
        );
        assert_eq!(to_c, 1 + now_c);
        table.validate().unwrap();
    });
}

/// Migrations of `a` to `b` and of `b` to `a` beside each other end, and every record has one of the two.
#[test]
fn migrate_a_to_b_vs_b_to_a() {
    explore("migrate_a_to_b_vs_b_to_a", None, || {
        let table = table(&[(0, A), (1, B), (REGION, A)]);
        let other = spawn(&table, |table| table.migrate(A, B));
        let to_a = table.migrate(B, A);
        let to_b = other.join().unwrap();
        let owners = [0, 1, REGION].map(|offset| owner(&table, offset).unwrap());
        let are_a = owners.iter().filter(|&&owner| owner == A).count() as u64;
        assert!(owners.iter().all(|&owner| owner == A || owner == B));
        // Two were `a` at first.
        assert_eq!(are_a + to_b, 2 + to_a);
        table.validate().unwrap();
    });
}

/// A range over two regions beside a migration: each of its slots goes over as it was or as it became.
#[test]
fn range_vs_migrate() {
    explore("range_vs_migrate", None, || {
        let table = table(&[(3, A), (REGION, A)]);
        let writer = spawn(&table, |table| {
            let had = table.record_range(entry(3), 2, C).unwrap();
            let slots = had.iter().map(|run| run.len).sum::<u64>();
            assert_eq!(slots, 2);
            let were_b = had.iter().filter(|run| run.id == B).map(|run| run.len);
            were_b.sum::<u64>()
        });
        let moved = table.migrate(A, B);
        // What was moved before the range came was `b` when it came.
        assert_eq!(writer.join().unwrap(), moved);
        assert_eq!(
            (owner(&table, 3), owner(&table, REGION)),
            (Some(C), Some(C))
        );
        table.validate().unwrap();
    });
}

/// A range of whole regions that is cleared beside a migration has no record afterwards, and each of them is told once.
#[test]
fn clear_range_of_whole_regions_vs_migrate() {
    explore("clear_range_of_whole_regions_vs_migrate", None, || {
        let table = table(&[(1, B), (REGION, A)]);
        let clearer = spawn(&table, |table| {
            let mut had = Vec::new();
            let each = |run: Run| had.push((run.start.offset(), run.len, run.id));
            table.clear_range_with(entry(0), 2 * REGION, each).unwrap();
            had
        });
        let moved = table.migrate(B, A);
        let first = if moved == 1 { A } else { B };
        let had = clearer.join().unwrap();
        assert_eq!(had, [(1, 1, first), (REGION, 1, A)]);
        assert_eq!((owner(&table, 1), owner(&table, REGION)), (None, None));
        table.validate().unwrap();
    });
}

/// The same beside writers that change the only owner of a region, one slot or many at a time.
#[test]
fn clear_range_of_whole_regions_vs_new_owners() {
    type Write = fn(&SwapRecords) -> Option<MemcgId>;
    let writes: [(&str, Write); 4] = [
        ("record", |table| table.record(entry(1), A).unwrap()),
        ("cmpxchg", |table| {
            let had = table.cmpxchg(entry(1), Some(B), Some(A)).unwrap();
            (had == Exchange::Stored).then_some(B)
        }),
        ("record_range", |table| {
            let had = table.record_range(entry(1), 2, A).unwrap();
            had.first().map(|run| run.id)
        }),
        ("record_batch", |table| {
            let mut had = None;
            let slots = [entry(1), entry(2)];
            let each = |_: SwapEntry, owner: MemcgId| had = Some(owner);
            table.record_batch(&slots, A, each).unwrap();
            had
        }),
    ];
    for (name, write) in writes {
        explore(
            &format!("clear_range_of_whole_regions_vs_{name}"),
            None,
            move || {
                let table = table(&[(1, B)]);
                // Loom finds less with the clearing in the first thread.
                let clearer = spawn(&table, |table| {
                    let mut had = None;
                    let each = |run: Run| had = had.or(Some(run.id));
                    table.clear_range_with(entry(0), 2 * REGION, each).unwrap();
                    had
                });
                let displaced = write(&table);
                let had = clearer.join().unwrap();
                // B goes to the one that comes first.
                match displaced {
                    Some(B) => assert_eq!(had, Some(A), "{name}"),
                    other => assert_eq!((other, had), (None, Some(B)), "{name}"),
                }
                table.validate().unwrap();
            },
        );
    }
}

/// An iteration beside a migration gives every record that nobody changes once, and those beside it with
/// the owner before or after.
#[test]
fn runs_vs_migrate() {
    explore("runs_vs_migrate", None, || {
        let table = table(&[(0, A), (1, C), (REGION, C)]);
        let reader = spawn(&table, |table| {
            let runs: Vec<_> = table.runs(TYPE).collect();
            let starts: Vec<_> = runs.iter().map(|run| run.start.offset()).collect();
            assert_eq!(starts, [0, 1, REGION]);
            assert!(runs[0].id == A || runs[0].id == B);
            assert_eq!((runs[1].id, runs[2].id), (C, C));
        });
        assert_eq!(table.migrate(A, B), 1);
        reader.join().unwrap();
    });
}

/// An iteration gives the only record of a region, also where a migration hands it to an owner whose bitmap has been read.
#[test]
fn runs_vs_migrate_of_the_only_record() {
    explore("runs_vs_migrate_of_the_only_record", None, || {
        let table = table(&[(REGION, B)]);
        let reader = spawn(&table, |table| {
            let runs: Vec<_> = table.runs(TYPE).collect();
            assert_eq!(runs.len(), 1, "{runs:?}");
            assert!(runs[0].id == A || runs[0].id == B);
        });
        assert_eq!(table.migrate(B, A), 1);
        reader.join().unwrap();
    });
}

/// Three threads in one region: a slot that one records while another one migrates what it had, beside a
/// lookup that sees what the slot held in its order.
#[test]
fn record_vs_migrate_vs_lookup() {
    explore("record_vs_migrate_vs_lookup", None, || {
        let table = table(&[(0, A), (1, A)]);
        let writer = spawn(&table, |table| table.record(entry(1), C).unwrap());
        let reader = spawn(&table, |table| {
            let seen = [(); 2].map(|()| owner(table, 1).unwrap());
            let held = [[A, A], [A, B], [A, C], [B, B], [B, C], [C, C]];
            assert!(held.contains(&seen), "{seen:?}");
        });
        let moved = table.migrate(A, B);
        reader.join().unwrap();
        let had = writer.join().unwrap();
        assert_eq!(had, Some(if moved == 2 { B } else { A }));
        assert_eq!((owner(&table, 0), owner(&table, 1)), (Some(B), Some(C)));
        table.validate().unwrap();
    });
}

/// Three threads: what is recorded and migrated while the type goes off is dropped, and counted once.
#[test]
fn swapoff_vs_record_vs_migrate() {
    explore("swapoff_vs_record_vs_migrate", Some(2), || {
        let table = table(&[(0, A)]);
        let writer = spawn(&table, |table| table.record(entry(REGION), A).is_ok());
        let migration = spawn(&table, |table| table.migrate(A, B));
        let dropped = table.swapoff(TYPE).unwrap();
        let recorded = u64::from(writer.join().unwrap());
        assert_eq!(dropped, 1 + recorded);
        assert!(migration.join().unwrap() <= dropped);
        table.swapon(TYPE, 2 * REGION).unwrap();
        assert_eq!(table.runs(TYPE).count(), 0);
        table.validate().unwrap();
    });
}

/// A batch beside a migration: each of its slots goes over as it was or as it became, and both of those that one hold of
/// the lock has written in the same way.
#[test]
fn batch_vs_migrate() {
    explore("batch_vs_migrate", Some(4), || {
        let table = table(&[(1, A), (2, A), (REGION, A)]);
        let writer = spawn(&table, |table| {
            let mut had = Vec::new();
            let slots = [entry(2), entry(1), entry(REGION)];
            let done = table.record_batch(&slots, C, |slot, id| had.push((slot, id)));
            done.unwrap();
            assert!(had.iter().map(|&(slot, _)| slot).eq(slots));
            [0, 1, 2].map(|at: usize| had[at].1)
        });
        let moved = table.migrate(A, B);
        let had = writer.join().unwrap();
        assert!(had.iter().all(|&id| id == A || id == B));
        assert_eq!(had[0], had[1]);
        let were_b = had.iter().filter(|&&id| id == B).count() as u64;
        assert_eq!(were_b, moved);
        let now = [1, 2, REGION].map(|at| owner(&table, at));
        assert_eq!(now, [Some(C); 3]);
        table.validate().unwrap();
    });
}

/// A slot that comes twice in a batch is written twice, in that order.
#[test]
fn batch_with_a_slot_twice_vs_lookup() {
    explore("batch_with_a_slot_twice_vs_lookup", None, || {
        let table = table(&[(1, C)]);
        let reader = spawn(&table, |table| {
            let seen = [(); 3].map(|()| owner(table, 1).unwrap());
            let turn = |id| [C, A, B].iter().position(|&other| other == id);
            assert!(seen.map(turn).is_sorted(), "{seen:?}");
        });
        let mut had = Vec::new();
        let slots = [(entry(1), A), (entry(REGION), A), (entry(1), B)];
        let done = table.record_batch_ids(&slots, |_, id| had.push(id));
        assert_eq!((done, had), (Ok(()), vec![C, A]));
        reader.join().unwrap();
        assert_eq!(
            (owner(&table, 1), owner(&table, REGION)),
            (Some(B), Some(A))
        );
        table.validate().unwrap();
    });
}

/// Each record is cleared by a batch or dropped by the swapoff beside it, once. Where the batch is ended, it says which
/// slot it got to, and has told of those before.
#[test]
fn swapoff_vs_clear_batch() {
    explore("swapoff_vs_clear_batch", Some(4), || {
        let table = table(&[(0, A), (REGION, A)]);
        let writer = spawn(&table, |table| {
            let mut cleared = 0;
            let slots = [entry(0), entry(REGION)];
            let done = table.clear_batch(&slots, |slot, id| {
                assert_eq!((slot, id), (slots[cleared], A));
                cleared += 1;
            });
            match done {
                Ok(()) => assert_eq!(cleared, 2),
                Err(EntryError::TypeOff { ty, offset }) => {
                    let next = slots[cleared];
                    assert_eq!((ty, offset), (next.swap_type(), Some(next.offset())));
                }
                Err(error) => panic!("{error}"),
            }
            cleared as u64
        });
        let dropped = table.swapoff(TYPE).unwrap();
        assert_eq!(dropped + writer.join().unwrap(), 2);
        table.swapon(TYPE, 2 * REGION).unwrap();
        assert_eq!((owner(&table, 0), owner(&table, REGION)), (None, None));
        table.validate().unwrap();
    });
}

/// A batch that began before a swapoff writes nothing to the next swapfile of the type. One that began later is
/// refused whole: the last of its slots is past the end of that one.
#[test]
fn swapoff_and_swapon_vs_stale_batch() {
    const SLOTS: [u64; 3] = [0, REGION, REGION + 2];
    explore("swapoff_and_swapon_vs_stale_batch", Some(4), || {
        let table = table(&[]);
        let writer = spawn(&table, |table| {
            let slots = SLOTS.map(entry);
            table.record_batch(&slots, A, |_, _| panic!("nobody else writes"))
        });
        let dropped = table.swapoff(TYPE).unwrap();
        // The same area, of other use.
        table.swapon(TYPE, REGION + 1).unwrap();
        match writer.join().unwrap() {
            Ok(()) => assert_eq!(dropped, 3),
            Err(EntryError::TypeOff { offset, .. }) => {
                let written = SLOTS.iter().position(|&slot| offset == Some(slot));
                assert_eq!(written.map(|nr| nr as u64), Some(dropped));
            }
            Err(EntryError::OutOfRange { start, .. }) => {
                assert_eq!((dropped, start), (0, entry(REGION + 2)));
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(table.runs(TYPE).count(), 0);
        table.validate().unwrap();
    });
}
