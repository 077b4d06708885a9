//! [`Array`]: values that are there from the start, in allocations of a page at most.

use core::ops::Index;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::radix::made_now;
use crate::footprint::Extent;
use crate::pages::PAGE_SIZE;
use crate::storage::Refused;
use crate::sync::{AtomicU64, Ordering};

/// Values that are made at once and stay: allocations of a page at most, but for the list of them.
#[derive(Debug)]
pub(crate) struct Array<T> {
    pieces: Box<[Box<[T]>]>,
}

impl<T> Array<T> {
    /// Values in a page, a power of two.
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

    pub(crate) fn new(len: usize, mut make: impl FnMut() -> T) -> Result<Self, Refused> {
        let nr = len.div_ceil(Self::PIECE);
        let mut pieces = Vec::new();
        pieces.try_reserve_exact(nr).map_err(|_| Refused {
            bytes: nr.saturating_mul(size_of::<Box<[T]>>()),
        })?;
        let mut left = len;
        while left > 0 {
            let nr = left.min(Self::PIECE);
            let mut piece = Vec::new();
            piece.try_reserve_exact(nr).map_err(|_| Refused {
                bytes: nr * size_of::<T>(),
            })?;
            piece.resize_with(nr, &mut make);
            pieces.push(piece.into_boxed_slice());
            left -= nr;
        }
        Ok(Self {
            pieces: pieces.into_boxed_slice(),
        })
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

/// Some words of bits.
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
