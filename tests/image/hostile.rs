//! Files of other programs: images that claim to be larger than their contents, and files in the place where
//! an image is written.

use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::process::Command;

use super::*;
use swap_records_oracle::image::{put, seal};

/// Writes a file with the header and trailer of an image of so many pages. The rest is a hole.
fn sparse(path: &Path, pages: u64, with_sum: bool) {
    let units = pages.div_ceil(UNIT);
    let units_at = 4096 + (pages * 2).next_multiple_of(4096);
    let table = (units * 8).next_multiple_of(4096);
    let len = units_at + table + 4096;
    let mut header = vec![0; PAGE];
    put(&mut header, 0, b"SWAPRECS");
    for (at, field) in [(8, 1_u32), (12, 4096), (16, 32_768), (20, 1)] {
        put(&mut header, at, &field.to_le_bytes());
    }
    for (at, field) in [
        (24, len),
        (48, units_at),
        (56, units),
        (72, pages),
        (80, 4096),
    ] {
        put(&mut header, at, &field.to_le_bytes());
    }
    seal(&mut header);
    let mut trailer = vec![0; PAGE];
    put(&mut trailer, 0, b"SRECSEND");
    put(&mut trailer, 8, &len.to_le_bytes());
    put(&mut trailer, 24, &header[PAGE - 4..]);
    if with_sum {
        let zeros = [0; PAGE];
        let sum = (0..table / 4096).fold(0, |sum, _| crc32c::crc32c_append(sum, &zeros));
        put(&mut trailer, 28, &sum.to_le_bytes());
    }
    seal(&mut trailer);
    let file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    file.write_all_at(&header, 0).unwrap();
    file.write_all_at(&trailer, len - 4096).unwrap();
}

const PATH: &str = "SWAP_RECORDS_SPARSE_IMAGE";
const PEAK: &str = "the peak rose by KiB: ";

/// Returns the most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

#[test]
#[ignore = "a part of `a_hole_of_a_sparse_file_...`, which runs it in a process of its own"]
fn child_that_opens_a_sparse_image() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let before = peak();
    let read = Reader::open(&path).map(|_| ()).unwrap_err();
    // SAFETY: no program writes to it.
    let mapped = unsafe { Map::open(&path) }.map(|_| ()).unwrap_err();
    println!("{PEAK}{}", peak() - before);
    assert_eq!(read.to_string(), mapped.to_string());
    assert!(matches!(read, ImageError::Field { .. }), "{read}");
    assert!(read.to_string().contains("checksum"), "{read}");
}

#[test]
fn a_hole_of_a_sparse_file_costs_no_memory_in_a_reader() {
    let this = std::env::current_exe().unwrap();
    let listed = Command::new(&this).arg("--list").output();
    if !listed.is_ok_and(|listed| listed.status.success()) {
        println!("skipped: this program runs in an emulator, which cannot start it again");
        return;
    }
    let folder = Folder::new("sparse");
    for with_sum in [false, true] {
        // The table of its units would take 64 MiB.
        sparse(&folder.path(), 1 << 38, with_sum);
        let mut child = Command::new(&this);
        let name = "hostile::child_that_opens_a_sparse_image";
        child.args(["--exact", name, "--ignored", "--nocapture"]);
        let output = child.env(PATH, folder.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let peak = text.split(PEAK).nth(1).and_then(|at| at.lines().next());
        let peak: u64 = peak.unwrap().parse().unwrap();
        assert!(peak < 8 << 10, "{peak} KiB for a file of 8 KiB");
        assert!(output.status.success(), "{text}");
    }
}

fn one_record() -> SwapRecords {
    let records = SwapRecords::new();
    records.swapon(ty(0), 40_000).unwrap();
    records.record(entry(0, 1), id(7)).unwrap();
    records
}

const PARTIAL: &str = ".records.image.partial";

#[test]
fn a_file_that_lay_next_to_the_path_does_not_become_the_new_image() {
    let folder = Folder::new("planted");
    let partial = folder.0.join(PARTIAL);
    fs::write(&partial, "planted").unwrap();
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o666)).unwrap();
    // As root, give it to another user, too.
    let _ = chown(&partial, Some(12_345), Some(12_345));
    let planted = File::options().write(true).open(&partial).unwrap();
    image::write(&one_record(), folder.path()).unwrap();
    planted.write_all_at(&[9], 4096 + 2).unwrap();
    let error = image::read(folder.path()).map(|_| ()).err();
    assert!(error.is_none(), "{}", error.unwrap());
    fs::write(folder.0.join("new"), "").unwrap();
    let of = |name| {
        let found = fs::metadata(folder.0.join(name)).unwrap();
        (found.mode(), found.uid(), found.gid(), found.nlink())
    };
    assert_eq!(of("records.image"), of("new"));
    assert_eq!(folder.names(), ["new", "records.image"]);
}

