//! Tests swap-ins on one thread: which cgroup is charged, and for what.

use std::fmt::Debug;

use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource};
use swap_records::{REGION_ENTRIES, Run, SwapEntry, SwapType};

const REGION: u64 = REGION_ENTRIES as u64;
const PAGES: u64 = 4 * REGION;
const TYPE: SwapType = SwapType::new(3).unwrap();

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// Makes a parent and two children. Each child has `nr` records. Those of the first begin at slot `offset`,
/// and those of the second follow.
fn family(offset: u64, nr: u64) -> (Memcgs, [Memcg; 3]) {
    let memcgs = Memcgs::new();
    memcgs.swapon(TYPE, PAGES).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let [a, b] = [(); 2].map(|()| memcgs.create(parent).unwrap());
    for (memcg, start) in [(a, offset), (b, offset + nr)] {
        memcgs.charge(memcg, nr).unwrap();
        memcgs.swap_out(memcg, entry(start), nr).unwrap();
    }
    (memcgs, [parent, a, b])
}

/// Returns memory, memsw, own pages in memory, and own records of the cgroup.
fn numbers(memcgs: &Memcgs, memcg: Memcg) -> [u64; 4] {
    let usage = memcgs.usage(memcg).unwrap();
    [usage.memory, usage.memsw, usage.own, usage.swap]
}

#[track_caller]
fn refused<T: Debug + PartialEq>(
    memcgs: &Memcgs,
    with: MemcgError,
    operation: impl FnOnce() -> Result<T, MemcgError>,
) {
    let state = || {
        let usages = memcgs
            .iter()
            .map(|memcg| (memcg, memcgs.usage(memcg).unwrap()));
        let runs: Vec<Run> = memcgs.records().runs(TYPE).collect();
        (usages.collect::<Vec<_>>(), runs)
    };
    let before = state();
    assert_eq!(operation(), Err(with));
    assert_eq!(state(), before, "after: {with}");
    memcgs.validate().unwrap();
}

/// The charge of the slot becomes the charge of the page, so no room is needed in memsw.
#[test]
fn pages_that_are_out_come_in_one_by_one_whatever_the_limit_of_memsw_leaves() {
    let memcgs = Memcgs::new();
    memcgs.swapon(TYPE, 2_000).unwrap();
    let memcg = memcgs.create(memcgs.root()).unwrap();
    memcgs.charge(memcg, 1_000).unwrap();
    memcgs.swap_out(memcg, entry(0), 1_000).unwrap();
    for resource in [Resource::Memory, Resource::Memsw] {
        memcgs.set_limit(memcg, resource, Some(1_008)).unwrap();
    }
    for page in 0..1_000 {
        assert_eq!(memcgs.swap_in(entry(page), 1), Ok(memcg));
        let left = 1_000 - page - 1;
        assert_eq!(numbers(&memcgs, memcg), [page + 1, 1_000, page + 1, left]);
        assert_eq!(memcgs.records().lookup(entry(page)), None);
    }
    memcgs.validate().unwrap();
    memcgs.uncharge(memcg, 1_000).unwrap();
    assert_eq!(numbers(&memcgs, memcgs.root()), [0; 4]);
}

#[test]
fn a_copy_that_is_kept_in_the_slot_is_charged_in_addition_to_the_page() {
    let (memcgs, [parent, a, _]) = family(10, 100);
    for resource in [Resource::Memory, Resource::Memsw] {
        memcgs.set_limit(a, resource, Some(108)).unwrap();
    }
    assert_eq!(memcgs.swap_in_cached(entry(10), 8), Ok(a));
    assert_eq!(numbers(&memcgs, a), [8, 108, 8, 100]);
    assert_eq!(numbers(&memcgs, parent), [8, 208, 0, 0]);
    let over = MemcgError::OverLimit {
        id: a.id(),
        resource: Resource::Memsw,
        nr: 1,
        usage: 108,
        limit: 108,
    };
    refused(&memcgs, over, || memcgs.swap_in_cached(entry(10), 1));
    assert_eq!(memcgs.free_swap(entry(10), 8), Ok(8));
    assert_eq!(numbers(&memcgs, a), [8, 100, 8, 92]);
    memcgs.validate().unwrap();
}

#[test]
fn a_swap_in_is_refused_by_a_limit_of_memory_and_by_no_other() {
    for nr in [5, REGION + 5] {
        let (memcgs, [parent, a, _]) = family(REGION - 2, nr);
        let start = entry(REGION - 2);
        memcgs
            .set_limit(parent, Resource::Memory, Some(nr - 1))
            .unwrap();
        memcgs
            .set_limit(parent, Resource::Memsw, Some(2 * nr))
            .unwrap();
        let over = MemcgError::OverLimit {
            id: parent.id(),
            resource: Resource::Memory,
            nr,
            usage: 0,
            limit: nr - 1,
        };
        refused(&memcgs, over, || memcgs.swap_in(start, nr));
        memcgs
            .set_limit(parent, Resource::Memory, Some(nr))
            .unwrap();
        assert_eq!(memcgs.swap_in(start, nr), Ok(a));
        assert_eq!(numbers(&memcgs, a), [nr, nr, nr, 0]);
        assert_eq!(numbers(&memcgs, parent), [nr, 2 * nr, 0, 0]);
        memcgs.validate().unwrap();
    }
}

