//! Tests the operations of a tree of cgroups on one thread: what each changes, and what each refuses.

use lock_api::RawMutex;
use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource, Usage};
use swap_records::{
    EntryError, MemcgId, REGION_ENTRIES, RawSpinLock, Run, SwapEntry, SwapRecords, SwapType,
};

const REGION: u64 = REGION_ENTRIES as u64;
const PAGES: u64 = 2 * REGION;

fn ty() -> SwapType {
    SwapType::new(3).unwrap()
}

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(ty(), offset).unwrap()
}

fn with_swap() -> Memcgs {
    let memcgs = Memcgs::new();
    memcgs.swapon(ty(), PAGES).unwrap();
    memcgs
}

/// Returns memory, memsw, own pages in memory, and own records of the cgroup.
fn numbers(memcgs: &Memcgs, memcg: Memcg) -> [u64; 4] {
    let usage = memcgs.usage(memcg).unwrap();
    [usage.memory, usage.memsw, usage.own, usage.swap]
}

/// Makes a parent, and a child of it that has 3 pages in memory and 5 in swap, from slot 10 on.
fn family(memcgs: &Memcgs) -> (Memcg, Memcg) {
    let parent = memcgs.create(memcgs.root()).unwrap();
    let child = memcgs.create(parent).unwrap();
    memcgs.charge(child, 8).unwrap();
    assert_eq!(memcgs.swap_out(child, entry(10), 5), Ok(child));
    (parent, child)
}

/// Frees slots, and returns the runs of their owners.
fn freed(memcgs: &Memcgs, start: SwapEntry, nr: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    let freed = memcgs.free_swap_with(start, nr, |run| runs.push(run));
    assert_eq!(freed, Ok(runs.iter().map(|run| run.len).sum()));
    runs
}

/// Returns the usage of each cgroup, to be compared after an operation.
fn all(memcgs: &Memcgs) -> Vec<(Memcg, Usage)> {
    memcgs
        .iter()
        .map(|memcg| (memcg, memcgs.usage(memcg).unwrap()))
        .collect()
}

/// Asserts that the operation fails with this error and changes nothing.
#[track_caller]
fn refused<T: std::fmt::Debug + PartialEq>(
    memcgs: &Memcgs,
    with: MemcgError,
    operation: impl FnOnce() -> Result<T, MemcgError>,
) {
    let before = all(memcgs);
    let runs = |memcgs: &Memcgs| memcgs.records().runs(ty()).collect::<Vec<_>>();
    let records = runs(memcgs);
    assert_eq!(operation(), Err(with));
    assert_eq!(all(memcgs), before, "after: {with}");
    assert_eq!(runs(memcgs), records, "after: {with}");
    memcgs.validate().unwrap();
}

#[test]
fn a_page_goes_out_and_in_and_leaves_nothing() {
    let memcgs = with_swap();
    let (parent, child) = family(&memcgs);
    assert_eq!(numbers(&memcgs, child), [3, 8, 3, 5]);
    assert_eq!(numbers(&memcgs, parent), [3, 8, 0, 0]);
    assert_eq!(numbers(&memcgs, memcgs.root()), [3, 8, 0, 0]);
    memcgs.validate().unwrap();

    // A page of the swap cache: the page and its slot are both charged, until the slot is freed.
    assert_eq!(memcgs.swap_in_cached(entry(10), 2), Ok(child));
    assert_eq!(numbers(&memcgs, child), [5, 10, 5, 5]);
    let freed = freed(&memcgs, entry(10), 2);
    let run = |offset, len, id| Run {
        start: entry(offset),
        len,
        id,
    };
    assert_eq!(freed, [run(10, 2, child.id())]);
    assert_eq!(numbers(&memcgs, child), [5, 8, 5, 3]);
    assert_eq!(numbers(&memcgs, parent), [5, 8, 0, 0]);
    memcgs.validate().unwrap();

    // Slots without a record are not an error. The other slots are freed.
    assert_eq!(
        self::freed(&memcgs, entry(0), 100),
        [run(12, 3, child.id())]
    );
    memcgs.uncharge(child, 5).unwrap();
    for memcg in [child, parent, memcgs.root()] {
        assert_eq!(numbers(&memcgs, memcg), [0; 4]);
    }
    memcgs.validate().unwrap();
}

