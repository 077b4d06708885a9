//! Random operations on a tree of cgroups, one after another. Each is compared with a model that consists of
//! lists only: its answer, the reason of a refusal, and afterwards, also after a refusal, all numbers of all
//! cgroups and all records.

mod oracle;

use oracle::{Expected, Oracle, State};
use proptest::collection::vec;
use proptest::prelude::*;
use swap_records::memcg::{Memcg, MemcgError, Memcgs};
use swap_records::{REGION_ENTRIES, SwapType};

/// Slots on both sides of the border of two regions, and the last slot.
const FIRST: u64 = REGION_ENTRIES as u64 - 12;
const PAGES: u64 = REGION_ENTRIES as u64 + 12;

/// Cgroups are numbers, modulo the number of cgroups that were ever created. Slots are counted from `FIRST`.
#[derive(Clone, Copy, Debug)]
enum Op {
    Create(usize),
    Charge(usize, u64),
    Uncharge(usize, u64),
    MoveAccount(usize, usize, u64),
    SwapOut(usize, u64, u64),
    SwapIn(u64, u64, bool),
    FreeSwap(u64, u64),
    MoveSwap(u64, u64, usize, usize),
    Offline(usize, bool),
    Free(usize),
    SetLimit(usize, usize, Option<u64>),
    Swapoff,
    Swapon,
}

fn op() -> impl Strategy<Value = Op> {
    // The root too, and cgroups that were freed.
    let cgroup = || 0_usize..12;
    let few = || prop_oneof![8 => 0_u64..9, 1 => 60_u64..300];
    let slot = || 0_u64..25;
    let range = || (slot(), 0_u64..9);
    prop_oneof![
        3 => cgroup().prop_map(Op::Create),
        6 => (cgroup(), few()).prop_map(|(at, nr)| Op::Charge(at, nr)),
        4 => (cgroup(), few()).prop_map(|(at, nr)| Op::Uncharge(at, nr)),
        3 => (cgroup(), cgroup(), few()).prop_map(|(from, to, nr)| Op::MoveAccount(from, to, nr)),
        8 => (cgroup(), range()).prop_map(|(at, (slot, nr))| Op::SwapOut(at, slot, nr)),
        6 => (slot(), 1_u64..5, any::<bool>())
            .prop_map(|(slot, nr, cached)| Op::SwapIn(slot, nr, cached)),
        4 => range().prop_map(|(slot, nr)| Op::FreeSwap(slot, nr)),
        4 => (range(), cgroup(), cgroup())
            .prop_map(|((slot, nr), from, to)| Op::MoveSwap(slot, nr, from, to)),
        4 => (cgroup(), any::<bool>()).prop_map(|(at, all)| Op::Offline(at, all)),
        4 => cgroup().prop_map(Op::Free),
        4 => (cgroup(), 0_usize..3, proptest::option::of(0_u64..20))
            .prop_map(|(at, which, limit)| Op::SetLimit(at, which, limit)),
        1 => Just(Op::Swapoff),
        2 => Just(Op::Swapon),
    ]
}

struct Both {
    memcgs: Memcgs,
    oracle: Oracle,
}

/// Asserts that both refuse, for one of the reasons of the oracle, or that both give the same answer.
#[track_caller]
fn same<T: PartialEq + std::fmt::Debug>(ours: Result<T, MemcgError>, theirs: Expected<T>) {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
        (Err(error), Err(reasons)) => {
            assert!(reasons.contains(&error), "{error:?} is none of {reasons:?}");
        }
        (ours, theirs) => panic!("{ours:?}, and by the oracle {theirs:?}"),
    }
}

impl Both {
    fn new() -> Self {
        let ty = SwapType::new(5).unwrap();
        let memcgs = Memcgs::new();
        memcgs.swapon(ty, PAGES).unwrap();
        let mut oracle = Oracle::new(memcgs.root(), ty);
        oracle.pages = Some(PAGES);
        Self { memcgs, oracle }
    }

    fn index(&self, memcg: Memcg) -> usize {
        let mut cgroups = self.oracle.cgroups.iter();
        cgroups.position(|cgroup| cgroup.memcg == memcg).unwrap()
    }

