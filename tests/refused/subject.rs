//! The subjects of the operations, and the form of the list of operations.

use swap_records::memcg::MemcgError;
use swap_records::{EntryError, SwaponError};

/// A table or a tree with some contents, which are the same each time.
pub trait Subject {
    /// Everything that can be observed of it.
    type State: PartialEq + std::fmt::Debug;

    fn new() -> Self;
    fn state(&self) -> Self::State;
    /// Asserts its invariants.
    fn validate(&self);
}

/// What an operation may do with the allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// It may allocate, and returns an error if that is refused.
    Some,
    /// It must not allocate: it frees, migrates, reads, or must not fail.
    None,
}

pub struct Operation<S> {
    pub name: &'static str,
    pub memory: Memory,
    pub run: fn(&mut S) -> Result<(), Refusal>,
}

/// The errors of all operations.
#[derive(Debug)]
pub enum Refusal {
    Entry(EntryError),
    Swapon(SwaponError),
    Memcg(MemcgError),
}

impl Refusal {
    /// Compares the name, so that the error of a future operation need not be listed here.
    pub fn is_for_want_of_memory(&self) -> bool {
        let text = match self {
            Self::Entry(error) => format!("{error:?}"),
            Self::Swapon(error) => format!("{error:?}"),
            Self::Memcg(error) => format!("{error:?}"),
        };
        text.starts_with("OutOfMemory")
    }
}

impl From<EntryError> for Refusal {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl From<SwaponError> for Refusal {
    fn from(error: SwaponError) -> Self {
        Self::Swapon(error)
    }
}

impl From<MemcgError> for Refusal {
    fn from(error: MemcgError) -> Self {
        Self::Memcg(error)
    }
}
