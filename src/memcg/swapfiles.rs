//! Turns the swapfiles of a tree on and off, and manages their memory.

use lock_api::RawMutex;

use super::{Backoff, Memcgs};
use crate::entry::{SwapEntry, SwapType};
use crate::error::EntryError;
use crate::memory::Trim;
use crate::span::Span;
use crate::sync::{AtomicU64, Ordering};

impl<L: RawMutex> Memcgs<L> {
    /// Turns a type on, with `max_pages` slots and no records: see
    /// [`SwapRecords::swapon`](crate::SwapRecords::swapon).
    ///
    /// # Errors
    ///
    /// As for [`SwapRecords::swapon`](crate::SwapRecords::swapon).
    pub fn swapon(&self, ty: SwapType, max_pages: u64) -> Result<(), crate::SwaponError> {
        self.records.swapon(ty, max_pages)
    }

    /// Turns a type on with a file that has no records. Records of the type then lie in the file and outlive
    /// the process: see [`file`](crate::file). It may be called while the tree is in use. A file that
    /// [`swapoff`](Self::swapoff) has emptied may be turned on again.
    ///
    /// A file with records, which an earlier process wrote, is refused. Turn it on with
    /// [`SwapRecords::swapon_file`](crate::SwapRecords::swapon_file). Then make the tree over that table with
    /// [`with_records`](Self::with_records) or [`image::Reader::tree_over`](crate::image::Reader::tree_over),
    /// which charge each owner for its records.
    ///
    /// ```
    /// use swap_records::file::RecordFile;
    /// use swap_records::memcg::Memcgs;
    /// # use swap_records::{SwapEntry, SwapRecords, SwapType};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ty = SwapType::new(0).unwrap();
    /// let file = RecordFile::memfd(1000)?;
    /// let memcgs = Memcgs::new();
    /// memcgs.swapon_file(ty, 1000, &file)?;
    /// let child = memcgs.create(memcgs.root())?;
    /// memcgs.charge(child, 3)?;
    /// memcgs.swap_out(child, SwapEntry::new(ty, 0).unwrap(), 3)?;
    /// drop(memcgs); // or the process is killed
    ///
    /// let records = SwapRecords::new();
    /// records.swapon_file(ty, 1000, &file).run()?;
    /// let again = Memcgs::with_records(records, [])?;
    /// let child = again.find(child.id()).unwrap();
    /// assert_eq!(again.usage(child)?.swap, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`HasRecords`](crate::file::SwaponFileError::HasRecords) if the file has records, and otherwise as for
    /// [`SwaponFile::run`](crate::file::SwaponFile::run). The type is off then, and the file is unchanged.
    #[cfg(all(feature = "std", target_os = "linux", not(swap_records_loom)))]
    pub fn swapon_file(
        &self,
        ty: SwapType,
        max_pages: u64,
        file: &crate::file::RecordFile,
    ) -> Result<(), crate::file::SwaponFileError> {
        let on = self.records.swapon_file(ty, max_pages, file);
        on.empty().run().map(|_| ())
    }

