//! Finds the mounted hierarchy of memory cgroups, its cgroups, and their processes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Refused, bytes};

/// The interface of the memory controller. A kernel never has both at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// The mounted hierarchy that has the memory controller.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    pub version: Version,
    pub mount_point: PathBuf,
    /// The cgroup at the top of the mount: not `/` in most containers.
    pub(super) root: Vec<u8>,
}

/// A cgroup that the mount shows.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// The path as the kernel writes it, which begins with `/`. Any bytes but 0 and line ends.
    pub(super) path: Vec<u8>,
    pub(super) folder: PathBuf,
    /// The index of its parent in the list of all cgroups, which is a lower one.
    pub(super) parent: Option<usize>,
}

impl Hierarchy {
    /// Finds the hierarchy that has the memory controller.
    pub fn find() -> Result<Self, Refused> {
        const MOUNTS: &str = "/proc/self/mountinfo";
        let text = fs::read(MOUNTS).map_err(|error| Refused::File(MOUNTS.into(), error))?;
        Self::of(&text)
    }

    /// Finds the hierarchy among these lines of `mountinfo`.
    fn of(mounts: &[u8]) -> Result<Self, Refused> {
        let found = bytes::lines(mounts)
            .filter_map(bytes::mount)
            .filter_map(|mount| {
                let mount_point = path_buf(&mount.point);
                let version = match mount.fs_type.as_slice() {
                    b"cgroup" if mount.has_memory_option => Version::V1,
                    b"cgroup2" if has_memory(&mount_point) => Version::V2,
                    _ => return None,
                };
                // Another mount may hide this one.
                mount_point.join("cgroup.procs").exists().then_some(Self {
                    version,
                    mount_point,
                    root: mount.root,
                })
            });
        // A mount of the whole hierarchy shows every cgroup. Its root is the shortest.
        found
            .min_by_key(|hierarchy| hierarchy.root.len())
            .ok_or(Refused::NoMemoryController)
    }

    /// Returns the memory cgroup in the text of `/proc/PID/cgroup`.
    pub fn path_in<'t>(&self, cgroup: &'t [u8]) -> &'t [u8] {
        bytes::memcg_path(cgroup, self.version).unwrap_or(b"/")
    }

    /// Returns the folder of a cgroup, if the mount shows it.
    pub(super) fn folder(&self, path: &[u8]) -> Option<PathBuf> {
        let inside = match self.root.as_slice() {
            b"/" => path,
            root => path
                .strip_prefix(root)
                .filter(|rest| rest.is_empty() || rest.starts_with(b"/"))?,
        };
        let mut parts = inside
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty());
        // A cgroup namespace shows cgroups outside of it as `/..`.
        if parts.clone().any(|part| part == b"..") {
            return None;
        }
        let folder = parts.try_fold(self.mount_point.clone(), |mut folder, part| {
            folder.push(OsStr::from_bytes(part));
            Some(folder)
        })?;
        folder.is_dir().then_some(folder)
    }

    /// Returns the cgroup that the memory of `path` is charged to: `path` itself or the nearest cgroup above
    /// it.
    ///
    /// v2 turns the controller on folder by folder. The memory of a cgroup without the controller is charged
    /// to its parent.
    pub(super) fn charged<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let mut at = path;
        while at.len() > 1 {
            let uncharged = self
                .folder(at)
                .is_some_and(|folder| !folder.join("memory.stat").exists());
            if !uncharged {
                return at;
            }
            at = &at[..at.iter().rposition(|&byte| byte == b'/').unwrap_or(0)];
        }
        b"/"
    }

    /// Returns all cgroups that the mount shows, each after its parent. A cgroup that is removed during the
    /// call may be missing.
    pub(super) fn cgroups(&self) -> Vec<Cgroup> {
        let mut all = vec![Cgroup {
            path: self.root.clone(),
            folder: self.mount_point.clone(),
            parent: None,
        }];
        let mut next = 0;
        while next < all.len() {
            let entries = fs::read_dir(&all[next].folder)
                .into_iter()
                .flatten()
                .flatten();
            let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            for entry in folders.collect::<Vec<_>>() {
                let mut path = all[next].path.clone();
                if path != b"/" {
                    path.push(b'/');
                }
                path.extend_from_slice(entry.file_name().as_bytes());
                all.push(Cgroup {
                    path,
                    folder: entry.path(),
                    parent: Some(next),
                });
            }
            next += 1;
        }
        all
    }
}

