//! Names the operations that the manager needs of a table with its tree. [`Tree`](crate::tree::Tree) has
//! those of `swap_records`; [`Plain`](crate::plain::Plain) has a `HashMap` to compare with.

use std::error::Error;
use std::fmt;
use std::io;

use swap_records::{MemcgId, SwapEntry, SwapType};

use crate::Result;

/// The one swapfile.
pub(crate) const TYPE: SwapType = match SwapType::new(0) {
    Some(ty) => ty,
    None => panic!("types are 0 to 31"),
};

/// The swap entry of a slot.
pub(crate) fn entry(slot: u64) -> Result<SwapEntry> {
    SwapEntry::new(TYPE, slot).ok_or_else(|| format!("slot {slot} is past all swapfiles").into())
}

/// Says why a page may not come to memory.
#[derive(Debug)]
pub(crate) enum Refused {
    /// This owner has all the memory that it may have: evict some of its pages, and ask again.
    Full(MemcgId),
    /// An operation failed that must not.
    Failed(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(id) => write!(f, "owner {id} has all the memory that it may have"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl Error for Refused {}

impl From<Box<dyn Error + Send + Sync>> for Refused {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<String> for Refused {
    fn from(error: String) -> Self {
        Self::Failed(error.into())
    }
}

impl From<&str> for Refused {
    fn from(error: &str) -> Self {
        Self::Failed(error.into())
    }
}

/// Pages that are charged.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Held {
    /// Pages in memory.
    pub(crate) memory: u64,
    /// Records.
    pub(crate) swap: u64,
}

/// Records that were freed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Freed {
    /// Records of the owner that was named.
    pub(crate) owned: u64,
    /// Records of other owners.
    pub(crate) others: u64,
}

/// Keeps the charges of owners, and the owner of each slot. A page in memory and a slot both count as one.
pub(crate) trait Books: Send + Sync {
    /// Returns the owner that gets the records of owners that are removed.
    fn host(&self) -> MemcgId;

    /// Makes an owner for a guest, with the most pages that it may have in memory.
    fn create(&self, limit: u64) -> Result<MemcgId>;

    /// Sets the most pages of an owner. Returns `false` where the owner has more already.
    fn limit(&self, id: MemcgId, pages: u64) -> Result<bool>;

    /// Charges pages in memory.
    fn charge(&self, id: MemcgId, nr: u64) -> Result<(), Refused>;

    /// Takes the charge of pages in memory back.
    fn uncharge(&self, id: MemcgId, nr: u64) -> Result<()>;

    /// Makes as many pages in memory records as there are slots. Returns the owner of the records.
    fn swap_out(&self, id: MemcgId, slots: &[SwapEntry]) -> Result<MemcgId>;

    /// Makes a slot a page in memory, and returns the owner that is charged for it.
    fn swap_in(&self, slot: SwapEntry) -> Result<MemcgId, Refused>;

    /// Frees slots, wherever they lie. Returns how many records this owner had, and how many others had.
    fn free(&self, slots: &[SwapEntry], owner: MemcgId) -> Result<Freed>;

    /// Takes the owner offline: after the return, nothing more is charged to it.
    fn offline(&self, id: MemcgId) -> Result<()>;

    /// Makes pages in memory the host's.
    fn move_to_host(&self, id: MemcgId, nr: u64) -> Result<()>;

    /// Removes the owner, and gives its slots to the host. Returns how many.
    fn remove(&self, id: MemcgId) -> Result<u64>;

    /// Returns the charges of one owner.
    fn held(&self, id: MemcgId) -> Result<Held>;

    /// Returns the charges of all owners together, and the number of owners.
    fn all(&self) -> Result<(Held, u64)>;
}
