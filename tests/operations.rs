//! What each operation does at its borders, and what it refuses.

use swap_records::{
    CHUNK_ENTRIES, EntryError, Exchange, MemcgId, REGION_ENTRIES, Run, SwapEntry, SwapRecords,
    SwapType, SwaponError,
};

fn ty(ty: u8) -> SwapType {
    SwapType::new(ty).unwrap()
}

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(t: u8, offset: u64) -> SwapEntry {
    SwapEntry::new(ty(t), offset).unwrap()
}

fn table(max_pages: u64) -> SwapRecords {
    let table = SwapRecords::new();
    table.swapon(ty(0), max_pages).unwrap();
    table
}

const REGION: u64 = REGION_ENTRIES as u64;

#[test]
fn a_static_table_needs_no_set_up() {
    static TABLE: SwapRecords = SwapRecords::new();
    assert_eq!(TABLE.lookup(entry(0, 0)), None);
    TABLE.swapon(ty(0), 1).unwrap();
    assert_eq!(TABLE.record(entry(0, 0), id(1)), Ok(None));
    assert_eq!(format!("{TABLE:?}"), "{0: 1 pages}");
}

#[test]
fn a_table_is_shared_between_threads_if_its_lock_is() {
    fn shared<T: Send + Sync>() {}
    shared::<SwapRecords>();
    shared::<SwapRecords<parking_lot::RawMutex>>();
    // A line or two per type. Cache lines of s390x have 256 bytes.
    assert!(size_of::<SwapRecords>() <= 33 * align_of::<SwapRecords>().max(128));
}

#[test]
fn operations_on_a_type_that_is_off_are_refused() {
    let table = SwapRecords::new();
    let ent = entry(3, 17);
    let off = EntryError::TypeOff {
        ty: ty(3),
        offset: Some(17),
    };
    assert_eq!(table.record(ent, id(1)), Err(off));
    assert_eq!(table.clear(ent), Err(off));
    assert_eq!(table.cmpxchg(ent, None, id(1)), Err(off));
    assert_eq!(table.record_range(ent, 0, id(1)), Err(off));
    assert_eq!(table.clear_range(ent, 9), Err(off));
    let all_off = EntryError::TypeOff {
        ty: ty(3),
        offset: None,
    };
    assert_eq!(table.swapoff(ty(3)), Err(all_off));
    assert_eq!(table.lookup(ent), None);
    assert_eq!(table.max_pages(ty(3)), None);
    assert_eq!((table.count(id(1)), table.count_upper_bound(id(1))), (0, 0));
    assert_eq!(
        (table.runs(ty(3)).count(), table.runs_of(id(1)).count()),
        (0, 0)
    );
    assert_eq!(table.migrate(id(1), id(2)), 0);
}

#[test]
fn the_last_slot_can_be_recorded_and_the_next_cannot() {
    for max_pages in [1, 2, REGION - 1, REGION, REGION + 1] {
        let table = table(max_pages);
        let (last, past) = (entry(0, max_pages - 1), entry(0, max_pages));
        assert_eq!(table.record(last, id(9)), Ok(None));
        assert_eq!(table.lookup(last), Some(id(9)));
        let out = EntryError::OutOfRange {
            start: past,
            nr: 1,
            max_pages,
        };
        assert_eq!(table.record(past, id(9)), Err(out));
        assert_eq!(table.clear(past), Err(out));
        assert_eq!(table.cmpxchg(past, None, id(9)), Err(out));
        assert_eq!(table.lookup(past), None);
        assert_eq!(table.count(id(9)), 1);
        table.validate().unwrap();
    }
}

#[test]
fn a_range_that_ends_past_the_last_slot_is_refused_whole() {
    let table = table(REGION + 10);
    for (offset, nr) in [
        (REGION, 11),
        (0, REGION + 11),
        (REGION + 10, 1),
        (REGION + 11, 0),
        (5, u64::MAX),
        (SwapEntry::MAX_OFFSET, u64::MAX),
    ] {
        let start = entry(0, offset);
        let out = EntryError::OutOfRange {
            start,
            nr,
            max_pages: REGION + 10,
        };
        assert_eq!(table.record_range(start, nr, id(1)), Err(out));
        assert_eq!(table.clear_range(start, nr), Err(out));
    }
    assert_eq!(table.count(id(1)), 0);
    assert!(
        table
            .record_range(entry(0, REGION + 10), 0, id(1))
            .unwrap()
            .is_empty()
    );
    assert!(
        table
            .record_range(entry(0, 0), REGION + 10, id(1))
            .unwrap()
            .is_empty()
    );
    assert_eq!(table.count(id(1)), REGION + 10);
}

