//! [`PageSource`]: gives pages of memory to a table without an operating system.

use core::fmt;
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr::NonNull;

use alloc::alloc::{Layout, alloc_zeroed, dealloc};

/// The size of a [`Page`], in bytes.
pub const PAGE_SIZE: usize = 4096;

/// A page of memory: [`PAGE_SIZE`] bytes, with an alignment of [`PAGE_SIZE`].
#[repr(C, align(4096))]
pub struct Page([u8; PAGE_SIZE]);

const _: () = assert!(size_of::<Page>() == PAGE_SIZE && align_of::<Page>() == PAGE_SIZE);

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = self;
        write!(f, "a page of {} bytes", bytes.len())
    }
}

/// Gives out pages, and takes them back: the page allocator of a kernel.
///
/// A table made [`with_page_source`](crate::SwapRecords::with_page_source) takes its memory for records from
/// this source, one page at a time, when a slot is first written. It never asks while it holds a lock of the
/// table, and never in an operation that frees or migrates. With the feature `std` no table asks for pages:
/// its memory comes from the operating system.
///
/// ```
/// use core::ptr::NonNull;
/// use core::sync::atomic::{AtomicUsize, Ordering};
/// use swap_records::{GlobalPages, Page, PageSource, SwapRecords};
///
/// /// The global allocator, up to a number of pages.
/// struct Quota {
///     left: AtomicUsize,
/// }
///
/// // SAFETY: the pages are those of `GlobalPages`.
/// unsafe impl PageSource for Quota {
///     fn alloc_page(&self) -> Option<NonNull<Page>> {
///         let less = |left: usize| left.checked_sub(1);
///         self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
///         GlobalPages.alloc_page()
///     }
///
///     unsafe fn free_page(&self, page: NonNull<Page>) {
///         // SAFETY: the caller's promise.
///         unsafe { GlobalPages.free_page(page) };
///         self.left.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// static QUOTA: Quota = Quota { left: AtomicUsize::new(1000) };
/// static RECORDS: SwapRecords = SwapRecords::new().with_page_source(&QUOTA);
/// ```
///
/// # Memory of your own
///
/// A source need not construct a [`Page`]. It may cast a pointer to any 4096 bytes that are aligned to 4096, such as a
/// frame of a static array of a type with `#[repr(C, align(4096))]`. A page that comes back by `free_page` is not zeroed:
/// the source must zero it before it gives it out again.
///
/// A table takes one page per [`CHUNK_ENTRIES`](crate::CHUNK_ENTRIES) slots that are in use. It takes three more per 16
/// regions, and one more for each 64 ids that have records there.
///
/// # Safety
///
/// Each page that `alloc_page` returns must be zeroed, and must belong to the caller alone, for reads and
/// writes, until the caller gives it back with `free_page`. Neither method may unwind.
pub unsafe trait PageSource: Send + Sync {
    /// Returns a page of zeroes, or `None` if there is none.
    fn alloc_page(&self) -> Option<NonNull<Page>>;

    /// Takes a page back.
    ///
    /// # Safety
    ///
    /// The page came from [`alloc_page`](Self::alloc_page) of this source and was not given back since. It is
    /// no longer used.
    unsafe fn free_page(&self, page: NonNull<Page>);
}

/// Gives pages of the global allocator. A table uses this source unless it was given another one.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalPages;

// SAFETY: a zeroed allocation with the layout of a page belongs to its caller alone until it is freed.
unsafe impl PageSource for GlobalPages {
    fn alloc_page(&self) -> Option<NonNull<Page>> {
        // SAFETY: a page has a size.
        NonNull::new(unsafe { alloc_zeroed(Layout::new::<Page>()) }.cast())
    }

    unsafe fn free_page(&self, page: NonNull<Page>) {
        // SAFETY: `alloc_page` allocated it with this layout, and the caller no longer uses it.
        unsafe { dealloc(page.as_ptr().cast(), Layout::new::<Page>()) };
    }
}

/// The page source of a table.
#[derive(Clone, Copy)]
pub(crate) struct Pages(
    #[cfg_attr(
        any(feature = "std", swap_records_loom),
        expect(dead_code, reason = "maps and models ask for no pages")
    )]
    &'static dyn PageSource,
);

// The methods of a source do not unwind.
impl UnwindSafe for Pages {}
impl RefUnwindSafe for Pages {}

impl Pages {
    pub(crate) const GLOBAL: Self = Self::of(&GlobalPages);

