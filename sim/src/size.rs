//! Sizes of maps: parses them, reads them from the environment, and fits them into the available memory.
//!
//! A size is given in GiB of table at 2 bytes per slot: 4 GiB of table are 2^31 slots, or 8 TiB of swap.

use core::fmt;

/// The environment variable that [`from_env`] reads: GiB of table, such as `4` or `0.0625`.
pub const VARIABLE: &str = "SWAP_MAP_GIB";
/// The size if the variable is not set, in GiB.
const DEFAULT_GIB: &str = "4";

const GIB: f64 = (1 << 30) as f64;
const BYTES_PER_SLOT: u64 = 2;
/// The memory that a process needs in addition to its tables, in bytes.
const HEADROOM: u64 = 256 << 20;
/// The smallest size: one region.
const FEWEST_SLOTS: u64 = super::REGION;
/// A swap entry has 50 bits for the offset.
const MOST_SLOTS: u64 = 1 << 50;

/// Says why a size was refused.
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
    /// The available memory is too small for tables of any useful size.
    NoMemory {
        /// The available memory, in bytes.
        available: u64,
    },
    /// The variable is not Unicode.
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
                "{available} bytes of memory are available, too few for a table of any size: \
                 free some memory"
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
    // Written so that a NaN is out of range.
    if !(slots >= FEWEST_SLOTS as f64 && slots <= MOST_SLOTS as f64) {
        return Err(SizeError::OutOfRange { text: text.into() });
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "fractions of a slot are dropped, and the range was checked"
    )]
    Ok(slots as u64)
}

/// Returns the size of a table of `slots` slots, in GiB.
#[must_use]
pub fn gib_of(slots: u64) -> f64 {
    (slots * BYTES_PER_SLOT) as f64 / GIB
}

/// Returns the memory that `tables` tables of `slots` slots take, in bytes. Includes an eighth more for their
/// indexes, and 256 MiB for the process.
#[must_use]
pub fn bytes_needed(slots: u64, tables: u64) -> u64 {
    slots * BYTES_PER_SLOT / 8 * 9 * tables + HEADROOM
}

/// Returns the highest number of slots for which `tables` tables fit into `available` bytes.
#[must_use]
pub fn slots_that_fit(available: u64, tables: u64) -> u64 {
    available.saturating_sub(HEADROOM) / tables / 9 * 8 / BYTES_PER_SLOT
}

/// Returns the memory that is available without swapping, in bytes: `MemAvailable` in `/proc/meminfo`.
/// Returns `None` if that file does not exist.
#[must_use]
pub fn available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A number of slots, with a note if it is not the number that was asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Size {
    /// Slots of the map.
    pub slots: u64,
    /// A message to the user if the memory is too small for the size that was asked for.
    pub note: Option<String>,
}

/// Returns the size that the environment variable [`VARIABLE`] asks for, by default 4 GiB. Returns a smaller
/// size if `tables` tables of that size do not fit into the available memory.
///
/// # Errors
///
/// As for [`parse_gib`], and [`SizeError::NoMemory`] or [`SizeError::NotUnicode`].
pub fn from_env(tables: u64) -> Result<Size, SizeError> {
    let asked = match std::env::var(VARIABLE) {
        Ok(text) => Some(text),
        Err(std::env::VarError::NotPresent) => None,
        Err(std::env::VarError::NotUnicode(_)) => return Err(SizeError::NotUnicode),
    };
    choose(asked.as_deref(), available(), tables)
}

/// Does the same as [`from_env`], for a given value of the variable and a given amount of available memory.
///
/// # Errors
///
/// As for [`from_env`].
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
    // Whole regions, which makes the smaller size a round number.
    let fit = fit - fit % super::REGION;
    let tables = if tables == 1 { "a table" } else { "tables" };
    let note = format!(
        "{:.3} GiB of table instead of {}: {tables} of that size would not fit into the available memory \
         (set {VARIABLE} to choose a size)",
        gib_of(fit),
        gib_of(slots),
    );
    Ok(Size {
        slots: fit,
        note: Some(note),
    })
}
