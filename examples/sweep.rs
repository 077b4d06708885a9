//! Compares the time of a migration with the loop of 2014, over kinds and sizes of maps and numbers of
//! records. Prints CSV. A simulation of your own can start from this file.
//!
//! `cargo run --release --example sweep > sweep.csv` takes about ten seconds and 100 MiB of memory.
//!
//! | column | contents |
//! | --- | --- |
//! | `family` | how owners are spread over slots: [`Family`]. `interleaved:N` has N owners |
//! | `slots` | slots of the swapfile, of 4 KiB each |
//! | `records` | records of the offline cgroup, scattered over the swapfile |
//! | `moved_us` | median time of a migration with this crate, in microseconds |
//! | `loop_2014_us` | the same with the loop of 2014 |
//! | `chunks_scanned` | chunks of 2,048 slots in which this crate looked at an entry |
//! | `index_bytes` | memory of this crate in addition to 2 bytes per slot, in bytes |

use std::error::Error;
use std::time::Instant;

use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
use swap_records_sim::tables::{Loop2014, Spin, Table};
use swap_records_sim::{Family, Map, threads};

const SEED: u64 = 2014;

fn main() -> Result<(), Box<dyn Error>> {
    println!("family,slots,records,moved_us,loop_2014_us,chunks_scanned,index_bytes");
    // `Uniform` has ids above 4095. They share counters, so migrations scan more: see docs/limits.md.
    let families = [10, 150, 1000].map(Family::Interleaved);
    for family in families.into_iter().chain([Family::Jobs, Family::Uniform]) {
        for slots in [1 << 18, 1 << 21, 1 << 24] {
            for records in [0, 1, 1_000, 10_000] {
                measure(family, slots, records)?;
            }
        }
    }
    Ok(())
}

/// Fills both tables with one map, measures them, and prints a line.
fn measure(family: Family, slots: u64, scattered: u64) -> Result<(), Box<dyn Error>> {
    let ty = SwapType::try_from(0)?;
    // Neither owns a slot of the family.
    let offline = MemcgId::try_from(family.highest_id() + 1)?;
    let parent = MemcgId::try_from(family.highest_id() + 2)?;
    let map = Map::new(family, slots, SEED).remains(offline.get(), scattered);

    let records = SwapRecords::new();
    records.swapon(ty, slots)?;
    let of_2014 = Loop2014::<Spin>::with_slots(slots.try_into()?)?;
    let fill = |start: u64, len: u64, id: u16| {
        let entry = SwapEntry::new(ty, start).expect("a slot of the swapfile");
        // In a map, id 0 clears the slots. `record_range` would return the previous owners.
        match MemcgId::new(id) {
            Some(id) => records.record_range_with(entry, len, id, |_| ()),
            None => records.clear_range_with(entry, len, |_| ()),
        }
        .expect("the swapfile is on and as large as the map");
        let index = |n: u64| usize::try_from(n).expect("the table is in memory");
        of_2014.preset(index(start), index(len), id);
    };
    map.fill(threads(), fill, |_done| ());

    let mut chunks_scanned = 0;
    let ours = median_us(offline, parent, |old, new| {
        let migrated = records.migration(old, new).run();
        chunks_scanned = migrated.chunks_scanned;
        assert_eq!(migrated.moved, scattered);
    });
    let theirs = median_us(offline, parent, |old, new| {
        assert_eq!(of_2014.migrate(old.get(), new.get()), scattered);
    });
    let footprint = records.footprint();
    let index = footprint.total().resident - footprint.table.resident;
    println!("{family},{slots},{scattered},{ours:.1},{theirs:.1},{chunks_scanned},{index}");
    Ok(())
}

/// Migrates five times, back and forth. Returns the median time, in microseconds.
fn median_us(a: MemcgId, b: MemcgId, mut migrate: impl FnMut(MemcgId, MemcgId)) -> f64 {
    let mut times = [(a, b), (b, a), (a, b), (b, a), (a, b)].map(|(old, new)| {
        let began = Instant::now();
        migrate(old, new);
        began.elapsed()
    });
    times.sort_unstable();
    times[2].as_secs_f64() * 1e6
}