#[test]
fn swapon_refuses_sizes_that_it_cannot_serve() {
    let table = table(100);
    assert_eq!(
        table.swapon(ty(0), 200),
        Err(SwaponError::TypeOn { ty: ty(0) })
    );
    assert_eq!(table.max_pages(ty(0)), Some(100));
    assert_eq!(
        table.swapon(ty(1), 0),
        Err(SwaponError::NoPages { ty: ty(1) })
    );
    for pages in [u64::MAX, SwapEntry::MAX_OFFSET + 2] {
        let refused = table.swapon(ty(1), pages).unwrap_err();
        assert!(matches!(refused, SwaponError::TooLarge { max_pages, .. } if max_pages == pages));
    }
    // 2^50 pages take 2 PiB of table, more than any address space has today. On 32 bits, a larger size cannot
    // even be written. Miri aborts instead of refusing.
    #[cfg(all(target_pointer_width = "64", not(miri)))]
    {
        let refused = table.swapon(ty(1), SwapEntry::MAX_OFFSET + 1).unwrap_err();
        assert!(matches!(refused, SwaponError::OutOfMemory { bytes, .. } if bytes >= 1 << 51));
    }
    assert_eq!(table.max_pages(ty(1)), None);
    // The type is still off, and can be turned on.
    table.swapon(ty(1), 7).unwrap();
    assert_eq!(table.max_pages(ty(1)), Some(7));
}

#[test]
fn swapoff_counts_what_it_drops_and_leaves_nothing() {
    let table = table(2 * REGION + 5);
    table.record_range(entry(0, 3), 2 * REGION, id(1)).unwrap();
    table.record(entry(0, 2 * REGION + 4), id(65535)).unwrap();
    assert_eq!(table.swapoff(ty(0)), Ok(2 * REGION + 1));
    assert_eq!(table.lookup(entry(0, 3)), None);
    assert_eq!(table.count(id(1)), 0);
    // The same size uses the same area again, which must be empty.
    table.swapon(ty(0), 2 * REGION + 5).unwrap();
    assert_eq!(table.runs(ty(0)).count(), 0);
    table.validate().unwrap();
    assert_eq!(table.swapoff(ty(0)), Ok(0));
    // Other sizes use other areas.
    for max_pages in [1, REGION, 9 * REGION, 3 * REGION] {
        table.swapon(ty(0), max_pages).unwrap();
        table.record_range(entry(0, 0), max_pages, id(2)).unwrap();
        table.validate().unwrap();
        assert_eq!(table.swapoff(ty(0)), Ok(max_pages));
    }
}

#[test]
fn cmpxchg_tells_who_the_owner_is() {
    let table = table(10);
    let ent = entry(0, 5);
    assert_eq!(
        table.cmpxchg(ent, id(1), id(2)),
        Ok(Exchange::Mismatch(None))
    );
    assert_eq!(table.cmpxchg(ent, None, id(1)), Ok(Exchange::Stored));
    assert_eq!(
        table.cmpxchg(ent, None, id(2)),
        Ok(Exchange::Mismatch(Some(id(1))))
    );
    assert_eq!(table.cmpxchg(ent, id(1), id(1)), Ok(Exchange::Stored));
    assert_eq!(table.cmpxchg(ent, id(1), id(2)), Ok(Exchange::Stored));
    assert_eq!(table.cmpxchg(ent, id(2), None), Ok(Exchange::Stored));
    assert_eq!(table.cmpxchg(ent, None, None), Ok(Exchange::Stored));
    assert_eq!((table.count(id(1)), table.count(id(2))), (0, 0));
    table.validate().unwrap();
}

#[test]
fn a_record_of_the_present_owner_counts_once() {
    let table = table(2 * REGION);
    let chunk = CHUNK_ENTRIES as u64;
    // One slot, in both ways; a part of a region; a whole region; and a range over the border.
    for (offset, nr) in [(5, 1), (7, chunk), (REGION, REGION), (REGION - 9, 20)] {
        let start = entry(0, offset);
        table.record_range(start, nr, id(3)).unwrap();
        for _ in 0..3 {
            let all = Run {
                start,
                len: nr,
                id: id(3),
            };
            assert_eq!(*table.record_range(start, nr, id(3)).unwrap(), [all]);
            assert_eq!(table.record(start, id(3)), Ok(Some(id(3))));
            assert_eq!(table.cmpxchg(start, id(3), id(3)), Ok(Exchange::Stored));
            assert_eq!(
                (table.count(id(3)), table.count_upper_bound(id(3))),
                (nr, nr)
            );
            table.validate().unwrap();
        }
        // If the id owns only some of the slots, these count once as well.
        table.record(entry(0, offset + nr / 2), id(4)).unwrap();
        table.record_range(start, nr, id(3)).unwrap();
        assert_eq!(
            (table.count_upper_bound(id(3)), table.count(id(4))),
            (nr, 0)
        );
        table.validate().unwrap();
        table.clear_range(start, nr).unwrap();
        // Clearing empty slots changes nothing either.
        table.clear_range(start, nr).unwrap();
        assert_eq!(
            (table.clear(start), table.count_upper_bound(id(3))),
            (Ok(None), 0)
        );
        table.validate().unwrap();
    }
}

