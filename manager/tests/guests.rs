//! Guests, evicted, faulted in, killed, with a manager that is killed as well: ten seconds of it, and the end balances.
//!
//! It needs root and `userfaultfd`. Elsewhere it says why not and is counted as ignored, unless
//! `SWAP_RECORDS_REQUIRE_MANAGER=1` makes that a failure. Its processes are this very program.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::env;
    use std::process::{Command, ExitCode};

    use libtest_mimic::{Arguments, Completion, Failed, Trial};

    /// Makes it a failure if the test cannot run.
    const REQUIRE: &str = "SWAP_RECORDS_REQUIRE_MANAGER";

    const LAST: &str =
        "every page that was read was right; no slot is leaked, and no charge is left";

    pub(crate) fn main() -> ExitCode {
        // As the example, for the processes that the test starts.
        let role = env::args().nth(1).unwrap_or_default();
        if ["guest", "serve", "--guests"].contains(&role.as_str()) {
            return swap_records_manager::main();
        }
        let tests = [
            (
                "guests_and_managers_are_killed_and_no_byte_slot_or_charge_is_lost",
                "--seconds 6 --restart",
                ["managers that were killed", "records handed to the host"],
            ),
            (
                "the_same_with_a_hash_map_in_place_of_the_table_balances",
                "--seconds 3 --table hashmap",
                ["guests that lived", "HashMap, of the manager's time"],
            ),
        ];
        let tests = tests.map(|(name, flags, rows)| {
            Trial::ignorable_test(
                name,
                move || match swap_records_manager::reason_not_to_run() {
                    None => run(flags, &rows).map(|()| Completion::Completed),
                    Some(reason) if env::var_os(REQUIRE).is_some() => {
                        Err(Failed::from(format!("it must run, and cannot: {reason}")))
                    }
                    Some(reason) => Ok(Completion::ignored_with(reason)),
                },
            )
        });
        let mut arguments = Arguments::from_args();
        // Each of them keeps all processors busy.
        arguments.test_threads = Some(1);
        libtest_mimic::run(&arguments, tests.into()).exit_code()
    }

    /// Runs the command, which says by itself whether all was right, and looks for rows that are not 0.
    fn run(flags: &str, rows: &[&str]) -> Result<(), Failed> {
        let flags = format!("--guests 6 --memory 24M --guest-size 12M {flags}");
        let output = Command::new(env::current_exe()?)
            .args(flags.split(' '))
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let is_there = |row: &&str| {
            let line = printed
                .lines()
                .find_map(|line| line.trim_start().strip_prefix(*row));
            line.is_some_and(|number| number.contains(|digit: char| matches!(digit, '1'..='9')))
        };
        let missing = rows.iter().find(|row| !is_there(row));
        if output.status.success() && printed.ends_with(&format!("{LAST}\n")) && missing.is_none() {
            return Ok(());
        }
        Err(Failed::from(format!(
            "{}\n{said}\n{printed}",
            output.status
        )))
    }
}
