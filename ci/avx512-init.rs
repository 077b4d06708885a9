//! The first and only process of the guest that `ci/avx512.sh` boots.
//!
//! The test program cannot be that process itself: when process 1 ends the kernel panics before
//! the serial line has sent what the program last wrote, and no program is left to say how it ended.
//! Built by that script with `rustc` alone, so it names the few C functions it needs.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::fs;
use std::process::Command;

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn tcdrain(fd: c_int) -> c_int;
    fn reboot(command: c_int) -> c_int;
}

const RB_AUTOBOOT: c_int = 0x0123_4567;

fn mount_at(kind: &CStr, target: &CStr) {
    let (kind, target) = (kind.as_ptr(), target.as_ptr());
    // SAFETY: the three names are NUL-terminated and outlive the call; these kinds take no data.
    if unsafe { mount(kind, target, kind, 0, std::ptr::null()) } != 0 {
        println!("guest: mount: {}", std::io::Error::last_os_error());
    }
}

fn main() {
    mount_at(c"proc", c"/proc");
    mount_at(c"devtmpfs", c"/dev");
    mount_at(c"tmpfs", c"/tmp");
    // The same detection as in the crate, with the same standard library.
    println!("guest: avx512bw={}", is_x86_feature_detected!("avx512bw"));
    // One argument a line; the kernel's command line would mix in words of its own.
    let args = fs::read_to_string("/args").expect("/args is in the image");
    match Command::new("/test").args(args.lines()).status() {
        Ok(status) => println!("guest: {status}"),
        Err(error) => println!("guest: cannot run /test: {error}"),
    }
    // SAFETY: plain calls; nothing in this process is needed after them.
    unsafe {
        tcdrain(1);
        // `reboot=triple` and `reset_on_triple_fault=0` make this the end of the emulator.
        reboot(RB_AUTOBOOT);
    }
}
