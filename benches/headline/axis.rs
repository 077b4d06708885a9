//! The scale of a plot: linear from 0, or logarithmic where the amounts differ by more than a factor of ten.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::Ranged;

use crate::report::Amount;

/// The most labels of a linear axis, without that of 0.
const LABELS: usize = 6;

/// The scale of the amounts of one plot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    /// Any of the amounts: its kind is that of the axis.
    sample: Amount,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// Makes an axis for amounts from `least` to `most`, which are more than 0.
    pub(crate) fn new(sample: Amount, least: f64, most: f64) -> Self {
        let logarithmic = most > 10.0 * least;
        Self {
            sample,
            logarithmic,
            // The shortest bar is still visible: 0 is infinitely far away on a logarithmic axis.
            from: if logarithmic { least / 2.0 } else { 0.0 },
            to: most,
        }
    }

    /// Returns where the axis begins.
    pub(crate) fn from(self) -> f64 {
        self.from
    }

    /// Formats a number of the axis.
    pub(crate) fn label(self, number: f64) -> String {
        self.sample.with_number(number).short()
    }

    /// Returns the numbers that have a label: the powers of ten, or steps of 1, 2 or 5 times one.
    pub(crate) fn labelled(self) -> Vec<f64> {
        if self.logarithmic {
            return self.multiples(&[1.0]);
        }
        let steps = self
            .powers()
            .flat_map(|power| [1.0, 2.0, 5.0].map(|by| by * power));
        let enough = |step: &f64| self.to / step <= LABELS as f64;
        let step = steps.into_iter().find(enough).unwrap_or(self.to);
        let numbers = (0..=LABELS).map(|times| times as f64 * step);
        numbers.filter(|&number| number <= self.to).collect()
    }

    /// Returns where the lines between the labels are. On a logarithmic axis they come closer together up to
    /// each power of ten, so that it is seen to be one.
    pub(crate) fn between(self) -> Vec<f64> {
        if self.logarithmic {
            self.multiples(&[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])
        } else {
            Vec::new()
        }
    }

    /// Returns these multiples of all powers of ten, as far as the axis has them.
    fn multiples(self, by: &[f64]) -> Vec<f64> {
        let numbers = self
            .powers()
            .flat_map(|power| by.iter().map(move |by| by * power));
        numbers
            .filter(|number| (self.from..=self.to).contains(number))
            .collect()
    }

    fn powers(self) -> impl Iterator<Item = f64> {
        (-12..=15).map(move |power| self.sample.unit() * 10_f64.powi(power))
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, &number: &f64, pixels: (i32, i32)) -> i32 {
        let part = if self.logarithmic {
            (number.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            number / self.to
        };
        RangedCoordf64::from(0.0..1.0).map(&part, pixels)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.labelled()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}
