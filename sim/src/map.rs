//! [`Map`]: the owner of each slot of a synthetic swapfile.

use core::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use crate::runs::{Regions, Runs};
use crate::scatter::{Scatter, mix};

/// The number of slots that share a random sequence, and the step in which progress is reported.
pub const REGION: u64 = 32_768;
/// The number of slots in a chunk: 4 KiB of 16-bit ids.
pub const CHUNK: u64 = 2_048;

/// The number of ids of the families `jobs` and `uniform`.
const MANY: u16 = 16_384;

/// A kind of map: how owners are spread over slots.
///
/// Its text is `interleaved:N` for N cgroups, `jobs` or `uniform`, for [`Display`](fmt::Display) and [`FromStr`].
///
/// ```
/// use swap_records_sim::Family;
///
/// let family: Family = "interleaved:40".parse().unwrap();
/// assert_eq!(family, Family::Interleaved(40));
/// assert_eq!(family.highest_id(), 40);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Family {
    /// This many cgroups that swap at the same time, as measured on Linux 6.18 with 40 and 150. Runs are
    /// about 1.1 slots long, and nearly every cgroup is in nearly every chunk.
    Interleaved(u16),
    /// Ids that live for a while, eight at a time, and leave contiguous ranges of 64 to 2,048 slots.
    Jobs,
    /// 16,384 ids. A random one owns each slot.
    Uniform,
}

/// An error of parsing a [`Family`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ParseFamilyError(String);

impl fmt::Display for ParseFamilyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a family of maps: give interleaved:N with N from 1 to 65535, jobs, or uniform",
            self.0
        )
    }
}

impl std::error::Error for ParseFamilyError {}

impl FromStr for Family {
    type Err = ParseFamilyError;

    fn from_str(text: &str) -> Result<Self, ParseFamilyError> {
        let interleaved = |cgroups: &str| match cgroups.parse() {
            Ok(cgroups) if cgroups > 0 => Some(Self::Interleaved(cgroups)),
            _ => None,
        };
        let family = match text {
            "jobs" => Some(Self::Jobs),
            "uniform" => Some(Self::Uniform),
            _ => text.strip_prefix("interleaved:").and_then(interleaved),
        };
        family.ok_or_else(|| ParseFamilyError(text.into()))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interleaved(cgroups) => write!(f, "interleaved:{cgroups}"),
            Self::Jobs => f.write_str("jobs"),
            Self::Uniform => f.write_str("uniform"),
        }
    }
}

impl Family {
    /// Returns the highest id that owns a slot. The lowest is 1.
    #[must_use]
    pub fn highest_id(self) -> u16 {
        match self {
            Self::Interleaved(cgroups) => cgroups,
            Self::Jobs | Self::Uniform => MANY,
        }
    }

    fn region(self, region: u64, slots: Range<u64>, rng: &mut Rng, sink: &mut impl Sink) {
        match self {
            Self::Interleaved(cgroups) => interleaved(cgroups, slots, rng, sink),
            Self::Jobs => runs_of(slots, sink, || (rng.u64(64..=CHUNK), job(region, rng))),
            Self::Uniform => runs_of(slots, sink, || (1, 1 + rng.u16(..MANY))),
        }
    }

    /// Returns a random owner of this region.
    fn owner(self, region: u64, rng: &mut Rng) -> u16 {
        match self {
            Self::Interleaved(_) | Self::Uniform => 1 + rng.u16(..self.highest_id()),
            Self::Jobs => job(region, rng),
        }
    }
}

/// Takes the runs of one region as `(first slot, slots, id)`.
trait Sink: FnMut(u64, u64, u16) {}
impl<F: FnMut(u64, u64, u16)> Sink for F {}

/// Fills `slots` with runs of the lengths and ids that `next` returns. The last run is cut to fit.
fn runs_of(slots: Range<u64>, sink: &mut impl Sink, mut next: impl FnMut() -> (u64, u16)) {
    let mut slot = slots.start;
    while slot < slots.end {
        let (len, id) = next();
        let len = len.min(slots.end - slot);
        sink(slot, len, id);
        slot += len;
    }
}

/// The chance, out of 65,536, that a run continues. It makes runs 1.1 slots long on average.
const GOES_ON: u16 = 5_958;

/// Chooses the cgroups that swap something out while this chunk is filled.
fn choose_active(cgroups: u16, rng: &mut Rng, active: &mut Vec<u16>) {
    // Measured: the median chunk has 40 owners if there are 40 cgroups, and 144 if there are 150. The more
    // cgroups there are, the likelier one of them swaps nothing out while a chunk is filled.
    let idle = f64::from(cgroups) / 3_750.0;
    let idle = idle.min(0.25);
    active.clear();
    active.extend((1..=cgroups).filter(|_| rng.f64() >= idle));
    if active.is_empty() {
        active.extend(1..=cgroups);
    }
}

