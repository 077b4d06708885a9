//! The records of a file, and its memory, after a drop, a swapoff or an error.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use swap_records::file::{FileError, RecordFile, SwaponFileError};
use swap_records::memcg::Memcgs;
use swap_records::{Progress, SwapEntry, SwapRecords, SwapType, SwaponError};
use swap_records_oracle::Ends;

use crate::child::Folder;
use crate::subject::{
    FIRST, LEN, PAGES, REGION, TYPE, assert_says, entry, from_file, id, read, refused, swapon,
};

#[test]
fn a_table_that_is_dropped_leaves_its_records_and_one_that_is_turned_off_none() {
    let folder = Folder::new("dropped");
    for file in [RecordFile::memfd(PAGES).unwrap(), folder.create("file")] {
        let table = SwapRecords::new();
        assert_eq!(swapon(&table, &file).unwrap(), (0, 0));
        table.record_range(entry(REGION - 3), 6, id(7)).unwrap();
        table.record(entry(PAGES - 1), id(4096 + 7)).unwrap();
        drop(table);

        let table = SwapRecords::new();
        assert_eq!(swapon(&table, &file).unwrap(), (7, 3));
        assert_eq!(table.lookup(entry(REGION + 2)), Some(id(7)));
        assert_eq!(table.lookup(entry(REGION + 3)), None);
        assert_eq!(table.count(id(7)), 6);
        assert_eq!(table.migrate(id(7), id(1)), 6);
        assert_eq!(table.migrate(id(4096 + 7), id(2)), 1);
        table.validate().unwrap();
        // Other types are not affected, nor is an anonymous swapfile of the same type and size.
        table.swapon(SwapType::new(4).unwrap(), PAGES).unwrap();
        assert_eq!(table.swapoff(TYPE), Ok(7));
        let all = read(&file, FIRST, LEN);
        assert_eq!(all.len() as u64, LEN - FIRST);
        assert!(all.iter().all(|&byte| byte == 0), "the file has records");
        table.swapon(TYPE, PAGES).unwrap();
        table.record(entry(5), id(9)).unwrap();
        assert_eq!(swapon(&SwapRecords::new(), &file).unwrap(), (0, 0));
        assert_eq!(table.swapoff(TYPE), Ok(1));
        assert_eq!(swapon(&table, &file).unwrap(), (0, 0));
        assert_eq!(table.lookup(entry(5)), None);
        table.record(entry(6), id(9)).unwrap();
        table.validate().unwrap();
    }
}

#[test]
fn a_table_goes_on_when_the_record_file_is_dropped() {
    let file = RecordFile::memfd(PAGES).unwrap();
    let again = file.as_fd().try_clone_to_owned().unwrap();
    let table = SwapRecords::new();
    swapon(&table, &file).unwrap();
    drop(file);
    table.record(entry(1), id(1)).unwrap();
    let again = RecordFile::from_memfd(again).unwrap();
    assert!(matches!(refused(&again).0, FileError::InUse));
    drop(table);
    assert_eq!(swapon(&SwapRecords::new(), &again).unwrap(), (1, 1));
}

#[test]
fn a_file_is_on_in_one_table_at_a_time() {
    let folder = Folder::new("one");
    for file in [RecordFile::memfd(PAGES).unwrap(), folder.create("file")] {
        let table = SwapRecords::new();
        swapon(&table, &file).unwrap();
        table.record(entry(1), id(1)).unwrap();
        let (why, text) = refused(&file);
        assert!(matches!(why, FileError::InUse), "{why:?}");
        assert_says(
            &text,
            &["swap type 3", "another table", "turn the type off there"],
        );
        // Nor with two types of one table.
        let other = SwapType::new(9).unwrap();
        let why = table.swapon_file(other, PAGES, &file).run().unwrap_err();
        let in_use = SwaponFileError::File {
            ty: other,
            why: FileError::InUse,
        };
        assert_eq!(format!("{why:?}"), format!("{in_use:?}"));
        let why = swapon(&table, &file).unwrap_err();
        assert!(matches!(
            why,
            SwaponFileError::Swapon(SwaponError::TypeOn { ty: TYPE })
        ));
        assert_eq!(table.swapoff(TYPE), Ok(1));
        // The map still exists, but the lock is free.
        let other = SwapRecords::new();
        assert_eq!(swapon(&other, &file).unwrap(), (0, 0));
        assert!(matches!(
            swapon(&table, &file),
            Err(SwaponFileError::File { .. })
        ));
        drop(other);
        assert_eq!(swapon(&table, &file).unwrap(), (0, 0));
    }
}

