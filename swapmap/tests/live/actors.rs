//! Processes with a part in a scene: each is this program, started again with its part in an environment
//! variable.

use std::env;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;
use std::time::Duration;

use swapmap::reading::page_size;

use crate::machine::Memcg;

const PART: &str = "SWAP_RECORDS_LIVE_PART";
const ARGUMENT: &str = "SWAP_RECORDS_LIVE_ARGUMENT";

/// The part of a process. It prints a line when it has done its part, and sleeps until it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Has pages in swap.
    Owns,
    /// As `Owns`, and the main thread ends.
    OwnsWithoutMainThread,
    /// As `OwnsWithoutMainThread`, and each thread starts the next one and ends.
    OwnsInARelay,
    /// As `Owns`, and maps a file whose name is not UTF-8.
    OwnsBesideAName,
    /// As `Owns`, and has a child with a lower number; the argument is the child's cgroup.
    Forks,
    /// As `Owns`, and has the same number of markers in its page table.
    Marks,
    /// As `Owns`. Frees some pages at each line that it reads.
    Frees,
    /// Starts processes that end at once, one after another.
    Churns,
}

const PARTS: [Part; 8] = [
    Part::Owns,
    Part::OwnsWithoutMainThread,
    Part::OwnsInARelay,
    Part::OwnsBesideAName,
    Part::Forks,
    Part::Marks,
    Part::Frees,
    Part::Churns,
];

/// A process with a part. Killed when dropped.
pub struct Actor {
    process: Child,
    says: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts a process in `memcg`, and waits until it has done its part.
    pub fn start(part: Part, pages: u64, memcg: &Memcg) -> Self {
        Self::start_with(part, pages, memcg, "")
    }

