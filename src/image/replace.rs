//! Replaces a file as a whole: [`Replacement`].
//!
//! **Invariant: at each moment, even after a crash, the path names the whole old file or the whole new one.**
//! The new file is written in the same folder under another name. It is synced to the disk before it is renamed.
//!
//! The other name is always the same. So the next writer removes the file that a killed process left, and
//! such files never add up. A lock on that file keeps two writers apart. The lock belongs to the file
//! descriptor, so a killed process leaves none. Between opening the file and locking it, another writer may
//! have renamed it. Then the opened file is a complete image, and must not be touched. So the name is looked
//! up again under the lock.
//!
//! **Invariant: the new file was created by this writer, and no other process opened it or linked it before.** An
//! existing file has its own owner and permissions, and others may be able to write to it. So it is not
//! overwritten but removed, under its lock, and only if it is a file that a writer leaves: a regular file
//! with one name.
//!
//! **Invariant: the new file is never open to more users than the regular file that it replaces.** Where there
//! is one, the new file is created with mode 600. It gets the owner, the group and the mode of the old file
//! before it is renamed. A writer that may not give files away keeps them; then a group that is not the old
//! one gets no access. Where there is no old file, the new one has the permissions of a new file.
//!
//! A device, a pipe or a socket at the path is not replaced: other programs need `/dev/null` to stay what it is.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::ImageError;

/// A new file for a path. It is removed again unless it is [committed](Self::commit).
#[derive(Debug)]
pub(super) struct Replacement<'p> {
    path: &'p Path,
    partial: PathBuf,
    file: File,
    committed: bool,
}

impl<'p> Replacement<'p> {
    /// Creates an empty file in the folder of `path`. Only this writer writes to it.
    pub(super) fn begin(path: &'p Path) -> Result<Self, ImageError> {
        let partial = partial(path).ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
            ImageError::io("write an image to", Some(path))(source)
        })?;
        let private = check_there(path)?;
        let create = "create the file for the new image,";
        loop {
            let file = match create_new(&partial, private) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_left(&partial)?;
                    continue;
                }
                Err(error) => return Err(ImageError::io(create, Some(&partial))(error)),
            };
            // Before the lock, another writer may have removed the file as a leftover.
            if lock_named(&file, &partial)? {
                return Ok(Self {
                    path,
                    partial,
                    file,
                    committed: false,
                });
            }
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Renames the file to the path. Returns when the rename survives a crash.
    pub(super) fn commit(mut self) -> Result<(), ImageError> {
        // The old file may have come, gone or changed since the beginning.
        if let Ok(old) = fs::symlink_metadata(self.path)
            && old.is_file()
        {
            let kept = keep_permissions(&self.file, &old);
            let doing = "set the owner and permissions of the new image";
            kept.map_err(ImageError::io(doing, Some(&self.partial)))?;
        }
        let synced = self.file.sync_all();
        synced.map_err(ImageError::io("sync the new image", Some(&self.partial)))?;
        let renamed = fs::rename(&self.partial, self.path);
        renamed.map_err(ImageError::io("rename the new image to", Some(self.path)))?;
        // The new image is in place. The only step that can still fail is to sync the directory.
        self.committed = true;
        let folder = folder(self.path);
        sync_folder(folder).map_err(ImageError::io("sync the directory", Some(folder)))
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        if !self.committed {
            // If the removal fails, the next writer removes the file.
            if is_named(&self.file, &self.partial).is_ok_and(|is| is) {
                let _ = fs::remove_file(&self.partial);
            }
        }
    }
}

/// Returns the name under which a new image is written: `.NAME.partial`, in the same directory.
fn partial(path: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name()?);
    name.push(".partial");
    Some(path.with_file_name(name))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Gives a new file, which the caller has created, the owner, the group and the permissions of the file that it
