//! Conversions of numbers to types, `TryFrom`, and back, `From`; and [`RangeError`].

use core::fmt;

use crate::entry::{MAX_SWAPFILES, SwapEntry, SwapType};
use crate::id::MemcgId;

/// The kind of number that a [`RangeError`] or a [`ParseError`](crate::ParseError) is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Number {
    /// The number of a [`SwapType`]: 0 to 31.
    SwapType,
    /// The offset of a [`SwapEntry`], in pages: 0 to 2^50 - 1.
    Offset,
    /// The number of a [`MemcgId`]: 1 to 65535.
    MemcgId,
    /// The bits of a [`SwapEntry`]: bits 0 to 54 may be set.
    EntryBits,
}

impl Number {
    /// Returns the lowest and the highest valid number.
    const fn range(self) -> (u64, u64) {
        match self {
            Self::SwapType => (0, MAX_SWAPFILES as u64 - 1),
            Self::Offset => (0, SwapEntry::MAX_OFFSET),
            Self::MemcgId => (MemcgId::MIN.get() as u64, MemcgId::MAX.get() as u64),
            Self::EntryBits => (0, SwapEntry::MAX_BITS),
        }
    }

    /// Writes the end of each message that refuses a number.
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

/// The error of converting a number that is out of range to a [`SwapType`], a [`MemcgId`] or a [`SwapEntry`].
///
/// # Examples
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
    /// The kind of number that was expected.
    pub number: Number,
    /// The number that is out of range.
    pub value: u64,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, value } = self;
        match number {
            Number::EntryBits => write!(
                f,
                "{value:#x} is not a swap entry, because it has bits above bit 54: use at most {:#x}",
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

    /// Converts as [`SwapType::new`] does, with an error in place of `None`.
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

/// Returns the number as an index into an array with one element per type.
impl From<SwapType> for usize {
    fn from(ty: SwapType) -> Self {
        ty.get().into()
    }
}

impl TryFrom<u16> for MemcgId {
    type Error = RangeError;

    /// Converts as [`MemcgId::new`] does, with an error in place of `None`.
    fn try_from(id: u16) -> Result<Self, RangeError> {
        Self::new(id).ok_or(RangeError {
            number: Number::MemcgId,
            value: id.into(),
        })
    }
}

impl TryFrom<u64> for SwapEntry {
    type Error = RangeError;

    /// Converts as [`SwapEntry::from_bits`] does, with an error in place of `None`.
    fn try_from(bits: u64) -> Result<Self, RangeError> {
        Self::from_bits(bits).ok_or(RangeError {
            number: Number::EntryBits,
            value: bits,
        })
    }
}

/// Converts as [`SwapEntry::to_bits`] does.
impl From<SwapEntry> for u64 {
    fn from(entry: SwapEntry) -> Self {
        entry.to_bits()
    }
}
