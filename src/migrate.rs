//! The hand-over of all records of one id to another: [`SwapRecords::migrate`], and [`Migration`] in steps,
//! with a hint and a report.

use core::fmt;
use core::sync::atomic::AtomicUsize;

use lock_api::RawMutex;

use crate::entry::{MAX_SWAPFILES, SwapType};
use crate::id::MemcgId;
use crate::scan::Backend;
use crate::swapfile::On;
use crate::sync::{AtomicU64, Ordering, RawSpinLock};
use crate::table::SwapRecords;

impl<L: RawMutex> SwapRecords<L> {
    /// Hands every record of `old` to `new`, on all types. Gives the number of records moved.
    ///
    /// Every record of `old` that was there when this began, and that nobody changed since, belongs to
    /// `new` when it returns. If nobody records `old` any more, because its cgroup is dead, no record
    /// of `old` is left. `old == new` moves nothing and gives 0.
    ///
    /// The cost follows the records: where `old` has none, a bitmap of a bit a region is read; where a
    /// region has one, it is found without a scan; otherwise the region is scanned up to the last one.
    /// No lock is held for longer than one region's work. [`migration`](Self::migration) does the same
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
/// a closure. It is asked between regions, with no lock held.
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct Migrated {
    /// Records that had the old owner and have the new one.
    pub moved: u64,
    /// Chunks (of [`CHUNK_ENTRIES`](crate::CHUNK_ENTRIES)) of which at least one entry was looked at.
    pub chunks_scanned: u64,
    /// Chunks that the index, or the number of records in it, kept it from looking at.
    pub chunks_skipped: u64,
    /// Whether the hint ended it, and not the end of the table.
    pub stopped_by_hint: bool,
    /// [`count_at_most`](SwapRecords::count_at_most) of the old id at the end: 0 if the migration got to
    /// the end of the table and nobody recorded the old id meanwhile, unless another id shares its counter
    /// (then [`count`](SwapRecords::count) knows).
    pub left_at_most: u64,
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
    old: MemcgId,
    new: MemcgId,
    backend: Backend,
    hint: Option<&'t dyn MemswHint>,
    /// The types that are still to be begun.
    types: core::ops::Range<u8>,
    /// The type that is being migrated, and the regions of it that are next.
    on: Option<(On<'t, L>, Ahead)>,
    so_far: Migrated,
    done: bool,
    /// Whether `left_at_most` has been found out, once `done`.
    reported: bool,
}

/// What a region costs at least, in entries: a lock and some cache misses take as long as this many
/// entries are scanned in.
const REGION_COST: u64 = 2048;

impl<'t, L: RawMutex> Migration<'t, L> {
    pub(crate) fn new(table: &'t SwapRecords<L>, old: MemcgId, new: MemcgId) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_SWAPFILES is 32")]
        let types = 0..MAX_SWAPFILES as u8;
        Self {
            table,
            old,
            new,
            backend: table.backend(),
            hint: None,
            types,
            on: None,
            so_far: Migrated::default(),
            done: old == new,
            reported: false,
        }
    }

    /// Stops early, as soon as at least as many records are moved as the hint says are charged. It is
    /// asked anew before each region, and first before anything is looked at.
    pub fn memsw_hint(mut self, hint: &'t impl MemswHint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Migrates all that is left to migrate.
    pub fn run(mut self) -> Migrated {
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

    /// Migrates for about as long as a scan of `budget` entries takes, and at least one region.
    ///
    /// A region that is looked at counts with the entries that were scanned, or 2048 where they were
    /// fewer; one that the index skips counts nothing. Records of the old id that others write behind
    /// the point that it has reached are not seen, but counted in
    /// [`left_at_most`](Migrated::left_at_most): only a later migration, when nobody records the old id
    /// any more, leaves none. Once done, it gives the same report again.
    pub fn step(&mut self, budget: u64) -> Step {
        let mut spent = 0;
        while !self.done {
            if spent > 0 && spent >= budget {
                // What is recorded ahead until the next step must be seen by it.
                if let Some((_, ahead)) = &mut self.on {
                    ahead.forget();
                }
                return Step::More;
            }
            spent += self.next_region();
        }
        if !self.reported {
            self.so_far.left_at_most = self.table.count_at_most(self.old);
            self.reported = true;
        }
        Step::Done(self.so_far)
    }

    /// What is done by now; `left_at_most` is what the index says is left.
    pub fn so_far(&self) -> Migrated {
        Migrated {
            left_at_most: if self.reported {
                self.so_far.left_at_most
            } else {
                self.table.count_at_most(self.old)
            },
            ..self.so_far
        }
    }

    /// Migrates the next region that may hold a record, or finds out that there is none. Gives its cost.
    fn next_region(&mut self) -> u64 {
        if let Some(hint) = self.hint
            && self.so_far.moved >= hint.charged()
        {
            self.stop_by_hint();
            return 0;
        }
        let Some((on, ahead)) = &mut self.on else {
            self.next_type();
            return 0;
        };
        let Some(index) = ahead.next(on, self.old, self.new) else {
            self.on = None;
            return 0;
        };
        let Some(region) = on.lock(index) else {
            self.on = None;
            return 0;
        };
        let sweep = region.migrate(self.backend, self.old.get(), self.new.get());
        drop(region);
        self.so_far.moved += u64::from(sweep.found.count);
        self.so_far.chunks_scanned += u64::from(sweep.chunks);
        self.so_far.chunks_skipped -= u64::from(sweep.chunks);
        u64::from(sweep.entries).max(REGION_COST)
    }

    /// Goes on to the next type that is on; the end where there is none.
    fn next_type(&mut self) {
        let Some(ty) = self.types.next().and_then(SwapType::new) else {
            self.done = true;
            return;
        };
        if let Some(on) = self.table.file(ty).on() {
            self.so_far.chunks_skipped += on.chunks();
            self.on = Some((on, Ahead::new()));
        }
    }

    fn stop_by_hint(&mut self) {
        self.done = true;
        self.so_far.stopped_by_hint = true;
        // The types that it did not come to.
        for ty in self.types.clone().filter_map(SwapType::new) {
            let on = self.table.file(ty).on();
            self.so_far.chunks_skipped += on.map_or(0, |on| on.chunks());
        }
    }
}

/// The regions that are next, found some at a time, so that what all of them need comes from memory
/// side by side: first their cells and locks, then the entries that the cells point to.
///
/// Nothing is locked while it is asked for. A locked instruction waits for the page walk of a
/// prefetch before it; asked for one by one between the regions' locks, each would be waited for.
struct Ahead {
    regions: [usize; Self::BATCH],
    /// Those that have not had their turn.
    left: core::ops::Range<usize>,
    /// Where the bitmap goes on.
    from: usize,
}

impl Ahead {
    /// Enough for all that the memory does side by side; measured, and flat around here.
    const BATCH: usize = 32;

    fn new() -> Self {
        Self {
            regions: [0; Self::BATCH],
            left: 0..0,
            from: 0,
        }
    }

    /// Goes back to the first region that has not had its turn.
    fn forget(&mut self) {
        if let Some(next) = self.left.next() {
            self.from = self.regions[next];
            self.left = 0..0;
        }
    }

    /// The next region that may hold a record of `old`.
    #[inline]
    fn next<L: RawMutex>(&mut self, on: &On<'_, L>, old: MemcgId, new: MemcgId) -> Option<usize> {
        if self.left.is_empty() {
            self.look(on, old, new);
        }
        self.left.next().map(|next| self.regions[next])
    }

    /// Finds the next regions, and asks for what they need.
    fn look<L: RawMutex>(&mut self, on: &On<'_, L>, old: MemcgId, new: MemcgId) {
        let mut len = 0;
        while len < Self::BATCH
            && let Some(region) = on.next_region(Some(old), self.from)
        {
            on.index().prefetch(region, old.get(), new.get());
            self.regions[len] = region;
            self.from = region + 1;
            len += 1;
        }
        self.left = 0..len;
        for &region in &self.regions[..len] {
            on.prefetch_only(region, old);
        }
    }
}

impl<L> fmt::Debug for Migration<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration")
            .field("old", &self.old)
            .field("new", &self.new)
            .field("so_far", &self.so_far)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}
