//! Threads on the same few slots: what each was told and when, and whether some order explains it.
//!
//! Each slot is judged by itself, since a range and a migration promise no more than that each slot
//! changes atomically. A history is explained if its operations can be put into one order in which
//! each gets the answer that it got, and none comes before one that had returned when it was called
//! (linearizability: Herlihy and Wing 1990; the search is that of Wing and Gong 1993, with what
//! has been tried remembered).
//!
//! One thing is granted beyond that. A record comes into the index a little after a lookup can see
//! it, so who asks the index (migrations, `runs`) may miss a record whose writer has not returned.

use std::collections::{BTreeSet, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::{hint, thread};

use lock_api::RawMutex;
use swap_records::{Exchange, MemcgId, Run, SwapEntry, SwapRecords};

use super::{Op, SHARED_PAGES, SHARED_SLOTS, Slot, entry, id, owner, ty};

/// The most threads of a history.
pub const MOST_THREADS: usize = 3;

/// How long threads wait for each other: some microseconds more than it takes to wake up.
const MOST_SPINS: u32 = if cfg!(miri) { 10 } else { 5_000 };

#[expect(clippy::cast_possible_truncation, reason = "a handful")]
const SLOTS: usize = (SHARED_SLOTS.end - SHARED_SLOTS.start) as usize;

type Owner = Option<MemcgId>;

/// What an operation did to one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// It was told this owner.
    Read(Owner),
    /// The index led it to the slot with this owner, or not to it.
    Found(Owner),
    /// It stored an owner, and was told the one before.
    Write { had: Owner, new: Owner },
    /// It was told that it did not store, because of this owner instead of that.
    Mismatch { had: Owner, old: Owner },
    /// It stored the second where the index led it to the first. Nobody was told.
    Move(MemcgId, MemcgId),
}

/// One operation on one slot, between two ticks of a clock that all threads share.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub called: u64,
    pub returned: u64,
    pub what: What,
}

/// What each thread did to a slot, in its own order.
pub type History = [Vec<Event>; MOST_THREADS];

