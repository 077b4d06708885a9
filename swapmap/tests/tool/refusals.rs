//! Refusals and their exit codes; and outputs that cannot be written.

use std::io::Read;
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn wrong_usage_exits_with_2() {
    let folder = Folder::new("usage");
    let path = folder.image("image");
    for (done, says) in [
        (swapmap!(), "Usage: swapmap <COMMAND>"),
        (swapmap!("other"), "unrecognized subcommand 'other'"),
        (
            swapmap!("owners", path, "--json", "--csv"),
            "cannot be used with",
        ),
        (
            swapmap!("make", "-o", path, "--size", "4GB"),
            "such as 4GiB",
        ),
        (
            swapmap!("make", "-o", path, "--family", "jobs", "--owners", "5"),
            "have 16384 owners",
        ),
        (
            swapmap!("make", "-o", path, "--size", "10", "--remains", "5:11"),
            "--remains asks for 11 slots",
        ),
        (
            swapmap!("make", "-o", path, "--size", "10", "--turnovers", "10001"),
            "at most 1000 per slot",
        ),
        (
            swapmap!("reparent", path, "7", "7", "-o", path),
            "give two ids that differ",
        ),
        (swapmap!("reparent", path, "0", "7", "-o", path), "'0'"),
        (
            swapmap!("show", path, "--png", path),
            "give the picture another path",
        ),
        (
            swapmap!("live", "--save", path, "--png", path),
            "give them two paths",
        ),
        (
            swapmap!("live", "--save", "-"),
            "would mix the image with the text",
        ),
        (swapmap!("export", path), "--csv"),
        (swapmap!("man", "other"), "no command `other`"),
        (swapmap!("completions", "cmd"), "[possible values: "),
    ] {
        let said = done.says(2);
        assert!(said.contains(says), "{said}");
    }
    // No file was replaced.
    assert_eq!(owners(&path), [(7, 512), (9, 3)]);
    assert_eq!(folder.names(), ["image"]);
}

#[test]
fn more_types_than_there_are_is_wrong_usage() {
    let folder = Folder::new("types");
    let path = folder.path("image");
    let mut args: Vec<&OsStr> = ["make", "-o"].map(OsStr::new).to_vec();
    args.push(path.as_os_str());
    for _ in 0..33 {
        args.extend(["--size", "1"].map(OsStr::new));
    }
    let said = Done(command(&args).output().unwrap()).says(2);
    assert!(said.contains("at most 32 swap types"), "{said}");
    args.truncate(args.len() - 2);
    Done(command(&args).output().unwrap()).prints();
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_named_with_exit_code_3() {
    let folder = Folder::new("io");
    let path = folder.image("image");
    let none = folder.path("none");
    let deep = folder.path("no folder/image");
    let socket = folder.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (done, name, says) in [
        (swapmap!("owners", none), &none, "No such file"),
        (swapmap!("verify", none), &none, "No such file"),
        (swapmap!("diff", path, none), &none, "No such file"),
        (swapmap!("show", folder.0), &folder.0, "is a directory"),
        (
            swapmap!("show", socket),
            &socket,
            "a pipe or a socket: save its",
        ),
        (
            swapmap!("make", "--size", "1", "-o", deep),
            &folder.path("no folder"),
            "No such file",
        ),
        (
            swapmap!("make", "--size", "1", "-o", folder.0),
            &folder.0,
            "is a directory",
        ),
        (
            swapmap!("make", "--size", "1", "-o", socket),
            &socket,
            "is a device, a pipe or a socket",
        ),
        (
            swapmap!("show", path, "--png", folder.0),
            &folder.0,
            "is a directory",
        ),
        (
            swapmap!("live", "--save", socket),
            &socket,
            "is a device, a pipe or a socket",
        ),
    ] {
        let said = done.says(3);
        assert!(said.starts_with("swapmap: "), "{said}");
        assert!(said.contains(&name.display().to_string()), "{said}");
        assert!(said.contains(says), "{said}");
    }
    let null = swapmap!("make", "--size", "1", "-o", "/dev/null").says(3);
    assert!(null.contains("/dev/null is a device"), "{null}");
    assert_eq!(folder.names(), ["image", "socket"]);
}

#[test]
fn an_input_with_the_name_of_the_partial_file_is_not_lost() {
    let folder = Folder::new("left");
    let input = folder.image(".out.partial");
    let said = swapmap!("reparent", input, "7", "9", "-o", folder.path("out")).says(2);
    assert!(said.contains("rename it first"), "{said}");
    assert_eq!(owners(&input), [(7, 512), (9, 3)]);
    assert_eq!(folder.names(), [".out.partial"]);
}

#[test]
fn a_full_disk_is_an_error() {
    let folder = Folder::new("full");
    let path = folder.image("image");
    for args in [
        &["owners"][..],
        &["show"],
        &["export", "--csv"],
        &["verify"],
        &["reparent", "7", "9", "-o", "-"],
    ] {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut words: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        words.insert(1, path.as_os_str());
        let done = command(&words).stdout(full).output().unwrap();
        let said = Done(done).exits(3).err();
        let says = "swapmap: cannot write to standard output: No space left on device";
        assert!(said.starts_with(says), "{args:?}: {said}");
    }
}

#[test]
fn a_pipe_that_is_closed_ends_a_command_quietly() {
    let folder = Folder::new("pipe");
    let path = folder.path("image");
    let moved = folder.path("moved");
    // More than a pipe holds.
    swapmap!("make", "--size", "200000", "-o", path).prints();
    swapmap!("reparent", path, "1", "151", "-o", moved).prints();
    let head = |args: &[&OsStr]| {
        let mut child = command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 4];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let done = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{args:?}");
        done.status.code()
    };
    let export = ["export", "--csv"].map(OsStr::new);
    assert_eq!(head(&[export[0], export[1], path.as_os_str()]), Some(0));
    let make = ["make", "--size", "1GiB", "-o", "-"].map(OsStr::new);
    assert_eq!(head(&make), Some(0));
    // `diff` has found a difference.
    let diff = [OsStr::new("diff"), path.as_os_str(), moved.as_os_str()];
    assert_eq!(head(&diff), Some(1));
}

