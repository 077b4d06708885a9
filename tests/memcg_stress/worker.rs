//! One of the threads, with its pages in memory and its slots.

use fastrand::Rng;
use swap_records::memcg::{Memcg, MemcgError, Memcgs};
use swap_records::{EntryError, SwapEntry};

use super::oracle::{Event, Oracle};
use super::{Directory, SLOTS, THREADS, swap_type};

/// The number of slots that are used together: the largest folio.
const BLOCK: u64 = 8;
/// The most folios that a thread has in memory.
const RESIDENT: usize = 60;
const SWAPPED: usize = if cfg!(miri) { 20 } else { 800 };

/// Slots that have records, as far as this thread knows. `owners` are the owners when this thread last
/// looked. By now, an ancestor may own a slot.
#[derive(Clone, Debug)]
struct Swapped {
    start: SwapEntry,
    owners: Vec<Memcg>,
}

impl Swapped {
    fn nr(&self) -> u64 {
        self.owners.len() as u64
    }

    fn entries(&self) -> impl Iterator<Item = SwapEntry> + use<> {
        let start = self.start;
        (0..self.nr()).map(move |skip| start.checked_add(skip).unwrap())
    }
}

pub(crate) struct Worker {
    rng: Rng,
    /// Whether this thread turns swapfiles off.
    first: bool,
    /// Whether any thread turns swapfiles off.
    swapoffs: bool,
    resident: Vec<(Memcg, u64)>,
    swapped: Vec<Swapped>,
    free: Vec<SwapEntry>,
    pub(crate) log: Vec<Event>,
}

impl Worker {
    pub(crate) fn new(thread: usize, seed: u64, swapoffs: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let blocks = 0..SLOTS / BLOCK;
        let mine = blocks.filter(|block| block % THREADS as u64 == thread as u64);
        let mut free: Vec<_> = mine
            .flat_map(|block| {
                (0..2).filter_map(move |ty| SwapEntry::new(swap_type(ty), block * BLOCK))
            })
            .collect();
        rng.shuffle(&mut free);
        Self {
            rng,
            first: thread == 0,
            swapoffs,
            resident: Vec::new(),
            swapped: Vec::new(),
            free,
            log: Vec::new(),
        }
    }

    fn online(&mut self, directory: &Directory) -> Memcg {
        let online = directory.online.lock().unwrap();
        online[self.rng.usize(..online.len())]
    }

    pub(crate) fn step(&mut self, memcgs: &Memcgs, directory: &Directory) {
        match self.rng.u32(..1_000) {
            0..250 => self.charge(memcgs, directory),
            250..450 => self.uncharge(memcgs),
            450..600 => self.swap_out(memcgs),
            600..720 => self.swap_in(memcgs),
            720..840 => self.free_swap(memcgs),
            840..880 => self.move_swap(memcgs, directory),
            880..920 => self.move_account(memcgs, directory),
            920..945 => self.create(memcgs, directory),
            945..968 => self.offline(memcgs, directory),
            968..998 => self.free(memcgs, directory),
            _ if self.swapoffs && self.first => self.swapoff(memcgs),
            _ => {}
        }
        if self.resident.len() > RESIDENT {
            self.uncharge(memcgs);
        }
        if self.swapped.len() > SWAPPED {
            self.free_swap(memcgs);
        }
    }