/// is to replace.
///
/// Only a privileged process gives files away. Without privilege the new file keeps its owner, and its group if
/// the process is not in the old group. A group other than the old one gets no access. Access control lists are
/// not copied.
///
/// # Errors
///
/// Returns an error if the permissions cannot be read or set.
fn keep_permissions(new: &File, old: &fs::Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let found = new.metadata()?;
        if (found.uid(), found.gid()) != (old.uid(), old.gid())
            && fchown(new, Some(old.uid()), Some(old.gid())).is_err()
            && found.gid() != old.gid()
        {
            // The group alone may be possible. That it is not shows below.
            let _ = fchown(new, None, Some(old.gid()));
        }
        // An image is not a program, so no set-user-ID is copied.
        let mut mode = old.mode() & 0o777;
        if new.metadata()?.gid() != old.gid() {
            mode &= !0o070;
        }
        new.set_permissions(fs::Permissions::from_mode(mode))
    }
    #[cfg(not(unix))]
    new.set_permissions(old.permissions())
}

/// Creates the file: with mode 600 if it is `private`.
fn create_new(partial: &Path, private: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    options
        .read(true)
        .write(true)
        .create_new(true)
        .open(partial)
}

/// Locks the file, and returns whether this name still refers to it. If so, no other writer removes it.
fn lock_named(file: &File, partial: &Path) -> Result<bool, ImageError> {
    match file.try_lock() {
        Ok(()) => {}
        // Some file systems have no locks. There, the caller must see to it that there is one writer at a
        // time.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::WouldBlock) => {
            let path = partial.to_path_buf();
            return Err(ImageError::Locked { path });
        }
        Err(TryLockError::Error(error)) => {
            return Err(ImageError::io("lock", Some(partial))(error));
        }
    }
    is_named(file, partial).map_err(ImageError::io("inspect", Some(partial)))
}

/// Removes the file that a killed process left, if it still exists and no writer uses it.
fn remove_left(partial: &Path) -> Result<(), ImageError> {
    let refused = |doing| ImageError::io(doing, Some(partial));
    let found = match fs::symlink_metadata(partial) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused("inspect")(error)),
    };
    check_left(&found, partial)?;
    let file = match open_left(partial) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused("open the file that an earlier writer left,")(error)),
    };
    if !lock_named(&file, partial)? {
        return Ok(());
    }
    // The name may refer to another file than before.
    let found = file.metadata().map_err(refused("inspect"))?;
    check_left(&found, partial)?;
    match fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused(
            "remove the file that an earlier writer left,",
        )(error)),
        _ => Ok(()),
    }
}

/// Checks that the path may be replaced: that it is free, a file, or a symbolic link. The system refuses a
/// directory. Returns whether it is a file.
fn check_there(path: &Path) -> Result<bool, ImageError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(ImageError::io("look at", Some(path))(error)),
    };
    if found.is_file() || found.is_symlink() || found.is_dir() {
        return Ok(found.is_file());
    }
    Err(ImageError::InTheWay {
        path: path.to_path_buf(),
        found: "a device, a pipe or a socket",
    })
}

/// Checks that a writer may have left this file.
fn check_left(found: &fs::Metadata, partial: &Path) -> Result<(), ImageError> {
    #[cfg(unix)]
    let names = std::os::unix::fs::MetadataExt::nlink(found);
    #[cfg(not(unix))]
    let names = 1;
    let found = found.file_type();
    let found = if found.is_file() && names <= 1 {
        return Ok(());
    } else if found.is_file() {
        "a file that has another name as well"
    } else if found.is_dir() {
        "a directory"
    } else if found.is_symlink() {
        "a symbolic link"
    } else {
        "not a regular file"
    };
    let path = partial.to_path_buf();
    Err(ImageError::InTheWay { path, found })
}

/// Opens the file without changing it. It may be a complete image by now, or anything if others can write in
/// the directory.
fn open_left(partial: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        libc::O_NOFOLLOW | libc::O_NONBLOCK,
    );
    options.open(partial)
}

