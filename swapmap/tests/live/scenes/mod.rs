//! Scenes in which `swapmap live` has told something untrue, or could. Each is made on this machine, and what is printed
//! is held against what was made.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use swapmap::reading::{Figures, Hierarchy, SwapFile, Version, page_size};

use crate::Test;
use crate::actors::{Actor, FREED, Part};
use crate::machine::{Delegation, Memcg, PREFERRED, SwapOn, clear_leftovers};
use crate::printed::Printed;

pub const ALL: [(&str, Test); 17] = [
    ("the_last_of_all_swapfiles_are_no_markers", last_swapfiles),
    ("markers_are_no_slots", markers),
    ("a_process_whose_main_thread_has_ended_is_read", main_thread),
    (
        "a_process_whose_threads_follow_each_other_is_read_or_told",
        relay,
    ),
    ("names_that_are_not_utf8_hide_nothing", names),
    ("more_found_than_in_use_rules_a_swapfile_out", assignment),
    (
        "where_several_swapfiles_are_possible_all_are_named",
        several,
    ),
    (
        "a_fork_with_a_lower_number_does_not_get_its_parents_slots",
        lower_fork,
    ),
    ("a_cgroup_with_shared_memory_alone_is_shown", shared_memory),
    ("a_cgroup_that_is_gone_is_shown_with_its_swap", gone_cgroup),
    ("a_process_that_moved_is_told_as_json_too", moved),
    ("csv_and_json_say_what_the_text_says", for_programs),
    ("the_image_and_the_picture_have_what_was_found", files),
    ("figures_that_are_late_are_read_again", late_figures),
    ("processes_that_end_meanwhile_are_no_failure", churn),
    (
        "swapfiles_that_go_meanwhile_are_read_again_or_told",
        restless_swapfiles,
    ),
    ("without_privilege_the_command_says_so", no_privilege),
];

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// A hierarchy to make cgroups in.
struct Stage {
    hierarchy: Hierarchy,
    _delegation: Option<Delegation>,
}

impl Stage {
    fn set_up() -> Result<Self, String> {
        let hierarchy = Hierarchy::find().map_err(|refused| refused.to_string())?;
        clear_leftovers(&hierarchy.mount_point);
        Ok(Self {
            _delegation: Delegation::obtain(&hierarchy)?,
            hierarchy,
        })
    }

    fn memcg(&self, name: impl AsRef<OsStr>) -> Result<Memcg, String> {
        Memcg::named(&self.hierarchy.mount_point, name.as_ref())
    }

    fn figures(&self, memcg: &Memcg) -> Figures {
        Figures::read(self.hierarchy.version, &memcg.folder).unwrap()
    }

