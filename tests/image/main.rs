//! Images can be read back: from files, streams and bytes, as tables and as maps.

mod bad;
mod concurrent;
mod crash;
mod hostile;
mod ids;
mod tree;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use swap_records::image::{self, ImageError, Map, Reader, Writer};
use swap_records::lock::parking_lot;
use swap_records::{EntryError, MemcgId, Run, SwapEntry, SwapRecords, SwapType, SwaponError};
use swap_records_sim::{Family, Map as Synthetic};

const UNIT: u64 = 32_768;
const PAGE: usize = 4096;

/// Returns whether to try fewer cases: in an emulator.
fn few() -> bool {
    std::env::var_os("SWAP_RECORDS_FEW_CASES").is_some()
}

fn ty(ty: u8) -> SwapType {
    SwapType::new(ty).unwrap()
}

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(of: u8, offset: u64) -> SwapEntry {
    SwapEntry::new(ty(of), offset).unwrap()
}

/// A directory that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("swap-records-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("records.image")
    }

    /// Returns the names of the files in it.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = names.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends the other threads when it is dropped, also if an assertion fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn types() -> impl Iterator<Item = SwapType> {
    SwapType::all()
}

fn runs(records: &SwapRecords) -> Vec<Run> {
    types().flat_map(|ty| records.runs(ty)).collect()
}

fn sizes(records: &SwapRecords) -> Vec<Option<u64>> {
    types().map(|ty| records.max_pages(ty)).collect()
}

fn bytes_of(records: &SwapRecords) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = image::write_to(records, &mut bytes).unwrap();
    assert_eq!(written.len, bytes.len() as u64);
    assert_eq!(
        written.records,
        runs(records).iter().map(|run| run.len).sum()
    );
    bytes
}

/// Reads these bytes, which must be valid, into a table on some threads.
fn table_of(bytes: &[u8], threads: usize) -> SwapRecords {
    let table = Reader::of(bytes).unwrap().threads(threads).table().unwrap();
    table.validate().unwrap();
    table
}

/// Returns tables of all shapes.
fn tables() -> Vec<(&'static str, SwapRecords)> {
    let made = |make: &dyn Fn(&SwapRecords)| {
        let records = SwapRecords::new();
        make(&records);
        records
    };
    let on = |records: &SwapRecords, of, pages| records.swapon(ty(of), pages).unwrap();
    let fill = |records: &SwapRecords, of, family, pages| {
        Synthetic::new(family, pages, 7).fill(
            1,
            |start, len, owner| {
                records
                    .record_range(entry(of, start), len, id(owner))
                    .unwrap();
            },
            |_| (),
        );
    };
    vec![
        ("nothing on", made(&|_| ())),
        ("one slot, no record", made(&|records| on(records, 0, 1))),
        (
            "one slot, one record",
            made(&|records| {
                on(records, 31, 1);
                records.record(entry(31, 0), MemcgId::MAX).unwrap();
            }),
        ),
        (
            "the first and the last slot of some types",
            made(&|records| {
                for (of, pages) in [
                    (0, 2048),
                    (3, 2049),
                    (4, UNIT),
                    (30, UNIT + 1),
                    (31, 3 * UNIT - 1),
                ] {
                    on(records, of, pages);
                    records.record(entry(of, 0), id(5)).unwrap();
                    records.record(entry(of, pages - 1), id(4096 + 5)).unwrap();
                }
            }),
        ),
        (
            "a record each million slots",
            made(&|records| {
                on(records, 2, 1 << 23);
                for at in 0..8 {
                    records.record(entry(2, at << 20 | 77), id(9)).unwrap();
                }
            }),
        ),
        (
            "interleaved",
            made(&|records| {
                on(records, 1, 5 * UNIT + 100);
                fill(records, 1, Family::Interleaved(150), 5 * UNIT + 100);
            }),
        ),
        (
            "long runs, over the borders of units and of words of regions",
            made(&|records| {
                on(records, 7, 70 * UNIT);
                let long = entry(7, 2 * UNIT - 3);
                records.record_range(long, 60 * UNIT, id(1000)).unwrap();
                records
                    .record_range(entry(7, 64 * UNIT - 9), 2 * UNIT, id(3))
                    .unwrap();
            }),
        ),
    ]
}

