//! Loom models of cgroups that are freed while other threads use their pages and records. `ci/loom.sh` runs
//! them, like `tests/loom.rs`. Each model ends with everything given back. Then it checks that no charge has
//! leaked, and that no record has a freed owner.
//!
//! Under loom, a tree has two shards, so the two threads of a model use different shards.
#![cfg(swap_records_loom)]

mod explore;

use std::sync::Arc;

use explore::explore;
use loom::thread;
use swap_records::memcg::{Memcg, MemcgError, Memcgs, Resource};
use swap_records::{MemcgId, REGION_ENTRIES, SwapEntry, SwapType};

const REGION: u64 = REGION_ENTRIES as u64;
const TYPE: SwapType = SwapType::new(0).unwrap();

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// A root, and the cgroup that is freed.
struct Family {
    memcgs: Memcgs,
    root: Memcg,
    removed: Memcg,
}

/// Makes a tree with everything that the threads will share, and uses it once, as loom requires. The cgroup
/// has this many pages in memory, and as many records from slot 0 on.
fn family(pages: u64, records: u64) -> Arc<Family> {
    let memcgs = Memcgs::new();
    memcgs.swapon(TYPE, REGION).unwrap();
    assert_eq!(memcgs.swapoff(TYPE), Ok(0));
    memcgs.swapon(TYPE, REGION).unwrap();
    let root = memcgs.root();
    let first = memcgs.create(root).unwrap();
    free(&memcgs, first).unwrap();
    let removed = memcgs.create(root).unwrap();
    assert_eq!(removed.id(), first.id());
    memcgs.charge(removed, pages + records).unwrap();
    if records > 0 {
        memcgs.swap_out(removed, entry(0), records).unwrap();
    }
    let family = Family {
        memcgs,
        root,
        removed,
    };
    // Empties the stocks, so that the race includes the slots and counters.
    family
        .memcgs
        .set_limit(removed, Resource::Memory, None)
        .unwrap();
    assert_eq!(
        family.numbers(removed),
        [pages, pages + records, pages, records]
    );
    assert_eq!(family.numbers(root), [pages, pages + records, 0, 0]);
    Arc::new(family)
}

/// Runs both parts of the end of a cgroup. Returns the number of records that were migrated.
fn free(memcgs: &Memcgs, memcg: Memcg) -> Result<u64, MemcgError> {
    let early = memcgs.css_offline(memcg, 0)?.moved;
    Ok(early + memcgs.css_free(memcg)?.moved)
}

impl Family {
    /// Returns memory, memsw, own pages in memory, and own records.
    fn numbers(&self, memcg: Memcg) -> [u64; 4] {
        let usage = self.memcgs.usage(memcg).unwrap();
        [usage.memory, usage.memsw, usage.own, usage.swap]
    }

    fn owner(&self, offset: u64) -> Option<MemcgId> {
        self.memcgs.records().lookup(entry(offset))
    }

    /// Asserts that the cgroup was freed: the root owns every record, and the next cgroup has the id and
    /// nothing else of the old one.
    fn inherited(&self, pages: u64, records: u64) {
        assert_eq!(self.memcgs.ids_in_use(), 1);
        let owners = (0..REGION).filter_map(|slot| self.owner(slot));
        let owners: Vec<_> = owners.collect();
        assert_eq!(owners.len() as u64, records);
        assert!(owners.iter().all(|&owner| owner == self.root.id()));
        let sum = pages + records;
        assert_eq!(self.numbers(self.root), [pages, sum, pages, records]);
        let next = self.memcgs.create(self.root).unwrap();
        assert_eq!(next.id(), self.removed.id());
        assert_eq!(self.numbers(next), [0; 4]);
    }
}

/// Starts a thread that shares the tree.
fn spawn<T: 'static>(
    family: &Arc<Family>,
    work: impl FnOnce(&Family) -> T + 'static,
) -> thread::JoinHandle<T> {
    let family = Arc::clone(family);
    thread::spawn(move || work(&family))
}

