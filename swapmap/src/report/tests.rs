//! What is said of figures that do not agree.

use super::*;
use crate::reading::fake::reading;

fn text(reading: &Reading) -> [String; 2] {
    let [mut table, mut notes_of] = [Vec::new(), Vec::new()];
    owners(reading, &mut table).unwrap();
    notes(reading, &mut notes_of).unwrap();
    [table, notes_of].map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn a_cgroup_whose_slots_are_all_in_the_swap_cache_is_shown() {
    let reading = reading("cache-alone", &[("a", [0, 50], 0)], 50);
    let [table, notes] = text(&reading);
    assert!(table.lines().any(|line| line.ends_with(" /a")), "{table}");
    assert!(notes.contains("1 of 1 cgroups with swap agree"), "{notes}");
}
