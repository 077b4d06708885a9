//! Tests operations of a tree whose swapfile is turned off before they get to a lock, and replaced by another
//! one of the same type. The operations are refused. They change neither the new swapfile nor its owners and
//! their charges.

#![cfg(not(miri))] // Every pair of places takes too long.

mod hooked;

use std::sync::mpsc::channel;
use std::thread;

use hooked::{Event, Hooked, LONG, SHORT, at, count, stop};
use swap_records::memcg::{Memcg, MemcgError, Memcgs};
use swap_records::{EntryError, REGION_ENTRIES, Run, SwapEntry, SwapType};

const TYPE: SwapType = SwapType::new(0).unwrap();
const PAGES: u64 = 2 * REGION_ENTRIES as u64;
/// The slots lie in two regions.
const FIRST: u64 = REGION_ENTRIES as u64 - 2;
const NR: u64 = 4;

fn entry() -> SwapEntry {
    SwapEntry::new(TYPE, FIRST).unwrap()
}

/// Makes three siblings. If `recorded`, `a` has records in the slots.
fn family(recorded: bool) -> (Memcgs<Hooked>, [Memcg; 3]) {
    let memcgs = Memcgs::with_raw_mutex();
    memcgs.swapon(TYPE, PAGES).unwrap();
    let family = [(); 3].map(|()| memcgs.create(memcgs.root()).unwrap());
    for memcg in family {
        memcgs.charge(memcg, 10).unwrap();
    }
    if recorded {
        memcgs.swap_out(family[0], entry(), NR).unwrap();
    }
    (memcgs, family)
}

/// Another thread turns the swapfile off. It is paused before it takes a lock, while it holds none, for the
/// `place`-th time. Then the operation begins, and runs until it takes or has freed a lock for the `n`-th
/// time. Meanwhile the other thread goes on as far as it can. It turns the next swapfile on, in which `b`
/// gets the slots. Returns the result of the operation, and whether it takes so many locks.
fn beside<T: 'static>(
    recorded: bool,
    place: usize,
    (event, n): (Event, usize),
    operation: fn(&Memcgs<Hooked>, [Memcg; 3]) -> Result<T, MemcgError>,
) -> (Result<T, MemcgError>, bool) {
    let (memcgs, family) = family(recorded);
    let b = family[1];
    let before = memcgs.usage(family[0]).unwrap().own;
    let (paused, pause) = stop();
    let (done, is_done) = channel();
    let result = thread::scope(|s| {
        let memcgs = &memcgs;
        s.spawn(move || {
            let (off, _) = at(
                Event::First,
                place,
                || paused.wait(),
                || memcgs.swapoff(TYPE),
            );
            off.unwrap();
            memcgs.swapon(TYPE, PAGES).unwrap();
            memcgs.swap_out(b, entry(), NR).expect("the slots are free");
            let _ = done.send(());
        });
        // If the swapoff takes fewer locks, it ends before the operation begins.
        pause.is_there(LONG);
        let others = move || {
            pause.go_on();
            let _ = is_done.recv_timeout(SHORT);
        };
        at(event, n, others, || operation(memcgs, family))
    });
    let left = Run {
        start: entry(),
        len: NR,
        id: b.id(),
    };
    assert!(
        memcgs.records().runs(TYPE).eq([left]),
        "the next one has what it had: {:?}, lock {place} of swapoff, {event:?} {n} of the operation",
        memcgs.records().runs(TYPE).collect::<Vec<_>>()
    );
    let [of_a, of_b, _] = family.map(|memcg| memcgs.usage(memcg).unwrap());
    assert_eq!((of_b.own, of_b.swap, of_b.memsw), (10 - NR, NR, 10));
    // No record of `a` in the old swapfile is left. Its pages are where they were.
    let of_a = (of_a.swap, of_a.own);
    let swapped_in = before + if recorded { NR } else { 0 };
    assert!(of_a == (0, before) || of_a == (0, swapped_in), "{of_a:?}");
    memcgs.validate().unwrap();
    result
}

/// Tests all places in a swapoff with all places in the operation. The operation returns `TypeOff`, or
/// `is_right` accepts its result. Returns how often it was refused.
fn everywhere<T: std::fmt::Debug + 'static>(
    recorded: bool,
    operation: fn(&Memcgs<Hooked>, [Memcg; 3]) -> Result<T, MemcgError>,
    is_right: impl Fn(&Result<T, MemcgError>) -> bool,
) -> u32 {
    let places = {
        let (memcgs, _) = family(recorded);
        count(Event::First, || memcgs.swapoff(TYPE).unwrap())
    };
    let mut refused = 0;
    let events = [Event::Lock, Event::Unlocked];
    for (place, event) in (0..places).flat_map(|place| events.map(|event| (place, event))) {
        for n in 0.. {
            let (result, was_there) = beside(recorded, place, (event, n), operation);
            let off = matches!(result, Err(MemcgError::Entry(EntryError::TypeOff { .. })));
            refused += u32::from(off);
            assert!(
                off || is_right(&result),
                "{place}, {event:?} {n}: {result:?}"
            );
            if !was_there {
                break;
            }
        }
    }
    refused
}

