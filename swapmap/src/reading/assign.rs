//! Which line of `/proc/swaps` a swap type is.

use swap_records::SwapType;

use super::SwapFile;

/// What the page tables told of a type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) ty: SwapType,
    pub(super) max_offset: u64,
    /// How many of its slots were found.
    pub(super) found: u64,
}

/// Which swapfile a type is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// No other line of `/proc/swaps` can be this type.
    Certain(usize),
    /// Each of these lines can be this type.
    OneOf(Vec<usize>),
    /// No line can be this type.
    Unknown,
}

impl Name {
    /// The lines that can be this type.
    pub fn lines(&self) -> &[usize] {
        match self {
            Self::Certain(line) => std::slice::from_ref(line),
            Self::OneOf(lines) => lines,
            Self::Unknown => &[],
        }
    }
}

/// Which line each type is; `seen` is in the order of the types, and none of them is `end` or above.
///
/// The kernel does not say. It does list the swapfiles in the order of their types. So lines follow each other as their
/// types do, there is a type below `end` for every line, a type's pages lie within its file, and no more of them were
/// found than were in use: `out` is how many pages went to swap during the reading, and were not counted at its
/// beginning. What meets all that is possible, and nothing is taken for more likely than the rest.
pub(super) fn match_names(seen: &[Seen], files: &[SwapFile], end: usize, out: u64) -> Vec<Name> {
    possible_lines(seen, files, end, out)
        .into_iter()
        .map(|lines| match lines.as_slice() {
            [] => Name::Unknown,
            &[only] => Name::Certain(only),
            _ => Name::OneOf(lines),
        })
        .collect()
}

/// Returns how many slots beyond those in use `before` may have been found: `out` pages went to swap between both
/// readings of `/proc/swaps`.
///
/// The kernel counts a page when it writes the page, somewhat after it gave it a slot. So 1024 pages more are allowed
/// for, unless nothing at all has changed.
pub(super) fn not_in_use_before(before: &[SwapFile], after: &[SwapFile], out: u64) -> u64 {
    let used = |files: &[SwapFile]| files.iter().map(|file| file.used).collect::<Vec<_>>();
    if out == 0 && used(before) == used(after) {
        return 0;
    }
    out.saturating_add(1024)
}

