//! Compares each backend of this machine with the scalar one and the contract.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swap_records::Backend;
use swap_records_fuzz::Content;
use swap_records_oracle::backends;

/// Returns the most entries that a scan reads between two checks of the number of matches.
fn at_once(stop_at: usize) -> usize {
    if stop_at <= 7 { 128 } else { 2048 }
}

fuzz_target!(|content: Content| {
    let places: Vec<_> = (0..content.ids.len())
        .filter(|&at| content.ids[at] == content.old)
        .collect();
    for backend in backends() {
        for write in [false, true] {
            check(backend, write, &content, &places);
        }
        check_all(backend, &content);
    }
});

fn check(backend: Backend, write: bool, content: &Content, places: &[usize]) {
    let Content { old, new, .. } = *content;
    let stop_at = content.stop_at as usize;
    let mut guarded = content.entries();
    let (count, xor, end) = backend.scan(guarded.entries(), write, (old, new), content.stop_at);
    let count = count as usize;
    let enough = places.len().min(stop_at);
    assert!(
        count >= enough && count <= places.len(),
        "{backend}: {count} of {enough}"
    );
    assert!(
        count < enough + at_once(stop_at),
        "{backend}: {count}, to stop at {stop_at}"
    );
    if backend == Backend::Scalar {
        assert_eq!(count, enough, "one at a time, it stops where it should");
    }
    // It found the first matches, and no others.
    let found = &places[..count];
    let all = found.iter().fold(0, |all, &place| all ^ place);
    assert_eq!(xor as usize, all, "{backend}");
    // It read past the matches that it found, but not past those that it left, and not much further than
    // needed.
    let seen = found.last().map_or(0, |&last| last + 1);
    let len = content.ids.len();
    let left = places.get(count).copied().unwrap_or(len);
    assert!(
        seen <= end && end <= left,
        "{backend}: {seen} <= {end} <= {left}"
    );
    assert!(
        count < stop_at || end <= seen + at_once(stop_at),
        "{backend}: {end} after {seen}"
    );
    assert!(count >= stop_at || end == len, "{backend}: {end} of {len}");
    let mut expected = content.ids.clone();
    if write {
        found.iter().for_each(|&place| expected[place] = new);
    }
    assert!(guarded.into_ids(old) == expected, "{backend}: {found:?}");
}

/// A slice in which every entry is `old`, or every entry but one. All of it is replaced, or nothing.
fn check_all(backend: Backend, content: &Content) {
    let (len, old, new) = (content.ids.len(), content.old, content.new);
    let other = content.stop_at as usize;
    let ids = (0..len).map(|at| if at == other { !old } else { old });
    let content = Content {
        ids: ids.collect(),
        shift: content.shift,
        ..*content
    };
    let mut guarded = content.entries();
    let all = backend.replace_all(guarded.entries(), old, new);
    assert_eq!(all, other >= len, "{backend}: {other} of {len}");
    let expected = if all { vec![new; len] } else { content.ids };
    assert!(guarded.into_ids(old) == expected, "{backend}");
}
