//! Which swapfile a slot is in, and which entries are slots.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use swapmap::reading::SwapFile;

use super::{Stage, Tmpfs, swapfile};
use crate::actors::{Actor, Part};
use crate::machine::{Memcg, PREFERRED, SwapOn};
use crate::printed::Printed;

pub(super) fn last_swapfiles() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("last")?;
    let mut files = Vec::new();
    // The kernel uses the last swapfile first.
    for nr in 0..32 {
        match swapfile(format!("nr{nr}"), 2, PREFERRED - 32 + nr) {
            Ok(file) => files.push(file),
            Err(_) => break,
        }
    }
    if files.len() < 25 {
        return Err(format!(
            "only {} swapfiles can be on, so all types are known to be those of swapfiles",
            files.len()
        ));
    }
    let on = SwapFile::read_all().unwrap().len();
    let _owner = Actor::start(Part::Owns, 1000, &memcg);

    let printed = Printed::live();
    assert_eq!(printed.all("-last"), 1000);
    let markers = printed.note("are not slots, but markers and the like: ");
    assert!(markers.is_none_or(|nr| nr < 1000), "{}", printed.notes);
    let last = format!("nr{}  (type {})", files.len() - 1, on - 1);
    assert!(printed.table.contains(&last), "no line has {last}");
    assert_eq!(Printed::by_smaps().all("-last"), 1000);
    Ok(())
}

pub(super) fn markers() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("marks")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _marker = Actor::start(Part::Marks, 300, &memcg);

    let printed = Printed::live();
    assert_eq!(printed.all("-marks"), 300, "the slots");
    // Other processes of the machine may have markers too.
    let nr = printed.note("are not slots, but markers and the like: ");
    assert!(nr.is_some_and(|nr| nr >= 300), "{}", printed.notes);
    assert!(
        !printed.notes.contains("not counted: "),
        "{}",
        printed.notes
    );
    Ok(())
}

pub(super) fn is_alone() -> Result<(), String> {
    match SwapFile::read_all().unwrap().as_slice() {
        [] => Ok(()),
        _ => Err("another swapfile is on: this test needs all types for itself".to_owned()),
    }
}

/// Turns on `first`, `second` and `third`, with pages of a process in the second and pages of shared memory
/// in the third, if the kernel puts them there. Then turns the first off.
fn three_files(
    stage: &Stage,
    processes: (&Memcg, u64),
    shared: (&Memcg, u64),
) -> Result<(Vec<SwapOn>, Actor, Tmpfs), String> {
    let first = swapfile("first", 2, PREFERRED - 2)?;
    let second = swapfile("second", 8, PREFERRED - 1)?;
    let owner = Actor::start(Part::Owns, processes.1, processes.0);
    let third = swapfile("third", 8, PREFERRED)?;
    let tmpfs = Tmpfs::in_swap(stage, shared.0, shared.1)?;
    drop(first);
    Ok((vec![second, third], owner, tmpfs))
}

pub(super) fn assignment() -> Result<(), String> {
    is_alone()?;
    let stage = Stage::set_up()?;
    let (processes, shared) = (stage.memcg("processes")?, stage.memcg("shared")?);
    let (_files, _owner, _tmpfs) = three_files(&stage, (&processes, 1500), (&shared, 700))?;
    let on = SwapFile::read_all().unwrap();
    if !matches!(on.as_slice(), [second, third] if second.used >= 1500 && third.used < 1500 && third.used > 0)
    {
        return Err(format!(
            "the kernel put the pages into other swapfiles: {on:?}"
        ));
    }

    let printed = Printed::live();
    let rows = printed.rows("-processes");
    assert_eq!((rows.len(), rows[0].slots), (1, 1500));
    assert!(
        rows[0].heading.ends_with("/second  (type 1)"),
        "{}",
        rows[0].heading
    );
    Ok(())
}

pub(super) fn several() -> Result<(), String> {
    is_alone()?;
    let stage = Stage::set_up()?;
    let (processes, shared) = (stage.memcg("processes")?, stage.memcg("shared")?);
    let (_files, _owner, _tmpfs) = three_files(&stage, (&processes, 300), (&shared, 1800))?;
    let on = SwapFile::read_all().unwrap();
    if !matches!(on.as_slice(), [second, third] if second.used >= 300 && third.used >= 300) {
        return Err(format!(
            "the kernel put the pages into other swapfiles: {on:?}"
        ));
    }

    let printed = Printed::live();
    let rows = printed.rows("-processes");
    assert_eq!((rows.len(), rows[0].slots), (1, 300));
    let heading = &rows[0].heading;
    assert!(heading.starts_with("swap type 1, which is /"), "{heading}");
    assert!(
        heading.contains("/second or /") && heading.ends_with("/third"),
        "{heading}"
    );
    assert!(!printed.table.contains("taken to be"));
    Ok(())
}

pub(super) fn restless_swapfiles() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("restless")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _owner = Actor::start(Part::Owns, 200, &memcg);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                drop(swapfile("comes-and-goes", 2, PREFERRED - 1));
            }
        });
        let printed: Vec<_> = (0..8).map(|_| Printed::live()).collect();
        ended.store(true, Ordering::Relaxed);
        for printed in printed {
            assert_eq!(printed.all("-restless"), 200);
            let heading = &printed.rows("-restless")[0].heading;
            let told = printed
                .notes
                .contains("a swapfile was turned on or off at each attempt");
            assert!(
                told || heading.ends_with("/swapfile  (type 0)"),
                "{heading}"
            );
            assert!(
                !told || heading == "swap type 0, of an unknown swapfile",
                "{heading}"
            );
        }
    });
    Ok(())
}
