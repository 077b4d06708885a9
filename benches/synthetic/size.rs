//! How large a map: `SWAP_MAP_GIB`, a flag, and what the memory carries.

/// The environment variable that holds the size of a map, in GiB of table at 2 bytes a slot.
pub const VARIABLE: &str = "SWAP_MAP_GIB";
/// The size where it is not set, in GiB.
const DEFAULT_GIB: &str = "4";

const GIB: f64 = (1 << 30) as f64;
const BYTES_A_SLOT: u64 = 2;
/// What a process needs beside its tables, in bytes.
const HEADROOM: u64 = 256 << 20;
/// One region: nothing smaller is worth a measurement.
const FEWEST_SLOTS: u64 = super::REGION;
/// A swap entry has 50 bits for the offset.
const MOST_SLOTS: u64 = 1 << 50;

/// Slots of a map of this many GiB of table. Fractions are fine; what is no size is an error that
/// says what is one.
pub fn parse_gib(text: &str) -> Result<u64, String> {
    let gib: f64 = text
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is no number: give GiB of table, as in 4 or 0.0625"))?;
    let slots = gib * GIB / BYTES_A_SLOT as f64;
    // Written so that a NaN is outside.
    if !(slots >= FEWEST_SLOTS as f64 && slots <= MOST_SLOTS as f64) {
        return Err(format!(
            "`{text}` GiB of table is out of range: give {} to {}",
            gib_of(FEWEST_SLOTS),
            gib_of(MOST_SLOTS),
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a slot is none, and the range was checked"
    )]
    Ok(slots as u64)
}

/// GiB of table that this many slots take.
pub fn gib_of(slots: u64) -> f64 {
    (slots * BYTES_A_SLOT) as f64 / GIB
}

/// Bytes that `tables` tables of this many slots take, with an eighth for their indexes.
pub fn bytes_needed(slots: u64, tables: u64) -> u64 {
    slots * BYTES_A_SLOT / 8 * 9 * tables + HEADROOM
}

/// The most slots of which `available` bytes carry `tables` tables.
pub fn slots_carried(available: u64, tables: u64) -> u64 {
    available.saturating_sub(HEADROOM) / tables / 9 * 8 / BYTES_A_SLOT
}

/// `MemAvailable`, in bytes; `None` where there is no such thing.
pub fn available() -> Option<u64> {
    use procfs::Current;
    procfs::Meminfo::current().ok()?.mem_available
}

/// The size of a map in slots, and what to say where it is not the size that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Size {
    pub slots: u64,
    pub note: Option<String>,
}

/// The size that [`VARIABLE`] asks for, or less where the memory does not carry `tables` tables of
/// it.
pub fn from_env(tables: u64) -> Result<Size, String> {
    let asked = match std::env::var(VARIABLE) {
        Ok(text) => Some(text),
        Err(std::env::VarError::NotPresent) => None,
        Err(error) => return Err(format!("{VARIABLE}: {error}")),
    };
    choose(asked.as_deref(), available(), tables)
}

/// [`from_env`], for a given environment.
pub fn choose(asked: Option<&str>, available: Option<u64>, tables: u64) -> Result<Size, String> {
    let slots =
        parse_gib(asked.unwrap_or(DEFAULT_GIB)).map_err(|error| format!("{VARIABLE}: {error}"))?;
    let carried = available.map_or(slots, |bytes| slots_carried(bytes, tables));
    if slots <= carried {
        return Ok(Size { slots, note: None });
    }
    let tables_of = if tables == 1 { "a table" } else { "tables" };
    if carried < FEWEST_SLOTS {
        return Err(format!(
            "the available memory does not carry {tables_of} of any size worth a measurement: free some"
        ));
    }
    // Whole regions, so that the smaller map has a plain size.
    let carried = carried - carried % super::REGION;
    let note = format!(
        "{:.3} GiB of table instead of {}: the available memory does not carry {tables_of} of that \
         size (set {VARIABLE} to choose)",
        gib_of(carried),
        gib_of(slots),
    );
    Ok(Size {
        slots: carried,
        note: Some(note),
    })
}
