//! [`MemcgId`]: the 16-bit id of a memory cgroup.

use core::fmt;
use core::num::NonZeroU16;

/// The 16-bit id of a memory cgroup: 1 to 65535.
///
/// An entry of the table holds an `Option<MemcgId>` in 2 bytes: 0 is not an id, and stands for "no record".
///
/// # Examples
///
/// ```
/// use swap_records::MemcgId;
///
/// let id = MemcgId::new(7).unwrap();
/// assert_eq!(id.get(), 7);
/// assert_eq!(MemcgId::new(0), None);
/// assert_eq!(size_of::<Option<MemcgId>>(), 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u16", into = "u16"))]
#[repr(transparent)]
pub struct MemcgId(NonZeroU16);

const _: () = assert!(size_of::<Option<MemcgId>>() == 2);

impl MemcgId {
    /// The lowest id, 1.
    pub const MIN: Self = Self(NonZeroU16::MIN);
    /// The highest id, 65535.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// Returns the id with this number, or `None` for 0.
    #[must_use]
    pub const fn new(id: u16) -> Option<Self> {
        match NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// Returns the number of this id, 1 to 65535.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// Returns the number that an entry of the table holds for this owner: its id, or 0 for none.
pub(crate) const fn to_raw(owner: Option<MemcgId>) -> u16 {
    match owner {
        Some(id) => id.get(),
        None => 0,
    }
}

impl fmt::Debug for MemcgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemcgId({})", self.0)
    }
}

impl fmt::Display for MemcgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<NonZeroU16> for MemcgId {
    fn from(id: NonZeroU16) -> Self {
        Self(id)
    }
}

impl From<MemcgId> for NonZeroU16 {
    fn from(id: MemcgId) -> Self {
        id.0
    }
}

impl From<MemcgId> for u16 {
    fn from(id: MemcgId) -> Self {
        id.get()
    }
}
