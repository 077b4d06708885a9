//! Tests the command as it is called: its output, its files and its exit codes.

mod files;
mod outputs;
mod progress;
mod readme;
mod refusals;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use swap_records::image;
use swap_records::{MemcgId, SwapEntry, SwapRecords, SwapType};

/// A folder. Removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("swapmap-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.join(name.as_ref())
    }

    /// Writes an image with two swap types, of which the second one ends within a page. 7 has 512 slots, 9
    /// has 3.
    fn image(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        image::write(&table(), &path).unwrap();
        path
    }

    /// Returns the names in the folder.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<_> = names.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn table() -> SwapRecords {
    let records = SwapRecords::new();
    let [first, second] = [0, 3].map(|ty| SwapType::new(ty).unwrap());
    let [seven, nine] = [7, 9].map(|id| MemcgId::new(id).unwrap());
    let entry = |ty, offset| SwapEntry::new(ty, offset).unwrap();
    records.swapon(first, 70_000).unwrap();
    records.swapon(second, 100).unwrap();
    // Across the end of a unit.
    records
        .record_range(entry(first, 32_700), 512, seven)
        .unwrap();
    records.record_range(entry(first, 33_212), 2, nine).unwrap();
    records.record(entry(second, 99), nine).unwrap();
    records
}

fn command(args: &[&OsStr]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swapmap"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the command with words and paths.
macro_rules! swapmap {
    ($($arg:expr),* $(,)?) => {
        $crate::Done($crate::command(&[$(std::ffi::OsStr::new(&$arg)),*]).output().unwrap())
    };
}
use swapmap;

/// A command that has ended.
struct Done(Output);

impl Done {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.0.status.code(), Some(code), "{:?}", self.0);
        self
    }

    fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// Returns standard output. Nothing may be on standard error.
    #[track_caller]
    fn prints(self) -> String {
        let this = self.exits(0);
        assert_eq!(this.err(), "");
        this.out()
    }

    /// Returns standard error. Nothing may be on standard output.
    #[track_caller]
    fn says(self, code: i32) -> String {
        let this = self.exits(code);
        assert_eq!(this.out(), "");
        this.err()
    }
}

fn owners(path: &Path) -> Vec<(u16, u64)> {
    let records = image::read(path).unwrap();
    records.owners().map(|(id, nr)| (id.get(), nr)).collect()
}

#[test]
fn the_same_arguments_make_the_same_map() {
    let folder = Folder::new("make");
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.path(name));
    for (path, seed) in [(&a, "5"), (&b, "5"), (&c, "6")] {
        let printed = swapmap!(
            "make",
            "--owners",
            "40",
            "--size",
            "1MiB",
            "--size",
            "100000",
            "--seed",
            seed,
            "--remains",
            "41:17",
            "-o",
            path
        );
        let said = format!("100256 slots in 2 swap types: {}\n", path.display());
        assert_eq!(printed.prints(), said);
    }
    assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap());
    assert!(fs::read(&a).unwrap() != fs::read(&c).unwrap());
    let records = image::read(&a).unwrap();
    let sizes = [0, 1, 2].map(|ty| records.max_pages(SwapType::new(ty).unwrap()));
    assert_eq!(sizes, [Some(256), Some(100_000), None]);
    // The map is the one that the library of maps makes.
    let map = swap_records_sim::Map::new(swap_records_sim::Family::Interleaved(40), 256, 5);
    let map = map.remains(41, 17);
    let expected: Vec<_> = map.runs().map(|run| (run.start, run.len, run.id)).collect();
    let found = records.runs(SwapType::new(0).unwrap());
    let found: Vec<_> = found
        .map(|run| (run.start.offset(), run.len, run.id.get()))
        .collect();
    assert_eq!(found, expected);
    let highest = owners(&a).last().copied();
    assert_eq!(highest, Some((41, 2 * 17)));
}

#[test]
fn each_family_can_be_made_and_aged() {
    let folder = Folder::new("families");
    let path = folder.path("image");
    for (family, most) in [("interleaved", 150), ("jobs", 16_384), ("uniform", 16_384)] {
        swapmap!(
            "make",
            "--family",
            family,
            "--size",
            "40000",
            "--turnovers",
            "5000",
            "-o",
            path
        )
        .prints();
        let owners = owners(&path);
        assert!(owners.iter().all(|&(id, _)| id <= most), "{family}");
        let slots: u64 = owners.iter().map(|(_, slots)| slots).sum();
        assert!((30_000..40_000).contains(&slots), "{family}: {slots}");
    }
}

#[test]
fn an_image_is_made_on_standard_output() {
    let folder = Folder::new("stdout");
    let path = folder.path("image");
    swapmap!("make", "--size", "70000", "-o", path).prints();
    let done = swapmap!("make", "--size", "70000", "-o", "-").exits(0);
    assert!(done.0.stdout == fs::read(&path).unwrap());
    assert_eq!(
        done.err(),
        "swapmap: 70000 slots in 1 swap type: standard output\n"
    );
    let moved = swapmap!("reparent", path, "1", "151", "-o", "-").exits(0);
    assert!(image::Reader::of(&moved.0.stdout).is_ok());
}

