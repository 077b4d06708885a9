//! [`Rebuild`]: makes the index of an area from entries that came without one.
//!
//! **A rebuild establishes invariant 2.** It takes no lock of a region. The swapfile is in state 1, starting:
//! one thread turns it on, and no other thread writes to the area.
//!
//! - An operation that began with an earlier swapfile and takes a lock of the area sees there that the
//!   generation has changed, and ends (invariant 6).
//! - An operation that reads cells without a lock checks the generation afterwards. The release fence of each
//!   thread here pairs with its acquire fence, as that of `swapoff` does.
//!
//! So a rebuild does not depend on the user's lock, which may unwind or disable preemption. A progress
//! callback may take any time.
//!
//! All cells and bits must be zero before. If a rebuild fails, the caller discards the index.

use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, PoisonError};
use std::thread;

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::area::Area;
use crate::cell::{BLOCK, COUNTERS, Cell, Tally, counter};
use crate::region::{Entries, REGION_ENTRIES};
use crate::regions::Index;
use crate::storage::{Refused, Zeroed};
use crate::sync::{AtomicU16, Ordering, fence};

/// Regions that share a word of presence bits. A thread claims them together.
const CLAIM: usize = u64::BITS as usize;

/// Entries that are looked at together. If all of them have one id, they take one step of the index.
const TOGETHER: usize = 16;

/// The number of cells per id among which neighbouring entries are spread. With one cell, each entry would
/// wait for the store of the entry before.
const LANES: usize = 2;

/// How much of the index of a swapfile has been made from its entries, in regions of [`REGION_ENTRIES`] slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// The number of regions whose index has been made.
    pub done: u64,
    /// The number of regions of the swapfile.
    pub total: u64,
}

/// What a rebuild found in the entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: u64,
    /// The number of regions that have records.
    pub(crate) regions: u64,
}

/// Why a rebuild made no index. Cells and bits may have been written.
#[derive(Debug)]
pub(crate) enum Failed {
    Refused(Refused),
    /// An entry at or past `max_pages` is not 0.
    PastEnd {
        offset: usize,
        id: u16,
    },
}

/// The index of one region at a time, in memory of its own.
///
/// Call [`add`](Self::add) for the entries of a region, in parts or at once, then [`store`](Self::store).
/// After the last region of a word, or after the last region at all, call [`store_bits`](Self::store_bits):
/// the code that discards an index finds cells by their bits.
pub(crate) struct Rebuild {
    /// The cells of a region. The last one counts the entries without a record.
    cells: Box<[[u32; LANES]; COUNTERS + 1]>,
    /// For each counter, one bit per region of a word, set if the region has the counter. They are written
    /// out once per word: the bitmaps of the counters are far apart, and writing one line per id and region
    /// would push the cells out of the cache.
    bits: Box<[u64; COUNTERS]>,
    /// One bit per id, set if an id from [`COUNTERS`] on was added. Such ids share their counters.
    sharing: Box<[u64; IDS / 64]>,
    /// Whether a bit of `sharing` is set.
    any_sharing: bool,
}

/// The number of ids, with 0.
const IDS: usize = 1 << u16::BITS;

impl Rebuild {
    /// Creates an empty index, which takes 72 KiB.
    pub(crate) fn new() -> Result<Self, Refused> {
        Ok(Self {
            cells: zeroes()?,
            bits: zeroes()?,
            sharing: zeroes()?,
            any_sharing: false,
        })
    }

    /// Counts entries, the first of which is at position `first` of the region. No thread may write to them.
    pub(crate) fn add(&mut self, first: usize, entries: &[AtomicU16]) {
        debug_assert!(first + entries.len() <= REGION_ENTRIES);
        let (together, rest) = entries.as_chunks::<TOGETHER>();
        let mut blocks = (first..).step_by(TOGETHER).zip(together).peekable();
        while let Some((position, block)) = blocks.next() {
            let ids = load(block);
            if ids.into_iter().fold(0, |any, id| any | id) >= FIRST_SHARING {
                self.note_sharing(&ids);
            }
            if are_all(ids, ids[0]) {
                let more = |next: &(usize, &[AtomicU16; TOGETHER])| are_all(load(next.1), ids[0]);
                let mut end = position + TOGETHER;
                while blocks.next_if(more).is_some() {
                    end += TOGETHER;
                }
                self.add_to(0, ids[0], Tally::run(position..end));
            } else {
                for (nth, id) in ids.into_iter().enumerate() {
                    self.add_to(nth % LANES, id, Tally::at(position + nth));
                }
            }
        }
        let last = first + entries.len() - rest.len();
        for (position, entry) in (last..).zip(rest) {
            let id = entry.load(Ordering::Relaxed);
            self.note_sharing(&[id]);
            self.add_to(0, id, Tally::at(position));
        }
    }

