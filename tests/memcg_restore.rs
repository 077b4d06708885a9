//! Tests that a tree is restored from its table, its shape, and what the caller knows.

use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource, Usage};
use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};

const TYPE: SwapType = SwapType::new(0).unwrap();

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn usages(memcgs: &Memcgs) -> Vec<(MemcgId, Usage)> {
    let usage = |memcg: Memcg| (memcg.id(), memcgs.usage(memcg).unwrap());
    memcgs.iter().map(usage).collect()
}

/// Returns the pairs of an id and its parent, parents first.
fn shape(memcgs: &Memcgs) -> Vec<(MemcgId, MemcgId)> {
    let up = |memcg: &Memcg| memcgs.parent(*memcg).unwrap();
    let mut pairs: Vec<_> = memcgs
        .iter()
        .filter_map(|memcg| {
            let depth = std::iter::successors(Some(memcg), up).count();
            Some((depth, memcg.id(), up(&memcg)?.id()))
        })
        .collect();
    pairs.sort_unstable();
    let pairs = pairs.into_iter();
    pairs.map(|(_, id, parent)| (id, parent)).collect()
}

#[test]
fn a_tree_is_restored_with_its_shape_its_records_its_limits_and_its_pages() {
    let memcgs = Memcgs::new();
    memcgs.swapon(TYPE, 1_000).unwrap();
    let first = memcgs.create(memcgs.root()).unwrap();
    let far = memcgs.create_with_id(memcgs.root(), id(5_000)).unwrap();
    // A child whose id is lower than its parent's.
    let child = memcgs.create_with_id(far, id(40)).unwrap();
    let grandchild = memcgs.create(child).unwrap();
    for (at, memcg) in (0..).zip([memcgs.root(), first, far, child, grandchild]) {
        memcgs.charge(memcg, 30 + at).unwrap();
        memcgs.swap_out(memcg, entry(100 * at), 10 + at).unwrap();
    }
    memcgs.set_limit(far, Resource::Memory, Some(500)).unwrap();
    memcgs.set_limit(far, Resource::Memsw, Some(600)).unwrap();
    memcgs.set_limit(child, Resource::Swap, Some(50)).unwrap();
    memcgs.validate().unwrap();
    let before = usages(&memcgs);
    let shape = shape(&memcgs);
    assert!(
        !shape.is_sorted(),
        "the order of ids is not that of the tree"
    );

    let again = Memcgs::with_records(memcgs.into_records(), shape).unwrap();
    again.validate().unwrap();
    for &(id, usage) in &before {
        let memcg = again.find(id).unwrap();
        again.charge(memcg, usage.own).unwrap();
        let limits = [
            (Resource::Memory, usage.memory_limit),
            (Resource::Memsw, usage.memsw_limit),
            (Resource::Swap, usage.swap_limit),
        ];
        for (resource, limit) in limits {
            if limit.is_some() {
                again.set_limit(memcg, resource, limit).unwrap();
            }
        }
    }
    assert_eq!(usages(&again), before);
    let child = again.find(child.id()).unwrap();
    assert_eq!(again.parent(child), Ok(again.find(far.id())));
    again.validate().unwrap();
}

#[test]
fn a_shape_that_is_wrong_is_refused() {
    let restored = |shape: &[(MemcgId, MemcgId)]| {
        let records = SwapRecords::new();
        records.swapon(TYPE, 100).unwrap();
        records.record(entry(3), id(9)).unwrap();
        let memcgs = Memcgs::with_records(records, shape.iter().copied())?;
        memcgs.validate().unwrap();
        let parent = |memcg: Memcg| Some((memcg.id(), memcgs.parent(memcg).unwrap()?.id()));
        Ok(memcgs.iter().filter_map(parent).collect::<Vec<_>>())
    };
    let unknown = |of, parent| {
        let (id, parent) = (id(of), id(parent));
        Err(MemcgError::UnknownParent { id, parent })
    };
    let root = id(1);
    // The parent comes later, is missing, or is the cgroup itself. An id that only has records is not a
    // parent either.
    assert_eq!(restored(&[(id(4), id(3)), (id(3), root)]), unknown(4, 3));
    assert_eq!(restored(&[(id(4), id(3))]), unknown(4, 3));
    assert_eq!(restored(&[(id(4), id(4))]), unknown(4, 4));
    assert_eq!(restored(&[(id(4), id(9))]), unknown(4, 9));
    let twice = [(id(4), root), (id(3), id(4)), (id(4), id(3))];
    assert_eq!(restored(&twice), Err(MemcgError::IdInUse { id: id(4) }));
    let of_root = [(id(4), root), (root, id(4))];
    assert_eq!(restored(&of_root), Err(MemcgError::IsRoot));
    // An id that is not named becomes a child of the root.
    assert_eq!(
        restored(&[(id(12), root), (id(4), id(12))]),
        Ok(vec![(id(4), id(12)), (id(9), root), (id(12), root)])
    );
}

#[test]
fn an_id_that_is_asked_for_is_given_once() {
    let memcgs = Memcgs::new();
    let root = memcgs.root();
    let last = memcgs.create_with_id(root, MemcgId::MAX).unwrap();
    assert_eq!(last.id(), MemcgId::MAX);
    let in_use = |of| Err(MemcgError::IdInUse { id: of });
    assert_eq!(
        memcgs.create_with_id(root, MemcgId::MAX),
        in_use(MemcgId::MAX)
    );
    assert_eq!(memcgs.create_with_id(last, id(1)), in_use(id(1)));
    let second = memcgs.create_with_id(last, id(2)).unwrap();
    // `create` still takes the lowest free id.
    assert_eq!(memcgs.create(root).unwrap().id(), id(3));
    // An offline cgroup still has its id, and a freed one does not.
    let _ = memcgs.css_offline(second, 0).unwrap();
    assert_eq!(memcgs.create_with_id(root, id(2)), in_use(id(2)));
    let offline = MemcgError::Offline { id: id(2) };
    assert_eq!(memcgs.create_with_id(second, id(8)), Err(offline));
    let _ = memcgs.css_free(second).unwrap();
    let again = memcgs.create_with_id(root, id(2)).unwrap();
    assert!(again.id() == second.id() && again != second);
    let gone = MemcgError::Gone { memcg: second };
    assert_eq!(memcgs.create_with_id(second, id(8)), Err(gone));
    memcgs.validate().unwrap();
}
