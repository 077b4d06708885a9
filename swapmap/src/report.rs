//! The owners as text.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};

use swap_records::{MemcgId, SwapType};

use crate::reading::{Name, Reading, Version};

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

/// One table a swapfile, in the order of `/proc/swaps`, then the types that are none of them.
pub fn owners(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let all = owners_of_all(reading).into_iter().collect();
    for (line, file) in reading.swapfiles.iter().enumerate() {
        let ty = type_of(reading, line);
        write!(out, "{}", printable(&file.name))?;
        match ty {
            Some((ty, true)) => writeln!(out, "  (type {ty})")?,
            Some((ty, false)) => writeln!(out, "  (taken to be type {ty}, by its line)")?,
            None => writeln!(out)?,
        }
        let owners = ty.map_or_else(Vec::new, |(ty, _)| owners_of(reading, ty));
        let found: u64 = owners.iter().map(|&(_, slots)| slots).sum();
        writeln!(
            out,
            "{} slots, {} in use, the owners of {found} found",
            // Without the header's.
            file.max_pages - 1,
            file.used
        )?;
        table(reading, &all, &owners, out)?;
    }
    for (&ty, name) in &reading.names {
        if *name == Name::Unknown {
            let owners = owners_of(reading, ty);
            let found: u64 = owners.iter().map(|&(_, slots)| slots).sum();
            writeln!(out, "swap type {ty}, which could not be told by name")?;
            writeln!(out, "the owners of {found} slots found")?;
            table(reading, &all, &owners, out)?;
        }
    }
    Ok(())
}

/// The type that is the line `line` of `/proc/swaps`, and whether that is certain.
pub fn type_of(reading: &Reading, line: usize) -> Option<(SwapType, bool)> {
    reading.names.iter().find_map(|(&ty, name)| match *name {
        Name::Certain(at) if at == line => Some((ty, true)),
        Name::Assumed(at) if at == line => Some((ty, false)),
        _ => None,
    })
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
        )?;
    }
    writeln!(out)
}

/// What is to be known about the figures.
pub fn notes(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let tally = &reading.tally;
    let version = match reading.memcgs.hierarchy().version {
        Version::V1 => "v1 (kernel: memory.stat swap, without the swap cache)",
        Version::V2 => {
            "v2 (kernel: memory.swap.current less the cgroups below, with the swap cache)"
        }
    };
    writeln!(
        out,
        "{} processes read; memory cgroups are {version}",
        tally.processes
    )?;
    let all: HashMap<MemcgId, u64> = owners_of_all(reading).into_iter().collect();
    let in_swap = || {
        let figures = reading.figures.iter();
        figures
            .map(|(id, figures)| (all.get(id).copied().unwrap_or(0), figures))
            .filter(|&(count, figures)| count > 0 || figures.at_least() > 0)
    };
    let agree =
        in_swap().filter(|(count, kernel)| (kernel.at_least()..=kernel.at_most()).contains(count));
    writeln!(
        out,
        "{} of {} cgroups agree with the kernel's figures, the swap cache allowed for",
        agree.count(),
        in_swap().count()
    )?;
    if reading.names.is_empty() {
        writeln!(
            out,
            "no page table that could be read has a page in swap (tmpfs and shared memory show in none)"
        )?;
    }
    let notes = [
        (
            "processes that ended while they were read, so their pages are missing or stale",
            tally.vanished,
        ),
        (
            "slots seen again in another process of their cgroup, and counted once",
            tally.shared,
        ),
        (
            "slots seen again in another cgroup: the process that was read first keeps them",
            tally.disputed,
        ),
        (
            "entries of a type above those of swapfiles: no slots, but markers and the like",
            tally.no_slot,
        ),
        (
            "slots past the end that /proc/swaps told of (bad pages, or a swapfile turned on \
             meanwhile), counted all the same",
            tally.past_the_end,
        ),
        ("processes that could not be read", tally.unreadable),
    ];
    for (what, nr) in notes {
        if nr > 0 {
            writeln!(out, "{what}: {nr}")?;
        }
    }
    if let Some(first) = &tally.first_unreadable {
        writeln!(out, "the first of these: {}", printable(first))?;
    }
    let names = || reading.names.values();
    if names().any(|name| matches!(name, Name::Assumed(_))) {
        writeln!(
            out,
            "the kernel does not tell which type a swapfile is: where it says `taken to be`, another \
             one is possible if a swapfile was turned off before"
        )?;
    }
    if names().any(|name| *name == Name::Unknown) {
        writeln!(
            out,
            "some types match no line of /proc/swaps, or several: a swapfile was turned off before"
        )?;
    }
    Ok(())
}

/// A name as one line of text, whatever it holds: a terminal obeys control characters.
pub fn printable(name: &str) -> String {
    name.chars()
        .flat_map(|c| {
            let (escaped, plain) = if c.is_control() {
                (Some(c.escape_default()), None)
            } else {
                (None, Some(c))
            };
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(printable("/a \u{1b}[2J\n\u{e9}"), "/a \\u{1b}[2J\\n\u{e9}");
    }
}
