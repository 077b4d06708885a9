//! One test under the command line of libtest, so that cargo, cargo-nextest and people see what
//! they are used to. It exists because libtest cannot ignore a test that finds out at run time
//! that it cannot run.

use std::env;
use std::panic;
use std::process::ExitCode;
use std::time::Instant;

/// Makes it a failure if the test cannot run.
const REQUIRE: &str = "SWAP_RECORDS_REQUIRE_LIVE";

/// libtest's code for a test that failed.
const FAILED: u8 = 101;

/// How a run ended, if not by a panic.
pub enum Outcome {
    Passed,
    /// It could not run, and this is why.
    Ignored(String),
}

/// Options of libtest whose value is an argument of its own.
const WITH_VALUE: [&str; 8] = [
    "--test-threads",
    "--logfile",
    "--format",
    "--color",
    "--skip",
    "--shuffle-seed",
    "-Z",
    "--report-time",
];

#[derive(Default)]
struct Args {
    list: bool,
    terse: bool,
    exact: bool,
    /// `--ignored`: only what is ignored.
    only_ignored: bool,
    include_ignored: bool,
    filters: Vec<String>,
    skips: Vec<String>,
}

impl Args {
    fn parse(args: impl IntoIterator<Item = String>) -> Self {
        let mut parsed = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let (option, value) = match arg.split_once('=') {
                Some((option, value)) if option.starts_with('-') => {
                    (option.to_owned(), Some(value.to_owned()))
                }
                _ if WITH_VALUE.contains(&arg.as_str()) => (arg, args.next()),
                _ => (arg, None),
            };
            match option.as_str() {
                "--list" => parsed.list = true,
                "--exact" => parsed.exact = true,
                "--ignored" => parsed.only_ignored = true,
                "--include-ignored" => parsed.include_ignored = true,
                "--format" => parsed.terse = value.as_deref() == Some("terse"),
                "-q" | "--quiet" => parsed.terse = true,
                "--skip" => parsed.skips.extend(value),
                // The others change how libtest prints or schedules: there is one test.
                _ if option.starts_with('-') => {}
                _ => parsed.filters.push(option),
            }
        }
        parsed
    }

    fn selects(&self, name: &str) -> bool {
        let is = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(is)) && !self.skips.iter().any(is)
    }
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Runs the test `name`, or lists it, as the command line says.
pub fn main(
    name: &str,
    reason_not_to_run: fn() -> Option<String>,
    test: fn() -> Outcome,
) -> ExitCode {
    let args = Args::parse(env::args().skip(1));
    let required = is_set(REQUIRE);
    // Asked for by name, as it were: then it is not ignored, but fails.
    let ignored = if required { None } else { reason_not_to_run() };
    let selected = args.selects(name) && (!args.only_ignored || ignored.is_some());

    if args.list {
        if selected {
            println!("{name}: test");
        }
        if !args.terse {
            println!("\n{} tests, 0 benchmarks", u8::from(selected));
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} test{}", u8::from(selected), plural(selected));
    let began = Instant::now();
    let mut counts = Counts::default();
    if selected {
        // nextest counts by exit codes, and has been told by `--list --ignored` what to leave out.
        let must_run = required || args.only_ignored || args.include_ignored || is_set("NEXTEST");
        counts.run(name, must_run, reason_not_to_run, test);
    } else {
        counts.filtered = 1;
    }
    let Counts {
        passed,
        failed,
        ignored,
        filtered,
    } = counts;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
         {filtered} filtered out; finished in {:.2}s\n",
        began.elapsed().as_secs_f64()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

fn plural(one: bool) -> &'static str {
    if one { "" } else { "s" }
}

#[derive(Default)]
struct Counts {
    passed: u8,
    failed: u8,
    ignored: u8,
    filtered: u8,
}

impl Counts {
    fn run(
        &mut self,
        name: &str,
        must_run: bool,
        reason_not_to_run: fn() -> Option<String>,
        test: fn() -> Outcome,
    ) {
        let outcome = match reason_not_to_run() {
            Some(reason) => Ok(Outcome::Ignored(reason)),
            None => panic::catch_unwind(test),
        };
        match outcome {
            Ok(Outcome::Passed) => {
                println!("test {name} ... ok");
                self.passed = 1;
            }
            Ok(Outcome::Ignored(reason)) if must_run => {
                println!("test {name} ... FAILED");
                println!("\nit was to run, and cannot: {reason}");
                self.failed = 1;
            }
            Ok(Outcome::Ignored(reason)) => {
                println!("test {name} ... ignored, {reason}");
                self.ignored = 1;
            }
            // The panic has printed its message.
            Err(_) => {
                println!("test {name} ... FAILED");
                self.failed = 1;
            }
        }
    }
}
