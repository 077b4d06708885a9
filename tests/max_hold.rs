//! Migrations with a limit on the entries per hold of a lock. A region is then migrated in parts.

mod hooked;

use std::cell::RefCell;
use std::rc::Rc;

use hooked::{Event, Hooked};
use lock_api::RawMutex;
use swap_records::memcg::Memcgs;
use swap_records::{
    CHUNK_ENTRIES, MemcgId, Migrated, REGION_ENTRIES, RawSpinLock, Step, SwapEntry, SwapRecords,
    SwapType,
};

const REGION: u64 = REGION_ENTRIES as u64;
const CHUNK: u64 = CHUNK_ENTRIES as u64;
const CHUNKS: u64 = REGION / CHUNK;
const TYPE: SwapType = SwapType::new(0).unwrap();
const A: MemcgId = MemcgId::new(1).unwrap();
const B: MemcgId = MemcgId::new(2).unwrap();
const C: MemcgId = MemcgId::new(3).unwrap();
/// This id shares the counter of A.
const SHARED: MemcgId = MemcgId::new(4097).unwrap();

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

fn table<L: RawMutex>(pages: u64) -> SwapRecords<L> {
    let table = SwapRecords::with_raw_mutex();
    table.swapon(TYPE, pages).unwrap();
    table
}

fn number(table: &SwapRecords<impl RawMutex>, id: MemcgId) -> u64 {
    table.runs_of(id).map(|run| run.len).sum()
}

/// Settings, and the limits that they stand for.
const SETTINGS: [(usize, u64); 8] = [
    (0, CHUNK),
    (CHUNK_ENTRIES, CHUNK),
    (2 * CHUNK_ENTRIES - 1, CHUNK),
    (3 * CHUNK_ENTRIES, 2 * CHUNK),
    (4 * CHUNK_ENTRIES, 4 * CHUNK),
    (REGION_ENTRIES - 1, REGION / 2),
    (REGION_ENTRIES, REGION),
    (usize::MAX, REGION),
];

/// Returns the owner of a slot, for a table of less than three regions. A owns all slots, many, few, or the
/// ends only.
fn owner(map: usize, offset: u64) -> Option<MemcgId> {
    match map {
        0 => Some(A),
        1 => [A, B, SHARED][(offset % 7 % 3) as usize].into(),
        2 => (offset % (CHUNK / 2 + 3) == 1).then_some(A),
        3 => [0, REGION - 200].contains(&(offset % REGION)).then_some(A),
        _ => (offset % 500 == 7).then_some(if offset.is_multiple_of(3) { A } else { SHARED }),
    }
}

/// Counts the changes from one unlock to the next, not the numbers of the report.
#[test]
fn no_hold_changes_more_entries_than_it_may_and_the_index_is_right_after_each() {
    const PAGES: u64 = 2 * REGION + 5 * CHUNK / 2;
    for (setting, most) in SETTINGS {
        for map in 0..5 {
            let table: Rc<SwapRecords<Hooked>> = Rc::new(table(PAGES));
            let owners: Vec<_> = (0..PAGES).map(|at| owner(map, at)).collect();
            let slots = owners
                .iter()
                .zip(0..)
                .filter_map(|(owner, at)| Some((entry(at), (*owner)?)));
            table
                .record_batch_ids(&slots.collect::<Vec<_>>(), |_, _| ())
                .unwrap();
            let before = (number(&table, A), number(&table, B));
            let holds = Rc::new(RefCell::new(Vec::new()));
            let seen = (Rc::clone(&table), Rc::clone(&holds));
            let hook = move |event| {
                let (table, holds) = &seen;
                if event == Event::Unlocked {
                    holds.borrow_mut().push(number(table, B));
                    table.validate().unwrap();
                }
            };
            let migration = table.migration(A, B).max_hold(setting);
            let migrated = hooked::each(hook, || migration.run());
            let mut last = before.1;
            for &now in holds.borrow().iter() {
                assert!(
                    now - last <= most,
                    "{setting}, map {map}: {last} and then {now}"
                );
                last = now;
            }
            assert_eq!(migrated.moved, before.0, "{setting}, map {map}");
            assert!(
                migrated.longest_hold <= most,
                "{setting}, map {map}: {migrated}"
            );
            let chunks = PAGES.div_ceil(CHUNK);
            assert_eq!(migrated.chunks_scanned + migrated.chunks_skipped, chunks);
            let holds = holds.borrow().len() as u64;
            if map < 2 {
                // All of it is scanned. A part may leave its last record to another hold.
                let parts = 2 * REGION / most + (5 * CHUNK / 2).div_ceil(most);
                assert!(
                    (parts..=parts + 3).contains(&holds),
                    "{holds} holds for {parts} parts"
                );
            }
            for (at, owner) in (0..).zip(owners) {
                let heir = if owner == Some(A) { Some(B) } else { owner };
                assert_eq!(table.lookup(entry(at)), heir, "{setting}, map {map}: {at}");
            }
        }
    }
}

