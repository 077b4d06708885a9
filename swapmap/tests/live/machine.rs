//! A swapfile, memory cgroups with small limits, and processes that exceed them. Each is removed when its
//! value is dropped, so also after a panic.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use swapmap::reading::{Figures, Hierarchy, SwapFile, Version, check_privilege, page_size};

/// The prefix of all names. The id of the process that made the thing follows, so a later run knows what it
/// may remove.
const PREFIX: &str = "swap-records-live-";
const TOUCH: &str = "SWAP_RECORDS_LIVE_TOUCH";

/// The highest priority of swapon(2), in its low 15 bits: pages go to this swapfile first.
pub const PREFERRED: i32 = 0x7fff;
const WITH_PRIORITY: i32 = 0x8000;

/// Prints a line. `println!` panics if standard output is closed, and in a `drop` that would end the cleanup.
macro_rules! tell {
    ($($what:tt)*) => {{
        let _ = writeln!(io::stdout(), $($what)*);
    }};
}

/// Returns the reason why this machine cannot run the tests, as far as it shows without a change.
pub fn reason_not_to_run() -> Option<String> {
    // SAFETY: geteuid has no precondition and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("the test turns swap on and makes memory cgroups: run it as root".to_owned());
    }
    let refused = check_privilege().and_then(|()| Hierarchy::find().map(drop));
    refused.err().map(|refused| refused.to_string())
}

/// Fields are dropped in this order: a cgroup can be removed when it is empty, and an empty swapfile is
/// turned off fastest.
pub struct Machine {
    memcgs: Vec<Memcg>,
    hierarchy: Hierarchy,
    _delegation: Option<Delegation>,
    _swapfile: SwapOn,
}

impl Machine {
    /// An error is the reason why this machine cannot run the test.
    pub fn set_up(memcgs: usize, limit: u64, swapfile: u64) -> Result<Self, String> {
        let hierarchy = Hierarchy::find().map_err(|refused| refused.to_string())?;
        clear_leftovers(&hierarchy.mount_point);
        let delegation = Delegation::obtain(&hierarchy)?;
        let swapfile = SwapOn::new(swapfile)?;
        let memcgs = (0..memcgs)
            .map(|nr| Memcg::new(&hierarchy, nr, limit))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            memcgs,
            hierarchy,
            _delegation: delegation,
            _swapfile: swapfile,
        })
    }

    /// Starts a process in each memcg that touches `bytes`, all concurrently. Returns when all have done so.
    /// They sleep until they are dropped.
    pub fn touch_at_once(&self, bytes: u64) -> Vec<Toucher<'_>> {
        let mut touchers: Vec<_> = self
            .memcgs
            .iter()
            .map(|memcg| Toucher::start(self, memcg, bytes))
            .collect();
        for toucher in &mut touchers {
            toucher.say("go");
        }
        for toucher in &mut touchers {
            toucher.wait_for("touched");
        }
        touchers
    }

    /// Returns the kernel's figures of each memcg.
    pub fn figures(&self) -> Vec<Figures> {
        self.memcgs
            .iter()
            .map(|memcg| {
                Figures::read(self.hierarchy.version, &memcg.folder)
                    .unwrap_or_else(|| panic!("{} has no swap figures", memcg.folder.display()))
            })
            .collect()
    }
}

/// A file that is turned on as swap, in a folder of its own.
pub struct SwapOn {
    folder: PathBuf,
    pub file: PathBuf,
    on: bool,
}

impl SwapOn {
    /// Tries two places, because some file systems, such as tmpfs, cannot have swapfiles.
    fn new(bytes: u64) -> Result<Self, String> {
        Self::named(OsStr::new("swapfile"), bytes, PREFERRED)
    }

    /// Pages go to the swapfile with the highest priority first.
    pub fn named(name: &OsStr, bytes: u64, priority: i32) -> Result<Self, String> {
        let mut reasons = Vec::new();
        for place in [env::temp_dir(), PathBuf::from("/var/tmp")] {
            match Self::within(&place, name, bytes, priority) {
                Ok(swapfile) => return Ok(swapfile),
                Err(reason) => reasons.push(format!("in {}: {reason}", place.display())),
            }
        }
        Err(format!("no swapfile can be made: {}", reasons.join("; ")))
    }

