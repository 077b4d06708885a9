//! [`Array`]: keeps values that exist from the start, in allocations of at most a page.

use core::mem::MaybeUninit;
use core::ops::Index;
use core::ptr;

use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;

use super::place::made_now;
use crate::footprint::Extent;
use crate::pages::PAGE_SIZE;
use crate::storage::Refused;
use crate::sync::{AtomicU64, Ordering};

/// Values that are made at once and stay. Each allocation is at most a page, except the list of allocations.
#[derive(Debug)]
pub(crate) struct Array<T> {
    pieces: Box<[Box<[T]>]>,
}

impl<T> Array<T> {
    /// The number of values in a page, a power of two.
    const PIECE: usize = {
        let size = if size_of::<T>() == 0 {
            1
        } else {
            size_of::<T>()
        };
        if size > PAGE_SIZE {
            1
        } else {
            1 << (PAGE_SIZE / size).ilog2()
        }
    };

    #[inline(never)]
    pub(crate) fn new(len: usize, mut make: impl FnMut() -> T) -> Result<Self, Refused> {
        let mut pieces = slice(len.div_ceil(Self::PIECE), Box::default)?;
        let mut left = len;
        for piece in &mut pieces {
            *piece = slice(left.min(Self::PIECE), &mut make)?;
            left -= piece.len();
        }
        Ok(Self { pieces })
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.pieces
            .get(index / Self::PIECE)?
            .get(index % Self::PIECE)
    }

    #[cfg(swap_records_loom)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    pub(crate) fn bytes(&self) -> usize {
        let values: usize = self.pieces.iter().map(|piece| size_of_val(&**piece)).sum();
        values + size_of_val(&*self.pieces)
    }
}

impl<T> Index<usize> for Array<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, index: usize) -> &T {
        &self.pieces[index / Self::PIECE][index % Self::PIECE]
    }
}

/// Words of bits.
pub(crate) type Notes = Array<AtomicU64>;

impl Array<AtomicU64> {
    pub(crate) fn of_words(words: usize) -> Result<Self, Refused> {
        Self::new(words, || {
            made_now(AtomicU64::new(0), |word| _ = word.load(Ordering::Relaxed))
        })
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent::resident(self.bytes())
    }
}

/// Makes `len` values in one allocation.
#[inline(always)]
pub(super) fn slice<T>(len: usize, mut make: impl FnMut() -> T) -> Result<Box<[T]>, Refused> {
    let layout = Layout::array::<T>(len).map_err(|_| Refused { bytes: usize::MAX })?;
    let values = ptr::slice_from_raw_parts_mut(memory(layout)?.cast::<MaybeUninit<T>>(), len);
    // SAFETY: memory of this layout, which may hold anything.
    let mut values = unsafe { Box::from_raw(values) };
    for value in &mut values {
        value.write(make());
    }
    // SAFETY: each was written.
    Ok(unsafe { values.assume_init() })
}

/// Takes memory of this layout from the global allocator, or a dangling pointer if the layout has no size.
#[inline(never)]
fn memory(layout: Layout) -> Result<*mut u8, Refused> {
    if layout.size() == 0 {
        return Ok(ptr::without_provenance_mut(layout.align()));
    }
    // SAFETY: it has a size.
    let memory = unsafe { alloc(layout) };
    if memory.is_null() {
        let bytes = layout.size();
        return Err(Refused { bytes });
    }
    Ok(memory)
}
