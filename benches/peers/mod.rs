//! What the table is measured against: older tables and other ways to keep the same records, each
//! written from its description.

#![allow(
    dead_code,
    reason = "compiled into each benchmark, example and test, and each takes its part"
)]

pub mod loop_2014;

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Zeroable;
use memmap2::{MmapOptions, MmapRaw};

/// Zeroed memory of its own pages, huge ones where the system has them, all of it present: what is
/// measured is never a page fault.
#[derive(Debug)]
pub struct Pages<T> {
    map: MmapRaw,
    len: usize,
    of: PhantomData<T>,
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
        // written as `T` since, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.map.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Zeroable> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.len) }
    }
}