#[test]
fn a_swap_out_does_nothing_to_the_next_swapfile() {
    // The swapoff begins before the operation does, so the operation is always refused.
    let always = |_: &Result<Memcg, MemcgError>| false;
    let over_regions =
        |memcgs: &Memcgs<Hooked>, [a, ..]: [Memcg; 3]| memcgs.swap_out(a, entry(), NR);
    let in_one = |memcgs: &Memcgs<Hooked>, [a, ..]: [Memcg; 3]| memcgs.swap_out(a, entry(), 2);
    assert!(everywhere(false, over_regions, always) > 0);
    assert!(everywhere(false, in_one, always) > 0);
}

#[test]
fn a_free_swap_does_nothing_to_the_next_swapfile() {
    // All slots of the old swapfile are freed, by the operation or by the swapoff.
    let operation =
        |memcgs: &Memcgs<Hooked>, _: [Memcg; 3]| memcgs.free_swap(entry(), NR).map(drop);
    assert!(everywhere(true, operation, Result::is_ok) > 0);
    assert!(everywhere(false, operation, Result::is_ok) > 0);
}

#[test]
fn a_batch_that_is_freed_does_nothing_to_the_next_swapfile() {
    let operation = |memcgs: &Memcgs<Hooked>, _: [Memcg; 3]| {
        let slots = [3, 0, 1, 2].map(|skip| entry().checked_add(skip).unwrap());
        memcgs.free_swap_batch(&slots, |_, _| ()).map(drop)
    };
    assert!(everywhere(true, operation, Result::is_ok) > 0);
    assert!(everywhere(false, operation, Result::is_ok) > 0);
}

#[test]
fn a_move_of_records_does_nothing_to_the_next_swapfile() {
    everywhere(
        true,
        |memcgs, [a, _, c]| memcgs.move_swap_account(entry(), NR, a, c),
        |moved| matches!(moved, Ok(0..=NR)),
    );
    // From the cgroup that owns the slots in the next swapfile.
    everywhere(
        true,
        |memcgs, [_, b, c]| memcgs.move_swap_account(entry(), NR, b, c),
        |moved| *moved == Ok(0),
    );
}

#[test]
fn a_swap_in_charges_no_cgroup_for_the_next_swapfile() {
    everywhere(
        true,
        |memcgs, _| memcgs.swap_in_cached(entry(), NR),
        |charged| charged.is_ok() || matches!(charged, Err(MemcgError::NoRecord { .. })),
    );
    everywhere(
        true,
        |memcgs, _| memcgs.swap_in(entry(), NR),
        |charged| charged.is_ok() || matches!(charged, Err(MemcgError::NoRecord { .. })),
    );
}

/// A regression: `swap_in_cached` looked at the records in sections, and charged outside of them. So it
/// charged for pages of a swapfile that was turned off, or of the next one.
#[test]
fn no_cgroup_is_charged_for_a_copy_after_its_swapfile_was_turned_off() {
    for n in 0.. {
        let (memcgs, [a, ..]) = family(true);
        let own = || memcgs.usage(a).unwrap().own;
        let (paused, pause) = stop();
        let (done, is_done) = channel();
        let (charged, off_before, was_there) = thread::scope(|s| {
            let memcgs = &memcgs;
            let come_in = s.spawn(move || {
                at(
                    Event::First,
                    n,
                    || paused.wait(),
                    || memcgs.swap_in_cached(entry(), NR),
                )
            });
            pause.is_there(LONG);
            s.spawn(move || {
                memcgs.swapoff(TYPE).unwrap();
                memcgs.swapon(TYPE, PAGES).unwrap();
                let _ = done.send(());
            });
            // A swapoff that waits for the section of the swap-in is not done by then.
            let off = is_done.recv_timeout(SHORT).is_ok();
            let off_before = off && own() == 10 - NR;
            pause.go_on();
            let (charged, was_there) = come_in.join().unwrap();
            (charged, off_before, was_there)
        });
        if !was_there {
            assert!(n > 4, "{n} places");
            break;
        }
        if off_before {
            let off = matches!(charged, Err(MemcgError::Entry(EntryError::TypeOff { .. })));
            assert!(off, "place {n}: {charged:?}");
        }
        let pages = if charged.is_ok() { 10 } else { 10 - NR };
        assert_eq!((own(), memcgs.usage(a).unwrap().memsw), (pages, pages));
        memcgs.validate().unwrap();
    }
}
