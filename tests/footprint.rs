//! The memory that a table reports, wherever that memory comes from.

use swap_records::memcg::Memcgs;
#[cfg(feature = "std")]
use swap_records::{REGION_ENTRIES, SwapRecords};
use swap_records::{SwapEntry, SwapType};

#[cfg(feature = "std")]
const REGION: u64 = REGION_ENTRIES as u64;

fn ty(ty: u8) -> SwapType {
    SwapType::new(ty).unwrap()
}

/// The table in the documentation of the crate, and in README. `tests/pages.rs` checks its numbers for tables
/// without `std`.
#[test]
#[cfg(all(
    feature = "std",
    target_os = "linux",
    target_pointer_width = "64",
    not(miri)
))]
fn a_swapfile_that_is_turned_on_takes_what_the_documentation_says() {
    for (pages, resident, reserved) in [
        (1 << 18, 512, 697_360),
        (1 << 28, 8 << 10, 675_316_224),
        (1 << 31, 64 << 10, 5_402_468_864),
    ] {
        let table = SwapRecords::new();
        table.swapon(ty(0), pages).unwrap();
        let total = table.footprint().total();
        assert_eq!((total.resident, total.reserved), (resident, reserved));
    }
}

#[test]
#[cfg(feature = "std")]
fn each_size_that_a_type_had_is_reserved_until_the_table_is_dropped() {
    let table = SwapRecords::new();
    let nothing = table.footprint();
    assert_eq!((nothing.total().resident, nothing.total().reserved), (0, 0));
    let mut tables = 0;
    // Sizes are rounded up to a power of two of regions. A size that the type had before takes no more
    // memory.
    for (pages, more) in [
        (1, 1),
        (3 * REGION, 4),
        (REGION, 0),
        (4 * REGION - 1, 0),
        (5 * REGION, 8),
    ] {
        table.swapon(ty(3), pages).unwrap();
        tables += more * REGION * 2;
        let footprint = table.footprint();
        assert_eq!(footprint.table.reserved, tables, "{pages} pages");
        // A quarter of the table, for the usual number of counters.
        let counters = if cfg!(miri) { 16 } else { 4096 };
        assert_eq!(footprint.cells.reserved, tables / 2 / REGION * counters * 4);
        let parts = [
            footprint.table,
            footprint.cells,
            footprint.bitmaps,
            footprint.locks,
        ];
        for part in parts {
            assert!(
                part.reserved > 0 && part.resident <= part.reserved,
                "{footprint}"
            );
        }
        let sums = [
            parts.iter().map(|part| part.resident).sum::<u64>(),
            parts.iter().map(|part| part.reserved).sum(),
        ];
        let total = footprint.total();
        assert_eq!([total.resident, total.reserved], sums);
        table.swapoff(ty(3)).unwrap();
        assert_eq!(table.footprint().total().reserved, total.reserved);
    }
    table.swapon(ty(4), 1).unwrap();
    let on = |of| table.footprint_on(ty(of)).total().reserved;
    assert_eq!(on(3) + on(4), table.footprint().total().reserved);
    assert!(on(4) > 0 && on(5) == 0);
    assert!(table.footprint().to_string().contains("resident: table "));
}

#[test]
fn a_tree_reports_the_footprint_of_its_table() {
    let memcgs = Memcgs::new();
    memcgs.swapon(ty(0), 100).unwrap();
    memcgs.charge(memcgs.root(), 1).unwrap();
    memcgs
        .swap_out(memcgs.root(), SwapEntry::new(ty(0), 0).unwrap(), 1)
        .unwrap();
    let records = memcgs.records();
    assert_eq!(records.footprint(), records.footprint_on(ty(0)));
    assert!(records.footprint().table.resident > 0);
}