/// Calls `between` after two parts of the first region are done, and then finishes the migration.
fn after_two_parts(between: impl FnOnce(&SwapRecords)) -> (SwapRecords, Migrated) {
    let table: SwapRecords = table(2 * REGION);
    table.record_range(entry(0), 4 * CHUNK, A).unwrap();
    let mut migration = table.migration(A, B).max_hold(CHUNK_ENTRIES);
    for part in 1..=2 {
        assert_eq!(migration.step(1), Step::More);
        assert_eq!(migration.so_far().moved, part * CHUNK);
        assert_eq!(
            (table.count(A), table.count(B)),
            ((4 - part) * CHUNK, part * CHUNK)
        );
        table.validate().unwrap();
    }
    between(&table);
    table.validate().unwrap();
    let migrated = migration.run();
    table.validate().unwrap();
    (table, migrated)
}

#[test]
fn a_record_between_two_parts_is_moved_if_it_lies_ahead_and_counted_if_it_stays() {
    let (table, migrated) = after_two_parts(|table| {
        // Two behind, two ahead in the same region, and one in the next region.
        for offset in [0, 2 * CHUNK - 1, 5 * CHUNK, REGION - 1, REGION + 9] {
            table.record(entry(offset), A).unwrap();
        }
    });
    assert_eq!((migrated.moved, migrated.left_at_most), (4 * CHUNK + 3, 2));
    for (offset, owner) in [
        (0, A),
        (2 * CHUNK - 1, A),
        (5 * CHUNK, B),
        (REGION - 1, B),
        (REGION + 9, B),
    ] {
        assert_eq!(table.lookup(entry(offset)), Some(owner), "{offset}");
    }
    assert_eq!(table.count(A), 2, "its presence bit is still set");
    assert_eq!(table.migrate(A, B), 2);
}

#[test]
fn a_last_record_that_is_written_behind_is_moved_and_its_chunk_is_not_counted_twice() {
    let (table, migrated) = after_two_parts(|table| {
        table.clear_range(entry(2 * CHUNK), 2 * CHUNK).unwrap();
        table.record(entry(5), A).unwrap();
    });
    assert_eq!((migrated.moved, migrated.left_at_most), (2 * CHUNK + 1, 0));
    assert_eq!(
        (migrated.chunks_scanned, migrated.chunks_skipped),
        (2, 2 * CHUNKS - 2)
    );
    assert_eq!(table.lookup(entry(5)), Some(B));
}

/// The presence bit of the region was clear between the two parts.
#[test]
fn a_region_that_was_emptied_between_two_parts_is_continued_where_it_was() {
    let (table, migrated) = after_two_parts(|table| {
        table.clear_range(entry(0), REGION).unwrap();
        table.validate().unwrap();
        table.record_range(entry(6 * CHUNK), 3, A).unwrap();
        table.record_range(entry(3), 3, A).unwrap();
    });
    assert_eq!((migrated.moved, migrated.left_at_most), (2 * CHUNK + 3, 3));
    assert_eq!(table.lookup(entry(6 * CHUNK + 1)), Some(B));
    assert_eq!(table.lookup(entry(3)), Some(A));
}

#[test]
fn a_swapfile_that_was_replaced_between_two_parts_is_begun_anew() {
    let (table, migrated) = after_two_parts(|table| {
        table.swapoff(TYPE).unwrap();
        table.swapon(TYPE, REGION).unwrap();
        table.record_range(entry(0), 3 * CHUNK, A).unwrap();
    });
    assert_eq!((migrated.moved, migrated.left_at_most), (5 * CHUNK, 0));
    assert_eq!(table.count(B), 3 * CHUNK);
}

