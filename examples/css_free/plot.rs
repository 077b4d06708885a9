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
    let ticks = vec![FROM, 1_000, 10_000, IDS];
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Ids in use, as cgroups live, leave some pages in swap, and die",
            ("sans-serif", 20),
        )
        .margin(10)
        .margin_right(30)
        .x_label_area_size(50)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (FROM..end).log_scale(),
            // Room for a line of text above the last id.
            (FROM..2 * IDS).log_scale().with_key_points(ticks),
        )?;
    let count = |n: &u64| crate::count(*n);
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .label_style(("sans-serif", 16))
        .x_desc("cgroups created (logarithmic scale)")
        .x_label_formatter(&count)
        .y_desc("ids in use (logarithmic scale)")
        .y_label_formatter(&count)
        .draw()?;

    let of_pinned = match failed {
        Some(created) => format!(
            "a record pins its cgroup (the kernel today): no id is left after {} cgroups",
            crate::count(created),
        ),
        None => "a record pins its cgroup (the kernel today)".to_owned(),
    };
    let of_ours = "the parent inherits the records (this crate)".to_owned();
    for (points, colour, text, level) in [
        (pinned, PINNED, of_pinned, IDS),
        (ours.clone(), OURS, of_ours, last(&ours).1),
    ] {
        let visible = points.into_iter().filter(|&(created, _)| created >= FROM);
        chart.draw_series(LineSeries::new(visible, colour.stroke_width(3)))?;
        // Right-aligned to the end of the plot, so that no part is cut off.
        let style = ("sans-serif", 16).into_font().color(&colour);
        let style = style.pos(Pos::new(HPos::Right, VPos::Bottom));
        let text = EmptyElement::at((end, level)) + Text::new(text, (0, -6), style);
        chart.draw_series([text])?;
    }
    chart.draw_series(failed.map(|created| Circle::new((created, IDS), 5, PINNED.filled())))?;
    root.present()?;
    Ok(())
}
