//! Tests the race of the proposal of 2014. A swap-in finds the id of a cgroup in a record, and charges the
//! cgroup while it goes offline, its records are reparented, and it is freed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource};
use swap_records::{MemcgId, SwapEntry, SwapType};

const ROUNDS: u64 = if cfg!(miri) { 15 } else { 20_000 };

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(SwapType::new(0).unwrap(), offset).unwrap()
}

/// A point at which two threads wait for each other. If one of them panics, the other one fails too, and does
/// not wait forever.
#[derive(Default)]
struct Meeting {
    /// The number of arrivals, and whether one of the threads failed.
    so_far: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Meeting {
    fn wait(&self) {
        let mut so_far = self.so_far.lock().unwrap();
        so_far.0 += 1;
        let both = so_far.0.next_multiple_of(2);
        self.changed.notify_all();
        let waits = |so_far: &mut (u64, bool)| so_far.0 < both && !so_far.1;
        let so_far = self.changed.wait_while(so_far, waits).unwrap();
        let failed = so_far.1;
        drop(so_far);
        assert!(!failed, "the other thread did");
    }

    /// Each of the two threads keeps this until its end.
    fn attend(&self) -> Attendance<'_> {
        Attendance(self)
    }
}

struct Attendance<'a>(&'a Meeting);

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.so_far.lock().unwrap().1 = true;
            self.0.changed.notify_all();
        }
    }
}

/// Takes the cgroup offline, and frees it as soon as it has no page in memory.
fn die(memcgs: &Memcgs, removed: Memcg) {
    memcgs.css_offline(removed, 0).unwrap();
    loop {
        match memcgs.css_free(removed) {
            Ok(_) => return,
            Err(MemcgError::Busy { pages, .. }) => assert_eq!(pages, 1),
            Err(error) => panic!("{error}"),
        }
        thread::yield_now();
    }
}

/// The page of slot 0 is swapped in while its cgroup goes offline and is freed. The cgroup is charged, and
/// then cannot be freed before the page; or its parent is charged. A freed cgroup is never charged, and no
/// charge is left.
#[test]
fn a_swap_in_charges_the_offline_cgroup_or_its_parent_and_never_a_freed_one() {
    race_of_a_swap_in(Memcgs::swap_in, 1);
    race_of_a_swap_in(Memcgs::swap_in_cached, 2);
}

type SwapIn = fn(&Memcgs, SwapEntry, u64) -> Result<Memcg, MemcgError>;

/// `left` of two records are left after the swap-in.
fn race_of_a_swap_in(swap_in: SwapIn, left: u64) {
    let memcgs = Memcgs::new();
    memcgs.swapon(entry(0).swap_type(), 100).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let (to_dying, to_parent) = (AtomicU64::new(0), AtomicU64::new(0));
    let meeting = Meeting::default();
    let removed = Mutex::new(parent);
    thread::scope(|s| {
        s.spawn(|| {
            let _attendance = meeting.attend();
            for _ in 0..ROUNDS {
                let child = memcgs.create(parent).unwrap();
                memcgs.charge(child, 2).unwrap();
                memcgs.swap_out(child, entry(0), 2).unwrap();
                *removed.lock().unwrap() = child;
                meeting.wait();
                die(&memcgs, child);
                // The id belongs to another cgroup at once.
                let next = memcgs.create(memcgs.root()).unwrap();
                assert_eq!(next.id(), child.id());
                assert_eq!(memcgs.usage(next).unwrap().memsw, 0);
                meeting.wait();
                assert_eq!(memcgs.usage(next).unwrap().memsw, 0);
                assert_eq!(memcgs.usage(parent).unwrap().memsw, 0);
                die(&memcgs, next);
            }
        });
        let _attendance = meeting.attend();
        for round in 0..ROUNDS {
            meeting.wait();
            for _ in 0..round % 200 {
                std::hint::spin_loop();
            }
            let charged = swap_in(&memcgs, entry(0), 1).unwrap();
            let by_parent = charged == parent;
            // The next cgroup with the same id is not charged.
            assert!(by_parent || charged == *removed.lock().unwrap());
            let count = if by_parent { &to_parent } else { &to_dying };
            count.fetch_add(1, Ordering::Relaxed);
            // The cgroup that is charged has the page.
            assert!(memcgs.usage(charged).unwrap().own >= 1);
            assert_eq!(memcgs.free_swap(entry(0), 2), Ok(left));
            memcgs.uncharge(charged, 1).unwrap();
            meeting.wait();
        }
    });
    memcgs.validate().unwrap();
    let both = [to_dying, to_parent].map(AtomicU64::into_inner);
    assert_eq!(both.iter().sum::<u64>(), ROUNDS);
    println!(
        "charged: the removed cgroup {}, its parent {}",
        both[0], both[1]
    );
}

