//! [`Zeroed`]: zeroed, page-aligned memory in one piece, which takes no memory until it is touched.

use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;

#[cfg(target_os = "linux")]
use super::file;
use super::{Refused, Slot};

/// A slice of a fixed length, shared by reference until it is dropped. It is zero when it is made, unless it
/// maps a file.
pub(crate) struct Zeroed<T> {
    ptr: NonNull<T>,
    len: usize,
    memory: Memory,
}

/// Where the memory comes from. Used to give it back, and never on the way to a value.
enum Memory {
    Own(imp::Memory),
    #[cfg(target_os = "linux")]
    File(file::Map),
}

// SAFETY: a `Zeroed` owns its `T`s as a `Box<[T]>` does.
unsafe impl<T: Send> Send for Zeroed<T> {}
// SAFETY: as for `Send`. A shared `Zeroed` gives out shared `T`s and nothing else.
unsafe impl<T: Sync> Sync for Zeroed<T> {}

impl<T: Slot> Zeroed<T> {
    /// Reserves address space for `len` zeroes, `len` > 0. `huge` asks for huge pages where they are touched.
    pub(crate) fn new(len: usize, huge: bool) -> Result<Self, Refused> {
        const { assert!(align_of::<T>() <= PAGE && size_of::<T>() > 0) };
        debug_assert!(len > 0);
        let bytes = len
            .checked_mul(size_of::<T>())
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(Refused { bytes: usize::MAX })?;
        let (memory, start) = imp::Memory::new(bytes, huge).ok_or(Refused { bytes })?;
        Ok(Self {
            ptr: start.cast(),
            len,
            memory: Memory::Own(memory),
        })
    }

    /// Returns the next bytes from `from` on that may not be zero. Returns an empty range at the end if all
    /// that follow are zero.
    pub(crate) fn next_data(&self, from: usize) -> core::ops::Range<usize> {
        match &self.memory {
            Memory::Own(_) => from..self.len * size_of::<T>(),
            #[cfg(target_os = "linux")]
            Memory::File(map) => map.next_data(from),
        }
    }

    /// Gives the memory of the first `used` values back to the system, and returns whether that succeeded. If
    /// it did, they are zero, as if by a relaxed store to each. If it did not, any part of them may be zero,
    /// and the caller must clear them.
    #[must_use]
    pub(crate) fn give_back(&self, used: usize) -> bool {
        let bytes = size_of_val(&self[..used]);
        match &self.memory {
            Memory::Own(memory) => memory.give_back(bytes),
            #[cfg(target_os = "linux")]
            Memory::File(map) => map.give_back(bytes),
        }
    }

    /// Called when all values are zero, and stay zero until a swapfile is turned on with them. Releases the
    /// file, if there is one.
    pub(crate) fn emptied(&self) {
        #[cfg(target_os = "linux")]
        if let Memory::File(map) = &self.memory {
            // If this fails, the next table that turns the file on empties it once more.
            let _ = map.emptied();
            map.release();
        }
    }
}

impl<T> Zeroed<T> {
    /// Returns whether no other process can write to the memory. False if it maps a file.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.memory, Memory::Own(_))
    }

    /// Returns the number of its bytes that are in memory. Returns all bytes where the system does not say.
    pub(crate) fn resident(&self) -> usize {
        let bytes = size_of_val(&**self);
        let resident = match &self.memory {
            Memory::Own(memory) => memory.resident(bytes),
            #[cfg(all(target_os = "linux", not(miri)))]
            Memory::File(map) => imp::resident(map.raw()),
            #[cfg(all(target_os = "linux", miri))]
            Memory::File(_) => bytes,
        };
        resident.min(bytes)
    }
}

#[cfg(target_os = "linux")]
impl Zeroed<crate::region::Entries> {
    /// Maps the entries of a file, with what the file holds.
    pub(crate) fn of_file(locked: file::Locked) -> Result<Self, std::io::Error> {
        let (map, start) = file::Map::new(locked)?;
        Ok(Self {
            ptr: start.cast(),
            len: map.len() / size_of::<crate::region::Entries>(),
            memory: Memory::File(map),
        })
    }

    /// Returns the file, if the memory maps one.
    pub(crate) fn file(&self) -> Option<&file::Map> {
        match &self.memory {
            Memory::Own(_) => None,
            Memory::File(map) => Some(map),
        }
    }
}

impl<T> Deref for Zeroed<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // `new` got `len * size_of::<T>()` bytes at `ptr`, page aligned and zero, which is a valid `T`
        // (`Zeroable`). With a file (`of_file`), `T` is the entries of a region, for which all bytes are
        // valid.
        // SAFETY: as above. The bytes live as long as `memory`, and only `&[T]` is ever made of them.
        // Invariant 7 covers other processes that write to a file.
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T> fmt::Debug for Zeroed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zeroed")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The smallest page of the supported systems, and the least alignment of a map.
const PAGE: usize = 4096;

#[cfg(not(miri))]
mod imp {
    use core::ptr::NonNull;

    use memmap2::{MmapOptions, MmapRaw};

