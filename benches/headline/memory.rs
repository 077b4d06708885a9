//! Measures the resident memory of the table.

use std::io;

use crate::machine::resident;
use crate::report::{Amount, Report};
use swap_records_benches::ours::Ours;
use swap_records_sim::tables::Table;

/// Turns on a swapfile of 8 TiB.
pub(crate) fn swapon(report: &mut Report) -> Result<(), String> {
    const SLOTS: usize = 1 << 31;
    let before = resident()?;
    let table = Ours::<swap_records::RawSpinLock>::with_slots(SLOTS).map_err(refused)?;
    let after = resident()?;
    assert_eq!(table.slots(), SLOTS);
    report.value("resident_bytes_after_swapon", after.saturating_sub(before));
    Ok(())
}

/// Measures the memory of the process above `before`, without the ids.
pub(crate) fn index(
    report: &mut Report,
    name: &'static str,
    slots: usize,
    before: u64,
) -> Result<(), String> {
    let ids = (slots * size_of::<u16>()) as f64;
    let more = resident()?.saturating_sub(before) as f64;
    // Ids that were swapped out would make the index look small.
    assert!(
        more >= ids,
        "{name}: {more} bytes resident, with {ids} of ids"
    );
    let index = more - ids;
    report.ratio(name, index / ids, Amount::Bytes(index), Amount::Bytes(ids));
    Ok(())
}

pub(crate) fn refused(error: io::Error) -> String {
    format!("no memory for a table: {error}; ask for less with SWAP_MAP_GIB")
}
