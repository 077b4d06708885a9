//! Tests operations on ranges over several regions: how long other threads wait for them, and what remains if
//! another operation comes in between.

#![cfg(not(miri))] // Whole regions.

mod hooked;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use hooked::{Event, Hooked, SHORT, at, count, each};
use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource};
use swap_records::{EntryError, MemcgId, REGION_ENTRIES, SwapEntry, SwapRecords, SwapType};

const TYPE: SwapType = SwapType::new(0).unwrap();
const REGION: u64 = REGION_ENTRIES as u64;
const REGIONS: u64 = 8;
const PAGES: u64 = REGIONS * REGION;

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

type Tree = Memcgs<Hooked>;

/// Makes a parent, two children and an unrelated cgroup. Each child has `PAGES` pages, and the first has
/// `swapped` of them in swap. The unrelated cgroup is offline.
fn family(swapped: u64) -> (Tree, [Memcg; 4]) {
    let memcgs = Tree::with_raw_mutex();
    memcgs.swapon(TYPE, PAGES).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let [a, b] = [(); 2].map(|()| memcgs.create(parent).unwrap());
    let offline = memcgs.create(memcgs.root()).unwrap();
    memcgs.css_offline(offline, 0).unwrap();
    for memcg in [a, b] {
        memcgs.charge(memcg, PAGES).unwrap();
    }
    memcgs.swap_out(a, entry(0), swapped).unwrap();
    (memcgs, [parent, a, b, offline])
}

/// Returns memory, memsw, own pages and own records.
fn numbers(memcgs: &Tree, memcg: Memcg) -> [u64; 4] {
    let usage = memcgs.usage(memcg).unwrap();
    [usage.memory, usage.memsw, usage.own, usage.swap]
}

/// Asserts that a `css_free` of another cgroup, which begins after the operation, ends before the operation.
/// The operation is slow from the start of the `css_free` on.
fn does_not_wait_for_the_whole<T>(
    swapped: u64,
    operation: impl Fn(&Tree, [Memcg; 4]) -> Result<T, MemcgError>,
) {
    let (memcgs, family) = family(swapped);
    let (start, starts) = channel();
    let (done, is_done) = channel();
    let in_time = AtomicBool::new(false);
    thread::scope(|s| {
        let (memcgs, offline) = (&memcgs, family[3]);
        s.spawn(move || {
            let _ = starts.recv();
            memcgs.css_free(offline).unwrap();
            let _ = done.send(());
        });
        let seen = std::sync::Arc::new(AtomicBool::new(false));
        let was_seen = seen.clone();
        let slow = move |event| {
            if event == Event::First && !seen.load(Ordering::Relaxed) {
                let _ = start.send(());
                let done = is_done.recv_timeout(SHORT).is_ok();
                seen.store(done, Ordering::Relaxed);
            }
        };
        each(slow, || assert!(operation(memcgs, family).is_ok()));
        in_time.store(was_seen.load(Ordering::Relaxed), Ordering::Relaxed);
    });
    assert!(in_time.into_inner(), "css_free waited for all of it");
    memcgs.validate().unwrap();
}

#[test]
fn css_free_waits_for_a_part_of_a_long_operation_only() {
    does_not_wait_for_the_whole(0, |memcgs, [_, a, ..]| memcgs.swap_out(a, entry(0), PAGES));
    does_not_wait_for_the_whole(PAGES, |memcgs, _| memcgs.free_swap(entry(0), PAGES));
    does_not_wait_for_the_whole(PAGES, |memcgs, [_, a, b, _]| {
        memcgs.move_swap_account(entry(0), PAGES, a, b)
    });
    does_not_wait_for_the_whole(PAGES, |memcgs, _| memcgs.swap_in(entry(0), PAGES));
    let slots: Vec<_> = (0..PAGES).step_by(100).map(entry).collect();
    does_not_wait_for_the_whole(PAGES, |memcgs, _| memcgs.free_swap_batch(&slots, |_, _| ()));
}

