//! No operation ends the process for want of memory. What frees or migrates asks for none; what needs some is refused
//! with an error, and has written nothing.
//!
//! Each operation is run in a child process with an allocator that refuses everything from its n-th request on, for
//! each n until the operation asks for no more: an abort is the child's, and is seen.

#![cfg(not(miri))] // Processes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::Command;
use std::ptr;

use swap_records::memcg::{Memcg, MemcgError, Memcgs};
use swap_records::{EntryError, MemcgId, REGION_ENTRIES, Run, SwapEntry, SwapRecords, SwapType};

thread_local! {
    /// How many requests of this thread are granted; `None`: all.
    static GRANTED: Cell<Option<u64>> = const { Cell::new(None) };
    /// How many there were.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which may refuse.
struct Refusing;

impl Refusing {
    fn refuses() -> bool {
        ASKED.set(ASKED.get() + 1);
        match GRANTED.get() {
            None => false,
            Some(0) => true,
            Some(n) => {
                GRANTED.set(Some(n - 1));
                false
            }
        }
    }
}

// SAFETY: the system's allocator is one, and to refuse is allowed.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if Self::refuses() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(memory, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Self::refuses() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if Self::refuses() {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Runs `operation` with the first `granted` requests granted; gives how many there were, too.
fn with_memory<R>(granted: u64, operation: impl FnOnce() -> R) -> (R, u64) {
    ASKED.set(0);
    GRANTED.set(Some(granted));
    let result = operation();
    GRANTED.set(None);
    (result, ASKED.get())
}

const REGION: u64 = REGION_ENTRIES as u64;
const PAGES: u64 = 3 * REGION;
const TYPE: SwapType = SwapType::new(0).unwrap();

fn id(id: u16) -> MemcgId {
    MemcgId::new(id).unwrap()
}

fn entry(offset: u64) -> SwapEntry {
    SwapEntry::new(TYPE, offset).unwrap()
}

/// Over a border of regions, every slot with another owner than the one before it, and more of them than fit into
/// the pieces that are handed on.
const FIRST: u64 = REGION - 100;
const NR: u64 = 200;

fn table() -> SwapRecords {
    let table = SwapRecords::new();
    table.swapon(TYPE, PAGES).unwrap();
    for skip in 0..NR {
        let owner = if skip % 2 == 0 { 7 } else { 8 };
        table.record(entry(FIRST + skip), id(owner)).unwrap();
    }
    table
}

/// A tree of three siblings. Two of them take turns in the same slots; each has as many pages in memory.
fn tree() -> (Memcgs, [Memcg; 3]) {
    let memcgs = Memcgs::new();
    memcgs.swapon(TYPE, PAGES).unwrap();
    let parent = memcgs.create(memcgs.root()).unwrap();
    let family = [(); 3].map(|()| memcgs.create(parent).unwrap());
    let [a, b, _] = family;
    for memcg in family {
        memcgs.charge(memcg, 2 * NR).unwrap();
    }
    for skip in 0..NR {
        let owner = if skip % 2 == 0 { a } else { b };
        memcgs.swap_out(owner, entry(FIRST + skip), 1).unwrap();
    }
    (memcgs, family)
}

/// What an operation did with so much memory.
enum Did {
    /// What it does with all the memory of the world.
    All,
    /// Nothing: it was refused for want of memory.
    Nothing,
}

fn range(table: &SwapRecords, result: Result<(), EntryError>, left: Option<MemcgId>) -> Did {
    table.validate().unwrap();
    let slots = || (0..NR).map(|skip| table.lookup(entry(FIRST + skip)));
    match result {
        Ok(()) => {
            assert!(slots().all(|owner| owner == left));
            Did::All
        }
        Err(error) => {
            let bytes = size_of::<Run>() * usize::try_from(NR).unwrap();
            let (start, nr) = (entry(FIRST), NR);
            assert_eq!(error, EntryError::OutOfMemory { start, nr, bytes });
            let had = (0..NR).map(|skip| Some(id(if skip % 2 == 0 { 7 } else { 8 })));
            assert!(slots().eq(had), "something was written");
            Did::Nothing
        }
    }
}

/// An operation on a tree that gives this.
fn on_tree<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    granted: u64,
    gives: &T,
    operation: impl FnOnce(&Memcgs, [Memcg; 3]) -> Result<T, E>,
) -> (Did, u64) {
    let (memcgs, family) = tree();
    let (result, asked) = with_memory(granted, || operation(&memcgs, family));
    assert_eq!(result.unwrap(), *gives);
    memcgs.validate().unwrap();
    (Did::All, asked)
}

type Operation = fn(u64) -> (Did, u64);

