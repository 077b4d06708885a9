//! What a migration moves, what it leaves alone, and how many entries it scans.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use swap_records::{
    Backend, CHUNK_ENTRIES, MemcgId, REGION_ENTRIES, Step, SwapEntry, SwapRecords, SwapType,
};

const REGION: u64 = REGION_ENTRIES as u64;
const CHUNKS: u64 = (REGION_ENTRIES / CHUNK_ENTRIES) as u64;

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(ty: u8, offset: u64) -> SwapEntry {
    SwapEntry::new(SwapType::new(ty).unwrap(), offset).unwrap()
}

fn table(regions: u64) -> SwapRecords {
    let table = SwapRecords::new();
    table
        .swapon(SwapType::new(0).unwrap(), regions * REGION)
        .unwrap();
    table
}

#[test]
fn a_migration_without_records_scans_nothing() {
    let table = table(8);
    table.record_range(entry(0, 0), 8 * REGION, id(1)).unwrap();
    let migrated = table.migration(id(2), id(3)).run();
    assert_eq!((migrated.moved, migrated.chunks_scanned), (0, 0));
    assert_eq!(migrated.chunks_skipped, 8 * CHUNKS);
    assert!(!migrated.stopped_by_hint);
}

#[test]
fn one_record_is_found_without_a_scan() {
    let table = table(8);
    table.record_range(entry(0, 0), 8 * REGION, id(1)).unwrap();
    for offset in [0, 3 * REGION - 1, 5 * REGION + 77] {
        table.record(entry(0, offset), id(2)).unwrap();
    }
    let migrated = table.migration(id(2), id(3)).run();
    assert_eq!((migrated.moved, migrated.chunks_scanned), (3, 3));
    assert_eq!(table.lookup(entry(0, 3 * REGION - 1)), Some(id(3)));
    table.validate().unwrap();
}

#[test]
fn a_scan_stops_at_the_last_record_but_one() {
    let table = table(1);
    table.record_range(entry(0, 0), REGION, id(1)).unwrap();
    // The second record is in the first chunk, so the place of the third one is known without a scan of the
    // rest.
    for offset in [3, 9, REGION - 1] {
        table.record(entry(0, offset), id(2)).unwrap();
    }
    let migrated = table.migration(id(2), id(3)).run();
    assert_eq!((migrated.moved, migrated.chunks_scanned), (3, 2));
    assert_eq!(table.count(id(3)), 3);
    table.validate().unwrap();
}

#[test]
fn cleared_records_leave_nothing_to_scan() {
    let table = table(4);
    for offset in (0..4 * REGION).step_by(5) {
        table.record(entry(0, offset), id(2)).unwrap();
    }
    for offset in (0..4 * REGION).step_by(5) {
        assert_eq!(table.clear(entry(0, offset)), Ok(Some(id(2))));
    }
    assert_eq!(table.migration(id(2), id(3)).run().chunks_scanned, 0);
    assert_eq!(table.count_upper_bound(id(2)), 0);
}

#[test]
fn an_id_that_shares_the_counter_stays_where_it_is() {
    let table = table(2);
    let (old, other) = (id(5), id(5 + 4096));
    for (offset, owner) in [
        (1, old),
        (2, other),
        (REGION, other),
        (REGION + 3, old),
        (REGION + 4, old),
    ] {
        table.record(entry(0, offset), owner).unwrap();
    }
    assert_eq!(table.count_upper_bound(old), 5);
    assert_eq!(table.migrate(old, id(6)), 3);
    assert_eq!(
        (table.count(old), table.count(id(6)), table.count(other)),
        (0, 3, 2)
    );
    table.validate().unwrap();
    // It is alone in its cell, so it is read and left.
    assert_eq!(table.migrate(old, id(6)), 0);
    // A migration between two ids of one counter does not change the counter.
    assert_eq!(table.migrate(other, old), 2);
    assert_eq!((table.count(old), table.count(other)), (2, 0));
    table.validate().unwrap();
}

