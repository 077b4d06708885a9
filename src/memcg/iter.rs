//! [`Iter`]: the cgroups of a tree, in the order of their ids.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::Range;

use super::Memcgs;
use super::handle::Memcg;
use super::slots::{BLOCK, BLOCKS, Slots};
use crate::id::MemcgId;

const ROOT: usize = MemcgId::MIN.get() as usize;

impl<L> Memcgs<L> {
    /// Returns an iterator over the cgroups, online and offline, in the order of their ids.
    ///
    /// It takes no lock. A cgroup that is created or freed meanwhile may be yielded or not.
    ///
    /// ```
    /// # use swap_records::memcg::Memcgs;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let memcgs = Memcgs::new();
    /// # let memcg = memcgs.create(memcgs.root())?;
    /// assert!(memcgs.iter().eq([memcgs.root(), memcg]));
    /// # Ok(())
    /// # }
    /// ```
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
    /// Returns an iterator over the cgroups.
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter(self.ids())
    }

    /// Returns an iterator over the ids that may have a cgroup.
    pub(super) fn ids(&self) -> SlotIds<'_> {
        SlotIds {
            slots: self,
            ids: ROOT..BLOCKS * BLOCK,
        }
    }
}

/// The ids that have a [`Slot`](super::slot::Slot): the root, and the ids of blocks that were allocated.
#[derive(Clone)]
pub(super) struct SlotIds<'t> {
    slots: &'t Slots,
    ids: Range<usize>,
}

impl SlotIds<'_> {
    /// Returns the id if it has a slot, and otherwise the ids around it that have none.
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

/// An iterator over the cgroups of a tree: see [`Memcgs::iter`](super::Memcgs::iter).
///
/// After the first `None` it always returns `None`, even if more cgroups are created.
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

/// Writes the range of ids that are left.
impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Iter").field(&self.0.ids).finish()
    }
}
