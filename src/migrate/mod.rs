//! The migration of all records of one id to another: [`SwapRecords::migrate`], and [`Migration`] in steps,
//! with a hint. The report is in [`report`].

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
mod report;

pub use report::{Migrated, Step};

use ahead::Ahead;

impl<L: RawMutex> SwapRecords<L> {
    /// Migrates every record of `old` to `new`, on all types. Returns the number of records that were moved.
    ///
    /// A record of `old` belongs to `new` afterwards if the call that wrote it returned before the migration
    /// began, and no thread changed it since. (A lookup may see a record a little before its call returns.)
    /// If no thread records `old` any more, because its cgroup is offline, no record of `old` is left. If
    /// `old` equals `new`, nothing is moved and the result is 0.
    ///
    /// [`migration`](Self::migration) does the same in steps, with a hint when to stop, and with a report.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let (old, new) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1 << 20).unwrap();
    /// records.record_range(SwapEntry::new(ty, 500).unwrap(), 4000, old).unwrap();
    /// assert_eq!(records.migrate(old, new), 4000);
    /// assert_eq!((records.count(old), records.count(new)), (0, 4000));
    /// ```
    ///
    /// # Cost
    ///
    /// The cost follows the records:
    ///
    /// - If `old` has no records, the migration reads a bitmap with one bit per region.
    /// - If a region has one record, the index holds its position.
    /// - If a region has more, it is scanned up to the last one.
    ///
    /// No lock is held for longer than the work of one region. [`max_hold`](Migration::max_hold) shortens the
    /// holds.
    ///
    /// # Panics
    ///
    /// Panics if a lock panics. Records that were moved by then stay moved.
    pub fn migrate(&self, old: MemcgId, new: MemcgId) -> u64 {
        self.migration(old, new).run_unreported()
    }

    /// Creates a migration from `old` to `new`, to be [`run`](Migration::run) to its end or in
    /// [`step`](Migration::step)s.
    ///
    /// A migration from an id to itself moves nothing and is already finished.
    pub fn migration(&self, old: MemcgId, new: MemcgId) -> Migration<'_, L> {
        Migration::new(self, old, new)
    }
}

/// Tells a migration how many records are still charged to the old owner: the counter of memory and swap
/// ("memsw") of an offline cgroup.
///
/// The migration stops when it has moved at least as many records as the hint says. So the migration itself
/// must not change the number. If the number is too high, the migration takes longer than necessary. If the
/// number is too low, records stay behind, and [`Migrated::left_at_most`] counts them. No record is lost in
/// either case.
///
/// The trait is implemented for the counters of the standard library, which are read with relaxed loads; for
/// a fixed number; and for closures.
///
/// A migration calls the hint before each hold of a lock: once per region, or per [part](Migration::max_hold)
/// of one. No lock is held during the call. Migrations on threads call it from several threads at once. It
/// should be quick.
pub trait MemswHint: Sync {
    /// Returns the number of records that are charged, in pages.
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

/// A migration from one id to another, to be run to its end or in steps.
///
/// [`SwapRecords::migration`] creates it. It holds no lock between two steps.
///
/// # Examples
///
/// ```
/// use core::sync::atomic::AtomicU64;
/// use swap_records::{MemcgId, Step, SwapEntry, SwapRecords, SwapType};
///
/// let (ty, child, parent) = (
///     SwapType::new(0).unwrap(),
///     MemcgId::new(7).unwrap(),
///     MemcgId::new(1).unwrap(),
/// );
/// let records = SwapRecords::new();
/// records.swapon(ty, 1 << 20).unwrap();
/// records.record_range(SwapEntry::new(ty, 1000).unwrap(), 3, child).unwrap();
///
/// // css_offline: as much as time allows.
/// let mut early = records.migration(child, parent);
/// while early.step(100_000) == Step::More { /* let others run */ }
///
/// // css_free: to the end, unless the counter says that nothing is left.
/// let memsw = AtomicU64::new(0);
/// let last = records.migration(child, parent).memsw_hint(&memsw).run();
/// assert!(last.stopped_by_hint && last.left_at_most == 0);
/// assert_eq!(records.count(parent), 3);
/// ```
#[must_use = "a migration does nothing before `run` or `step`"]
pub struct Migration<'t, L = RawSpinLock> {
    table: &'t SwapRecords<L>,
    job: Job<'t>,
    /// The types that come next.
    types: core::ops::Range<u8>,
    /// The current type, its swapfile, and the regions that come next.
    on: Option<(SwapType, On<'t, L>, Ahead)>,
    so_far: Migrated,
    /// The number of chunks of the types that were begun, or skipped because the hint stopped the migration.
    chunks: u64,
    done: bool,
    /// Whether `so_far` has the final report. Set after `done`.
    reported: bool,
    /// The function that `run` calls first if the migration uses threads, and the number of threads.
    #[cfg(feature = "std")]
    parallel: Option<fn(&mut Self)>,
    #[cfg(feature = "std")]
    threads: usize,
}

/// What to do in each region, and when to stop.
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
    /// Returns whether the hint says that no more than `moved` records were charged.
    fn is_done(&self, moved: u64) -> bool {
        self.hint.is_some_and(|hint| moved >= hint.charged())
    }