#[test]
fn ranges_reach_over_regions() {
    let memcgs = with_swap();
    let child = memcgs.create(memcgs.root()).unwrap();
    memcgs.charge(child, PAGES).unwrap();
    memcgs.swap_out(child, entry(0), PAGES).unwrap();
    assert_eq!(numbers(&memcgs, child), [0, PAGES, 0, PAGES]);
    assert_eq!(memcgs.swap_in_cached(entry(REGION - 4), 8), Ok(child));
    memcgs.uncharge(child, 8).unwrap();
    let freed = freed(&memcgs, entry(1), PAGES - 2);
    // One owner, one run.
    assert_eq!((freed.len(), freed[0].len), (1, PAGES - 2));
    assert_eq!(numbers(&memcgs, child), [0, 2, 0, 2]);
    memcgs.validate().unwrap();
}

#[test]
fn ids_are_given_lowest_first_and_again_after_css_free() {
    let memcgs = Memcgs::new();
    let root = memcgs.root();
    assert_eq!(root.id().get(), 1);
    let few: Vec<_> = (2..=200)
        .map(|id| {
            let memcg = memcgs.create(root).unwrap();
            assert_eq!(memcg.id().get(), id);
            memcg
        })
        .collect();
    for removed in [few[150], few[7]] {
        memcgs.css_offline(removed, 0).unwrap();
        // An offline cgroup still has its id.
        assert_eq!(memcgs.find(removed.id()), Some(removed));
        memcgs.css_free(removed).unwrap();
        assert_eq!(memcgs.find(removed.id()), None);
    }
    assert_eq!(memcgs.ids_in_use(), 198);
    let again = memcgs.create(few[3]).unwrap();
    assert_eq!(again.id(), few[7].id());
    assert_ne!(again, few[7]);
    assert_eq!(memcgs.create(root).unwrap().id(), few[150].id());
    assert_eq!(memcgs.create(root).unwrap().id().get(), 201);
    assert_eq!(memcgs.parent(again), Ok(Some(few[3])));
    assert_eq!(memcgs.parent(root), Ok(None));
    memcgs.validate().unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "65,534 cgroups take too long")]
fn the_last_id_is_given_and_then_there_is_none() {
    let memcgs = Memcgs::new();
    let root = memcgs.root();
    let mut last = root;
    for _ in 2..=u16::MAX {
        last = memcgs.create(root).unwrap();
    }
    assert_eq!(last.id(), MemcgId::MAX);
    assert_eq!(memcgs.ids_in_use(), u32::from(u16::MAX));
    assert_eq!(memcgs.create(root), Err(MemcgError::NoId));
    let middle = memcgs.find(MemcgId::new(40_000).unwrap()).unwrap();
    memcgs.css_offline(middle, 0).unwrap();
    memcgs.css_free(middle).unwrap();
    assert_eq!(memcgs.create(last).unwrap().id().get(), 40_000);
    memcgs.validate().unwrap();
}

