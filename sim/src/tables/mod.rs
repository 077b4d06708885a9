//! Reference tables: other ways to keep the owner of each swap slot, written from their descriptions.
//!
//! | table | description |
//! | --- | --- |
//! | [`Loop2014`] | the kernel's table of 2014 with the migration that was proposed for it: one lock, one loop |
//! | [`Linux2024`] | the kernel's table since 2024: no lock, two ids per 32-bit atomic, one compare-exchange per entry |
//! | [`U64Words`] | plain 64-bit words of four ids each, compared four ids at a time without vector instructions |
//!
//! Each table keeps one swapfile and implements [`Table`], so one measurement or simulation fits all.

mod check;
mod linux_2024;
mod loop_2014;
mod u64_words;

use std::io;

pub use check::check;
pub use linux_2024::Linux2024;
pub use loop_2014::{Loop2014, Spin};
pub use u64_words::U64Words;

/// Keeps the owner of each slot of one swapfile. Any number of threads may use it at once.
///
/// An owner is a 16-bit id; 0 means that the slot has none. A slot is an index below the number of slots. The
/// tables of this module panic if it is not.
///
/// ```
/// use swap_records_sim::tables::{Linux2024, Loop2014, Table, U64Words};
///
/// fn reparent<T: Table>() -> std::io::Result<u64> {
///     let table = T::with_slots(10_000)?;
///     table.record_range(100, 50, 7);
///     table.record(101, 8);
///     assert_eq!(table.cmpxchg(102, 7, 9), 7);
///     Ok(table.migrate(7, 1))
/// }
///
/// # fn main() -> std::io::Result<()> {
/// # if cfg!(miri) { return Ok(()); } // Memory maps.
/// assert_eq!(reparent::<Loop2014>()?, 48);
/// assert_eq!(reparent::<Linux2024>()?, 48);
/// assert_eq!(reparent::<U64Words>()?, 48);
/// # Ok(())
/// # }
/// ```
pub trait Table: Sized + Sync {
    /// Makes a table of `slots` slots without owners.
    ///
    /// # Errors
    ///
    /// An error if the system refuses the memory.
    fn with_slots(slots: usize) -> io::Result<Self>;

    /// Returns the owner of a slot.
    fn lookup(&self, slot: usize) -> u16;

    /// Makes `id` the owner of a slot, or clears the slot if `id` is 0. Returns the previous owner.
    fn record(&self, slot: usize, id: u16) -> u16;

    /// Makes `id` the owner of `nr` slots from `slot` on.
    fn record_range(&self, slot: usize, nr: usize, id: u16);

    /// Makes `new` the owner of a slot if `old` owns it. Returns the previous owner, which is `old` on
    /// success.
    fn cmpxchg(&self, slot: usize, old: u16, new: u16) -> u16;

    /// Gives every record of `old` to `new`. The two ids must differ. Returns the number of records.
    fn migrate(&self, old: u16, new: u16) -> u64;
}
