//! `swapmap show`: shows an image as text, and as a picture.

use std::collections::HashMap;
use std::io::Write;

use swap_records::image::Tally;
use swap_records::{MemcgId, SwapType};
use swapmap::map_picture::{Cells, Type, draw, slots_of_pixel};
use swapmap::names::shown;

use super::live_files::write_png;
use super::{largest_first, percent, some};
use crate::cli::ShowArgs;
use crate::failure::{Answer, Failure};
use crate::output::{is_same, picture_to_write, print};
use crate::source::Image;

/// Characters per row.
const WIDTH: u64 = 64;
/// The characters of the owners, largest first; of all other owners; and of slots without a record.
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const OTHERS: char = '*';
const NONE: char = '.';

type Owners = Vec<(MemcgId, u64)>;

/// The cells of a type, for the text and for the picture.
struct Seen {
    ty: SwapType,
    pages: u64,
    slots_of_cell: u64,
    text: Vec<(u64, MemcgId)>,
    slots_of_pixel: u64,
    pixels: Vec<(u64, MemcgId)>,
}

pub(crate) fn run(args: &ShowArgs) -> Result<Answer, Failure> {
    let image = Image::open(&args.file)?;
    if let Some(png) = &args.png {
        if is_same(png, &args.file) {
            return Err(Failure::Usage(format!(
                "{} is the image: give the picture another path",
                shown(png)
            )));
        }
        // An output that cannot be written is refused before the image is read.
        picture_to_write(png)?;
    }
    let (seen, owners) = look(&image, args)?;
    let printed = print(|out| text(&image, &seen, &owners, out));
    match printed {
        // The picture is written also where the reader of the pipe has ended.
        Err(failure) if failure.is_closed_pipe() => {}
        other => other?,
    }
    let Some(png) = &args.png else {
        return Ok(Answer::Done);
    };
    let types = seen.into_iter().map(|seen| Type {
        ty: seen.ty,
        pages: seen.pages,
        slots_of_pixel: seen.slots_of_pixel,
        pixels: seen.pixels,
    });
    write_png(png, &draw(types.collect(), owners))?;
    Ok(Answer::Done)
}

/// Returns the slots per cell for which a type of this size has at most `rows` rows.
fn slots_of_cell(pages: u64, rows: u64) -> u64 {
    pages.div_ceil(WIDTH * rows).next_power_of_two()
}

/// Reads the whole image. Returns the cells of each type, and the owners, largest first.
fn look(image: &Image, args: &ShowArgs) -> Result<(Vec<Seen>, Owners), Failure> {
    let progress = image.progress();
    let mut tally = Tally::new().map_err(|error| image.fault(error))?;
    let with_picture = args.png.is_some();
    let mut cells: Vec<_> = image
        .reader
        .types()
        .map(|(ty, pages)| {
            let text = Cells::new(slots_of_cell(pages, args.rows.into()));
            let picture = with_picture.then(|| Cells::new(slots_of_pixel(pages)));
            (ty, pages, text, picture)
        })
        .collect();
    image.each_unit(&progress, |unit, ids| {
        tally.add(ids);
        let of = unit.start.swap_type();
        let to = cells.iter_mut().find(|(ty, ..)| *ty == of);
        if let Some((_, _, text, picture)) = to {
            text.add(unit.start.offset(), ids);
            if let Some(picture) = picture {
                picture.add(unit.start.offset(), ids);
            }
        }
        Ok(())
    })?;
    let seen = cells.into_iter().map(|(ty, pages, text, picture)| Seen {
        ty,
        pages,
        slots_of_cell: text.slots(),
        text: text.end(),
        slots_of_pixel: picture.as_ref().map_or(1, Cells::slots),
        pixels: picture.map_or_else(Vec::new, Cells::end),
    });
    Ok((seen.collect(), largest_first(&tally)))
}

fn text(
    image: &Image,
    seen: &[Seen],
    owners: &[(MemcgId, u64)],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let records = image.reader.records();
    let slots = image.slots();
    write!(
        out,
        "{}: {records} of {} ({}) have a record, of {}",
        image.name(),
        some(slots, "slot"),
        percent(records, slots),
        some(owners.len() as u64, "owner"),
    )?;
    let tree = if image.reader.has_tree() {
        "; with a tree of cgroups"
    } else {
        ""
    };
    writeln!(out, "{tree}")?;
    let letters: HashMap<MemcgId, char> = owners
        .iter()
        .zip(LETTERS.chars())
        .map(|(&(id, _), letter)| (id, letter))
        .collect();
    for seen in seen {
        rows(seen, &letters, out)?;
    }
    legend(owners, records, out)
}

/// Writes the rows of a type.
fn rows(seen: &Seen, letters: &HashMap<MemcgId, char>, out: &mut dyn Write) -> Result<(), Failure> {
    let of = match seen.slots_of_cell {
        1 => "the owner of a slot".to_owned(),
        slots => format!("the most frequent owner of {slots} slots"),
    };
    let (ty, slots) = (seen.ty, some(seen.pages, "slot"));
    writeln!(out, "\ntype {ty}: {slots}, a letter is {of}")?;
    let cells = seen.pages.div_ceil(seen.slots_of_cell);
    let mut owned = seen.text.iter().peekable();
    for first in (0..cells).step_by(usize::try_from(WIDTH).unwrap_or(1)) {
        let end = cells.min(first + WIDTH);
        let row: String = (first..end)
            .map(|cell| match owned.next_if(|(at, _)| *at == cell) {
                Some((_, id)) => letters.get(id).copied().unwrap_or(OTHERS),
                None => NONE,
            })
            .collect();
        writeln!(out, "{:>16}  {row}", first * seen.slots_of_cell)?;
    }
    Ok(())
}

/// Writes the owners of the letters, four per line.
fn legend(owners: &[(MemcgId, u64)], records: u64, out: &mut dyn Write) -> Result<(), Failure> {
    let (named, others) = owners.split_at(owners.len().min(LETTERS.len()));
    let mut entries: Vec<_> = named
        .iter()
        .zip(LETTERS.chars())
        .map(|(&(id, slots), letter)| format!("{letter} {id} {}", percent(slots, records)))
        .collect();
    if !others.is_empty() {
        let slots = others.iter().map(|&(_, slots)| slots).sum();
        let share = percent(slots, records);
        entries.push(format!(
            "{OTHERS} {} {share}",
            some(others.len() as u64, "other")
        ));
    }
    entries.push(format!("{NONE} none"));
    writeln!(out)?;
    for four in entries.chunks(4) {
        let line: String = four.iter().map(|entry| format!("{entry:<20}")).collect();
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_at_most_the_requested_rows() {
        for rows in [1, 16, 1000] {
            for pages in [1, 63, 1024, 1025, 1 << 29, 1 << 50] {
                let slots = slots_of_cell(pages, rows);
                assert!(pages.div_ceil(slots).div_ceil(WIDTH) <= rows, "{pages}");
            }
        }
        assert_eq!(slots_of_cell(1024, 16), 1);
    }
}
