//! Reads the results of an earlier run from the tables that `--markdown` printed, as they stand in
//! `docs/benchmarks.md`.

use std::fs;
use std::path::Path;

use swap_records_benches::latency::QUANTILES;

use crate::bars::BARS;
use crate::report::{Amount, Report, Row};

/// Returns the rows and percentiles that a file has. Its other lines and tables are ignored.
pub(crate) fn read(file: &Path) -> Result<Report, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut report = Report::default();
    for (line, number) in text.lines().zip(1..) {
        add(&mut report, line).map_err(|error| format!("{}:{number}: {error}", file.display()))?;
    }
    if report.rows.is_empty() {
        return Err(format!(
            "{} has no row of a table that --markdown printed",
            file.display()
        ));
    }
    Ok(report)
}

/// Adds what a line of a table says, if it is one.
fn add(report: &mut Report, line: &str) -> Result<(), String> {
    let Some(cells) = line
        .trim()
        .strip_prefix('|')
        .and_then(|line| line.strip_suffix('|'))
    else {
        return Ok(());
    };
    let cells: Vec<_> = cells.split('|').map(str::trim).collect();
    let amount = |text: &str| {
        Amount::parse(text).ok_or_else(|| format!("\"{text}\" is not a number with a unit"))
    };
    match cells[..] {
        [name, _, value, _, ours, theirs] => {
            let name = name.trim_matches('`');
            let known = BARS
                .iter()
                .map(|&(name, _)| name)
                .find(|known| *known == name);
            // A row that was skipped has no value.
            let Some(name) = known.filter(|_| !value.is_empty()) else {
                return Ok(());
            };
            if report.row(name).is_some() {
                return Err(format!("{name} is there a second time"));
            }
            let theirs = Some(theirs).filter(|text| !text.is_empty());
            report.rows.push(Row {
                name,
                value: value
                    .parse()
                    .map_err(|error| format!("\"{value}\": {error}"))?,
                ours: amount(ours)?,
                theirs: theirs.map(amount).transpose()?,
            });
        }
        [name, ours, theirs] => {
            let quantiles = QUANTILES.iter().map(|&(name, _)| name);
            if let Some(name) = quantiles.into_iter().find(|known| *known == name) {
                report
                    .latencies
                    .push((name, amount(ours)?, amount(theirs)?));
            }
        }
        _ => {}
    }
    Ok(())
}
