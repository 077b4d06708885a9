//! Images without a table: units are read, owners are counted, and ids from a function are written.

use super::*;
use swap_records::image::{IdsWriter, Tally};

/// Returns all ids of the image per type, read unit by unit from the last one to the first.
fn ids_of(reader: &Reader<'_>) -> Vec<(SwapType, Vec<u16>)> {
    let mut all: Vec<_> = reader
        .types()
        .map(|(ty, pages)| (ty, vec![0; usize::try_from(pages).unwrap()]))
        .collect();
    let mut buffer = Vec::new();
    let units: Vec<_> = reader.units().collect();
    for unit in units.into_iter().rev() {
        let ids = reader.read_ids(unit, &mut buffer).unwrap();
        assert_eq!(ids.is_empty(), unit.records == 0);
        assert!(ids.is_empty() || ids.len() as u64 == unit.len);
        let records = ids.iter().filter(|&&id| id != 0).count();
        assert_eq!(records as u64, unit.records);
        let of = unit.start.swap_type();
        let (_, to) = all.iter_mut().find(|(ty, _)| *ty == of).unwrap();
        let at = usize::try_from(unit.start.offset()).unwrap();
        to[at..at + ids.len()].copy_from_slice(ids);
    }
    all
}

#[test]
fn units_have_each_slot_once_and_their_ids_are_those_of_the_table() {
    for (name, records) in tables() {
        let bytes = bytes_of(&records);
        let reader = Reader::of(&bytes).unwrap();
        for (ty, ids) in ids_of(&reader) {
            for (offset, &found) in (0..).zip(&ids) {
                let expected = records.lookup(SwapEntry::new(ty, offset).unwrap());
                assert_eq!(MemcgId::new(found), expected, "{name} {ty}:{offset}");
            }
        }
        let slots: u64 = reader.units().map(|unit| unit.len).sum();
        let pages: u64 = reader.types().map(|(_, pages)| pages).sum();
        assert_eq!(slots, pages, "{name}");
    }
}

#[test]
fn a_tally_of_all_units_has_the_owners_of_the_table() {
    for (name, records) in tables() {
        let bytes = bytes_of(&records);
        let reader = Reader::of(&bytes).unwrap();
        let (mut tally, mut buffer) = (Tally::new().unwrap(), Vec::new());
        for unit in reader.units() {
            tally.add(reader.read_ids(unit, &mut buffer).unwrap());
        }
        assert!(tally.owners().eq(records.owners()), "{name}");
        assert!(
            tally.owners().eq(Map::of(&bytes).unwrap().owners()),
            "{name}"
        );
    }
}

#[test]
fn ids_that_are_written_make_the_image_of_the_table_that_has_them() {
    let folder = Folder::new("ids");
    for (name, records) in tables() {
        let expected = bytes_of(&records);
        let fill = |start: SwapEntry, ids: &mut [u16]| {
            assert!(ids.iter().all(|&id| id == 0));
            for (offset, id) in (start.offset()..).zip(ids) {
                let entry = SwapEntry::new(start.swap_type(), offset).unwrap();
                *id = records.lookup(entry).map_or(0, MemcgId::get);
            }
            Ok(())
        };
        // In any order.
        let sizes: Vec<_> = types()
            .filter_map(|ty| Some((ty, records.max_pages(ty)?)))
            .collect();
        let writer = IdsWriter::new(sizes.into_iter().rev()).unwrap();
        let mut stream = Vec::new();
        let written = writer.write_to(&mut stream, fill).unwrap();
        assert!(stream == expected, "{name}, a stream");
        assert_eq!(written.len, expected.len() as u64);
        assert_eq!(written.records, Reader::of(&expected).unwrap().records());
        for threads in [0, 1, 3] {
            let threads = writer.clone().threads(threads);
            assert_eq!(threads.write(folder.path(), fill).unwrap(), written);
            assert!(fs::read(folder.path()).unwrap() == expected, "{name}");
        }
    }
}

#[test]
fn an_image_like_another_one_has_its_types_and_its_tree() {
    let memcgs = tree::family();
    let mut bytes = Vec::new();
    Writer::of_tree(&memcgs).write_to(&mut bytes).unwrap();
    let reader = Reader::of(&bytes).unwrap();
    let copy = |start: SwapEntry, to: &mut [u16]| {
        let unit = reader.unit_of(start).unwrap();
        let mut buffer = Vec::new();
        let ids = reader.read_ids(unit, &mut buffer)?;
        to[..ids.len()].copy_from_slice(ids);
        Ok(())
    };
    let folder = Folder::new("like");
    let writer = IdsWriter::like(&reader).threads(2);
    writer.write(folder.path(), copy).unwrap();
    assert!(fs::read(folder.path()).unwrap() == bytes);
    let mut stream = Vec::new();
    writer.write_to(&mut stream, copy).unwrap();
    assert!(stream == bytes);
    assert!(reader.same_tree(&Reader::open(folder.path()).unwrap()));
    let without = bytes_of(&memcgs.into_records());
    assert!(!reader.same_tree(&Reader::of(&without).unwrap()));
}

