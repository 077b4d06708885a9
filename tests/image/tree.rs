//! Trees of cgroups in an image.

use std::collections::BTreeMap;

use super::*;
use swap_records::RawSpinLock;
use swap_records::image::Restored;
use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource, Usage};

/// Makes a parent, a child with a lower id and a limit, and an offline cgroup. The child has 3 pages in swap.
pub(super) fn family() -> Memcgs {
    let memcgs = Memcgs::new();
    memcgs.swapon(ty(0), 100).unwrap();
    memcgs.swapon(ty(5), 2049).unwrap();
    let parent = memcgs.create_with_id(memcgs.root(), id(9)).unwrap();
    let child = memcgs.create(parent).unwrap();
    memcgs.charge(child, 10).unwrap();
    memcgs.swap_out(child, entry(0, 97), 3).unwrap();
    memcgs.set_limit(child, Resource::Memory, Some(20)).unwrap();
    let gone = memcgs.create(parent).unwrap();
    let _ = memcgs.css_offline(gone, 0).unwrap();
    memcgs
}

fn restored(memcgs: &Memcgs) -> Restored<RawSpinLock> {
    let mut bytes = Vec::new();
    Writer::of_tree(memcgs).write_to(&mut bytes).unwrap();
    let restored = Reader::of(&bytes).unwrap().threads(2).tree().unwrap();
    restored.memcgs.validate().unwrap();
    restored
}

type Cgroups = BTreeMap<MemcgId, (Option<MemcgId>, Usage)>;

/// Returns the parent and charges of each cgroup.
fn all(memcgs: &Memcgs) -> Cgroups {
    let of = |memcg: Memcg| {
        let parent = memcgs.parent(memcg).unwrap().map(Memcg::id);
        (memcg.id(), (parent, memcgs.usage(memcg).unwrap()))
    };
    memcgs.iter().map(of).collect()
}

fn runs_of_tree(memcgs: &Memcgs) -> Vec<Run> {
    types().flat_map(|ty| memcgs.records().runs(ty)).collect()
}

fn assert_same(again: &Memcgs, memcgs: &Memcgs) {
    assert_eq!(all(again), all(memcgs));
    assert_eq!(runs_of_tree(again), runs_of_tree(memcgs));
}

#[test]
fn a_tree_is_restored_with_its_table() {
    let memcgs = family();
    let again = restored(&memcgs);
    assert_eq!(again.raised, []);
    assert_same(&again.memcgs, &memcgs);
    // The restored tree can be used like the first one.
    let child = again.memcgs.find(id(2)).unwrap();
    assert!(matches!(
        again.memcgs.charge(child, 14),
        Err(MemcgError::OverLimit { .. })
    ));
    again.memcgs.charge(child, 13).unwrap();
    let offline = again.memcgs.find(id(3)).unwrap();
    let _ = again.memcgs.css_free(offline).unwrap();
    assert_eq!(
        again.memcgs.swap_in(entry(0, 97), 3).unwrap_err(),
        over(&again.memcgs)
    );
    again.memcgs.validate().unwrap();
}