/// The race of 2014. A swap-in finds the id of an offline cgroup in a record, and charges it, while the
/// cgroup goes offline, is reparented and is freed. Either the cgroup was charged, and the page keeps it, or
/// its parent was charged. No charge leaks, and no page has a freed owner.
#[test]
fn swap_in_vs_css_free() {
    explore("swap_in_vs_css_free", Some(3), || {
        let family = family(0, 1);
        let swap_in = spawn(&family, |family| {
            let charged = family.memcgs.swap_in_cached(entry(0), 1).unwrap();
            // The charged cgroup exists until the page is uncharged.
            assert!(family.memcgs.usage(charged).unwrap().own >= 1);
            charged
        });
        let (root, removed) = (family.root, family.removed);
        let freed = free(&family.memcgs, removed);
        let charged = swap_in.join().unwrap();
        if charged == root {
            assert_eq!(freed, Ok(1));
        } else {
            assert_eq!(charged, removed);
            let busy = MemcgError::Busy {
                id: removed.id(),
                pages: 1,
            };
            assert_eq!(freed, Err(busy));
            assert_eq!(family.numbers(removed), [1, 2, 1, 1]);
            family.memcgs.uncharge(removed, 1).unwrap();
            assert_eq!(free(&family.memcgs, removed), Ok(1));
            family.memcgs.charge(root, 1).unwrap();
        }
        family.inherited(1, 1);
    });
}

/// The same race, but the slot is given up. The page takes over the charge from the cgroup that has it then.
#[test]
fn swap_in_that_gives_the_slot_up_vs_css_free() {
    explore(
        "swap_in_that_gives_the_slot_up_vs_css_free",
        Some(2),
        || {
            let family = family(0, 1);
            let swap_in = spawn(&family, |family| {
                let charged = family.memcgs.swap_in(entry(0), 1).unwrap();
                assert!(family.memcgs.usage(charged).unwrap().own >= 1);
                charged
            });
            let (root, removed) = (family.root, family.removed);
            let freed = free(&family.memcgs, removed);
            let charged = swap_in.join().unwrap();
            assert_eq!(family.owner(0), None);
            assert_eq!(family.numbers(root)[..2], [1, 1]);
            if charged == root {
                assert!(matches!(freed, Ok(0..=1)), "{freed:?}");
            } else {
                assert_eq!(charged, removed);
                let busy = MemcgError::Busy {
                    id: removed.id(),
                    pages: 1,
                };
                assert_eq!(freed, Err(busy));
                assert_eq!(family.numbers(removed), [1, 1, 1, 0]);
                family.memcgs.uncharge(removed, 1).unwrap();
                assert_eq!(free(&family.memcgs, removed), Ok(0));
                family.memcgs.charge(root, 1).unwrap();
            }
            family.inherited(1, 0);
        },
    );
}

/// A page is swapped in while its slot is freed. One of the two calls gets the record.
#[test]
fn swap_in_vs_free_swap() {
    use std::sync::atomic::{AtomicU32, Ordering};

    // Not a part of the model: how often each of the two got the record.
    static HAD: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
    explore("swap_in_vs_free_swap", Some(3), || {
        let family = family(0, 1);
        let swap_in = spawn(&family, |family| family.memcgs.swap_in(entry(0), 1));
        let freed = family.memcgs.free_swap(entry(0), 1).unwrap();
        HAD[usize::from(freed == 1)].fetch_add(1, Ordering::Relaxed);
        let pages = match swap_in.join().unwrap() {
            Ok(charged) => {
                assert_eq!((charged, freed), (family.removed, 0));
                1
            }
            Err(none) => {
                assert_eq!((none, freed), (MemcgError::NoRecord { entry: entry(0) }, 1));
                0
            }
        };
        assert_eq!(family.numbers(family.removed), [pages, pages, pages, 0]);
        family.memcgs.uncharge(family.removed, pages).unwrap();
        free(&family.memcgs, family.removed).unwrap();
        family.inherited(0, 0);
    });
    let had = HAD.each_ref().map(|had| had.load(Ordering::Relaxed));
    assert!(had.iter().all(|&had| had > 0), "{had:?}");
}