fn has_memory(mount_point: &Path) -> bool {
    fs::read_to_string(mount_point.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
}

fn path_buf(bytes: &[u8]) -> PathBuf {
    std::ffi::OsString::from_vec(bytes.to_vec()).into()
}

/// The cgroup of every process, from the lists of the cgroups: these cost a fraction of reading every
/// `/proc/PID/cgroup`.
#[derive(Debug, Default)]
pub(super) struct Placement {
    cgroups: Vec<Cgroup>,
    /// In the order of the processes.
    of: Vec<(u32, usize)>,
}

impl Placement {
    pub(super) fn read(hierarchy: &Hierarchy) -> Self {
        // Cgroups list numbers of this process's PID namespace, and /proc lists those of the namespace of its
        // mount.
        let own = fs::read_link("/proc/self").ok();
        if own != Some(std::process::id().to_string().into()) {
            return Self::default();
        }
        let cgroups = hierarchy.cgroups();
        let mut of = Vec::new();
        for (nr, cgroup) in cgroups.iter().enumerate() {
            // Cgroups of threads may refuse this. Then the process itself is asked later.
            let text = fs::read(cgroup.folder.join("cgroup.procs")).unwrap_or_default();
            let pids = bytes::lines(&text).filter_map(bytes::decimal);
            of.extend(pids.filter_map(|pid| Some((u32::try_from(pid).ok()?, nr))));
        }
        of.sort_unstable();
        Self { cgroups, of }
    }

    /// Returns the path of the cgroup of `pid`; `None` if the process itself must be asked. That is so if its
    /// threads are in several cgroups of v1, or if it began after the lists were read.
    pub(super) fn find(&self, pid: u32) -> Option<&[u8]> {
        let from = self.of.partition_point(|&(before, _)| before < pid);
        match self.of[from..] {
            [(first, cgroup), ref rest @ ..] if first == pid => {
                let elsewhere = rest.first().is_some_and(|&(next, _)| next == pid);
                (!elsewhere).then_some(&self.cgroups[cgroup].path)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memcgs::fake::Fake;
    use super::*;

    #[test]
    fn a_mount_of_a_part_shows_that_part_only() {
        let fake = Fake::new("part").with("x", "memory.stat", "");
        let hierarchy = fake.hierarchy(Version::V1, "/box");
        assert_eq!(hierarchy.folder(b"/box/x"), Some(fake.0.join("x")));
        assert_eq!(hierarchy.folder(b"/other/x"), None);
        assert_eq!(hierarchy.folder(b"/box/y"), None);
        assert_eq!(hierarchy.folder(b"/boxx"), None);
        assert_eq!(hierarchy.folder(b"/box/../x"), None);
        let paths: Vec<_> = hierarchy
            .cgroups()
            .into_iter()
            .map(|cgroup| cgroup.path)
            .collect();
        assert_eq!(paths, [&b"/box"[..], b"/box/x"]);
    }

    /// A folder stands for the mount: where v1 has the memory controller, no v2 hierarchy can have it.
    #[test]
    fn a_v2_hierarchy_is_found_by_its_controllers_and_read() {
        let pages = |nr: u64| (nr * super::super::page_size()).to_string();
        let fake = Fake::new("v2-whole")
            .with("", "cgroup.controllers", "cpu memory pids\n")
            .with("", "cgroup.procs", "1\n")
            .with("a", "cgroup.procs", "30\n")
            .with("a", "memory.swap.current", &pages(10))
            .with("a", "memory.stat", &format!("swapcached {}\n", pages(3)))
            .with("a/no-controller", "cgroup.procs", "31\n")
            .with("a/b", "cgroup.procs", "32\n")
            .with("a/b", "memory.swap.current", &pages(4))
            .with("a/b", "memory.stat", "swapcached 0\n");
        let other = Fake::new("v2-other")
            .with("", "cgroup.controllers", "cpu pids\n")
            .with("", "cgroup.procs", "");
        let line = |fake: &Fake| {
            let point = fake.0.display();
            format!("33 24 0:29 / {point} rw shared:1 - cgroup2 cgroup2 rw,nsdelegate\n")
        };
        let refused = Hierarchy::of(line(&other).as_bytes());
        assert!(matches!(refused, Err(Refused::NoMemoryController)));
        let mounts = line(&other) + &line(&fake);
        let hierarchy = Hierarchy::of(mounts.as_bytes()).unwrap();
        assert_eq!(
            (hierarchy.version, &hierarchy.mount_point),
            (Version::V2, &fake.0)
        );
        let placed = Placement::read(&hierarchy);
        assert_eq!(placed.find(32), Some(&b"/a/b"[..]));
        let mut memcgs = super::super::Memcgs::new(hierarchy);
        let a = memcgs.id_of(placed.find(30).unwrap()).unwrap();
        let uncharged = memcgs.id_of(placed.find(31).unwrap()).unwrap();
        assert_eq!(
            uncharged, a,
            "without the controller, its parent is charged"
        );
        let figures = memcgs.figures().unwrap();
        let b = memcgs.id_of(b"/a/b").unwrap();
        let told = [a, b].map(|id| (figures[&id].at_least(), figures[&id].at_most()));
        assert_eq!(told, [(3, 6), (4, 4)]);
        assert_eq!(figures.len(), 2);
    }

    #[test]
    fn processes_are_placed_by_their_cgroups_lists() {
        let fake = Fake::new("placed")
            .with("a", "cgroup.procs", "30\n7\n")
            .with("b", "cgroup.procs", "8\n30\n\n");
        let placed = Placement::read(&fake.hierarchy(Version::V1, "/"));
        assert_eq!(placed.find(7), Some(&b"/a"[..]));
        assert_eq!(placed.find(8), Some(&b"/b"[..]));
        assert_eq!(placed.find(30), None, "its threads are in two");
        assert_eq!(placed.find(9), None);
        assert_eq!(placed.find(31), None);
    }
}
