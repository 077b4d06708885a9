//! The operations of `Memcgs`.

use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource, Usage};
use swap_records::{MemcgId, REGION_ENTRIES, Run, SwapEntry, SwapRecords, SwapType};

use crate::subject::{Memory, Operation, Refusal, Subject};

const REGION: u64 = REGION_ENTRIES as u64;
const TYPE: SwapType = SwapType::new(0).unwrap();
const NEXT: SwapType = SwapType::new(1).unwrap();
const PAGES: u64 = 2 * REGION;
/// The first slot of a range in which two cgroups alternate, over the border of two regions.
const MIXED: u64 = REGION - 50;
const NR: u64 = 100;

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// A tree with one cgroup under the root, and three under that: `a`, `b`, and `offline`, which is offline and
/// has records.
pub struct Tree {
    memcgs: Memcgs,
    parent: Memcg,
    a: Memcg,
    b: Memcg,
    offline: Memcg,
}

impl Subject for Tree {
    type State = (Vec<Run>, Vec<(Memcg, Usage)>, Vec<Option<u64>>);

    fn new() -> Self {
        let memcgs = Memcgs::new();
        memcgs.swapon(TYPE, PAGES).unwrap();
        let parent = memcgs.create(memcgs.root()).unwrap();
        let [a, b, offline] = [(); 3].map(|()| memcgs.create(parent).unwrap());
        for memcg in [a, b, offline] {
            memcgs.charge(memcg, 200).unwrap();
        }
        for skip in 0..NR {
            let owner = if skip % 2 == 0 { a } else { b };
            memcgs.swap_out(owner, entry(MIXED + skip), 1).unwrap();
        }
        memcgs.swap_out(b, entry(5), 64).unwrap();
        memcgs.swap_out(offline, entry(1000), 200).unwrap();
        // Only the first region is migrated. The second region has some records left.
        memcgs.css_offline(offline, 1).unwrap();
        Self {
            memcgs,
            parent,
            a,
            b,
            offline,
        }
    }

    fn state(&self) -> Self::State {
        let records = self.memcgs.records();
        let usages = self.memcgs.iter();
        (
            SwapType::all().flat_map(|ty| records.runs(ty)).collect(),
            usages
                .map(|memcg| (memcg, self.memcgs.usage(memcg).unwrap()))
                .collect(),
            SwapType::all().map(|ty| records.max_pages(ty)).collect(),
        )
    }

    fn validate(&self) {
        self.memcgs.validate().unwrap();
    }
}

const fn takes(name: &'static str, run: fn(&mut Tree) -> Result<(), Refusal>) -> Operation<Tree> {
    let memory = Memory::Some;
    Operation { name, memory, run }
}

const fn does_without(
    name: &'static str,
    run: fn(&mut Tree) -> Result<(), Refusal>,
) -> Operation<Tree> {
    let memory = Memory::None;
    Operation { name, memory, run }
}