    pub(crate) const fn of(source: &'static dyn PageSource) -> Self {
        Self(source)
    }
}

#[cfg(not(feature = "std"))]
pub(crate) use block::{Block, Zero, shared};

/// Pages as typed values.
#[cfg(all(not(feature = "std"), not(swap_records_loom)))]
mod block {
    use core::ptr::NonNull;

    use bytemuck::Zeroable;

    use super::{PAGE_SIZE, Page, Pages};
    use crate::storage::Refused;

    /// A type that may lie in a page: it is valid if all its bytes are 0.
    pub(crate) trait Zero: Zeroable {}
    impl<T: Zeroable> Zero for T {}

    /// A page with a `T` at its front.
    #[repr(transparent)]
    pub(crate) struct Block<T>(T);

    impl Pages {
        /// Takes a page of zeroes from the source.
        pub(crate) fn make<T: Zero>(self) -> Result<NonNull<Block<T>>, Refused> {
            const { assert!(size_of::<T>() <= PAGE_SIZE && align_of::<T>() <= PAGE_SIZE) };
            let page = self.0.alloc_page();
            page.map(NonNull::cast).ok_or(Refused { bytes: PAGE_SIZE })
        }

        /// # Safety
        ///
        /// The block came from `make` of the same source and is no longer used.
        pub(crate) unsafe fn free<T>(self, block: NonNull<Block<T>>) {
            // SAFETY: as the caller promises.
            unsafe { self.0.free_page(block.cast::<Page>()) };
        }
    }

    /// Returns the value in the block, if there is a block.
    ///
    /// # Safety
    ///
    /// `block` is null, or it came from `make`, was published to this thread, and is not freed while the
    /// returned reference lives.
    #[inline(always)]
    pub(crate) unsafe fn shared<'a, T>(block: *mut Block<T>) -> Option<&'a T> {
        // SAFETY: as the caller promises; all zeroes are a `T`.
        unsafe { block.as_ref() }.map(|Block(value)| value)
    }
}

/// The same for loom, whose atomics are objects. Loom reports a block that is freed while another thread may
/// be reading it.
#[cfg(all(not(feature = "std"), swap_records_loom))]
mod block {
    use core::ptr::NonNull;

    use alloc::boxed::Box;
    use loom::cell::UnsafeCell;

    use super::Pages;
    use crate::storage::Refused;
    use crate::sync::{AtomicPtr, Ordering};

    pub(crate) trait Zero {
        fn zero() -> Self;
    }

    impl<T: crate::storage::Slot> Zero for T {
        fn zero() -> Self {
            crate::storage::Slot::zero()
        }
    }

    impl<T, const N: usize> Zero for [AtomicPtr<T>; N] {
        fn zero() -> Self {
            core::array::from_fn(|_| {
                let null = AtomicPtr::new(core::ptr::null_mut());
                null.load(Ordering::Relaxed);
                null
            })
        }
    }

    pub(crate) struct Block<T> {
        value: T,
        /// Read at each look at the value, and written when it is freed.
        life: UnsafeCell<()>,
    }

    impl Pages {
        pub(crate) fn make<T: Zero>(self) -> Result<NonNull<Block<T>>, Refused> {
            let block = Box::new(Block {
                value: T::zero(),
                life: UnsafeCell::new(()),
            });
            NonNull::new(Box::into_raw(block)).ok_or(Refused { bytes: 0 })
        }

        /// # Safety
        ///
        /// The block came from `make` and is no longer used.
        pub(crate) unsafe fn free<T>(self, block: NonNull<Block<T>>) {
            // SAFETY: as the caller promises.
            let block = unsafe { Box::from_raw(block.as_ptr()) };
            block.life.with_mut(|_| ());
        }
    }

    /// # Safety
    ///
    /// `block` is null, or it came from `make`, was published to this thread, and is not freed while the
    /// returned reference lives.
    pub(crate) unsafe fn shared<'a, T>(block: *mut Block<T>) -> Option<&'a T> {
        // SAFETY: as the caller promises, which loom checks.
        let block = unsafe { block.as_ref() }?;
        block.life.with(|_| ());
        Some(&block.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_global_allocator_are_zeroed() {
        let page = GlobalPages.alloc_page().unwrap();
        // SAFETY: only this test has it, and it is zeroed.
        assert_eq!(unsafe { page.as_ref() }.0, [0; PAGE_SIZE]);
        // SAFETY: it came from this source, and is no longer used.
        unsafe { GlobalPages.free_page(page) };
    }
}
