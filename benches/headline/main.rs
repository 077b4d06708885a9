//! `cargo bench --bench headline`: compares the crate with the limits of the memory and with other tables,
//! and measures its costs.
//!
//! Each row is the median over pairs of runs, which alternate between both sides. All memory is present
//! before the clock starts. Most rows use the same large table and array of ids.

mod axis;
mod bars;
mod batches;
mod concurrent;
mod images;
mod machine;
mod maps;
mod measure;
mod memcgs;
mod memory;
mod operations;
mod owners;
mod read;
mod report;
mod saved;
mod scans;
mod svg;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use maps::Maps;
use report::Report;
use swap_records_benches::ours::Ours;
use swap_records_benches::{LIVE, REGION, index, timed};
use swap_records_sim::Pages;
use swap_records_sim::size;
use swap_records_sim::tables::Loop2014;
use swap_records_sim::tables::Table;

const HELP: &str = "\
Compares this crate with its alternatives. Prints a line for each figure, then a table.

Usage: cargo bench --bench headline -- [--quick] [--markdown] [--svg FOLDER]
       cargo bench --bench headline -- --svg-from FILE --svg FOLDER

  --quick        256 MiB of table and fewer pairs of runs; takes less than a minute
  --markdown     print the tables as markdown
  --svg FOLDER   write the plots of docs/benchmarks.md to FOLDER, an absolute path or one relative
                 to benches/, where cargo runs this
  --svg-from FILE
                 measure nothing; plot what the tables in FILE say, which an earlier run printed
                 with --markdown: ../docs/benchmarks.md has those of the documents
  --help         print this text

SWAP_MAP_GIB sets the GiB of table [default: 4, or less if the memory is too small].
Exits with 101 if an answer is wrong, and with 1 if the memory is too small. A missed bar is not
an error.";

/// The amount of measuring.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// `None`: read the size from the environment.
    slots: Option<u64>,
    /// An even number, so that records which are migrated back and forth return.
    pairs: usize,
    /// The least time of each run with latencies.
    latency: Duration,
}

const FULL: Effort = Effort {
    slots: None,
    pairs: 6,
    latency: Duration::from_secs(2),
};
const QUICK: Effort = Effort {
    slots: Some(1 << 27),
    pairs: 4,
    latency: Duration::from_millis(500),
};
/// For tests: only checks the answers.
const ANSWERS: Effort = Effort {
    slots: Some(1 << 22),
    pairs: 2,
    latency: Duration::from_millis(20),
};

#[derive(Debug)]
struct Options {
    effort: Effort,
    markdown: bool,
    svg: Option<PathBuf>,
    /// The results to plot. `None`: measure.
    svg_from: Option<PathBuf>,
}

/// Parses the arguments. Returns `None` if they ask for help.
fn options() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        // `cargo test --benches` runs this without optimization.
        effort: if cfg!(debug_assertions) {
            ANSWERS
        } else {
            FULL
        },
        markdown: false,
        svg: None,
        svg_from: None,
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            // Cargo passes this flag.
            Long("bench") => {}
            Long("test") => options.effort = ANSWERS,
            Long("quick") => options.effort = QUICK,
            Long("markdown") => options.markdown = true,
            Long("svg") => {
                let folder = PathBuf::from(args.value()?);
                // Fail now, not after minutes of measuring.
                if !folder.is_dir() {
                    let what = "is not a directory, relative to benches/, where cargo runs this";
                    return Err(format!("--svg {}: {what}", folder.display()).into());
                }
                options.svg = Some(folder);
            }
            Long("svg-from") => options.svg_from = Some(args.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if options.svg_from.is_some() && options.svg.is_none() {
        return Err("--svg-from says what to plot, and --svg FOLDER must say where".into());
    }
    Ok(Some(options))
}

fn main() -> ExitCode {
    match options() {
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Some(options)) => match run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("headline: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("headline: {error}; --help lists the flags");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    if let (Some(file), Some(folder)) = (&options.svg_from, &options.svg) {
        return svg::write_all(&saved::read(file)?, folder);
    }
    let size = match options.effort.slots {
        Some(slots) => size::Size { slots, note: None },
        None => size::from_env(2).map_err(|error| error.to_string())?,
    };
    // Whole regions, so that each has a complete tail.
    let slots = size.slots / REGION as u64 * REGION as u64;
    for line in machine::describe(slots, size::gib_of(slots)) {
        println!("{line}");
    }
    if let Some(note) = size.note {
        println!("note: {note}");
    }
    println!("pairs: {}", options.effort.pairs);
    maps::describe_generator(slots);
    let mut report = Report::default();
    let (measured, time) = timed(|| measure_all(&mut report, index(slots), options.effort));
    measured?;
    println!("measured in {:.0} s\n", time.as_secs_f64());
    if options.markdown {
        report.print_markdown();
    } else {
        report.print_table();
    }
    if let Some(folder) = &options.svg {
        svg::write_all(&report, folder)?;
    }
    Ok(())
}

/// In this order one map serves most rows, and no row finds the records of another.
fn measure_all(report: &mut Report, slots: usize, effort: Effort) -> Result<(), String> {
    /// 2 MiB of table.
    const SMALL: usize = 1 << 20;
    let nr = effort.pairs;
    memory::swapon(report)?;
    scans::small(report, SMALL, nr)?;
    operations::hot(report, SMALL, nr)?;
    memcgs::scaling(report, nr)?;
    images::all(report, slots, nr)?;

    let ids = Pages::zeroed(slots).map_err(memory::refused)?;
    let before = machine::resident()?;
    let ours = Ours::with_slots(slots).map_err(memory::refused)?;
    let maps = Maps::new(ours, ids);
    memory::index(report, "index_bytes_vs_table_bytes", slots, before)?;
    scans::against_2014(report, &maps, nr);
    owners::against_a_walk(report, &maps.ours);
    let maps = memcgs::on_the_map(report, maps, nr)?;

    let (ours, in_tails) = (maps.ours, maps.in_tails);
    let ids = maps.of_2014.into_ids();
    let ids = scans::against_memory(report, &ours, in_tails, ids, nr);
    concurrent::full_scan_scaling(report, &ours, in_tails, nr);
    let ids = scans::against_roaring(report, &ours, ids, nr);
    // From here on, records are overwritten.
    let ids = operations::large(report, &ours, ids, nr)?;
    let ids = batches::rows(report, &ours, ids, nr);
    concurrent::scaling(report, &ours, nr)?;

    let of_2014 = Loop2014::over(ids);
    let maps = Maps {
        ours,
        of_2014,
        ..maps
    };
    concurrent::latency(report, &maps, nr, effort.latency);
    maps.add_ids(LIVE + 1..=1_000);
    memory::index(report, "index_bytes_vs_table_bytes_1000_ids", slots, before)?;
    maps.add_ids(1_001..=4_000);
    scans::no_records_among_4000(report, &maps, nr);
    scans::dense(report, &maps.ours, maps.of_2014.into_ids(), nr);
    Ok(())
}
