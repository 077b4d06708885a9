//! The iterators: they have names, can be kept in a struct, and end as they promise.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::iter::FusedIterator;

use swap_records::memcg::{self, Memcgs};
use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType, SwapTypes, TableOwners, TableRuns};

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(ty(), offset).unwrap()
}

fn ty() -> SwapType {
    SwapType::new(0).unwrap()
}

/// Records appear later, ahead of the place where the iterator ended, in the same type.
#[test]
fn an_iterator_that_has_ended_stays_at_its_end() {
    let table = SwapRecords::new();
    table.swapon(ty(), 1 << 17).unwrap();
    let mut of_type = table.runs(ty());
    let mut of_id = table.runs_of(id(1));
    let mut of_last = table.runs(SwapType::new(31).unwrap());
    assert_eq!(
        (of_type.next(), of_id.next(), of_last.next()),
        (None, None, None)
    );
    table.swapon(SwapType::new(31).unwrap(), 100).unwrap();
    for entry in [
        entry(1 << 16),
        SwapEntry::new(SwapType::new(31).unwrap(), 9).unwrap(),
    ] {
        table.record(entry, id(1)).unwrap();
    }
    assert_eq!(of_type.next(), None, "runs");
    assert_eq!(of_id.next(), None, "runs_of");
    assert_eq!(of_last.next(), None, "runs of a type that came on");
}

/// A struct that keeps iterators, and the traits that each of them has.
#[derive(Clone, Debug)]
struct Kept<'t> {
    of_type: TableRuns<'t>,
    owners: TableOwners<'t>,
    memcgs: memcg::Iter<'t>,
    types: SwapTypes,
}

#[test]
fn iterators_are_named_can_be_kept_and_go_on_where_their_clones_were_made() {
    fn fused(_: &impl FusedIterator) {}
    fn both_ends(_: &(impl DoubleEndedIterator + FusedIterator)) {}
    fn exact(_: &(impl DoubleEndedIterator + ExactSizeIterator + FusedIterator)) {}

    let (table, memcgs) = (SwapRecords::new(), Memcgs::new());
    table.swapon(ty(), 5000).unwrap();
    for offset in [7, 8, 2000, 4999] {
        table.record(entry(offset), id(3)).unwrap();
    }
    let mut kept = Kept {
        of_type: table.runs(ty()),
        owners: table.owners(),
        memcgs: memcgs.iter(),
        types: SwapType::all(),
    };
    fused(&kept.of_type);
    fused(&kept.owners);
    both_ends(&kept.memcgs);
    exact(&kept.types);
    exact(&table.clear_range(entry(0), 0).unwrap().into_iter());

    let all: Vec<_> = kept.of_type.clone().collect();
    assert_eq!(all.iter().map(|run| run.len).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(kept.of_type.next(), Some(all[0]));
    assert!(kept.clone().of_type.eq(all[1..].iter().copied()));
    assert!(kept.of_type.eq(all[1..].iter().copied()));
    assert!(table.runs_of(id(3)).eq(all));
    assert!(kept.owners.eq([(id(3), 4)]));

    assert_eq!(kept.types.next_back(), SwapType::new(31));
    assert_eq!(
        (kept.types.len(), kept.types.nth(30)),
        (31, SwapType::new(30))
    );
    assert_eq!((kept.types.next(), kept.types.next_back()), (None, None));
}

/// The system's allocator. It counts the requests of each thread.
struct Counted;

thread_local! {
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does what is asked. A `const` thread-local without a destructor allocates
// nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc`, so from the system's allocator, with this layout.
        unsafe { System.dealloc(at, layout) };
    }
}

#[global_allocator]
static COUNTED: Counted = Counted;

#[test]
fn iterators_ask_for_no_memory() {
    let (table, memcgs) = (SwapRecords::new(), Memcgs::new());
    table.swapon(ty(), 132_000).unwrap();
    for offset in (0..132_000).step_by(1000) {
        table.record_range(entry(offset), 600, id(1)).unwrap();
    }
    memcgs.create(memcgs.root()).unwrap();
    let before = ASKED.get();
    assert!(before > 0, "nothing is counted");
    let runs = table.runs(ty());
    assert_eq!(runs.clone().count() + table.runs_of(id(1)).count(), 2 * 132);
    assert_eq!(memcgs.iter().count() + SwapType::all().count(), 2 + 32);
    assert_eq!(memcgs.records().runs(ty()).count(), 0);
    assert_eq!(
        table.owners().count() + memcgs.records().owners().count(),
        1
    );
    assert_eq!(table.count(id(1)), 132 * 600);
    assert!(table.footprint().total().reserved > 0);
    drop(runs);
    assert_eq!(ASKED.get() - before, 0);
}

/// An iterator fits on the stack of a kernel, which has 8 or 16 KiB in all.
#[test]
fn an_iterator_of_a_table_takes_little_more_than_a_kibibyte() {
    let size = size_of::<TableRuns<'_>>();
    assert!(size <= 1280, "{size} bytes");
    let size = size_of::<TableOwners<'_>>();
    assert!(size <= 640, "{size} bytes");
}

#[test]
fn a_tree_is_iterated_from_both_ends_whichever_of_its_ids_are_used() {
    let memcgs = Memcgs::new();
    let root = memcgs.root();
    assert!(memcgs.iter().eq([root]) && memcgs.iter().rev().eq([root]));
    let all: Vec<_> = (0..300).map(|_| memcgs.create(root).unwrap()).collect();
    let mut there = vec![root];
    // All ids of some blocks, none of others, and ids at the ends of blocks.
    for memcg in all {
        if [1, 63, 64, 65, 127, 256].contains(&memcg.id().get()) || memcg.id().get() > 290 {
            there.push(memcg);
        } else {
            memcgs.css_offline(memcg, 0).unwrap();
            memcgs.css_free(memcg).unwrap();
        }
    }
    assert!(memcgs.iter().eq(there.iter().copied()));
    assert!(memcgs.iter().rev().eq(there.iter().rev().copied()));
    assert!((&memcgs).into_iter().eq(there.iter().copied()));
    for front in 0..=there.len() {
        let mut iter = memcgs.iter();
        assert!(iter.by_ref().take(front).eq(there[..front].iter().copied()));
        let (least, most) = iter.size_hint();
        assert!(least <= there.len() - front && most.unwrap() >= there.len() - front);
        assert!(iter.by_ref().rev().eq(there[front..].iter().rev().copied()));
        assert_eq!((iter.next(), iter.next_back()), (None, None));
    }
    let mut ended = memcgs.iter();
    assert_eq!(ended.by_ref().count(), there.len());
    memcgs.create(root).unwrap();
    assert_eq!(ended.next(), None);
}
