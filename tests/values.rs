//! The small types: how they are printed, converted and iterated.

use std::num::NonZeroU16;

use swap_records::{Backend, MAX_SWAPFILES, MemcgId, Run, SwapEntry, SwapRecords, SwapType};

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(ty: u8, offset: u64) -> SwapEntry {
    SwapEntry::new(SwapType::new(ty).unwrap(), offset).unwrap()
}

#[test]
fn an_id_is_its_number_in_every_form() {
    for number in [1, 77, 65535] {
        let id = id(number);
        assert_eq!(
            format!("{id} {id:?}"),
            format!("{number} MemcgId({number})")
        );
        let non_zero = NonZeroU16::new(number).unwrap();
        assert_eq!(MemcgId::from(non_zero), id);
        assert_eq!(NonZeroU16::from(id), non_zero);
        assert_eq!(u16::from(id), number);
    }
    assert_eq!((MemcgId::MIN, MemcgId::MAX), (id(1), id(65535)));
}

#[test]
fn an_entry_is_written_as_type_and_offset() {
    let entry = entry(31, 4096);
    assert_eq!(format!("{entry} {entry:?}"), "31:4096 SwapEntry(31:4096)");
    assert_eq!(format!("{:>3}", SwapType::new(7).unwrap()), "  7");
}

#[test]
fn a_type_is_below_the_limit() {
    assert_eq!(MAX_SWAPFILES, 32);
    assert_eq!(SwapType::new(31).map(SwapType::get), Some(31));
    assert_eq!((SwapType::new(32), SwapType::new(255)), (None, None));
}

#[test]
fn runs_are_a_slice_and_an_iterator_that_knows_its_length() {
    let table = SwapRecords::new();
    table.swapon(SwapType::new(0).unwrap(), 100).unwrap();
    for at in 0..6 {
        table.record(entry(0, 10 * at), id(1)).unwrap();
    }
    let runs = table.clear_range(entry(0, 0), 100).unwrap();
    let expected: Vec<_> = (0..6)
        .map(|at| Run {
            start: entry(0, 10 * at),
            len: 1,
            id: id(1),
        })
        .collect();
    assert_eq!(format!("{runs:?}"), format!("{expected:?}"));
    assert!((&runs).into_iter().eq(&expected));
    let mut by_value = runs.into_iter();
    assert_eq!((by_value.len(), by_value.next()), (6, Some(expected[0])));
    assert_eq!((by_value.len(), by_value.size_hint()), (5, (5, Some(5))));
    assert!(by_value.eq(expected[1..].iter().copied()));
}

#[test]
fn a_table_prints_which_types_are_on() {
    let table = <SwapRecords>::default();
    assert_eq!(format!("{table:?}"), "{}");
    table.swapon(SwapType::new(3).unwrap(), 17).unwrap();
    assert_eq!(format!("{table:?}"), "{3: 17 pages}");
}

#[test]
fn a_migration_prints_its_progress() {
    let table = SwapRecords::new();
    table.swapon(SwapType::new(0).unwrap(), 100).unwrap();
    table.record(entry(0, 5), id(2)).unwrap();
    let mut migration = table.migration(id(2), id(3));
    let before = format!("{migration:?}");
    assert!(before.contains("old: MemcgId(2), new: MemcgId(3)") && before.contains("done: false"));
    assert!(matches!(
        migration.step(u64::MAX),
        swap_records::Step::Done(_)
    ));
    let after = format!("{migration:?}");
    assert!(
        after.contains("moved: 1") && after.contains("done: true"),
        "{after}"
    );
}

#[test]
fn a_table_uses_the_backend_that_it_is_given_or_a_portable_one() {
    for &backend in Backend::ALL {
        let used = SwapRecords::new().with_backend(backend).backend();
        let expected = if backend.is_available() {
            backend
        } else if Backend::Wide.is_available() {
            Backend::Wide
        } else {
            Backend::Words
        };
        assert_eq!(used, expected);
    }
    assert_eq!(SwapRecords::new().backend(), Backend::detect());
    assert_eq!(format!("{:>10}", Backend::Avx512), "  avx512bw");
}
