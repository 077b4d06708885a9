//! Compares indexes that are made from entries with those that recording one by one makes.

use super::*;
use crate::pages::Pages;
use crate::region::Region;
use crate::sync::RawSpinLock;
use alloc::vec;
use core::iter;

type Subject = Area<RawSpinLock>;

#[expect(clippy::cast_possible_truncation, reason = "there are at most 4096")]
const SHARED: u16 = COUNTERS as u16;

fn ids_of(area: &Subject) -> Vec<u16> {
    let all = area.chunks().as_flattened().iter();
    all.map(|entry| entry.load(Ordering::Relaxed)).collect()
}

fn put(area: &Subject, ids: &[u16]) {
    for (entry, &id) in area.chunks().as_flattened().iter().zip(ids) {
        entry.store(id, Ordering::Relaxed);
    }
}

/// A region, a counter, the cell of both, and its presence bit.
type OfCell = (usize, usize, Tally, bool);

/// Returns the cells of the index that are not zero, and the counters in blocks that are in use.
fn index_of(area: &Subject) -> (Vec<OfCell>, Vec<usize>) {
    let mut all = Vec::new();
    for region in 0..area.regions.len() {
        for counter in 0..COUNTERS {
            let tally = area.regions.tally(region, counter);
            let is_set = area.regions.presence().is_set(counter, region);
            if tally != Tally::default() || is_set {
                all.push((region, counter, tally, is_set));
            }
        }
    }
    (all, area.regions.presence().counters().collect())
}

/// Returns the area that recording one by one makes.
fn recorded(regions: usize, ids: &[u16]) -> Box<Subject> {
    let area = Area::new(regions, Pages::GLOBAL).unwrap();
    for (region, ids) in ids.chunks(REGION_ENTRIES).enumerate() {
        let locked = Region::lock(
            &area.regions,
            region,
            &area.chunks()[region],
            REGION_ENTRIES,
        );
        for (position, &id) in ids.iter().enumerate() {
            locked.set(position, id);
        }
    }
    area
}

/// Rebuilds the index of these ids, on one thread and on three threads, and compares the results.
fn check(what: &str, ids: &[u16]) {
    let regions = ids.len().div_ceil(REGION_ENTRIES).next_power_of_two();
    let wanted = recorded(regions, ids);
    let records = ids.iter().filter(|&&id| id != 0).count() as u64;
    let of_regions = ids.chunks(REGION_ENTRIES);
    let with_records = of_regions
        .filter(|ids| ids.iter().any(|&id| id != 0))
        .count();
    for threads in [1, 3] {
        let area: Box<Subject> = Area::new(regions, Pages::GLOBAL).unwrap();
        put(&area, ids);
        let found = area.rebuild(ids.len(), threads, None).unwrap();
        assert_eq!(index_of(&area), index_of(&wanted), "{what}");
        assert_eq!(sharing(&area), sharing(&wanted), "{what}");
        let expected = Found {
            records,
            regions: with_records as u64,
        };
        assert_eq!(found, expected, "{what}");
        assert_eq!(ids_of(&area), ids_of(&wanted), "{what}");
    }
}

/// Returns the ids that have a note.
fn sharing(area: &Subject) -> Vec<usize> {
    let shared = area.regions.shared();
    let next = |&id: &usize| shared.next(id + 1);
    iter::successors(shared.next(0), next).collect()
}

fn random(len: usize, mut id: impl FnMut(&mut fastrand::Rng) -> u16) -> Vec<u16> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    (0..len).map(|_| id(&mut random)).collect()
}

