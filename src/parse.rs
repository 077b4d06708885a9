//! Texts to types: `FromStr` for what `Display` writes, and [`ParseError`], what cannot be read.

use core::fmt;
use core::str::FromStr;

use crate::convert::Number;
use crate::entry::{SwapEntry, SwapType};
use crate::id::MemcgId;
use crate::scan::Backend;

/// Writes a short text as `f` asks for: padded to a width, and aligned, as a number or a name is.
pub(crate) fn pad(f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    /// What `Run` writes at most: `31:`, two numbers of 20 digits, and an id.
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

/// Why a text is no [`SwapType`], [`MemcgId`], [`SwapEntry`] or [`Backend`].
///
/// Each of them reads what its `Display` writes, and no sign, space or separator beside it. Numbers are
/// decimal; zeros may stand in front.
///
/// ```
/// use swap_records::{Backend, ParseError, SwapEntry};
///
/// let entry: SwapEntry = "3:4711".parse()?;
/// assert_eq!((entry.swap_type().get(), entry.offset()), (3, 4711));
/// assert_eq!("avx2".parse(), Ok(Backend::Avx2));
///
/// let error = "3:x".parse::<SwapEntry>().unwrap_err();
/// assert_eq!(error.to_string(), "no swap offset at byte 2: write it in decimal digits and nothing else");
/// # Ok::<(), ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ParseError {
    /// Something else than a decimal digit stands where a number should be, or nothing does.
    NotANumber {
        /// What the number was to be.
        number: Number,
        /// Where the first byte that is no digit is in the text, or should be.
        at: usize,
    },
    /// A number is too large, or the 0 that is no id.
    OutOfRange {
        /// What the number was to be.
        number: Number,
        /// Where it begins in the text, in bytes.
        at: usize,
    },
    /// A swap entry is two numbers with a colon between them, and the text has no colon.
    NoColon,
    /// No backend has this name.
    NoBackend,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotANumber { number, at } => write!(
                f,
                "no {number} at byte {at}: write it in decimal digits and nothing else"
            ),
            Self::OutOfRange { number, at } => {
                write!(f, "the {number} at byte {at} is ")?;
                number.write_range(f)
            }
            Self::NoColon => f.write_str(
                "a swap entry needs a colon: write its type and its offset, as in 3:4711",
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

/// The number that is `text`, which begins `at` bytes into what is parsed.
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

/// Reads a number from 0 to 31.
impl FromStr for SwapType {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse_type(text)
    }
}

/// Reads a number from 1 to 65535.
impl FromStr for MemcgId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let new = |id| Self::new(u16::try_from(id).ok()?);
        parse(text, 0, Number::MemcgId, new)
    }
}

/// Reads the type and the offset, as in `3:4711`.
impl FromStr for SwapEntry {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (ty, offset) = text.split_once(':').ok_or(ParseError::NoColon)?;
        let at = ty.len() + 1;
        let ty = parse_type(ty)?;
        parse(offset, at, Number::Offset, |offset| Self::new(ty, offset))
    }
}

/// Reads the name: `scalar`, `wide`, `avx2` or `avx512bw`, whether it is available or not.
impl FromStr for Backend {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut all = Self::ALL.iter().copied();
        all.find(|backend| backend.name() == text)
            .ok_or(ParseError::NoBackend)
    }
}
