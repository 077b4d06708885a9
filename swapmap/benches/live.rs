//! `swapmap live` on many processes with much in swap, over a plain reading of their pagemaps.
//!
//! ```sh
//! SWAP_RECORDS_LIVE=1 cargo bench -p swapmap --bench live              # as root
//! SWAP_RECORDS_LIVE=1 cargo bench -p swapmap --bench live -- 1000 64   # processes, and MiB in swap
//! ```
//!
//! It turns a swapfile on and forks processes, each with an equal part of the pages in swap, so it runs
//! only on request. The two plain readings know the processes, and record nothing:
//!
//! - `scan` asks for the swapped-out pages of each process as `swapmap live` does (`PAGEMAP_SCAN`), and reads
//!   these.
//! - `mapped` reads the pagemap of all mappings.
//!
//! All of them take turns. The figures are medians.

use std::env;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use swapmap::reading::{Hierarchy, Method, Reading, page_size};

const ROUNDS: usize = 9;

fn main() -> ExitCode {
    let asked = env::var_os("SWAP_RECORDS_LIVE").is_some_and(|value| value == "1");
    // SAFETY: geteuid has no precondition and cannot fail.
    if !asked || unsafe { libc::geteuid() } != 0 {
        println!(
            "it makes swap and thousands of processes: run it with SWAP_RECORDS_LIVE=1, as root"
        );
        return ExitCode::SUCCESS;
    }
    let mut numbers = env::args()
        .skip(1)
        .filter_map(|word| word.parse::<u64>().ok());
    let processes = numbers.next().unwrap_or(10_000);
    let mib = numbers.next().unwrap_or(1024);
    match run(processes, mib) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("it cannot run here: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(processes: u64, mib: u64) -> Result<(), String> {
    let hierarchy = Hierarchy::find().map_err(|refused| refused.to_string())?;
    let pages_each = (mib << 20).div_ceil(page_size()).div_ceil(processes);
    let slots = pages_each * processes;
    // Larger than the pages in swap: otherwise the kernel frees slots early.
    let _swap = Swap::new(slots * page_size() * 5 / 4 + (16 << 20))?;
    let memcg = Memcg::new(&hierarchy)?;
    let crowd = Crowd::start(processes, pages_each, &memcg)?;
    println!("{processes} processes, {slots} slots in use, {pages_each} pages each");

    let path = hierarchy
        .path_in(&fs::read(format!("/proc/{}/cgroup", crowd.pids[0])).unwrap())
        .to_owned();
    let mapped = Mapped::of(crowd.pids[0]);
    let mut times = [const { Vec::new() }; 4];
    let mut settled = Vec::new();
    for _ in 0..ROUNDS {
        let timed = |read: &mut dyn FnMut() -> u64| {
            let began = Instant::now();
            let found = read();
            assert!(found >= slots, "{found} of {slots} slots were found");
            began.elapsed()
        };
        times[0].push(timed(&mut || scan(&crowd.pids)));
        times[1].push(timed(&mut || mapped.read(&crowd.pids)));
        times[2].push(timed(&mut || {
            let mut reading = Reading::take().unwrap_or_else(|refused| panic!("{refused}"));
            settled.push(reading.tally.settled_in);
            let id = reading.memcgs.id_of(&path).unwrap();
            reading.records.count(id)
        }));
        times[3].push(timed(&mut || {
            let done = Command::new(env!("CARGO_BIN_EXE_swapmap"))
                .arg("live")
                .stderr(Stdio::null())
                .output()
                .unwrap();
            let table = String::from_utf8(done.stdout).unwrap();
            let row = table.lines().find(|line| line.ends_with(&memcg.name));
            row.unwrap()
                .split_whitespace()
                .next()
                .unwrap()
                .parse()
                .unwrap()
        }));
    }
    settled.sort_unstable();
    println!(
        "the kernel's figures were waited for: {:?} (median; in the figures below)",
        settled[ROUNDS / 2]
    );
    let [scan, mapped, take, command] = times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    });
    let row = |what: &str, time: Duration| {
        let of = |plain: Duration| time.as_secs_f64() / plain.as_secs_f64();
        println!(
            "{what:<28} {time:>10.1?}  {:.2} x scan  {:.2} x mapped",
            of(scan),
            of(mapped)
        );
    };
    row("plain reading, scan", scan);
    row("plain reading, mapped", mapped);
    row("Reading::take", take);
    row("swapmap live", command);
    Ok(())
}

