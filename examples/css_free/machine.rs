//! The interface of the two machines.

use std::time::Duration;

use swap_records::SwapType;

/// The only swapfile.
pub(crate) const SWAP_TYPE: SwapType = SwapType::new(0).expect("below 32");

/// The state of a machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) live: u64,
    /// Offline cgroups, which still have their id.
    pub(crate) offline: u64,
    pub(crate) freed: u64,
    /// Records that a parent has inherited.
    pub(crate) reparented: u64,
    /// The time spent in taking cgroups offline and freeing them.
    pub(crate) reparenting: Duration,
    pub(crate) ids: u64,
}

/// Cgroups, and the slots that they own. Only one caller at a time uses a slot.
pub(crate) trait Machine: Sync {
    type Cgroup: Copy + Send;

    /// Creates a cgroup with `nr` pages in memory. Returns `None` if no id is free.
    fn create(&self, slice: usize, nr: u64) -> Result<Option<Self::Cgroup>, String>;
    /// Swaps `nr` of its pages out.
    fn swap_out(&self, cgroup: Self::Cgroup, slot: u64, nr: u64) -> Result<(), String>;
    /// Frees slots.
    fn free_swap(&self, slot: u64, nr: u64) -> Result<(), String>;
    /// Removes the cgroup with its `nr` pages in memory. It may still own slots.
    fn remove(&self, cgroup: Self::Cgroup, nr: u64) -> Result<(), String>;
    /// Returns the number of cgroups created so far.
    fn created(&self) -> u64;
    fn numbers(&self) -> Numbers;
    fn ids(&self) -> u64;
}
