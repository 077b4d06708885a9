//! Runs guests for some seconds under a manager that evicts their pages. Guests and managers are killed, and
//! at the end everything must balance.
//!
//! The tests need `userfaultfd`, and one needs root. Elsewhere they say why they cannot run and are counted as
//! ignored, unless `SWAP_RECORDS_REQUIRE_MANAGER=1` makes that a failure. The processes of the tests are this
//! program.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::{self, IoSlice, Read, Write};
    use std::mem::MaybeUninit;
    use std::net::Shutdown;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, ExitCode, Output, Stdio};
    use std::time::{Duration, Instant};
    use std::{env, fs, thread};

    use libtest_mimic::{Arguments, Completion, Failed, Trial};
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

    /// A user that owns nothing.
    const NOBODY: u32 = 65534;

    /// If it is set, a test that cannot run has failed.
    const REQUIRE: &str = "SWAP_RECORDS_REQUIRE_MANAGER";

    const LAST: &str =
        "every page that was read was right; no slot is leaked, and no charge is left";

    const STRANGERS: &str = "strangers_and_connections_that_say_nothing_do_not_stop_the_manager";

    /// A test: an error says what went wrong.
    type Test = fn() -> Result<(), Failed>;

    pub(crate) fn main() -> ExitCode {
        // As the example, for the processes that the tests start.
        let role = env::args().nth(1).unwrap_or_default();
        if ["guest", "serve", "--guests"].contains(&role.as_str()) {
            return swap_records_manager::main();
        }
        if role == "stranger" {
            return stranger();
        }
        let tests: [(&str, Test); 13] = [
            (
                "guests_and_managers_are_killed_and_no_byte_slot_or_charge_is_lost",
                || {
                    let rows = ["managers that were killed", "records migrated to the host"];
                    run("--seconds 6 --restart", &rows)
                },
            ),
            (
                "managers_end_at_each_step_whose_order_matters_and_nothing_is_lost",
                || {
                    run(
                        "--seconds 6 --restart --end-at all",
                        &["  at a step that was named"],
                    )
                },
            ),
            (
                "the_same_with_a_hash_map_in_place_of_the_table_balances",
                || {
                    let rows = ["guests that lived", "HashMap, of the manager's time"];
                    run("--seconds 3 --table hashmap", &rows)
                },
            ),
            (
                "the_least_guest_size_runs_and_says_that_nothing_was_evicted",
                nothing_is_evicted,
            ),
            (STRANGERS, strangers),
            (
                "a_guest_with_wrong_descriptors_is_refused_alone_and_refusals_do_not_fill_the_output",
                wrong_descriptors,
            ),
            (
                "a_connection_that_cannot_be_accepted_does_not_end_the_manager",
                failed_accept,
            ),
            (
                "an_error_of_too_many_open_files_says_what_was_being_done",
                few_files,
            ),
            ("a_user_without_any_privilege_can_run_it", without_privilege),
            ("an_error_names_the_seed_of_the_run", error_names_the_seed),
            ("an_output_that_is_closed_is_no_panic", closed_output),
            (
                "a_swapfile_that_cannot_be_made_is_named_in_the_error",
                error_names_the_swapfile,
            ),
            (
                "pairs_that_are_compared_are_as_many_as_asked_and_have_the_seeds_that_are_asked",
                compared,
            ),
        ];
        let tests = tests.map(|(name, test)| {
            Trial::ignorable_test(name, move || match reason_not_to_run(name) {
                None => test().map(|()| Completion::Completed),
                Some(reason) if env::var_os(REQUIRE).is_some() => {
                    Err(Failed::from(format!("it must run, and cannot: {reason}")))
                }
                Some(reason) => Ok(Completion::ignored_with(reason)),
            })
        });
        let mut arguments = Arguments::from_args();
        // Each of them keeps all processors busy.
        arguments.test_threads = Some(1);
        libtest_mimic::run(&arguments, tests.into()).exit_code()
    }

    /// Says why this test cannot run here.
    fn reason_not_to_run(name: &str) -> Option<String> {
        swap_records_manager::reason_not_to_run().or_else(|| {
            let reason = "it connects as another user, which needs root";
            (name == STRANGERS && !is_root()).then(|| reason.to_owned())
        })
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// The command with these flags, where `--guests` comes first.
    fn command(flags: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.args(flags.split(' '));
        command
    }

    /// Fails with all that was printed, unless `right`.
    fn expect(right: bool, output: &Output) -> Result<(), Failed> {
        if right {
            return Ok(());
        }
        let [printed, said] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        Err(Failed::from(format!(
            "{}\n{said}\n{printed}",
            output.status
        )))
    }

    /// Whether the output has a row of this name whose value is not 0.
    fn has_row(output: &Output, row: &str) -> bool {
        let printed = String::from_utf8_lossy(&output.stdout);
        let value = printed
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(row.trim_start()));
        value.is_some_and(|value| value.contains(|digit: char| matches!(digit, '1'..='9')))
    }

    /// Whether the command ended well, with the line that says so.
    fn balanced(output: &Output) -> bool {
        output.status.success() && output.stdout.ends_with(format!("{LAST}\n").as_bytes())
    }

    /// Runs the command, which says by itself whether all was right, and looks for rows that are not 0.
    fn run(flags: &str, rows: &[&str]) -> Result<(), Failed> {
        let flags = format!("--guests 6 --memory 24M --guest-size 12M {flags}");
        let output = command(&flags).output()?;
        let all = rows.iter().all(|row| has_row(&output, row));
        let evicted = ["pages evicted", "  of these, to slots in a row"];
        let evicted = evicted.iter().all(|row| has_row(&output, row));
        expect(balanced(&output) && all && evicted, &output)
    }

    fn nothing_is_evicted() -> Result<(), Failed> {
        let output = command("--guests 2 --memory 4M --guest-size 256K --seconds 1").output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = printed.contains("\nnothing was evicted: ");
        expect(balanced(&output) && said, &output)
    }

    fn strangers() -> Result<(), Failed> {
        let (manager, name) = start(3)?;
        let silent = connect(&name)?;
        let stranger = Command::new("/proc/self/exe")
            .args(["stranger", &name])
            .uid(NOBODY)
            .status();
        let mut wrong = connect(&name)?;
        wrong.write_all(&[7; 72])?;
        let output = manager.wait_with_output()?;
        drop(silent);
        expect(balanced(&output), &output)?;
        if !stranger?.success() {
            return Err("the manager took the message of another user".into());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        expect(
            said.contains("refused a connection: it is of user 65534"),
            &output,
        )
    }

    /// Starts the command for some seconds, and returns it with the name of its socket.
    fn start(seconds: u8) -> Result<(Child, String), Failed> {
        let flags = "--guests 2 --memory 4M --guest-size 4M --no-kills --seconds";
        let mut manager = command(&format!("{flags} {seconds}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Any user can list the abstract sockets.
        let of_manager = format!("@swap-records-manager-{}-", manager.id());
        let found = until("the command has no socket", || {
            let sockets = fs::read_to_string("/proc/net/unix").ok()?;
            let mut names = sockets
                .lines()
                .filter_map(|line| line.split(' ').next_back());
            let name = names.find(|name| name.starts_with(&of_manager))?;
            Some(name[1..].to_owned())
        });
        if found.is_err() {
            manager.kill()?;
            manager.wait()?;
        }
        Ok((manager, found?))
    }

    /// Asks again until there is an answer.
    fn until<T>(error: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, Failed> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(answer) = ask() {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The lines that say that a connection was refused.
    fn refusals(output: &Output) -> Vec<String> {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said
            .lines()
            .filter(|line| line.contains("refused a connection: "));
        lines.map(str::to_owned).collect()
    }

    /// A guest's first message with these files, which are not a guest's.
    fn say_hello(name: &str, fds: &[BorrowedFd<'_>]) -> io::Result<UnixStream> {
        let stream = connect(name)?;
        let mut hello = [0; 72];
        // The kind, and the number of the guest.
        (hello[0], hello[8]) = (8, 99);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(fds));
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg(&stream, &[IoSlice::new(&hello)], &mut control, flags)?;
        Ok(stream)
    }

    fn wrong_descriptors() -> Result<(), Failed> {
        let (manager, name) = start(3)?;
        let program = File::open("/proc/self/exe")?;
        for _ in 0..20 {
            // The program has more bytes than a guest.
            let mut stream = say_hello(&name, &[program.as_fd(), program.as_fd()])?;
            // The manager hangs up. It may do so before it has read all.
            let _ = stream.read(&mut [0; 72]);
        }
        thread::sleep(Duration::from_millis(1100));
        let mut stream = say_hello(&name, &[program.as_fd()])?;
        let _ = stream.read(&mut [0; 72]);
        let output = manager.wait_with_output()?;
        expect(balanced(&output), &output)?;
        let lines = refusals(&output);
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        let right = has("its first descriptor is not a userfaultfd")
            && has("a guest sends its userfaultfd and its memory (")
            && has("more were refused before)");
        expect(right && lines.len() <= 5, &output)
    }

    fn failed_accept() -> Result<(), Failed> {
        let (command, name) = start(3)?;
        let id = command.id();
        let children = format!("/proc/{id}/task/{id}/children");
        // The manager is the first one. Its guests come next.
        let manager: i32 = until("there are no guests", || {
            let children = fs::read_to_string(&children).ok()?;
            let all: Vec<i32> = children
                .split(' ')
                .filter_map(|id| id.parse().ok())
                .collect();
            (all.len() == 3).then(|| all[0])
        })?;
        let manager = Pid::from_raw(manager).ok_or("a process has an id")?;
        // A manager that begins needs descriptors. One that hangs up has begun.
        let mut silent = connect(&name)?;
        silent.shutdown(Shutdown::Write)?;
        if silent.read(&mut [0; 72])? > 0 {
            return Err("a connection without a message has an answer".into());
        }
        // Each descriptor from 3 on is refused. (A poll of two fails with a limit below two.)
        let standard = Rlimit {
            current: Some(3),
            ..getrlimit(Resource::Nofile)
        };
        let limit = prlimit(Some(manager), Resource::Nofile, standard)?;
        let waiting = connect(&name)?;
        // Longer than there is between two lines.
        thread::sleep(Duration::from_millis(1200));
        prlimit(Some(manager), Resource::Nofile, limit)?;
        drop(waiting);
        let output = command.wait_with_output()?;
        expect(balanced(&output), &output)?;
        let lines = refusals(&output);
        let said = "accepting a connection: Too many open files";
        let right = lines.iter().any(|line| line.contains(said));
        expect(right && lines.len() <= 5, &output)
    }

    fn few_files() -> Result<(), Failed> {
        let mut refused = 0;
        for files in 4..22 {
            let mut limited = Command::new("/bin/sh");
            limited.args(["-c", "ulimit -n $0 && exec \"$@\"", &files.to_string()]);
            limited.arg(env::current_exe()?);
            limited.args("--guests 2 --memory 4M --guest-size 256K --seconds 1".split(' '));
            let output = limited.output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            let bare = ["manager: ", "guest: "];
            let named = said.lines().all(|line| {
                let what = bare.iter().find_map(|name| line.strip_prefix(name));
                !what.is_some_and(|what| what.starts_with("Too many open files"))
            });
            refused += u32::from(said.contains("open files"));
            expect(named, &output)?;
        }
        if refused == 0 {
            return Err("no run had too few files".into());
        }
        Ok(())
    }

    fn connect(name: &str) -> io::Result<UnixStream> {
        let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        stream.set_read_timeout(Some(Duration::from_secs(4)))?;
        Ok(stream)
    }

    /// Connects as another user, says something, and expects to be hung up on.
    fn stranger() -> ExitCode {
        let name = env::args().nth(2).unwrap_or_default();
        let hung_up = connect(&name).and_then(|mut stream| {
            // It may be closed already.
            let _ = stream.write_all(&[7; 72]);
            stream.read(&mut [0; 72])
        });
        match hung_up {
            Ok(0) => ExitCode::SUCCESS,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => ExitCode::SUCCESS,
            other => {
                eprintln!("stranger: {other:?}");
                ExitCode::FAILURE
            }
        }
    }

    fn closed_output() -> Result<(), Failed> {
        for flags in [
            "--guests 2 --help",
            "--guests 2 --memory 4M --guest-size 4M --seconds 1",
        ] {
            let mut child = command(flags)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            drop(child.stdout.take());
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            expect(
                output.status.success() && !said.contains("panicked"),
                &output,
            )?;
        }
        Ok(())
    }

    /// Root was asked for. No call of the manager or its guests needs it.
    fn without_privilege() -> Result<(), Failed> {
        let mut command = command("--guests 2 --memory 4M --guest-size 4M --seconds 1 --restart");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output()?;
        expect(
            balanced(&output) && has_row(&output, "pages evicted"),
            &output,
        )
    }

    fn error_names_the_seed() -> Result<(), Failed> {
        let output = command("--guests 2 --swapfile /nowhere/swap --seed 1234").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let named = said.trim_end().ends_with(" (seed 1234)");
        expect(output.status.code() == Some(1) && named, &output)
    }

    fn error_names_the_swapfile() -> Result<(), Failed> {
        let output = command("--guests 2 --swapfile /nowhere/swap --seconds 1").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let named = said.contains("making the swapfile /nowhere/swap: No such file");
        expect(output.status.code() == Some(1) && named, &output)
    }

    fn compared() -> Result<(), Failed> {
        let flags =
            "--guests 2 --memory 4M --guest-size 4M --seconds 1 --compare --runs 1 --seed 7";
        let output = command(flags).output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = printed.lines().collect();
        let right = lines.len() == 2
            && lines[0].starts_with("pair 1, seed 7: p50 ")
            && lines[1].ends_with("the median of 1 pairs");
        expect(output.status.success() && right, &output)
    }
}
