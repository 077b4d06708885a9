//! The hand-over of all records of one id to another: [`SwapRecords::migrate`], and [`Migration`] in steps,
//! with a hint and a report.

use core::fmt;
use core::sync::atomic::AtomicUsize;

use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapType};
use crate::id::MemcgId;
use crate::region::{CHUNK_ENTRIES, REGION_ENTRIES, Sweep, part};
use crate::scan::Backend;
use crate::swapfile::On;
use crate::sync::{AtomicU64, Ordering, RawSpinLock};
use crate::table::SwapRecords;

mod ahead;
#[cfg(feature = "std")]
mod parallel;

use ahead::Ahead;

impl<L: RawMutex> SwapRecords<L> {
    /// Hands every record of `old` to `new`, on all types. Gives the number of records moved.
    ///
    /// Every record of `old` that was written before this began, by a call that had returned by then, and that
    /// nobody changed since, belongs to `new` when it returns. (A lookup may see a record a little
    /// before its call returns.) If nobody records `old` any more, because its cgroup is dead, no record
    /// of `old` is left. `old == new` moves nothing and gives 0.
    ///
    /// The cost follows the records: where `old` has none, a bitmap of a bit a region is read; where a
    /// region has one, it is found without a scan; otherwise the region is scanned up to the last one.
    /// No lock is held for longer than one region's work: [`max_hold`](Migration::max_hold) makes that less. [`migration`](Self::migration) does the same
    /// with a hint when to stop, in steps, and with a report.
    pub fn migrate(&self, old: MemcgId, new: MemcgId) -> u64 {
        self.migration(old, new).run_unreported()
    }

    /// A migration from `old` to `new` (from an id to itself, it moves nothing and is done), to be [`run`](Migration::run) or [`step`](Migration::step)ped.
    pub fn migration(&self, old: MemcgId, new: MemcgId) -> Migration<'_, L> {
        Migration::new(self, old, new)
    }
}

/// Says how many records are still charged to the old owner: the counter of memory and swap ("memsw")
/// of a dying cgroup.
///
/// The number must not be adjusted by the migration that it is a hint for: that stops once it has
/// moved at least as many. A number that is too high costs time, one that is too low leaves records
/// behind, which [`Migrated`] then says; nothing is lost in either case.
///
/// Counters of the standard library are hints (read with relaxed loads), and so are a fixed number and
/// a closure. It is asked before each hold of a lock, with none held; on threads, by several of them at once. It
/// should be quick: it is asked as often as regions are looked at, or [parts](Migration::max_hold) of them.
pub trait MemswHint: Sync {
    /// The number of records, in pages.
    fn charged(&self) -> u64;
}

impl MemswHint for u64 {
    fn charged(&self) -> u64 {
        *self
    }
}

impl MemswHint for AtomicU64 {
    fn charged(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

impl MemswHint for AtomicUsize {
    fn charged(&self) -> u64 {
        self.load(Ordering::Relaxed) as u64
    }
}

impl<F: Fn() -> u64 + Sync> MemswHint for F {
    fn charged(&self) -> u64 {
        self()
    }
}

/// What a [`Migration`] did.
///
/// Fields may come. With feature `serde`, those that are missing on the way in are 0, and those that are not
/// known are passed over, so that reports of other versions can be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
#[non_exhaustive]
pub struct Migrated {
    /// Records that had the old owner and have the new one.
    pub moved: u64,
    /// Chunks (of [`CHUNK_ENTRIES`](crate::CHUNK_ENTRIES)) of which at least one entry was looked at.
    pub chunks_scanned: u64,
    /// Chunks that the index, or the number of records in it, kept it from looking at.
    pub chunks_skipped: u64,
    /// The most entries that were looked at under one hold of a lock: at most [`REGION_ENTRIES`], or what
    /// [`max_hold`](Migration::max_hold) was asked for. A number of entries, not a time.
    pub longest_hold: u64,
    /// Whether the hint ended it, and not the end of the table.
    pub stopped_by_hint: bool,
    /// [`count_upper_bound`](SwapRecords::count_upper_bound) of the old id at the end: 0 if the migration got to
    /// the end of the table and nobody recorded the old id meanwhile, unless another id shares its counter, or without
    /// `std` its cell ([`reserve`](SwapRecords::reserve)). Then
    /// [`count`](SwapRecords::count) knows, which looks at the regions where either of the two has records.
    pub left_at_most: u64,
}

impl Migrated {
    /// Others were looked at, too.
    #[cfg(feature = "std")]
    fn include(&mut self, part: &Self) {
        self.moved += part.moved;
        self.chunks_scanned += part.chunks_scanned;
        self.longest_hold = self.longest_hold.max(part.longest_hold);
    }

    /// One more region was looked at, or a part of one.
    fn add(&mut self, sweep: &Sweep) {
        self.moved += u64::from(sweep.found.count);
        self.chunks_scanned += u64::from(sweep.chunks);
        self.longest_hold = self.longest_hold.max(u64::from(sweep.entries));
    }
}

/// Writes one line: what was moved, what that took, why it ended, and what may be left.
///
/// ```
/// # let records: swap_records::SwapRecords = swap_records::SwapRecords::new();
/// # let (old, new) = (swap_records::MemcgId::MIN, swap_records::MemcgId::MAX);
/// let migrated = records.migration(old, new).run();
/// assert_eq!(
///     migrated.to_string(),
///     "0 records moved, 0 chunks scanned and 0 skipped, at most 0 entries under one lock, \
///      ended by the end of the table, at most 0 records left"
/// );
/// ```
impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            moved,
            chunks_scanned,
            chunks_skipped,
            longest_hold,
            stopped_by_hint,
            left_at_most,
        } = self;
        let by = if *stopped_by_hint {
            "hint"
        } else {
            "end of the table"
        };
        write!(
            f,
            "{moved} records moved, {chunks_scanned} chunks scanned and {chunks_skipped} skipped, at most \
             {longest_hold} entries under one lock, ended by the {by}, at most {left_at_most} records left"
        )
    }
}