/// As after a crash: the records are in a file, and are newer than the image.
#[test]
fn a_tree_is_restored_over_records_that_are_newer_than_its_image() {
    let memcgs = family();
    let mut bytes = Vec::new();
    let writer = Writer::of_tree(&memcgs).types([]);
    writer.write_to(&mut bytes).unwrap();
    let reader = Reader::of(&bytes).unwrap();
    assert_eq!(reader.types().count(), 0);

    let [parent, child] = [9, 2].map(|of| memcgs.find(id(of)).unwrap());
    let late = memcgs.create(memcgs.root()).unwrap();
    memcgs.set_limit(child, Resource::Memory, Some(90)).unwrap();
    for (memcg, at) in [(child, 0), (late, 20), (parent, 40)] {
        memcgs.charge(memcg, 20).unwrap();
        memcgs.swap_out(memcg, entry(5, at), 20).unwrap();
    }
    memcgs.charge(child, 40).unwrap();
    let usage = |memcgs: &Memcgs, of| memcgs.usage(memcgs.find(of).unwrap()).unwrap();
    let swap = [9, 2, late.id().get()].map(|of| usage(&memcgs, id(of)).swap);
    let runs = runs_of_tree(&memcgs);

    let again = reader.tree_over(memcgs.into_records()).unwrap();
    again.memcgs.validate().unwrap();
    assert_eq!(runs_of_tree(&again.memcgs), runs);
    assert_eq!(
        [9, 2, late.id().get()].map(|of| usage(&again.memcgs, id(of)).swap),
        swap
    );
    assert_eq!(swap, [20, 23, 20]);
    // Pages in memory and limits come from the image. A cgroup that is not in the image becomes a child of
    // the root.
    let child = usage(&again.memcgs, id(2));
    assert_eq!((child.memory, child.memory_limit), (7, Some(20)));
    let found = again.memcgs.find(late.id()).unwrap();
    assert_eq!(
        again.memcgs.parent(found).unwrap(),
        Some(again.memcgs.root())
    );
    assert_eq!(again.raised, []);

    let without = image_of_table();
    let refused = Reader::of(&without)
        .unwrap()
        .tree_over(SwapRecords::<RawSpinLock>::with_raw_mutex());
    assert!(matches!(refused, Err(ImageError::NoTree)));
}

fn image_of_table() -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::new(&SwapRecords::new())
        .write_to(&mut bytes)
        .unwrap();
    bytes
}

fn over(memcgs: &Memcgs) -> MemcgError {
    MemcgError::OverLimit {
        id: id(2),
        resource: Resource::Memory,
        nr: 3,
        usage: memcgs.usage(memcgs.find(id(2)).unwrap()).unwrap().memory,
        limit: 20,
    }
}

#[test]
fn a_tree_without_cgroups_is_restored() {
    let memcgs = Memcgs::new();
    memcgs.charge(memcgs.root(), 7).unwrap();
    let again = restored(&memcgs);
    assert_same(&again.memcgs, &memcgs);
    assert_eq!(again.memcgs.ids_in_use(), 1);
}

