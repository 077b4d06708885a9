//! `swapmap diff`: prints the slots whose owners differ between two images.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::io::Write;

use swap_records::image::Unit;
use swap_records::{MemcgId, SwapEntry, SwapType};

use super::some;
use crate::cli::DiffArgs;
use crate::failure::{Answer, Failure};
use crate::output::print;
use crate::progress::Progress;
use crate::source::Image;

/// Consecutive slots that differ in the same two ids.
#[derive(Clone, Copy)]
struct Run {
    ty: SwapType,
    start: u64,
    len: u64,
    ids: (u16, u16),
}

/// The differences: runs are printed as they are found, or added up by their ids.
struct Found<'o> {
    out: &'o mut dyn Write,
    by_pair: Option<HashMap<(u16, u16), u64>>,
    open: Option<Run>,
    slots: u64,
    others: u64,
}

impl Found<'_> {
    /// Prints a difference that is not one of slots.
    fn other(&mut self, text: &str) -> Result<(), Failure> {
        self.others += 1;
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    fn slots(
        &mut self,
        ty: SwapType,
        start: u64,
        len: u64,
        ids: (u16, u16),
    ) -> Result<(), Failure> {
        self.slots += len;
        match &mut self.open {
            Some(run) if run.ty == ty && run.ids == ids && run.start + run.len == start => {
                run.len += len;
                Ok(())
            }
            _ => {
                self.end()?;
                self.open = Some(Run {
                    ty,
                    start,
                    len,
                    ids,
                });
                Ok(())
            }
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        let Some(run) = self.open.take() else {
            return Ok(());
        };
        if let Some(pairs) = &mut self.by_pair {
            *pairs.entry(run.ids).or_default() += run.len;
            return Ok(());
        }
        let (old, new) = (name(run.ids.0), name(run.ids.1));
        let end = run.start + run.len;
        let (ty, start, len) = (run.ty, run.start, some(run.len, "slot"));
        writeln!(self.out, "type {ty}, {start}..{end}, {len}: {old} -> {new}")?;
        Ok(())
    }

    fn summary(&mut self) -> Result<(), Failure> {
        self.end()?;
        if let Some(pairs) = self.by_pair.take() {
            let mut pairs: Vec<_> = pairs.into_iter().collect();
            pairs.sort_by_key(|&(ids, slots)| (Reverse(slots), ids));
            for ((old, new), slots) in pairs {
                writeln!(self.out, "{slots:>14}  {} -> {}", name(old), name(new))?;
            }
        }
        if self.slots > 0 {
            let verb = if self.slots == 1 { "differs" } else { "differ" };
            writeln!(self.out, "{} {verb}", some(self.slots, "slot"))?;
        }
        Ok(())
    }

    fn answer(&self) -> Answer {
        if self.slots > 0 || self.others > 0 {
            Answer::No
        } else {
            Answer::Done
        }
    }
}

/// Returns an owner as text, or `none`.
fn name(id: u16) -> String {
    MemcgId::new(id).map_or_else(|| "none".to_owned(), |id| id.to_string())
}

pub(crate) fn run(args: &DiffArgs) -> Result<Answer, Failure> {
    let (a, b) = (Image::open(&args.a)?, Image::open(&args.b)?);
    let progress = Progress::beside_text(
        format!("comparing {} and {}", a.name(), b.name()),
        a.bytes() + b.bytes(),
    );
    let mut answer = Answer::Done;
    let printed = print(|out| {
        let mut found = Found {
            out,
            by_pair: args.summary.then(HashMap::new),
            open: None,
            slots: 0,
            others: 0,
        };
        let done = compare(&a, &b, &progress, &mut found).and_then(|()| found.summary());
        answer = found.answer();
        done
    });
    match printed {
        // The answer holds also where the reader of the pipe has ended.
        Err(failure) if failure.is_closed_pipe() && answer == Answer::No => Ok(answer),
        other => other.map(|()| answer),
    }
}

fn compare(
    a: &Image,
    b: &Image,
    progress: &Progress,
    found: &mut Found<'_>,
) -> Result<(), Failure> {
    let types = |image: &Image| image.reader.types().collect::<HashMap<_, _>>();
    let sizes = (types(a), types(b));
    let all: BTreeSet<SwapType> = sizes.0.keys().chain(sizes.1.keys()).copied().collect();
    for &ty in &all {
        match (sizes.0.get(&ty), sizes.1.get(&ty)) {
            (Some(pages), None) => {
                let slots = some(*pages, "slot");
                found.other(&format!("type {ty}: {slots} in {} alone", a.name()))?;
            }
            (None, Some(pages)) => {
                let slots = some(*pages, "slot");
                found.other(&format!("type {ty}: {slots} in {} alone", b.name()))?;
            }
            (Some(in_a), Some(in_b)) if in_a != in_b => {
                let slots = some(*in_b, "slot");
                found.other(&format!("type {ty}: {in_a} -> {slots}"))?;
            }
            _ => {}
        }
    }
    match (a.reader.has_tree(), b.reader.has_tree()) {
        (true, false) => found.other(&format!("a tree of cgroups in {} alone", a.name()))?,
        (false, true) => found.other(&format!("a tree of cgroups in {} alone", b.name()))?,
        _ if !a.reader.same_tree(&b.reader) => found.other("the trees of cgroups differ")?,
        _ => {}
    }
    let mut buffers = (Vec::new(), Vec::new());
    for &ty in &all {
        let pages = sizes.0.get(&ty).max(sizes.1.get(&ty)).copied().unwrap_or(0);
        let mut slot = 0;
        while slot < pages {
            let Some(entry) = SwapEntry::new(ty, slot) else {
                break;
            };
            // The units of both images begin at the same slots.
            let units = (a.reader.unit_of(entry), b.reader.unit_of(entry));
            let ids_a = read(a, units.0, &mut buffers.0, progress)?;
            let ids_b = read(b, units.1, &mut buffers.1, progress)?;
            compare_ids(ty, slot, ids_a, ids_b, found)?;
            let len = |unit: Option<Unit>| unit.map_or(0, |unit| unit.len);
            slot += len(units.0).max(len(units.1)).max(1);
        }
    }
    Ok(())
}

/// Reads the ids of a unit. Returns no ids if the image does not have the unit.
fn read<'i>(
    image: &Image,
    unit: Option<Unit>,
    ids: &'i mut Vec<u16>,
    progress: &Progress,
) -> Result<&'i [u16], Failure> {
    let Some(unit) = unit else { return Ok(&[]) };
    let ids = image.reader.read_ids(unit, ids);
    progress.add(unit.bytes);
    ids.map_err(|error| image.fault(error))
}

/// Compares the ids of both images. A slot past the end of one has no record in it.
fn compare_ids(
    ty: SwapType,
    start: u64,
    a: &[u16],
    b: &[u16],
    found: &mut Found<'_>,
) -> Result<(), Failure> {
    /// The number of ids that are compared at once, before each is compared.
    const TOGETHER: usize = 512;
    let longer = a.len().max(b.len());
    let get = |ids: &[u16], at| ids.get(at).copied().unwrap_or(0);
    for from in (0..longer).step_by(TOGETHER) {
        let to = longer.min(from + TOGETHER);
        if a.get(from..to).is_some_and(|a| b.get(from..to) == Some(a)) {
            continue;
        }
        for at in from..to {
            let ids = (get(a, at), get(b, at));
            if ids.0 != ids.1 {
                found.slots(ty, start + at as u64, 1, ids)?;
            }
        }
    }
    Ok(())
}