    fn within(place: &Path, name: &OsStr, bytes: u64, priority: i32) -> Result<Self, String> {
        static NR: AtomicU32 = AtomicU32::new(0);
        let nr = NR.fetch_add(1, Ordering::Relaxed);
        let folder = place.join(format!("{}-{nr}", own_name()));
        fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let mut swapfile = Self {
            file: folder.join(name),
            folder,
            on: false,
        };
        swapfile.fill(bytes).map_err(|error| error.to_string())?;
        swapfile.format()?;
        let path = c_path(&swapfile.file)?;
        // SAFETY: `path` is a string that ends with 0 and lives until the call returns.
        if unsafe { libc::swapon(path.as_ptr(), WITH_PRIORITY | priority) } != 0 {
            return Err(format!("swapon: {}", io::Error::last_os_error()));
        }
        swapfile.on = true;
        Ok(swapfile)
    }

    /// A swapfile must not have holes, so every byte is written.
    fn fill(&self, bytes: u64) -> io::Result<()> {
        let mut file = File::create_new(&self.file)?;
        // Other users must not read the pages.
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(owner_only)?;
        io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
        file.sync_all()
    }

    fn format(&self) -> Result<(), String> {
        // mkswap may be outside of PATH.
        let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let made = Command::new("mkswap")
            .env("PATH", path)
            .arg(&self.file)
            .output()
            .map_err(|error| format!("mkswap: {error}"))?;
        if made.status.success() {
            Ok(())
        } else {
            let says = String::from_utf8_lossy(&made.stderr);
            Err(format!("mkswap: {}", says.trim()))
        }
    }
}

impl Drop for SwapOn {
    fn drop(&mut self) {
        if self.on && !swap_off(&self.file) {
            // A file that is on must stay: swapoff needs its name.
            tell!("{} is still on as swap", self.file.display());
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tell!("{} is left: {error}", self.folder.display());
        }
    }
}

/// A cgroup.
pub struct Memcg {
    pub folder: PathBuf,
}

impl Memcg {
    fn new(hierarchy: &Hierarchy, nr: usize, limit: u64) -> Result<Self, String> {
        let memcg = Self::named(&hierarchy.mount_point, OsStr::new(&nr.to_string()))?;
        let folder = memcg.folder.clone();
        let failed = |error: io::Error| format!("no cgroup {}: {error}", folder.display());
        let file = match hierarchy.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        fs::write(folder.join(file), limit.to_string()).map_err(failed)?;
        if hierarchy.version == Version::V1 {
            // Prefers swapping to killing, whatever the machine's setting is. v2 has no setting per cgroup.
            let _ = fs::write(folder.join("memory.swappiness"), "100");
        }
        Figures::read(hierarchy.version, &folder)
            .ok_or("the kernel does not count the swap of a cgroup (swapaccount=0)")?;
        Ok(memcg)
    }

    /// Makes a cgroup without a limit, in the folder `above`. Its name is that of this run, a dash and
    /// `name`.
    pub fn named(above: &Path, name: &OsStr) -> Result<Self, String> {
        let mut own = OsString::from(own_name());
        own.push("-");
        own.push(name);
        let folder = above.join(own);
        match fs::create_dir(&folder) {
            Ok(()) => Ok(Self { folder }),
            Err(error) => Err(format!("no cgroup {}: {error}", folder.display())),
        }
    }
}

impl Drop for Memcg {
    fn drop(&mut self) {
        remove_memcg(&self.folder);
    }
}

/// v2: turns the memory controller on for the cgroups below the top. Turned off again when dropped, if it was
/// off.
pub struct Delegation(PathBuf);

impl Delegation {
    pub fn obtain(hierarchy: &Hierarchy) -> Result<Option<Self>, String> {
        if hierarchy.version == Version::V1 {
            return Ok(None);
        }
        let file = hierarchy.mount_point.join("cgroup.subtree_control");
        let failed = |error| format!("no memory controller below {}: {error}", file.display());
        let on = fs::read_to_string(&file).map_err(failed)?;
        if on.split_whitespace().any(|name| name == "memory") {
            return Ok(None);
        }
        fs::write(&file, "+memory").map_err(failed)?;
        Ok(Some(Self(file)))
    }
}

impl Drop for Delegation {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "-memory");
    }
}

