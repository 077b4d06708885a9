//! What a record of one slot takes while all that it touches is in the cache, with `std` and without:
//!
//! ```sh
//! cargo run --release -p swap-records --example record_hot
//! cargo run --release -p swap-records --example record_hot --no-default-features
//! ```
//!
//! An argument is the number of rounds: `record_hot 1` and `record_hot 11` under an instruction counter differ by ten rounds.

use std::env;
use std::hint::black_box;
use std::time::Instant;

use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};

/// Slots that change owners, in one region.
const SLOTS: u64 = 1024;
/// 1 GiB of swap.
const PAGES: u64 = 1 << 18;

/// Out of line: what is measured is the call, and not what it is in.
#[inline(never)]
fn record(records: &SwapRecords, entry: SwapEntry, id: MemcgId) -> Option<MemcgId> {
    black_box(records).record(entry, id).unwrap_or(None)
}

fn main() {
    let rounds = env::args().nth(1).map_or(20_000, |n| n.parse().unwrap());
    let ty = SwapType::new(0).unwrap();
    let [a, b] = [7, 8].map(|id| MemcgId::new(id).unwrap());
    let entry = |offset| SwapEntry::new(ty, offset).unwrap();
    let records = SwapRecords::new();
    records.swapon(ty, PAGES).unwrap();
    // Both keep some, so that no record is the first or the last of its owner.
    records.record_range(entry(SLOTS), 8, a).unwrap();
    records.record_range(entry(SLOTS + 8), 8, b).unwrap();
    records.record_range(entry(0), SLOTS, b).unwrap();

    let mut best = f64::MAX;
    let (mut to, mut from) = (a, b);
    for _ in 0..rounds {
        let begin = Instant::now();
        for offset in 0..SLOTS {
            assert!(record(&records, entry(offset), to) == Some(from));
        }
        best = best.min(begin.elapsed().as_secs_f64());
        (to, from) = (from, to);
    }
    assert_eq!(records.count(from), SLOTS + 8);
    println!(
        "a record, hot: {:.2} ns (best of {rounds} rounds of {SLOTS} slots, {})",
        best / SLOTS as f64 * 1e9,
        if cfg!(feature = "std") {
            "with std"
        } else {
            "without std"
        }
    );
}