    pub(super) struct Memory {
        #[cfg_attr(
            not(target_os = "linux"),
            expect(dead_code, reason = "unmaps when dropped")
        )]
        map: MmapRaw,
    }

    impl Memory {
        pub(super) fn new(bytes: usize, huge: bool) -> Option<(Self, NonNull<u8>)> {
            let map = MmapOptions::new()
                .len(bytes)
                // Most of the map is never touched, so it must not reserve swap.
                .no_reserve_swap()
                .map_anon()
                .ok()?;
            #[cfg(target_os = "linux")]
            if huge {
                // A kernel without huge pages refuses. Small pages work as well.
                let _ = map.advise(memmap2::Advice::HugePage);
            }
            #[cfg(not(target_os = "linux"))]
            let _ = huge;
            let map = MmapRaw::from(map);
            let start = NonNull::new(map.as_mut_ptr())?;
            Some((Self { map }, start))
        }

        /// Zeroes the first `bytes`, and returns whether that succeeded. If memory is locked, the kernel
        /// refuses the first advice at the first locked page, and accepts the second one from Linux 5.18 on.
        #[cfg(target_os = "linux")]
        pub(super) fn give_back(&self, bytes: usize) -> bool {
            debug_assert!(bytes <= self.map.len());
            [libc::MADV_DONTNEED, libc::MADV_DONTNEED_LOCKED]
                .into_iter()
                .any(|advice| {
                    // SAFETY: the map has that many bytes, and is private and anonymous, so that either
                    // advice makes it read as zeroes. All references to it are shared atomics, for which that
                    // is a store of 0 by another thread.
                    unsafe { libc::madvise(self.map.as_mut_ptr().cast(), bytes, advice) == 0 }
                })
        }

        #[cfg(target_os = "linux")]
        pub(super) fn resident(&self, _bytes: usize) -> usize {
            resident(&self.map)
        }

        #[cfg(not(target_os = "linux"))]
        pub(super) fn resident(&self, bytes: usize) -> usize {
            bytes
        }

        /// On other systems, MADV_DONTNEED may keep the contents.
        #[cfg(not(target_os = "linux"))]
        pub(super) fn give_back(&self, _bytes: usize) -> bool {
            false
        }
    }

    /// Returns the number of bytes in the pages of the map that are in memory.
    #[cfg(target_os = "linux")]
    pub(super) fn resident(map: &MmapRaw) -> usize {
        /// The pages to ask about at once. The answers lie on the stack.
        const PAGES: usize = 1024;
        let page = page_size();
        let mut answers = [0_u8; PAGES];
        let mut resident = 0;
        for from in (0..map.len()).step_by(PAGES * page) {
            let len = (map.len() - from).min(PAGES * page);
            let pages = &mut answers[..len.div_ceil(page)];
            let start = map.as_mut_ptr().wrapping_add(from);
            // SAFETY: the pages from `start` on belong to the map, which is borrowed. `mincore` changes
            // nothing of them. It writes one byte per page to `pages`, which has as many.
            let asked = unsafe { libc::mincore(start.cast(), len, pages.as_mut_ptr()) };
            resident += match asked {
                0 => pages.iter().filter(|&page| page & 1 != 0).count() * page,
                _ => len,
            };
        }
        resident
    }

    /// Returns the page size of the running system, or the smallest one if the system does not say.
    #[cfg(target_os = "linux")]
    fn page_size() -> usize {
        // SAFETY: `sysconf` returns a constant, and takes no pointer.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size)
            .ok()
            .filter(|&size| size >= super::PAGE)
            .unwrap_or(super::PAGE)
    }
}

#[cfg(miri)]
mod imp {
    use alloc::alloc::{Layout, alloc_zeroed, dealloc};
    use core::ptr::NonNull;

    pub(super) struct Memory {
        start: NonNull<u8>,
        layout: Layout,
    }

    impl Memory {
        pub(super) fn new(bytes: usize, _huge: bool) -> Option<(Self, NonNull<u8>)> {
            let layout = Layout::from_size_align(bytes, super::PAGE).ok()?;
            // SAFETY: `bytes` is not 0: `Zeroed::new` takes a `len` > 0 of a `T` that is not zero-sized.
            let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
            Some((Self { start, layout }, start))
        }

        pub(super) fn give_back(&self, _bytes: usize) -> bool {
            false
        }

        /// The allocator does not say.
        pub(super) fn resident(&self, bytes: usize) -> usize {
            bytes
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: `new` allocated it with this layout, and nothing outlives its `Zeroed`.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{AtomicU16, AtomicU64, Ordering};

    #[test]
    fn memory_is_zero_aligned_and_zero_again_when_it_was_given_back() {
        const LEN: usize = if cfg!(miri) { 100 } else { 10_000 };
        let memory = Zeroed::<AtomicU16>::new(LEN, false).unwrap();
        assert_eq!(memory.len(), LEN);
        assert_eq!(memory.as_ptr().align_offset(PAGE), 0);
        assert!(memory.iter().all(|slot| slot.load(Ordering::Relaxed) == 0));
        memory[0].store(1, Ordering::Relaxed);
        memory[LEN - 1].store(2, Ordering::Relaxed);
        if !memory.give_back(LEN) {
            memory.iter().for_each(Slot::clear);
        }
        assert!(memory.iter().all(|slot| slot.load(Ordering::Relaxed) == 0));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri aborts where an allocator would refuse")]
    fn more_than_an_address_space_holds_is_refused() {
        let refused = Zeroed::<AtomicU64>::new(usize::MAX / 2, false).unwrap_err();
        assert_eq!(refused.bytes, usize::MAX);
        #[cfg(target_pointer_width = "64")]
        {
            let refused = Zeroed::<AtomicU64>::new(1 << 59, true).unwrap_err();
            assert_eq!(refused.bytes, 1 << 62);
        }
    }
}
