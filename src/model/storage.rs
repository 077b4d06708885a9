//! [`Zeroed`] for loom: a box of atomics. Loom's atomics are objects of the model, not plain memory. No
//! memory can be given back, as on systems without `MADV_DONTNEED`.

#[cfg(feature = "std")]
use core::fmt;
#[cfg(feature = "std")]
use core::ops::Deref;

#[cfg(feature = "std")]
use alloc::boxed::Box;

use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A type that the memory can hold.
pub(crate) trait Slot {
    fn zero() -> Self;

    /// Sets the value to 0, with a relaxed store. Stores nothing where it is 0 already.
    fn clear(&self);
}

macro_rules! slots {
    ($($atomic:ty),*) => {
        $(impl Slot for $atomic {
            /// Makes loom's atomic at once, on the thread that will publish it: see `model`.
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

/// The error of the other storage. It never occurs here.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) bytes: usize,
}

/// A slice of a fixed length, zero when it is made, shared by reference until it is dropped.
#[cfg(feature = "std")]
pub(crate) struct Zeroed<T>(Box<[T]>);

#[cfg(feature = "std")]
impl<T: Slot> Zeroed<T> {
    pub(crate) fn new(len: usize, _huge: bool) -> Result<Self, Refused> {
        Ok(Self((0..len).map(|_| T::zero()).collect()))
    }

    /// Does nothing: there is no file to release.
    pub(crate) fn emptied(&self) {}

    /// Returns true: there are no files here.
    pub(crate) fn is_own(&self) -> bool {
        true
    }

    /// Returns false: memory cannot be given back.
    #[must_use]
    pub(crate) fn give_back(&self, _used: usize) -> bool {
        false
    }
}

#[cfg(feature = "std")]
impl<T> Zeroed<T> {
    /// Returns the number of its bytes, all of which are in memory.
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
