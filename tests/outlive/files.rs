//! Reasons to refuse a file.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use swap_records::file::{FileError, RecordFile, SwaponFileError};
use swap_records::{SwapRecords, SwaponError};

use crate::child::{Folder, Log, start};
use crate::subject::{
    FIRST, LEN, PAGES, REGION, TYPE, assert_says, entry, id, read, refused, swapon,
};

#[test]
fn truncated_too_long_and_unfinished_files_are_refused() {
    let folder = Folder::new("lengths");
    let record_file = folder.create("file");
    let file = folder.open("file");
    let header = read(&record_file, 0, FIRST);
    for len in [
        0,
        1,
        7,
        51,
        52,
        4095,
        FIRST,
        LEN - 1,
        LEN - 2 * REGION,
        LEN + 1,
        LEN + 2 * REGION,
    ] {
        file.set_len(len).unwrap();
        let (why, text) = refused(&record_file);
        let fits = match why {
            FileError::Unfinished { len: found } => (len, found) == (0, 0),
            FileError::Foreign { .. } => len < 8,
            FileError::Damaged { .. } => (8..48).contains(&len),
            FileError::Length {
                found,
                expected,
                max_pages: PAGES,
            } => (found, expected) == (len, LEN),
            _ => false,
        };
        assert!(fits, "{len}: {text}");
        file.set_len(LEN).unwrap();
        file.write_all_at(&header, 0).unwrap();
        assert_eq!(swapon(&SwapRecords::new(), &record_file).unwrap(), (0, 0));
    }
    // The length is set first, the header is written last.
    file.write_all_at(&[0; 4096], 0).unwrap();
    let (why, text) = refused(&record_file);
    assert!(matches!(why, FileError::Unfinished { len: LEN }), "{why:?}");
    assert_says(&text, &["byte 0", "creation was interrupted", "delete it"]);
}

#[test]
fn a_file_of_another_kind_version_or_size_is_refused() {
    let folder = Folder::new("kinds");
    let record_file = folder.create("file");
    let file = folder.open("file");
    let write = |at: u64, bytes: &[u8]| {
        let before = read(&record_file, at, at + bytes.len() as u64);
        file.write_all_at(bytes, at).unwrap();
        let (why, text) = refused(&record_file);
        file.write_all_at(&before, at).unwrap();
        (why, text)
    };
    let (why, text) = write(0, b"\x7fELF\x02\x01\x01\0");
    assert!(matches!(why, FileError::Foreign { found } if found.starts_with(b"\x7fELF")));
    assert_says(
        &text,
        &[
            "begins with \"\\x7fELF",
            "not a file of records",
            "RecordFile",
        ],
    );
    let (why, text) = write(8, &2_u32.to_le_bytes());
    assert!(matches!(why, FileError::Version { found: 2, known: 1 }));
    assert_says(&text, &["version 2", "byte 8", "a later one"]);
    let (why, text) = write(16, &1_u64.to_le_bytes());
    assert!(matches!(why, FileError::Damaged { offset: 40, .. }));
    assert_says(&text, &["damaged", "at byte 40", "keep the file"]);
    let (why, text) = write(48, &[1]);
    assert!(matches!(
        why,
        FileError::Damaged {
            offset: 48,
            found: 1,
            expected: 0
        }
    ));
    assert_says(&text, &["0x1 at byte 48"]);

    let table = SwapRecords::<swap_records::RawSpinLock>::new();
    let why = table.swapon_file(TYPE, PAGES - 1, &record_file).run();
    let why = why.unwrap_err();
    assert_says(
        &why.to_string(),
        &["swap type 3", &format!("turn it on with {PAGES}")],
    );
    assert!(matches!(
        why,
        SwaponFileError::File { why: FileError::MaxPages { found: PAGES, asked }, .. } if asked == PAGES - 1
    ));
    let none = table.swapon_file(TYPE, 0, &record_file).run();
    assert!(matches!(
        none,
        Err(SwaponFileError::Swapon(SwaponError::NoPages { ty: TYPE }))
    ));
    let most = table.swapon_file(TYPE, u64::MAX, &record_file).run();
    assert!(matches!(
        most,
        Err(SwaponFileError::Swapon(SwaponError::TooLarge { .. }))
    ));
    for asked in [0, u64::MAX] {
        let why = RecordFile::memfd(asked).unwrap_err();
        assert!(matches!(why, FileError::Pages { asked: of, .. } if of == asked));
        assert_says(&why.to_string(), &["at least 1"]);
    }
    assert_eq!(record_file.max_pages().unwrap(), PAGES);
}

#[test]
fn a_record_past_the_end_is_refused_and_leaves_nothing_on() {
    let folder = Folder::new("past");
    let record_file = folder.create("file");
    let file = folder.open("file");
    for slot in [PAGES, 3 * REGION - 1] {
        file.write_all_at(&7_u16.to_ne_bytes(), FIRST + 2 * slot)
            .unwrap();
        file.write_all_at(&5_u16.to_ne_bytes(), FIRST).unwrap();
        let table = SwapRecords::new();
        for _ in 0..2 {
            let why = swapon(&table, &record_file).unwrap_err();
            assert_says(
                &why.to_string(),
                &["id 7", &slot.to_string(), "keep the file"],
            );
            assert!(
                matches!(why, SwaponFileError::File { why: FileError::PastEnd { slot: at, found: 7, .. }, .. } if at == slot)
            );
        }
        file.write_all_at(&[0; 2], FIRST + 2 * slot).unwrap();
        // Then the same table accepts the file, with an index without traces of the attempts.
        assert_eq!(swapon(&table, &record_file).unwrap(), (1, 1));
    }
}

