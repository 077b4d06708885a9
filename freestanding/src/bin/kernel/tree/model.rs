//! The oracle of a tree: cgroups, what is charged to each, and the owner of each slot.

use alloc::vec::Vec;

use swap_records::memcg::Memcg;
use swap_records::{SwapEntry, SwapType};

use crate::machine::fail;
use crate::model::{REGION, entry};

pub(super) const TYPE: SwapType = SwapType::new(3).unwrap();
pub(super) const PAGES_ON: u64 = 2 * REGION - 9;

/// The most cgroups at once, including the root, which is the first.
pub(super) const CGROUPS: usize = 8;

/// A cgroup, by its place in the oracle.
pub(super) type At = usize;

#[derive(Clone, Copy)]
pub(super) struct Cgroup {
    pub(super) memcg: Memcg,
    pub(super) parent: At,
    pub(super) online: bool,
    /// Pages in memory.
    pub(super) own: u64,
}

/// The cgroups, and for each slot the place of its owner. There are no slots while the type is off.
pub(super) struct Model {
    pub(super) cgroups: [Option<Cgroup>; CGROUPS],
    pub(super) owners: Vec<Option<u8>>,
}

impl Model {
    pub(super) fn new(root: Memcg) -> Self {
        let mut cgroups = [None; CGROUPS];
        cgroups[0] = Some(Cgroup {
            memcg: root,
            parent: 0,
            online: true,
            own: 0,
        });
        let owners = Vec::with_capacity(index(PAGES_ON));
        Self { cgroups, owners }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (At, Cgroup)> {
        let all = self.cgroups.iter().enumerate();
        all.filter_map(|(at, cgroup)| Some((at, (*cgroup)?)))
    }

    pub(super) fn get(&self, at: At) -> Cgroup {
        self.cgroups[at].unwrap_or_else(|| fail("the oracle names a cgroup that is not there"))
    }

    pub(super) fn own(&mut self, at: At) -> &mut u64 {
        match &mut self.cgroups[at] {
            Some(cgroup) => &mut cgroup.own,
            None => fail("the oracle names a cgroup that is not there"),
        }
    }

    pub(super) fn children(&self, of: At) -> impl Iterator<Item = Cgroup> {
        let all = self
            .all()
            .filter(move |&(at, cgroup)| at != 0 && cgroup.parent == of);
        all.map(|(_, cgroup)| cgroup)
    }

    /// Returns the first online cgroup, from this one up.
    pub(super) fn payer(&self, mut at: At) -> At {
        while !self.get(at).online {
            at = self.get(at).parent;
        }
        at
    }

    pub(super) fn is_below(&self, mut at: At, above: At) -> bool {
        while at != above && at != 0 {
            at = self.get(at).parent;
        }
        at == above
    }

    pub(super) fn owner(&self, slot: SwapEntry) -> Option<At> {
        let owner = self.owners.get(index(slot.offset()))?;
        owner.map(usize::from)
    }

    pub(super) fn set(&mut self, slot: SwapEntry, owner: Option<At>) {
        let owner = owner.and_then(|at| u8::try_from(at).ok());
        self.owners[index(slot.offset())] = owner;
    }

    pub(super) fn records(&self, of: At) -> u64 {
        let all = self.owners.iter().flatten();
        all.filter(|&&owner| usize::from(owner) == of).count() as u64
    }

    /// Gives records in these slots to another cgroup.
    pub(super) fn give(&mut self, (start, nr): Slots, from: At, to: Option<At>) -> u64 {
        let mut given = 0;
        for slot in each(start, nr) {
            if self.owner(slot) == Some(from) {
                self.set(slot, to);
                given += 1;
            }
        }
        given
    }
}

pub(super) fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

pub(super) type Slots = (SwapEntry, u64);

pub(super) fn each(start: SwapEntry, nr: u64) -> impl Iterator<Item = SwapEntry> {
    (0..nr).map(move |skip| entry(TYPE, start.offset() + skip))
}