/// Within one step, a migration belongs to the swapfile that it began with.
#[test]
fn a_migration_whose_swapfile_goes_between_two_parts_writes_nothing_to_the_next_one() {
    static TABLE: SwapRecords<Hooked> = SwapRecords::with_raw_mutex();
    for parts in 1..4 {
        TABLE.swapon(TYPE, REGION).unwrap();
        TABLE.record_range(entry(0), REGION, A).unwrap();
        let another = || {
            assert_eq!(TABLE.swapoff(TYPE), Ok(REGION));
            TABLE.swapon(TYPE, REGION).unwrap();
            TABLE.record_range(entry(0), REGION, A).unwrap();
        };
        let migrate = || TABLE.migration(A, B).max_hold(CHUNK_ENTRIES).run();
        let (migrated, _) = hooked::at(Event::Lock, parts, another, migrate);
        assert_eq!(
            (migrated.moved, migrated.left_at_most),
            (parts as u64 * CHUNK, REGION)
        );
        assert_eq!(number(&TABLE, A), REGION);
        TABLE.validate().unwrap();
        TABLE.swapoff(TYPE).unwrap();
    }
}

/// The first record is the last entry of the first part. The cell then gives the position of the second one.
#[test]
fn a_part_that_is_scanned_whole_leaves_the_last_record_to_the_next_hold() {
    let table: SwapRecords<Hooked> = table(REGION);
    for offset in [CHUNK - 1, REGION - 1] {
        table.record(entry(offset), A).unwrap();
    }
    let holds = hooked::count(Event::Unlocked, || {
        let migrated = table.migration(A, B).max_hold(CHUNK_ENTRIES).run();
        assert_eq!((migrated.moved, migrated.left_at_most), (2, 0));
        assert_eq!((migrated.longest_hold, migrated.chunks_scanned), (CHUNK, 2));
    });
    assert_eq!(holds, 2);
    table.validate().unwrap();
}

/// The cell counts two records. The scan finds one of them, and passes the other one, which belongs to another id.
#[test]
fn a_part_that_passed_the_record_of_an_id_that_shares_the_counter_is_the_last_one() {
    let table: SwapRecords<Hooked> = table(2 * REGION);
    for region in [0, REGION] {
        table.record(entry(region + 1), SHARED).unwrap();
        table.record(entry(region + 400), A).unwrap();
    }
    let holds = hooked::count(Event::Unlocked, || {
        let migrated = table.migration(A, B).max_hold(REGION_ENTRIES / 2).run();
        assert_eq!((migrated.moved, migrated.chunks_scanned), (2, 2));
    });
    assert_eq!(holds, 2, "one for each region");
    assert_eq!(table.lookup(entry(1)), Some(SHARED));
    table.validate().unwrap();
}

#[test]
fn a_hint_ends_a_migration_within_a_region() {
    let table: SwapRecords = table(2 * REGION);
    table.record_range(entry(0), 2 * REGION, A).unwrap();
    let migrated = table
        .migration(A, B)
        .memsw_hint(&(3 * CHUNK))
        .max_hold(CHUNK_ENTRIES)
        .run();
    assert_eq!(
        (migrated.moved, migrated.left_at_most),
        (3 * CHUNK, 2 * REGION - 3 * CHUNK)
    );
    assert!(migrated.stopped_by_hint);
    assert_eq!(
        (migrated.chunks_scanned, migrated.chunks_skipped),
        (3, 2 * CHUNKS - 3)
    );
    table.validate().unwrap();
}

/// Each part begins at a multiple of its length, whatever the lengths of the previous parts were.
#[test]
fn the_most_of_a_hold_may_change_between_two_steps() {
    let table: SwapRecords = table(REGION);
    table.record_range(entry(0), REGION, A).unwrap();
    let settings = [1, 4, 2, 16, 1, 1, 16, 2].map(|chunks| chunks * CHUNK_ENTRIES);
    let mut migration = table.migration(A, B);
    let mut moved = Vec::new();
    for setting in settings {
        migration = migration.max_hold(setting);
        let before = migration.so_far().moved;
        let _ = migration.step(1);
        moved.push((migration.so_far().moved - before) / CHUNK);
        table.validate().unwrap();
        assert_eq!(number(&table, B), migration.so_far().moved);
    }
    // A part is no longer than the lowest set bit of its first position.
    assert_eq!(moved, [1, 1, 2, 4, 1, 1, 2, 2]);
    let migrated = migration.run();
    assert_eq!((migrated.moved, migrated.chunks_scanned), (REGION, CHUNKS));
}