#[test]
fn an_image_restores_the_table_with_its_index() {
    for (what, records) in tables() {
        let bytes = bytes_of(&records);
        assert!(bytes.len().is_multiple_of(PAGE), "{what}");
        for threads in [0, 1, 2, 5] {
            let again = table_of(&bytes, threads);
            assert_eq!(sizes(&again), sizes(&records), "{what}");
            assert!(runs(&again) == runs(&records), "{what}, {threads} threads");
        }
        // It can be used like any other table.
        let again = table_of(&bytes, 1);
        for (of, pages) in types().filter_map(|of| Some((of, again.max_pages(of)?))) {
            assert!(
                again.count_upper_bound(id(5)) >= again.count(id(5)),
                "{what}"
            );
            let moved = again.count(id(5));
            assert_eq!(again.migrate(id(5), id(6)), moved, "{what}");
            let last = SwapEntry::new(of, pages - 1).unwrap();
            again.record(last, id(77)).unwrap();
            again.validate().unwrap();
            again.swapoff(of).unwrap();
        }
    }
}

#[test]
fn a_file_has_the_bytes_of_the_stream_and_holes_for_what_is_empty() {
    let folder = Folder::new("file");
    for (what, records) in tables() {
        let bytes = bytes_of(&records);
        let written = image::write(&records, folder.path()).unwrap();
        assert_eq!(written.len, bytes.len() as u64);
        assert!(fs::read(folder.path()).unwrap() == bytes, "{what}");
        assert_eq!(folder.names(), ["records.image"], "{what}");
        let again = image::read(folder.path()).unwrap();
        assert!(runs(&again) == runs(&records), "{what}");
        if what == "a record each million slots" {
            // 16 MiB, in which eight pages of ids are not empty.
            let blocks = File::open(folder.path())
                .unwrap()
                .metadata()
                .unwrap()
                .blocks();
            assert!(blocks * 512 <= 32 * PAGE as u64, "{blocks} blocks");
        }
    }
}

#[test]
fn a_map_answers_what_the_table_does() {
    let folder = Folder::new("map");
    for (what, records) in tables() {
        image::write(&records, folder.path()).unwrap();
        // SAFETY: no other code knows this file, and only `image::write` writes to it.
        let mapped = unsafe { Map::open(folder.path()) }.unwrap();
        let bytes = bytes_of(&records);
        for map in [&mapped, &Map::of(&bytes).unwrap()] {
            map.verify().unwrap();
            let on = |of| Some((of, records.max_pages(of)?));
            assert!(map.types().eq(types().filter_map(on)), "{what}");
            let expected = runs(&records);
            assert_eq!(
                map.records(),
                expected.iter().map(|run| run.len).sum::<u64>()
            );
            assert!(
                types()
                    .flat_map(|ty| map.runs(ty))
                    .eq(expected.iter().copied()),
                "{what}"
            );
            let ids = [1, 2, 3, 5, 6, 9, 77, 149, 150, 1000, 4096, 4101, 65535].map(id);
            for id in ids {
                assert_eq!(map.count(id), records.count(id), "{what}, id {id}");
                assert!(map.runs_of(id).eq(records.runs_of(id)), "{what}, id {id}");
            }
            let mut owners = std::collections::BTreeMap::new();
            for run in &expected {
                *owners.entry(run.id).or_insert(0) += run.len;
            }
            assert!(map.owners().eq(owners), "{what}");
            for of in types() {
                let mut owners = std::collections::BTreeMap::new();
                for run in records.runs(of) {
                    *owners.entry(run.id).or_insert(0) += run.len;
                }
                assert!(map.owners_on(of).eq(owners), "{what}, type {of}");
            }
            for run in &expected {
                let end = run.start.checked_add(run.len).unwrap();
                for entry in [run.start, end] {
                    assert_eq!(map.lookup(entry), records.lookup(entry), "{what}, {entry}");
                }
            }
            for of in 0..32 {
                for offset in [0, SwapEntry::MAX_OFFSET] {
                    let entry = entry(of, offset);
                    assert_eq!(map.lookup(entry), records.lookup(entry), "{what}, {entry}");
                }
            }
        }
    }
}