#[test]
fn a_charge_is_for_all_ancestors_or_none() {
    let memcgs = with_swap();
    let (parent, child) = family(&memcgs);
    let sibling = memcgs.create(parent).unwrap();
    for resource in [Resource::Memory, Resource::Memsw] {
        let used = match resource {
            Resource::Memory => 3,
            _ => 8,
        };
        memcgs
            .set_limit(parent, Resource::Memory, Some(used + 4))
            .unwrap();
        memcgs.set_limit(parent, resource, Some(used + 4)).unwrap();
        let over = |nr| MemcgError::OverLimit {
            id: parent.id(),
            resource,
            nr,
            usage: used,
            limit: used + 4,
        };
        // More pages would exceed the limit of memory as well.
        let too_much = match resource {
            Resource::Memory => [5, 100, 1 << 60],
            _ => [5, 6, 9],
        };
        for nr in too_much {
            refused(&memcgs, over(nr), || memcgs.charge(child, nr));
            refused(&memcgs, over(nr), || memcgs.charge(sibling, nr));
        }
        refused(&memcgs, over(5), || memcgs.swap_in_cached(entry(10), 5));
        // Either cgroup can use the whole limit, wherever the batches are.
        for memcg in [child, sibling, child] {
            memcgs.charge(memcg, 4).unwrap();
            assert!(memcgs.charge(sibling, 1).is_err());
            assert!(memcgs.charge(child, 1).is_err());
            memcgs.uncharge(memcg, 4).unwrap();
        }
        if resource == Resource::Memsw {
            memcgs.set_limit(parent, Resource::Memory, Some(3)).unwrap();
        }
        let below = MemcgError::LimitBelowUsage {
            id: parent.id(),
            resource,
            limit: used - 1,
            usage: used,
        };
        refused(&memcgs, below, || {
            memcgs.set_limit(parent, resource, Some(used - 1))
        });
        memcgs.set_limit(parent, resource, Some(used)).unwrap();
        memcgs.set_limit(parent, resource, None).unwrap();
        memcgs.set_limit(parent, Resource::Memory, None).unwrap();
        memcgs.charge(child, 1_000).unwrap();
        memcgs.uncharge(child, 1_000).unwrap();
    }
    assert_eq!(numbers(&memcgs, child), [3, 8, 3, 5]);
    assert_eq!(memcgs.usage(parent).unwrap().memory_limit, None);
    memcgs.validate().unwrap();
}

#[test]
fn records_follow_the_charge_when_they_move() {
    let memcgs = with_swap();
    let (parent, child) = family(&memcgs);
    let other = memcgs.create(memcgs.root()).unwrap();
    memcgs.charge(other, 1).unwrap();
    memcgs.swap_out(other, entry(12), 1).unwrap_err();
    memcgs.swap_out(other, entry(15), 1).unwrap();

    // Only the slots that `child` owns are moved, and only those in the range.
    assert_eq!(memcgs.move_swap_account(entry(12), 50, child, other), Ok(3));
    assert_eq!(numbers(&memcgs, child), [3, 5, 3, 2]);
    assert_eq!(numbers(&memcgs, parent), [3, 5, 0, 0]);
    assert_eq!(numbers(&memcgs, other), [0, 4, 0, 4]);
    memcgs.validate().unwrap();

    memcgs.set_limit(other, Resource::Memory, Some(5)).unwrap();
    memcgs.set_limit(other, Resource::Memsw, Some(5)).unwrap();
    let over = MemcgError::OverLimit {
        id: other.id(),
        resource: Resource::Memsw,
        nr: 2,
        usage: 4,
        limit: 5,
    };
    refused(&memcgs, over, || {
        memcgs.move_swap_account(entry(0), PAGES, child, other)
    });
    // A move to an ancestor exceeds no limit, and changes nothing for the ancestors of both.
    memcgs.set_limit(parent, Resource::Memory, Some(5)).unwrap();
    memcgs.set_limit(parent, Resource::Memsw, Some(5)).unwrap();
    assert_eq!(memcgs.move_swap_account(entry(0), 11, child, parent), Ok(1));
    assert_eq!(numbers(&memcgs, child), [3, 4, 3, 1]);
    assert_eq!(numbers(&memcgs, parent), [3, 5, 0, 1]);
    assert_eq!(memcgs.move_swap_account(entry(0), 99, child, child), Ok(0));
    // Back to the child.
    assert_eq!(memcgs.move_swap_account(entry(0), 99, parent, child), Ok(1));
    assert_eq!(numbers(&memcgs, child), [3, 5, 3, 2]);
    memcgs.validate().unwrap();
}