    /// Turns a type off: refuses new records for it, and frees all of its slots as
    /// [`free_swap`](Self::free_swap) does. Returns the number of records that this call freed. It allocates
    /// nothing.
    ///
    /// This crate does not read pages back: to keep them, swap them in first. Other types and all cgroups can
    /// be used meanwhile. Operations on the type that only free or move records go on until no record is
    /// left.
    ///
    /// ```
    /// # use swap_records::memcg::Memcgs;
    /// # use swap_records::{SwapEntry, SwapType};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ty = SwapType::new(0).unwrap();
    /// # let memcgs = Memcgs::new();
    /// # memcgs.swapon(ty, 1 << 20)?;
    /// # let parent = memcgs.create(memcgs.root())?;
    /// # let child = memcgs.create(parent)?;
    /// # let slot = |offset| SwapEntry::new(ty, offset).unwrap();
    /// memcgs.charge(child, 4)?;
    /// memcgs.swap_out(child, slot(0), 4)?;
    /// assert_eq!(memcgs.swapoff(ty)?, 4);
    /// assert_eq!(memcgs.usage(child)?.memsw, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EntryError::TypeOff`] if the type is off, or another thread is turning it on or off.
    ///
    /// # Cost
    ///
    /// A walk over the regions that have records. It waits for the operations that are under way at least
    /// twice; of long ones, for one region.
    pub fn swapoff(&self, ty: SwapType) -> Result<u64, EntryError> {
        let off = EntryError::TypeOff { ty, offset: None };
        let on = self.records.file(ty).on().ok_or(off)?;
        let stopping = &self.stopping[usize::from(ty.get())];
        let _stopping = Stopping::begin(stopping, on.generation()).ok_or(off)?;
        // No other thread can turn this generation off from here on. One may have done so before.
        let start = SwapEntry::new(ty, 0).filter(|_| on.is_still_on());
        let all = Span::new(on, start.ok_or(off)?, on.max_pages())?;
        // After this, all operations that did not see the flag have ended.
        self.grace.synchronize();
        let mut dropped = 0;
        let backoff = Backoff::new();
        loop {
            dropped += self.free(all, |_| ())?;
            // After this, each thread that was freeing slots has counted what it freed.
            self.grace.synchronize();
            if self.records_on(ty) <= 0 {
                break;
            }
            // Another thread is still freeing slots.
            backoff.snooze();
        }
        let off = self.records.swapoff(ty);
        debug_assert!(
            !matches!(off, Ok(1..)),
            "the table still had records without a charge: {off:?}"
        );
        off.map(|_| dropped)
    }

    /// Allocates the memory that these slots need, so that no later swap-out to them fails for lack of
    /// memory: see [`SwapRecords::reserve`](crate::SwapRecords::reserve).
    ///
    /// # Errors
    ///
    /// [`EntryError`] if the type is off, the range ends past the last slot, or an allocation fails.
    pub fn reserve(&self, start: SwapEntry, nr: u64) -> Result<(), EntryError> {
        self.records.reserve(start, nr)
    }

    /// Frees the pages that types keep while they are off, and returns their number: see
    /// [`SwapRecords::trim_pages`](crate::SwapRecords::trim_pages).
    pub fn trim_pages(&mut self) -> u64 {
        self.records.trim_pages()
    }

    /// Begins to free the pages that types keep while they are off, for a tree that is shared: see
    /// [`SwapRecords::begin_trim`](crate::SwapRecords::begin_trim).
    pub fn begin_trim(&self) -> Trim<'_, L> {
        self.records.begin_trim()
    }

    /// Returns how many records of a type are charged: those in the table, and those that a thread is
    /// freeing. Records that are written meanwhile may be missing.
    pub(super) fn records_on(&self, ty: SwapType) -> i64 {
        let in_shards: i64 = self.shards.all().iter().map(|all| all.records(ty)).sum();
        let adrift = self.adrift[usize::from(ty.get())].load(Ordering::Relaxed);
        in_shards + adrift.cast_signed()
    }

    /// As [`is_stopping`](Self::is_stopping), for the swapfile that a type has in this generation.
    pub(super) fn is_stopping_swapfile(&self, ty: SwapType, generation: u64) -> bool {
        let stopping = &self.stopping[usize::from(ty.get())];
        stopping.load(Ordering::Acquire) == generation
    }

    /// Returns whether the swapfile of these slots is being turned off; then no record may be written to it.
    /// The caller is in a section. If it gets `false`, `swapoff` waits for that section.
    pub(super) fn is_stopping(&self, span: &Span<'_, L>) -> bool {
        self.is_stopping_swapfile(span.swap_type(), span.on().generation())
    }
}

/// Marks the generation of a type that this thread is turning off, until it is dropped.
struct Stopping<'a> {
    flag: &'a AtomicU64,
    generation: u64,
}