/// Reads the pages that the kernel reports as swapped out. Returns their number.
fn scan(pids: &[i32]) -> u64 {
    #[repr(C)]
    struct Args([u64; 12]);
    const SWAPPED: u64 = 1 << 4;
    let Method::Scan { end } = Method::best() else {
        panic!("this kernel has no PAGEMAP_SCAN");
    };
    let mut regions = [[0_u64; 3]; 512];
    let mut words = vec![0_u8; 1 << 20];
    let mut path = String::new();
    let mut found = 0;
    for pid in pids {
        path.clear();
        write!(path, "/proc/{pid}/pagemap").unwrap();
        let pagemap = File::open(&path).unwrap();
        let (size, vec) = (
            size_of::<Args>() as u64,
            regions.as_mut_ptr().expose_provenance() as u64,
        );
        let mut args = Args([
            size,
            0,
            0,
            end,
            0,
            vec,
            regions.len() as u64,
            0,
            0,
            SWAPPED,
            0,
            SWAPPED,
        ]);
        let call = libc::_IOWR::<Args>(u32::from(b'f'), 16);
        // SAFETY: the kernel writes to `args` and to as many regions as it is told there is room for.
        let nr = unsafe { libc::ioctl(pagemap.as_raw_fd(), call, &raw mut args) };
        for &[start, end, _] in &regions[..usize::try_from(nr).unwrap()] {
            found += count(&pagemap, start, end, &mut words);
        }
    }
    found
}

/// Reads words of a pagemap. Returns how many of them are swapped out.
fn count(pagemap: &File, start: u64, end: u64, words: &mut [u8]) -> u64 {
    let (mut at, end) = (start / page_size() * 8, end / page_size() * 8);
    let mut found = 0;
    while at < end {
        let want = words.len().min(usize::try_from(end - at).unwrap());
        let got = pagemap.read_at(&mut words[..want], at).unwrap();
        let (read, _) = words[..got].as_chunks::<8>();
        found += read
            .iter()
            .filter(|word| u64::from_ne_bytes(**word) >> 62 == 1)
            .count() as u64;
        if got == 0 {
            break;
        }
        at += got as u64;
    }
    found
}

/// The mappings of one process of the crowd. The other processes have the same, because all are forks.
struct Mapped(Vec<(u64, u64)>);

impl Mapped {
    fn of(pid: i32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let range = |line: &str| {
            let (start, rest) = line.split_once('-')?;
            let address = |hex| u64::from_str_radix(hex, 16).ok();
            Some((address(start)?, address(rest.split(' ').next()?)?))
        };
        let ranges = maps.lines().filter_map(range);
        Self(ranges.filter(|&(_, end)| end < 1 << 63).collect())
    }

    fn read(&self, pids: &[i32]) -> u64 {
        let mut words = vec![0_u8; 1 << 20];
        let mut found = 0;
        for pid in pids {
            let pagemap = File::open(format!("/proc/{pid}/pagemap")).unwrap();
            for &(start, end) in &self.0 {
                found += count(&pagemap, start, end, &mut words);
            }
        }
        found
    }
}

/// A swapfile that is on. Removed when this is dropped.
struct Swap(PathBuf);

impl Swap {
    fn new(bytes: u64) -> Result<Self, String> {
        let path = PathBuf::from(format!(
            "/var/tmp/swap-records-bench-{}",
            std::process::id()
        ));
        let swap = Self(path);
        let failed = |what: &str, error: io::Error| format!("{what}: {error}");
        let mut file = File::create_new(&swap.0).map_err(|e| failed("no swapfile", e))?;
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(owner_only)
            .map_err(|e| failed("no swapfile", e))?;
        io::copy(&mut io::repeat(0).take(bytes), &mut file)
            .map_err(|e| failed("no swapfile", e))?;
        file.sync_all().map_err(|e| failed("no swapfile", e))?;
        let paths = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let made = Command::new("mkswap")
            .env("PATH", paths)
            .arg(&swap.0)
            .output();
        let made = made.map_err(|e| failed("mkswap", e))?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        // SAFETY: the path ends with 0 and lives until the call returns. The highest priority.
        match unsafe { libc::swapon(swap.c_path().as_ptr(), 0xffff) } {
            0 => Ok(swap),
            _ => Err(failed("swapon", io::Error::last_os_error())),
        }
    }

