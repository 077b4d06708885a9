//! Tests the generator of synthetic maps, on which the benchmarks rest.

#![cfg(not(miri))] // No unsafe code, and the maps are large.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use swap_records_sim::size::{self, Size, SizeError, choose, parse_gib};
use swap_records_sim::tables::{Loop2014, Spin, Table};
use swap_records_sim::{CHUNK, Family, Map, REGION, Run};

/// Ends within a chunk of its last region.
const SLOTS: u64 = 9 * REGION + 12_345;
const OFFLINE: u16 = 20_000;

fn every_kind(slots: u64, seed: u64) -> Vec<Map> {
    [
        Family::Interleaved(40),
        Family::Interleaved(150),
        Family::Jobs,
        Family::Uniform,
    ]
    .into_iter()
    .flat_map(|family| {
        let map = Map::new(family, slots, seed);
        let worn = map.clone().aged(slots / 10).remains(OFFLINE, 1_000);
        [map, worn]
    })
    .collect()
}

fn ids(map: &Map, threads: usize) -> Vec<u16> {
    let mut ids = vec![0; usize::try_from(map.slots()).unwrap()];
    map.fill_slice(threads, &mut ids, |_| ());
    ids
}

fn interleaved(cgroups: u16) -> Vec<u16> {
    ids(
        &Map::new(Family::Interleaved(cgroups), 64 * CHUNK * 16, 7),
        2,
    )
}

#[test]
fn the_same_seed_makes_the_same_map() {
    for map in every_kind(SLOTS, 1) {
        assert_eq!(ids(&map, 1), ids(&map, 1), "{map:?}");
    }
}

#[test]
fn another_seed_makes_another_map() {
    for (one, other) in every_kind(SLOTS, 1).iter().zip(every_kind(SLOTS, 2)) {
        assert_ne!(ids(one, 1), ids(&other, 1), "{one:?}");
    }
}

#[test]
fn a_slice_and_a_sink_get_the_same_map() {
    for map in every_kind(SLOTS, 3) {
        let found: Vec<AtomicU64> = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        map.fill(
            1,
            |start, len, id| {
                for slot in start..start + len {
                    let slot = usize::try_from(slot).unwrap();
                    found[slot].store(id.into(), Ordering::Relaxed);
                }
            },
            |_| (),
        );
        let found: Vec<u64> = found.into_iter().map(AtomicU64::into_inner).collect();
        let expected: Vec<u64> = ids(&map, 1).into_iter().map(u64::from).collect();
        assert!(found == expected, "{map:?}");
    }
}

#[test]
fn regions_in_any_order_make_the_same_map() {
    for map in every_kind(SLOTS, 1) {
        let regions = map.regions();
        let mut found = vec![u16::MAX; usize::try_from(SLOTS).unwrap()];
        let size = usize::try_from(REGION).unwrap();
        for (region, ids) in (0..)
            .zip(found.chunks_mut(size))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            assert_eq!(regions.slots(region), ids.len() as u64);
            regions.fill(region, ids);
        }
        assert_eq!(found, ids(&map, 1), "{map:?}");
        assert_eq!(regions.slots(10), 0);
    }
}

#[test]
fn any_number_of_threads_makes_the_same_map() {
    for map in every_kind(SLOTS, 3) {
        let one = ids(&map, 1);
        for threads in [2, 3, 16] {
            assert_eq!(one, ids(&map, threads), "{map:?}, {threads} threads");
        }
    }
}

#[test]
fn a_sink_gets_what_a_slice_gets() {
    let index = |n| usize::try_from(n).unwrap();
    for map in every_kind(REGION + 777, 4) {
        let table = Loop2014::<Spin>::with_slots(index(map.slots())).unwrap();
        let record = |start, len, id| table.record_range(index(start), index(len), id);
        map.fill(2, record, |_| ());
        let from_table: Vec<u16> = (0..index(map.slots()))
            .map(|slot| table.lookup(slot))
            .collect();
        assert_eq!(from_table, ids(&map, 1), "{map:?}");
    }
}

