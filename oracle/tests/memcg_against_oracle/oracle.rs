//! A tree of cgroups as plain lists. For each operation, it gives the reasons why the operation must be
//! refused, or the answer.

use std::collections::BTreeMap;

use swap_records::memcg::{Memcg, MemcgError, Resource};
use swap_records::{EntryError, Run, SwapEntry, SwapType};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Online,
    Offline,
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    pub(crate) memcg: Memcg,
    pub(crate) parent: Option<usize>,
    pub(crate) state: State,
    pub(crate) own: u64,
    /// Limits of memory, memsw and swap.
    pub(crate) limits: [Option<u64>; 3],
}

/// The answer that the operation must give if no reason refuses it.
pub(crate) type Expected<T> = Result<T, Vec<MemcgError>>;

#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    pub(crate) cgroups: Vec<Cgroup>,
    /// The owner of the slot at each offset.
    pub(crate) records: BTreeMap<u64, usize>,
    pub(crate) ty: SwapType,
    /// The swapfile, while it is on.
    pub(crate) pages: Option<u64>,
}

pub(crate) const RESOURCES: [Resource; 3] = [Resource::Memory, Resource::Memsw, Resource::Swap];

impl Oracle {
    pub(crate) fn new(root: Memcg, ty: SwapType) -> Self {
        let root = Cgroup {
            memcg: root,
            parent: None,
            state: State::Online,
            own: 0,
            limits: [None; 3],
        };
        Self {
            cgroups: vec![root],
            records: BTreeMap::new(),
            ty,
            pages: None,
        }
    }