#[test]
fn pages_in_memory_move_when_their_owner_says_so() {
    let memcgs = with_swap();
    let (parent, child) = family(&memcgs);
    let not = MemcgError::NotCharged {
        id: child.id(),
        nr: 4,
        charged: 3,
    };
    refused(&memcgs, not, || memcgs.move_account(child, parent, 4));
    memcgs.move_account(child, parent, 2).unwrap();
    assert_eq!(numbers(&memcgs, child), [1, 6, 1, 5]);
    assert_eq!(numbers(&memcgs, parent), [3, 8, 2, 0]);
    let other = memcgs.create(memcgs.root()).unwrap();
    memcgs.set_limit(other, Resource::Memory, Some(1)).unwrap();
    let over = MemcgError::OverLimit {
        id: other.id(),
        resource: Resource::Memory,
        nr: 2,
        usage: 0,
        limit: 1,
    };
    refused(&memcgs, over, || memcgs.move_account(parent, other, 2));
    memcgs.move_account(parent, other, 1).unwrap();
    assert_eq!(numbers(&memcgs, other), [1, 1, 1, 0]);
    memcgs.validate().unwrap();
}

#[test]
fn remaining_records_of_a_cgroup_become_its_parents() {
    let memcgs = with_swap();
    let (parent, child) = family(&memcgs);
    let grandparent = memcgs.root();
    let busy = MemcgError::Busy {
        id: child.id(),
        pages: 3,
    };
    memcgs.css_offline(child, 0).unwrap();
    assert!(!memcgs.usage(child).unwrap().online);
    assert_eq!(numbers(&memcgs, child), [3, 8, 3, 5]);
    refused(&memcgs, busy, || memcgs.css_free(child));
    // An offline cgroup swaps out to its parent.
    assert_eq!(memcgs.swap_out(child, entry(100), 1), Ok(parent));
    assert_eq!(numbers(&memcgs, child), [2, 7, 2, 5]);
    assert_eq!(numbers(&memcgs, parent), [2, 8, 0, 1]);
    memcgs.validate().unwrap();
    // A swap-in of its slots charges the parent.
    assert_eq!(memcgs.swap_in_cached(entry(10), 1), Ok(parent));
    memcgs.uncharge(parent, 1).unwrap();
    memcgs.move_account(child, parent, 1).unwrap();
    memcgs.uncharge(child, 1).unwrap();

    let freed = memcgs.css_free(child).unwrap();
    assert_eq!((freed.moved, freed.left_at_most), (5, 0));
    assert_eq!(numbers(&memcgs, parent), [1, 7, 1, 6]);
    assert_eq!(numbers(&memcgs, grandparent), [1, 7, 0, 0]);
    assert_eq!(memcgs.records().count(child.id()), 0);
    assert_eq!(memcgs.records().count(parent.id()), 6);
    memcgs.validate().unwrap();

    // When the parent is freed as well, the root has all records.
    memcgs.uncharge(parent, 1).unwrap();
    memcgs.css_offline(parent, u64::MAX).unwrap();
    assert_eq!(memcgs.css_free(parent).unwrap().moved, 0);
    assert_eq!(numbers(&memcgs, grandparent), [0, 6, 0, 6]);
    memcgs.free_swap(entry(0), PAGES).unwrap();
    assert_eq!(numbers(&memcgs, grandparent), [0; 4]);
    memcgs.validate().unwrap();
}

#[test]
fn css_offline_migrates_within_its_budget() {
    let memcgs = with_swap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let child = memcgs.create(parent).unwrap();
    memcgs.charge(child, 20).unwrap();
    for region in 0..2 {
        memcgs.swap_out(child, entry(region * REGION), 10).unwrap();
    }
    let early = memcgs.css_offline(child, 0).unwrap();
    assert_eq!((early.moved, early.left_at_most), (0, 20));
    // A budget of 1 still migrates one region.
    let early = memcgs.css_offline(child, 1).unwrap();
    assert_eq!((early.moved, early.left_at_most), (10, 10));
    assert_eq!(numbers(&memcgs, child), [0, 10, 0, 10]);
    assert_eq!(numbers(&memcgs, parent), [0, 20, 0, 10]);
    memcgs.validate().unwrap();
    let freed = memcgs.css_free(child).unwrap();
    assert_eq!((freed.moved, freed.left_at_most), (10, 0));
    assert_eq!(numbers(&memcgs, parent), [0, 20, 0, 20]);
    memcgs.validate().unwrap();
}

