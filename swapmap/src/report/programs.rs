//! The owners as CSV and as JSON.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use swap_records::{MemcgId, SwapType};

use super::{Missing, owners_of, owners_of_all, type_of, types_of};
use crate::forms::{csv, json, list};
use crate::names::printable;
use crate::reading::{Name, Reading, Tally};

/// A type with owners, and the swapfiles that can have this type.
struct Found {
    ty: SwapType,
    names: Vec<String>,
    owners: Vec<(MemcgId, u64)>,
}

fn found(reading: &Reading) -> Vec<Found> {
    let types = SwapType::all().filter(|&ty| reading.records.max_pages(ty).is_some());
    types
        .map(|ty| {
            let lines = reading.names.get(&ty).map_or(&[][..], Name::lines);
            let names = lines.iter().map(|&line| &reading.swapfiles[line].name);
            Found {
                ty,
                names: names.map(printable).collect(),
                owners: owners_of(reading, ty),
            }
        })
        .collect()
}

/// Returns the kernel's figures for a cgroup: `swap` and `swap cache`, or `none` for each.
fn kernel_of(reading: &Reading, id: MemcgId, none: &str) -> [String; 2] {
    let figures = reading.figures.get(&id);
    figures.map_or([none, none].map(str::to_owned), |figures| {
        [figures.swap, figures.swapcached].map(|pages| pages.to_string())
    })
}

/// Writes CSV: a row for each cgroup and type, and then rows without a type. Those are for each cgroup for
/// which the kernel counts more or less than was found, for the remaining records of removed cgroups, and for
/// slots in no cgroup.
pub fn print_csv(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let all: HashMap<_, _> = owners_of_all(reading).into_iter().collect();
    writeln!(
        out,
        "type,swapfile,id,slots,not_found,more_found,all,kernel,swap_cache,cgroup"
    )?;
    let mut row = |ty: &str, names: &str, id: MemcgId, slots: u64, [not_found, more]: [u64; 2]| {
        let [kernel, cached] = kernel_of(reading, id, "");
        let (all, path) = (
            all.get(&id).copied().unwrap_or(0),
            csv(&printable(reading.memcgs.path(id))),
        );
        writeln!(
            out,
            "{ty},{names},{id},{slots},{not_found},{more},{all},{kernel},{cached},{path}"
        )
    };
    for Found { ty, names, owners } in found(reading) {
        let names = csv(&names.join(" or "));
        for (id, slots) in owners {
            row(&ty.to_string(), &names, id, slots, [0, 0])?;
        }
    }
    let missing = Missing::new(reading, &all);
    for &(id, slots) in &missing.cgroups {
        row("", "", id, 0, [slots, 0])?;
    }
    for &(id, slots) in &missing.more {
        row("", "", id, 0, [0, slots])?;
    }
    // No path of a cgroup begins with a parenthesis.
    let mut other = |slots: u64, what: &str| writeln!(out, ",,,0,{slots},0,,,,{}", csv(what));
    for &(id, slots) in &missing.gone {
        other(slots, &Missing::gone_below(reading, id))?;
    }
    if missing.rest > 0 {
        other(missing.rest, Missing::REST)?;
    }
    Ok(())
}

