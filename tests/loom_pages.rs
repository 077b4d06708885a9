//! Loom models of a table without `std`, whose memory comes in pages. `tests/loom.rs` describes how they run.
//!
//! A page of a model is a box that loom watches. If a page is freed while another thread may still read it,
//! loom reports a race. Ids 1, 4 and 5 have their counters in one block, ids 2 and 3 in the other block.
#![cfg(all(swap_records_loom, not(feature = "std")))]

mod explore;

use std::sync::Arc;

use explore::explore;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use swap_records::{EntryError, MemcgId, REGION_ENTRIES, SwapEntry, SwapRecords, SwapType};

const REGION: u64 = REGION_ENTRIES as u64;
const A: MemcgId = MemcgId::new(1).unwrap();
const B: MemcgId = MemcgId::new(2).unwrap();
const C: MemcgId = MemcgId::new(3).unwrap();
const D: MemcgId = MemcgId::new(4).unwrap();
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

fn spawn<T: 'static>(
    table: &Arc<SwapRecords>,
    work: impl FnOnce(&SwapRecords) -> T + 'static,
) -> thread::JoinHandle<T> {
    let table = Arc::clone(table);
    thread::spawn(move || work(&table))
}

/// Two threads make all pages of the same slots. Both use one of each page, and the other one is freed.
#[test]
fn two_makers_of_one_page() {
    explore("two_makers_of_one_page", Some(3), || {
        let table = table(&[]);
        let other = spawn(&table, |table| table.record(entry(0), A).unwrap());
        assert_eq!(table.record(entry(1), A), Ok(None));
        assert_eq!(other.join().unwrap(), None);
        let owners = [0, 1].map(|at| table.lookup(entry(at)));
        assert_eq!(owners, [Some(A), Some(A)]);
        assert_eq!(table.count(A), 2);
        table.validate().unwrap();
    });
}

/// A new page holds zeroes for all threads that read it, and then the written records.
#[test]
fn maker_vs_lookup_and_count() {
    explore("maker_vs_lookup_and_count", None, || {
        let table = table(&[(0, A)]);
        let reader = spawn(&table, |table| {
            let [first, then] = [2, 2].map(|at| table.lookup(entry(at)));
            assert!([(None, None), (None, Some(B)), (Some(B), Some(B))].contains(&(first, then)));
            assert_eq!((table.lookup(entry(3)), table.count(A)), (None, 1));
        });
        assert_eq!(table.record(entry(2), B), Ok(None));
        reader.join().unwrap();
        table.validate().unwrap();
    });
}

/// The page of the cells of B appears at any moment of a migration to B. The migration makes no page.
#[test]
fn migrate_vs_maker_of_its_cells() {
    explore("migrate_vs_maker_of_its_cells", None, || {
        let table = table(&[(0, A), (1, A)]);
        let maker = spawn(&table, |table| table.record(entry(2), C).unwrap());
        assert_eq!(table.migrate(A, B), 2);
        assert_eq!(maker.join().unwrap(), None);
        table.validate().unwrap();
        assert_eq!((table.count(B), table.count(C)), (2, 1));
        // The migration finds B, wherever it was counted.
        assert_eq!(table.migrate(B, A), 2);
        assert_eq!((table.count(B), table.count(A)), (0, 2));
        table.validate().unwrap();
    });
}

/// `count` is right for an id that shares the spill cell of a region, while a migration moves another id
/// there.
#[test]
fn count_vs_migrate_to_the_same_spill_cell() {
    explore("count_vs_migrate_to_the_same_spill_cell", None, || {
        let table = table(&[(0, A), (2, A), (1, D)]);
        assert_eq!(table.migrate(A, C), 2);
        let reader = spawn(&table, |table| {
            assert!(table.count(B) <= 1);
            assert_eq!(table.count(C), 2);
        });
        assert_eq!(table.migrate(D, B), 1);
        reader.join().unwrap();
        assert_eq!((table.count(B), table.count(C)), (1, 2));
        table.validate().unwrap();
    });
}

/// The same while a record moves the counts of the block to the block's own cells.
#[test]
fn count_vs_a_record_that_settles_its_block() {
    explore("count_vs_a_record_that_settles_its_block", None, || {
        let table = table(&[(0, A), (1, D)]);
        assert_eq!((table.migrate(A, C), table.migrate(D, B)), (1, 1));
        let reader = spawn(&table, |table| {
            assert_eq!(table.count(C), 1);
            assert!([1, 2].contains(&table.count(B)));
        });
        assert_eq!(table.record(entry(2), B), Ok(None));
        reader.join().unwrap();
        assert_eq!((table.count(B), table.count(C)), (2, 1));
        table.validate().unwrap();
    });
}

/// A thread that makes a page late may put it into the next swapfile, but writes nothing there.
#[test]
fn swapoff_and_swapon_vs_maker() {
    explore("swapoff_and_swapon_vs_maker", Some(2), || {
        let table = table(&[(0, A)]);
        let writer = spawn(&table, |table| table.record(entry(2), B));
        let dropped = table.swapoff(TYPE).unwrap();
        table.swapon(TYPE, 2 * REGION).unwrap();
        let wrote = writer.join().unwrap();
        match (wrote, dropped) {
            // The record happened before, or in the second swapfile.
            (Ok(None), 1 | 2) => {}
            (Err(EntryError::TypeOff { .. }), 1) => {}
            other => panic!("{other:?}"),
        }
        let there = table.lookup(entry(2));
        assert_eq!(there.is_some(), wrote == Ok(None) && dropped == 1);
        assert_eq!(table.lookup(entry(0)), None);
        table.validate().unwrap();
    });
}