    /// Takes from memory what this cgroup has there, the swap cache too, until `pages` or more are in swap alone.
    fn reclaim(&self, memcg: &Memcg, pages: u64) {
        let (file, what) = match self.hierarchy.version {
            Version::V1 => ("memory.force_empty", "0"),
            Version::V2 => ("memory.reclaim", "64M"),
        };
        let began = Instant::now();
        while self.figures(memcg).at_least() < pages {
            // It fails where something is left.
            let _ = fs::write(memcg.folder.join(file), what);
            let figures = self.figures(memcg);
            assert!(began.elapsed() < PATIENCE, "{figures:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes `pages` that have a slot already from memory, and hardly any others.
    fn leave_swap_cache(&self, memcg: &Memcg, pages: u64) {
        let limit = memcg.folder.join("memory.limit_in_bytes");
        let began = Instant::now();
        while self.figures(memcg).at_least() < pages {
            let usage = fs::read_to_string(memcg.folder.join("memory.usage_in_bytes")).unwrap();
            let usage: u64 = usage.trim().parse().unwrap();
            // The kernel takes first what it has written.
            let missing = pages - self.figures(memcg).at_least();
            let less = usage.saturating_sub(missing * page_size());
            let _ = fs::write(&limit, less.to_string());
            fs::write(&limit, "-1").unwrap();
            let figures = self.figures(memcg);
            assert!(began.elapsed() < PATIENCE, "{figures:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn swapfile(name: impl AsRef<OsStr>, mib: u64, priority: i32) -> Result<SwapOn, String> {
    SwapOn::named(name.as_ref(), mib * MIB, priority)
}

fn last_swapfiles() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("last")?;
    let mut files = Vec::new();
    // The last one is used first.
    for nr in 0..32 {
        match swapfile(format!("nr{nr}"), 2, PREFERRED - 32 + nr) {
            Ok(file) => files.push(file),
            Err(_) => break,
        }
    }
    if files.len() < 25 {
        return Err(format!(
            "{} swapfiles can be on: all their types are known",
            files.len()
        ));
    }
    let on = SwapFile::read_all().unwrap().len();
    let _owner = Actor::start(Part::Owns, 1000, &memcg);

    let printed = Printed::live();
    assert_eq!(printed.all("-last"), 1000);
    assert!(!printed.notes.contains("no slots"), "{}", printed.notes);
    let last = format!("nr{}  (type {})", files.len() - 1, on - 1);
    assert!(printed.table.contains(&last), "no line has {last}");
    assert_eq!(Printed::by_smaps().all("-last"), 1000);
    Ok(())
}

fn markers() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("marks")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _marker = Actor::start(Part::Marks, 300, &memcg);

    let printed = Printed::live();
    assert_eq!(printed.all("-marks"), 300, "the slots");
    let note = "no slots, but markers and the like: 300\n";
    assert!(printed.notes.contains(note), "{}", printed.notes);
    Ok(())
}

fn main_thread() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("thread")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _owner = Actor::start(Part::OwnsWithoutMainThread, 1027, &memcg);
    assert_eq!(Printed::live().all("-thread"), 1027);
    assert_eq!(Printed::by_smaps().all("-thread"), 1027);
    Ok(())
}

fn relay() -> Result<(), String> {
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
                "not a word of the process"
            ),
            some => panic!("{some} slots of 300"),
        }
    }
    assert!(found >= 20, "{found} of 40 readings found it");
    Ok(())
}

