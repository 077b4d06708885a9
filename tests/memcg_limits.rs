//! Tests limits: which there are, which cgroups can have them, and in which order they can be set.

mod hooked;

use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource, Usage};
use swap_records::{REGION_ENTRIES, SwapEntry, SwapType};

const REGION: u64 = REGION_ENTRIES as u64;
const TYPE: SwapType = SwapType::new(0).unwrap();

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// Makes a parent with two children, each with 100 pages in memory.
fn family() -> (Memcgs, [Memcg; 3]) {
    let memcgs = Memcgs::new();
    memcgs.swapon(TYPE, 2 * REGION).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let [a, b] = [(); 2].map(|()| memcgs.create(parent).unwrap());
    for memcg in [a, b] {
        memcgs.charge(memcg, 100).unwrap();
    }
    (memcgs, [parent, a, b])
}

fn all(memcgs: &Memcgs) -> Vec<Usage> {
    memcgs
        .iter()
        .map(|memcg| memcgs.usage(memcg).unwrap())
        .collect()
}

fn swap_total(memcgs: &Memcgs, memcg: Memcg) -> u64 {
    memcgs.usage(memcg).unwrap().swap_total
}

#[track_caller]
fn refused<T: std::fmt::Debug + PartialEq>(
    memcgs: &Memcgs,
    with: MemcgError,
    operation: impl FnOnce() -> Result<T, MemcgError>,
) {
    let before = all(memcgs);
    assert_eq!(operation(), Err(with));
    assert_eq!(all(memcgs), before);
    memcgs.validate().unwrap();
}

#[test]
fn memory_swap_max_refuses_a_swap_out_and_the_page_stays_charged_in_memory() {
    let (memcgs, [parent, a, b]) = family();
    memcgs.set_limit(parent, Resource::Swap, Some(10)).unwrap();
    let over = |nr, usage| MemcgError::OverLimit {
        id: parent.id(),
        resource: Resource::Swap,
        nr,
        usage,
        limit: 10,
    };
    for start in [0, REGION - 5] {
        refused(&memcgs, over(11, 0), || {
            memcgs.swap_out(a, entry(start), 11)
        });
    }
    // Both children use a part of the limit, and all of it can be used.
    memcgs.swap_out(a, entry(0), 6).unwrap();
    memcgs.swap_out(b, entry(6), 3).unwrap();
    refused(&memcgs, over(2, 9), || memcgs.swap_out(a, entry(50), 2));
    memcgs.swap_out(b, entry(9), 1).unwrap();
    for memcg in [a, b] {
        refused(&memcgs, over(1, 10), || {
            memcgs.swap_out(memcg, entry(50), 1)
        });
    }
    assert_eq!(memcgs.records().lookup(entry(50)), None);
    assert_eq!(memcgs.usage(a).unwrap().own, 94);
    let totals = [memcgs.root(), parent, a, b].map(|memcg| swap_total(&memcgs, memcg));
    assert_eq!(totals, [10, 10, 6, 4]);
    // A swap-in, a `free_swap` and a `swapoff` make room.
    memcgs.swap_in(entry(0), 2).unwrap();
    memcgs.swap_out(b, entry(50), 2).unwrap();
    memcgs.free_swap(entry(2), 1).unwrap();
    memcgs.swap_out(b, entry(52), 1).unwrap();
    refused(&memcgs, over(1, 10), || memcgs.swap_out(b, entry(53), 1));
    // `swap_in_cached` makes no room: the slot is still in use.
    memcgs.swap_in_cached(entry(50), 2).unwrap();
    refused(&memcgs, over(1, 10), || memcgs.swap_out(b, entry(53), 1));
    assert_eq!(memcgs.swapoff(TYPE), Ok(10));
    assert_eq!(swap_total(&memcgs, memcgs.root()), 0);
    memcgs.validate().unwrap();
}

#[test]
fn migrated_records_are_in_the_parents_counter_already() {
    let (memcgs, [parent, a, _]) = family();
    memcgs.swap_out(a, entry(0), 100).unwrap();
    memcgs.set_limit(parent, Resource::Swap, Some(100)).unwrap();
    memcgs.set_limit(a, Resource::Swap, Some(100)).unwrap();
    let _ = memcgs.css_offline(a, 0).unwrap();
    assert_eq!(memcgs.css_free(a).unwrap().moved, 100);
    let usage = memcgs.usage(parent).unwrap();
    assert_eq!((usage.swap, usage.swap_total), (100, 100));
    assert_eq!(usage.swap_limit, Some(100));
    // The next cgroup with the id has no limit.
    let next = memcgs.create(memcgs.root()).unwrap();
    assert_eq!(next.id(), a.id());
    assert_eq!(memcgs.usage(next).unwrap().swap_limit, None);
    memcgs.validate().unwrap();
}

#[test]
fn a_move_of_records_stays_within_the_limits_below_the_common_ancestor() {
    let (memcgs, [parent, a, b]) = family();
    memcgs.swap_out(a, entry(0), 10).unwrap();
    memcgs.set_limit(parent, Resource::Swap, Some(10)).unwrap();
    memcgs.set_limit(b, Resource::Swap, Some(4)).unwrap();
    let over = MemcgError::OverLimit {
        id: b.id(),
        resource: Resource::Swap,
        nr: 5,
        usage: 0,
        limit: 4,
    };
    refused(&memcgs, over, || {
        memcgs.move_swap_account(entry(0), 5, a, b)
    });
    assert_eq!(memcgs.move_swap_account(entry(0), 4, a, b), Ok(4));
    let totals = [parent, a, b].map(|memcg| swap_total(&memcgs, memcg));
    assert_eq!(totals, [10, 6, 4]);
    memcgs.validate().unwrap();
}

