//! [`Place`]: holds a page that is made when it is first needed.
//!
//! A caller that needs a page makes it outside of any lock and puts it in its place by compare-exchange from
//! null, with release. If two callers do this at once, the loser gives its page back. So a pointer that is
//! not null stays as it is until a trim or a drop gives everything back at once (invariant 13).
//!
//! All kinds of pages share the text of these functions.

use core::ptr::{self, NonNull};

use alloc::boxed::Box;

use super::array::slice;
use crate::footprint::Extent;
use crate::pages::{Block, PAGE_SIZE, Pages, Zero, shared};
use crate::storage::{Refused, Slot};
use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// The pointer to a page, or null.
pub(super) type Place<T> = AtomicPtr<Block<T>>;

/// Makes `len` empty places.
pub(super) fn places<U>(len: usize) -> Result<Box<[Place<U>]>, Refused> {
    slice(len, || {
        made_now(AtomicPtr::new(ptr::null_mut()), |place| {
            _ = place.load(Ordering::Relaxed);
        })
    })
}

/// Returns the page of a place. Makes the page, of zeroes, if it is missing, and counts it in `made`. Must
/// not be called under a lock.
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
    // Release: a thread that finds the page finds zeroes. Acquire: so does the loser, in the page of the
    // winner.
    let put = place.compare_exchange(
        ptr::null_mut(),
        block.as_ptr(),
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    if put.is_ok() {
        made.fetch_add(1, Ordering::Relaxed);
    } else {
        // SAFETY: it was made above, and no other thread has seen it.
        unsafe { pages.free(block) };
    }
    look(place).ok_or(Refused { bytes: usize::MAX })
}

/// Returns the page of a place, if there is one.
#[inline(always)]
pub(super) fn look<U>(place: &Place<U>) -> Option<&U> {
    // SAFETY: the page came from `Pages::make`, and was put there with release (`make`). Only `unmake` frees
    // it, whose callers promise that it is no longer used (invariant 13).
    unsafe { shared(place.load(Ordering::Acquire)) }
}

/// Makes the pages of these places zero.
#[inline(never)]
pub(super) fn clear<T: Slot, const N: usize>(places: &[Place<[T; N]>]) {
    places.iter().filter_map(look).for_each(|page| zero(page));
}

/// Makes these values zero. It is out of line, so that the loop is compiled once and not unrolled.
#[inline(never)]
pub(super) fn zero<T: Slot>(values: &[T]) {
    values.iter().for_each(Slot::clear);
}

/// Gives back the pages of these places. Returns their number, and subtracts it from `made`.
///
/// # Safety
///
/// The pages must have come from this source. No other thread may use the places during the call, and the
/// pages must no longer be used.
#[inline(never)]
pub(super) unsafe fn unmake<U>(places: &[Place<U>], pages: Pages, made: &AtomicU64) -> u64 {
    let mut freed = 0;
    for place in places {
        if let Some(block) = NonNull::new(place.load(Ordering::Acquire)) {
            place.store(ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: it came from `Pages::make` and is in no place any more. The caller promises the rest.
            unsafe { pages.free(block) };
            freed += 1;
        }
    }
    made.fetch_sub(freed, Ordering::Relaxed);
    freed
}

/// The memory of `made` pages.
pub(super) fn extent(made: &AtomicU64) -> Extent {
    let bytes = made.load(Ordering::Relaxed) * PAGE_SIZE as u64;
    Extent {
        resident: bytes,
        reserved: bytes,
    }
}

/// Accesses an atomic in a model. Loom makes an atomic at its first access, which must come before it is
/// shared.
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
