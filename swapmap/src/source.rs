//! Reads images unit by unit, so the memory of a command does not grow with the image.
//!
//! An image is read and not mapped: a file that another program changes during the reading gives an error,
//! and never undefined behaviour. Each byte that is read is checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use swap_records::SwapType;
use swap_records::image::{ImageError, Reader, Unit};
use swapmap::names::shown;

use crate::failure::Failure;
use crate::progress::Progress;

/// The number of units that a thread takes at a time: 1 MiB.
const CLAIM: usize = 16;

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    pub(crate) reader: Reader<'static>,
}

impl Image {
    /// Opens an image, and checks everything but the ids.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let reader = Self::try_open(path)?.map_err(|error| Failure::image(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            reader,
        })
    }

    /// Opens an image. The inner error says that the file is not a complete image, the outer one that it
    /// cannot be read.
    pub(crate) fn try_open(path: &Path) -> Result<Result<Reader<'static>, ImageError>, Failure> {
        // A pipe or a device has no length, so it would be called truncated. A pipe without a writer would
        // block.
        let found =
            fs::metadata(path).map_err(|error| Failure::io("open the image", path, &error))?;
        if found.is_dir() {
            return Err(Failure::Refused(format!(
                "{} is a directory, and not an image: give the path of an image",
                shown(path)
            )));
        }
        if !found.is_file() {
            return Err(Failure::Refused(format!(
                "{} is a device, a pipe or a socket: save its contents to a file, and give the path of that file",
                shown(path)
            )));
        }
        match Reader::open(path) {
            Err(error @ (ImageError::Io { .. } | ImageError::OutOfMemory { .. })) => {
                Err(Failure::image(path, error))
            }
            other => Ok(other),
        }
    }

    pub(crate) fn name(&self) -> String {
        shown(&self.path)
    }

    pub(crate) fn fault(&self, error: ImageError) -> Failure {
        Failure::image(&self.path, error)
    }

    /// Returns the slots of all types.
    pub(crate) fn slots(&self) -> u64 {
        self.reader.types().map(|(_, pages)| pages).sum()
    }

    /// Returns the bytes of all ids.
    pub(crate) fn bytes(&self) -> u64 {
        self.reader.units().map(|unit| unit.bytes).sum()
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress::new(format!("reading {}", self.name()), self.bytes())
    }

    /// Returns the number of records of each type, from the table of units.
    pub(crate) fn records_by_type(&self) -> Vec<(SwapType, u64)> {
        let mut all: Vec<_> = self.reader.types().map(|(ty, _)| (ty, 0)).collect();
        for unit in self.reader.units().filter(|unit| unit.records > 0) {
            let of = unit.start.swap_type();
            if let Some((_, records)) = all.iter_mut().find(|(ty, _)| *ty == of) {
                *records += unit.records;
            }
        }
        all
    }

    /// Reads the units in order, on this thread.
    pub(crate) fn each_unit(
        &self,
        progress: &Progress,
        mut each: impl FnMut(Unit, &[u16]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut buffer = Vec::new();
        for unit in self.reader.units() {
            let ids = self.reader.read_ids(unit, &mut buffer);
            each(unit, ids.map_err(|error| self.fault(error))?)?;
            progress.add(unit.bytes);
        }
        Ok(())
    }

    /// Reads the units in any order, on all processors. Each thread has its own state; returns all states.
    pub(crate) fn each_unit_on_threads<T: Send>(
        &self,
        progress: &Progress,
        new: impl Fn() -> Result<T, Failure> + Sync,
        each: impl Fn(&mut T, Unit, Result<&[u16], ImageError>) -> Result<(), Failure> + Sync,
    ) -> Result<Vec<T>, Failure> {
        let units = Mutex::new(self.reader.units());
        let result = Mutex::new(Ok(Vec::new()));
        let work = || -> Result<T, Failure> {
            let mut state = new()?;
            let mut buffer = Vec::new();
            let mut claim = Vec::with_capacity(CLAIM);
            loop {
                {
                    let mut units = units.lock().unwrap_or_else(PoisonError::into_inner);
                    claim.extend(units.by_ref().take(CLAIM));
                }
                if claim.is_empty() {
                    return Ok(state);
                }
                let mut bytes = 0;
                for unit in claim.drain(..) {
                    let ids = self.reader.read_ids(unit, &mut buffer);
                    each(&mut state, unit, ids)?;
                    bytes += unit.bytes;
                }
                progress.add(bytes);
            }
        };
        let take_part = || {
            let done = work();
            let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *result, done) {
                (Ok(states), Ok(state)) => states.push(state),
                (Ok(_), Err(failure)) => {
                    *result = Err(failure);
                    // The other threads stop after their claim.
                    let mut units = units.lock().unwrap_or_else(PoisonError::into_inner);
                    units.by_ref().for_each(drop);
                }
                (Err(_), _) => {}
            }
        };
        let claims = self.bytes().div_ceil((CLAIM as u64) << 16);
        let threads =
            swap_records_sim::threads().min(usize::try_from(claims).unwrap_or(usize::MAX));
        thread::scope(|scope| {
            for _ in 1..threads {
                // The threads that have started do all the work.
                if thread::Builder::new()
                    .spawn_scoped(scope, take_part)
                    .is_err()
                {
                    break;
                }
            }
            take_part();
        });
        result.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
