//! Loom models of the table: small programs of two or three threads. Loom runs each of them in every order of
//! its atomic accesses, up to a number of preemptions, and with every value that a relaxed load may return.
//!
//! `ci/loom.sh` builds and runs them. Without `--cfg swap_records_loom`, this file is empty.
//!
//! Under loom, a chunk has 2 entries, a region has 4, and a table has one type. A swapfile of two regions
//! behaves like a larger one: its regions share words of the presence bitmap.
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
/// This id shares the counter of A.
const SHARED: MemcgId = MemcgId::new(5).unwrap();
const TYPE: SwapType = SwapType::new(0).unwrap();

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// Makes a table of one type with two regions and these records.
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

/// Returns the owner of a slot after all threads have ended.
fn owner(table: &SwapRecords, offset: u64) -> Option<MemcgId> {
    table.lookup(entry(offset))
}

/// The lock orders plain accesses to the data that it guards. The plain loads of the vector scans depend on
/// this.
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

/// Two threads record the same slot. Each gets the previous owner, and the index counts the last record.
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

/// Two threads record the same id in one region. Both records are counted: no update of the cell is lost.
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

/// The same if the cell is in use already, so that no presence bit changes. Most records take this way.
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

/// A record of a third id is kept, whenever it happens. All other records of the old id are moved.
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

/// A range clears some of the records of a region. A migration finds the others: their presence bit is set
/// all the time.
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

/// A record of the old id during a migration is moved or stays. No record is lost.
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
        // No thread records the old id any more.
        assert_eq!(table.migrate(A, B), 2 - moved);
        assert_eq!(table.count_upper_bound(A), 0);
    });
}

/// A migration works in parts of a region, with one hold per part. Each record that no thread changes is
/// moved, in any part. A slot that another thread gives to a third id, or clears, keeps that state. The
/// presence bit of the old id is clear only if its cell is empty.
#[test]
fn writers_vs_migrate_in_parts() {
    explore("writers_vs_migrate_in_parts", Some(3), || {
        // A chunk has two entries, so the first region has two parts.
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

/// Records of the old id between two parts are moved or stay, behind and ahead of the migration. The cell and
/// the presence bit count them, so the next migration finds them.
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
        assert_eq!((now[1], now[2]), (B, B), "no thread changed them");
        let left = now.iter().filter(|&&owner| owner == A).count() as u64;
        assert_eq!(moved + left, 4);
        table.validate().unwrap();
        assert_eq!(table.migration(A, B).max_hold(1).run().moved, left);
        assert_eq!(table.count_upper_bound(A), 0);
        table.validate().unwrap();
    });
}

/// A cmpxchg from the old id happens before or after the part of its slot. Its answer says which.
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

/// A swapoff between two parts ends the migration of that swapfile. The next swapfile of the type is left
/// alone, or is migrated if the migration began with the type after the swapon.
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

/// A cmpxchg from the old id happens before or after the migration of its slot. Its answer says which.
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

/// A lookup during a migration sees the old id or the new id, and no other value. It never sees the old id
/// after the new id.
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

/// A record during a swapoff is dropped and counted, or refused. No record is left.
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

/// A lookup during a swapoff sees the record, or no record. Later lookups see no record.
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

/// An upper bound that is read during a swapoff is the value before it or after it, never that of a
/// half-empty swapfile.
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

/// `count` of an id whose records no thread changes is right, while another thread makes and clears the first
/// record of an id that shares its counter. The cell counts both ids, and a thread that reads it sees the
/// note about this.
///
/// Here and below, the reader is a thread of its own. Loom reorders a load that comes after a store, but not
/// a load that comes before a load and a store of the same cell.
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

/// The same if a thread that did not make the note clears the record: by the fast way, and by the slow way.
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

/// The same if a batch clears the record, or if the counted id replaces it.
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

/// `owners` is right like `count`, during a batch.
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

/// `owners` that runs during writes gives the right numbers for ids whose records no thread changes.
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

/// `owners` during a swapoff gives the state before it or after it, also for an id that shares its counter.
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

/// A cmpxchg during a swapoff and the next swapon is stored and dropped, or is refused. The next swapfile is
/// empty.
#[test]
fn swapoff_and_swapon_vs_cmpxchg() {
    explore("swapoff_and_swapon_vs_cmpxchg", Some(3), || {
        let table = table(&[(1, A), (2, B)]);
        let writer = spawn(&table, |table| table.cmpxchg(entry(1), A, B));
        assert_eq!(table.swapoff(TYPE), Ok(2));
        table.swapon(TYPE, REGION).unwrap();
        match writer.join().unwrap() {
            // This one began after the swapon.
            Ok(Exchange::Mismatch(None))
            | Ok(Exchange::Stored)
            | Err(EntryError::TypeOff { .. }) => {}
            impossible => panic!("{impossible:?}"),
        }
        assert_eq!((owner(&table, 1), owner(&table, 2)), (None, None));
        table.validate().unwrap();
    });
}

