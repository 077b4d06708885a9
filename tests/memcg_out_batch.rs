//! Tests that swapping out a batch does what swapping out page by page does, whatever other threads do
//! meanwhile.

mod hooked;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hooked::{Event, Hooked, at, count, each};
use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource, Usage};
use swap_records::{EntryError, REGION_ENTRIES, SwapEntry, SwapType};

const FIRST: SwapType = SwapType::new(0).unwrap();
const SECOND: SwapType = SwapType::new(7).unwrap();
const REGION: u64 = REGION_ENTRIES as u64;
const PAGES: u64 = 3 * REGION;
/// The most slots of a batch that are written in one section.
const WINDOW: usize = if cfg!(miri) { 8 } else { 64 };
const SLOTS: u64 = 3 * WINDOW as u64 + 5;

type Tree = Memcgs<Hooked>;

fn entry(ty: SwapType, offset: u64) -> SwapEntry {
    SwapEntry::new(ty, offset).unwrap()
}

/// Makes a parent and a child. The child has as many pages in memory as there are slots. The slots are in two
/// swapfiles, and in three regions of each.
fn family() -> (Tree, [Memcg; 2], Vec<SwapEntry>) {
    let memcgs = Tree::with_raw_mutex();
    for ty in [FIRST, SECOND] {
        memcgs.swapon(ty, PAGES).unwrap();
    }
    let parent = memcgs.create(memcgs.root()).unwrap();
    let child = memcgs.create(parent).unwrap();
    memcgs.charge(child, SLOTS).unwrap();
    let slot = |n: u64| {
        let ty = if n % 7 < 4 { FIRST } else { SECOND };
        entry(ty, n * 37 % 3 * REGION + n)
    };
    let mut slots: Vec<_> = (0..SLOTS).map(slot).collect();
    fastrand::Rng::with_seed(5).shuffle(&mut slots);
    (memcgs, [parent, child], slots)
}

fn usages(memcgs: &Tree, family: [Memcg; 2]) -> [Usage; 3] {
    [memcgs.root(), family[0], family[1]].map(|memcg| memcgs.usage(memcg).unwrap())
}

fn owned(memcgs: &Tree, slots: &[SwapEntry], memcg: Memcg) -> u64 {
    let of = |slot: &&SwapEntry| memcgs.records().lookup(**slot) == Some(memcg.id());
    slots.iter().filter(of).count() as u64
}

#[test]
fn a_batch_swaps_out_what_single_calls_do_online_and_offline() {
    for nr in [0, 1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 5] {
        for offline in [false, true] {
            let (memcgs, family, slots) = family();
            let (others, others_family, _) = self::family();
            if offline {
                memcgs.css_offline(family[1], 0).unwrap();
                others.css_offline(others_family[1], 0).unwrap();
            }
            let slots = &slots[..nr];
            let owner = family[usize::from(!offline)];
            assert_eq!(memcgs.swap_out_batch(family[1], slots), Ok(owner), "{nr}");
            for &slot in slots {
                others.swap_out(others_family[1], slot, 1).unwrap();
            }
            assert_eq!(owned(&memcgs, slots, owner), nr as u64);
            assert_eq!(usages(&memcgs, family), usages(&others, others_family));
            memcgs.validate().unwrap();
            // All pages can be given back.
            memcgs.uncharge(family[1], SLOTS - nr as u64).unwrap();
            assert_eq!(memcgs.free_swap_batch(slots, |_, _| ()), Ok(nr as u64));
            assert_eq!(memcgs.usage(memcgs.root()).unwrap().memsw, 0);
            memcgs.validate().unwrap();
        }
    }
}