#[test]
fn the_unit_of_a_slot_is_the_one_that_has_it() {
    let writer = IdsWriter::new([(ty(2), 5), (ty(9), 2 * UNIT + 1)]).unwrap();
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes, |_, _| Ok(())).unwrap();
    let reader = Reader::of(&bytes).unwrap();
    for unit in reader.units() {
        for slot in [unit.start.offset(), unit.start.offset() + unit.len - 1] {
            let entry = SwapEntry::new(unit.start.swap_type(), slot).unwrap();
            assert_eq!(reader.unit_of(entry), Some(unit));
        }
    }
    for outside in [entry(2, 5), entry(9, 2 * UNIT + 1), entry(3, 0)] {
        assert_eq!(reader.unit_of(outside), None);
    }
}

#[test]
fn an_error_of_the_function_leaves_the_old_image() {
    let folder = Folder::new("ids-error");
    fs::write(folder.path(), "old").unwrap();
    let writer = IdsWriter::new([(ty(0), 20 * UNIT)]).unwrap();
    for threads in [1, 3] {
        let writer = writer.clone().threads(threads);
        let error = writer.write(folder.path(), |start, ids| {
            ids.fill(1);
            if start.offset() == 5 * UNIT {
                return Err(ImageError::NoTree);
            }
            Ok(())
        });
        assert!(matches!(error, Err(ImageError::NoTree)));
        assert_eq!(fs::read(folder.path()).unwrap(), b"old");
        assert_eq!(folder.names(), ["records.image"]);
    }
}

#[test]
fn pages_without_a_record_are_holes_of_a_file_that_is_written_by_ids() {
    let folder = Folder::new("ids-holes");
    let writer = IdsWriter::new([(ty(0), 1 << 24)]).unwrap().threads(2);
    let one = |start: SwapEntry, ids: &mut [u16]| {
        if start.offset() == 100 * UNIT {
            ids[5000] = 7;
        }
        Ok(())
    };
    let written = writer.write(folder.path(), one).unwrap();
    assert_eq!(written.records, 1);
    let blocks = fs::metadata(folder.path()).unwrap().blocks();
    assert!(blocks * 512 < 64 << 10, "{blocks} blocks of {written:?}");
    let reader = Reader::open(folder.path()).unwrap();
    let (_, ids) = &ids_of(&reader)[0];
    let at = ids.iter().position(|&id| id != 0);
    assert_eq!(
        at.map(|at| (at as u64, ids[at])),
        Some((100 * UNIT + 5000, 7))
    );
}

#[test]
fn impossible_types_are_refused_before_anything_is_written() {
    let refused = |types: &[(SwapType, u64)]| match IdsWriter::new(types.iter().copied()) {
        Err(ImageError::Swapon(error)) => error,
        other => panic!("{other:?}"),
    };
    let error = refused(&[(ty(3), 1), (ty(1), 1), (ty(3), 2)]);
    assert!(matches!(error, SwaponError::TypeOn { ty: of } if of == ty(3)));
    let error = refused(&[(ty(3), 0)]);
    assert!(matches!(error, SwaponError::NoPages { .. }));
    let error = refused(&[(ty(3), SwapEntry::MAX_OFFSET + 2)]);
    assert!(matches!(error, SwaponError::TooLarge { .. }));
    assert!(IdsWriter::new([(ty(3), SwapEntry::MAX_OFFSET + 1)]).is_ok());
}

#[test]
fn a_unit_that_changed_is_refused_when_it_is_read_and_the_others_are_read() {
    let records = SwapRecords::new();
    records.swapon(ty(0), 3 * UNIT).unwrap();
    records.record_range(entry(0, 0), 3 * UNIT, id(7)).unwrap();
    let mut bytes = bytes_of(&records);
    bytes[PAGE + 65_536 + 10] ^= 4;
    let reader = Reader::of(&bytes).unwrap();
    let mut buffer = Vec::new();
    let wrong: Vec<u64> = reader
        .units()
        .filter(|unit| reader.read_ids(*unit, &mut buffer).is_err())
        .map(|unit| unit.offset)
        .collect();
    assert_eq!(wrong, [PAGE as u64 + 65_536]);
}
