//! Tests of the text for figures that do not agree.

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

#[test]
fn slots_found_in_another_cgroup_do_not_hide_missing_slots() {
    // A process with 300 moved from `from` to `to`; 100 are in use and in no figure.
    let cgroups = [("from", [300, 0], 0), ("to", [0, 0], 300)];
    let reading = reading("moved", &cgroups, 400);
    let all: HashMap<_, _> = owners_of_all(&reading).into_iter().collect();
    let missing = Missing::new(&reading, &all);
    assert_eq!((missing.slots, missing.rest), (100, 100));
    let of = |rows: &[(MemcgId, u64)]| -> Vec<(Vec<u8>, u64)> {
        let row = |&(id, slots): &(MemcgId, u64)| (reading.memcgs.path(id).to_vec(), slots);
        rows.iter().map(row).collect()
    };
    assert_eq!(of(&missing.cgroups), [(b"/from".to_vec(), 300)]);
    assert_eq!(of(&missing.more), [(b"/to".to_vec(), 300)]);
    assert_eq!(missing.elsewhere, 300);

    let [table, _] = text(&reading);
    for line in [
        "the owners of 100 of 400 slots in use were not found",
        "300 slots were found in a cgroup that the kernel does not charge for them",
    ] {
        assert!(table.contains(line), "{line}: {table}");
    }
    let more = table.split("more found").nth(1).unwrap();
    assert!(
        more.lines()
            .any(|line| line.contains("300") && line.ends_with(" /to")),
        "{table}"
    );
}

#[test]
fn slots_of_a_process_that_moved_are_shown_also_where_none_is_missing() {
    let cgroups = [("from", [300, 0], 0), ("to", [0, 0], 300)];
    let [table, _] = text(&reading("moved-all", &cgroups, 300));
    assert!(
        table.contains("the owners of 0 of 300 slots in use were not found"),
        "{table}"
    );
    assert!(!table.contains("in no figure of a cgroup"), "{table}");
    assert!(
        table.contains("300 slots were found in a cgroup that the kernel does not charge"),
        "{table}"
    );
}