/// A swap-in or a free that found the id of an offline cgroup ends before another cgroup gets the id. The new
/// cgroup is neither charged nor uncharged for it.
#[test]
fn swap_in_and_free_swap_vs_css_free_and_create() {
    explore(
        "swap_in_and_free_swap_vs_css_free_and_create",
        Some(2),
        || {
            let family = family(0, 2);
            let page = spawn(&family, |family| {
                let charged = family.memcgs.swap_in_cached(entry(0), 1).unwrap();
                family.memcgs.uncharge(charged, 1).unwrap();
                family.memcgs.free_swap(entry(1), 1).unwrap();
                charged
            });
            let freed = free(&family.memcgs, family.removed);
            let next = family.memcgs.create(family.root).unwrap();
            assert_eq!(next.id() == family.removed.id(), freed.is_ok());
            let charged = page.join().unwrap();
            assert!(charged == family.root || charged == family.removed);
            assert_eq!(family.numbers(next), [0; 4]);
            free(&family.memcgs, next).unwrap();
            if freed.is_err() {
                free(&family.memcgs, family.removed).unwrap();
            }
            family.inherited(0, 1);
        },
    );
}

/// The whole life of the page in the same race: it is swapped in, its slot is freed, and it is uncharged. The
/// counters balance, whichever owner each of the three saw.
#[test]
fn swap_in_and_free_swap_and_uncharge_vs_css_free() {
    explore(
        "swap_in_and_free_swap_and_uncharge_vs_css_free",
        Some(2),
        || {
            let family = family(0, 1);
            let page = spawn(&family, |family| {
                let charged = family.memcgs.swap_in_cached(entry(0), 1).unwrap();
                assert_eq!(family.memcgs.free_swap(entry(0), 1), Ok(1));
                family.memcgs.uncharge(charged, 1).unwrap();
            });
            let freed = free(&family.memcgs, family.removed);
            page.join().unwrap();
            if freed.is_err() {
                free(&family.memcgs, family.removed).unwrap();
            }
            family.inherited(0, 0);
        },
    );
}

/// A slot is freed while its record is migrated. The owner at that moment is uncharged, once.
#[test]
fn free_swap_vs_css_free() {
    explore("free_swap_vs_css_free", Some(3), || {
        let family = family(0, 2);
        let slot = spawn(&family, |family| {
            let mut owner = None;
            let freed = family.memcgs.free_swap_with(entry(0), 1, |run| {
                assert_eq!(owner.replace(run.id), None);
            });
            assert_eq!(freed, Ok(1));
            let owner = owner.unwrap();
            assert!(
                [family.root, family.removed]
                    .map(Memcg::id)
                    .contains(&owner)
            );
            owner == family.root.id()
        });
        let moved = free(&family.memcgs, family.removed).unwrap();
        let was_the_parents = slot.join().unwrap();
        assert_eq!(moved, if was_the_parents { 2 } else { 1 });
        family.inherited(0, 1);
    });
}

/// The same for slots that are freed in a batch: one record may be migrated, and the other one not.
#[test]
fn free_swap_batch_vs_css_free() {
    explore("free_swap_batch_vs_css_free", Some(2), || {
        let family = family(0, 2);
        let slots = spawn(&family, |family| {
            let mut owners = Vec::new();
            let slots = [entry(1), entry(0)];
            let freed = family
                .memcgs
                .free_swap_batch(&slots, |_, owner| owners.push(owner));
            assert_eq!((freed, owners.len()), (Ok(2), 2));
            let of_parent = owners.iter().filter(|&&id| id == family.root.id());
            of_parent.count() as u64
        });
        let moved = free(&family.memcgs, family.removed).unwrap();
        assert_eq!(moved, slots.join().unwrap());
        family.inherited(0, 0);
    });
}

/// A charge happens before the cgroup is offline, and then the page keeps it. Otherwise the charge is
/// refused.
#[test]
fn charge_vs_css_free() {
    explore("charge_vs_css_free", Some(3), || {
        let family = family(0, 0);
        let page = spawn(&family, |family| family.memcgs.charge(family.removed, 1));
        let (memcg, id) = (family.removed, family.removed.id());
        let freed = free(&family.memcgs, memcg);
        match page.join().unwrap() {
            Ok(()) => {
                assert_eq!(freed, Err(MemcgError::Busy { id, pages: 1 }));
                assert_eq!(family.numbers(family.root), [1, 1, 0, 0]);
                family.memcgs.uncharge(memcg, 1).unwrap();
                assert_eq!(free(&family.memcgs, memcg), Ok(0));
            }
            Err(refused) => {
                let gone = MemcgError::Gone { memcg };
                assert!([gone, MemcgError::Offline { id }].contains(&refused));
                assert_eq!(freed, Ok(0));
            }
        }
        family.inherited(0, 0);
    });
}

