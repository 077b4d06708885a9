//! Numbers to types, and back: `TryFrom` and `From`, and [`RangeError`], what does not fit.

use core::fmt;

use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType};
use crate::id::MemcgId;

/// Which number a [`RangeError`] or a [`ParseError`](crate::ParseError) is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Number {
    /// That of a [`SwapType`]: 0 to 31.
    SwapType,
    /// The offset of a [`SwapEntry`], in pages: 0 to 2^50 - 1.
    Offset,
    /// That of a [`MemcgId`]: 1 to 65535.
    MemcgId,
    /// The bits of a [`SwapEntry`], of which 0 to 54 may be set.
    EntryBits,
}

impl Number {
    /// The lowest and the highest that is valid.
    const fn range(self) -> (u64, u64) {
        match self {
            Self::SwapType => (0, MAX_SWAPFILES as u64 - 1),
            Self::Offset => (0, SwapEntry::MAX_OFFSET),
            Self::MemcgId => (MemcgId::MIN.get() as u64, MemcgId::MAX.get() as u64),
            Self::EntryBits => (0, SwapEntry::MAX_BITS),
        }
    }

    /// The end of each text that refuses one.
    pub(crate) fn write_range(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.range();
        write!(f, "out of range: use {least} to {most}")
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SwapType => "swap type",
            Self::Offset => "swap offset",
            Self::MemcgId => "cgroup id",
            Self::EntryBits => "bits of a swap entry",
        })
    }
}

/// A number is no [`SwapType`], no [`MemcgId`], or no [`SwapEntry`]'s bits, because it is out of range.
///
/// ```
/// use swap_records::{MemcgId, RangeError, SwapEntry, SwapType};
///
/// assert_eq!(SwapType::try_from(31)?.get(), 31);
/// let error = SwapType::try_from(32).unwrap_err();
/// assert_eq!(error.to_string(), "swap type 32 is out of range: use 0 to 31");
/// assert_eq!(MemcgId::try_from(0).unwrap_err().value, 0);
/// assert!(SwapEntry::try_from(1_u64 << 55).is_err());
/// # Ok::<(), RangeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct RangeError {
    /// What the number was to be.
    pub number: Number,
    /// The number.
    pub value: u64,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, value } = self;
        match number {
            Number::EntryBits => write!(
                f,
                "{value:#x} has bits above bit 54, so it is no swap entry: use {:#x} at most",
                SwapEntry::MAX_BITS
            ),
            _ => {
                write!(f, "{number} {value} is ")?;
                number.write_range(f)
            }
        }
    }
}

impl core::error::Error for RangeError {}

impl TryFrom<u8> for SwapType {
    type Error = RangeError;

    /// [`SwapType::new`] with an error.
    fn try_from(ty: u8) -> Result<Self, RangeError> {
        Self::new(ty).ok_or(RangeError {
            number: Number::SwapType,
            value: ty.into(),
        })
    }
}

impl From<SwapType> for u8 {
    fn from(ty: SwapType) -> Self {
        ty.get()
    }
}

/// As an index into what there is of each type.
impl From<SwapType> for usize {
    fn from(ty: SwapType) -> Self {
        ty.get().into()
    }
}

impl TryFrom<u16> for MemcgId {
    type Error = RangeError;

    /// [`MemcgId::new`] with an error.
    fn try_from(id: u16) -> Result<Self, RangeError> {
        Self::new(id).ok_or(RangeError {
            number: Number::MemcgId,
            value: id.into(),
        })
    }
}

impl TryFrom<u64> for SwapEntry {
    type Error = RangeError;

    /// [`SwapEntry::from_bits`] with an error.
    fn try_from(bits: u64) -> Result<Self, RangeError> {
        Self::from_bits(bits).ok_or(RangeError {
            number: Number::EntryBits,
            value: bits,
        })
    }
}

/// [`SwapEntry::to_bits`].
impl From<SwapEntry> for u64 {
    fn from(entry: SwapEntry) -> Self {
        entry.to_bits()
    }
}
