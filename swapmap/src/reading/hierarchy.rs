//! Where memory cgroups are mounted, which there are, and which processes are in them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Refused, bytes};

/// Which of its two interfaces the memory controller is mounted with: never both at once.
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
    /// The cgroup that the mount shows as its top: not `/` in most containers.
    pub(super) root: Vec<u8>,
}

/// A cgroup that the mount shows.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// As the kernel writes it: `/` and below. Any bytes but 0 and line ends.
    pub(super) path: Vec<u8>,
    pub(super) folder: PathBuf,
    /// Its place in the list of all; it comes before.
    pub(super) parent: Option<usize>,
}

impl Hierarchy {
    pub fn find() -> Result<Self, Refused> {
        const MOUNTS: &str = "/proc/self/mountinfo";
        let text = fs::read(MOUNTS).map_err(|error| Refused::File(MOUNTS.into(), error))?;
        Self::of(&text)
    }

    /// Finds it among these lines of `mountinfo`.
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
                // Another mount may hide it.
                mount_point.join("cgroup.procs").exists().then_some(Self {
                    version,
                    mount_point,
                    root: mount.root,
                })
            });
        // A mount of the whole hierarchy shows every cgroup, one of a part of it only some.
        found
            .min_by_key(|hierarchy| hierarchy.root.len())
            .ok_or(Refused::NoMemoryController)
    }

    /// The memory cgroup of a process, as the kernel writes it in `/proc/PID/cgroup`: `/` and below.
    pub fn path_in<'t>(&self, cgroup: &'t [u8]) -> &'t [u8] {
        bytes::memcg_path(cgroup, self.version).unwrap_or(b"/")
    }

    /// The folder of a cgroup, if it can be seen from here.
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
        // `/..` is how a cgroup namespace shows what is outside of it.
        if parts.clone().any(|part| part == b"..") {
            return None;
        }
        let folder = parts.try_fold(self.mount_point.clone(), |mut folder, part| {
            folder.push(OsStr::from_bytes(part));
            Some(folder)
        })?;
        folder.is_dir().then_some(folder)
    }

    /// The nearest cgroup upwards, itself included, that memory is charged to.
    ///
    /// v2 turns the controller on folder by folder: a cgroup without it lives at its parent's cost.
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

    /// All cgroups that the mount shows, each after its parent. One that is removed meanwhile is left out.
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

/// The cgroup of every process, read cgroup by cgroup: that costs a fraction of `/proc/PID/cgroup` of every process.
#[derive(Debug, Default)]
pub(super) struct Placement {
    cgroups: Vec<Cgroup>,
    /// In the order of the processes.
    of: Vec<(u32, usize)>,
}

impl Placement {
    pub(super) fn read(hierarchy: &Hierarchy) -> Self {
        // Cgroups list numbers of the reader's namespace, /proc those of the namespace that it was mounted in.
        let own = fs::read_link("/proc/self").ok();
        if own != Some(std::process::id().to_string().into()) {
            return Self::default();
        }
        let cgroups = hierarchy.cgroups();
        let mut of = Vec::new();
        for (nr, cgroup) in cgroups.iter().enumerate() {
            // Some cgroups of threads refuse; then the process is asked.
            let text = fs::read(cgroup.folder.join("cgroup.procs")).unwrap_or_default();
            let pids = bytes::lines(&text).filter_map(bytes::decimal);
            of.extend(pids.filter_map(|pid| Some((u32::try_from(pid).ok()?, nr))));
        }
        of.sort_unstable();
        Self { cgroups, of }
    }

    /// The path of the cgroup of `pid`; `None` if the process must be asked. So it must where v1 has its threads in
    /// several cgroups, and where it began after the cgroups were read.
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
