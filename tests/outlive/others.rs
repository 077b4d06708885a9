//! What others do to a file: other programs, other formats, forked children, and descriptors that still write
//! to it.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};

use swap_records::file::{FileError, RecordFile, SwaponFileError};
use swap_records::{RawSpinLock, SwapRecords, image};

use crate::child::{Folder, Log, start};
use crate::subject::{
    FIRST, LEN, PAGES, REGION, TYPE, assert_says, entry, from_file, id, read, refused, swapon,
};

/// Returns the same file, for a writer that knows nothing of tables.
fn writer(file: &impl AsFd) -> File {
    file.as_fd().try_clone_to_owned().unwrap().into()
}

/// Makes a file with two records.
fn with_records(folder: &Folder, name: &str) -> RecordFile {
    let file = folder.create(name);
    let table = SwapRecords::new();
    swapon(&table, &file).unwrap();
    table.record(entry(1), id(7)).unwrap();
    table.record(entry(PAGES - 1), id(8)).unwrap();
    file
}

/// Returns the header of a file with so many slots. Its other fields are those of this file.
fn header_for(file: &RecordFile, max_pages: u64) -> Vec<u8> {
    let mut header = read(file, 0, 48);
    header[16..24].copy_from_slice(&max_pages.to_le_bytes());
    let fnv_1a = header[..40]
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    header[40..].copy_from_slice(&fnv_1a.to_le_bytes());
    header
}

#[test]
fn an_image_is_refused_as_one_and_the_file_stays_as_it_is() {
    let folder = Folder::new("image");
    let table = SwapRecords::<RawSpinLock>::new();
    table.swapon(TYPE, PAGES).unwrap();
    table.record(entry(1), id(7)).unwrap();
    let path = folder.0.join("image");
    image::write(&table, &path).unwrap();
    let before = fs::read(&path).unwrap();
    let (why, text) = refused(&from_file(folder.open("image")));
    assert!(
        matches!(why, FileError::Foreign { found } if &found == b"SWAPRECS"),
        "{text}"
    );
    assert_says(&text, &["it is an image", "image::read"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    let ours = RecordFile::memfd(PAGES).unwrap();
    assert_eq!(read(&ours, 0, 8), b"SWAPTABL");
}

#[test]
fn a_refused_file_is_kept_and_the_advice_of_the_error_restores_its_records() {
    let folder = Folder::new("kept");
    type Damage = fn(&File);
    let damages: [(&str, Damage); 3] = [
        ("damaged", |file| file.write_all_at(&[1], 20).unwrap()),
        ("long", |file| file.set_len(LEN + 100).unwrap()),
        ("past", |file| {
            file.write_all_at(&9_u16.to_ne_bytes(), FIRST + 2 * PAGES)
                .unwrap();
        }),
    ];
    for (name, damage) in damages {
        let file = with_records(&folder, name);
        damage(&writer(&file));
        let (why, text) = refused(&file);
        assert!(!text.contains("delete"), "{text}");
        assert_says(&text, &["keep the file"]);
        if let FileError::PastEnd { .. } = why {
            let at = FIRST + 2 * PAGES;
            assert_says(&text, &[&format!("the 2 bytes at byte {at}")]);
            writer(&file).write_all_at(&[0; 2], at).unwrap();
            assert_eq!(swapon(&SwapRecords::new(), &file).unwrap(), (2, 2));
            continue;
        }
        assert_says(&text, &["begin at byte 4096", "copy them to a new file"]);
        let new = folder.create("new");
        let records = read(&file, FIRST, LEN);
        writer(&new).write_all_at(&records, FIRST).unwrap();
        assert_eq!(swapon(&SwapRecords::new(), &new).unwrap(), (2, 2));
        fs::remove_file(folder.0.join("new")).unwrap();
    }
}
/// Forks, and lets the child run this. Returns how the child ends.
fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child does what the callers pass. That takes no lock that another thread could have held,
    // except those of the allocator, which are new in the child. It never returns.
    match unsafe { libc::fork() } {
        0 => {
            child();
            // SAFETY: it ends the process.
            unsafe { libc::_exit(0) }
        }
        pid => {
            assert!(pid > 0);
            pid
        }
    }
}

fn wait_for(pid: libc::pid_t) {
    // SAFETY: it takes numbers, and writes nothing.
    let ended = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    assert_eq!(ended, pid);
}

#[test]
fn a_forked_child_that_drops_its_table_leaves_the_lock_to_its_parent() {
    let folder = Folder::new("forked");
    for file in [RecordFile::memfd(PAGES).unwrap(), folder.create("file")] {
        let table = SwapRecords::new();
        swapon(&table, &file).unwrap();
        table.record(entry(1), id(1)).unwrap();
        let mut table = Some(table);
        wait_for(fork(|| drop(table.take())));
        let (why, _) = refused(&file);
        assert!(matches!(why, FileError::InUse), "{why}");
        // A child that goes on living does not keep a lock that its parent frees.
        // SAFETY: it waits for a signal.
        let child = fork(|| _ = unsafe { libc::pause() });
        drop(table);
        let found = swapon(&SwapRecords::new(), &file);
        // SAFETY: it takes numbers, and the child has not been waited for yet.
        unsafe { libc::kill(child, libc::SIGKILL) };
        wait_for(child);
        assert_eq!(found.unwrap(), (1, 1));
    }
}
#[test]
fn a_file_that_has_grown_while_it_was_off_gets_a_map_of_its_own() {
    const MORE: u64 = 9 * REGION;
    let folder = Folder::new("grown");
    let file = folder.create("file");
    let table = SwapRecords::<RawSpinLock>::new();
    swapon(&table, &file).unwrap();
    table.swapoff(TYPE).unwrap();
    let grown = writer(&file);
    grown.set_len(FIRST + 2 * MORE).unwrap();
    grown.write_all_at(&header_for(&file, MORE), 0).unwrap();
    table.swapon_file(TYPE, MORE, &file).run().unwrap();
    table.record(entry(MORE - 1), id(9)).unwrap();
    assert_eq!(table.lookup(entry(MORE - 1)), Some(id(9)));
    table.validate().unwrap();
    assert_eq!(table.swapoff(TYPE), Ok(1));
}

#[test]
fn a_header_with_no_slots_or_too_many_is_refused() {
    let folder = Folder::new("slots");
    let file = folder.create("file");
    for max_pages in [0, 1 << 62, u64::MAX] {
        writer(&file)
            .write_all_at(&header_for(&file, max_pages), 0)
            .unwrap();
        let why = file.max_pages().unwrap_err();
        assert!(
            matches!(why, FileError::Pages { asked, .. } if asked == max_pages),
            "{why}"
        );
        assert!(matches!(refused(&file).0, FileError::Pages { .. }));
        file.allocate().unwrap_err();
    }
}

fn memfd(seals: libc::c_int) -> OwnedFd {
    // SAFETY: the name ends with a zero.
    let fd = unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_ALLOW_SEALING) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let file = writer(&fd);
    file.set_len(LEN).unwrap();
    let header = read(&RecordFile::memfd(PAGES).unwrap(), 0, 52);
    file.write_all_at(&header, 0).unwrap();
    seal(&fd, seals);
    fd
}

