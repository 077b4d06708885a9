//! Images of a table: writes, reads and scans them, and compares that with plain copies and reads of the same
//! bytes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use memmap2::Mmap;

use crate::measure::{Pairs, pairs};
use crate::read;
use crate::report::{Amount, Report};
use swap_records::image::{Map, Reader};
use swap_records::{SwapRecords, image};
use swap_records_benches::ours::{Ours, TYPE, id};
use swap_records_benches::{LIVE, SEED, index, timed};
use swap_records_sim::{self as sim, Family, Pages};

/// 256 MiB of table: larger than the caches, and small compared with the tables of the other rows.
const MOST_SLOTS: usize = 1 << 27;

/// The offset of the ids in an image of one type.
const IDS_AT: usize = 4096;

/// A directory in memory if there is one, so that no disk is measured. It is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let folder = parent.join(format!("swap-records-headline-{}", std::process::id()));
        let made = fs::create_dir(&folder);
        made.map_err(|error| format!("cannot make the directory {}: {error}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Measures all rows of images.
pub(crate) fn all(report: &mut Report, slots: usize, nr: usize) -> Result<(), String> {
    let slots = slots.min(MOST_SLOTS);
    let no_memory = |error| format!("no memory for a table of {slots} slots: {error}");
    let map = sim::Map::new(Family::Interleaved(LIVE), slots as u64, SEED);
    let ours = Ours::<swap_records::RawSpinLock>::with_map(&map).map_err(no_memory)?;
    let mut ids = Pages::<u16>::zeroed(slots).map_err(no_memory)?;
    map.fill_slice(sim::threads(), &mut ids, |_| ());
    let folder = Folder::new()?;
    let failed = |error: &dyn std::fmt::Display| format!("images: {error}");
    let path = folder.0.join("image");

    written(report, &ours, &ids, &path, nr);
    let read = fs::read(&path).map_err(|error| failed(&error))?;
    let wanted = bytes_of(&ids);
    assert!(
        read[IDS_AT..][..wanted.len()] == *wanted,
        "the ids of the image"
    );
    drop(read);
    drop(ours);
    read_back(report, &path, ids, nr);
    // SAFETY: no other process knows the file, and nothing writes to it any more.
    let map = unsafe { Map::open(&path) }.map_err(|error| failed(&error))?;
    let bytes = File::open(&path).and_then(|file| {
        // SAFETY: as above.
        unsafe { Mmap::map(&file) }
    });
    looked_into(report, &map, &bytes.map_err(|error| failed(&error))?, nr);
    Ok(())
}

fn bytes_of(ids: &[u16]) -> &[u8] {
    bytemuck::cast_slice(ids)
}

fn rates(report: &mut Report, name: &'static str, bytes: usize, pairs: Pairs) {
    let rate = |seconds| Amount::BytesASecond(bytes as f64 / seconds);
    report.ratio(name, pairs.faster, rate(pairs.ours), rate(pairs.theirs));
}

/// Both sides make a new file and rename it over the old one.
fn written(report: &mut Report, ours: &Ours, ids: &[u16], path: &Path, nr: usize) {
    let plain = path.with_extension("plain");
    let partial = path.with_extension("new");
    let bytes = bytes_of(ids);
    let pairs = pairs(
        "an image is written",
        nr,
        |_| {
            let (written, time) = timed(|| image::write(&ours.0, path));
            let written = written.expect("there is room for the image");
            assert_eq!(written.records, ids.len() as u64, "records of the image");
            (0, time)
        },
        |_| {
            let (written, time) = timed(|| {
                File::create(&partial)?.write_all(bytes)?;
                fs::rename(&partial, &plain)
            });
            written.expect("there is room for the copy");
            (0, time)
        },
    );
    fs::remove_file(&plain).expect("the copy exists");
    rates(report, "image_write_vs_copy", bytes.len(), pairs);
}

/// Reads an image into a table. Returns the time without that of dropping the table.
fn table(path: &Path, threads: usize) -> (SwapRecords, Duration) {
    let (table, time) = timed(|| Reader::open(path)?.threads(threads).table());
    (table.expect("a valid image"), time)
}

fn read_back(report: &mut Report, path: &Path, mut ids: Pages<u16>, nr: usize) {
    let len = size_of_val::<[u16]>(&ids);
    let records = ids.len() as u64;
    let counted = |records: &SwapRecords| -> u64 {
        (1..=LIVE).map(|of| records.count_upper_bound(id(of))).sum()
    };
    let copied = pairs(
        "an image is read",
        nr,
        |_| {
            let (table, time) = table(path, 1);
            (counted(&table), time)
        },
        |_| {
            // Into memory that is already present.
            let all: &mut [u8] = bytemuck::cast_slice_mut(&mut ids);
            let (done, time) = timed(|| File::open(path)?.read_exact(all));
            done.expect("the file is long enough");
            (records, time)
        },
    );
    rates(report, "image_read_vs_copy", len, copied);
    drop(ids);
    if sim::threads() < 2 {
        report.skip("image_read_2_threads_scaling", "there is one core");
    } else {
        let both = pairs(
            "an image is read on two threads",
            nr * 2,
            |_| {
                let (table, time) = table(path, 2);
                (counted(&table), time)
            },
            |_| {
                let (table, time) = table(path, 1);
                (counted(&table), time)
            },
        );
        rates(report, "image_read_2_threads_scaling", len, both);
    }
    // SAFETY: no other process knows the file, and nothing writes to it any more.
    let map = unsafe { Map::open(path) }.expect("a valid image");
    let rebuilt = pairs(
        "an image is read, or recorded run by run",
        nr.min(4),
        |_| {
            let (table, time) = table(path, 1);
            (counted(&table), time)
        },
        |_| {
            let table = SwapRecords::new();
            let ((), time) = timed(|| {
                let pages = map.types().next().expect("the image has a type").1;
                table.swapon(TYPE, pages).expect("there is memory");
                for run in map.runs(TYPE) {
                    let had = table.record_range(run.start, run.len, run.id);
                    assert!(had.expect("the type is on").is_empty());
                }
            });
            (counted(&table), time)
        },
    );
    rates(report, "image_read_vs_record_range", len, rebuilt);
}

/// Both sides read the file through a mapping whose pages are present.
fn looked_into(report: &mut Report, map: &Map, bytes: &[u8], nr: usize) {
    let slots = index(map.types().map(|(_, pages)| pages).sum());
    let words: &[u64] = bytemuck::cast_slice(&bytes[IDS_AT..][..slots * 2]);
    let level = read::fastest(words);
    let sum = read::read(level, words).0;
    let records = map.runs_of(id(7)).map(|run| run.len).sum::<u64>();
    let pairs = pairs(
        "an image is scanned",
        nr * 2,
        |_| {
            let (count, time) = timed(|| map.count(id(7)));
            assert_eq!(count, records, "records of an id");
            (sum, time)
        },
        |_| read::read(level, words),
    );
    rates(report, "image_scan_vs_read", size_of_val(words), pairs);
}
