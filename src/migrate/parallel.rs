//! A migration on several threads. Each thread claims regions, many at a time so that claims are few, and
//! fewer towards the end so that all threads end together.
//!
//! A thread does with a region what a migration on one thread does ([`Job::migrate_next`]). Claims do not
//! overlap, and together they are all regions: `next` of a [`File`] only grows, by compare-exchange, up to
//! the number of regions.

use core::any::Any;
use core::array;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use alloc::boxed::Box;
use lock_api::{Mutex, RawMutex};

use super::ahead::Ahead;
use super::{Job, Migrated, Migration};
use crate::cell::counter;
use crate::entry::{MAX_SWAPFILES, SwapType};
use crate::swapfile::On;
use crate::sync::RawSpinLock;

/// The number of regions to visit for which one more thread is worth its start. To start a thread takes as
/// long as to scan about ten regions, or to visit about a hundred that have one record.
const WORTH_A_THREAD: usize = if cfg!(miri) { 2 } else { 256 };

impl<L: RawMutex + Send + Sync> Migration<'_, L> {
    /// Lets [`run`](Self::run) use up to `n` threads, including the calling one. 0 means 1.
    ///
    /// Each region is migrated by one thread. Guarantees and report are the same as with one thread. The
    /// threads are scoped: none is left when `run` returns. [`step`](Self::step) uses the calling thread
    /// only. Needs the feature `std`.
    ///
    /// Every thread calls the hint before each hold of a lock, and compares it with the number of records
    /// that all threads have moved. The first call comes after the threads have been started. The hint stops
    /// all of them.
    ///
    /// # Panics
    ///
    /// If a lock or the hint panics on one thread, the other threads finish their work, and then `run` panics
    /// with the same payload.
    ///
    /// # Memory
    ///
    /// The migration itself allocates nothing. The standard library allocates a stack and some hundred bytes
    /// on the heap per thread that it starts. If the system refuses the thread or its stack, the threads that
    /// were started do all the work. If the allocator refuses the bytes on the heap, the standard library
    /// aborts the process. So if memory may run out, use one thread: a migration on one thread cannot fail.
    ///
    /// # Cost
    ///
    /// One more thread is started per 256 regions that have the old id: 32 GiB of swap in pages of 4 KiB, if
    /// all of it has the id. Fewer are started if the system refuses more. `n` is not compared with the
    /// number of processors.
    ///
    /// # Examples
    ///
    /// ```
    /// use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    ///
    /// let ty = SwapType::new(0).unwrap();
    /// let (child, parent) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1 << 20).unwrap();
    /// records.record_range(SwapEntry::new(ty, 0).unwrap(), 1 << 20, child).unwrap();
    ///
    /// let migrated = records.migration(child, parent).threads(4).run();
    /// assert_eq!((migrated.moved, migrated.left_at_most), (1 << 20, 0));
    /// ```
    pub fn threads(mut self, n: usize) -> Self {
        self.threads = n;
        self.parallel = (n > 1).then_some(Self::run_parallel);
        self
    }

    fn is_within_region(&self) -> bool {
        let on = self.on.as_ref();
        on.is_some_and(|(_, _, ahead)| ahead.is_within_region())
    }

    /// Migrates all that is left. The caller makes the report. Allocates nothing except threads.
    fn run_parallel(&mut self) {
        if self.done {
            return;
        }
        self.renew();
        // A region that a step has begun is migrated to its end here, because threads claim whole regions.
        while self.is_within_region() {
            self.next_region();
            if self.done {
                return;
            }
        }
        let begun = self.on.take();
        let begun = begun.map(|(_, on, ahead)| (on, ahead.into_rest()));
        let types = self.types.by_ref().filter_map(SwapType::new);
        let mut files = begun
            .into_iter()
            .chain(types.filter_map(|ty| {
                let on = self.table.file(ty).on()?;
                self.chunks += on.chunks();
                Some((on, 0..on.regions()))
            }))
            .map(|(on, rest)| File {
                on,
                next: AtomicUsize::new(rest.start),
                end: rest.end,
            });
        // `types` has only types that were not begun, so there are at most as many files as types.
        let files = array::from_fn(|_| files.next());
        let mut shared = Shared {
            job: self.job,
            files,
            threads: 1,
            moved: AtomicU64::new(self.so_far.moved),
            stop: AtomicBool::new(false),
            ended: Mutex::new(Ended {
                report: self.so_far,
                panic: None,
            }),
        };
        let visits: usize = shared.files().map(|file| file.about(&self.job)).sum();
        shared.threads = self.threads.min(1 + visits / WORTH_A_THREAD);
        shared.run();

        let Ended { report, panic } = shared.ended.into_inner();
        if let Some(why) = panic {
            resume_unwind(why);
        }
        self.so_far = report;
        self.so_far.stopped_by_hint = shared.stop.into_inner();
        self.done = true;
    }
}