#[test]
fn a_file_that_was_being_emptied_is_emptied_by_the_next_process() {
    let folder = Folder::new("emptying");
    for record_file in [RecordFile::memfd(PAGES).unwrap(), folder.create("file")] {
        let table = SwapRecords::new();
        swapon(&table, &record_file).unwrap();
        table.record_range(entry(REGION - 3), 6, id(7)).unwrap();
        drop(table);
        let file = File::from(record_file.as_fd().try_clone_to_owned().unwrap());
        file.write_all_at(b"EMPT", 48).unwrap();
        assert_eq!(swapon(&SwapRecords::new(), &record_file).unwrap(), (0, 0));
        assert_eq!(read(&record_file, 48, 52), [0; 4]);
        assert!(read(&record_file, FIRST, LEN).iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_file_that_cannot_be_written_is_refused() {
    let folder = Folder::new("read-only");
    drop(folder.create("file"));
    let read_only = File::open(folder.0.join("file")).unwrap();
    // SAFETY: as in `Folder::create`.
    let why = unsafe { RecordFile::from_file(read_only) }.unwrap_err();
    assert!(matches!(why, FileError::ReadOnly));
    assert_says(&why.to_string(), &["reading and writing"]);
    // SAFETY: as above.
    let again = unsafe { RecordFile::create(folder.0.join("file"), PAGES) }.unwrap_err();
    let exists = matches!(&again, FileError::Io { error, .. } if error.kind() == std::io::ErrorKind::AlreadyExists);
    assert!(exists, "{again:?}");
    assert_says(&again.to_string(), &["creating the file of records failed"]);
}

const REFUSED: u64 = 2;

/// Runs with an empty directory as its root.
pub fn without_proc(memfd: OwnedFd, log: &Log) {
    let file = RecordFile::from_memfd(memfd).unwrap();
    let root = CString::new(log.folder()).unwrap();
    // SAFETY: it reads the path, which ends with a zero.
    if unsafe { libc::chroot(root.as_ptr()) } != 0 {
        return log.set(0, REFUSED);
    }
    let (why, text) = refused(&file);
    assert!(matches!(why, FileError::NoProc), "{why:?}");
    assert_says(&text, &["/proc/self/fd is missing", "mount /proc"]);
}

#[test]
fn without_proc_a_file_is_refused() {
    let log = Log::new("no-proc");
    let _root = Folder::at(log.folder().into());
    let memfd = RecordFile::memfd(PAGES).unwrap();
    start("no-proc", memfd.into(), &log, 0).end();
    if log.get(0) == REFUSED {
        println!("skipped: another root takes a privilege");
    }
}

fn memfd(flags: libc::c_uint, seals: libc::c_int) -> OwnedFd {
    use std::os::fd::{AsRawFd, FromRawFd};
    // SAFETY: the name ends with a zero.
    let fd = unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC | flags) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: it takes numbers.
    let sealed = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    assert_eq!(sealed, if flags == 0 { -1 } else { 0 });
    fd
}

#[test]
fn a_memfd_that_could_be_truncated_is_refused() {
    let grow = libc::F_SEAL_GROW;
    let why = RecordFile::from_memfd(memfd(libc::MFD_ALLOW_SEALING, grow)).unwrap_err();
    assert!(matches!(why, FileError::NotSealed { seals } if seals == grow));
    assert_says(&why.to_string(), &["the seals 0x4", "F_SEAL_SHRINK"]);
    // Without MFD_ALLOW_SEALING.
    let why = RecordFile::from_memfd(memfd(0, grow)).unwrap_err();
    assert!(matches!(why, FileError::NotSealed { .. }), "{why:?}");
    let folder = Folder::new("no-memfd");
    drop(folder.create("file"));
    let why = RecordFile::from_memfd(folder.open("file").into()).unwrap_err();
    // A file on tmpfs has seals as well, but cannot be sealed.
    assert!(
        matches!(why, FileError::NotSealable | FileError::NotSealed { .. }),
        "{why:?}"
    );
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let why = RecordFile::from_memfd(socket.into()).unwrap_err();
    assert!(matches!(why, FileError::NotSealable), "{why:?}");
    assert_says(&why.to_string(), &["cannot be sealed", "RecordFile::memfd"]);

    let write = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    let why = RecordFile::from_memfd(memfd(libc::MFD_ALLOW_SEALING, write)).unwrap_err();
    assert!(matches!(why, FileError::ReadOnly), "{why:?}");
    // Sealed while it is empty, so it is empty forever.
    let empty = memfd(
        libc::MFD_ALLOW_SEALING,
        libc::F_SEAL_SHRINK | libc::F_SEAL_GROW,
    );
    let (why, _) = refused(&RecordFile::from_memfd(empty).unwrap());
    assert!(matches!(why, FileError::Unfinished { len: 0 }));
    // A memfd of this crate cannot be truncated.
    let ours = File::from(OwnedFd::from(RecordFile::memfd(PAGES).unwrap()));
    for len in [0, LEN - 1, LEN + 1] {
        assert_eq!(
            ours.set_len(len).unwrap_err().kind(),
            std::io::ErrorKind::PermissionDenied
        );
    }
}
