//! Reads the kernel's own figures for cgroups.

use std::fs;
use std::path::Path;

use super::{Hierarchy, Version, bytes, page_size};

/// The kernel's figures for one cgroup, without the cgroups below it, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// v1: `swap` of `memory.stat`, which counts the slots whose page is not in memory.
    /// v2: `memory.swap.current`, which counts all slots, and those of removed cgroups below.
    pub swap: u64,
    /// Pages in memory that also have a slot: the swap cache. A page table may show the page or the slot.
    pub swapcached: u64,
    /// v1: `total_swap` minus `swap`, minus the `total_swap` of the cgroups below: the slots of removed
    /// cgroups below.
    pub gone: u64,
    version: Version,
}

/// The figures in the files of a cgroup, in bytes.
#[derive(Debug, Clone, Copy)]
struct Raw {
    swap: u64,
    swapcached: u64,
    /// With all cgroups below. v2 has no other figure.
    total: u64,
    total_cached: u64,
}

impl Raw {
    fn read(version: Version, folder: &Path) -> Option<Self> {
        let stat = || fs::read(folder.join("memory.stat")).ok();
        match version {
            Version::V1 => {
                let stat = stat()?;
                let field = |name| bytes::field(&stat, name);
                let swap = field(b"swap")?;
                // Kernels before 5.12 do not have this line.
                let swapcached = field(b"swapcached").unwrap_or(0);
                Some(Self {
                    swap,
                    swapcached,
                    total: field(b"total_swap").unwrap_or(swap),
                    total_cached: swapcached,
                })
            }
            Version::V2 => {
                let current = fs::read(folder.join("memory.swap.current")).ok()?;
                let swap = bytes::decimal(&current)?;
                // Without slots the swap cache is empty, and memory.stat is long.
                let cached = if swap > 0 {
                    bytes::field(&stat()?, b"swapcached").unwrap_or(0)
                } else {
                    0
                };
                Some(Self {
                    swap,
                    swapcached: cached,
                    total: swap,
                    total_cached: cached,
                })
            }
        }
    }
}

impl Figures {
    /// Reads the figures of the cgroup in `folder`.
    pub fn read(version: Version, folder: &Path) -> Option<Self> {
        let entries = fs::read_dir(folder).ok()?.flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let below = folders.filter_map(|entry| Raw::read(version, &entry.path()));
        let below = below.collect::<Vec<_>>();
        Some(Self::of(version, &Raw::read(version, folder)?, &below))
    }

    fn of(version: Version, own: &Raw, below: &[Raw]) -> Self {
        let less =
            |own: u64, figure: fn(&Raw) -> u64| own.saturating_sub(below.iter().map(figure).sum());
        let total = less(own.total, |raw| raw.total);
        let (swap, swapcached, gone) = match version {
            Version::V1 => (own.swap, own.swapcached, total.saturating_sub(own.swap)),
            Version::V2 => (total, less(own.total_cached, |raw| raw.total_cached), 0),
        };
        let page_size = page_size();
        Self {
            swap: swap / page_size,
            swapcached: swapcached / page_size,
            gone: gone / page_size,
            version,
        }
    }

    /// Reads the figures of all cgroups that the mount shows. The root of v2 has none.
    pub(super) fn read_all(hierarchy: &Hierarchy) -> Vec<(Vec<u8>, Self)> {
        let version = hierarchy.version;
        let cgroups = hierarchy.cgroups();
        let raw: Vec<Option<Raw>> = cgroups
            .iter()
            .map(|cgroup| Raw::read(version, &cgroup.folder))
            .collect();
        let mut below = vec![Vec::new(); cgroups.len()];
        for (cgroup, raw) in cgroups.iter().zip(&raw) {
            if let (Some(parent), Some(raw)) = (cgroup.parent, raw) {
                below[parent].push(*raw);
            }
        }
        let figures = raw
            .iter()
            .zip(&below)
            .map(|(own, below)| own.as_ref().map(|own| Self::of(version, own, below)));
        let paths = cgroups.into_iter().map(|cgroup| cgroup.path);
        paths
            .zip(figures)
            .filter_map(|(path, figures)| Some((path, figures?)))
            .collect()
    }

    /// Returns the smallest number of slots that page tables can show: those whose page is not in memory.
    pub fn at_least(&self) -> u64 {
        match self.version {
            Version::V1 => self.swap,
            Version::V2 => self.swap.saturating_sub(self.swapcached),
        }
    }

    /// Returns the largest number of slots that page tables can show: those of the swap cache included.
    pub fn at_most(&self) -> u64 {
        self.at_least() + self.swapcached
    }

    /// Returns whether page tables that show `found` slots agree with these figures.
    pub fn agrees_with(&self, found: u64) -> bool {
        (self.at_least()..=self.at_most()).contains(&found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memcgs::fake::Fake;
    use super::*;

    fn pages(nr: u64) -> String {
        (nr * page_size()).to_string()
    }

    #[test]
    fn v1_counts_the_swap_cache_on_top_of_the_figure() {
        let stat = format!("cache 1\nswap {}\nswapcached {}\n", pages(10), pages(3));
        let fake = Fake::new("v1").with(
            "a",
            "memory.stat",
            &format!("{stat}total_swap {}\n", pages(10)),
        );
        let figures = Figures::read(Version::V1, &fake.0.join("a")).unwrap();
        assert_eq!((figures.swap, figures.swapcached, figures.gone), (10, 3, 0));
        assert_eq!((figures.at_least(), figures.at_most()), (10, 13));
        assert!(figures.agrees_with(13) && !figures.agrees_with(9));
    }

    #[test]
    fn v1_shows_the_slots_of_removed_cgroups() {
        let stat = |own, total| format!("swap {}\ntotal_swap {}\n", pages(own), pages(total));
        let fake = Fake::new("gone")
            .with("a", "memory.stat", &stat(10, 37))
            .with("a/b", "memory.stat", &stat(5, 7));
        let figures = Figures::read(Version::V1, &fake.0.join("a")).unwrap();
        assert_eq!((figures.swap, figures.gone), (10, 20));
        let all = Figures::read_all(&fake.hierarchy(Version::V1, "/"));
        let told: Vec<_> = all
            .iter()
            .map(|(path, f)| (&path[..], f.swap, f.gone))
            .collect();
        assert_eq!(told, [(&b"/a"[..], 10, 20), (b"/a/b", 5, 2)]);
    }

    #[test]
    fn v2_figures_exclude_the_cgroups_below_and_include_the_swap_cache() {
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
}