/// Where a [`Migration`] stands after a [`step`](Migration::step).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum Step {
    /// The budget is used up, and there may be more to look at.
    More,
    /// The end of the table, or the hint's word.
    Done(Migrated),
}

/// A migration from one id to another, to be run to its end or in steps.
///
/// ```
/// use core::sync::atomic::AtomicU64;
/// use swap_records::{MemcgId, Step, SwapEntry, SwapRecords, SwapType};
///
/// let (ty, dying, parent) = (
///     SwapType::new(0).unwrap(),
///     MemcgId::new(7).unwrap(),
///     MemcgId::new(1).unwrap(),
/// );
/// let records = SwapRecords::new();
/// records.swapon(ty, 1 << 20).unwrap();
/// records.record_range(SwapEntry::new(ty, 1000).unwrap(), 3, dying).unwrap();
///
/// // css_offline: as much as time allows.
/// let mut early = records.migration(dying, parent);
/// while early.step(100_000) == Step::More { /* let others run */ }
///
/// // css_free: to the end, unless the counter says that nothing is left.
/// let memsw = AtomicU64::new(0);
/// let last = records.migration(dying, parent).memsw_hint(&memsw).run();
/// assert!(last.stopped_by_hint && last.left_at_most == 0);
/// assert_eq!(records.count(parent), 3);
/// ```
#[must_use = "a migration does nothing before `run` or `step`"]
pub struct Migration<'t, L = RawSpinLock> {
    table: &'t SwapRecords<L>,
    job: Job<'t>,
    /// The types that are still to be begun.
    types: core::ops::Range<u8>,
    /// The type that is being migrated, and the regions of it that are next.
    on: Option<(SwapType, On<'t, L>, Ahead)>,
    so_far: Migrated,
    /// Chunks of the types that it has come to, or passed over.
    chunks: u64,
    done: bool,
    /// Whether `left_at_most` has been found out, once `done`.
    reported: bool,
    /// What `run` does first, where it was told to use threads, and how many of them.
    #[cfg(feature = "std")]
    parallel: Option<fn(&mut Self)>,
    #[cfg(feature = "std")]
    threads: usize,
}

/// What is to be done in each region, and until when.
#[derive(Clone, Copy)]
struct Job<'t> {
    old: MemcgId,
    new: MemcgId,
    backend: Backend,
    hint: Option<&'t dyn MemswHint>,
    /// The most entries that are looked at under one hold: a power of two, from a chunk to a region.
    max_hold: usize,
}

