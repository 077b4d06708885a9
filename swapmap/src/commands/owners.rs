//! `swapmap owners`: counts the slots of each id.

use std::io::Write;

use swap_records::image::Tally;
use swap_records::{MemcgId, SwapType};
use swapmap::forms::{json, list};

use super::{largest_first, percent, some};
use crate::cli::OwnersArgs;
use crate::failure::{Answer, Failure};
use crate::output::print;
use crate::source::Image;

/// A tally for each type of the image that has records.
struct ByType(Vec<(SwapType, Option<Tally>)>);

impl ByType {
    fn count(image: &Image) -> Result<Self, Failure> {
        let progress = image.progress();
        let none = || ByType(image.reader.types().map(|(ty, _)| (ty, None)).collect());
        let fault = |error| image.fault(error);
        let counted = image.each_unit_on_threads(
            &progress,
            || Ok(none()),
            |all, unit, ids| {
                let ids = ids.map_err(fault)?;
                let of = unit.start.swap_type();
                let to = all.0.iter_mut().find(|(ty, _)| *ty == of);
                if let Some((_, tally)) = to.filter(|_| !ids.is_empty()) {
                    let tally = match tally {
                        Some(tally) => tally,
                        None => tally.insert(Tally::new().map_err(fault)?),
                    };
                    tally.add(ids);
                }
                Ok(())
            },
        )?;
        let mut sum = none();
        for all in counted {
            for ((_, sum), (_, tally)) in sum.0.iter_mut().zip(all.0) {
                match (sum.as_mut(), tally) {
                    (Some(sum), Some(tally)) => sum.merge(&tally),
                    (None, some) => *sum = some,
                    (Some(_), None) => {}
                }
            }
        }
        Ok(sum)
    }

    /// Returns the owners of all types, largest first.
    fn owners(&self) -> Result<Vec<(MemcgId, u64)>, swap_records::image::ImageError> {
        let mut all = Tally::new()?;
        for (_, tally) in &self.0 {
            tally.iter().for_each(|tally| all.merge(tally));
        }
        Ok(largest_first(&all))
    }

    /// Returns each type, and the number of its slots that the id has.
    fn of(&self, id: MemcgId) -> impl Iterator<Item = (SwapType, u64)> {
        let counts = self.0.iter();
        counts.map(move |(ty, tally)| (*ty, tally.as_ref().map_or(0, |tally| tally.count(id))))
    }
}

pub(crate) fn run(args: &OwnersArgs) -> Result<Answer, Failure> {
    let image = Image::open(&args.file)?;
    let by_type = ByType::count(&image)?;
    let owners = by_type.owners().map_err(|error| image.fault(error))?;
    print(|out| {
        if args.json {
            print_json(&image, &by_type, &owners, out)
        } else if args.csv {
            print_csv(&by_type, &owners, out)
        } else {
            print_text(&image, &by_type, &owners, out)
        }
    })?;
    Ok(Answer::Done)
}

fn print_text(
    image: &Image,
    by_type: &ByType,
    owners: &[(MemcgId, u64)],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let records = image.reader.records();
    writeln!(
        out,
        "{} of {} have a record, of {}",
        records,
        some(image.slots(), "slot"),
        some(owners.len() as u64, "owner"),
    )?;
    let several = by_type.0.len() > 1;
    write!(out, "{:>8} {:>14} {:>7}", "id", "slots", "share")?;
    if several {
        for (ty, _) in &by_type.0 {
            write!(out, " {:>14}", format!("type {ty}"))?;
        }
    }
    writeln!(out)?;
    for &(id, slots) in owners {
        write!(out, "{id:>8} {slots:>14} {:>7}", percent(slots, records))?;
        if several {
            for (_, slots) in by_type.of(id) {
                write!(out, " {slots:>14}")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn print_csv(
    by_type: &ByType,
    owners: &[(MemcgId, u64)],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    writeln!(out, "id,type,slots")?;
    for &(id, _) in owners {
        for (ty, slots) in by_type.of(id).filter(|&(_, slots)| slots > 0) {
            writeln!(out, "{id},{ty},{slots}")?;
        }
    }
    Ok(())
}

fn print_json(
    image: &Image,
    by_type: &ByType,
    owners: &[(MemcgId, u64)],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let types = image.reader.types().zip(image.records_by_type());
    let types = types.map(|((ty, slots), (_, records))| {
        format!("{{\"type\": {ty}, \"slots\": {slots}, \"records\": {records}}}")
    });
    let owners = owners.iter().map(|&(id, slots)| {
        let by_type = by_type.of(id).filter(|&(_, slots)| slots > 0);
        let by_type = by_type.map(|(ty, slots)| format!("\"{ty}\": {slots}"));
        let by_type: Vec<_> = by_type.collect();
        let by_type = by_type.join(", ");
        format!("{{\"id\": {id}, \"slots\": {slots}, \"by_type\": {{{by_type}}}}}")
    });
    writeln!(out, "{{")?;
    writeln!(out, "  \"file\": {},", json(&image.name()))?;
    writeln!(out, "  \"slots\": {},", image.slots())?;
    writeln!(out, "  \"records\": {},", image.reader.records())?;
    list("types", types, out)?;
    writeln!(out, ",")?;
    list("owners", owners, out)?;
    writeln!(out, "\n}}")?;
    Ok(())
}
