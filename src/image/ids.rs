//! [`IdsWriter`]: an image of ids that a function gives, without a table.
//!
//! **Invariant: each unit is given to the function once, by one thread, and its row of the table of units is written by
//! that thread alone, from the bytes that it wrote.** So the checksums are those of the file, whatever the function does.

use core::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::vec::Vec;

use super::error::ImageError;
#[cfg(unix)]
use super::format::PAGE;
use super::format::{Layout, SUM_OF_ZEROS, Sums, TypeAt, UNIT, UNIT_ENTRY};
use super::read::Reader;
use super::replace::Replacement;
use super::room;
use super::write::{Sink, Stream, WRITE, Written, put_padded, put_pages};
use crate::entry::{SwapEntry, SwapType};
use crate::error::SwaponError;
use crate::scan::{self, Backend};

/// Writes an image of ids that a function gives, without a table: of a map that is made, or of another image with some
/// ids replaced.
///
/// The function is asked for up to 32,768 slots at a time, a [unit](super::Unit). It gets the first slot, and a slice of
/// zeros with an id for each slot, which it fills. Each slot is asked for once, units in any order.
///
/// ```
/// use swap_records::{SwapEntry, SwapType, image};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ty = SwapType::new(0).unwrap();
/// let mut bytes = Vec::new();
/// let made = image::IdsWriter::new([(ty, 100_000)])?.write_to(&mut bytes, |start, ids| {
///     for (slot, id) in (start.offset()..).zip(ids) {
///         *id = if slot % 2 == 0 { 7 } else { 0 };
///     }
///     Ok(())
/// })?;
/// assert_eq!(made.records, 50_000);
/// let records = image::Reader::of(&bytes)?.table()?;
/// assert_eq!(records.lookup(SwapEntry::new(ty, 4712).unwrap()).unwrap().get(), 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a writer writes when `write` or `write_to` is called"]
pub struct IdsWriter<'r> {
    layout: Layout,
    /// The section of a tree, without what fills its last page up; empty where there is none.
    tree: &'r [u8],
    threads: usize,
}

impl IdsWriter<'static> {
    /// Of these types, with their sizes in pages. They may come in any order.
    ///
    /// # Errors
    ///
    /// [`ImageError::Swapon`]: a type comes twice, has no pages, or more than a swap entry can address.
    pub fn new(types: impl IntoIterator<Item = (SwapType, u64)>) -> Result<Self, ImageError> {
        let mut types: Vec<_> = types.into_iter().collect();
        types.sort_unstable();
        if let Some(twice) = types.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(SwaponError::TypeOn { ty: twice[0].0 }.into());
        }
        let limit = SwapEntry::MAX_OFFSET + 1;
        for &(ty, max_pages) in &types {
            if max_pages == 0 {
                return Err(SwaponError::NoPages { ty }.into());
            }
            if max_pages > limit {
                let error = SwaponError::TooLarge {
                    ty,
                    max_pages,
                    limit,
                };
                return Err(error.into());
            }
        }
        Ok(Self {
            layout: Layout::new(types, 0),
            tree: &[],
            threads: 1,
        })
    }
}

impl<'r> IdsWriter<'r> {
    /// Of the types of an image, with its tree of cgroups if it has one.
    ///
    /// The tree is written as it is, whatever ids the records get: [`Reader::tree`] says what becomes of those that are
    /// not in it, and of limits that are exceeded.
    pub fn like(reader: &'r Reader<'_>) -> Self {
        let index = reader.index();
        let len = usize::try_from(index.layout.tree_len).unwrap_or(usize::MAX);
        Self {
            layout: index.layout.clone(),
            tree: index.tree.get(..len).unwrap_or(&index.tree),
            threads: 1,
        }
    }

    /// Calls the function on up to so many threads, this one among them, where a file is written. Each of them takes 1 MiB of
    /// memory. At first it is 1; 0 is as good as 1.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Writes the image to a file, in the place of what is there, whole or not at all: as [`write`](super::write()) does.
    ///
    /// # Errors
    ///
    /// As there; and an error of the function, with which no other call of it begins.
    pub fn write(
        &self,
        path: impl AsRef<Path>,
        fill: impl Fn(SwapEntry, &mut [u16]) -> Result<(), ImageError> + Sync,
    ) -> Result<Written, ImageError> {
        let path = path.as_ref();
        let new = Replacement::begin(path)?;
        #[cfg(unix)]
        let written = parallel::write(self, new.file(), path, &fill)?;
        #[cfg(not(unix))]
        let written = {
            let mut file = super::write::Sparse::new(new.file());
            self.emit(&mut file, Some(path), &fill)?
        };
        new.commit()?;
        Ok(written)
    }

    /// Writes the image to a stream, on this thread alone: as [`write_to`](super::write_to) does.
    ///
    /// # Errors
    ///
    /// As there; and an error of the function.
    pub fn write_to(
        &self,
        to: impl Write,
        fill: impl Fn(SwapEntry, &mut [u16]) -> Result<(), ImageError>,
    ) -> Result<Written, ImageError> {
        let mut stream = Stream::new(to)?;
        let written = self.emit(&mut stream, None, &fill)?;
        stream.flush().map_err(ImageError::io(WRITE, None))?;
        Ok(written)
    }