/// A swap-in looks at its slots without a lock, and many cgroups are created and freed meanwhile.
#[test]
fn css_free_does_not_wait_for_the_slots_of_a_long_swap_in() {
    for swap_in in [Memcgs::swap_in_cached as SwapIn, Memcgs::swap_in] {
        // On a busy machine, a thread may run only a few times during a swap-in, so a longer swap-in follows.
        // A thread that waits for a whole swap-in frees at most two cgroups, however long the swap-in is.
        let mut freed = Vec::new();
        for slots in (25..29).flat_map(|bits| [1 << bits; 3]) {
            freed.push(freed_beside_a_swap_in(swap_in, slots));
            if freed.last() > Some(&20) {
                break;
            }
        }
        assert!(
            freed.last() > Some(&20),
            "cgroups freed meanwhile: {freed:?}"
        );
    }
}

type SwapIn = fn(&Memcgs, SwapEntry, u64) -> Result<Memcg, MemcgError>;

/// Returns the number of cgroups that another thread frees during a swap-in of many slots. It is one or two
/// if each `css_free` waits for the whole swap-in.
fn freed_beside_a_swap_in(swap_in: SwapIn, slots: u64) -> u64 {
    let memcgs = Memcgs::new();
    memcgs.swapon(TYPE, slots).unwrap();
    let owner = memcgs.create(memcgs.root()).unwrap();
    memcgs.charge(owner, slots).unwrap();
    memcgs.swap_out(owner, entry(0), slots).unwrap();
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let freed = AtomicU64::new(0);
    thread::scope(|s| {
        s.spawn(|| {
            begun.store(true, Ordering::Relaxed);
            swap_in(&memcgs, entry(0), slots).unwrap();
            done.store(true, Ordering::Relaxed);
        });
        while !begun.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        while !done.load(Ordering::Relaxed) {
            let removed = memcgs.create(memcgs.root()).unwrap();
            memcgs.css_offline(removed, 0).unwrap();
            memcgs.css_free(removed).unwrap();
            freed.fetch_add(1, Ordering::Relaxed);
        }
    });
    freed.into_inner()
}

/// Uses a terabyte of swap without records.
#[test]
fn empty_regions_are_skipped_and_not_looked_at() {
    const SLOTS: u64 = 1 << 28;
    let memcgs = Tree::with_raw_mutex();
    memcgs.swapon(TYPE, SLOTS).unwrap();
    let [a, b] = [(); 2].map(|()| memcgs.create(memcgs.root()).unwrap());
    memcgs.charge(a, 9).unwrap();
    // Records in the first region and in the last.
    memcgs.swap_out(a, entry(4), 2).unwrap();
    memcgs.swap_out(a, entry(SLOTS - 3), 3).unwrap();
    let begun = Instant::now();
    let locks = |operation: &dyn Fn()| count(Event::First, operation);
    let refused = locks(&|| {
        let free = memcgs.swap_out(a, entry(6), SLOTS - 9);
        assert!(
            matches!(free, Err(MemcgError::NotCharged { .. })),
            "{free:?}"
        );
    });
    assert!(refused < 3, "{refused} locks for what cannot be");
    let moved = locks(&|| assert_eq!(memcgs.move_swap_account(entry(0), SLOTS, a, b), Ok(5)));
    assert!(moved < 8, "{moved} locks for two regions");
    let freed = locks(&|| assert_eq!(memcgs.free_swap(entry(5), SLOTS - 6), Ok(3)));
    assert!(freed < 8, "{freed} locks for two regions");
    let off = locks(&|| assert_eq!(memcgs.swapoff(TYPE), Ok(2)));
    let regions = usize::try_from(SLOTS / REGION).unwrap();
    assert!(
        off < regions + 10,
        "{off} locks, of which the table takes {regions}"
    );
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(300), "{took:?} for nothing");

    let table = SwapRecords::<Hooked>::with_raw_mutex();
    table.swapon(TYPE, SLOTS).unwrap();
    let id = MemcgId::new(7).unwrap();
    table.record(entry(SLOTS / 2), id).unwrap();
    let mut runs = Vec::new();
    let cleared = locks(&|| {
        let cleared = table.clear_range_with(entry(0), SLOTS, |_| ());
        assert_eq!(cleared, Ok(()));
    });
    assert_eq!(cleared, 1, "one region has something");
    table.record(entry(SLOTS / 2 + 1), id).unwrap();
    table
        .clear_range_with(entry(1), SLOTS - 2, |run| runs.push((run.start, run.len)))
        .unwrap();
    assert_eq!(runs, [(entry(SLOTS / 2 + 1), 1)]);
}

