//! Lists all owners and their counts: from the index, and by a walk over the table.

use swap_records_benches::ours::{Ours, TYPE};

use crate::measure::timed_pairs;
use crate::report::{Amount, Report};

/// Combines all owners and their counts, lowest id first, into one number.
fn digest(owners: impl Iterator<Item = (u16, u64)>) -> u64 {
    owners.fold(0, |digest: u64, (id, records)| {
        let owner = u64::from(id) << 48 ^ records;
        (digest ^ owner)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    })
}

/// Compares `owners` with adding up all runs. A walk takes long and both sides are steady, so two pairs
/// suffice.
pub(crate) fn against_a_walk(report: &mut Report, ours: &Ours) {
    let mut by_id = vec![0_u64; 1 << 16];
    let pairs = timed_pairs(
        "owners",
        2,
        |_| digest(ours.0.owners().map(|(id, records)| (id.get(), records))),
        |_| {
            by_id.fill(0);
            for run in ours.0.runs(TYPE) {
                by_id[usize::from(run.id.get())] += run.len;
            }
            let owners = (0..=u16::MAX).zip(by_id.iter().copied());
            digest(owners.filter(|&(_, records)| records > 0))
        },
    );
    let (ours, theirs) = (Amount::Seconds(pairs.ours), Amount::Seconds(pairs.theirs));
    report.ratio("owners_vs_walk", pairs.faster, ours, theirs);
}
