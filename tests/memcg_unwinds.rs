//! Tests locks that unwind, as `lock_api` allows. Each lock of each operation unwinds, before it is taken or
//! after it was freed. No page, charge or record is lost, and the operation can be called again.

#![cfg(not(miri))] // Every lock of every operation takes too long.

mod hooked;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use hooked::{Event, Hooked, at};
use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource};
use swap_records::{MemcgId, REGION_ENTRIES, SwapEntry, SwapType};

const TYPE: SwapType = SwapType::new(0).unwrap();
const REGION: u64 = REGION_ENTRIES as u64;
const PAGES: u64 = 3 * REGION;
/// The slots lie in two regions.
const FIRST: u64 = REGION - 2;
const NR: u64 = 4;

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

type Tree = Memcgs<Hooked>;

/// Makes a parent, two children with ten pages in memory and records in both regions, and an offline child
/// with records only.
fn family() -> (Tree, [Memcg; 4]) {
    let memcgs = Tree::with_raw_mutex();
    memcgs.swapon(TYPE, PAGES).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let [a, b, removed] = [(); 3].map(|()| memcgs.create(parent).unwrap());
    for (memcg, offset) in [(a, FIRST), (b, FIRST + NR), (removed, FIRST + 2 * NR)] {
        memcgs.charge(memcg, 10 + 2 * NR).unwrap();
        memcgs.swap_out(memcg, entry(offset), NR).unwrap();
        memcgs.swap_out(memcg, entry(offset - 100), NR).unwrap();
    }
    memcgs.uncharge(removed, 10).unwrap();
    memcgs.css_offline(removed, 0).unwrap();
    (memcgs, [parent, a, b, removed])
}

/// Checks that nothing is lost: the counters are right, and they are 0 after everything has been given back.
fn is_balanced(memcgs: &Tree, what: &str) {
    memcgs
        .validate()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    if memcgs.records().max_pages(TYPE).is_some() {
        memcgs.free_swap(entry(0), PAGES).unwrap();
    }
    let root = memcgs.root();
    loop {
        let all: Vec<_> = memcgs.iter().filter(|&memcg| memcg != root).collect();
        if all.is_empty() {
            break;
        }
        for memcg in all {
            let usage = memcgs.usage(memcg).unwrap();
            memcgs.uncharge(memcg, usage.own).unwrap();
            if usage.children == 0 {
                memcgs.css_offline(memcg, 0).unwrap();
                let freed = memcgs.css_free(memcg);
                assert!(freed.is_ok(), "{what}: {freed:?}");
            }
        }
    }
    let usage = memcgs.usage(root).unwrap();
    assert_eq!(
        (usage.memsw, usage.memory),
        (usage.own, usage.own),
        "{what}"
    );
    assert_eq!(memcgs.ids_in_use(), 1, "{what}");
    memcgs
        .validate()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
}

struct Unwound;

/// Unwinds the operation at each of its locks. `again` checks the result of the second call, given the result
/// of a call that does not unwind.
fn at_each_lock<T: std::fmt::Debug>(
    name: &str,
    operation: impl Fn(&Tree, [Memcg; 4]) -> Result<T, MemcgError>,
    again: impl Fn(&Result<T, MemcgError>) -> bool,
) {
    for event in [Event::Lock, Event::Unlocked] {
        for n in 0.. {
            let (memcgs, family) = family();
            let unwind = || resume_unwind(Box::new(Unwound));
            let work = || operation(&memcgs, family);
            let result = catch_unwind(AssertUnwindSafe(|| at(event, n, unwind, work)));
            let what = format!("{name}, {event:?} {n}");
            match result {
                Ok((result, was_there)) => {
                    assert!(!was_there && n > 0, "{what}");
                    assert!(result.is_ok(), "{what}: {result:?}");
                    is_balanced(&memcgs, &what);
                    break;
                }
                Err(why) => assert!(why.is::<Unwound>(), "{what}"),
            }
            memcgs
                .validate()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            let second = operation(&memcgs, family);
            assert!(again(&second), "{what}: {second:?}");
            is_balanced(&memcgs, &what);
        }
    }
}