/// The last page of a cgroup is uncharged while the cgroup is freed: before css_free looks for pages, or
/// after css_free returned `Busy`.
#[test]
fn uncharge_vs_css_free() {
    explore("uncharge_vs_css_free", Some(3), || {
        let family = family(1, 1);
        let page = spawn(&family, |family| {
            family.memcgs.uncharge(family.removed, 1).unwrap();
        });
        let freed = free(&family.memcgs, family.removed);
        page.join().unwrap();
        if let Err(busy) = freed {
            let id = family.removed.id();
            assert_eq!(busy, MemcgError::Busy { id, pages: 1 });
            assert_eq!(free(&family.memcgs, family.removed), Ok(1));
        }
        family.inherited(0, 1);
    });
}

/// The last page of a cgroup is swapped out while the cgroup is freed. No record names the cgroup afterwards,
/// whichever cgroup gets its id next.
#[test]
fn swap_out_vs_css_free() {
    explore("swap_out_vs_css_free", Some(3), || {
        let family = family(1, 0);
        let page = spawn(&family, |family| {
            let owner = family.memcgs.swap_out(family.removed, entry(2), 1).unwrap();
            assert!(owner == family.removed || owner == family.root);
        });
        let freed = free(&family.memcgs, family.removed);
        page.join().unwrap();
        if freed.is_err() {
            free(&family.memcgs, family.removed).unwrap();
        }
        family.inherited(0, 1);
    });
}

/// A page is in the stock of the thread that charged it. Another thread uncharges it there, while the cgroup
/// is freed.
#[test]
fn uncharge_of_another_threads_page_vs_css_free() {
    explore(
        "uncharge_of_another_threads_page_vs_css_free",
        Some(3),
        || {
            let family = family(0, 1);
            family.memcgs.charge(family.removed, 1).unwrap();
            let page = spawn(&family, |family| {
                family.memcgs.uncharge(family.removed, 1).unwrap();
            });
            let freed = free(&family.memcgs, family.removed);
            page.join().unwrap();
            if let Err(busy) = freed {
                let id = family.removed.id();
                assert_eq!(busy, MemcgError::Busy { id, pages: 1 });
                assert_eq!(free(&family.memcgs, family.removed), Ok(1));
            }
            family.inherited(0, 1);
        },
    );
}

/// The same for a page that is swapped out.
#[test]
fn swap_out_of_another_threads_page_vs_css_free() {
    explore(
        "swap_out_of_another_threads_page_vs_css_free",
        Some(2),
        || {
            let family = family(0, 0);
            family.memcgs.charge(family.removed, 1).unwrap();
            let page = spawn(&family, |family| {
                let owner = family.memcgs.swap_out(family.removed, entry(2), 1).unwrap();
                assert!(owner == family.removed || owner == family.root);
            });
            let freed = free(&family.memcgs, family.removed);
            page.join().unwrap();
            if freed.is_err() {
                free(&family.memcgs, family.removed).unwrap();
            }
            family.inherited(0, 1);
        },
    );
}

/// A page is uncharged from the stock of another thread, which charges and uncharges meanwhile. At every
/// moment there are enough pages, so no call is refused.
#[test]
fn uncharge_of_another_threads_page_vs_charge_and_uncharge() {
    explore(
        "uncharge_of_another_threads_page_vs_charge_and_uncharge",
        Some(3),
        || {
            let family = family(0, 0);
            family.memcgs.charge(family.removed, 2).unwrap();
            let page = spawn(&family, |family| {
                family.memcgs.uncharge(family.removed, 1).unwrap();
            });
            family.memcgs.charge(family.removed, 1).unwrap();
            family.memcgs.uncharge(family.removed, 2).unwrap();
            page.join().unwrap();
            assert_eq!(family.numbers(family.removed), [0; 4]);
            assert_eq!(family.numbers(family.root), [0; 4]);
        },
    );
}

/// Two threads uncharge one page. One of them succeeds, and the other one gets an error.
#[test]
fn uncharge_vs_uncharge_of_one_page() {
    explore("uncharge_vs_uncharge_of_one_page", Some(3), || {
        let family = family(0, 0);
        family.memcgs.charge(family.removed, 1).unwrap();
        let other = spawn(&family, |family| family.memcgs.uncharge(family.removed, 1));
        let ours = family.memcgs.uncharge(family.removed, 1);
        let theirs = other.join().unwrap();
        let refused = Err(MemcgError::NotCharged {
            id: family.removed.id(),
            nr: 1,
            charged: 0,
        });
        assert!([(Ok(()), refused), (refused, Ok(()))].contains(&(ours, theirs)));
        assert_eq!(family.numbers(family.removed), [0; 4]);
        assert_eq!(family.numbers(family.root), [0; 4]);
    });
}