impl Job<'_> {
    /// Whether the hint says that `moved` records are all that there are.
    fn is_done(&self, moved: u64) -> bool {
        self.hint.is_some_and(|hint| moved >= hint.charged())
    }

    /// Migrates the next region that may hold a record, or the next part of one, and adds it to the report. `None` where
    /// there is none, or the swapfile has been turned off.
    #[inline]
    fn migrate_next<L: RawMutex>(
        &self,
        on: &On<'_, L>,
        ahead: &mut Ahead,
        report: &mut Migrated,
    ) -> Option<Sweep> {
        let (region, at) = ahead.next(on, self.old, self.new)?;
        let region = on.lock(region)?;
        let ids = (self.old.get(), self.new.get());
        let sweep = region.migrate(self.backend, ids, part(at, self.max_hold));
        // The unlock may unwind. What was done has had its turn, and is in the report, before the lock is free.
        ahead.pass(sweep.rest);
        report.add(&sweep);
        Some(sweep)
    }
}

/// The most entries under one hold for a caller that asks for so many: see [`Migration::max_hold`].
pub(crate) const fn round_hold(entries: usize) -> usize {
    const { assert!(CHUNK_ENTRIES.is_power_of_two() && REGION_ENTRIES.is_power_of_two()) };
    if entries <= CHUNK_ENTRIES {
        CHUNK_ENTRIES
    } else if entries >= REGION_ENTRIES {
        REGION_ENTRIES
    } else {
        1 << entries.ilog2()
    }
}

/// What a hold costs at least, in entries: a lock and some cache misses take as long as this many
/// entries are scanned in.
const REGION_COST: u64 = 2048;

impl<'t, L: RawMutex> Migration<'t, L> {
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub(crate) fn new(table: &'t SwapRecords<L>, old: MemcgId, new: MemcgId) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_SWAPFILES is 32")]
        let types = 0..MAX_SWAPFILES as u8;
        Self {
            table,
            job: Job {
                old,
                new,
                backend: table.backend(),
                hint: None,
                max_hold: REGION_ENTRIES,
            },
            types,
            on: None,
            so_far: Migrated::default(),
            chunks: 0,
            done: old == new,
            reported: false,
            #[cfg(feature = "std")]
            parallel: None,
            #[cfg(feature = "std")]
            threads: 1,
        }
    }

    /// Stops early, as soon as at least as many records are moved as the hint says are charged. It is
    /// asked anew before each hold of a lock, and first before anything is looked at.
    pub fn memsw_hint(mut self, hint: &'t impl MemswHint) -> Self {
        self.job.hint = Some(hint);
        self
    }

    /// Looks at no more than about this many entries under one hold of a lock: for locks under which interrupts are
    /// disabled, or preemption, for longer than the caller can afford. Without this, it is a region,
    /// [`REGION_ENTRIES`].
    ///
    /// A region that has to be scanned is then migrated in parts, front to back, with its lock freed in between. The least
    /// is [`CHUNK_ENTRIES`](crate::CHUNK_ENTRIES), which fewer entries are as well. Other numbers than powers of two are rounded
    /// down to one, so [`longest_hold`](Migrated::longest_hold) is never above `entries`, or one chunk.
    ///
    /// All that a migration promises stays as it is. A record of the old id that is written while the migration is under way may
    /// stay behind, as it may otherwise; now also if it is written into a region that the migration is in.
    /// Between two parts, the index is right: [`count`](SwapRecords::count) and `owners` see what
    /// was moved at the new owner, and what is left at the old one.
    ///
    /// # Cost
    ///
    /// A lock and an unlock for each part. So a full scan of a region takes up to 16 locks instead of one. A region with
    /// one record of the old id takes one, wherever that is. Where a scan finds all but one of the region's records, the last one
    /// is moved under the same hold, or under one more.
    ///
    /// # Example
    ///
    /// ```
    /// use swap_records::{CHUNK_ENTRIES, MemcgId, SwapEntry, SwapRecords, SwapType};
    ///
    /// let ty = SwapType::new(0).unwrap();
    /// let (dying, parent) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1 << 20).unwrap();
    /// records.record_range(SwapEntry::new(ty, 0).unwrap(), 100_000, dying).unwrap();
    ///
    /// let migrated = records.migration(dying, parent).max_hold(CHUNK_ENTRIES).run();
    /// assert_eq!((migrated.moved, migrated.left_at_most), (100_000, 0));
    /// assert!(migrated.longest_hold <= CHUNK_ENTRIES as u64);
    /// ```
    pub fn max_hold(mut self, entries: usize) -> Self {
        self.job.max_hold = round_hold(entries);
        self
    }

