//! Does the operations of a tree of cgroups on the tree and on an oracle, also with each allocation refused,
//! one after another.

mod model;
mod op;

use alloc::string::String;

use swap_records::memcg::{MemcgError, Memcgs, Resource};
use swap_records::{EntryError, SwapEntry, SwaponError};

use crate::machine::{
    IrqLock, check, check_unlocked, fail, find_the_trees_lock, forget_the_trees_lock,
};
use crate::memory::PAGES;
use crate::model::{Numbers, entry};
use crate::sequence::{OutOfMemory, Subject};
use model::{CGROUPS, Cgroup, Model, PAGES_ON, Slots, TYPE, each, index};
use op::Op;

type Tree = Memcgs<IrqLock>;

/// The number of slots of a batch.
const BATCH: usize = 80;

/// Returns what the tree must say about slots that do not exist.
fn slots_of(model: &Model, (start, nr): Slots) -> Result<(), EntryError> {
    let (max_pages, offset) = (model.owners.len() as u64, start.offset());
    if max_pages == 0 {
        let offset = Some(offset);
        return Err(EntryError::TypeOff { ty: TYPE, offset });
    }
    if offset >= max_pages || nr > max_pages - offset {
        return Err(EntryError::OutOfRange {
            start,
            nr,
            max_pages,
        });
    }
    Ok(())
}

/// Returns the result of an operation. `None`: it was refused, as it had to be.
#[track_caller]
fn settle<T>(
    done: Result<T, MemcgError>,
    refused: impl FnOnce(MemcgError) -> bool,
    expected: bool,
) -> Result<Option<T>, OutOfMemory> {
    match done {
        Ok(done) => {
            check(
                !expected,
                "an operation of the tree is done that has to be refused",
            );
            Ok(Some(done))
        }
        Err(MemcgError::OutOfMemory { .. } | MemcgError::Entry(EntryError::OutOfMemory { .. })) => {
            Err(OutOfMemory)
        }
        Err(error) => {
            check(
                expected && refused(error),
                "an operation of the tree is refused for another reason",
            );
            Ok(None)
        }
    }
}

/// Returns slots that are far apart.
fn batch(start: SwapEntry, apart: u64) -> [SwapEntry; BATCH] {
    let mut next = start.offset();
    [(); BATCH].map(|()| {
        let slot = entry(TYPE, next % PAGES_ON);
        next += apart;
        slot
    })
}

