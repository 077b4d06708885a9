//! Manages the memory of guests over `userfaultfd`, on top of [`swap_records`]: evicts pages to a swapfile,
//! brings them back, and takes them back when a guest dies. It shows how to embed the crate:
//! `docs/manager.md` goes through it step by step.
//!
//! `cargo run --release --example manager -- --help` lists the flags.
//!
//! | question | file |
//! | --- | --- |
//! | which flags are there? | `options.rs` |
//! | which kernel calls? where is `unsafe`? | `uffd.rs`, `shared.rs` |
//! | how do processes talk? | `wire.rs` |
//! | which word describes a page, and where do the words lie? | `page.rs`, `memory.rs` |
//! | which slots are free? where do their bytes lie? | `slots.rs`, `swapfile.rs` |
//! | which guest is charged? how long does that take? | `books.rs`, `tree.rs`, `plain.rs`, `timed.rs` |
//! | the manager: a fault, an eviction, an arrival, a death, a restart | `manager.rs`, `fault.rs`, `evict.rs`, `admit.rs`, `death.rs`, `recover.rs`, `serve.rs` |
//! | where may it be killed? | `step.rs` |
//! | a guest, and how it knows that a page is right | `guest.rs`, `pattern.rs`, `board.rs` |
//! | the command: it starts guests, kills them, and keeps descriptors over a restart | `run.rs`, `keeper.rs`, `report.rs`, `stats.rs` |
#![cfg(target_os = "linux")]

mod admit;
mod board;
mod books;
mod death;
mod evict;
mod fault;
mod guest;
mod keeper;
mod manager;
mod memory;
mod options;
mod page;
mod pattern;
mod plain;
mod recover;
mod report;
mod run;
mod serve;
mod shared;
mod slots;
mod stats;
mod step;
mod swapfile;
mod timed;
mod tree;
mod uffd;
mod wire;

use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Bytes per page.
const PAGE: usize = 4096;

/// Any error, with its text.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Says what an error of the system is about.
trait About<T> {
    /// Puts `what` before the error's text.
    fn about(self, what: impl FnOnce() -> String) -> io::Result<T>;
}

impl<T, E: Into<io::Error>> About<T> for std::result::Result<T, E> {
    fn about(self, what: impl FnOnce() -> String) -> io::Result<T> {
        self.map_err(|error| {
            let error = error.into();
            io::Error::new(error.kind(), format!("{}: {error}", what()))
        })
    }
}

/// Makes another descriptor of a socket.
fn duplicate(socket: &UnixStream) -> io::Result<UnixStream> {
    socket.try_clone().about(|| "duplicating a socket".into())
}

/// Returns the socket that a process of this program has as its standard input.
fn standard_input() -> io::Result<UnixStream> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    Ok(input
        .about(|| "duplicating the standard input".into())?
        .into())
}

/// The command, and the processes that it starts from its own executable.
#[must_use]
pub fn main() -> ExitCode {
    run::main()
}

/// Why this machine cannot run a guest under `userfaultfd`; `None` where it can.
#[must_use]
pub fn reason_not_to_run() -> Option<String> {
    uffd::reason_not_to_run()
}

/// Converts a count of pages or bytes to an index.
fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
