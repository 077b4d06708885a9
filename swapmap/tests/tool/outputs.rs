//! Where results go: files behind links, files that cannot be written, and standard output that takes
//! nothing.

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::time::{Duration, Instant};

use super::*;

#[test]
fn a_link_to_a_file_that_does_not_exist_is_followed_and_stays() {
    let folder = Folder::new("dangling");
    fs::create_dir(folder.path("there")).unwrap();
    let [link, second, png] = ["link", "second", "png"].map(|name| folder.path(name));
    let target = folder.path("there/image");
    symlink("there/image", &link).unwrap();
    symlink("link", &second).unwrap();
    symlink("there/map.png", &png).unwrap();
    swapmap!("make", "--size", "100", "-o", second).prints();
    assert!(fs::symlink_metadata(&second).unwrap().is_symlink());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::symlink_metadata(&target).unwrap().is_file());
    swapmap!("show", link, "--png", png).exits(0);
    assert!(fs::symlink_metadata(&png).unwrap().is_symlink());
    assert!(folder.path("there/map.png").is_file());
    assert_eq!(folder.names(), ["link", "png", "second", "there"]);
}

#[test]
fn a_link_that_leads_nowhere_is_refused_and_stays() {
    let folder = Folder::new("nowhere");
    let [link, round] = ["link", "round"].map(|name| folder.path(name));
    symlink("no-folder/image", &link).unwrap();
    symlink("round", &round).unwrap();
    for path in [&link, &round] {
        let said = swapmap!("make", "--size", "100", "-o", path).says(3);
        assert!(said.starts_with("swapmap: cannot "), "{said}");
        assert!(fs::symlink_metadata(path).unwrap().is_symlink());
    }
    assert_eq!(folder.names(), ["link", "round"]);
}

/// The commands check this before they read, so `live` needs no privilege here.
#[test]
fn an_output_that_cannot_be_written_is_refused_before_anything_is_read() {
    let folder = Folder::new("no-output");
    let image = folder.image("image");
    let none = folder.path("none");
    let deep = folder.path("none/out");
    let slash = folder.path("out/");
    let says = format!("cannot write to the directory {}: ", none.display());
    for done in [
        swapmap!("live", "--png", deep),
        swapmap!("live", "--save", deep),
        swapmap!("show", image, "--png", deep),
        swapmap!("make", "--size", "1PiB", "-o", deep),
        swapmap!("reparent", image, "7", "9", "-o", deep),
    ] {
        let said = done.says(3);
        assert!(said.contains(&says), "{said}");
        assert!(said.contains("No such file"), "{said}");
    }
    let said = swapmap!("live", "--png", slash).says(3);
    assert!(said.contains("ends in a slash"), "{said}");
    // The parent is a file.
    let said = swapmap!("live", "--png", folder.path("image/out")).says(3);
    assert!(said.contains("Not a directory"), "{said}");
    assert_eq!(folder.names(), ["image"]);
}

/// Root may write anywhere, so root runs the command as another user.
#[test]
fn a_directory_without_write_permission_is_refused_before_anything_is_read() {
    let folder = Folder::new("read-only");
    let closed = folder.path("closed");
    fs::create_dir(&closed).unwrap();
    let program = folder.path("swapmap");
    fs::copy(env!("CARGO_BIN_EXE_swapmap"), &program).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = Command::new(&program);
    command.arg("live").arg("--png").arg(closed.join("map.png"));
    // SAFETY: geteuid has no precondition and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(65534).gid(65534);
    }
    let said = Done(command.output().unwrap()).says(3);
    let says = format!("cannot write to the directory {}: ", closed.display());
    assert!(said.contains(&says), "{said}");
}

#[test]
fn a_picture_does_not_go_to_standard_output() {
    let folder = Folder::new("dash");
    let image = folder.image("image");
    for args in [
        &["show", "image", "--png", "-"][..],
        &["live", "--png", "-"],
    ] {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let done = command(&args).current_dir(&folder.0).output().unwrap();
        let said = Done(done).says(2);
        assert!(said.contains("give the path of a file"), "{said}");
    }
    // A file with that name has another path.
    let args = ["show", "image", "--png", "./-"].map(OsStr::new);
    let done = command(&args).current_dir(&folder.0).output().unwrap();
    Done(done).exits(0);
    assert_eq!(folder.names(), ["-", "image"]);
    drop(image);
}

