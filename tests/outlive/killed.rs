//! Processes that are killed at any instruction, and what the next process finds.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use swap_records::file::{FileError, RecordFile, SwaponFileError};
use swap_records::{MemcgId, REGION_ENTRIES, SwapRecords};

use crate::child::{Folder, Log, start};
use crate::work::{LANES, Lane, Model, PAGES, TYPE, entry};

fn clone(file: &impl AsFd) -> OwnedFd {
    file.as_fd().try_clone_to_owned().unwrap()
}

/// Turns the file on, in the process that was given it.
fn table(file: &RecordFile) -> SwapRecords {
    let table = SwapRecords::new();
    table
        .swapon_file(TYPE, PAGES, file)
        .threads(2)
        .run()
        .unwrap();
    table
}

/// Returns the index of the number of finished operations of a lane. The next operation may have begun.
fn done_of(lane: u64) -> usize {
    usize::try_from(lane).unwrap()
}

/// Runs operations at full speed on two threads, and counts the finished ones.
pub fn work(memfd: OwnedFd, log: &Log, seed: u64) {
    work_on(&RecordFile::from_memfd(memfd).unwrap(), log, seed);
}

/// The same over a file with a name.
pub fn work_file(file: OwnedFd, log: &Log, seed: u64) {
    // SAFETY: while this process lives, the test that made the file has no table on, and does not write to
    // it.
    let file = unsafe { RecordFile::from_file(file.into()) }.unwrap();
    work_on(&file, log, seed);
}

fn work_on(file: &RecordFile, log: &Log, seed: u64) {
    let table = &table(file);
    thread::scope(|s| {
        for lane in 0..LANES {
            s.spawn(move || {
                let mut owners = table;
                let mut operations = Lane::new(lane, seed);
                for done in 1.. {
                    operations.next(&mut owners);
                    log.set(done_of(lane), done);
                }
            });
        }
    });
}

/// Computes what a process left: the owner of each slot before the operation of each lane that may have been
/// under way, and after it. Returns the number of operations as well.
fn replay(start: &Model, log: &Log, seed: u64) -> (Model, Model, u64) {
    let (mut before, mut total) = (start.clone(), 0);
    let mut lanes = [0, 1].map(|lane| Lane::new(lane, seed));
    for (lane, operations) in (0..).zip(&mut lanes) {
        let done = log.get(done_of(lane));
        (0..done).for_each(|_| operations.next(&mut before));
        total += done;
    }
    let mut after = before.clone();
    for operations in &mut lanes {
        operations.next(&mut after);
    }
    (before, after, total)
}

#[test]
fn a_process_that_is_killed_loses_nothing_but_the_operation_under_way() {
    let file = RecordFile::memfd(PAGES).unwrap();
    lives(100, "work", &file);
}

/// On the file system of the build, which is usually on a disk.
#[test]
fn a_process_that_is_killed_over_a_file_on_disk_loses_nothing_but_the_operation_under_way() {
    let path = format!("killed-{}", std::process::id());
    let folder = Folder::at(Path::new(env!("CARGO_TARGET_TMPDIR")).join(path));
    // SAFETY: only tables write to it, one after another.
    let file = unsafe { RecordFile::create(folder.0.join("file"), PAGES) }.unwrap();
    lives(15, "work-file", &file);
}

fn lives(lives: u64, role: &str, file: &RecordFile) {
    let log = Log::new(role);
    let mut random = fastrand::Rng::with_seed(0x6b17);
    let mut model = Model(vec![0; usize::try_from(PAGES).unwrap()]);
    let (mut operations, mut half_done) = (0, 0);
    for seed in 0..lives {
        for lane in 0..LANES {
            log.set(done_of(lane), 0);
        }
        let mut life = start(role, clone(file), &log, seed);
        // Some are killed before they start to work.
        let at_work = || seed % 8 == 0 || (0..LANES).all(|lane| log.get(done_of(lane)) > 0);
        life.kill_after(at_work, Duration::from_micros(random.u64(0..15_000)));

        // At once: the lock of the killed process is free.
        let table = SwapRecords::new();
        let found = table
            .swapon_file(TYPE, PAGES, file)
            .threads(2)
            .run()
            .unwrap();
        table
            .validate()
            .unwrap_or_else(|what| panic!("life {seed}: {what}"));
        let (before, after, done) = replay(&model, &log, seed);
        operations += done;
        let mut counts = vec![0; 1 << 16];
        let mut partly = (false, false);
        for (at, slot) in (0..PAGES).zip(&mut model.0) {
            *slot = table.lookup(entry(at)).map_or(0, MemcgId::get);
            counts[usize::from(*slot)] += 1;
            let nth = usize::try_from(at).unwrap();
            let (before, after) = (before.0[nth], after.0[nth]);
            assert!(
                [before, after].contains(slot),
                "life {seed}: slot {at} has the owner {slot}, not {before} as before what was under way, \
                 nor {after} as after it"
            );
            if before != after {
                partly.0 |= *slot == before;
                partly.1 |= *slot == after;
            }
        }
        half_done += u64::from(partly == (true, true));
        assert_eq!(found.records, counts[1..].iter().sum::<u64>());
        for (id, &count) in (0..=u16::MAX).zip(&counts).skip(1).filter(|of| *of.1 > 0) {
            assert_eq!(table.count(MemcgId::new(id).unwrap()), count, "id {id}");
        }
    }
    println!(
        "{operations} operations in {lives} lives; {half_done} of these left slots as before their last ones, and \
         slots as after them"
    );
    assert!(operations > lives * 100, "{operations}");
}

