//! Tables without an operating system: pages that are freed late, and counts that are corrected late.
//!
//! With feature `std`, this file is empty.
#![cfg(not(feature = "std"))]

use core::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use swap_records::{
    CHUNK_ENTRIES, GlobalPages, MemcgId, Page, PageSource, REGION_ENTRIES, Step, SwapEntry,
    SwapRecords, SwapType,
};

const TYPE: SwapType = SwapType::new(0).unwrap();
const REGION: u64 = REGION_ENTRIES as u64;
/// Two ids of one block of counters, and two of another one. Under Miri, there are few counters.
const X: u16 = if cfg!(miri) { 4 } else { 200 };
const X2: u16 = X + 1;
const Y: u16 = if cfg!(miri) { 8 } else { 300 };
const Y2: u16 = Y + 1;

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

/// Turns another type on and off when it gets its first page back.
struct Interrupted {
    out: AtomicUsize,
    left: AtomicBool,
}

static INTERRUPTED: Interrupted = Interrupted {
    out: AtomicUsize::new(0),
    left: AtomicBool::new(false),
};
static TABLE: SwapRecords = SwapRecords::new().with_page_source(&INTERRUPTED);

fn on_and_off(ty: SwapType) {
    TABLE.swapon(ty, 100).unwrap();
    TABLE.record(SwapEntry::new(ty, 7).unwrap(), id(1)).unwrap();
    assert_eq!(TABLE.swapoff(ty), Ok(1));
}

// SAFETY: the pages are those of `GlobalPages`.
unsafe impl PageSource for Interrupted {
    fn alloc_page(&self) -> Option<NonNull<Page>> {
        self.out.fetch_add(1, Ordering::Relaxed);
        GlobalPages.alloc_page()
    }

    unsafe fn free_page(&self, page: NonNull<Page>) {
        self.out.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { GlobalPages.free_page(page) };
        if self.left.swap(false, Ordering::Relaxed) {
            on_and_off(SwapType::new(5).unwrap());
        }
    }
}

/// The caller has not waited for the operations that were under way when that type was turned off.
#[test]
fn a_trim_leaves_the_pages_of_types_that_are_turned_off_after_it_began() {
    on_and_off(TYPE);
    let before = INTERRUPTED.out.load(Ordering::Relaxed) as u64;
    let trim = TABLE.begin_trim();
    on_and_off(SwapType::new(6).unwrap());
    // SAFETY: there is no other thread.
    assert_eq!(
        unsafe { trim.finish() },
        before,
        "type 6 was turned off later"
    );
    // SAFETY: as above.
    assert_eq!(unsafe { TABLE.begin_trim().finish() }, before, "of type 6");
    on_and_off(TYPE);
    INTERRUPTED.left.store(true, Ordering::Relaxed);
    let before = INTERRUPTED.out.load(Ordering::Relaxed) as u64;
    // SAFETY: there is no other thread.
    let freed = unsafe { TABLE.begin_trim().finish() };
    assert_eq!(freed, before);
    let other = INTERRUPTED.out.load(Ordering::Relaxed) as u64;
    assert!(
        other > 0,
        "pages of type 5 were freed without a grace period"
    );
    // SAFETY: as above.
    assert_eq!(unsafe { TABLE.begin_trim().finish() }, other);
}

/// Each migration gives an id records in a region where its block of counters has no cells.
fn with_spilled(pages: u64, moves: &[(u64, u64, u16, u16)]) -> SwapRecords {
    let table = SwapRecords::new();
    table.swapon(TYPE, pages).unwrap();
    for &(first, nr, old, new) in moves {
        table.record_range(entry(first), nr, id(old)).unwrap();
        assert_eq!(table.migrate(id(old), id(new)), nr);
    }
    table
}

#[test]
fn a_migration_of_an_id_whose_records_are_gone_says_that_none_is_left() {
    for left in [1, 2] {
        let table = with_spilled(REGION, &[(0, 1, 1, X), (1, left, 2, Y)]);
        table.clear(entry(0)).unwrap();
        let migrated = table.migration(id(X), id(1)).run();
        assert_eq!(
            (migrated.moved, migrated.left_at_most),
            (0, 0),
            "{left} of another id"
        );
        table.validate().unwrap();
        assert_eq!(table.count(id(Y)), left);
    }
}

/// That would scan the region under the lock, in addition to the part.
#[test]
fn a_part_of_a_migration_counts_no_region_anew() {
    let table = with_spilled(2 * REGION, &[(0, 5, 1, X), (5, 7, 2, Y)]);
    table.record_range(entry(100), 3, id(1)).unwrap();
    assert_eq!(table.count_upper_bound(id(X)), 12);
    // The group of both regions gets cells for the block of X.
    table.record(entry(REGION), id(X2)).unwrap();
    let mut migration = table.migration(id(1), id(X)).max_hold(CHUNK_ENTRIES);
    while migration.step(1) == Step::More {}
    table.validate().unwrap();
    assert_eq!((table.count(id(X)), table.count(id(Y))), (8, 7));
    assert_eq!(
        table.count_upper_bound(id(X)),
        15,
        "the whole region was scanned"
    );
}

/// Otherwise a batch of ids in many blocks would scan the region for each of them, under one hold.
#[test]
fn a_window_of_a_batch_counts_one_block_anew() {
    let table = with_spilled(2 * REGION, &[(0, 5, 1, X), (5, 7, 2, Y)]);
    let batch = [(entry(REGION / 2), id(X2)), (entry(REGION / 2 + 1), id(Y2))];
    for (_, id) in batch {
        table.record(entry(REGION), id).unwrap();
    }
    let bounds = || [X, Y].map(|of| table.count_upper_bound(id(of)));
    assert_eq!(bounds(), [12, 12]);
    table.record_batch_ids(&batch, |_, _| ()).unwrap();
    table.validate().unwrap();
    assert_eq!(
        bounds(),
        [5, 8],
        "both blocks were counted anew under one lock"
    );
    table.record(entry(REGION / 2 + 2), id(Y2)).unwrap();
    table.validate().unwrap();
    assert_eq!(bounds(), [5, 7]);
}
