//! Sizes of maps: from text, from the environment, and by what the memory holds.
//!
//! A size is given in GiB of table at 2 bytes per slot: 4 GiB of table are 2^31 slots, or 8 TiB of swap.

use core::fmt;

/// The environment variable that [`from_env`] reads: GiB of table, such as `4` or `0.0625`.
pub const VARIABLE: &str = "SWAP_MAP_GIB";
/// The size where the variable is not set, in GiB.
const DEFAULT_GIB: &str = "4";

const GIB: f64 = (1 << 30) as f64;
const BYTES_PER_SLOT: u64 = 2;
/// What a process needs beside its tables, in bytes.
const HEADROOM: u64 = 256 << 20;
/// One region: nothing smaller is worth a measurement.
const FEWEST_SLOTS: u64 = super::REGION;
/// A swap entry has 50 bits for the offset.
const MOST_SLOTS: u64 = 1 << 50;

/// Why a text is no size, or a size does not fit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SizeError {
    /// The text is not a number.
    NotANumber {
        /// The text.
        text: String,
    },
    /// The size is smaller than one region, or larger than a swapfile can be.
    OutOfRange {
        /// The text.
        text: String,
    },
    /// The memory that is available does not hold tables of any size worth a measurement.
    NoMemory {
        /// Bytes that are available.
        available: u64,
    },
    /// The variable is set to something that is not Unicode.
    NotUnicode,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANumber { text } => write!(
                f,
                "`{text}` is not a number: give GiB of table, such as 4 or 0.0625"
            ),
            Self::OutOfRange { text } => write!(
                f,
                "`{text}` GiB of table is out of range: give {} to {}",
                gib_of(FEWEST_SLOTS),
                gib_of(MOST_SLOTS),
            ),
            Self::NoMemory { available } => write!(
                f,
                "{available} bytes of memory are available, which is too little for a table of any size: \
                 free some"
            ),
            Self::NotUnicode => {
                write!(f, "{VARIABLE} is not Unicode: give GiB of table, such as 4")
            }
        }
    }
}

impl std::error::Error for SizeError {}

/// Returns the number of slots of a map of `text` GiB of table. Fractions are allowed.
///
/// ```
/// use swap_records_sim::size::parse_gib;
///
/// assert_eq!(parse_gib("4"), Ok(1 << 31));
/// assert_eq!(parse_gib("0.0625"), Ok(1 << 25));
/// assert!(parse_gib("4GiB").is_err());
/// ```
///
/// # Errors
///
/// [`SizeError::NotANumber`], [`SizeError::OutOfRange`].
pub fn parse_gib(text: &str) -> Result<u64, SizeError> {
    let gib: f64 = text
        .trim()
        .parse()
        .map_err(|_| SizeError::NotANumber { text: text.into() })?;
    let slots = gib * GIB / BYTES_PER_SLOT as f64;
    // Written so that a NaN is outside.
    if !(slots >= FEWEST_SLOTS as f64 && slots <= MOST_SLOTS as f64) {
        return Err(SizeError::OutOfRange { text: text.into() });
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a slot is none, and the range was checked"
    )]
    Ok(slots as u64)
}

/// Returns the GiB of table that `slots` slots take.
#[must_use]
pub fn gib_of(slots: u64) -> f64 {
    (slots * BYTES_PER_SLOT) as f64 / GIB
}

/// Returns the bytes that `tables` tables of `slots` slots take, with an eighth for their indexes and 256 MiB for the
/// process.
#[must_use]
pub fn bytes_needed(slots: u64, tables: u64) -> u64 {
    slots * BYTES_PER_SLOT / 8 * 9 * tables + HEADROOM
}

/// Returns the most slots for which `available` bytes hold `tables` tables.
#[must_use]
pub fn slots_that_fit(available: u64, tables: u64) -> u64 {
    available.saturating_sub(HEADROOM) / tables / 9 * 8 / BYTES_PER_SLOT
}

/// Returns the memory that is available without swapping, in bytes: `MemAvailable` of `/proc/meminfo`. `None` where
/// there is no such file.
#[must_use]
pub fn available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A number of slots, and why it is not the number that was asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Size {
    /// Slots of the map.
    pub slots: u64,
    /// A sentence for the user where the memory does not hold what was asked for.
    pub note: Option<String>,
}

/// Returns the size that the environment variable [`VARIABLE`] asks for, 4 GiB where it is not set, or less where the
/// available memory does not hold `tables` tables of it.
///
/// # Errors
///
/// As [`parse_gib`], and [`SizeError::NoMemory`], [`SizeError::NotUnicode`].
pub fn from_env(tables: u64) -> Result<Size, SizeError> {
    let asked = match std::env::var(VARIABLE) {
        Ok(text) => Some(text),
        Err(std::env::VarError::NotPresent) => None,
        Err(std::env::VarError::NotUnicode(_)) => return Err(SizeError::NotUnicode),
    };
    choose(asked.as_deref(), available(), tables)
}

/// Does what [`from_env`] does, for a given text of the variable and given bytes of available memory.
///
/// # Errors
///
/// As [`from_env`].
pub fn choose(asked: Option<&str>, available: Option<u64>, tables: u64) -> Result<Size, SizeError> {
    let slots = parse_gib(asked.unwrap_or(DEFAULT_GIB))?;
    let Some(available) = available else {
        return Ok(Size { slots, note: None });
    };
    let fit = slots_that_fit(available, tables);
    if slots <= fit {
        return Ok(Size { slots, note: None });
    }
    if fit < FEWEST_SLOTS {
        return Err(SizeError::NoMemory { available });
    }
    // Whole regions, so that the smaller map has a plain size.
    let fit = fit - fit % super::REGION;
    let tables = if tables == 1 { "a table" } else { "tables" };
    let note = format!(
        "{:.3} GiB of table instead of {}: the available memory does not hold {tables} of that size \
         (set {VARIABLE} to choose)",
        gib_of(fit),
        gib_of(slots),
    );
    Ok(Size {
        slots: fit,
        note: Some(note),
    })
}