/// The memsw counter says that no record is left. So the migration looks at no entry, even though another id
/// with records shares the counter of the index.
#[test]
#[cfg_attr(miri, ignore = "4,100 cgroups take too long")]
fn the_hint_ends_a_migration_where_the_index_cannot() {
    let memcgs = with_swap();
    let root = memcgs.root();
    let all: Vec<_> = (2..=4_100).map(|_| memcgs.create(root).unwrap()).collect();
    let of = |id: u16| all[usize::from(id) - 2];
    // 4 and 4100 are congruent modulo 4096.
    memcgs.charge(of(4), 100).unwrap();
    for slot in 0..100 {
        memcgs.swap_out(of(4), entry(2 * slot), 1).unwrap();
    }
    assert!(memcgs.records().count_upper_bound(of(4_100).id()) == 100);
    memcgs.css_offline(of(4_100), 0).unwrap();
    let freed = memcgs.css_free(of(4_100)).unwrap();
    assert!(freed.stopped_by_hint);
    assert_eq!((freed.moved, freed.chunks_scanned), (0, 0));
    memcgs.validate().unwrap();
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let memcgs = with_swap();
    let (parent, child) = family(&memcgs);
    let (root, id) = (memcgs.root(), child.id());
    let refused = |with, operation: &dyn Fn() -> Result<(), MemcgError>| {
        refused(&memcgs, with, operation);
    };

    // More pages than the cgroup itself has, although its parent has them; and the same for the parent.
    let not = |id, nr, charged| MemcgError::NotCharged { id, nr, charged };
    refused(not(id, 4, 3), &|| memcgs.uncharge(child, 4));
    refused(not(id, u64::MAX, 3), &|| memcgs.uncharge(child, u64::MAX));
    refused(not(parent.id(), 1, 0), &|| memcgs.uncharge(parent, 1));
    refused(not(root.id(), 1, 0), &|| memcgs.uncharge(root, 1));
    refused(not(id, 4, 3), &|| {
        memcgs.swap_out(child, entry(50), 4).map(|_| ())
    });
    memcgs.charge(child, 0).unwrap();
    memcgs.uncharge(child, 0).unwrap();

    // Slots that do not exist, that have an owner, or that have none.
    let range = |start, nr| {
        MemcgError::Entry(EntryError::OutOfRange {
            start: entry(start),
            nr,
            max_pages: PAGES,
        })
    };
    refused(range(PAGES - 1, 2), &|| {
        memcgs.swap_out(child, entry(PAGES - 1), 2).map(|_| ())
    });
    refused(range(0, u64::MAX), &|| {
        memcgs.free_swap(entry(0), u64::MAX).map(|_| ())
    });
    refused(range(PAGES, 1), &|| {
        memcgs.swap_in_cached(entry(PAGES), 1).map(|_| ())
    });
    refused(range(PAGES - 1, 9), &|| {
        let moved = memcgs.move_swap_account(entry(PAGES - 1), 9, child, parent);
        moved.map(|_| ())
    });
    let other = SwapEntry::new(SwapType::new(0).unwrap(), 9).unwrap();
    let off = MemcgError::Entry(EntryError::TypeOff {
        ty: other.swap_type(),
        offset: Some(9),
    });
    refused(off, &|| memcgs.swap_out(child, other, 1).map(|_| ()));
    refused(off, &|| memcgs.swap_in_cached(other, 1).map(|_| ()));
    refused(off, &|| memcgs.free_swap(other, 1).map(|_| ()));
    let taken = MemcgError::Occupied {
        entry: entry(10),
        owner: id,
    };
    refused(taken, &|| memcgs.swap_out(child, entry(8), 3).map(|_| ()));
    let empty = MemcgError::NoRecord { entry: entry(15) };
    refused(empty, &|| memcgs.swap_in_cached(entry(14), 2).map(|_| ()));
    refused(empty, &|| memcgs.swap_in(entry(14), 2).map(|_| ()));
    refused(off, &|| memcgs.swap_in(other, 1).map(|_| ()));
    refused(range(PAGES, 1), &|| {
        memcgs.swap_in(entry(PAGES), 1).map(|_| ())
    });
    assert_eq!(
        memcgs.swapoff(other.swap_type()),
        Err(EntryError::TypeOff {
            ty: other.swap_type(),
            offset: None
        })
    );

    // Cgroups in the wrong state.
    let free = |memcg| memcgs.css_free(memcg).map(|_| ());
    let offline = |memcg| memcgs.css_offline(memcg, 0).map(|_| ());
    refused(MemcgError::IsRoot, &|| offline(root));
    refused(MemcgError::IsRoot, &|| free(root));
    refused(MemcgError::Online { id }, &|| free(child));
    let has = MemcgError::HasChildren {
        id: parent.id(),
        children: 1,
    };
    refused(has, &|| offline(parent));
    offline(child).unwrap();
    offline(parent).unwrap();
    offline(child).unwrap();
    refused(has, &|| free(parent));
    let is_offline = MemcgError::Offline { id };
    refused(is_offline, &|| memcgs.charge(child, 1));
    refused(is_offline, &|| memcgs.create(child).map(|_| ()));
    refused(is_offline, &|| memcgs.move_account(root, child, 0));
    refused(is_offline, &|| {
        let moved = memcgs.move_swap_account(entry(0), 1, root, child);
        moved.map(|_| ())
    });
    // Both cgroups are offline, so the root is charged.
    assert_eq!(memcgs.swap_in_cached(entry(10), 1), Ok(root));
    memcgs.uncharge(root, 1).unwrap();

    memcgs.uncharge(child, 3).unwrap();
    free(child).unwrap();
    let gone = MemcgError::Gone { memcg: child };
    let again = memcgs.create(root).unwrap();
    assert_eq!(again.id(), id);
    memcgs.charge(again, 1).unwrap();
    refused(gone, &|| memcgs.charge(child, 1));
    refused(gone, &|| memcgs.uncharge(child, 1));
    refused(gone, &|| memcgs.swap_out(child, entry(20), 1).map(|_| ()));
    refused(gone, &|| memcgs.move_account(child, root, 1));
    refused(gone, &|| memcgs.move_account(again, child, 1));
    refused(gone, &|| memcgs.usage(child).map(|_| ()));
    refused(gone, &|| memcgs.parent(child).map(|_| ()));
    refused(gone, &|| memcgs.set_limit(child, Resource::Memory, None));
    refused(gone, &|| memcgs.create(child).map(|_| ()));
    refused(gone, &|| offline(child));
    refused(gone, &|| free(child));
    // A handle of another tree, which has more cgroups.
    let larger = Memcgs::new();
    for _ in 0..if cfg!(miri) { 100 } else { 1_000 } {
        larger.create(larger.root()).unwrap();
    }
    let unknown = larger.iter().last().unwrap();
    refused(MemcgError::Gone { memcg: unknown }, &|| {
        memcgs.charge(unknown, 1)
    });
}

