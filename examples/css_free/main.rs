//! A machine whose cgroups live and die at a high rate over a large swapfile: with records that pin
//! the cgroup that they name, and with records that its parent inherits.
//!
//! `cargo run --release --example css_free`, `-- --seconds 2` for a short one.

mod machine;
mod pinned;
mod plot;
mod reparented;
#[path = "../reparent/timed_lock.rs"]
mod timed_lock;
mod work;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use machine::Machine;
use pinned::Pinned;
use plot::Curve;
use reparented::Reparented;
use timed_lock::longest_hold;
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

fn options(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        seconds: 10.0,
        svg: None,
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--seconds" => {
                let seconds = args.next().and_then(|text| text.parse().ok());
                let seconds = seconds.filter(|seconds| (0.1..=86_400.0).contains(seconds));
                let wrong = "--seconds: give a number from 0.1 to 86400, as in --seconds 10";
                options.seconds = seconds.ok_or(wrong)?;
            }
            "--svg" => match args.next() {
                Some(file) => options.svg = Some(file.into()),
                None => return Err("--svg: give a file, as in --svg ids.svg".to_owned()),
            },
            _ => return Err(format!("`{arg}` is no flag of this example: see --help")),
        }
    }
    Ok(Some(options))
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("css_free: {error}");
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
        let svg = plot::draw(&curve, &curve_pinned, failed);
        std::fs::write(file, svg).map_err(|error| format!("{}: {error}", file.display()))?;
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
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
