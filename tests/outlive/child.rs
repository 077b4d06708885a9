//! Processes that a test starts and kills: this program again, with a role.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, io, process, thread};

use memmap2::{MmapOptions, MmapRaw};

use crate::{files, handed_on, killed, others};

/// The role of a process that a test has started.
const ROLE: &str = "SWAP_RECORDS_OUTLIVE";
const LOG: &str = "SWAP_RECORDS_OUTLIVE_LOG";
const SEED: &str = "SWAP_RECORDS_OUTLIVE_SEED";

/// Runs the role, in a process that has one. In any other process, this test does nothing.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else {
        return;
    };
    let input = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let log = Log::open(&env::var(LOG).unwrap());
    let seed = env::var(SEED).unwrap().parse().unwrap();
    match role.as_str() {
        "work" => killed::work(input, &log, seed),
        "work-file" => killed::work_file(input, &log, seed),
        "denied" => others::denied(input),
        "swapoff" => killed::swapoff(input, &log, seed),
        "create" => killed::create(&log),
        "take" => handed_on::take(input),
        "no-proc" => files::without_proc(input, &log),
        _ => panic!("{role} is no role"),
    }
}

/// Starts a process with a role. `input` becomes its standard input.
pub fn start(role: &str, input: OwnedFd, log: &Log, seed: u64) -> Started {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "child::child", "--nocapture", "--test-threads=1"]);
    child.env(ROLE, role).env(LOG, &log.path);
    child.env(SEED, seed.to_string()).env("RUST_BACKTRACE", "0");
    child.stdin(Stdio::from(input)).stdout(Stdio::null());
    Started(child.spawn().unwrap())
}

/// A process, which is killed on drop at the latest.
pub struct Started(Child);

impl Started {
    /// Waits until `done`, then for this time, and kills the process. The process must not have ended by
    /// itself.
    pub fn kill_after(&mut self, done: impl Fn() -> bool, wait: Duration) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it hangs");
            if let Some(status) = self.0.try_wait().unwrap() {
                panic!("it ended by itself: {status}");
            }
            thread::yield_now();
        }
        let until = Instant::now() + wait;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        self.0.kill().unwrap();
        let status = self.0.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
    }

    pub fn end(&mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that is removed on drop.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        Self::at(env::temp_dir().join(format!("swap-records-{}-{name}", process::id())))
    }

    pub fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Numbers in a map that a process shares with the test. They remain when the process is killed.
pub struct Log {
    map: MmapRaw,
    path: String,
    /// Whether the file is removed on drop.
    own: bool,
}

impl Log {
    const NUMBERS: usize = 8;

    pub fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("swap-records-{}-{name}.log", process::id()));
        let path = path.into_os_string().into_string().unwrap();
        fs::write(&path, [0; Self::NUMBERS * 8]).unwrap();
        let mut log = Self::open(&path);
        log.own = true;
        log
    }

    fn open(path: &str) -> Self {
        let mut options = fs::File::options();
        let file = options.read(true).write(true).open(path).unwrap();
        Self {
            map: MmapOptions::new()
                .len(Self::NUMBERS * 8)
                .map_raw(&file)
                .unwrap(),
            path: path.to_owned(),
            own: false,
        }
    }

    /// Returns the directory for files that the process makes.
    pub fn folder(&self) -> String {
        format!("{}.d", self.path)
    }

    pub fn number(&self, nth: usize) -> &AtomicU64 {
        let numbers = self.map.as_ptr().cast::<[AtomicU64; Self::NUMBERS]>();
        // SAFETY: the map has this many numbers, begins at a page, and lives as long as `self`. Both
        // processes access it with atomics only.
        let numbers = unsafe { &*numbers };
        &numbers[nth]
    }

    pub fn get(&self, nth: usize) -> u64 {
        self.number(nth).load(Ordering::Acquire)
    }

    pub fn set(&self, nth: usize, value: u64) {
        self.number(nth).store(value, Ordering::Release);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.own {
            let _ = fs::remove_file(&self.path);
        }
    }
}