#[test]
fn pages_that_are_charged_and_moved_are_not_lost() {
    let any = |result: &Result<(), MemcgError>| result.is_ok();
    at_each_lock("charge", |memcgs, [_, a, ..]| memcgs.charge(a, 1_000), any);
    at_each_lock("uncharge", |memcgs, [_, a, ..]| memcgs.uncharge(a, 5), any);
    at_each_lock(
        "move_account",
        |memcgs, [_, a, b, _]| memcgs.move_account(a, b, 5),
        any,
    );
    let under_a_limit = |memcgs: &Tree, [parent, a, b, _]: [Memcg; 4]| {
        memcgs.set_limit(parent, Resource::Memory, Some(100))?;
        memcgs.set_limit(parent, Resource::Memsw, Some(100))?;
        memcgs.charge(memcgs.root(), 5)?;
        memcgs.move_account(memcgs.root(), b, 5)?;
        memcgs.move_account(a, memcgs.root(), 5)
    };
    at_each_lock("move_account under a limit", under_a_limit, any);
}

#[test]
fn records_that_are_written_freed_and_moved_are_not_lost() {
    let any = |_: &_| true;
    let occupied = |result: &Result<Memcg, MemcgError>| {
        matches!(result, Ok(_) | Err(MemcgError::Occupied { .. }))
    };
    for (name, offset, nr) in [
        ("swap_out", 500, 5),
        ("swap_out over regions", 2 * REGION - 5, 10),
    ] {
        let out = |memcgs: &Tree, [_, a, ..]: [Memcg; 4]| memcgs.swap_out(a, entry(offset), nr);
        at_each_lock(name, out, occupied);
    }
    let under_a_limit = |memcgs: &Tree, [parent, a, ..]: [Memcg; 4]| {
        memcgs.set_limit(parent, Resource::Swap, Some(6 * NR + 10))?;
        memcgs.swap_out(a, entry(REGION - 20), 10)
    };
    at_each_lock("swap_out under a limit", under_a_limit, |_| true);
    at_each_lock(
        "swap_out of a removed one",
        |memcgs, [_, a, ..]| {
            memcgs.css_offline(a, 0)?;
            memcgs.swap_out(a, entry(500), 5)
        },
        occupied,
    );
    at_each_lock(
        "swap_in_cached",
        |memcgs, _| memcgs.swap_in_cached(entry(FIRST), NR),
        Result::is_ok,
    );
    // Slots that were cleared by then are freed, or their pages are in memory.
    let given_up = |result: &Result<Memcg, MemcgError>| {
        matches!(result, Ok(_) | Err(MemcgError::NoRecord { .. }))
    };
    for (name, offset) in [
        ("swap_in", FIRST - 100),
        ("swap_in over regions", FIRST),
        ("swap_in of a removed one's", FIRST + 2 * NR),
    ] {
        let come_in = |memcgs: &Tree, _: [Memcg; 4]| memcgs.swap_in(entry(offset), NR);
        at_each_lock(name, come_in, given_up);
    }
    at_each_lock(
        "free_swap",
        |memcgs, _| memcgs.free_swap(entry(0), PAGES),
        any,
    );
    let batch = |memcgs: &Tree, _: [Memcg; 4]| {
        // The slots are ordered neither by region nor by owner.
        let slots: Vec<_> = (0..3 * NR)
            .flat_map(|n| [FIRST + n * 5 % (3 * NR), FIRST + n - 100])
            .map(entry)
            .collect();
        memcgs.free_swap_batch(&slots, |_, _| ())
    };
    at_each_lock("free_swap_batch", batch, any);
    for (name, offset, nr) in [
        ("move_swap_account in one region", FIRST, 2),
        ("move_swap_account", 0, PAGES),
    ] {
        let moves = |memcgs: &Tree, [_, a, b, _]: [Memcg; 4]| {
            memcgs.move_swap_account(entry(offset), nr, a, b)
        };
        at_each_lock(name, moves, Result::is_ok);
    }
}

