//! A global allocator refuses each allocation of each operation, one after another. The operation either
//! returns an error and has written nothing, or does without the memory. It never aborts the process.
//! Operations that free or migrate allocate nothing.
//!
//! Each operation runs in a process of its own, so that the test sees an abort.

mod allocator;
mod subject;
mod table;
mod tree;

use std::env;
use std::process::Command;

use subject::{Memory, Operation, Subject};

/// The environment variable with the operation that a process is for.
const OPERATION: &str = "SWAP_RECORDS_REFUSED";

/// Refuses the first allocation of the operation, then the second, until the operation makes fewer.
fn refuse_each<S: Subject>(operation: &Operation<S>) {
    let (before, after) = (S::new(), S::new());
    let mut made = 0;
    // This run makes the allocations that happen once per process, such as those that detect the processor.
    let done = (operation.run)(&mut S::new());
    done.unwrap_or_else(|refused| panic!("with all the memory: {refused:?}"));
    allocator::count(&mut made, || _ = (operation.run)(&mut { after }));
    if operation.memory == Memory::None {
        assert_eq!(made, 0, "it must not allocate");
    }
    let before = before.state();
    for nth in 1.. {
        let mut subject = S::new();
        let mut refused = false;
        let result = allocator::refuse(nth, &mut refused, || (operation.run)(&mut subject));
        subject.validate();
        match result {
            Ok(()) if refused => {} // It did without.
            Ok(()) => {
                assert_eq!(made, nth - 1, "it allocates now and then");
                return;
            }
            Err(error) => {
                assert!(refused, "refused for another reason: {error:?}");
                assert!(error.is_for_want_of_memory(), "allocation {nth}: {error:?}");
                assert_eq!(
                    subject.state(),
                    before,
                    "allocation {nth}: it wrote something"
                );
                // The operation succeeds when there is memory again.
                (operation.run)(&mut subject).unwrap();
                subject.validate();
            }
        }
    }
}

/// Runs the operation, in a process that was started for one. In any other process, this test does nothing.
#[test]
fn child() {
    let Ok(name) = env::var(OPERATION) else {
        return;
    };
    #[cfg(all(feature = "std", target_os = "linux"))]
    if name == WITHOUT_THREADS {
        return migrate_without_threads();
    }
    let of_table = table::OPERATIONS.iter().find(|one| one.name == name);
    let of_tree = tree::OPERATIONS.iter().find(|one| one.name == name);
    match (of_table, of_tree) {
        (Some(one), None) => refuse_each(one),
        (None, Some(one)) => refuse_each(one),
        _ => panic!("{name} is no operation, or two"),
    }
    println!("got through: {name}");
}

fn each_in_a_process_of_its_own(operations: impl IntoIterator<Item = &'static str>) {
    let me = env::current_exe().unwrap();
    let mut wrong = Vec::new();
    for name in operations {
        let mut child = Command::new(&me);
        child.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        child.env(OPERATION, name).env("RUST_BACKTRACE", "0");
        let output = child.output().unwrap();
        let through = output.status.success()
            && String::from_utf8_lossy(&output.stdout).contains(&format!("got through: {name}\n"));
        if !through {
            let says = String::from_utf8_lossy(&output.stderr).into_owned();
            wrong.push(format!("{name}: {}: {}", output.status, says.trim()));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn no_operation_of_the_table_aborts_when_memory_is_refused() {
    each_in_a_process_of_its_own(table::OPERATIONS.iter().map(|one| one.name));
}

#[test]
fn no_operation_of_the_tree_aborts_when_memory_is_refused() {
    each_in_a_process_of_its_own(tree::OPERATIONS.iter().map(|one| one.name));
}

#[cfg(all(feature = "std", target_os = "linux"))]
const WITHOUT_THREADS: &str = "a migration on threads that the system refuses";

/// Runs with no address space left for a stack.
#[cfg(all(feature = "std", target_os = "linux"))]
fn migrate_without_threads() {
    let table = table::of_many_regions();
    let used = memory_stats::memory_stats().unwrap().virtual_mem as u64;
    let limit = libc::rlimit {
        rlim_cur: used + (1 << 20),
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: it reads the limit that it is given, for this process.
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(limited, 0);
    assert!(std::thread::Builder::new().spawn(|| {}).is_err());
    let report = table.migration(table::A, table::C).threads(8).run();
    assert_eq!(
        (report.moved, report.left_at_most),
        (table::MANY_REGIONS, 0)
    );
    println!("got through: {WITHOUT_THREADS}");
}

#[test]
#[cfg(all(feature = "std", target_os = "linux"))]
fn a_migration_whose_threads_the_system_refuses_runs_on_the_calling_thread() {
    each_in_a_process_of_its_own([WITHOUT_THREADS]);
}

/// Compares with the allocations of the standard library to start a thread and to wait for it.
#[test]
#[cfg(feature = "std")]
fn a_migration_on_threads_allocates_what_threads_do_and_nothing_else() {
    let run = |table: &swap_records::SwapRecords| {
        let migration = table.migration(table::A, table::C).threads(2);
        assert_eq!(migration.run().moved, table::MANY_REGIONS);
    };
    let bare = || {
        std::thread::scope(|scope| {
            let started = std::thread::Builder::new().spawn_scoped(scope, || {});
            assert!(started.is_ok());
        });
    };
    run(&table::of_many_regions());
    bare();
    let (mut ours, mut threads) = (0, 0);
    let table = table::of_many_regions();
    allocator::count(&mut ours, || run(&table));
    allocator::count(&mut threads, bare);
    assert!(threads > 0, "it starts a thread");
    assert_eq!(ours, threads);
}
