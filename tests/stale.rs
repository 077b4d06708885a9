//! Operations that began with a swapfile which is gone when they take its lock, while another swapfile of the
//! same type is on. They are refused, and do not change the new swapfile.

use std::cell::Cell;

use lock_api::RawMutex;
use swap_records::{
    EntryError, Exchange, MemcgId, REGION_ENTRIES, RawSpinLock, Run, SwapEntry, SwapRecords,
    SwapType,
};

thread_local! {
    /// Called once, before the next lock is taken or tried.
    static BEFORE: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// A [`RawSpinLock`] that a thread can be late for.
struct Late(RawSpinLock);

// SAFETY: the inner lock excludes, and is taken and freed exactly when this lock is.
unsafe impl RawMutex for Late {
    const INIT: Self = Self(RawSpinLock::INIT);
    type Guard = <RawSpinLock as RawMutex>::Guard;

    fn lock(&self) {
        if let Some(before) = BEFORE.take() {
            before();
        }
        self.0.lock();
    }

    fn try_lock(&self) -> Option<()> {
        if let Some(before) = BEFORE.take() {
            before();
        }
        self.0.try_lock()
    }

    unsafe fn unlock(&self, (): ()) {
        // SAFETY: the caller holds it.
        unsafe { self.0.unlock(()) };
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

static TABLE: SwapRecords<Late> = SwapRecords::with_raw_mutex();
const TYPE: SwapType = SwapType::new(0).unwrap();
const PAGES: u64 = 2 * REGION_ENTRIES as u64;
const A: MemcgId = MemcgId::new(1).unwrap();
const B: MemcgId = MemcgId::new(2).unwrap();
/// This id shares the counter of A, so that a count has to scan for A.
const SHARED: MemcgId = MemcgId::new(4097).unwrap();
const C: MemcgId = MemcgId::new(3).unwrap();
/// Over the border of two regions.
const FIRST: u64 = REGION_ENTRIES as u64 - 2;
const NR: u64 = 4;

fn entry() -> SwapEntry {
    SwapEntry::new(TYPE, FIRST).unwrap()
}

/// Turns on another swapfile with the type, in the same area, with records of its own.
fn another() {
    TABLE.swapoff(TYPE).unwrap();
    TABLE.swapon(TYPE, PAGES).unwrap();
    assert!(TABLE.record_range(entry(), NR, B).unwrap().is_empty());
}

#[test]
fn an_operation_that_began_before_a_swapoff_does_nothing_to_the_next_swapfile() {
    let off = EntryError::TypeOff {
        ty: TYPE,
        offset: Some(FIRST),
    };
    let here = |operation: &dyn Fn() -> Result<(), EntryError>| {
        TABLE.swapon(TYPE, PAGES).unwrap();
        // The first swapfile has records of these ids, so that no memory has to be made.
        TABLE.record_range(entry(), NR, SHARED).unwrap();
        TABLE.record_range(entry(), NR, A).unwrap();
        BEFORE.set(Some(another));
        let result = operation();
        assert!(BEFORE.take().is_none(), "it takes a lock");
        let left = Run {
            start: entry(),
            len: NR,
            id: B,
        };
        assert!(TABLE.runs(TYPE).eq([left]), "the next one has what it had");
        TABLE.validate().unwrap();
        assert_eq!(TABLE.swapoff(TYPE), Ok(NR));
        result
    };
    let exchange = |old: Option<MemcgId>, new: Option<MemcgId>| {
        TABLE.cmpxchg(entry(), old, new).map(|exchange| {
            assert_ne!(exchange, Exchange::Stored, "from {old:?} to {new:?}");
        })
    };
    assert_eq!(here(&|| TABLE.record(entry(), C).map(drop)), Err(off));
    assert_eq!(here(&|| TABLE.record(entry(), A).map(drop)), Err(off));
    assert_eq!(here(&|| TABLE.clear(entry()).map(drop)), Err(off));
    for owners in [(Some(A), Some(C)), (Some(B), Some(C)), (Some(B), None)] {
        assert_eq!(here(&|| exchange(owners.0, owners.1)), Err(off));
    }
    for nr in [1, NR] {
        assert_eq!(
            here(&|| TABLE.record_range(entry(), nr, C).map(drop)),
            Err(off)
        );
        assert_eq!(here(&|| TABLE.clear_range(entry(), nr).map(drop)), Err(off));
    }
    let slots = [0, 1, 3].map(|skip| SwapEntry::new(TYPE, FIRST + skip).unwrap());
    let untold = |_, _| panic!("nothing was written");
    assert_eq!(here(&|| TABLE.record_batch(&slots, C, untold)), Err(off));
    assert_eq!(here(&|| TABLE.record_batch(&slots, A, untold)), Err(off));
    assert_eq!(here(&|| TABLE.clear_batch(&slots, untold)), Err(off));
    let with_ids = slots.map(|slot| (slot, C));
    assert_eq!(
        here(&|| TABLE.record_batch_ids(&with_ids, untold)),
        Err(off)
    );
    // The batch is late for its second lock. What it wrote under the first lock is gone with the first
    // swapfile.
    let second_is_late = |batch: &dyn Fn(&mut Vec<SwapEntry>) -> Result<(), EntryError>| {
        here(&|| {
            BEFORE.set(Some(|| BEFORE.set(Some(another))));
            let mut told = Vec::new();
            let result = batch(&mut told);
            assert_eq!(told, slots[..2]);
            result
        })
    };
    let off_there = EntryError::TypeOff {
        ty: TYPE,
        offset: Some(FIRST + 3),
    };
    let record = |told: &mut Vec<_>| TABLE.record_batch(&slots, C, |slot, _| told.push(slot));
    assert_eq!(second_is_late(&record), Err(off_there));
    let record = |told: &mut Vec<_>| TABLE.record_batch_ids(&with_ids, |slot, _| told.push(slot));
    assert_eq!(second_is_late(&record), Err(off_there));
    let clear = |told: &mut Vec<_>| TABLE.clear_batch(&slots, |slot, _| told.push(slot));
    assert_eq!(second_is_late(&clear), Err(off_there));
    // The callback turns the swapfile off between two windows. The next window still belongs to the first
    // swapfile.
    let by_turns: Vec<_> = (0..100).map(|n| slots[n % 2 * 2]).collect();
    type Batch<'a> = &'a dyn Fn(&mut dyn FnMut()) -> Result<(), EntryError>;
    let off_between = |batch: Batch<'_>| {
        here(&|| {
            BEFORE.set(None);
            let mut once = Some(another);
            batch(&mut || {
                if let Some(another) = once.take() {
                    another();
                }
            })
        })
    };
    let with_ids: Vec<_> = by_turns.iter().map(|&slot| (slot, C)).collect();
    let batch = |each: &mut dyn FnMut()| TABLE.record_batch(&by_turns, C, |_, _| each());
    assert_eq!(off_between(&batch), Err(off));
    let batch = |each: &mut dyn FnMut()| TABLE.record_batch_ids(&with_ids, |_, _| each());
    assert_eq!(off_between(&batch), Err(off));
    let batch = |each: &mut dyn FnMut()| TABLE.clear_batch(&by_turns, |_, _| each());
    assert_eq!(off_between(&batch), Err(off));
    // It has moved nothing in the first swapfile, and does not begin with the next one.
    let migrate = || {
        assert_eq!(TABLE.migrate(A, C) + TABLE.migrate(B, B), 0);
        Ok(())
    };
    assert_eq!(here(&migrate), Ok(()));
    let count = || {
        assert_eq!(TABLE.count(A), 0);
        Ok(())
    };
    assert_eq!(here(&count), Ok(()));
    let owners = || {
        assert_eq!(TABLE.owners().next(), None);
        Ok(())
    };
    assert_eq!(here(&owners), Ok(()));
}