#[test]
fn errors_say_what_where_and_what_to_do() {
    let memcgs = with_swap();
    let (_, child) = family(&memcgs);
    memcgs.set_limit(child, Resource::Memory, Some(9)).unwrap();
    memcgs.set_limit(child, Resource::Memsw, Some(9)).unwrap();
    let said = |error: MemcgError| error.to_string();
    assert_eq!(
        said(memcgs.charge(child, 2).unwrap_err()),
        "2 more pages would exceed the limit of cgroup 3 for memory and swap: 8 of 9 pages are charged; \
         free some, or raise the limit"
    );
    assert_eq!(
        said(memcgs.uncharge(child, 4).unwrap_err()),
        "cgroup 3 has 3 pages of its own in memory, not 4: name the cgroup that the pages are charged to"
    );
    assert_eq!(
        said(memcgs.css_free(child).unwrap_err()),
        "cgroup 3 is online: take it offline with css_offline first"
    );
    let refused = memcgs.free_swap(entry(PAGES), 1).unwrap_err();
    assert!(std::error::Error::source(&refused).is_some());
    assert_eq!(
        said(refused),
        std::error::Error::source(&refused).unwrap().to_string()
    );
}

#[test]
fn swapoff_uncharges_the_owners_of_the_records_that_it_drops() {
    let memcgs = with_swap();
    let other = SwapType::new(4).unwrap();
    memcgs.swapon(other, 100).unwrap();
    let (parent, child) = family(&memcgs);
    memcgs.charge(parent, 5).unwrap();
    memcgs.swap_out(parent, entry(REGION - 1), 2).unwrap();
    memcgs.swap_out(parent, entry(PAGES - 1), 1).unwrap();
    let kept = SwapEntry::new(other, 99).unwrap();
    memcgs.swap_out(parent, kept, 1).unwrap();
    assert_eq!(memcgs.swapoff(ty()), Ok(8));
    assert_eq!(memcgs.records().max_pages(ty()), None);
    assert_eq!(numbers(&memcgs, child), [3, 3, 3, 0]);
    assert_eq!(numbers(&memcgs, parent), [4, 5, 1, 1]);
    memcgs.validate().unwrap();
    memcgs.swapon(ty(), 10).unwrap();
    memcgs.swap_out(child, entry(9), 1).unwrap();
    assert_eq!(
        (memcgs.swapoff(ty()), memcgs.swapoff(other)),
        (Ok(1), Ok(1))
    );
    memcgs.validate().unwrap();
}

