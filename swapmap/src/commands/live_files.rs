//! What `swapmap live` gives beside its text: JSON, CSV, an image, a picture.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;

use image::{ImageFormat, RgbImage};
use swap_records::{MemcgId, SwapType};
use swapmap::reading::{Name, Reading, Tally};
use swapmap::report::{Missing, owners_of, owners_of_all, printable, type_of, types_of};

use super::owners::list;
use super::{csv, json};
use crate::cli::LiveArgs;
use crate::failure::Failure;
use crate::output::{Destination, file_to_write, is_one_name, write_file};

/// Refuses what cannot be written, before the machine is read.
pub(crate) fn check(args: &LiveArgs) -> Result<Option<Destination>, Failure> {
    if let Some(png) = &args.png {
        file_to_write(png)?;
    }
    if let (Some(save), Some(png)) = (&args.save, &args.png)
        && is_one_name(save, png)
    {
        return Err(Failure::Usage(format!(
            "--save and --png both name {}: give them two paths",
            png.display()
        )));
    }
    let Some(save) = &args.save else {
        return Ok(None);
    };
    // Its text goes there.
    if save.as_os_str() == "-" {
        return Err(Failure::Usage(
            "--save - would mix the image with the text on standard output: give the path of a file"
                .to_owned(),
        ));
    }
    Destination::new(save, &[]).map(Some)
}

pub(crate) fn save(reading: &Reading, to: &Destination) -> Result<(), Failure> {
    let written = swap_records::image::write(&reading.records, to.path());
    written
        .map(drop)
        .map_err(|error| Failure::image(to.path(), &error))
}

pub(crate) fn write_png(path: &Path, picture: &RgbImage) -> Result<(), Failure> {
    let mut bytes = io::Cursor::new(Vec::new());
    let encoded = picture.write_to(&mut bytes, ImageFormat::Png);
    encoded.map_err(|error| {
        Failure::Refused(format!(
            "cannot make the picture {}: {error}",
            path.display()
        ))
    })?;
    write_file(path, &bytes.into_inner())
}

/// A type in which something was found, and the swapfiles that it can be.
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

/// The kernel's figures for a cgroup: `swap` and `swap cache`, or `none` for each.
fn kernel_of(reading: &Reading, id: MemcgId, none: &str) -> [String; 2] {
    let figures = reading.figures.get(&id);
    figures.map_or([none, none].map(str::to_owned), |figures| {
        [figures.swap, figures.swapcached].map(|pages| pages.to_string())
    })
}

/// A row for each cgroup and type. Then come rows without a type: for each cgroup of which the kernel says more or less
/// than was found, for what removed cgroups left, and for the slots in no cgroup.
pub(crate) fn print_csv(reading: &Reading, out: &mut dyn Write) -> Result<(), Failure> {
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

pub(crate) fn print_json(reading: &Reading, out: &mut dyn Write) -> Result<(), Failure> {
    let all: HashMap<_, _> = owners_of_all(reading).into_iter().collect();
    let missing = Missing::new(reading, &all);
    let swapfiles = reading.swapfiles.iter().enumerate().map(|(line, file)| {
        let types = match type_of(reading, line) {
            Some(ty) => vec![ty],
            None => types_of(reading, line),
        };
        let types: Vec<String> = types.iter().map(SwapType::to_string).collect();
        let (name, types) = (json(&printable(&file.name)), types.join(", "));
        // Without the header's.
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
    // Those of which nothing was found come last.
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

/// What did not go smoothly, as members of the outermost object.
fn print_tally(tally: &Tally, out: &mut dyn Write) -> io::Result<()> {
    let unread = tally.unreadable + tally.restless;
    let first = tally.first_unreadable.as_deref();
    let first = first.map_or("null".to_owned(), |first| json(&printable(first)));
    let untold = tally.untold.iter();
    let untold: Vec<_> = untold.map(|(ty, nr)| format!("\"{ty}\": {nr}")).collect();
    for (name, nr) in [
        ("processes", tally.processes),
        ("unread_processes", unread),
        ("restless_processes", tally.restless),
        ("vanished", tally.vanished),
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
