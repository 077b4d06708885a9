//! A migration on several threads: each of them claims regions, so many at a time that claims are
//! few, and fewer towards the end, so that all end together.
//!
//! What a thread does with a region is what a migration on one thread does ([`Job::migrate`]); only who
//! comes next is shared. Claims do not overlap, and together are all regions: `next` of a [`File`]
//! only grows, by compare-exchange, up to the number of regions.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::vec::Vec;

use lock_api::RawMutex;

use super::ahead::Ahead;
use super::{Job, Migrated, Migration};
use crate::cell::counter;
use crate::entry::SwapType;
use crate::swapfile::On;

/// How many regions must be visited for one more thread to be worth its start: a thread takes as long to start as
/// some ten regions to scan, or some hundred to be told that they have one record.
const WORTH_A_THREAD: usize = if cfg!(miri) { 2 } else { 256 };

impl<L: RawMutex + Send + Sync> Migration<'_, L> {
    /// Lets [`run`](Self::run) use up to `n` threads, the calling one of them; 0 is as 1.
    ///
    /// The regions are handed out among them, each to one, and guarantees and report are as with one thread. The
    /// hint stops all of them: it is asked, by any of them, before each region, with what all of them have
    /// moved by then, the first time when they have been started. If it panics, the other threads go on to
    /// their end, and then the panic is the caller's. Threads are scoped: none is left when `run` returns.
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

    /// Migrates all that is left, and leaves the report to be given.
    fn run_parallel(&mut self) {
        if self.done {
            return;
        }
        let begun = self.on.take();
        let begun = begun.map(|(on, ahead)| (on, ahead.into_rest()));
        let types = self.types.by_ref().filter_map(SwapType::new);
        let files: Vec<_> = begun
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
            })
            .collect();
        let visits: usize = files.iter().map(|file| file.about(&self.job)).sum();
        let threads = self.threads.min(1 + visits / WORTH_A_THREAD);
        let shared = Shared {
            job: self.job,
            files,
            threads,
            moved: AtomicU64::new(self.so_far.moved),
            stop: AtomicBool::new(false),
        };

        let mut parts = Vec::new();
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map_while(|_| {
                    thread::Builder::new()
                        .spawn_scoped(scope, || shared.work())
                        .ok()
                })
                .collect();
            parts.push(shared.work());
            for other in others {
                // A hint that panics does so for the caller, as on one thread.
                let part = other.join();
                parts.push(part.unwrap_or_else(|why| std::panic::resume_unwind(why)));
            }
        });
        for part in parts {
            self.so_far.moved += part.moved;
            self.so_far.chunks_scanned += part.chunks_scanned;
            self.so_far.longest_hold = self.so_far.longest_hold.max(part.longest_hold);
        }
        self.so_far.stopped_by_hint = shared.stop.into_inner();
        self.done = true;
    }
}

/// What the threads share.
struct Shared<'t, L> {
    job: Job<'t>,
    files: Vec<File<'t, L>>,
    threads: usize,
    /// By all of them; kept only where there is a hint to hold it against.
    moved: AtomicU64,
    /// The hint's word.
    stop: AtomicBool,
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

impl<L: RawMutex> Shared<'_, L> {
    /// Migrates regions until none is left to claim, or the hint says that it is done.
    fn work(&self) -> Migrated {
        let mut part = Migrated::default();
        for file in &self.files {
            while let Some(claim) = file.claim(self.threads) {
                let mut ahead = Ahead::new(claim);
                loop {
                    if self.is_done() {
                        return part;
                    }
                    let Some(region) = ahead.next(&file.on, self.job.old, self.job.new) else {
                        break;
                    };
                    let Some(sweep) = self.job.migrate(&file.on, region) else {
                        break;
                    };
                    part.add(&sweep);
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