/// An iteration during a swapoff gives only records that existed, each once, and ends.
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

/// A lookup that overlaps a swapoff and the next swapon may see that the first swapfile is gone. After that,
/// no lookup sees a record of it, neither as "no record" nor as a record of the second swapfile.
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

/// A migration during a swapoff moves the records that it finds. The swapoff drops each record once.
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

/// A writer that began before a swapoff writes nothing to the next swapfile of the type. A record of a slot
/// that only the first swapfile has is dropped with it, or refused.
#[test]
fn swapoff_and_swapon_vs_stale_record() {
    explore("swapoff_and_swapon_vs_stale_record", Some(5), || {
        let table = table(&[]);
        let writer = spawn(&table, |table| table.record(entry(REGION + 2), A));
        let dropped = table.swapoff(TYPE).unwrap();
        // The same area, but with other contents.
        table.swapon(TYPE, REGION + 1).unwrap();
        match writer.join().unwrap() {
            Ok(had) => assert_eq!((had, dropped), (None, 1)),
            Err(_) => assert_eq!(dropped, 0),
        }
        assert_eq!(owner(&table, REGION + 2), None);
        table.validate().unwrap();
    });
}

/// The same for a migration. Records of the old id in the next swapfile are moved only if the migration began
/// with the type after its swapon. The index agrees in each case.
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
        // The migration saw the first swapfile, the second one, or neither.
        match moved {
            0 => assert_eq!(now, Some(A)),
            1 => assert!(now == Some(A) || now == Some(B)),
            2 => assert_eq!(now, Some(A)),
            more => panic!("{more} moved"),
        }
        table.validate().unwrap();
    });
}

/// One of two swapoffs wins, and one of two swapons. The others are refused and change nothing.
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

/// The presence bits of neighbouring regions are in one word. One bit is set while another one is cleared,
/// and both changes persist.
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

/// Concurrent migrations from `a` to `b` and from `b` to `c`: records of `b` end as `c`, records of `a` end
/// as `b` or `c`, and no record is lost.
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

/// Concurrent migrations from `a` to `b` and from `b` to `a` end, and each record has one of the two ids.
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
        // Two records were `a` at first.
        assert_eq!(are_a + to_b, 2 + to_a);
        table.validate().unwrap();
    });
}

/// A range over two regions during a migration. Each slot is migrated before or after the range writes it.
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
        // A record that was moved before the range wrote it was `b` at that moment.
        assert_eq!(writer.join().unwrap(), moved);
        assert_eq!(
            (owner(&table, 3), owner(&table, REGION)),
            (Some(C), Some(C))
        );
        table.validate().unwrap();
    });
}

/// A range of whole regions is cleared during a migration. No record is left, and the callback gets each
/// record once.
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

/// The same while other threads change the only owner of a region, in one slot or in many.
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
                // Loom finds less if the first thread clears.
                let clearer = spawn(&table, |table| {
                    let mut had = None;
                    let each = |run: Run| had = had.or(Some(run.id));
                    table.clear_range_with(entry(0), 2 * REGION, each).unwrap();
                    had
                });
                let displaced = write(&table);
                let had = clearer.join().unwrap();
                // The one that comes first gets B.
                match displaced {
                    Some(B) => assert_eq!(had, Some(A), "{name}"),
                    other => assert_eq!((other, had), (None, Some(B)), "{name}"),
                }
                table.validate().unwrap();
            },
        );
    }
}

/// An iteration during a migration gives every record that no thread changes once. It gives the migrated
/// records with the owner before or after.
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

/// An iteration gives the only record of a region, even if a migration moves it to an owner whose bitmap has
/// already been read.
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

/// Three threads in one region: the first records a slot, the second migrates the previous owner of the slot,
/// and the third looks the slot up. The lookups see the owners of the slot in their order.
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

/// Three threads: records that are made and migrated during a swapoff are dropped, and counted once.
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

/// A batch during a migration. Each slot is migrated before or after the batch writes it. Slots that were
/// written under one hold of the lock have the same result.
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

/// A slot that occurs twice in a batch is written twice, in that order.
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

/// A batch clears each record, or a concurrent swapoff drops it, but not both. If the batch ends early, its
/// error names the slot that it reached, and its callback got the owners of the slots before it.
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

/// A batch that began before a swapoff writes nothing to the next swapfile of the type. A batch that began
/// later is refused as a whole, because its last slot is past the end of that swapfile.
#[test]
fn swapoff_and_swapon_vs_stale_batch() {
    const SLOTS: [u64; 3] = [0, REGION, REGION + 2];
    explore("swapoff_and_swapon_vs_stale_batch", Some(4), || {
        let table = table(&[]);
        let writer = spawn(&table, |table| {
            let slots = SLOTS.map(entry);
            table.record_batch(&slots, A, |_, _| panic!("no other thread writes"))
        });
        let dropped = table.swapoff(TYPE).unwrap();
        // The same area, but with other contents.
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
