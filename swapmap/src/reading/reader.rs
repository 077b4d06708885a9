//! Reads process by process.

use std::fs;
use std::io;

use swap_records::SwapEntry;

use super::hierarchy::Placement;
use super::kinds::{Kind, Kinds};
use super::pagemap::{Method, Walk};
use super::process::{self, Holder, Opened, Task, is_gone};
use super::slots::Slots;
use super::untold::Untold;
use super::{ATTEMPTS, Hierarchy, Memcgs, Refused, SwapFile, Tally, Watch};

/// How many processes may fail to tell which types are slots before the reader stops to ask.
const MOST_ASKED: usize = 64;

/// The first PID namespace, by the number that the kernel gives it (`PROC_PID_INIT_INO`).
const ALL_PROCESSES: &str = "pid:[4026531836]";

/// Reads processes into a table.
pub(super) struct Reader {
    pub(super) slots: Slots,
    pub(super) memcgs: Memcgs,
    pub(super) kinds: Kinds,
    pub(super) tally: Tally,
    /// When the lists of the cgroups began to be read, by [`process::now`].
    lists: u64,
    /// How many processes had begun by then.
    begun: Option<u64>,
    placement: Placement,
    walk: Walk,
    asked_in_vain: usize,
    untold: Untold,
    /// The entries of the process that is being read. They are recorded when all of them are known.
    held: Vec<SwapEntry>,
}

impl Reader {
    pub(super) fn new(method: Method, swapfiles: &[SwapFile]) -> Result<Self, Refused> {
        let hierarchy = Hierarchy::find()?;
        let namespace = fs::read_link("/proc/self/ns/pid");
        Ok(Self {
            slots: Slots::new(swapfiles),
            // Before the placement: a process that begins while the lists are read may have a number that is
            // in them.
            begun: process::begun(),
            lists: process::now(),
            placement: Placement::read(&hierarchy),
            memcgs: Memcgs::new(hierarchy),
            kinds: Kinds::new(swapfiles.len()),
            tally: Tally {
                confined: namespace.is_ok_and(|name| name.as_os_str() != ALL_PROCESSES),
                ..Tally::default()
            },
            walk: Walk::new(method),
            asked_in_vain: 0,
            untold: Untold::default(),
            held: Vec::new(),
        })
    }

    pub(super) fn read_processes(&mut self, watch: &Watch) -> Result<(), Refused> {
        let failed = |error| Refused::File("/proc".into(), error);
        let first = process::all().map_err(failed)?;
        watch.begin(first.len());
        for &pid in &first {
            self.read_process(pid, true)?;
            watch.one_more();
        }
        // Where no process began, no number was used again either.
        if self.begun.is_none() || process::begun() != self.begun {
            self.read_misplaced_again()?;
            // The processes that began meanwhile may have the pages of a parent that has ended.
            for pid in process::all().map_err(failed)? {
                if first.binary_search(&pid).is_err() {
                    self.read_process(pid, false)?;
                }
            }
        }
        let untold = std::mem::take(&mut self.untold);
        untold.settle(&self.kinds, &mut self.slots, &mut self.tally)
    }

    /// Reads the processes again that have the number of one that ended after the lists of the cgroups were
    /// read: their slots were recorded for its cgroup.
    fn read_misplaced_again(&mut self) -> Result<(), Refused> {
        for holder in 0..self.slots.holders().len() {
            let of = &self.slots.holders()[holder];
            if of.may_be_another_than_listed(self.lists) {
                let pid = of.pid;
                self.slots.forget(holder)?;
                self.untold.forget(holder);
                self.tally.processes -= 1;
                self.tally.reused += 1;
                self.read_process(pid, false)?;
            }
        }
        Ok(())
    }

