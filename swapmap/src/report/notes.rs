//! What is to be known about the figures.

use std::collections::HashMap;
use std::io::{self, Write};

use swap_records::MemcgId;

use super::owners_of_all;
use crate::reading::{Name, Reading, Version};

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
    agreement(reading, out)?;
    let notes = [
        (
            "processes that ended while they were read: what they had in swap is free, and not shown",
            tally.vanished,
        ),
        (
            "processes that began another program or had other threads each time they were read, so their slots are missing",
            tally.restless,
        ),
        (
            "processes that had the number of one that ended during the reading: read again",
            tally.reused,
        ),
        (
            "slots seen again in another process of their cgroup, and counted once",
            tally.shared,
        ),
        (
            "slots seen again in another cgroup: the process that began first keeps them",
            tally.disputed,
        ),
        (
            "entries of a type that is no swapfile's: no slots, but markers and the like",
            tally.no_slot,
        ),
        (
            "slots past the end that /proc/swaps told of (bad pages), counted all the same",
            tally.past_the_end,
        ),
    ];
    for (what, nr) in notes {
        if nr > 0 {
            writeln!(out, "{what}: {nr}")?;
        }
    }
    for (ty, nr) in &tally.untold {
        writeln!(
            out,
            "entries of type {ty}, which is a swapfile's or that of markers, and nothing told which: \
             not counted: {nr}"
        )?;
    }
    if tally.unreadable > 0 {
        let first = tally.first_unreadable.as_deref().unwrap_or_default();
        writeln!(
            out,
            "processes that could not be read, so their slots, if they have any, are missing: {}; the first is {}",
            tally.unreadable, first
        )?;
    }
    if tally.swapfiles_changed {
        writeln!(
            out,
            "a swapfile was turned on or off each time the machine was read: which type is which swapfile, and what \
             was in those, is not known"
        )?;
    }
    if reading
        .names
        .values()
        .any(|name| matches!(name, Name::OneOf(_)))
    {
        writeln!(
            out,
            "the kernel does not tell which type a swapfile is: where several are possible, a swapfile may have been \
             turned off before"
        )?;
    }
    Ok(())
}

/// How many cgroups have what the kernel says.
fn agreement(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let all: HashMap<MemcgId, u64> = owners_of_all(reading).into_iter().collect();
    let in_swap: Vec<bool> = reading
        .figures
        .iter()
        .map(|(id, figures)| (all.get(id).copied().unwrap_or(0), figures))
        .filter(|&(count, figures)| count > 0 || figures.at_most() > 0)
        .map(|(count, figures)| figures.agrees_with(count))
        .collect();
    let agree = in_swap.iter().filter(|&&agrees| agrees).count();
    let waited = reading.tally.settled_in;
    let after = if waited.is_zero() {
        String::new()
    } else {
        format!(
            "; these were read again for {:.1} s, being up to 2 s late",
            waited.as_secs_f64()
        )
    };
    writeln!(
        out,
        "{agree} of {} cgroups with swap agree with the kernel's figures, the swap cache allowed for{after}",
        in_swap.len()
    )
}