/// A map keeps the image that it was opened with.
#[test]
fn a_map_and_a_reader_keep_an_image_that_is_replaced() {
    let folder = Folder::new("replaced");
    let records = SwapRecords::new();
    records.swapon(ty(0), 100).unwrap();
    records.record(entry(0, 3), id(7)).unwrap();
    image::write(&records, folder.path()).unwrap();
    // SAFETY: no other code knows this file, and only `image::write` writes to it.
    let map = unsafe { Map::open(folder.path()) }.unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    records.record(entry(0, 3), id(8)).unwrap();
    image::write(&records, folder.path()).unwrap();
    assert_eq!(map.lookup(entry(0, 3)), Some(id(7)));
    map.verify().unwrap();
    assert_eq!(reader.table().unwrap().lookup(entry(0, 3)), Some(id(7)));
    assert_eq!(
        image::read(folder.path()).unwrap().lookup(entry(0, 3)),
        Some(id(8))
    );
}

/// A hole is zeros, so it is not read. But its checksum may be that of other bytes.
#[test]
fn holes_are_skipped_but_their_checksums_are_compared() {
    let folder = Folder::new("holes");
    let records = SwapRecords::new();
    records.swapon(ty(2), 5 * UNIT + 9).unwrap();
    records.record(entry(2, 2 * UNIT + 70), id(9)).unwrap();
    image::write(&records, folder.path()).unwrap();
    let reader = || Reader::open(folder.path()).unwrap();
    reader().verify().unwrap();
    assert!(runs(&reader().table().unwrap()) == runs(&records));
    // Changes the record of a unit, or writes into a hole.
    let file = File::options().write(true).open(folder.path()).unwrap();
    let at = |unit: u64| PAGE as u64 + unit * 2 * UNIT;
    for (unit, offset) in [(2, 140), (3, 7777), (0, 0), (5, 8)] {
        let old = fs::read(folder.path()).unwrap();
        let byte = usize::try_from(at(unit) + offset).unwrap();
        let other = [old[byte] ^ 9];
        file.write_all_at(&other, at(unit) + offset).unwrap();
        let error = reader().verify().unwrap_err();
        assert!(
            matches!(error, ImageError::Checksum { offset, .. } if offset == at(unit)),
            "{error}"
        );
        assert!(reader().table().is_err());
        file.write_all_at(&[old[byte]], at(unit) + offset).unwrap();
    }
    reader().verify().unwrap();
    // Now the whole unit is a hole, but its checksum is that of its previous bytes.
    let whole = fs::read(folder.path()).unwrap();
    let copy = File::create(folder.path()).unwrap();
    let (start, end) = (at(2), at(3));
    for page in (0..whole.len()).step_by(PAGE) {
        let bytes = &whole[page..page + PAGE];
        if !(start..end).contains(&(page as u64)) && bytes.iter().any(|&byte| byte != 0) {
            copy.write_all_at(bytes, page as u64).unwrap();
        }
    }
    let error = reader().verify().unwrap_err();
    assert!(
        matches!(error, ImageError::Checksum { offset, .. } if offset == start),
        "{error}"
    );
}

