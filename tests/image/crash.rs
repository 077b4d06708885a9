//! Writes that end half way: at each of their steps, by an error, a full disk, a lock that panics, or
//! `SIGKILL`. The old image is still there as a whole, or the new one.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::*;
use swap_records::RawSpinLock;
use swap_records::lock::lock_api::RawMutex;

/// Accepts a number of writes, each of a part of the bytes, and then refuses.
struct Fails {
    bytes: Vec<u8>,
    left: usize,
    part: usize,
    flush: bool,
}

impl Write for Fails {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        self.left -= 1;
        let part = bytes.len().min(self.part);
        self.bytes.extend_from_slice(&bytes[..part]);
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.flush {
            Ok(())
        } else {
            Err(ErrorKind::BrokenPipe.into())
        }
    }
}

#[test]
fn a_stream_that_fails_at_any_write_does_not_get_an_image() {
    let memcgs = tree::family();
    for part in [usize::MAX, 5000, 700] {
        let mut to = Fails {
            bytes: Vec::new(),
            left: 0,
            part,
            flush: true,
        };
        let mut failures = 0;
        loop {
            to.bytes.clear();
            to.left = failures;
            match Writer::of_tree(&memcgs).write_to(&mut to) {
                Ok(written) => {
                    assert_eq!(written.len, to.bytes.len() as u64);
                    Reader::of(&to.bytes).unwrap().verify().unwrap();
                    break;
                }
                Err(ImageError::Io { source, .. }) => {
                    assert_eq!(source.kind(), ErrorKind::StorageFull);
                    let read = Reader::of(&to.bytes).map(|_| ());
                    assert!(matches!(read, Err(ImageError::Length { .. })), "{read:?}");
                }
                Err(error) => panic!("{error}"),
            }
            failures += 1;
        }
        assert!(failures >= 7, "{failures} writes failed");
        to.left = usize::MAX;
        to.flush = false;
        let error = Writer::of_tree(&memcgs).write_to(&mut to).unwrap_err();
        assert!(matches!(error, ImageError::Io { .. }), "{error}");
    }
}

/// A small file system with a number of pages, which is unmounted on drop. `mount` returns `None` if this
/// process may not mount one.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path, pages: usize) -> Option<Self> {
        mount(at, pages, "").then_some(Self(at))
    }

    fn resize(&self, pages: usize) {
        assert!(mount(self.0, pages, "remount,"));
    }
}