/// Two pages are in the stocks of two threads, and both threads uncharge two. Each may find that the other
/// thread moved its page, and that no stock has any. But one of them gets both pages.
#[test]
fn uncharge_vs_uncharge_of_two_threads_pages() {
    explore("uncharge_vs_uncharge_of_two_threads_pages", Some(3), || {
        let family = family(0, 0);
        family.memcgs.charge(family.removed, 1).unwrap();
        let other = spawn(&family, |family| {
            family.memcgs.charge(family.removed, 1).unwrap();
            family.memcgs.uncharge(family.removed, 2)
        });
        let ours = family.memcgs.uncharge(family.removed, 2);
        let theirs = other.join().unwrap();
        assert_ne!(ours.is_ok(), theirs.is_ok(), "{ours:?}, {theirs:?}");
        for refused in [ours, theirs].into_iter().filter_map(Result::err) {
            let MemcgError::NotCharged { nr: 2, charged, .. } = refused else {
                panic!("{refused}");
            };
            // This call may come before the charge of the other thread.
            assert!(charged == 0 || (charged == 1 && ours.is_err()));
        }
        assert_eq!(family.numbers(family.removed), [0; 4]);
        assert_eq!(family.numbers(family.root), [0; 4]);
    });
}

/// A record is given to a cgroup while the cgroup is freed. This is refused, or the parent inherits the
/// record.
#[test]
fn move_swap_account_vs_css_free() {
    explore("move_swap_account_vs_css_free", Some(2), || {
        let family = family(0, 0);
        family.memcgs.charge(family.root, 1).unwrap();
        family.memcgs.swap_out(family.root, entry(1), 1).unwrap();
        let mover = spawn(&family, |family| {
            let (from, to) = (family.root, family.removed);
            family.memcgs.move_swap_account(entry(0), 2, from, to)
        });
        let inherited = free(&family.memcgs, family.removed).unwrap();
        match mover.join().unwrap() {
            Ok(moved) => assert_eq!((moved, inherited), (1, 1)),
            Err(MemcgError::Offline { .. } | MemcgError::Gone { .. }) => assert_eq!(inherited, 0),
            Err(error) => panic!("{error}"),
        }
        family.inherited(0, 1);
    });
}

/// Two threads free one cgroup. One succeeds, the other one gets an error, and the id becomes free once.
#[test]
fn css_free_vs_css_free() {
    explore("css_free_vs_css_free", Some(3), || {
        let family = family(0, 1);
        let other = spawn(&family, |family| free(&family.memcgs, family.removed));
        let ours = free(&family.memcgs, family.removed);
        let theirs = other.join().unwrap();
        let (memcg, id) = (family.removed, family.removed.id());
        let mut refused = 0;
        for freed in [ours, theirs] {
            match freed {
                Ok(moved) => assert_eq!(moved, 1),
                Err(error) => {
                    let told = [MemcgError::Dying { id }, MemcgError::Gone { memcg }];
                    assert!(told.contains(&error), "{error}");
                    refused += 1;
                }
            }
        }
        // Both may have met the other thread in css_offline.
        if refused == 2 {
            free(&family.memcgs, family.removed).unwrap();
        }
        family.inherited(0, 1);
    });
}

/// A swapfile is turned off while the owner of a record in it is freed. The record is uncharged once, from
/// one cgroup or the other.
#[test]
fn swapoff_vs_css_free() {
    explore("swapoff_vs_css_free", Some(2), || {
        let family = family(0, 2);
        let off = spawn(&family, |family| family.memcgs.swapoff(TYPE));
        let moved = free(&family.memcgs, family.removed).unwrap();
        assert!(moved == 0 || moved == 2);
        assert_eq!(off.join().unwrap(), Ok(2));
        assert_eq!(family.memcgs.records().max_pages(TYPE), None);
        family.inherited(0, 0);
    });
}

