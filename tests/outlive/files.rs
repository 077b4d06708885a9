//! What a file is refused for, and what stays of its records.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use swap_records::file::{FileError, RecordFile, SwaponFileError};
use swap_records::memcg::Memcgs;
use swap_records::{
    MemcgId, Progress, REGION_ENTRIES, SwapEntry, SwapRecords, SwapType, SwaponError,
};
use swap_records_oracle::Ends;

use crate::child::{Folder, Log, start};

const TYPE: SwapType = SwapType::new(3).unwrap();
const REGION: u64 = REGION_ENTRIES as u64;
const PAGES: u64 = 2 * REGION + 100;
/// Of the entries in the file.
const FIRST: u64 = 4096;
const LEN: u64 = FIRST + 3 * 2 * REGION;

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

impl Folder {
    /// A new file of records, which nothing but this test writes to.
    fn create(&self, name: &str) -> RecordFile {
        // SAFETY: where a test truncates the file, or writes to it, no table has it on.
        unsafe { RecordFile::create(self.0.join(name), PAGES) }.unwrap()
    }

    fn open(&self, name: &str) -> File {
        let options = File::options().read(true).write(true).clone();
        options.open(self.0.join(name)).unwrap()
    }
}

fn from_file(file: File) -> RecordFile {
    // SAFETY: as in `Folder::create`.
    unsafe { RecordFile::from_file(file) }.unwrap()
}

fn swapon(table: &SwapRecords, file: &RecordFile) -> Result<(u64, u64), SwaponFileError> {
    let found = table.swapon_file(TYPE, PAGES, file).run()?;
    table.validate().unwrap();
    Ok((found.records, found.regions))
}

/// What the file is refused for. Nothing is on then, and the type can be used otherwise.
fn refused(file: &RecordFile) -> (FileError, String) {
    let table = SwapRecords::new();
    let error = swapon(&table, file).unwrap_err();
    assert_eq!(table.max_pages(TYPE), None);
    table.swapon(TYPE, 10).unwrap();
    table.validate().unwrap();
    let text = error.to_string();
    match error {
        SwaponFileError::File { ty: TYPE, why } => (why, text),
        other => panic!("{other:?}"),
    }
}

fn assert_says(text: &str, all: &[&str]) {
    for says in all {
        assert!(text.contains(says), "{says:?} is not in: {text}");
    }
}

#[test]
fn a_table_that_is_dropped_leaves_its_records_and_one_that_is_turned_off_none() {
    let folder = Folder::new("dropped");
    for file in [RecordFile::memfd(PAGES).unwrap(), folder.create("file")] {
        let table = SwapRecords::new();
        assert_eq!(swapon(&table, &file).unwrap(), (0, 0));
        table.record_range(entry(REGION - 3), 6, id(7)).unwrap();
        table.record(entry(PAGES - 1), id(4096 + 7)).unwrap();
        drop(table);

        let table = SwapRecords::new();
        assert_eq!(swapon(&table, &file).unwrap(), (7, 3));
        assert_eq!(table.lookup(entry(REGION + 2)), Some(id(7)));
        assert_eq!(table.lookup(entry(REGION + 3)), None);
        assert_eq!(table.count(id(7)), 6);
        assert_eq!(table.migrate(id(7), id(1)), 6);
        assert_eq!(table.migrate(id(4096 + 7), id(2)), 1);
        table.validate().unwrap();
        // Another type is not concerned, nor is an anonymous swapfile of the same one and size.
        table.swapon(SwapType::new(4).unwrap(), PAGES).unwrap();
        assert_eq!(table.swapoff(TYPE), Ok(7));
        let all = read(&file, FIRST, LEN);
        assert_eq!(all.len() as u64, LEN - FIRST);
        assert!(all.iter().all(|&byte| byte == 0), "the file has records");
        table.swapon(TYPE, PAGES).unwrap();
        table.record(entry(5), id(9)).unwrap();
        assert_eq!(swapon(&SwapRecords::new(), &file).unwrap(), (0, 0));
        assert_eq!(table.swapoff(TYPE), Ok(1));
        assert_eq!(swapon(&table, &file).unwrap(), (0, 0));
        assert_eq!(table.lookup(entry(5)), None);
        table.record(entry(6), id(9)).unwrap();
        table.validate().unwrap();
    }
}

fn read(file: &RecordFile, from: u64, to: u64) -> Vec<u8> {
    let file = File::from(file.as_fd().try_clone_to_owned().unwrap());
    let mut bytes = vec![1; usize::try_from(to - from).unwrap()];
    file.read_exact_at(&mut bytes, from).unwrap();
    bytes
}

