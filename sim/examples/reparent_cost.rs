//! Measures how long each reference table takes to move the records of an offline cgroup to its parent. Prints
//! CSV.
//!
//! `cargo run --release -p swap-records-sim --example reparent_cost`

use std::io;
use std::time::{Duration, Instant};

use swap_records_sim::tables::{Linux2024, Loop2014, Spin, Table, U64Words};
use swap_records_sim::{Family, Map};

/// 32 MiB of table: 64 GiB of swap.
const SLOTS: u64 = 1 << 24;
const LIVE: u16 = 150;
const OFFLINE: u16 = 151;
const PARENT: u16 = 152;
const RECORDS: u64 = 1_000;

fn main() -> io::Result<()> {
    let map = Map::new(Family::Interleaved(LIVE), SLOTS, 2014).remains(OFFLINE, RECORDS);
    println!("table,slots,moved,microseconds");
    measure::<Loop2014<Spin>>("loop_2014", &map)?;
    measure::<Linux2024>("linux_2024", &map)?;
    measure::<U64Words>("u64_words", &map)
}

/// Prints the median of five migrations in each direction.
fn measure<T: Table>(name: &str, map: &Map) -> io::Result<()> {
    let index = |n: u64| usize::try_from(n).map_err(io::Error::other);
    let table = T::with_slots(index(map.slots())?)?;
    for run in map.runs() {
        table.record_range(index(run.start)?, index(run.len)?, run.id);
    }
    let mut times: Vec<Duration> = [(OFFLINE, PARENT), (PARENT, OFFLINE)]
        .into_iter()
        .cycle()
        .take(5)
        .map(|(old, new)| {
            let began = Instant::now();
            let moved = table.migrate(old, new);
            assert_eq!(moved, RECORDS, "records moved");
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{name},{SLOTS},{RECORDS},{}", times[2].as_micros());
    Ok(())
}