#[test]
fn a_file_takes_memory_for_what_was_recorded_and_gives_it_back_at_swapoff() {
    use std::os::unix::fs::MetadataExt;
    /// 1 TiB of swap, 512 MiB of file.
    const PAGES: u64 = 1 << 28;
    let file = RecordFile::memfd(PAGES).unwrap();
    let taken = || {
        let file = File::from(file.as_fd().try_clone_to_owned().unwrap());
        file.metadata().unwrap().blocks() * 512
    };
    let header = taken();
    assert!(header <= 4096);
    let table = SwapRecords::new();
    let run = |records, regions| {
        let found = table
            .swapon_file(TYPE, PAGES, &file)
            .threads(2)
            .run()
            .unwrap();
        assert_eq!((found.records, found.regions), (records, regions));
    };
    run(0, 0);
    assert_eq!(taken(), header, "the rebuild read holes");
    for offset in (0..PAGES).step_by(1 << 20) {
        table.record(entry(offset + 77), id(5)).unwrap();
    }
    let of_records = 256 * 4096;
    assert_eq!(taken(), header + of_records);
    drop(table);
    let table = SwapRecords::new();
    let found = table.swapon_file(TYPE, PAGES, &file).run().unwrap();
    assert_eq!((found.records, found.regions), (256, 256));
    assert_eq!(taken(), header + of_records, "the rebuild read holes");
    assert_eq!(table.migrate(id(5), id(6)), 256);
    assert_eq!(table.swapoff(TYPE), Ok(256));
    assert_eq!(taken(), header);
    let small = RecordFile::memfd(1).unwrap();
    small.allocate().unwrap();
    let allocated = File::from(OwnedFd::from(small))
        .metadata()
        .unwrap()
        .blocks()
        * 512;
    assert_eq!(allocated, FIRST + 2 * REGION);
}

#[test]
fn progress_is_reported_and_a_callback_that_panics_leaves_the_type_off_and_the_file_whole() {
    const PAGES: u64 = 200 * REGION;
    let file = RecordFile::memfd(PAGES).unwrap();
    let table = SwapRecords::new();
    table.swapon_file(TYPE, PAGES, &file).run().unwrap();
    for region in 0..200 {
        table
            .record_range(entry(region * REGION), 9, id(3))
            .unwrap();
    }
    drop(table);
    for threads in [1, 2, 1000] {
        let table = SwapRecords::<swap_records::RawSpinLock>::new();
        for _ in 0..2 {
            let swapon = || {
                let mut tell = |_: Progress| panic!("told");
                let on = table.swapon_file(TYPE, PAGES, &file);
                on.threads(threads).progress(&mut tell).run()
            };
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(swapon));
            assert_eq!(told.unwrap_err().downcast_ref(), Some(&"told"));
            assert_eq!(table.max_pages(TYPE), None);
        }
        let mut last = 0;
        let mut tell = |progress: Progress| {
            assert_eq!(progress.total, 200);
            assert!(progress.done >= last);
            last = progress.done;
        };
        let on = table.swapon_file(TYPE, PAGES, &file).threads(threads);
        let found = on.progress(&mut tell).run().unwrap();
        assert_eq!((found.records, found.regions, last), (1800, 200, 200));
        table.validate().unwrap();
    }
}

/// Writers go on until they are refused. None of their records gets into the file after it is off.
#[test]
fn a_swapoff_during_writes_leaves_no_record_in_the_file() {
    let file = RecordFile::memfd(PAGES).unwrap();
    let table = SwapRecords::new();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let _ends = Ends(&done);
        for lane in 0..2 {
            let (table, done) = (&table, &done);
            s.spawn(move || {
                let mut random = fastrand::Rng::with_seed(lane);
                while !done.load(Ordering::Relaxed) {
                    let ent = entry(random.u64(0..PAGES - 64));
                    let owner = id(random.u16(1..300));
                    match random.u8(0..20) {
                        0 => _ = table.record_range(ent, 64, owner),
                        1 => _ = table.migrate(owner, id(500)),
                        2 => _ = table.runs_of(owner).count(),
                        _ => _ = table.record(ent, owner),
                    }
                }
            });
        }
        for round in 0..300 {
            let found = table.swapon_file(TYPE, PAGES, &file).run().unwrap();
            assert_eq!(found.records, 0, "round {round}");
            table.record(entry(round % PAGES), id(400)).unwrap();
            thread::yield_now();
            assert!(table.swapoff(TYPE).unwrap() > 0);
            // Now and then, an anonymous swapfile with the same type.
            if round % 3 == 0 {
                table.swapon(TYPE, PAGES).unwrap();
                table.swapoff(TYPE).unwrap();
            }
        }
    });
    assert!(read(&file, FIRST, LEN).iter().all(|&byte| byte == 0));
}