/// The command checks this before it reads the machine, so the test needs no privilege.
#[test]
fn live_refuses_two_names_of_one_file_that_does_not_exist() {
    let folder = Folder::new("one-file");
    std::os::unix::fs::symlink(&folder.0, folder.path("link")).unwrap();
    fs::create_dir(folder.path("below")).unwrap();
    let save = folder.path("b");
    for png in ["./b", "link/b", "below/../b"] {
        let said = swapmap!("live", "--save", save, "--png", folder.path(png)).says(2);
        assert!(said.contains("give them two paths"), "{said}");
    }
    assert_eq!(folder.names(), ["below", "link"]);
}

#[test]
fn verify_checks_all_files_also_where_one_cannot_be_read() {
    let folder = Folder::new("verify-all");
    let (good, bad) = (folder.image("good"), folder.image("bad"));
    let mut bytes = fs::read(&bad).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&bad, bytes).unwrap();
    let nothing = folder.path("nothing");
    let done = swapmap!("verify", good, nothing, bad, good);
    let out = String::from_utf8_lossy(&done.0.stdout).into_owned();
    assert_eq!(out.matches("good: whole").count(), 2, "{out}");
    assert!(out.contains("/bad: "), "{out}");
    let said = String::from_utf8_lossy(&done.0.stderr).into_owned();
    assert_eq!(said.matches("nothing").count(), 1, "{said}");
    assert_eq!(done.0.status.code(), Some(3));
}

#[test]
fn a_file_that_is_replaced_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("private");
    let path = folder.image("image");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let (copy, png) = (folder.path("copy"), folder.path("picture"));
    fs::write(&copy, "").unwrap();
    fs::write(&png, "").unwrap();
    for private in [&path, &copy, &png] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o600)).unwrap();
    }
    swapmap!("reparent", path, "7", "8", "-o", path).prints();
    swapmap!("reparent", path, "8", "7", "-o", copy).prints();
    swapmap!("show", path, "--png", png).prints();
    assert_eq!([&path, &copy, &png].map(|path| mode(path)), [0o600; 3]);
}
