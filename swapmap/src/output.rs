//! Where results go: standard output, and files that are replaced as a whole.

use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use swapmap::names::shown;

use crate::failure::Failure;
use crate::signals;

/// Whether the command was started without a standard output. Relaxed: it is written before `main` begins.
static CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look_at_stdout() {
    // SAFETY: asks for the flags of a descriptor, which may be closed.
    if unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1 {
        CLOSED.store(true, Ordering::Relaxed);
    }
}

// The runtime of Rust opens /dev/null in place of a closed standard output, so `main` would be too late: it
// cannot tell that file from a /dev/null that the caller opened.
//
// SAFETY: the loader calls each function in this section once, before `main`. This function makes one system
// call and one atomic store, and needs nothing that the runtime sets up.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_AT_STDOUT: extern "C" fn() = look_at_stdout;

/// Checks that there is a standard output.
///
/// # Errors
///
/// `EBADF`, as a write to a closed descriptor would give.
fn check_stdout() -> Result<(), Failure> {
    if CLOSED.load(Ordering::Relaxed) {
        return Err(Failure::Output(io::Error::from_raw_os_error(libc::EBADF)));
    }
    Ok(())
}

/// Writes to standard output, in large pieces. Where `write` writes nothing, standard output may be closed.
pub(crate) fn print<T>(
    write: impl FnOnce(&mut dyn Write) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, Stdout(io::stdout().lock()));
    let done = write(&mut out)?;
    out.flush()?;
    Ok(done)
}

/// Standard output. A write fails where the command was started without one.
struct Stdout<'o>(io::StdoutLock<'o>);

impl Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if CLOSED.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Where an image goes.
#[derive(Debug)]
pub(crate) enum Destination {
    Stdout,
    /// A file that exists and is replaced, or a new one.
    File(PathBuf),
}

impl Destination {
    /// Checks the argument of `-o` or `--save`, before the work; `inputs` are the files that are read
    /// meanwhile. `-` is standard output.
    ///
    /// # Errors
    ///
    /// As [`file_to_write`]. Also where standard output is a terminal or closed, and where an input has the
    /// name under which the new image is written.
    pub(crate) fn new(path: &Path, inputs: &[&Path]) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            check_stdout()?;
            if io::stdout().is_terminal() {
                return Err(Failure::Usage(
                    "an image is not text, and standard output is a terminal: give the path of a file, or a pipe"
                        .to_owned(),
                ));
            }
            return Ok(Self::Stdout);
        }
        let path = file_to_write(path)?;
        // The library removes a file of this name before it writes.
        let beside = beside(&path, "");
        for input in inputs {
            if is_same(input, &beside) {
                return Err(Failure::Usage(format!(
                    "{} is the name under which {} is written until it is complete, so the input would be lost: \
                     rename it first",
                    shown(input),
                    shown(&path)
                )));
            }
        }
        Ok(Self::File(path))
    }

    /// The path, for errors of a file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("standard output"),
            Self::File(path) => path,
        }
    }

    /// The path as text.
    pub(crate) fn name(&self) -> String {
        shown(self.path())
    }
}

/// Returns `.NAME.partial`, the name next to `path` under which a file is written; with a number before
/// `partial` where one is given.
fn beside(path: &Path, number: &str) -> PathBuf {
    let mut beside = OsString::from(".");
    beside.push(path.file_name().unwrap_or_default());
    beside.push(number);
    beside.push(".partial");
    path.with_file_name(beside)
}

/// Returns the file that is written for `path`: its symbolic links are followed, also where the last one
/// leads to a file that does not exist.
///
/// # Errors
///
/// - There is something else than a file: it would be replaced.
/// - The directory does not exist, or this process may not write to it.
pub(crate) fn file_to_write(path: &Path) -> Result<PathBuf, Failure> {
    let file = follow(path)?;
    let folder = folder(&file);
    check_writable(folder)
        .map_err(|error| Failure::io("write to the directory", folder, &error))?;
    Ok(file)
}