#[test]
fn a_table_of_several_files_keeps_them_apart() {
    let files = [1, 2, 3].map(|_| RecordFile::memfd(PAGES).unwrap());
    let table = SwapRecords::new();
    // All of them with one type, one after another, twice.
    for round in 0..2 {
        for (nth, file) in (10..).zip(&files) {
            assert_eq!(swapon(&table, file).unwrap(), (0, 0));
            table.record(entry(nth), id(1)).unwrap();
            assert_eq!(table.lookup(entry(nth)), Some(id(1)), "round {round}");
            assert_eq!(table.swapoff(TYPE), Ok(1));
        }
    }
    for (ty, file) in SwapType::all().zip(&files) {
        table.swapon_file(ty, PAGES, file).run().unwrap();
        table.record(SwapEntry::new(ty, 5).unwrap(), id(9)).unwrap();
    }
    assert_eq!(table.migrate(id(9), id(8)), 3);
    drop(table);
    let table = SwapRecords::new();
    for (ty, file) in SwapType::all().zip(&files) {
        assert_eq!(table.swapon_file(ty, PAGES, file).run().unwrap().records, 1);
    }
    assert_eq!(table.count(id(8)), 3);
}

#[test]
fn a_tree_is_made_again_over_the_records_of_a_file() {
    let file = RecordFile::memfd(PAGES).unwrap();
    let records = SwapRecords::new();
    swapon(&records, &file).unwrap();
    let memcgs = Memcgs::with_records(records, []).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let child = memcgs.create(parent).unwrap();
    memcgs.charge(child, 80).unwrap();
    memcgs.swap_out(child, entry(7), 64).unwrap();
    let (root, parent, child) = (memcgs.root().id(), parent.id(), child.id());
    // Ends without a swapoff, as a process does.
    drop(memcgs);

    let records = SwapRecords::new();
    assert_eq!(swapon(&records, &file).unwrap(), (64, 1));
    let shape = [(parent, root), (child, parent)];
    let memcgs = Memcgs::with_records(records, shape).unwrap();
    memcgs.validate().unwrap();
    let [parent, child] = [parent, child].map(|id| memcgs.find(id).unwrap());
    assert_eq!(memcgs.usage(child).unwrap().swap, 64);
    assert_eq!(memcgs.usage(parent).unwrap().swap_total, 64);
    memcgs.css_offline(child, u64::MAX).unwrap();
    memcgs.css_free(child).unwrap();
    assert_eq!(memcgs.usage(parent).unwrap().swap, 64);
    assert_eq!(memcgs.swapoff(TYPE).unwrap(), 64);
    memcgs.validate().unwrap();
    drop(memcgs);
    assert_eq!(swapon(&SwapRecords::new(), &file).unwrap(), (0, 0));
}

/// Otherwise the owners would not be charged, and a free of their records would uncharge them.
#[test]
fn a_tree_at_work_accepts_only_a_file_without_records() {
    let file = RecordFile::memfd(PAGES).unwrap();
    let memcgs = Memcgs::new();
    let child = memcgs.create(memcgs.root()).unwrap();
    for _ in 0..2 {
        memcgs.swapon_file(TYPE, PAGES, &file).unwrap();
        memcgs.charge(child, 5).unwrap();
        memcgs.swap_out(child, entry(7), 5).unwrap();
        assert_eq!(memcgs.usage(child).unwrap().swap, 5);
        assert_eq!(memcgs.swapoff(TYPE).unwrap(), 5);
        memcgs.validate().unwrap();
    }

    let table = SwapRecords::new();
    swapon(&table, &file).unwrap();
    table.record(entry(1), child.id()).unwrap();
    drop(table);
    let refused = memcgs.swapon_file(TYPE, PAGES, &file).unwrap_err();
    assert!(matches!(
        refused,
        SwaponFileError::HasRecords {
            ty: TYPE,
            records: 1
        }
    ));
    assert_says(
        &refused.to_string(),
        &["type 3", "1 records", "SwapRecords::swapon_file"],
    );
    assert_eq!(memcgs.usage(child).unwrap().swap, 0);
    // The type is off, the file unchanged, and its lock free.
    assert_eq!(memcgs.records().max_pages(TYPE), None);
    memcgs.swapon(TYPE, PAGES).unwrap();
    memcgs.validate().unwrap();
    assert_eq!(swapon(&SwapRecords::new(), &file).unwrap(), (1, 1));
}

#[test]
fn a_file_by_its_descriptor_is_the_file_by_its_name() {
    let folder = Folder::new("descriptor");
    let table = SwapRecords::new();
    swapon(&table, &folder.create("file")).unwrap();
    table.record(entry(1), id(1)).unwrap();
    let again = from_file(folder.open("file"));
    assert!(matches!(refused(&again).0, FileError::InUse));
    // Once more with the same table: the same map, and so the same addresses.
    assert_eq!(table.swapoff(TYPE), Ok(1));
    assert_eq!(swapon(&table, &again).unwrap(), (0, 0));
    table.record(entry(2), id(1)).unwrap();
    drop(table);
    fs::rename(folder.0.join("file"), folder.0.join("other")).unwrap();
    assert_eq!(
        swapon(&SwapRecords::new(), &from_file(folder.open("other"))).unwrap(),
        (1, 1)
    );
}