/// The size of a table that takes milliseconds to empty.
const LARGE: u64 = 512 * REGION_ENTRIES as u64;

/// Fills the table and empties it after so many microseconds, forever. Reports when it is full and when it is
/// empty.
pub fn swapoff(memfd: OwnedFd, log: &Log, wait: u64) {
    let file = RecordFile::from_memfd(memfd).unwrap();
    let table = SwapRecords::<swap_records::RawSpinLock>::new();
    for round in 0.. {
        table.swapon_file(TYPE, LARGE, &file).run().unwrap();
        table.record_range(entry(0), LARGE, MemcgId::MIN).unwrap();
        log.set(0, 2 * round + 1);
        thread::sleep(Duration::from_micros(wait));
        assert_eq!(table.swapoff(TYPE), Ok(LARGE));
        log.set(0, 2 * round + 2);
    }
}

/// Where the file system makes a hole in one step, as that of a `memfd` does, the process dies after it.
/// `files` tests a file that is partly emptied, as where entries are cleared one by one.
#[test]
fn a_process_that_is_killed_in_a_swapoff_leaves_all_records_or_none() {
    let log = Log::new("swapoff");
    let mut random = fastrand::Rng::with_seed(77);
    let (mut all, mut none, mut half_way) = (0, 0, 0);
    for _ in 0..60 {
        let file = RecordFile::memfd(LARGE).unwrap();
        log.set(0, 0);
        let mut life = start("swapoff", clone(&file), &log, random.u64(0..3000));
        let wait = Duration::from_micros(random.u64(0..3000));
        life.kill_after(|| log.get(0) > 0, wait);
        if log.get(0) != 1 {
            continue;
        }
        let mut state = [0; 4];
        File::from(clone(&file))
            .read_exact_at(&mut state, 48)
            .unwrap();
        let table = SwapRecords::new();
        let found = table.swapon_file(TYPE, LARGE, &file).run().unwrap();
        table.validate().unwrap();
        match found.records {
            0 => none += 1,
            LARGE => all += 1,
            some => panic!("{some} of {LARGE} records are left"),
        }
        half_way += u32::from(state == *b"EMPT");
        assert!(state != *b"EMPT" || found.records == 0);
        if half_way >= 5 && all >= 3 {
            break;
        }
    }
    println!(
        "all records {all} times, none {none} times, {half_way} of these times by who came next"
    );
    assert!(half_way > 0 && all > 0, "no swapoff was hit");
}

/// Makes files forever.
pub fn create(log: &Log) {
    for nth in 1.. {
        let path = format!("{}/{nth}", log.folder());
        // SAFETY: no other code writes to it before this process is killed.
        unsafe { RecordFile::create(path, PAGES) }.unwrap();
        log.set(0, nth);
    }
}

#[test]
fn a_file_whose_maker_was_killed_is_whole_or_refused() {
    let log = Log::new("create");
    let folder = Folder::at(log.folder().into());
    let nothing = || OwnedFd::from(File::open("/dev/null").unwrap());
    let mut random = fastrand::Rng::with_seed(5);
    let (mut whole, mut unfinished) = (0, 0);
    for _ in 0..40 {
        log.set(0, 0);
        let mut life = start("create", nothing(), &log, 0);
        let wait = Duration::from_micros(random.u64(0..500));
        life.kill_after(|| log.get(0) > 0, wait);
        for nth in 1.. {
            let path = folder.0.join(nth.to_string());
            if !path.exists() {
                break;
            }
            let made = nth <= log.get(0);
            let file = File::options().read(true).write(true).open(&path).unwrap();
            // SAFETY: the process that made it was killed, and no other code knows of it.
            let file = unsafe { RecordFile::from_file(file) }.unwrap();
            let table = SwapRecords::<swap_records::RawSpinLock>::new();
            match table.swapon_file(TYPE, PAGES, &file).run() {
                Ok(found) => {
                    assert_eq!(found.records, 0);
                    whole += 1;
                }
                Err(SwaponFileError::File {
                    why: FileError::Unfinished { .. },
                    ..
                }) if !made => unfinished += 1,
                Err(why) => panic!("{made}: {why}"),
            }
            fs::remove_file(path).unwrap();
        }
    }
    println!("{whole} files are whole, and {unfinished} were not made to their ends");
    assert!(whole > 40);
}