fn possible_lines(seen: &[Seen], files: &[SwapFile], end: usize, out: u64) -> Vec<Vec<usize>> {
    let ty = |i: usize| usize::from(seen[i].ty.get());
    let fits = |i: usize, line: usize| {
        let file = &files[line];
        // Room below for the lines above, and the other way round.
        let room = ty(i) >= line && files.len() - line <= end.saturating_sub(ty(i));
        room && seen[i].found <= file.used.saturating_add(out)
            && seen[i].max_offset < file.max_pages
    };
    // `line` for the type `i` leaves room for the lines between it and `after` for `i + 1`.
    let follows =
        |i: usize, line: usize, after: usize| line < after && after - line <= ty(i + 1) - ty(i);
    let lines = 0..files.len();

    let mut from_below: Vec<Vec<usize>> = Vec::new();
    for i in 0..seen.len() {
        let reached = |line: usize| match i.checked_sub(1) {
            Some(before) => from_below[before]
                .iter()
                .any(|&prior| follows(before, prior, line)),
            None => true,
        };
        let reachable = lines
            .clone()
            .filter(|&line| fits(i, line) && reached(line))
            .collect();
        from_below.push(reachable);
    }
    // What a later type rules out for an earlier one.
    let mut possible = from_below;
    for i in (0..seen.len().saturating_sub(1)).rev() {
        let (head, tail) = possible.split_at_mut(i + 1);
        head[i].retain(|&line| tail[0].iter().any(|&after| follows(i, line, after)));
    }
    possible
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: usize = 28;

    fn file(name: &str, max_pages: u64, used: u64) -> SwapFile {
        SwapFile {
            name: name.into(),
            max_pages,
            used,
        }
    }

    fn seen(types: &[(u8, u64)]) -> Vec<Seen> {
        let seen = |&(ty, max_offset)| (ty, max_offset, 1);
        found(&types.iter().map(seen).collect::<Vec<_>>())
    }

    fn found(types: &[(u8, u64, u64)]) -> Vec<Seen> {
        types
            .iter()
            .map(|&(ty, max_offset, found)| Seen {
                ty: SwapType::new(ty).unwrap(),
                max_offset,
                found,
            })
            .collect()
    }

    fn names(seen: &[Seen], files: &[SwapFile]) -> Vec<Name> {
        match_names(seen, files, END, 0)
    }

    #[test]
    fn types_from_0_on_are_their_lines() {
        let files = [file("a", 100, 5), file("b", 100, 5)];
        assert_eq!(
            names(&seen(&[(0, 9), (1, 9)]), &files),
            [Name::Certain(0), Name::Certain(1)]
        );
        assert_eq!(names(&seen(&[(0, 9)]), &files), [Name::Certain(0)]);
    }

    #[test]
    fn where_two_lines_are_possible_none_is_guessed() {
        let files = [file("a", 100, 5), file("b", 100, 5)];
        // Type 0 may be off and `a` be type 1.
        assert_eq!(names(&seen(&[(1, 9)]), &files), [Name::OneOf(vec![0, 1])]);
    }

    #[test]
    fn more_found_than_in_use_rules_a_file_out() {
        let files = [file("a", 1000, 722), file("b", 1000, 300)];
        assert_eq!(
            names(&found(&[(1, 900, 722)]), &files),
            [Name::Certain(0)],
            "type 0 is off"
        );
        assert_eq!(
            match_names(&found(&[(1, 900, 722)]), &files, END, 500),
            [Name::OneOf(vec![0, 1])],
            "not if that many went to swap meanwhile"
        );
    }

    #[test]
    fn slots_that_came_into_use_meanwhile_make_no_line_certain() {
        let before = [file("a", 1000, 300), file("b", 1000, 310)];
        // 20 pages have slots and are not written yet, so the counter of the kernel has not moved.
        let after = [file("a", 1000, 320), file("b", 1000, 310)];
        let seen = found(&[(1, 900, 305)]);
        let names =
            |after, out| match_names(&seen, &before, END, not_in_use_before(&before, after, out));
        assert_eq!(names(&before, 0), [Name::Certain(1)]);
        assert_eq!(names(&after, 0), [Name::OneOf(vec![0, 1])]);
        assert_eq!(names(&before, 5), [Name::OneOf(vec![0, 1])]);
    }

    #[test]
    fn a_swapfile_without_a_page_in_use_has_no_type_that_was_found() {
        let files = [file("a", 100, 5), file("b", 100, 0)];
        assert_eq!(names(&seen(&[(1, 9)]), &files), [Name::Certain(0)]);
    }

    #[test]
    fn a_gap_left_by_swapoff_is_seen() {
        let files = [file("b", 100, 5), file("c", 1000, 5)];
        assert_eq!(
            names(&seen(&[(1, 9), (2, 9)]), &files),
            [Name::Certain(0), Name::Certain(1)]
        );
        assert_eq!(
            names(&seen(&[(2, 500)]), &files),
            [Name::Certain(1)],
            "too far out for b"
        );
        assert_eq!(names(&seen(&[(2, 9)]), &files), [Name::OneOf(vec![0, 1])]);
    }

    #[test]
    fn the_lines_below_need_types_too() {
        let files = [file("a", 100, 5), file("b", 100, 5)];
        assert_eq!(names(&seen(&[(27, 9)]), &files), [Name::Certain(1)]);
    }

    #[test]
    fn an_unused_line_between_two_types_needs_a_type_between_them() {
        let files = [file("a", 100, 5), file("b", 100, 0), file("c", 100, 5)];
        assert_eq!(
            names(&seen(&[(0, 9), (2, 9)]), &files),
            [Name::Certain(0), Name::Certain(2)]
        );
        assert_eq!(
            names(&seen(&[(0, 9), (1, 9)]), &files),
            [Name::Unknown, Name::Unknown],
            "there is no type for b"
        );
    }

    #[test]
    fn a_type_that_nothing_fits_stays_unknown() {
        assert_eq!(names(&seen(&[(0, 9)]), &[]), [Name::Unknown]);
        let files = [file("a", 8, 5)];
        assert_eq!(names(&seen(&[(0, 9)]), &files), [Name::Unknown]);
    }

    /// Against all strictly increasing maps from lines to types, tried one by one.
    #[test]
    fn what_is_possible_is_what_some_map_allows() {
        let mut rng = fastrand::Rng::with_seed(16);
        for _ in 0..3000 {
            let end = rng.usize(1..7);
            let files: Vec<_> = (0..rng.usize(..=end))
                .map(|_| file("f", rng.u64(1..5), rng.u64(..4)))
                .collect();
            let mut types = Vec::new();
            for ty in 0..u8::try_from(end).unwrap() {
                if rng.bool() {
                    types.push((ty, rng.u64(..4), rng.u64(1..4)));
                }
            }
            let seen = found(&types);
            let mut expected = vec![vec![false; files.len()]; seen.len()];
            for chosen in 0_u32..1 << end {
                if chosen.count_ones() as usize != files.len() {
                    continue;
                }
                let line_of = |ty: u8| {
                    (chosen >> ty & 1 == 1)
                        .then(|| (chosen & ((1 << ty) - 1)).count_ones() as usize)
                };
                let fits = |seen: &Seen| {
                    line_of(seen.ty.get()).is_some_and(|line| {
                        seen.found <= files[line].used && seen.max_offset < files[line].max_pages
                    })
                };
                if seen.iter().all(fits) {
                    for (seen, expected) in seen.iter().zip(&mut expected) {
                        expected[line_of(seen.ty.get()).unwrap()] = true;
                    }
                }
            }
            for (name, expected) in match_names(&seen, &files, end, 0).iter().zip(&expected) {
                let lines: Vec<_> = (0..files.len()).filter(|&line| expected[line]).collect();
                assert_eq!(name.lines(), lines, "{seen:?} {files:?} {end}");
            }
        }
    }
}