#[test]
fn a_range_gives_the_owners_that_it_had_as_runs() {
    let table = table(2 * REGION);
    // More runs than fit inline, and more than one hold of a lock notes. One run crosses two regions.
    for i in 0..100 {
        table.record(entry(0, 2 * i), id(1)).unwrap();
    }
    table.record_range(entry(0, REGION - 4), 8, id(2)).unwrap();
    let had = table.record_range(entry(0, 0), 2 * REGION, id(3)).unwrap();
    assert_eq!(had.len(), 101);
    for (i, run) in had.iter().take(100).enumerate() {
        let start = entry(0, 2 * i as u64);
        assert_eq!(
            *run,
            Run {
                start,
                len: 1,
                id: id(1)
            }
        );
    }
    let start = entry(0, REGION - 4);
    assert_eq!(
        had[100],
        Run {
            start,
            len: 8,
            id: id(2)
        }
    );
    let had = table.clear_range(entry(0, 1), 2 * REGION - 1).unwrap();
    let whole = Run {
        start: entry(0, 1),
        len: 2 * REGION - 1,
        id: id(3),
    };
    assert_eq!(had.into_iter().collect::<Vec<_>>(), [whole]);
    assert_eq!(
        table.runs(ty(0)).collect::<Vec<_>>(),
        [Run {
            start: entry(0, 0),
            len: 1,
            id: id(3)
        }]
    );
    table.validate().unwrap();
}

/// More runs than one call of the callback gets, and runs over the borders of pieces and regions.
#[test]
fn a_callback_gets_the_same_runs_with_no_lock_held() {
    let filled = || {
        let table = table(3 * REGION);
        for i in 0..50 {
            table.record(entry(0, 2 * i), id(1)).unwrap();
            table.record(entry(0, 2 * i + 1), id(2)).unwrap();
        }
        table
            .record_range(entry(0, 200), 2 * REGION, id(4))
            .unwrap();
        table.record(entry(0, 3 * REGION - 1), id(5)).unwrap();
        table
    };
    for (start, nr) in [
        (0, 3 * REGION),
        (1, 31),
        (1, 32),
        (1, 33),
        (90, 2 * REGION),
        (7, 0),
    ] {
        let (ours, theirs) = (filled(), filled());
        let mut runs = Vec::new();
        let done = ours.record_range_with(entry(0, start), nr, id(3), |run| {
            // The run has been written, and no lock keeps other operations from it.
            assert_eq!(ours.record(run.start, id(6)), Ok(Some(id(3))));
            runs.push(run);
        });
        assert_eq!(done, Ok(()));
        let had = theirs.record_range(entry(0, start), nr, id(3)).unwrap();
        assert_eq!(runs, *had, "{nr} slots from {start}");
        ours.validate().unwrap();

        let (ours, theirs) = (filled(), filled());
        runs.clear();
        let done = ours.clear_range_with(entry(0, start), nr, |run| runs.push(run));
        assert_eq!(done, Ok(()));
        let had = theirs.clear_range(entry(0, start), nr).unwrap();
        assert_eq!(runs, *had, "{nr} slots from {start}");
        assert!(ours.runs(ty(0)).eq(theirs.runs(ty(0))));
        ours.validate().unwrap();
    }
}

#[test]
fn the_callback_gets_all_records_that_were_cleared_before_a_swapoff() {
    let table = table(2 * REGION);
    for offset in (0..100).chain(REGION..REGION + 5) {
        let owner = id(if offset % 2 == 0 { 1 } else { 2 });
        table.record(entry(0, offset), owner).unwrap();
    }
    let (mut told, mut dropped) = (0, 0);
    let done = table.clear_range_with(entry(0, 0), 2 * REGION, |run| {
        if told == 40 {
            dropped = table.swapoff(ty(0)).unwrap();
        }
        assert_eq!(run.start, entry(0, told));
        told += run.len;
    });
    let at = EntryError::TypeOff {
        ty: ty(0),
        offset: Some(told),
    };
    assert_eq!((done, told + dropped), (Err(at), 105));
    assert!(told > 40 && dropped > 0);
}

