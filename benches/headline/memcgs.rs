//! Cgroups: measures how long it takes to free one, and how charges follow the number of threads.

use std::cell::Cell;
use std::time::Duration;

use fastrand::Rng;
use swap_records::SwapEntry;
use swap_records::memcg::{Memcg, MemcgError, Memcgs};

use crate::maps::{FEW, FEW_RECORDS, Maps};
use crate::measure::{Shuttle, median, pairs};
use crate::report::{Amount, Report};
use swap_records_benches::ours::{Ours, entry, id};
use swap_records_benches::{index, threads, timed};
use swap_records_sim::tables::Table;

/// A tree over the table of the large map. Each id of the map is a child of the root. One more cgroup is the
/// parent of those that are freed.
struct Tree {
    memcgs: Memcgs,
    parent: Memcg,
    /// A thousand scattered slots, and their owner in the map.
    slots: Vec<SwapEntry>,
    owner: Memcg,
}

fn text(error: MemcgError) -> String {
    error.to_string()
}

impl Tree {
    fn new(ours: Ours) -> Result<Self, String> {
        let slots: Vec<_> = ours
            .0
            .runs_of(id(FEW.0))
            .flat_map(|run| (0..run.len).map(move |skip| index(run.start.offset() + skip)))
            .map(entry)
            .collect();
        let memcgs = Memcgs::with_records(ours.0, []).map_err(text)?;
        let parent = memcgs.create(memcgs.root()).map_err(text)?;
        let owner = memcgs
            .find(id(FEW.0))
            .ok_or("the map has no records of the id")?;
        Ok(Self {
            memcgs,
            parent,
            slots,
            owner,
        })
    }

    fn give(&self, from: Memcg, to: Memcg, slots: &[SwapEntry]) -> Result<(), String> {
        for &slot in slots {
            let moved = self.memcgs.move_swap_account(slot, 1, from, to);
            assert_eq!(moved.map_err(text)?, 1, "{slot} has another owner");
        }
        Ok(())
    }

    /// Makes an offline cgroup that takes these slots from another cgroup.
    fn offline(&self, slots: &[SwapEntry], of: Memcg) -> Result<Memcg, String> {
        let offline = self.memcgs.create(self.parent).map_err(text)?;
        self.give(of, offline, slots)?;
        self.memcgs.css_offline(offline, 0).map_err(text)?;
        Ok(offline)
    }

    fn free(&self, offline: Memcg) -> (u64, Duration) {
        let (freed, time) = timed(|| self.memcgs.css_free(offline));
        (freed.expect("the cgroup can be freed").moved, time)
    }
}

/// Measures on the map of 150 ids, and restores it.
pub(crate) fn on_the_map(report: &mut Report, maps: Maps, nr: usize) -> Result<Maps, String> {
    /// The number of calls, which are short.
    const TIMES: usize = 501;
    let Maps {
        ours,
        of_2014,
        slots,
        in_tails,
    } = maps;
    let tree = Tree::new(ours)?;
    let (parent, owner) = (tree.parent, tree.owner);

    let mut times = Vec::new();
    for _ in 0..TIMES {
        // The cgroup had some records, and gave all of them back.
        let few = &tree.slots[..8];
        let offline = tree.memcgs.create(parent).map_err(text)?;
        tree.give(owner, offline, few)?;
        tree.give(offline, owner, few)?;
        tree.memcgs.css_offline(offline, 0).map_err(text)?;
        let (moved, time) = tree.free(offline);
        assert_eq!(moved, 0, "records that were given back");
        times.push(time.as_secs_f64());
    }
    report.time("css_free_no_records", median(times));

    let offline = Cell::new(tree.offline(&tree.slots, owner)?);
    let mut there = Shuttle(FEW.0, FEW.1);
    let measured = pairs(
        "css_free of a thousand records",
        nr,
        |_| tree.free(offline.get()),
        |_| {
            // Make the next cgroup before the loop empties the caches.
            let next = tree.offline(&tree.slots, parent);
            offline.set(next.expect("an id is free, and there are no limits"));
            let (moved, time) = timed(|| there.go(|old, new| of_2014.migrate(old, new)));
            assert_eq!(moved, FEW_RECORDS, "records moved");
            (moved, time)
        },
    );
    let (ours, theirs) = (
        Amount::Seconds(measured.ours),
        Amount::Seconds(measured.theirs),
    );
    report.ratio("css_free_1000_vs_2014_loop", measured.faster, ours, theirs);

    tree.free(offline.get());
    tree.give(parent, owner, &tree.slots)?;
    tree.memcgs.css_offline(parent, 0).map_err(text)?;
    assert_eq!(tree.free(parent).0, 0, "the map has its records again");
    Ok(Maps {
        ours: Ours(tree.memcgs.into_records()),
        of_2014,
        slots,
        in_tails,
    })
}