/// Makes a tree as after a restart: the table still exists, and the cgroups do not.
fn a_tree_is_made_over_a_table<L: RawMutex>() {
    let records = SwapRecords::<L>::with_raw_mutex();
    records.swapon(ty(), PAGES).unwrap();
    let id = |id| MemcgId::new(id).unwrap();
    records.record_range(entry(5), 10, id(300)).unwrap();
    records.record(entry(7), id(1)).unwrap();
    records.record(entry(REGION), id(2)).unwrap();
    let memcgs = Memcgs::with_records(records, []).unwrap();
    memcgs.validate().unwrap();
    let ids: Vec<_> = memcgs.iter().map(|memcg| memcg.id().get()).collect();
    assert_eq!(ids, [1, 2, 300]);
    let old = memcgs.find(id(300)).unwrap();
    assert_eq!(memcgs.usage(old).unwrap().swap, 9);
    assert_eq!(memcgs.create(old).unwrap().id(), id(3));
    let two = memcgs.find(id(2)).unwrap();
    memcgs.css_offline(two, 0).unwrap();
    memcgs.css_free(two).unwrap();
    assert_eq!(memcgs.usage(memcgs.root()).unwrap().memsw, 11);
    memcgs.validate().unwrap();
    let records = memcgs.into_records();
    assert_eq!((records.count(id(1)), records.count(id(300))), (2, 9));
}

#[test]
fn a_tree_is_made_over_a_table_of_either_lock() {
    a_tree_is_made_over_a_table::<RawSpinLock>();
    a_tree_is_made_over_a_table::<parking_lot::RawMutex>();
}

#[test]
fn a_tree_and_its_cgroups_say_what_they_are() {
    let memcgs = with_swap();
    let root = memcgs.root();
    assert!(memcgs.iter().eq([root]));
    let (parent, child) = family(&memcgs);
    assert!(memcgs.iter().eq([root, parent, child]));
    assert_eq!(format!("{child:?}"), "Memcg(3, 1)");
    assert_eq!(child.to_string(), "cgroup 3 (generation 1)");
    assert_eq!(
        format!("{memcgs:?}"),
        format!(
            "Memcgs {{ cgroups: [{root:?}, {parent:?}, {child:?}], records: {{3: {PAGES} pages}}, .. }}"
        )
    );
    let records = memcgs.records();
    assert_eq!(format!("{records:?}"), format!("{{3: {PAGES} pages}}"));
    assert_eq!(records.max_pages(ty()), Some(PAGES));
    let of_child = Run {
        start: entry(10),
        len: 5,
        id: child.id(),
    };
    assert!(records.runs_of(child.id()).eq([of_child]));
    assert!(records.runs_of(parent.id()).eq([]));
    assert_eq!(records.lookup(entry(14)), Some(child.id()));
}

