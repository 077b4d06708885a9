//! The memory that a table uses, as the kernel reports it. The tests share a lock, so that only one of them
//! measures the process at a time.
#![cfg(all(target_os = "linux", feature = "std"))]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use swap_records::{MemcgId, REGION_ENTRIES, SwapEntry, SwapRecords, SwapType};
use swap_records_oracle::Ends;

static ALONE: Mutex<()> = Mutex::new(());

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn type_0() -> SwapType {
    SwapType::new(0).unwrap()
}

/// Returns the resident and virtual bytes of this process.
fn memory() -> (u64, u64) {
    let memory = memory_stats::memory_stats().unwrap();
    (memory.physical_mem as u64, memory.virtual_mem as u64)
}

/// Asserts that neither the resident nor the mapped memory has grown, within a mebibyte.
fn assert_no_more_than(before: (u64, u64)) {
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

#[test]
fn a_swapon_of_8_tib_of_swap_leaves_less_than_4_mib_resident() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let table = SwapRecords::new();
    let before = memory().0;
    table.swapon(type_0(), 1 << 31).unwrap();
    let after = memory().0;
    assert!(after - before < 4 << 20, "{} bytes", after - before);
    // Reading and migrating missing records takes almost no more memory.
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
    // One more block of cells than 150 ids need, for id 200.
    assert!(
        index * 100 <= ids * 2,
        "{index} bytes of index for {ids} of ids"
    );
}

/// The footprint that a table reports agrees with the kernel's numbers: after a swapon, after records, and
/// after a swapoff.
#[test]
fn the_footprint_is_what_the_process_has_more() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const REGION: u64 = REGION_ENTRIES as u64;
    const PAGES: u64 = 512 * REGION;
    let table = SwapRecords::new();
    let before = memory();
    let is_as_the_kernel_says = || {
        let (total, now) = (table.footprint().total(), memory());
        for (says, kernel) in [
            (total.resident, now.0.saturating_sub(before.0)),
            (total.reserved, now.1.saturating_sub(before.1)),
        ] {
            // Stacks and the allocator change, too.
            assert!(says.abs_diff(kernel) < 1 << 20, "{total:?}: {kernel} bytes");
        }
    };
    table.swapon(type_0(), PAGES).unwrap();
    let footprint = table.footprint();
    assert_eq!(
        (footprint.table.reserved, footprint.table.resident),
        (2 * PAGES, 0)
    );
    assert_eq!(
        (footprint.cells.reserved, footprint.cells.resident),
        (PAGES / 2, 0)
    );
    assert_eq!(footprint.locks.resident, footprint.locks.reserved);
    is_as_the_kernel_says();

    // All of the table, and the cells of 64 ids: a quarter of a chunk per region.
    let all = SwapEntry::new(type_0(), 0).unwrap();
    table.record_range(all, PAGES, id(9)).unwrap();
    let footprint = table.footprint();
    assert_eq!(footprint.table.resident, footprint.table.reserved);
    assert_eq!(footprint.cells.resident, 512 * 256);
    let bitmaps = footprint.bitmaps.resident;
    assert!((4096..128 << 10).contains(&bitmaps), "{footprint}");
    is_as_the_kernel_says();
    // The first id that shares a counter makes a note.
    table.record(all, id(9 + 4096)).unwrap();
    assert!(table.footprint().bitmaps.resident > bitmaps);

    table.swapoff(type_0()).unwrap();
    let off = table.footprint();
    assert_eq!((off.table.resident, off.cells.resident), (0, 0));
    assert_eq!(off.total().reserved, footprint.total().reserved);
    is_as_the_kernel_says();
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
    let empty = memory().0;
    sizes.into_iter().for_each(cycle);
    let before = memory();
    assert!(
        before.0 < empty + (1 << 20),
        "resident: {empty} to {before:?}"
    );
    for _ in 0..20 {
        sizes.into_iter().for_each(cycle);
    }
    assert_no_more_than(before);
}

/// Turns swapfiles of mixed sizes off and on, while other threads record, look up, migrate and walk. Late
/// operations write nothing. So no more memory is resident afterwards than before, and nothing is mapped
/// twice.
#[test]
fn a_hundred_thousand_cycles_under_load_leave_memory_where_it_was() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const CYCLES: u64 = 100_000;
    const REGION: u64 = REGION_ENTRIES as u64;
    /// Far more than a mebibyte, if late writes stayed.
    const MOST: u64 = 32 * REGION - 7;
    let table = SwapRecords::new();
    let sizes = [1, 100, REGION + 1, 3 * REGION, MOST];
    let run = |cycles: u64| {
        let done = AtomicBool::new(false);
        let late = AtomicU64::new(0);
        thread::scope(|s| {
            let ends = Ends(&done);
            let threads = [0, 1].map(|lane| {
                let (table, done, late) = (&table, &done, &late);
                s.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(lane);
                    while !done.load(Ordering::Relaxed) {
                        let ent = SwapEntry::new(type_0(), random.u64(0..MOST)).unwrap();
                        let owner = id(random.u16(1..300));
                        let written = match random.u8(0..40) {
                            0 => table.record_range(ent, 64, owner).is_ok(),
                            1 => table.cmpxchg(ent, None, Some(owner)).is_ok(),
                            2 => table.migrate(owner, id(500)) < 1 << 40,
                            3 => table.runs_of(owner).count() < 1 << 40,
                            4 => table.lookup(ent) != Some(id(401)),
                            _ => table.record(ent, owner).is_ok(),
                        };
                        late.fetch_add(u64::from(!written), Ordering::Relaxed);
                    }
                })
            });
            for (cycle, pages) in (0..cycles).zip(sizes.into_iter().cycle()) {
                table.swapon(type_0(), pages).unwrap();
                let ent = SwapEntry::new(type_0(), cycle % pages).unwrap();
                table.record(ent, id(400)).unwrap();
                table.swapoff(type_0()).unwrap();
            }
            drop(ends);
            // A scope waits for the end of the functions of its threads. A join also waits for the end of
            // their stacks.
            for thread in threads {
                thread.join().unwrap();
            }
        });
        assert!(late.into_inner() > 0, "no thread was ever late");
    };
    let empty = memory().0;
    run(1000);
    let before = memory();
    assert!(
        before.0 < empty + (1 << 20),
        "resident: {empty} to {before:?}"
    );
    run(CYCLES);
    assert_no_more_than(before);
    table.swapon(type_0(), MOST).unwrap();
    assert_eq!(table.runs(type_0()).count(), 0);
    table.validate().unwrap();
}