#[test]
fn a_swapfile_can_be_turned_off_after_a_swapoff_that_unwound() {
    for event in [Event::Lock, Event::Unlocked] {
        for n in 0.. {
            let (memcgs, _) = family();
            let unwind = || resume_unwind(Box::new(Unwound));
            let work = || memcgs.swapoff(TYPE);
            let result = catch_unwind(AssertUnwindSafe(|| at(event, n, unwind, work)));
            let what = format!("{event:?} {n}");
            if result.is_ok() {
                assert!(n > 0);
                break;
            }
            memcgs
                .validate()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            // Only an unlock that comes last leaves the type off.
            match memcgs.records().max_pages(TYPE) {
                Some(_) => assert!(memcgs.swapoff(TYPE).is_ok(), "{what}"),
                None => assert_eq!(event, Event::Unlocked, "{what}"),
            }
            memcgs.swapon(TYPE, PAGES).unwrap();
            is_balanced(&memcgs, &what);
        }
    }
}

#[test]
fn a_cgroup_can_be_freed_after_a_css_offline_or_css_free_that_unwound() {
    let moved = |result: &Result<u64, MemcgError>| result.is_ok();
    for budget in [0, 1, u64::MAX] {
        at_each_lock(
            "css_offline",
            |memcgs, [_, a, ..]| Ok(memcgs.css_offline(a, budget)?.moved),
            moved,
        );
    }
    let free = |memcgs: &Tree, [.., removed]: [Memcg; 4]| Ok(memcgs.css_free(removed)?.moved);
    // When the last lock is freed, the cgroup is freed already.
    let gone =
        |result: &Result<u64, MemcgError>| matches!(result, Ok(_) | Err(MemcgError::Gone { .. }));
    at_each_lock("css_free", free, gone);
    at_each_lock(
        "css_free of one that has pages",
        |memcgs, [_, a, ..]| {
            memcgs.css_offline(a, 0)?;
            let freed = memcgs.css_free(a);
            let Err(MemcgError::Busy { pages, .. }) = freed else {
                return Ok(freed?.moved);
            };
            memcgs.uncharge(a, pages)?;
            Ok(memcgs.css_free(a)?.moved)
        },
        gone,
    );
}

#[test]
fn what_looks_at_a_tree_or_changes_it_can_be_called_again() {
    at_each_lock(
        "create",
        |memcgs, [parent, ..]| memcgs.create(parent),
        Result::is_ok,
    );
    at_each_lock(
        "create_with_id",
        |memcgs, [parent, ..]| memcgs.create_with_id(parent, MemcgId::new(900).unwrap()),
        |again| matches!(again, Ok(_) | Err(MemcgError::IdInUse { .. })),
    );
    at_each_lock(
        "usage",
        |memcgs, [parent, ..]| memcgs.usage(parent),
        Result::is_ok,
    );
    at_each_lock(
        "parent",
        |memcgs, [_, a, ..]| memcgs.parent(a),
        Result::is_ok,
    );
    at_each_lock(
        "ids_in_use",
        |memcgs, _| Ok(memcgs.ids_in_use()),
        Result::is_ok,
    );
    let limit = |memcgs: &Tree, [parent, ..]: [Memcg; 4]| {
        memcgs.set_limit(parent, Resource::Memory, Some(20))
    };
    at_each_lock("set_limit", limit, Result::is_ok);
    let limit_of_swap = |memcgs: &Tree, [parent, ..]: [Memcg; 4]| {
        memcgs.set_limit(parent, Resource::Swap, Some(1_000))
    };
    at_each_lock("set_limit of swap", limit_of_swap, Result::is_ok);
}
