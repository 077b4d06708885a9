//! `cargo bench --bench latency`: measures the latency of records and lookups while another thread migrates
//! all of a large map, again and again. It compares this crate with the loop of 2014, which holds one lock
//! for the whole migration.
//!
//! An operation is due every 10 us. Operations that were due while an earlier one waited count as if they had
//! waited as well (correction for coordinated omission).

use std::time::Duration;

use swap_records_benches::latency::{QUANTILES, during_migrations};
use swap_records_benches::ours::Ours;
use swap_records_benches::work::{before_tails, slot_and_id, tails};
use swap_records_benches::{REGION, index};
use swap_records_sim::tables::Loop2014;
use swap_records_sim::tables::Table;
use swap_records_sim::{size, threads};

/// The owner of all slots except the tails, and the two ids that the tails are migrated between.
const LIVE: u16 = 1;
const TAILS: (u16, u16) = (1_001, 1_002);

fn main() -> Result<(), String> {
    // `cargo test --benches` only checks that it runs.
    let test = cfg!(debug_assertions) || std::env::args().any(|arg| arg == "--test");
    let (slots, time) = if test {
        (64 * REGION, Duration::from_millis(20))
    } else {
        let size = size::from_env(2).map_err(|error| error.to_string())?;
        if let Some(note) = size.note {
            println!("note: {note}");
        }
        (index(size.slots) / REGION * REGION, Duration::from_secs(4))
    };
    println!(
        "{} GiB of table, an operation every 10 us, one migration after another",
        size::gib_of(slots as u64),
    );
    let names = QUANTILES.map(|(name, _)| format!("{name:>12}")).concat();
    println!("{:28}{names}{:>12}", "", "migrations");
    let refused = |error| format!("no memory for a table: {error}");
    {
        let ours: Ours = Ours::with_slots(slots).map_err(refused)?;
        ours.fill(LIVE, threads());
        measure("swap-records", &ours, slots, time, |old, new| {
            ours.migrate(old, new)
        });
    }
    let of_2014: Loop2014 = Loop2014::with_slots(slots).map_err(refused)?;
    of_2014.preset(0, slots, LIVE);
    measure("2014 loop", &of_2014, slots, time, |old, new| {
        of_2014.migrate(old, new)
    });
    Ok(())
}

/// Measures both operations and prints a line for each.
fn measure<P: Table>(
    name: &str,
    table: &P,
    slots: usize,
    time: Duration,
    migrate: impl Fn(u16, u16) -> u64 + Sync,
) {
    let records = tails(slots).count() as u64;
    for operation in ["record", "lookup"] {
        for slot in tails(slots) {
            table.record(slot, TAILS.0);
        }
        let (mut old, mut new) = TAILS;
        let mut free = 0;
        let done = during_migrations(
            time,
            || {
                let moved = migrate(old, new);
                (old, new) = (new, old);
                moved
            },
            |rng| {
                let (slot, id) = slot_and_id(rng, slots);
                let slot = before_tails(slot);
                let owner = match operation {
                    "record" => table.record(slot, id),
                    _ => table.lookup(slot),
                };
                free += u64::from(owner == 0);
            },
        );
        assert_eq!(free, 0, "every slot has an owner");
        for &moved in &done.moved {
            assert_eq!(moved, records, "records moved");
        }
        let times = QUANTILES.map(|(_, quantile)| {
            let nanos = done.times.value_at_quantile(quantile);
            format!("{:>12.2?}", Duration::from_nanos(nanos))
        });
        let label = format!("{operation}, {name}");
        println!("{label:28}{}{:>12}", times.concat(), done.moved.len());
    }
}
