//! Swapfiles of a tree, on and off.

use lock_api::RawMutex;

use super::{Backoff, Memcgs};
use crate::entry::{SwapEntry, SwapType};
use crate::error::EntryError;
use crate::span::Span;
use crate::sync::{AtomicU64, Ordering};

impl<L: RawMutex> Memcgs<L> {
    /// Turns a type on: [`SwapRecords::swapon`](crate::SwapRecords::swapon).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn swapon(&self, ty: SwapType, max_pages: u64) -> Result<(), crate::SwaponError> {
        self.records.swapon(ty, max_pages)
    }

    /// Turns a type on with a file that has no records: records of the tree then lie in the file, and outlive the process, as
    /// [`file`](crate::file) says. Later ones may be added while the tree is at work, and one that a
    /// [`swapoff`](Self::swapoff) emptied may be turned on again.
    ///
    /// A file that has records, because a process before this one wrote them, is for
    /// [`SwapRecords::swapon_file`](crate::SwapRecords::swapon_file). Make the tree over that table then, with
    /// [`with_records`](Self::with_records) or [`image::Reader::tree_over`](crate::image::Reader::tree_over), which charge
    /// each owner for its records.
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
    /// [`HasRecords`](crate::file::SwaponFileError::HasRecords), and as
    /// [`SwaponFile::run`](crate::file::SwaponFile::run). The type is off then, and the file as it was.
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

    /// Turns a type off: no page is swapped out to it any more, and who owns a record in it is uncharged,
    /// as if it had been freed. Gives the number of those records. Needs no memory.
    ///
    /// To get the pages back, swap them in first. Costs a walk over what has
    /// records. Waits for the operations that are under way, at least twice, and for one region of long ones. Other
    /// types, and cgroups, go on meanwhile; so do operations on the type that only free or move, until there is
    /// nothing left.
    ///
    /// # Errors
    ///
    /// [`EntryError::TypeOff`] if the type is off, or another thread is turning it on or off.
    pub fn swapoff(&self, ty: SwapType) -> Result<u64, EntryError> {
        let off = EntryError::TypeOff { ty, offset: None };
        let on = self.records.file(ty).on().ok_or(off)?;
        let stopping = &self.stopping[usize::from(ty.get())];
        let _stopping = Stopping::begin(stopping, on.generation()).ok_or(off)?;
        // Of this generation nobody else can turn it off from now on; somebody may have done so before.
        let start = SwapEntry::new(ty, 0).filter(|_| on.is_still_on());
        let all = Span::new(on, start.ok_or(off)?, on.max_pages())?;
        // Whoever did not see that it stops is done after this.
        self.grace.synchronize();
        let mut dropped = 0;
        let backoff = Backoff::new();
        loop {
            dropped += self.free(all, |_| ())?;
            // Each thread that is still freeing knows by then what it freed.
            self.grace.synchronize();
            if self.records_on(ty) <= 0 {
                break;
            }
            // Another thread is freeing again.
            backoff.snooze();
        }
        let off = self.records.swapoff(ty);
        debug_assert!(!matches!(off, Ok(1..)), "{off:?} records without a charge");
        off.map(|_| dropped)
    }

    /// Makes the memory that these slots take, so that to swap out to them cannot fail for want of it:
    /// [`SwapRecords::reserve`](crate::SwapRecords::reserve).
    ///
    /// # Errors
    ///
    /// [`EntryError`]: the type is off, the range ends past its last slot, or there is no memory.
    pub fn reserve(&self, start: SwapEntry, nr: u64) -> Result<(), EntryError> {
        self.records.reserve(start, nr)
    }

    /// Gives the pages back that types which are off keep, and their number: [`SwapRecords::trim_pages`](crate::SwapRecords::trim_pages).
    pub fn trim_pages(&mut self) -> u64 {
        self.records.trim_pages()
    }

    /// The same for a tree that is shared:
    /// [`SwapRecords::trim_pages_after_grace`](crate::SwapRecords::trim_pages_after_grace).
    ///
    /// # Safety
    ///
    /// No operation of this tree, or of its [`records`](Self::records), that began before the last
    /// [`swapoff`](Self::swapoff) of a type returned is still under way when this is called, and its end happens before
    /// this.
    pub unsafe fn trim_pages_after_grace(&self) -> u64 {
        // SAFETY: the caller's promise: operations of the table are the tree's.
        unsafe { self.records.trim_pages_after_grace() }
    }

    /// How many records of a type are charged: those that it has, and those that somebody is freeing.
    /// Those that are written meanwhile are in it or not.
    pub(super) fn records_on(&self, ty: SwapType) -> i64 {
        let in_shards: i64 = self.shards.all().iter().map(|all| all.records(ty)).sum();
        let adrift = self.adrift[usize::from(ty.get())].load(Ordering::Relaxed);
        in_shards + adrift.cast_signed()
    }

    /// As [`is_stopping`](Self::is_stopping), of the swapfile that a type has in this generation.
    pub(super) fn is_stopping_swapfile(&self, ty: SwapType, generation: u64) -> bool {
        let stopping = &self.stopping[usize::from(ty.get())];
        stopping.load(Ordering::Acquire) == generation
    }

    /// Whether the swapfile of these slots is being turned off: no record is written to it. In a section, for which
    /// `swapoff` waits if it has not seen it.
    pub(super) fn is_stopping(&self, span: &Span<'_, L>) -> bool {
        self.is_stopping_swapfile(span.swap_type(), span.on().generation())
    }
}

/// The generation of a type that a thread is turning off, until this is dropped.
struct Stopping<'a> {
    flag: &'a AtomicU64,
    generation: u64,
}

impl<'a> Stopping<'a> {
    /// For one thread. One that is about to end with an earlier generation is in nobody's way, and one that comes
    /// with an earlier generation leaves the mark of the later one alone.
    fn begin(flag: &'a AtomicU64, generation: u64) -> Option<Self> {
        Self::begin_beside(flag, generation, || ())
    }

    /// [`begin`](Self::begin), and `others` do what they do between its load and its store.
    fn begin_beside(
        flag: &'a AtomicU64,
        generation: u64,
        mut others: impl FnMut(),
    ) -> Option<Self> {
        // Generations only grow. One that is not smaller is this one, or of a swapfile that came after it.
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
        // Unless the next one has begun.
        let _ =
            self.flag
                .compare_exchange(self.generation, NONE, Ordering::Release, Ordering::Relaxed);
    }
}

/// The generation of no swapfile that is on.
pub(super) const NONE: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memcg::MemcgError;

    /// What a thread finds between the first step of a swapoff and the last.
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
    fn the_end_of_a_swapoff_is_in_the_way_of_nothing_that_is_done_with_the_next_swapfile() {
        let flag = AtomicU64::new(NONE);
        let first = Stopping::begin(&flag, 2).unwrap();
        assert!(Stopping::begin(&flag, 2).is_none());
        let second = Stopping::begin(&flag, 6).unwrap();
        drop(first);
        assert_eq!(flag.load(Ordering::Relaxed), 6);
        drop(second);
        assert_eq!(flag.load(Ordering::Relaxed), NONE);
    }

    /// It was refused then, though nobody else was turning its swapfile off.
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

    /// It came too late for its own swapfile, and would take the mark of the next one away.
    #[test]
    fn a_late_swapoff_leaves_the_mark_of_the_next_one() {
        let flag = AtomicU64::new(NONE);
        let next = Stopping::begin(&flag, 6).unwrap();
        assert!(Stopping::begin(&flag, 2).is_none());
        assert_eq!(flag.load(Ordering::Relaxed), 6);
        drop(next);
    }
}
