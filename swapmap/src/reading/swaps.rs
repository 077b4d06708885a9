//! `/proc/swaps`, and which of its lines a swap type is.

use std::fs;
use std::path::PathBuf;

use swap_records::SwapType;

use super::{Name, Refused};

/// How many swapfiles a kernel takes at most. Of the 32 types the highest are for entries that
/// are no swap slots; swapon(2) lists what each kernel version reserves.
pub const MOST_SWAPFILES: u8 = 23;

const SWAPS: &str = "/proc/swaps";

/// A line of `/proc/swaps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapFile {
    pub name: String,
    /// Slots, the header's included: the length of the table.
    pub max_pages: u64,
    /// Slots in use, by the kernel's own count.
    pub used: u64,
}

impl SwapFile {
    /// The swapfiles that are on, in the order of their types.
    pub fn read_all() -> Result<Vec<Self>, Refused> {
        let text = fs::read(SWAPS).map_err(|e| Refused::File(PathBuf::from(SWAPS), e))?;
        parse_swaps(&String::from_utf8_lossy(&text), procfs::page_size())
    }
}

/// The lines of `/proc/swaps` below its heading: name, kind, size and use in KiB, priority.
fn parse_swaps(text: &str, page_size: u64) -> Result<Vec<SwapFile>, Refused> {
    let kib_a_page = (page_size / 1024).max(1);
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[name, _kind, size, used, _priority] = fields.as_slice() else {
            return None;
        };
        let pages = |kib: &str| Some(kib.parse::<u64>().ok()? / kib_a_page);
        Some(SwapFile {
            name: unescape(name),
            // Offset 0 is the header, which the kernel does not count.
            max_pages: pages(size)?.checked_add(1)?,
            used: pages(used)?,
        })
    };
    text.lines()
        .skip(1)
        .filter(|text| !text.trim().is_empty())
        .map(|text| line(text).ok_or_else(|| Refused::Malformed(SWAPS, text.to_owned())))
        .collect()
}

/// Blanks and backslashes of a name are written as three octal digits.
fn unescape(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = match rest {
            [b'\\', digits @ ..] => digits
                .get(..3)
                .and_then(|d| std::str::from_utf8(d).ok())
                .and_then(|d| u8::from_str_radix(d, 8).ok()),
            _ => None,
        };
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &rest[4..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the pagemaps told of a type.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub ty: SwapType,
    pub max_offset: u64,
}

impl Seen {
    pub fn new(ty: SwapType) -> Self {
        Self { ty, max_offset: 0 }
    }
}

/// Which line each type is; `seen` is in the order of the types.
///
/// The kernel tells neither. It does list the swapfiles in the order of their types, and gives a
/// new one the lowest type that is free, so a type is its line number, unless a swapfile before it
/// was turned off. Then all that is known is: the order is kept, a type has at least as many types
/// below it as its line has lines above it, and its pages must fit.
pub fn match_names(seen: &[Seen], files: &[SwapFile]) -> Vec<Name> {
    let possible = possible_lines(seen, files);
    let line = |seen: &Seen| usize::from(seen.ty.get());
    let gapless = seen
        .iter()
        .zip(&possible)
        .all(|(seen, lines)| lines.contains(&line(seen)));
    seen.iter()
        .zip(&possible)
        .map(|(seen, lines)| match lines.as_slice() {
            &[only] => Name::Certain(only),
            _ if gapless => Name::Assumed(line(seen)),
            _ => Name::Unknown,
        })
        .collect()
}

fn possible_lines(seen: &[Seen], files: &[SwapFile]) -> Vec<Vec<usize>> {
    let ty = |i: usize| usize::from(seen[i].ty.get());
    let fits = |i: usize, line: usize| {
        let file = &files[line];
        ty(i) >= line && file.used > 0 && seen[i].max_offset < file.max_pages
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

    fn file(name: &str, max_pages: u64, used: u64) -> SwapFile {
        SwapFile {
            name: name.to_owned(),
            max_pages,
            used,
        }
    }

    fn seen(types: &[(u8, u64)]) -> Vec<Seen> {
        types
            .iter()
            .map(|&(ty, max_offset)| Seen {
                ty: SwapType::new(ty).unwrap(),
                max_offset,
            })
            .collect()
    }

    #[test]
    fn proc_swaps_is_read_with_the_header_slot_added() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                    /dev/dm-1                               partition\t1048572\t\t4096\t\t-2\n\
                    /a\\040b\\134c\\040(deleted)            file\t\t40956\t\t0\t\t5\n";
        let files = parse_swaps(text, 4096).unwrap();
        assert_eq!(
            files,
            [
                file("/dev/dm-1", 262_144, 1024),
                file("/a b\\c (deleted)", 10_240, 0)
            ]
        );
        assert_eq!(parse_swaps("Filename\n", 4096).unwrap(), []);
        assert!(parse_swaps("heading\n/swap file 12\n", 4096).is_err());
        assert!(parse_swaps("heading\n/swap file many 0 0\n", 4096).is_err());
    }

    #[test]
    fn a_name_with_a_broken_escape_is_left_as_it_is() {
        assert_eq!(unescape("a\\04"), "a\\04");
        assert_eq!(unescape("a\\999"), "a\\999");
        assert_eq!(unescape("\\"), "\\");
    }

    #[test]
    fn without_gaps_a_type_is_its_line() {
        let files = [file("a", 100, 5), file("b", 100, 5)];
        assert_eq!(
            match_names(&seen(&[(0, 9), (1, 9)]), &files),
            [Name::Certain(0), Name::Certain(1)]
        );
        // Type 0 may be off and `a` be type 1, but that is the less likely story.
        assert_eq!(
            match_names(&seen(&[(1, 9)]), &files),
            [Name::Assumed(1)],
            "both are in use"
        );
    }

    #[test]
    fn a_swapfile_without_a_page_in_use_is_nobody() {
        let files = [file("a", 100, 5), file("b", 100, 0)];
        assert_eq!(match_names(&seen(&[(1, 9)]), &files), [Name::Certain(0)]);
    }

    #[test]
    fn a_gap_left_by_swapoff_is_seen() {
        let files = [file("b", 100, 5), file("c", 1000, 5)];
        assert_eq!(
            match_names(&seen(&[(1, 9), (2, 9)]), &files),
            [Name::Certain(0), Name::Certain(1)]
        );
        assert_eq!(
            match_names(&seen(&[(2, 500)]), &files),
            [Name::Certain(1)],
            "too far out for b"
        );
        assert_eq!(match_names(&seen(&[(2, 9)]), &files), [Name::Unknown]);
    }

    #[test]
    fn an_unused_line_between_two_types_needs_a_type_between_them() {
        let files = [file("a", 100, 5), file("b", 100, 0), file("c", 100, 5)];
        assert_eq!(
            match_names(&seen(&[(0, 9), (2, 9)]), &files),
            [Name::Certain(0), Name::Certain(2)]
        );
        assert_eq!(
            match_names(&seen(&[(0, 9), (1, 9)]), &files),
            [Name::Unknown, Name::Unknown],
            "there is no type for b"
        );
    }

    #[test]
    fn a_type_that_nothing_fits_stays_unknown() {
        assert_eq!(match_names(&seen(&[(0, 9)]), &[]), [Name::Unknown]);
        let files = [file("a", 8, 5)];
        assert_eq!(match_names(&seen(&[(0, 9)]), &files), [Name::Unknown]);
    }
}
