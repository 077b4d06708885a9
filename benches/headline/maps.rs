//! The large table and the large array of ids, with the same map.

use indicatif::{ProgressBar, ProgressStyle};

use swap_records_benches::ours::Ours;
use swap_records_benches::work::{TAIL, tails};
use swap_records_benches::{LIVE, REGION, SEED, index, timed};
use swap_records_sim::Pages;
use swap_records_sim::tables::Loop2014;
use swap_records_sim::tables::Table;
use swap_records_sim::{self as sim, Family, Map};

/// The id at the end of every region, and the id that its records are migrated to.
pub(crate) const TAILS: (u16, u16) = (LIVE + 1, LIVE + 2);
/// The owner of a thousand scattered records, and the new owner.
pub(crate) const FEW: (u16, u16) = (LIVE + 3, LIVE + 4);
/// Ten thousand.
pub(crate) const MANY: (u16, u16) = (LIVE + 5, LIVE + 6);
/// A hundred thousand.
pub(crate) const LOTS: (u16, u16) = (LIVE + 11, LIVE + 12);
/// An id without records, and the new owner.
pub(crate) const NONE: (u16, u16) = (LIVE + 7, LIVE + 8);

pub(crate) const FEW_RECORDS: u64 = 1_000;
pub(crate) const MANY_RECORDS: u64 = 10_000;
pub(crate) const LOTS_RECORDS: u64 = 100_000;

/// Prints how fast maps are generated, without a table to fill.
pub(crate) fn describe_generator(slots: u64) {
    let slots = slots.min(1 << 24);
    let families = [
        ("interleaved", Family::Interleaved(LIVE)),
        ("jobs", Family::Jobs),
        ("uniform", Family::Uniform),
    ];
    let mut ids = vec![0; index(slots)];
    let rates = families.map(|(name, family)| {
        let map = Map::new(family, slots, SEED);
        let ((), time) = timed(|| map.fill_slice(sim::threads(), &mut ids, |_| ()));
        format!("{name} {:.0}", slots as f64 / time.as_secs_f64() / 1e6)
    });
    println!("generator: {} million slots per second", rates.join(", "));
}

/// The table and the array, with the same records.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) ours: Ours,
    pub(crate) of_2014: Loop2014,
    pub(crate) slots: usize,
    /// The number of records of the id of a full scan.
    pub(crate) in_tails: u64,
}

impl Maps {
    /// Fills both. The memory of the table is untouched before; that of the array is present.
    pub(crate) fn new(ours: Ours, ids: Pages<u16>) -> Self {
        let of_2014 = Loop2014::over(ids);
        let slots = ours.slots();
        // Scattered records come last. They leave the tails alone.
        let map = Map::new(Family::Interleaved(LIVE), slots as u64, SEED)
            .remains(FEW.0, FEW_RECORDS)
            .remains(MANY.0, MANY_RECORDS)
            .remains(LOTS.0, LOTS_RECORDS);
        // Draws nothing if stderr is not a terminal.
        let style = ProgressStyle::with_template("filling {wide_bar} {percent}%, {eta} left");
        let bar = ProgressBar::new(slots as u64).with_style(style.expect("a valid template"));
        let record = ours.sink();
        let ((), time) = timed(|| {
            map.fill(
                sim::threads(),
                |start, len, id| {
                    record(start, len, id);
                    of_2014.preset(index(start), index(len), id);
                },
                |done| bar.inc(done),
            );
        });
        bar.finish_and_clear();
        println!(
            "filled: {:.0} million slots per second, including page faults and both tables",
            slots as f64 / time.as_secs_f64() / 1e6
        );
        drop(record);
        let mut in_tails = 0;
        for slot in tails(slots) {
            if ours.lookup(slot) <= LIVE {
                ours.record(slot, TAILS.0);
                of_2014.preset(slot, 1, TAILS.0);
                in_tails += 1;
            }
        }
        Self {
            ours,
            of_2014,
            slots,
            in_tails,
        }
    }

    /// Records each of these ids once per region, in both tables.
    pub(crate) fn add_ids(&self, ids: std::ops::RangeInclusive<u16>) {
        assert!(usize::from(*ids.end()) < REGION - TAIL);
        let threads = sim::threads();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let ids = ids.clone();
                scope.spawn(move || {
                    for base in (thread * REGION..self.slots).step_by(threads * REGION) {
                        for id in ids.clone() {
                            let slot = base + usize::from(id);
                            self.ours.record(slot, id);
                            self.of_2014.preset(slot, 1, id);
                        }
                    }
                });
            }
        });
    }

    /// Records the id of a full scan in all tails again. Returns the number of these slots.
    pub(crate) fn complete_tails(&self) -> u64 {
        for slot in tails(self.slots) {
            self.ours.record(slot, TAILS.0);
            self.of_2014.preset(slot, 1, TAILS.0);
        }
        let records = self.ours.count(TAILS.0);
        assert_eq!(records, tails(self.slots).count() as u64);
        records
    }
}