#[test]
fn the_chosen_types_are_written_if_they_are_on() {
    let records = SwapRecords::new();
    for of in [1, 5, 9] {
        records.swapon(ty(of), 10 + u64::from(of)).unwrap();
        records.record(entry(of, 2), id(3)).unwrap();
    }
    let mut bytes = Vec::new();
    let written = Writer::new(&records)
        .types([ty(9), ty(1), ty(2)])
        .write_to(&mut bytes)
        .unwrap();
    assert_eq!(written.records, 2);
    let reader = Reader::of(&bytes).unwrap();
    assert!(reader.types().eq([(ty(1), 11), (ty(9), 19)]));
    assert_eq!((reader.records(), reader.has_tree()), (2, false));
    reader.verify().unwrap();
    // Other types may be on.
    let other = SwapRecords::<parking_lot::RawMutex>::with_raw_mutex();
    other.swapon(ty(5), 1).unwrap();
    reader.load(&other).unwrap();
    other.validate().unwrap();
    let sizes = [1, 5, 9].map(|of| other.max_pages(ty(of)));
    assert_eq!(sizes, [Some(11), Some(1), Some(19)]);
    assert_eq!(other.count(id(3)), 2);
    assert!(matches!(
        reader.tree::<parking_lot::RawMutex>(),
        Err(ImageError::NoTree)
    ));
}

#[test]
fn if_one_of_the_types_is_on_nothing_changes() {
    let records = SwapRecords::new();
    for of in [1, 5, 9] {
        records.swapon(ty(of), 10).unwrap();
        records.record(entry(of, 2), id(3)).unwrap();
    }
    let bytes = bytes_of(&records);
    let other = SwapRecords::new();
    other.swapon(ty(5), 77).unwrap();
    other.record(entry(5, 2), id(4)).unwrap();
    let error = Reader::of(&bytes).unwrap().load(&other).unwrap_err();
    let on = SwaponError::TypeOn { ty: ty(5) };
    assert!(
        matches!(error, ImageError::Swapon(error) if error == on),
        "{error}"
    );
    assert!(runs(&other).iter().map(|run| run.start).eq([entry(5, 2)]));
    assert_eq!(sizes(&other).iter().flatten().count(), 1);
    // The other types are off, and not starting.
    other.swapoff(ty(5)).unwrap();
    Reader::of(&bytes).unwrap().load(&other).unwrap();
    assert!(runs(&other) == runs(&records));
}

/// The image is read into an area that had a swapfile before.
#[test]
fn an_image_is_read_into_a_table_that_was_in_use() {
    let records = SwapRecords::new();
    records.swapon(ty(0), 3 * UNIT).unwrap();
    records.record_range(entry(0, 1000), UNIT, id(3)).unwrap();
    let bytes = bytes_of(&records);
    for other in 4..9 {
        records
            .record_range(entry(0, 0), 3 * UNIT, id(other))
            .unwrap();
        records.swapoff(ty(0)).unwrap();
        Reader::of(&bytes)
            .unwrap()
            .threads(2)
            .load(&records)
            .unwrap();
        records.validate().unwrap();
        let start = entry(0, 1000);
        let len = UNIT;
        assert!(records.runs(ty(0)).eq([Run {
            start,
            len,
            id: id(3)
        }]));
    }
}

#[test]
fn a_missing_path_is_named() {
    let records = SwapRecords::new();
    let path = Path::new("/there/is/no/such/folder/image");
    let text = |error: ImageError| {
        assert!(std::error::Error::source(&error).is_some());
        error.to_string()
    };
    // SAFETY: there is no file.
    let mapped = unsafe { Map::open(path) };
    for (error, begins) in [
        (
            image::write(&records, path).unwrap_err(),
            "cannot create the file for the new image, /there/is",
        ),
        (
            image::read(path).unwrap_err(),
            "cannot open the image /there/is/no/such/folder/image: ",
        ),
        (
            image::read_into(&records, path).unwrap_err(),
            "cannot open the image",
        ),
        (mapped.unwrap_err(), "cannot open the image"),
        (
            image::read("/tmp").unwrap_err(),
            "cannot read the image /tmp: ",
        ),
    ] {
        let text = text(error);
        assert!(text.starts_with(begins), "{text}");
    }
}