#[test]
fn old_to_old_moves_nothing() {
    let table = table(1);
    table.record_range(entry(0, 0), 100, id(1)).unwrap();
    let migrated = table.migration(id(1), id(1)).run();
    assert_eq!((migrated.moved, migrated.chunks_scanned), (0, 0));
    assert_eq!((migrated.left_at_most, table.count(id(1))), (100, 100));
}

#[test]
fn every_type_is_migrated_to_its_last_slot() {
    let table = SwapRecords::new();
    for ty in SwapType::all() {
        let pages = u64::from(ty.get()) * 100 + 1;
        table.swapon(ty, pages).unwrap();
        table
            .record(SwapEntry::new(ty, pages - 1).unwrap(), MemcgId::MAX)
            .unwrap();
    }
    assert_eq!(table.migrate(MemcgId::MAX, MemcgId::MIN), 32);
    assert_eq!(
        (table.count(MemcgId::MAX), table.count(MemcgId::MIN)),
        (0, 32)
    );
}

#[test]
fn a_right_hint_ends_it_at_the_last_record() {
    let table = table(8);
    table.record_range(entry(0, 0), 10, id(2)).unwrap();
    let memsw = AtomicU64::new(10);
    let migrated = table.migration(id(2), id(3)).memsw_hint(&memsw).run();
    assert_eq!((migrated.moved, migrated.left_at_most), (10, 0));
    assert_eq!(
        migrated.chunks_scanned + migrated.chunks_skipped,
        8 * CHUNKS
    );
}

#[test]
fn a_hint_that_is_too_low_leaves_records_and_says_so() {
    let table = table(8);
    for region in 0..8 {
        table.record(entry(0, region * REGION), id(2)).unwrap();
    }
    let migrated = table.migration(id(2), id(3)).memsw_hint(&3_u64).run();
    assert_eq!((migrated.moved, migrated.left_at_most), (3, 5));
    assert!(migrated.stopped_by_hint);
    assert_eq!((table.count(id(2)), table.count(id(3))), (5, 3));
    // No record is lost: a second run moves the rest.
    assert_eq!(table.migrate(id(2), id(3)), 5);
}

#[test]
fn a_hint_that_is_too_high_costs_time_only() {
    let table = table(8);
    table.record(entry(0, 7 * REGION), id(2)).unwrap();
    let memsw = AtomicUsize::new(1000);
    let migrated = table.migration(id(2), id(3)).memsw_hint(&memsw).run();
    assert_eq!((migrated.moved, migrated.left_at_most), (1, 0));
    assert!(!migrated.stopped_by_hint);
}

#[test]
fn every_kind_of_hint_is_accepted() {
    for charged in 0..9 {
        let table = table(8);
        for region in 0..8 {
            table.record(entry(0, region * REGION), id(2)).unwrap();
        }
        let (word, size) = (
            AtomicU64::new(charged),
            AtomicUsize::new(usize::try_from(charged).unwrap()),
        );
        let closure = || charged;
        let migration = || table.migration(id(2), id(3));
        for migration in [
            migration().memsw_hint(&charged),
            migration().memsw_hint(&word),
            migration().memsw_hint(&size),
            migration().memsw_hint(&closure),
        ] {
            let migrated = migration.run();
            let (moved, left) = (migrated.moved, migrated.left_at_most);
            assert_eq!((moved, left), (charged, 8 - charged));
            assert!(migrated.stopped_by_hint);
            assert_eq!(table.migrate(id(3), id(2)), charged);
        }
    }
}

#[test]
fn a_scan_ends_with_the_swapfile_and_not_with_its_region() {
    let table = SwapRecords::new();
    let chunk = CHUNK_ENTRIES as u64;
    // The last region has two chunks, the second one with one entry.
    let pages = REGION + chunk + 1;
    table.swapon(SwapType::new(0).unwrap(), pages).unwrap();
    // Three ids share a counter. The scan for one of them goes on to the end.
    for (offset, owner) in [(1, 5), (2, 5 + 4096), (3, 5 + 4096)] {
        table.record(entry(0, REGION + offset), id(owner)).unwrap();
    }
    let migrated = table.migration(id(5), id(6)).run();
    // Without `std`, a chunk that was never written does not exist.
    let scanned = if cfg!(feature = "std") { 2 } else { 1 };
    assert_eq!((migrated.moved, migrated.chunks_scanned), (1, scanned));
    assert_eq!(migrated.chunks_skipped, CHUNKS + 2 - scanned);
}