    /// Reads a process. Its cgroup comes from the lists of the cgroups if `by_lists`, otherwise from the
    /// process.
    ///
    /// An error ends the reading. A failure of only this process is counted.
    fn read_process(&mut self, pid: u32, by_lists: bool) -> Result<(), Refused> {
        for attempt in 0..ATTEMPTS {
            let done = match Task::open(pid) {
                Ok(Opened::Task(task)) => self.read_task(pid, &task, by_lists)?,
                Ok(Opened::NoAddressSpace) if attempt == 0 => return Ok(()),
                Ok(Opened::NoAddressSpace | Opened::Gone) => {
                    self.tally.vanished += 1;
                    return Ok(());
                }
                Ok(Opened::ThreadsChange) => break,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => {
                    self.tally.processes += 1;
                    return Ok(());
                }
                // The process has ended, or has started another program and has a new address space.
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    self.tally.unreadable += 1;
                    let first = &mut self.tally.first_unreadable;
                    first.get_or_insert_with(|| format!("process {pid}: {error}"));
                    return Ok(());
                }
            }
        }
        self.tally.restless += 1;
        Ok(())
    }

    /// The outer error ends the reading. After the inner error, nothing of this process is recorded.
    fn read_task(
        &mut self,
        pid: u32,
        task: &Task,
        by_lists: bool,
    ) -> Result<io::Result<()>, Refused> {
        self.held.clear();
        let held = &mut self.held;
        let done = self.walk.swapped_pages(task, |entry| held.push(entry));
        if done.is_err() || self.held.is_empty() {
            return Ok(done);
        }
        if let Err(error) = self.tell_kinds(task) {
            return Ok(Err(error));
        }
        // An open pagemap is that of one address space: it shows nothing of a process that gets the number
        // later.
        let read_at = process::now();
        let listed = self.placement.find(pid).filter(|_| by_lists);
        let is_listed = listed.is_some();
        let id = match listed {
            Some(path) => self.memcgs.id_of(path)?,
            None => {
                // v1 shows the root for a process that is ending, so this checks afterwards that it is alive.
                let text = task
                    .cgroup()
                    .and_then(|text| task.check_alive().map(|()| text));
                match text {
                    Ok(text) => {
                        let path = self.memcgs.hierarchy().path_in(&text).to_owned();
                        self.memcgs.id_of(&path)?
                    }
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        let holder = self.slots.holder(Holder::new(pid, read_at, is_listed));
        for &entry in &self.held {
            match self.kinds.of(entry.swap_type()) {
                Kind::Slot => self.slots.record(entry, id, holder, &mut self.tally)?,
                Kind::NoSlot => self.tally.no_slot += 1,
                Kind::Untold => self.untold.add(entry, id, holder),
            }
        }
        Ok(Ok(()))
    }

    /// Learns which entries of this process are slots, if that is not known.
    fn tell_kinds(&mut self, task: &Task) -> io::Result<()> {
        let untold = |kinds: &Kinds, entry: &SwapEntry| kinds.of(entry.swap_type()) == Kind::Untold;
        for _ in 0..ATTEMPTS {
            let asks = self.asked_in_vain < MOST_ASKED;
            if !asks || !self.held.iter().any(|entry| untold(&self.kinds, entry)) {
                return Ok(());
            }
            self.walk.learn(task, &mut self.kinds)?;
        }
        self.asked_in_vain += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Version;
    use super::super::memcgs::fake::Fake;
    use super::*;
    use swap_records::{MemcgId, SwapType};

    #[test]
    fn a_process_with_the_number_of_one_that_ended_is_read_again() {
        let fake = Fake::new("reused").with("ended", "memory.stat", "");
        let hierarchy = fake.hierarchy(Version::V1, "/");
        let mut reader = Reader {
            slots: Slots::new(&[]),
            memcgs: Memcgs::new(hierarchy),
            kinds: Kinds::new(1),
            tally: Tally::default(),
            lists: process::now() + 1000,
            begun: None,
            placement: Placement::default(),
            walk: Walk::new(Method::Smaps),
            asked_in_vain: 0,
            untold: Untold::default(),
            held: Vec::new(),
        };
        let ended = reader.memcgs.id_of(b"/ended").unwrap();
        let entry = |ty| SwapEntry::new(SwapType::new(ty).unwrap(), 9).unwrap();
        // This process, taken for one in the cgroup `ended` because of its number.
        let own = Holder::new(std::process::id(), process::now(), true);
        let own = reader.slots.holder(own);
        let slots = &mut reader.slots;
        slots
            .record(entry(0), ended, own, &mut reader.tally)
            .unwrap();
        reader.untold.add(entry(28), ended, own);
        reader.tally.processes = 1;
        // The lists are newer than the process.
        reader.read_misplaced_again().unwrap();
        assert_eq!((reader.tally.reused, reader.tally.processes), (0, 1));
        assert_eq!(reader.slots.records.lookup(entry(0)), Some(ended));
        // The lists are older.
        reader.lists = 0;
        reader.read_misplaced_again().unwrap();
        assert_eq!((reader.tally.reused, reader.tally.processes), (1, 1));
        let left = reader.slots.records.count(MemcgId::new(1).unwrap());
        assert_eq!(left, 0, "its slots were recorded for the cgroup of another");
        let untold = std::mem::take(&mut reader.untold);
        let (kinds, slots) = (&reader.kinds, &mut reader.slots);
        untold.settle(kinds, slots, &mut reader.tally).unwrap();
        assert!(reader.tally.untold.is_empty());
    }
}
