//! Memory cgroups: where they are mounted, whose process is whose, and the kernel's own figures.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use procfs::ProcessCGroups;
use procfs::process::Process;
use swap_records::MemcgId;

use super::Refused;

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
    root: String,
}

impl Hierarchy {
    pub fn find() -> Result<Self, Refused> {
        let mounts = Process::myself()
            .and_then(|process| process.mountinfo())
            .map_err(|error| Refused::Proc("/proc/self/mountinfo", error))?;
        let mut found: Vec<Self> = mounts
            .into_iter()
            .filter_map(|mount| {
                let version = match mount.fs_type.as_str() {
                    "cgroup" if mount.super_options.contains_key("memory") => Version::V1,
                    "cgroup2" if has_memory(&mount.mount_point) => Version::V2,
                    _ => return None,
                };
                Some(Self {
                    version,
                    mount_point: mount.mount_point,
                    root: mount.root,
                })
            })
            .collect();
        // A mount of the whole hierarchy shows every cgroup, one of a part of it only some.
        found.sort_by_key(|hierarchy| hierarchy.root.len());
        found.into_iter().next().ok_or(Refused::NoMemoryController)
    }

    /// The memory cgroup of a process, as the kernel writes it: `/` and below.
    pub fn path_in(&self, cgroups: &ProcessCGroups) -> String {
        cgroups
            .into_iter()
            .find(|cgroup| match self.version {
                Version::V1 => cgroup.controllers.iter().any(|name| name == "memory"),
                Version::V2 => cgroup.hierarchy == 0,
            })
            .map_or_else(|| "/".to_owned(), |cgroup| cgroup.pathname.clone())
    }

    /// The folder of a cgroup, if it can be seen from here.
    pub fn folder(&self, path: &str) -> Option<PathBuf> {
        let inside = match self.root.as_str() {
            "/" => path,
            root => path
                .strip_prefix(root)
                .filter(|rest| rest.is_empty() || rest.starts_with('/'))?,
        };
        // `/..` is how a cgroup namespace shows what is outside of it.
        if inside.split('/').any(|part| part == "..") {
            return None;
        }
        let folder = self.mount_point.join(inside.trim_start_matches('/'));
        folder.is_dir().then_some(folder)
    }

    /// The nearest cgroup upwards, itself included, that memory is charged to.
    ///
    /// v2 turns the controller on folder by folder: a cgroup without it lives at its parent's cost.
    fn charged<'p>(&self, path: &'p str) -> &'p str {
        let mut at = path;
        while at.len() > 1 {
            let uncharged = self
                .folder(at)
                .is_some_and(|folder| !folder.join("memory.stat").exists());
            if !uncharged {
                return at;
            }
            at = at.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        "/"
    }
}

fn has_memory(mount_point: &Path) -> bool {
    fs::read_to_string(mount_point.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
}

/// The kernel's figures for one cgroup alone, without those below it, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// v1: `swap` of `memory.stat`, the slots whose page is not in memory.
    /// v2: `memory.swap.current`, all slots, those whose page is in memory as well included.
    pub swap: u64,
    /// Pages in memory that have a slot too: the swap cache. A page table may show either.
    pub swapcached: u64,
    version: Version,
}

impl Figures {
    /// Reads `folder`, the folder of a cgroup.
    pub fn read(version: Version, folder: &Path) -> Option<Self> {
        let page_size = procfs::page_size();
        let (swap, swapcached) = match version {
            Version::V1 => {
                let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
                (field(&stat, "swap")?, field(&stat, "swapcached"))
            }
            Version::V2 => {
                // v2 reports a cgroup with all below it.
                let (mut swap, mut swapcached) = v2_subtree(folder)?;
                for child in fs::read_dir(folder).ok()?.flatten() {
                    if let Some(below) = v2_subtree(&child.path()) {
                        swap = swap.saturating_sub(below.0);
                        swapcached = swapcached.zip(below.1).map(|(a, b)| a.saturating_sub(b));
                    }
                }
                (swap, swapcached)
            }
        };
        Some(Self {
            swap: swap / page_size,
            // Kernels before 5.12 do not tell.
            swapcached: swapcached.unwrap_or(0) / page_size,
            version,
        })
    }

    /// The least that page tables can show: the slots whose page is nowhere in memory.
    pub fn at_least(&self) -> u64 {
        match self.version {
            Version::V1 => self.swap,
            Version::V2 => self.swap.saturating_sub(self.swapcached),
        }
    }

    /// The most that page tables can show: all pages of the swap cache still to be faulted in.
    pub fn at_most(&self) -> u64 {
        self.at_least() + self.swapcached
    }
}

fn v2_subtree(folder: &Path) -> Option<(u64, Option<u64>)> {
    let swap = fs::read_to_string(folder.join("memory.swap.current")).ok()?;
    let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
    Some((swap.trim().parse().ok()?, field(&stat, "swapcached")))
}

fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|&(key, _)| key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// The ids of the memory cgroups.
///
/// The kernel has 16-bit ids of its own but shows them to nobody, so these are handed out here, in
/// the order in which cgroups are met.
#[derive(Debug)]
pub struct Memcgs {
    hierarchy: Hierarchy,
    ids: HashMap<String, MemcgId>,
    paths: Vec<String>,
}