#[test]
fn runs_are_those_of_the_slice() {
    for slots in [1, 2, REGION - 1, REGION, REGION + 1, SLOTS] {
        for map in every_kind(slots.max(10_000), 14) {
            let ids = ids(&map, 1);
            let mut start = 0;
            let mut expected = Vec::new();
            for stretch in ids.chunk_by(|a, b| a == b) {
                let len = stretch.len() as u64;
                if stretch[0] != 0 {
                    let id = stretch[0];
                    expected.push(Run { start, len, id });
                }
                start += len;
            }
            let mut runs = map.runs();
            assert!(runs.by_ref().eq(expected), "{map:?}");
            assert_eq!((runs.next(), runs.next()), (None, None));
        }
    }
    let one = Map::new(Family::Interleaved(1), 3 * REGION + 5, 15);
    let all = Run {
        start: 0,
        len: 3 * REGION + 5,
        id: 1,
    };
    assert!(one.runs().eq([all]), "a run ends where its owner ends");
}

#[test]
fn families_are_parsed_as_they_are_displayed() {
    for family in [
        Family::Interleaved(1),
        Family::Interleaved(65_535),
        Family::Jobs,
        Family::Uniform,
    ] {
        assert_eq!(family.to_string().parse(), Ok(family));
    }
    for nonsense in [
        "",
        "interleaved",
        "interleaved:0",
        "interleaved:65536",
        "job",
    ] {
        let error = nonsense.parse::<Family>().unwrap_err().to_string();
        assert!(
            error.contains(nonsense) && error.contains("give"),
            "{error}"
        );
    }
}

#[test]
fn progress_adds_up_to_the_map() {
    for map in every_kind(SLOTS, 5) {
        let done = AtomicU64::new(0);
        let progress = |slots| {
            assert!(slots <= REGION);
            done.fetch_add(slots, Ordering::Relaxed);
        };
        map.fill(2, |_, _, _| (), progress);
        assert_eq!(done.swap(0, Ordering::Relaxed), SLOTS);
        map.fill_slice(2, &mut vec![0; usize::try_from(SLOTS).unwrap()], progress);
        assert_eq!(done.into_inner(), SLOTS);
    }
}

#[test]
fn families_fill_every_slot_with_their_own_ids() {
    for family in [
        Family::Interleaved(1),
        Family::Interleaved(150),
        Family::Jobs,
        Family::Uniform,
    ] {
        let ids = ids(&Map::new(family, SLOTS, 6), 2);
        assert!(ids.iter().all(|id| (1..=family.highest_id()).contains(id)));
    }
}

#[test]
fn interleaved_runs_are_about_1_1_slots() {
    for cgroups in [40, 150] {
        let ids = interleaved(cgroups);
        let runs = ids.chunk_by(|a, b| a == b).count();
        let mean = ids.len() as f64 / runs as f64;
        // As measured. Neighbouring runs of one owner add 1/40.
        assert!((1.09..1.2).contains(&mean), "{mean} with {cgroups}");
    }
}

#[test]
fn a_chunk_has_the_owners_that_real_swap_has() {
    for (cgroups, measured) in [(40, 39..=40), (150, 142..=146)] {
        let ids = interleaved(cgroups);
        let chunks = ids.chunks(usize::try_from(CHUNK).unwrap());
        let mut owners: Vec<BTreeSet<u16>> = chunks.map(|c| c.iter().copied().collect()).collect();
        // Every cgroup in 95-100% of all chunks.
        for id in 1..=cgroups {
            let present = owners.iter().filter(|owners| owners.contains(&id)).count();
            let share = present as f64 / owners.len() as f64;
            assert!(share > 0.93, "{id} of {cgroups} in {share} of the chunks");
        }
        owners.sort_by_key(BTreeSet::len);
        let median = owners[owners.len() / 2].len();
        assert!(measured.contains(&median), "{median} with {cgroups}");
    }
}

