//! Memory whose pages are present before a measurement begins: [`Pages`].

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use bytemuck::Zeroable;
use memmap2::{MmapOptions, MmapRaw};

/// A slice of zeros in its own pages, which are all present, so a measurement has no page faults.
///
/// The pages are huge if the system has huge pages. `Pages` dereferences to a slice.
///
/// ```
/// use swap_records_sim::Pages;
///
/// # if cfg!(miri) { return Ok(()); } // Memory maps.
/// let mut ids = Pages::<u16>::zeroed(100_000)?;
/// ids[99_999] = 7;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Pages<T> {
    map: MmapRaw,
    len: usize,
    of: PhantomData<T>,
}

/// A type for which any bytes are a valid value.
///
/// # Safety
///
/// Any bytes must be a value of the type, and dropping a value must do nothing.
pub unsafe trait Word: Zeroable {}

// SAFETY: an integer.
unsafe impl Word for u16 {}
// SAFETY: an integer.
unsafe impl Word for u64 {}
// SAFETY: has the bytes of its integer.
unsafe impl Word for AtomicU16 {}
// SAFETY: has the bytes of its integer.
unsafe impl Word for AtomicU32 {}
// SAFETY: has the bytes of its integer.
unsafe impl Word for AtomicU64 {}

impl<T: Word> Pages<T> {
    /// Turns the memory into words of another size, to measure several tables on the same pages.
    ///
    /// On a little-endian processor, 16-bit ids keep their slots.
    ///
    /// # Panics
    ///
    /// Panics if the length in bytes is not a multiple of the new word.
    #[must_use]
    pub fn retype<U: Word>(self) -> Pages<U> {
        const { assert!(align_of::<U>() <= 4096, "pages are aligned to 4 KiB") };
        let bytes = self.len * size_of::<T>();
        assert!(
            bytes.is_multiple_of(size_of::<U>()),
            "the length is not a multiple of the word"
        );
        Pages {
            map: self.map,
            len: bytes / size_of::<U>(),
            of: PhantomData,
        }
    }
}

impl<T: Zeroable> Pages<T> {
    /// Maps `len` zeros and touches each page.
    ///
    /// # Errors
    ///
    /// An error if the system refuses the memory.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        const {
            assert!(align_of::<T>() <= 4096, "pages are aligned to 4 KiB");
            assert!(!std::mem::needs_drop::<T>(), "the values are never dropped");
        }
        let bytes = len.checked_mul(size_of::<T>());
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let mut map = MmapOptions::new().len(bytes).map_anon()?;
        // A system without huge pages refuses the advice, and small pages are used.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        for page in map.chunks_mut(4096) {
            // Volatile, since the compiler knows that the memory is zero.
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
