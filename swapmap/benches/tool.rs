//! Measures `swapmap make` and `swapmap owners` against a plain write and a plain read of as many bytes.
//!
//! ```sh
//! cargo bench -p swapmap -- [--gib 1] [--dir FOLDER] [--runs 5]
//! ```
//!
//! The plain write makes ids with a multiplication for four of them, writes them to a new file in pieces of 1
//! MiB, and syncs it, as `make` does. The plain read reads the image in pieces of 1 MiB. The sides of a row
//! take turns, and each file is removed before the next one is written, so both get memory that the system
//! has used before. It reads each image twice: from the page cache, and, as root, from the disk, after the
//! system has dropped its page cache. It prints medians, and the ratio of the medians.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TOOL: &str = env!("CARGO_BIN_EXE_swapmap");
const MIB: usize = 1 << 20;

struct Args {
    gib: f64,
    dir: PathBuf,
    runs: usize,
}

fn args() -> Option<Args> {
    let mut args = Args {
        gib: 1.0,
        dir: std::env::temp_dir(),
        runs: 5,
    };
    let mut is_bench = false;
    let mut all = std::env::args().skip(1);
    while let Some(arg) = all.next() {
        match arg.as_str() {
            "--bench" => is_bench = true,
            "--gib" => args.gib = all.next()?.parse().ok()?,
            "--dir" => args.dir = all.next()?.into(),
            "--runs" => args.runs = all.next()?.parse().ok().filter(|&runs| runs > 0)?,
            _ => return None,
        }
    }
    if !is_bench {
        // `cargo test --benches` only checks that it runs.
        args = Args {
            gib: 1.0 / 256.0,
            runs: 1,
            ..args
        };
    }
    Some(args)
}

fn main() -> io::Result<()> {
    let Some(args) = args() else {
        eprintln!("usage: cargo bench -p swapmap -- [--gib GIB] [--dir FOLDER] [--runs RUNS]");
        std::process::exit(2);
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a MiB is none"
    )]
    let pieces = (args.gib * 1024.0) as usize;
    let folder = args
        .dir
        .join(format!("swapmap-bench-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let done = measure(&folder, pieces, args.runs);
    fs::remove_dir_all(&folder)?;
    done
}

fn measure(folder: &Path, pieces: usize, runs: usize) -> io::Result<()> {
    let plain = folder.join("plain");
    let image = folder.join("image");
    println!(
        "{pieces} MiB of table, in {}, medians of {runs} runs",
        folder.display()
    );
    println!(
        "{:<44} {:>10} {:>10} {:>7}",
        "", "swapmap", "plain", "ratio"
    );
    for family in ["interleaved", "jobs", "uniform"] {
        // The first pair does not count: memory and program are cold.
        let mut times = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..=runs {
            remove(&plain)?;
            remove(&image)?;
            let (cached, synced) = write_plain(&plain, pieces)?;
            remove(&plain)?;
            let slots = (pieces * MIB / 2).to_string();
            let made = tool(
                &["make", "--family", family, "--size", &slots, "-o"],
                &image,
            )?;
            if run > 0 {
                times.0.push(made);
                times.1.push(synced);
                times.2.push(cached);
            }
        }
        let (made, synced) = (median(times.0), median(times.1));
        row(
            &format!("make --family {family}, both synced"),
            made,
            synced,
        );
        row(
            "  the same, the plain write not synced",
            made,
            median(times.2),
        );

        for (what, from_disk) in [
            ("owners, FAMILY, in the page cache", false),
            ("owners, FAMILY, from the disk", true),
        ] {
            if from_disk && drop_caches().is_err() {
                println!("  from the disk: skipped, since only root can drop the page cache");
                continue;
            }
            let mut times = (Vec::new(), Vec::new());
            for run in 0..=runs {
                let before = || if from_disk { drop_caches() } else { Ok(()) };
                before()?;
                let read = read_plain(&image)?;
                before()?;
                let counted = tool(&["owners"], &image)?;
                if run > 0 {
                    times.0.push(counted);
                    times.1.push(read);
                }
            }
            row(
                &what.replace("FAMILY", family),
                median(times.0),
                median(times.1),
            );
        }
    }
    Ok(())
}

/// Drops the page cache. The files have been synced.
fn drop_caches() -> io::Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "1")
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the time until all bytes are written, and until they are on the disk.
fn write_plain(path: &Path, pieces: usize) -> io::Result<(Duration, Duration)> {
    let began = Instant::now();
    let mut file = File::create_new(path)?;
    let mut piece = vec![0; MIB];
    let mut state = 0_u64;
    for _ in 0..pieces {
        for four in piece.as_chunks_mut::<8>().0 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
            // Ids of 1 to 256.
            *four = ((mixed & 0x00ff_00ff_00ff_00ff) + 0x0001_0001_0001_0001).to_le_bytes();
        }
        file.write_all(&piece)?;
    }
    let written = began.elapsed();
    file.sync_all()?;
    Ok((written, began.elapsed()))
}

fn read_plain(path: &Path) -> io::Result<Duration> {
    let began = Instant::now();
    let mut file = File::open(path)?;
    let mut piece = vec![0; MIB];
    while file.read(&mut piece)? > 0 {}
    Ok(began.elapsed())
}

/// Returns the time that the command takes, with its start.
fn tool(args: &[&str], path: &Path) -> io::Result<Duration> {
    let began = Instant::now();
    let mut command = Command::new(TOOL);
    let command = command.args(args).arg(path);
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        let error = format!("{args:?} {} ended with {status}", path.display());
        return Err(io::Error::other(error));
    }
    Ok(began.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn row(what: &str, tool: Duration, plain: Duration) {
    let ratio = tool.as_secs_f64() / plain.as_secs_f64();
    let ms = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
    println!("{what:<44} {:>10} {:>10} {ratio:>7.2}", ms(tool), ms(plain));
}