    #[cold]
    fn note_sharing(&mut self, ids: &[u16]) {
        for id in ids.iter().filter(|&&id| id >= FIRST_SHARING) {
            self.sharing[usize::from(id / 64)] |= 1 << (id % 64);
            self.any_sharing = true;
        }
    }

    #[inline(always)]
    fn add_to(&mut self, lane: usize, id: u16, more: Tally) {
        // There is no branch, because it could not be predicted where some slots have no record.
        let cell = if id == 0 { COUNTERS } else { counter(id) };
        let cell = &mut self.cells[cell][lane];
        *cell = Cell(*cell).with(more).0;
    }

    /// Writes what was added as the index of this region, except its presence bits. Returns the number of
    /// records.
    pub(crate) fn store(&mut self, index: Index<'_>, region: usize) -> u32 {
        let mut records = 0;
        self.cells[COUNTERS] = [0; LANES];
        let (blocks, _) = self.cells.as_chunks_mut::<BLOCK>();
        for (block, from) in blocks.iter_mut().enumerate() {
            // All cells of a block are tested at once, which compiles to vectors.
            if from.as_flattened().iter().fold(0, |any, cell| any | cell) == 0 {
                continue;
            }
            let bits = &mut self.bits[block * BLOCK..][..BLOCK];
            let to = index.block(region, block);
            for ((from, to), bits) in from.iter_mut().zip(to).zip(bits) {
                let [cell, other] = core::mem::take(from).map(Cell);
                let cell = cell.with(other.tally());
                // Cells that are zero are not written to, since that might cost memory.
                if !cell.is_empty() {
                    debug_assert_eq!(to.load(Ordering::Relaxed), 0);
                    to.store(cell.0, Ordering::Relaxed);
                    *bits |= 1 << (region % CLAIM);
                    records += cell.tally().count;
                }
            }
        }
        records
    }

    /// Writes the presence bits of the regions that were stored since the last call. All of them must be in
    /// this word.
    pub(crate) fn store_bits(&mut self, index: Index<'_>, word: usize) {
        for (counter, bits) in self.bits.iter_mut().enumerate() {
            if *bits != 0 {
                index.set_bits(counter, word, core::mem::take(bits));
            }
        }
        if core::mem::take(&mut self.any_sharing) {
            for (word, bits) in self.sharing.iter_mut().enumerate() {
                let bits = core::mem::take(bits);
                let ids = (0..64).filter(|bit| bits >> bit & 1 != 0);
                ids.for_each(|bit| index.shared.note(narrow_id(word * 64 + bit)));
            }
        }
    }
}

/// The first id that shares its counter with a lower one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are fewer counters than ids"
)]
const FIRST_SHARING: u16 = COUNTERS as u16;

#[expect(clippy::cast_possible_truncation, reason = "below IDS")]
fn narrow_id(id: usize) -> u16 {
    id as u16
}

/// Returns the ids of these entries.
#[inline(always)]
fn load(entries: &[AtomicU16; TOGETHER]) -> [u16; TOGETHER] {
    // SAFETY: an `AtomicU16` has the layout of a `u16`, and no thread writes to the entries of a swapfile
    // that is starting (invariants 1, 7). (Atomic loads would be done one by one.)
    unsafe { ptr::from_ref(entries).cast::<[u16; TOGETHER]>().read() }
}