    pub(crate) fn path(&self, at: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(at), |&at| self.cgroups[at].parent)
    }

    pub(crate) fn there(&self) -> impl Iterator<Item = usize> {
        (0..self.cgroups.len()).filter(|&at| self.cgroups[at].state != State::Gone)
    }

    pub(crate) fn children(&self, of: usize) -> impl Iterator<Item = usize> {
        self.there()
            .filter(move |&at| self.cgroups[at].parent == Some(of))
    }

    pub(crate) fn swap(&self, of: usize) -> u64 {
        self.records.values().filter(|&&owner| owner == of).count() as u64
    }

    /// Returns memory, memsw and records, with all descendants.
    pub(crate) fn usage(&self, of: usize) -> [u64; 3] {
        let below = self.there().filter(|&at| self.path(at).any(|up| up == of));
        below.fold([0; 3], |[memory, memsw, records], at| {
            let own = self.cgroups[at].own;
            let swap = self.swap(at);
            [memory + own, memsw + own + swap, records + swap]
        })
    }

    pub(crate) fn entry(&self, offset: u64) -> SwapEntry {
        SwapEntry::new(self.ty, offset).unwrap()
    }

    /// Returns the lowest id that no cgroup has.
    pub(crate) fn lowest_id(&self) -> u16 {
        let used: Vec<_> = self
            .there()
            .map(|at| self.cgroups[at].memcg.id().get())
            .collect();
        (1..).find(|id| !used.contains(id)).unwrap()
    }

    fn gone(&self, at: usize, reasons: &mut Vec<MemcgError>) {
        let Cgroup { memcg, state, .. } = self.cgroups[at];
        if state == State::Gone {
            reasons.push(MemcgError::Gone { memcg });
        }
    }

    fn not_online(&self, at: usize, reasons: &mut Vec<MemcgError>) {
        let Cgroup { memcg, state, .. } = self.cgroups[at];
        if state == State::Offline {
            reasons.push(MemcgError::Offline { id: memcg.id() });
        }
        self.gone(at, reasons);
    }

    /// Returns the limits that additional charges for the path, up to below `end`, would exceed.
    fn over(&self, at: usize, end: Option<usize>, more: [u64; 3], reasons: &mut Vec<MemcgError>) {
        for up in self.path(at).take_while(|&up| Some(up) != end) {
            let usage = self.usage(up);
            for which in 0..3 {
                let (nr, usage) = (more[which], usage[which]);
                let limit = self.cgroups[up].limits[which];
                if let Some(limit) = limit.filter(|&limit| nr > 0 && usage + nr > limit) {
                    reasons.push(MemcgError::OverLimit {
                        id: self.cgroups[up].memcg.id(),
                        resource: RESOURCES[which],
                        nr,
                        usage,
                        limit,
                    });
                }
            }
        }
    }

    fn not_charged(&self, at: usize, nr: u64, reasons: &mut Vec<MemcgError>) {
        let Cgroup { memcg, own, .. } = self.cgroups[at];
        if nr > own {
            reasons.push(MemcgError::NotCharged {
                id: memcg.id(),
                nr,
                charged: own,
            });
        }
    }

    fn not_there(&self, offset: u64, nr: u64, reasons: &mut Vec<MemcgError>) {
        let start = self.entry(offset);
        reasons.extend(match self.pages {
            None => Some(MemcgError::Entry(EntryError::TypeOff {
                ty: self.ty,
                offset: Some(offset),
            })),
            Some(max_pages) if offset + nr > max_pages => {
                Some(MemcgError::Entry(EntryError::OutOfRange {
                    start,
                    nr,
                    max_pages,
                }))
            }
            Some(_) => None,
        });
    }

    fn common(&self, a: usize, b: usize) -> Option<usize> {
        self.path(a)
            .find(|&up| self.path(b).any(|other| other == up))
    }

    pub(crate) fn first_online(&self, at: usize) -> usize {
        let online = |&up: &usize| self.cgroups[up].state == State::Online;
        self.path(at).find(online).unwrap()
    }

    /// Returns the runs of the slots from `offset` on, as an operation returns them.
    pub(crate) fn runs(&self, offset: u64, nr: u64) -> Vec<Run> {
        let mut runs = Vec::<Run>::new();
        for (&offset, &owner) in self.records.range(offset..offset + nr) {
            let (start, id) = (self.entry(offset), self.cgroups[owner].memcg.id());
            match runs.last_mut() {
                Some(last) if last.id == id && last.start.offset() + last.len == offset => {
                    last.len += 1;
                }
                _ => runs.push(Run { start, len: 1, id }),
            }
        }
        runs
    }

    pub(crate) fn create(&self, parent: usize) -> Expected<u16> {
        let mut no = Vec::new();
        self.not_online(parent, &mut no);
        give(self.lowest_id(), no)
    }

    pub(crate) fn charge(&mut self, at: usize, nr: u64) -> Expected<()> {
        let mut no = Vec::new();
        self.not_online(at, &mut no);
        self.over(at, None, [nr, nr, 0], &mut no);
        give((), no).inspect(|()| self.cgroups[at].own += nr)
    }

    pub(crate) fn uncharge(&mut self, at: usize, nr: u64) -> Expected<()> {
        let mut no = Vec::new();
        self.gone(at, &mut no);
        self.not_charged(at, nr, &mut no);
        give((), no).inspect(|()| self.cgroups[at].own -= nr)
    }

    pub(crate) fn move_account(&mut self, from: usize, to: usize, nr: u64) -> Expected<()> {
        let mut no = Vec::new();
        self.gone(from, &mut no);
        self.not_online(to, &mut no);
        self.not_charged(from, nr, &mut no);
        self.over(to, self.common(from, to), [nr, nr, 0], &mut no);
        give((), no).inspect(|()| {
            self.cgroups[from].own -= nr;
            self.cgroups[to].own += nr;
        })
    }

    /// Returns the cgroup that owns the records.
    pub(crate) fn swap_out(&mut self, at: usize, offset: u64, nr: u64) -> Expected<usize> {
        let mut no = Vec::new();
        self.gone(at, &mut no);
        self.not_charged(at, nr, &mut no);
        self.not_there(offset, nr, &mut no);
        if let Some((&taken, &owner)) = self.records.range(offset..offset + nr).next() {
            no.push(MemcgError::Occupied {
                entry: self.entry(taken),
                owner: self.cgroups[owner].memcg.id(),
            });
        }
        let owner = self.first_online(at);
        if self.cgroups[at].state != State::Gone {
            self.over(owner, None, [0, 0, nr], &mut no);
        }
        give(owner, no).inspect(|_| {
            self.cgroups[at].own -= nr;
            self.records
                .extend((offset..offset + nr).map(|slot| (slot, owner)));
        })
    }

    /// Returns the cgroup that is charged. There is at least one slot. `cached`: the records stay.
    pub(crate) fn swap_in(&mut self, offset: u64, nr: u64, cached: bool) -> Expected<usize> {
        let mut no = Vec::new();
        self.not_there(offset, nr, &mut no);
        let mut payer = None;
        for slot in offset..offset + nr {
            let entry = self.entry(slot);
            let Some(&owner) = self.records.get(&slot) else {
                no.push(MemcgError::NoRecord { entry });
                break;
            };
            let pays = self.first_online(owner);
            let charged = *payer.get_or_insert(pays);
            if pays != charged {
                no.push(MemcgError::MixedOwners {
                    entry,
                    owner: self.cgroups[owner].memcg.id(),
                    charged: self.cgroups[charged].memcg.id(),
                });
                break;
            }
        }
        if let Some(charged) = payer {
            let memsw = if cached { nr } else { 0 };
            self.over(charged, None, [nr, memsw, 0], &mut no);
        }
        give(payer.unwrap_or(0), no).inspect(|&charged| {
            self.cgroups[charged].own += nr;
            if !cached {
                self.records
                    .retain(|slot, _| !(offset..offset + nr).contains(slot));
            }
        })
    }

    pub(crate) fn free_swap(&mut self, offset: u64, nr: u64) -> Expected<Vec<Run>> {
        let mut no = Vec::new();
        self.not_there(offset, nr, &mut no);
        give(self.runs(offset, nr), no).inspect(|_| {
            self.records
                .retain(|slot, _| !(offset..offset + nr).contains(slot));
        })
    }

    pub(crate) fn move_swap(
        &mut self,
        offset: u64,
        nr: u64,
        from: usize,
        to: usize,
    ) -> Expected<u64> {
        let mut no = Vec::new();
        self.gone(from, &mut no);
        self.not_online(to, &mut no);
        self.not_there(offset, nr, &mut no);
        let slots = self.records.range(offset..offset + nr);
        let due = slots
            .filter(|&(_, &owner)| owner == from && from != to)
            .count() as u64;
        self.over(to, self.common(from, to), [0, due, due], &mut no);
        give(due, no).inspect(|_| {
            for (_, owner) in self.records.range_mut(offset..offset + nr) {
                if *owner == from {
                    *owner = to;
                }
            }
        })
    }

    /// Returns the number of records that its parent gets: all of them, or none.
    pub(crate) fn css_offline(&mut self, at: usize, migrate: bool) -> Expected<u64> {
        let mut no = Vec::new();
        self.mortal(at, &mut no);
        let online = |&child: &usize| self.cgroups[child].state == State::Online;
        let children = u32::try_from(self.children(at).filter(online).count()).unwrap();
        if children > 0 {
            let id = self.cgroups[at].memcg.id();
            no.push(MemcgError::HasChildren { id, children });
        }
        let moved = if migrate { self.swap(at) } else { 0 };
        give(moved, no).inspect(|_| {
            self.cgroups[at].state = State::Offline;
            if migrate {
                self.inherit(at);
            }
        })
    }

    pub(crate) fn css_free(&mut self, at: usize) -> Expected<u64> {
        let mut no = Vec::new();
        self.mortal(at, &mut no);
        let id = self.cgroups[at].memcg.id();
        if self.cgroups[at].state == State::Online {
            no.push(MemcgError::Online { id });
        }
        let children = u32::try_from(self.children(at).count()).unwrap();
        if children > 0 {
            no.push(MemcgError::HasChildren { id, children });
        }
        let pages = self.cgroups[at].own;
        if pages > 0 {
            no.push(MemcgError::Busy { id, pages });
        }
        give(self.swap(at), no).inspect(|_| {
            self.inherit(at);
            self.cgroups[at].state = State::Gone;
        })
    }

    fn mortal(&self, at: usize, reasons: &mut Vec<MemcgError>) {
        if at == 0 {
            reasons.push(MemcgError::IsRoot);
        }
        self.gone(at, reasons);
    }

    fn inherit(&mut self, from: usize) {
        let parent = self.cgroups[from].parent.unwrap();
        let owners = self.records.values_mut();
        owners
            .filter(|owner| **owner == from)
            .for_each(|owner| *owner = parent);
    }

    pub(crate) fn set_limit(
        &mut self,
        at: usize,
        which: usize,
        limit: Option<u64>,
    ) -> Expected<()> {
        let mut no = Vec::new();
        self.gone(at, &mut no);
        if at == 0 {
            no.push(MemcgError::IsRoot);
        }
        let mut after = self.cgroups[at].limits;
        after[which] = limit;
        let [memory, memsw] = [after[0], after[1]].map(|limit| limit.unwrap_or(u64::MAX));
        if memory > memsw {
            let id = self.cgroups[at].memcg.id();
            no.push(MemcgError::LimitOrder { id, memory, memsw });
        }
        let usage = self.usage(at)[which];
        if let Some(limit) = limit.filter(|&limit| usage > limit) {
            no.push(MemcgError::LimitBelowUsage {
                id: self.cgroups[at].memcg.id(),
                resource: RESOURCES[which],
                limit,
                usage,
            });
        }
        give((), no).inspect(|()| self.cgroups[at].limits[which] = limit)
    }
}

fn give<T>(value: T, reasons: Vec<MemcgError>) -> Expected<T> {
    if reasons.is_empty() {
        Ok(value)
    } else {
        Err(reasons)
    }
}
