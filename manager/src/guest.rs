//! Runs a guest: it writes to its memory and to the region, and checks every page that it reads.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use crate::board::Board;
use crate::pattern::{Content, WORDS};
use crate::shared::{self, Words};
use crate::uffd::Uffd;
use crate::wire::{self, Kind};
use crate::{About, Result, index, standard_input};

/// How many of a hundred touches are of hot pages; and one page of how many is hot.
const HOT: u64 = 80;
const HOT_PART: u64 = 8;
/// How many of a hundred touches are of the region, and how many write.
const SHARED: u64 = 25;
const WRITES: u64 = 40;
/// The longest time that a guest waits for the manager, or for a page of the region.
const PATIENCE: Duration = Duration::from_secs(60);

struct Guest {
    number: u64,
    private: Words,
    region: Words,
    board: Board,
    /// How often each page of its own memory was written. The manager does not manage these counts.
    versions: Vec<u64>,
    random: fastrand::Rng,
    checked: u64,
    written: u64,
}

/// The process: `NAME NUMBER SIZE SEED MILLISECONDS`; the name is that of the manager's socket, and the
/// milliseconds those after which it ends by itself.
pub(crate) fn main(args: Vec<OsString>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .about(|| "asking for a signal when the command ends".into())?;
    let text: Option<Vec<String>> = args.into_iter().map(|arg| arg.into_string().ok()).collect();
    let [name, numbers @ ..] = &text.unwrap_or_default()[..] else {
        return Err("a guest needs the name of a socket".into());
    };
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let [number, size, seed, milliseconds] = numbers[..] else {
        return Err("a guest needs four numbers".into());
    };
    let control = standard_input()?;
    let files = wire::receive(&control)?.ok_or("the command has ended")?;
    let [region, board] =
        <[OwnedFd; 2]>::try_from(files.fds).map_err(|_| "a guest needs two descriptors")?;

    let memory = shared::memfd("guest", size)?;
    let private = Words::map(&memory)?;
    let region = Words::map(&region.into())?;
    let board = Board::map(&board.into())?;
    // docs: register
    // In the guest: its own memory and the region, for pages that are missing and for writes to protected
    // ones.
    let uffd = Uffd::new()?;
    uffd.register(&private)?;
    uffd.register(&region)?;
    // Before it touches a page, the manager has the descriptor and knows where its memory is.
    let _connection = connect(name, number, &uffd, &memory, [&private, &region])?;
    // docs: end
    let mut guest = Guest {
        number,
        versions: vec![0; private.get().len() / WORDS],
        private,
        region,
        board,
        random: fastrand::Rng::with_seed(seed),
        checked: 0,
        written: 0,
    };
    let end = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < end && !is_told_to_end(&control)? {
        for _ in 0..64 {
            guest.touch()?;
        }
    }
    guest.check_all()?;
    wire::send(&control, Kind::Ended, &[guest.checked, guest.written], &[])?;
    Ok(())
}

/// Says hello until a manager welcomes the guest. A manager that is killed meanwhile has a successor.
fn connect(
    name: &str,
    number: u64,
    uffd: &Uffd,
    memory: &File,
    [private, region]: [&Words; 2],
) -> Result<UnixStream> {
    let address = SocketAddr::from_abstract_name(name)?;
    let hello = || -> Result<Option<UnixStream>> {
        let connection = UnixStream::connect_addr(&address)
            .about(|| format!("connecting to the abstract socket {name}"))?;
        let numbers = [number, private.address(), region.address()];
        wire::send(
            &connection,
            Kind::Hello,
            &numbers,
            &[uffd.as_fd(), memory.as_fd()],
        )?;
        Ok(wire::receive(&connection)?.map(|_| connection))
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = match hello() {
            Ok(Some(connection)) => return Ok(connection),
            Ok(None) => "the manager has closed the connection".into(),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            return Err(format!("guest {number} is not welcome: {last}").into());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn is_told_to_end(control: &UnixStream) -> Result<bool> {
    let mut fds = [PollFd::new(control, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = rustix::event::poll(&mut fds, Some(&now));
    Ok(ready.about(|| "polling the command's socket".into())? > 0)
}

impl Guest {
    /// Reads a page and checks it. Writes some of the pages anew.
    fn touch(&mut self) -> Result<()> {
        let shared = self.random.u64(..100) < SHARED;
        let words = if shared { &self.region } else { &self.private };
        let pages = (words.get().len() / WORDS) as u64;
        let hot = (pages / HOT_PART).max(1);
        let page = if self.random.u64(..100) < HOT {
            // Spread over all of the memory, as hot pages are.
            self.random.u64(..hot) * (pages / hot)
        } else {
            self.random.u64(..pages)
        };
        let writes = self.random.u64(..100) < WRITES;
        if shared {
            self.touch_region(page, writes).map(|_| ())
        } else {
            self.touch_private(page, writes)
        }
    }

    fn touch_private(&mut self, page: u64, writes: bool) -> Result<()> {
        let version = self.versions[index(page)];
        let content = Content {
            owner: self.number,
            page,
            version,
        };
        check(content, words_of(&self.private, page), false)?;
        self.checked += 1;
        if writes {
            let version = version + 1;
            Content { version, ..content }.write(words_of(&self.private, page));
            self.versions[index(page)] = version;
            self.written += 1;
        }
        Ok(())
    }

    /// Whether it was this guest's turn.
    fn touch_region(&mut self, page: u64, writes: bool) -> Result<bool> {
        let Some(mut turn) = self.board.try_take(index(page), self.number) else {
            return Ok(false);
        };
        let content = Content {
            owner: 0,
            page,
            version: turn.version(),
        };
        let words = words_of(&self.region, page);
        check(content, words, turn.is_torn())?;
        self.checked += 1;
        if writes {
            turn.write(|version| Content { version, ..content }.write(words));
            self.written += 1;
        }
        Ok(true)
    }

    /// Reads every page once more.
    fn check_all(&mut self) -> Result<()> {
        for page in 0..self.versions.len() as u64 {
            self.touch_private(page, false)?;
        }
        let deadline = Instant::now() + PATIENCE;
        for page in 0..(self.region.get().len() / WORDS) as u64 {
            while !self.touch_region(page, false)? {
                if Instant::now() > deadline {
                    return Err(format!("page {page} of the region is never free").into());
                }
                thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }
}

fn words_of(words: &Words, page: u64) -> &[AtomicU64] {
    &words.get()[index(page) * WORDS..][..WORDS]
}

fn check(content: Content, page: &[AtomicU64], torn: bool) -> Result<()> {
    match content.wrong(page, torn) {
        None => Ok(()),
        Some(wrong) => Err(format!("{content:?} (torn: {torn}) is wrong: {wrong:x?}").into()),
    }
}