/// Does each list in a thread of its own, all at once, on a new table, and asserts that what each was
/// told, the records in the end and the counters can be explained by one order.
///
/// # Panics
///
/// Where they cannot; and at an operation that is not one on entries.
pub fn explains_all<L: RawMutex + Send + Sync>(lists: &[Vec<Op>]) {
    assert!(lists.len() <= MOST_THREADS);
    let table = SwapRecords::<L>::with_raw_mutex();
    table.swapon(ty(0), SHARED_PAGES).unwrap();
    let clock = AtomicU64::new(0);
    let (start, waiting) = (Barrier::new(lists.len()), AtomicUsize::new(lists.len()));
    let told: Vec<Told> = thread::scope(|s| {
        let threads: Vec<_> = lists
            .iter()
            .map(|ops| {
                let (table, clock, start, waiting) = (&table, &clock, &start, &waiting);
                s.spawn(move || {
                    // Awake, and then at once, where there is a processor for each.
                    start.wait();
                    waiting.fetch_sub(1, Ordering::AcqRel);
                    let all_here = || waiting.load(Ordering::Acquire) == 0;
                    (0..MOST_SPINS).any(|_| {
                        all_here() || {
                            hint::spin_loop();
                            false
                        }
                    });
                    let mut told = Told::default();
                    for op in ops {
                        told.note(table, clock, op);
                    }
                    told
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    table.validate().unwrap();
    let moved: u64 = told.iter().map(|told| told.moved).sum();
    // Every number of records that some order moves.
    let mut may_move = BTreeSet::from([0]);
    for (slot, offset) in SHARED_SLOTS.enumerate() {
        let last = table.lookup(entry((0, offset)));
        let mut history = History::default();
        for (thread, told) in history.iter_mut().zip(&told) {
            thread.clone_from(&told.slots[slot]);
        }
        let here = explain(&history, last);
        assert!(
            !here.is_empty(),
            "slot {offset} ends with {last:?}, and no order explains {history:#?}"
        );
        may_move = may_move
            .iter()
            .flat_map(|sum| here.iter().map(move |n| sum + n))
            .collect();
    }
    assert!(
        may_move.contains(&moved),
        "{moved} records moved, and orders explain {may_move:?}"
    );
    for owner in super::IDS.map(id) {
        let slots = SHARED_SLOTS.filter(|&at| table.lookup(entry((0, at))) == Some(owner));
        assert_eq!(table.count(owner), slots.count() as u64, "{owner}");
    }
}

/// What one thread was told.
#[derive(Default)]
struct Told {
    slots: [Vec<Event>; SLOTS],
    moved: u64,
}

impl Told {
    fn note<L: RawMutex>(&mut self, table: &SwapRecords<L>, clock: &AtomicU64, op: &Op) {
        let called = clock.fetch_add(1, Ordering::SeqCst);
        let what = do_it(table, op, &mut self.moved);
        let returned = clock.fetch_add(1, Ordering::SeqCst);
        for (slot, what) in what {
            self.slots[slot].push(Event {
                called,
                returned,
                what,
            });
        }
    }
}

/// Does the operation. Gives what that was to each slot.
fn do_it<L: RawMutex>(table: &SwapRecords<L>, op: &Op, moved: &mut u64) -> Vec<(usize, What)> {
    match *op {
        Op::Record(slot, new) => {
            let had = table.record(entry(slot), id(new)).unwrap();
            let new = Some(id(new));
            vec![(slot_of(slot.1), What::Write { had, new })]
        }
        Op::Clear(slot) => {
            let had = table.clear(entry(slot)).unwrap();
            vec![(slot_of(slot.1), What::Write { had, new: None })]
        }
        Op::Cmpxchg(slot, old, new) => {
            let (old, new) = (owner(old), owner(new));
            let what = match table.cmpxchg(entry(slot), old, new).unwrap() {
                Exchange::Stored => What::Write { had: old, new },
                Exchange::Mismatch(had) => What::Mismatch { had, old },
            };
            vec![(slot_of(slot.1), what)]
        }
        Op::Lookup(slot) => vec![(slot_of(slot.1), What::Read(table.lookup(entry(slot))))],
        Op::RecordRange(slot, nr, new) => {
            let had = table.record_range(entry(slot), nr, id(new)).unwrap();
            let new = Some(id(new));
            (slot.1..slot.1 + nr)
                .map(|at| {
                    (
                        slot_of(at),
                        What::Write {
                            had: owner_in(&had, at),
                            new,
                        },
                    )
                })
                .collect()
        }
        Op::ClearRange(slot, nr) => {
            let had = table.clear_range(entry(slot), nr).unwrap();
            (slot.1..slot.1 + nr)
                .map(|at| {
                    (
                        slot_of(at),
                        What::Write {
                            had: owner_in(&had, at),
                            new: None,
                        },
                    )
                })
                .collect()
        }
        Op::RecordBatch(ref slots, new) => {
            let entries: Vec<_> = slots.iter().map(|&slot| entry(slot)).collect();
            let mut had = Vec::new();
            let done = table.record_batch(&entries, id(new), |slot, id| had.push((slot, id)));
            done.unwrap();
            batch(slots.iter().map(|&slot| (slot, Some(id(new)))), &had)
        }
        Op::RecordBatchIds(ref slots) => {
            let ids: Vec<_> = slots
                .iter()
                .map(|&(slot, of)| (entry(slot), id(of)))
                .collect();
            let mut had = Vec::new();
            let done = table.record_batch_ids(&ids, |slot, id| had.push((slot, id)));
            done.unwrap();
            batch(slots.iter().map(|&(slot, of)| (slot, Some(id(of)))), &had)
        }
        Op::ClearBatch(ref slots) => {
            let entries: Vec<_> = slots.iter().map(|&slot| entry(slot)).collect();
            let mut had = Vec::new();
            let done = table.clear_batch(&entries, |slot, id| had.push((slot, id)));
            done.unwrap();
            batch(slots.iter().map(|&slot| (slot, None)), &had)
        }
        Op::Runs(of) => {
            let runs: Vec<_> = table.runs(ty(of)).collect();
            SHARED_SLOTS
                .map(|at| (slot_of(at), What::Found(owner_in(&runs, at))))
                .collect()
        }
        Op::Migrate(old, new) => {
            let (old, new) = (id(old), id(new));
            *moved += table.migrate(old, new);
            SHARED_SLOTS
                .map(|at| (slot_of(at), What::Move(old, new)))
                .collect()
        }
        Op::Count(of) => {
            assert!(table.count(id(of)) <= SLOTS as u64);
            Vec::new()
        }
        _ => panic!("{op:?} is no operation on entries"),
    }
}

/// What a batch of different slots did to each: it has told whom each of them `had`, in their order.
fn batch(
    slots: impl Iterator<Item = (Slot, Owner)>,
    had: &[(SwapEntry, MemcgId)],
) -> Vec<(usize, What)> {
    let mut had = had.iter().peekable();
    let all = slots
        .map(|(slot, new)| {
            let had = had.next_if(|&&(of, _)| of == entry(slot));
            let had = had.map(|&(_, id)| id);
            (slot_of(slot.1), What::Write { had, new })
        })
        .collect();
    assert_eq!(had.next(), None, "told of no slot, or out of order");
    all
}

/// Its place among the shared ones.
fn slot_of(offset: u64) -> usize {
    usize::try_from(offset - SHARED_SLOTS.start).unwrap()
}

fn owner_in(runs: &[Run], at: u64) -> Owner {
    let run = runs
        .iter()
        .find(|run| (run.start.offset()..run.start.offset() + run.len).contains(&at));
    run.map(|run| run.id)
}

/// Every number of records that is moved by an order that explains the history of a slot which had no
/// owner at first and has this one in the end: none where no order does.
pub fn explain(history: &History, last: Owner) -> BTreeSet<u64> {
    let mut explained = BTreeSet::new();
    let start = ([0; MOST_THREADS], None, 0);
    let mut tried = HashSet::from([start]);
    let mut to_try = vec![start];
    while let Some((at, owner, moved)) = to_try.pop() {
        let next = |thread: usize| history[thread].get(at[thread]);
        let nexts = (0..MOST_THREADS).filter_map(next);
        // Who was called after another had returned comes after it.
        let Some(first_return) = nexts.map(|event| event.returned).min() else {
            if owner == last {
                explained.insert(moved);
            }
            continue;
        };
        for thread in 0..MOST_THREADS {
            let Some(event) = next(thread).filter(|event| event.called < first_return) else {
                continue;
            };
            let mut at = at;
            at[thread] += 1;
            let mut then = |owner, moved| {
                if tried.insert((at, owner, moved)) {
                    to_try.push((at, owner, moved));
                }
            };
            if let Some((owner, more)) = after(owner, event.what) {
                then(owner, moved + more);
            }
            if may_miss(history, event) {
                then(owner, moved);
            }
        }
    }
    explained
}

/// Whether it asked the index, and found nothing of a record whose writer had not returned.
fn may_miss(history: &History, event: &Event) -> bool {
    let missed: &dyn Fn(MemcgId) -> bool = match event.what {
        What::Found(None) => &|_| true,
        What::Move(old, _) => &move |id| id == old,
        _ => return false,
    };
    history.iter().flatten().any(|other| {
        let overlaps = other.called < event.returned && event.called < other.returned;
        match other.what {
            What::Write { new: Some(id), .. } | What::Move(_, id) => overlaps && missed(id),
            _ => false,
        }
    })
}

/// The owner after this was done to a slot of this owner, and how many records it moved; `None` where
/// it cannot have been told what it was told.
fn after(owner: Owner, what: What) -> Option<(Owner, u64)> {
    match what {
        What::Read(had) | What::Found(had) => (had == owner).then_some((owner, 0)),
        What::Write { had, new } => (had == owner).then_some((new, 0)),
        What::Mismatch { had, old } => (had == owner && had != old).then_some((owner, 0)),
        What::Move(old, new) if owner == Some(old) && old != new => Some((Some(new), 1)),
        What::Move(..) => Some((owner, 0)),
    }
}