fn mount(at: &Path, pages: usize, how: &str) -> bool {
    let options = format!("{how}size={}k", pages * 4);
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
    let output = mount.stderr(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_at_any_page_leaves_the_old_image() {
    let folder = Folder::new("full");
    let Some(small) = Small::mount(&folder.0, 256) else {
        println!("skipped: mounting a file system of 1 MiB needs root, and a kernel that lets it");
        return;
    };
    let records = SwapRecords::new();
    records.swapon(ty(0), 20_000).unwrap();
    records.record_range(entry(0, 0), 20_000, id(7)).unwrap();
    let len = image::write(&records, folder.path()).unwrap().len;
    let old = fs::read(folder.path()).unwrap();
    let pages = usize::try_from(len).unwrap() / PAGE;
    assert_eq!(pages, 13);

    records.record_range(entry(0, 0), 20_000, id(8)).unwrap();
    let mut refused = 0;
    loop {
        // The file system needs some pages for itself.
        small.resize(pages + 1 + refused);
        match image::write(&records, folder.path()) {
            Err(ImageError::Io { path, source, .. }) => {
                assert_eq!(source.kind(), ErrorKind::StorageFull, "{source}");
                assert!(path.is_some());
                assert!(fs::read(folder.path()).unwrap() == old);
                assert_eq!(folder.names(), ["records.image"]);
            }
            Err(error) => panic!("{error}"),
            Ok(_) => break,
        }
        refused += 1;
    }
    assert!(refused >= pages - 1, "{refused} sizes were too small");
    assert_eq!(image::read(folder.path()).unwrap().count(id(8)), 20_000);
}

/// A lock that panics when it has been taken a number of times.
struct Fragile(RawSpinLock);

static TAKEN: AtomicU32 = AtomicU32::new(u32::MAX);

// SAFETY: the spinlock excludes. A panic comes before it is taken.
unsafe impl RawMutex for Fragile {
    const INIT: Self = Self(RawSpinLock::INIT);
    type Guard = ();

    fn lock(&self) {
        let left = TAKEN.load(Ordering::Relaxed);
        assert!(left > 0, "a lock");
        TAKEN.store(left - 1, Ordering::Relaxed);
        self.0.lock();
    }

    fn try_lock(&self) -> Option<()> {
        self.0.try_lock()
    }

    unsafe fn unlock(&self, (): ()) {
        // SAFETY: as the caller promises.
        unsafe { self.0.unlock(()) };
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

#[test]
fn a_lock_that_panics_leaves_the_old_image_and_nothing_next_to_it() {
    let folder = Folder::new("panics");
    let records = SwapRecords::<Fragile>::with_raw_mutex();
    records.swapon(ty(0), 4 * UNIT).unwrap();
    records.record(entry(0, 3 * UNIT), id(7)).unwrap();
    image::write(&records, folder.path()).unwrap();
    let old = fs::read(folder.path()).unwrap();
    for taken in 0..4 {
        TAKEN.store(taken, Ordering::Relaxed);
        let write = || image::write(&records, folder.path());
        assert!(catch_unwind(AssertUnwindSafe(write)).is_err(), "{taken}");
        TAKEN.store(u32::MAX, Ordering::Relaxed);
        assert!(fs::read(folder.path()).unwrap() == old);
        assert_eq!(folder.names(), ["records.image"]);
    }
    records.record(entry(0, 0), id(7)).unwrap();
    image::write(&records, folder.path()).unwrap();
    assert_eq!(image::read(folder.path()).unwrap().count(id(7)), 2);
}

const PATH: &str = "SWAP_RECORDS_IMAGE_CHILD";
const SLOTS: u64 = 64 * UNIT;
const READY: &str = "the first image comes next";

/// Writes images until the process is killed. Each image has another owner of all slots.
#[test]
#[ignore = "a part of `a_writer_that_is_killed_...`, which runs it in a process of its own"]
fn child_that_writes_images() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let records = SwapRecords::new();
    records.swapon(ty(0), SLOTS).unwrap();
    println!("{READY}");
    for owner in (1..=u16::MAX).cycle() {
        records
            .record_range_with(entry(0, 0), SLOTS, id(owner), |_| ())
            .unwrap();
        match image::write(&records, &path) {
            // The lock of a killed writer may last a moment longer.
            Ok(_) | Err(ImageError::Locked { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Starts a process that is about to write its first image.
fn child(path: &Path) -> Child {
    let mut this = Command::new(std::env::current_exe().unwrap());
    this.args([
        "--exact",
        "crash::child_that_writes_images",
        "--ignored",
        "--nocapture",
    ]);
    let mut child = this.env(PATH, path).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(READY)));
    child
}

#[test]
fn a_writer_that_is_killed_leaves_the_old_image_or_the_new_one() {
    const KILLS: usize = 60;
    let this = std::env::current_exe().unwrap();
    let listed = Command::new(this).arg("--list").output();
    if !listed.is_ok_and(|listed| listed.status.success()) {
        println!("skipped: this program runs in an emulator, which cannot start it again");
        return;
    }
    let folder = Folder::new("killed");
    let mut random = fastrand::Rng::with_seed(60);
    let (mut left, mut images) = (0, 0);
    let mut last = None;
    for _ in 0..KILLS {
        let mut child = child(&folder.path());
        // Kills it between its first steps and some images later.
        thread::sleep(Duration::from_micros(random.u64(..60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let names = folder.names();
        left += usize::from(names.iter().any(|name| name.ends_with(".partial")));
        let known = ["records.image", ".records.image.partial"];
        assert!(
            names.iter().all(|name| known.contains(&name.as_str())),
            "{names:?}"
        );
        if !names.iter().any(|name| name == "records.image") {
            assert_eq!(last, None, "the image is gone");
            continue;
        }
        // SAFETY: the writer was killed, and it never writes to an image that is in place.
        let map = unsafe { Map::open(folder.path()) }.unwrap();
        map.verify().unwrap();
        let runs: Vec<_> = map.runs(ty(0)).collect();
        assert_eq!((runs.len(), runs[0].len), (1, SLOTS));
        images += usize::from(last != Some(runs[0].id));
        last = Some(runs[0].id);
    }
    println!("{KILLS} kills: {images} images that differ, {left} left a partial file");
    assert!(left > 0 && images > 1, "each came too early, or too late");
    // The next write removes the leftovers.
    let records = SwapRecords::new();
    records.swapon(ty(0), 1).unwrap();
    image::write(&records, folder.path()).unwrap();
    assert_eq!(folder.names(), ["records.image"]);
    assert_eq!(
        image::read(folder.path()).unwrap().max_pages(ty(0)),
        Some(1)
    );
}