    /// Migrates the next region that may hold a record, or the next part of one, and adds it to the report.
    /// Returns `None` if there is no such region, or if the swapfile has been turned off.
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
        // The unlock may unwind. So the region must be passed, and the report complete, before the lock is
        // freed.
        ahead.pass(sweep.rest);
        report.add(&sweep);
        Some(sweep)
    }
}

/// Rounds the number of entries that a caller asks for: see [`Migration::max_hold`].
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

/// The minimum cost of a hold, in entries. A lock and some cache misses take as long as a scan of this many
/// entries.
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

    /// Stops the migration when it has moved at least as many records as the hint says are charged.
    ///
    /// The hint is called before each hold of a lock. The first call comes before anything is looked at.
    ///
    /// # Examples
    ///
    /// ```
    /// # use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    /// # let ty = SwapType::new(0).unwrap();
    /// # let (old, new) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
    /// # let records = SwapRecords::new();
    /// # records.swapon(ty, 1 << 20).unwrap();
    /// records.record_range(SwapEntry::new(ty, 500).unwrap(), 3, old).unwrap();
    /// // The counter says 3: the migration stops after the third record.
    /// let migrated = records.migration(old, new).memsw_hint(&3).run();
    /// assert!(migrated.stopped_by_hint && migrated.moved == 3);
    /// ```
    pub fn memsw_hint(mut self, hint: &'t impl MemswHint) -> Self {
        self.job.hint = Some(hint);
        self
    }

    /// Limits the number of entries that the migration looks at under one hold of a lock.
    ///
    /// This is for locks that disable interrupts or preemption. The default is a region, [`REGION_ENTRIES`].
    /// A region that must be scanned is then migrated in parts, front to back, and its lock is free between
    /// two parts.
    ///
    /// The number is rounded down to a power of two. The minimum is [`CHUNK_ENTRIES`]. So
    /// [`longest_hold`](Migrated::longest_hold) is never above `entries`, or above one chunk if `entries` is
    /// less.
    ///
    /// The guarantees of a migration do not change. A record of the old id that is written during the
    /// migration may stay behind, now also in the region that is being migrated. The index is correct between
    /// two parts: [`count`](SwapRecords::count) and [`owners`](SwapRecords::owners) count moved records for
    /// the new owner, and the others for the old one.
    ///
    /// # Cost
    ///
    /// One lock and unlock per part, so a full scan of a region takes up to 16 locks instead of one. A region
    /// with one record of the old id always takes one. If a scan finds all but one of the region's records,
    /// the last one is moved under the same hold, or under one more.
    ///
    /// # Examples
    ///
    /// ```
    /// use swap_records::{CHUNK_ENTRIES, MemcgId, SwapEntry, SwapRecords, SwapType};
    ///
    /// let ty = SwapType::new(0).unwrap();
    /// let (child, parent) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1 << 20).unwrap();
    /// records.record_range(SwapEntry::new(ty, 0).unwrap(), 100_000, child).unwrap();
    ///
    /// let migrated = records.migration(child, parent).max_hold(CHUNK_ENTRIES).run();
    /// assert_eq!((migrated.moved, migrated.left_at_most), (100_000, 0));
    /// assert!(migrated.longest_hold <= CHUNK_ENTRIES as u64);
    /// ```
    pub fn max_hold(mut self, entries: usize) -> Self {
        self.job.max_hold = round_hold(entries);
        self
    }

    /// Runs the migration to its end, and returns the report.
    ///
    /// # Panics
    ///
    /// Panics if a lock or the hint panics. Records that were moved by then stay moved.
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

    /// Works as `run`, and returns only the number of records that were moved.
    pub(crate) fn run_unreported(mut self) -> u64 {
        while !self.done {
            self.next_region();
        }
        self.so_far.moved
    }

    /// Migrates for about as long as a scan of `budget` entries takes. Each step migrates at least one
    /// region, or [part](Self::max_hold) of one. After the migration is finished, it returns the same report
    /// again.
    ///
    /// # Cost
    ///
    /// A hold of a lock is charged with the entries that were scanned, or with 2048 if they were fewer. The
    /// following is not charged to the budget:
    ///
    /// - regions that the index skips,
    /// - finding the next 32 regions at the start of a step, and
    /// - the report at the end, which reads a cell per region that still has the old id.
    ///
    /// # Concurrent writes
    ///
    /// A record of the old id that another thread writes during a step may be moved or may stay. A record
    /// that is written between two steps is moved if it lies ahead of the point that the migration has
    /// reached. The point is a swap type and a region of its swapfile; with [`max_hold`](Self::max_hold), a
    /// chunk of that region.
    ///
    /// If the current swapfile is turned off between two steps, the next step does one of the following:
    ///
    /// - If another swapfile of the type is on by then, it begins the type anew. All of the new swapfile lies
    ///   ahead.
    /// - If the type is off, it goes on to the next type. What is recorded in this type later lies behind.
    ///
    /// [`left_at_most`](Migrated::left_at_most) counts the records that stay. To leave none, migrate again
    /// when no thread records the old id any more.
    ///
    /// # Panics
    ///
    /// Panics if a lock or the hint panics. Records that were moved by then stay moved, and are in the
    /// report. The next step continues after them.
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

    /// Returns the number of records that were moved so far.
    pub(crate) fn moved(&self) -> u64 {
        self.so_far.moved
    }

    /// Returns the report so far. `left_at_most` is what the index counts at this moment.
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

    /// Migrates the next region that may hold a record, or part of it, or goes on to the next type. Returns
    /// the cost in entries.
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

    /// Goes on to the next type. Sets `done` if there is none.
    fn next_type(&mut self) {
        let Some(ty) = self.types.next().and_then(SwapType::new) else {
            self.done = true;
            return;
        };
        self.begin(ty);
    }

    /// Begins the type if it is on.
    #[cfg_attr(not(feature = "std"), inline(never))]
    fn begin(&mut self, ty: SwapType) {
        self.on = self.table.file(ty).on().map(|on| {
            self.chunks += on.chunks();
            (ty, on, Ahead::new(0..on.regions()))
        });
    }

    /// Makes records that were written ahead since the last step visible to this one, even if the last step
    /// unwound. Begins the current type anew if its swapfile has been replaced.
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
        // The report counts the chunks of the types that were not begun as skipped.
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
