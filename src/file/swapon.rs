//! [`SwapRecords::swapon_file`].

use core::fmt;

use lock_api::RawMutex;

use super::{RecordFile, SwaponFileError};
use crate::entry::SwapType;
use crate::error::SwaponError;
use crate::rebuild::Progress;
use crate::swapfile::{NotOn, Options};
use crate::sync::RawSpinLock;
use crate::table::{SwapRecords, check_pages};

impl<L: RawMutex> SwapRecords<L> {
    /// Prepares to turn a type on with the records of a file. [`SwaponFile::run`] turns it on.
    ///
    /// `max_pages` must be the number of slots that the file was made for. The size is asked for so that a file
    /// of another swapfile is refused. A caller that knows no size but the file's own passes
    /// [`file.max_pages()`](RecordFile::max_pages).
    ///
    /// Until it is turned off, the type works like any other. The module [`file`](crate::file) says which records
    /// stay in the file, and has an example.
    ///
    /// Needs feature `std`, and Linux with `/proc`.
    pub fn swapon_file<'a>(
        &'a self,
        ty: SwapType,
        max_pages: u64,
        file: &'a RecordFile,
    ) -> SwaponFile<'a, L> {
        SwaponFile {
            table: self,
            ty,
            max_pages,
            file,
            options: Options {
                threads: 1,
                progress: None,
                empty: false,
            },
        }
    }
}

/// Turns a type on with a file, when it is [`run`](Self::run). Made by
/// [`swapon_file`](crate::SwapRecords::swapon_file).
#[must_use = "the type is turned on when `run` is called"]
pub struct SwaponFile<'a, L = RawSpinLock> {
    table: &'a SwapRecords<L>,
    ty: SwapType,
    max_pages: u64,
    file: &'a RecordFile,
    options: Options<'a>,
}

/// Counts the records that a [`SwaponFile`] found in its file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Reopened {
    /// The number of slots that have a record.
    pub records: u64,
    /// The number of regions, of [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots, that have a record.
    pub regions: u64,
}

impl<'a, L: RawMutex> SwaponFile<'a, L> {
    /// Refuses a file that has records.
    pub(crate) fn empty(mut self) -> Self {
        self.options.empty = true;
        self
    }

    /// Lets [`run`](Self::run) use up to `n` threads, including the calling thread. 0 counts as 1.
    ///
    /// `run` uses at most one thread per 64 regions. If the system refuses a thread, the others do its work.
    /// All threads have ended when `run` returns. The standard library allocates a few hundred bytes per
    /// thread, and ends the process if that fails. On one thread, `run` returns an error if there is no
    /// memory.
    pub fn threads(mut self, n: usize) -> Self {
        self.options.threads = n;
        self
    }

    /// Calls `progress` on the calling thread: each time that this thread has done 64 regions, and at the
    /// end. 64 regions are 4 MiB of the file and take a few milliseconds.
    ///
    /// Each call reports the work of all threads. Only the calling thread makes calls, so there may be a
    /// single call, at the end, if other threads are faster or the file is small.
    ///
    /// No lock is held during a call, and `progress` may use the table. The type is off for all threads until
    /// `run` returns. If `progress` panics, the type is off and the file is unchanged.
    ///
    /// ```
    /// # use swap_records::file::RecordFile;
    /// # use swap_records::{Progress, SwapRecords, SwapType};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ty = SwapType::new(0).unwrap();
    /// # let file = RecordFile::memfd(1 << 20)?;
    /// # let records = SwapRecords::new();
    /// let mut done = 0;
    /// let mut progress = |progress: Progress| done = 100 * progress.done / progress.total;
    /// records.swapon_file(ty, 1 << 20, &file).progress(&mut progress).run()?;
    /// assert_eq!(done, 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn progress(mut self, progress: &'a mut dyn FnMut(Progress)) -> Self {
        self.options.progress = Some(progress);
        self
    }

    /// Turns the type on, and returns how many records the file has.
    ///
    /// Locks the file, checks its header and length, maps it, and makes the index from its records.
    ///
    /// # Cost
    ///
    /// Reads the file except for its holes. On one thread, that takes about 1 ns per slot if owners
    /// alternate. Long runs of one owner take a tenth of that. (`cargo bench --bench reopen` measures both.)
    /// Takes 72 KiB of memory per thread during the call, and the memory of
    /// [`swapon`](crate::SwapRecords::swapon).
    ///
    /// # Memory ordering
    ///
    /// Sees everything that the previous process wrote: its threads had ended when the system released its
    /// lock, and this call reads after it takes that lock.
    ///
    /// # Errors
    ///
    /// [`SwaponFileError`]: as for [`swapon`](crate::SwapRecords::swapon), or because the file was refused. The type
    /// is then off, the file is unchanged, and its lock is free.
    pub fn run(self) -> Result<Reopened, SwaponFileError> {
        let Self {
            table,
            ty,
            max_pages,
            file,
            options,
        } = self;
        check_pages(ty, max_pages)?;
        let on = table.file(ty).swapon_file(max_pages, file.file(), options);
        let found = on.map_err(|not_on| match not_on {
            NotOn::On => SwaponError::TypeOn { ty }.into(),
            NotOn::Refused(refused) => SwaponError::OutOfMemory {
                ty,
                max_pages,
                bytes: refused.bytes,
            }
            .into(),
            NotOn::File(why) => SwaponFileError::File { ty, why },
            NotOn::Records(records) => SwaponFileError::HasRecords { ty, records },
        })?;
        Ok(Reopened {
            records: found.records,
            regions: found.regions,
        })
    }
}

impl<L> fmt::Debug for SwaponFile<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwaponFile")
            .field("ty", &self.ty)
            .field("max_pages", &self.max_pages)
            .field("file", &self.file)
            .field("threads", &self.options.threads)
            .finish_non_exhaustive()
    }
}
