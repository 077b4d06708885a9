//! Writes an image of a synthetic table, reads it back, and looks up records in place.
//!
//! ```sh
//! cargo run --release --example image -- records.image   # an image of 4 GiB and 1 GiB of swap
//! ```
//!
//! The Python code in `docs/image-format.md` prints the same lines for the same file.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType, image};
use swap_records_sim::{Family, Map};

/// Swap types and their pages.
const SWAPFILES: [(u8, u64); 2] = [(0, 1 << 20), (3, 1 << 18)];

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = lexopt::Parser::from_env();
    let path = PathBuf::from(args.value().map_err(|_| "usage: image PATH")?);

    let records = SwapRecords::new();
    for (number, pages) in SWAPFILES {
        let ty = SwapType::try_from(number)?;
        records.swapon(ty, pages)?;
        // The last quarter is free.
        let map = Map::new(Family::Jobs, pages / 4 * 3, u64::from(number));
        map.fill(
            1,
            |start, len, id| {
                let (start, id) = (SwapEntry::new(ty, start), MemcgId::new(id));
                if let (Some(start), Some(id)) = (start, id) {
                    let had = records.record_range(start, len, id);
                    assert!(had.is_ok_and(|had| had.is_empty()), "a slot comes twice");
                }
            },
            |_| (),
        );
    }

    let (written, time) = timed(|| image::write(&records, &path))?;
    eprintln!("written: {written:?} in {time:.1?}");
    let (again, time) = timed(|| image::read(&path))?;
    eprintln!("read: {again:?} in {time:.1?}");
    // SAFETY: only `image::write` writes to the file, and it replaces the whole file.
    let (map, time) = timed(|| unsafe { image::Map::open(&path) })?;
    eprintln!("opened in {time:.1?}");
    map.verify()?;

    for (ty, pages) in map.types() {
        assert!(map.runs(ty).eq(records.runs(ty)) && again.runs(ty).eq(records.runs(ty)));
        let count: u64 = map.runs(ty).map(|run| run.len).sum();
        println!("type {ty}: {count} of {pages} slots have a record");
    }
    let most = map.owners().max_by_key(|&(_, count)| count);
    let (id, count) = most.ok_or("there are records")?;
    assert_eq!(again.count(id), count);
    eprintln!("cgroup {id} has the most records: {count}");
    Ok(())
}

fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, Duration), E> {
    let start = Instant::now();
    Ok((work()?, start.elapsed()))
}
