//! A machine whose cgroups live and die at a high rate over a large swapfile: with records that pin
//! the cgroup that they name, and with records that its parent inherits.
//!
//! `cargo run --release --example css_free`, `-- --seconds 2` for a short one.

mod machine;
mod pinned;
mod plot;
mod reparented;
mod work;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use lexopt::prelude::*;
use swap_records_sim::longest_hold;

use machine::Machine;
use pinned::Pinned;
use plot::Curve;
use reparented::Reparented;
use work::Work;

const HELP: &str = "\
Cgroups live and die at a high rate over 256 GiB of swap, and leave some of it behind: first with
records that pin the cgroup, until no cgroup can be created any more, then with records that its
parent inherits.

Usage: cargo run --release --example css_free -- [--seconds N] [--svg FILE]

  --seconds N   how long, for both together [default: 10]
  --svg FILE    draws the ids in use to this file
  --help        this text

Exits with 1 if something does not balance at the end, with 2 for a flag that is none.";

#[derive(Debug)]
struct Options {
    seconds: f64,
    svg: Option<PathBuf>,
}

/// What the arguments ask for; `None` where they ask for help.
fn options() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        seconds: 10.0,
        svg: None,
    };
    let seconds = |text: &str| match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number from 0.1 to 86400, as in --seconds 10"),
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("seconds") => options.seconds = args.value()?.parse_with(seconds)?,
            Long("svg") => options.svg = Some(args.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(options))
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("css_free: {error}; --help lists the flags");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("css_free: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let seconds = Duration::from_secs_f64(options.seconds);
    let threads = thread::available_parallelism()
        .map_or(2, usize::from)
        .min(8);
    say(&format!(
        "{threads} threads, {} cgroups alive, {} slots of swap. The longest hold of a lock is by the clock: where the\n\
         system takes the processor from who holds it, or from whom that one waits for, that is in it.",
        count(threads as u64 * work::ALIVE as u64),
        count(work::SLOTS),
    ));

    say("\nRecords pin the cgroup that they name:");
    let pinned = Pinned::new()?;
    // It is over when creation fails, which is soon.
    let (curve_pinned, _) = watch(&pinned, threads, seconds / 4)?;
    let failed = pinned.failed_after();
    say(&match failed {
        Some(cgroups) => format!(
            "Creation failed after {} cgroups: all ids are in use, {} of them by cgroups that are dead.",
            count(cgroups),
            count(pinned.numbers().dying),
        ),
        None => "Time is up before the ids are: give it more with --seconds.".to_owned(),
    });
    drop(pinned);

    say("\nRecords are handed to the parent (this crate):");
    let ours = Reparented::new()?;
    let (curve, mut works) = watch(&ours, threads, seconds * 3 / 4)?;
    let lived = ours.numbers();
    for work in &mut works {
        work.end(&ours)?;
    }
    ours.check_all_gone()?;

    if let Some(file) = &options.svg {
        plot::draw(file, &curve, &curve_pinned, failed)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let pinned = match failed {
        Some(cgroups) => format!("pinned, creation failed after {}", count(cgroups)),
        None => "pinned, time was up first".to_owned(),
    };
    say(&format!(
        "\n{} cgroups lived and died with at most {} ids in use, {} records reparented ({pinned}); \
         everything balanced: no charge and no record is left, 1 id is in use.",
        count(lived.freed),
        count(curve.most()),
        count(lived.reparented),
    ));
    Ok(())
}

/// Lets threads work on the machine for this long, or until it cannot go on, and prints how it stands.
fn watch<M: Machine>(
    machine: &M,
    threads: usize,
    time: Duration,
) -> Result<(Curve, Vec<Work<M>>), String> {
    let tick = (time / 10).max(Duration::from_millis(100));
    let curve = Curve::default();
    let stop = AtomicBool::new(false);
    say(&line(HEAD.map(String::from)));
    // Before the clock starts: it lists all slots.
    let fresh: Vec<_> = (0..threads)
        .map(|thread| Work::new(machine, thread, threads))
        .collect();
    let began = Instant::now();
    let works: Result<Vec<_>, String> = thread::scope(|scope| {
        let workers: Vec<_> = fresh
            .into_iter()
            .map(|mut work| {
                let (curve, stop) = (&curve, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) && work.step(machine, curve)? {}
                    Ok(work)
                })
            })
            .collect();
        let mut before = machine.numbers();
        loop {
            let left = time.saturating_sub(began.elapsed());
            let nap = left.min(tick);
            // A nap in small pieces: a machine that cannot go on ends at once.
            let working = || workers.iter().any(|worker| !worker.is_finished());
            let ((), hold) = longest_hold(|| {
                let until = Instant::now() + nap;
                while working() && Instant::now() < until {
                    thread::sleep(Duration::from_millis(5).min(nap));
                }
            });
            let now = machine.numbers();
            let freed = now.freed - before.freed;
            // Nothing where records pin: who is freed there has none.
            let each = |time: Duration| {
                if freed == 0 || time.is_zero() {
                    String::new()
                } else {
                    micros(time.div_f64(freed as f64))
                }
            };
            say(&line([
                format!("{:.1} s", began.elapsed().as_secs_f64()),
                count(now.live),
                count(now.dying),
                count(now.freed),
                count(now.reparented),
                each(now.reparenting.saturating_sub(before.reparenting)),
                hold.map_or(String::new(), micros),
                count(now.ids),
            ]));
            before = now;
            if !working() || began.elapsed() >= time {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let join = |worker: thread::ScopedJoinHandle<'_, Result<_, String>>| {
            worker.join().map_err(|_| "a thread panicked".to_owned())?
        };
        workers.into_iter().map(join).collect()
    });
    curve.add(machine.created(), machine.numbers().ids);
    Ok((curve, works?))
}

const HEAD: [&str; 8] = [
    "time",
    "live",
    "dying",
    "freed",
    "reparented",
    "reparenting, each",
    "longest hold",
    "ids in use",
];
const WIDTHS: [usize; 8] = [7, 6, 7, 11, 11, 17, 12, 10];

fn line(cells: [String; 8]) -> String {
    let padded = cells.iter().zip(WIDTHS);
    let padded: Vec<_> = padded
        .map(|(cell, width)| format!("{cell:>width$}"))
        .collect();
    padded.join("  ")
}

fn micros(time: Duration) -> String {
    format!("{:.2} us", time.as_secs_f64() * 1e6)
}

/// With a comma between thousands.
fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// Prints a line. A reader that has seen enough and closed the pipe ends this program quietly.
fn say(text: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("css_free: standard output: {error}");
        std::process::exit(1);
    }
}