#[test]
fn a_budget_is_spent_by_entries_that_are_looked_at() {
    // A region with one record costs 2048 entries. A region that is scanned to its end costs all of its
    // entries.
    let table = table(8);
    for region in 0..8 {
        table.record(entry(0, region * REGION), id(2)).unwrap();
    }
    let least = CHUNK_ENTRIES.max(2048) as u64;
    for (budget, regions) in [(0, 1), (1, 1), (least, 1), (least + 1, 2), (3 * least, 3)] {
        let mut migration = table.migration(id(2), id(3));
        assert_eq!(migration.step(budget), Step::More);
        assert_eq!(migration.so_far().moved, regions);
        drop(migration);
        assert_eq!(table.migrate(id(3), id(2)), regions);
    }
}

#[test]
fn a_hint_may_change_while_the_migration_runs() {
    let table = table(8);
    for region in 0..8 {
        table.record(entry(0, region * REGION), id(2)).unwrap();
    }
    // The owner frees two pages each time that the hint is read.
    let charged = AtomicU64::new(8);
    let hint = || charged.fetch_sub(2, Ordering::Relaxed);
    let migrated = table.migration(id(2), id(3)).memsw_hint(&hint).run();
    // Read before the type: 8 > 0. Read before each region: 6 > 0, 4 > 1, then 2 <= 2.
    assert_eq!((migrated.moved, migrated.left_at_most), (2, 6));
}

#[test]
fn steps_keep_to_their_budget_and_end_where_a_run_does() {
    let table = table(8);
    for region in 0..8 {
        table
            .record_range(entry(0, region * REGION), REGION, id(2))
            .unwrap();
    }
    let mut migration = table.migration(id(2), id(3));
    for regions in 1..8 {
        // A region per step: no step is shorter.
        assert_eq!(migration.step(1), Step::More);
        let so_far = migration.so_far();
        assert_eq!(
            (so_far.moved, so_far.left_at_most),
            (regions * REGION, (8 - regions) * REGION)
        );
    }
    let Step::Done(migrated) = migration.step(u64::MAX) else {
        panic!("the budget was enough");
    };
    assert_eq!(
        (migrated.moved, migrated.chunks_scanned),
        (8 * REGION, 8 * CHUNKS)
    );
    assert_eq!(migration.so_far(), migrated);
    assert_eq!(migration.step(0), Step::Done(migrated));
}

#[test]
fn a_swapoff_between_steps_takes_the_rest_of_its_type_away() {
    let table = table(4);
    let (gone, stays) = (SwapType::new(0).unwrap(), SwapType::new(1).unwrap());
    table.swapon(stays, REGION).unwrap();
    table.record(entry(1, 5), id(2)).unwrap();
    for region in 0..4 {
        table.record(entry(0, region * REGION), id(2)).unwrap();
    }
    let mut migration = table.migration(id(2), id(3));
    assert_eq!(migration.step(1), Step::More);
    assert_eq!(table.swapoff(gone), Ok(4));
    let Step::Done(migrated) = migration.step(u64::MAX) else {
        panic!("the budget was enough");
    };
    assert_eq!((migrated.moved, migrated.left_at_most), (2, 0));
    assert_eq!(table.lookup(entry(1, 5)), Some(id(3)));
}