impl<'a> Stopping<'a> {
    /// Sets the mark. Only one thread per generation succeeds. It replaces the mark of an earlier generation,
    /// whose thread is about to end. A thread with an earlier generation leaves a later mark alone and gets
    /// `None`.
    fn begin(flag: &'a AtomicU64, generation: u64) -> Option<Self> {
        Self::begin_beside(flag, generation, || ())
    }

    /// [`begin`](Self::begin) for tests: `others` runs between the load and the store.
    fn begin_beside(
        flag: &'a AtomicU64,
        generation: u64,
        mut others: impl FnMut(),
    ) -> Option<Self> {
        // Generations only grow. One that is not smaller is this one, or the one of a later swapfile.
        let begin = |before: u64| {
            others();
            (before < generation).then_some(generation)
        };
        flag.fetch_update(Ordering::AcqRel, Ordering::Relaxed, begin)
            .ok()
            .map(|_| Self { flag, generation })
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        // Fails if the swapoff of a later generation has begun.
        let _ =
            self.flag
                .compare_exchange(self.generation, NONE, Ordering::Release, Ordering::Relaxed);
    }
}

/// No swapfile that is on has this generation.
pub(super) const NONE: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memcg::MemcgError;

    /// Tests the state between the first step of a swapoff and the last.
    #[test]
    fn a_type_that_is_being_turned_off_takes_no_record() {
        let memcgs = Memcgs::new();
        let ty = SwapType::new(1).unwrap();
        memcgs.swapon(ty, 9).unwrap();
        let child = memcgs.create(memcgs.root()).unwrap();
        memcgs.charge(child, 3).unwrap();
        let generation = memcgs.records.file(ty).on().unwrap().generation();
        let stopping = Stopping::begin(&memcgs.stopping[1], generation).unwrap();
        let start = SwapEntry::new(ty, 4).unwrap();
        let off = |offset| EntryError::TypeOff { ty, offset };
        let refused = memcgs.swap_out(child, start, 3);
        assert_eq!(refused, Err(MemcgError::Entry(off(Some(4)))));
        assert_eq!(memcgs.usage(child).unwrap().own, 3);
        assert_eq!(memcgs.swapoff(ty), Err(off(None)));
        drop(stopping);
        memcgs.swap_out(child, start, 3).unwrap();
        assert_eq!(memcgs.swapoff(ty), Ok(3));
        memcgs.validate().unwrap();
    }

    #[test]
    fn the_end_of_a_swapoff_does_not_remove_the_mark_of_the_next_one() {
        let flag = AtomicU64::new(NONE);
        let first = Stopping::begin(&flag, 2).unwrap();
        assert!(Stopping::begin(&flag, 2).is_none());
        let second = Stopping::begin(&flag, 6).unwrap();
        drop(first);
        assert_eq!(flag.load(Ordering::Relaxed), 6);
        drop(second);
        assert_eq!(flag.load(Ordering::Relaxed), NONE);
    }

    /// The second swapoff was refused, although no other thread was turning its swapfile off.
    #[test]
    fn a_swapoff_begins_while_that_of_the_swapfile_before_ends() {
        let flag = AtomicU64::new(NONE);
        let mut first = Stopping::begin(&flag, 2);
        let second = Stopping::begin_beside(&flag, 6, || drop(first.take()));
        assert!(second.is_some());
        assert_eq!(flag.load(Ordering::Relaxed), 6);
        drop(second);
        assert_eq!(flag.load(Ordering::Relaxed), NONE);
    }

    /// A thread that came too late for its own swapfile would have removed the mark of the next one.
    #[test]
    fn a_late_swapoff_leaves_the_mark_of_the_next_one() {
        let flag = AtomicU64::new(NONE);
        let next = Stopping::begin(&flag, 6).unwrap();
        assert!(Stopping::begin(&flag, 2).is_none());
        assert_eq!(flag.load(Ordering::Relaxed), 6);
        drop(next);
    }
}
