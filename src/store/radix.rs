//! [`Paged`]: many values that come in pages, each made when it is first needed.
//!
//! A *root*, which stays, points to *tables*, each a page of pointers to *leaves*, each a page with a value. Whoever needs a
//! leaf makes it outside of any lock and puts it in by compare-exchange from null, with release; the loser of two gives its
//! page back. So a pointer that is not null stays as it is until everything is given back at once: by a trim, or a drop
//! (invariant 13).

use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::footprint::Extent;
use crate::pages::{Block, PAGE_SIZE, Pages, Zero, shared};
use crate::storage::Refused;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// Pointers in a page.
const FANOUT: usize = if cfg!(swap_records_loom) {
    4
} else {
    PAGE_SIZE / size_of::<*mut ()>()
};

/// A page of pointers to leaves; null where there is none.
type Table<T> = [AtomicPtr<Block<T>>; FANOUT];

pub(super) struct Paged<T> {
    root: Box<[AtomicPtr<Block<Table<T>>>]>,
    /// How many pages there are: tables and leaves.
    made: AtomicU64,
    pages: Pages,
    owns: PhantomData<T>,
}

impl<T: Zero> Paged<T> {
    /// For up to `len` leaves, of which there is none.
    pub(super) fn new(len: usize, pages: Pages) -> Result<Self, Refused> {
        Ok(Self {
            root: root(len.div_ceil(FANOUT))?,
            made: made_now(AtomicU64::new(0), |made| _ = made.load(Ordering::Relaxed)),
            pages,
            owns: PhantomData,
        })
    }

    /// The table that this leaf is in, where it is made.
    #[inline]
    fn table(&self, index: usize) -> Option<&Table<T>> {
        look(self.root.get(index / FANOUT)?)
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        look(&self.table(index)?[index % FANOUT])
    }

    /// The leaf, which is made where it is missing: zeroes. Not under a lock.
    pub(super) fn make(&self, index: usize) -> Result<&T, Refused> {
        let past = Refused { bytes: usize::MAX };
        let place = self.root.get(index / FANOUT).ok_or(past)?;
        let table = make(place, self.pages, &self.made)?;
        make(&table[index % FANOUT], self.pages, &self.made)
    }

    /// Calls `then` with all leaves that there are.
    pub(super) fn each(&self, then: impl Fn(&T)) {
        for table in self.root.iter().filter_map(look) {
            table.iter().filter_map(look).for_each(&then);
        }
    }

    pub(super) fn extent(&self) -> Extent {
        let pages = self.made.load(Ordering::Relaxed);
        Extent {
            resident: pages * PAGE_SIZE as u64,
            reserved: pages * PAGE_SIZE as u64,
        }
        .and(Extent::resident(size_of_val(&*self.root)))
    }
}

impl<T> Paged<T> {
    /// Gives all pages back. Gives their number.
    ///
    /// # Safety
    ///
    /// Nobody else uses this meanwhile, and nobody uses what it has given before, any more.
    pub(super) unsafe fn trim(&self) -> u64 {
        let mut freed = 0;
        for place in &self.root {
            for leaf in look(place).into_iter().flatten() {
                // SAFETY: as the caller promises.
                freed += unsafe { unmake(leaf, self.pages) };
            }
            // SAFETY: as above.
            freed += unsafe { unmake(place, self.pages) };
        }
        self.made.fetch_sub(freed, Ordering::Relaxed);
        freed
    }
}

/// A first table of pointers, to nothing.
pub(super) fn root<U>(len: usize) -> Result<Box<[AtomicPtr<Block<U>>]>, Refused> {
    let mut root: Vec<AtomicPtr<Block<U>>> = Vec::new();
    root.try_reserve_exact(len).map_err(|_| Refused {
        bytes: len.saturating_mul(size_of::<*mut ()>()),
    })?;
    root.resize_with(len, || {
        made_now(AtomicPtr::new(ptr::null_mut()), |place| {
            _ = place.load(Ordering::Relaxed);
        })
    });
    Ok(root.into_boxed_slice())
}

/// What a place has, which is made where it is missing: zeroes. Counts in `made` what it made. Not under a lock.
pub(super) fn make<'a, U: Zero>(
    place: &'a AtomicPtr<Block<U>>,
    pages: Pages,
    made: &AtomicU64,
) -> Result<&'a U, Refused> {
    if let Some(there) = look(place) {
        return Ok(there);
    }
    let block = pages.make()?;
    // Release: who finds it finds zeroes. Acquire: the winner's, too.
    let put = place.compare_exchange(
        ptr::null_mut(),
        block.as_ptr(),
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    if put.is_ok() {
        made.fetch_add(1, Ordering::Relaxed);
    } else {
        // SAFETY: it was made above, and nobody else has seen it.
        unsafe { pages.free(block) };
    }
    look(place).ok_or(Refused { bytes: usize::MAX })
}

/// What a place has.
#[inline(always)]
pub(super) fn look<U>(place: &AtomicPtr<Block<U>>) -> Option<&U> {
    // SAFETY: what is there came from `Pages::make`, and was put there with release (`make`). It is freed by `unmake`, whose
    // callers promise that nobody uses it any more (invariant 13).
    unsafe { shared(place.load(Ordering::Acquire)) }
}

/// Gives back what a place has. Gives the number of pages: 1 or 0.
///
/// # Safety
///
/// The page came from these pages. Nobody else uses the place meanwhile, and nobody uses what it had, any more.
pub(super) unsafe fn unmake<U>(place: &AtomicPtr<Block<U>>, pages: Pages) -> u64 {
    let Some(block) = NonNull::new(place.load(Ordering::Acquire)) else {
        return 0;
    };
    place.store(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: it came from `Pages::make` and is in no place any more; for the rest, the caller's promise.
    unsafe { pages.free(block) };
    1
}

/// Loom's atomics are made at their first access, which must be before they are shared.
pub(super) fn made_now<T>(atomic: T, access: impl FnOnce(&T)) -> T {
    if cfg!(swap_records_loom) {
        access(&atomic);
    }
    atomic
}

impl<T> Drop for Paged<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else is left.
        unsafe { self.trim() };
    }
}

impl<T> fmt::Debug for Paged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paged")
            .field("tables", &self.root.len())
            .field("pages", &self.made)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(swap_records_loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicU16;
    use core::cell::Cell;

    #[test]
    fn what_is_not_made_is_not_there_and_what_is_made_is_made_once() {
        let paged = Paged::<[AtomicU16; 4]>::new(2 * FANOUT, Pages::GLOBAL).unwrap();
        assert!(paged.get(0).is_none() && paged.get(2 * FANOUT).is_none());
        assert!(paged.make(2 * FANOUT).is_err());
        let made = paged.make(FANOUT + 3).unwrap();
        made[1].store(7, Ordering::Relaxed);
        assert!(ptr::eq(paged.make(FANOUT + 3).unwrap(), made));
        assert!(paged.get(FANOUT).is_none() && paged.get(3).is_none());
        let seen = Cell::new(0);
        paged.each(|leaf| {
            assert!(ptr::eq(leaf, made));
            seen.set(seen.get() + 1);
        });
        assert_eq!(seen.get(), 1);
        // A table and a leaf.
        // SAFETY: this test has no reference into it that it goes on using.
        assert_eq!(unsafe { paged.trim() }, 2);
        assert!(paged.get(FANOUT + 3).is_none());
        let again = paged.make(FANOUT + 3).unwrap();
        assert_eq!(again[1].load(Ordering::Relaxed), 0);
    }
}