/// Does the operation on both, and compares the results.
fn apply(op: Op, tree: &mut Tree, model: &mut Model) -> Result<(), OutOfMemory> {
    match op {
        Op::Swapon => match tree.swapon(TYPE, PAGES_ON) {
            Ok(()) => {
                check(model.owners.is_empty(), "a type is turned on twice");
                model.owners.resize(index(PAGES_ON), None);
            }
            Err(SwaponError::OutOfMemory { .. }) => return Err(OutOfMemory),
            Err(error) => check(
                !model.owners.is_empty() && error == SwaponError::TypeOn { ty: TYPE },
                "a swapon is refused for another reason",
            ),
        },
        Op::Swapoff => match tree.swapoff(TYPE) {
            Ok(records) => {
                let all = model.owners.iter().flatten().count();
                check(records == all as u64, "swapoff gives another number");
                model.owners.clear();
            }
            Err(error) => {
                let off = EntryError::TypeOff {
                    ty: TYPE,
                    offset: None,
                };
                check(
                    model.owners.is_empty() && error == off,
                    "swapoff is refused",
                );
            }
        },
        Op::Trim => {
            let out = PAGES.nr_out();
            let given = tree.trim_pages();
            check(
                PAGES.nr_out() == out - given,
                "trim_pages gives another number",
            );
            check(
                !model.owners.is_empty() || PAGES.nr_out() == 0,
                "a tree without swapfiles keeps pages after a trim",
            );
        }
        Op::Reserve(slots) => {
            let expected = slots_of(model, slots);
            let done = tree.reserve(slots.0, slots.1).map_err(MemcgError::Entry);
            let refused = |error| Err(error) == expected.map_err(MemcgError::Entry);
            settle(done, refused, expected.is_err())?;
        }
        Op::Create(parent) | Op::CreateWithId(parent, _) => {
            let Some(place) = model.cgroups.iter().position(Option::is_none) else {
                return Ok(());
            };
            let Cgroup { memcg, online, .. } = model.get(parent);
            let in_use = |id| model.all().any(|(_, cgroup)| cgroup.memcg.id() == id);
            let (done, taken) = match op {
                Op::CreateWithId(_, id) => (tree.create_with_id(memcg, id), in_use(id)),
                _ => (tree.create(memcg), false),
            };
            let refused = |error| match error {
                MemcgError::Offline { id } => !online && id == memcg.id(),
                MemcgError::IdInUse { .. } => taken,
                _ => false,
            };
            if let Some(memcg) = settle(done, refused, !online || taken)? {
                model.cgroups[place] = Some(Cgroup {
                    memcg,
                    parent,
                    online: true,
                    own: 0,
                });
            }
        }
        Op::Charge(at, nr) => {
            let Cgroup { memcg, online, .. } = model.get(at);
            let refused = |error| error == MemcgError::Offline { id: memcg.id() };
            if settle(tree.charge(memcg, nr), refused, !online)?.is_some() {
                *model.own(at) += nr;
            }
        }
        Op::Uncharge(at, nr) => {
            let Cgroup { memcg, own, .. } = model.get(at);
            let (id, charged) = (memcg.id(), own);
            let refused = |error| error == MemcgError::NotCharged { id, nr, charged };
            if settle(tree.uncharge(memcg, nr), refused, nr > own)?.is_some() {
                *model.own(at) -= nr;
            }
        }
        Op::MoveAccount(from, to, nr) => {
            let (of, into) = (model.get(from), model.get(to));
            let refused = |error| match error {
                MemcgError::Offline { id } => !into.online && id == into.memcg.id(),
                MemcgError::NotCharged { id, .. } => nr > of.own && id == of.memcg.id(),
                _ => false,
            };
            let done = tree.move_account(of.memcg, into.memcg, nr);
            if settle(done, refused, !into.online || nr > of.own)?.is_some() {
                *model.own(from) -= nr;
                *model.own(to) += nr;
            }
        }
        Op::Limit(at, more) => {
            let Cgroup { memcg, online, .. } = model.get(at);
            if at == 0 || !online {
                return Ok(());
            }
            let id = memcg.id();
            let usage = tree.usage(memcg).map_or(0, |usage| usage.memory);
            let limit = Some(usage + more);
            let done = tree.set_limit(memcg, Resource::Memory, limit);
            check(done.is_ok(), "a limit is refused");
            let done = tree.charge(memcg, more + 1);
            let refused = matches!(done, Err(MemcgError::OverLimit { id: of, .. }) if of == id);
            check(refused, "a charge above the limit is not refused");
            check(
                tree.charge(memcg, more).is_ok(),
                "a charge up to the limit is refused",
            );
            let done = tree.set_limit(memcg, Resource::Memory, None);
            check(done.is_ok(), "a limit is not taken away");
            *model.own(at) += more;
        }
        Op::SwapOut(..) | Op::SwapOutBatch(..) => swap_out(op, tree, model)?,
        Op::SwapIn(slots) | Op::SwapInCached(slots) => {
            let there = slots_of(model, slots);
            let owner = model.owner(slots.0);
            let all = |model: &Model| each(slots.0, slots.1).all(|slot| model.owner(slot) == owner);
            let fits = there.is_ok() && owner.is_some() && all(model);
            let refused = |error| match error {
                MemcgError::Entry(error) => there == Err(error),
                MemcgError::NoRecord { entry } => there.is_ok() && model.owner(entry).is_none(),
                MemcgError::MixedOwners { entry, .. } => {
                    there.is_ok() && model.owner(entry) != owner
                }
                _ => false,
            };
            let done = match op {
                Op::SwapIn(..) => tree.swap_in(slots.0, slots.1),
                _ => tree.swap_in_cached(slots.0, slots.1),
            };
            if let (Some(payer), Some(owner)) = (settle(done, refused, !fits)?, owner) {
                check(payer == model.get(owner).memcg, "another cgroup pays");
                *model.own(owner) += slots.1;
                if matches!(op, Op::SwapIn(..)) {
                    model.give(slots, owner, None);
                }
            }
        }
        Op::Free(slots) => {
            let there = slots_of(model, slots);
            let refused = |error| Err(error) == there.map_err(MemcgError::Entry);
            let mut told = 0;
            let each_run = |run: swap_records::Run| {
                check_unlocked("a callback is called under a lock");
                let owner = |slot| model.owner(slot).map(|at| model.get(at).memcg.id());
                let all = each(run.start, run.len).all(|slot| owner(slot) == Some(run.id));
                check(all, "another owner is said to be freed");
                told += run.len;
            };
            let done = tree.free_swap_with(slots.0, slots.1, each_run);
            if let Some(freed) = settle(done, refused, there.is_err())? {
                let all = (0..CGROUPS).map(|at| model.give(slots, at, None));
                check(
                    told == freed && freed == all.sum(),
                    "another number is freed",
                );
            }
        }
        Op::FreeBatch(start, apart) => {
            let slots = batch(start, apart);
            let there = slots_of(model, (slots[0], 1));
            let refused = |error| Err(error) == there.map_err(MemcgError::Entry);
            let mut told = 0;
            let done = tree.free_swap_batch(&slots, |slot, id| {
                check_unlocked("a callback is called under a lock");
                let owner = model.owner(slot).map(|at| model.get(at).memcg.id());
                check(owner == Some(id), "another owner is said to be freed");
                told += 1;
            });
            if let Some(freed) = settle(done, refused, there.is_err())? {
                let mut all = 0;
                for slot in slots {
                    all += u64::from(model.owner(slot).is_some());
                    model.set(slot, None);
                }
                check((told, freed) == (all, all), "another number is freed");
            }
        }
        Op::MoveSwapAccount(slots, from, to) => {
            let (of, into) = (model.get(from), model.get(to));
            if from == to || !of.online || !into.online {
                return Ok(());
            }
            let there = slots_of(model, slots);
            let refused = |error| Err(error) == there.map_err(MemcgError::Entry);
            let done = tree.move_swap_account(slots.0, slots.1, of.memcg, into.memcg);
            if let Some(moved) = settle(done, refused, there.is_err())? {
                check(
                    moved == model.give(slots, from, Some(to)),
                    "another number is moved",
                );
            }
        }
        Op::Offline(at) => {
            let Cgroup { memcg, parent, .. } = model.get(at);
            let children = model.children(at).any(|child| child.online);
            let refused = |error| match error {
                MemcgError::IsRoot => at == 0,
                MemcgError::HasChildren { id, .. } => children && id == memcg.id(),
                _ => false,
            };
            let done = tree.css_offline(memcg, u64::MAX);
            if let Some(done) = settle(done, refused, at == 0 || children)? {
                let all = (entry(TYPE, 0), model.owners.len() as u64);
                let moved = model.give(all, at, Some(parent));
                check(done.moved == moved, "another number is migrated");
                if let Some(cgroup) = &mut model.cgroups[at] {
                    cgroup.online = false;
                }
            }
        }
        Op::CssFree(at) => {
            let Cgroup {
                memcg, online, own, ..
            } = model.get(at);
            let children = model.children(at).count() > 0;
            let refused = |error| match error {
                MemcgError::IsRoot => at == 0,
                MemcgError::Online { .. } => online,
                MemcgError::HasChildren { .. } => children,
                MemcgError::Busy { pages, .. } => own > 0 && pages == own,
                _ => false,
            };
            let done = tree.css_free(memcg);
            if settle(done, refused, online || children || own > 0)?.is_some() {
                model.cgroups[at] = None;
                let gone = tree.charge(memcg, 1) == Err(MemcgError::Gone { memcg });
                check(gone, "a cgroup that is gone is charged");
            }
        }
        Op::Usages => check_all(tree, model),
    }
    Ok(())
}