impl Memcgs {
    pub fn new(hierarchy: Hierarchy) -> Self {
        Self {
            hierarchy,
            ids: HashMap::new(),
            paths: Vec::new(),
        }
    }

    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The id of the cgroup that the processes of `path` are charged to.
    pub fn id_of(&mut self, path: &str) -> Result<MemcgId, Refused> {
        if let Some(&id) = self.ids.get(path) {
            return Ok(id);
        }
        let charged = self.hierarchy.charged(path);
        let id = match self.ids.get(charged) {
            Some(&id) => id,
            None => {
                let id = u16::try_from(self.paths.len() + 1)
                    .ok()
                    .and_then(MemcgId::new)
                    .ok_or(Refused::TooManyMemcgs)?;
                self.paths.push(charged.to_owned());
                self.ids.insert(charged.to_owned(), id);
                id
            }
        };
        self.ids.insert(path.to_owned(), id);
        Ok(id)
    }

    /// The cgroup of `id`.
    pub fn path(&self, id: MemcgId) -> &str {
        let path = self.paths.get(usize::from(id.get()) - 1);
        path.map_or("(unknown)", String::as_str)
    }

    /// The kernel's figures for all that have an id.
    pub fn figures(&self) -> BTreeMap<MemcgId, Figures> {
        self.paths
            .iter()
            .filter_map(|path| {
                let folder = self.hierarchy.folder(path)?;
                let figures = Figures::read(self.hierarchy.version, &folder)?;
                Some((*self.ids.get(path)?, figures))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder tree that looks like a mounted hierarchy.
    struct Fake(PathBuf);

    impl Fake {
        fn new(name: &str) -> Self {
            let folder = format!("swap-records-fake-{name}-{}", std::process::id());
            let fake = Self(std::env::temp_dir().join(folder));
            fs::create_dir_all(&fake.0).unwrap();
            fake
        }

        fn with(self, path: &str, file: &str, text: &str) -> Self {
            let folder = self.0.join(path);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
            self
        }

        fn hierarchy(&self, version: Version, root: &str) -> Hierarchy {
            Hierarchy {
                version,
                mount_point: self.0.clone(),
                root: root.to_owned(),
            }
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn pages(nr: u64) -> String {
        (nr * procfs::page_size()).to_string()
    }

    #[test]
    fn v1_counts_the_swap_cache_on_top_of_the_figure() {
        let stat = format!("cache 1\nswap {}\nswapcached {}\n", pages(10), pages(3));
        let fake = Fake::new("v1").with("a", "memory.stat", &format!("{stat}total_swap 99\n"));
        let figures = Figures::read(Version::V1, &fake.0.join("a")).unwrap();
        assert_eq!((figures.swap, figures.swapcached), (10, 3));
        assert_eq!((figures.at_least(), figures.at_most()), (10, 13));
    }

    #[test]
    fn v2_figures_are_freed_of_what_is_below_and_hold_the_swap_cache() {
        let stat = |nr| format!("anon 1\nswapcached {}\n", pages(nr));
        let fake = Fake::new("v2")
            .with("a", "memory.swap.current", &pages(10))
            .with("a", "memory.stat", &stat(3))
            .with("a/b", "memory.swap.current", &pages(4))
            .with("a/b", "memory.stat", &stat(1))
            .with("a/off", "cgroup.procs", "");
        let figures = Figures::read(Version::V2, &fake.0.join("a")).unwrap();
        assert_eq!((figures.swap, figures.swapcached), (6, 2));
        assert_eq!((figures.at_least(), figures.at_most()), (4, 6));
        assert_eq!(Figures::read(Version::V2, &fake.0), None, "the root");
    }

    #[test]
    fn a_cgroup_without_the_controller_lives_at_its_parents_cost() {
        let fake =
            Fake::new("charged")
                .with("a", "memory.stat", "")
                .with("a/b/c", "cgroup.procs", "");
        let mut memcgs = Memcgs::new(fake.hierarchy(Version::V2, "/"));
        let a = memcgs.id_of("/a").unwrap();
        assert_eq!(memcgs.id_of("/a/b/c").unwrap(), a);
        assert_eq!(memcgs.path(a), "/a");
        let gone = memcgs.id_of("/gone").unwrap();
        assert_eq!(
            memcgs.path(gone),
            "/gone",
            "removed meanwhile, still its own"
        );
        assert!(memcgs.figures().is_empty());
    }

    #[test]
    fn a_mount_of_a_part_shows_that_part_only() {
        let fake = Fake::new("part").with("x", "memory.stat", "");
        let hierarchy = fake.hierarchy(Version::V1, "/box");
        assert_eq!(hierarchy.folder("/box/x"), Some(fake.0.join("x")));
        assert_eq!(hierarchy.folder("/other/x"), None);
        assert_eq!(hierarchy.folder("/box/y"), None);
        assert_eq!(hierarchy.folder("/boxx"), None);
        assert_eq!(hierarchy.folder("/box/../x"), None);
    }

    #[test]
    fn the_65536th_cgroup_is_refused() {
        let fake = Fake::new("many");
        let mut memcgs = Memcgs::new(fake.hierarchy(Version::V1, "/"));
        for nr in 1..=u16::MAX {
            assert_eq!(memcgs.id_of(&format!("/{nr}")).unwrap().get(), nr);
        }
        assert!(matches!(
            memcgs.id_of("/one-more"),
            Err(Refused::TooManyMemcgs)
        ));
        assert_eq!(memcgs.id_of("/7").unwrap().get(), 7);
    }
}