#[test]
fn a_table_goes_on_when_the_record_file_is_dropped() {
    let file = RecordFile::memfd(PAGES).unwrap();
    let again = file.as_fd().try_clone_to_owned().unwrap();
    let table = SwapRecords::new();
    swapon(&table, &file).unwrap();
    drop(file);
    table.record(entry(1), id(1)).unwrap();
    let again = RecordFile::from_memfd(again).unwrap();
    assert!(matches!(refused(&again).0, FileError::InUse));
    drop(table);
    assert_eq!(swapon(&SwapRecords::new(), &again).unwrap(), (1, 1));
}

#[test]
fn a_file_is_on_in_one_table_at_a_time() {
    let folder = Folder::new("one");
    for file in [RecordFile::memfd(PAGES).unwrap(), folder.create("file")] {
        let table = SwapRecords::new();
        swapon(&table, &file).unwrap();
        table.record(entry(1), id(1)).unwrap();
        let (why, text) = refused(&file);
        assert!(matches!(why, FileError::InUse), "{why:?}");
        assert_says(
            &text,
            &["swap type 3", "another table", "turn it off there"],
        );
        // Nor in two types of one table.
        let other = SwapType::new(9).unwrap();
        let why = table.swapon_file(other, PAGES, &file).run().unwrap_err();
        let in_use = SwaponFileError::File {
            ty: other,
            why: FileError::InUse,
        };
        assert_eq!(format!("{why:?}"), format!("{in_use:?}"));
        let why = swapon(&table, &file).unwrap_err();
        assert!(matches!(
            why,
            SwaponFileError::Swapon(SwaponError::TypeOn { ty: TYPE })
        ));
        assert_eq!(table.swapoff(TYPE), Ok(1));
        // The map is still there, and the lock is not.
        let other = SwapRecords::new();
        assert_eq!(swapon(&other, &file).unwrap(), (0, 0));
        assert!(matches!(
            swapon(&table, &file),
            Err(SwaponFileError::File { .. })
        ));
        drop(other);
        assert_eq!(swapon(&table, &file).unwrap(), (0, 0));
    }
}

#[test]
fn truncated_long_and_half_made_files_are_refused() {
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
    // The length comes first, the header last.
    file.write_all_at(&[0; 4096], 0).unwrap();
    let (why, text) = refused(&record_file);
    assert!(matches!(why, FileError::Unfinished { len: LEN }), "{why:?}");
    assert_says(&text, &["byte 0", "not made to its end", "delete it"]);
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
        &["begins with \"\\x7fELF", "no file of records", "RecordFile"],
    );
    let (why, text) = write(8, &2_u32.to_le_bytes());
    assert!(matches!(why, FileError::Version { found: 2, known: 1 }));
    assert_says(&text, &["version 2", "byte 8", "a later one"]);
    let (why, text) = write(16, &1_u64.to_le_bytes());
    assert!(matches!(why, FileError::Damaged { offset: 40, .. }));
    assert_says(&text, &["damaged", "at byte 40", "delete it"]);
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
fn what_is_written_past_the_end_is_refused_and_leaves_nothing_on() {
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
                &["holds 7", &slot.to_string(), "delete it"],
            );
            assert!(
                matches!(why, SwaponFileError::File { why: FileError::PastEnd { slot: at, found: 7, .. }, .. } if at == slot)
            );
        }
        file.write_all_at(&[0; 2], FIRST + 2 * slot).unwrap();
        // The same table can have it then, with an index that has no trace of the attempts.
        assert_eq!(swapon(&table, &record_file).unwrap(), (1, 1));
    }
}

