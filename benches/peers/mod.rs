//! What the table is measured against: older tables and other ways to keep the same records, each
//! written from its description.

#![allow(
    dead_code,
    reason = "compiled into each benchmark, example and test, and each takes its part"
)]

pub mod bare_steps;
pub mod dash;
pub mod iterator_loop;
pub mod linux_2024;
pub mod loop_2014;
pub mod roaring_sets;
pub mod u64_words;

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU16, AtomicU32};

use bytemuck::Zeroable;
use memmap2::{MmapOptions, MmapRaw};

/// Keeps the owner of each slot of one swapfile, 0 for none, for any number of threads at once.
///
/// Recording 0 clears.
pub trait Operations: Sized + Sync {
    /// A swapfile of this many slots, with no records.
    fn with_slots(slots: usize) -> io::Result<Self>;
    /// The owner of a slot.
    fn lookup(&self, slot: usize) -> u16;
    /// Makes `id` the owner; returns the previous one.
    fn record(&self, slot: usize, id: u16) -> u16;
    /// Makes `id` the owner of `nr` slots.
    fn record_range(&self, slot: usize, nr: usize, id: u16);
    /// Makes `new` the owner if `old` is; returns the owner until then.
    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16;
}

/// Hands all records of one id to another. Nobody else is at work meanwhile.
pub trait Reparent: Sized {
    /// A swapfile of this many slots, with no records.
    fn with_slots(slots: usize) -> io::Result<Self>;
    /// The owner of a slot, 0 for none.
    fn owner(&self, slot: usize) -> u16;
    /// Makes `id` the owner of `nr` slots, to set up a map.
    fn set(&mut self, slot: usize, nr: usize, id: u16);
    /// Gives every record of `old` to `new`, which is another; returns how many.
    fn migrate(&mut self, old: u16, new: u16) -> u64;
}

/// Zeroed memory of its own pages, huge ones where the system has them, all of it present: what is
/// measured is never a page fault.
#[derive(Debug)]
pub struct Pages<T> {
    map: MmapRaw,
    len: usize,
    of: PhantomData<T>,
}

/// What a map of ids is looked at as.
///
/// # Safety
///
/// Any bytes are a value of this type, and dropping one does nothing.
pub unsafe trait Word: Zeroable {}

// SAFETY: an integer.
unsafe impl Word for u16 {}
// SAFETY: an integer.
unsafe impl Word for u64 {}
// SAFETY: has the bytes of its integer.
unsafe impl Word for AtomicU16 {}
// SAFETY: has the bytes of its integer.
unsafe impl Word for AtomicU32 {}

impl<T: Word> Pages<T> {
    /// The same memory as words of another size, so that all who are measured work on the same
    /// pages. On a little-endian processor ids keep their slots.
    pub fn retype<U: Word>(self) -> Pages<U> {
        const { assert!(align_of::<U>() <= 4096, "pages are aligned to 4 KiB") };
        let bytes = self.len * size_of::<T>();
        assert!(bytes.is_multiple_of(size_of::<U>()), "no part of a word");
        Pages {
            map: self.map,
            len: bytes / size_of::<U>(),
            of: PhantomData,
        }
    }
}

impl<T: Zeroable> Pages<T> {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        const {
            assert!(align_of::<T>() <= 4096, "pages are aligned to 4 KiB");
            assert!(!std::mem::needs_drop::<T>(), "nothing is dropped");
        }
        let bytes = len.checked_mul(size_of::<T>());
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let mut map = MmapOptions::new().len(bytes).map_anon()?;
        // A system without huge pages refuses the advice; small ones do.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        for page in map.chunks_mut(4096) {
            // Volatile, or the compiler knows that zero is there already.
            // SAFETY: a chunk has a first byte, and `page` borrows it exclusively.
            unsafe { std::ptr::from_mut(&mut page[0]).write_volatile(0) };
        }
        Ok(Self {
            map: map.into(),
            len,
            of: PhantomData,
        })
    }
}

impl<T: Zeroable> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the map has `len` values of `T`, aligned (asserted when it was made), zeroed or
        // written as `T` or another `Word` since, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.map.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Zeroable> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.len) }
    }
}
