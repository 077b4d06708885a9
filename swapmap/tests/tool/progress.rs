//! What a terminal shows while a command runs.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::thread;
use std::time::Duration;

use super::*;

/// A terminal: the side of the user, and the side of the program.
fn terminal() -> (File, OwnedFd) {
    let (mut user, mut program) = (0, 0);
    let mut size = libc::winsize {
        ws_row: 24,
        ws_col: 150,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: writes two descriptors, and reads a size; the other arguments may be null.
    let made = unsafe {
        libc::openpty(
            &raw mut user,
            &raw mut program,
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut size,
        )
    };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new, and no other value owns it.
    let user = unsafe { File::from_raw_fd(user) };
    // SAFETY: as above.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    (user, program)
}

#[test]
fn the_first_rates_that_a_bar_shows_are_those_of_the_work() {
    let (mut user, program) = terminal();
    // Of an image of 2 GiB, at most 40 MB per second are taken.
    let args = ["make", "--family", "uniform", "--size", "4TiB", "-o", "-"].map(OsStr::new);
    let mut command = command(&args);
    command.env("TERM", "xterm").stdout(Stdio::piped());
    let mut child = command.stderr(program).spawn().unwrap();
    drop(command);
    let mut image = child.stdout.take().unwrap();
    let reads = thread::spawn(move || {
        let mut piece = vec![0; 400_000];
        for _ in 0..350 {
            image.read_exact(&mut piece).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
    });
    let mut shown = Vec::new();
    let mut piece = [0; 4096];
    // The terminal ends with an error when the program has ended.
    while let Ok(nr @ 1..) = user.read(&mut piece) {
        shown.extend_from_slice(&piece[..nr]);
    }
    child.wait().unwrap();
    reads.join().unwrap();
    let shown = String::from_utf8_lossy(&shown);
    let bars: Vec<&str> = shown.split("making ").skip(1).collect();
    assert!(bars.len() >= 3, "{shown:?}");
    let mut rates = 0;
    for bar in bars {
        // The rate of a bar that knows only one moment.
        assert!(!bar.contains(" 0 B/s"), "{bar:?}");
        assert!(!bar.contains("GiB/s"), "{bar:?}");
        let Some((before, _)) = bar.split_once(" MiB/s") else {
            continue;
        };
        let rate = before.rsplit(' ').next().unwrap();
        let rate: f64 = rate.parse().unwrap_or_else(|_| panic!("{bar:?}"));
        assert!(rate < 200.0, "{bar:?}");
        rates += 1;
    }
    assert!(rates > 0, "no bar has a rate: {shown:?}");
}
