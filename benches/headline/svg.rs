//! Draws the plots of `docs/benchmarks.md`: bars on a logarithmic scale, from the rows of a report.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Amount, Report};

const WIDTH: u32 = 800;
/// The height of two bars and the gap below them.
const GROUP: u32 = 44;
/// The height of title, axis and margins.
const AROUND: u32 = 104;
/// The room for the longest name and number after the longest bar.
const NAMES: u32 = 210;
const OURS: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
const THEIRS: RGBColor = RGBColor(0xc9, 0x77, 0x3b);

const LOOP: &str = "2014 loop";
const LINUX: &str = "Linux 2024";

/// The question of a group, the amount of this crate, and the name and amount of the other side.
type Group = (&'static str, Amount, &'static str, Amount);

/// A plot: its file, its title, and its rows. Each row has a question and the name of the other side.
struct Plot {
    file: &'static str,
    title: &'static str,
    rows: &'static [(&'static str, &'static str, &'static str)],
}

const PLOTS: [Plot; 5] = [
    Plot {
        file: "bench-hand-over.svg",
        title: "Time of a migration, by what is left of the dying cgroup",
        rows: &[
            ("no_remains_vs_2014_loop", "nothing", LOOP),
            (
                "no_remains_4000_ids_vs_2014_loop",
                "nothing, 4,000 ids",
                LOOP,
            ),
            ("remains_1000_vs_2014_loop", "1,000 records", LOOP),
            ("remains_1000_vs_roaring", "1,000 records", "roaring sets"),
            ("remains_10000_vs_2014_loop", "10,000 records", LOOP),
            ("full_scan_vs_2014_loop", "8 records per region", LOOP),
        ],
    },
    Plot {
        file: "bench-bandwidth.svg",
        title: "Bytes per second of a migration that looks at every entry",
        rows: &[
            ("full_scan_vs_read_bandwidth", "full scan", "plain read"),
            (
                "full_scan_l2_vs_vectorized_loop",
                "full scan, 2 MiB",
                "vectorized loop",
            ),
            ("dense_vs_fill", "all match", "slice::fill"),
        ],
    },
    Plot {
        file: "bench-operations.svg",
        title: "Time of one operation, per entry",
        rows: &[
            ("record_seq_vs_linux_2024", "record, in order", LINUX),
            ("record_hot_vs_linux_2024", "record, hot", LINUX),
            ("record_dram_vs_linux_2024", "record, DRAM", LINUX),
            ("cmpxchg_hot_vs_linux_2024", "cmpxchg, hot", LINUX),
            (
                "record_range64_vs_linux_2024",
                "record, ranges of 64",
                LINUX,
            ),
            ("lookup_hot_vs_raw_load", "lookup, hot", "raw load"),
        ],
    },
    Plot {
        file: "bench-threads.svg",
        title: "Records per second, by threads",
        rows: &[
            (
                "record_2_threads_scaling",
                "2 threads, own regions",
                "1 thread",
            ),
            ("record_8_on_2_cores", "8 threads, one region", "2 threads"),
        ],
    },
    Plot {
        file: "bench-memory.svg",
        title: "Resident bytes of the index, beside those of the ids",
        rows: &[
            ("index_bytes_vs_table_bytes", "150 ids", "the ids"),
            (
                "index_bytes_vs_table_bytes_1000_ids",
                "1,000 ids",
                "the ids",
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
        let groups = plot.rows.iter().filter_map(|&(name, question, other)| {
            let row = report.row(name)?;
            Some((question, row.ours, other, row.theirs?))
        });
        write(plot.file, plot.title, &groups.collect::<Vec<_>>())?;
    }
    let latencies = report.latencies.iter();
    let latencies: Vec<_> = latencies
        .map(|&(quantile, ours, theirs)| (quantile, ours, LOOP, theirs))
        .collect();
    let title = "Time of a record while another thread migrates all of the map";
    write("bench-latency.svg", title, &latencies)
}

/// Draws two bars for each group, on one scale.
fn draw(file: &Path, title: &str, groups: &[Group]) -> Result<(), Box<dyn Error>> {
    let amounts = groups
        .iter()
        .flat_map(|&(_, ours, _, theirs)| [ours, theirs]);
    let numbers = amounts.map(Amount::number).filter(|&number| number > 0.0);
    let (least, most) = numbers.fold((f64::MAX, f64::MIN), |(least, most), number| {
        (least.min(number), most.max(number))
    });
    let Some((_, sample, ..)) = groups.first().filter(|_| least <= most) else {
        println!(
            "note: {} is unchanged, since none of its rows was measured",
            file.display()
        );
        return Ok(());
    };
    // The shortest bar is still visible.
    let (from, to) = (least / 2.0, most);

    let groups_in_all = u32::try_from(groups.len())?;
    let root = SVGBackend::new(file, (WIDTH, AROUND + GROUP * groups_in_all)).into_drawing_area();
    // A white background: black text on a dark page would be invisible.
    root.fill(&WHITE)?;
    // Centred on the picture: a caption would be centred on the bars.
    let below = root.margin(10, 0, 0, 0).titled(title, ("sans-serif", 20))?;
    let mut chart = ChartBuilder::on(&below)
        .margin(10)
        .margin_right(NAMES)
        .x_label_area_size(50)
        .y_label_area_size(190)
        .build_cartesian_2d(
            (from..to)
                .log_scale()
                .with_key_points(ticks(*sample, from, to)),
            f64::from(groups_in_all)..0.0,
        )?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .max_light_lines(0)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .label_style(("sans-serif", 16))
        .x_desc("logarithmic scale")
        .x_label_formatter(&|&number| sample.with_number(number).short())
        .draw()?;

    let label = |text: String, at: (f64, f64), side: HPos, gap: i32| {
        let style = ("sans-serif", 16).into_text_style(&root);
        let style = style.pos(Pos::new(side, VPos::Center));
        EmptyElement::at(at) + Text::new(text, (gap, 1), style)
    };
    for (top, &(question, ours, other, theirs)) in (0_u32..).map(f64::from).zip(groups) {
        let question = label(question.to_owned(), (from, top + 0.5), HPos::Right, -10);
        chart.draw_series([question])?;
        for (name, amount, colour, top) in [
            ("this crate", ours, OURS, top + 0.12),
            (other, theirs, THEIRS, top + 0.50),
        ] {
            let end = amount.number().max(least);
            let corners = [(from, top), (end, top + 0.36)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            let text = format!("{amount}, {name}");
            chart.draw_series([label(text, (end, top + 0.18), HPos::Left, 6)])?;
        }
    }
    root.present()?;
    Ok(())
}

/// Returns the ticks of an axis: powers of ten, with their multiples by 2 and 5 if there are few.
fn ticks(sample: Amount, from: f64, to: f64) -> Vec<f64> {
    let unit = sample.unit();
    let steps: &[f64] = if to / from < 100.0 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let powers = (-12..=15).map(|power| unit * 10_f64.powi(power));
    powers
        .flat_map(|power| steps.iter().map(move |step| power * step))
        .filter(|tick| (from..=to).contains(tick))
        .collect()
}
