//! Tables without an operating system: how many bytes they take, and what they do when a page is refused.
//!
//! `cargo test -p swap-records --no-default-features --test pages -- --nocapture` prints the bytes. With
//! feature `std`, this file is empty.
#![cfg(not(feature = "std"))]

use core::ptr::NonNull;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use swap_records::memcg::{MemcgError, Memcgs};
use swap_records::{
    CHUNK_ENTRIES, EntryError, Exchange, GlobalPages, MemcgId, Page, PageSource, REGION_ENTRIES,
    SwapEntry, SwapRecords, SwapType,
};

const TYPE: SwapType = SwapType::new(0).unwrap();
const REGION: u64 = REGION_ENTRIES as u64;
const CHUNK: u64 = CHUNK_ENTRIES as u64;
/// 1 GiB of swap.
const GIB: u64 = 1 << 18;

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

thread_local! {
    /// The bytes that this thread has allocated, modulo 2^64, because it may free memory of another thread.
    /// And the size of its largest allocation.
    static BYTES: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = BYTES.try_with(|bytes| bytes.set(bytes.get().wrapping_add(layout.size())));
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let _ = BYTES.try_with(|bytes| bytes.set(bytes.get().wrapping_sub(layout.size())));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) };
    }
}

/// Returns the bytes that a table takes, and its largest allocation.
fn bytes(table: impl FnOnce(&SwapRecords)) -> (usize, usize) {
    let records = SwapRecords::new();
    LARGEST.set(0);
    let before = BYTES.get();
    table(&records);
    let taken = BYTES.get().wrapping_sub(before);
    let said = records.footprint().total().resident;
    let said = usize::try_from(said).unwrap();
    // The footprint does not include the areas themselves.
    assert!(taken - said < 1024, "{said} said, {taken} taken");
    let largest = LARGEST.get();
    drop(records);
    assert_eq!(BYTES.get(), before, "all of it comes back");
    (taken, largest)
}

#[test]
fn a_table_takes_what_the_swap_in_use_does() {
    for (what, pages, documented) in [
        ("1 GiB", GIB, 9_416),
        ("1 TiB", GIB << 10, 21_200),
        ("8 TiB", GIB << 13, 107_440),
    ] {
        let (on, largest) = bytes(|table| table.swapon(TYPE, pages).unwrap());
        // The documentation of the crate and README have these numbers.
        let is_another_target = cfg!(not(all(target_pointer_width = "64", not(miri))));
        assert!(on == documented || is_another_target, "{what}: {on}");
        println!("{what} of swap turned on: {on} bytes, the largest allocation {largest}");
        assert!(on <= 4 << 20);
        assert!(largest <= if pages > GIB << 10 { 32 << 10 } else { 4096 });
    }
    let (one, _) = bytes(|table| {
        table.swapon(TYPE, GIB).unwrap();
        table.record(entry(GIB / 2), id(7)).unwrap();
    });
    println!("1 GiB of swap and one record: {one} bytes");
    assert!(one <= 40 << 10);
    let (full, largest) = bytes(|table| {
        table.swapon(TYPE, GIB).unwrap();
        for offset in 0..GIB {
            let owner = id(1 + u16::try_from(offset % 60).unwrap());
            table.record(entry(offset), owner).unwrap();
        }
    });
    let per_slot = full as f64 / GIB as f64;
    println!("1 GiB of swap in use by 60 ids: {full} bytes, {per_slot:.3} per slot");
    assert!(full as f64 <= 1.1 * 2.0 * GIB as f64);
    assert!(largest <= 4096);
}

/// Gives pages of the global allocator, up to a number of them.
struct Quota {
    left: AtomicUsize,
    /// Whether there are pages again after one was refused.
    once: AtomicBool,
    refused: AtomicBool,
    out: AtomicUsize,
}

