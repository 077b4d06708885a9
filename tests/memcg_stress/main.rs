//! Runs threads that charge, swap, move, create, take offline, free and turn off, all at once on a tree of
//! hundreds of cgroups. Each thread logs what it did. When all of them pause, an oracle computes from these
//! logs alone what every cgroup must have.

mod oracle;
mod worker;

use std::sync::Mutex;
use std::thread;

use swap_records::SwapType;
use swap_records::memcg::{Memcg, Memcgs, Resource};

use oracle::{Event, Oracle};
use worker::Worker;

const THREADS: usize = if cfg!(miri) { 2 } else { 4 };
const ROUNDS: usize = if cfg!(miri) { 1 } else { 4 };
const STEPS: u64 = if cfg!(miri) { 60 } else { 25_000 };
const CGROUPS: usize = if cfg!(miri) { 6 } else { 300 };
/// The slots of a swapfile, in more than one region.
const SLOTS: u64 = if cfg!(miri) { 1_100 } else { 80_000 };

/// Cgroups that are online, and offline ones that are to be freed. Both lists are hints: the states may have
/// changed.
#[derive(Default)]
pub(crate) struct Directory {
    pub(crate) online: Mutex<Vec<Memcg>>,
    pub(crate) removed: Mutex<Vec<Memcg>>,
}

pub(crate) fn swap_type(ty: usize) -> SwapType {
    SwapType::new(u8::try_from(ty).unwrap()).unwrap()
}

/// Runs rounds of random operations, checks the tree after each round, and then frees all cgroups.
fn live(seed: u64, swapoffs: bool) {
    let memcgs = Memcgs::new();
    for ty in 0..2 {
        memcgs.swapon(swap_type(ty), SLOTS).unwrap();
    }
    let directory = Directory::default();
    let mut oracle = Oracle::default();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut first = vec![memcgs.root()];
    for _ in 0..CGROUPS {
        let parent = first[rng.usize(..first.len())];
        let child = memcgs.create(parent).unwrap();
        if rng.u8(..10) == 0 {
            // Memory is limited first, since its limit is never above that of memsw.
            for resource in [Resource::Memory, Resource::Memsw, Resource::Swap] {
                if resource == Resource::Memory || rng.bool() {
                    memcgs.set_limit(child, resource, Some(100)).unwrap();
                }
            }
        }
        oracle.replay(&Event::Created { child, parent });
        first.push(child);
    }
    *directory.online.lock().unwrap() = first;

    let mut workers: Vec<_> = (0..THREADS)
        .map(|thread| Worker::new(thread, rng.u64(..), swapoffs))
        .collect();
    for _ in 0..ROUNDS {
        thread::scope(|s| {
            for worker in &mut workers {
                let (memcgs, directory) = (&memcgs, &directory);
                s.spawn(move || {
                    for _ in 0..STEPS {
                        worker.step(memcgs, directory);
                    }
                });
            }
        });
        // No operation is under way here.
        memcgs.validate().unwrap();
        for worker in &mut workers {
            // The oracle needs the cgroups first, and then what was done with them.
            let created = |event: &&Event| matches!(event, Event::Created { .. });
            worker
                .log
                .iter()
                .filter(created)
                .for_each(|event| oracle.replay(event));
        }
        for worker in &mut workers {
            let log = std::mem::take(&mut worker.log);
            for event in &log {
                if !matches!(event, Event::Created { .. }) {
                    oracle.replay(event);
                }
            }
        }
        oracle.check(&memcgs);
        for worker in &workers {
            worker.check(&memcgs, &oracle);
        }
    }

    // Gives everything back.
    for worker in &mut workers {
        worker.give_all_back(&memcgs);
        let log = std::mem::take(&mut worker.log);
        log.iter().for_each(|event| oracle.replay(event));
    }
    oracle.check(&memcgs);
    oracle.check_lost();
    let mut left: Vec<_> = memcgs
        .iter()
        .filter(|&memcg| memcg != memcgs.root())
        .collect();
    while !left.is_empty() {
        // Cgroups without children go first.
        left.retain(|&memcg| {
            memcgs.css_offline(memcg, 0).is_err() || memcgs.css_free(memcg).is_err()
        });
    }
    assert_eq!(memcgs.ids_in_use(), 1);
    let root = memcgs.usage(memcgs.root()).unwrap();
    assert_eq!((root.memory, root.memsw, root.own, root.swap), (0, 0, 0, 0));
    memcgs.validate().unwrap();
}

#[test]
fn every_cgroup_has_what_its_history_says() {
    for seed in 0..if cfg!(miri) { 1 } else { 3 } {
        live(seed, false);
    }
}

#[test]
fn every_cgroup_has_what_its_history_says_while_swapfiles_come_and_go() {
    live(6, true);
}