#[cfg(unix)]
fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let file = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_named(_file: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// On other systems a directory cannot be opened as a file.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::string::String;

    /// Makes a directory for this test.
    fn temporary(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(std::format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        folder
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no locks of files")]
    fn the_old_file_stays_until_the_new_one_is_committed() {
        let folder = temporary("replace");
        let path = folder.join("image");
        fs::write(&path, "old").unwrap();
        {
            let new = Replacement::begin(&path).unwrap();
            new.file().write_all(b"half").unwrap();
            assert_eq!(text(&path), "old");
        }
        assert_eq!(
            (text(&path).as_str(), fs::read_dir(&folder).unwrap().count()),
            ("old", 1)
        );
        // The file that a killed process left is removed.
        fs::write(partial(&path).unwrap(), "what was left, and is longer").unwrap();
        let new = Replacement::begin(&path).unwrap();
        new.file().write_all(b"new").unwrap();
        new.commit().unwrap();
        assert_eq!(
            (text(&path).as_str(), fs::read_dir(&folder).unwrap().count()),
            ("new", 1)
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    #[cfg(unix)]
    #[cfg_attr(miri, ignore = "Miri has no locks of files")]
    fn the_new_file_is_as_private_as_the_old_one() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let folder = temporary("private");
        let path = folder.join("image");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        for wanted in [0o600, 0o640, 0o444, 0o606] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
            let new = Replacement::begin(&path).unwrap();
            assert_eq!(mode(&new.partial), 0o600, "while it is written");
            new.commit().unwrap();
            assert_eq!(mode(&path), wanted);
            fs::remove_file(&path).unwrap();
        }
        // A file that is not there yet has the permissions of a new one, unless one has come meanwhile.
        let other = folder.join("other");
        fs::write(&other, "").unwrap();
        Replacement::begin(&path).unwrap().commit().unwrap();
        assert_eq!(mode(&path), mode(&other));
        fs::remove_file(&path).unwrap();
        let new = Replacement::begin(&path).unwrap();
        fs::write(&path, "came meanwhile").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        new.commit().unwrap();
        assert_eq!(mode(&path), 0o600);
        // As root, the owner stays as well. Others may not give files away.
        if std::os::unix::fs::chown(&path, Some(12), Some(34)).is_ok() {
            Replacement::begin(&path).unwrap().commit().unwrap();
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.uid(), found.gid(), mode(&path)), (12, 34, 0o600));
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no locks of files")]
    fn two_writers_of_a_path_are_kept_apart() {
        let folder = temporary("apart");
        let path = folder.join("image");
        let first = Replacement::begin(&path).unwrap();
        // The second writer opened the file by its name, and gets the lock after the first writer is done.
        let mut second = open_left(&first.partial).unwrap();
        assert!(matches!(
            Replacement::begin(&path),
            Err(ImageError::Locked { .. })
        ));
        first.file().write_all(b"first").unwrap();
        let name = first.partial.clone();
        first.commit().unwrap();
        second.try_lock().unwrap();
        assert!(!is_named(&second, &name).unwrap());
        let mut there = String::new();
        second.read_to_string(&mut there).unwrap();
        assert_eq!(
            there, "first",
            "the second writer opened the finished image"
        );
        drop(second);
        let third = Replacement::begin(&path).unwrap();
        assert!(is_named(third.file(), &name).unwrap());
        drop(third);
        assert_eq!(text(&path), "first");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    #[cfg(unix)]
    #[cfg_attr(miri, ignore = "Miri has no sockets")]
    fn a_device_or_a_socket_is_not_replaced() {
        let folder = temporary("socket");
        let path = folder.join("image");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = Replacement::begin(&path).map(drop).unwrap_err();
        assert!(
            matches!(&error, ImageError::InTheWay { path: at, .. } if *at == path),
            "{error}"
        );
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_path_that_names_no_file_is_refused() {
        for path in ["/", "", "a/.."] {
            let error = Replacement::begin(Path::new(path)).unwrap_err();
            assert!(matches!(error, ImageError::Io { .. }), "{path}: {error}");
        }
    }
}