#[test]
fn a_batch_that_is_refused_has_changed_nothing() {
    let (memcgs, family, mut slots) = family();
    let child = family[1];
    memcgs.charge(child, 1).unwrap();
    memcgs.swap_out(child, entry(FIRST, PAGES - 1), 1).unwrap();
    memcgs.charge(child, 1).unwrap();
    let before = usages(&memcgs, family);
    let refused = |slots: &[SwapEntry]| {
        let error = memcgs.swap_out_batch(child, slots).unwrap_err();
        assert_eq!(usages(&memcgs, family), before);
        memcgs.validate().unwrap();
        error
    };
    let off = SwapType::new(1).unwrap();
    for last in [entry(off, 5), entry(SECOND, PAGES)] {
        slots.push(last);
        assert!(matches!(refused(&slots), MemcgError::Entry(_)));
        slots.pop();
    }
    let taken = entry(FIRST, PAGES - 1);
    slots.push(taken);
    let occupied = MemcgError::Occupied {
        entry: taken,
        owner: child.id(),
    };
    assert_eq!(refused(&slots), occupied);
    slots.pop();
    slots.extend([entry(FIRST, 7 * 7 + REGION / 2), entry(FIRST, REGION / 2)]);
    assert!(matches!(refused(&slots), MemcgError::NotCharged { nr, .. } if nr == SLOTS + 2));
    slots.truncate(slots.len() - 2);
    memcgs
        .set_limit(family[0], Resource::Swap, Some(SLOTS))
        .unwrap();
    let before = usages(&memcgs, family);
    let full = memcgs.swap_out_batch(child, &slots);
    assert!(matches!(
        full,
        Err(MemcgError::OverLimit {
            resource: Resource::Swap,
            ..
        })
    ));
    assert_eq!(usages(&memcgs, family), before);
    memcgs
        .set_limit(family[0], Resource::Swap, Some(SLOTS + 1))
        .unwrap();
    assert_eq!(memcgs.swap_out_batch(child, &slots), Ok(child));
    memcgs.validate().unwrap();
}

#[test]
fn a_slot_that_comes_twice_has_one_record_and_one_charge() {
    let (memcgs, family, slots) = family();
    let nr = WINDOW / 2;
    let twice: Vec<_> = slots[..nr].iter().chain(&slots[..nr]).copied().collect();
    memcgs.swap_out_batch(family[1], &twice).unwrap();
    let usage = memcgs.usage(family[1]).unwrap();
    let (nr, own) = (nr as u64, SLOTS - 2 * nr as u64);
    assert_eq!(
        (usage.own, usage.swap, usage.swap_total, usage.memsw),
        (own, nr, nr, own + nr)
    );
    memcgs.validate().unwrap();
}

/// One lock of a shard to take the pages, and one to charge swap. Then one lock of a shard per window, and
/// the locks of its regions.
#[test]
fn a_window_takes_the_lock_of_a_shard_once() {
    let (memcgs, family, _) = family();
    let slots: Vec<_> = (0..2 * WINDOW as u64)
        .map(|n| entry(FIRST, 2 * n))
        .collect();
    let locks = count(Event::First, || {
        memcgs.swap_out_batch(family[1], &slots).unwrap();
    });
    assert_eq!(locks, 2 + 2 * 2, "of a region and of a shard");
}

/// Runs the batch. Runs `other` before the batch takes a lock, while it holds none, for the `n`-th time.
/// Returns `None` if the batch takes fewer locks.
fn beside<O: Send + 'static>(
    memcgs: &Arc<Tree>,
    child: Memcg,
    slots: &[SwapEntry],
    n: usize,
    other: impl FnOnce(&Tree) -> O + Send + 'static,
) -> Option<(Result<Memcg, MemcgError>, O)> {
    let done = Arc::new(std::sync::Mutex::new(None));
    let (of_hook, tree) = (done.clone(), memcgs.clone());
    let mut other = Some(other);
    let mut left = n;
    // At the n-th lock, the other thread starts. It may wait for a section of the batch. So the batch waits
    // for a limited time at this lock and at the next ones, until the other thread is done or has had its
    // time. By then, the batch would have ended.
    let mut patience = 3;
    let hook = move |event| {
        if event != Event::First {
            return;
        }
        if left > 0 {
            left -= 1;
            return;
        }
        let Some(other) = other.take() else {
            let is_done =
                || LATER.with_borrow(|thread| thread.as_ref().is_none_or(|t| t.is_finished()));
            if patience > 0 && !is_done() {
                patience -= 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            return;
        };
        let (of_hook, tree) = (of_hook.clone(), tree.clone());
        let (starts, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            starts.send(()).unwrap();
            let result = other(&tree);
            *of_hook.lock().unwrap() = Some(result);
        });
        // On a busy machine, the thread does not run at once.
        started.recv().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        LATER.set(Some(thread));
    };
    let result = each(hook, || memcgs.swap_out_batch(child, slots));
    let thread = LATER.take();
    let called = thread.is_some();
    if let Some(thread) = thread {
        thread.join().unwrap();
    }
    called.then(|| (result, done.lock().unwrap().take().unwrap()))
}

thread_local! {
    static LATER: std::cell::RefCell<Option<std::thread::JoinHandle<()>>> =
        const { std::cell::RefCell::new(None) };
}

