//! One suite of properties, run on every backend. The oracle here follows from the contract alone, so
//! `scalar` is tested like the other backends.

use core::ops::Range;
use std::{format, string::ToString, vec, vec::Vec};

use super::{Backend, FEW, Found, MAX_BLOCK, MAX_ENTRIES, MAX_PIECE};
use crate::sync::{AtomicU16, Ordering::Relaxed};

/// Returns whether to try fewer cases: under Miri, and in the emulator that `ci/avx512.sh` boots.
fn few() -> bool {
    cfg!(miri) || std::env::var_os("SWAP_RECORDS_FEW_CASES").is_some()
}

/// Returns the number of entries that a scan may look at before it notices that it has found `stop_at`.
fn at_once(stop_at: u32) -> usize {
    if stop_at <= FEW { MAX_BLOCK } else { MAX_PIECE }
}

/// A slice of entries between guards, at any distance from a cache line.
struct Guarded {
    all: Vec<AtomicU16>,
    range: Range<usize>,
}

const GUARD: usize = 80;

impl Guarded {
    /// Places `ids` from `shift` entries after an address that is a multiple of 128. The guards hold `id`, so
    /// that a scan that goes too far finds something there.
    fn new(ids: &[u16], shift: usize, id: u16) -> Self {
        let all: Vec<_> = (0..ids.len() + shift + 64 + 2 * GUARD)
            .map(|_| AtomicU16::new(id))
            .collect();
        let to_boundary = all[GUARD..].as_ptr().addr().wrapping_neg() % 128 / 2;
        let first = GUARD + to_boundary + shift;
        let range = first..first + ids.len();
        for (entry, &id) in all[range.clone()].iter().zip(ids) {
            entry.store(id, Relaxed);
        }
        Self { all, range }
    }

    fn entries(&self) -> &[AtomicU16] {
        &self.all[self.range.clone()]
    }

    fn ids(&self) -> Vec<u16> {
        self.entries()
            .iter()
            .map(|entry| entry.load(Relaxed))
            .collect()
    }

    fn guards_hold(&self, id: u16) -> bool {
        let (before, after) = (&self.all[..self.range.start], &self.all[self.range.end..]);
        before
            .iter()
            .chain(after)
            .all(|guard| guard.load(Relaxed) == id)
    }
}

/// Checks the result of a scan of a slice whose matches are at `places`. It must be the first of them: all,
/// or at least `stop_at` and not many more. Returns their number.
fn assert_found(found: Found, places: &[usize], len: usize, stop_at: u32) -> usize {
    let count = found.tally.count as usize;
    let enough = places.len().min(stop_at as usize);
    assert!(count >= enough, "{count} of {enough} found");
    assert!(
        count <= places.len(),
        "{count} found, {} there",
        places.len()
    );
    assert!(
        count < enough + at_once(stop_at),
        "{count} found, asked to stop at {stop_at}"
    );
    let xor = places[..count].iter().fold(0, |xor, place| xor ^ place);
    assert_eq!(found.tally.xor as usize, xor);
    // `end` lies after the last match that was found, and not after the next one. It is the end of the slice,
    // or at most a block's length after the last match.
    let last = places[..count].last().map_or(0, |last| last + 1);
    assert!(last <= found.end && found.end <= places.get(count).copied().unwrap_or(len));
    assert!(found.end == len || found.end <= last.max(stop_at.min(1) as usize) + at_once(stop_at));
    count
}

fn check(backend: Backend, ids: &[u16], shift: usize, old: u16, new: u16, stop_at: u32) {
    let places: Vec<_> = (0..ids.len()).filter(|&at| ids[at] == old).collect();
    let guarded = Guarded::new(ids, shift, old);

    // SAFETY: no other thread knows these entries.
    let found = unsafe { super::count(backend, guarded.entries(), old, stop_at) };
    assert_found(found, &places, ids.len(), stop_at);
    assert!(guarded.ids() == ids, "count writes nothing");

    // SAFETY: no other thread knows these entries.
    let found = unsafe { super::replace(backend, guarded.entries(), old, new, stop_at) };
    let moved = assert_found(found, &places, ids.len(), stop_at);
    let mut expected = ids.to_vec();
    for &place in &places[..moved] {
        expected[place] = new;
    }
    assert!(
        guarded.ids() == expected,
        "the first {moved} matches are replaced, and only they"
    );
    assert!(
        guarded.guards_hold(old),
        "nothing outside the slice is written"
    );
}