fn swap_out(op: Op, tree: &Tree, model: &mut Model) -> Result<(), OutOfMemory> {
    let (at, slots, nr) = match op {
        Op::SwapOut(at, (start, nr)) => (at, [start; BATCH], nr),
        Op::SwapOutBatch(at, start, apart) => (at, batch(start, apart), BATCH as u64),
        _ => fail("another operation"),
    };
    let is_batch = matches!(op, Op::SwapOutBatch(..));
    let there = slots_of(model, (slots[0], if is_batch { 1 } else { nr }));
    let Cgroup { memcg, own, .. } = model.get(at);
    let all = |nth: u64| match op {
        Op::SwapOut(_, (start, _)) => entry(TYPE, start.offset() + nth),
        _ => slots[index(nth)],
    };
    let mut taken = (0..nr).map(all).filter(|&slot| model.owner(slot).is_some());
    let taken = taken.next();
    let refused = |error| match error {
        MemcgError::Entry(error) => there == Err(error),
        MemcgError::Occupied { entry, .. } => there.is_ok() && taken == Some(entry),
        MemcgError::NotCharged { id, .. } => own < nr && id == memcg.id(),
        _ => false,
    };
    let done = if is_batch {
        tree.swap_out_batch(memcg, &slots)
    } else {
        tree.swap_out(memcg, slots[0], nr)
    };
    let expected = there.is_err() || taken.is_some() || own < nr;
    if let Some(owner) = settle(done, refused, expected)? {
        let payer = model.payer(at);
        check(
            owner == model.get(payer).memcg,
            "another cgroup owns the records",
        );
        *model.own(at) -= nr;
        for slot in (0..nr).map(all) {
            model.set(slot, Some(payer));
        }
    }
    Ok(())
}

