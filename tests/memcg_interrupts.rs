//! Tests a tree whose locks disable interrupts. Each lock restores the flag that it found.

use std::cell::Cell;
use std::marker::PhantomData;

use lock_api::RawMutex;
use swap_records::memcg::{MemcgError, Memcgs, Resource};
use swap_records::{RawSpinLock, SwapEntry, SwapType};

thread_local! {
    /// The interrupt flag of this processor.
    static ENABLED: Cell<bool> = const { Cell::new(true) };
    static HELD: Cell<u32> = const { Cell::new(0) };
    /// The most locks that were held at once.
    static MOST: Cell<u32> = const { Cell::new(0) };
    /// The most locks that were held while interrupts were enabled.
    static MOST_ENABLED: Cell<u32> = const { Cell::new(0) };
}

struct IrqLock(RawSpinLock);

/// Whether interrupts were enabled when the lock was taken.
struct Flag(bool, PhantomData<*mut ()>);

impl IrqLock {
    fn taken(enabled: bool) -> Flag {
        HELD.set(HELD.get() + 1);
        MOST.set(MOST.get().max(HELD.get()));
        Flag(enabled, PhantomData)
    }
}

// SAFETY: the inner lock is one, and is taken and freed whenever this is.
unsafe impl RawMutex for IrqLock {
    const INIT: Self = Self(RawSpinLock::INIT);
    type Guard = Flag;

    fn lock(&self) -> Flag {
        let enabled = ENABLED.replace(false);
        self.0.lock();
        Self::taken(enabled)
    }

    fn try_lock(&self) -> Option<Flag> {
        let enabled = ENABLED.replace(false);
        if self.0.try_lock().is_none() {
            ENABLED.set(enabled);
            return None;
        }
        Some(Self::taken(enabled))
    }

    unsafe fn unlock(&self, Flag(enabled, _): Flag) {
        // SAFETY: the caller holds it.
        unsafe { self.0.unlock(()) };
        HELD.set(HELD.get() - 1);
        ENABLED.set(enabled);
        if enabled {
            MOST_ENABLED.set(MOST_ENABLED.get().max(HELD.get()));
        }
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

/// A regression: the locks of shards were freed in the order in which they were taken. The first of them
/// enabled interrupts while fifteen others were held.
#[test]
fn interrupts_stay_disabled_until_the_last_lock_of_a_tree_is_freed() {
    let memcgs = Memcgs::<IrqLock>::with_raw_mutex();
    let ty = SwapType::new(0).unwrap();
    let slot = |offset| SwapEntry::new(ty, offset).unwrap();
    memcgs.swapon(ty, 1 << 15).unwrap();
    let [a, b] = [(); 2].map(|()| memcgs.create(memcgs.root()).unwrap());
    let takes_all = |what: &dyn Fn()| {
        MOST.set(0);
        what();
        let shards = if cfg!(miri) { 2 } else { 16 };
        assert!(MOST.get() >= shards, "the locks of all of them");
        assert_eq!(
            MOST_ENABLED.get(),
            0,
            "locks under which interrupts were enabled"
        );
        assert!(ENABLED.get());
    };
    takes_all(&|| _ = memcgs.usage(a).unwrap());
    takes_all(&|| memcgs.set_limit(a, Resource::Memory, Some(100)).unwrap());
    takes_all(&|| {
        let refused = memcgs.charge(a, 101);
        assert!(matches!(refused, Err(MemcgError::OverLimit { .. })));
    });
    memcgs.charge(a, 100).unwrap();
    takes_all(&|| {
        let refused = memcgs.uncharge(a, 101);
        assert!(matches!(refused, Err(MemcgError::NotCharged { .. })));
    });
    memcgs.move_account(a, b, 10).unwrap();
    memcgs.swap_out(a, slot(0), 60).unwrap();
    memcgs.charge(a, 60).unwrap();
    takes_all(&|| {
        let refused = memcgs.swap_in(slot(0), 30);
        assert!(matches!(refused, Err(MemcgError::OverLimit { .. })));
    });
    memcgs.uncharge(a, 90).unwrap();
    takes_all(&|| _ = memcgs.swapoff(ty).unwrap());
    memcgs.css_offline(a, 0).unwrap();
    memcgs.validate().unwrap();
    assert_eq!(MOST_ENABLED.get(), 0);
    assert!(ENABLED.get());
}
