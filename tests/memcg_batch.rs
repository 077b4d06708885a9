//! Tests that freeing a batch does what freeing its slots one by one does, whatever other threads do
//! meanwhile.

mod hooked;

use std::collections::BTreeMap;
use std::thread;

use hooked::{Event, Hooked, count};
use swap_records::memcg::{Memcg, MemcgError, Memcgs, Usage};
use swap_records::{EntryError, MemcgId, REGION_ENTRIES, SwapEntry, SwapType};

const FIRST: SwapType = SwapType::new(0).unwrap();
const SECOND: SwapType = SwapType::new(7).unwrap();
const REGION: u64 = REGION_ENTRIES as u64;
const PAGES: u64 = 3 * REGION;
/// The most slots of a batch that are written in one section.
const WINDOW: usize = if cfg!(miri) { 8 } else { 64 };
/// The number of slots of a batch. Every second one has a record.
const SLOTS: u64 = if cfg!(miri) { 40 } else { 400 };

type Tree = Memcgs<Hooked>;

fn entry(ty: SwapType, offset: u64) -> SwapEntry {
    SwapEntry::new(ty, offset).unwrap()
}

/// Makes a parent and six children, the last of which is offline. They own half of the slots that are
/// returned, alternately and in short runs. The slots are of both types and in three regions.
fn family() -> (Tree, Vec<Memcg>, Vec<SwapEntry>) {
    let memcgs = Tree::with_raw_mutex();
    for ty in [FIRST, SECOND] {
        memcgs.swapon(ty, PAGES).unwrap();
    }
    let parent = memcgs.create(memcgs.root()).unwrap();
    let mut family: Vec<_> = (0..6).map(|_| memcgs.create(parent).unwrap()).collect();
    let slot = |n: u64| {
        let ty = if n % 7 < 4 { FIRST } else { SECOND };
        entry(ty, n * 37 % 3 * REGION + n)
    };
    for (n, memcg) in (0..SLOTS).step_by(2).zip(family.iter().cycle()) {
        memcgs.charge(*memcg, 1).unwrap();
        memcgs.swap_out(*memcg, slot(n), 1).unwrap();
    }
    memcgs.css_offline(family[5], 0).unwrap();
    family.push(parent);
    let mut slots: Vec<_> = (0..SLOTS).map(slot).collect();
    fastrand::Rng::with_seed(5).shuffle(&mut slots);
    (memcgs, family, slots)
}

fn usages(memcgs: &Tree, family: &[Memcg]) -> Vec<Usage> {
    let usages = family.iter().map(|&memcg| memcgs.usage(memcg));
    usages.collect::<Result<_, _>>().unwrap()
}

/// The result of a batch, and what its callback was told.
type Freed = (Result<u64, MemcgError>, Vec<(SwapEntry, MemcgId)>);

fn free_batch(memcgs: &Tree, slots: &[SwapEntry]) -> Freed {
    let mut told = Vec::new();
    let freed = memcgs.free_swap_batch(slots, |slot, owner| told.push((slot, owner)));
    (freed, told)
}

#[test]
fn a_batch_frees_and_uncharges_what_its_slots_do_one_by_one() {
    for nr in [0, 1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 5] {
        let (memcgs, family, slots) = family();
        let (others, others_family, _) = self::family();
        let slots = &slots[..nr.min(slots.len())];
        let (freed, told) = free_batch(&memcgs, slots);
        let mut one_by_one = Vec::new();
        for &slot in slots {
            let each = |run: swap_records::Run| one_by_one.push((run.start, run.id));
            others.free_swap_with(slot, 1, each).unwrap();
        }
        assert_eq!(freed, Ok(told.len() as u64));
        assert_eq!(told, one_by_one);
        assert_eq!(usages(&memcgs, &family), usages(&others, &others_family));
        memcgs.validate().unwrap();
    }
}

#[test]
fn a_slot_that_comes_twice_is_freed_once() {
    let (memcgs, family, slots) = family();
    let twice: Vec<_> = slots.iter().chain(slots.iter().rev()).copied().collect();
    let (freed, told) = free_batch(&memcgs, &twice);
    assert_eq!((freed, told.len() as u64), (Ok(SLOTS / 2), SLOTS / 2));
    for usage in usages(&memcgs, &family) {
        assert_eq!((usage.memsw, usage.swap), (0, 0));
    }
    assert_eq!(memcgs.swapoff(FIRST), Ok(0));
    assert_eq!(memcgs.swapoff(SECOND), Ok(0));
    memcgs.validate().unwrap();
}

#[test]
fn a_batch_that_is_refused_has_freed_nothing() {
    let (memcgs, family, mut slots) = family();
    let before = usages(&memcgs, &family);
    let off = SwapType::new(1).unwrap();
    for (last, error) in [
        (
            entry(off, 5),
            EntryError::TypeOff {
                ty: off,
                offset: Some(5),
            },
        ),
        (
            entry(SECOND, PAGES),
            EntryError::OutOfRange {
                start: entry(SECOND, PAGES),
                nr: 1,
                max_pages: PAGES,
            },
        ),
    ] {
        slots.push(last);
        let (freed, told) = free_batch(&memcgs, &slots);
        assert_eq!((freed, told), (Err(MemcgError::Entry(error)), Vec::new()));
        assert_eq!(usages(&memcgs, &family), before);
        slots.pop();
    }
}