#[test]
fn what_is_refused_over_several_regions_has_changed_nothing() {
    let (memcgs, [parent, a, b, _]) = family(PAGES - REGION);
    let before = [parent, a, b].map(|memcg| numbers(&memcgs, memcg));
    let refused = |result: Result<(), MemcgError>| {
        let error = result.unwrap_err();
        assert_eq!(
            [parent, a, b].map(|memcg| numbers(&memcgs, memcg)),
            before,
            "{error}"
        );
        assert_eq!(memcgs.records().count(a.id()), PAGES - REGION);
        memcgs.validate().unwrap();
        error
    };
    let out = |start, nr| memcgs.swap_out(b, entry(start), nr).map(drop);
    let start = PAGES - REGION;
    let not = refused(memcgs.swap_out(a, entry(start), REGION + 1).map(drop));
    assert!(matches!(
        not,
        MemcgError::Entry(EntryError::OutOfRange { .. })
    ));
    let taken = refused(out(REGION - 1, PAGES - REGION));
    let (entry, owner) = (entry(REGION - 1), a.id());
    assert_eq!(taken, MemcgError::Occupied { entry, owner });
    for resource in [Resource::Memory, Resource::Memsw] {
        memcgs
            .set_limit(b, resource, Some(PAGES + 2 * REGION))
            .unwrap();
    }
    let moved = memcgs.move_swap_account(self::entry(0), PAGES, a, b);
    let over = refused(moved.map(drop));
    assert!(matches!(over, MemcgError::OverLimit { .. }), "{over}");
    let charged = refused(memcgs.swap_in(self::entry(0), PAGES - REGION + 1).map(drop));
    assert!(matches!(charged, MemcgError::NoRecord { .. }), "{charged}");
    let charged = refused(memcgs.swap_in(self::entry(1), PAGES).map(drop));
    assert!(matches!(
        charged,
        MemcgError::Entry(EntryError::OutOfRange { .. })
    ));
    let charged = refused(
        memcgs
            .swap_in_cached(self::entry(0), PAGES - REGION + 1)
            .map(drop),
    );
    assert!(matches!(charged, MemcgError::NoRecord { .. }), "{charged}");
    // More pages than the cgroup has, to free slots.
    memcgs.free_swap(self::entry(0), PAGES).unwrap();
    let before = numbers(&memcgs, a);
    let not = memcgs.swap_out(a, self::entry(0), REGION + 1);
    assert!(matches!(not, Err(MemcgError::NotCharged { .. })), "{not:?}");
    assert_eq!(numbers(&memcgs, a), before);
    assert_eq!(memcgs.records().count(a.id()), 0);
}

/// Runs the operation. When it has freed a lock for the `n`-th time, runs `other` on another thread until
/// `other` is done or waits for the operation. Returns both results, or `None` if the operation frees fewer
/// locks.
fn concurrently<T, O: Send>(
    memcgs: &Tree,
    n: usize,
    other: impl FnOnce() -> O + Send,
    operation: impl FnOnce(&Tree) -> T,
) -> Option<(T, O)> {
    let (start, starts) = channel();
    let (done, is_done) = channel();
    thread::scope(|s| {
        let other = s.spawn(move || {
            starts.recv().ok()?;
            let result = other();
            let _ = done.send(());
            Some(result)
        });
        let meanwhile = move || {
            let _ = start.send(());
            let _ = is_done.recv_timeout(SHORT);
        };
        let (result, _) = at(Event::Unlocked, n, meanwhile, || operation(memcgs));
        Some((result, other.join().unwrap()?))
    })
}

#[test]
fn a_cgroup_whose_pages_go_out_over_several_regions_is_busy() {
    let mut busy = 0;
    for n in 0.. {
        let (memcgs, [parent, a, ..]) = family(0);
        memcgs.css_offline(a, 0).unwrap();
        let out = |memcgs: &Tree| memcgs.swap_out(a, entry(0), PAGES);
        let Some((owner, freed)) = concurrently(&memcgs, n, || memcgs.css_free(a), out) else {
            break;
        };
        assert_eq!(owner, Ok(parent), "{n}");
        match freed {
            Err(MemcgError::Busy { pages, .. }) => {
                busy += 1;
                assert!(pages > 0 && pages <= PAGES);
                memcgs.css_free(a).unwrap();
            }
            // This was the last lock.
            freed => assert_eq!(freed.unwrap().moved, 0),
        }
        assert_eq!(numbers(&memcgs, parent), [PAGES, 2 * PAGES, 0, PAGES]);
        memcgs.validate().unwrap();
    }
    assert!(busy > 0);
}