// SAFETY: the pages are those of `GlobalPages`.
unsafe impl PageSource for Quota {
    fn alloc_page(&self) -> Option<NonNull<Page>> {
        let less = |left: usize| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if self.left.fetch_update(order, order, less).is_err() {
            self.refused.store(true, order);
            if self.once.load(order) {
                self.allow(usize::MAX);
            }
            return None;
        }
        self.out.fetch_add(1, order);
        GlobalPages.alloc_page()
    }

    unsafe fn free_page(&self, page: NonNull<Page>) {
        self.out.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { GlobalPages.free_page(page) };
    }
}

impl Quota {
    fn new() -> &'static Self {
        /// The quotas are never freed. Miri finds them here at the end.
        static ALL: Mutex<Vec<&Quota>> = Mutex::new(Vec::new());
        let quota: &'static Self = Box::leak(Box::new(Self {
            left: AtomicUsize::new(usize::MAX),
            once: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            out: AtomicUsize::new(0),
        }));
        ALL.lock().unwrap().push(quota);
        quota
    }

    /// Gives so many pages, and refuses all after them.
    fn allow(&self, pages: usize) {
        self.once.store(false, Ordering::Relaxed);
        self.left.store(pages, Ordering::Relaxed);
    }

    /// Refuses the page after so many, and no other.
    fn refuse_after(&self, pages: usize) {
        self.allow(pages);
        self.once.store(true, Ordering::Relaxed);
    }

    fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn out(&self) -> usize {
        self.out.load(Ordering::Relaxed)
    }
}

type Operation = fn(&SwapRecords) -> Result<(), EntryError>;

/// Slots in two regions and three chunks that were never written.
const FRESH: u64 = 20 * REGION - CHUNK - 5;

/// Operations that take pages, and the slots that the error may name: where they start, and how many they are.
const TAKE_PAGES: [(&str, &[(u64, u64)], Operation); 9] = [
    ("record", &[(FRESH, 1)], |t| {
        t.record(entry(FRESH), id(9)).map(drop)
    }),
    ("cmpxchg", &[(FRESH, 1)], |t| {
        assert_eq!(t.cmpxchg(entry(FRESH), None, id(9))?, Exchange::Stored);
        Ok(())
    }),
    ("record_range", &[(FRESH, 2 * CHUNK)], |t| {
        t.record_range(entry(FRESH), 2 * CHUNK, id(900)).map(drop)
    }),
    ("record_range of a folio", &[(FRESH, 16)], |t| {
        t.record_range(entry(FRESH), 16, id(900)).map(drop)
    }),
    ("record_range_with", &[(FRESH, 2 * CHUNK)], |t| {
        t.record_range_with(entry(FRESH), 2 * CHUNK, id(9), |_| ())
    }),
    ("record_batch", &[(FRESH + 7, 1), (40 * REGION, 1)], |t| {
        let slots = [0, FRESH + 7, 40 * REGION].map(entry);
        t.record_batch(&slots, id(9), |_, _| ())
    }),
    ("record_batch_ids", &[(FRESH + 7, 1)], |t| {
        let slots = [(entry(0), id(3)), (entry(FRESH + 7), id(4000))];
        t.record_batch_ids(&slots, |_, _| ())
    }),
    ("reserve", &[(FRESH, 2 * CHUNK)], |t| {
        t.reserve(entry(FRESH), 2 * CHUNK)
    }),
    (
        "record of an id that shares its counter",
        &[(FRESH, 1)],
        |t| t.record(entry(FRESH), id(4096)).map(drop),
    ),
];

/// A table with one record, whose pages come from the quota.
fn with_one_record(quota: &'static Quota) -> SwapRecords {
    let records = SwapRecords::new().with_page_source(quota);
    records.swapon(TYPE, 64 * REGION).unwrap();
    records.record(entry(0), id(1)).unwrap();
    records
}

