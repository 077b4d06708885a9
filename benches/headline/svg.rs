//! The plots of `docs/benchmarks.md`: bars on a logarithmic scale, from the rows of a report.

use std::fmt::Write as _;
use std::path::Path;

use crate::report::{Amount, Detail, Report};

const WIDTH: f64 = 760.0;
const LABELS: f64 = 210.0;
/// Room for the number behind the longest bar.
const NUMBERS: f64 = 90.0;
const BAR: f64 = 15.0;
const GROUP: f64 = 44.0;
const TOP: f64 = 62.0;
const OURS: &str = "#1b6ca8";
const THEIRS: &str = "#c9773b";

/// A plot: its file, what it asks, and the rows that answer, with what each compares with.
struct Plot {
    file: &'static str,
    title: &'static str,
    rows: &'static [(&'static str, &'static str)],
}

const PLOTS: [Plot; 5] = [
    Plot {
        file: "bench-hand-over.svg",
        title: "Time of a hand-over, by what is left of the dying cgroup",
        rows: &[
            ("no_remains_vs_2014_loop", "nothing: 2014 loop"),
            (
                "no_remains_4000_ids_vs_2014_loop",
                "nothing, 4,000 ids: 2014 loop",
            ),
            ("remains_1000_vs_2014_loop", "1,000 records: 2014 loop"),
            ("remains_1000_vs_roaring", "1,000 records: roaring sets"),
            ("remains_10000_vs_2014_loop", "10,000 records: 2014 loop"),
            ("full_scan_vs_2014_loop", "in every region: 2014 loop"),
        ],
    },
    Plot {
        file: "bench-bandwidth.svg",
        title: "Bytes a second of a hand-over that looks at everything",
        rows: &[
            ("full_scan_vs_read_bandwidth", "plain read"),
            ("full_scan_l2_vs_vectorized_loop", "2 MiB: vectorized loop"),
            ("dense_vs_fill", "all match: slice::fill"),
        ],
    },
    Plot {
        file: "bench-operations.svg",
        title: "Time of one operation, of one entry",
        rows: &[
            ("record_seq_vs_linux_2024", "record, in order: Linux 2024"),
            ("record_hot_vs_linux_2024", "record, hot: Linux 2024"),
            ("record_dram_vs_linux_2024", "record, DRAM: Linux 2024"),
            ("cmpxchg_hot_vs_linux_2024", "cmpxchg, hot: Linux 2024"),
            ("record_range64_vs_linux_2024", "record 64: Linux 2024"),
            ("lookup_hot_vs_raw_load", "lookup, hot: raw load"),
        ],
    },
    Plot {
        file: "bench-threads.svg",
        title: "Records a second, by threads",
        rows: &[
            ("record_2_threads_scaling", "2 threads, own regions: 1"),
            ("record_8_on_2_cores", "8 threads, one region: 2"),
        ],
    },
    Plot {
        file: "bench-memory.svg",
        title: "Resident bytes of the index",
        rows: &[
            ("index_bytes_vs_table_bytes", "150 ids: the ids themselves"),
            (
                "index_bytes_vs_table_bytes_1000_ids",
                "1,000 ids: the ids themselves",
            ),
        ],
    },
];

/// Writes all plots into a folder that is there.
pub(crate) fn write_all(report: &Report, folder: &Path) -> Result<(), String> {
    let write = |file: &str, text: String| {
        let path = folder.join(file);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    for plot in PLOTS {
        let bars: Vec<Detail> = plot
            .rows
            .iter()
            .filter_map(|&(name, label)| {
                let row = report.row(name)?;
                Some((label, row.ours, row.theirs?))
            })
            .collect();
        write(plot.file, bars_of(plot.title, &bars))?;
    }
    let title = "Time of a record while all of the map is handed over (the other: 2014 loop)";
    write("bench-latency.svg", bars_of(title, &report.latencies))
}

/// A group of two bars for each line. One scale for all.
fn bars_of(title: &str, lines: &[Detail]) -> String {
    let numbers = lines
        .iter()
        .flat_map(|(_, ours, theirs)| [ours.number(), theirs.number()])
        .filter(|&number| number > 0.0);
    let (least, most) = numbers.fold((f64::MAX, f64::MIN), |(least, most), number| {
        (least.min(number), most.max(number))
    });
    // The shortest bar is still a bar.
    let (from, to) = ((least / 2.0).log10(), most.log10());
    let length = |amount: Amount| {
        let part = (amount.number().max(least).log10() - from) / (to - from);
        part * (WIDTH - LABELS - NUMBERS)
    };
    let height = TOP + GROUP * lines.len() as f64;
    let mut svg = String::new();
    // Writing to a string does not fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(svg, "{text}");
    };
    line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">"
    ));
    line(format_args!(
        "<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>"
    ));
    line(format_args!(
        "<text x=\"8\" y=\"22\" font-size=\"16\">{title}</text>"
    ));
    for (x, colour, text) in [(8.0, OURS, "this crate"), (108.0, THEIRS, "the other")] {
        line(format_args!(
            "<rect x=\"{x}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"45\">{text}</text>",
            x + 18.0,
        ));
    }
    line(format_args!(
        "<text x=\"{}\" y=\"45\" text-anchor=\"end\" fill=\"#666666\">logarithmic scale</text>",
        WIDTH - 8.0,
    ));
    for (i, (label, ours, theirs)) in (0..).zip(lines) {
        let y = TOP + GROUP * f64::from(i);
        line(format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>",
            LABELS - 8.0,
            y + BAR + 5.0,
        ));
        for (y, amount, colour) in [(y, ours, OURS), (y + BAR + 1.0, theirs, THEIRS)] {
            let length = length(*amount);
            line(format_args!(
                "<rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" \
                 fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\" font-size=\"12\">{amount}</text>",
                LABELS + length + 5.0,
                y + BAR - 3.0,
            ));
        }
    }
    line(format_args!("</svg>"));
    svg
}
