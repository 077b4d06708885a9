//! What the work needs of a machine, and what it says of itself.

use std::time::Duration;

use swap_records::SwapType;

/// The one swapfile.
pub(crate) const SWAP_TYPE: SwapType = SwapType::new(0).expect("below 32");

/// How it stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) live: u64,
    /// Those that are dead, and have their id still.
    pub(crate) dying: u64,
    pub(crate) freed: u64,
    /// Records that a parent inherited.
    pub(crate) reparented: u64,
    /// Time that was spent in taking cgroups offline and freeing them.
    pub(crate) reparenting: Duration,
    pub(crate) ids: u64,
}

/// Cgroups, and slots that they own. A slot is the caller's alone.
pub(crate) trait Machine: Sync {
    type Cgroup: Copy + Send;

    /// A cgroup with `nr` pages in memory; `None` where there is no id for it.
    fn create(&self, slice: usize, nr: u64) -> Result<Option<Self::Cgroup>, String>;
    /// `nr` of its pages go to swap.
    fn swap_out(&self, cgroup: Self::Cgroup, slot: u64, nr: u64) -> Result<(), String>;
    /// Slots are given back.
    fn free_swap(&self, slot: u64, nr: u64) -> Result<(), String>;
    /// The cgroup is removed with the `nr` pages that it has in memory. Some slots may still be its own.
    fn remove(&self, cgroup: Self::Cgroup, nr: u64) -> Result<(), String>;
    /// Cgroups created up to now.
    fn created(&self) -> u64;
    fn numbers(&self) -> Numbers;
    fn ids(&self) -> u64;
}