/// Returns whether all of them are `id`. Compares words of 64 bits.
#[inline(always)]
fn are_all(ids: [u16; TOGETHER], id: u16) -> bool {
    let words: [u64; TOGETHER / 4] = bytemuck::cast(ids);
    let all = u64::from(id) * 0x0001_0001_0001_0001;
    words
        .into_iter()
        .fold(0, |other, word| other | (word ^ all))
        == 0
}

/// Makes a box of zeroes, or returns an error if the allocator refuses.
fn zeroes<T: Copy + Default, const N: usize>() -> Result<Box<[T; N]>, Refused> {
    let refused = Refused {
        bytes: size_of::<[T; N]>(),
    };
    let mut zeroes = Vec::new();
    if zeroes.try_reserve_exact(N).is_err() {
        return Err(refused);
    }
    zeroes.resize(N, T::default());
    zeroes.into_boxed_slice().try_into().map_err(|_| refused)
}

impl<L> Area<L> {
    /// Makes the index of the first `max_pages` entries, all of which lie in `chunks`, with up to `threads`
    /// threads. Called in state 1, with an index that is all zero. If this fails, the caller discards the
    /// index. The entries after `max_pages`, up to the end of their region, must be 0.
    ///
    /// `progress` is called on this thread, after each part that this thread did, and at the end with all
    /// regions done. If it panics, the other threads finish, and then the panic continues.
    pub(crate) fn rebuild(
        &self,
        max_pages: usize,
        threads: usize,
        progress: Option<&mut dyn FnMut(Progress)>,
    ) -> Result<Found, Failed> {
        let total = max_pages.div_ceil(REGION_ENTRIES);
        let job = Job {
            chunks: self.chunks(),
            index: self.regions.index(),
            max_pages,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            result: Mutex::new(Ok(Found::default())),
        };
        let tell = progress.map(|tell| {
            move |done: usize| {
                tell(Progress {
                    done: done as u64,
                    total: total as u64,
                });
            }
        });
        job.run(threads.min(total.div_ceil(CLAIM)), tell)
    }
}

/// What the threads share.
struct Job<'a> {
    chunks: &'a Zeroed<Entries>,
    index: Index<'a>,
    max_pages: usize,
    /// The first region that no thread has claimed, a multiple of `CLAIM`.
    next: AtomicUsize,
    /// The number of regions that are done.
    done: AtomicUsize,
    /// Set when a thread failed or unwinds, so that the others stop.
    stop: AtomicBool,
    /// The result of the threads that have ended.
    result: Mutex<Result<Found, Failed>>,
}

