//! [`Iter`]: the cgroups of a tree, in the order of their ids.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;

use super::Memcgs;
use super::handle::Memcg;
use super::slot::{BLOCK, BLOCKS, Slots};
use crate::id::MemcgId;

const ROOT: usize = MemcgId::MIN.get() as usize;

impl<L> Memcgs<L> {
    /// The cgroups that are there, in the order of their ids. A cgroup that comes or goes meanwhile may be
    /// given or not.
    pub fn iter(&self) -> Iter<'_> {
        self.slots.iter()
    }
}

impl<'t, L> IntoIterator for &'t Memcgs<L> {
    type Item = Memcg;
    type IntoIter = Iter<'t>;

    fn into_iter(self) -> Iter<'t> {
        self.iter()
    }
}

impl Slots {
    /// The cgroups that are there.
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter(self.ids())
    }

    /// The ids of which there may be a cgroup.
    pub(super) fn ids(&self) -> SlotIds<'_> {
        SlotIds {
            slots: self,
            ids: ROOT..BLOCKS * BLOCK,
        }
    }
}

/// The ids that have a slot: those of blocks that are there, and the root's.
#[derive(Clone)]
pub(super) struct SlotIds<'t> {
    slots: &'t Slots,
    ids: Range<usize>,
}

impl SlotIds<'_> {
    /// The id, if it has a slot; otherwise the ids beside it that have none.
    fn at(&self, id: usize) -> Result<Option<MemcgId>, Range<usize>> {
        let block = id / BLOCK;
        if id == ROOT || self.slots.has_block(block) {
            Ok(u16::try_from(id).ok().and_then(MemcgId::new))
        } else {
            Err((block * BLOCK).max(ROOT + 1)..(block + 1) * BLOCK)
        }
    }
}

impl Iterator for SlotIds<'_> {
    type Item = MemcgId;

    fn next(&mut self) -> Option<MemcgId> {
        loop {
            let id = self.ids.next()?;
            match self.at(id) {
                Ok(id) => return id,
                Err(absent) => self.ids.start = absent.end.min(self.ids.end),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.ids.len()))
    }
}

impl DoubleEndedIterator for SlotIds<'_> {
    fn next_back(&mut self) -> Option<MemcgId> {
        loop {
            let id = self.ids.next_back()?;
            match self.at(id) {
                Ok(id) => return id,
                Err(absent) => self.ids.end = absent.start.max(self.ids.start),
            }
        }
    }
}

/// The cgroups of a tree: see [`Memcgs::iter`](super::Memcgs::iter).
///
/// After `None` it gives `None` for good, also where more cgroups are created.
#[derive(Clone)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Iter<'t>(SlotIds<'t>);

impl Iterator for Iter<'_> {
    type Item = Memcg;

    fn next(&mut self) -> Option<Memcg> {
        let slots = self.0.slots;
        self.0.find_map(|id| slots.get(id)?.memcg(id))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Memcg> {
        let slots = self.0.slots;
        let mut from_behind = self.0.by_ref().rev();
        from_behind.find_map(|id| slots.get(id)?.memcg(id))
    }
}

impl FusedIterator for Iter<'_> {}

/// Writes the ids that it has not come to.
impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Iter").field(&self.0.ids).finish()
    }
}