#[test]
fn owners_are_printed_largest_first() {
    let folder = Folder::new("owners");
    let path = folder.image("image");
    let expected = "\
515 of 70100 slots have a record, of 2 owners
      id          slots   share         type 0         type 3
       7            512   99.4%            512              0
       9              3    0.6%              2              1
";
    assert_eq!(swapmap!("owners", path).prints(), expected);
    let expected = "id,type,slots\n7,0,512\n9,0,2\n9,3,1\n";
    assert_eq!(swapmap!("owners", path, "--csv").prints(), expected);
    let expected = format!(
        "{{
  \"file\": \"{}\",
  \"slots\": 70100,
  \"records\": 515,
  \"types\": [
    {{\"type\": 0, \"slots\": 70000, \"records\": 514}},
    {{\"type\": 3, \"slots\": 100, \"records\": 1}}],
  \"owners\": [
    {{\"id\": 7, \"slots\": 512, \"by_type\": {{\"0\": 512}}}},
    {{\"id\": 9, \"slots\": 3, \"by_type\": {{\"0\": 2, \"3\": 1}}}}]
}}
",
        path.display()
    );
    assert_eq!(swapmap!("owners", path, "--json").prints(), expected);
}

#[test]
fn owners_of_a_large_map_are_those_of_the_table() {
    let folder = Folder::new("large");
    let path = folder.path("image");
    // Each thread takes several pieces.
    swapmap!(
        "make",
        "--family",
        "uniform",
        "--size",
        "3000000",
        "--remains",
        "60000:5",
        "-o",
        path
    )
    .prints();
    let printed = swapmap!("owners", path, "--csv").prints();
    let mut found: Vec<(u16, u64)> = printed
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            (fields[0].parse().unwrap(), fields[2].parse().unwrap())
        })
        .collect();
    assert!(found.is_sorted_by_key(|&(id, slots)| (std::cmp::Reverse(slots), id)));
    found.sort_unstable();
    assert_eq!(found, owners(&path));
}

#[test]
fn a_map_is_shown_as_letters() {
    let folder = Folder::new("show");
    let path = folder.image("image");
    let shown = swapmap!("show", path, "--rows", "2").prints();
    let mut lines = shown.lines();
    let first = format!(
        "{}: 515 of 70100 slots (0.7%) have a record, of 2 owners",
        path.display()
    );
    assert_eq!(lines.next(), Some(first.as_str()));
    let expected = "
type 0: 70000 slots, a letter is the most frequent owner of 1024 slots
               0  ...............................A................................
           65536  .....

type 3: 100 slots, a letter is the owner of a slot
               0  ................................................................
              64  ...................................B

A 7 99.4%           B 9 0.6%            . none";
    let rest: Vec<_> = lines.collect();
    let expected = expected.replace(
        "...............................A.",
        "...............................AA",
    );
    assert_eq!(rest.join("\n"), expected);
}

#[test]
fn a_picture_has_a_pixel_for_each_slot_and_is_written_as_a_whole() {
    let folder = Folder::new("png");
    let path = folder.image("image");
    let png = folder.path("map.png");
    fs::write(&png, "what was there").unwrap();
    swapmap!("show", path, "--png", png).prints();
    let picture = ::image::open(&png).unwrap().to_rgb8();
    let count = |colour| picture.pixels().filter(|pixel| pixel.0 == colour).count();
    // The slots, and a square of 8 x 8 in the legend.
    assert_eq!(count([255, 38, 38]), 512 + 64);
    assert_eq!(folder.names(), ["image", "map.png"]);
}

#[test]
fn records_of_an_id_are_moved_to_another_one() {
    let folder = Folder::new("reparent");
    let path = folder.image("image");
    let out = folder.path("out");
    let said = format!("512 records of 7 moved to 9: {}\n", out.display());
    assert_eq!(
        swapmap!("reparent", path, "7", "9", "-o", out).prints(),
        said
    );
    assert_eq!(owners(&out), [(9, 515)]);
    assert_eq!(owners(&path), [(7, 512), (9, 3)]);
    // In place, and without a record to move.
    swapmap!("reparent", path, "9", "11", "-o", path).prints();
    assert_eq!(owners(&path), [(7, 512), (11, 3)]);
    let said = swapmap!("reparent", path, "5", "6", "-o", path).prints();
    assert!(said.starts_with("0 records of 5 moved to 6: "), "{said}");
    assert_eq!(owners(&path), [(7, 512), (11, 3)]);
    assert_eq!(folder.names(), ["image", "out"]);
}

#[test]
fn a_tree_of_cgroups_is_kept_by_reparent_and_seen_by_diff() {
    use swap_records::memcg::Memcgs;

    let folder = Folder::new("tree");
    let [path, out, without] = ["image", "out", "without"].map(|name| folder.path(name));
    let memcgs = Memcgs::new();
    let ty = SwapType::new(0).unwrap();
    memcgs.swapon(ty, 100).unwrap();
    let child = memcgs.create(memcgs.root()).unwrap();
    memcgs.charge(child, 5).unwrap();
    memcgs
        .swap_out(child, SwapEntry::new(ty, 40).unwrap(), 5)
        .unwrap();
    image::Writer::of_tree(&memcgs).write(&path).unwrap();
    image::Writer::new(&memcgs.into_records())
        .write(&without)
        .unwrap();
    let old = child.id().to_string();
    swapmap!("reparent", path, old, "1", "-o", out).prints();
    let reader = image::Reader::open(&out).unwrap();
    assert!(reader.has_tree());
    assert!(reader.same_tree(&image::Reader::open(&path).unwrap()));
    assert_eq!(owners(&out), [(1, 5)]);
    let whole = format!(
        "{}: whole, 1 swap type, 5 records, with a tree of cgroups\n",
        out.display()
    );
    assert_eq!(swapmap!("verify", out).prints(), whole);
    let differ = swapmap!("diff", path, without).exits(1).out();
    assert_eq!(
        differ,
        format!("a tree of cgroups in {} alone\n", path.display())
    );
}

#[test]
fn diff_prints_the_slots_that_differ() {
    let folder = Folder::new("diff");
    let a = folder.image("a");
    let [b, c] = ["b", "c"].map(|name| folder.path(name));
    assert_eq!(swapmap!("diff", a, a).prints(), "");
    let records = table();
    let entry = |ty, offset| SwapEntry::new(SwapType::new(ty).unwrap(), offset).unwrap();
    let id = |id| MemcgId::new(id).unwrap();
    // Across the end of a unit, and at the end of a type.
    records.record_range(entry(0, 32_760), 16, id(8)).unwrap();
    records.record(entry(0, 69_999), id(8)).unwrap();
    let _ = records.clear_range(entry(3, 99), 1).unwrap();
    image::write(&records, &b).unwrap();
    let expected = "\
type 0, 32760..32776, 16 slots: 7 -> 8
type 0, 69999..70000, 1 slot: none -> 8
type 3, 99..100, 1 slot: 9 -> none
18 slots differ
";
    let done = swapmap!("diff", a, b).exits(1);
    assert_eq!((done.out().as_str(), done.err().as_str()), (expected, ""));
    let expected = "            16  7 -> 8
             1  none -> 8
             1  9 -> none
18 slots differ
";
    assert_eq!(swapmap!("diff", a, b, "--summary").exits(1).out(), expected);
    // Types and sizes.
    let records = SwapRecords::new();
    records.swapon(SwapType::new(3).unwrap(), 99).unwrap();
    records.swapon(SwapType::new(4).unwrap(), 1).unwrap();
    image::write(&records, &c).unwrap();
    let expected = format!(
        "\
type 0: 70000 slots in {a} alone
type 3: 100 -> 99 slots
type 4: 1 slot in {c} alone
           512  7 -> none
             3  9 -> none
515 slots differ
",
        a = a.display(),
        c = c.display()
    );
    assert_eq!(swapmap!("diff", a, c, "--summary").exits(1).out(), expected);
    // A type without records is a difference too.
    assert_eq!(swapmap!("diff", c, a).exits(1).out().lines().count(), 7);
}

#[test]
fn export_prints_runs_across_units() {
    let folder = Folder::new("export");
    let path = folder.image("image");
    let expected = "type,start,slots,id\n0,32700,512,7\n0,33212,2,9\n3,99,1,9\n";
    assert_eq!(swapmap!("export", "--csv", path).prints(), expected);
}

#[test]
fn completions_and_man_pages_have_every_command() {
    let commands = [
        "live",
        "make",
        "show",
        "owners",
        "reparent",
        "diff",
        "verify",
        "export",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = swapmap!("completions", shell).prints();
        for command in commands {
            assert!(text.contains(command), "{shell}: {command}");
        }
        assert!(text.contains("summary"), "{shell} has no --summary");
    }
    let page = swapmap!("man").prints();
    assert!(page.contains("Exit codes"), "{page}");
    let help = swapmap!("--help").prints();
    for command in commands {
        assert!(
            page.contains(&format!("swapmap\\-{command}(1)")),
            "{command}"
        );
        let of = swapmap!("man", command).prints();
        assert!(of.starts_with(".ie"), "{command}: {of}");
        assert!(of.contains(&format!(".TH swapmap-{command} 1")), "{of}");
        assert!(help.contains(&format!("  {command}")), "{command}");
    }
    for code in ["0  done", "1  `diff`", "2  wrong usage", "3  something"] {
        assert!(help.contains(code), "{code}");
    }
}

#[test]
fn the_readme_names_every_command_and_exit_code() {
    let readme = include_str!("../../README.md");
    for command in [
        "live",
        "make",
        "show",
        "owners",
        "reparent",
        "diff",
        "verify",
        "export",
        "completions",
        "man",
    ] {
        assert!(readme.contains(&format!("swapmap {command}")), "{command}");
    }
    for code in 0..=3 {
        assert!(readme.contains(&format!("\n| {code} | ")), "{code}");
    }
}