/// A slot is freed while its swapfile is turned off. It is uncharged once, by one call or the other.
#[test]
fn swapoff_vs_free_swap() {
    explore("swapoff_vs_free_swap", Some(2), || {
        let family = family(0, 2);
        let slot = spawn(&family, |family| {
            family.memcgs.free_swap(entry(0), 1).unwrap_or(0)
        });
        let dropped = family.memcgs.swapoff(TYPE).unwrap();
        assert_eq!(dropped + slot.join().unwrap(), 2);
        assert_eq!(free(&family.memcgs, family.removed), Ok(0));
        family.inherited(0, 0);
    });
}

/// Slots are freed in a batch while their swapfile is turned off. Each is uncharged once, by one call or the
/// other.
#[test]
fn swapoff_vs_free_swap_batch() {
    explore("swapoff_vs_free_swap_batch", Some(2), || {
        let family = family(0, 2);
        let slots = spawn(&family, |family| {
            let (slots, mut told) = ([entry(1), entry(0)], 0);
            let freed = family.memcgs.free_swap_batch(&slots, |_, _| told += 1);
            assert!(freed.is_err() || freed == Ok(told));
            told
        });
        let dropped = family.memcgs.swapoff(TYPE).unwrap();
        assert_eq!(dropped + slots.join().unwrap(), 2);
        assert_eq!(free(&family.memcgs, family.removed), Ok(0));
        family.inherited(0, 0);
    });
}

/// A thread that turned a type on can swap out to it, even if the previous swapoff has not returned yet.
#[test]
fn swapon_vs_the_end_of_a_swapoff() {
    explore("swapon_vs_the_end_of_a_swapoff", Some(2), || {
        let family = family(1, 0);
        let off = spawn(&family, |family| family.memcgs.swapoff(TYPE));
        while family.memcgs.swapon(TYPE, REGION).is_err() {
            thread::yield_now();
        }
        family.memcgs.swap_out(family.removed, entry(0), 1).unwrap();
        assert_eq!(off.join().unwrap(), Ok(0));
        assert_eq!(family.owner(0), Some(family.removed.id()));
    });
}

/// A page moves to a cgroup whose limit is set meanwhile. Either the move or the limit is refused, and no
/// counter is above its limit.
#[test]
fn move_account_vs_set_limit() {
    explore("move_account_vs_set_limit", Some(3), || {
        let family = family(0, 0);
        family.memcgs.charge(family.root, 1).unwrap();
        let mover = spawn(&family, |family| {
            family.memcgs.move_account(family.root, family.removed, 1)
        });
        let limited = family
            .memcgs
            .set_limit(family.removed, Resource::Memory, Some(0));
        let moved = mover.join().unwrap();
        assert_ne!(limited.is_ok(), moved.is_ok());
        let own = u64::from(moved.is_ok());
        assert_eq!(family.numbers(family.removed), [own, own, own, 0]);
        assert_eq!(family.numbers(family.root), [1, 1, 1 - own, 0]);
    });
}

/// Two threads at two shards charge against a limit that has room for one. One succeeds, whatever the stocks
/// hold.
#[test]
fn charge_vs_charge_at_the_limit() {
    explore("charge_vs_charge_at_the_limit", Some(3), || {
        let family = family(0, 0);
        let (root, removed) = (family.root, family.removed);
        family
            .memcgs
            .set_limit(removed, Resource::Memory, Some(2))
            .unwrap();
        family
            .memcgs
            .set_limit(removed, Resource::Memsw, Some(2))
            .unwrap();
        let other = spawn(&family, |family| family.memcgs.charge(family.removed, 2));
        let ours = family.memcgs.charge(removed, 1);
        let theirs = other.join().unwrap();
        assert_ne!(ours.is_ok(), theirs.is_ok());
        let pages = if ours.is_ok() { 1 } else { 2 };
        assert_eq!(family.numbers(removed), [pages, pages, pages, 0]);
        assert_eq!(family.numbers(root), [pages, pages, 0, 0]);
    });
}

