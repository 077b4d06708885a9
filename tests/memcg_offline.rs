//! Tests that a cgroup gets no charge, record or child after `css_offline` has returned, even from an
//! operation that found it online before. The operation is paused at each of its locks, one after another,
//! and another thread takes the cgroup offline meanwhile.

#![cfg(not(miri))] // Every lock of every operation takes too long.

mod hooked;

use std::sync::mpsc::channel;
use std::thread;

use hooked::{Event, Hooked, SHORT, at};
use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource};
use swap_records::{REGION_ENTRIES, SwapEntry, SwapType};

const TYPE: SwapType = SwapType::new(0).unwrap();
const REGION: u64 = REGION_ENTRIES as u64;
/// These slots lie in two regions.
const FIRST: u64 = REGION - 2;
const NR: u64 = 4;

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

struct Family {
    memcgs: Memcgs<Hooked>,
    /// The parent of both.
    parent: Memcg,
    other: Memcg,
    removed: Memcg,
}

impl Family {
    /// Each of the two has ten pages in memory and four in swap. The slots of `other` begin at `FIRST`, and
    /// those of `removed` at 0.
    fn new() -> Self {
        let memcgs = Memcgs::with_raw_mutex();
        memcgs.swapon(TYPE, 2 * REGION).unwrap();
        let parent = memcgs.create(memcgs.root()).unwrap();
        let [other, removed] = [(); 2].map(|()| memcgs.create(parent).unwrap());
        for (memcg, offset) in [(other, FIRST), (removed, 0)] {
            memcgs.charge(memcg, 14).unwrap();
            memcgs.swap_out(memcg, entry(offset), NR).unwrap();
        }
        Self {
            memcgs,
            parent,
            other,
            removed,
        }
    }

    /// Returns what `removed` has: memory, memsw, own pages, own records, records in the table, children.
    fn has(&self) -> [u64; 6] {
        let usage = self.memcgs.usage(self.removed).unwrap();
        let records = self.memcgs.records().count(self.removed.id());
        let children = u64::from(usage.children);
        [
            usage.memory,
            usage.memsw,
            usage.own,
            usage.swap,
            records,
            children,
        ]
    }
}

/// Runs the operation, paused at its `n`-th lock while another thread takes the cgroup offline. Returns
/// `false` if the operation takes fewer locks.
fn concurrently(
    operation: &dyn Fn(&Family) -> Result<(), MemcgError>,
    event: Event,
    n: usize,
) -> (Result<(), MemcgError>, bool) {
    let family = Family::new();
    let (start, starts) = channel();
    let (offline, is_offline) = channel();
    let (result, was_there) = thread::scope(|s| {
        let family = &family;
        s.spawn(move || {
            if starts.recv().is_ok() {
                let result = family.memcgs.css_offline(family.removed, 0);
                let _ = offline.send(result.map(|_| family.has()));
            }
        });
        // The `css_offline` returns, or waits for this thread.
        let pause = move || {
            start.send(()).unwrap();
            thread::sleep(SHORT);
        };
        at(event, n, pause, || operation(family))
    });
    if was_there {
        match is_offline.recv().unwrap() {
            // Numbers may shrink: a swap-in that goes on charges the parent, and clears the records.
            Ok(had) => {
                let has = family.has();
                let more = has.iter().zip(&had).any(|(has, had)| has > had);
                assert!(!more, "{event:?} {n}: {result:?}: {has:?} after {had:?}");
            }
            // A child was created first.
            Err(error) => assert!(matches!(error, MemcgError::HasChildren { .. }), "{error}"),
        }
    }
    family.memcgs.validate().unwrap();
    (result, was_there)
}

fn at_each_lock(operation: &dyn Fn(&Family) -> Result<(), MemcgError>) {
    for event in [Event::Lock, Event::Unlocked] {
        for n in 0.. {
            if !concurrently(operation, event, n).1 {
                assert!(n > 0, "it takes a lock");
                break;
            }
        }
    }
}

#[test]
fn no_page_is_moved_to_a_cgroup_that_is_offline() {
    at_each_lock(&|family| family.memcgs.move_account(family.other, family.removed, 3));
    // With a limit, so that the operation looks into every shard.
    at_each_lock(&|family| {
        let parent = family.parent;
        family
            .memcgs
            .set_limit(parent, Resource::Memory, Some(30))?;
        family.memcgs.set_limit(parent, Resource::Memsw, Some(30))?;
        family.memcgs.move_account(family.other, family.removed, 3)
    });
}

#[test]
fn no_record_is_written_for_a_cgroup_that_is_offline() {
    at_each_lock(&|family| {
        let out = family.memcgs.swap_out(family.removed, entry(100), 3);
        out.map(drop)
    });
    at_each_lock(&|family| {
        let out = family.memcgs.swap_out(family.removed, entry(REGION + 4), 3);
        out.map(drop)
    });
}

#[test]
fn no_record_is_given_to_a_cgroup_that_is_offline() {
    for nr in [1, NR] {
        at_each_lock(&|family| {
            let (from, to) = (family.other, family.removed);
            let moved = family.memcgs.move_swap_account(entry(FIRST), nr, from, to);
            moved.map(drop)
        });
    }
}

#[test]
fn no_page_is_charged_to_a_cgroup_that_is_offline() {
    at_each_lock(&|family| family.memcgs.charge(family.removed, 3));
    at_each_lock(&|family| family.memcgs.swap_in_cached(entry(0), NR).map(drop));
    for offset in [0, FIRST] {
        at_each_lock(&|family| family.memcgs.swap_in(entry(offset), NR).map(drop));
    }
}

#[test]
fn no_child_is_created_under_a_cgroup_that_is_offline() {
    at_each_lock(&|family| family.memcgs.create(family.removed).map(drop));
}

/// Swaps pages out to several regions. The cgroup owns the records in the regions that were written before it
/// went offline. Its parent owns the others, and is the cgroup that is returned.
#[test]
fn a_swap_out_over_several_regions_goes_on_for_the_parent() {
    let mut both = 0;
    for n in 0.. {
        let family = Family::new();
        family.memcgs.free_swap(entry(FIRST), NR).unwrap();
        let (start, starts) = channel();
        let (owner, was_there) = thread::scope(|s| {
            let family = &family;
            s.spawn(move || {
                if starts.recv().is_ok() {
                    family.memcgs.css_offline(family.removed, 0).unwrap();
                }
            });
            let pause = move || {
                start.send(()).unwrap();
                thread::sleep(SHORT);
            };
            let out = || family.memcgs.swap_out(family.removed, entry(FIRST), NR);
            at(Event::Unlocked, n, pause, out)
        });
        if !was_there {
            break;
        }
        let records = family.memcgs.records();
        let owners = (0..NR).map(|skip| records.lookup(entry(FIRST + skip)).unwrap());
        let owners: Vec<_> = owners.collect();
        let (removed, parent) = (family.removed.id(), family.parent.id());
        assert_eq!(owners.last(), Some(&owner.unwrap().id()));
        assert!(owners.is_sorted_by_key(|&id| id == parent), "{owners:?}");
        assert!(owners.iter().all(|id| [removed, parent].contains(id)));
        both += u32::from(owners[0] != owners[3]);
        family.memcgs.validate().unwrap();
        // The cgroup can be freed.
        family.memcgs.uncharge(family.removed, 10 - NR).unwrap();
        let freed = family.memcgs.css_free(family.removed);
        assert!(freed.is_ok() || !was_there, "{freed:?}");
    }
    assert!(both > 0, "it was never between the two regions");
}