#[test]
fn operations_that_need_pages_are_refused_with_nothing_written() {
    for (name, named, operation) in TAKE_PAGES {
        let mut refusals = 0;
        // With each number of pages, and with all but one.
        for (nth, only) in (0..).flat_map(|nth| [(nth, true), (nth, false)]) {
            let quota = Quota::new();
            let records = with_one_record(quota);
            if only {
                quota.refuse_after(nth);
            } else {
                quota.allow(nth);
            }
            let done = operation(&records);
            let was_refused = quota.has_refused();
            quota.allow(usize::MAX);
            records.validate().unwrap();
            match done {
                Ok(()) if !only && !was_refused => break,
                // It does without the cells of an id.
                Ok(()) => continue,
                Err(EntryError::OutOfMemory {
                    start,
                    nr,
                    bytes: 4096,
                }) => {
                    assert!(was_refused);
                    refusals += 1;
                    assert!(
                        named.contains(&(start.offset(), nr)),
                        "{name} names {nr} slots from {start:?} on"
                    );
                }
                Err(other) => panic!("{name}: {other:?}"),
            }
            assert!(records.owners().eq([(id(1), 1)]), "{name} wrote something");
            // The operation succeeds once there is memory.
            operation(&records).unwrap();
            records.validate().unwrap();
            drop(records);
            assert_eq!(quota.out(), 0, "{name}");
        }
        // The group, its bits, the chunk.
        assert!(refusals >= 7, "{name}: {refusals}");
    }
}

#[test]
fn a_batch_of_pages_that_goes_out_and_gets_no_page_leaves_the_tree_as_it_was() {
    let slots = [FRESH, 5, FRESH + CHUNK, 40 * REGION].map(entry);
    let mut refusals = 0;
    for (nth, only) in (0..).flat_map(|nth| [(nth, true), (nth, false)]) {
        let quota = Quota::new();
        let memcgs = Memcgs::new().with_page_source(quota);
        memcgs.swapon(TYPE, 64 * REGION).unwrap();
        let job = memcgs.create(memcgs.root()).unwrap();
        memcgs.charge(job, 100).unwrap();
        let before = memcgs.usage(job);
        if only {
            quota.refuse_after(nth);
        } else {
            quota.allow(nth);
        }
        let done = memcgs.swap_out_batch(job, &slots);
        let was_refused = quota.has_refused();
        quota.allow(usize::MAX);
        memcgs.validate().unwrap();
        if done.is_ok() {
            if !only && !was_refused {
                break;
            }
            continue;
        }
        let Err(MemcgError::Entry(EntryError::OutOfMemory {
            start,
            nr: 1,
            bytes: 4096,
        })) = done
        else {
            panic!("{done:?}");
        };
        assert!(slots.contains(&start));
        refusals += 1;
        assert_eq!(memcgs.usage(job), before);
        assert!(
            slots
                .iter()
                .all(|&slot| memcgs.records().lookup(slot).is_none())
        );
        // When there is memory, it can be done.
        assert_eq!(memcgs.swap_out_batch(job, &slots), Ok(job));
        memcgs.validate().unwrap();
        drop(memcgs);
        assert_eq!(quota.out(), 0);
    }
    // Three groups, their bits, and four chunks.
    assert!(refusals >= 20, "{refusals}");
}