#[test]
fn a_tree_takes_a_few_pages_before_it_has_cgroups() {
    assert!(size_of::<Memcgs>() < 64 << 10);
}

/// Freed slots are added up in 8 places. Owners whose ids are congruent modulo 8 share a place.
#[test]
fn each_owner_of_freed_slots_is_uncharged_whichever_others_there_are() {
    let memcgs = Memcgs::default();
    memcgs.swapon(ty(), PAGES).unwrap();
    let children: Vec<_> = (0..20)
        .map(|_| memcgs.create(memcgs.root()).unwrap())
        .collect();
    for (at, &child) in (0..).zip(&children) {
        memcgs.charge(child, 3).unwrap();
        for round in 0..3 {
            memcgs.swap_out(child, entry(20 * round + at), 1).unwrap();
        }
    }
    assert_eq!(freed(&memcgs, entry(0), 60).len(), 60);
    for child in children {
        assert_eq!(numbers(&memcgs, child), [0; 4]);
    }
    memcgs.validate().unwrap();
}

#[test]
fn swapoff_drops_the_first_slot_and_the_last_and_what_is_over_the_border_of_a_region() {
    let memcgs = with_swap();
    let child = memcgs.create(memcgs.root()).unwrap();
    memcgs.charge(child, 20).unwrap();
    for (offset, nr) in [(0, 3), (REGION - 4, 8), (PAGES - 1, 1)] {
        memcgs.swap_out(child, entry(offset), nr).unwrap();
    }
    assert_eq!(memcgs.swapoff(ty()), Ok(12));
    assert_eq!(numbers(&memcgs, child), [8, 8, 8, 0]);
    memcgs.validate().unwrap();
}

/// Creates and frees this many cgroups, each of which leaves a page in swap. Ids that were not freed would
/// run out after 65,535 of them. Ten million are run in release, with `--ignored`.
fn short_lives(cgroups: u64) {
    const KEPT: u64 = if cfg!(miri) { 20 } else { 100_000 };
    let memcgs = Memcgs::new();
    memcgs.swapon(ty(), KEPT).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    for n in 0..cgroups {
        let slot = entry(n % KEPT);
        if n >= KEPT {
            memcgs
                .free_swap_with(slot, 1, |run| assert_eq!(run.id, parent.id()))
                .unwrap();
        }
        let child = memcgs.create(parent).unwrap();
        assert_eq!(child.id().get(), 3);
        memcgs.charge(child, 1).unwrap();
        memcgs.swap_out(child, slot, 1).unwrap();
        memcgs.css_offline(child, 0).unwrap();
        assert_eq!(memcgs.css_free(child).unwrap().moved, 1);
    }
    let left = cgroups.min(KEPT);
    assert_eq!(numbers(&memcgs, parent), [0, left, 0, left]);
    memcgs.validate().unwrap();
    println!(
        "{cgroups} cgroups lived, left a page in swap and died; with their parent and the root they \
         took {} ids",
        memcgs.ids_in_use() + 1
    );
}

#[test]
fn short_lived_cgroups_that_leave_swap_behind_do_not_use_up_the_ids() {
    short_lives(if cfg!(miri) { 30 } else { 200_000 });
}

#[test]
#[ignore = "10 million cgroups: cargo test --release --test memcg -- --ignored --nocapture"]
fn ten_million_short_lived_cgroups_do_not_use_up_the_ids() {
    short_lives(10_000_000);
}
