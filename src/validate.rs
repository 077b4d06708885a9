//! Checks the invariants of a table, for tests.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use lock_api::RawMutex;

use crate::cell::{COUNTERS, Tally, counter};
use crate::entry::SwapType;
use crate::region::{CHUNK_ENTRIES, PIECE, REGION_ENTRIES};
use crate::swapfile::On;
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Checks that entries, cells, presence bits and notes of shared counters agree in every region that is
    /// on (invariant 2), and that nothing is written past `max_pages` (invariant 4). For tests: it looks at
    /// every entry.
    ///
    /// # Errors
    ///
    /// Returns a text that says what disagrees, and where.
    #[doc(hidden)]
    pub fn validate(&self) -> Result<(), String> {
        for (ty, on) in self.all_on() {
            for region in 0..on.regions() {
                validate_region(on, region)
                    .map_err(|what| format!("type {ty}, region {region}: {what}"))?;
            }
            validate_end(self, ty, on)?;
        }
        Ok(())
    }
}

fn validate_region<L: RawMutex>(on: On<'_, L>, index: usize) -> Result<(), String> {
    let presence = on.index().presence();
    // The copies have room for the whole region, since nothing may be allocated under the lock.
    let mut ids = Vec::with_capacity(REGION_ENTRIES);
    let mut piece = [0; PIECE];
    let mut cells = Vec::with_capacity(COUNTERS);
    let count;
    {
        let Some(region) = on.lock(index) else {
            return Ok(());
        };
        for from in (0..REGION_ENTRIES).step_by(PIECE) {
            if region.has(from) {
                let len = region.copy(from, &mut piece);
                ids.extend_from_slice(&piece[..len]);
            }
        }
        let cell = |counter| {
            (
                counter,
                region.tally_of(counter),
                presence.is_set(counter, index),
                region.is_spilled(counter),
            )
        };
        cells.extend(presence.counters().map(cell));
        count = on.index().bits(index);
    }
    let set = cells.iter().filter(|&&(_, _, is_set, _)| is_set).count();
    let mut entries = BTreeMap::<usize, Tally>::new();
    for (chunk, ids) in ids.chunks(CHUNK_ENTRIES).enumerate() {
        // Most chunks are empty. They are compared at once, because a fuzzer records each comparison.
        if *ids == [0; CHUNK_ENTRIES][..ids.len()] {
            continue;
        }
        for (position, &id) in (chunk * CHUNK_ENTRIES..)
            .zip(ids)
            .filter(|&(_, &id)| id != 0)
        {
            let shared = on.index().shared();
            let is_noted = || shared.knows(id) && shared.has(counter(id));
            if usize::from(id) >= COUNTERS && !is_noted() && on.is_still_on() {
                return Err(format!("position {position}: no note of id {id}"));
            }
            let tally = entries.entry(counter(id)).or_default();
            *tally = tally.and(Tally::at(position));
        }
    }
    let mut spill = (Tally::default(), Tally::default());
    for (counter, cell, is_set, is_spilled) in cells {
        let counted = entries.remove(&counter).unwrap_or_default();
        if is_spilled {
            // All spilled counters share one cell. Each of them has a bit if it has a record.
            spill = (cell, spill.1.and(counted));
            if counted.count > 0 && !(is_set && on.index().shared().has(counter)) {
                return Err(format!(
                    "counter {counter}: {counted:?} spilled, without a bit or a note"
                ));
            }
            continue;
        }
        if cell != counted {
            return Err(format!(
                "counter {counter}: the cell says {cell:?}, the entries {counted:?}"
            ));
        }
        if is_set != (counted.count > 0) {
            return Err(format!(
                "counter {counter}: wrong presence bit for {counted:?}"
            ));
        }
    }
    if spill.0 != spill.1 {
        let (cell, counted) = spill;
        return Err(format!(
            "the spill cell says {cell:?}, the entries {counted:?}"
        ));
    }
    if let Some((counter, tally)) = entries.first_key_value() {
        return Err(format!("counter {counter}: no block for {tally:?}"));
    }
    if usize::from(count) != set {
        return Err(format!("{count} presence bits are counted, {set} are set"));
    }
    Ok(())
}

