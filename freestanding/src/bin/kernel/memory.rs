//! Pages and a heap, each in a static array. Both refuse allocations on request. They end the program if
//! memory is allocated or freed while a lock is held.
//!
//! Free memory is filled with [`POISON`], so that a read of free memory finds ids that were never recorded.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

use swap_records::{PAGE_SIZE, Page, PageSource};

use crate::machine::{check, check_unlocked};

const POISON: u8 = 0xA5;

/// The number of allocations from both, while they are counted, and which of them is refused.
static COUNTS: AtomicBool = AtomicBool::new(false);
static DEMANDS: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
static FIRST: AtomicU64 = AtomicU64::new(u64::MAX);
static LAST: AtomicU64 = AtomicU64::new(u64::MAX);

/// The allocations that are refused, counted from 0.
#[derive(Clone, Copy)]
pub(crate) enum Refuse {
    None,
    /// The allocation with this number.
    One(u64),
    /// The allocation with this number, and those after it until the operation ends.
    From(u64),
}

/// Starts to count allocations from 0.
pub(crate) fn refuse(which: Refuse) {
    DEMANDS.store(0, Relaxed);
    let (first, last) = match which {
        Refuse::None => (u64::MAX, u64::MAX),
        Refuse::One(nr) => (nr, nr),
        Refuse::From(nr) => (nr, u64::MAX - 1),
    };
    FIRST.store(first, Relaxed);
    LAST.store(last, Relaxed);
}

/// Returns the result of `operation`, the number of its allocations, and how many of them were refused.
pub(crate) fn counted<R>(operation: impl FnOnce() -> R) -> (R, u64, u64) {
    let before = DEMANDS.load(Relaxed);
    REFUSED.store(0, Relaxed);
    COUNTS.store(true, Relaxed);
    let result = operation();
    COUNTS.store(false, Relaxed);
    let refused = REFUSED.load(Relaxed);
    if refused > 0 {
        FIRST.store(u64::MAX, Relaxed);
    }
    (result, DEMANDS.load(Relaxed) - before, refused)
}

/// Whether all allocations are refused, and not counted.
static NONE: AtomicBool = AtomicBool::new(false);

/// Returns the result of `operation` while all allocations are refused.
pub(crate) fn without<R>(operation: impl FnOnce() -> R) -> R {
    NONE.store(true, Relaxed);
    let result = operation();
    NONE.store(false, Relaxed);
    result
}

/// Returns the number of allocations since [`refuse`].
pub(crate) fn demands() -> u64 {
    DEMANDS.load(Relaxed)
}

/// Whether a table or a tree is being validated. Only this may allocate while the tree's lock is held.
static VALIDATES: AtomicBool = AtomicBool::new(false);

/// Validates the table or tree, and ends the program if it is not valid.
#[track_caller]
pub(crate) fn validate<E>(validate: impl FnOnce() -> Result<(), E>) {
    VALIDATES.store(true, Relaxed);
    let valid = validate().is_ok();
    VALIDATES.store(false, Relaxed);
    check(
        valid,
        "validate finds the index and the entries, or the books, in disagreement",
    );
}

fn check_no_lock(what: &str) {
    if !VALIDATES.load(Relaxed) {
        check_unlocked(what);
    }
}

fn is_refused() -> bool {
    check_no_lock("memory is asked for under a lock");
    if NONE.load(Relaxed) || !COUNTS.load(Relaxed) {
        return NONE.load(Relaxed);
    }
    let nr = DEMANDS.fetch_add(1, Relaxed);
    let refused = (FIRST.load(Relaxed)..=LAST.load(Relaxed)).contains(&nr);
    REFUSED.fetch_add(u64::from(refused), Relaxed);
    refused
}

/// Bytes, aligned to a page.
#[repr(C, align(4096))]
struct Aligned<const N: usize>(UnsafeCell<[u8; N]>);

impl<const N: usize> Aligned<N> {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; N]))
    }

    fn base(&self) -> *mut u8 {
        self.0.get().cast()
    }
}

/// The number of pages of the source.
const NR_PAGES: usize = 1024;

/// The page allocator of this kernel.
pub(crate) struct Pages {
    memory: Aligned<{ NR_PAGES * PAGE_SIZE }>,
    /// Which pages are given out.
    out: [AtomicBool; NR_PAGES],
    nr_out: AtomicU64,
    /// Where the next search begins. So a page that was freed stays free, and poisoned, for a while.
    next: AtomicUsize,
}

pub(crate) static PAGES: Pages = Pages {
    memory: Aligned::new(),
    out: [const { AtomicBool::new(false) }; NR_PAGES],
    nr_out: AtomicU64::new(0),
    next: AtomicUsize::new(0),
};

// SAFETY: `memory` is only used through pages, each of which belongs to one caller.
unsafe impl Sync for Pages {}

impl Pages {
    /// Returns the number of pages that are given out.
    pub(crate) fn nr_out(&self) -> u64 {
        self.nr_out.load(Relaxed)
    }
}