#[test]
fn a_file_that_was_being_emptied_is_emptied_by_whoever_comes_next() {
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
fn what_cannot_be_written_is_refused() {
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
    assert_says(
        &again.to_string(),
        &["creating the file of records was refused"],
    );
}

const REFUSED: u64 = 2;

/// With an empty folder for its root.
pub fn without_proc(memfd: OwnedFd, log: &Log) {
    let file = RecordFile::from_memfd(memfd).unwrap();
    let root = CString::new(log.folder()).unwrap();
    // SAFETY: it reads the path, which ends with a zero.
    if unsafe { libc::chroot(root.as_ptr()) } != 0 {
        return log.set(0, REFUSED);
    }
    let (why, text) = refused(&file);
    assert!(matches!(why, FileError::NoProc), "{why:?}");
    assert_says(&text, &["/proc/self/fd is not there", "mount /proc"]);
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
    // SAFETY: it was just made.
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
    // A file in memory has seals as well, but cannot be sealed.
    assert!(
        matches!(why, FileError::NotSealable | FileError::NotSealed { .. }),
        "{why:?}"
    );
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let why = RecordFile::from_memfd(socket.into()).unwrap_err();
    assert!(matches!(why, FileError::NotSealable), "{why:?}");
    assert_says(&why.to_string(), &["no memfd", "RecordFile::memfd"]);

    let write = libc::F_SEAL_SHRINK | libc::F_SEAL_WRITE;
    let why = RecordFile::from_memfd(memfd(libc::MFD_ALLOW_SEALING, write)).unwrap_err();
    assert!(matches!(why, FileError::ReadOnly), "{why:?}");
    // Sealed, and empty for ever.
    let empty = memfd(
        libc::MFD_ALLOW_SEALING,
        libc::F_SEAL_SHRINK | libc::F_SEAL_GROW,
    );
    let (why, _) = refused(&RecordFile::from_memfd(empty).unwrap());
    assert!(matches!(why, FileError::Unfinished { len: 0 }));
    // And one that is ours cannot be truncated by anybody.
    let ours = File::from(OwnedFd::from(RecordFile::memfd(PAGES).unwrap()));
    for len in [0, LEN - 1, LEN + 1] {
        assert_eq!(
            ours.set_len(len).unwrap_err().kind(),
            std::io::ErrorKind::PermissionDenied
        );
    }
}

#[test]
fn a_file_takes_memory_for_what_was_recorded_and_gives_it_back_at_swapoff() {
    use std::os::unix::fs::MetadataExt;
    /// 1 TiB of swap, 512 MiB of file.
    const PAGES: u64 = 1 << 28;
    let file = RecordFile::memfd(PAGES).unwrap();
    let taken = || {
        let file = File::from(file.as_fd().try_clone_to_owned().unwrap());
        file.metadata().unwrap().blocks() * 512
    };
    let header = taken();
    assert!(header <= 4096);
    let table = SwapRecords::new();
    let run = |records, regions| {
        let found = table
            .swapon_file(TYPE, PAGES, &file)
            .threads(2)
            .run()
            .unwrap();
        assert_eq!((found.records, found.regions), (records, regions));
    };
    run(0, 0);
    assert_eq!(taken(), header, "the rebuild read holes");
    for offset in (0..PAGES).step_by(1 << 20) {
        table.record(entry(offset + 77), id(5)).unwrap();
    }
    let of_records = 256 * 4096;
    assert_eq!(taken(), header + of_records);
    drop(table);
    let table = SwapRecords::new();
    let found = table.swapon_file(TYPE, PAGES, &file).run().unwrap();
    assert_eq!((found.records, found.regions), (256, 256));
    assert_eq!(taken(), header + of_records, "the rebuild read holes");
    assert_eq!(table.migrate(id(5), id(6)), 256);
    assert_eq!(table.swapoff(TYPE), Ok(256));
    assert_eq!(taken(), header);
    let small = RecordFile::memfd(1).unwrap();
    small.allocate().unwrap();
    let allocated = File::from(OwnedFd::from(small))
        .metadata()
        .unwrap()
        .blocks()
        * 512;
    assert_eq!(allocated, FIRST + 2 * REGION);
}

#[test]
fn progress_is_told_and_a_callback_that_panics_leaves_the_type_off_and_the_file_whole() {
    const PAGES: u64 = 200 * REGION;
    let file = RecordFile::memfd(PAGES).unwrap();
    let table = SwapRecords::new();
    table.swapon_file(TYPE, PAGES, &file).run().unwrap();
    for region in 0..200 {
        table
            .record_range(entry(region * REGION), 9, id(3))
            .unwrap();
    }
    drop(table);
    for threads in [1, 2, 1000] {
        let table = SwapRecords::<swap_records::RawSpinLock>::new();
        for _ in 0..2 {
            let swapon = || {
                let mut tell = |_: Progress| panic!("told");
                let on = table.swapon_file(TYPE, PAGES, &file);
                on.threads(threads).progress(&mut tell).run()
            };
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(swapon));
            assert_eq!(told.unwrap_err().downcast_ref(), Some(&"told"));
            assert_eq!(table.max_pages(TYPE), None);
        }
        let mut last = 0;
        let mut tell = |progress: Progress| {
            assert_eq!(progress.total, 200);
            assert!(progress.done >= last);
            last = progress.done;
        };
        let on = table.swapon_file(TYPE, PAGES, &file).threads(threads);
        let found = on.progress(&mut tell).run().unwrap();
        assert_eq!((found.records, found.regions, last), (1800, 200, 200));
        table.validate().unwrap();
    }
}

