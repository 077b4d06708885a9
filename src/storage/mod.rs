//! Memory that is zero at its start, and what may be in it.
//!
//! With `std` it comes as [`Zeroed`]: an anonymous map, or, on Linux, a shared map of a file (`file`); Miri, which knows no
//! `madvise`, takes zeroed memory of the global allocator. Zeroed owns the provenance of every entry, cell and
//! bitmap word: they are reached through the one pointer that the map or the allocator gave. Without `std`, see
//! [`pages`](crate::pages).

use bytemuck::Zeroable;

use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

#[cfg(all(feature = "std", target_os = "linux"))]
pub(crate) mod file;
#[cfg(feature = "std")]
mod zeroed;
#[cfg(feature = "std")]
pub(crate) use zeroed::Zeroed;

/// What the memory holds: atomics that are 0 when their bytes are.
pub(crate) trait Slot: Zeroable {
    /// Back to 0, with a relaxed store; where it is 0, nothing is stored, so that no memory is taken for it.
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

/// The system would not give so many bytes.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) bytes: usize,
}
