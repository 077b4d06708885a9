//! Where the page tables and the kernel's figures disagree.

use std::ffi::OsStr;
use std::fs;
use std::thread;
use std::time::Duration;

use swapmap::reading::Version;

use super::{Stage, Tmpfs, swapfile};
use crate::actors::{Actor, FREED, Part};
use crate::machine::{Memcg, PREFERRED};
use crate::printed::Printed;

pub(super) fn shared_memory() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("tmpfs")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _tmpfs = Tmpfs::in_swap(&stage, &memcg, 500)?;

    let printed = Printed::live();
    let rows = printed.rows("-tmpfs");
    assert_eq!(rows.len(), 1, "{}", printed.table);
    let row = &rows[0];
    assert_eq!((row.slots, row.all, row.kernel), (500, 0, 500));
    assert!(
        row.heading.contains("in use were not found"),
        "{}",
        row.heading
    );
    assert!(
        printed
            .table
            .contains("pages of tmpfs and shared memory are in no page table")
    );
    assert!(
        printed.notes.contains("0 of 1 cgroups with swap agree"),
        "{}",
        printed.notes
    );
    Ok(())
}

pub(super) fn gone_cgroup() -> Result<(), String> {
    let stage = Stage::set_up()?;
    if stage.hierarchy.version == Version::V2 {
        return Err(
            "v2 does not show the swap of removed cgroups apart from that of their parent"
                .to_owned(),
        );
    }
    let above = stage.memcg("above")?;
    let below = Memcg::named(&above.folder, OsStr::new("below"))?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _tmpfs = Tmpfs::in_swap(&stage, &below, 400)?;
    drop(below);

    let printed = Printed::live();
    let line = printed
        .table
        .lines()
        .find(|line| line.ends_with("-above)") && line.contains("(removed cgroups below "));
    let slots = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    assert!(slots == Some(400), "{}", printed.table);
    Ok(())
}

pub(super) fn moved() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let (from, to) = (stage.memcg("from")?, stage.memcg("to")?);
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let owner = Actor::start(Part::Owns, 300, &from);
    stage.reclaim(&from, 300);
    fs::write(to.folder.join("cgroup.procs"), owner.pid().to_string()).unwrap();

    let printed = Printed::live();
    if printed.all("-to") == 0 {
        return Err("on this machine a charge moves with its process".to_owned());
    }
    // The figures never agree, so the command waits for newer ones.
    let waits = "swapmap: waiting for the kernel's figures";
    assert!(printed.notes.contains(waits), "{}", printed.notes);
    let [from, to] = ["-from", "-to"].map(|end| {
        let rows = printed.rows(end);
        let last = rows.last().unwrap();
        (last.slots, last.all, last.kernel)
    });
    // Other pages of the process may be in swap too.
    assert!(from.0 >= 300 && from.1 == 0 && from.2 == from.0, "{from:?}");
    assert!(to.0 >= 300 && to.1 >= to.0 && to.2 == 0, "{to:?}");
    let json = Printed::live_with(&["--json".as_ref()]);
    let row = json.lines().find(|line| line.contains("-to\", \"id\": "));
    let row = row.unwrap_or_else(|| panic!("no row"));
    let more = format!("\"not_found\": 0, \"more_found\": {}, \"kernel\": 0", to.0);
    assert!(row.contains(&more), "{more}");
    assert!(
        json.contains(
            "found in a cgroup that the kernel does not charge for them: the process moved"
        )
    );
    assert!(!json.contains("\"found_elsewhere\": 0"));
    Ok(())
}

pub(super) fn late_figures() -> Result<(), String> {
    let stage = Stage::set_up()?;
    if stage.hierarchy.version == Version::V2 {
        return Err("v2's memory.swap.current is not late".to_owned());
    }
    let memcg = stage.memcg("late")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let mut frees = Actor::start(Part::Frees, 300, &memcg);
    stage.leave_swap_cache(&memcg, 300);
    let (mut left, mut late) = (300, false);
    for _ in 0..5 {
        // The kernel has added up all earlier changes after that time.
        thread::sleep(Duration::from_millis(2500));
        // So few pages that the kernel does not add them up at once.
        frees.go_on();
        left -= FREED;
        late |= !stage.figures(&memcg).agrees_with(left);
        let printed = Printed::live();
        assert_eq!(printed.all("-late"), left);
        assert!(
            // Another cgroup may have pages in the swap cache.
            (1..4).any(|nr| printed.notes.contains(&format!("\n{nr} of {nr} cgroups"))),
            "{}",
            printed.notes
        );
    }
    if !late {
        return Err("this kernel's figures are not late".to_owned());
    }
    Ok(())
}
