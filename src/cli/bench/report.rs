//! What a measurement found: named figures, as a table for people or JSON for scripts.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cli::exit::CliError;
use crate::cli::output::{self, BOLD, Cell, styled};
use crate::load::{Quantiles, Spent};

/// Figures of one mode.
pub(super) struct Report {
    mode: &'static str,
    settings: Value,
    figures: Vec<(&'static str, f64, &'static str)>,
    notes: Vec<String>,
    failure: Option<CliError>,
}

impl Report {
    /// An empty report on a mode, with the settings it ran with.
    pub(super) fn new(mode: &'static str, settings: Value) -> Report {
        Report { mode, settings, figures: Vec::new(), notes: Vec::new(), failure: None }
    }

    /// Adds a figure: name in words, value, unit.
    pub(super) fn figure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.figures.push((name, value, unit));
    }

    /// Adds p50, p99, p99.9 and the maximum of times, in milliseconds.
    pub(super) fn times(&mut self, names: [&'static str; 4], times: Quantiles) {
        let values = [times.p50, times.p99, times.p999, times.max];
        for (name, time) in names.into_iter().zip(values) {
            self.figure(name, time.as_secs_f64() * 1000.0, "ms");
        }
    }

    /// Adds the CPU of a span, the broker's and the load generator's, and the broker's memory after it.
    pub(super) fn spent(&mut self, spent: &Spent) {
        if let Some(broker) = spent.system {
            self.figure("broker cpu", broker.cores, "cores");
            self.figure("broker memory", broker.rss as f64 / 1048576.0, "MiB");
        }
        if let Some(cores) = spent.own_cores {
            self.figure("load generator cpu", cores, "cores");
        }
    }

    /// Adds what a reader must know to judge the figures.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// What was measured breaks a promise: the command ends with this, after it has said what it found.
    pub(super) fn fail(&mut self, failure: CliError) {
        self.failure = Some(failure);
    }

    /// What it failed with, once.
    pub(super) fn take_failure(&mut self) -> Option<CliError> {
        self.failure.take()
    }

    /// As a JSON document: figures by name with underscores and unit, for example `publish_ack_p50_ms`; with `failure` in words
    /// if it failed.
    pub(super) fn json(&self) -> Value {
        let figures: Map<String, Value> = self
            .figures
            .iter()
            .map(|(name, value, unit)| (key(name, unit), json!((value * 1000.0).round() / 1000.0)))
            .collect();
        let failure = self.failure.as_ref().map(|failure| &failure.message);
        let mut report =
            json!({"mode": self.mode, "settings": self.settings, "figures": figures, "notes": self.notes});
        if let Some(failure) = failure {
            report["failure"] = json!(failure);
        }
        report
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
    fn a_failure_is_told_beside_the_figures() {
        let mut report = Report::new("crash", json!({}));
        report.figure("missing", 3.0, "commands");
        assert_eq!(report.json().get("failure"), None);
        report.fail(CliError::unexpected("3 are missing"));
        assert_eq!(report.json()["failure"], "3 are missing");
        assert_eq!(report.json()["figures"]["missing_commands"], 3.0);
        assert_eq!(report.take_failure().map(|failure| failure.message), Some("3 are missing".into()));
    }

    #[test]
    fn shares_of_times() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_secs).collect();
        assert_eq!((seconds_at(&times, 0.5), seconds_at(&times, 0.99)), (100.0, 198.0));
        assert_eq!((seconds_at(&times, 1.0), seconds_at(&times, 0.0)), (200.0, 1.0));
        assert_eq!(seconds_at(&[], 0.5), 0.0);
    }
}