/// A page is swapped out while its swapfile is replaced by one without the slot. Either the page went to the
/// first swapfile and was dropped with it, or it was not swapped out. (`tests/memcg_stale.rs` tests a second
/// swapfile that has the slot.)
#[test]
fn swap_out_vs_swapoff_and_swapon() {
    explore("swap_out_vs_swapoff_and_swapon", Some(3), || {
        let family = family(1, 0);
        let out = spawn(&family, |family| {
            family.memcgs.swap_out(family.removed, entry(1), 1)
        });
        let dropped = family.memcgs.swapoff(TYPE).unwrap();
        family.memcgs.swapon(TYPE, 1).unwrap();
        let went = out.join().unwrap().is_ok();
        assert_eq!(dropped, u64::from(went));
        let left = 1 - dropped;
        assert_eq!(family.numbers(family.removed), [left, left, left, 0]);
        family.memcgs.validate().unwrap();
    });
}

/// A slot is freed while its swapfile is replaced by another one. Nothing of the next swapfile is uncharged,
/// unless the slot was freed there.
#[test]
fn free_swap_vs_swapoff_and_swapon() {
    explore("free_swap_vs_swapoff_and_swapon", Some(2), || {
        let family = family(0, 1);
        family.memcgs.charge(family.root, 1).unwrap();
        let freed = spawn(&family, |family| {
            let mut owner = None;
            let freed = family
                .memcgs
                .free_swap_with(entry(0), 1, |run| owner = Some(run.id));
            freed.map(|nr| (nr, owner))
        });
        let dropped = family.memcgs.swapoff(TYPE).unwrap();
        family.memcgs.swapon(TYPE, REGION).unwrap();
        family.memcgs.swap_out(family.root, entry(0), 1).unwrap();
        let (root, removed) = (family.root.id(), family.removed.id());
        let (dropped_or_freed, left) = match freed.join().unwrap() {
            Ok((1, Some(owner))) if owner == removed => (dropped + 1, Some(root)),
            Ok((1, owner)) => {
                assert_eq!(owner, Some(root));
                (dropped, None)
            }
            Ok(none) => {
                assert_eq!(none, (0, None));
                (dropped, Some(root))
            }
            Err(_) => (dropped, Some(root)),
        };
        assert_eq!((dropped_or_freed, family.owner(0)), (1, left));
        family.memcgs.validate().unwrap();
    });
}

/// After `css_offline` has returned, the cgroup gets nothing any more, even from threads that found it online
/// before.
#[test]
fn css_offline_vs_move_account() {
    explore("css_offline_vs_move_account", None, || {
        let family = family(0, 0);
        family.memcgs.charge(family.root, 1).unwrap();
        let mover = spawn(&family, |family| {
            family.memcgs.move_account(family.root, family.removed, 1)
        });
        let _ = family.memcgs.css_offline(family.removed, 0).unwrap();
        let had = family.numbers(family.removed);
        let moved = u64::from(mover.join().unwrap().is_ok());
        assert_eq!(had, [moved, moved, moved, 0]);
        assert_eq!(family.numbers(family.removed), had);
    });
}

#[test]
fn css_offline_vs_swap_out() {
    explore("css_offline_vs_swap_out", Some(3), || {
        let family = family(1, 0);
        let out = spawn(&family, |family| {
            family.memcgs.swap_out(family.removed, entry(0), 1).unwrap()
        });
        let _ = family.memcgs.css_offline(family.removed, 0).unwrap();
        let records = family.memcgs.records().count(family.removed.id());
        let owner = out.join().unwrap();
        // Before that, or not at all.
        assert_eq!(records, u64::from(owner == family.removed));
        assert_eq!(family.owner(0), Some(owner.id()));
        family.memcgs.validate().unwrap();
    });
}

/// Two threads wait for grace periods, and a section must not be missed by either of them, whichever has its
/// turn.
#[test]
fn css_free_vs_css_offline_vs_swap_in() {
    explore("css_free_vs_css_offline_vs_swap_in", Some(1), || {
        let family = family(0, 1);
        let other = family.memcgs.create(family.root).unwrap();
        let offline = spawn(&family, move |family| {
            family.memcgs.css_offline(other, 0).unwrap().moved
        });
        let swap_in = spawn(&family, |family| {
            family.memcgs.swap_in(entry(0), 1).unwrap()
        });
        let freed = free(&family.memcgs, family.removed);
        assert_eq!(offline.join().unwrap(), 0);
        let charged = swap_in.join().unwrap();
        assert_eq!(freed.is_ok(), charged == family.root);
        assert_eq!(family.numbers(charged)[2], 1);
        family.memcgs.validate().unwrap();
    });
}