/// The parent owns the records, and is charged for them.
#[test]
fn an_offline_cgroup_swaps_out_within_the_limits_of_its_parent() {
    let (memcgs, [parent, a, _]) = family();
    memcgs.set_limit(a, Resource::Swap, Some(0)).unwrap();
    memcgs.set_limit(parent, Resource::Swap, Some(5)).unwrap();
    let _ = memcgs.css_offline(a, 0).unwrap();
    for (start, nr) in [(0, 3), (REGION - 1, 2)] {
        assert_eq!(memcgs.swap_out(a, entry(start), nr), Ok(parent));
    }
    assert!(memcgs.swap_out(a, entry(50), 1).is_err());
    let totals = [parent, a].map(|memcg| swap_total(&memcgs, memcg));
    assert_eq!(totals, [5, 0]);
    memcgs.validate().unwrap();
}

#[test]
fn a_limit_of_swap_is_not_below_what_there_is() {
    let (memcgs, [parent, a, _]) = family();
    memcgs.swap_out(a, entry(0), 10).unwrap();
    let below = MemcgError::LimitBelowUsage {
        id: parent.id(),
        resource: Resource::Swap,
        limit: 9,
        usage: 10,
    };
    refused(&memcgs, below, || {
        memcgs.set_limit(parent, Resource::Swap, Some(9))
    });
    memcgs.set_limit(parent, Resource::Swap, Some(10)).unwrap();
}

#[test]
fn the_root_has_no_limits() {
    let (memcgs, _) = family();
    for resource in [Resource::Memory, Resource::Memsw, Resource::Swap] {
        for limit in [Some(1_000), None] {
            refused(&memcgs, MemcgError::IsRoot, || {
                memcgs.set_limit(memcgs.root(), resource, limit)
            });
        }
    }
}

#[test]
fn memsw_is_never_limited_below_memory() {
    let (memcgs, [parent, ..]) = family();
    let set = |resource, limit| memcgs.set_limit(parent, resource, limit);
    let order = |memory, memsw| MemcgError::LimitOrder {
        id: parent.id(),
        memory,
        memsw,
    };
    // A cgroup without a limit has the highest one.
    refused(&memcgs, order(u64::MAX, 500), || {
        set(Resource::Memsw, Some(500))
    });
    set(Resource::Memory, Some(500)).unwrap();
    refused(&memcgs, order(500, 499), || set(Resource::Memsw, Some(499)));
    set(Resource::Memsw, Some(500)).unwrap();
    refused(&memcgs, order(501, 500), || {
        set(Resource::Memory, Some(501))
    });
    refused(&memcgs, order(u64::MAX, 500), || {
        set(Resource::Memory, None)
    });
    // Memsw is raised first, and memory is lowered first.
    set(Resource::Memsw, Some(600)).unwrap();
    set(Resource::Memory, Some(600)).unwrap();
    set(Resource::Memory, Some(400)).unwrap();
    set(Resource::Memsw, Some(400)).unwrap();
    set(Resource::Memsw, None).unwrap();
    set(Resource::Memory, None).unwrap();
    // The limit of swap is independent of both.
    set(Resource::Swap, Some(1)).unwrap();
}

/// A regression: a swap-out was charged, found that its swapfile was being turned off, and was refused.
/// Meanwhile, the limit refused another swap-out because of that charge.
#[test]
#[cfg(not(miri))] // It waits for real time.
fn a_swap_out_that_a_swapoff_refuses_leaves_the_limit_of_swap_to_others() {
    use hooked::{Event, Hooked, LONG, SHORT, at, stop};
    use std::thread;
    let other = SwapType::new(TYPE.get() + 1).unwrap();
    for n in 0.. {
        let memcgs = Memcgs::<Hooked>::with_raw_mutex();
        memcgs.swapon(TYPE, 100).unwrap();
        memcgs.swapon(other, 100).unwrap();
        let parent = memcgs.create(memcgs.root()).unwrap();
        let [a, b] = [(); 2].map(|()| memcgs.create(parent).unwrap());
        for memcg in [a, b] {
            memcgs.charge(memcg, 5).unwrap();
        }
        memcgs.set_limit(parent, Resource::Swap, Some(5)).unwrap();
        let (paused, pause) = stop();
        let (of_a, of_b, was_there) = thread::scope(|s| {
            let memcgs = &memcgs;
            let swap_out = s.spawn(move || {
                let wait = || paused.wait();
                at(Event::Unlocked, n, wait, || {
                    memcgs.swap_out(a, SwapEntry::new(TYPE, 0).unwrap(), 5)
                })
            });
            pause.is_there(LONG);
            s.spawn(move || memcgs.swapoff(TYPE).unwrap());
            // Gives the swapoff time to begin. If the swap-out is in a section, the swapoff waits for it.
            thread::sleep(SHORT);
            let of_b = memcgs.swap_out(b, SwapEntry::new(other, 0).unwrap(), 5);
            pause.go_on();
            let (of_a, was_there) = swap_out.join().unwrap();
            (of_a, of_b, was_there)
        });
        assert!(
            of_a.is_ok() || of_b.is_ok(),
            "place {n}: {of_a:?}, {of_b:?}"
        );
        memcgs.validate().unwrap();
        if !was_there {
            assert!(n > 2, "{n} places");
            break;
        }
    }
}
