//! `swapmap reparent`: writes an image in which all records of one id have another one.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use swap_records::SwapEntry;
use swap_records::image::{IdsWriter, ImageError};

use super::some;
use crate::cli::ReparentArgs;
use crate::failure::{Answer, Failure};
use crate::output::{Destination, print};
use crate::progress::Progress;
use crate::signals::Stop;
use crate::source::Image;

thread_local! {
    /// The ids of a unit.
    static BUFFER: RefCell<Vec<u16>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn run(args: &ReparentArgs) -> Result<Answer, Failure> {
    let (old, new) = (args.old, args.new);
    if old == new {
        return Err(Failure::Usage(format!(
            "OLD and NEW are both {old}: give two ids that differ"
        )));
    }
    let image = Image::open(&args.file)?;
    let to = Destination::new(&args.output, &[&args.file])?;
    let progress = Progress::new(format!("writing {}", to.name()), image.bytes());
    // Relaxed: it is read after all threads have ended.
    let moved = AtomicU64::new(0);
    let fill = |start: SwapEntry, ids: &mut [u16]| -> Result<(), ImageError> {
        BUFFER.with_borrow_mut(|buffer| {
            let Some(unit) = image.reader.unit_of(start) else {
                return Ok(());
            };
            let from = image.reader.read_ids(unit, buffer)?;
            let mut found = 0;
            for (id, &from) in ids.iter_mut().zip(from) {
                let is_old = from == old.get();
                *id = if is_old { new.get() } else { from };
                found += u64::from(is_old);
            }
            moved.fetch_add(found, Ordering::Relaxed);
            progress.add(unit.bytes);
            Ok(())
        })
    };
    let writer = IdsWriter::like(&image.reader).threads(swap_records_sim::threads());
    write(&writer, &to, fill, &image.path)?;
    drop(progress);
    let moved = some(moved.into_inner(), "record");
    say(
        &to,
        &format!("{moved} of {old} moved to {new}: {}", to.name()),
    )?;
    Ok(Answer::Done)
}

/// Writes an image to `to`. An error that is not an [`Io`](ImageError::Io) of a file is about `input`.
///
/// SIGINT, SIGTERM and SIGHUP stop the write of a file before its next unit. The process then removes the
/// incomplete file, and ends by the signal. A signal that arrives while the complete image is synced does not
/// stop it.
pub(super) fn write(
    writer: &IdsWriter<'_>,
    to: &Destination,
    fill: impl Fn(SwapEntry, &mut [u16]) -> Result<(), ImageError> + Sync,
    input: &std::path::Path,
) -> Result<(), Failure> {
    let done = match to {
        Destination::File(path) => {
            let stop = Stop::begin();
            let done = writer.write(path, |start, ids: &mut [u16]| {
                if stop.requested() {
                    let source = io::ErrorKind::Interrupted.into();
                    let (doing, path) = ("write the image", None);
                    return Err(ImageError::Io {
                        doing,
                        path,
                        source,
                    });
                }
                fill(start, ids)
            });
            if done.is_err() && stop.requested() {
                let _ = writeln!(
                    io::stderr(),
                    "swapmap: stopped by a signal: {} is as it was before",
                    to.name()
                );
                stop.end_by_signal();
            }
            done
        }
        Destination::Stdout => writer.write_to(io::stdout().lock(), fill),
    };
    match done {
        Ok(_) => Ok(()),
        // Standard output: an error of a file has its path.
        Err(ImageError::Io {
            path: None, source, ..
        }) => Err(Failure::Output(source)),
        Err(error) => Err(Failure::image(input, error)),
    }
}

/// Prints what was done: on standard error if the image went to standard output.
pub(super) fn say(to: &Destination, text: &str) -> Result<(), Failure> {
    match to {
        Destination::File(_) => print(|out| Ok(writeln!(out, "{text}")?)),
        Destination::Stdout => {
            // If this fails, there is no other place for the text.
            let _ = writeln!(io::stderr(), "swapmap: {text}");
            Ok(())
        }
    }
}
