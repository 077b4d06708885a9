//! The operations of `SwapRecords`.

#[cfg(all(feature = "std", target_os = "linux"))]
use swap_records::file::{RecordFile, SwaponFileError};
use swap_records::{MemcgId, REGION_ENTRIES, Run, Step, SwapEntry, SwapRecords, SwapType};

use crate::subject::{Memory, Operation, Subject};

const REGION: u64 = REGION_ENTRIES as u64;
const TYPE: SwapType = SwapType::new(0).unwrap();
const NEXT: SwapType = SwapType::new(1).unwrap();
const PAGES: u64 = 2 * REGION;
pub const A: MemcgId = MemcgId::new(1).unwrap();
const B: MemcgId = MemcgId::new(2).unwrap();
pub const C: MemcgId = MemcgId::new(3).unwrap();
/// The first slot of a range in which A and B alternate, over the border of two regions.
const MIXED: u64 = REGION - 50;
const NR: u64 = 100;

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// Returns slots of that range from both ends, and some without an owner: several windows of a batch.
fn anywhere() -> [SwapEntry; 200] {
    const { assert!(NR == 100, "half of them") };
    std::array::from_fn(|n| {
        let n = n as u64;
        match n % 4 {
            0 => entry(MIXED + n / 4),
            2 => entry(MIXED + NR - 1 - n / 4),
            _ => entry(100 + n * 7),
        }
    })
}

impl Subject for SwapRecords {
    type State = (Vec<Run>, Vec<Option<u64>>);

    fn new() -> Self {
        let table = Self::new();
        table.swapon(TYPE, PAGES).unwrap();
        for skip in 0..NR {
            let owner = if skip % 2 == 0 { A } else { B };
            table.record(entry(MIXED + skip), owner).unwrap();
        }
        table.record(entry(5), B).unwrap();
        table
    }

    fn state(&self) -> Self::State {
        let runs = SwapType::all().flat_map(|ty| self.runs(ty)).collect();
        (runs, SwapType::all().map(|ty| self.max_pages(ty)).collect())
    }

    fn validate(&self) {
        self.validate().unwrap();
    }
}

#[cfg(feature = "std")]
pub const MANY_REGIONS: u64 = 700;

/// Makes a table with enough regions for two threads.
#[cfg(feature = "std")]
pub fn of_many_regions() -> SwapRecords {
    let table = SwapRecords::new();
    table.swapon(TYPE, MANY_REGIONS * REGION).unwrap();
    for region in 0..MANY_REGIONS {
        table.record(entry(region * REGION), A).unwrap();
    }
    table
}

type Table = SwapRecords;

const fn takes(
    name: &'static str,
    run: fn(&mut Table) -> Result<(), crate::subject::Refusal>,
) -> Operation<Table> {
    let memory = Memory::Some;
    Operation { name, memory, run }
}

const fn does_without(
    name: &'static str,
    run: fn(&mut Table) -> Result<(), crate::subject::Refusal>,
) -> Operation<Table> {
    let memory = Memory::None;
    Operation { name, memory, run }
}

/// Turns the next type on with this file.
#[cfg(all(feature = "std", target_os = "linux"))]
fn on_with(
    table: &Table,
    file: &RecordFile,
    threads: usize,
) -> Result<(), crate::subject::Refusal> {
    let on = table.swapon_file(NEXT, PAGES, file).threads(threads).run();
    match on {
        Ok(found) => assert_eq!(found.records, 0),
        Err(SwaponFileError::Swapon(error)) => return Err(error.into()),
        Err(error) => panic!("{error}"),
    }
    Ok(())
}