#[test]
fn operations_that_free_migrate_or_read_take_no_page() {
    let quota = Quota::new();
    let records = SwapRecords::new().with_page_source(quota);
    records.swapon(TYPE, 64 * REGION).unwrap();
    records.record_range(entry(5), 3 * CHUNK, id(1)).unwrap();
    records.record(entry(17 * REGION), id(2)).unwrap();
    quota.allow(0);
    assert_eq!(records.lookup(entry(60 * REGION)), None);
    assert_eq!(records.clear(entry(60 * REGION)), Ok(None));
    assert_eq!(
        records.cmpxchg(entry(60 * REGION), id(7), id(8)),
        Ok(Exchange::Mismatch(None))
    );
    assert!(
        records
            .clear_range(entry(50 * REGION), 2)
            .unwrap()
            .is_empty()
    );
    records.clear_range_with(entry(0), 10, |_| ()).unwrap();
    let slots = [3, 59 * REGION, 9 * REGION, 12].map(entry);
    let mut told = 0;
    records.clear_batch(&slots, |_, _| told += 1).unwrap();
    assert_eq!(told, 1);
    // To ids that have no cells there.
    let left = 3 * CHUNK - 6;
    assert_eq!(records.migrate(id(1), id(3000)), left);
    assert_eq!(records.migrate(id(2), id(65535)), 1);
    records.validate().unwrap();
    assert_eq!(records.count(id(3000)), left);
    assert!(records.owners().eq([(id(3000), left), (id(65535), 1)]));
    assert_eq!(
        records.runs_of(id(3000)).map(|run| run.len).sum::<u64>(),
        left
    );
    assert_eq!(records.swapoff(TYPE), Ok(left + 1));
    records.swapon(TYPE, 64 * REGION).unwrap();
    // The pages are free again.
    records.record(entry(5), id(1)).unwrap();
    records.validate().unwrap();
}

/// Ids in three blocks of counters without pages are counted together. Each of them is found, moved and
/// cleared as if it had a cell of its own. It gets its own cell when there is memory again.
#[test]
fn ids_whose_cells_are_refused_are_counted_together_until_there_is_memory() {
    let quota = Quota::new();
    let records = SwapRecords::new().with_page_source(quota);
    records.swapon(TYPE, 2 * REGION).unwrap();
    // Under Miri, there are few counters.
    let ids = if cfg!(miri) {
        [4, 8, 9]
    } else {
        [100, 1000, 1001]
    };
    let [a, b, c] = ids.map(id);
    for offset in 0..30 {
        let owner = [id(1), id(2), id(3)][usize::try_from(offset % 3).unwrap()];
        records.record(entry(offset * 7), owner).unwrap();
    }
    quota.allow(0);
    for (from, to) in [(id(1), a), (id(2), b), (id(3), c)] {
        assert_eq!(records.migrate(from, to), 10);
        records.validate().unwrap();
    }
    assert!(records.owners().eq([(a, 10), (b, 10), (c, 10)]));
    assert_eq!(records.count(b), 10);
    assert!(records.count_upper_bound(b) >= 10);
    // A migration between two of them leaves no record of the first one, and the index shows that.
    let report = records.migration(b, c).run();
    assert_eq!((report.moved, report.left_at_most), (10, 0));
    records.validate().unwrap();
    // Records that are written meanwhile are counted, too.
    assert_eq!(records.record(entry(1), b), Ok(None));
    assert_eq!(records.clear(entry(0)), Ok(Some(a)));
    records.validate().unwrap();
    assert!(records.owners().eq([(a, 9), (b, 1), (c, 20)]));
    // When there is memory, the next record moves the counts of its block to the block's own cells.
    quota.allow(usize::MAX);
    records.record(entry(2), c).unwrap();
    records.validate().unwrap();
    assert_eq!(records.count_upper_bound(c), 21);
    records.record(entry(3), a).unwrap();
    records.validate().unwrap();
    assert_eq!(records.migrate(a, c), 10);
    let report = records.migration(c, id(1)).run();
    assert_eq!((report.moved, report.left_at_most), (31, 0));
    records.validate().unwrap();
    assert_eq!(records.swapoff(TYPE), Ok(32));
}

#[test]
fn reserved_slots_are_recorded_without_memory_whatever_the_id() {
    let quota = Quota::new();
    let records = SwapRecords::new().with_page_source(quota);
    records.swapon(TYPE, 4 * REGION).unwrap();
    records.reserve(entry(REGION - 10), 20).unwrap();
    quota.allow(0);
    for offset in 0..20 {
        let owner = id(1 + u16::try_from(offset).unwrap() * 3000);
        records.record(entry(REGION - 10 + offset), owner).unwrap();
        records.validate().unwrap();
    }
    assert_eq!(records.owners().count(), 20);
    assert!(records.record(entry(5 * CHUNK), id(1)).is_err());
    // Slots that are not in the swapfile are refused.
    let past = records.reserve(entry(4 * REGION - 1), 2);
    assert!(matches!(past, Err(EntryError::OutOfRange { .. })));
}