/// A new swapfile under the type of the position is ahead of the position, whatever its size, and wherever
/// the position was in the first swapfile.
#[test]
fn a_swapfile_that_took_the_place_of_another_between_steps_is_migrated() {
    for (steps, regions) in [(1, 4), (1, 9), (4, 4), (4, 1)] {
        for threads in [1, 4] {
            let table = table(4);
            let ty = SwapType::new(0).unwrap();
            for region in 0..4 {
                table.record(entry(0, region * REGION), id(2)).unwrap();
            }
            let mut migration = table.migration(id(2), id(3));
            for _ in 0..steps {
                assert_eq!(migration.step(1), Step::More);
            }
            assert_eq!(table.swapoff(ty), Ok(4));
            table.swapon(ty, regions * REGION).unwrap();
            for region in 0..regions {
                table.record(entry(0, region * REGION + 7), id(2)).unwrap();
            }
            #[cfg(feature = "std")]
            let migration = migration.threads(threads);
            let migrated = migration.run();
            let what = format!("{steps} steps, {regions} regions, {threads} threads");
            assert_eq!(migrated.moved, steps + regions, "{what}");
            assert_eq!(
                (migrated.left_at_most, table.count(id(2))),
                (0, 0),
                "{what}"
            );
            assert_eq!(
                migrated.chunks_skipped + migrated.chunks_scanned,
                (4 + regions) * CHUNKS
            );
            table.validate().unwrap();
        }
    }
}

#[test]
fn a_swapfile_that_is_turned_on_behind_the_point_is_reported() {
    let table = table(1);
    let (behind, here) = (SwapType::new(0).unwrap(), SwapType::new(1).unwrap());
    table.swapon(here, 4 * REGION).unwrap();
    for offset in [0, REGION] {
        table.record(entry(1, offset), id(2)).unwrap();
    }
    table.record(entry(0, 3), id(2)).unwrap();
    // The migration passes the first type and gets into the second one. The second round does the same while
    // the second type is off.
    let mut migration = table.migration(id(2), id(3));
    assert_eq!(migration.step(2048 + 1), Step::More);
    assert_eq!(table.swapoff(behind), Ok(1));
    table.swapon(behind, REGION).unwrap();
    table.record(entry(0, 4), id(2)).unwrap();
    assert_eq!(migration.so_far().left_at_most, 2);
    table.swapoff(here).unwrap();
    let Step::Done(migrated) = migration.step(u64::MAX) else {
        panic!("the budget was enough");
    };
    assert_eq!((migrated.moved, migrated.left_at_most), (2, 1));
    assert_eq!(table.lookup(entry(0, 4)), Some(id(2)));
}

#[test]
fn a_record_behind_the_point_between_steps_is_reported() {
    let table = table(4);
    for region in 0..4 {
        table.record(entry(0, region * REGION), id(2)).unwrap();
    }
    let mut migration = table.migration(id(2), id(3));
    assert_eq!(migration.step(1), Step::More);
    table.record(entry(0, 5), id(2)).unwrap();
    let Step::Done(migrated) = migration.step(u64::MAX) else {
        panic!("the budget was enough");
    };
    assert_eq!((migrated.moved, migrated.left_at_most), (4, 1));
    assert_eq!(table.count(id(2)), 1);
}

#[test]
fn a_record_ahead_of_the_point_between_steps_is_seen() {
    let table = table(64);
    for region in (0..40).step_by(2) {
        table.record(entry(0, region * REGION), id(2)).unwrap();
    }
    let mut migration = table.migration(id(2), id(3));
    assert_eq!(migration.step(1), Step::More);
    // Between regions at which the first step may have looked ahead.
    table.record(entry(0, 7 * REGION), id(2)).unwrap();
    let Step::Done(migrated) = migration.step(u64::MAX) else {
        panic!("the budget was enough");
    };
    assert_eq!((migrated.moved, migrated.left_at_most), (21, 0));
    assert_eq!(table.count(id(2)), 0);
}

/// Makes a table of two types with enough regions for several threads. Some ids are everywhere, some here and
/// there, and some in two regions only.
#[cfg(feature = "std")]
fn for_threads() -> SwapRecords {
    let regions = if cfg!(miri) { 9 } else { 600 };
    let table = table(regions);
    table
        .swapon(SwapType::new(3).unwrap(), 2 * REGION + 5)
        .unwrap();
    for region in 0..regions {
        let start = entry(0, region * REGION + region % 7);
        table.record_range(start, 3 + region % 5, id(2)).unwrap();
        if region % 3 == 0 {
            table
                .record(entry(0, (region + 1) * REGION - 1), id(2))
                .unwrap();
        }
    }
    table.record(entry(3, 2 * REGION + 4), id(2)).unwrap();
    table
}