    fn c_path(&self) -> CString {
        CString::new(self.0.as_os_str().as_bytes()).unwrap()
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // SAFETY: the path ends with 0 and lives until the call returns.
        unsafe { libc::swapoff(self.c_path().as_ptr()) };
        let _ = fs::remove_file(&self.0);
    }
}

/// A cgroup for the crowd.
struct Memcg {
    folder: PathBuf,
    name: String,
}

impl Memcg {
    fn new(hierarchy: &Hierarchy) -> Result<Self, String> {
        let name = format!("swap-records-bench-{}", std::process::id());
        let folder = hierarchy.mount_point.join(&name);
        fs::create_dir(&folder).map_err(|error| format!("no cgroup: {error}"))?;
        Ok(Self { folder, name })
    }
}

impl Drop for Memcg {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let _ = writeln!(io::stdout(), "the cgroup {} is left", self.folder.display());
    }
}

/// Forks of this process, each with some pages in swap. Killed when dropped.
struct Crowd {
    pids: Vec<i32>,
}

impl Crowd {
    fn start(processes: u64, pages: u64, memcg: &Memcg) -> Result<Self, String> {
        let bytes = usize::try_from(pages * page_size()).unwrap();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let memory = unsafe { libc::mmap(ptr::null_mut(), bytes, access, private, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        let (mut done, says) = io::pipe().unwrap();
        let join = File::options()
            .write(true)
            .open(memcg.folder.join("cgroup.procs"))
            .unwrap();
        let mut crowd = Self { pids: Vec::new() };
        for _ in 0..processes {
            // SAFETY: this process has one thread, so the child may go on as it likes; it allocates nothing.
            match unsafe { libc::fork() } {
                -1 => return Err(format!("fork: {}", io::Error::last_os_error())),
                0 => be_one_of_the_crowd(memory.cast(), bytes, &join, &says),
                pid => crowd.pids.push(pid),
            }
        }
        let mut byte = [0];
        for _ in 0..processes {
            done.read_exact(&mut byte)
                .map_err(|error| error.to_string())?;
            if byte != [1] {
                return Err("a process could not send its pages to swap".to_owned());
            }
        }
        Ok(crowd)
    }
}

fn be_one_of_the_crowd(
    memory: *mut u8,
    bytes: usize,
    mut join: &File,
    mut says: &io::PipeWriter,
) -> ! {
    // SAFETY: sets a number of this process: it ends with its parent.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let joined = join.write_all(b"0").is_ok();
    let page = usize::try_from(page_size()).unwrap_or(4096);
    for at in (0..bytes).step_by(page) {
        // SAFETY: within the mapping.
        unsafe { memory.wrapping_add(at).write_volatile(1) };
    }
    let pagemap = File::open("/proc/self/pagemap");
    let mut swapped = false;
    let mut word = [0; 8];
    for _ in 0..100 {
        // SAFETY: the mapping keeps what is in it.
        unsafe { libc::madvise(memory.cast(), bytes, libc::MADV_PAGEOUT) };
        swapped = (0..bytes).step_by(page).all(|at| {
            let at = (memory.addr() + at) as u64 / page_size() * 8;
            let read = pagemap
                .as_ref()
                .is_ok_and(|file| file.read_exact_at(&mut word, at).is_ok());
            read && u64::from_ne_bytes(word) >> 62 == 1
        });
        if swapped {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = says.write_all(&[u8::from(joined && swapped)]);
    drop(pagemap);
    loop {
        // SAFETY: waits for a signal.
        black_box(unsafe { libc::pause() });
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for &pid in &self.pids {
            // SAFETY: children of this process that were not waited for, so their numbers are theirs still.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        for &pid in &self.pids {
            // SAFETY: the status is not asked for.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        }
    }
}