/// What the threads share.
struct Shared<'t, L> {
    job: Job<'t>,
    files: [Option<File<'t, L>>; MAX_SWAPFILES],
    threads: usize,
    /// The number of records that all threads have moved. Updated only if there is a hint.
    moved: AtomicU64,
    /// Whether the hint has stopped the migration.
    stop: AtomicBool,
    /// Taken once by each thread, at its end. The lock is the crate's own, not the caller's.
    ended: Mutex<RawSpinLock, Ended>,
}

/// What the threads did that have ended.
struct Ended {
    report: Migrated,
    /// The payload of the first panic, of a hint or a lock.
    panic: Option<Box<dyn Any + Send>>,
}

struct File<'t, L> {
    on: On<'t, L>,
    /// The first region that no thread has claimed.
    next: AtomicUsize,
    end: usize,
}

impl<L: RawMutex> File<'_, L> {
    /// Returns the number of regions that have to be visited, about.
    fn about(&self, job: &Job<'_>) -> usize {
        let rest = self.next.load(Ordering::Relaxed)..self.end;
        let presence = self.on.index().presence();
        presence.about(counter(job.old.get()), rest)
    }

    /// Claims some regions for this thread: a part of what is left, in whole words of the bitmap.
    fn claim(&self, threads: usize) -> Option<Range<usize>> {
        let end_of = |start: usize| {
            let part = (self.end - start) / (4 * threads);
            (start + part + 1).next_multiple_of(64).min(self.end)
        };
        // Relaxed is enough: `next` only deals out regions. Their locks order what is in them.
        let claimed = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |start| {
                (start < self.end).then(|| end_of(start))
            });
        claimed.ok().map(|start| start..end_of(start))
    }
}

impl<'t, L> Shared<'t, L> {
    fn files(&self) -> impl Iterator<Item = &File<'t, L>> {
        self.files.iter().flatten()
    }
}

impl<L: RawMutex + Send + Sync> Shared<'_, L> {
    /// Works on as many threads as are worth it, including the calling one.
    fn run(&self) {
        // A scope allocates even if no thread is started.
        if self.threads <= 1 {
            return self.take_part();
        }
        thread::scope(|scope| {
            for _ in 1..self.threads {
                let started = thread::Builder::new().spawn_scoped(scope, || self.take_part());
                // The threads that were started do all the work.
                if started.is_err() {
                    break;
                }
            }
            self.take_part();
        });
    }

    /// Works until nothing is left, and adds the result to `ended`. A panic is kept until all threads have
    /// ended.
    fn take_part(&self) {
        let done = catch_unwind(AssertUnwindSafe(|| self.work()));
        let mut ended = self.ended.lock();
        match done {
            Ok(part) => ended.report.include(&part),
            Err(why) => {
                // The first payload is for the caller. Others are dropped after the lock is freed, because a
                // drop runs foreign code.
                let other = match ended.panic {
                    None => ended.panic.replace(why),
                    Some(_) => Some(why),
                };
                drop(ended);
                drop(other);
            }
        }
    }

    /// Migrates regions until no region is left to claim, or the hint stops the migration.
    fn work(&self) -> Migrated {
        let mut part = Migrated::default();
        for file in self.files() {
            while let Some(claim) = file.claim(self.threads) {
                let mut ahead = Ahead::new(claim);
                loop {
                    if self.is_done() {
                        return part;
                    }
                    let Some(sweep) = self.job.migrate_next(&file.on, &mut ahead, &mut part) else {
                        break;
                    };
                    if self.job.hint.is_some() {
                        self.moved
                            .fetch_add(u64::from(sweep.found.count), Ordering::Relaxed);
                    }
                }
            }
        }
        // The last region may have had the last record, so the hint is asked once more.
        self.is_done();
        part
    }

    fn is_done(&self) -> bool {
        if self.job.hint.is_none() {
            return false;
        }
        let done = self.stop.load(Ordering::Relaxed)
            || self.job.is_done(self.moved.load(Ordering::Relaxed));
        if done {
            self.stop.store(true, Ordering::Relaxed);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::RawSpinLock;
    use crate::table::SwapRecords;

    /// A region in no claim would keep its records. A region in two claims would be visited twice for
    /// nothing.
    #[test]
    fn claims_cover_each_region_exactly_once() {
        let ty = SwapType::new(0).unwrap();
        let table = SwapRecords::<RawSpinLock>::new();
        table.swapon(ty, 1).unwrap();
        for (start, end) in [
            (0, 0),
            (0, 1),
            (0, 64),
            (0, 65),
            (3, 1000),
            (64, 64),
            (77, 20_000),
        ] {
            for threads in [1, 2, 3, 8, 1000] {
                let file = File {
                    on: table.file(ty).on().unwrap(),
                    next: AtomicUsize::new(start),
                    end,
                };
                let mut next = start;
                let mut claims = 0;
                while let Some(claim) = file.claim(threads) {
                    assert_eq!(claim.start, next);
                    assert!(claim.end > next && claim.end <= end);
                    next = claim.end;
                    claims += 1;
                }
                assert_eq!(next, end);
                // Claims are so few that they cost nothing compared with the regions in them.
                assert!(claims <= 1 + (end - start) / 64 + 1);
            }
        }
    }
}