#[test]
fn a_file_that_no_writer_makes_is_left_where_it_is() {
    let folder = Folder::new("way");
    let partial = folder.0.join(PARTIAL);
    let refused = |what: &str| {
        let error = image::write(&one_record(), folder.path()).expect_err(what);
        assert!(matches!(error, ImageError::InTheWay { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(PARTIAL) && text.contains(what), "{text}");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2, "{what}");
    };
    let victim = folder.0.join("victim");
    fs::write(&victim, "precious").unwrap();

    fs::hard_link(&victim, &partial).unwrap();
    refused("another name");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    fs::remove_file(&partial).unwrap();

    symlink(&victim, &partial).unwrap();
    refused("symbolic link");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    fs::remove_file(&partial).unwrap();

    fs::create_dir(&partial).unwrap();
    refused("directory");
    fs::remove_dir(&partial).unwrap();

    let made = Command::new("mkfifo").arg(&partial).status();
    if made.is_ok_and(|status| status.success()) {
        refused("not a regular file");
        fs::remove_file(&partial).unwrap();
    }
    image::write(&one_record(), folder.path()).unwrap();
    assert_eq!(folder.names(), ["records.image", "victim"]);
}

#[test]
fn each_of_many_writers_of_a_path_writes_its_image_or_is_refused() {
    let folder = Folder::new("writers");
    let (path, rounds) = (folder.path(), if few() { 5 } else { 300 });
    let written = std::sync::atomic::AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let records = one_record();
                for _ in 0..rounds {
                    match image::write(&records, &path) {
                        Ok(_) => _ = written.fetch_add(1, Ordering::Relaxed),
                        Err(ImageError::Locked { .. }) => {
                            // Leave a file, as a killed writer does.
                            let partial = folder.0.join(PARTIAL);
                            let left = File::options().append(true).create(true).open(partial);
                            drop(left.and_then(|mut left| left.flush()));
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(written.into_inner() > 0);
    assert_eq!(image::read(&path).unwrap().count(id(7)), 1);
    image::write(&one_record(), &path).unwrap();
    assert_eq!(folder.names(), ["records.image"]);
}

/// Returns the error for a file with these bytes. All ways of opening the file must give the same one.
fn opened(bytes: &[u8]) -> (ImageError, String) {
    let folder = Folder::new("foreign");
    fs::write(folder.path(), bytes).unwrap();
    let error = Reader::open(folder.path()).map(|_| ()).unwrap_err();
    // SAFETY: no program writes to it.
    let mapped = unsafe { Map::open(folder.path()) }.map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert_eq!(mapped.to_string(), text);
    (error, text)
}

#[test]
fn a_short_file_that_is_not_an_image_is_recognized_by_its_first_bytes() {
    let (error, text) = opened(b"hello");
    assert!(
        matches!(error, ImageError::Magic { found } if found == *b"hello\0\0\0"),
        "{text}"
    );
    for bytes in [&b""[..], b"SWAP", b"SWAPRECS\x01\0\0\0"] {
        let (error, text) = opened(bytes);
        assert!(matches!(error, ImageError::Length { .. }), "{text}");
        assert!(text.contains("expected at least 8192"), "{text}");
    }
    let mut bytes = Vec::new();
    image::write_to(&SwapRecords::new(), &mut bytes).unwrap();
    bytes.truncate(8191);
    let (_, text) = opened(&bytes);
    assert!(text.contains("expected 8192:"), "{text}");
}

#[test]
fn a_file_of_records_is_distinguished_from_an_image() {
    let mut bytes = vec![0; 3 * PAGE];
    for len in [8, bytes.len()] {
        bytes.truncate(len.max(8));
        put(&mut bytes, 0, b"SWAPTABL");
        let (error, text) = opened(&bytes);
        assert!(matches!(error, ImageError::Magic { .. }), "{text}");
        assert!(
            text.contains("file of records") && text.contains("swapon_file"),
            "{text}"
        );
        bytes.resize(3 * PAGE, 0);
    }
}

#[test]
fn version_0_is_distinguished_from_a_later_version() {
    let mut bytes = Vec::new();
    image::write_to(&SwapRecords::new(), &mut bytes).unwrap();
    for (version, told) in [(0_u32, "no version has that number"), (2, "a later one")] {
        put(&mut bytes, 8, &version.to_le_bytes());
        let (error, text) = opened(&bytes);
        assert!(
            matches!(error, ImageError::Version { found } if found == version),
            "{text}"
        );
        assert!(text.contains(told), "{text}");
    }
}
