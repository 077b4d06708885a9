//! The owners as text.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};

use swap_records::{MemcgId, SwapType};

use crate::names::printable;
use crate::reading::{Name, Reading};

mod missing;
mod notes;
mod programs;

pub use missing::Missing;
pub use notes::notes;
pub use programs::{print_csv, print_json};

/// Returns the owners in `ty` and their slots, largest first.
pub fn owners_of(reading: &Reading, ty: SwapType) -> Vec<(MemcgId, u64)> {
    largest_first(reading.records.owners_on(ty))
}

/// Returns the owners in all types and their slots, largest first.
pub fn owners_of_all(reading: &Reading) -> Vec<(MemcgId, u64)> {
    largest_first(reading.records.owners())
}

fn largest_first(owners: impl Iterator<Item = (MemcgId, u64)>) -> Vec<(MemcgId, u64)> {
    let mut owners: Vec<_> = owners.collect();
    owners.sort_by_key(|&(id, slots)| (Reverse(slots), id));
    owners
}

/// Writes one table for each swapfile, in the order of `/proc/swaps`, and one for each type that may be that
/// of several swapfiles. The slots whose owner was not found come last.
pub fn owners(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let all = owners_of_all(reading).into_iter().collect();
    for (line, file) in reading.swapfiles.iter().enumerate() {
        let ty = type_of(reading, line);
        write!(out, "{}", printable(&file.name))?;
        match ty {
            Some(ty) => writeln!(out, "  (type {ty})")?,
            None => writeln!(out)?,
        }
        // The header is not a slot.
        write!(out, "{} slots, {} in use, ", file.max_pages - 1, file.used)?;
        let candidates = types_of(reading, line);
        if ty.is_none() && !candidates.is_empty() {
            writeln!(
                out,
                "the owners are in the table of {}",
                either("swap type", &candidates)
            )?;
            writeln!(out)?;
            continue;
        }
        let owners = ty.map_or_else(Vec::new, |ty| owners_of(reading, ty));
        let found: u64 = owners.iter().map(|&(_, slots)| slots).sum();
        writeln!(out, "the owners of {found} were found")?;
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
            writeln!(out, "swap type {ty}, of an unknown swapfile")?;
        } else if files.is_empty() {
            writeln!(out, "swap type {ty}, which no line of /proc/swaps fits")?;
        } else {
            writeln!(out, "swap type {ty}, which is {}", either("", &files))?;
        }
        writeln!(out, "the owners of {found} slots were found")?;
        table(reading, &all, &owners, out)?;
    }
    missing::section(reading, &all, out)
}

/// Returns `what a or b`.
fn either(what: &str, these: &[impl ToString]) -> String {
    let these: Vec<String> = these.iter().map(ToString::to_string).collect();
    format!("{what} {}", these.join(" or "))
        .trim_start()
        .to_owned()
}

/// Returns the type of the line `line` of `/proc/swaps`, if only one is possible.
pub fn type_of(reading: &Reading, line: usize) -> Option<SwapType> {
    let certain = |name: &Name| *name == Name::Certain(line);
    let mut names = reading.names.iter();
    names.find_map(|(&ty, name)| certain(name).then_some(ty))
}

/// Returns the types that the line `line` of `/proc/swaps` can have; all types if the lines changed.
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

#[cfg(test)]
mod disagree;
