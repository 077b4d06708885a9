//! Draws the plots of `docs/benchmarks.md`: bars on one scale, from the rows of a report.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::axis::Axis;
use crate::report::{Amount, Report};

const WIDTH: u32 = 800;
/// The height of two bars and the gap below them.
const GROUP: u32 = 44;
/// The height of title, axis and margins.
const AROUND: u32 = 84;
/// The room for the longest name and number after the longest bar.
const NAMES: u32 = 220;
const OURS: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
const THEIRS: RGBColor = RGBColor(0xc9, 0x77, 0x3b);

/// The lines of an axis that have a label, and those between them.
const LABELLED: RGBColor = RGBColor(0xbb, 0xbb, 0xbb);
const BETWEEN: RGBColor = RGBColor(0xe8, 0xe8, 0xe8);

const CRATE: &str = "this crate";
const LOOP: &str = "2014 loop";
const LINUX: &str = "Linux 2024";

/// The question of a group, and its two bars.
type Group = (&'static str, [(&'static str, Amount); 2]);

/// A plot: its file, its title, and its rows. Each row has a question, and the names of both bars.
struct Plot {
    file: &'static str,
    title: &'static str,
    rows: &'static [(&'static str, &'static str, [&'static str; 2])],
}

const PLOTS: [Plot; 5] = [
    Plot {
        file: "bench-migration.svg",
        title: "Time of one migration, by the records that it moves",
        rows: &[
            ("no_records_vs_2014_loop", "no records", [CRATE, LOOP]),
            (
                "no_records_4000_ids_vs_2014_loop",
                "no records, 4,000 ids",
                [CRATE, LOOP],
            ),
            ("records_1000_vs_2014_loop", "1,000 records", [CRATE, LOOP]),
            (
                "records_1000_vs_roaring",
                "1,000 records",
                [CRATE, "roaring bitmaps"],
            ),
            (
                "records_10000_vs_2014_loop",
                "10,000 records",
                [CRATE, LOOP],
            ),
            (
                "full_scan_vs_2014_loop",
                "8 records per region",
                [CRATE, LOOP],
            ),
        ],
    },
    Plot {
        file: "bench-bandwidth.svg",
        title: "Bytes per second of a migration that looks at every entry",
        rows: &[
            (
                "full_scan_vs_read_bandwidth",
                "full scan",
                [CRATE, "plain read"],
            ),
            (
                "full_scan_l2_vs_vectorized_loop",
                "full scan, 2 MiB",
                [CRATE, "vectorized loop"],
            ),
            ("dense_vs_fill", "all entries match", [CRATE, "slice::fill"]),
        ],
    },
    Plot {
        file: "bench-operations.svg",
        title: "Time of one operation, per slot",
        rows: &[
            (
                "record_seq_vs_linux_2024",
                "record, in order",
                [CRATE, LINUX],
            ),
            ("record_hot_vs_linux_2024", "record, hot", [CRATE, LINUX]),
            ("record_dram_vs_linux_2024", "record, DRAM", [CRATE, LINUX]),
            ("cmpxchg_hot_vs_linux_2024", "cmpxchg, hot", [CRATE, LINUX]),
            (
                "record_range64_vs_linux_2024",
                "record, ranges of 64",
                [CRATE, LINUX],
            ),
            ("lookup_hot_vs_raw_load", "lookup, hot", [CRATE, "raw load"]),
        ],
    },
    Plot {
        file: "bench-threads.svg",
        title: "Records per second of this crate, all threads together",
        rows: &[
            (
                "record_2_threads_scaling",
                "own regions",
                ["2 threads", "1 thread"],
            ),
            (
                "record_8_on_2_cores",
                "one region",
                ["8 threads", "2 threads"],
            ),
        ],
    },
    Plot {
        file: "bench-memory.svg",
        title: "Resident memory of a full table, by the ids in use",
        rows: &[
            (
                "index_bytes_vs_table_bytes",
                "150 ids",
                ["index", "entries"],
            ),
            (
                "index_bytes_vs_table_bytes_1000_ids",
                "1,000 ids",
                ["index", "entries"],
            ),
        ],
    },
];

