//! The locks that a table can be made with, and the crates that they come from.
//!
//! `lock_api` has the trait that a lock implements. It is exported, as `parking_lot` is, so that its version fits. Both
//! are kept in this module, so that `use swap_records::*` does not put them in the place of crates of the same name.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use swap_records::SwapRecords;
//! use swap_records::lock::parking_lot;
//!
//! static RECORDS: SwapRecords<parking_lot::RawMutex> = SwapRecords::with_raw_mutex();
//! # }
//! ```

pub use crate::sync::RawSpinLock;
pub use lock_api;
#[cfg(feature = "std")]
pub use parking_lot;
