//! Which ids have records, and how many: from the index, or by a scan if ids share a counter.

use swap_records::memcg::Memcgs;
use swap_records::{MemcgId, REGION_ENTRIES, SwapEntry, SwapRecords, SwapType};

const REGION: u64 = REGION_ENTRIES as u64;
/// The distance of two ids that share a counter.
const COUNTERS: u16 = if cfg!(miri) { 16 } else { 4096 };

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn ty(ty: u8) -> SwapType {
    SwapType::new(ty).unwrap()
}

fn entry(of: u8, offset: u64) -> SwapEntry {
    SwapEntry::new(ty(of), offset).unwrap()
}

#[test]
fn owners_come_lowest_first_each_with_the_sum_over_all_types() {
    let table = SwapRecords::new();
    assert_eq!(table.owners().next(), None, "all types are off");
    table.swapon(ty(0), 3 * REGION).unwrap();
    table.swapon(ty(31), 100).unwrap();
    assert_eq!(table.owners().next(), None);
    for (start, nr, owner) in [
        (entry(0, 5), 1, 7),
        (entry(0, REGION - 3), 9, 2),
        (entry(31, 90), 10, 7),
        (entry(31, 0), 2, u16::MAX),
        (entry(0, 2 * REGION), REGION, 1),
    ] {
        table.record_range(start, nr, id(owner)).unwrap();
    }
    let all = [(1, REGION), (2, 9), (7, 11), (u16::MAX, 2)].map(|(owner, nr)| (id(owner), nr));
    assert!(table.owners().eq(all));
    assert!(
        table
            .owners_on(ty(0))
            .eq([(id(1), REGION), (id(2), 9), (id(7), 1)])
    );
    assert!(table.owners_on(ty(31)).eq([(id(7), 10), (id(u16::MAX), 2)]));
    assert_eq!(table.owners_on(ty(1)).next(), None);
    for (owner, nr) in all {
        assert_eq!(table.count(owner), nr);
        let on = [0, 1, 31].map(|of| table.count_on(ty(of), owner));
        assert_eq!((on.iter().sum::<u64>(), on[1]), (nr, 0));
    }
    assert_eq!(table.count_upper_bound_on(ty(31), id(7)), 10);
    assert_eq!(table.count_upper_bound_on(ty(2), id(7)), 0);
    assert_eq!(table.swapoff(ty(31)), Ok(12));
    assert!(table.owners().eq(table.owners_on(ty(0))));
}