/// One more than the number of slots that follow.
fn run_len(rng: &mut Rng) -> u64 {
    let mut len = 1;
    while rng.u16(..) < GOES_ON {
        len += 1;
    }
    len
}

fn interleaved(cgroups: u16, slots: Range<u64>, rng: &mut Rng, sink: &mut impl Sink) {
    let mut active = Vec::with_capacity(cgroups.into());
    for start in slots.clone().step_by(index(CHUNK)) {
        choose_active(cgroups, rng, &mut active);
        runs_of(start..slots.end.min(start + CHUNK), sink, || {
            (run_len(rng), active[rng.usize(..active.len())])
        });
    }
}

/// Writes an [`interleaved`] region to a slice. Stores four slots for each short run, without a branch on its length; the
/// next runs overwrite the excess.
fn interleaved_slice(cgroups: u16, ids: &mut [u16], rng: &mut Rng) {
    const STORED: usize = 4;
    let mut active = Vec::with_capacity(cgroups.into());
    for ids in ids.chunks_mut(index(CHUNK)) {
        choose_active(cgroups, rng, &mut active);
        // A copy, which stays in registers.
        let mut own = rng.clone();
        let mut at = 0;
        while at < ids.len() {
            let len = index(run_len(&mut own)).min(ids.len() - at);
            let id = active[own.usize(..active.len())];
            match ids[at..].first_chunk_mut::<STORED>() {
                Some(four) => *four = [id; STORED],
                None => ids[at..].fill(id),
            }
            if len > STORED {
                ids[at + STORED..at + len].fill(id);
            }
            at += len;
        }
        *rng = own;
    }
}

/// Returns one of the eight jobs that run while this region is filled. Two of them end with it.
fn job(region: u64, rng: &mut Rng) -> u16 {
    let first = region * 2 % u64::from(MANY);
    let id = (first + rng.u64(..8)) % u64::from(MANY);
    1 + u16::try_from(id).expect("MANY is a u16")
}

/// A synthetic map: the owner of each slot of one swapfile.
///
/// The family, size and seed determine the map, together with [`aged`](Self::aged) and
/// [`remains`](Self::remains). Each region of [`REGION`] slots has its own random sequence, so the number of
/// threads makes no difference. A `Map` takes only a few bytes: it computes owners on request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Map {
    family: Family,
    slots: u64,
    seed: u64,
    turnovers: u64,
    remains: Vec<(u16, u64)>,
}

impl Map {
    /// Makes a map of `slots` slots. Each slot has an owner, which the family chooses.
    ///
    /// # Panics
    ///
    /// Panics if `slots` is 0, or the family has no owner.
    #[must_use]
    pub fn new(family: Family, slots: u64, seed: u64) -> Self {
        assert!(slots > 0 && family.highest_id() > 0, "an empty map");
        Self {
            family,
            slots,
            seed,
            turnovers: 0,
            remains: Vec::new(),
        }
    }

    /// Ages the map. Clears a range of one to eight slots and gives it a new owner, `turnovers` times all
    /// over the map. One range in eight, on average, stays free.
    #[must_use]
    pub fn aged(mut self, turnovers: u64) -> Self {
        self.turnovers = turnovers;
        self
    }

    /// Gives exactly `k` slots, scattered over the whole map, to an offline cgroup `id`. Each call gets
    /// other slots.
    ///
    /// # Panics
    ///
    /// Panics if all calls together ask for more slots than the map has.
    #[must_use]
    pub fn remains(mut self, id: u16, k: u64) -> Self {
        self.remains.push((id, k));
        let all: u64 = self.remains.iter().map(|(_, k)| k).sum();
        let slots = self.slots;
        assert!(all <= slots, "{all} scattered records in {slots} slots");
        self
    }

