//! Files that are not images, and images with errors. Each is refused by an error that says where it is
//! wrong.

use super::*;
use swap_records::image::Part;
use swap_records_oracle::image::{Craft, changed, put};

/// Returns the error for these bytes. All ways of reading them must give the same one.
fn error_of(bytes: &[u8]) -> ImageError {
    let read = || {
        let reader = Reader::of(bytes)?;
        let records = SwapRecords::new();
        let loaded = reader.load(&records);
        assert!(loaded.is_err() || reader.verify().is_ok());
        if loaded.is_err() {
            // All types are off, and empty when they are turned on.
            for (ty, _) in reader.types() {
                assert_eq!(records.max_pages(ty), None);
                records.swapon(ty, UNIT).unwrap();
                assert_eq!(records.runs(ty).count(), 0);
            }
            records.validate().unwrap();
        }
        loaded
    };
    let error = read().expect_err("it is wrong");
    let text = error.to_string();
    let map = Map::of(bytes).and_then(|map| map.verify());
    // Maps ignore the cgroups. Only readers check them.
    if !matches!(error, ImageError::Cgroup { .. }) {
        assert_eq!(map.expect_err("it is wrong").to_string(), text);
    }
    assert!(text.contains("offset"), "{text}");
    let told = [", expected ", ": a cgroup "];
    assert!(told.iter().any(|told| text.contains(told)), "{text}");
    error
}

/// Makes a small image that has all sections.
fn small() -> Vec<u8> {
    let memcgs = tree::family();
    let mut bytes = Vec::new();
    Writer::of_tree(&memcgs).write_to(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 7 * 4096);
    bytes
}

#[test]
fn an_image_has_the_bytes_that_the_document_describes() {
    let records = SwapRecords::new();
    records.swapon(ty(2), 70_000).unwrap();
    records.swapon(ty(5), 5000).unwrap();
    let mut ids = vec![0; 70_000];
    for (at, of) in [(0, 7), (1, 0x1234), (32_768, 9), (69_999, 65_535)] {
        records.record(entry(2, at as u64), id(of)).unwrap();
        ids[at] = of;
    }
    let craft = Craft {
        types: vec![(2, 70_000, ids), (5, 5000, Vec::new())],
        tree: Vec::new(),
    };
    assert!(bytes_of(&records) == craft.bytes());
}

#[test]
fn the_checksum_of_zeros_is_the_one_in_the_document() {
    let sum = crc32c::crc32c(&[0; 65_536]);
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/image-format.md"));
    assert!(
        page.unwrap().contains(&format!("`{sum:#010x}`")),
        "{sum:#010x}"
    );
}