impl Job<'_> {
    fn run(self, threads: usize, mut tell: Option<impl FnMut(usize)>) -> Result<Found, Failed> {
        let mut tell_done = |done| {
            if let Some(tell) = &mut tell {
                tell(done);
            }
        };
        let mut mine = || match Rebuild::new() {
            Ok(rebuild) => self.take_part(rebuild, &mut tell_done),
            Err(refused) => self.end(Err(Failed::Refused(refused))),
        };
        if threads <= 1 {
            // A scope allocates even if no thread is started, and may be refused.
            mine();
        } else {
            thread::scope(|scope| {
                for _ in 1..threads {
                    // A thread that gets no memory of its own leaves the work to the others.
                    let work = || {
                        if let Ok(rebuild) = Rebuild::new() {
                            self.take_part(rebuild, |_| ());
                        }
                    };
                    // The threads that were started do all the work.
                    if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                        break;
                    }
                }
                mine();
            });
        }
        let found = self.result.into_inner();
        let found = found.unwrap_or_else(PoisonError::into_inner)?;
        tell_done(self.max_pages.div_ceil(REGION_ENTRIES));
        Ok(found)
    }

    /// Works until nothing is left, and adds the result to `result`.
    fn take_part(&self, mut rebuild: Rebuild, mut tell: impl FnMut(usize)) {
        /// Stops the other threads if this one unwinds.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        // A thread that reads a cell written below also sees the generation of this state.
        fence(Ordering::Release);
        let stop = Stop(&self.stop);
        let mut data = 0..0;
        let mut found = Ok(Found::default());
        while let Ok(so_far) = &mut found
            && let Some(regions) = self.claim()
        {
            let done = regions.len();
            match self.claimed(regions, &mut rebuild, &mut data) {
                Ok(more) => {
                    so_far.records += more.records;
                    so_far.regions += more.regions;
                    // Relaxed is enough for a number that is shown. The last number is reported when all
                    // threads have ended.
                    let done = self.done.fetch_add(done, Ordering::Relaxed) + done;
                    tell(done);
                }
                Err(failed) => found = Err(failed),
            }
        }
        if found.is_ok() {
            core::mem::forget(stop);
        }
        self.end(found);
    }

    fn end(&self, part: Result<Found, Failed>) {
        if part.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        let mut all = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *all, part) {
            (Ok(all), Ok(part)) => {
                all.records += part.records;
                all.regions += part.regions;
            }
            (all @ Ok(_), failed) => *all = failed,
            // The first error is the one that is returned.
            (Err(_), _) => {}
        }
    }

    /// Claims the regions of one word of the bitmaps for this thread.
    fn claim(&self) -> Option<Range<usize>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        // Relaxed is enough: it only deals out regions.
        let start = self.next.fetch_add(CLAIM, Ordering::Relaxed);
        let end = self.max_pages.div_ceil(REGION_ENTRIES);
        (start < end).then(|| start..end.min(start + CLAIM))
    }

    /// Makes the index of these regions. `data` is where this thread last found entries in the file, in
    /// bytes.
    fn claimed(
        &self,
        mut regions: Range<usize>,
        rebuild: &mut Rebuild,
        data: &mut Range<usize>,
    ) -> Result<Found, Failed> {
        let word = regions.start / CLAIM;
        let mut found = Found::default();
        let all = regions.try_for_each(|region| {
            let records = self.region(region, rebuild, data)?;
            found.records += u64::from(records);
            found.regions += u64::from(records > 0);
            Ok(())
        });
        // The bits are stored even after an error: a cell without its bit would not be found when the index
        // is discarded.
        rebuild.store_bits(self.index, word);
        all.map(|()| found)
    }

    /// Makes the cells of this region. Returns the number of its records.
    fn region(
        &self,
        region: usize,
        rebuild: &mut Rebuild,
        data: &mut Range<usize>,
    ) -> Result<u32, Failed> {
        let first = region * REGION_ENTRIES;
        let mut any = false;
        let mut at = first;
        while let Some(part) = self.next_entries(at..first + REGION_ENTRIES, data) {
            at = part.end;
            let (before, past) = split(part, self.max_pages);
            let entries = self.chunks.as_flattened();
            if let Some((id, offset)) = first_record(&entries[past.clone()]) {
                return Err(Failed::PastEnd {
                    offset: past.start + offset,
                    id,
                });
            }
            rebuild.add(before.start - first, &entries[before]);
            any = true;
        }
        Ok(if any {
            rebuild.store(self.index, region)
        } else {
            0
        })
    }

    /// Returns the first of these entries that may hold records, as many as lie together.
    fn next_entries(&self, within: Range<usize>, data: &mut Range<usize>) -> Option<Range<usize>> {
        if within.is_empty() {
            return None;
        }
        let bytes = within.start * size_of::<AtomicU16>()..within.end * size_of::<AtomicU16>();
        if data.end <= bytes.start {
            *data = self.chunks.next_data(bytes.start);
        }
        // An entry of which only half lies in the data is included.
        let start = data.start.max(bytes.start) / size_of::<AtomicU16>();
        let end = data.end.min(bytes.end).div_ceil(size_of::<AtomicU16>());
        (start < end).then_some(start..end)
    }
}

/// Splits a range into the part before `at` and the part from `at` on.
fn split(range: Range<usize>, at: usize) -> (Range<usize>, Range<usize>) {
    let at = at.clamp(range.start, range.end);
    (range.start..at, at..range.end)
}

/// Returns the first id that is not 0, and its index.
fn first_record(entries: &[AtomicU16]) -> Option<(u16, usize)> {
    let ids = entries.iter().map(|entry| entry.load(Ordering::Relaxed));
    ids.zip(0..).find(|&(id, _)| id != 0)
}

#[cfg(test)]
mod tests;
