//! The work of a thread on either machine: creates and removes cgroups.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::machine::Machine;
use crate::plot::Curve;

/// The slots of the swapfile: 256 GiB of swap.
pub(crate) const SLOTS: u64 = 1 << 26;
/// Live cgroups per thread.
pub(crate) const ALIVE: usize = 150;
/// Parents, which stay alive.
pub(crate) const SLICES: usize = 10;
/// Slots per thread that offline cgroups leave in use.
const LEFT_OVER: usize = 500_000;
/// Slots that are taken from the swapfile at once, and the size of the largest folio.
const BLOCK: u64 = 8;
/// Pages of a cgroup, and how many of them are swapped out, in folios.
const PAGES: u64 = 64;
const SWAPPED: u64 = 48;
/// A cgroup leaves fewer slots than this.
const LEFT: u64 = 8;

struct Alive<C> {
    cgroup: C,
    /// The first slot and the size of each folio.
    folios: Vec<(u64, u64)>,
}

/// The state of one thread.
pub(crate) struct Work<M: Machine> {
    rng: Rng,
    alive: VecDeque<Alive<M::Cgroup>>,
    /// Free blocks of slots. The block that has been free longest is used next.
    free: VecDeque<u64>,
    /// Slots of offline cgroups, such as those of tmpfs and shared memory. They stay in use for long.
    left_over: VecDeque<u64>,
}

impl<M: Machine> Work<M> {
    pub(crate) fn new(_: &M, thread: usize, threads: usize) -> Self {
        let thread = thread as u64;
        Self {
            rng: Rng::with_seed(thread),
            alive: VecDeque::new(),
            free: (thread..SLOTS / BLOCK)
                .step_by(threads)
                .map(|block| block * BLOCK)
                .collect(),
            left_over: VecDeque::new(),
        }
    }

    /// Creates a cgroup. If there are enough, the oldest one is removed. Returns `false` if none can be created.
    pub(crate) fn step(&mut self, machine: &M, curve: &Curve) -> Result<bool, String> {
        let slice = self.rng.usize(..SLICES);
        let Some(cgroup) = machine.create(slice, PAGES)? else {
            return Ok(false);
        };
        let created = machine.created();
        if curve.wants(created) {
            curve.add(created, machine.ids());
        }
        let mut folios = Vec::new();
        let mut left = SWAPPED;
        while left > 0 {
            let nr = self.rng.u64(1..=BLOCK.min(left));
            let slot = self.free.pop_front().ok_or("the swapfile is full")?;
            machine.swap_out(cgroup, slot, nr)?;
            folios.push((slot, nr));
            left -= nr;
        }
        self.alive.push_back(Alive { cgroup, folios });
        if self.alive.len() > ALIVE
            && let Some(oldest) = self.alive.pop_front()
        {
            self.remove(machine, oldest)?;
        }
        Ok(true)
    }

    /// Frees most of the swap of a cgroup, as the exit of its processes does. A few single slots stay in use.
    fn remove(&mut self, machine: &M, offline: Alive<M::Cgroup>) -> Result<(), String> {
        let mut leaves = self.rng.u64(..LEFT);
        for (slot, nr) in offline.folios {
            if leaves > 0 {
                leaves -= 1;
                machine.free_swap(slot + 1, nr - 1)?;
                self.left_over.push_back(slot);
            } else {
                machine.free_swap(slot, nr)?;
                self.free.push_back(slot);
            }
        }
        machine.remove(offline.cgroup, PAGES - SWAPPED)?;
        while self.left_over.len() > LEFT_OVER {
            self.free_oldest(machine)?;
        }
        Ok(())
    }

    fn free_oldest(&mut self, machine: &M) -> Result<(), String> {
        if let Some(slot) = self.left_over.pop_front() {
            machine.free_swap(slot, 1)?;
            self.free.push_back(slot);
        }
        Ok(())
    }

    /// Takes all cgroups offline, and frees everything.
    pub(crate) fn end(&mut self, machine: &M) -> Result<(), String> {
        while let Some(oldest) = self.alive.pop_front() {
            self.remove(machine, oldest)?;
        }
        while !self.left_over.is_empty() {
            self.free_oldest(machine)?;
        }
        Ok(())
    }
}
