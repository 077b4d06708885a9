//! Notes on a reading: how far the figures can be trusted.

use std::collections::HashMap;
use std::io::{self, Write};

use swap_records::MemcgId;

use super::owners_of_all;
use crate::reading::{Name, Reading, Version};

/// Writes the notes on a reading, one per line.
pub fn notes(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let tally = &reading.tally;
    let version = match reading.memcgs.hierarchy().version {
        Version::V1 => "v1 (kernel: memory.stat swap, which excludes the swap cache)",
        Version::V2 => {
            "v2 (kernel: memory.swap.current minus the cgroups below, which includes the swap cache)"
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
            "processes that ended during the reading: their slots are free, and not shown",
            tally.vanished,
        ),
        (
            "processes that started another program or other threads at each attempt to read them, so their slots are missing",
            tally.restless,
        ),
        (
            "processes that had the number of one that ended during the reading: read again",
            tally.reused,
        ),
        (
            "slots that several processes of one cgroup share, counted once",
            tally.shared,
        ),
        (
            "slots that processes of several cgroups share: the process that began first keeps them",
            tally.disputed,
        ),
        (
            "entries of types without a swapfile, which are not slots, but markers and the like",
            tally.no_slot,
        ),
        (
            "slots past the end that /proc/swaps shows (the file has bad pages), which are counted too",
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
            "entries of type {ty}, which may be slots or markers, and are not counted: {nr}"
        )?;
    }
    if tally.unreadable > 0 {
        let first = tally.first_unreadable.as_deref().unwrap_or_default();
        writeln!(
            out,
            "processes that could not be read, so their slots, if any, are missing: {}; the first is {}",
            tally.unreadable, first
        )?;
    }
    if tally.swapfiles_changed {
        writeln!(
            out,
            "a swapfile was turned on or off at each attempt to read the machine: the types of the swapfiles are not \
             known, and slots of these swapfiles may be missing"
        )?;
    }
    if reading
        .names
        .values()
        .any(|name| matches!(name, Name::OneOf(_)))
    {
        writeln!(
            out,
            "the kernel does not show which type a swapfile has: where several are named, a swapfile may have been \
             turned off earlier"
        )?;
    }
    Ok(())
}

/// Writes how many cgroups agree with the kernel's figures.
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
            "; the figures, which may be 2 s old, were read again for {:.1} s",
            waited.as_secs_f64()
        )
    };
    writeln!(
        out,
        "{agree} of {} cgroups with swap agree with the kernel's figures (give or take the swap cache){after}",
        in_swap.len()
    )
}
