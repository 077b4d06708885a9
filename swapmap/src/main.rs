//! Shows, makes, keeps and compares maps of swap.
//!
//! `cargo run --release -p swapmap -- --help`

mod cli;
mod commands;
mod failure;
mod live;
mod output;
mod progress;
mod signals;
mod source;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use commands::{diff, export, make, owners, pages, reparent, show, verify};
use failure::{Answer, Failure};

fn main() -> ExitCode {
    signals::survive_file_size_limit();
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        // clap would ignore a failed write.
        Err(text) if !text.use_stderr() => return end(print_help(&text)),
        Err(wrong) => wrong.exit(),
    };
    end(match command {
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
    })
}

/// Prints the text of `--help` or `--version`.
fn print_help(text: &clap::Error) -> Result<Answer, Failure> {
    output::print(|out| Ok(write!(out, "{}", text.render())?))?;
    Ok(Answer::Done)
}

fn end(done: Result<Answer, Failure>) -> ExitCode {
    match done {
        Ok(answer) => answer.into(),
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            failure.say();
            failure.code()
        }
    }
}
