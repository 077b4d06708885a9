//! Plots the ids in use against the number of cgroups created, as lines on logarithmic scales.

use std::error::Error;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (760, 400);
const OURS: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
const PINNED: RGBColor = RGBColor(0xc9, 0x77, 0x3b);
/// As dark as the line's text has to be on white.
const PINNED_TEXT: RGBColor = RGBColor(0xa0, 0x52, 0x1c);
/// The lines of an axis that have a number, and those between them.
const NUMBERED: RGBColor = RGBColor(0xbb, 0xbb, 0xbb);
const BETWEEN: RGBColor = RGBColor(0xe8, 0xe8, 0xe8);
/// The start of both scales.
const FROM: u64 = 100;
/// The number of ids.
const IDS: u64 = 65_535;

/// Points `(cgroups created, ids in use)`, a few for each 10% more cgroups.
#[derive(Debug, Default)]
pub(crate) struct Curve {
    points: Mutex<Vec<(u64, u64)>>,
    next: AtomicU64,
}

impl Curve {
    /// Returns whether a point is due.
    pub(crate) fn wants(&self, created: u64) -> bool {
        created >= self.next.load(Relaxed)
    }

    pub(crate) fn add(&self, created: u64, ids: u64) {
        self.next.store(created + created / 20 + 1, Relaxed);
        let mut points = self
            .points
            .lock()
            .expect("no thread panics while it holds the lock");
        points.push((created, ids));
    }

    /// Returns the points in the order of the number of cgroups.
    fn sorted(&self) -> Vec<(u64, u64)> {
        let mut points = self
            .points
            .lock()
            .expect("no thread panics while it holds the lock")
            .clone();
        points.sort_unstable();
        points
    }

    /// Returns the highest number of ids of any point.
    pub(crate) fn most(&self) -> u64 {
        self.sorted().iter().map(|&(_, ids)| ids).max().unwrap_or(0)
    }
}

/// Draws both curves, and the point at which creation failed.
pub(crate) fn draw(
    file: &Path,
    ours: &Curve,
    pinned: &Curve,
    failed: Option<u64>,
) -> Result<(), Box<dyn Error>> {
    let (ours, pinned) = (ours.sorted(), pinned.sorted());
    let last = |points: &[(u64, u64)]| points.last().copied().unwrap_or((FROM, FROM));
    let end = last(&ours).0.max(last(&pinned).0).max(100_000) / 5 * 6;

    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    // A white background: black text on a dark page would be invisible.
    root.fill(&WHITE)?;
    let ticks = [FROM, 1_000, 10_000, IDS];
    // Room for a line of text above the last id.
    let top = 2 * IDS;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Ids in use while cgroups are created, leave pages in swap, and are removed",
            ("sans-serif", 20),
        )
        .margin(10)
        .margin_right(30)
        .x_label_area_size(50)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (FROM..end).log_scale(),
            (FROM..top).log_scale().with_key_points(ticks.to_vec()),
        )?;
    // The lines come closer together up to each power of ten: so a logarithmic scale looks.
    let between = |end: u64| {
        (2..6)
            .flat_map(|power| (2..10).map(move |by| by * 10_u64.pow(power)))
            .filter(move |&n| n < end)
    };
    let tens = (2..6).map(|power| 10_u64.pow(power));
    let upright = |at, colour: RGBColor| PathElement::new([(at, FROM), (at, top)], colour);
    let across = |at, colour: RGBColor| PathElement::new([(FROM, at), (end, at)], colour);
    chart.draw_series(between(end).map(|at| upright(at, BETWEEN)))?;
    chart.draw_series(between(top).map(|at| across(at, BETWEEN)))?;
    chart.draw_series(tens.map(|at| upright(at, NUMBERED)))?;
    chart.draw_series(ticks.map(|at| across(at, NUMBERED)))?;
    let count = |n: &u64| crate::count(*n);
    chart
        .configure_mesh()
        .disable_mesh()
        .label_style(("sans-serif", 16))
        .x_desc("cgroups created")
        .x_label_formatter(&count)
        .y_desc("ids in use")
        .y_label_formatter(&count)
        .draw()?;

    let of_pinned = match failed {
        Some(created) => format!(
            "the kernel today, each record pins its cgroup: no id is left after {} cgroups",
            crate::count(created),
        ),
        None => "the kernel today, each record pins its cgroup".to_owned(),
    };
    let of_ours = "this crate, the parent inherits the records".to_owned();
    for (points, colour, text, of_text, level) in [
        (pinned, PINNED, of_pinned, PINNED_TEXT, IDS),
        (ours.clone(), OURS, of_ours, OURS, last(&ours).1),
    ] {
        let visible = points.into_iter().filter(|&(created, _)| created >= FROM);
        chart.draw_series(LineSeries::new(visible, colour.stroke_width(3)))?;
        // Right-aligned to the end of the plot, so that no part is cut off.
        let style = ("sans-serif", 16).into_font().color(&of_text);
        let style = style.pos(Pos::new(HPos::Right, VPos::Bottom));
        let text = EmptyElement::at((end, level)) + Text::new(text, (0, -6), style);
        chart.draw_series([text])?;
    }
    chart.draw_series(failed.map(|created| Circle::new((created, IDS), 5, PINNED.filled())))?;
    root.present()?;
    Ok(())
}