    fn apply(&mut self, op: Op) {
        let nr_cgroups = self.oracle.cgroups.len();
        let which = |at: usize| at % nr_cgroups;
        let handle = |both: &Self, at: usize| both.oracle.cgroups[at].memcg;
        match op {
            Op::Create(parent) => {
                let parent = which(parent);
                let expected = self.oracle.create(parent);
                let created = self.memcgs.create(handle(self, parent));
                if let Ok(memcg) = created {
                    self.oracle.cgroups.push(oracle::Cgroup {
                        memcg,
                        parent: Some(parent),
                        state: State::Online,
                        own: 0,
                        limits: [None; 3],
                    });
                }
                same(created.map(|memcg| memcg.id().get()), expected);
            }
            Op::Charge(at, nr) => {
                let at = which(at);
                let ours = self.memcgs.charge(handle(self, at), nr);
                same(ours, self.oracle.charge(at, nr));
            }
            Op::Uncharge(at, nr) => {
                let at = which(at);
                let ours = self.memcgs.uncharge(handle(self, at), nr);
                same(ours, self.oracle.uncharge(at, nr));
            }
            Op::MoveAccount(from, to, nr) => {
                let (from, to) = (which(from), which(to));
                let ours = self
                    .memcgs
                    .move_account(handle(self, from), handle(self, to), nr);
                same(ours, self.oracle.move_account(from, to, nr));
            }
            Op::SwapOut(at, slot, nr) => {
                let (at, offset) = (which(at), FIRST + slot);
                let start = self.oracle.entry(offset);
                let ours = self.memcgs.swap_out(handle(self, at), start, nr);
                let ours = ours.map(|owner| self.index(owner));
                same(ours, self.oracle.swap_out(at, offset, nr));
            }
            Op::SwapIn(slot, nr, cached) => {
                let offset = FIRST + slot;
                let start = self.oracle.entry(offset);
                let ours = if cached {
                    self.memcgs.swap_in_cached(start, nr)
                } else {
                    self.memcgs.swap_in(start, nr)
                };
                let ours = ours.map(|charged| self.index(charged));
                same(ours, self.oracle.swap_in(offset, nr, cached));
            }
            Op::FreeSwap(slot, nr) => {
                let offset = FIRST + slot;
                let mut runs = Vec::new();
                let start = self.oracle.entry(offset);
                let ours = self.memcgs.free_swap_with(start, nr, |run| runs.push(run));
                let freed = runs.iter().map(|run| run.len).sum();
                assert!(ours.is_err() || ours == Ok(freed));
                same(ours.map(|_| runs), self.oracle.free_swap(offset, nr));
            }
            Op::MoveSwap(slot, nr, from, to) => {
                let (offset, from, to) = (FIRST + slot, which(from), which(to));
                let (start, old, new) = (
                    self.oracle.entry(offset),
                    handle(self, from),
                    handle(self, to),
                );
                let ours = self.memcgs.move_swap_account(start, nr, old, new);
                same(ours, self.oracle.move_swap(offset, nr, from, to));
            }
            Op::Offline(at, all) => {
                let (at, budget) = (which(at), if all { u64::MAX } else { 0 });
                let ours = self.memcgs.css_offline(handle(self, at), budget);
                same(
                    ours.map(|done| done.moved),
                    self.oracle.css_offline(at, all),
                );
            }
            Op::Free(at) => {
                let at = which(at);
                let ours = self.memcgs.css_free(handle(self, at));
                same(ours.map(|done| done.moved), self.oracle.css_free(at));
            }
            Op::SetLimit(at, which_resource, limit) => {
                let at = which(at);
                let resource = oracle::RESOURCES[which_resource];
                let ours = self.memcgs.set_limit(handle(self, at), resource, limit);
                same(ours, self.oracle.set_limit(at, which_resource, limit));
            }
            Op::Swapoff => {
                let dropped = self.memcgs.swapoff(self.oracle.ty);
                let was_on = self.oracle.pages.take().is_some();
                let records = std::mem::take(&mut self.oracle.records).len() as u64;
                assert_eq!(dropped.ok(), was_on.then_some(records));
            }
            Op::Swapon => {
                let on = self.memcgs.swapon(self.oracle.ty, PAGES);
                assert_eq!(on.is_ok(), self.oracle.pages.is_none());
                self.oracle.pages = Some(PAGES);
            }
        }
    }

    fn compare(&self) {
        let (memcgs, oracle) = (&self.memcgs, &self.oracle);
        for (at, cgroup) in oracle.cgroups.iter().enumerate() {
            let usage = memcgs.usage(cgroup.memcg);
            if cgroup.state == State::Gone {
                let memcg = cgroup.memcg;
                assert_eq!(usage, Err(MemcgError::Gone { memcg }));
                continue;
            }
            let usage = usage.unwrap();
            assert_eq!(
                [usage.memory, usage.memsw, usage.swap_total],
                oracle.usage(at),
                "{}",
                cgroup.memcg
            );
            assert_eq!((usage.own, usage.swap), (cgroup.own, oracle.swap(at)));
            let limits = [usage.memory_limit, usage.memsw_limit, usage.swap_limit];
            assert_eq!(limits, cgroup.limits);
            assert_eq!(usage.online, cgroup.state == State::Online);
            assert_eq!(usage.children as usize, oracle.children(at).count());
        }
        assert_eq!(memcgs.ids_in_use() as usize, oracle.there().count());
        let runs = memcgs.records().runs(oracle.ty);
        assert!(runs.eq(oracle.runs(0, PAGES)));
    }
}

fn agrees(ops: &[Op]) {
    let mut both = Both::new();
    for &op in ops {
        both.apply(op);
        both.compare();
    }
    both.memcgs.validate().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 500 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_operation_gives_the_answer_of_the_lists(
        ops in vec(op(), 1..if cfg!(miri) { 20 } else { 150 })
    ) {
        agrees(&ops);
    }
}