#[test]
fn the_index_is_that_of_records_one_by_one() {
    let few = REGION_ENTRIES + REGION_ENTRIES / 2 + 7;
    check("nothing", &vec![0; few]);
    check("interleaved", &random(few, |random| random.u16(1..150)));
    check("one of two", &random(few, |random| random.u16(0..2)));
    check("all ids", &random(few, |random| random.u16(..)));
    check("a single slot", &[7]);
    check(
        "runs that begin anywhere",
        &random(few, |random| random.u16(..3))
            .into_iter()
            .flat_map(|id| vec![id; usize::from(id) * 19 + 1])
            .take(few)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn ids_that_share_a_counter_are_counted_together_and_empty_slots_are_not_counted() {
    // Id 4096 has the counter of 0, which is not an id.
    let ids = [0, SHARED, 2 * SHARED, 5, SHARED + 5, 0, 0];
    let mut all = random(REGION_ENTRIES, |random| ids[random.usize(..ids.len())]);
    check("shared counters", &all);
    all.fill(SHARED);
    check("a region of an id that shares the counter of 0", &all);
    for zeroes in [1, TOGETHER, REGION_ENTRIES - 1] {
        all[..zeroes].fill(0);
        check("and slots without a record", &all);
    }
}

#[test]
fn a_full_region_of_one_id_fits_into_its_cell() {
    for id in [1, 7, u16::MAX, SHARED] {
        check("full", &vec![id; 2 * REGION_ENTRIES]);
    }
}

#[test]
fn regions_of_several_words_are_all_found() {
    let regions = if cfg!(miri) { 3 } else { 2 * CLAIM + 3 };
    let mut ids = vec![0; regions * REGION_ENTRIES - 5];
    for region in (0..regions).step_by(2) {
        ids[region * REGION_ENTRIES + region] = 9;
        ids[(region + 1) * REGION_ENTRIES - 6] = 9 + u16::from(region % 3 == 0);
    }
    check("several words", &ids);
}

#[test]
fn a_record_past_the_end_is_refused() {
    let end = REGION_ENTRIES + 9;
    for (offset, threads) in [(end, 1), (end + 1, 2), (2 * REGION_ENTRIES - 1, 1)] {
        let area: Box<Subject> = Area::new(2, Pages::GLOBAL).unwrap();
        area.chunks().as_flattened()[offset].store(7, Ordering::Relaxed);
        match area.rebuild(end, threads, None) {
            Err(Failed::PastEnd { offset: at, id: 7 }) => assert_eq!(at, offset),
            other => panic!("{other:?}"),
        }
        assert!(area.rebuild(offset + 1, threads, None).is_ok());
    }
}

/// When the rebuild fails, the cells of earlier regions have been written, and their bits have not.
#[test]
fn an_index_that_was_made_in_part_can_be_discarded() {
    let area: Box<Subject> = Area::new(2, Pages::GLOBAL).unwrap();
    put(&area, &[7, 0, 9]);
    let past = &area.chunks()[1][REGION_ENTRIES - 1];
    past.store(7, Ordering::Relaxed);
    assert!(area.rebuild(REGION_ENTRIES + 9, 1, None).is_err());
    area.regions.discard();
    assert_eq!(index_of(&area), (vec![], vec![]));
    past.store(0, Ordering::Relaxed);
    let found = area.rebuild(REGION_ENTRIES + 9, 1, None).unwrap();
    assert_eq!((found.records, found.regions), (2, 1));
}

#[test]
fn progress_ends_with_all_regions_and_never_goes_back() {
    let regions = if cfg!(miri) { 2 } else { 4 * CLAIM + 1 };
    for threads in [1, 2] {
        let area: Box<Subject> = Area::new(regions.next_power_of_two(), Pages::GLOBAL).unwrap();
        let mut reported = Vec::new();
        let mut tell = |progress: Progress| {
            assert_eq!(progress.total, regions as u64);
            reported.push(progress.done);
        };
        area.rebuild(regions * REGION_ENTRIES, threads, Some(&mut tell))
            .unwrap();
        assert!(
            reported.is_sorted() && reported.len() > 2 - threads,
            "{reported:?}"
        );
        assert_eq!(reported.last(), Some(&(regions as u64)));
    }
}

#[test]
fn a_callback_that_panics_ends_the_rebuild_on_all_threads() {
    let regions = if cfg!(miri) { 2 } else { 8 * CLAIM };
    for threads in [1, 2] {
        let area: Box<Subject> = Area::new(regions, Pages::GLOBAL).unwrap();
        let mut tell = |_| panic!("reported");
        let rebuild = || area.rebuild(regions * REGION_ENTRIES, threads, Some(&mut tell));
        let rebuild = std::panic::AssertUnwindSafe(rebuild);
        let why = std::panic::catch_unwind(rebuild).unwrap_err();
        assert_eq!(why.downcast_ref(), Some(&"reported"));
    }
}
