//! Scenes in which `swapmap live` printed something wrong, or could. Each test makes its scene on this
//! machine, and compares the output with the scene. A file has the scenes of one question.

mod figures;
mod outputs;
mod processes;
mod types;

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use swapmap::reading::{Figures, Hierarchy, Version, page_size};

use crate::Test;
use crate::machine::{Delegation, Memcg, SwapOn, clear_leftovers};

pub const ALL: [(&str, Test); 17] = [
    (
        "the_last_of_all_swapfiles_are_not_taken_for_markers",
        types::last_swapfiles,
    ),
    ("markers_are_not_counted_as_slots", types::markers),
    (
        "a_process_whose_main_thread_has_ended_is_read",
        processes::main_thread,
    ),
    (
        "a_process_whose_threads_follow_each_other_is_read_or_reported",
        processes::relay,
    ),
    ("names_that_are_not_utf8_hide_nothing", processes::names),
    (
        "more_found_than_in_use_rules_a_swapfile_out",
        types::assignment,
    ),
    (
        "where_several_swapfiles_are_possible_all_are_named",
        types::several,
    ),
    (
        "a_fork_with_a_lower_number_does_not_get_its_parents_slots",
        processes::lower_fork,
    ),
    (
        "a_cgroup_with_shared_memory_alone_is_shown",
        figures::shared_memory,
    ),
    (
        "the_swap_of_a_removed_cgroup_is_shown",
        figures::gone_cgroup,
    ),
    (
        "a_process_that_moved_is_shown_as_text_and_as_json",
        figures::moved,
    ),
    (
        "csv_and_json_have_the_figures_of_the_text",
        outputs::for_programs,
    ),
    (
        "the_image_and_the_picture_have_the_slots_that_were_found",
        outputs::files,
    ),
    (
        "figures_that_are_late_are_read_again",
        figures::late_figures,
    ),
    (
        "processes_that_end_during_the_reading_are_not_an_error",
        processes::churn,
    ),
    (
        "swapfiles_that_are_turned_off_during_the_reading_are_read_again_or_reported",
        types::restless_swapfiles,
    ),
    (
        "without_privilege_the_command_says_so",
        outputs::no_privilege,
    ),
];

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// The hierarchy in which a scene makes its cgroups.
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

    /// Reclaims the memory of this cgroup, with the swap cache, until `pages` or more are only in swap.
    fn reclaim(&self, memcg: &Memcg, pages: u64) {
        let (file, what) = match self.hierarchy.version {
            Version::V1 => ("memory.force_empty", "0"),
            Version::V2 => ("memory.reclaim", "64M"),
        };
        let began = Instant::now();
        while self.figures(memcg).at_least() < pages {
            // The write fails where pages are left.
            let _ = fs::write(memcg.folder.join(file), what);
            let figures = self.figures(memcg);
            assert!(began.elapsed() < PATIENCE, "{figures:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Reclaims `pages` that have a slot already, and few other pages.
    fn leave_swap_cache(&self, memcg: &Memcg, pages: u64) {
        let limit = memcg.folder.join("memory.limit_in_bytes");
        let began = Instant::now();
        while self.figures(memcg).at_least() < pages {
            let usage = fs::read_to_string(memcg.folder.join("memory.usage_in_bytes")).unwrap();
            let usage: u64 = usage.trim().parse().unwrap();
            // The kernel reclaims the pages first that it has written.
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

/// A file of tmpfs, which outlives the process that wrote it. Removed when this is dropped.
struct Tmpfs(String);

impl Tmpfs {
    /// Makes pages of `memcg` that are all in swap, and in the page table of no process.
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