/// Checks `ids` with every `stop_at` that is an edge case.
fn check_stops(backend: Backend, ids: &[u16], shift: usize, old: u16, new: u16) {
    let n = ids.iter().filter(|&&id| id == old).count();
    let n = u32::try_from(n).expect("a slice has at most 65536 entries");
    let stops = [0, 1, n.saturating_sub(1), n, u32::MAX];
    // Miri takes a second for each, and any of them shows undefined behaviour.
    for &stop_at in if cfg!(miri) { &stops[2..4] } else { &stops } {
        check(backend, ids, shift, old, new, stop_at);
    }
}

/// Returns ids that are `old` where `is_match` returns true, and close to `old` elsewhere.
fn ids(len: usize, old: u16, is_match: impl Fn(usize) -> bool) -> Vec<u16> {
    let others = [
        0,
        old ^ 1,
        old ^ 0x8000,
        !old,
        old.swap_bytes().wrapping_add(1),
    ];
    let other = |at: usize| Some(others[at % others.len()]).filter(|&id| id != old);
    (0..len)
        .map(|at| {
            if is_match(at) {
                old
            } else {
                other(at).unwrap_or(!old)
            }
        })
        .collect()
}

const EDGE_IDS: [(u16, u16); 4] = [(1, 65535), (65535, 1), (0x00ff, 0xff00), (7, 7)];

/// Returns the lengths of the exhaustive tests: up to more than two blocks of the largest backend.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=300).step_by(if few() { 97 } else { 1 })
}

/// Returns distances from a cache line, in entries.
fn shifts() -> impl Iterator<Item = usize> {
    (0..=64).step_by(if few() { 21 } else { 1 })
}

fn one_match_at_every_place(backend: Backend) {
    let shifts: &[usize] = if few() { &[1] } else { &[0, 1, 15, 33] };
    for &shift in shifts {
        let len = if few() { 190 } else { 290 };
        let step = if few() { 23 } else { 1 };
        for place in (0..len).step_by(step) {
            check(
                backend,
                &ids(len, 9, |at| at == place),
                shift,
                9,
                10,
                u32::MAX,
            );
        }
    }
}

fn every_length_and_alignment(backend: Backend) {
    let (old, new) = EDGE_IDS[0];
    for shift in shifts() {
        for len in lengths() {
            check(
                backend,
                &ids(len, old, |_| false),
                shift,
                old,
                new,
                u32::MAX,
            );
            check(backend, &ids(len, old, |_| true), shift, old, new, u32::MAX);
            check(
                backend,
                &ids(len, old, |at| at % 3 == 1),
                shift,
                old,
                new,
                u32::MAX,
            );
        }
    }
}

fn every_stop_and_edge_id(backend: Backend) {
    let shifts: &[usize] = if few() { &[3] } else { &[0, 5, 32, 63] };
    let lengths: &[usize] = if few() {
        &[0, 70, 200]
    } else {
        &[0, 1, 31, 64, 129, 256, 257, 700]
    };
    for (old, new) in EDGE_IDS.into_iter().take(if few() { 1 } else { 4 }) {
        for (&shift, &len) in shifts
            .iter()
            .flat_map(|s| lengths.iter().map(move |l| (s, l)))
        {
            for one_in in [1, 2, 17, 100].into_iter().skip(if few() { 2 } else { 0 }) {
                check_stops(
                    backend,
                    &ids(len, old, |at| at % one_in == 0),
                    shift,
                    old,
                    new,
                );
            }
            check_stops(backend, &ids(len, old, |at| at + 8 >= len), shift, old, new);
        }
    }
}

fn a_whole_region_and_more(backend: Backend) {
    let lengths: &[usize] = if few() {
        &[2 * MAX_PIECE + 700]
    } else {
        &[32_768, 33_000, MAX_ENTRIES]
    };
    for &len in lengths {
        check_stops(backend, &ids(len, 40, |at| at + 8 >= len), 0, 40, 65535);
        check_stops(backend, &ids(len, 40, |at| at % 150 == 7), 0, 40, 65535);
        if !cfg!(miri) {
            check_stops(backend, &ids(len, 40, |at| at % 1000 == 7), 0, 40, 65535);
        }
        if !few() {
            check_stops(backend, &ids(len, 40, |_| true), 0, 40, 65535);
            check_stops(backend, &ids(len - 5, 40, |at| at % 2 == 0), 5, 40, 65535);
        }
    }
}