/// The scan stops before the last record of a region, because the cell gives its position. The record counts
/// as scanned all the same.
#[test]
#[cfg_attr(
    miri,
    ignore = "chunks are smaller there than what a scan takes at once"
)]
fn the_last_record_counts_as_looked_at_wherever_it_is() {
    const CHUNK: u64 = CHUNK_ENTRIES as u64;
    for (last, chunks) in [(CHUNK - 1, 1), (CHUNK, 2), (3 * CHUNK, 2), (REGION - 1, 2)] {
        for &backend in Backend::ALL {
            let table = table(1).with_backend(backend);
            for offset in [0, last] {
                table.record(entry(0, offset), id(2)).unwrap();
            }
            let migrated = table.migration(id(2), id(3)).run();
            assert_eq!((migrated.moved, migrated.chunks_scanned), (2, chunks));
            // The entries that the scan takes at once, among them the first record, and one for the last.
            let block = migrated.longest_hold - 1;
            assert!(
                block == 1 || block > 1 && block.is_multiple_of(4),
                "{backend}: {block}"
            );
        }
    }
}

/// Each thread reads the hint at least once.
#[test]
#[cfg(feature = "std")]
fn a_thread_is_not_started_for_a_few_regions() {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    let table = table(2);
    table.record(entry(0, 0), id(2)).unwrap();
    table.record(entry(0, REGION), id(2)).unwrap();
    let seen = Mutex::new(BTreeSet::new());
    let hint = || {
        let thread = format!("{:?}", std::thread::current().id());
        seen.lock().unwrap().insert(thread);
        u64::MAX
    };
    let migrated = table
        .migration(id(2), id(9))
        .threads(4)
        .memsw_hint(&hint)
        .run();
    assert_eq!((migrated.moved, seen.into_inner().unwrap().len()), (2, 1));
}

#[test]
#[cfg(feature = "std")]
fn any_number_of_threads_does_what_one_does() {
    let alone = for_threads();
    let expected = alone.migration(id(2), id(3)).run();
    assert!(expected.moved > 0 && expected.left_at_most == 0);
    for threads in [0, 1, 2, 3, 8, 100] {
        let table = for_threads();
        let migrated = table.migration(id(2), id(3)).threads(threads).run();
        assert_eq!(migrated, expected, "{threads} threads");
        assert!(
            SwapType::all().all(|ty| table.runs(ty).eq(alone.runs(ty))),
            "{threads} threads"
        );
        table.validate().unwrap();
    }
}

/// The first thread that reads the hint waits for another one. A migration on one thread would wait forever.
#[test]
#[cfg(feature = "std")]
fn as_many_threads_as_were_asked_for_are_started() {
    use std::collections::BTreeSet;
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    let table = for_threads();
    for threads in [1, 2, 3] {
        let (seen, came) = (Mutex::new(BTreeSet::new()), Condvar::new());
        let hint = || {
            let mut seen = seen.lock().unwrap();
            seen.insert(format!("{:?}", std::thread::current().id()));
            came.notify_all();
            let few = |seen: &mut BTreeSet<_>| seen.len() < threads;
            let waited = came.wait_timeout_while(seen, Duration::from_secs(20), few);
            assert!(!waited.unwrap().1.timed_out(), "a thread is missing");
            u64::MAX
        };
        let migration = table.migration(id(2), id(3)).threads(threads);
        let all = table.count(id(2));
        assert_eq!(migration.memsw_hint(&hint).run().moved, all);
        assert_eq!(seen.into_inner().unwrap().len(), threads);
        assert_eq!(table.migrate(id(3), id(2)), all);
    }
}

