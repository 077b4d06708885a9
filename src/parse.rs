//! `FromStr` for the texts that `Display` writes, and [`ParseError`].

use core::fmt;
use core::str::FromStr;

use crate::convert::Number;
use crate::entry::{SwapEntry, SwapType};
use crate::id::MemcgId;
use crate::scan::Backend;

/// Writes a short text with the width and alignment that `f` asks for.
pub(crate) fn pad(f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    /// The longest text, of a `Run`: `31:`, two numbers of 20 digits, and an id.
    const MOST: usize = 64;

    struct Text {
        bytes: [u8; MOST],
        len: usize,
    }

    impl fmt::Write for Text {
        fn write_str(&mut self, more: &str) -> fmt::Result {
            let free = self.bytes[self.len..].get_mut(..more.len());
            free.ok_or(fmt::Error)?.copy_from_slice(more.as_bytes());
            self.len += more.len();
            Ok(())
        }
    }

    let mut whole = Text {
        bytes: [0; MOST],
        len: 0,
    };
    fmt::write(&mut whole, text)?;
    let whole = core::str::from_utf8(&whole.bytes[..whole.len]);
    f.pad(whole.map_err(|_| fmt::Error)?)
}

/// The error of parsing a [`SwapType`], [`MemcgId`], [`SwapEntry`] or [`Backend`].
///
/// Each type parses the text that its `Display` writes, without signs, spaces or separators. Numbers are
/// decimal, and may have leading zeros.
///
/// # Examples
///
/// ```
/// use swap_records::{Backend, ParseError, SwapEntry};
///
/// let entry: SwapEntry = "3:4711".parse()?;
/// assert_eq!((entry.swap_type().get(), entry.offset()), (3, 4711));
/// assert_eq!("avx2".parse(), Ok(Backend::Avx2));
///
/// let error = "3:x".parse::<SwapEntry>().unwrap_err();
/// assert_eq!(error.to_string(), "byte 2 is not a digit of the swap offset: write decimal digits only");
/// # Ok::<(), ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ParseError {
    /// A number is missing, or contains a byte that is not a decimal digit.
    NotANumber {
        /// The kind of number that was expected.
        number: Number,
        /// The place of the first byte in the text that is not a digit. The length of the text if a number is
        /// missing at its end.
        at: usize,
    },
    /// A number is too large for its type, or is 0 where an id is expected.
    OutOfRange {
        /// The kind of number that was expected.
        number: Number,
        /// The place in the text where the number begins, in bytes.
        at: usize,
    },
    /// The text has no colon. A swap entry is two numbers with a colon between them.
    NoColon,
    /// No backend has this name.
    NoBackend,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotANumber { number, at } => write!(
                f,
                "byte {at} is not a digit of the {number}: write decimal digits only"
            ),
            Self::OutOfRange { number, at } => {
                write!(f, "the {number} at byte {at} is ")?;
                number.write_range(f)
            }
            Self::NoColon => f.write_str(
                "the swap entry has no colon: write its type, a colon and its offset, as in 3:4711",
            ),
            Self::NoBackend => {
                f.write_str("no backend has this name: use ")?;
                for (index, backend) in Backend::ALL.iter().enumerate() {
                    let before = match Backend::ALL.len() - index {
                        _ if index == 0 => "",
                        1 => " or ",
                        _ => ", ",
                    };
                    write!(f, "{before}{backend}")?;
                }
                Ok(())
            }
        }
    }
}

impl core::error::Error for ParseError {}

/// Parses `text` as a number. `at` is the place of `text` in the whole text.
fn parse<T>(
    text: &str,
    at: usize,
    number: Number,
    new: impl Fn(u64) -> Option<T>,
) -> Result<T, ParseError> {
    let other = text.bytes().position(|byte| !byte.is_ascii_digit());
    if let Some(other) = other.or(text.is_empty().then_some(0)) {
        let at = at + other;
        return Err(ParseError::NotANumber { number, at });
    }
    let value = text.parse().ok().and_then(new);
    value.ok_or(ParseError::OutOfRange { number, at })
}

fn parse_type(text: &str) -> Result<SwapType, ParseError> {
    let new = |ty| SwapType::new(u8::try_from(ty).ok()?);
    parse(text, 0, Number::SwapType, new)
}

/// Parses a number from 0 to 31.
impl FromStr for SwapType {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse_type(text)
    }
}

/// Parses a number from 1 to 65535.
impl FromStr for MemcgId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let new = |id| Self::new(u16::try_from(id).ok()?);
        parse(text, 0, Number::MemcgId, new)
    }
}

/// Parses the type and the offset, as in `3:4711`.
impl FromStr for SwapEntry {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (ty, offset) = text.split_once(':').ok_or(ParseError::NoColon)?;
        let at = ty.len() + 1;
        let ty = parse_type(ty)?;
        parse(offset, at, Number::Offset, |offset| Self::new(ty, offset))
    }
}

/// Parses a name: `scalar`, `words`, `wide`, `avx2` or `avx512bw`. The backend need not be available.
impl FromStr for Backend {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut all = Self::ALL.iter().copied();
        all.find(|backend| backend.name() == text)
            .ok_or(ParseError::NoBackend)
    }
}