pub const OPERATIONS: &[Operation<Table>] = &[
    takes("swapon", |table| Ok(table.swapon(NEXT, PAGES)?)),
    // The second swapfile of a size uses the area of the first one.
    does_without("swapoff and swapon", |table| {
        table.swapoff(TYPE)?;
        Ok(table.swapon(TYPE, PAGES)?)
    }),
    does_without("swapoff", |table| Ok(table.swapoff(TYPE).map(drop)?)),
    #[cfg(all(feature = "std", target_os = "linux"))]
    takes("swapon_file", |table| {
        let file = RecordFile::memfd(PAGES).unwrap();
        on_with(table, &file, 1)?;
        table.record_range_with(SwapEntry::new(NEXT, 5).unwrap(), 9, C, |_| ())?;
        // The table knows the file now, and needs memory for the rebuild only.
        table.swapoff(NEXT)?;
        on_with(table, &file, 0)
    }),
    does_without("max_pages", |table| {
        assert_eq!(table.max_pages(TYPE), Some(PAGES));
        Ok(())
    }),
    does_without("record", |table| Ok(table.record(entry(7), C).map(drop)?)),
    does_without("record over another", |table| {
        Ok(table.record(entry(MIXED), C).map(drop)?)
    }),
    does_without("clear", |table| Ok(table.clear(entry(5)).map(drop)?)),
    does_without("cmpxchg", |table| {
        Ok(table.cmpxchg(entry(5), B, C).map(drop)?)
    }),
    does_without("lookup", |table| {
        assert_eq!(table.lookup(entry(5)), Some(B));
        Ok(())
    }),
    does_without("record_range of one owner", |table| {
        Ok(table.record_range(entry(9), 64, C).map(drop)?)
    }),
    takes("record_range of many owners", |table| {
        Ok(table.record_range(entry(MIXED), NR, C).map(drop)?)
    }),
    does_without("clear_range of one owner", |table| {
        Ok(table.clear_range(entry(5), 1).map(drop)?)
    }),
    takes("clear_range of many owners", |table| {
        Ok(table.clear_range(entry(MIXED), NR).map(drop)?)
    }),
    does_without("record_range_with", |table| {
        let mut had = 0;
        table.record_range_with(entry(MIXED), NR, C, |run| had += run.len)?;
        assert_eq!(had, NR);
        Ok(())
    }),
    does_without("clear_range_with", |table| {
        let (mut had, mut runs) = (0, 0);
        table.clear_range_with(entry(0), PAGES, |run| {
            had += run.len;
            runs += 1;
        })?;
        assert_eq!((had, runs), (NR + 1, NR + 1));
        Ok(())
    }),
    does_without("record_batch", |table| {
        let mut had = 0;
        table.record_batch(&anywhere(), C, |_, _| had += 1)?;
        assert_eq!(had, NR);
        Ok(())
    }),
    does_without("record_batch_ids", |table| {
        let mut had = 0;
        let slots = anywhere().map(|slot| (slot, if slot.offset() % 2 == 0 { A } else { C }));
        table.record_batch_ids(&slots, |_, _| had += 1)?;
        assert_eq!(had, NR);
        Ok(())
    }),
    does_without("clear_batch", |table| {
        let mut had = 0;
        table.clear_batch(&anywhere(), |_, _| had += 1)?;
        assert_eq!(had, NR);
        Ok(())
    }),
    does_without("count", |table| {
        assert_eq!(table.count(A), NR / 2);
        Ok(())
    }),
    does_without("count_upper_bound", |table| {
        assert_eq!(table.count_upper_bound(A), NR / 2);
        Ok(())
    }),
    does_without("owners", |table| {
        assert_eq!(table.owners().count(), 2);
        Ok(())
    }),
    does_without("runs", |table| {
        assert_eq!(table.runs(TYPE).count() as u64, NR + 1);
        Ok(())
    }),
    does_without("runs_of", |table| {
        assert_eq!(table.runs_of(A).count() as u64, NR / 2);
        Ok(())
    }),
    does_without("migrate", |table| {
        assert_eq!(table.migrate(A, C), NR / 2);
        Ok(())
    }),
    does_without("a migration that is run", |table| {
        let report = table.migration(A, C).memsw_hint(&1000_u64).run();
        assert_eq!((report.moved, report.left_at_most), (NR / 2, 0));
        Ok(())
    }),
    does_without("a migration in steps", |table| {
        let mut migration = table.migration(A, C);
        while migration.step(1) == Step::More {}
        assert_eq!(migration.so_far().moved, NR / 2);
        Ok(())
    }),
    // Two regions are too few for another thread, so no memory is needed.
    #[cfg(feature = "std")]
    does_without("a migration that may use threads", |table| {
        assert_eq!(table.migration(A, C).threads(8).run().moved, NR / 2);
        Ok(())
    }),
    does_without("the drop of a table", |table| {
        drop(std::mem::take(table));
        Ok(())
    }),
];