    fn emit(
        &self,
        to: &mut impl Sink,
        path: Option<&Path>,
        fill: &impl Fn(SwapEntry, &mut [u16]) -> Result<(), ImageError>,
    ) -> Result<Written, ImageError> {
        let failed = |error| ImageError::io(WRITE, path)(error);
        let mut rows = self.rows::<u64>()?;
        to.put(&self.layout.header().0).map_err(failed)?;
        let mut in_hand = InHand::new(1)?;
        for of in &self.layout.types {
            for unit in 0..of.units() {
                let row = in_hand.make(of, unit, fill)?;
                in_hand.put(to).map_err(failed)?;
                rows.push(row);
            }
        }
        self.emit_end(&rows, to, path)
    }

    /// An empty list with room for the table of units.
    fn rows<T>(&self) -> Result<Vec<T>, ImageError> {
        room(usize::try_from(self.layout.units).unwrap_or(usize::MAX))
    }

    /// Tree, table of units and trailer.
    fn emit_end(
        &self,
        rows: &[u64],
        to: &mut impl Sink,
        path: Option<&Path>,
    ) -> Result<Written, ImageError> {
        let failed = |error| ImageError::io(WRITE, path)(error);
        let mut sums = Sums {
            records: rows.iter().map(|row| row >> 32).sum(),
            tree: 0,
            units: 0,
        };
        if !self.tree.is_empty() {
            sums.tree = put_padded(self.tree, to).map_err(failed)?;
        }
        let mut table = room(rows.len().saturating_mul(UNIT_ENTRY))?;
        rows.iter()
            .for_each(|row| table.extend_from_slice(&row.to_le_bytes()));
        sums.units = put_padded(&table, to).map_err(failed)?;
        let trailer = self.layout.trailer(self.layout.header().sum(), &sums);
        to.put(&trailer.0).map_err(failed)?;
        Ok(Written {
            len: self.layout.len,
            records: sums.records,
        })
    }
}

impl fmt::Debug for IdsWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdsWriter")
            .field("types", &self.layout.types)
            .field("tree", &!self.tree.is_empty())
            .field("threads", &self.threads)
            .finish()
    }
}

/// Units that are written at once: 1 MiB, for few system calls, and pages of the system's cache that are large.
const TOGETHER: usize = 16;

/// The units that a thread works on.
struct InHand {
    ids: Vec<u16>,
    backend: Backend,
    /// How many ids are made, with those that fill the last page up.
    made: usize,
}

impl InHand {
    fn new(units: usize) -> Result<Self, ImageError> {
        let mut ids = room(units * UNIT)?;
        ids.resize(units * UNIT, 0);
        Ok(Self {
            ids,
            backend: Backend::detect(),
            made: 0,
        })
    }

    /// Makes this unit, behind those that are in hand. Gives its row of the table of units, as a little-endian number.
    fn make(
        &mut self,
        of: &TypeAt,
        unit: u64,
        fill: impl Fn(SwapEntry, &mut [u16]) -> Result<(), ImageError>,
    ) -> Result<u64, ImageError> {
        let (len, padded) = of.ids_in(unit);
        let Some(start) = SwapEntry::new(of.ty, unit * UNIT as u64) else {
            return Ok(0);
        };
        let ids = &mut self.ids[self.made..self.made + padded];
        self.made += padded;
        ids.fill(0);
        fill(start, &mut ids[..len])?;
        let records = padded as u64 - scan::count_ids(self.backend, ids, 0);
        // As the file has them.
        if cfg!(target_endian = "big") {
            ids.iter_mut().for_each(|id| *id = id.to_le());
        }
        let sum = if records == 0 && padded == UNIT {
            SUM_OF_ZEROS
        } else {
            crc32c::crc32c(bytemuck::cast_slice(ids))
        };
        Ok(u64::from(sum) | records << 32)
    }

    /// Writes what is in hand, pages without a record as holes.
    fn put(&mut self, to: &mut impl Sink) -> io::Result<()> {
        let made = core::mem::take(&mut self.made);
        put_pages(bytemuck::cast_slice(&self.ids[..made]), to)
    }
}

/// Several threads that write to a file, each unit to its place.
#[cfg(unix)]
mod parallel {
    use core::ops::Range;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::thread;

    use super::*;

