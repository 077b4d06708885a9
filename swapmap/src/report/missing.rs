//! Slots in use whose owner was not found.

use std::collections::HashMap;
use std::io::{self, Write};

use swap_records::MemcgId;

use super::row;
use crate::names::printable;
use crate::reading::Reading;

/// Slots in use beyond those that were found.
#[derive(Debug)]
pub struct Missing {
    /// Slots in use, in all swapfiles.
    pub in_use: u64,
    /// How many of them have no owner that was found.
    pub slots: u64,
    /// Cgroups for which the kernel counts more than was found, and how many more. A cgroup with swap of
    /// which nothing was found is always in this list.
    pub cgroups: Vec<(MemcgId, u64)>,
    /// Cgroups that are charged for the remaining records of removed cgroups below them, and for how many.
    pub gone: Vec<(MemcgId, u64)>,
    /// Cgroups of which more was found than the kernel counts, and how many more.
    pub more: Vec<(MemcgId, u64)>,
    /// How many slots of [`cgroups`](Self::cgroups) and [`gone`](Self::gone) may have been found, but in a
    /// cgroup of [`more`](Self::more).
    pub elsewhere: u64,
    /// Slots that were not found and that the kernel counts for no cgroup: `slots + elsewhere` is the sum of
    /// `cgroups`, `gone` and `rest`.
    pub rest: u64,
}

impl Missing {
    /// The row of [`rest`](Self::rest).
    pub const REST: &str = "(in no figure of a cgroup)";

    /// Compares the slots of each cgroup that were found, `all`, with the kernel's figures.
    pub fn new(reading: &Reading, all: &HashMap<MemcgId, u64>) -> Self {
        let in_use: u64 = reading.swapfiles.iter().map(|file| file.used).sum();
        let slots = in_use.saturating_sub(all.values().sum());
        let of = |id: &MemcgId| all.get(id).copied().unwrap_or(0);
        // A cgroup of which no slot was found has no other row.
        let cgroups: Vec<(MemcgId, u64)> = reading
            .figures
            .iter()
            .map(|(id, figures)| (*id, of(id), figures.at_least(), figures.at_most()))
            .filter(|&(_, found, least, most)| found < least || (found == 0 && most > 0))
            .map(|(id, found, least, _)| (id, least.saturating_sub(found)))
            .collect();
        let gone: Vec<(MemcgId, u64)> = reading
            .figures
            .iter()
            .filter(|(_, figures)| figures.gone > 0)
            .map(|(&id, figures)| (id, figures.gone))
            .collect();
        let more: Vec<(MemcgId, u64)> = reading
            .figures
            .iter()
            .map(|(id, figures)| (*id, of(id).saturating_sub(figures.at_most())))
            .filter(|&(_, more)| more > 0)
            .collect();
        let short = sum(&cgroups) + sum(&gone);
        let elsewhere = sum(&more).min(short);
        Self {
            rest: (slots + elsewhere).saturating_sub(short),
            in_use,
            slots,
            cgroups,
            gone,
            more,
            elsewhere,
        }
    }

    fn is_nothing(&self) -> bool {
        self.slots == 0 && self.cgroups.is_empty() && self.gone.is_empty() && self.more.is_empty()
    }

    /// Returns the row of the remaining records of removed cgroups below `id`.
    pub fn gone_below(reading: &Reading, id: MemcgId) -> String {
        let path = printable(reading.memcgs.path(id));
        format!("(removed cgroups below {path})")
    }

    /// Returns the reasons, one sentence each.
    pub fn reasons(&self, reading: &Reading) -> Vec<String> {
        reasons(reading, self)
    }
}

fn sum(of: &[(MemcgId, u64)]) -> u64 {
    of.iter().map(|&(_, slots)| slots).sum()
}

/// Writes the slots in use whose owner was not found, by cgroup where the kernel's figures show the cgroup,
/// and the reasons.
pub(super) fn section(
    reading: &Reading,
    all: &HashMap<MemcgId, u64>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let missing = Missing::new(reading, all);
    if missing.is_nothing() {
        return Ok(());
    }
    writeln!(
        out,
        "the owners of {} of {} slots in use were not found",
        missing.slots, missing.in_use
    )?;
    let heads = ["not found", "all", "kernel", "swap cache"];
    let [not_found, all_found, kernel, cached] = heads;
    writeln!(
        out,
        "{not_found:>12} {all_found:>12} {kernel:>12} {cached:>12}  cgroup"
    )?;
    for &row_of in &missing.cgroups {
        row(reading, all, row_of, out)?;
    }
    let mut other =
        |slots: u64, what: &str| writeln!(out, "{slots:>12} {0:>12} {0:>12} {0:>12}  {what}", "-");
    for &(id, slots) in &missing.gone {
        other(slots, &Missing::gone_below(reading, id))?;
    }
    if missing.rest > 0 {
        other(missing.rest, Missing::REST)?;
    }
    if !missing.more.is_empty() {
        writeln!(
            out,
            "{:>12} {all_found:>12} {kernel:>12} {cached:>12}  cgroup",
            "more found"
        )?;
        for &row_of in &missing.more {
            row(reading, all, row_of, out)?;
        }
    }
    for reason in missing.reasons(reading) {
        writeln!(out, "{reason}")?;
    }
    writeln!(out)
}

fn reasons(reading: &Reading, missing: &Missing) -> Vec<String> {
    let (of_cgroups, of_gone) = (sum(&missing.cgroups), sum(&missing.gone));
    let (of_more, elsewhere, rest) = (sum(&missing.more), missing.elsewhere, missing.rest);
    let tally = &reading.tally;
    let cached: u64 = reading
        .figures
        .values()
        .map(|figures| figures.swapcached)
        .sum();
    let unread = tally.unreadable + tally.restless;
    let mut reasons = Vec::new();
    let mut because = |holds: bool, reason: String| {
        if holds {
            reasons.push(reason);
        }
    };
    because(
        of_cgroups > 0,
        format!(
            "{of_cgroups} are in the kernel's figures of these cgroups, and in no page table of their processes: pages \
             of tmpfs and shared memory are in no page table, and a process that moved is counted in its new cgroup"
        ),
    );
    because(
        of_gone > 0,
        format!(
            "{of_gone} belong to removed cgroups: the kernel charges their remaining swap to their parents"
        ),
    );
    because(
        elsewhere > 0,
        format!("up to {elsewhere} of these were found, but in another cgroup"),
    );
    because(
        of_more > 0,
        format!(
            "{of_more} slots were found in a cgroup that the kernel does not charge for them: the process moved after it \
             touched the pages, or is a fork whose parent has ended"
        ),
    );
    because(
        rest > 0,
        format!(
            "{rest} are in no figure of a cgroup: pages that are in memory again and keep their slot (the cgroups have \
             {cached} in the swap cache), slots that the kernel has reserved, and pages that are charged to no cgroup \
             below the root"
        ),
    );
    because(
        unread > 0,
        format!(
            "{unread} {} could not be read: slots that they have are among these",
            if unread == 1 { "process" } else { "processes" }
        ),
    );
    because(
        tally.confined,
        "this is not the first PID namespace: the slots of processes outside of it are among these"
            .to_owned(),
    );
    because(
        !tally.untold.is_empty(),
        "entries of some types may be slots or markers: those that are slots are among these"
            .to_owned(),
    );
    reasons
}