#[test]
fn runs_go_over_chunks_and_regions_and_not_over_types() {
    let table = table(3 * REGION + 1);
    table.swapon(ty(5), 100).unwrap();
    let long = Run {
        start: entry(0, CHUNK_ENTRIES as u64 - 1),
        len: 2 * REGION,
        id: id(7),
    };
    table.record_range(long.start, long.len, id(7)).unwrap();
    let end = Run {
        start: entry(0, 3 * REGION),
        len: 1,
        id: id(7),
    };
    table.record(end.start, id(7)).unwrap();
    let other = Run {
        start: entry(5, 0),
        len: 100,
        id: id(7),
    };
    table.record_range(other.start, 100, id(7)).unwrap();
    assert_eq!(table.runs_of(id(7)).collect::<Vec<_>>(), [long, end, other]);
    assert_eq!(table.runs(ty(0)).collect::<Vec<_>>(), [long, end]);
    assert_eq!(table.runs(ty(5)).collect::<Vec<_>>(), [other]);
    // An id that shares the counter is looked for in the same regions, and is not found.
    assert_eq!(table.runs_of(id(7 + 4096)).count(), 0);
    assert_eq!(table.count(id(7 + 4096)), 0);
    assert_eq!(table.count_upper_bound(id(7 + 4096)), long.len + 101);
}

#[test]
fn runs_take_each_piece_at_one_moment() {
    let table = table(REGION);
    // The slots of one piece: 512, or a chunk under Miri.
    let piece = CHUNK_ENTRIES.min(512) as u64;
    for offset in [piece - 9, piece - 5, piece + 3] {
        table.record(entry(0, offset), id(7)).unwrap();
    }
    let (mut of_id, mut of_type) = (table.runs_of(id(7)), table.runs(ty(0)));
    for runs in [&mut of_id, &mut of_type] {
        assert_eq!(runs.next().unwrap().start, entry(0, piece - 9));
    }
    // This record is in the first piece, which has been read, so the iterator does not see it.
    table.record(entry(0, piece - 1), id(7)).unwrap();
    // At any moment, the second piece has one of these records or none. So the iterator must not see both.
    table.clear(entry(0, piece + 3)).unwrap();
    table.record(entry(0, 2 * piece - 1), id(7)).unwrap();
    for runs in [of_id, of_type] {
        let starts: Vec<_> = runs.map(|run| run.start.offset()).collect();
        assert_eq!(starts[0], piece - 5);
        assert!(starts[1..] == [piece + 3] || starts[1..] == [2 * piece - 1]);
    }
}

#[test]
#[cfg_attr(
    miri,
    ignore = "validate walks whole regions, and there is nothing unsafe here"
)]
fn each_block_of_counters_is_kept_in_each_region() {
    let table = table(5 * REGION);
    let ids = [1, 63, 64, 65, 127, 128, 4095, 4096, 4097, u16::MAX];
    for region in 0..5 {
        let slots = [7, 8, REGION - 1].map(|position| entry(0, region * REGION + position));
        // Each id replaces the previous one while that one has records left. So it is neither the first nor
        // the last record of its owner.
        for slot in slots {
            for owner in ids {
                table.record(slot, id(owner)).unwrap();
            }
        }
        for owner in ids {
            for slot in slots {
                table.record(slot, id(owner)).unwrap();
                assert_eq!(table.validate(), Ok(()));
            }
        }
    }
    assert_eq!(table.count(id(u16::MAX)), 15);
}

/// The index of more than 64 regions has more than one word per counter.
#[test]
#[cfg_attr(
    miri,
    ignore = "validate walks whole regions, and there is nothing unsafe here"
)]
fn a_swapoff_empties_the_index_of_many_regions() {
    let table = table(130 * REGION);
    for region in [0, 63, 64, 129] {
        table.record(entry(0, region * REGION), id(500)).unwrap();
    }
    assert_eq!(table.swapoff(ty(0)), Ok(4));
    table.swapon(ty(0), 130 * REGION).unwrap();
    assert_eq!(table.count(id(500)), 0);
    // `validate` checks the bits of a block of counters if one of them is in use.
    table.record(entry(0, 0), id(501)).unwrap();
    assert_eq!(table.validate(), Ok(()));
}

/// There is one region only, so its end lies in no region.
#[test]
fn no_slots_may_start_at_the_end_of_the_last_region() {
    let table = table(REGION);
    assert!(
        table
            .record_range(entry(0, REGION), 0, id(1))
            .unwrap()
            .is_empty()
    );
    assert!(table.clear_range(entry(0, REGION), 0).unwrap().is_empty());
    assert!(table.clear_range(entry(0, REGION + 1), 0).is_err());
}