/// Writes all plots into an existing directory.
pub(crate) fn write_all(report: &Report, folder: &Path) -> Result<(), String> {
    let write = |file: &str, title: &str, groups: &[Group]| {
        let path = folder.join(file);
        draw(&path, title, groups).map_err(|error| format!("{}: {error}", path.display()))
    };
    for plot in PLOTS {
        let groups = plot
            .rows
            .iter()
            .filter_map(|&(name, question, [of_ours, of_theirs])| {
                let row = report.row(name)?;
                Some((question, [(of_ours, row.ours), (of_theirs, row.theirs?)]))
            });
        write(plot.file, plot.title, &groups.collect::<Vec<_>>())?;
    }
    let latencies = report.latencies.iter();
    let latencies: Vec<_> = latencies
        .map(|&(quantile, ours, theirs)| (quantile, [(CRATE, ours), (LOOP, theirs)]))
        .collect();
    let title = "Time of a record while another thread migrates again and again, by percentile";
    write("bench-latency.svg", title, &latencies)
}

/// Draws two bars for each group, on one scale.
fn draw(file: &Path, title: &str, groups: &[Group]) -> Result<(), Box<dyn Error>> {
    let amounts = groups
        .iter()
        .flat_map(|(_, bars)| bars.map(|(_, amount)| amount));
    let numbers = amounts.map(Amount::number).filter(|&number| number > 0.0);
    let (least, most) = numbers.fold((f64::MAX, f64::MIN), |(least, most), number| {
        (least.min(number), most.max(number))
    });
    let Some((_, [(_, sample), _])) = groups.first().filter(|_| least <= most) else {
        println!(
            "note: {} is unchanged, since none of its rows was measured",
            file.display()
        );
        return Ok(());
    };
    let axis = Axis::new(*sample, least, most);

    let groups_in_all = u32::try_from(groups.len())?;
    let root = SVGBackend::new(file, (WIDTH, AROUND + GROUP * groups_in_all)).into_drawing_area();
    // A white background: black text on a dark page would be invisible.
    root.fill(&WHITE)?;
    // Centred on the picture: a caption would be centred on the bars.
    let below = root.margin(10, 0, 0, 0).titled(title, ("sans-serif", 20))?;
    let mut chart = ChartBuilder::on(&below)
        .margin(10)
        .margin_right(NAMES)
        .x_label_area_size(30)
        .y_label_area_size(190)
        .build_cartesian_2d(axis, f64::from(groups_in_all)..0.0)?;
    for (numbers, colour) in [(axis.between(), BETWEEN), (axis.labelled(), LABELLED)] {
        let ends = numbers
            .into_iter()
            .map(|number| [(number, 0.0), (number, f64::from(groups_in_all))]);
        chart.draw_series(ends.map(|ends| PathElement::new(ends, colour)))?;
    }
    chart
        .configure_mesh()
        .disable_mesh()
        .disable_y_axis()
        .label_style(("sans-serif", 16))
        .x_label_formatter(&|&number| axis.label(number))
        .draw()?;

    let label = |text: String, at: (f64, f64), side: HPos, gap: i32| {
        let style = ("sans-serif", 16).into_text_style(&root);
        let style = style.pos(Pos::new(side, VPos::Center));
        EmptyElement::at(at) + Text::new(text, (gap, 1), style)
    };
    for (top, &(question, [ours, theirs])) in (0_u32..).map(f64::from).zip(groups) {
        let question = label(
            question.to_owned(),
            (axis.from(), top + 0.5),
            HPos::Right,
            -10,
        );
        chart.draw_series([question])?;
        for ((name, amount), colour, top) in
            [(ours, OURS, top + 0.12), (theirs, THEIRS, top + 0.50)]
        {
            let end = amount.number();
            let corners = [(axis.from(), top), (end, top + 0.36)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            let text = format!("{name}: {amount}");
            chart.draw_series([label(text, (end, top + 0.18), HPos::Left, 6)])?;
        }
    }
    root.present()?;
    Ok(())
}
