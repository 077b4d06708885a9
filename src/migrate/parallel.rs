//! A migration on several threads: each of them claims regions, so many at a time that claims are
//! few, and fewer towards the end, so that all end together.
//!
//! What a thread does with a region is what a migration on one thread does ([`Job::migrate`]); only who
//! comes next is shared. Claims do not overlap, and together are all regions: `next` of a [`File`]
//! only grows, by compare-exchange, up to the number of regions.

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

/// How many regions must be visited for one more thread to be worth its start: a thread takes as long to start as
/// some ten regions to scan, or some hundred to be told that they have one record.
const WORTH_A_THREAD: usize = if cfg!(miri) { 2 } else { 256 };

impl<L: RawMutex + Send + Sync> Migration<'_, L> {
    /// Lets [`run`](Self::run) use up to `n` threads, the calling one of them; 0 is as 1.
    ///
    /// The regions are handed out among them, each to one, and guarantees and report are as with one thread. The
    /// hint stops all of them: it is asked, by any of them, before each hold of a lock, with what all of them have
    /// moved by then, the first time when they have been started. If it panics, the other threads go on to
    /// their end, and then the panic is the caller's, as is that of a lock. Threads are scoped: none is left when
    /// `run` returns.
    ///
    /// # Memory
    ///
    /// A migration allocates nothing, except that the standard library allocates for each thread that it starts: its
    /// stack, and some hundred bytes on the heap. Where the system refuses the thread or its stack, the threads that there
    /// are do all of it. Where the allocator refuses those bytes, the standard library ends the process. So where memory
    /// may run out, do without threads: a migration on one thread cannot fail.
    ///
    /// # Cost
    ///
    /// Where there is little to do, or the system gives no thread, it makes do with fewer: each one more is for 256
    /// regions that have the old id, 16 GiB of swap in pages of 4 KiB if all of it has. `n` is not held against
    /// the number of processors. [`step`](Self::step) stays on the calling thread. Needs feature `std`.
    ///
    /// ```
    /// use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};
    ///
    /// let ty = SwapType::new(0).unwrap();
    /// let (dying, parent) = (MemcgId::new(7).unwrap(), MemcgId::new(1).unwrap());
    /// let records = SwapRecords::new();
    /// records.swapon(ty, 1 << 20).unwrap();
    /// records.record_range(SwapEntry::new(ty, 0).unwrap(), 1 << 20, dying).unwrap();
    ///
    /// let migrated = records.migration(dying, parent).threads(4).run();
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

    /// Migrates all that is left, and leaves the report to be given. Of its own, it allocates nothing.
    fn run_parallel(&mut self) {
        if self.done {
            return;
        }
        self.renew();
        // A region that a step has begun is migrated to its end: threads claim whole ones.
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
        // A type that was begun is none of those that are still to be begun.
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
    /// By all of them; kept only where there is a hint to hold it against.
    moved: AtomicU64,
    /// The hint's word.
    stop: AtomicBool,
    /// Taken once by each thread, at its end. Not a lock of the user's.
    ended: Mutex<RawSpinLock, Ended>,
}

/// What the threads that have ended did.
struct Ended {
    report: Migrated,
    /// Why one of them did not get to its end: a hint, or a lock, that panicked.
    panic: Option<Box<dyn Any + Send>>,
}

struct File<'t, L> {
    on: On<'t, L>,
    /// The first region that nobody has claimed.
    next: AtomicUsize,
    end: usize,
}

impl<L: RawMutex> File<'_, L> {
    /// How many regions there may be to visit.
    fn about(&self, job: &Job<'_>) -> usize {
        let rest = self.next.load(Ordering::Relaxed)..self.end;
        let presence = self.on.index().presence();
        presence.about(counter(job.old.get()), rest)
    }

    /// Some regions that nobody else gets: a part of what is left, whole words of the bitmap.
    fn claim(&self, threads: usize) -> Option<Range<usize>> {
        let end_of = |start: usize| {
            let part = (self.end - start) / (4 * threads);
            (start + part + 1).next_multiple_of(64).min(self.end)
        };
        // Relaxed: it says who takes which regions; their locks order what is in them.
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
    /// Works on the threads that are worth it, and on the calling one.
    fn run(&self) {
        // To start none takes memory, too.
        if self.threads <= 1 {
            return self.take_part();
        }
        thread::scope(|scope| {
            for _ in 1..self.threads {
                let started = thread::Builder::new().spawn_scoped(scope, || self.take_part());
                // Those that there are do it.
                if started.is_err() {
                    break;
                }
            }
            self.take_part();
        });
    }

    /// Works until nothing is left, and writes down what was done. A panic waits until all have ended.
    fn take_part(&self) {
        let done = catch_unwind(AssertUnwindSafe(|| self.work()));
        let mut ended = self.ended.lock();
        match done {
            Ok(part) => ended.report.include(&part),
            Err(why) => {
                // The first one is the caller's. Another is dropped when the lock is free: that is anybody's code.
                let other = match ended.panic {
                    None => ended.panic.replace(why),
                    Some(_) => Some(why),
                };
                drop(ended);
                drop(other);
            }
        }
    }

    /// Migrates regions until none is left to claim, or the hint says that it is done.
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
        // The last region may have been the last record's.
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

    /// A region that no claim has would keep its records; one that two have would be a race for nothing.
    #[test]
    fn claims_are_all_regions_and_none_twice() {
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
                // Few enough that a claim costs nothing beside the regions in it.
                assert!(claims <= 1 + (end - start) / 64 + 1);
            }
        }
    }
}
