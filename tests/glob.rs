//! What `use swap_records::*` imports. It must not hide other crates of the user, whatever their names are.

// These stand for the user's own `parking_lot` and `lock_api`, in other versions than this crate's: `core`
// has other items than these.
extern crate core as lock_api;
extern crate core as parking_lot;

mod named_in_a_path {
    use swap_records::*;

    #[test]
    fn the_users_own_crates_are_not_shadowed_by_a_glob() {
        let id = MemcgId::from(parking_lot::num::NonZeroU16::MIN);
        let cell = lock_api::cell::Cell::new(id);
        assert_eq!(cell.get(), MemcgId::MIN);
        let _: SwapRecords<RawSpinLock> = SwapRecords::new();
    }
}

mod imported {
    use lock_api::cell::Cell;
    use parking_lot::num::NonZeroU16;
    use swap_records::*;

    #[test]
    fn the_users_own_crates_can_be_imported_with_a_glob() {
        let cell = Cell::new(MemcgId::from(NonZeroU16::MIN));
        assert_eq!(cell.get(), MemcgId::MIN);
    }
}

#[test]
#[cfg(feature = "std")]
fn the_locks_can_be_imported_by_name() {
    use swap_records::lock::{lock_api::RawMutex, parking_lot};
    use swap_records::{SwapRecords, lock};

    fn is_one<L: RawMutex>() {}
    is_one::<parking_lot::RawMutex>();
    is_one::<lock::RawSpinLock>();
    let _ = SwapRecords::<parking_lot::RawMutex>::with_raw_mutex();
}
