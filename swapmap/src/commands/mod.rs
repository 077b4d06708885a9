//! The commands on images.

pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod live_files;
pub(crate) mod make;
pub(crate) mod owners;
pub(crate) mod pages;
pub(crate) mod reparent;
pub(crate) mod show;
pub(crate) mod verify;

use std::cmp::Reverse;

use swap_records::MemcgId;
use swap_records::image::Tally;

/// Returns the owners and their slots, largest first.
fn largest_first(tally: &Tally) -> Vec<(MemcgId, u64)> {
    let mut owners: Vec<_> = tally.owners().collect();
    owners.sort_by_key(|&(id, slots)| (Reverse(slots), id));
    owners
}

/// Returns a part of a whole in percent, as text.
fn percent(part: u64, of: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let percent = if of == 0 {
        0.0
    } else {
        part as f64 * 100.0 / of as f64
    };
    format!("{percent:.1}%")
}

/// Returns a number with its noun: "1 slot", "2 slots".
fn some(nr: u64, what: &str) -> String {
    format!("{nr} {what}{}", if nr == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(percent(1, 3), "33.3%");
        assert_eq!(percent(0, 0), "0.0%");
        assert_eq!(some(1, "slot"), "1 slot");
        assert_eq!(some(0, "slot"), "0 slots");
    }
}
