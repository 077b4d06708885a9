//! Shows, makes, keeps and compares maps of swap.
//!
//! `cargo run --release -p swapmap -- --help`

mod cli;
mod commands;
mod failure;
mod live;
mod output;
mod progress;
mod source;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use commands::{diff, export, make, owners, pages, reparent, show, verify};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Live(args) => live::run(&args),
        Command::Make(args) => make::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Owners(args) => owners::run(&args),
        Command::Reparent(args) => reparent::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    };
    match done {
        Ok(answer) => answer.into(),
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            failure.say();
            failure.code()
        }
    }
}