/// Threads claim whole regions, after the region that a step has left half done.
#[cfg(feature = "std")]
#[test]
fn threads_go_on_within_the_region_that_a_step_has_begun() {
    let regions = if cfg!(miri) { 8 } else { 700 };
    for steps in [0, 1, 3] {
        let table: SwapRecords = table(regions * REGION);
        for region in 0..regions {
            table.record_range(entry(region * REGION), 4, A).unwrap();
            table
                .record_range(entry(region * REGION + 9 * CHUNK), 2, A)
                .unwrap();
        }
        table.record_range(entry(0), REGION, A).unwrap();
        let mut migration = table.migration(A, B).max_hold(2 * CHUNK_ENTRIES).threads(3);
        for _ in 0..steps {
            assert_eq!(migration.step(1), Step::More);
        }
        let migrated = migration.run();
        assert_eq!(
            (migrated.moved, migrated.left_at_most),
            (REGION + 6 * (regions - 1), 0)
        );
        assert!(migrated.longest_hold <= 2 * CHUNK);
        assert_eq!(
            migrated.chunks_scanned + migrated.chunks_skipped,
            regions * CHUNKS
        );
        table.validate().unwrap();
    }
}

#[test]
fn a_tree_migrates_in_holds_of_the_chosen_length() {
    for (setting, most) in SETTINGS {
        let memcgs = Memcgs::<RawSpinLock>::with_raw_mutex().with_max_hold(setting);
        memcgs.swapon(TYPE, REGION).unwrap();
        let child = memcgs.create(memcgs.root()).unwrap();
        memcgs.charge(child, REGION).unwrap();
        memcgs.swap_out(child, entry(0), REGION).unwrap();
        let early = memcgs.css_offline(child, 1).unwrap();
        assert_eq!((early.moved, early.longest_hold), (most, most), "{setting}");
        let last = memcgs.css_free(child).unwrap();
        assert_eq!(
            (last.moved, last.left_at_most),
            (REGION - most, 0),
            "{setting}"
        );
        assert!(last.longest_hold <= most, "{setting}: {last}");
        assert_eq!(memcgs.usage(memcgs.root()).unwrap().swap, REGION);
    }
}

/// During a migration in small parts, records of a third id are kept, and those of the old id are counted.
#[test]
fn threads_that_write_between_the_parts_lose_nothing() {
    let rounds = if cfg!(miri) { 1 } else { 20 };
    for round in 0..rounds {
        let table: SwapRecords = table(2 * REGION);
        table.record_range(entry(0), 2 * REGION, A).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut random = fastrand::Rng::with_seed(round);
                let mut written = std::collections::BTreeMap::new();
                for _ in 0..if cfg!(miri) { 20 } else { 5000 } {
                    let (offset, id) =
                        (random.u64(..2 * REGION), if random.bool() { A } else { C });
                    table.record(entry(offset), id).unwrap();
                    written.insert(offset, id);
                }
                written
            });
            let migrated = table.migration(A, B).max_hold(CHUNK_ENTRIES).run();
            let written = writer.join().unwrap();
            table.validate().unwrap();
            for offset in 0..2 * REGION {
                let owner = table.lookup(entry(offset)).unwrap();
                match written.get(&offset) {
                    None => assert_eq!(owner, B, "{offset} is left"),
                    Some(&C) => assert_eq!(owner, C),
                    Some(_) => assert!(owner == A || owner == B),
                }
            }
            assert!(migrated.longest_hold <= CHUNK);
        });
        let left = table.count(A);
        assert_eq!(
            table.migration(A, B).max_hold(CHUNK_ENTRIES).run().moved,
            left
        );
        assert_eq!(table.count(A), 0);
    }
}