/// Checks that the entries past the end are 0: a lookup reads them.
fn validate_end<L: RawMutex>(
    table: &SwapRecords<L>,
    ty: SwapType,
    on: On<'_, L>,
) -> Result<(), String> {
    let end = on.regions() * REGION_ENTRIES;
    for offset in on.max_pages()..end as u64 {
        let id = table.file(ty).lookup(offset);
        if id != 0 {
            return Err(format!("type {ty}: entry {offset} past the end holds {id}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::SwapEntry;
    use crate::id::MemcgId;
    use crate::region::Region;
    use crate::sync::AtomicU16;

    /// A table with records of ids 1 and 2 in its only region.
    fn table() -> SwapRecords {
        let table = SwapRecords::new();
        let ty = SwapType::new(4).unwrap();
        table.swapon(ty, 100).unwrap();
        for (offset, id) in [(3, 1), (9, 1), (10, 2)] {
            let entry = SwapEntry::new(ty, offset).unwrap();
            table.record(entry, MemcgId::new(id).unwrap()).unwrap();
        }
        table.validate().unwrap();
        table
    }

    fn on(table: &SwapRecords) -> On<'_, crate::RawSpinLock> {
        table.file(SwapType::new(4).unwrap()).on().unwrap()
    }

    #[test]
    fn a_cell_that_disagrees_with_the_entries_is_found() {
        let table = table();
        // Moves an entry that is not the table's from id 1 to id 2, which changes the cells alone.
        let elsewhere = AtomicU16::new(1);
        let on = on(&table);
        let (_, cells) = on.index().slot(9, 2).unwrap();
        let slot = (&elsewhere, 9, cells);
        let had = Region::try_set(on.index(), 0, slot, 2, |_| true, || true);
        assert_eq!(had, Some(1));
        let what = table.validate().unwrap_err();
        assert!(
            what.starts_with("type 4, region 0: counter 1: the cell says"),
            "{what}"
        );
    }

    #[test]
    fn a_wrong_presence_bit_is_found() {
        for (counter, set) in [(1, false), (5, true)] {
            let table = table();
            let index = on(&table).index();
            if set {
                index.set_bit(0, counter);
            } else {
                index.clear_bit(0, counter);
            }
            let what = table.validate().unwrap_err();
            let wrong = format!("type 4, region 0: counter {counter}: wrong presence bit");
            assert!(what.starts_with(&wrong), "{what}");
        }
    }

    #[test]
    fn a_wrong_count_of_presence_bits_is_found() {
        let table = table();
        let index = on(&table).index();
        index.presence().clear(1, 0);
        index.set_bit(0, 1);
        let what = table.validate().unwrap_err();
        assert_eq!(
            what,
            "type 4, region 0: 3 presence bits are counted, 2 are set"
        );
    }

    #[test]
    fn an_id_that_shares_its_counter_without_a_note_is_found() {
        let table = table();
        let id = u16::try_from(COUNTERS).unwrap() + 1;
        let entry = SwapEntry::new(SwapType::new(4).unwrap(), 50).unwrap();
        table.record(entry, MemcgId::new(id).unwrap()).unwrap();
        table.validate().unwrap();
        on(&table).index().shared().discard();
        let what = table.validate().unwrap_err();
        let wrong = format!("type 4, region 0: position 50: no note of id {id}");
        assert_eq!(what, wrong);
    }

    #[test]
    fn records_in_a_block_that_is_not_in_use_are_found() {
        let table = table();
        on(&table).index().presence().discard();
        let what = table.validate().unwrap_err();
        assert!(
            what.starts_with("type 4, region 0: counter 1: no block for"),
            "{what}"
        );
    }
}