/// Runs `case` with random numbers of `cases` seeds. The last seed that is printed is that of the case that
/// failed.
fn random_cases(cases: u64, mut case: impl FnMut(&mut fastrand::Rng)) {
    for seed in 0..cases {
        std::println!("seed {seed}");
        case(&mut fastrand::Rng::with_seed(seed));
    }
}

/// Returns a `stop_at` that is mostly small, and sometimes the largest.
fn any_stop(random: &mut fastrand::Rng, most: u32) -> u32 {
    if random.bool() {
        random.u32(..most)
    } else {
        u32::MAX
    }
}

fn any_slice(backend: Backend) {
    let longest = if few() { 300 } else { 1500 };
    random_cases(if few() { 6 } else { 400 }, |random| {
        let len = random.usize(..longest);
        let ids: Vec<_> = (0..len).map(|_| random.u16(1..6)).collect();
        let shift = random.usize(..=64);
        let (old, new) = (random.u16(1..6), random.u16(1..9));
        let stop_at = any_stop(random, 40);
        check(backend, &ids, shift, old, new, stop_at);
    });
}

/// Checks slices of several pieces, with as many matches as a common id has.
fn any_long_slice(backend: Backend) {
    let pieces = if few() { 3 } else { 6 } * MAX_PIECE;
    random_cases(if few() { 4 } else { 100 }, |random| {
        let (of, len) = (random.u16(2..200), random.usize(MAX_PIECE..pieces));
        let ids: Vec<_> = (0..len).map(|_| random.u16(1..=of)).collect();
        let shift = random.usize(..=64);
        let stop_at = any_stop(random, 60);
        check(backend, &ids, shift, 1, 300, stop_at);
    });
}

fn all_of_a_slice_or_nothing(backend: Backend) {
    for shift in shifts() {
        for len in (0..=150_usize).step_by(if few() { 37 } else { 1 }) {
            let middle = len / 2;
            for other in [None, Some(0), Some(middle), len.checked_sub(1)] {
                let other = other.filter(|&other| other < len);
                let ids = ids(len, 5, |at| Some(at) != other);
                let guarded = Guarded::new(&ids, shift, 5);
                // SAFETY: no other thread knows these entries.
                let all = unsafe { super::replace_all(backend, guarded.entries(), 5, 65535) };
                assert_eq!(all, other.is_none());
                assert_eq!(guarded.ids(), if all { vec![65535; len] } else { ids });
                assert!(guarded.guards_hold(5));
            }
        }
    }
}

/// Checks invariant 3, for Miri: a lookup takes no lock, and sees the old id or the new one. The slices have
/// single matches, stretches where all match, and one id alone, so that each way to store is used.
fn lookups_during_a_replace(backend: Backend) {
    let len = if few() { 300 } else { 5000 };
    let rounds = if few() { 2 } else { 200 };
    let mixed = Guarded::new(&ids(len, 3, |at| at % 4 != 0 || at / 64 % 2 == 0), 1, 3);
    let all = Guarded::new(&vec![3; len], 5, 3);
    let before = mixed.ids();
    let began = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let lookups = scope.spawn(|| {
            began.wait();
            for _ in 0..rounds {
                for (entry, &was) in mixed.entries().iter().zip(&before) {
                    let is = entry.load(Relaxed);
                    assert!(
                        is == was || was == 3 && is == 4,
                        "{is} was never stored there"
                    );
                }
                for entry in all.entries() {
                    let is = entry.load(Relaxed);
                    assert!(is == 3 || is == 4, "{is} was never stored there");
                }
            }
        });
        began.wait();
        for _ in 0..rounds {
            for (old, new) in [(3, 4), (4, 3)] {
                // SAFETY: only this thread writes.
                unsafe { super::replace(backend, mixed.entries(), old, new, u32::MAX) };
                // SAFETY: as above.
                assert!(unsafe { super::replace_all(backend, all.entries(), old, new) });
            }
        }
        lookups.join().expect("lookups see only what was stored");
    });
    assert_eq!(mixed.ids(), before);
}

macro_rules! suite {
    ($($module:ident: $backend:expr;)*) => {$(
        mod $module {
            use super::*;

            suite!(@tests $backend;
                one_match_at_every_place,
                every_length_and_alignment,
                every_stop_and_edge_id,
                a_whole_region_and_more,
                any_slice,
                any_long_slice,
                all_of_a_slice_or_nothing,
                lookups_during_a_replace,
            );
        }
    )*};
    (@tests $backend:expr; $($test:ident,)*) => {$(
        #[test]
        fn $test() {
            if $backend.is_available() {
                super::$test($backend);
            } else {
                skip($backend, stringify!($test));
            }
        }
    )*};
}

