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
    /// Turns a type on with the records of a file, once the returned [`SwaponFile`] is
    /// [`run`](SwaponFile::run).
    ///
    /// `max_pages` must be what the file was made for. The type is like any other then, until it is turned
    /// off: see
    /// [`file`](crate::file) for what stays in the file, and for an example.
    ///
    /// Needs feature `std`, on Linux, with `/proc`.
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

/// A swapon with a file, to be [`run`](Self::run): made by
/// [`swapon_file`](crate::SwapRecords::swapon_file).
#[must_use = "nothing is turned on before `run`"]
pub struct SwaponFile<'a, L = RawSpinLock> {
    table: &'a SwapRecords<L>,
    ty: SwapType,
    max_pages: u64,
    file: &'a RecordFile,
    options: Options<'a>,
}

/// What a [`SwaponFile`] found in its file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Reopened {
    /// Slots that have a record.
    pub records: u64,
    /// Regions, of [`REGION_ENTRIES`](crate::REGION_ENTRIES) slots, that have a record.
    pub regions: u64,
}

impl<'a, L: RawMutex> SwaponFile<'a, L> {
    /// Refuses a file that has records.
    pub(crate) fn empty(mut self) -> Self {
        self.options.empty = true;
        self
    }

    /// Lets [`run`](Self::run) use up to `n` threads, the calling one of them; 0 is as 1.
    ///
    /// There is no more than one for each 64 regions. Where the system gives no thread, those that there
    /// are do it. Threads are scoped: none is left when `run` returns. The standard library allocates some
    /// hundred bytes for each, and ends the process where it is refused them; on one thread, a `run` that
    /// gets no memory says so with an error.
    pub fn threads(mut self, n: usize) -> Self {
        self.options.threads = n;
        self
    }

    /// Has `progress` called on the calling thread: after each 64 regions that this thread did, which are 4
    /// MiB of the file and some milliseconds, and at the end.
    ///
    /// Each call reports what all threads have done so far. Only the calling thread makes calls. So where others
    /// are faster, or the file is small, there may be one call alone, at the end.
    ///
    /// No lock is held then. If it panics, the type is off, and the file as it was. The table may be used
    /// in it; the type is off for others until `run` has returned.
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

    /// Turns the type on, and says what is in the file.
    ///
    /// Takes the file's lock, looks at its header and length, maps it, and makes the index from all records.
    ///
    /// # Cost
    ///
    /// Reads the file, but for its holes: about a nanosecond per slot on one thread where owners take
    /// turns, and a tenth of it where they own long runs. (`cargo bench --bench reopen` measures it.) Takes
    /// 72 KiB of memory for each thread meanwhile, and what [`swapon`](crate::SwapRecords::swapon) takes.
    ///
    /// # Memory ordering
    ///
    /// All that the process before this one wrote is seen. Its threads had ended when the system took its
    /// lock from it, and this call reads after it got that lock.
    ///
    /// # Errors
    ///
    /// [`SwaponFileError`]: as for [`swapon`](crate::SwapRecords::swapon), or for what is wrong with the
    /// file. The type is off then, the file is as it was, and its lock is free.
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