/// All kinds of cgroups, with limits that are reached. No limit may be refused, whatever the order in which
/// they are set.
#[test]
fn a_tree_with_all_kinds_of_cgroups_is_restored() {
    let mut random = fastrand::Rng::with_seed(15);
    for round in 0..20 {
        let memcgs = Memcgs::new();
        memcgs.swapon(ty(1), 3 * UNIT).unwrap();
        memcgs.swapon(ty(8), 5000).unwrap();
        let mut there = vec![memcgs.root()];
        for _ in 0..random.usize(1..60) {
            let parent = there[random.usize(..there.len())];
            let wanted = id(random.u16(2..));
            if let Ok(made) = memcgs.create_with_id(parent, wanted) {
                there.push(made);
            }
        }
        let mut next = 0;
        for &memcg in &there {
            memcgs.charge(memcg, random.u64(..2000)).unwrap();
            let nr = random.u64(..=memcgs.usage(memcg).unwrap().own.min(70));
            let (of, offset) = if round % 2 == 0 {
                (8, next)
            } else {
                (1, UNIT - 50 + next)
            };
            memcgs.swap_out(memcg, entry(of, offset), nr).unwrap();
            next += nr;
        }
        for &memcg in &there[1..] {
            let usage = memcgs.usage(memcg).unwrap();
            // The present charge, a little more, or no limit. Memory first.
            let above = |usage: u64, random: &mut fastrand::Rng| usage + random.u64(..2);
            let memory = above(usage.memory, &mut random);
            let memsw = above(usage.memsw, &mut random).max(memory);
            for (resource, limit) in [
                (Resource::Memory, memory),
                (Resource::Memsw, memsw),
                (Resource::Swap, above(usage.swap_total, &mut random)),
            ] {
                if random.u8(..3) > 0 {
                    match memcgs.set_limit(memcg, resource, Some(limit)) {
                        Ok(()) | Err(MemcgError::LimitOrder { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
        // Some go offline, with pages in memory and in swap.
        for &memcg in there[1..].iter().rev() {
            if random.bool() {
                match memcgs.css_offline(memcg, 0) {
                    Ok(_) | Err(MemcgError::HasChildren { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        memcgs.validate().unwrap();
        let again = restored(&memcgs);
        assert_eq!(again.raised, []);
        assert_same(&again.memcgs, &memcgs);
        // A restored tree is written as the same bytes again.
        let bytes = |memcgs: &Memcgs| {
            let mut bytes = Vec::new();
            Writer::of_tree(memcgs).write_to(&mut bytes).unwrap();
            bytes
        };
        let other = restored(&again.memcgs).memcgs;
        assert!(bytes(&again.memcgs) == bytes(&other));
    }
}

#[test]
fn a_deep_tree_is_restored() {
    let memcgs = Memcgs::new();
    let mut last = memcgs.root();
    // Ids fall with the depth, so a walk by ids comes to the lowest cgroup first.
    for of in (2..3000).rev() {
        last = memcgs.create_with_id(last, id(of)).unwrap();
    }
    memcgs.charge(last, 5).unwrap();
    let again = restored(&memcgs);
    assert_same(&again.memcgs, &memcgs);
}

/// An image without a tree is a table. An image with a tree can be read as a table, too.
#[test]
fn the_table_of_a_tree_is_read_without_it() {
    let memcgs = family();
    let mut bytes = Vec::new();
    Writer::of_tree(&memcgs).write_to(&mut bytes).unwrap();
    let reader = Reader::of(&bytes).unwrap();
    assert!(reader.has_tree());
    let table = reader.table().unwrap();
    assert_eq!(runs(&table), runs_of_tree(&memcgs));
    let table = bytes_of(&table);
    let none = Reader::of(&table).unwrap().tree::<RawSpinLock>();
    assert!(matches!(none, Err(ImageError::NoTree)));
}

/// A page that was written both in memory and in swap is one too many for a limit.
#[test]
fn a_limit_that_is_exceeded_is_raised_and_named() {
    let memcgs = family();
    let child = memcgs.find(id(2)).unwrap();
    for (resource, limit) in [
        (Resource::Memory, 7),
        (Resource::Memsw, 10),
        (Resource::Swap, 3),
    ] {
        memcgs.set_limit(child, resource, Some(limit)).unwrap();
    }
    let mut bytes = Vec::new();
    Writer::of_tree(&memcgs).write_to(&mut bytes).unwrap();
    // The child is the third cgroup. It has 9 own pages instead of 7.
    let tree = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    let tree = usize::try_from(tree).unwrap();
    let at = tree + 8 + 40 + 40;
    assert_eq!(bytes[at..at + 2], [2, 0]);
    bytes[at + 8] = 9;
    let sum = crc32c::crc32c(&bytes[tree..tree + 4096]).to_le_bytes();
    let end = bytes.len() - 4096;
    bytes[end + 32..end + 36].copy_from_slice(&sum);
    let sum = crc32c::crc32c(&bytes[end..end + 4092]).to_le_bytes();
    bytes[end + 4092..].copy_from_slice(&sum);

    let again = Reader::of(&bytes).unwrap().tree::<RawSpinLock>().unwrap();
    again.memcgs.validate().unwrap();
    let raised: Vec<_> = again
        .raised
        .iter()
        .map(|of| (of.id, of.resource, of.saved, of.limit))
        .collect();
    let expected = [
        (id(2), Resource::Memory, 7, 9),
        (id(2), Resource::Memsw, 10, 12),
    ];
    assert_eq!(raised, expected);
    let usage = again
        .memcgs
        .usage(again.memcgs.find(id(2)).unwrap())
        .unwrap();
    let limits = (usage.memory_limit, usage.memsw_limit, usage.swap_limit);
    assert_eq!(limits, (Some(9), Some(12), Some(3)));
}

/// The image gives a tree whose counters agree, whatever the other threads did meanwhile.
#[test]
fn an_image_of_a_tree_in_use_can_be_restored() {
    let memcgs = Memcgs::new();
    memcgs.swapon(ty(0), 2 * UNIT).unwrap();
    let parents = [(); 2].map(|()| memcgs.create(memcgs.root()).unwrap());
    for parent in parents {
        memcgs
            .set_limit(parent, Resource::Memory, Some(500))
            .unwrap();
        memcgs
            .set_limit(parent, Resource::Memsw, Some(600))
            .unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (worker, &parent) in (0..).zip(&parents) {
            let (memcgs, done) = (&memcgs, &done);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(worker);
                while !done.load(Ordering::Relaxed) {
                    let child = memcgs.create(parent).unwrap();
                    let below = memcgs.create(child).unwrap();
                    for at in 0..random.u64(1..5) {
                        let nr = random.u64(1..20);
                        if memcgs.charge(below, nr).is_err() {
                            continue;
                        }
                        let slots = entry(0, worker * UNIT + 40 * at);
                        memcgs.swap_out(below, slots, nr).unwrap();
                        memcgs.free_swap(slots, random.u64(..=nr)).unwrap();
                    }
                    for memcg in [below, child] {
                        let _ = memcgs.css_offline(memcg, random.u64(..9)).unwrap();
                        let _ = memcgs.css_free(memcg).unwrap();
                    }
                    memcgs.free_swap(entry(0, worker * UNIT), 400).unwrap();
                }
            });
        }
        let _done = Done(&done);
        for _ in 0..200 {
            let again = restored(&memcgs).memcgs;
            for parent in parents {
                let found = again.find(parent.id()).unwrap();
                assert_eq!(again.parent(found), Ok(Some(again.root())));
            }
        }
    });
    let again = restored(&memcgs);
    assert_eq!(again.raised, []);
    assert_same(&again.memcgs, &memcgs);
}

/// Makes an image of a number of cgroups, each with 3 pages and a record. `parent` gives the parent of each.
fn deep_or_flat(nr: u16, parent: impl Fn(u16) -> u16) -> Vec<u8> {
    let mut tree = u64::from(nr).to_le_bytes().to_vec();
    for of in 1..=nr {
        let up = if of == 1 { 0 } else { parent(of) };
        for half in [of, up, 0, 0] {
            tree.extend(half.to_le_bytes());
        }
        let limit = if of == 1 { u64::MAX } else { 1 << 40 };
        for number in [3, limit, limit, limit] {
            tree.extend(number.to_le_bytes());
        }
    }
    let types = vec![(5, u64::from(nr), (1..=nr).collect())];
    swap_records_oracle::image::Craft { types, tree }.bytes()
}

#[test]
fn a_deep_tree_is_restored_as_fast_as_a_flat_one() {
    use std::time::Instant;

    let nr: u16 = if few() { 500 } else { 20_000 };
    let (deep, flat) = (deep_or_flat(nr, |of| of - 1), deep_or_flat(nr, |_| 1));
    let mut seen = Vec::new();
    for _ in 0..5 {
        let times = [&deep, &flat].map(|bytes| {
            let reader = Reader::of(bytes).unwrap();
            let begin = Instant::now();
            let restored = reader.tree::<RawSpinLock>().unwrap();
            let took = begin.elapsed();
            assert_eq!(restored.raised, []);
            restored.memcgs.validate().unwrap();
            let root = restored.memcgs.usage(restored.memcgs.root()).unwrap();
            let nr = u64::from(nr);
            assert_eq!((root.memory, root.memsw), (3 * nr, 4 * nr));
            assert_eq!((root.swap_total, root.swap, root.own), (nr, 1, 3));
            took
        });
        println!("{nr} cgroups: deep {:?}, flat {:?}", times[0], times[1]);
        // A walk up the path for each cgroup would take thousands of times as long.
        if few() || times[0] < 8 * times[1] {
            return;
        }
        seen.push(times);
    }
    panic!("deep and flat: {seen:?}");
}
