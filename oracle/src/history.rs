//! Runs threads on the same few slots, and checks that some order explains all of their answers.
//!
//! Each slot is judged alone, since a range or a migration only promises that each slot changes atomically.
//! An order explains a history if each operation gets the answer that it got, and comes after all operations
//! that had returned when it was called. This is linearizability (Herlihy and Wing 1990). The search is that
//! of Wing and Gong (1993), and remembers the states that it tried.
//!
//! One exception is allowed. A record enters the index a little after lookups can see it. So operations that
//! use the index (migrations, `runs`) may miss a record if the call that writes it has not returned.

use std::collections::{BTreeSet, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::{hint, thread};

use lock_api::RawMutex;
use swap_records::{Exchange, MemcgId, Run, SwapEntry, SwapRecords};

use super::{Op, SHARED_PAGES, SHARED_SLOTS, Slot, entry, id, owner, ty};

/// The highest number of threads of a history.
pub const MOST_THREADS: usize = 3;

/// How long threads wait for each other: a few microseconds longer than a wake-up takes.
const MOST_SPINS: u32 = if cfg!(miri) { 10 } else { 5_000 };

#[expect(clippy::cast_possible_truncation, reason = "only a few slots")]
const SLOTS: usize = (SHARED_SLOTS.end - SHARED_SLOTS.start) as usize;

type Owner = Option<MemcgId>;

/// The effect of an operation on one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// It returned this owner.
    Read(Owner),
    /// It found this owner through the index, or no record.
    Found(Owner),
    /// It stored `new`, and returned the previous owner.
    Write { had: Owner, new: Owner },
    /// It stored nothing, and returned the owner that it found in place of `old`.
    Mismatch { had: Owner, old: Owner },
    /// It replaced the first id by the second if it found it through the index. It does not return which
    /// slots it changed.
    Move(MemcgId, MemcgId),
}

/// One operation on one slot, between two ticks of a shared clock.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub called: u64,
    pub returned: u64,
    pub what: What,
}

/// The events of each thread on a slot, in the order of the thread.
pub type History = [Vec<Event>; MOST_THREADS];

/// Runs each list of operations on its own thread, all at once, on a new table. Asserts that one order
/// explains the answers, the records at the end, and the counters.
///
/// # Panics
///
/// Panics if no order does, or if an operation is not one on entries.
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
                    // Wake up first, then start at the same moment if there are enough processors.
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
    // All numbers of records that some order moves.
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
        "{moved} records moved, but orders explain {may_move:?}"
    );
    for owner in super::IDS.map(id) {
        let slots = SHARED_SLOTS.filter(|&at| table.lookup(entry((0, at))) == Some(owner));
        assert_eq!(table.count(owner), slots.count() as u64, "{owner}");
    }
}

/// The answers that one thread got.
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

/// Does the operation. Returns its effect on each slot.
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
        _ => panic!("{op:?} is not an operation on entries"),
    }
}

/// Returns the effects of a batch of different slots. `had` lists the previous owners that it reported, in
/// the order of the slots.
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
    assert_eq!(
        had.next(),
        None,
        "an owner that was reported for no slot, or out of order"
    );
    all
}

/// Returns the index of a shared slot.
fn slot_of(offset: u64) -> usize {
    usize::try_from(offset - SHARED_SLOTS.start).unwrap()
}

fn owner_in(runs: &[Run], at: u64) -> Owner {
    let run = runs
        .iter()
        .find(|run| (run.start.offset()..run.start.offset() + run.len).contains(&at));
    run.map(|run| run.id)
}

/// Returns the numbers of records that the explaining orders move, for a slot that has no owner at first and
/// `last` at the end. The set is empty if no order explains the history.
pub fn explain(history: &History, last: Owner) -> BTreeSet<u64> {
    let mut explained = BTreeSet::new();
    let start = ([0; MOST_THREADS], None, 0);
    let mut tried = HashSet::from([start]);
    let mut to_try = vec![start];
    while let Some((at, owner, moved)) = to_try.pop() {
        let next = |thread: usize| history[thread].get(at[thread]);
        let nexts = (0..MOST_THREADS).filter_map(next);
        // An operation that was called after another had returned comes after it.
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

/// Returns whether an operation may have missed a record in the index, because the call that wrote it had not
/// returned.
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

/// Returns the owner of a slot after this effect, and the number of records that it moved. Returns `None` if
/// the effect is impossible for a slot with this owner.
fn after(owner: Owner, what: What) -> Option<(Owner, u64)> {
    match what {
        What::Read(had) | What::Found(had) => (had == owner).then_some((owner, 0)),
        What::Write { had, new } => (had == owner).then_some((new, 0)),
        What::Mismatch { had, old } => (had == owner && had != old).then_some((owner, 0)),
        What::Move(old, new) if owner == Some(old) && old != new => Some((Some(new), 1)),
        What::Move(..) => Some((owner, 0)),
    }
}
