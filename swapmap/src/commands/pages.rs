//! `swapmap completions` and `swapmap man`.

use clap::CommandFactory;
use swapmap::names::printable;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::failure::{Answer, Failure};
use crate::output::print;

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Answer, Failure> {
    // `generate` panics if a write fails, so it writes to memory.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "swapmap", &mut text);
    print(|out| Ok(out.write_all(&text)?))?;
    Ok(Answer::Done)
}

pub(crate) fn man(args: &ManArgs) -> Result<Answer, Failure> {
    let mut all = Cli::command();
    all.build();
    let page = match &args.command {
        None => all,
        Some(name) => {
            let found = all.find_subcommand(name).cloned();
            let Some(found) = found else {
                return Err(Failure::Usage(format!(
                    "swapmap has no command `{}`: `swapmap help` lists the commands",
                    printable(name)
                )));
            };
            // After `build` its full name is that of the page, such as swapmap-make(1).
            found
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    print(|out| Ok(out.write_all(&text)?))?;
    Ok(Answer::Done)
}