#[test]
fn the_first_ancestor_that_is_online_pays_and_those_below_it_lose_memsw() {
    for nr in [5, REGION + 5] {
        let (memcgs, [parent, a, b]) = family(REGION - 2, nr);
        let start = entry(REGION - 2);
        let _ = memcgs.css_offline(a, 0).unwrap();
        assert_eq!(memcgs.swap_in(start, nr), Ok(parent));
        assert_eq!(numbers(&memcgs, a), [0; 4]);
        assert_eq!(numbers(&memcgs, parent), [nr, 2 * nr, nr, 0]);
        assert_eq!(numbers(&memcgs, memcgs.root()), [nr, 2 * nr, 0, 0]);
        memcgs.validate().unwrap();
        // Two of the cgroups are offline.
        let _ = memcgs.css_offline(b, 0).unwrap();
        let _ = memcgs.css_offline(parent, 0).unwrap();
        let root = memcgs.root();
        let start = start.checked_add(nr).unwrap();
        assert_eq!(memcgs.swap_in(start, nr), Ok(root));
        assert_eq!(numbers(&memcgs, b), [0; 4]);
        assert_eq!(numbers(&memcgs, parent), [nr, nr, nr, 0]);
        assert_eq!(numbers(&memcgs, root), [2 * nr, 2 * nr, nr, 0]);
        memcgs.validate().unwrap();
    }
}

#[test]
fn a_range_whose_pages_are_not_one_cgroups_to_pay_is_refused() {
    for nr in [5, REGION + 5] {
        let (memcgs, [parent, a, b]) = family(REGION - 2, nr);
        let start = entry(REGION - 2);
        let mixed = MemcgError::MixedOwners {
            entry: entry(REGION - 2 + nr),
            owner: b.id(),
            charged: a.id(),
        };
        refused(&memcgs, mixed, || memcgs.swap_in(start, nr + 1));
        refused(&memcgs, mixed, || memcgs.swap_in_cached(start, nr + 1));
        // The parent is charged for both.
        for child in [a, b] {
            let _ = memcgs.css_offline(child, 0).unwrap();
        }
        assert_eq!(memcgs.swap_in(start, 2 * nr), Ok(parent));
        assert_eq!(numbers(&memcgs, parent), [2 * nr, 2 * nr, 2 * nr, 0]);
        for child in [a, b] {
            assert_eq!(numbers(&memcgs, child), [0; 4]);
        }
        memcgs.validate().unwrap();
    }
}

/// A folio lies in two regions, and a migration has reached one of them.
#[test]
fn slots_of_a_dying_cgroup_and_of_its_parent_come_in_together() {
    let (memcgs, [parent, a, _]) = family(REGION - 4, 8);
    let moved = memcgs.css_offline(a, 1).unwrap().moved;
    assert_eq!(moved, 4);
    assert_eq!(memcgs.swap_in(entry(REGION - 4), 8), Ok(parent));
    assert_eq!(numbers(&memcgs, parent), [8, 16, 8, 0]);
    assert_eq!(memcgs.css_free(a).unwrap().moved, 0);
    memcgs.validate().unwrap();
}

/// A regression: each piece of a region looked again for the payers of all remaining slots, and each change
/// of owner walked up the tree.
#[test]
#[cfg(not(miri))] // It is about time.
fn owners_that_take_turns_below_a_chain_that_is_offline_take_time_by_their_slots() {
    use std::time::{Duration, Instant};
    let memcgs = Memcgs::new();
    memcgs.swapon(TYPE, PAGES).unwrap();
    let mut chain = vec![memcgs.root()];
    for _ in 0..21 {
        chain.push(memcgs.create(chain[chain.len() - 1]).unwrap());
    }
    let (b, a) = (chain[21], chain[20]);
    for i in 0..2 * REGION {
        let owner = if i % 2 == 0 { a } else { b };
        memcgs.charge(owner, 1).unwrap();
        memcgs.swap_out(owner, entry(i), 1).unwrap();
    }
    for &memcg in chain[1..].iter().rev() {
        let _ = memcgs.css_offline(memcg, 0).unwrap();
    }
    let swap_in = |start: u64, nr: u64| {
        let begin = Instant::now();
        assert_eq!(memcgs.swap_in(entry(start), nr), Ok(memcgs.root()));
        begin.elapsed()
    };
    let few = REGION / 8;
    let short = (0..8).map(|n| swap_in(n * few, few)).min();
    let short = short.unwrap_or(Duration::MAX);
    let long = swap_in(REGION, REGION);
    assert!(
        long < 16 * short + Duration::from_millis(5),
        "{few} slots: {short:?}; {REGION}: {long:?}"
    );
    memcgs.validate().unwrap();
}