    fn charge(&mut self, memcgs: &Memcgs, directory: &Directory) {
        let (memcg, nr) = (self.online(directory), self.rng.u64(1..=BLOCK));
        match memcgs.charge(memcg, nr) {
            Ok(()) => {
                self.log.push(Event::Charged { memcg, nr });
                self.resident.push((memcg, nr));
            }
            Err(
                MemcgError::OverLimit { .. } | MemcgError::Offline { .. } | MemcgError::Gone { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn take_resident(&mut self) -> Option<(Memcg, u64)> {
        let len = self.resident.len();
        (len > 0).then(|| self.resident.swap_remove(self.rng.usize(..len)))
    }

    fn uncharge(&mut self, memcgs: &Memcgs) {
        if let Some((memcg, nr)) = self.take_resident() {
            // Its pages are charged, so the cgroup exists, in some state.
            memcgs.uncharge(memcg, nr).unwrap();
            self.log.push(Event::Uncharged { memcg, nr });
        }
    }

    fn swap_out(&mut self, memcgs: &Memcgs) {
        if self.free.is_empty() {
            return;
        }
        let Some((memcg, nr)) = self.take_resident() else {
            return;
        };
        let start = self.free.swap_remove(self.rng.usize(..self.free.len()));
        match memcgs.swap_out(memcg, start, nr) {
            Ok(owner) => {
                self.log.push(Event::SwappedOut { memcg, owner, nr });
                let owners = (0..nr).map(|_| owner).collect();
                self.swapped.push(Swapped { start, owners });
            }
            Err(MemcgError::Entry(EntryError::TypeOff { .. }) | MemcgError::OverLimit { .. }) => {
                self.resident.push((memcg, nr));
                self.free.push(start);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn swap_in(&mut self, memcgs: &Memcgs) {
        if self.swapped.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.swapped.len());
        let (start, nr) = (self.swapped[at].start, self.swapped[at].nr());
        let cached = self.rng.bool();
        let charged = if cached {
            memcgs.swap_in_cached(start, nr)
        } else {
            memcgs.swap_in(start, nr)
        };
        match charged {
            Ok(memcg) => {
                self.log.push(Event::Charged { memcg, nr });
                self.resident.push((memcg, nr));
                if !cached {
                    let swapped = self.swapped.swap_remove(at);
                    self.free.push(swapped.start);
                    let to = memcg;
                    for owner in swapped.owners {
                        self.log.push(Event::SwappedIn { owner, to });
                    }
                } else if self.rng.bool() {
                    self.free_swap_at(memcgs, at);
                }
            }
            // Pages of a folio with one owner may have been moved to another cgroup.
            Err(MemcgError::OverLimit { .. } | MemcgError::MixedOwners { .. }) => {}
            Err(MemcgError::NoRecord { .. } | MemcgError::Entry(EntryError::TypeOff { .. }))
                if self.swapoffs => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn free_swap(&mut self, memcgs: &Memcgs) {
        if !self.swapped.is_empty() {
            let at = self.rng.usize(..self.swapped.len());
            self.free_swap_at(memcgs, at);
        }
    }

    fn free_swap_at(&mut self, memcgs: &Memcgs, at: usize) {
        let swapped = self.swapped.swap_remove(at);
        let (start, nr) = (swapped.start, swapped.nr());
        self.free.push(start);
        let mut told = Vec::new();
        let freed = if self.rng.bool() {
            memcgs.free_swap_with(start, nr, |run| {
                let entries = (0..run.len).map(|skip| run.start.checked_add(skip).unwrap());
                told.extend(entries.map(|entry| (entry, run.id)));
            })
        } else {
            let mut entries: Vec<_> = swapped.entries().collect();
            self.rng.shuffle(&mut entries);
            memcgs.free_swap_batch(&entries, |entry, id| told.push((entry, id)))
        };
        let freed = match freed {
            Ok(freed) => freed,
            Err(MemcgError::Entry(EntryError::TypeOff { .. })) => {
                self.log.push(Event::Lost { nr });
                return;
            }
            Err(error) => panic!("{error}"),
        };
        for (entry, id) in told {
            let skip = usize::try_from(entry.offset() - start.offset()).unwrap();
            let (owner, id) = (swapped.owners[skip], id.get());
            self.log.push(Event::Freed { owner, id });
        }
        if freed < nr {
            self.log.push(Event::Lost { nr: nr - freed });
        }
    }

    fn move_swap(&mut self, memcgs: &Memcgs, directory: &Directory) {
        let to = self.online(directory);
        if self.swapped.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.swapped.len());
        let swapped = &mut self.swapped[at];
        let from = swapped.owners[0];
        match memcgs.move_swap_account(swapped.start, swapped.nr(), from, to) {
            Ok(0) => {}
            Ok(nr) => {
                self.log.push(Event::MovedSwap { from, to, nr });
                if nr == swapped.nr() {
                    swapped.owners.fill(to);
                } else {
                    // Some slots had other owners.
                    for (at, entry) in swapped.entries().enumerate() {
                        swapped.owners[at] = owner(memcgs, entry).unwrap_or(swapped.owners[at]);
                    }
                }
            }
            Err(
                MemcgError::OverLimit { .. }
                | MemcgError::Offline { .. }
                | MemcgError::Gone { .. }
                | MemcgError::Entry(EntryError::TypeOff { .. }),
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn move_account(&mut self, memcgs: &Memcgs, directory: &Directory) {
        let to = self.online(directory);
        let Some((from, nr)) = self.take_resident() else {
            return;
        };
        match memcgs.move_account(from, to, nr) {
            Ok(()) => {
                self.log.push(Event::Moved { from, to, nr });
                self.resident.push((to, nr));
            }
            Err(
                MemcgError::OverLimit { .. } | MemcgError::Offline { .. } | MemcgError::Gone { .. },
            ) => self.resident.push((from, nr)),
            Err(error) => panic!("{error}"),
        }
    }

    fn create(&mut self, memcgs: &Memcgs, directory: &Directory) {
        let parent = self.online(directory);
        match memcgs.create(parent) {
            Ok(child) => {
                self.log.push(Event::Created { child, parent });
                directory.online.lock().unwrap().push(child);
            }
            Err(MemcgError::Offline { .. } | MemcgError::Gone { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn offline(&mut self, memcgs: &Memcgs, directory: &Directory) {
        let memcg = self.online(directory);
        let budget = [0, 1, u64::MAX][self.rng.usize(..3)];
        match memcgs.css_offline(memcg, budget) {
            Ok(migrated) => {
                let nr = migrated.moved;
                self.log.push(Event::Migrated { from: memcg, nr });
                let mut online = directory.online.lock().unwrap();
                // Another thread may have freed the cgroup.
                let before = online.len();
                online.retain(|&other| other != memcg);
                if online.len() < before {
                    directory.removed.lock().unwrap().push(memcg);
                }
            }
            Err(
                MemcgError::IsRoot
                | MemcgError::HasChildren { .. }
                | MemcgError::Dying { .. }
                | MemcgError::Gone { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn free(&mut self, memcgs: &Memcgs, directory: &Directory) {
        let memcg = {
            let mut removed = directory.removed.lock().unwrap();
            if removed.is_empty() {
                return;
            }
            let at = self.rng.usize(..removed.len());
            removed.swap_remove(at)
        };
        match memcgs.css_free(memcg) {
            Ok(migrated) => {
                let nr = migrated.moved;
                self.log.push(Event::Migrated { from: memcg, nr });
                self.log.push(Event::Gone { memcg });
            }
            Err(
                MemcgError::Busy { .. } | MemcgError::HasChildren { .. } | MemcgError::Dying { .. },
            ) => directory.removed.lock().unwrap().push(memcg),
            Err(error) => panic!("{error}"),
        }
    }

    fn swapoff(&mut self, memcgs: &Memcgs) {
        let ty = swap_type(1);
        let nr = memcgs.swapoff(ty).unwrap();
        self.log.push(Event::Dropped { nr });
        memcgs.swapon(ty, SLOTS).unwrap();
    }

    /// Checks that its pages and slots belong to the cgroups that the oracle computes.
    pub(crate) fn check(&self, memcgs: &Memcgs, oracle: &Oracle) {
        for swapped in &self.swapped {
            for (entry, &owner) in swapped.entries().zip(&swapped.owners) {
                match memcgs.records().lookup(entry) {
                    // The owner exists, and is the right one.
                    Some(id) => {
                        let heir = oracle.heir(owner, id.get());
                        assert_eq!(memcgs.find(id), Some(heir));
                    }
                    None => assert!(self.swapoffs, "{entry} has lost its record"),
                }
            }
        }
        for &(memcg, _) in &self.resident {
            assert_eq!(memcgs.find(memcg.id()), Some(memcg));
        }
    }

    pub(crate) fn give_all_back(&mut self, memcgs: &Memcgs) {
        while !self.swapped.is_empty() {
            self.free_swap_at(memcgs, 0);
        }
        while !self.resident.is_empty() {
            self.uncharge(memcgs);
        }
    }
}

/// Returns the cgroup that owns the slot at some moment of this call.
fn owner(memcgs: &Memcgs, entry: SwapEntry) -> Option<Memcg> {
    loop {
        let id = memcgs.records().lookup(entry)?;
        let before = memcgs.find(id);
        // The cgroup existed before and after the lookup, so it existed when it owned the slot.
        if before.is_some()
            && memcgs.records().lookup(entry) == Some(id)
            && memcgs.find(id) == before
        {
            return before;
        }
    }
}
