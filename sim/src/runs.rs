//! Iterates over a map in the order of its slots ([`Runs`]), or fills its regions in any order ([`Regions`]).

use std::iter::FusedIterator;

use crate::map::{Map, REGION, index};

/// Consecutive slots with one owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Run {
    /// The first slot.
    pub start: u64,
    /// The number of slots, at least 1.
    pub len: u64,
    /// The owner, never 0.
    pub id: u16,
}

/// The regions of a [`Map`]: see [`Map::regions`].
#[derive(Clone, Debug)]
pub struct Regions<'a> {
    map: &'a Map,
    /// The scattered records, by slot.
    scattered: Vec<(u64, u16)>,
}

impl<'a> Regions<'a> {
    pub(crate) fn new(map: &'a Map) -> Self {
        let mut scattered: Vec<_> = map.scattered().collect();
        scattered.sort_unstable();
        Self { map, scattered }
    }

    /// Returns the number of slots of this region: [`REGION`], fewer for the last one, 0 for those past the end.
    #[must_use]
    pub fn slots(&self, region: u64) -> u64 {
        let before = region.saturating_mul(REGION);
        self.map.slots().saturating_sub(before).min(REGION)
    }

    /// Writes a region into a slice of its slots, with 0 for a slot without an owner.
    ///
    /// # Panics
    ///
    /// Panics if the slice has another length than the region.
    pub fn fill(&self, region: u64, ids: &mut [u16]) {
        let slots = self.slots(region);
        assert_eq!(ids.len() as u64, slots, "a slice of another size");
        if slots == 0 {
            return;
        }
        self.map.fill_region(region, ids);
        let base = region * REGION;
        let first = self.scattered.partition_point(|&(slot, _)| slot < base);
        for &(slot, id) in &self.scattered[first..] {
            if slot >= base + slots {
                break;
            }
            ids[index(slot - base)] = id;
        }
    }
}

/// Iterates over the runs of a [`Map`], in the order of their slots: see [`Map::runs`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    map: &'a Map,
    /// The owners of the current region, its first slot, and the number of owners that are done.
    region: Vec<u16>,
    base: u64,
    done: usize,
    /// The scattered records, by slot.
    scattered: Vec<(u64, u16)>,
    /// The number of scattered records before the end of `region`.
    placed: usize,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(map: &'a Map) -> Self {
        let mut scattered: Vec<_> = map.scattered().collect();
        scattered.sort_unstable();
        Self {
            map,
            region: Vec::new(),
            base: 0,
            done: 0,
            scattered,
            placed: 0,
        }
    }

    /// Returns the next run in the region, with id 0 for free slots. It may continue in the next region.
    fn stretch(&mut self) -> Option<Run> {
        if self.done == self.region.len() {
            self.next_region()?;
        }
        let rest = &self.region[self.done..];
        let id = rest[0];
        let len = rest.iter().take_while(|&&next| next == id).count();
        let start = self.base + self.done as u64;
        self.done += len;
        let len = len as u64;
        Some(Run { start, len, id })
    }

    fn next_region(&mut self) -> Option<()> {
        let base = self.base + self.region.len() as u64;
        if base >= self.map.slots() {
            return None;
        }
        let len = REGION.min(self.map.slots() - base);
        self.region.clear();
        self.region.resize(index(len), 0);
        self.map.fill_region(base / REGION, &mut self.region);
        for &(slot, id) in &self.scattered[self.placed..] {
            if slot >= base + len {
                break;
            }
            self.region[index(slot - base)] = id;
            self.placed += 1;
        }
        (self.base, self.done) = (base, 0);
        Some(())
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let mut run = loop {
            let stretch = self.stretch()?;
            if stretch.id != 0 {
                break stretch;
            }
        };
        // A run ends where the owner changes, which need not be the end of a region.
        while self.done == self.region.len()
            && self.next_region().is_some()
            && self.region[0] == run.id
        {
            run.len += self.stretch().map_or(0, |more| more.len);
        }
        Some(run)
    }
}

impl FusedIterator for Runs<'_> {}