/// The index counts the lowest id of a counter until an id that shares the counter is recorded in any way.
/// Then the entries are scanned.
#[test]
fn every_way_to_record_an_id_that_shares_a_counter_is_noticed() {
    const LOW: u16 = 5;
    let (low, other, high) = (id(LOW), id(9), id(LOW + COUNTERS));
    let at = |offset| entry(0, offset);
    type Way = (&'static str, fn(&SwapRecords, MemcgId));
    let ways: [Way; 9] = [
        ("record", |table, high| {
            assert_eq!(table.record(entry(0, 40), high), Ok(None));
            assert_eq!(table.record(entry(0, 41), high), Ok(None));
        }),
        ("record over another", |table, high| {
            assert_eq!(table.record(entry(0, 20), high), Ok(Some(id(9))));
            assert_eq!(table.record(entry(0, 21), high), Ok(Some(id(9))));
        }),
        (
            "record over the one that it shares the counter with",
            |table, high| {
                assert_eq!(table.record(entry(0, 2), high), Ok(Some(id(LOW))));
                assert_eq!(table.record(entry(0, 3), high), Ok(Some(id(LOW))));
            },
        ),
        ("cmpxchg", |table, high| {
            for offset in [20, 21] {
                _ = table.cmpxchg(entry(0, offset), id(9), high).unwrap();
            }
        }),
        ("record_range of one owner", |table, high| {
            drop(table.record_range(entry(0, 20), 2, high).unwrap());
        }),
        ("record_range of many owners", |table, high| {
            drop(table.record_range(entry(0, 19), 2, high).unwrap());
        }),
        ("migrate of one record in each region", |table, high| {
            table.record(entry(0, 50), id(10)).unwrap();
            table.record(entry(0, REGION + 50), id(10)).unwrap();
            assert_eq!(table.migrate(id(10), high), 2);
        }),
        ("migrate of several records in a region", |table, high| {
            table.record_range(entry(0, 50), 2, id(10)).unwrap();
            assert_eq!(table.migrate(id(10), high), 2);
        }),
        (
            "migrate from the one that it shares the counter with",
            |table, high| {
                assert_eq!(table.migrate(id(LOW), high), 10);
                table.record_range(entry(0, 2), 8, id(LOW)).unwrap();
            },
        ),
    ];
    for (way, write) in ways {
        let table = SwapRecords::new();
        table.swapon(ty(0), 2 * REGION).unwrap();
        table.record_range(at(0), 10, low).unwrap();
        table.record_range(at(20), 10, other).unwrap();
        write(&table, high);
        table
            .validate()
            .unwrap_or_else(|found| panic!("{way}: {found}"));
        let mut there = [0; 3];
        for offset in 0..REGION + 60 {
            let owner = table.lookup(at(offset));
            let which = [low, other, high].iter().position(|&id| owner == Some(id));
            there[which.unwrap_or(0)] += u64::from(which.is_some());
        }
        assert_eq!(there[2], 2, "{way}");
        let all = [(low, there[0]), (other, there[1]), (high, there[2])];
        assert!(
            table.owners().eq(all),
            "{way}: {all:?}, not {:?}",
            table.owners().collect::<Vec<_>>()
        );
        for (id, nr) in all {
            assert_eq!(table.count(id), nr, "{way}: {id}");
        }
        assert_eq!(table.count_upper_bound(low), there[0] + there[2], "{way}");
        // All of it is forgotten with the swapfile.
        table.swapoff(ty(0)).unwrap();
        table.swapon(ty(0), 2 * REGION).unwrap();
        assert_eq!(table.owners().next(), None, "{way}");
        assert_eq!((table.count(low), table.count(high)), (0, 0));
    }
}

/// `move_swap_account` moves the records of a part of a region, by code of its own.
#[test]
fn an_account_that_moves_to_an_id_that_shares_a_counter_is_noticed() {
    let memcgs = Memcgs::new();
    memcgs.swapon(ty(0), 100).unwrap();
    let root = memcgs.root();
    let from = memcgs.create(root).unwrap();
    let to = memcgs
        .create_with_id(root, id(from.id().get() + COUNTERS))
        .unwrap();
    memcgs.charge(from, 10).unwrap();
    memcgs.swap_out(from, entry(0, 0), 10).unwrap();
    memcgs.move_swap_account(entry(0, 3), 4, from, to).unwrap();
    let records = memcgs.records();
    assert!(records.owners().eq([(from.id(), 6), (to.id(), 4)]));
    assert!(records.owners_on(ty(0)).eq(records.owners()));
    let count = |id| (records.count(id), records.count_on(ty(0), id));
    assert_eq!((count(from.id()), count(to.id())), ((6, 6), (4, 4)));
    assert_eq!(records.count_upper_bound_on(ty(0), to.id()), 10);
    memcgs.validate().unwrap();
}

/// Shared counters of one type do not cause scans of another type, and the other way round.
#[test]
fn a_counter_that_is_shared_on_one_type_is_summed_over_all() {
    let table = SwapRecords::new();
    for of in 0..3 {
        table.swapon(ty(of), REGION).unwrap();
    }
    let (low, high) = (id(3), id(3 + COUNTERS));
    table.record_range(entry(0, 0), 5, low).unwrap();
    table.record_range(entry(1, 0), 6, low).unwrap();
    table.record_range(entry(1, 9), 2, high).unwrap();
    table.record_range(entry(2, 9), 3, high).unwrap();
    assert!(table.owners().eq([(low, 11), (high, 5)]));
    assert_eq!((table.count(low), table.count(high)), (11, 5));
    // The id has no records any more. Its counter is still known to be shared.
    table.migrate(high, low);
    assert!(table.owners().eq([(low, 16)]));
    table.migrate(low, high);
    assert!(table.owners().eq([(high, 16)]));
}

/// Multiples of 4096 share the counter 0, which no id below 4096 has.
#[test]
fn ids_that_are_a_multiple_of_the_number_of_counters_are_found() {
    let table = SwapRecords::new();
    table.swapon(ty(0), REGION).unwrap();
    for (offset, owner) in [(0, COUNTERS), (1, 2 * COUNTERS), (2, 2 * COUNTERS)] {
        table.record(entry(0, offset), id(owner)).unwrap();
    }
    let all = [(id(COUNTERS), 1), (id(2 * COUNTERS), 2)];
    assert!(table.owners().eq(all));
    assert_eq!(table.owners().size_hint().0, 0);
    assert!(table.owners().size_hint().1.unwrap() >= 2);
}

#[test]
fn an_iteration_goes_on_while_its_own_thread_writes_and_stays_at_its_end() {
    let table = SwapRecords::new();
    table.swapon(ty(0), REGION).unwrap();
    for owner in 1..=3 {
        table.record(entry(0, owner.into()), id(owner)).unwrap();
    }
    let mut owners = table.owners();
    assert_eq!(owners.next(), Some((id(1), 1)));
    let rest = owners.clone();
    // These come later in the order of ids, far enough ahead to be seen.
    let far = id(COUNTERS - 1);
    table.record(entry(0, 9), far).unwrap();
    table.record(entry(0, 10), id(COUNTERS)).unwrap();
    assert!(
        owners
            .by_ref()
            .eq([(id(2), 1), (id(3), 1), (far, 1), (id(COUNTERS), 1)])
    );
    assert_eq!(owners.next(), None);
    table.record(entry(0, 11), id(u16::MAX)).unwrap();
    assert_eq!((owners.next(), owners.next()), (None, None));
    assert_eq!(rest.count(), 5);

    // A swapoff ends the iteration, or removes the rest of this type.
    let mut owners = table.owners();
    assert_eq!(owners.next(), Some((id(1), 1)));
    table.swapoff(ty(0)).unwrap();
    assert!(owners.all(|(id, _)| id.get() < 64));
    assert_eq!(owners.next(), None);
}
