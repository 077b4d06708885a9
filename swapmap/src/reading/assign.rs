//! Assigns swap types to the lines of `/proc/swaps`.

use swap_records::SwapType;

use super::SwapFile;

/// What the page tables show of a type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) ty: SwapType,
    pub(super) max_offset: u64,
    /// The number of its slots that were found.
    pub(super) found: u64,
}

/// The swapfile of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// Only this line of `/proc/swaps` can have the type.
    Certain(usize),
    /// Each of these lines can have the type.
    OneOf(Vec<usize>),
    /// No line can have the type.
    Unknown,
}

impl Name {
    /// Returns the lines that can have the type.
    pub fn lines(&self) -> &[usize] {
        match self {
            Self::Certain(line) => std::slice::from_ref(line),
            Self::OneOf(lines) => lines,
            Self::Unknown => &[],
        }
    }
}

/// Returns the line of each type. `seen` is in the order of the types, and all types are below `end`.
///
/// The kernel does not show the types of swapfiles, but it lists the swapfiles in the order of their types.
/// So an assignment is possible if
///
/// - the lines are in the order of their types,
/// - every line has a type below `end`,
/// - the slots of a type lie within its file, and
/// - no more slots were found than were in use, plus the `out` slots that came into use during the reading.
///
/// All possible assignments count; none is taken for more likely than another.
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

/// Returns how many slots may have been found beyond those in use `before`. `out` pages went to swap between
/// the two readings of `/proc/swaps`.
///
/// The kernel counts a page when it writes the page, which is later than the page gets its slot. So up to
/// 1024 more slots may have been found, unless neither the counter nor the slots in use have changed.
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
        // The lines above need types below, and the lines below need types above.
        let room = ty(i) >= line && files.len() - line <= end.saturating_sub(ty(i));
        room && seen[i].found <= file.used.saturating_add(out)
            && seen[i].max_offset < file.max_pages
    };
    // Whether the lines between `line` for type `i` and `after` for type `i + 1` have types.
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
    // Removes the lines of a type that its next type rules out.
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
    fn if_two_lines_are_possible_both_are_named() {
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
            "not if that many came into use during the reading"
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
            "b has no type"
        );
    }

    #[test]
    fn a_type_that_nothing_fits_stays_unknown() {
        assert_eq!(names(&seen(&[(0, 9)]), &[]), [Name::Unknown]);
        let files = [file("a", 8, 5)];
        assert_eq!(names(&seen(&[(0, 9)]), &files), [Name::Unknown]);
    }

    /// Compares the result with all strictly increasing maps from lines to types, tried one by one.
    #[test]
    fn an_assignment_is_possible_if_some_map_allows_it() {
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