/// Writes JSON: one object.
pub fn print_json(reading: &Reading, out: &mut dyn Write) -> io::Result<()> {
    let all: HashMap<_, _> = owners_of_all(reading).into_iter().collect();
    let missing = Missing::new(reading, &all);
    let swapfiles = reading.swapfiles.iter().enumerate().map(|(line, file)| {
        let types = match type_of(reading, line) {
            Some(ty) => vec![ty],
            None => types_of(reading, line),
        };
        let types: Vec<String> = types.iter().map(SwapType::to_string).collect();
        let (name, types) = (json(&printable(&file.name)), types.join(", "));
        // The header is not a slot.
        let (slots, used) = (file.max_pages - 1, file.used);
        format!(
            "{{\"name\": {name}, \"types\": [{types}], \"slots\": {slots}, \"in_use\": {used}}}"
        )
    });
    let mut by_type: BTreeMap<MemcgId, Vec<String>> = BTreeMap::new();
    for Found { ty, owners, .. } in found(reading) {
        for (id, slots) in owners {
            let of = by_type.entry(id).or_default();
            of.push(format!("\"{ty}\": {slots}"));
        }
    }
    let not_found: HashMap<MemcgId, u64> = missing.cgroups.iter().copied().collect();
    let more: HashMap<MemcgId, u64> = missing.more.iter().copied().collect();
    // The cgroups of which nothing was found come last.
    let nothing = not_found.keys().filter(|id| !all.contains_key(id));
    let mut nothing: Vec<_> = nothing.map(|&id| (id, 0)).collect();
    nothing.sort_unstable();
    let cgroups = owners_of_all(reading).into_iter().chain(nothing);
    let cgroups = cgroups.map(|(id, slots)| {
        let path = json(&printable(reading.memcgs.path(id)));
        let [kernel, cached] = kernel_of(reading, id, "null");
        let by_type = by_type.remove(&id).unwrap_or_default().join(", ");
        let [not_found, more] = [&not_found, &more].map(|of| of.get(&id).copied().unwrap_or(0));
        format!(
            "{{\"path\": {path}, \"id\": {id}, \"slots\": {slots}, \"not_found\": {not_found}, \
             \"more_found\": {more}, \"kernel\": {kernel}, \"swap_cache\": {cached}, \"by_type\": {{{by_type}}}}}"
        )
    });
    let removed = missing.gone.iter().map(|&(id, slots)| {
        let below = json(&printable(reading.memcgs.path(id)));
        format!("{{\"below\": {below}, \"slots\": {slots}}}")
    });
    writeln!(out, "{{")?;
    list("swapfiles", swapfiles, out)?;
    writeln!(out, ",")?;
    list("cgroups", cgroups, out)?;
    writeln!(out, ",")?;
    list("removed_cgroups", removed, out)?;
    writeln!(out, ",")?;
    let reasons = missing.reasons(reading);
    list("reasons", reasons.iter().map(|reason| json(reason)), out)?;
    writeln!(out, ",")?;
    writeln!(
        out,
        "  \"in_use\": {}, \"not_found\": {}, \"found_elsewhere\": {}, \"in_no_cgroup\": {},",
        missing.in_use, missing.slots, missing.elsewhere, missing.rest
    )?;
    print_tally(&reading.tally, out)?;
    writeln!(out, "}}")?;
    Ok(())
}

/// Writes the problems of the reading, as members of the outermost object.
fn print_tally(tally: &Tally, out: &mut dyn Write) -> io::Result<()> {
    let unread = tally.unreadable + tally.restless;
    let first = tally.first_unreadable.as_deref();
    let first = first.map_or("null".to_owned(), json);
    let untold = tally.untold.iter();
    let untold: Vec<_> = untold.map(|(ty, nr)| format!("\"{ty}\": {nr}")).collect();
    for (name, nr) in [
        ("processes", tally.processes),
        ("unread_processes", unread),
        ("restless_processes", tally.restless),
        ("vanished", tally.vanished),
        ("reused", tally.reused),
        ("shared", tally.shared),
        ("disputed", tally.disputed),
        ("no_slot", tally.no_slot),
        ("past_the_end", tally.past_the_end),
    ] {
        writeln!(out, "  \"{name}\": {nr},")?;
    }
    writeln!(out, "  \"first_unreadable\": {first},")?;
    writeln!(out, "  \"untold\": {{{}}},", untold.join(", "))?;
    writeln!(out, "  \"confined\": {},", tally.confined)?;
    writeln!(out, "  \"swapfiles_changed\": {}", tally.swapfiles_changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::fake::reading;

    const README: &str = include_str!("../../README.md");

    /// Names in the order in which each comes first.
    fn distinct<'n>(names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        let mut distinct = Vec::new();
        for name in names {
            if !distinct.contains(&name) {
                distinct.push(name);
            }
        }
        distinct
    }

    fn row(output: &str) -> Vec<&'static str> {
        let start = format!("| `{output}` | ");
        let row = README.lines().find_map(|line| line.strip_prefix(&start));
        // Every second part is between backticks.
        distinct(row.unwrap().split('`').skip(1).step_by(2))
    }

    #[test]
    fn the_readme_has_the_columns_and_members_that_are_printed() {
        let mut reading = reading("programs", &[("a", [300, 9], 200), ("b", [0, 0], 50)], 400);
        let figures = reading.figures.values_mut().next().unwrap();
        figures.gone = 7;
        let untold = SwapType::new(25).unwrap();
        reading.tally.untold = [(untold, 3)].into();

        let mut text = Vec::new();
        print_csv(&reading, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let header = text.lines().next().unwrap();
        assert_eq!(row("live --csv"), [header]);
        let fields = header.matches(',').count();
        assert!(text.lines().all(|line| line.matches(',').count() == fields));

        let mut text = Vec::new();
        print_json(&reading, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let before_colon = text.match_indices("\":").map(|(at, _)| &text[..at]);
        let names = before_colon.map(|before| before.rsplit('"').next().unwrap());
        // Members whose names are swap types.
        let names = names.filter(|name| name.parse::<u8>().is_err());
        assert_eq!(row("live --json"), distinct(names), "{text}");
    }
}