#[test]
#[cfg(feature = "std")]
fn threads_go_on_where_a_step_ended() {
    let table = for_threads();
    let all = table.count(id(2));
    let mut migration = table.migration(id(2), id(3)).threads(2);
    assert_eq!(migration.step(1), Step::More);
    let before = migration.so_far();
    assert!(before.moved > 0 && before.moved < all);
    let migrated = migration.run();
    assert_eq!((migrated.moved, migrated.left_at_most), (all, 0));
    assert_eq!(table.count(id(3)), all);

    // It was done before it began.
    let mut migration = table.migration(id(3), id(2)).threads(2);
    while migration.step(u64::MAX) == Step::More {}
    assert_eq!(migration.run().moved, all);
}

#[test]
#[cfg(feature = "std")]
fn a_hint_stops_all_threads() {
    let table = for_threads();
    let all = table.count(id(2));
    let migrated = table
        .migration(id(2), id(3))
        .threads(4)
        .memsw_hint(&0u64)
        .run();
    assert!(migrated.stopped_by_hint);
    assert_eq!((migrated.moved, migrated.chunks_scanned), (0, 0));
    assert_eq!(migrated.left_at_most, all);

    // Each thread may be in a region when the last record of the hint is moved, and no region has more than 8
    // records.
    let half = all / 2;
    let migrated = table
        .migration(id(2), id(3))
        .threads(4)
        .memsw_hint(&half)
        .run();
    assert!(migrated.stopped_by_hint);
    assert!(migrated.moved >= half && migrated.moved <= half + 4 * 8);
    assert_eq!(migrated.left_at_most, all - migrated.moved);

    let migrated = table
        .migration(id(2), id(3))
        .threads(4)
        .memsw_hint(&u64::MAX)
        .run();
    assert!(!migrated.stopped_by_hint);
    assert_eq!(table.count(id(3)), all);
}

#[test]
#[cfg(feature = "std")]
fn a_hint_is_read_even_if_there_is_nothing_to_migrate() {
    let table = SwapRecords::new();
    for threads in [1, 2] {
        let migration = table.migration(id(2), id(3)).threads(threads);
        assert!(migration.memsw_hint(&0u64).run().stopped_by_hint);
        let migration = table.migration(id(2), id(3)).threads(threads);
        assert!(!migration.memsw_hint(&1u64).run().stopped_by_hint);
    }
}

/// The first thread that reads the hint waits until another thread reads it too.
#[test]
#[cfg(feature = "std")]
fn threads_work_at_the_same_time() {
    use std::collections::HashSet;
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    let table = for_threads();
    let (seen, more) = (Mutex::new(HashSet::new()), Condvar::new());
    let hint = || {
        let mut seen = seen.lock().unwrap();
        seen.insert(std::thread::current().id());
        more.notify_all();
        let alone = |seen: &mut HashSet<_>| seen.len() < 2;
        let minute = Duration::from_secs(60);
        let (_seen, waited) = more.wait_timeout_while(seen, minute, alone).unwrap();
        assert!(!waited.timed_out(), "one thread does all of it");
        u64::MAX
    };
    let all = table.count(id(2));
    let migrated = table
        .migration(id(2), id(3))
        .threads(2)
        .memsw_hint(&hint)
        .run();
    assert_eq!(migrated.moved, all);
}

#[test]
#[cfg(feature = "std")]
fn a_panic_of_a_hint_reaches_the_caller_and_breaks_nothing() {
    let table = for_threads();
    let all = table.count(id(2));
    let asked = AtomicUsize::new(0);
    let hint = || {
        assert!(asked.fetch_add(1, Ordering::Relaxed) < 40, "no hint");
        u64::MAX
    };
    let run = || {
        table
            .migration(id(2), id(3))
            .threads(3)
            .memsw_hint(&hint)
            .run()
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    table.validate().unwrap();
    assert_eq!(table.count(id(2)) + table.count(id(3)), all);
    table.migrate(id(2), id(3));
    assert_eq!(table.count(id(3)), all);
}

#[test]
fn no_hold_looks_at_more_than_a_region() {
    let table = table(3);
    table.record_range(entry(0, 0), 3 * REGION, id(1)).unwrap();
    let migrated = table.migration(id(1), id(2)).run();
    assert_eq!(migrated.longest_hold, REGION);
    assert_eq!(table.migration(id(1), id(2)).run().longest_hold, 0);
}