/// A window takes the lock of a shard once, and the lock of a region at most once per slot.
#[test]
fn owners_are_uncharged_once_a_window() {
    let (memcgs, family, _) = family();
    let owner = family[0];
    memcgs.charge(owner, 4 * WINDOW as u64).unwrap();
    let slots: Vec<_> = (0..4 * WINDOW as u64)
        .map(|n| entry(FIRST, REGION / 2 + n))
        .collect();
    memcgs.swap_out(owner, slots[0], 4 * WINDOW as u64).unwrap();
    let locks = count(Event::First, || {
        let freed = memcgs.free_swap_batch(&slots, |_, _| ());
        assert_eq!(freed, Ok(4 * WINDOW as u64));
    });
    assert_eq!(locks, 4 * 2, "of a region and of a shard");
    // Free slots take no lock of a shard: no cgroup is uncharged for them.
    let locks = count(Event::First, || {
        assert_eq!(memcgs.free_swap_batch(&slots, |_, _| ()), Ok(0));
    });
    assert_eq!(locks, 4);
}

/// Runs the batch. At its `n`-th call, the callback waits until another thread has done `other`. Returns
/// `None` if the callback is called less often.
fn concurrently<O: Send>(
    memcgs: &Tree,
    slots: &[SwapEntry],
    n: usize,
    other: impl FnOnce() -> O + Send,
) -> Option<(Freed, O)> {
    let (mut other, mut others) = (Some(other), None);
    let mut told = Vec::new();
    let freed = memcgs.free_swap_batch(slots, |slot, owner| {
        if told.len() == n
            && let Some(other) = other.take()
        {
            others = Some(thread::scope(|s| s.spawn(other).join().unwrap()));
        }
        told.push((slot, owner));
    });
    Some(((freed, told), others?))
}

#[test]
fn a_swapoff_in_the_middle_of_a_batch_leaves_the_books_balanced() {
    let mut ended = 0;
    for n in (0..).step_by(11) {
        let (memcgs, family, slots) = family();
        let Some(((freed, told), dropped)) =
            concurrently(&memcgs, &slots, n, || memcgs.swapoff(SECOND))
        else {
            break;
        };
        let told_of_second = told
            .iter()
            .filter(|(slot, _)| slot.swap_type() == SECOND)
            .count() as u64;
        let of_second = (0..SLOTS).step_by(2).filter(|n| n % 7 >= 4).count() as u64;
        assert_eq!(dropped.unwrap() + told_of_second, of_second, "{n}");
        match freed {
            Ok(freed) => assert_eq!(freed, told.len() as u64),
            Err(MemcgError::Entry(EntryError::TypeOff { ty, offset })) => {
                ended += 1;
                assert_eq!(ty, SECOND);
                // The error names a slot. From that slot on, the batch freed no slot of its type.
                let at = |slot| slots.iter().position(|&other| other == slot).unwrap();
                let passed = at(entry(ty, offset.unwrap()));
                let mut of_type = told.iter().filter(|(slot, _)| slot.swap_type() == ty);
                assert!(of_type.all(|&(slot, _)| at(slot) < passed), "{n}");
            }
            Err(error) => panic!("{error}"),
        }
        memcgs.validate().unwrap();
        // All slots of the other type are freed, also those after the slot in the error. So no part of the
        // batch has to be repeated.
        assert_eq!(memcgs.swapoff(FIRST), Ok(0), "{n}");
        for usage in usages(&memcgs, &family) {
            assert_eq!((usage.memsw, usage.swap), (0, 0), "{n}");
        }
    }
    assert!(ended > 1, "{ended} batches ran during a swapoff");
}

/// If a batch has cleared a record, its owner is uncharged before `css_free` frees the owner. Records that
/// are not cleared yet migrate to the parent, and the parent is uncharged for them.
#[test]
fn a_cgroup_that_is_freed_in_the_middle_of_a_batch_is_uncharged_for_what_was_its_own() {
    let mut migrated = BTreeMap::new();
    for n in (0..).step_by(9) {
        let (memcgs, family, slots) = family();
        let (removed, parent) = (family[5], family[6]);
        let owned = memcgs.usage(removed).unwrap().swap;
        let Some(((freed, told), moved)) =
            concurrently(&memcgs, &slots, n, || memcgs.css_free(removed))
        else {
            break;
        };
        assert_eq!(freed, Ok(SLOTS / 2));
        let of = |id| told.iter().filter(|&&(_, owner)| owner == id).count() as u64;
        let moved = moved.unwrap().moved;
        assert_eq!((of(removed.id()), of(parent.id())), (owned - moved, moved));
        *migrated.entry(moved).or_insert(0) += 1;
        memcgs.validate().unwrap();
        let next = memcgs.create(parent).unwrap();
        assert_eq!(next.id(), removed.id());
        let usage = memcgs.usage(parent).unwrap();
        assert_eq!((usage.memsw, usage.swap), (0, 0));
        assert_eq!(memcgs.usage(next).unwrap().memsw, 0);
    }
    assert!(migrated.len() > 2, "in the middle, too: {migrated:?}");
}