    /// Migrates all that is left to migrate.
    #[cfg_attr(not(feature = "std"), inline(never))]
    pub fn run(mut self) -> Migrated {
        #[cfg(feature = "std")]
        if let Some(parallel) = self.parallel {
            parallel(&mut self);
        }
        loop {
            if let Step::Done(migrated) = self.step(u64::MAX) {
                return migrated;
            }
        }
    }

    /// As `run`, for who wants the number only.
    pub(crate) fn run_unreported(mut self) -> u64 {
        while !self.done {
            self.next_region();
        }
        self.so_far.moved
    }

    /// Migrates for about as long as a scan of `budget` entries takes, and at least one region, or
    /// [part](Self::max_hold) of one.
    ///
    /// A hold counts with the entries that were scanned, or 2048 where they were
    /// fewer; a region that the index skips counts nothing. Neither does the look for the next 32 regions, with which
    /// each step begins, nor the report at the end, which reads a cell for each region that still has the old id.
    ///
    /// A record of the old id that others write while a step is under way may be moved or may stay; one that is
    /// written between two steps is moved if it lies ahead of the point that was reached. That point is a swap type, and
    /// a region of its swapfile, with [`max_hold`](Self::max_hold) a chunk of that. Where that swapfile was turned off since the last step, and another one is on when
    /// the next step begins, all of that one lies ahead: the type is begun anew. Where none is on by then, the
    /// type has been passed, as are those before it: what is recorded there afterwards lies behind.
    ///
    /// What stays is counted in [`left_at_most`](Migrated::left_at_most), wherever it lies: only a later migration, when
    /// nobody records the old id any more, leaves none. Once done, it gives the same report again.
    pub fn step(&mut self, budget: u64) -> Step {
        let mut spent = 0;
        self.renew();
        while !self.done {
            if spent > 0 && spent >= budget {
                return Step::More;
            }
            spent += self.next_region();
        }
        if !self.reported {
            self.so_far = self.so_far();
            self.reported = true;
        }
        Step::Done(self.so_far)
    }

    /// Records that were moved by now.
    pub(crate) fn moved(&self) -> u64 {
        self.so_far.moved
    }

    /// What is done by now; `left_at_most` is what the index says is left.
    #[must_use]
    pub fn so_far(&self) -> Migrated {
        if self.reported {
            return self.so_far;
        }
        Migrated {
            chunks_skipped: self.chunks - self.so_far.chunks_scanned,
            left_at_most: self.table.count_upper_bound(self.job.old),
            ..self.so_far
        }
    }

    /// Migrates the next region that may hold a record, or part of it, or finds out that there is none. Gives its cost.
    fn next_region(&mut self) -> u64 {
        if self.job.is_done(self.so_far.moved) {
            self.stop_by_hint();
            return 0;
        }
        let Some((_, on, ahead)) = &mut self.on else {
            self.next_type();
            return 0;
        };
        let Some(sweep) = self.job.migrate_next(on, ahead, &mut self.so_far) else {
            self.on = None;
            return 0;
        };
        u64::from(sweep.entries).max(REGION_COST)
    }

    /// Goes on to the next type that is on; the end where there is none.
    fn next_type(&mut self) {
        let Some(ty) = self.types.next().and_then(SwapType::new) else {
            self.done = true;
            return;
        };
        self.begin(ty);
    }

    /// Begins the type, if it is on.
    fn begin(&mut self, ty: SwapType) {
        self.on = self.table.file(ty).on().map(|on| {
            self.chunks += on.chunks();
            (ty, on, Ahead::new(0..on.regions()))
        });
    }

    /// Makes what was recorded ahead since the last step visible to this one, however that one ended. Begins the type
    /// that it is in anew where the swapfile is not the one any more that it began with.
    fn renew(&mut self) {
        let Some((ty, on, ahead)) = &mut self.on else {
            return;
        };
        if on.is_still_on() {
            ahead.forget();
        } else {
            let ty = *ty;
            self.begin(ty);
        }
    }

    fn stop_by_hint(&mut self) {
        self.done = true;
        self.so_far.stopped_by_hint = true;
        // The types that it did not come to.
        for ty in self.types.clone().filter_map(SwapType::new) {
            let on = self.table.file(ty).on();
            self.chunks += on.map_or(0, |on| on.chunks());
        }
    }
}

impl<L> fmt::Debug for Migration<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration")
            .field("old", &self.job.old)
            .field("new", &self.job.new)
            .field("so_far", &self.so_far)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}
