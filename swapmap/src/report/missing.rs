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
    /// How many of them were not found.
    pub slots: u64,
    /// Cgroups that have more by the kernel's figure than was found, and how many more. One of which nothing was found
    /// is here in any case.
    pub cgroups: Vec<(MemcgId, u64)>,
    /// Cgroups that are charged for what removed ones below them left.
    pub gone: Vec<(MemcgId, u64)>,
    /// Cgroups of which more was found than they have by the kernel's figure, and how much more.
    pub more: Vec<(MemcgId, u64)>,
    /// How many slots of [`cgroups`](Self::cgroups) and [`gone`](Self::gone) may be among those that were found, in a
    /// cgroup of [`more`](Self::more): they are missing there alone.
    pub elsewhere: u64,
    /// Slots that were not found and are in no figure of a cgroup: `slots + elsewhere` are those of `cgroups`, of `gone`
    /// and these.
    pub rest: u64,
}

impl Missing {
    /// The slots of [`rest`](Self::rest).
    pub const REST: &str = "(in no figure of a cgroup)";

    /// `all`: the slots of each cgroup that were found.
    pub fn new(reading: &Reading, all: &HashMap<MemcgId, u64>) -> Self {
        let in_use: u64 = reading.swapfiles.iter().map(|file| file.used).sum();
        let slots = in_use.saturating_sub(all.values().sum());
        let of = |id: &MemcgId| all.get(id).copied().unwrap_or(0);
        // A cgroup without a slot found has no other row.
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

    /// What removed cgroups below `id` left.
    pub fn gone_below(reading: &Reading, id: MemcgId) -> String {
        let path = printable(reading.memcgs.path(id));
        format!("(cgroups below {path} that are gone)")
    }

    /// Why that is, a sentence each.
    pub fn reasons(&self, reading: &Reading) -> Vec<String> {
        reasons(reading, self)
    }
}

fn sum(of: &[(MemcgId, u64)]) -> u64 {
    of.iter().map(|&(_, slots)| slots).sum()
}

/// What is in use beyond what was found: cgroup by cgroup where the kernel's figures say so, and why.
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
            "{of_cgroups} are in the kernel's figures of these cgroups and in no page table of their processes: tmpfs \
             and shared memory show in none, and a process that moved is counted where it is now"
        ),
    );
    because(
        of_gone > 0,
        format!(
            "{of_gone} are of cgroups that were removed: what they left in swap is their parents' by the kernel"
        ),
    );
    because(
        elsewhere > 0,
        format!("up to {elsewhere} of these are not missing, but were found in another cgroup"),
    );
    because(
        of_more > 0,
        format!(
            "{of_more} slots were found in another cgroup than the kernel's: the process was moved after it touched \
             the pages, or is a fork whose parent has ended"
        ),
    );
    because(
        rest > 0,
        format!(
            "{rest} are in no figure of a cgroup: pages that are in memory again and keep their slot \
             (the cgroups have {cached} in the swap cache), slots that the kernel holds ready, \
             and what no cgroup below the root is charged for"
        ),
    );
    because(
        unread > 0,
        format!(
            "{unread} processes could not be read, so their slots, if they have any, are among these"
        ),
    );
    because(
        tally.confined,
        "this is not the first namespace of processes: the slots of processes outside of it are among these"
            .to_owned(),
    );
    because(
        !tally.untold.is_empty(),
        "entries of some types are slots or markers, and nothing tells which: slots are among these".to_owned(),
    );
    reasons
}