#[test]
fn pages_stay_for_the_next_swapon_until_they_are_trimmed() {
    let quota = Quota::new();
    let mut records = SwapRecords::new().with_page_source(quota);
    records.swapon(TYPE, 4 * REGION).unwrap();
    records.record_range(entry(0), 2 * CHUNK, id(1)).unwrap();
    let out = quota.out();
    assert!(out >= 5);
    assert_eq!(records.trim_pages(), 0, "it is on");
    assert_eq!(records.swapoff(TYPE), Ok(2 * CHUNK));
    assert_eq!(quota.out(), out);
    records.swapon(TYPE, 4 * REGION).unwrap();
    assert_eq!(records.lookup(entry(0)), None);
    assert_eq!(records.owners().count(), 0);
    records.record(entry(0), id(2)).unwrap();
    assert_eq!(quota.out(), out);
    let mut walk = records.runs(TYPE);
    assert!(walk.next().is_some());
    assert_eq!(records.swapoff(TYPE), Ok(1));
    // SAFETY: there is no other thread.
    assert_eq!(unsafe { records.begin_trim().finish() }, out as u64);
    assert_eq!(quota.out(), 0);
    // An iterator that is kept is not an operation under way.
    assert!(walk.next().is_none());
    records.swapon(TYPE, 4 * REGION).unwrap();
    records.record(entry(0), id(2)).unwrap();
    records.validate().unwrap();
    assert_eq!(records.owners().next(), Some((id(2), 1)));
    drop(records);
    assert_eq!(quota.out(), 0);
}

#[test]
fn a_swap_out_that_gets_no_page_leaves_the_tree_as_it_was() {
    for slots in [10, REGION] {
        let quota = Quota::new();
        let memcgs = Memcgs::new().with_page_source(quota);
        memcgs.swapon(TYPE, 4 * REGION).unwrap();
        let job = memcgs.create(memcgs.root()).unwrap();
        memcgs.charge(job, REGION).unwrap();
        let before = memcgs.usage(job);
        for left in 0..5 {
            quota.allow(left);
            let refused = memcgs.swap_out(job, entry(REGION - 5), slots);
            if left < 3 || slots > 10 {
                let of_memory = MemcgError::Entry(EntryError::OutOfMemory {
                    start: entry(REGION - 5),
                    nr: slots,
                    bytes: 4096,
                });
                assert_eq!(refused, Err(of_memory));
                assert_eq!(memcgs.usage(job), before);
            }
            memcgs.validate().unwrap();
        }
        quota.allow(usize::MAX);
        memcgs.reserve(entry(2 * REGION), REGION).unwrap();
        quota.allow(0);
        if slots > 10 {
            assert_eq!(memcgs.swap_out(job, entry(2 * REGION), slots), Ok(job));
        }
        memcgs.validate().unwrap();
    }
}

#[test]
fn a_block_that_gets_its_cells_back_has_bits_for_its_records_alone() {
    let table = SwapRecords::new();
    table.swapon(TYPE, REGION).unwrap();
    // Ids of two blocks get records by migrations, which make no cells: both blocks are spilled.
    for (first, old, new) in [(0, 1, 200), (2, 2, 300)] {
        table.record_range(entry(first), 2, id(old)).unwrap();
        assert_eq!(table.migrate(id(old), id(new)), 2);
    }
    table.clear_range(entry(0), 2).unwrap();
    table.validate().unwrap();
    // A record of the first block makes its cells.
    table.record(entry(5), id(201)).unwrap();
    table.validate().unwrap();
    table.clear(entry(5)).unwrap();
    table.validate().unwrap();
    assert_eq!((table.count(id(200)), table.count(id(300))), (0, 2));
}
