//! [`Zeroed`] for loom, whose atomics are objects of the model and no plain memory: a box of them.
//! None of it can be given back, as on systems without `MADV_DONTNEED`.

#[cfg(feature = "std")]
use core::fmt;
#[cfg(feature = "std")]
use core::ops::Deref;

#[cfg(feature = "std")]
use alloc::boxed::Box;

use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// What the memory holds.
pub(crate) trait Slot {
    fn zero() -> Self;

    /// Back to 0, with a relaxed store; where it is 0, nothing is stored.
    fn clear(&self);
}

macro_rules! slots {
    ($($atomic:ty),*) => {
        $(impl Slot for $atomic {
            /// Made at once, by the thread that will publish it: see `model`.
            fn zero() -> Self {
                let zero = Self::new(0);
                zero.load(Ordering::Relaxed);
                zero
            }

            fn clear(&self) {
                if self.load(Ordering::Relaxed) != 0 {
                    self.store(0, Ordering::Relaxed);
                }
            }
        })*
    };
}
slots!(AtomicU16, AtomicU32, AtomicU64);

impl<T: Slot, const N: usize> Slot for [T; N] {
    fn zero() -> Self {
        core::array::from_fn(|_| T::zero())
    }

    fn clear(&self) {
        self.iter().for_each(Slot::clear);
    }
}

/// Never the answer here; the type is what the other storage refuses with.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) bytes: usize,
}

/// A slice of zeroes at its start, of a fixed length, shared by reference until it is dropped.
#[cfg(feature = "std")]
pub(crate) struct Zeroed<T>(Box<[T]>);

#[cfg(feature = "std")]
impl<T: Slot> Zeroed<T> {
    pub(crate) fn new(len: usize, _huge: bool) -> Result<Self, Refused> {
        Ok(Self((0..len).map(|_| T::zero()).collect()))
    }

    /// There is nothing to let go.
    pub(crate) fn emptied(&self) {}

    /// There are no files here.
    pub(crate) fn is_own(&self) -> bool {
        true
    }

    /// Whether the first `used` values are zero again: never.
    #[must_use]
    pub(crate) fn give_back(&self, _used: usize) -> bool {
        false
    }
}

#[cfg(feature = "std")]
impl<T> Zeroed<T> {
    /// How many of its bytes are in memory: all.
    pub(crate) fn resident(&self) -> usize {
        size_of_val(&*self.0)
    }
}

#[cfg(feature = "std")]
impl<T> Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(feature = "std")]
impl<T> fmt::Debug for Zeroed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zeroed")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
