//! Computes what every cgroup must have: sums over the logs, in any order.

use std::collections::BTreeMap;

use swap_records::memcg::{Memcg, Memcgs};

use super::swap_type;

/// An operation and its result.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Created {
        child: Memcg,
        parent: Memcg,
    },
    Charged {
        memcg: Memcg,
        nr: u64,
    },
    Uncharged {
        memcg: Memcg,
        nr: u64,
    },
    Moved {
        from: Memcg,
        to: Memcg,
        nr: u64,
    },
    SwappedOut {
        memcg: Memcg,
        owner: Memcg,
        nr: u64,
    },
    /// A slot that `owner` owned earlier, and `id` when it was freed.
    Freed {
        owner: Memcg,
        id: u16,
    },
    /// A slot that `owner` owned earlier, and whose page was charged to `to`.
    SwappedIn {
        owner: Memcg,
        to: Memcg,
    },
    MovedSwap {
        from: Memcg,
        to: Memcg,
        nr: u64,
    },
    /// Records that a `css_offline` or a `css_free` migrated.
    Migrated {
        from: Memcg,
        nr: u64,
    },
    Gone {
        memcg: Memcg,
    },
    /// All records that a `swapoff` dropped.
    Dropped {
        nr: u64,
    },
    /// Slots of a thread whose records a `swapoff` dropped.
    Lost {
        nr: u64,
    },
}

#[derive(Default, Debug)]
struct Cgroup {
    parent: Option<Memcg>,
    /// Own pages in memory.
    own: i64,
    swap: i64,
    gone: bool,
}

#[derive(Default, Debug)]
pub(crate) struct Oracle {
    cgroups: BTreeMap<Memcg, Cgroup>,
    dropped: i64,
    missing: i64,
    lost: i64,
    /// Records that were swapped in. The logs do not tell which heir had them then.
    came_in: i64,
}

impl Oracle {
    pub(crate) fn replay(&mut self, event: &Event) {
        let signed = |nr: u64| i64::try_from(nr).unwrap();
        match *event {
            Event::Created { child, parent } => {
                // The parent may have been created by another thread, whose log comes later.
                self.of(parent);
                let before = self.of(child).parent.replace(parent);
                assert_eq!(before, None, "{child} was made twice");
            }
            Event::Charged { memcg, nr } => self.of(memcg).own += signed(nr),
            Event::Uncharged { memcg, nr } => self.of(memcg).own -= signed(nr),
            Event::Moved { from, to, nr } => {
                self.of(from).own -= signed(nr);
                self.of(to).own += signed(nr);
            }
            Event::SwappedOut { memcg, owner, nr } => {
                assert!(
                    self.inherits(memcg, owner),
                    "{memcg} swapped out as {owner}"
                );
                self.of(memcg).own -= signed(nr);
                self.of(owner).swap += signed(nr);
            }
            Event::Freed { owner, id } => {
                let owner = self.heir(owner, id);
                self.of(owner).swap -= 1;
            }
            Event::SwappedIn { owner, to } => {
                assert!(self.inherits(owner, to), "{to} paid for {owner}");
                self.came_in += 1;
            }
            Event::MovedSwap { from, to, nr } => {
                self.of(from).swap -= signed(nr);
                self.of(to).swap += signed(nr);
            }
            Event::Migrated { from, nr } => {
                let parent = self.of(from).parent.unwrap();
                self.of(from).swap -= signed(nr);
                self.of(parent).swap += signed(nr);
            }
            Event::Gone { memcg } => self.of(memcg).gone = true,
            Event::Dropped { nr } => self.dropped += signed(nr),
            Event::Lost { nr } => self.lost += signed(nr),
        }
    }

    fn of(&mut self, memcg: Memcg) -> &mut Cgroup {
        self.cgroups.entry(memcg).or_default()
    }

    fn up(&self, memcg: Memcg) -> impl Iterator<Item = Memcg> {
        std::iter::successors(Some(memcg), |memcg| self.cgroups.get(memcg)?.parent)
    }

    fn inherits(&self, from: Memcg, heir: Memcg) -> bool {
        self.up(from).any(|memcg| memcg == heir)
    }

    /// Returns the cgroup with this id that is `owner` or inherits from it.
    pub(crate) fn heir(&self, owner: Memcg, id: u16) -> Memcg {
        let heir = self.up(owner).find(|memcg| memcg.id().get() == id);
        heir.unwrap_or_else(|| {
            panic!("id {id} has a record of {owner} and does not inherit from it")
        })
    }

    /// Checks that the threads have lost as many slots as the swapoffs have dropped. No thread has a slot any
    /// more.
    pub(crate) fn check_lost(&self) {
        assert_eq!(self.lost, self.dropped, "lost, and dropped by swapoffs");
    }

    /// Compares the sums with the numbers of each cgroup and of the table.
    pub(crate) fn check(&mut self, memcgs: &Memcgs) {
        let mut records = BTreeMap::<u16, i64>::new();
        for run in (0..2).flat_map(|ty| memcgs.records().runs(swap_type(ty))) {
            *records.entry(run.id.get()).or_default() += i64::try_from(run.len).unwrap();
        }
        // Records that a swapoff dropped or that were swapped in are missing in the table. The logs do not
        // tell how many each cgroup lost, but the sum must be right.
        let mut missing = 0;
        for (memcg, cgroup) in &mut self.cgroups {
            let in_table = if cgroup.gone {
                0
            } else {
                records.remove(&memcg.id().get()).unwrap_or(0)
            };
            assert!(
                cgroup.swap >= in_table,
                "{memcg}: {} records by the logs, {in_table} in the table",
                cgroup.swap
            );
            missing += cgroup.swap - in_table;
            cgroup.swap = in_table;
        }
        assert!(records.is_empty(), "records without an owner: {records:?}");
        self.missing += missing;
        assert_eq!(
            self.missing,
            self.dropped + self.came_in,
            "records that swapoffs dropped or that came in"
        );

        let mut sums = BTreeMap::<Memcg, (i64, i64, i64, u32)>::new();
        for (&memcg, cgroup) in &self.cgroups {
            assert!(
                !cgroup.gone || (cgroup.own, cgroup.swap) == (0, 0),
                "{memcg}: {cgroup:?}"
            );
            for ancestor in self.up(memcg) {
                let (memory, memsw, records, _) = sums.entry(ancestor).or_default();
                *memory += cgroup.own;
                *memsw += cgroup.own + cgroup.swap;
                *records += cgroup.swap;
            }
            if let Some(parent) = cgroup.parent
                && !cgroup.gone
            {
                sums.entry(parent).or_default().3 += 1;
            }
        }
        for (&memcg, cgroup) in &self.cgroups {
            let usage = memcgs.usage(memcg);
            assert_eq!(usage.is_err(), cgroup.gone, "{memcg}: {usage:?}");
            let Ok(usage) = usage else { continue };
            let has = [
                usage.memory,
                usage.memsw,
                usage.swap_total,
                usage.own,
                usage.swap,
            ];
            let has = has.map(|pages| i64::try_from(pages).unwrap());
            let (memory, memsw, records, children) = sums[&memcg];
            let expected = [memory, memsw, records, cgroup.own, cgroup.swap];
            assert_eq!(has, expected, "{memcg}");
            assert_eq!(usage.children, children, "{memcg}");
        }
        assert_eq!(
            memcgs.iter().count(),
            self.cgroups.values().filter(|c| !c.gone).count()
        );
    }
}
