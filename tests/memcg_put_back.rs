//! Tests a swap-in over several regions while another thread frees or moves some of its slots between two of
//! its locks. The swap-in succeeds for all pages, or it is refused. If it is refused, the slots that it had
//! cleared have their records again.

#![cfg(not(miri))] // Every place takes too long.

mod hooked;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hooked::{Event, Hooked, at};
use swap_records::memcg::{Memcg, MemcgError, Memcgs};
use swap_records::{REGION_ENTRIES, SwapEntry, SwapType};

const REGION: u64 = REGION_ENTRIES as u64;
const TYPE: SwapType = SwapType::new(0).unwrap();
const FIRST: u64 = REGION - 2;
const NR: u64 = 4;

type Tree = Memcgs<Hooked>;

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// Runs a swap-in, and `others` at each place where the swap-in holds no lock. `is_right` tells whether an
/// error is expected. Returns the number of errors after the first region had been cleared.
fn beside(
    others: fn(&Tree, [Memcg; 2]) -> Result<u64, MemcgError>,
    is_right: fn(MemcgError) -> bool,
) -> u32 {
    let mut refused = 0;
    for n in 0.. {
        let memcgs = Arc::new(Tree::with_raw_mutex());
        memcgs.swapon(TYPE, 2 * REGION).unwrap();
        let [a, b] = [(); 2].map(|()| memcgs.create(memcgs.root()).unwrap());
        memcgs.charge(a, NR).unwrap();
        memcgs.swap_out(a, entry(FIRST), NR).unwrap();
        let was_given_up = Arc::new(AtomicBool::new(false));
        let others = {
            let (memcgs, was_given_up) = (Arc::clone(&memcgs), Arc::clone(&was_given_up));
            move || {
                let gone = memcgs.records().lookup(entry(FIRST)).is_none();
                was_given_up.store(gone, Ordering::Relaxed);
                others(&memcgs, [a, b]).unwrap();
            }
        };
        let come_in = || memcgs.swap_in(entry(FIRST), NR);
        let (charged, was_there) = at(Event::First, n, others, come_in);
        memcgs.validate().unwrap();
        let [of_a, of_b] = [a, b].map(|memcg| memcgs.usage(memcg).unwrap());
        match charged {
            Ok(charged) => {
                let own = if charged == a { of_a.own } else { of_b.own };
                assert_eq!((own, of_a.swap + of_b.swap), (NR, 0), "{n}");
            }
            Err(error) => {
                assert!(is_right(error), "{n}: {error}");
                assert_eq!((of_a.memory, of_b.memory), (0, 0), "{n}");
                // The swap-in had cleared the first region, which has its records again.
                assert_eq!(memcgs.records().lookup(entry(FIRST)), Some(a.id()));
                assert!(of_a.swap + of_b.swap >= NR - 1, "{n}");
                refused += u32::from(was_given_up.load(Ordering::Relaxed));
            }
        }
        if !was_there {
            break;
        }
    }
    refused
}

#[test]
fn cleared_slots_have_their_records_again_if_another_thread_frees_a_slot() {
    let refused = beside(
        |memcgs, _| memcgs.free_swap(entry(FIRST + 3), 1),
        |error| {
            let entry = entry(FIRST + 3);
            error == MemcgError::NoRecord { entry }
        },
    );
    assert!(refused > 0, "it was never between the two regions");
}

#[test]
fn cleared_slots_have_their_records_again_if_another_thread_moves_a_slot() {
    let refused = beside(
        |memcgs, [a, b]| memcgs.move_swap_account(entry(FIRST + 3), 1, a, b),
        |error| matches!(error, MemcgError::MixedOwners { .. }),
    );
    assert!(refused > 0, "it was never between the two regions");
}

/// Moves all slots at once. If none was cleared by then, the new owner is charged.
#[test]
fn the_owner_at_the_last_moment_pays() {
    let refused = beside(
        |memcgs, [a, b]| memcgs.move_swap_account(entry(FIRST), NR, a, b),
        |error| matches!(error, MemcgError::MixedOwners { .. }),
    );
    assert!(refused > 0, "it was never between the two regions");
}
