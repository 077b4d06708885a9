//! Reads `/proc/swaps`.

use std::fs;
use std::path::PathBuf;

use super::bytes::{decimal, lines, unescape, words};
use super::{Refused, page_size};
use crate::names::printable;

const SWAPS: &str = "/proc/swaps";

/// A line of `/proc/swaps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapFile {
    /// Any bytes but 0. The name of a file that was removed while it is on ends in ` (deleted)`.
    pub name: Vec<u8>,
    /// The number of slots, with the header: the length of the table.
    pub max_pages: u64,
    /// The number of slots in use, by the kernel's own count.
    pub used: u64,
}

impl SwapFile {
    /// Reads the swapfiles that are on, in the order of their types.
    pub fn read_all() -> Result<Vec<Self>, Refused> {
        let text = fs::read(SWAPS).map_err(|e| Refused::File(PathBuf::from(SWAPS), e))?;
        parse_swaps(&text, page_size())
    }

    /// Returns whether both are the same swapfile, as far as the kernel shows.
    pub(super) fn is(&self, other: &Self) -> bool {
        (&self.name, self.max_pages) == (&other.name, other.max_pages)
    }
}

/// Parses the lines of `/proc/swaps` below its heading: name, kind, size and use in KiB, priority.
fn parse_swaps(text: &[u8], page_size: u64) -> Result<Vec<SwapFile>, Refused> {
    let kib_per_page = (page_size / 1024).max(1);
    let line = |line: &[u8]| {
        let mut fields = words(line);
        let [name, _kind, size, used, _priority] = std::array::from_fn(|_| fields.next());
        let pages = |kib: Option<&[u8]>| Some(decimal(kib?)? / kib_per_page);
        fields.next().is_none().then_some(())?;
        Some(SwapFile {
            name: unescape(name?),
            // Offset 0 is the header, which the kernel does not count.
            max_pages: pages(size)?.checked_add(1)?,
            used: pages(used)?,
        })
    };
    lines(text)
        .skip(1)
        .map(|text| line(text).ok_or_else(|| Refused::Malformed(SWAPS, printable(text))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &[u8], max_pages: u64, used: u64) -> SwapFile {
        SwapFile {
            name: name.to_owned(),
            max_pages,
            used,
        }
    }

    #[test]
    fn proc_swaps_is_read_with_the_header_slot_added() {
        let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                    /dev/dm-1                               partition\t1048572\t\t4096\t\t-2\n\
                    /a\\040b\\134c\\040(deleted)            file\t\t40956\t\t0\t\t5\n";
        let files = parse_swaps(text, 4096).unwrap();
        assert_eq!(
            files,
            [
                file(b"/dev/dm-1", 262_144, 1024),
                file(b"/a b\\c (deleted)", 10_240, 0)
            ]
        );
        assert_eq!(parse_swaps(b"Filename\n", 4096).unwrap(), []);
        assert!(parse_swaps(b"heading\n/swap file 12\n", 4096).is_err());
        assert!(parse_swaps(b"heading\n/swap file many 0 0\n", 4096).is_err());
    }

    #[test]
    fn a_name_may_have_any_bytes() {
        // The kernel does not escape a vertical tab, a form feed and a carriage return.
        let text = b"heading\n/caf\xe9\x0b\x0c\r\\012x file\t\t40\t\t8\t\t-2\n";
        assert_eq!(
            parse_swaps(text, 4096).unwrap(),
            [file(b"/caf\xe9\x0b\x0c\r\nx", 11, 2)]
        );
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut text = b"heading\n/a\\040b file\t\t40\t\t8\t\t-2\n/c file 1 2 3\n".to_vec();
            for _ in 0..rng.usize(..6) {
                let at = rng.usize(..text.len());
                text[at] = rng.u8(..);
            }
            text.truncate(rng.usize(..=text.len()));
            let _ = parse_swaps(&text, 4096);
        }
    }
}