    /// What the threads share.
    struct Job<'a, F> {
        writer: &'a IdsWriter<'a>,
        file: &'a File,
        path: &'a Path,
        fill: &'a F,
        /// The first claim that no thread has, counted over all types. Relaxed: it deals out numbers.
        next: AtomicU64,
        claims: u64,
        /// Written by the thread that has the unit, and read when all threads have ended.
        rows: Vec<AtomicU64>,
        result: Mutex<Result<(), ImageError>>,
    }

    pub(super) fn write<F>(
        writer: &IdsWriter<'_>,
        file: &File,
        path: &Path,
        fill: &F,
    ) -> Result<Written, ImageError>
    where
        F: Fn(SwapEntry, &mut [u16]) -> Result<(), ImageError> + Sync,
    {
        let failed = |error| ImageError::io(WRITE, Some(path))(error);
        let layout = &writer.layout;
        let mut rows = writer.rows()?;
        rows.resize_with(
            usize::try_from(layout.units).unwrap_or(0),
            AtomicU64::default,
        );
        let header = layout.header();
        file.write_all_at(&header.0, 0).map_err(failed)?;
        let claims = layout.types.iter().map(claims).sum();
        let job = Job {
            writer,
            file,
            path,
            fill,
            next: AtomicU64::new(0),
            claims,
            rows,
            result: Mutex::new(Ok(())),
        };
        let most = usize::try_from(claims).unwrap_or(usize::MAX);
        thread::scope(|scope| {
            for _ in 1..writer.threads.min(most) {
                // Those that there are do it.
                let thread = thread::Builder::new().spawn_scoped(scope, || job.take_part());
                if thread.is_err() {
                    break;
                }
            }
            job.take_part();
        });
        let result = job.result.into_inner();
        result.unwrap_or_else(PoisonError::into_inner)?;
        let mut done = writer.rows()?;
        done.extend(job.rows.into_iter().map(AtomicU64::into_inner));
        let at = if writer.tree.is_empty() {
            layout.units_at
        } else {
            layout.tree
        };
        let mut end = At { file, at };
        writer.emit_end(&done, &mut end, Some(path))
    }

    impl<F> Job<'_, F>
    where
        F: Fn(SwapEntry, &mut [u16]) -> Result<(), ImageError> + Sync,
    {
        fn take_part(&self) {
            if let Err(error) = self.work() {
                // The others have nothing to do any more.
                self.next.store(self.claims, Ordering::Relaxed);
                let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
                if result.is_ok() {
                    *result = Err(error);
                }
            }
        }

        fn work(&self) -> Result<(), ImageError> {
            let layout = &self.writer.layout;
            let failed = |error| ImageError::io(WRITE, Some(self.path))(error);
            let mut in_hand = InHand::new(TOGETHER)?;
            loop {
                let claim = |next: u64| (next < self.claims).then_some(next + 1);
                let claimed = self
                    .next
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim);
                let Ok(mut claim) = claimed else {
                    return Ok(());
                };
                for of in &layout.types {
                    if claim < claims(of) {
                        let bytes = self.make(of, claim, &mut in_hand)?;
                        let mut to = At {
                            file: self.file,
                            at: bytes.start,
                        };
                        in_hand.put(&mut to).map_err(failed)?;
                        if claim % BEGUN == BEGUN - 1 {
                            let len = bytes.end - bytes.start;
                            begin_to_write(self.file, bytes.end - BEGUN * len..bytes.end);
                        }
                        break;
                    }
                    claim -= claims(of);
                }
            }
        }

        /// Makes the units of a claim on a type. Gives the bytes of the file that they are.
        fn make(
            &self,
            of: &TypeAt,
            claim: u64,
            in_hand: &mut InHand,
        ) -> Result<Range<u64>, ImageError> {
            let first = claim * TOGETHER as u64;
            let end = of.units().min(first + TOGETHER as u64);
            for unit in first..end {
                let row = in_hand.make(of, unit, self.fill)?;
                let at = usize::try_from(of.first_unit + unit).ok();
                if let Some(to) = at.and_then(|at| self.rows.get(at)) {
                    to.store(row, Ordering::Relaxed);
                }
            }
            let len = in_hand.made * size_of::<u16>();
            let start = of.offset_of(first);
            Ok(start..start + len as u64)
        }
    }

    /// How often threads take units of a type.
    fn claims(of: &TypeAt) -> u64 {
        of.units().div_ceil(TOGETHER as u64)
    }

    /// Claims after which the system is asked to write what there is: 8 MiB.
    const BEGUN: u64 = 8;

    /// Has the system begin to write these bytes to the disk, so that there is less to wait for at the end. What other
    /// threads have not put there yet is written then.
    fn begin_to_write(file: &File, bytes: Range<u64>) {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;

            let start = libc::off64_t::try_from(bytes.start).unwrap_or(0);
            let len = libc::off64_t::try_from(bytes.end - bytes.start).unwrap_or(0);
            // SAFETY: a system call on numbers. It changes nothing of the file, and an error is one of the last sync, too.
            let _ = unsafe {
                libc::sync_file_range(file.as_raw_fd(), start, len, libc::SYNC_FILE_RANGE_WRITE)
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (file, bytes);
    }

    /// A place in a file that was empty.
    struct At<'f> {
        file: &'f File,
        at: u64,
    }

    impl Sink for At<'_> {
        fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.file.write_all_at(bytes, self.at)?;
            self.at += bytes.len() as u64;
            Ok(())
        }

        fn put_hole(&mut self) -> io::Result<()> {
            self.at += PAGE as u64;
            Ok(())
        }
    }
}
