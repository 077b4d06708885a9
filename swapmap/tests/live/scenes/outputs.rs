//! CSV, JSON, images and pictures of a machine.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use swapmap::reading::Version;

use super::{Stage, Tmpfs, swapfile};
use crate::actors::{Actor, Part};
use crate::machine::{Memcg, PREFERRED};
use crate::printed::Printed;

pub(super) fn for_programs() -> Result<(), String> {
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
    let head = csv.lines().next().unwrap();
    assert!(head.starts_with("type,swapfile,id,slots,"), "{head}");
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
        "\"reasons\": [\n    \"400 ",
    ] {
        assert!(json.contains(part), "{part}");
    }
    let no_slot = json.split("\"no_slot\": ").nth(1).unwrap();
    let no_slot: u64 = no_slot.split(',').next().unwrap().parse().unwrap();
    assert!(
        no_slot >= 300,
        "expected 300 or more, since other processes may have markers: {no_slot}"
    );
    assert_eq!(json.matches('{').count(), json.matches('}').count());
    if v1 {
        let gone = csv.lines().find(|line| line.ends_with("-programs)"));
        assert!(
            gone.is_some_and(|line| line.starts_with(",,,0,400,0,,,,(")),
            "{csv}"
        );
        assert!(json.contains("-programs\", \"slots\": 400}"));
    }
    Ok(())
}

pub(super) fn files() -> Result<(), String> {
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
    // Coloured pixels are the slots of the cgroup and its square in the legend.
    let picture = image::open(&png).unwrap().to_rgb8();
    let grey = |pixel: &&image::Rgb<u8>| {
        let [r, g, b] = pixel.0.map(i32::from);
        (r - g).abs() < 10 && (g - b).abs() < 10
    };
    let coloured = picture.pixels().filter(|pixel| !grey(pixel)).count();
    assert!((300..600).contains(&coloured), "{coloured}");
    Ok(())
}

pub(super) fn no_privilege() -> Result<(), String> {
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