/// Measures charges and uncharges on threads. Each thread uses its own cgroup; all cgroups have one parent.
/// As a control, prints the same for threads with nothing in common, which is the best that this machine can
/// do.
pub(crate) fn scaling(report: &mut Report, nr: usize) -> Result<(), String> {
    /// Pages that all threads together charge.
    const COUNT: u64 = 1 << 22;
    let memcgs = Memcgs::new();
    let parent = memcgs.create(memcgs.root()).map_err(text)?;
    let create = |_| memcgs.create(parent).map_err(text);
    let children: Vec<_> = (0..2).map(create).collect::<Result<_, _>>()?;
    let of_one_parent: Vec<_> = children.iter().map(|&child| (&memcgs, child)).collect();
    // The runs are short, so there are more pairs.
    let two = pairs(
        "charges",
        nr * 3,
        |_| charges(&of_one_parent, COUNT),
        |_| charges(&of_one_parent[..1], COUNT),
    );
    assert_eq!(memcgs.usage(parent).map_err(text)?.memsw, 0);
    let rate = |seconds: f64| Amount::OperationsASecond(2.0 * COUNT as f64 / seconds);
    let name = "charge_uncharge_2_threads_scaling";
    report.ratio(name, two.faster, rate(two.ours), rate(two.theirs));

    let trees: Vec<_> = (0..2).map(|_| Box::new(Memcgs::new())).collect();
    let apart: Vec<_> = trees
        .iter()
        .map(|tree| {
            let parent = tree.create(tree.root())?;
            Ok((&**tree, tree.create(parent)?))
        })
        .collect::<Result<_, _>>()
        .map_err(text)?;
    let control = pairs(
        "charges of two trees",
        nr,
        |_| charges(&apart, COUNT),
        |_| charges(&apart[..1], COUNT),
    );
    println!("control {name}, one tree per thread: {:.2}", control.faster);
    Ok(())
}

/// Charges and uncharges, on a thread for each of these cgroups.
fn charges(cgroups: &[(&Memcgs, Memcg)], count: u64) -> (u64, Duration) {
    /// More pages than a thread keeps in reserve, so some charges reach the root.
    const BURST: usize = 256;
    let bursts = index(count) / BURST / cgroups.len();
    let (done, time) = threads::together(cgroups.len(), |thread| {
        let (memcgs, memcg) = cgroups[thread];
        let mut rng = Rng::with_seed(thread as u64);
        for _ in 0..bursts {
            let sizes: [u64; BURST] = std::array::from_fn(|_| rng.u64(1..=8));
            let charge = |&nr: &u64| memcgs.charge(memcg, nr);
            let uncharge = |&nr: &u64| memcgs.uncharge(memcg, nr);
            let done = sizes.iter().try_for_each(charge);
            let done = done.and_then(|()| sizes.iter().try_for_each(uncharge));
            done.expect("there are no limits, and the pages were charged");
        }
        (bursts * BURST) as u64
    });
    (done, time)
}