/// Compares the charges of each cgroup, and the owner of each slot.
fn check_all(tree: &Tree, model: &Model) {
    for (at, cgroup) in model.all() {
        let Ok(usage) = tree.usage(cgroup.memcg) else {
            fail("a cgroup is gone");
        };
        let below = || model.all().filter(|&(below, _)| model.is_below(below, at));
        let memory: u64 = below().map(|(_, below)| below.own).sum();
        let swap: u64 = below().map(|(below, _)| model.records(below)).sum();
        let is = (
            usage.own,
            usage.memory,
            usage.swap,
            usage.swap_total,
            usage.memsw,
        );
        let expected = (cgroup.own, memory, model.records(at), swap, memory + swap);
        check(is == expected, "what is charged is other than it should be");
        let children = model.children(at).count();
        let is = (usage.online, usage.children as usize, usage.memory_limit);
        check(
            is == (cgroup.online, children, None),
            "a cgroup's state is another",
        );
        let parent = (at != 0).then(|| model.get(cgroup.parent).memcg);
        check(
            tree.parent(cgroup.memcg) == Ok(parent),
            "a cgroup has another parent",
        );
        check(
            tree.find(cgroup.memcg.id()) == Some(cgroup.memcg),
            "a cgroup is not found",
        );
        check(
            tree.records().count(cgroup.memcg.id()) == model.records(at),
            "count differs",
        );
    }
    check(
        tree.iter().count() == model.all().count(),
        "the cgroups are others",
    );
    check(
        tree.ids_in_use() as usize == model.all().count(),
        "the ids in use are others",
    );
    for slot in each(entry(TYPE, 0), PAGES_ON) {
        let owner = model.owner(slot).map(|at| model.get(at).memcg.id());
        check(
            tree.records().lookup(slot) == owner,
            "a slot has another owner",
        );
    }
}

/// A tree and its oracle.
pub(crate) struct Both {
    tree: Tree,
    model: Model,
    numbers: Numbers,
}

impl Subject for Both {
    type Op = Op;

    fn new(seed: u64) -> Self {
        let tree = Tree::with_raw_mutex().with_page_source(&PAGES);
        Self {
            model: Model::new(tree.root()),
            tree,
            numbers: Numbers::new(seed),
        }
    }

    fn op(&mut self, nr: u64, operations: u64) -> Op {
        if nr == 0 {
            // The tree must not move from now on.
            find_the_trees_lock(|| _ = self.tree.ids_in_use());
        }
        match (nr, operations - nr) {
            (0, _) => Op::Create(0),
            (1, _) => Op::Create(1),
            (2, _) => Op::Swapon,
            (3, _) => Op::Charge(1, 9000),
            (4, _) => Op::Charge(2, 9000),
            (_, 3) => Op::Swapoff,
            (_, 2) => Op::Trim,
            (_, 1) => Op::Usages,
            _ => Op::any(&mut self.numbers, &self.model),
        }
    }

    fn may_demand(op: Op) -> bool {
        op.may_demand()
    }

    fn apply(&mut self, op: Op) -> Result<(), OutOfMemory> {
        apply(op, &mut self.tree, &mut self.model)
    }

    fn check_all(&self) {
        check_all(&self.tree, &self.model);
    }

    fn validate(&self) -> Result<(), String> {
        self.tree.validate()
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        forget_the_trees_lock();
    }
}