/// Slots are freed while their owner is freed. The cgroup that owned a slot when it was cleared is uncharged,
/// and not one that owned it before. The migration holds the lock of the region for a while, so a thread that
/// frees slots may wait for it.
#[test]
fn slots_that_are_freed_while_their_owner_dies_are_uncharged_once() {
    race_of_freed_slots(|memcgs, slots, each| {
        for &slot in slots {
            let freed = memcgs.free_swap_with(slot, 1, |run| each(run.id));
            assert_eq!(freed, Ok(1));
        }
    });
}

/// The same for a batch.
#[test]
fn a_batch_that_is_freed_while_its_owner_dies_is_uncharged_once() {
    race_of_freed_slots(|memcgs, slots, each| {
        let freed = memcgs.free_swap_batch(slots, |_, owner| each(owner));
        assert_eq!(freed, Ok(slots.len() as u64));
    });
}

fn race_of_freed_slots(free: fn(&Memcgs, &[SwapEntry], &mut dyn FnMut(MemcgId))) {
    const RECORDS: u64 = 500;
    let memcgs = Memcgs::new();
    memcgs.swapon(entry(0).swap_type(), 50 * RECORDS).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let meeting = Meeting::default();
    let to_parent = AtomicU64::new(0);
    let slots: Vec<_> = (0..RECORDS).map(|n| entry(50 * n)).collect();
    thread::scope(|s| {
        s.spawn(|| {
            let _attendance = meeting.attend();
            for round in 0..ROUNDS / 15 {
                let removed = memcgs.create(parent).unwrap();
                memcgs.charge(removed, RECORDS).unwrap();
                for &slot in &slots {
                    memcgs.swap_out(removed, slot, 1).unwrap();
                }
                meeting.wait();
                for _ in 0..round % 50 * 10 {
                    std::hint::spin_loop();
                }
                die(&memcgs, removed);
                meeting.wait();
                let next = memcgs.create(parent).unwrap();
                assert_eq!(next.id(), removed.id());
                for memcg in [next, parent] {
                    let usage = memcgs.usage(memcg).unwrap();
                    assert_eq!((usage.memsw, usage.swap), (0, 0));
                }
                memcgs.validate().unwrap();
                die(&memcgs, next);
            }
        });
        let _attendance = meeting.attend();
        for _ in 0..ROUNDS / 15 {
            meeting.wait();
            free(&memcgs, &slots, &mut |owner| {
                if owner == parent.id() {
                    to_parent.fetch_add(1, Ordering::Relaxed);
                }
            });
            meeting.wait();
        }
    });
    println!("freed of the parent: {}", to_parent.into_inner());
}

/// A page is swapped out while its cgroup is freed. No record holds a free id, which the next cgroup would
/// get.
#[test]
fn a_swap_out_of_a_dying_cgroup_leaves_no_record_of_it() {
    let memcgs = Memcgs::new();
    memcgs.swapon(entry(0).swap_type(), 100).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let meeting = Meeting::default();
    let child = Mutex::new(parent);
    thread::scope(|s| {
        s.spawn(|| {
            let _attendance = meeting.attend();
            for _ in 0..ROUNDS {
                let removed = memcgs.create(parent).unwrap();
                memcgs.charge(removed, 1).unwrap();
                *child.lock().unwrap() = removed;
                meeting.wait();
                die(&memcgs, removed);
                assert_eq!(memcgs.records().count(removed.id()), 0);
                meeting.wait();
            }
        });
        let _attendance = meeting.attend();
        for round in 0..ROUNDS {
            meeting.wait();
            let removed = *child.lock().unwrap();
            for _ in 0..round % 200 {
                std::hint::spin_loop();
            }
            let owner = memcgs.swap_out(removed, entry(7), 1).unwrap();
            assert!(owner == removed || owner == parent);
            meeting.wait();
            assert_eq!(memcgs.records().lookup(entry(7)), Some(parent.id()));
            assert_eq!(memcgs.free_swap(entry(7), 1), Ok(1));
        }
    });
    assert_eq!(memcgs.usage(memcgs.root()).unwrap().memsw, 0);
    memcgs.validate().unwrap();
}