/// A process in a memcg that touches more than the memcg's limit.
pub struct Toucher<'m> {
    machine: &'m Machine,
    process: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl<'m> Toucher<'m> {
    fn start(machine: &'m Machine, memcg: &Memcg, bytes: u64) -> Self {
        let join = File::options()
            .write(true)
            .open(memcg.folder.join("cgroup.procs"))
            .unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .env(TOUCH, bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // The child joins before it runs the program. So every page of the program is charged to the memcg,
        // and its records can be compared with the memcg's figure.
        // SAFETY: between fork and exec the closure makes one write to a file that is open, which is
        // async-signal-safe. It allocates nothing and takes no lock. 0 stands for the writer.
        unsafe { command.pre_exec(move || (&join).write_all(b"0")) };
        let mut process = command.spawn().unwrap();
        let says = BufReader::new(process.stdout.take().unwrap());
        Self {
            machine,
            process,
            says,
        }
    }

    fn say(&mut self, what: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{what}").unwrap();
    }

    fn wait_for(&mut self, what: &str) {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        assert_eq!(
            line.trim(),
            what,
            "a toucher ended: {:?} (was there too little swap?)",
            self.process.try_wait()
        );
    }

    /// Returns the path of the memcg as the kernel writes it. A mount may show another path.
    pub fn memcg_path(&self) -> Vec<u8> {
        let cgroup = fs::read(format!("/proc/{}/cgroup", self.process.id())).unwrap();
        self.machine.hierarchy.path_in(&cgroup).to_owned()
    }
}

impl Drop for Toucher<'_> {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns whether this process is a toucher.
pub fn is_toucher() -> bool {
    env::var_os(TOUCH).is_some()
}

/// Touches memory, as a toucher.
pub fn touch() -> ExitCode {
    // No test waits longer. If the test was killed, the process ends all the same.
    // SAFETY: alarm has no precondition; what the signal does is end this process.
    unsafe { libc::alarm(60) };
    let bytes: Option<usize> = env::var(TOUCH).ok().and_then(|bytes| bytes.parse().ok());
    let Some(bytes) = bytes else {
        return ExitCode::FAILURE;
    };
    let mut lines = io::stdin().lines();
    lines.next();
    let mut memory = vec![0_u8; bytes];
    let page = usize::try_from(page_size()).unwrap_or(4096);
    for at in memory.iter_mut().step_by(page) {
        // Not 0: a page of zeros may be swapped out without being written.
        *black_box(at) = 1;
    }
    // Reads some pages back, and with them their neighbours, so that pages are in the swap cache.
    for at in memory[..bytes / 4].iter().step_by(64 * page) {
        black_box(*at);
    }
    println!("touched");
    lines.next();
    drop(black_box(memory));
    ExitCode::SUCCESS
}

fn own_name() -> String {
    format!("{PREFIX}{}", std::process::id())
}

pub fn c_path(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())
}

fn swap_off(file: &Path) -> bool {
    let Ok(path) = c_path(file) else { return false };
    again_and_again(|| {
        // SAFETY: `path` is a string that ends with 0 and lives until the call returns.
        unsafe { libc::swapoff(path.as_ptr()) == 0 }
    })
}

/// Tries up to 50 times: the kernel may keep a thing in use for a moment.
fn again_and_again(mut done: impl FnMut() -> bool) -> bool {
    (0..50).any(|nr| {
        if nr > 0 {
            thread::sleep(Duration::from_millis(100));
        }
        done()
    })
}

fn remove_memcg(folder: &Path) {
    if !again_and_again(|| fs::remove_dir(folder).is_ok()) {
        tell!("the cgroup {} is left", folder.display());
    }
}

/// Removes what a killed run left.
pub fn clear_leftovers(mount_point: &Path) {
    for folder in leftovers(mount_point) {
        // Its processes have ended, because their pipe is closed.
        tell!("an earlier run left {}", folder.display());
        remove_memcg(&folder);
    }
    for place in [env::temp_dir(), PathBuf::from("/var/tmp")] {
        for folder in leftovers(&place) {
            tell!("an earlier run left {}", folder.display());
            let on: Vec<PathBuf> = SwapFile::read_all()
                .into_iter()
                .flatten()
                .map(|swapfile| OsString::from_vec(swapfile.name).into())
                .filter(|file: &PathBuf| file.starts_with(&folder))
                .collect();
            if on.iter().all(|file| swap_off(file)) {
                let _ = fs::remove_dir_all(&folder);
            }
        }
    }
}

/// Returns the folders with the name of a run whose process has ended.
fn leftovers(place: &Path) -> Vec<PathBuf> {
    let left = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let pid = name.and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        pid.is_some_and(|pid| {
            let is_number = pid.parse::<u32>().is_ok();
            is_number && !Path::new("/proc").join(pid).exists()
        })
    };
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(left).collect()
}
