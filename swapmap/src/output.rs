//! Where results go: standard output, and files that are replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Writes to standard output, in large pieces.
pub(crate) fn print<T>(
    write: impl FnOnce(&mut dyn Write) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let done = write(&mut out)?;
    out.flush()?;
    Ok(done)
}

/// Where an image goes.
#[derive(Debug)]
pub(crate) enum Destination {
    Stdout,
    /// A file that is there, which is replaced, or none.
    File(PathBuf),
}

impl Destination {
    /// Of the argument of `-o` or `--save`, where these files are read meanwhile. `-` is standard output.
    ///
    /// A symbolic link is followed, so that it stays. What is no file, such as a device, is refused: a file would take
    /// its place.
    pub(crate) fn new(path: &Path, inputs: &[&Path]) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            if io::stdout().is_terminal() {
                return Err(Failure::Usage(
                    "an image is no text, and standard output is a terminal: give the path of a file, or a pipe"
                        .to_owned(),
                ));
            }
            return Ok(Self::Stdout);
        }
        let path = file_to_write(path)?;
        // It is written beside, under this name, after what was left there has been removed.
        let mut beside = std::ffi::OsString::from(".");
        beside.push(path.file_name().unwrap_or_default());
        beside.push(".partial");
        let beside = path.with_file_name(beside);
        for input in inputs {
            if is_same(input, &beside) {
                return Err(Failure::Usage(format!(
                    "{} is where {} is written until it is whole, so it would be lost: rename it first",
                    input.display(),
                    path.display()
                )));
            }
        }
        Ok(Self::File(path))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("standard output"),
            Self::File(path) => path,
        }
    }
}

/// The file that is there at the end of a path's symbolic links, or that path where nothing is there.
pub(crate) fn file_to_write(path: &Path) -> Result<PathBuf, Failure> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(found) => {
            let what = if found.is_dir() {
                "a directory"
            } else {
                "a device, a pipe or a socket"
            };
            return Err(Failure::Refused(format!(
                "{} is {what}, and no file that can be replaced: give the path of a file, or `-o -` for \
                 standard output where there is that option",
                path.display()
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path.to_owned()),
        Err(error) => return Err(Failure::io("look at", path, &error)),
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_symlink());
    if !is_link {
        return Ok(path.to_owned());
    }
    fs::canonicalize(path).map_err(|error| Failure::io("follow the link", path, &error))
}

/// Whether both paths name one file, which need not be there.
pub(crate) fn is_one_name(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| {
        let path = file_to_write(path).ok()?;
        let folder = match path.parent()? {
            folder if folder.as_os_str().is_empty() => Path::new("."),
            folder => folder,
        };
        Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
    };
    one == other || is_same(one, other) || whole(one).is_some_and(|one| whole(other) == Some(one))
}

/// Whether both paths lead to one file that is there.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Gives a new file the owner, the group and the permissions of the file that it is to replace, as far as this process
/// may give files away. A group other than the old one gets no access.
fn keep_permissions(new: &File, old: &fs::Metadata) -> io::Result<()> {
    let found = new.metadata()?;
    if (found.uid(), found.gid()) != (old.uid(), old.gid())
        && fchown(new, Some(old.uid()), Some(old.gid())).is_err()
    {
        // The group alone may be possible. That it is not shows below.
        let _ = fchown(new, None, Some(old.gid()));
    }
    let same_group = new.metadata()?.gid() == old.gid();
    let mode = old.mode() & if same_group { 0o777 } else { 0o707 };
    new.set_permissions(fs::Permissions::from_mode(mode))
}

/// Writes a file that is no image, as a whole or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let path = file_to_write(path)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(path.file_name().unwrap_or_default());
    beside.push(format!(".{}.partial", std::process::id()));
    let beside = path.with_file_name(beside);
    let write = || -> io::Result<()> {
        let there = fs::metadata(&path).ok();
        let mut options = OpenOptions::new();
        // What is private stays so, from the beginning.
        options.mode(if there.is_some() { 0o600 } else { 0o666 });
        let mut file = options.write(true).create_new(true).open(&beside)?;
        if let Some(there) = there {
            keep_permissions(&file, &there)?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    write().map_err(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            let _ = fs::remove_file(&beside);
        }
        Failure::io("write", &path, &error)
    })
}
