//! The owners as text.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};

use swap_records::{MemcgId, SwapType};

use crate::reading::{Name, Reading};

mod missing;
mod notes;

pub use missing::Missing;
pub use notes::notes;

/// The owners in `ty` and their slots, largest first.
pub fn owners_of(reading: &Reading, ty: SwapType) -> Vec<(MemcgId, u64)> {
    largest_first(reading.records.owners_on(ty))
}

/// The owners in all types and their slots, largest first.
pub fn owners_of_all(reading: &Reading) -> Vec<(MemcgId, u64)> {
    largest_first(reading.records.owners())
}

fn largest_first(owners: impl Iterator<Item = (MemcgId, u64)>) -> Vec<(MemcgId, u64)> {
    let mut owners: Vec<_> = owners.collect();
    owners.sort_by_key(|&(id, slots)| (Reverse(slots), id));
    owners
}

/// One table for each swapfile, in the order of `/proc/swaps`, then one for each type that may be several of them. Last
/// come the slots whose owner was not found.
pub fn owners(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let all = owners_of_all(reading).into_iter().collect();
    for (line, file) in reading.swapfiles.iter().enumerate() {
        let ty = type_of(reading, line);
        write!(out, "{}", printable(&file.name))?;
        match ty {
            Some(ty) => writeln!(out, "  (type {ty})")?,
            None => writeln!(out)?,
        }
        // Without the header's.
        write!(out, "{} slots, {} in use, ", file.max_pages - 1, file.used)?;
        let candidates = types_of(reading, line);
        if ty.is_none() && !candidates.is_empty() {
            writeln!(
                out,
                "the owners are below: {}",
                either("swap type", &candidates)
            )?;
            writeln!(out)?;
            continue;
        }
        let owners = ty.map_or_else(Vec::new, |ty| owners_of(reading, ty));
        let found: u64 = owners.iter().map(|&(_, slots)| slots).sum();
        writeln!(out, "the owners of {found} found")?;
        table(reading, &all, &owners, out)?;
    }
    for (&ty, name) in &reading.names {
        if matches!(name, Name::Certain(_)) {
            continue;
        }
        let owners = owners_of(reading, ty);
        let found: u64 = owners.iter().map(|&(_, slots)| slots).sum();
        let files = name.lines().iter().map(|&line| &reading.swapfiles[line]);
        let files: Vec<String> = files.map(|file| printable(&file.name)).collect();
        if reading.tally.swapfiles_changed {
            writeln!(out, "swap type {ty}, whose swapfile is not known")?;
        } else if files.is_empty() {
            writeln!(out, "swap type {ty}, which fits no line of /proc/swaps")?;
        } else {
            writeln!(out, "swap type {ty}, which is {}", either("", &files))?;
        }
        writeln!(out, "the owners of {found} slots found")?;
        table(reading, &all, &owners, out)?;
    }
    missing::section(reading, &all, out)
}

/// `what a or b`
fn either(what: &str, these: &[impl ToString]) -> String {
    let these: Vec<String> = these.iter().map(ToString::to_string).collect();
    format!("{what} {}", these.join(" or "))
        .trim_start()
        .to_owned()
}

/// The type that is the line `line` of `/proc/swaps`, if it can be told.
pub fn type_of(reading: &Reading, line: usize) -> Option<SwapType> {
    let certain = |name: &Name| *name == Name::Certain(line);
    let mut names = reading.names.iter();
    names.find_map(|(&ty, name)| certain(name).then_some(ty))
}

/// The types that can be the line `line` of `/proc/swaps`; all of them if the lines changed.
pub fn types_of(reading: &Reading, line: usize) -> Vec<SwapType> {
    let names = reading.names.iter();
    let possible = names.filter(|(_, name)| {
        name.lines().contains(&line) || (reading.tally.swapfiles_changed && **name == Name::Unknown)
    });
    possible.map(|(&ty, _)| ty).collect()
}

fn table(
    reading: &Reading,
    all: &HashMap<MemcgId, u64>,
    owners: &[(MemcgId, u64)],
    out: &mut dyn Write,
) -> io::Result<()> {
    if !owners.is_empty() {
        writeln!(
            out,
            "{:>12} {:>12} {:>12} {:>12}  cgroup",
            "slots", "all", "kernel", "swap cache"
        )?;
    }
    for &(id, slots) in owners {
        row(reading, all, (id, slots), out)?;
    }
    writeln!(out)
}

fn row(
    reading: &Reading,
    all: &HashMap<MemcgId, u64>,
    (id, slots): (MemcgId, u64),
    out: &mut dyn Write,
) -> io::Result<()> {
    let figures = reading.figures.get(&id);
    let (kernel, cached) = figures.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |figures| (figures.swap.to_string(), figures.swapcached.to_string()),
    );
    let all = all.get(&id).copied().unwrap_or(0);
    let path = printable(reading.memcgs.path(id));
    writeln!(
        out,
        "{slots:>12} {all:>12} {kernel:>12} {cached:>12}  {path}"
    )
}

/// A name as one line of text, whatever it holds: a terminal obeys control characters, and some characters turn the order
/// of others around. What is escaped is so as in Rust, bytes that are not UTF-8 as `\xe9`.
pub fn printable(name: impl AsRef<[u8]>) -> String {
    let mut text = String::new();
    for chunk in name.as_ref().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() || is_invisible(c) {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Marks of direction, joiners, separators of lines and paragraphs.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod disagree;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(printable("/a \u{1b}[2J\n\u{e9}"), "/a \\u{1b}[2J\\n\u{e9}");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn a_name_that_is_not_utf8_is_told_from_one_that_looks_like_it() {
        assert_eq!(printable(b"caf\xe9/\xe2\x82"), "caf\\xe9/\\xe2\\x82");
        assert_eq!(printable("caf\\xe9"), "caf\\\\xe9");
    }

    #[test]
    fn any_name_is_one_line() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            let name: Vec<u8> = (0..rng.usize(..12)).map(|_| rng.u8(..)).collect();
            assert!(
                !printable(&name).contains(|c: char| c.is_control()),
                "{name:?}"
            );
        }
    }
}
