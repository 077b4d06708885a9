//! Threads on a few slots: an order of the operations must explain all answers. The fuzz target `threads`
//! does the same from bytes. The unit tests check that histories without such an order are found.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use swap_records::{MemcgId, RawSpinLock};
use swap_records_oracle::history::{Event, History, What, explain, explains_all};
use swap_records_oracle::{CMPXCHG_OWNERS, Op, SHARED_SLOTS, id};

fn op() -> impl Strategy<Value = Op> {
    let slot = || SHARED_SLOTS.prop_map(|offset| (0, offset));
    let owner = || select(&CMPXCHG_OWNERS);
    let id = || select(&CMPXCHG_OWNERS[1..]);
    let range = || SHARED_SLOTS.prop_flat_map(|at| (Just((0, at)), 1..=SHARED_SLOTS.end - at));
    // Different slots, in any order.
    let slots = || {
        let all: Vec<_> = SHARED_SLOTS.map(|offset| (0, offset)).collect();
        let nr = 1..=all.len();
        (Just(all).prop_shuffle(), nr).prop_map(|(all, nr)| all[..nr].to_vec())
    };
    let with_ids = (slots(), vec(id(), SHARED_SLOTS.count()))
        .prop_map(|(slots, ids)| slots.into_iter().zip(ids).collect());
    prop_oneof![
        6 => (slot(), id()).prop_map(|(slot, id)| Op::Record(slot, id)),
        2 => slot().prop_map(Op::Clear),
        9 => (slot(), owner(), owner()).prop_map(|(slot, old, new)| Op::Cmpxchg(slot, old, new)),
        3 => slot().prop_map(Op::Lookup),
        4 => (range(), id()).prop_map(|((slot, nr), id)| Op::RecordRange(slot, nr, id)),
        2 => range().prop_map(|(slot, nr)| Op::ClearRange(slot, nr)),
        2 => (slots(), id()).prop_map(|(slots, id)| Op::RecordBatch(slots, id)),
        2 => with_ids.prop_map(Op::RecordBatchIds),
        2 => slots().prop_map(Op::ClearBatch),
        3 => (id(), id()).prop_map(|(old, new)| Op::Migrate(old, new)),
        1 => id().prop_map(Op::Count),
        1 => Just(Op::Runs(0)),
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: swap_records_oracle::cases(400),
        // Threads interleave differently each time, so a case cannot be shrunk.
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_order_explains_the_answers_of_all_threads(lists in vec(vec(op(), 1..14), 2..=3)) {
        explains_all::<RawSpinLock>(&lists);
        explains_all::<parking_lot::RawMutex>(&lists);
    }
}

const A: Option<MemcgId> = MemcgId::new(1);
const B: Option<MemcgId> = MemcgId::new(2);

/// Makes a history from the events of each thread, with the ticks at which they were called and had returned.
fn history<const N: usize>(threads: [&[(u64, u64, What)]; N]) -> History {
    let mut history = History::default();
    for (events, thread) in threads.iter().zip(&mut history) {
        let event = |&(called, returned, what)| Event {
            called,
            returned,
            what,
        };
        *thread = events.iter().map(event).collect();
    }
    history
}

/// Returns whether an order explains the history.
fn explained<const N: usize>(threads: [&[(u64, u64, What)]; N], last: Option<MemcgId>) -> bool {
    !explain(&history(threads), last).is_empty()
}

#[test]
fn an_owner_that_was_never_stored_is_not_explained() {
    assert!(explained([&[(0, 1, What::Read(None))]], None));
    assert!(!explained([&[(0, 1, What::Read(A))]], None));
    assert!(!explained([&[]], A));
}

#[test]
fn two_operations_that_overlap_may_come_in_either_order() {
    let write = What::Write { had: None, new: A };
    for seen in [None, A] {
        assert!(explained(
            [&[(0, 3, write)], &[(1, 2, What::Read(seen))]],
            A
        ));
    }
}

#[test]
fn an_operation_that_had_returned_comes_before_one_that_is_called_later() {
    let write = What::Write { had: None, new: A };
    assert!(explained([&[(0, 1, write)], &[(2, 3, What::Read(A))]], A));
    assert!(!explained(
        [&[(0, 1, write)], &[(2, 3, What::Read(None))]],
        A
    ));
}

#[test]
fn a_compare_before_the_lock_is_not_explained() {
    // Both saw no owner, and both stored.
    let [to_a, to_b] = [A, B].map(|new| What::Write { had: None, new });
    assert!(!explained([&[(0, 2, to_a)], &[(1, 3, to_b)]], B));
    let lost = What::Mismatch { had: A, old: None };
    assert!(explained([&[(0, 2, to_a)], &[(1, 3, lost)]], A));
    // A mismatch cannot have found the owner that it expected.
    let wrong = What::Mismatch { had: A, old: A };
    assert!(!explained([&[(0, 2, to_a)], &[(1, 3, wrong)]], A));
}

#[test]
fn a_lost_write_is_not_explained() {
    let first = What::Write { had: None, new: A };
    let second = What::Write { had: A, new: B };
    assert!(explained([&[(0, 1, first), (2, 3, second)]], B));
    assert!(!explained([&[(0, 1, first), (2, 3, second)]], A));
}

#[test]
fn a_migration_moves_each_record_that_it_finds() {
    let write = What::Write { had: None, new: A };
    let moves = What::Move(id(1), id(2));
    // If the migration came before the record, it moved none; if after, one.
    assert_eq!(
        explain(&history([&[(0, 3, write)], &[(1, 2, moves)]]), A),
        BTreeSet::from([0])
    );
    assert_eq!(
        explain(&history([&[(0, 3, write)], &[(1, 2, moves)]]), B),
        BTreeSet::from([1])
    );
    // A record that existed when the migration began is not left.
    assert!(!explained([&[(0, 1, write), (2, 3, moves)]], A));
    // A migration from an id to itself moves nothing.
    let none = What::Move(id(1), id(1));
    assert_eq!(
        explain(&history([&[(0, 1, write), (2, 3, none)]]), A),
        BTreeSet::from([0])
    );
}

#[test]
fn operations_that_use_the_index_may_miss_a_record_that_is_being_written() {
    let write = What::Write { had: None, new: A };
    let moves = What::Move(id(1), id(2));
    for misses in [What::Found(None), moves] {
        // A lookup has seen the record already, but its writer returns later.
        let other = [(1, 2, What::Read(A)), (3, 4, misses)];
        assert!(explained([&[(0, 5, write)], &other], A));
        // Its writer had returned.
        assert!(!explained([&[(0, 1, write)], &[(2, 3, misses)]], A));
        // A lookup does not miss a record that it has seen.
        let lookups = [(1, 2, What::Read(A)), (3, 4, What::Read(None))];
        assert!(!explained([&[(0, 5, write)], &lookups], A));
        // A record of another id is not the one that was missed.
        let to_b = What::Write { had: A, new: B };
        assert!(!explained(
            [&[(0, 1, write), (2, 5, to_b)], &[(3, 4, moves)]],
            A
        ));
    }
}
