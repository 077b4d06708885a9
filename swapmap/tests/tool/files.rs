//! Damaged images, unusual names, links and directories.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;

use super::*;

/// The commands that read one image.
const READERS: [&[&str]; 3] = [&["show"], &["owners"], &["export", "--csv"]];

#[test]
fn a_damaged_image_is_refused_with_file_and_offset() {
    let folder = Folder::new("damaged");
    let path = folder.image("image");
    let whole = fs::read(&path).unwrap();
    let out = folder.path("out");
    for (name, damage, says) in [
        (
            "cut",
            &(|bytes: &mut Vec<u8>| bytes.truncate(5000)) as &dyn Fn(&mut Vec<u8>),
            "ends at offset 5000, expected ",
        ),
        (
            "empty",
            &|bytes| bytes.clear(),
            "ends at offset 0, expected ",
        ),
        (
            "other",
            &|bytes| bytes[0] = b'X',
            "offset 0: found \"XWAPRECS\", expected \"SWAPRECS\"",
        ),
        (
            "ids",
            &|bytes| bytes[4096 + 65_400] ^= 1,
            "offset 4096: the checksum of the ids of swap type 0, 65536 bytes, is",
        ),
        (
            "end",
            &|bytes| *bytes.last_mut().unwrap() ^= 1,
            "the checksum of the trailer",
        ),
    ] {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let check = |said: String| {
            let begins = format!("swapmap: {}: ", path.display());
            assert!(said.starts_with(&begins), "{name}: {said}");
            assert!(said.contains(says), "{name}: {said}");
            assert!(
                said.contains("; use ") || said.contains("; pass "),
                "{name}: {said}"
            );
        };
        for args in READERS {
            let mut args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
            args.push(path.as_os_str());
            let done = Done(command(&args).output().unwrap()).exits(3);
            check(done.err());
        }
        check(swapmap!("diff", path, path).exits(3).err());
        check(swapmap!("reparent", path, "7", "9", "-o", out).says(3));
        // `verify` prints the fault on standard output.
        let done = swapmap!("verify", path).exits(1);
        assert!(done.out().contains(says), "{name}: {}", done.out());
        assert_eq!(done.err(), "");
        assert_eq!(folder.names(), ["image"], "{name}");
    }
}

#[test]
fn verify_names_each_unit_that_is_damaged_and_looks_at_all_files() {
    let folder = Folder::new("verify");
    let [bad, good] = ["bad", "good"].map(|name| folder.image(name));
    let mut bytes = fs::read(&bad).unwrap();
    for unit in [0, 2] {
        bytes[4096 + unit * 65_536 + 3] ^= 1;
    }
    fs::write(&bad, bytes).unwrap();
    let out = swapmap!("verify", bad, good).exits(1).out();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].contains("offset 4096: the checksum"), "{out}");
    assert!(lines[1].contains("offset 135168: the checksum"), "{out}");
    assert_eq!(
        lines[2],
        format!("{}: whole, 2 swap types, 515 records", good.display())
    );
}

#[test]
fn names_that_are_not_unicode_or_command_terminals_are_read_and_written() {
    let folder = Folder::new("names");
    let name = OsString::from_vec(b"x\xe9 \x1b[2J.image".to_vec());
    let path = folder.path(&name);
    let said = swapmap!("make", "--size", "100", "--size", "5", "-o", path).prints();
    let shown = "x\\xe9 \\u{1b}[2J.image";
    assert!(said.ends_with(&format!("{shown}\n")), "{said}");
    // In JSON a backslash is two.
    let json = swapmap!("owners", path, "--json").prints();
    let doubled = shown.replace('\\', "\\\\");
    assert!(json.contains(&doubled), "{json}");
    for said in [
        swapmap!("show", path).prints(),
        swapmap!("verify", path).prints(),
        swapmap!("reparent", path, "1", "2", "-o", path).prints(),
        swapmap!("show", path, "--png", path).says(2),
        swapmap!("diff", path, folder.path("none").join(&name)).says(3),
        swapmap!("make", "-o", folder.path(&name).join(&name)).says(3),
    ] {
        assert!(said.contains(shown), "{said:?}");
        assert!(!said.contains(['\u{1b}', '\u{fffd}']), "{said:?}");
    }
    let other = folder.image("other");
    let said = swapmap!("diff", other, path).exits(1).out();
    assert!(said.contains(&format!("{shown} alone\n")), "{said}");
    fs::remove_file(&other).unwrap();
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    fs::write(&path, "no image").unwrap();
    let said = swapmap!("owners", path).says(3);
    assert!(said.contains(&format!("{shown}: ")), "{said:?}");
    // The library of images names files in its errors too.
    let mut partial = b".".to_vec();
    partial.extend(name.as_encoded_bytes());
    partial.extend(b".partial");
    let partial = folder.path(OsString::from_vec(partial));
    fs::create_dir(&partial).unwrap();
    let said = swapmap!("make", "--size", "100", "-o", path).says(3);
    assert!(
        said.contains(&format!(".{shown}.partial is a directory")),
        "{said:?}"
    );
    fs::remove_dir(&partial).unwrap();
}

#[test]
fn what_an_error_quotes_is_escaped_once() {
    let folder = Folder::new("escaped");
    let path = folder.path("rnd");
    fs::write(
        &path,
        [b"\x7f\xe9\0\\ab\"c".as_slice(), &[0; 9000]].concat(),
    )
    .unwrap();
    let said = swapmap!("owners", path).says(3);
    let quoted = r#"found "\x7f\xe9\x00\\ab\"c", expected"#;
    assert!(said.contains(quoted), "{said}");
    let said = swapmap!("verify", path).exits(1).out();
    assert!(said.contains(quoted), "{said}");
}

#[test]
fn a_directory_is_called_a_directory() {
    let folder = Folder::new("directory");
    for command in ["show", "owners", "verify"] {
        let said = swapmap!(command, folder.0).says(3);
        let says = format!("{} is a directory", folder.0.display());
        assert!(said.contains(&says), "{said}");
        assert!(said.contains("give the path of an image"), "{said}");
    }
}

#[test]
fn a_link_is_followed_and_stays() {
    let folder = Folder::new("link");
    let [path, link] = ["image", "link"].map(|name| folder.path(name));
    fs::write(&path, "old").unwrap();
    symlink(&path, &link).unwrap();
    swapmap!("make", "--size", "100", "-o", link).prints();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(swapmap!("verify", path).exits(0).out().lines().count(), 1);
    assert_eq!(folder.names(), ["image", "link"]);
}