fn follow(path: &Path) -> Result<PathBuf, Failure> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(found) => {
            let what = if found.is_dir() {
                "a directory"
            } else {
                "a device, a pipe or a socket"
            };
            return Err(Failure::Refused(format!(
                "{} is {what}, which a file must not replace: give the path of a file, or `-o -` for standard output \
                 where there is that option",
                shown(path)
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return follow_dangling(path),
        // The directory is checked next, and gives a better error.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(path.to_owned()),
        Err(error) => return Err(Failure::io("look at", path, &error)),
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_symlink());
    if !is_link {
        return Ok(path.to_owned());
    }
    fs::canonicalize(path).map_err(|error| Failure::io("follow the link", path, &error))
}

/// Follows links to a file that does not exist.
fn follow_dangling(path: &Path) -> Result<PathBuf, Failure> {
    /// Linux follows as many.
    const MOST: usize = 40;
    let mut at = path.to_owned();
    for _ in 0..MOST {
        // `file_name` would leave the slash out.
        if at.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Failure::Refused(format!(
                "cannot write {}: the path ends in a slash, and there is no such directory; give the path of a file",
                shown(&at)
            )));
        }
        match fs::read_link(&at) {
            // Relative to the directory that the link is in.
            Ok(target) => at = folder(&at).join(target),
            // It is not a link.
            Err(_) => return Ok(at),
        }
    }
    let error = io::Error::from_raw_os_error(libc::ELOOP);
    Err(Failure::io("follow the link", path, &error))
}

/// The directory that a file is in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Checks that this process may create files in a directory.
fn check_writable(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    let path = CString::new(folder.as_os_str().as_bytes())?;
    let may = libc::W_OK | libc::X_OK;
    // SAFETY: `path` ends with 0 and lives until the call returns.
    match unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), may, libc::AT_EACCESS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the file that a picture is written to.
///
/// # Errors
///
/// As [`file_to_write`], and for `-`: the text goes to standard output.
pub(crate) fn picture_to_write(png: &Path) -> Result<PathBuf, Failure> {
    if png.as_os_str() == "-" {
        return Err(Failure::Usage(
            "--png - would mix the picture with the text on standard output: give the path of a file (./- is one)"
                .to_owned(),
        ));
    }
    file_to_write(png)
}

/// Returns whether both paths name one file, which need not exist.
pub(crate) fn is_one_name(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| {
        let path = follow(path).ok()?;
        Some(
            fs::canonicalize(folder(&path))
                .ok()?
                .join(path.file_name()?),
        )
    };
    one == other || is_same(one, other) || whole(one).is_some_and(|one| whole(other) == Some(one))
}

/// Returns whether both paths lead to one file that exists.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Gives a new file the owner, the group and the permissions of the file that it is to replace, as far as
/// this process may give files away. A group other than the old one gets no access.
fn keep_permissions(new: &File, old: &fs::Metadata) -> io::Result<()> {
    let found = new.metadata()?;
    if (found.uid(), found.gid()) != (old.uid(), old.gid())
        && fchown(new, Some(old.uid()), Some(old.gid())).is_err()
    {
        // The group alone may be possible. The check below sees it where it is not.
        let _ = fchown(new, None, Some(old.gid()));
    }
    let same_group = new.metadata()?.gid() == old.gid();
    let mode = old.mode() & if same_group { 0o777 } else { 0o707 };
    new.set_permissions(fs::Permissions::from_mode(mode))
}

/// Writes a file that is not an image, as a whole or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let path = file_to_write(path)?;
    let beside = beside(&path, &format!(".{}", std::process::id()));
    let write = || -> io::Result<()> {
        let there = fs::metadata(&path).ok();
        let mut options = OpenOptions::new();
        // A private file stays private, also while it is written.
        options.mode(if there.is_some() { 0o600 } else { 0o666 });
        let mut file = options.write(true).create_new(true).open(&beside)?;
        if let Some(there) = there {
            keep_permissions(&file, &there)?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    signals::held(write).map_err(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            let _ = fs::remove_file(&beside);
        }
        Failure::io("write", &path, &error)
    })
}
