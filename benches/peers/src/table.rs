//! A comparison: the figures of all runs, their medians, and fluxrelay's beside each peer's.

use std::io::Write;

use anstyle::Style;
use fluxrelay::cli::CliError;
use serde_json::{Map, Value, json};

use crate::args::Mode;
use crate::figures::{Figure, Figures};
use crate::kind::Kind;
use crate::programs::Programs;

const BOLD: Style = Style::new().bold();

/// What was measured of each system in one mode.
pub(crate) struct Comparison {
    mode: &'static str,
    settings: Value,
    systems: Vec<(Kind, Vec<Figures>)>,
}

impl Comparison {
    pub(crate) fn new(mode: &Mode, systems: &[Kind]) -> Comparison {
        let systems = systems.iter().map(|kind| (*kind, Vec::new())).collect();
        Comparison { mode: mode.name(), settings: mode.settings(), systems }
    }

    /// Adds a run.
    pub(crate) fn add(&mut self, kind: Kind, figures: Figures) {
        let of_kind = self.systems.iter_mut().find(|(other, _)| *other == kind);
        of_kind.expect("each system that is measured was named before").1.push(figures);
    }

    /// The figures of the table: those of the first run.
    fn rows(&self) -> Vec<&Figure> {
        let first = self.systems.iter().find_map(|(_, runs)| runs.first());
        first.map_or(Vec::new(), |figures| figures.0.iter().collect())
    }

    /// The values of one figure in all runs of a system.
    fn values(&self, kind: Kind, name: &str) -> Vec<f64> {
        let runs = self.systems.iter().filter(|(other, _)| *other == kind).flat_map(|(_, runs)| runs);
        runs.filter_map(|run| run.0.iter().find(|figure| figure.name == name))
            .map(|figure| figure.value)
            .collect()
    }

    /// fluxrelay's median divided by the peer's.
    fn ratio(&self, peer: Kind, name: &str) -> Option<f64> {
        let own = median(self.values(Kind::Fluxrelay, name))?;
        let other = median(self.values(peer, name))?;
        (peer != Kind::Fluxrelay && other > 0.0 && own > 0.0).then(|| own / other)
    }

    /// Prints medians with ratios, then every run, then what each system promises.
    pub(crate) fn print(&self, programs: &Programs) -> Result<(), CliError> {
        let mut out = anstream::stdout().lock();
        let rounds = self.systems.iter().map(|(_, runs)| runs.len()).max().unwrap_or(0);
        writeln!(
            out,
            "\n{BOLD}{}{BOLD:#}, medians of {rounds}; in parentheses fluxrelay's divided by it",
            self.mode
        )?;
        let mut headings = vec!["FIGURE".to_owned(), "UNIT".to_owned()];
        headings.extend(self.systems.iter().map(|(kind, _)| kind.name().to_uppercase()));
        let mut rows = Vec::new();
        for row in self.rows() {
            let mut cells = vec![row.name.to_owned(), row.unit.to_owned()];
            for (kind, _) in &self.systems {
                let ratio = self.ratio(*kind, row.name);
                let ratio = ratio.map(|ratio| format!(" ({})", number(ratio))).unwrap_or_default();
                let median = median(self.values(*kind, row.name)).map_or("-".to_owned(), number);
                cells.push(format!("{median}{ratio}"));
            }
            rows.push(cells);
        }
        lines(&mut out, &headings, &rows)?;
        if rounds > 1 {
            writeln!(out, "\n{BOLD}every run{BOLD:#}")?;
            let mut rows = Vec::new();
            for (row, (kind, _)) in
                self.rows().iter().flat_map(|row| self.systems.iter().map(move |s| (*row, s)))
            {
                let values: Vec<String> = self.values(*kind, row.name).into_iter().map(number).collect();
                rows.push(vec![row.name.to_owned(), kind.name().to_owned(), values.join(" / ")]);
            }
            lines(&mut out, &["FIGURE", "SYSTEM", "RUNS"].map(str::to_owned), &rows)?;
        }
        writeln!(out, "\n{BOLD}what an acknowledgement is worth{BOLD:#}")?;
        for (kind, _) in &self.systems {
            writeln!(out, "{} ({}): {}", kind.name(), programs.version(*kind), kind.promise())?;
        }
        Ok(())
    }