    /// Returns the number of slots.
    #[must_use]
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Returns the runs of equal owners, in the order of their slots. Skips slots without an owner.
    ///
    /// Works on one thread, region by region. Takes 64 KiB, and 16 bytes per scattered record.
    ///
    /// ```
    /// use swap_records_sim::{Family, Map};
    ///
    /// let map = Map::new(Family::Jobs, 100_000, 1);
    /// assert_eq!(map.runs().map(|run| run.len).sum::<u64>(), 100_000);
    /// ```
    #[must_use]
    pub fn runs(&self) -> Runs<'_> {
        Runs::new(self)
    }

    /// Returns the map's regions, with their scattered records. They can be filled in any order, on any number of threads.
    ///
    /// Takes 16 bytes per scattered record.
    ///
    /// ```
    /// use swap_records_sim::{Family, Map, REGION};
    ///
    /// let map = Map::new(Family::Interleaved(40), 2 * REGION, 1).remains(41, 100);
    /// let regions = map.regions();
    /// let mut ids = vec![0; REGION as usize];
    /// let mut remains = 0;
    /// for region in [1, 0] {
    ///     regions.fill(region, &mut ids);
    ///     remains += ids.iter().filter(|&&id| id == 41).count();
    /// }
    /// assert_eq!(remains, 100);
    /// ```
    #[must_use]
    pub fn regions(&self) -> Regions<'_> {
        Regions::new(self)
    }

    /// Sends the map to `sink` as `(first slot, slots, id)`. Id 0 clears slots that were sent before.
    ///
    /// Each of `threads` threads works on one region at a time, so regions come in any order. A region of an
    /// [aged](Self::aged) map may send a slot more than once: the last owner counts. [Remains](Self::remains)
    /// come after all regions. `progress` is called with the number of slots of each finished region.
    pub fn fill(
        &self,
        threads: usize,
        sink: impl Fn(u64, u64, u16) + Sync,
        progress: impl Fn(u64) + Sync,
    ) {
        in_parallel(self.slots.div_ceil(REGION), threads, |region| {
            self.region(region, &mut |start, len, id| sink(start, len, id));
            progress(self.slots_of(region).end - region * REGION);
        });
        let scatter = Scatter::new(self.slots, self.seed);
        let mut first = 0;
        for &(id, k) in &self.remains {
            in_parallel(k.div_ceil(REGION), threads, |batch| {
                for i in batch * REGION..k.min((batch + 1) * REGION) {
                    sink(scatter.slot(first + i), 1, id);
                }
            });
            first += k;
        }
    }

    /// Writes the owner of each slot into a slice of [`slots`](Self::slots) ids; 0 means no owner. Works on
    /// threads and reports progress as [`fill`](Self::fill) does.
    ///
    /// # Panics
    ///
    /// Panics if the slice has another length.
    pub fn fill_slice(&self, threads: usize, ids: &mut [u16], progress: impl Fn(u64) + Sync) {
        assert_eq!(ids.len() as u64, self.slots, "a slice of another size");
        let regions = Mutex::new((0..).zip(ids.chunks_mut(index(REGION))));
        in_parallel(self.slots.div_ceil(REGION), threads, |_| {
            let next = regions.lock().expect("no thread panics here").next();
            let (region, ids) = next.expect("one slice per region");
            self.fill_region(region, ids);
            progress(ids.len() as u64);
        });
        for (slot, id) in self.scattered() {
            ids[index(slot)] = id;
        }
    }

    /// Writes the owners of one region, without scattered records.
    pub(crate) fn fill_region(&self, region: u64, ids: &mut [u16]) {
        let base = region * REGION;
        let mut rng = self.rng(region);
        if let Family::Interleaved(cgroups) = self.family {
            interleaved_slice(cgroups, ids, &mut rng);
        } else {
            let slots = self.slots_of(region);
            let mut store = storing(base, ids);
            self.family.region(region, slots, &mut rng, &mut store);
        }
        self.turn_over(region, &mut rng, &mut storing(base, ids));
    }

    /// Returns the scattered records, in any order, as slot and id.
    pub(crate) fn scattered(&self) -> impl Iterator<Item = (u64, u16)> {
        let scatter = Scatter::new(self.slots, self.seed);
        let owners = self.remains.iter();
        let owners = owners.flat_map(|&(id, k)| std::iter::repeat_n(id, index(k)));
        (0..).zip(owners).map(move |(i, id)| (scatter.slot(i), id))
    }

    fn slots_of(&self, region: u64) -> Range<u64> {
        region * REGION..self.slots.min((region + 1) * REGION)
    }

    fn rng(&self, region: u64) -> Rng {
        Rng::with_seed(mix(self.seed, region))
    }

    fn region(&self, region: u64, sink: &mut impl Sink) {
        let mut rng = self.rng(region);
        self.family
            .region(region, self.slots_of(region), &mut rng, sink);
        self.turn_over(region, &mut rng, sink);
    }

    fn turn_over(&self, region: u64, rng: &mut Rng, sink: &mut impl Sink) {
        let slots = self.slots_of(region);
        // This region's share of the turnovers, in proportion to its slots.
        let until = |slot| u128::from(self.turnovers) * u128::from(slot) / u128::from(self.slots);
        for _ in until(slots.start)..until(slots.end) {
            let start = rng.u64(slots.clone());
            let len = rng.u64(1..=8).min(slots.end - start);
            sink(start, len, 0);
            if rng.u8(..8) != 0 {
                sink(start, len, self.family.owner(region, rng));
            }
        }
    }
}

/// Stores runs in a slice whose first slot is `base`.
fn storing(base: u64, ids: &mut [u16]) -> impl Sink {
    move |start, len, id| {
        let at = index(start - base);
        // Most runs are one slot: storing it needs no call of memset.
        ids[at] = id;
        if len > 1 {
            ids[at + 1..at + index(len)].fill(id);
        }
    }
}

/// Returns the number of processors that the process may use, at least 1.
#[must_use]
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn in_parallel(tasks: u64, threads: usize, task: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= tasks {
                break;
            }
            task(number);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

pub(crate) fn index(n: u64) -> usize {
    usize::try_from(n).expect("the map is in memory")
}