/// The operations, and how much each may ask for: nothing, where it frees or migrates.
const OPERATIONS: &[(&str, bool, Operation)] = &[
    ("record_range", true, |granted| {
        let table = table();
        let (had, asked) = with_memory(granted, || table.record_range(entry(FIRST), NR, id(9)));
        let had = had.map(|had| assert_eq!(had.len() as u64, NR));
        (range(&table, had, Some(id(9))), asked)
    }),
    ("clear_range", true, |granted| {
        let table = table();
        let (had, asked) = with_memory(granted, || table.clear_range(entry(FIRST), NR));
        let had = had.map(|had| assert_eq!(had.len() as u64, NR));
        (range(&table, had, None), asked)
    }),
    ("clear_range of one owner", false, |granted| {
        let table = table();
        table.record_range(entry(FIRST), NR, id(9)).unwrap();
        let (had, asked) = with_memory(granted, || table.clear_range(entry(FIRST), 100));
        assert_eq!(had.unwrap().len(), 1);
        table.validate().unwrap();
        (Did::All, asked)
    }),
    ("record_range_with", false, |granted| {
        let table = table();
        let (mut runs, mut slots) = (0, 0);
        let (done, asked) = with_memory(granted, || {
            table.record_range_with(entry(FIRST), NR, id(9), |run| {
                runs += 1;
                slots += run.len;
            })
        });
        assert_eq!((runs, slots), (NR, NR));
        (range(&table, done, Some(id(9))), asked)
    }),
    ("clear_range_with", false, |granted| {
        let table = table();
        let mut slots = 0;
        let (done, asked) = with_memory(granted, || {
            table.clear_range_with(entry(0), PAGES, |run| slots += run.len)
        });
        assert_eq!(slots, NR);
        (range(&table, done, None), asked)
    }),
    ("migrate", false, |granted| {
        let table = table();
        let (moved, asked) = with_memory(granted, || table.migrate(id(7), id(8)));
        assert_eq!(moved, NR / 2);
        table.validate().unwrap();
        (Did::All, asked)
    }),
    ("swapoff", false, |granted| {
        let table = table();
        let (dropped, asked) = with_memory(granted, || table.swapoff(TYPE));
        assert_eq!(dropped, Ok(NR));
        (Did::All, asked)
    }),
    ("Memcgs::free_swap", false, |granted| {
        on_tree(granted, &NR, |memcgs, _| memcgs.free_swap(entry(0), PAGES))
    }),
    ("Memcgs::free_swap_with", false, |granted| {
        let mut slots = 0;
        let did = on_tree(granted, &NR, |memcgs, _| {
            memcgs.free_swap_with(entry(FIRST), NR, |run| slots += run.len)
        });
        assert_eq!(slots, NR);
        did
    }),
    ("Memcgs::swapoff", false, |granted| {
        on_tree(granted, &NR, |memcgs, _| memcgs.swapoff(TYPE))
    }),
    ("swap_out and swap_in", false, |granted| {
        on_tree(granted, &true, |memcgs, [a, ..]| {
            // Over the border of two regions.
            let out = memcgs.swap_out(a, entry(2 * REGION - 50), 100)?;
            Ok::<_, MemcgError>(memcgs.swap_in(entry(2 * REGION - 50), 100)? == out)
        })
    }),
    ("move_swap_account", false, |granted| {
        on_tree(granted, &(NR / 2), |memcgs, [a, _, c]| {
            memcgs.move_swap_account(entry(0), PAGES, a, c)
        })
    }),
    ("move_account, charge and uncharge", false, |granted| {
        on_tree(granted, &(), |memcgs, [a, b, _]| {
            memcgs.move_account(a, b, NR)?;
            memcgs.charge(a, 3 * NR)?;
            memcgs.uncharge(b, 2 * NR)
        })
    }),
    ("css_offline and css_free", false, |granted| {
        on_tree(granted, &(NR / 2), |memcgs, [a, ..]| {
            memcgs.uncharge(a, 2 * NR - NR / 2)?;
            let early = memcgs.css_offline(a, 1)?.moved;
            Ok::<_, MemcgError>(early + memcgs.css_free(a)?.moved)
        })
    }),
    ("create", true, |granted| {
        let (memcgs, [a, ..]) = tree();
        // The last one whose counters are there.
        while memcgs.ids_in_use() < 63 {
            memcgs.create(a).unwrap();
        }
        let (child, asked) = with_memory(granted, || memcgs.create(a));
        memcgs.validate().unwrap();
        let did = match child {
            Ok(child) => {
                assert_eq!(child.id(), id(64));
                Did::All
            }
            Err(error) => {
                assert!(matches!(error, MemcgError::OutOfMemory { .. }), "{error}");
                assert_eq!(memcgs.ids_in_use(), 63);
                Did::Nothing
            }
        };
        (did, asked)
    }),
];

const OPERATION: &str = "SWAP_RECORDS_TEST_OPERATION";
const GRANT: &str = "SWAP_RECORDS_TEST_GRANT";

/// What a child does: it says how much was asked for, and whether that was enough.
#[test]
#[ignore = "run by the other test, in a process of its own"]
fn child() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let index = usize::try_from(number(OPERATION)).unwrap();
    let (did, asked) = OPERATIONS[index].2(number(GRANT));
    let did = match did {
        Did::All => "all",
        Did::Nothing => "nothing",
    };
    println!("did {did}, asked {asked}.");
}

#[test]
fn no_operation_aborts_for_want_of_memory_and_what_frees_needs_none() {
    let mut failed = Vec::new();
    for (index, &(name, may_ask, _)) in OPERATIONS.iter().enumerate() {
        for granted in 0.. {
            let child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "child",
                    "--exact",
                    "--ignored",
                    "--nocapture",
                    "--test-threads=1",
                ])
                .envs([(OPERATION, index.to_string()), (GRANT, granted.to_string())])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout).into_owned();
            let number = |before: &str| -> Option<u64> {
                let rest = said.split_once(before)?.1;
                rest.split_once('.')?.0.parse().ok()
            };
            let Some(asked) = number("asked ").filter(|_| child.status.success()) else {
                let text = String::from_utf8_lossy(&child.stderr);
                failed.push(format!(
                    "{name}, refused from request {granted} on: {}: {said}{text}",
                    child.status
                ));
                break;
            };
            if asked > 0 && !may_ask {
                failed.push(format!("{name} asks for memory {asked} times"));
                break;
            }
            if asked <= granted {
                assert!(said.contains("did all"), "{name}: {said}");
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