fn seal(fd: &impl AsFd, seals: libc::c_int) {
    // SAFETY: it takes numbers, and the descriptor is open.
    let sealed = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_ADD_SEALS, seals) };
    assert_eq!(sealed, 0);
}

#[test]
fn a_memfd_that_could_grow_is_refused() {
    let why = RecordFile::from_memfd(memfd(libc::F_SEAL_SHRINK)).unwrap_err();
    assert!(matches!(why, FileError::NotSealed { seals: 2 }), "{why}");
    assert_says(&why.to_string(), &["F_SEAL_SHRINK", "F_SEAL_GROW"]);
    let both = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    let file = RecordFile::from_memfd(memfd(both)).unwrap();
    assert_eq!(swapon(&SwapRecords::new(), &file).unwrap(), (0, 0));
}

#[test]
fn a_swapoff_reports_no_more_records_than_there_are_slots() {
    const PAGES: u64 = 5;
    let file = RecordFile::memfd(PAGES).unwrap();
    let table = SwapRecords::<RawSpinLock>::new();
    table.swapon_file(TYPE, PAGES, &file).run().unwrap();
    for _ in 0..100 {
        table.record(entry(3), id(7)).unwrap();
        // Any process with the descriptor can do this.
        writer(&file).write_all_at(&[0; 2], FIRST + 6).unwrap();
    }
    assert_eq!(table.swapoff(TYPE), Ok(PAGES));
    assert_eq!(
        table.swapon_file(TYPE, PAGES, &file).run().unwrap().records,
        0
    );
}

/// Otherwise the header would still say that the file is to be emptied, and a later process would drop all
/// records.
#[test]
fn a_file_whose_header_cannot_be_written_after_a_half_done_swapoff_is_refused() {
    let file = memfd(libc::F_SEAL_SHRINK | libc::F_SEAL_GROW);
    let file = RecordFile::from_memfd(file).unwrap();
    let table = SwapRecords::new();
    swapon(&table, &file).unwrap();
    table.swapoff(TYPE).unwrap();
    writer(&file).write_all_at(b"EMPT", 48).unwrap();
    // The map stays. From now on, writes are refused.
    seal(&file, libc::F_SEAL_FUTURE_WRITE);
    let why = swapon(&table, &file).unwrap_err();
    assert!(
        matches!(
            &why,
            SwaponFileError::File {
                why: FileError::Io {
                    doing: "writing the header of",
                    ..
                },
                ..
            }
        ),
        "{why}"
    );
    assert_eq!(table.max_pages(TYPE), None);
}

/// Runs as a user who may not open the file.
pub fn denied(file: OwnedFd) {
    // SAFETY: it returns a number.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: it takes a number.
        assert_eq!(unsafe { libc::setgid(65_534) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setuid(65_534) }, 0);
    }
    let (why, text) = refused(&from_file(file.into()));
    assert!(matches!(why, FileError::Denied { .. }), "{text}");
    assert_says(
        &text,
        &["run as a user that may open the file", "use a memfd"],
    );
    let memfd = RecordFile::memfd(PAGES).unwrap();
    assert_eq!(swapon(&SwapRecords::new(), &memfd).unwrap(), (0, 0));
}

#[test]
fn a_file_that_the_user_may_not_open_is_refused_with_a_way_out() {
    let folder = Folder::new("denied");
    let file = folder.create("file");
    fs::set_permissions(folder.0.join("file"), fs::Permissions::from_mode(0o000)).unwrap();
    let log = Log::new("denied");
    start("denied", file.into(), &log, 0).end();
}