/// A page is used again in its place. A lookup sees the record before, none, or the record after.
#[test]
fn swapoff_and_the_page_used_again_vs_lookup() {
    explore("swapoff_and_the_page_used_again_vs_lookup", Some(3), || {
        let table = table(&[(0, A)]);
        let reader = spawn(&table, |table| [0, 1, 0].map(|at| table.lookup(entry(at))));
        assert_eq!(table.swapoff(TYPE), Ok(1));
        table.swapon(TYPE, 2 * REGION).unwrap();
        assert_eq!(table.record(entry(0), B), Ok(None));
        let [first, neighbour, then] = reader.join().unwrap();
        assert_eq!(neighbour, None);
        // No record after B is possible for a moment: the lookup began with the first swapfile, and read the
        // entry late.
        assert!(then != Some(A) || first == Some(A), "{first:?}, {then:?}");
        table.validate().unwrap();
    });
}

/// Pages are freed when the operations that began before the swapoff returned have ended, while later
/// operations run. The next swapfile gets new pages.
#[test]
fn trim_vs_lookup_and_count() {
    explore("trim_vs_lookup_and_count", Some(3), || {
        let table = table(&[(0, A)]);
        let flags = Arc::new([false, false].map(AtomicBool::new));
        let theirs = Arc::clone(&flags);
        let reader = spawn(&table, move |table| {
            let [ended, is_off] = &*theirs;
            assert!([None, Some(A)].contains(&table.lookup(entry(0))));
            assert!(table.count(A) <= 1);
            ended.store(true, Ordering::Release);
            // A new operation, which begins after the swapoff has returned.
            if is_off.load(Ordering::Acquire) {
                assert!([None, Some(B)].contains(&table.lookup(entry(0))));
                let _ = table.footprint();
                assert_eq!(table.count(A), 0);
            }
        });
        let [ended, is_off] = &*flags;
        assert_eq!(table.swapoff(TYPE), Ok(1));
        is_off.store(true, Ordering::Release);
        if ended.load(Ordering::Acquire) {
            // SAFETY: the reader begins all further operations while the type is off.
            let pages = unsafe { table.begin_trim().finish() };
            assert!(pages > 0);
            table.swapon(TYPE, 2 * REGION).unwrap();
            assert_eq!(table.record(entry(0), B), Ok(None));
        }
        reader.join().unwrap();
        table.validate().unwrap();
    });
}

/// The bound of an id that no thread records, while a record of its neighbour moves the counts of their block
/// from the spill cell to the block's own cells.
#[test]
fn upper_bound_vs_a_record_that_settles_its_block() {
    explore(
        "upper_bound_vs_a_record_that_settles_its_block",
        None,
        || {
            let table = table(&[(0, A), (1, D)]);
            assert_eq!((table.migrate(A, C), table.migrate(D, B)), (1, 1));
            let reader = spawn(&table, |table| {
                assert!(table.count_upper_bound(C) >= 1);
            });
            assert_eq!(table.record(entry(2), B), Ok(None));
            reader.join().unwrap();
            assert_eq!(table.count_upper_bound(C), 1);
            table.validate().unwrap();
        },
    );
}

/// An iterator that is kept goes on when its type has been turned off, while the pages are freed.
#[test]
fn trim_vs_an_iterator_that_is_kept() {
    explore("trim_vs_an_iterator_that_is_kept", Some(3), || {
        let table = table(&[(0, A), (2, B)]);
        let flags = Arc::new([false, false].map(AtomicBool::new));
        let theirs = Arc::clone(&flags);
        let reader = spawn(&table, move |table| {
            let [ended, is_off] = &*theirs;
            let mut all = table.runs(TYPE);
            let mut of_one = table.runs_of(A);
            let _ = (all.next(), of_one.next());
            ended.store(true, Ordering::Release);
            if is_off.load(Ordering::Acquire) {
                let _ = (all.next(), of_one.next());
                assert_eq!((all.next(), of_one.next()), (None, None));
            }
        });
        let [ended, is_off] = &*flags;
        assert_eq!(table.swapoff(TYPE), Ok(2));
        is_off.store(true, Ordering::Release);
        if ended.load(Ordering::Acquire) {
            // SAFETY: the calls of the reader that began before the swapoff returned have ended.
            assert!(unsafe { table.begin_trim().finish() } > 0);
        }
        reader.join().unwrap();
    });
}

/// An operation that began with a swapfile that is gone is not told that there is no memory, where the next one
/// is too small for its slot.
#[test]
fn a_smaller_swapfile_vs_maker() {
    explore("a_smaller_swapfile_vs_maker", Some(2), || {
        let table = SwapRecords::new();
        table.swapon(TYPE, 4 * REGION).unwrap();
        let table = Arc::new(table);
        let writer = spawn(&table, |table| table.record(entry(3 * REGION), B));
        let _ = table.swapoff(TYPE).unwrap();
        table.swapon(TYPE, REGION).unwrap();
        let wrote = writer.join().unwrap();
        assert!(
            !matches!(wrote, Err(EntryError::OutOfMemory { .. })),
            "{wrote:?}"
        );
        table.validate().unwrap();
    });
}
