//! `swapmap verify`: checks that images are whole.

use std::io::Write;
use std::path::Path;

use swap_records::image::{ImageError, Reader};
use swapmap::names::shown;

use super::some;
use crate::cli::VerifyArgs;
use crate::failure::{Answer, Failure};
use crate::output::print;
use crate::source::Image;

/// The number of faults of a file that are printed one by one.
const MOST: usize = 20;

pub(crate) fn run(args: &VerifyArgs) -> Result<Answer, Failure> {
    let mut answer = Answer::Done;
    for path in &args.files {
        match verify(path) {
            Ok(Answer::Done) => {}
            // The highest exit code of all files counts.
            Ok(_) if answer == Answer::Unread => {}
            Ok(other) => answer = other,
            Err(Failure::Output(error)) => return Err(Failure::Output(error)),
            // The other files are checked all the same.
            Err(failure) => {
                failure.say();
                answer = Answer::Unread;
            }
        }
    }
    Ok(answer)
}

fn verify(path: &Path) -> Result<Answer, Failure> {
    let faults = match Image::try_open(path)? {
        Ok(reader) => {
            let image = Image {
                path: path.to_owned(),
                reader,
            };
            let faults = faults_of(&image)?;
            if faults.is_empty() {
                print(|out| say_whole(path, &image.reader, out))?;
                return Ok(Answer::Done);
            }
            faults
        }
        // After this error the units cannot be checked.
        Err(error) => vec![(0, error)],
    };
    match print(|out| say_faults(path, &faults, out)) {
        // The faults count also where the reader of the pipe has ended.
        Err(failure) if failure.is_closed_pipe() => {}
        other => other?,
    }
    Ok(Answer::No)
}

/// Returns the fault of each damaged unit, in the order of the file.
fn faults_of(image: &Image) -> Result<Vec<(u64, ImageError)>, Failure> {
    let progress = image.progress();
    let faults = image.each_unit_on_threads(
        &progress,
        || Ok(Vec::new()),
        |faults, unit, ids| match ids {
            Ok(_) => Ok(()),
            // A file that cannot be read may be whole.
            Err(error @ (ImageError::Io { .. } | ImageError::OutOfMemory { .. })) => {
                Err(image.fault(error))
            }
            Err(error) => {
                faults.push((unit.offset, error));
                Ok(())
            }
        },
    )?;
    let mut faults: Vec<_> = faults.into_iter().flatten().collect();
    faults.sort_by_key(|(offset, _)| *offset);
    Ok(faults)
}

fn say_whole(path: &Path, reader: &Reader<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let types = reader.types().count() as u64;
    let tree = if reader.has_tree() {
        ", with a tree of cgroups"
    } else {
        ""
    };
    let name = shown(path);
    let (types, records) = (some(types, "swap type"), some(reader.records(), "record"));
    writeln!(out, "{name}: whole, {types}, {records}{tree}")?;
    Ok(())
}

fn say_faults(
    path: &Path,
    faults: &[(u64, ImageError)],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let name = shown(path);
    for (_, fault) in faults.iter().take(MOST) {
        writeln!(out, "{name}: {fault}")?;
    }
    if faults.len() > MOST {
        let more = some((faults.len() - MOST) as u64, "more fault");
        writeln!(out, "{name}: {more}")?;
    }
    Ok(())
}