    /// As a document: settings, and for each system its runs, medians and ratios by name of the figure.
    pub(crate) fn json(&self) -> Value {
        let system = |(kind, runs): &(Kind, Vec<Figures>)| {
            let rows = self.rows();
            let medians =
                rows.iter().filter_map(|row| Some((key(row), json!(median(self.values(*kind, row.name))?))));
            let ratios = rows.iter().filter_map(|row| Some((key(row), json!(self.ratio(*kind, row.name)?))));
            let runs = runs.iter().map(|run| {
                Value::Object(run.0.iter().map(|figure| (key(figure), json!(figure.value))).collect())
            });
            let document = json!({
                "promise": kind.promise(),
                "runs": runs.collect::<Vec<Value>>(),
                "medians": medians.collect::<Map<String, Value>>(),
                "fluxrelay_divided_by_it": ratios.collect::<Map<String, Value>>(),
            });
            (kind.name().to_owned(), document)
        };
        let systems: Map<String, Value> = self.systems.iter().map(system).collect();
        json!({"mode": self.mode, "settings": self.settings, "systems": systems})
    }
}

/// Writes a table whose columns are as wide as their widest cells.
fn lines(out: &mut impl Write, headings: &[String], rows: &[Vec<String>]) -> std::io::Result<()> {
    let all = || std::iter::once(headings).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| all().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    for (place, row) in all().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<width$}", width = width(column)))
            .collect();
        let style = if place == 0 { BOLD } else { Style::new() };
        writeln!(out, "{style}{}{style:#}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// The middle one, or the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Three digits that matter, thousands apart.
fn number(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 100.0 {
        return format!("{value:.decimals$}", decimals = if value.abs() < 10.0 { 2 } else { 1 });
    }
    let digits = format!("{:.0}", value.abs());
    let groups: Vec<String> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| group.iter().copied().map(char::from).collect())
        .collect();
    format!("{}{}", if value < 0.0 { "-" } else { "" }, groups.join(","))
}

/// A figure's name as a key, for example `completed_commands_per_s`.
fn key(figure: &Figure) -> String {
    let words = format!("{} {}", figure.name, figure.unit.replace('/', "_per_"));
    words.replace(", ", "_").replace([' ', '-', '.'], "_").trim_matches('_').to_lowercase()
}

#[cfg(test)]
mod tests {
    use fluxrelay::load::ThroughputLoad;

    use super::*;

    fn run(per_second: f64) -> Figures {
        Figures(vec![Figure { name: "completed", unit: "commands/s", value: per_second }])
    }

    #[test]
    fn medians_and_ratios() {
        let kinds = [Kind::Fluxrelay, Kind::Redis];
        let mut comparison = Comparison::new(&Mode::Throughput(ThroughputLoad::tiny()), &kinds);
        for (own, other) in [(30.0, 10.0), (10.0, 30.0), (20.0, 40.0)] {
            comparison.add(Kind::Fluxrelay, run(own));
            comparison.add(Kind::Redis, run(other));
        }
        let document = comparison.json();
        assert_eq!(document["systems"]["redis"]["medians"]["completed_commands_per_s"], 30.0);
        assert_eq!(
            document["systems"]["redis"]["fluxrelay_divided_by_it"]["completed_commands_per_s"],
            20.0 / 30.0
        );
        assert_eq!(document["systems"]["fluxrelay"]["runs"].as_array().map(Vec::len), Some(3));
        assert_eq!((median(vec![]), median(vec![4.0, 1.0])), (None, Some(2.5)));
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [1_234_567.0, 0.347, 12.34, 12.0, 999.6].map(number),
            ["1,234,567", "0.35", "12.3", "12", "1,000"]
        );
    }

    #[test]
    fn names_become_keys() {
        let figure = |name, unit| key(&Figure { name, unit, value: 0.0 });
        assert_eq!(
            figure("drained, logins included", "commands/s"),
            "drained_logins_included_commands_per_s"
        );
        assert_eq!(figure("ack p99.9", "ms"), "ack_p99_9_ms");
        assert_eq!(figure("publishes refused", ""), "publishes_refused");
    }
}