fn names() -> Result<(), String> {
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

/// Turns on `first`, `second` and `third`, with pages of a process in the second, and of shared memory in the third, if
/// the kernel puts them there. Then turns the first off.
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

fn is_alone() -> Result<(), String> {
    match SwapFile::read_all().unwrap().as_slice() {
        [] => Ok(()),
        _ => Err("it needs to be alone with its swapfiles".to_owned()),
    }
}

fn assignment() -> Result<(), String> {
    is_alone()?;
    let stage = Stage::set_up()?;
    let (processes, shared) = (stage.memcg("processes")?, stage.memcg("shared")?);
    let (_files, _owner, _tmpfs) = three_files(&stage, (&processes, 1500), (&shared, 700))?;
    let on = SwapFile::read_all().unwrap();
    if !matches!(on.as_slice(), [second, third] if second.used >= 1500 && third.used < 1500 && third.used > 0)
    {
        return Err(format!("the kernel puts pages elsewhere: {on:?}"));
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

fn several() -> Result<(), String> {
    is_alone()?;
    let stage = Stage::set_up()?;
    let (processes, shared) = (stage.memcg("processes")?, stage.memcg("shared")?);
    let (_files, _owner, _tmpfs) = three_files(&stage, (&processes, 300), (&shared, 1800))?;
    let on = SwapFile::read_all().unwrap();
    if !matches!(on.as_slice(), [second, third] if second.used >= 300 && third.used >= 300) {
        return Err(format!("the kernel puts pages elsewhere: {on:?}"));
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

fn lower_fork() -> Result<(), String> {
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

fn shared_memory() -> Result<(), String> {
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
            .contains("tmpfs and shared memory show in none")
    );
    assert!(
        printed.notes.contains("0 of 1 cgroups with swap agree"),
        "{}",
        printed.notes
    );
    Ok(())
}

fn gone_cgroup() -> Result<(), String> {
    let stage = Stage::set_up()?;
    if stage.hierarchy.version == Version::V2 {
        return Err(
            "v2 does not tell what is a cgroup's and what is of those below that are gone"
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
        .find(|line| line.ends_with("-above that are gone)"));
    let slots = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    assert!(slots == Some(400), "{}", printed.table);
    Ok(())
}

fn moved() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let (from, to) = (stage.memcg("from")?, stage.memcg("to")?);
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let owner = Actor::start(Part::Owns, 300, &from);
    stage.reclaim(&from, 300);
    fs::write(to.folder.join("cgroup.procs"), owner.pid().to_string()).unwrap();

    let printed = Printed::live();
    if printed.all("-to") == 0 {
        return Err("here a charge moves with its process".to_owned());
    }
    // The figures never agree, so they are waited for.
    let waits = "swapmap: waiting for the kernel's figures";
    assert!(printed.notes.contains(waits), "{}", printed.notes);
    let [from, to] = ["-from", "-to"].map(|end| {
        let rows = printed.rows(end);
        let last = rows.last().unwrap();
        (last.slots, last.all, last.kernel)
    });
    // What else the process has may be in swap too by now.
    assert!(from.0 >= 300 && from.1 == 0 && from.2 == from.0, "{from:?}");
    assert!(to.0 >= 300 && to.1 >= to.0 && to.2 == 0, "{to:?}");
    let json = Printed::live_with(&["--json".as_ref()]);
    let row = json.lines().find(|line| line.contains("-to\", \"id\": "));
    let row = row.unwrap_or_else(|| panic!("no row"));
    let more = format!("\"not_found\": 0, \"more_found\": {}, \"kernel\": 0", to.0);
    assert!(row.contains(&more), "{more}");
    assert!(json.contains("found in another cgroup than the kernel's: the process was moved"));
    assert!(!json.contains("\"found_elsewhere\": 0"));
    Ok(())
}

fn for_programs() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let above = stage.memcg("programs")?;
    let below = Memcg::named(&above.folder, OsStr::new("below"))?;
    let marks = stage.memcg("marks")?;
    let _swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _marker = Actor::start(Part::Marks, 300, &marks);
    let _tmpfs = Tmpfs::in_swap(&stage, &below, 400)?;
    let v1 = stage.hierarchy.version == Version::V1;
    if v1 {
        drop(below);
    }

    let csv = Printed::live_with(&["--csv".as_ref()]);
    let head = "type,swapfile,id,slots,not_found,more_found,all,kernel,swap_cache,cgroup\n";
    assert!(csv.starts_with(head));
    let fields = head.matches(',').count();
    assert!(csv.lines().all(|line| line.matches(',').count() == fields));
    let json = Printed::live_with(&["--json".as_ref()]);
    for part in [
        "\"untold\": {}",
        "\"disputed\": 0",
        "\"shared\": 0",
        "\"confined\": ",
        "\"vanished\": ",
        "\"past_the_end\": 0",
        "\"reasons\": [\n    \"400 are ",
    ] {
        assert!(json.contains(part), "{part}");
    }
    let no_slot = json.split("\"no_slot\": ").nth(1).unwrap();
    let no_slot: u64 = no_slot.split(',').next().unwrap().parse().unwrap();
    assert!(
        no_slot >= 300,
        "other processes may have markers too: {no_slot}"
    );
    assert_eq!(json.matches('{').count(), json.matches('}').count());
    if v1 {
        let gone = csv
            .lines()
            .find(|line| line.ends_with("-programs that are gone)"));
        assert!(
            gone.is_some_and(|line| line.starts_with(",,,0,400,0,,,,(")),
            "{csv}"
        );
        assert!(json.contains("-programs\", \"slots\": 400}"));
    }
    Ok(())
}

fn files() -> Result<(), String> {
    let stage = Stage::set_up()?;
    let memcg = stage.memcg("files")?;
    let swapfile = swapfile("swapfile", 16, PREFERRED)?;
    let _owner = Actor::start(Part::Owns, 300, &memcg);
    let beside = swapfile.file.parent().unwrap();
    let (save, png) = (beside.join("image"), beside.join("picture.png"));

    let csv = Printed::live_with(&[
        "--csv".as_ref(),
        "--save".as_ref(),
        save.as_ref(),
        "--png".as_ref(),
        png.as_ref(),
    ]);
    let row = csv.lines().find(|line| line.ends_with("-files")).unwrap();
    let id: u16 = row.split(',').nth(2).unwrap().parse().unwrap();
    let records = swap_records::image::read(&save).unwrap();
    let owners: Vec<_> = records
        .owners()
        .map(|(id, slots)| (id.get(), slots))
        .collect();
    assert_eq!(owners, [(id, 300)]);
    // What is neither paper nor text nor empty: its slots, and its square in the legend.
    let picture = image::open(&png).unwrap().to_rgb8();
    let grey = |pixel: &&image::Rgb<u8>| {
        let [r, g, b] = pixel.0.map(i32::from);
        (r - g).abs() < 10 && (g - b).abs() < 10
    };
    let coloured = picture.pixels().filter(|pixel| !grey(pixel)).count();
    assert!((300..600).contains(&coloured), "{coloured}");
    Ok(())
}

/// A file of tmpfs, which outlives the process that wrote it. It goes when this is dropped.
struct Tmpfs(String);

impl Tmpfs {
    /// Pages of `memcg` that no process has in its page table, all of them in swap.
    fn in_swap(stage: &Stage, memcg: &Memcg, pages: u64) -> Result<Self, String> {
        let tmpfs = Self(format!("/dev/shm/swap-records-live-{}", std::process::id()));
        fs::write(&tmpfs.0, "").map_err(|error| format!("no tmpfs: {error}"))?;
        let script = format!(
            "echo $$ > {}/cgroup.procs && tr '\\0' x < /dev/zero | head -c {} > {}",
            memcg.folder.display(),
            pages * page_size(),
            tmpfs.0
        );
        let wrote = Command::new("sh").arg("-c").arg(script).status().unwrap();
        assert!(wrote.success());
        stage.reclaim(memcg, pages);
        Ok(tmpfs)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn late_figures() -> Result<(), String> {
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
        // Until the kernel has added up all before.
        thread::sleep(Duration::from_millis(2500));
        // Few enough that the kernel leaves them for later.
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

fn churn() -> Result<(), String> {
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
        // Some machines have a process that refuses.
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

fn restless_swapfiles() -> Result<(), String> {
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
                .contains("a swapfile was turned on or off each time");
            assert!(
                told || heading.ends_with("/swapfile  (type 0)"),
                "{heading}"
            );
            assert!(
                !told || heading == "swap type 0, whose swapfile is not known",
                "{heading}"
            );
        }
    });
    Ok(())
}

fn no_privilege() -> Result<(), String> {
    let copy = std::env::temp_dir().join(format!("swapmap-live-{}", std::process::id()));
    fs::copy(env!("CARGO_BIN_EXE_swapmap"), &copy).unwrap();
    let done = Command::new(&copy)
        .arg("live")
        .uid(65534)
        .gid(65534)
        .output();
    fs::remove_file(&copy).unwrap();
    let done = done.map_err(|error| error.to_string())?;
    assert_eq!(done.status.code(), Some(3));
    assert!(done.stdout.is_empty());
    assert!(String::from_utf8_lossy(&done.stderr).contains("run this as root"));
    Ok(())
}
