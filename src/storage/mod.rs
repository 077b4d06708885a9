//! Memory that is zero when it is made, and the types that it can hold.
//!
//! With `std`, it comes as [`Zeroed`]: an anonymous map or, on Linux, a shared map of a file (`file`). Under
//! Miri, which does not support `madvise`, it is zeroed memory of the global allocator. A `Zeroed` owns the
//! provenance of every entry, cell and bitmap word: all are reached through the one pointer that the map or
//! the allocator returned. Without `std`, see [`pages`](crate::pages).

use bytemuck::Zeroable;

use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

#[cfg(all(feature = "std", target_os = "linux"))]
pub(crate) mod file;
#[cfg(feature = "std")]
mod zeroed;
#[cfg(feature = "std")]
pub(crate) use zeroed::Zeroed;

/// A type that the memory can hold: atomics that are 0 when their bytes are 0.
pub(crate) trait Slot: Zeroable {
    /// Sets the value to 0, with a relaxed store. Stores nothing where it is 0 already, so that no memory is
    /// taken for it.
    fn clear(&self);
}

macro_rules! slots {
    ($($atomic:ty),*) => {
        $(impl Slot for $atomic {
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
    fn clear(&self) {
        self.iter().for_each(Slot::clear);
    }
}

/// The error that the system refused this number of bytes.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) bytes: usize,
}
