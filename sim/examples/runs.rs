//! Prints a synthetic map as CSV: the first slot, the number of slots and the owner of each run.
//!
//! `cargo run --release -p swap-records-sim --example runs -- --family interleaved:40 --slots 100000`

use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use lexopt::prelude::*;
use swap_records_sim::{Family, Map};

const HELP: &str = "\
Prints a synthetic map of swap as CSV: start,slots,id.

Usage: runs [--family F] [--slots N] [--seed N] [--aged N] [--remains K]

  --family F    interleaved:N, jobs or uniform [default: interleaved:150]
  --slots N     slots of the swapfile [default: 65536]
  --seed N      the same seed makes the same map [default: 2014]
  --aged N      free and reuse a range of slots N times [default: 0]
  --remains K   give K slots to an offline cgroup, whose id is one above those of the family [default: 0]";

fn main() -> ExitCode {
    match map().map(|map| map.map(|map| print(&map))) {
        Ok(Some(Ok(()))) => ExitCode::SUCCESS,
        // The reader closed the pipe.
        Ok(Some(Err(error))) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(Some(Err(error))) => {
            eprintln!("runs: standard output: {error}");
            ExitCode::FAILURE
        }
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("runs: {error}; --help lists the flags");
            ExitCode::from(2)
        }
    }
}

/// Makes the map that the arguments ask for. Returns `None` if they ask for help.
fn map() -> Result<Option<Map>, lexopt::Error> {
    let mut family = Family::Interleaved(150);
    let (mut slots, mut seed, mut turnovers, mut remains) = (65_536, 2014, 0, 0);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("family") => family = args.value()?.parse()?,
            Long("slots") => slots = args.value()?.parse()?,
            Long("seed") => seed = args.value()?.parse()?,
            Long("aged") => turnovers = args.value()?.parse()?,
            Long("remains") => remains = args.value()?.parse()?,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if slots == 0 || remains > slots {
        return Err("--slots must be at least 1, and at least as many as --remains".into());
    }
    let map = Map::new(family, slots, seed).aged(turnovers);
    let offline = family.highest_id().checked_add(1);
    match offline {
        _ if remains == 0 => Ok(Some(map)),
        Some(offline) => Ok(Some(map.remains(offline, remains))),
        None => Err("--remains needs an id above those of the family: give fewer cgroups".into()),
    }
}

fn print(map: &Map) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "start,slots,id")?;
    for run in map.runs() {
        writeln!(out, "{},{},{}", run.start, run.len, run.id)?;
    }
    out.flush()
}