#[test]
fn every_length_but_the_right_one_is_refused() {
    let bytes = small();
    for len in 0..bytes.len() {
        let error = Reader::of(&bytes[..len]).map(|_| ()).unwrap_err();
        let expected = if len < 4096 { 8192 } else { bytes.len() };
        assert!(
            matches!(error, ImageError::Length { found, expected: wanted }
                if found == len as u64 && wanted == expected as u64),
            "{len}: {error}"
        );
    }
    let mut longer = bytes.clone();
    for more in 1..5000 {
        longer.push(0);
        if !(9..4090).contains(&more) {
            let error = error_of(&longer);
            assert!(
                matches!(error, ImageError::Length { .. }),
                "{more}: {error}"
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let bytes = &small()[..];
    Reader::of(bytes).unwrap().verify().unwrap();
    let half = bytes.len() / 2;
    // An emulator would take minutes for all of them.
    let step = if few() { 97 } else { 1 };
    thread::scope(|scope| {
        for part in [0..half, half..bytes.len()] {
            scope.spawn(move || part.step_by(step).for_each(|at| flips_of(bytes, at)));
        }
    });
}

fn flips_of(bytes: &[u8], at: usize) {
    let mut bytes = bytes.to_vec();
    for bit in 0..8 {
        bytes[at] ^= 1 << bit;
        let error = Reader::of(&bytes).and_then(|reader| reader.verify());
        let error = error.expect_err("a bit is another one");
        match error {
            ImageError::Magic { .. } => assert!(at < 8),
            ImageError::Version { .. } => assert!((8..12).contains(&at)),
            ImageError::NotWhole { offset, .. } => assert_eq!(at as u64 / 8, offset / 8),
            // The bit is in the stored checksum, or in the bytes of that checksum.
            ImageError::Checksum {
                part, offset, len, ..
            } => {
                let stored = match part {
                    Part::Header => 4092..4096,
                    Part::Trailer => bytes.len() - 4..bytes.len(),
                    _ => 0..0,
                };
                let of = offset..offset + len;
                assert!(
                    of.contains(&(at as u64)) || stored.contains(&at),
                    "{at}: {error}"
                );
            }
            other => panic!("byte {at}, bit {bit}: {other}"),
        }
        bytes[at] ^= 1 << bit;
    }
}

#[test]
fn fields_with_impossible_values_are_refused() {
    let craft = Craft {
        types: vec![
            (1, 3000, vec![7; 3000]),
            (4, 40_000, vec![8, 9]),
            (6, 1, vec![3]),
        ],
        tree: Vec::new(),
    };
    let len = craft.bytes().len();
    Reader::of(&craft.bytes()).unwrap().verify().unwrap();
    type Matches = fn(&ImageError) -> bool;
    let field = |at: u64| move |error: &ImageError| matches!(error, ImageError::Field { offset, .. } if *offset == at);
    let with = |at: usize, value: &[u8]| error_of(&changed(&craft, |bytes| put(bytes, at, value)));
    let word = |at, value: u32| with(at, &value.to_le_bytes());
    let long = |at, value: u64| with(at, &value.to_le_bytes());

    assert!(matches!(with(0, b"SWAPRECT"), ImageError::Magic { found } if &found == b"SWAPRECT"));
    for version in [0, 2, u32::MAX] {
        assert!(matches!(word(8, version), ImageError::Version { found } if found == version));
    }
    // The size of a page, the size of a unit, the number of types, and each field that follows from the
    // sizes.
    for at in [12, 16] {
        for value in [0, 1, 8192, u32::MAX] {
            assert!(field(at as u64)(&word(at, value)), "{at}");
        }
    }
    for nr in [33, u32::MAX] {
        assert!(field(20)(&word(20, nr)));
    }
    // Fewer types, or more types than there are.
    assert!(matches!(word(20, 2), ImageError::Field { .. }));
    assert!(matches!(
        word(20, 4),
        ImageError::TypeOrder { offset: 160, .. }
    ));
    for at in [24, 32, 48, 56, 64 + 16, 64 + 24, 96 + 16, 96 + 24, 128 + 16] {
        for value in [3, 4095, 1 << 40, u64::MAX] {
            let error = long(at, value);
            assert!(field(at as u64)(&error), "{at}: {error}");
        }
    }
    // Reserved bytes: of a type, after the types, and in the last page.
    for at in [68, 96 + 4, 1088, 4088, len - 8] {
        let error = word(at, 1);
        assert!(field(at as u64)(&error), "{at}: {error}");
    }
    // The trailer of another image.
    for at in [8, 16] {
        let at = len - 4096 + at;
        assert!(!matches!(long(at, 99), ImageError::Checksum { .. }), "{at}");
    }
    let mut foreign = craft.bytes();
    let other = Craft::one(1, &[3]).bytes();
    foreign[len - 4096..].copy_from_slice(&other[other.len() - 4096..]);
    assert!(field(len as u64 - 4096 + 8)(&error_of(&foreign)));

    // Numbers that are not types, that occur twice, or that are out of order.
    for number in [32, 1 << 16, u32::MAX] {
        assert!(field(96)(&word(96, number)));
    }
    for number in [0, 1] {
        let is: Matches = |error| matches!(error, ImageError::TypeOrder { offset: 96, .. });
        assert!(is(&word(96, number)), "{number}");
    }
    // Sizes that no entry can address, or for which the file has too few bytes.
    for pages in [0, (1 << 50) + 1, 1 << 63, u64::MAX] {
        let error = long(64 + 8, pages);
        assert!(
            matches!(error, ImageError::MaxPages { offset: 72, found, .. } if found == pages),
            "{error}"
        );
    }
    for pages in [1, 1 << 30, 1 << 50] {
        assert!(matches!(long(64 + 8, pages), ImageError::Field { .. }));
    }
    for tree in [1, 8, 48, u64::MAX] {
        assert!(matches!(long(40, tree), ImageError::Field { .. }));
    }
}

/// If header and trailer agree, their sizes are compared with the length of the file before memory is
/// allocated.
#[test]
fn an_image_that_claims_to_be_large_is_compared_with_its_file() {
    let small = Craft::one(1, &[3]).bytes();
    for pages in [1_u64 << 20, 1 << 40, 1 << 50] {
        let bytes = changed(&Craft::one(1, &[3]), |bytes| {
            let units = pages.div_ceil(UNIT);
            let units_at = 4096 + (2 * pages).next_multiple_of(4096);
            let len = units_at + (8 * units).next_multiple_of(4096) + 4096;
            put(bytes, 24, &len.to_le_bytes());
            put(bytes, 48, &units_at.to_le_bytes());
            put(bytes, 56, &units.to_le_bytes());
            put(bytes, 72, &pages.to_le_bytes());
        });
        let error = error_of(&bytes);
        assert!(
            matches!(error, ImageError::Length { found, .. } if found == small.len() as u64),
            "{error}"
        );
    }
}

#[test]
fn ids_behind_the_last_page_and_wrong_numbers_of_records_are_refused() {
    // The checksums fit, as those of a program with an error would.
    let past = |at: usize| {
        let mut ids = vec![7; at + 1];
        ids[at] = 9;
        error_of(&Craft::one(100, &ids).bytes())
    };
    for at in [100, 101, 2047] {
        let offset = 4096 + 2 * at as u64;
        let error = past(at);
        let found = if at == 100 { 9 } else { 7 };
        let offset = if at == 100 { offset } else { 4096 + 200 };
        assert!(
            matches!(error, ImageError::PastEnd { offset: o, ty: of, found: f }
                if o == offset && of == ty(5) && f == found),
            "{error}"
        );
    }
    let with_records = |records: u32, sum: u64| {
        let craft = Craft::one(100, &[7; 50]);
        let bytes = craft.bytes();
        let units = bytes.len() - 2 * 4096;
        error_of(&changed(&craft, |bytes| {
            put(bytes, units + 4, &records.to_le_bytes());
            let units_sum = crc32c::crc32c(&bytes[units..units + 4096]);
            let end = units + 4096;
            put(bytes, end + 16, &sum.to_le_bytes());
            put(bytes, end + 28, &units_sum.to_le_bytes());
        }))
    };
    for (records, sum, at) in [
        (49, 49, 4096),
        (51, 51, 4096),
        (0, 0, 4096),
        (101, 101, 4096),
        (u32::MAX, u64::from(u32::MAX), 4096),
        (50, 51, 4096 * 3 + 16),
    ] {
        let error = with_records(records, sum);
        assert!(
            matches!(error, ImageError::Records { offset, .. } if offset == at),
            "{records}, {sum}: {error}"
        );
    }
}

#[test]
fn bytes_that_fill_a_page_up_are_zeros() {
    let craft = Craft::one(100, &[7; 50]);
    let units = craft.bytes().len() - 2 * PAGE;
    for at in [8, 4095] {
        let error = error_of(&changed(&craft, |bytes| {
            bytes[units + at] = 3;
            let sum = crc32c::crc32c(&bytes[units..units + PAGE]);
            put(bytes, units + PAGE + 28, &sum.to_le_bytes());
        }));
        assert!(
            matches!(error, ImageError::Field { offset, found: 3, expected: 0, .. }
                if offset == (units + at) as u64),
            "{error}"
        );
    }
}

#[test]
fn an_odd_address_is_refused_by_a_map_alone() {
    let image = Craft::one(100, &[7; 50]).bytes();
    let mut room = vec![0; image.len() + 1];
    let odd = usize::from(room.as_ptr().addr().is_multiple_of(2));
    let room = &mut room[odd..][..image.len()];
    room.copy_from_slice(&image);
    assert!(matches!(Map::of(room), Err(ImageError::Misaligned)));
    assert_eq!(Reader::of(room).unwrap().table().unwrap().count(id(7)), 50);
}

/// On several threads, a unit near the end is wrong. The units that were read before must be gone again.
#[test]
fn after_an_error_nothing_is_on_whatever_was_read_before_it() {
    let folder = Folder::new("wrong");
    let records = SwapRecords::new();
    for of in [0, 7] {
        records.swapon(ty(of), 200 * UNIT).unwrap();
        records
            .record_range(entry(of, 0), 200 * UNIT, id(3))
            .unwrap();
    }
    image::write(&records, folder.path()).unwrap();
    let bytes = fs::read(folder.path()).unwrap();
    for unit in [0, 1, 63, 64, 199, 200, 399] {
        let mut wrong = bytes.clone();
        wrong[4096 + unit * 65_536 + 77] ^= 4;
        let path = folder.path().with_extension("wrong");
        fs::write(&path, &wrong).unwrap();
        for threads in [1, 2, 7] {
            let table = SwapRecords::new();
            let reader = Reader::open(&path).unwrap().threads(threads);
            let error = reader.load(&table).unwrap_err();
            let at = 4096 + unit as u64 * 65_536;
            assert!(
                matches!(error, ImageError::Checksum { part: Part::Ids(_), offset, .. } if offset == at),
                "{error}"
            );
            assert!(sizes(&table).iter().all(Option::is_none));
            for of in [0, 7] {
                table.swapon(ty(of), 200 * UNIT).unwrap();
            }
            table.validate().unwrap();
            assert_eq!(runs(&table), []);
        }
    }
}

/// A tree with one child. The root is valid, and the child has an error.
#[test]
fn impossible_cgroups_are_refused() {
    #[derive(Clone, Copy)]
    struct Cgroup {
        id: u16,
        parent: u16,
        flags: u32,
        own: u64,
        limits: [u64; 3],
    }
    const NO: u64 = u64::MAX;
    let root = Cgroup {
        id: 1,
        parent: 0,
        flags: 0,
        own: 0,
        limits: [NO; 3],
    };
    let child = Cgroup {
        id: 9,
        parent: 1,
        ..root
    };
    let section = |all: &[Cgroup]| {
        let mut tree = (all.len() as u64).to_le_bytes().to_vec();
        for of in all {
            tree.extend(of.id.to_le_bytes());
            tree.extend(of.parent.to_le_bytes());
            tree.extend(of.flags.to_le_bytes());
            for number in [of.own].iter().chain(&of.limits) {
                tree.extend(number.to_le_bytes());
            }
        }
        tree
    };
    let of = |all: &[Cgroup]| Craft {
        tree: section(all),
        ..Craft::default()
    };
    let fine = of(&[root, child]).bytes();
    let tree = Reader::of(&fine)
        .unwrap()
        .tree::<parking_lot::RawMutex>()
        .unwrap();
    assert!(tree.memcgs.find(id(9)).is_some() && tree.raised.is_empty());
    let offline = Cgroup { flags: 1, ..child };
    let below = Cgroup {
        id: 4,
        parent: 9,
        ..root
    };
    let limits = |limits| Cgroup { limits, ..child };
    for (what, all, at) in [
        ("no root", vec![child], 8),
        (
            "a root that has a parent",
            vec![Cgroup { parent: 9, ..root }],
            8,
        ),
        (
            "a root that is offline",
            vec![Cgroup { flags: 1, ..root }],
            8,
        ),
        (
            "a root that has a limit",
            vec![Cgroup {
                limits: [NO, NO, 3],
                ..root
            }],
            8,
        ),
        ("the root again", vec![root, root], 48),
        ("no parent", vec![root, Cgroup { parent: 0, ..child }], 48),
        ("the id 0", vec![root, Cgroup { id: 0, ..child }], 48),
        (
            "its own parent",
            vec![root, Cgroup { parent: 9, ..child }],
            50,
        ),
        ("a parent that comes later", vec![root, below, child], 50),
        ("an id that comes again", vec![root, child, child], 88),
        (
            "a state that is none",
            vec![root, Cgroup { flags: 2, ..child }],
            52,
        ),
        (
            "online below one that is offline",
            vec![root, offline, below],
            92,
        ),
        (
            "more memory than memory and swap",
            vec![root, limits([4, 3, NO])],
            64,
        ),
        (
            "memory without a limit, and with swap one",
            vec![root, limits([NO, 3, NO])],
            64,
        ),
    ] {
        let error = error_of(&of(&all).bytes());
        // The tree is the first section.
        assert!(
            matches!(error, ImageError::Cgroup { offset, .. } if offset == 4096 + at),
            "{what}: {error}"
        );
    }
    // Reserved bytes, and a number of cgroups that differs from the number that follow.
    let with = |at: usize, byte| {
        let mut craft = of(&[root, child]);
        craft.tree[at] = byte;
        Reader::of(&craft.bytes()).map(|_| ()).unwrap_err()
    };
    assert!(matches!(
        with(4, 1),
        ImageError::Cgroup { offset: 4100, .. }
    ));
    for nr in [0, 1, 3, 255] {
        assert!(matches!(
            with(0, nr),
            ImageError::Field { offset: 4096, .. }
        ));
    }
    // More pages than a counter can count.
    let many = Cgroup {
        own: NO - 1,
        ..child
    };
    let craft = of(&[root, many, Cgroup { own: 2, ..below }]);
    let error = Reader::of(&craft.bytes())
        .unwrap()
        .tree::<parking_lot::RawMutex>();
    assert!(matches!(error, Err(ImageError::Memcg(_))));
}