/// Writers go on until they are refused; nothing of theirs gets into the file once it is off.
#[test]
fn a_swapoff_beside_writers_leaves_no_record_in_the_file() {
    let file = RecordFile::memfd(PAGES).unwrap();
    let table = SwapRecords::new();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let _ends = Ends(&done);
        for lane in 0..2 {
            let (table, done) = (&table, &done);
            s.spawn(move || {
                let mut random = fastrand::Rng::with_seed(lane);
                while !done.load(Ordering::Relaxed) {
                    let ent = entry(random.u64(0..PAGES - 64));
                    let owner = id(random.u16(1..300));
                    match random.u8(0..20) {
                        0 => _ = table.record_range(ent, 64, owner),
                        1 => _ = table.migrate(owner, id(500)),
                        2 => _ = table.runs_of(owner).count(),
                        _ => _ = table.record(ent, owner),
                    }
                }
            });
        }
        for round in 0..300 {
            let found = table.swapon_file(TYPE, PAGES, &file).run().unwrap();
            assert_eq!(found.records, 0, "round {round}");
            table.record(entry(round % PAGES), id(400)).unwrap();
            thread::yield_now();
            assert!(table.swapoff(TYPE).unwrap() > 0);
            // An anonymous one, now and then, under the same type.
            if round % 3 == 0 {
                table.swapon(TYPE, PAGES).unwrap();
                table.swapoff(TYPE).unwrap();
            }
        }
    });
    assert!(read(&file, FIRST, LEN).iter().all(|&byte| byte == 0));
}

#[test]
fn a_table_of_several_files_keeps_them_apart() {
    let files = [1, 2, 3].map(|_| RecordFile::memfd(PAGES).unwrap());
    let table = SwapRecords::new();
    // All under one type, one after the other, twice.
    for round in 0..2 {
        for (nth, file) in (10..).zip(&files) {
            assert_eq!(swapon(&table, file).unwrap(), (0, 0));
            table.record(entry(nth), id(1)).unwrap();
            assert_eq!(table.lookup(entry(nth)), Some(id(1)), "round {round}");
            assert_eq!(table.swapoff(TYPE), Ok(1));
        }
    }
    for (ty, file) in SwapType::all().zip(&files) {
        table.swapon_file(ty, PAGES, file).run().unwrap();
        table.record(SwapEntry::new(ty, 5).unwrap(), id(9)).unwrap();
    }
    assert_eq!(table.migrate(id(9), id(8)), 3);
    drop(table);
    let table = SwapRecords::new();
    for (ty, file) in SwapType::all().zip(&files) {
        assert_eq!(table.swapon_file(ty, PAGES, file).run().unwrap().records, 1);
    }
    assert_eq!(table.count(id(8)), 3);
}

#[test]
fn a_tree_is_made_again_over_the_records_of_a_file() {
    let file = RecordFile::memfd(PAGES).unwrap();
    let records = SwapRecords::new();
    swapon(&records, &file).unwrap();
    let memcgs = Memcgs::with_records(records, []).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let child = memcgs.create(parent).unwrap();
    memcgs.charge(child, 80).unwrap();
    memcgs.swap_out(child, entry(7), 64).unwrap();
    let (root, parent, child) = (memcgs.root().id(), parent.id(), child.id());
    // Ends as a process does.
    drop(memcgs);

    let records = SwapRecords::new();
    assert_eq!(swapon(&records, &file).unwrap(), (64, 1));
    let shape = [(parent, root), (child, parent)];
    let memcgs = Memcgs::with_records(records, shape).unwrap();
    memcgs.validate().unwrap();
    let [parent, child] = [parent, child].map(|id| memcgs.find(id).unwrap());
    assert_eq!(memcgs.usage(child).unwrap().swap, 64);
    assert_eq!(memcgs.usage(parent).unwrap().swap_total, 64);
    memcgs.css_offline(child, u64::MAX).unwrap();
    memcgs.css_free(child).unwrap();
    assert_eq!(memcgs.usage(parent).unwrap().swap, 64);
    assert_eq!(memcgs.swapoff(TYPE).unwrap(), 64);
    memcgs.validate().unwrap();
    drop(memcgs);
    assert_eq!(swapon(&SwapRecords::new(), &file).unwrap(), (0, 0));
}

#[test]
fn a_file_by_its_descriptor_is_the_file_by_its_name() {
    let folder = Folder::new("descriptor");
    let table = SwapRecords::new();
    swapon(&table, &folder.create("file")).unwrap();
    table.record(entry(1), id(1)).unwrap();
    let again = from_file(folder.open("file"));
    assert!(matches!(refused(&again).0, FileError::InUse));
    // Once more under the same table: the same map, and so the same addresses.
    assert_eq!(table.swapoff(TYPE), Ok(1));
    assert_eq!(swapon(&table, &again).unwrap(), (0, 0));
    table.record(entry(2), id(1)).unwrap();
    drop(table);
    fs::rename(folder.0.join("file"), folder.0.join("other")).unwrap();
    assert_eq!(
        swapon(&SwapRecords::new(), &from_file(folder.open("other"))).unwrap(),
        (1, 1)
    );
}