suite! {
    scalar: Backend::Scalar;
    words: Backend::Words;
    wide: Backend::Wide;
    avx2: Backend::Avx2;
    avx512: Backend::Avx512;
}

/// Reports a test that did not run, in spite of the test harness, which hides output: such a test has not
/// passed.
fn skip(backend: Backend, test: &str) {
    use std::io::Write as _;
    let why = if cfg!(target_arch = "x86_64") {
        "this processor, or this build, does not have it"
    } else {
        "it was not compiled for this target"
    };
    let line = format!("skipped: {backend}::{test}: {why}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr is open");
}

#[test]
fn the_scan_that_a_fuzzer_calls_is_the_scan() {
    for &backend in Backend::ALL {
        let mut entries: Vec<_> = [5, 0, 5, 7, 5].map(AtomicU16::new).into();
        let found = backend.scan(&mut entries, false, (5, 9), u32::MAX);
        assert_eq!(found, (3, 2 ^ 4, 5));
        let found = backend.scan(&mut entries, true, (5, 9), 2);
        // The scan may replace the last one as well.
        let stopped = [(2, 2, 3), (2, 2, 4)].contains(&found);
        assert!(stopped || found == (3, 2 ^ 4, 5), "{found:?}");
        let last = if found.0 == 2 { 5 } else { 9 };
        let ids: Vec<_> = entries.iter().map(|entry| entry.load(Relaxed)).collect();
        assert_eq!(ids, [9, 0, 9, 7, last]);
        assert!(!backend.replace_all(&mut entries[..2], 9, 3));
        assert!(backend.replace_all(&mut entries[2..3], 9, 3));
        assert_eq!([0, 1, 2].map(|at| entries[at].load(Relaxed)), [9, 0, 3]);
    }
}

#[test]
fn a_backend_that_is_not_available_falls_back_and_finds_the_same() {
    let len = if few() { 70 } else { 290 };
    for &backend in Backend::ALL {
        check_stops(backend, &ids(len, 2, |at| at % 40 == 0), 3, 2, 8);
    }
}

#[test]
fn the_detected_backend_is_available() {
    assert!(Backend::detect().is_available());
    assert!(Backend::ALL.contains(&Backend::detect()));
    assert!(Backend::Scalar.is_available());
    assert!(Backend::Words.is_available());
    assert_eq!(Backend::Wide.is_available(), super::HAS_WIDE);
}

/// On targets where `Wide` would be single integers, it is not compiled in, and words of 64 bits run instead.
#[test]
fn the_portable_backend_is_wide_where_the_target_has_vectors_and_words_elsewhere() {
    let vectors = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    if cfg!(feature = "simd") && vectors {
        assert_eq!(Backend::PORTABLE, Backend::Wide);
    }
    if cfg!(not(feature = "simd")) || cfg!(target_arch = "s390x") {
        assert_eq!(Backend::PORTABLE, Backend::Words);
    }
    assert_ne!(Backend::detect(), Backend::Scalar);
}

/// Checks each pair of ids in neighbouring lanes: a difference of one may borrow from the next lane.
#[test]
fn a_lane_next_to_a_match_is_not_a_match() {
    let near = [0, 1, 2, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff];
    for old in near.into_iter().step_by(if few() { 5 } else { 1 }) {
        for lane in 0..4 {
            for other in near {
                let ids: Vec<_> = (0..32)
                    .map(|at| if at % 4 == lane { old } else { other })
                    .collect();
                check(Backend::Words, &ids, 0, old, 7, u32::MAX);
                let ids = ids[..]
                    .iter()
                    .map(|&id| if id == old { old ^ 1 } else { id });
                check(
                    Backend::Words,
                    &ids.collect::<Vec<_>>(),
                    0,
                    old,
                    7,
                    u32::MAX,
                );
            }
        }
    }
}

#[test]
#[cfg(all(feature = "std", target_arch = "x86_64"))]
fn a_backend_is_available_if_the_processor_has_it() {
    let (avx2, avx512) = (
        std::arch::is_x86_feature_detected!("avx2"),
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw"),
    );
    assert_eq!(Backend::Avx2.is_available(), avx2);
    assert_eq!(Backend::Avx512.is_available(), avx512);
}

#[test]
fn backends_have_the_names_that_people_use() {
    let names: Vec<_> = Backend::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(names, vec!["scalar", "words", "wide", "avx2", "avx512bw"]);
}
