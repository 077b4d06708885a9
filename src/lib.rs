//! The owner of every swap slot, and the hand-over of all records of one owner to another.

#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod entry;
mod error;
mod id;

pub use entry::{MAX_SWAPFILES, Run, SwapEntry, SwapType};
pub use error::{EntryError, SwaponError};
pub use id::MemcgId;
