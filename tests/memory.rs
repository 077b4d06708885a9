//! What a table costs in memory: what the kernel says is resident. Each is the only test of its
//! process's memory at that moment, so they hold one lock.
#![cfg(all(target_os = "linux", feature = "std"))]

use std::sync::{Mutex, PoisonError};

use swap_records::{MemcgId, REGION_ENTRIES, SwapEntry, SwapRecords, SwapType};

static ALONE: Mutex<()> = Mutex::new(());

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn type_0() -> SwapType {
    SwapType::new(0).unwrap()
}

/// Resident and virtual bytes of this process.
fn memory() -> (u64, u64) {
    let statm = procfs::process::Process::myself().unwrap().statm().unwrap();
    (
        statm.resident * procfs::page_size(),
        statm.size * procfs::page_size(),
    )
}

#[test]
fn a_swapon_of_8_tib_of_swap_leaves_less_than_4_mib_resident() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let table = SwapRecords::new();
    let before = memory().0;
    table.swapon(type_0(), 1 << 31).unwrap();
    let after = memory().0;
    assert!(after - before < 4 << 20, "{} bytes", after - before);
    // Reading and migrating what is not there costs next to nothing more.
    assert_eq!(
        table.lookup(SwapEntry::new(type_0(), (1 << 31) - 1).unwrap()),
        None
    );
    assert_eq!(table.migrate(id(1), id(2)), 0);
    assert_eq!(table.runs(type_0()).count(), 0);
    let after = memory().0;
    assert!(after - before < 4 << 20, "{} bytes", after - before);
}

#[test]
fn the_index_of_150_ids_is_at_most_2_percent_of_the_table() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const REGIONS: u64 = 1024;
    let table = SwapRecords::new();
    table
        .swapon(type_0(), REGIONS * REGION_ENTRIES as u64)
        .unwrap();
    let before = memory().0;
    for region in 0..REGIONS {
        let start = region * REGION_ENTRIES as u64;
        let entry = SwapEntry::new(type_0(), start).unwrap();
        table
            .record_range(entry, REGION_ENTRIES as u64, id(200))
            .unwrap();
        for owner in 1..=150 {
            let entry = entry.checked_add(u64::from(owner)).unwrap();
            table.record(entry, id(owner)).unwrap();
        }
    }
    let ids = REGIONS * REGION_ENTRIES as u64 * 2;
    let index = (memory().0 - before).saturating_sub(ids);
    // One more block of cells than 150 ids alone need, for id 200.
    assert!(
        index * 100 <= ids * 2,
        "{index} bytes of index for {ids} of ids"
    );
}

#[test]
fn swapoff_gives_the_memory_back_and_swapon_takes_the_same_addresses() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let table = SwapRecords::new();
    let sizes = [1, 1000, 40_000, 1 << 20, 5 << 20];
    let cycle = |pages: u64| {
        table.swapon(type_0(), pages).unwrap();
        let start = SwapEntry::new(type_0(), 0).unwrap();
        table.record_range(start, pages, id(9)).unwrap();
        assert_eq!(table.swapoff(type_0()), Ok(pages));
    };
    sizes.into_iter().for_each(cycle);
    let before = memory();
    for _ in 0..20 {
        sizes.into_iter().for_each(cycle);
    }
    let after = memory();
    assert!(
        after.0 < before.0 + (1 << 20),
        "resident: {before:?} to {after:?}"
    );
    assert!(
        after.1 < before.1 + (1 << 20),
        "mapped: {before:?} to {after:?}"
    );
}