#[test]
fn a_swapoff_in_the_middle_of_a_batch_leaves_the_books_balanced() {
    let mut ended = 0;
    for n in 0.. {
        let (memcgs, family, slots) = family();
        let memcgs = Arc::new(memcgs);
        let Some((result, dropped)) =
            beside(&memcgs, family[1], &slots, n, |tree| tree.swapoff(SECOND))
        else {
            break;
        };
        dropped.unwrap();
        let usage = memcgs.usage(family[1]).unwrap();
        match result {
            Ok(owner) => {
                assert_eq!((owner, usage.own), (family[1], 0));
            }
            Err(MemcgError::Entry(EntryError::TypeOff { ty, offset })) => {
                ended += 1;
                assert_eq!(ty, SECOND);
                // The slots before it were swapped out. They still have their records, except those of that
                // swapfile.
                let named = slots
                    .iter()
                    .position(|&slot| slot == entry(ty, offset.unwrap()))
                    .unwrap();
                assert_eq!(usage.own, SLOTS - named as u64, "{n}");
                let of_first = slots[..named]
                    .iter()
                    .filter(|slot| slot.swap_type() == FIRST)
                    .count() as u64;
                assert_eq!(
                    (usage.swap, owned(&memcgs, &slots, family[1])),
                    (of_first, of_first),
                    "{n}"
                );
            }
            Err(error) => panic!("{error}"),
        }
        memcgs.validate().unwrap();
        memcgs.uncharge(family[1], usage.own).unwrap();
        memcgs.swapoff(FIRST).unwrap();
        assert_eq!(memcgs.usage(memcgs.root()).unwrap().memsw, 0, "{n}");
    }
    assert!(ended > 1, "{ended} batches were ended by a swapoff");
}

#[test]
fn a_cgroup_that_goes_offline_in_the_middle_of_a_batch_gets_no_more_records() {
    let mut parts = std::collections::BTreeSet::new();
    for n in 0.. {
        let (memcgs, family, slots) = family();
        let [parent, child] = family;
        let memcgs = Arc::new(memcgs);
        let other = move |tree: &Tree| {
            tree.css_offline(child, 0).unwrap();
            // The batch keeps pages of the cgroup, or the cgroup has them in memory.
            let busy = tree.css_free(child);
            (tree.usage(child), busy)
        };
        let Some((result, _)) = beside(&memcgs, child, &slots, n, other) else {
            break;
        };
        let owner = result.unwrap();
        assert!(owner == child || owner == parent);
        if let Ok(usage) = memcgs.usage(child) {
            assert_eq!((usage.own, usage.online), (0, false), "{n}");
            assert_eq!(usage.swap, owned(&memcgs, &slots, child));
            parts.insert(usage.swap);
            memcgs.validate().unwrap();
            memcgs.css_free(child).unwrap();
        }
        assert_eq!(owned(&memcgs, &slots, parent), SLOTS);
        let usage = memcgs.usage(parent).unwrap();
        assert_eq!(
            (usage.memory, usage.memsw, usage.swap),
            (0, SLOTS, SLOTS),
            "{n}"
        );
        memcgs.validate().unwrap();
    }
    assert!(
        parts.iter().any(|part| (1..SLOTS).contains(part)),
        "in the middle, too: {parts:?}"
    );
}

#[test]
fn a_batch_that_a_lock_ends_has_pages_and_records_balanced() {
    for event in [Event::Lock, Event::Unlocked] {
        for n in 0.. {
            let (memcgs, family, slots) = family();
            let unwinds = || panic!("a lock unwinds");
            let batch = AssertUnwindSafe(|| {
                at(event, n, unwinds, || {
                    memcgs.swap_out_batch(family[1], &slots)
                })
            });
            let unwound = catch_unwind(batch).is_err();
            if !unwound {
                break;
            }
            let usage = memcgs.usage(family[1]).unwrap();
            assert_eq!(usage.own + usage.swap, SLOTS, "{event:?} {n}");
            assert_eq!(
                usage.swap,
                owned(&memcgs, &slots, family[1]),
                "{event:?} {n}"
            );
            assert_eq!(usage.memsw, SLOTS);
            memcgs.validate().unwrap();
            // The other slots can be swapped out by another call.
            let left: Vec<_> = slots
                .iter()
                .filter(|&&slot| memcgs.records().lookup(slot).is_none())
                .copied()
                .collect();
            memcgs.swap_out_batch(family[1], &left).unwrap();
            assert_eq!(memcgs.usage(family[1]).unwrap().swap, SLOTS);
            memcgs.validate().unwrap();
        }
    }
}