#[test]
fn jobs_leave_ranges_and_end() {
    let ids = ids(&Map::new(Family::Jobs, 64 * REGION, 8), 2);
    let runs = ids.chunk_by(|a, b| a == b).count();
    assert!(ids.len() / runs > 500);
    let regions: Vec<usize> = ids
        .chunks(usize::try_from(REGION).unwrap())
        .enumerate()
        .filter_map(|(region, ids)| ids.contains(&61).then_some(region))
        .collect();
    assert!(!regions.is_empty());
    assert!(regions.iter().all(|region| (27..=30).contains(region)));
}

#[test]
fn uniform_maps_have_every_owner() {
    let ids = ids(&Map::new(Family::Uniform, 16 * REGION, 9), 2);
    let owners: BTreeSet<u16> = ids.iter().copied().collect();
    assert_eq!(owners.len(), 16_384);
}

#[test]
fn remains_are_exactly_that_many() {
    for slots in [REGION, SLOTS] {
        for k in [0, 1, 999, slots / 8, slots / 2] {
            let map = Map::new(Family::Interleaved(150), slots, 10).aged(slots / 100);
            let map = map.remains(OFFLINE, k).remains(OFFLINE + 1, slots / 2);
            let ids = ids(&map, 2);
            let count = |owner| ids.iter().filter(|&&id| id == owner).count() as u64;
            assert_eq!((count(OFFLINE), count(OFFLINE + 1)), (k, slots / 2));
        }
    }
}

#[test]
fn remains_are_everywhere_and_share_regions_by_chance() {
    // One record per region on average: by chance, 1/e of the regions have none and 1/e have one.
    let regions = 1_000;
    let map = Map::new(Family::Jobs, regions * REGION, 11).remains(OFFLINE, regions);
    let ids = ids(&map, 2);
    let mut with = [0; 3];
    for region in ids.chunks(usize::try_from(REGION).unwrap()) {
        let here = region.iter().filter(|&&id| id == OFFLINE).count();
        with[here.min(2)] += 1;
    }
    assert!(
        with.iter().all(|share| (200..450).contains(share)),
        "{with:?}"
    );
}

#[test]
fn ageing_changes_a_part_and_frees_some() {
    let young = Map::new(Family::Interleaved(150), SLOTS, 12);
    let old = ids(&young.clone().aged(SLOTS / 20), 2);
    let young = ids(&young, 2);
    let changed = young.iter().zip(&old).filter(|(a, b)| a != b).count();
    let free = old.iter().filter(|&&id| id == 0).count();
    assert!((young.len() / 10..young.len() / 4).contains(&changed));
    assert!((young.len() / 100..young.len() / 20).contains(&free));
}

#[test]
fn a_size_is_a_number_of_gib() {
    assert_eq!(parse_gib("4"), Ok(1 << 31));
    assert_eq!(parse_gib(" 0.0625 "), Ok(1 << 25));
    assert_eq!(parse_gib("0.001"), Ok(536_870));
    for nonsense in ["", "four", "4GiB", "NaN", "inf", "-1", "0", "1e-9", "1e30"] {
        let error = parse_gib(nonsense).unwrap_err().to_string();
        assert!(
            error.contains(nonsense) && error.contains("give"),
            "{error}"
        );
    }
}

#[test]
fn the_map_is_4_gib_unless_told_otherwise_and_fits_into_memory() {
    let fits = |slots| Ok(Size { slots, note: None });
    assert_eq!(choose(None, None, 1), fits(1 << 31));
    assert_eq!(choose(Some("0.5"), Some(64 << 30), 2), fits(1 << 28));

    let less = choose(None, Some(4 << 30), 1).unwrap();
    assert!(less.slots < 1 << 31 && less.slots.is_multiple_of(REGION));
    assert!(size::bytes_needed(less.slots, 1) <= 4 << 30);
    let note = less.note.unwrap();
    assert!(note.contains("instead of 4"), "{note}");

    let much = choose(Some("much"), None, 1).unwrap_err();
    let text = "much".to_owned();
    assert_eq!(much, SizeError::NotANumber { text });
    let available = 1 << 20;
    let none = choose(None, Some(available), 1).unwrap_err();
    assert_eq!(none, SizeError::NoMemory { available });
    assert!(none.to_string().contains("free some"), "{none}");
}
