//! What a measurement found: named figures, as a table for people or JSON for scripts.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::cli::output::{self, BOLD, Cell, styled};

/// Figures of one mode.
pub(super) struct Report {
    mode: &'static str,
    settings: Value,
    figures: Vec<(&'static str, f64, &'static str)>,
    notes: Vec<String>,
}

impl Report {
    /// An empty report on a mode, with the settings it ran with.
    pub(super) fn new(mode: &'static str, settings: Value) -> Report {
        Report { mode, settings, figures: Vec::new(), notes: Vec::new() }
    }

    /// Adds a figure: name in words, value, unit.
    pub(super) fn figure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.figures.push((name, value, unit));
    }

    /// Adds p50, p99, p99.9 and the maximum of times in nanoseconds, in milliseconds.
    pub(super) fn times(&mut self, names: [&'static str; 4], times: &Histogram<u64>) {
        let values = [
            times.value_at_quantile(0.5),
            times.value_at_quantile(0.99),
            times.value_at_quantile(0.999),
            times.max(),
        ];
        for (name, nanoseconds) in names.into_iter().zip(values) {
            self.figure(name, nanoseconds as f64 / 1e6, "ms");
        }
    }

    /// Adds what a reader must know to judge the figures.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// As a JSON document: figures by name with underscores and unit, for example `publish_ack_p50_ms`.
    pub(super) fn json(&self) -> Value {
        let figures: Map<String, Value> = self
            .figures
            .iter()
            .map(|(name, value, unit)| (key(name, unit), json!((value * 1000.0).round() / 1000.0)))
            .collect();
        json!({"mode": self.mode, "settings": self.settings, "figures": figures, "notes": self.notes})
    }

    /// Prints it as a table.
    pub(super) fn print(&self) -> std::io::Result<()> {
        output::line(styled(BOLD, format_args!("\n{}", self.mode)))?;
        let rows: Vec<Vec<Cell>> = self
            .figures
            .iter()
            .map(|(name, value, unit)| {
                vec![Cell::new(name), Cell::right(number(*value), 12), Cell::new(unit)]
            })
            .collect();
        output::table(&["FIGURE", "       VALUE", "UNIT"], &rows)?;
        for note in &self.notes {
            output::line(format_args!("note: {note}"))?;
        }
        Ok(())
    }
}

/// A histogram for times from 1 us to a minute, in nanoseconds, three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}

/// Notes a time; one over the histogram's bound counts as the bound.
pub(super) fn note_time(times: &mut Histogram<u64>, time: Duration) {
    times.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

/// The time, in seconds, within which this share of rising times lies; 0 when there are none.
pub(super) fn seconds_at(rising: &[Duration], share: f64) -> f64 {
    let count = (share * rising.len() as f64).ceil() as usize;
    rising.get(count.saturating_sub(1)).map_or(0.0, Duration::as_secs_f64)
}

fn key(name: &str, unit: &str) -> String {
    let unit = unit.replace('/', "_per_").replace('%', "percent");
    let words = format!("{name} {unit}").replace([' ', '-', '.'], "_");
    words.trim_matches('_').to_lowercase()
}

/// Three digits that matter, thousands apart.
fn number(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{:.0}", value.abs());
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    format!("{}{}", if value < 0.0 { "-" } else { "" }, groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(0.3456), "0.346");
        assert_eq!(number(12.0), "12");
        assert_eq!(number(999.6), "1,000");
    }

    #[test]
    fn names_become_keys() {
        assert_eq!(key("publish ack p99.9", "ms"), "publish_ack_p99_9_ms");
        assert_eq!(key("completed", "commands/s"), "completed_commands_per_s");
    }

    #[test]
    fn shares_of_times() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_secs).collect();
        assert_eq!((seconds_at(&times, 0.5), seconds_at(&times, 0.99)), (100.0, 198.0));
        assert_eq!((seconds_at(&times, 1.0), seconds_at(&times, 0.0)), (200.0, 1.0));
        assert_eq!(seconds_at(&[], 0.5), 0.0);
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut times = histogram();
        (1..=1000).for_each(|ms| note_time(&mut times, Duration::from_millis(ms)));
        let mut report = Report::new("latency", json!({}));
        report.times(["p50", "p99", "p99.9", "max"], &times);
        let figures = report.json()["figures"].clone();
        assert!((figures["p50_ms"].as_f64().expect("a number") - 500.0).abs() < 1.0);
        assert!((figures["p99_ms"].as_f64().expect("a number") - 990.0).abs() < 1.0);
    }
}
