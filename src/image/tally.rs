//! [`Tally`]: how many slots each id has.

use core::fmt;
use std::vec::Vec;

use super::error::ImageError;
use super::room;
use crate::id::MemcgId;

/// Ids from 0 up that have [`LANES`] counters each: 32 KiB, which a first-level cache holds.
const LOW: usize = 2048;
const LANES: usize = 4;
/// Ids that are looked at together, to choose the counters.
const PIECE: usize = 1 << 15;
/// With more, the small counters are emptied before another piece is counted.
const MOST_PENDING: usize = u32::MAX as usize - PIECE;

/// Counts how many slots each id has, of any ids: those of a [`Reader`](super::Reader), of a
/// [`Map`](super::Map), or of a program's own.
///
/// Takes 792 KiB. Threads count into a tally each, and [`merge`](Self::merge) adds them up.
///
/// Counting costs 0.3 to 0.5 ns per slot where ids are finely interleaved.
///
/// ```
/// use swap_records::{MemcgId, image::Tally};
///
/// let mut tally = Tally::new()?;
/// tally.add(&[7, 7, 0, 9]);
/// assert_eq!(tally.count(MemcgId::new(7).unwrap()), 2);
/// assert!(tally.owners().map(|(id, count)| (id.get(), count)).eq([(7, 2), (9, 1)]));
/// # Ok::<(), swap_records::image::ImageError>(())
/// ```
pub struct Tally {
    /// A counter for each id, 0 too.
    few: Vec<u32>,
    /// More counters for each low id, since the next slot often has the same id, and an addition to a counter waits for
    /// the one before.
    low: Vec<[u32; LOW]>,
    /// How many ids are in these counters. None of them is higher.
    pending: usize,
    /// What was in them before.
    many: Vec<u64>,
}

const IDS: usize = u16::MAX as usize + 1;

fn zeros<T: Clone>(zero: T, nr: usize) -> Result<Vec<T>, ImageError> {
    let mut zeros = room(nr)?;
    zeros.resize(nr, zero);
    Ok(zeros)
}

impl Tally {
    /// Makes a tally without a slot.
    ///
    /// # Errors
    ///
    /// [`ImageError::OutOfMemory`].
    pub fn new() -> Result<Self, ImageError> {
        Ok(Self {
            few: zeros(0, IDS)?,
            low: zeros([0; LOW], LANES - 1)?,
            pending: 0,
            many: zeros(0, IDS)?,
        })
    }

    /// As [`new`](Self::new), with memory of the standard library, which ends the process where there is none.
    pub(super) fn of_any() -> Self {
        Self {
            few: std::vec![0; IDS],
            low: std::vec![[0; LOW]; LANES - 1],
            pending: 0,
            many: std::vec![0; IDS],
        }
    }

    /// Counts these slots. 0 is a slot without a record.
    pub fn add(&mut self, ids: &[u16]) {
        self.add_as(ids, |id| id);
    }

    /// Counts the ids of an image as they are in the file.
    pub(super) fn add_le(&mut self, ids: &[u16]) {
        self.add_as(ids, u16::from_le);
    }

    fn add_as(&mut self, ids: &[u16], native: impl Fn(u16) -> u16) {
        for ids in ids.chunks(PIECE) {
            if self.pending > MOST_PENDING {
                self.empty();
            }
            self.pending += ids.len();
            let highest = ids.iter().map(|&id| native(id)).max().unwrap_or(0);
            if usize::from(highest) < LOW {
                self.add_low(ids, &native);
            } else {
                self.add_any(ids, &native);
            }
        }
    }

    fn add_low(&mut self, ids: &[u16], native: &impl Fn(u16) -> u16) {
        let Some(few) = self.few.first_chunk_mut::<LOW>() else {
            return;
        };
        let [second, third, fourth] = &mut self.low[..] else {
            return;
        };
        let at = |id| usize::from(native(id)) % LOW;
        let (fours, rest) = ids.as_chunks::<LANES>();
        for &[a, b, c, d] in fours {
            few[at(a)] += 1;
            second[at(b)] += 1;
            third[at(c)] += 1;
            fourth[at(d)] += 1;
        }
        for &id in rest {
            few[at(id)] += 1;
        }
    }

    fn add_any(&mut self, ids: &[u16], native: &impl Fn(u16) -> u16) {
        /// Slots that are looked at together: where all of them have one id, it is counted once.
        const TOGETHER: usize = 16;
        let mut add = |id, nr| self.few[usize::from(native(id))] += nr;
        let (together, rest) = ids.as_chunks::<TOGETHER>();
        for ids in together {
            if ids[0] == ids[TOGETHER - 1] && *ids == [ids[0]; TOGETHER] {
                add(ids[0], 16);
            } else {
                ids.iter().for_each(|&id| add(id, 1));
            }
        }
        rest.iter().for_each(|&id| add(id, 1));
    }

    /// Adds the small counters to the large ones, before one of them can overflow.
    fn empty(&mut self) {
        for id in 0..IDS {
            self.many[id] = self.get(id);
        }
        self.few.fill(0);
        self.low.fill([0; LOW]);
        self.pending = 0;
    }

    fn get(&self, id: usize) -> u64 {
        let low = self.low.iter().filter_map(|lane| lane.get(id));
        let few: u64 = low.chain(self.few.get(id)).map(|&nr| u64::from(nr)).sum();
        self.many[id] + few
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (id, many) in self.many.iter_mut().enumerate() {
            *many += other.get(id);
        }
    }

    /// How many slots the id has.
    #[must_use]
    pub fn count(&self, id: MemcgId) -> u64 {
        self.get(id.get().into())
    }

    /// Each id that has slots, lowest first, with their number.
    pub fn owners(&self) -> impl Iterator<Item = (MemcgId, u64)> {
        let owners = (1..=u16::MAX).filter_map(MemcgId::new);
        let owners = owners.map(|id| (id, self.count(id)));
        owners.filter(|&(_, count)| count > 0)
    }
}

/// Writes how many ids have slots.
impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally")
            .field("owners", &self.owners().count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    fn id(id: u16) -> MemcgId {
        MemcgId::new(id).unwrap()
    }

    #[test]
    fn each_slot_is_counted_once_whatever_its_id() {
        for most in [1, 3, 2047, 2048, u16::MAX] {
            let mut rng = Rng::with_seed(most.into());
            let ids: Vec<u16> = (0..70_003).map(|_| rng.u16(..=most)).collect();
            let mut expected = std::collections::BTreeMap::new();
            for &id in ids.iter().filter(|&&id| id > 0) {
                *expected.entry(id).or_insert(0_u64) += 1;
            }
            let (mut all, mut rest) = (Tally::new().unwrap(), Tally::new().unwrap());
            all.add(&ids[..33_333]);
            rest.add(&ids[33_333..]);
            all.empty();
            all.merge(&rest);
            let found = all.owners().map(|(id, count)| (id.get(), count));
            assert!(found.eq(expected), "ids up to {most}");
        }
    }

    #[test]
    fn counters_are_emptied_before_they_overflow() {
        let mut tally = Tally::new().unwrap();
        tally.add(&[5; 10]);
        // As if 2^32 - 6 slots of it had been counted.
        tally.few[5] = u32::MAX - 5;
        tally.pending = MOST_PENDING + 1;
        let before = tally.count(id(5));
        tally.add(&[5; 100]);
        assert_eq!(tally.count(id(5)), before + 100);
        assert_eq!(tally.pending, 100);
    }
}
