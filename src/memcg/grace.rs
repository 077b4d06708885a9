//! [`Grace`]: waits for operations that may still use an owner that they have read.
//!
//! An operation that reads an owner from the table and then does something for that owner is a *section*.
//! [`Grace::synchronize`] returns when every section that was under way has ended. (This is sleepable
//! read-copy-update: McKenney, "Sleepable RCU", 2006.)
//!
//! Each shard has two counts of sections. A section adds one to one of them, chosen by the parity of `phase`,
//! and subtracts it from the same count at its end. A *grace period* waits for the other parity, changes
//! `phase`, and waits for the parity that `phase` had. Sections that begin meanwhile are counted with the new
//! parity, so the grace period does not wait for them.
//!
//! A section may read `phase` before the change and count itself after the grace period has looked at that
//! count. The next grace period waits for it. This one need not: by the fences, the section sees everything
//! that was written before this grace period began.
//!
//! One thread at a time is in a grace period, by compare-exchange of `turn`. A call of `synchronize` may
//! return after any grace period that began after the call. So a thread that waits for its turn need not run
//! one itself. Threads wait with nothing held: no thread waits here with a lock of the user's type (invariant
//! 5).
//!
//! | `turn % 2` | state | next step |
//! | --- | --- | --- |
//! | 0 | no thread is in a grace period | one thread enters, by compare-exchange |
//! | 1 | a thread is in one | that thread leaves, when it has waited for the sections |

use core::fmt;

use crossbeam_utils::CachePadded;

use super::Backoff;
use super::shard::{SHARDS, here};
use crate::sync::{AtomicU64, Ordering, fence};

pub(super) struct Grace {
    sections: [CachePadded<[AtomicU64; 2]>; SHARDS],
    phase: AtomicU64,
    /// Twice the number of grace periods that have ended, plus one while a thread is in one. Only that thread
    /// changes `phase`.
    turn: AtomicU64,
}

/// Ends the section when it is dropped.
#[must_use]
pub(super) struct Section<'a>(&'a AtomicU64);

impl Grace {
    pub(super) const fn new() -> Self {
        Self {
            sections: [const { CachePadded::new([AtomicU64::new(0), AtomicU64::new(0)]) }; SHARDS],
            phase: AtomicU64::new(0),
            turn: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn section(&self) -> Section<'_> {
        let parity = self.phase.load(Ordering::Relaxed) % 2;
        let count = &self.sections[here()][usize::from(parity == 1)];
        count.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fences of `synchronize`: either the grace period sees the count, or this section sees
        // what was written before that call.
        fence(Ordering::SeqCst);
        Section(count)
    }

    /// Waits until every section that was under way has ended. The caller must hold no lock.
    pub(super) fn synchronize(&self) {
        self.wait_for_turn(self.enough());
    }

    /// Returns the value that `turn` has at least when all sections that are under way have been waited for.
    fn enough(&self) -> u64 {
        // If a grace period begins after the load, the sections that it does not wait for see what was
        // written before this.
        fence(Ordering::SeqCst);
        let turn = self.turn.load(Ordering::Relaxed);
        // A grace period that has begun already may have missed sections that began before this call.
        turn.next_multiple_of(2) + 2
    }

    fn wait_for_turn(&self, enough: u64) {
        let backoff = Backoff::new();
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            if turn >= enough {
                break;
            }
            if !turn.is_multiple_of(2) || !self.try_turn(turn) {
                backoff.snooze();
            }
        }
        // What the sections did happens before this; see `Section::drop`.
        fence(Ordering::SeqCst);
    }

    /// Runs a grace period, unless another thread is in one. Returns whether it did.
    fn try_turn(&self, turn: u64) -> bool {
        let mine = self
            .turn
            .compare_exchange(turn, turn + 1, Ordering::AcqRel, Ordering::Relaxed);
        if mine.is_err() {
            return false;
        }
        let phase = self.phase.load(Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.wait(phase + 1);
        self.phase.store(phase + 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.wait(phase);
        self.turn.store(turn + 2, Ordering::Release);
        true
    }

    fn wait(&self, phase: u64) {
        for counts in &self.sections {
            let backoff = Backoff::new();
            while counts[usize::from(phase % 2 == 1)].load(Ordering::Acquire) != 0 {
                backoff.snooze();
            }
        }
    }
}

impl Drop for Section<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl fmt::Debug for Grace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grace")
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn synchronize_waits_for_sections_and_for_none_that_began_later() {
        let grace = Grace::new();
        let ended = AtomicBool::new(false);
        let section = grace.section();
        thread::scope(|s| {
            let waits = s.spawn(|| {
                grace.synchronize();
                assert!(ended.load(Ordering::Relaxed));
            });
            for _ in 0..50 {
                drop(grace.section());
                thread::yield_now();
            }
            assert!(!waits.is_finished());
            ended.store(true, Ordering::Relaxed);
            drop(section);
        });
        // Without any section it returns, in both phases.
        grace.synchronize();
        grace.synchronize();
    }

    /// A grace period that began before the call may have missed sections. Any that begins later will do.
    #[test]
    fn a_grace_period_of_another_thread_serves_if_it_begins_later() {
        let grace = Grace::new();
        grace.synchronize();
        assert_eq!(grace.turn.load(Ordering::Relaxed), 2);
        for (began, ends, then) in [(2, 2, 4), (2, 4, 4), (3, 4, 6), (3, 6, 6), (3, 8, 8)] {
            grace.turn.store(began, Ordering::Relaxed);
            let enough = grace.enough();
            // Other threads have had their turn by then.
            grace.turn.store(ends, Ordering::Relaxed);
            grace.wait_for_turn(enough);
            let turn = grace.turn.load(Ordering::Relaxed);
            assert_eq!(
                turn, then,
                "the call began at turn {began}, and looked again at turn {ends}"
            );
        }
    }

    #[test]
    fn what_a_section_reads_stays_until_it_ends() {
        const TIMES: u64 = if cfg!(miri) { 20 } else { 20_000 };
        let grace = Grace::new();
        // An owner, and for each of two owners whether it exists.
        let owner = AtomicU64::new(0);
        let there = [AtomicBool::new(true), AtomicBool::new(false)];
        let done = AtomicBool::new(false);
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let _section = grace.section();
                        let found = owner.load(Ordering::Acquire);
                        for _ in 0..3 {
                            assert!(there[usize::from(found == 1)].load(Ordering::Relaxed));
                        }
                    }
                });
            }
            for time in 0..TIMES {
                let (old, new) = (time % 2, (time + 1) % 2);
                there[usize::from(new == 1)].store(true, Ordering::Relaxed);
                owner.store(new, Ordering::Release);
                grace.synchronize();
                there[usize::from(old == 1)].store(false, Ordering::Relaxed);
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn sections_that_overlap_without_a_gap_do_not_delay_synchronize() {
        let grace = Grace::new();
        for _ in 0..4 {
            let ended = AtomicBool::new(false);
            thread::scope(|s| {
                let mut section = grace.section();
                s.spawn(|| {
                    grace.synchronize();
                    ended.store(true, Ordering::Relaxed);
                });
                let start = std::time::Instant::now();
                while !ended.load(Ordering::Relaxed) && start.elapsed().as_secs() < 20 {
                    let next = grace.section();
                    section = next;
                    thread::yield_now();
                }
                assert!(
                    ended.load(Ordering::Relaxed),
                    "synchronize waited for sections that began later"
                );
                drop(section);
            });
        }
    }
}
