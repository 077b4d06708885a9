//! Processes whose slots were missing, or were another cgroup's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Stage, swapfile};
use crate::actors::{Actor, Part};
use crate::machine::PREFERRED;
use crate::printed::Printed;

pub(super) fn main_thread() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("thread")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _owner = Actor::start(Part::OwnsWithoutMainThread, 1027, &memcg);
    assert_eq!(Printed::live().all("-thread"), 1027);
    assert_eq!(Printed::by_smaps().all("-thread"), 1027);
    Ok(())
}

pub(super) fn relay() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("relay")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _owner = Actor::start(Part::OwnsInARelay, 300, &memcg);
    let mut found = 0;
    for _ in 0..40 {
        let printed = Printed::live();
        match printed.all("-relay") {
            300 => found += 1,
            0 => assert!(
                printed.notes.contains("so their slots are missing"),
                "the notes do not mention the process"
            ),
            some => panic!("{some} slots of 300"),
        }
    }
    assert!(found >= 20, "{found} of 40 readings found it");
    Ok(())
}

pub(super) fn names() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg(OsStr::from_bytes(b"x\xe9"))?;
    let _swapfile = swapfile(OsStr::from_bytes(b"a b\n\\caf\xe9"), 16, PREFERRED)?;
    let _owner = Actor::start(Part::OwnsBesideAName, 300, &memcg);
    for printed in [Printed::live(), Printed::by_smaps()] {
        let rows = printed.rows("-x\\xe9");
        assert_eq!(rows.len(), 1, "{}", printed.table);
        assert_eq!(rows[0].all, 300);
        let heading = &rows[0].heading;
        assert!(heading.contains("/a b\\n\\\\caf\\xe9  (type"), "{heading}");
    }
    Ok(())
}

pub(super) fn lower_fork() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let (parent, child) = (stage.memcg("parent")?, stage.memcg("child")?);
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let procs = child.folder.join("cgroup.procs");
    let _forks = Actor::start_with(Part::Forks, 600, &parent, procs.to_str().unwrap());

    let printed = Printed::live();
    assert_eq!((printed.all("-parent"), printed.all("-child")), (600, 0));
    assert!(
        printed
            .notes
            .contains("the process that began first keeps them: 600\n")
    );
    Ok(())
}

pub(super) fn churn() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("churn")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _churners: Vec<_> = (0..4)
        .map(|_| Actor::start(Part::Churns, 0, &memcg))
        .collect();
    let _owner = Actor::start(Part::Owns, 200, &memcg);
    for _ in 0..5 {
        let printed = Printed::live();
        assert_eq!(printed.all("-churn"), 200);
        // Some machines have a process that cannot be read.
        let refused = "are missing: ";
        let notes = &printed.notes;
        assert!(
            !notes.contains(refused) || notes.contains(&format!("{refused}1;")),
            "{notes}"
        );
    }
    assert_eq!(Printed::by_smaps().all("-churn"), 200);
    Ok(())
}