// SAFETY: a page is zeroed, and given to one caller, since `out` goes from false to true once. Neither method
// unwinds.
unsafe impl PageSource for Pages {
    fn alloc_page(&self) -> Option<NonNull<Page>> {
        if is_refused() {
            return None;
        }
        let next = self.next.load(Relaxed);
        let mut all = (next..NR_PAGES).chain(0..next);
        let nr = all.find(|&nr| !self.out[nr].swap(true, Relaxed))?;
        self.next.store((nr + 1) % NR_PAGES, Relaxed);
        self.nr_out.fetch_add(1, Relaxed);
        let page = self.memory.base().wrapping_add(nr * PAGE_SIZE);
        // SAFETY: it is a page of `memory` that no caller has.
        unsafe { page.write_bytes(0, PAGE_SIZE) };
        NonNull::new(page.cast())
    }

    unsafe fn free_page(&self, page: NonNull<Page>) {
        check_no_lock("a page is given back under a lock");
        let offset = page.addr().get().wrapping_sub(self.memory.base().addr());
        let out = self.out.get(offset / PAGE_SIZE);
        check(
            offset.is_multiple_of(PAGE_SIZE) && out.is_some_and(|out| out.load(Relaxed)),
            "a page is given back that is not out",
        );
        // SAFETY: it is a page of `memory`, and the caller gives it up.
        unsafe { page.cast::<u8>().write_bytes(POISON, PAGE_SIZE) };
        if let Some(out) = out {
            out.store(false, Relaxed);
        }
        self.nr_out.fetch_sub(1, Relaxed);
    }
}

/// The heap: pieces whose sizes are powers of two, and a list of free ones for each size.
pub(crate) struct Heap {
    memory: Aligned<{ Self::BYTES }>,
    /// The memory up to here has been cut into pieces.
    cut: AtomicUsize,
    /// The first free piece of each size. It holds the address of the next.
    free: [AtomicPtr<u8>; Self::SIZES],
    /// The number of bytes that are given out.
    out: AtomicUsize,
}

#[global_allocator]
pub(crate) static HEAP: Heap = Heap {
    memory: Aligned::new(),
    cut: AtomicUsize::new(0),
    free: [const { AtomicPtr::new(ptr::null_mut()) }; Heap::SIZES],
    out: AtomicUsize::new(0),
};

// SAFETY: `memory` is only used through pieces, each of which is free or belongs to one caller.
unsafe impl Sync for Heap {}

impl Heap {
    const BYTES: usize = 4 << 20;

    /// Sizes from 1 byte to a MiB. The smallest piece that is given out has 16 bytes.
    const SIZES: usize = 21;

    /// Returns whether this address is in the heap.
    pub(crate) fn has(&self, address: usize) -> bool {
        address.wrapping_sub(self.memory.base().addr()) < Self::BYTES
    }

    /// Returns the number of bytes that are given out.
    pub(crate) fn bytes_out(&self) -> usize {
        self.out.load(Relaxed)
    }

    /// Returns the size of a piece for this layout. A piece is aligned to its size, up to a page.
    fn size(layout: Layout) -> usize {
        let least = layout.size().max(layout.align()).max(16);
        least.next_power_of_two()
    }

    fn list(&self, size: usize) -> Option<&AtomicPtr<u8>> {
        self.free.get(size.ilog2() as usize)
    }

    fn piece(&self, size: usize) -> Option<*mut u8> {
        let list = self.list(size)?;
        let first = list.load(Relaxed);
        if !first.is_null() {
            // SAFETY: a free piece, at the front of its list, holds the next one, or null.
            list.store(unsafe { first.cast::<*mut u8>().read() }, Relaxed);
            return Some(first);
        }
        let begin = self.cut.load(Relaxed).next_multiple_of(size.min(PAGE_SIZE));
        let end = begin.checked_add(size).filter(|&end| end <= Self::BYTES)?;
        self.cut.store(end, Relaxed);
        Some(self.memory.base().wrapping_add(begin))
    }
}

// SAFETY: a piece is cut, or taken from its list, for one caller. It is at least as large as its layout, and
// aligned to its size, up to a page.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused() || layout.align() > PAGE_SIZE {
            return ptr::null_mut();
        }
        let size = Self::size(layout);
        let piece = self.piece(size);
        self.out.fetch_add(piece.map_or(0, |_| size), Relaxed);
        piece.unwrap_or(ptr::null_mut())
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        check_no_lock("memory is given back under a lock");
        let size = Self::size(layout);
        let Some(list) = self.list(size).filter(|_| self.has(piece.addr())) else {
            crate::machine::fail("memory is given back that is not of the heap");
        };
        // SAFETY: the piece has this size, and the caller gives it up.
        unsafe { piece.write_bytes(POISON, size) };
        // SAFETY: there is room for an address, and the piece is aligned to at least 16.
        unsafe { piece.cast::<*mut u8>().write(list.load(Relaxed)) };
        list.store(piece, Relaxed);
        self.out.fetch_sub(size, Relaxed);
    }
}
