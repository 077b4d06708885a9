//! Simulates a machine whose cgroups come and go at a high rate over a large swapfile. First, each record
//! pins its cgroup. Then the parent inherits the records.
//!
//! Run `cargo run --release --example css_free`, or add `-- --seconds 2` for a short run.

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
Cgroups come and go at a high rate over 256 GiB of swap, and leave some records behind. First, each
record pins its cgroup, until no cgroup can be created. Then the parent inherits the records.

Usage: cargo run --release --example css_free -- [--seconds N] [--svg FILE]

  --seconds N   time of both parts together [default: 10]
  --svg FILE    draw the ids in use to FILE
  --help        print this text

Exits with 1 if something does not balance at the end, and with 2 for a wrong flag.";

#[derive(Debug)]
struct Options {
    seconds: f64,
    svg: Option<PathBuf>,
}

/// Parses the arguments. Returns `None` if they ask for help.
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
        "{threads} threads, {} cgroups alive, {} slots of swap. The longest hold of a lock is wall-clock time:\n\
         it includes the time for which the holder, or the holder of a lock that it waits for, was preempted.",
        count(threads as u64 * work::ALIVE as u64),
        count(work::SLOTS),
    ));

    say("\nEach record pins its cgroup:");
    let pinned = Pinned::new()?;
    // Ends when creation fails, which is soon.
    let (curve_pinned, _) = watch(&pinned, threads, seconds / 4)?;
    let failed = pinned.failed_after();
    say(&match failed {
        Some(cgroups) => format!(
            "Creation failed after {} cgroups: all ids are in use, {} of them by offline cgroups.",
            count(cgroups),
            count(pinned.numbers().offline),
        ),
        None => "Time was up before all ids were in use: use a larger --seconds.".to_owned(),
    });
    drop(pinned);

    say("\nThe parent inherits the records (this crate):");
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
        "\n{} cgroups were created and freed with at most {} ids in use, {} records reparented ({pinned}); \
         everything balanced: no charge and no record is left, 1 id is in use.",
        count(lived.freed),
        count(curve.most()),
        count(lived.reparented),
    ));
    Ok(())
}

/// Lets threads work on the machine for this long, or until no cgroup can be created. Prints its state.
fn watch<M: Machine>(
    machine: &M,
    threads: usize,
    time: Duration,
) -> Result<(Curve, Vec<Work<M>>), String> {
    let tick = (time / 10).max(Duration::from_millis(100));
    let curve = Curve::default();
    let stop = AtomicBool::new(false);
    say(&line(HEAD.map(String::from)));
    // Before the clock starts, since it lists all slots.
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
            // Sleep in small pieces, to end at once when no cgroup can be created.
            let working = || workers.iter().any(|worker| !worker.is_finished());
            let ((), hold) = longest_hold(|| {
                let until = Instant::now() + nap;
                while working() && Instant::now() < until {
                    thread::sleep(Duration::from_millis(5).min(nap));
                }
            });
            let now = machine.numbers();
            let freed = now.freed - before.freed;
            // Empty for the pinned machine: it spends no time there.
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
                count(now.offline),
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
    "offline",
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

/// Formats a number with commas between thousands.
fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// Prints a line. Ends the program quietly if the reader closed the pipe.
fn say(text: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("css_free: standard output: {error}");
        std::process::exit(1);
    }
}
