//! Shows which memory cgroup owns each slot of this machine's swap.
//!
//! `cargo run --release -p swapmap -- live --help`

mod live;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Shows which memory cgroup owns each slot of swap.
#[derive(Parser, Debug)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 nothing could be read or written, 2 wrong usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Prints the owners of each swapfile of this machine, largest first.
    #[command(long_about = live::ABOUT)]
    Live {
        /// Draw the swapfiles to this file as well.
        #[arg(long, value_name = "FILE", long_help = live::ABOUT_PNG)]
        png: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Live { png } => live::show(png),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            use std::io::Write as _;
            // Nobody is left to be told if this fails too.
            let _ = writeln!(std::io::stderr(), "swapmap: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["swapmap"].iter().chain(args))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_picture_is_asked_for_in_two_ways() {
        for args in [&["live", "--png", "a.png"][..], &["live", "--png=a.png"]] {
            let Command::Live { png } = parse(args).unwrap().command;
            assert_eq!(png, Some(PathBuf::from("a.png")));
        }
        let Command::Live { png } = parse(&["live"]).unwrap().command;
        assert_eq!(png, None);
    }

    #[test]
    fn wrong_usage_is_refused() {
        for args in [
            &[][..],
            &["--png", "a"],
            &["live", "--png"],
            &["live", "--png="],
            &["live", "--png", "--help"],
            &["live", "--png", "a", "--png", "b"],
            &["live", "--pgn", "a"],
            &["swap"],
            &["live", "-x"],
        ] {
            let error = parse(args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