#[test]
fn help_that_cannot_be_written_is_an_error() {
    let page = |args: &[&str]| {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let done = command(&args).stdout(full.unwrap()).output().unwrap();
        let said = Done(done).exits(3).err();
        let says = "swapmap: cannot write to standard output: No space left on device";
        assert!(said.starts_with(says), "{args:?}: {said}");
    };
    page(&["--help"]);
    page(&["--version"]);
    page(&["help", "make"]);
    page(&["make", "--help"]);
    page(&["man"]);
    page(&["completions", "bash"]);
}

#[test]
fn a_standard_output_that_is_closed_is_an_error() {
    let folder = Folder::new("closed");
    let image = folder.image("image");
    let run = |args: &str| {
        let script = format!("exec {} {args} >&-", env!("CARGO_BIN_EXE_swapmap"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).current_dir(&folder.0);
        Done(shell.output().unwrap())
    };
    for args in [
        "make --size 100 -o -",
        "reparent image 7 9 -o -",
        "owners image",
        "export --csv image",
        "verify image",
        "man",
        "--help",
        "--version",
    ] {
        let said = run(args).exits(3).err();
        let says = "swapmap: cannot write to standard output: Bad file descriptor";
        assert!(said.starts_with(says), "{args}: {said}");
    }
    // A command that prints nothing needs no standard output.
    assert_eq!(run("diff image image").exits(0).err(), "");
    drop(image);
}

/// Starts `make` of a large map, waits until it writes, and sends it a signal.
fn signalled(folder: &Folder, signal: i32) -> Output {
    let path = folder.path("image");
    let args = ["make", "--family", "uniform", "--size", "2TiB", "-o"].map(OsStr::new);
    let mut command = command(&[&args[..], &[path.as_os_str()]].concat());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !folder.path(".image.partial").exists() {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: the child has not been waited for, so its number is its own.
    assert_eq!(unsafe { libc::kill(child.id().cast_signed(), signal) }, 0);
    let status = child.wait().unwrap();
    let mut stderr = Vec::new();
    let mut pipe = child.stderr.take().unwrap();
    pipe.read_to_end(&mut stderr).unwrap();
    Output {
        status,
        stdout: Vec::new(),
        stderr,
    }
}

#[test]
fn a_command_that_is_interrupted_leaves_the_old_file_alone() {
    let folder = Folder::new("signals");
    let path = folder.path("image");
    fs::write(&path, "old").unwrap();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let done = signalled(&folder, signal);
        assert_eq!(done.status.signal(), Some(signal), "{done:?}");
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains("is as it was"), "{said}");
        assert_eq!(folder.names(), ["image"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
}

#[test]
fn a_limit_of_the_file_size_is_an_error_and_no_partial_file_is_left() {
    let folder = Folder::new("file-size");
    let image = folder.image("image");
    let [other, png] = ["other", "png"].map(|name| folder.path(name));
    let limited = |args: &[&OsStr]| {
        let mut command = command(args);
        let limit = libc::rlimit {
            rlim_cur: 1024,
            rlim_max: 1024,
        };
        let set = move || {
            // SAFETY: reads `limit`. This is async-signal-safe.
            match unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: `set` makes one system call, and allocates nothing.
        unsafe { command.pre_exec(set) };
        Done(command.output().unwrap()).exits(3).err()
    };
    let word = OsStr::new;
    let path = other.as_os_str();
    for said in [
        limited(&[word("make"), word("-o"), path]),
        limited(&[
            word("reparent"),
            image.as_os_str(),
            word("7"),
            word("9"),
            word("-o"),
            path,
        ]),
        limited(&[
            word("show"),
            image.as_os_str(),
            word("--png"),
            png.as_os_str(),
        ]),
    ] {
        assert!(said.contains("File too large"), "{said}");
    }
    assert_eq!(folder.names(), ["image"]);
}

/// As the help and the README say.
#[test]
fn a_command_that_is_killed_leaves_a_partial_file_and_the_next_run_removes_it() {
    let folder = Folder::new("killed");
    let done = signalled(&folder, libc::SIGKILL);
    assert_eq!(done.status.signal(), Some(libc::SIGKILL));
    assert_eq!(folder.names(), [".image.partial"]);
    let path = folder.path("image");
    swapmap!("make", "--size", "100", "-o", path).prints();
    assert_eq!(folder.names(), ["image"]);
    for help in [
        swapmap!("--help").prints(),
        swapmap!("man").prints(),
        include_str!("../../README.md").to_owned(),
    ] {
        assert!(help.contains(".NAME.partial"), "{help}");
    }
}
