//! Runs the command: starts a manager and guests, kills some of both, starts others, and reports the result.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use swap_records::file::RecordFile;

use crate::board::Board;
use crate::keeper::Kept;
use crate::memory::Memory;
use crate::options::{HELP, Options, Table};
use crate::report::{ClosedOutput, Live, Outcome, compare, complain, print};
use crate::stats::Stats;
use crate::step::{End, EndAt, STEPS, Schedule, Step};
use crate::swapfile::Swapfile;
use crate::wire::{self, Kind, NUMBERS};
use crate::{About, PAGE, Result, duplicate, guest, serve, shared, uffd};

/// Between two looks at the children.
const TICK: Duration = Duration::from_millis(5);
/// How long a manager may take to come to a step of `--end-at`. Then the next step has its turn.
const TIME_TO_END: Duration = Duration::from_secs(5);
/// How long guests may take to check all of their memory, and a manager to report its balance.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn main() -> ExitCode {
    let mut args: Vec<OsString> = env::args_os().skip(1).collect();
    let role = args.first().and_then(|arg| arg.to_str()).map(str::to_owned);
    let (name, done) = match role.as_deref() {
        Some("guest") => ("guest", guest::main(args.split_off(1))),
        Some("serve") => ("manager", serve::main(args.split_off(1))),
        _ => {
            let done = match Options::parse(args) {
                Ok(Some(options)) => command(&options),
                Ok(None) => print(&format!("{HELP}\n")),
                Err(error) => {
                    complain(&format!("manager: {error}; --help lists the flags"));
                    return ExitCode::from(2);
                }
            };
            ("manager", done)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output has read enough.
        Err(error) if error.is::<ClosedOutput>() => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{name}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn command(options: &Options) -> Result<()> {
    if let Some(reason) = uffd::reason_not_to_run() {
        return Err(reason.into());
    }
    if options.compare {
        return compare(options, run);
    }
    let runs = options.runs();
    for nr in 1..=runs {
        let mut text = run(options)?.table();
        if runs > 1 {
            text += &format!("run {nr} of {runs}: everything balanced\n\n");
        }
        print(&text)?;
    }
    Ok(())
}

/// One run, from the first guest to the last. An error names the seed.
fn run(options: &Options) -> Result<Outcome> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    run_with(options, seed).map_err(|error| format!("{error} (seed {seed})").into())
}

fn run_with(options: &Options, seed: u64) -> Result<Outcome> {
    let mut run = Run::new(options.clone(), seed)?;
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(options.seconds);
    let mut live = Live::new(options, &run.stats);
    let between = options.seconds / 16.0;
    let mut next_guest_kill = start + run.pause(between);
    // With --end-at, the first one is killed soon.
    let first = if options.end.is_some() { 0.5 } else { 2.0 };
    let mut next_manager_kill = start + run.pause(first);
    run.start_manager()?;
    for _ in 0..options.guests {
        run.start_guest()?;
    }
    let deadline = end + PATIENCE;
    while Instant::now() < end || run.unmet().is_some() {
        thread::sleep(TICK);
        run.reap(true)?;
        if Instant::now() > deadline {
            let end = run.manager.as_ref().and_then(|manager| manager.end);
            let end = end.map_or("nowhere".into(), |end| end.to_string());
            let unmet = run.unmet();
            return Err(format!("no manager has come to {unmet:?}; this one ends at {end}").into());
        }
        if options.kills && run.may_kill_guest() && Instant::now() > next_guest_kill {
            run.kill_guest()?;
            next_guest_kill = Instant::now() + run.pause(between);
        }
        if options.restart && run.may_kill_manager() && Instant::now() > next_manager_kill {
            run.restart_manager()?;
            // Some are killed before they have recovered.
            let seconds = if run.random.u8(..4) == 0 { 0.01 } else { 2.0 };
            next_manager_kill = Instant::now() + run.pause(seconds);
        }
        live.tick(&run.counts(start));
    }
    run.tell_guests_to_end();
    let deadline = Instant::now() + PATIENCE;
    while !run.guests.is_empty() {
        thread::sleep(TICK);
        run.reap(false)?;
        live.tick(&run.counts(start));
        if Instant::now() > deadline {
            let numbers: Vec<u64> = run.guests.iter().map(|guest| guest.number).collect();
            return Err(format!("guests {numbers:?} do not end: a fault was lost").into());
        }
    }
    let elapsed = start.elapsed();
    let left = run.finish()?;
    live.clear();
    let mut outcome = run.counts(start);
    (outcome.elapsed, outcome.left) = (elapsed, Some(left));
    outcome.check()?;
    Ok(outcome)
}

/// The processes of a run, and the files that outlive them.
struct Run {
    options: Options,
    seed: u64,
    random: fastrand::Rng,
    /// Where guests connect to.
    name: String,
    files: Vec<OwnedFd>,
    region: File,
    board_file: File,
    board: Board,
    stats: Stats,
    kept: Kept,
    manager: Option<Manager>,
    guests: Vec<Guest>,
    next_number: u64,
    ended: Ended,
    /// The steps that `--end-at` asks for, and those that are still to come.
    end_at: Option<EndAt>,
    schedule: Schedule,
    met: [u64; STEPS.len()],
}

#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Ended {
    pub(crate) started: u64,
    pub(crate) killed: u64,
    pub(crate) by_themselves: u64,
    pub(crate) restarts: u64,
    /// Of these, managers that ended at a step, and how often the step was met that was met the fewest times.
    pub(crate) at_steps: u64,
    pub(crate) at_each: u64,
    pub(crate) checked: u64,
    pub(crate) written: u64,
}