pub const OPERATIONS: &[Operation<Tree>] = &[
    takes("Memcgs::swapon", |t| Ok(t.memcgs.swapon(NEXT, PAGES)?)),
    does_without("Memcgs::swapoff", |t| {
        Ok(t.memcgs.swapoff(TYPE).map(drop)?)
    }),
    // One block has 64 slots, so these need the next one.
    takes("Memcgs::create", |t| {
        for _ in 0..70 {
            // Cgroups that were created before remain. They are freed again, so that the states can be
            // compared.
            if let Err(error) = t.memcgs.create(t.parent) {
                take_back(t);
                return Err(error.into());
            }
        }
        take_back(t);
        Ok(())
    }),
    takes("Memcgs::create_with_id", |t| {
        let id = MemcgId::new(1_000).unwrap();
        t.memcgs.create_with_id(t.parent, id)?;
        take_back(t);
        Ok(())
    }),
    does_without("Memcgs::charge", |t| Ok(t.memcgs.charge(t.a, 5000)?)),
    does_without("Memcgs::uncharge", |t| Ok(t.memcgs.uncharge(t.a, 5)?)),
    does_without("Memcgs::move_account", |t| {
        Ok(t.memcgs.move_account(t.a, t.parent, 5)?)
    }),
    does_without("Memcgs::set_limit", |t| {
        Ok(t.memcgs.set_limit(t.a, Resource::Memory, Some(10_000))?)
    }),
    does_without("Memcgs::swap_out under a limit of swap", |t| {
        t.memcgs.set_limit(t.parent, Resource::Swap, Some(365))?;
        assert!(t.memcgs.swap_out(t.a, entry(300), 64).is_err());
        Ok(t.memcgs.swap_out(t.a, entry(300), 1).map(drop)?)
    }),
    does_without("Memcgs, what is read", |t| {
        t.memcgs.usage(t.a)?;
        assert_eq!(t.memcgs.parent(t.a)?, Some(t.parent));
        assert_eq!(t.memcgs.find(t.a.id()), Some(t.a));
        assert_eq!((t.memcgs.iter().count(), t.memcgs.ids_in_use()), (5, 5));
        assert_eq!(t.memcgs.records().lookup(entry(5)), Some(t.b.id()));
        assert_eq!(t.memcgs.records().count(t.a.id()), NR / 2);
        assert_eq!(t.memcgs.records().count_upper_bound(t.a.id()), NR / 2);
        Ok(())
    }),
    does_without("Memcgs, the runs of its records", |t| {
        assert!(t.memcgs.records().runs(TYPE).count() as u64 > NR);
        assert_eq!(t.memcgs.records().runs_of(t.a.id()).count() as u64, NR / 2);
        Ok(())
    }),
    does_without("Memcgs::swap_out", |t| {
        Ok(t.memcgs.swap_out(t.a, entry(300), 64).map(drop)?)
    }),
    does_without("Memcgs::swap_in", |t| {
        Ok(t.memcgs.swap_in(entry(5), 64).map(drop)?)
    }),
    does_without("Memcgs::swap_in_cached", |t| {
        Ok(t.memcgs.swap_in_cached(entry(5), 64).map(drop)?)
    }),
    does_without("Memcgs::swap_in of many owners", |t| {
        let mixed = t.memcgs.swap_in(entry(MIXED), NR);
        assert!(matches!(mixed, Err(MemcgError::MixedOwners { .. })));
        let mixed = t.memcgs.swap_in_cached(entry(MIXED), NR);
        assert!(matches!(mixed, Err(MemcgError::MixedOwners { .. })));
        Ok(())
    }),
    does_without("Memcgs::swap_in of a cgroup that is offline", |t| {
        assert_eq!(t.memcgs.swap_in(entry(1000), 200)?, t.parent);
        Ok(())
    }),
    does_without("Memcgs::free_swap of one owner", |t| {
        Ok(t.memcgs.free_swap(entry(5), 64).map(drop)?)
    }),
    does_without("Memcgs::free_swap of many owners", |t| {
        assert_eq!(t.memcgs.free_swap(entry(MIXED), NR)?, NR);
        Ok(())
    }),
    does_without("Memcgs::free_swap_with", |t| {
        let mut freed = 0;
        let all = t
            .memcgs
            .free_swap_with(entry(0), PAGES, |run| freed += run.len)?;
        assert_eq!(all, freed);
        Ok(())
    }),
    does_without("Memcgs::free_swap_batch", |t| {
        let slots: [_; 100] = std::array::from_fn(|n| entry(MIXED + n as u64 * 37 % NR));
        let mut told = 0;
        let freed = t.memcgs.free_swap_batch(&slots, |_, _| told += 1)?;
        assert_eq!((freed, told), (NR, NR));
        Ok(())
    }),
    does_without("Memcgs::move_swap_account", |t| {
        Ok(t.memcgs
            .move_swap_account(entry(MIXED), NR, t.a, t.b)
            .map(drop)?)
    }),
    does_without("Memcgs::css_offline", |t| {
        Ok(t.memcgs.css_offline(t.offline, u64::MAX).map(drop)?)
    }),
    does_without("Memcgs::css_free", |t| {
        Ok(t.memcgs.css_free(t.offline).map(drop)?)
    }),
    takes("Memcgs::with_records", |t| {
        // The tree takes the table, and drops it if it is refused. So this is another table.
        let table = SwapRecords::new();
        table
            .swapon(TYPE, PAGES)
            .map(|()| table.record_range(entry(7), 9, t.a.id()))??;
        let root = t.memcgs.root().id();
        // The second cgroup needs a block of its own.
        let far = MemcgId::new(1_000).unwrap();
        let shape = [(t.parent.id(), root), (far, t.parent.id())];
        Memcgs::with_records(table, shape)?;
        Ok(())
    }),
    does_without("Memcgs::into_records", |t| {
        let records = std::mem::take(&mut t.memcgs).into_records();
        assert_eq!(records.max_pages(TYPE), Some(PAGES));
        Ok(())
    }),
];

/// Frees the cgroups that were created after the first five.
fn take_back(t: &Tree) {
    for memcg in t.memcgs.iter() {
        if memcg.id() > t.offline.id() {
            t.memcgs.css_offline(memcg, 0).unwrap();
            t.memcgs.css_free(memcg).unwrap();
        }
    }
}
