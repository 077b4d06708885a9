//! The locks that a table can be made with, and the crates that provide them.
//!
//! A lock implements the trait `RawMutex` of `lock_api`. This module exports `lock_api` and `parking_lot` in
//! the versions that this crate uses. They are not at the root of the crate, so that `use swap_records::*`
//! does not shadow crates of the same name.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use swap_records::SwapRecords;
//! use swap_records::lock::parking_lot;
//!
//! static RECORDS: SwapRecords<parking_lot::RawMutex> = SwapRecords::with_raw_mutex();
//! # }
//! ```
//!
//! # A lock of your own
//!
//! `RawMutex` is that of `lock_api` 0.5: `lock` and `try_lock` return a `Guard`, which `unlock` takes. In `lock_api` 0.4
//! there was a type `GuardMarker` instead.
//!
//! A kernel whose interrupt handlers use the table needs a lock that disables interrupts. The guard can carry
//! the state that `unlock` restores:
//!
//! ```
//! use core::hint::spin_loop;
//! use core::marker::PhantomData;
//! use core::sync::atomic::{AtomicBool, Ordering};
//! use swap_records::lock::lock_api::RawMutex;
//! use swap_records::{CHUNK_ENTRIES, MemcgId, SwapEntry, SwapRecords, SwapType};
//!
//! /// Stands in for two functions of a kernel, where each processor has its own flag.
//! mod interrupts {
//!     use core::sync::atomic::{AtomicBool, Ordering};
//!
//!     static ENABLED: AtomicBool = AtomicBool::new(true);
//!
//!     /// Disables interrupts. Returns whether they were enabled.
//!     pub fn save() -> bool {
//!         ENABLED.swap(false, Ordering::Relaxed)
//!     }
//!
//!     pub fn restore(enabled: bool) {
//!         ENABLED.store(enabled, Ordering::Relaxed);
//!     }
//!     #
//!     # pub fn are_enabled() -> bool {
//!     #     ENABLED.load(Ordering::Relaxed)
//!     # }
//! }
//!
//! struct IrqLock {
//!     locked: AtomicBool,
//! }
//!
//! /// Whether interrupts were enabled. It is not `Send`: a guard stays on its processor.
//! struct Saved(bool, PhantomData<*mut ()>);
//!
//! // SAFETY: only one compare-exchange sets `locked`, and only its winner's `unlock` clears it.
//! unsafe impl RawMutex for IrqLock {
//!     const INIT: Self = Self { locked: AtomicBool::new(false) };
//!     type Guard = Saved;
//!
//!     fn lock(&self) -> Saved {
//!         loop {
//!             if let Some(saved) = self.try_lock() {
//!                 return saved;
//!             }
//!             // Interrupts are enabled while this waits.
//!             while self.is_locked() {
//!                 spin_loop();
//!             }
//!         }
//!     }
//!
//!     fn try_lock(&self) -> Option<Saved> {
//!         // First, since a handler that interrupted the holder would wait for it forever.
//!         let enabled = interrupts::save();
//!         let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
//!         if self.locked.compare_exchange(false, true, acquire, relaxed).is_ok() {
//!             return Some(Saved(enabled, PhantomData));
//!         }
//!         interrupts::restore(enabled);
//!         None
//!     }
//!
//!     unsafe fn unlock(&self, Saved(enabled, _): Saved) {
//!         self.locked.store(false, Ordering::Release);
//!         interrupts::restore(enabled);
//!     }
//!
//!     fn is_locked(&self) -> bool {
//!         self.locked.load(Ordering::Relaxed)
//!     }
//! }
//!
//! static RECORDS: SwapRecords<IrqLock> = SwapRecords::with_raw_mutex();
//!
//! let ty = SwapType::new(0).unwrap();
//! let [child, parent] = [7, 1].map(|id| MemcgId::new(id).unwrap());
//! RECORDS.swapon(ty, 1 << 18).unwrap();
//! RECORDS.record(SwapEntry::new(ty, 4711).unwrap(), child).unwrap();
//! // Interrupts are disabled for at most a chunk at a time.
//! assert_eq!(RECORDS.migration(child, parent).max_hold(CHUNK_ENTRIES).run().moved, 1);
//! # assert!(interrupts::are_enabled());
//! ```
//!
//! # What a lock can rely on
//!
//! - It is held for the work of one region at most. [`Migration::max_hold`](crate::Migration::max_hold)
//!   shortens the holds of a migration.
//! - No memory is allocated or freed, and no callback is called, while it is held.
//! - An operation of a table holds one lock at a time. A tree, [`Memcgs`](crate::memcg::Memcgs), nests its
//!   locks in a fixed order, and frees them last to first. So interrupts stay disabled until the last lock is
//!   freed.
//! - While a thread holds a lock, it waits for nothing except a later lock of that order.

pub use crate::sync::RawSpinLock;
pub use lock_api;
#[cfg(feature = "std")]
pub use parking_lot;
