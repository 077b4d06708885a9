//! Allocates slots of the swapfile. The crate does not: it knows the owner of each slot, but picks none.
//!
//! Slots come in clusters of 512. Each owner takes slots from a cluster of its own, as in kernels. So the
//! pages of one guest lie together.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use crate::index;

/// Slots per cluster.
pub(crate) const CLUSTER: u64 = 512;
const WORDS: usize = (CLUSTER / 64) as usize;

/// All slots of a swapfile.
#[derive(Debug)]
pub(crate) struct Slots {
    clusters: Vec<Cluster>,
    /// Those without a slot in use, the next one last.
    empty: Vec<usize>,
    /// Where each owner takes its slots.
    current: HashMap<u64, usize>,
    used: u64,
}

#[derive(Clone, Debug, Default)]
struct Cluster {
    /// A bit for each slot in use.
    words: [u64; WORDS],
    used: u64,
    /// Some owner takes its slots here.
    taken: bool,
}

/// A free slot was freed, or a slot in use was given out again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Twice(pub(crate) u64);

impl fmt::Display for Twice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} has two users, or was freed twice", self.0)
    }
}

impl std::error::Error for Twice {}

impl Slots {
    /// Makes an allocator for a swapfile of this many slots, in whole clusters, all free.
    pub(crate) fn new(slots: u64) -> Self {
        let nr = index(slots / CLUSTER);
        Self {
            clusters: vec![Cluster::default(); nr],
            empty: (0..nr).rev().collect(),
            current: HashMap::new(),
            used: 0,
        }
    }

    /// Marks slots that are in use already, before any is given out: those with a record, after a restart.
    pub(crate) fn mark(&mut self, run: Range<u64>) -> Result<(), Twice> {
        for slot in run {
            let (cluster, at) = place(slot);
            let of = self.clusters.get_mut(cluster).ok_or(Twice(slot))?;
            if !of.set(at) {
                return Err(Twice(slot));
            }
            self.used += 1;
        }
        let clusters = &self.clusters;
        self.empty.retain(|&cluster| clusters[cluster].used == 0);
        Ok(())
    }

    /// Takes up to `most` slots that lie together, for this owner. Returns `None` where all slots are in use.
    pub(crate) fn take(&mut self, owner: u64, most: u64) -> Option<Range<u64>> {
        let mut cluster = match self.current.get(&owner) {
            Some(&cluster) => cluster,
            None => self.next_cluster(owner)?,
        };
        if self.clusters[cluster].used == CLUSTER {
            self.leave(owner);
            cluster = self.next_cluster(owner)?;
        }
        let of = &mut self.clusters[cluster];
        let first = (0..CLUSTER).find(|&at| !of.is_set(at))?;
        let mut end = first;
        while end < CLUSTER && end - first < most && of.set(end) {
            end += 1;
        }
        self.used += end - first;
        let start = cluster as u64 * CLUSTER;
        Some(start + first..start + end)
    }

    /// Frees a slot.
    pub(crate) fn free(&mut self, slot: u64) -> Result<(), Twice> {
        let (cluster, at) = place(slot);
        let of = self.clusters.get_mut(cluster).ok_or(Twice(slot))?;
        if !of.clear(at) {
            return Err(Twice(slot));
        }
        self.used -= 1;
        if of.used == 0 && !of.taken {
            self.empty.push(cluster);
        }
        Ok(())
    }

    /// Ends the owner's use of a cluster. The slots that it has stay in use.
    pub(crate) fn leave(&mut self, owner: u64) {
        let Some(cluster) = self.current.remove(&owner) else {
            return;
        };
        let of = &mut self.clusters[cluster];
        of.taken = false;
        if of.used == 0 {
            self.empty.push(cluster);
        }
    }

    /// Returns the number of slots in use.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Gives the owner an empty cluster. If there is none, gives it the cluster that has the most room, and
    /// prefers one without an owner.
    fn next_cluster(&mut self, owner: u64) -> Option<usize> {
        let next = self.empty.pop().or_else(|| {
            let all = self.clusters.iter().enumerate();
            let free = all.filter(|(_, of)| of.used < CLUSTER);
            let best = free.min_by_key(|(_, of)| (of.taken, of.used));
            best.map(|(cluster, _)| cluster)
        })?;
        if self.clusters[next].taken {
            // The previous owner looks for another one when it needs a slot.
            self.current.retain(|_, &mut cluster| cluster != next);
        }
        self.clusters[next].taken = true;
        self.current.insert(owner, next);
        Some(next)
    }
}

impl Cluster {
    fn is_set(&self, at: u64) -> bool {
        self.words[index(at / 64)] >> (at % 64) & 1 != 0
    }

    /// Returns whether the slot was free.
    fn set(&mut self, at: u64) -> bool {
        let was = self.is_set(at);
        self.words[index(at / 64)] |= 1 << (at % 64);
        self.used += u64::from(!was);
        !was
    }

    /// Returns whether the slot was in use.
    fn clear(&mut self, at: u64) -> bool {
        let was = self.is_set(at);
        self.words[index(at / 64)] &= !(1 << (at % 64));
        self.used -= u64::from(was);
        was
    }
}

fn place(slot: u64) -> (usize, u64) {
    (index(slot / CLUSTER), slot % CLUSTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_slot_has_two_users_whatever_is_taken_freed_and_left() {
        let mut random = fastrand::Rng::with_seed(18);
        for _ in 0..50 {
            let mut slots = Slots::new(4 * CLUSTER);
            let mut used = BTreeSet::new();
            for _ in 0..2000 {
                let owner = random.u64(..6);
                match random.u8(..10) {
                    0..5 => match slots.take(owner, random.u64(1..40)) {
                        Some(run) => {
                            assert!(!run.is_empty());
                            assert!(run.end <= 4 * CLUSTER);
                            assert_eq!(run.start / CLUSTER, (run.end - 1) / CLUSTER);
                            assert!(run.into_iter().all(|slot| used.insert(slot)));
                        }
                        None => assert_eq!(used.len() as u64, 4 * CLUSTER),
                    },
                    5..9 => {
                        let from = random.u64(..4 * CLUSTER);
                        let some: Vec<u64> = used.range(from..).take(30).copied().collect();
                        for slot in some {
                            slots.free(slot).unwrap();
                            used.remove(&slot);
                        }
                    }
                    _ => slots.leave(owner),
                }
                assert_eq!(slots.used(), used.len() as u64);
            }
        }
    }

    #[test]
    fn owners_take_from_clusters_of_their_own() {
        let mut slots = Slots::new(4 * CLUSTER);
        let one = slots.take(1, 8).unwrap();
        let other = slots.take(2, 8).unwrap();
        assert_ne!(one.start / CLUSTER, other.start / CLUSTER);
        assert_eq!(slots.take(1, 8).unwrap(), one.end..one.end + 8);
    }

    #[test]
    fn a_slot_that_is_free_or_marked_is_not_taken_twice() {
        let mut slots = Slots::new(CLUSTER);
        assert_eq!(slots.free(3), Err(Twice(3)));
        slots.mark(0..4).unwrap();
        assert_eq!(slots.mark(3..4), Err(Twice(3)));
        assert_eq!(slots.mark(CLUSTER..CLUSTER + 1), Err(Twice(CLUSTER)));
        assert_eq!(slots.take(9, 600), Some(4..CLUSTER));
        assert_eq!(slots.take(9, 1), None);
    }
}