/// Charges and uncharges near a limit. The limit is never exceeded, and a refusal names the limit and the
/// charge. At the end the whole limit can be used, wherever batches are.
#[test]
fn a_limit_that_is_near_is_kept_exactly() {
    const THREADS: u64 = 4;
    let memcgs = Memcgs::new();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let children: Vec<_> = (0..2).map(|_| memcgs.create(parent).unwrap()).collect();
    let limit = 10 * THREADS;
    memcgs
        .set_limit(parent, Resource::Memory, Some(limit))
        .unwrap();
    // This is never more than what is charged: it is added to after a charge, and subtracted from before an
    // uncharge.
    let held = AtomicU64::new(0);
    thread::scope(|s| {
        for thread in 0..THREADS {
            let (memcgs, children, held) = (&memcgs, &children, &held);
            s.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                let mut mine = vec![0; children.len()];
                let give_back = |child: usize, nr: u64| {
                    held.fetch_sub(nr, Ordering::SeqCst);
                    memcgs.uncharge(children[child], nr).unwrap();
                };
                for _ in 0..ROUNDS {
                    let (child, nr) = (rng.usize(..children.len()), rng.u64(1..=4));
                    if rng.u8(..5) < 2 {
                        let nr = nr.min(mine[child]);
                        give_back(child, nr);
                        mine[child] -= nr;
                        continue;
                    }
                    match memcgs.charge(children[child], nr) {
                        Ok(()) => {
                            mine[child] += nr;
                            let held = held.fetch_add(nr, Ordering::SeqCst) + nr;
                            assert!(held <= limit, "{held} pages are charged");
                        }
                        Err(MemcgError::OverLimit { id, usage, .. }) => {
                            assert_eq!(id, parent.id());
                            assert!(usage + nr > limit && usage <= limit);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                for (child, &nr) in mine.iter().enumerate() {
                    give_back(child, nr);
                }
            });
        }
    });
    assert_eq!(memcgs.usage(parent).unwrap().memory, 0);
    memcgs.charge(children[0], limit).unwrap();
    memcgs.uncharge(children[0], limit).unwrap();
    memcgs.validate().unwrap();
}

/// A swapfile is turned off while the owner of its only record is freed. The record moves from one row of the
/// index to another while the swapoff reads the rows. A regression: the swapoff saw the record in neither
/// row, and uncharged no cgroup.
#[test]
fn a_swapoff_uncharges_records_that_a_migration_moves_meanwhile() {
    let memcgs = Memcgs::new();
    let ty = entry(0).swap_type();
    memcgs.swapon(ty, 100).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    // The id of the cgroup is far from that of its parent, so that time passes between the reads of their
    // rows.
    let others = if cfg!(miri) { 5 } else { 1_000 };
    for _ in 0..others {
        memcgs.create(memcgs.root()).unwrap();
    }
    let meeting = Meeting::default();
    thread::scope(|s| {
        s.spawn(|| {
            let _attendance = meeting.attend();
            for round in 0..ROUNDS {
                let removed = memcgs.create(parent).unwrap();
                memcgs.charge(removed, 1).unwrap();
                memcgs.swap_out(removed, entry(0), 1).unwrap();
                meeting.wait();
                for _ in 0..round % 300 {
                    std::hint::spin_loop();
                }
                die(&memcgs, removed);
                meeting.wait();
            }
        });
        let _attendance = meeting.attend();
        for _ in 0..ROUNDS {
            meeting.wait();
            assert_eq!(memcgs.swapoff(ty), Ok(1));
            memcgs.swapon(ty, 100).unwrap();
            meeting.wait();
        }
    });
    let root = memcgs.usage(memcgs.root()).unwrap();
    assert_eq!((root.memsw, root.swap), (0, 0));
    memcgs.validate().unwrap();
}

/// Pages of one cgroup move to another and back. There is always room for them. Pages from outside are
/// refused by a limit further up. A regression: charges that were half way up to that limit made the moves
/// fail.
#[test]
fn a_charge_that_is_refused_further_up_refuses_no_other_charge() {
    let memcgs = Memcgs::new();
    let above = memcgs.create(memcgs.root()).unwrap();
    let [child, sibling] = [(); 2].map(|()| memcgs.create(above).unwrap());
    let outside = memcgs.create(memcgs.root()).unwrap();
    memcgs.charge(sibling, 5).unwrap();
    memcgs.charge(outside, 5).unwrap();
    memcgs.set_limit(above, Resource::Memory, Some(5)).unwrap();
    memcgs.set_limit(child, Resource::Memory, Some(5)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                match memcgs.move_account(outside, child, 5) {
                    Err(MemcgError::OverLimit { id, usage: 5, .. }) => {
                        assert!([above.id(), child.id()].contains(&id));
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        let moved = (0..ROUNDS).try_for_each(|_| {
            memcgs.move_account(sibling, child, 5)?;
            memcgs.move_account(child, sibling, 5)
        });
        done.store(true, Ordering::Relaxed);
        assert_eq!(moved, Ok(()));
    });
    memcgs.validate().unwrap();
}

/// Pages go from thread to thread, a few at a time, and the thread that has them frees them or swaps them
/// out. There are always enough pages, so no call may be refused, whichever thread charged the pages. Now and
/// then one of the cgroups is freed.
#[test]
fn pages_are_freed_by_threads_that_did_not_charge_them() {
    const THREADS: usize = 4;
    const CGROUPS: usize = 3;
    let memcgs = Memcgs::new();
    memcgs.swapon(entry(0).swap_type(), 1_000).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let cgroups: [_; CGROUPS] = std::array::from_fn(|_| memcgs.create(parent).unwrap());
    // The pages that are charged to each cgroup, by any thread.
    let pages: [Mutex<u64>; CGROUPS] = std::array::from_fn(|_| Mutex::new(0));
    let take = |cgroup: usize, most: u64| {
        let mut pages = pages[cgroup].lock().unwrap();
        let nr = most.min(*pages);
        *pages -= nr;
        nr
    };
    let rounds = AtomicU64::new(0);
    thread::scope(|s| {
        for thread in 0..THREADS {
            let (memcgs, cgroups, pages, rounds) = (&memcgs, &cgroups, &pages, &rounds);
            s.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread as u64);
                for _ in 0..ROUNDS {
                    rounds.fetch_add(1, Ordering::Relaxed);
                    let cgroup = rng.usize(..CGROUPS);
                    let (memcg, nr) = (cgroups[cgroup], rng.u64(1..=20));
                    match rng.u8(..8) {
                        // The cgroup is offline, and gets no more pages.
                        0..3 => match memcgs.charge(memcg, nr) {
                            Ok(()) => *pages[cgroup].lock().unwrap() += nr,
                            Err(error) => {
                                assert_eq!(error, MemcgError::Offline { id: memcg.id() });
                            }
                        },
                        3..6 => memcgs.uncharge(memcg, take(cgroup, nr)).unwrap(),
                        6 => {
                            let nr = take(cgroup, nr);
                            let slots = entry(thread as u64 * 100);
                            memcgs.swap_out(memcg, slots, nr).unwrap();
                            memcgs.free_swap(slots, nr).unwrap();
                        }
                        _ => {
                            // Moves the pages to a cgroup that stays online.
                            let nr = take(cgroup, nr);
                            memcgs.move_account(memcg, cgroups[0], nr).unwrap();
                            *pages[0].lock().unwrap() += nr;
                        }
                    }
                }
            });
        }
        // Half way. This point is reached also if one of the threads fails.
        while rounds.load(Ordering::Relaxed) < THREADS as u64 * ROUNDS / 2 {
            thread::yield_now();
        }
        memcgs.css_offline(cgroups[1], 0).unwrap();
    });
    for (memcg, pages) in cgroups.into_iter().zip(pages) {
        let pages = pages.into_inner().unwrap();
        assert_eq!(memcgs.usage(memcg).unwrap().own, pages);
        let (id, nr) = (memcg.id(), pages + 1);
        let charged = pages;
        let refused = MemcgError::NotCharged { id, nr, charged };
        assert_eq!(memcgs.uncharge(memcg, nr), Err(refused));
        memcgs.validate().unwrap();
        memcgs.uncharge(memcg, pages).unwrap();
    }
    die(&memcgs, cgroups[1]);
    assert_eq!(memcgs.usage(memcgs.root()).unwrap().memsw, 0);
    memcgs.validate().unwrap();
}
