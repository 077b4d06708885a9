//! Ids in use by the number of cgroups that were created, as a line on logarithmic scales.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 48.0;
const OURS: &str = "#1b6ca8";
const PINNED: &str = "#c9773b";
/// Where the scales begin.
const FROM: (f64, f64) = (100.0, 100.0);

/// Points `(cgroups created, ids in use)`, some for each tenth more cgroups.
#[derive(Debug, Default)]
pub(crate) struct Curve {
    points: Mutex<Vec<(u64, u64)>>,
    next: AtomicU64,
}

impl Curve {
    /// Whether it is time for a point.
    pub(crate) fn wants(&self, created: u64) -> bool {
        created >= self.next.load(Relaxed)
    }

    pub(crate) fn add(&self, created: u64, ids: u64) {
        self.next.store(created + created / 20 + 1, Relaxed);
        let mut points = self.points.lock().expect("no thread panics with it");
        points.push((created, ids));
    }

    /// By the number of cgroups.
    fn sorted(&self) -> Vec<(u64, u64)> {
        let mut points = self
            .points
            .lock()
            .expect("no thread panics with it")
            .clone();
        points.sort_unstable();
        points
    }

    /// The most ids of any point.
    pub(crate) fn most(&self) -> u64 {
        self.sorted().iter().map(|&(_, ids)| ids).max().unwrap_or(0)
    }
}

/// Both in one plot, and where creation failed.
pub(crate) fn draw(ours: &Curve, pinned: &Curve, failed: Option<u64>) -> String {
    let (ours, pinned) = (ours.sorted(), pinned.sorted());
    let last = ours
        .iter()
        .chain(&pinned)
        .map(|&(created, _)| created)
        .max();
    let end = (last.unwrap_or(0).max(100_000) as f64 * 1.2, 131_072.0);
    let part = |n: f64, from: f64, end: f64| (n.max(from) / from).ln() / (end / from).ln();
    let x = |n: f64| LEFT + part(n, FROM.0, end.0) * (WIDTH - LEFT - RIGHT);
    let y = |n: f64| HEIGHT - BOTTOM - part(n, FROM.1, end.1) * (HEIGHT - TOP - BOTTOM);
    let mut svg = String::new();
    // Writing to a string does not fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(svg, "{text}");
    };
    line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"22\" font-size=\"16\">Ids in use, as cgroups live, leave some pages in swap, \
         and die</text>"
    ));
    let legend = [
        (8.0, OURS, "the parent inherits the records (this crate)"),
        (320.0, PINNED, "a record pins its cgroup (the kernel today)"),
    ];
    for (at, colour, text) in legend {
        line(format_args!(
            "<rect x=\"{at}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"45\">{text}</text>",
            at + 18.0,
        ));
    }
    let grid = |text: String, x1: f64, y1: f64, x2: f64, y2: f64| {
        let (anchor, at_x, at_y) = if x1 < x2 {
            ("end", x1 - 6.0, y1 + 4.0)
        } else {
            ("middle", x1, y1 + 17.0)
        };
        format!(
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{at_x:.1}\" y=\"{at_y:.1}\" text-anchor=\"{anchor}\" fill=\"#666666\">{text}</text>"
        )
    };
    let (floor, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let decades = |end: f64| {
        let powers = (2..).map(|power| 10_f64.powi(power));
        powers.take_while(move |&n| n <= end)
    };
    for n in decades(end.0) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a power of ten"
        )]
        let text = crate::count(n as u64);
        line(format_args!("{}", grid(text, x(n), floor, x(n), TOP)));
    }
    for n in [100_u32, 1_000, 10_000, 65_535] {
        let at = y(n.into());
        let text = crate::count(n.into());
        line(format_args!("{}", grid(text, LEFT, at, right, at)));
    }
    line(format_args!(
        "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">cgroups created</text>",
        HEIGHT - 10.0,
    ));
    for (points, colour) in [(&pinned, PINNED), (&ours, OURS)] {
        let visible = points
            .iter()
            .filter(|&&(created, _)| created as f64 >= FROM.0);
        let points: Vec<_> = visible
            .map(|&(created, ids)| format!("{:.1},{:.1}", x(created as f64), y(ids as f64)))
            .collect();
        line(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>",
            points.join(" "),
        ));
    }
    if let Some(created) = failed {
        let (at_x, at_y) = (x(created as f64), y(65_535.0));
        line(format_args!(
            "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"5\" fill=\"{PINNED}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">no id left: creation fails after {} cgroups</text>",
            at_x + 10.0,
            at_y + 18.0,
            crate::count(created),
        ));
    }
    line(format_args!("</svg>"));
    svg
}