#[test]
fn a_move_over_several_regions_ends_where_the_cgroups_do() {
    let mut seen = BTreeSet::new();
    for n in 0.. {
        // The cgroup that gets the records goes offline.
        let (memcgs, [parent, a, b, _]) = family(PAGES);
        memcgs.uncharge(b, PAGES).unwrap();
        let ends = || {
            memcgs.css_offline(b, 0).unwrap();
            memcgs.css_free(b)
        };
        let moves = |memcgs: &Tree| memcgs.move_swap_account(entry(0), PAGES, a, b);
        let Some((moved, freed)) = concurrently(&memcgs, n, ends, moves) else {
            break;
        };
        let moved = moved.unwrap();
        seen.insert(moved / REGION);
        let left = match freed {
            Ok(freed) => {
                assert_eq!(freed.moved, moved);
                [numbers(&memcgs, parent)[3], numbers(&memcgs, a)[3]]
            }
            Err(MemcgError::Busy { .. }) => {
                let of_b = numbers(&memcgs, b);
                assert_eq!(of_b, [0, moved, 0, moved]);
                memcgs.css_free(b).unwrap();
                [moved, numbers(&memcgs, a)[3]]
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(left, [moved, PAGES - moved]);
        memcgs.validate().unwrap();

        // The cgroup that has the records is freed.
        let (memcgs, [parent, a, b, _]) = family(PAGES);
        let ends = || {
            memcgs.css_offline(a, 0).unwrap();
            memcgs.css_free(a)
        };
        let moves = |memcgs: &Tree| memcgs.move_swap_account(entry(0), PAGES, a, b);
        if let Some((moved, freed)) = concurrently(&memcgs, n, ends, moves) {
            let moved = moved.unwrap();
            assert_eq!(freed.unwrap().moved, PAGES - moved);
            assert_eq!(numbers(&memcgs, b), [PAGES, PAGES + moved, PAGES, moved]);
            assert_eq!(numbers(&memcgs, parent)[3], PAGES - moved);
            memcgs.validate().unwrap();
        }
    }
    assert!(seen.len() > 3, "in the middle, too: {seen:?}");
}

#[test]
fn a_swapoff_in_the_middle_leaves_the_books_balanced() {
    let mut seen = BTreeSet::new();
    for n in 0.. {
        let (memcgs, [_, a, b, _]) = family(0);
        let off = || memcgs.swapoff(TYPE);
        let out = |memcgs: &Tree| memcgs.swap_out(a, entry(1), PAGES - 1);
        let Some((out, dropped)) = concurrently(&memcgs, n, off, out) else {
            break;
        };
        let dropped = dropped.unwrap();
        let written = match out {
            Ok(_) => PAGES - 1,
            Err(MemcgError::Entry(EntryError::TypeOff { offset, .. })) => offset.unwrap() - 1,
            Err(error) => panic!("{error}"),
        };
        // Records that were written went with the swapfile. The other pages are in memory.
        assert_eq!(dropped, written);
        let left = PAGES - written;
        assert_eq!(numbers(&memcgs, a), [left, left, left, 0]);
        seen.insert(written / REGION);
        memcgs.validate().unwrap();

        memcgs.swapon(TYPE, PAGES).unwrap();
        memcgs.swap_out(b, entry(0), PAGES).unwrap();
        let mut told = 0;
        let free = |memcgs: &Tree| {
            memcgs.free_swap_with(entry(0), PAGES, |run| {
                assert_eq!((run.start.offset(), run.id), (told, b.id()));
                told += run.len;
            })
        };
        if let Some((freed, dropped)) = concurrently(&memcgs, n, || memcgs.swapoff(TYPE), free) {
            match freed {
                Ok(freed) => assert_eq!(freed, told),
                Err(MemcgError::Entry(EntryError::TypeOff { offset, .. })) => {
                    assert!(offset.unwrap() >= told);
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(told + dropped.unwrap(), PAGES);
            assert_eq!(numbers(&memcgs, b), [0, 0, 0, 0]);
            memcgs.validate().unwrap();
        }
    }
    assert!(seen.len() > 3, "in the middle, too: {seen:?}");
}