    pub fn start_with(part: Part, pages: u64, memcg: &Memcg, argument: &str) -> Self {
        let join = File::options()
            .write(true)
            .open(memcg.folder.join("cgroup.procs"))
            .unwrap();
        let nr = PARTS.iter().position(|&known| known == part).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .env(PART, format!("{nr} {pages}"))
            .env(ARGUMENT, argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // SAFETY: between fork and exec the closure makes one write to a file that is open, which is
        // async-signal-safe; it allocates nothing and takes no lock. 0 stands for the writer.
        unsafe { command.pre_exec(move || (&join).write_all(b"0")) };
        let mut process = command.spawn().unwrap();
        let says = BufReader::new(process.stdout.take().unwrap());
        let mut actor = Self { process, says };
        actor.wait_until_done();
        actor
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Tells the process to continue, and waits until it has.
    pub fn go_on(&mut self) {
        self.process
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"\n")
            .unwrap();
        self.wait_until_done();
    }

    fn wait_until_done(&mut self) {
        let mut said = String::new();
        self.says.read_line(&mut said).unwrap();
        assert_eq!(said, "done\n", "the process failed: its output is above");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Plays the part of this process. Returns `None` if it has none.
pub fn play() -> Option<ExitCode> {
    let part = env::var(PART).ok()?;
    // No test waits longer. If the test was killed, the process ends all the same.
    // SAFETY: alarm has no precondition; what the signal does is end this process.
    unsafe { libc::alarm(60) };
    end_with_parent();
    let mut words = part.split(' ').map(|word| word.parse::<usize>().unwrap());
    let (part, pages) = (PARTS[words.next().unwrap()], words.next().unwrap());
    match part {
        Part::Churns => {
            say_done();
            loop {
                Command::new("/bin/true").status().unwrap();
            }
        }
        Part::Frees => {
            // The other pages of the process stay in memory.
            // SAFETY: changes where pages are, not what is in them.
            let locked = unsafe { libc::mlockall(libc::MCL_CURRENT) };
            assert_eq!(locked, 0, "mlockall: {}", io::Error::last_os_error());
            let memory = own(pages);
            free_at_each_word(memory);
        }
        _ => drop(own(pages)),
    }
    match part {
        Part::OwnsBesideAName => map_a_name(),
        Part::Forks => fork_below(&env::var(ARGUMENT).unwrap()),
        Part::Marks => mark(pages),
        Part::OwnsWithoutMainThread | Part::OwnsInARelay => {
            thread::spawn(move || {
                // Waits until the main thread has ended.
                let status = || fs::read_to_string("/proc/self/stat").unwrap();
                while !status().contains(") Z ") {
                    thread::sleep(Duration::from_millis(10));
                }
                say_done();
                if part == Part::OwnsInARelay {
                    relay();
                    return;
                }
                sleep()
            });
            // SAFETY: ends the calling thread alone. It holds no lock, and nothing on its stack is borrowed.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        _ => {}
    }
    say_done();
    sleep()
}

/// The number of stacks of a relay, which its threads use in turns. A thread ends long before its stack is
/// used again.
const STACKS: usize = 1024;
const STACK: usize = 1 << 14;

static RELAY: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Starts a thread that starts the next thread and ends, and so on. Such a thread lives for some
/// microseconds; a thread of the standard library lives longer.
fn relay() {
    let stacks = map(STACKS * STACK, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    RELAY.store(stacks, Ordering::Relaxed);
    leg(ptr::null_mut());
}

extern "C" fn leg(nr: *mut libc::c_void) -> i32 {
    let next = (nr.addr() + 1) % STACKS;
    let top = RELAY
        .load(Ordering::Relaxed)
        .wrapping_add((next + 1) * STACK);
    let shared = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
    let flags = shared | libc::CLONE_THREAD | libc::CLONE_SYSVSEM;
    // SAFETY: `top` is the end of a stack that no living thread is on. The new thread runs this function
    // alone, which takes no lock, allocates nothing and does not unwind.
    unsafe { libc::clone(leg, top.cast(), flags, ptr::without_provenance_mut(next)) };
    0
}

fn say_done() {
    println!("done");
    io::stdout().flush().unwrap();
}

fn sleep() -> ! {
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

fn end_with_parent() {
    // SAFETY: sets a number of this process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Maps memory, which stays mapped.
fn map(bytes: usize, flags: i32, file: i32) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let memory = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, file, 0) };
    assert_ne!(memory, libc::MAP_FAILED, "{}", io::Error::last_os_error());
    memory.cast()
}

/// Maps pages, writes to each of them, and swaps them out.
fn own(pages: usize) -> *mut u8 {
    let page = usize::try_from(page_size()).unwrap();
    let memory = map(pages * page, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    for nr in 0..pages {
        let byte = memory.wrapping_add(nr * page);
        // Not 0: a page of zeros may be swapped out without being written.
        // SAFETY: within the mapping, which is this function's.
        unsafe { byte.write_volatile(1) };
    }
    // The kernel skips a page that another processor is moving to its list.
    for _ in 0..100 {
        // SAFETY: the mapping keeps what is in it.
        unsafe { libc::madvise(memory.cast(), pages * page, libc::MADV_PAGEOUT) };
        if resident(memory, pages) == 0 {
            return memory;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!(
        "{} of {pages} pages are still in memory",
        resident(memory, pages)
    );
}

/// The number of pages that are freed at once.
pub const FREED: u64 = 20;

fn free_at_each_word(memory: *mut u8) {
    let bytes = usize::try_from(FREED * page_size()).unwrap();
    let mut at = memory;
    say_done();
    while io::stdin().read_exact(&mut [0]).is_ok() {
        // SAFETY: the mapping is this function's, and larger than all that is freed of it.
        unsafe { libc::madvise(at.cast(), bytes, libc::MADV_DONTNEED) };
        at = at.wrapping_add(bytes);
        say_done();
    }
}

/// Returns how many of the pages are not swapped out.
fn resident(memory: *mut u8, pages: usize) -> usize {
    let mut words = vec![0_u8; pages * 8];
    let at = memory.addr() as u64 / page_size() * 8;
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    pagemap.read_exact_at(&mut words, at).unwrap();
    let (words, _) = words.as_chunks::<8>();
    let swapped = |word: &&[u8; 8]| u64::from_ne_bytes(**word) >> 62 == 1;
    words.iter().filter(|word| !swapped(word)).count()
}

fn map_a_name() {
    let name = CString::new(b"caf\xe9".as_slice()).unwrap();
    // SAFETY: `name` ends with 0 and lives until the call returns.
    let file = unsafe { libc::memfd_create(name.as_ptr(), 0) };
    // SAFETY: the descriptor is new.
    assert_eq!(unsafe { libc::ftruncate(file, 4096) }, 0);
    map(4096, libc::MAP_PRIVATE, file);
}

/// Forks a child with a lower number than this process. The child joins the cgroup whose list is the file
/// `procs`.
fn fork_below(procs: &str) {
    let join = File::options().write(true).open(procs).unwrap();
    let own = std::process::id();
    let free = (300..own).filter(|pid| !fs::exists(format!("/proc/{pid}")).unwrap());
    for pid in free.take(100) {
        let pid = i32::try_from(pid).unwrap();
        // SAFETY: all zeros is a `clone_args` that asks for nothing.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.exit_signal = u64::try_from(libc::SIGCHLD).unwrap();
        args.set_tid = (&raw const pid).expose_provenance() as u64;
        args.set_tid_size = 1;
        // SAFETY: as a fork: the child gets a copy of everything. It makes calls that are async-signal-safe,
        // and no others.
        let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
        match child {
            0 => {
                end_with_parent();
                let joined = (&join).write_all(b"0").is_ok();
                loop {
                    if !joined {
                        // SAFETY: ends this process at once.
                        unsafe { libc::_exit(1) };
                    }
                    // SAFETY: waits for a signal.
                    unsafe { libc::pause() };
                }
            }
            // Another process has got the number.
            -1 => continue,
            _ => {
                // Waits until the child has joined its cgroup.
                while !fs::read_to_string(procs)
                    .unwrap()
                    .lines()
                    .any(|line| line == pid.to_string())
                {
                    thread::sleep(Duration::from_millis(10));
                }
                return;
            }
        }
    }
    panic!(
        "no number below {own} is free: {}",
        io::Error::last_os_error()
    );
}

/// Write-protects pages that were never written to, by `userfaultfd`: each gets a marker in the page table.
fn mark(pages: usize) {
    #[repr(C)]
    struct Api([u64; 3]);
    #[repr(C)]
    struct Register([u64; 4]);
    #[repr(C)]
    struct Protect([u64; 3]);
    const WP_UNPOPULATED: u64 = 1 << 13;
    let bytes = pages * usize::try_from(page_size()).unwrap();
    let start = map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).expose_provenance() as u64;
    // SAFETY: makes a descriptor.
    let file = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let file = i32::try_from(file).unwrap();
    let mut api = Api([0xaa, WP_UNPOPULATED, 0]);
    // SAFETY: the descriptor is that of a userfaultfd, and the structure that of the call, which is told its
    // size.
    let done = unsafe { libc::ioctl(file, libc::_IOWR::<Api>(0xaa, 0x3f), &raw mut api) };
    assert_eq!(done, 0, "UFFDIO_API: {}", io::Error::last_os_error());
    let mut register = Register([start, bytes as u64, 2, 0]);
    // SAFETY: as above.
    let done = unsafe { libc::ioctl(file, libc::_IOWR::<Register>(0xaa, 0), &raw mut register) };
    assert_eq!(done, 0, "UFFDIO_REGISTER: {}", io::Error::last_os_error());
    let mut protect = Protect([start, bytes as u64, 1]);
    // SAFETY: as above.
    let done = unsafe { libc::ioctl(file, libc::_IOWR::<Protect>(0xaa, 6), &raw mut protect) };
    assert_eq!(
        done,
        0,
        "UFFDIO_WRITEPROTECT: {}",
        io::Error::last_os_error()
    );
}
