//! A swapfile, memory cgroups with small limits, and processes that overrun them. All of it goes
//! when its value is dropped, so after a panic too.

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

/// Followed by the id of the process that made it: whose it is, and that it may go.
const PREFIX: &str = "swap-records-live-";
const TOUCH: &str = "SWAP_RECORDS_LIVE_TOUCH";

/// Of swapon(2): the low 15 bits are the priority. The highest of all: whatever else is on, the
/// pages go to this swapfile first.
pub const PREFERRED: i32 = 0x7fff;
const WITH_PRIORITY: i32 = 0x8000;

/// `println!` panics where nobody listens any more; in a `drop`, that would end the cleaning up.
macro_rules! tell {
    ($($what:tt)*) => {{
        let _ = writeln!(io::stdout(), $($what)*);
    }};
}

/// Why it cannot run here, as far as can be told without changing anything.
pub fn reason_not_to_run() -> Option<String> {
    // SAFETY: geteuid has no precondition and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some("it turns swap on and makes memory cgroups: that takes root".to_owned());
    }
    let refused = check_privilege().and_then(|()| Hierarchy::find().map(drop));
    refused.err().map(|refused| refused.to_string())
}

/// Fields drop in this order: a cgroup goes once it is empty, a swapfile fastest once it is.
pub struct Machine {
    memcgs: Vec<Memcg>,
    hierarchy: Hierarchy,
    _delegation: Option<Delegation>,
    _swapfile: SwapOn,
}

impl Machine {
    /// The error is the reason why this machine does not allow it.
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

    /// A process in each memcg touches `bytes`, all at once. They have done so when this returns,
    /// and sleep until they are dropped.
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

    /// The kernel's figures, memcg by memcg.
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
    /// Not every file system takes a swapfile (tmpfs does not), so there are two places to try.
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
        // Others must not read what was swapped out.
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(owner_only)?;
        io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
        file.sync_all()
    }

    fn format(&self) -> Result<(), String> {
        // Where mkswap lives is not on everybody's path.
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
            // A file that is on must stay, or nobody could turn it off by name any more.
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
            // Rather swap than kill, whatever the machine's own setting; v2 has none per cgroup.
            let _ = fs::write(folder.join("memory.swappiness"), "100");
        }
        Figures::read(hierarchy.version, &folder)
            .ok_or("the kernel does not count the swap of a cgroup (swapaccount=0)")?;
        Ok(memcg)
    }

    /// Without a limit, in the folder `above`. Its name is that of this run, a dash and `name`.
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

/// v2: the memory controller, on for the cgroups below the top. Off again when dropped, if it was.
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
        // It joins before it becomes a program: every page that the program has is then charged
        // to the memcg, and its records can be held against the memcg's figure.
        // SAFETY: between fork and exec the closure makes one write to a file that is open, which
        // is async-signal-safe; it allocates nothing and takes no lock. 0 stands for the writer.
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
            "a toucher ended: {:?} (killed for want of swap?)",
            self.process.try_wait()
        );
    }

    /// The memcg, as the kernel names it: what a mount shows of it may be another path.
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

/// Whether this process is a toucher.
pub fn is_toucher() -> bool {
    env::var_os(TOUCH).is_some()
}

/// What a toucher does.
pub fn touch() -> ExitCode {
    // Nobody waits for longer, and nothing is left for longer if the test was killed.
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
    // Some are read back, and with them their neighbours: pages in the swap cache are what the
    // bounds are about.
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

/// The kernel may hold on to what is given back for a moment longer.
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

/// Takes away what a run left that was killed.
pub fn clear_leftovers(mount_point: &Path) {
    for folder in leftovers(mount_point) {
        // Its processes end by themselves when their pipe closes, which it has.
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

/// Folders that carry the name of a run whose process is gone.
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
