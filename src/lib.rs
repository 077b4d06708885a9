//! The owner of every swap slot, and the hand-over of all records of one owner to another.

#![no_std]
#![warn(unreachable_pub)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod cell;
mod entry;
mod error;
mod id;
mod iter;
mod migrate;
mod presence;
mod region;
mod runs;
mod scan;
mod storage;
mod swapfile;
mod sync;
mod table;
mod validate;

pub use entry::{MAX_SWAPFILES, Run, SwapEntry, SwapType};
pub use error::{EntryError, SwaponError};
pub use id::MemcgId;
pub use migrate::{MemswHint, Migrated, Migration, Step};
pub use region::{CHUNK_ENTRIES, REGION_ENTRIES};
pub use runs::{IntoIter, Runs};
pub use scan::Backend;
pub use sync::RawSpinLock;
pub use table::{Exchange, SwapRecords};
