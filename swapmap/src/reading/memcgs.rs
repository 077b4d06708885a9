//! Gives ids to memory cgroups.

use std::collections::{BTreeMap, HashMap};

use swap_records::MemcgId;

use super::{Figures, Hierarchy, Refused};

/// The ids of the memory cgroups.
///
/// The kernel has 16-bit ids of its own but does not show them. So cgroups get the ids 1, 2, 3 and so on, in
/// the order in which they are found.
#[derive(Debug)]
pub struct Memcgs {
    hierarchy: Hierarchy,
    ids: HashMap<Vec<u8>, MemcgId>,
    paths: Vec<Vec<u8>>,
}

impl Memcgs {
    pub(super) fn new(hierarchy: Hierarchy) -> Self {
        Self {
            hierarchy,
            ids: HashMap::new(),
            paths: Vec::new(),
        }
    }

    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Returns the id of the cgroup that the processes of `path` are charged to. A new cgroup gets the next
    /// id.
    pub fn id_of(&mut self, path: &[u8]) -> Result<MemcgId, Refused> {
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

    /// Returns the path of the cgroup `id`: any bytes but 0 and line ends.
    pub fn path(&self, id: MemcgId) -> &[u8] {
        let path = self.paths.get(usize::from(id.get()) - 1);
        path.map_or(b"(unknown)", Vec::as_slice)
    }

    /// Reads the kernel's figures for all cgroups that have an id, or swap by these figures. Those with swap
    /// get an id.
    pub(super) fn figures(&mut self) -> Result<BTreeMap<MemcgId, Figures>, Refused> {
        let mut figures = BTreeMap::new();
        for (path, of) in Figures::read_all(&self.hierarchy) {
            let id = match self.ids.get(&path) {
                Some(&id) => id,
                None if of.at_most() > 0 || of.gone > 0 => self.id_of(&path)?,
                None => continue,
            };
            figures.insert(id, of);
        }
        Ok(figures)
    }
}

#[cfg(test)]
pub(super) mod fake {
    use super::super::Version;
    use super::Hierarchy;
    use std::fs;
    use std::path::PathBuf;

    /// A folder tree that looks like a mounted hierarchy.
    pub(in super::super) struct Fake(pub(in super::super) PathBuf);

    impl Fake {
        pub(in super::super) fn new(name: &str) -> Self {
            let folder = format!("swap-records-fake-{name}-{}", std::process::id());
            let fake = Self(std::env::temp_dir().join(folder));
            fs::create_dir_all(&fake.0).unwrap();
            fake
        }

        pub(in super::super) fn with(self, path: &str, file: &str, text: &str) -> Self {
            let folder = self.0.join(path);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
            self
        }

        pub(in super::super) fn hierarchy(&self, version: Version, root: &str) -> Hierarchy {
            Hierarchy {
                version,
                mount_point: self.0.clone(),
                root: root.into(),
            }
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Version;
    use super::fake::Fake;
    use super::*;

    #[test]
    fn a_cgroup_without_the_controller_is_charged_to_its_parent() {
        let fake =
            Fake::new("charged")
                .with("a", "memory.stat", "")
                .with("a/b/c", "cgroup.procs", "");
        let mut memcgs = Memcgs::new(fake.hierarchy(Version::V2, "/"));
        let a = memcgs.id_of(b"/a").unwrap();
        assert_eq!(memcgs.id_of(b"/a/b/c").unwrap(), a);
        assert_eq!(memcgs.path(a), b"/a");
        let gone = memcgs.id_of(b"/gone").unwrap();
        assert_eq!(
            memcgs.path(gone),
            b"/gone",
            "a cgroup that was removed keeps its path"
        );
        assert!(memcgs.figures().unwrap().is_empty());
    }

    #[test]
    fn a_cgroup_with_swap_has_figures_also_without_a_process() {
        let swap = (7 * super::super::page_size()).to_string();
        let fake = Fake::new("tmpfs")
            .with(
                "a",
                "memory.stat",
                &format!("swap {swap}\ntotal_swap {swap}\n"),
            )
            .with("b", "memory.stat", "swap 0\n");
        let mut memcgs = Memcgs::new(fake.hierarchy(Version::V1, "/"));
        let figures = memcgs.figures().unwrap();
        let told: Vec<_> = figures
            .iter()
            .map(|(&id, f)| (memcgs.path(id), f.swap))
            .collect();
        assert_eq!(told, [(&b"/a"[..], 7)]);
    }

    #[test]
    fn the_65536th_cgroup_is_refused() {
        let fake = Fake::new("many");
        let mut memcgs = Memcgs::new(fake.hierarchy(Version::V1, "/"));
        for nr in 1..=u16::MAX {
            assert_eq!(memcgs.id_of(format!("/{nr}").as_bytes()).unwrap().get(), nr);
        }
        assert!(matches!(
            memcgs.id_of(b"/one-more"),
            Err(Refused::TooManyMemcgs)
        ));
        assert_eq!(memcgs.id_of(b"/7").unwrap().get(), 7);
    }
}
