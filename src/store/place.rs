//! [`Place`]: where a page is that is made when it is first needed.
//!
//! A caller that needs a page makes it outside of any lock and puts it in its place by compare-exchange from null, with release.
//! The loser of two gives its page back. So a pointer that is not null stays as it is until everything is given back at
//! once: by a trim, or a drop (invariant 13).
//!
//! All kinds of pages share the text of these functions.

use core::ptr::{self, NonNull};

use alloc::boxed::Box;

use super::array::slice;
use crate::footprint::Extent;
use crate::pages::{Block, PAGE_SIZE, Pages, Zero, shared};
use crate::storage::{Refused, Slot};
use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// Where a page is; null where there is none.
pub(super) type Place<T> = AtomicPtr<Block<T>>;

/// So many places, with nothing in them.
pub(super) fn places<U>(len: usize) -> Result<Box<[Place<U>]>, Refused> {
    slice(len, || {
        made_now(AtomicPtr::new(ptr::null_mut()), |place| {
            _ = place.load(Ordering::Relaxed);
        })
    })
}

/// What a place has, which is made where it is missing: zeroes. Counts in `made` what it made. Not under a lock.
#[inline(never)]
pub(super) fn make<'a, U: Zero>(
    place: &'a Place<U>,
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
pub(super) fn look<U>(place: &Place<U>) -> Option<&U> {
    // SAFETY: what is there came from `Pages::make`, and was put there with release (`make`). It is freed by `unmake`, whose
    // callers promise that nobody uses it any more (invariant 13).
    unsafe { shared(place.load(Ordering::Acquire)) }
}

/// Makes zero what these places have.
#[inline(never)]
pub(super) fn clear<T: Slot, const N: usize>(places: &[Place<[T; N]>]) {
    places.iter().filter_map(look).for_each(|page| zero(page));
}

/// Makes these values zero: out of line, so that the loop stays a loop.
#[inline(never)]
pub(super) fn zero<T: Slot>(values: &[T]) {
    values.iter().for_each(Slot::clear);
}

/// Gives back what these places have. Gives the number of pages, and takes it from `made`.
///
/// # Safety
///
/// The pages came from these pages. Nobody else uses the places meanwhile, and nobody uses what they had, any more.
#[inline(never)]
pub(super) unsafe fn unmake<U>(places: &[Place<U>], pages: Pages, made: &AtomicU64) -> u64 {
    let mut freed = 0;
    for place in places {
        if let Some(block) = NonNull::new(place.load(Ordering::Acquire)) {
            place.store(ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: it came from `Pages::make` and is in no place any more; for the rest, the caller's promise.
            unsafe { pages.free(block) };
            freed += 1;
        }
    }
    made.fetch_sub(freed, Ordering::Relaxed);
    freed
}

/// That of so many pages.
pub(super) fn extent(made: &AtomicU64) -> Extent {
    let bytes = made.load(Ordering::Relaxed) * PAGE_SIZE as u64;
    Extent {
        resident: bytes,
        reserved: bytes,
    }
}

/// Loom's atomics are made at their first access, which must be before they are shared.
pub(super) fn made_now<T>(atomic: T, access: impl FnOnce(&T)) -> T {
    if cfg!(swap_records_loom) {
        access(&atomic);
    }
    atomic
}

#[cfg(all(test, not(swap_records_loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicU16;

    #[test]
    fn what_is_not_made_is_not_there_and_what_is_made_is_made_once() {
        let places = places::<[AtomicU16; 4]>(2).unwrap();
        let number = AtomicU64::new(0);
        assert!(places.iter().all(|place| look(place).is_none()));
        let made = make(&places[1], Pages::GLOBAL, &number).unwrap();
        made[1].store(7, Ordering::Relaxed);
        assert!(ptr::eq(
            make(&places[1], Pages::GLOBAL, &number).unwrap(),
            made
        ));
        assert!(look(&places[0]).is_none());
        assert_eq!(extent(&number).resident, PAGE_SIZE as u64);
        clear(&places);
        assert_eq!(made[1].load(Ordering::Relaxed), 0);
        made[1].store(7, Ordering::Relaxed);
        // SAFETY: this test has no reference into it that it goes on using.
        assert_eq!(unsafe { unmake(&places, Pages::GLOBAL, &number) }, 1);
        assert!(look(&places[1]).is_none());
        let again = make(&places[1], Pages::GLOBAL, &number).unwrap();
        assert_eq!(again[1].load(Ordering::Relaxed), 0);
        // SAFETY: as above.
        assert_eq!(unsafe { unmake(&places, Pages::GLOBAL, &number) }, 1);
    }
}
