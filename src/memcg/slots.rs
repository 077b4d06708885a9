//! [`Slots`]: the slots of all ids.

use core::{fmt, ptr};

use alloc::boxed::Box;
use alloc::vec::Vec;
use crossbeam_utils::CachePadded;

use super::slot::Slot;
use crate::id::MemcgId;
use crate::sync::{AtomicPtr, Ordering};

/// The number of ids whose slots are allocated together: two pages of memory.
pub(super) const BLOCK: usize = if cfg!(swap_records_loom) { 4 } else { 64 };
type Block = [CachePadded<Slot>; BLOCK];
/// The number of blocks for all ids. Models have small stacks, so their trees are small too.
pub(super) const BLOCKS: usize = if cfg!(swap_records_loom) {
    1
} else {
    (u16::MAX as usize + 1) / BLOCK
};

/// The slots of all ids. A block that was allocated stays until the tree is dropped (invariant 8). So a stale
/// handle finds a slot, and the slot says that the cgroup was freed.
pub(super) struct Slots {
    /// Always there, so that a tree can be made without an allocation.
    root: CachePadded<Slot>,
    /// Owned by this table of pointers.
    blocks: [AtomicPtr<Block>; BLOCKS],
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self {
            root: CachePadded::new(Slot::root()),
            blocks: [const { AtomicPtr::new(ptr::null_mut()) }; BLOCKS],
        }
    }

    /// Returns the slot of this id, or `None` if its block was never allocated.
    #[inline]
    pub(super) fn get(&self, id: MemcgId) -> Option<&Slot> {
        if id == MemcgId::MIN {
            return Some(&self.root);
        }
        let index = usize::from(id.get());
        let block = self.blocks.get(index / BLOCK)?.load(Ordering::Acquire);
        // SAFETY: a pointer in `blocks` came from `Box::into_raw` and was published with release. Only `drop`
        // frees it, which has `self` for itself (invariant 8).
        let block = unsafe { block.as_ref() }?;
        Some(&block[index % BLOCK])
    }

    /// Allocates the block of this id, unless another thread has done so. An error is the number of bytes
    /// that were refused.
    pub(super) fn allocate(&self, id: MemcgId) -> Result<(), usize> {
        let place = &self.blocks[usize::from(id.get()) / BLOCK];
        let mut block = Vec::new();
        block
            .try_reserve_exact(BLOCK)
            .map_err(|_| size_of::<Block>())?;
        block.resize_with(BLOCK, || CachePadded::new(Slot::free()));
        let block: Box<Block> = block
            .into_boxed_slice()
            .try_into()
            .map_err(|_| size_of::<Block>())?;
        let block = Box::into_raw(block);
        let null = ptr::null_mut();
        if place
            .compare_exchange(null, block, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: the pointer came from `Box::into_raw` above, and no other thread has seen it.
            drop(unsafe { Box::from_raw(block) });
        }
        Ok(())
    }

    /// Returns whether a block was allocated. If so, [`get`](Self::get) returns its slots.
    pub(super) fn has_block(&self, index: usize) -> bool {
        !self.blocks[index].load(Ordering::Relaxed).is_null()
    }

    /// Returns the cgroup of this id and its ancestors, up to the root.
    #[inline]
    pub(super) fn up(&self, id: MemcgId) -> impl Iterator<Item = (MemcgId, &Slot)> {
        let with_slot = |id| Some((id, self.get(id)?));
        core::iter::successors(with_slot(id), move |(_, slot)| with_slot(slot.parent()?))
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for block in &mut self.blocks {
            let block = core::mem::replace(block.get_mut(), ptr::null_mut());
            if !block.is_null() {
                // SAFETY: the pointer came from `Box::into_raw`, and `drop` has `self` for itself (invariant
                // 8).
                drop(unsafe { Box::from_raw(block) });
            }
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memcg::Memcg;
    use crate::memcg::slot::State;

    #[test]
    fn a_slot_tells_its_cgroup_from_the_one_before() {
        let slots = Slots::new();
        let id = MemcgId::new(77).unwrap();
        assert!(slots.get(id).is_none());
        slots.allocate(id).unwrap();
        slots.allocate(id).unwrap();
        let slot = slots.get(id).unwrap();
        let first = slot.bring_online(id, MemcgId::MIN, 1);
        assert_eq!(first, Memcg::new(id, 1));
        assert_eq!(slot.state_of(first), State::Online);
        slot.set_state(State::Freeing);
        assert_eq!(slot.state_of(first), State::Freeing);
        slot.set_state(State::Offline);
        assert_eq!(slot.state_of(first), State::Offline);
        slot.set_state(State::Free);
        assert_eq!((slot.state_of(first), slot.memcg(id)), (State::Free, None));
        let second = slot.bring_online(id, MemcgId::MIN, 1);
        assert_eq!(slot.state_of(first), State::Free);
        assert_eq!((slot.memcg(id), second), (Some(second), Memcg::new(id, 2)));
        assert!(slots.up(id).map(|(id, _)| id).eq([id, MemcgId::MIN]));
    }
}
