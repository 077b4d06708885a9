//! Images that are written while the table is in use.

use super::*;

/// Each region is written as it was at one moment. In this test, a region has one owner at each moment.
#[test]
fn an_image_that_is_written_while_the_table_is_in_use_has_each_region_as_of_one_moment() {
    const REGIONS: u64 = 6;
    let records = SwapRecords::new();
    records.swapon(ty(0), REGIONS * UNIT).unwrap();
    let record = |region, owner| {
        let start = entry(0, region * UNIT);
        records
            .record_range_with(start, UNIT, id(owner), |_| ())
            .unwrap();
    };
    (0..REGIONS).for_each(|region| record(region, 1));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for owner in (1..=u16::MAX).cycle() {
                (0..REGIONS).for_each(|region| record(region, owner));
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _done = Done(&done);
        for _ in 0..100 {
            let mut bytes = Vec::new();
            let written = image::write_to(&records, &mut bytes).unwrap();
            assert_eq!(written.records, REGIONS * UNIT);
            let map = Map::of(&bytes).unwrap();
            map.verify().unwrap();
            for run in map.runs(ty(0)) {
                assert_eq!((run.start.offset() % UNIT, run.len % UNIT), (0, 0), "{run}");
            }
        }
    });
}

/// A region that is migrated may have lost the presence bit of the old owner, or may not have that of the new
/// owner yet.
#[test]
fn an_image_that_is_written_during_a_migration_has_all_records() {
    const REGIONS: u64 = 6;
    let records = SwapRecords::new();
    records.swapon(ty(0), REGIONS * UNIT).unwrap();
    for region in 0..REGIONS {
        records.record(entry(0, region * UNIT + 9), id(1)).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for owner in 1..=4000 {
                records.migrate(id(owner), id(owner + 1));
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _done = Done(&done);
        for _ in 0..300 {
            let written = image::write_to(&records, std::io::sink()).unwrap();
            assert_eq!(written.records, REGIONS);
        }
    });
}

#[test]
fn a_type_that_is_turned_off_meanwhile_ends_the_write() {
    let folder = Folder::new("off");
    let records = SwapRecords::new();
    records.swapon(ty(0), 9).unwrap();
    records.swapon(ty(6), 4 * UNIT).unwrap();
    records.record(entry(6, 2 * UNIT), id(3)).unwrap();
    /// Turns type 6 off when the first page is written.
    struct Off<'a>(&'a SwapRecords);
    impl std::io::Write for Off<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let off = self.0.swapoff(ty(6));
            assert!(matches!(off, Ok(1) | Err(EntryError::TypeOff { .. })));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = image::write_to(&records, Off(&records)).unwrap_err();
    assert!(
        matches!(error, ImageError::TypeOff { ty: off } if off == ty(6)),
        "{error}"
    );
    assert_eq!(folder.names(), [""; 0]);
}