struct Manager {
    child: Child,
    started: Instant,
    /// Where it was told to end.
    end: Option<End>,
    socket: UnixStream,
    listening: JoinHandle<Result<Option<[u64; NUMBERS]>>>,
}

struct Guest {
    number: u64,
    child: Child,
    control: UnixStream,
    killed: bool,
}

impl Run {
    fn new(mut options: Options, seed: u64) -> Result<Self> {
        let end_at = options.end.take();
        let region_pages = options.shared_size() / PAGE as u64;
        let region = shared::memfd("region", options.shared_size())?;
        let words = shared::memfd("words", Memory::bytes_of_words(region_pages))?;
        let records = RecordFile::memfd(options.slots())?;
        let Swapfile(swapfile) = Swapfile::make(&options)?;
        let stats_file = Stats::file()?;
        let stats = Stats::map(&stats_file)?;
        let name = format!(
            "swap-records-manager-{}-{}",
            std::process::id(),
            fastrand::u64(..)
        );
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)
            .about(|| format!("binding the abstract socket {name}"))?;
        let files = vec![
            records.into(),
            swapfile.into(),
            region
                .try_clone()
                .about(|| "duplicating the memfd of the region".into())?
                .into(),
            words.into(),
            listener.into(),
            stats_file.into(),
        ];
        let board_file = Board::file(region_pages)?;
        let board = Board::map(&board_file)?;
        Ok(Self {
            options,
            seed,
            random: fastrand::Rng::with_seed(seed),
            name,
            files,
            region,
            board_file,
            board,
            stats,
            kept: Kept::default(),
            manager: None,
            guests: Vec::new(),
            next_number: 1,
            ended: Ended::default(),
            end_at,
            schedule: Schedule::default(),
            met: [0; STEPS.len()],
        })
    }

    /// Returns a random time up to twice as long.
    fn pause(&mut self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * 2.0 * self.random.f64())
    }

    fn start_manager(&mut self) -> Result<()> {
        let end = self.next_end();
        self.options.end = end.map(EndAt::This);
        let (socket, theirs) =
            UnixStream::pair().about(|| "making a socket pair for a manager".into())?;
        let child = this_program()
            .arg("serve")
            .args(self.options.to_args())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .about(|| "starting a manager".into())?;
        // docs: keep
        // The descriptors that are there from the start, and those that managers before this one sent to be
        // kept.
        let fds: Vec<_> = self.files.iter().map(AsFd::as_fd).collect();
        wire::send(&socket, Kind::Files, &[], &fds)?;
        self.kept.hand_to(&socket)?;
        wire::send(&socket, Kind::Go, &[], &[])?;
        // docs: end
        let (kept, listener) = (self.kept.clone(), duplicate(&socket)?);
        let listening = thread::spawn(move || {
            let said = kept.listen(&listener);
            if said.is_err() {
                // The manager must not wait for an answer, and ends.
                let _ = listener.shutdown(Shutdown::Both);
            }
            said
        });
        self.manager = Some(Manager {
            child,
            started: Instant::now(),
            end,
            socket,
            listening,
        });
        Ok(())
    }

    /// Chooses where the next manager ends, if not at a random moment.
    fn next_end(&mut self) -> Option<End> {
        if !self.options.restart {
            return None;
        }
        match self.end_at {
            // The first one begins without guests, so some steps would not be between two others.
            Some(asked) => (self.ended.started > 0)
                .then(|| self.schedule.next(asked, &mut self.random))
                .flatten(),
            None => {
                let ends = self.random.bool();
                ends.then(|| End::random(&mut self.random))
            }
        }
    }

    /// Returns a step of `--end-at` that no manager has come to yet.
    fn unmet(&self) -> Option<Step> {
        let not_met = |step: &Step| self.met[*step as usize] == 0;
        match self.end_at? {
            EndAt::All => STEPS.into_iter().find(not_met),
            EndAt::This(end) => Some(end.step).filter(not_met),
        }
    }

    /// A manager that ends at a step of `--end-at` has some time to come to it. Others are killed at random moments.
    fn may_kill_manager(&self) -> bool {
        let has_time = |manager: &Manager| {
            self.end_at.is_some()
                && manager.end.is_some()
                && manager.started.elapsed() < TIME_TO_END
        };
        !self.manager.as_ref().is_some_and(has_time)
    }

    /// With `--end-at`, guests are killed for the steps of a guest's end, and of the start of its successor.
    /// Other steps need guests that live for some time, also on a busy machine.
    fn may_kill_guest(&self) -> bool {
        let end = self.manager.as_ref().and_then(|manager| manager.end);
        self.end_at.is_none() || end.is_some_and(|end| end.step.is_of_guests())
    }

    fn note_step(&mut self, end: End) {
        self.met[end.step as usize] += 1;
        self.ended.at_steps += 1;
        self.ended.at_each = self.met.into_iter().min().unwrap_or(0);
    }

    fn restart_manager(&mut self) -> Result<()> {
        let mut manager = self.manager.take().ok_or("there is a manager")?;
        // The manager may have come to its end already.
        manager.child.kill()?;
        let status = manager.child.wait()?;
        if status.signal() != Some(9) {
            return Err(format!("the manager ended by itself: {status}").into());
        }
        // Messages that it sent before it was killed count.
        drop(manager.socket);
        manager
            .listening
            .join()
            .map_err(|_| "the keeper panicked")??;
        self.ended.restarts += 1;
        self.start_manager()
    }

    fn start_guest(&mut self) -> Result<()> {
        let number = self.next_number;
        self.next_number += 1;
        let (control, theirs) =
            UnixStream::pair().about(|| format!("making a socket pair for guest {number}"))?;
        // From a third of the run to all of it.
        let share = if self.options.kills {
            0.3 + 0.9 * self.random.f64()
        } else {
            2.0
        };
        let milliseconds = Duration::from_secs_f64(self.options.seconds * share).as_millis();
        let numbers = [number, self.options.guest_size, self.seed ^ number << 32];
        let child = this_program()
            .args(["guest", &self.name])
            .args(numbers.map(|number| number.to_string()))
            .arg(milliseconds.to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .about(|| format!("starting guest {number}"))?;
        wire::send(
            &control,
            Kind::Files,
            &[],
            &[self.region.as_fd(), self.board_file.as_fd()],
        )?;
        let killed = false;
        self.guests.push(Guest {
            number,
            child,
            control,
            killed,
        });
        self.ended.started += 1;
        Ok(())
    }

    fn kill_guest(&mut self) -> Result<()> {
        if let Some(guest) = self.random.choice(&mut self.guests) {
            guest.child.kill()?;
            guest.killed = true;
        }
        Ok(())
    }

    /// Collects children that have ended. Starts another guest for each one, if `again`.
    fn reap(&mut self, again: bool) -> Result<()> {
        self.reap_manager()?;
        let mut at = 0;
        while let Some(guest) = self.guests.get_mut(at) {
            let Some(status) = guest.child.try_wait()? else {
                at += 1;
                continue;
            };
            let guest = self.guests.swap_remove(at);
            self.board.release(guest.number);
            self.note_end(&guest, status)?;
            if again {
                self.start_guest()?;
            }
        }
        Ok(())
    }

    /// Starts a successor if the manager has come to its end.
    fn reap_manager(&mut self) -> Result<()> {
        let manager = self.manager.as_mut().ok_or("there is a manager")?;
        match manager.child.try_wait()? {
            None => Ok(()),
            Some(status) => match manager.end {
                Some(end) if status.signal() == Some(9) => {
                    self.note_step(end);
                    self.restart_manager()
                }
                _ => {
                    // If keeping its descriptors failed, the manager ended because of that.
                    let manager = self.manager.take().ok_or("there is a manager")?;
                    drop(manager.socket);
                    manager
                        .listening
                        .join()
                        .map_err(|_| "the keeper panicked")??;
                    Err(format!("the manager ended by itself: {status}").into())
                }
            },
        }
    }

    fn note_end(&mut self, guest: &Guest, status: ExitStatus) -> Result<()> {
        if status.success() {
            let message =
                wire::receive(&guest.control)?.ok_or("a guest has ended without a word")?;
            self.ended.by_themselves += 1;
            self.ended.checked += message.numbers[0];
            self.ended.written += message.numbers[1];
            return Ok(());
        }
        if guest.killed && status.signal() == Some(9) {
            self.ended.killed += 1;
            return Ok(());
        }
        Err(format!("guest {} ended with an error: {status}", guest.number).into())
    }

    fn tell_guests_to_end(&self) {
        for guest in &self.guests {
            // It may have ended.
            let _ = wire::send(&guest.control, Kind::Finish, &[], &[]);
        }
    }

    /// Ends the manager after all guests have ended. Returns the slots, pages, records and owners that it has
    /// left.
    fn finish(&mut self) -> Result<[u64; 4]> {
        let mut manager = self.manager.take().ok_or("there is a manager")?;
        let deadline = Instant::now() + PATIENCE;
        // It may be at its end.
        let _ = wire::send(&manager.socket, Kind::Finish, &[], &[]);
        let status = loop {
            match manager.child.try_wait()? {
                // While it buried the last guests.
                Some(status) if manager.end.is_some() && status.signal() == Some(9) => {
                    self.manager = Some(manager);
                    self.restart_manager()?;
                    manager = self.manager.take().ok_or("there is a manager")?;
                    let _ = wire::send(&manager.socket, Kind::Finish, &[], &[]);
                }
                Some(status) => break status,
                None => {}
            }
            if Instant::now() > deadline {
                manager.child.kill()?;
                manager.child.wait()?;
                return Err("the manager does not end".into());
            }
            thread::sleep(TICK);
        };
        drop(manager.socket);
        let said = manager
            .listening
            .join()
            .map_err(|_| "the keeper panicked")??;
        if !status.success() {
            return Err(format!("the manager ended with an error: {status}").into());
        }
        if self.kept.len() > 0 {
            return Err(format!("{} guests have ended and are still kept", self.kept.len()).into());
        }
        let [slots, memory, records, owners, ..] =
            said.ok_or("the manager has ended without a word")?;
        Ok([slots, memory, records, owners])
    }

    fn counts(&self, start: Instant) -> Outcome {
        Outcome {
            elapsed: start.elapsed(),
            stats: self.stats.clone(),
            ended: self.ended,
            with_records: self.options.table == Table::Records,
            must_evict: self.options.must_evict(),
            left: None,
        }
    }
}

impl Drop for Run {
    /// After an error.
    fn drop(&mut self) {
        let manager = self.manager.iter_mut().map(|manager| &mut manager.child);
        let guests = self.guests.iter_mut().map(|guest| &mut guest.child);
        for child in guests.chain(manager) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn this_program() -> Command {
    // Works also if the file was built anew meanwhile.
    Command::new("/proc/self/exe")
}
