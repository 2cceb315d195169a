//! Panels side by side in one SVG: a line for each system, logarithmic both ways, so that ratios are distances.

use std::ops::Range;
use std::path::Path;

use fluxrelay::cli::CliError;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

use crate::kind::Kind;

const PANEL: (u32, u32) = (440, 330);
const FONT: &str = "sans-serif";
/// What is beside a panel's lines, so that none touches the frame.
const ROOM: f64 = 1.25;
/// What is above them for the names of the systems, as a share of the axis.
const ROOM_FOR_NAMES: f64 = 0.35;

/// A panel: what stands on its axes, and a line for each system.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) x: &'static str,
    pub(super) lines: Vec<(Kind, Vec<(f64, f64)>)>,
}

/// Draws them into a file.
pub(super) fn draw(file: &Path, panels: &[Panel]) -> Result<(), CliError> {
    let failed = |error: &dyn std::fmt::Display| {
        CliError::local(format_args!("cannot draw {}", file.display()), error)
    };
    let size = (PANEL.0 * panels.len() as u32, PANEL.1);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    for (panel, area) in panels.iter().zip(root.split_evenly((1, panels.len()))) {
        draw_panel(panel, &area).map_err(|error| failed(&error))?;
    }
    root.present().map_err(|error| failed(&error))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

fn draw_panel(panel: &Panel, area: &Area<'_>) -> Drawn<()> {
    let points = || panel.lines.iter().flat_map(|(_, points)| points);
    let (Some(xs), Some(ys)) = (range(points().map(|point| point.0)), range(points().map(|point| point.1)))
    else {
        return Ok(());
    };
    let ys = ys.start..ys.end * (ys.end / ys.start).powf(ROOM_FOR_NAMES);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 17))
        .margin(10)
        .x_label_area_size(38)
        .y_label_area_size(54)
        .build_cartesian_2d(Decades(xs), Decades(ys))?;
    chart
        .configure_mesh()
        .x_desc(panel.x)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .label_style((FONT, 13))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .draw()?;
    for (kind, points) in &panel.lines {
        let color = color(*kind);
        let line = LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3);
        chart
            .draw_series(line)?
            .label(kind.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font((FONT, 13))
        .legend_area_size(20)
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

fn color(kind: Kind) -> RGBColor {
    match kind {
        Kind::Fluxrelay => RGBColor(0, 90, 181),
        Kind::Redis => RGBColor(200, 50, 40),
        Kind::Postgres => RGBColor(70, 130, 70),
        Kind::Nats => RGBColor(150, 90, 170),
        Kind::Beanstalkd => RGBColor(150, 120, 50),
        Kind::Bare => RGBColor(130, 130, 130),
    }
}

/// From a little below the least to a little above the greatest; `None` of nothing. What is 0 has no place on such an axis.
fn range(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let bounds = values.filter(|value| *value > 0.0).fold(None, |bounds: Option<(f64, f64)>, value| {
        let (least, greatest) = bounds.unwrap_or((value, value));
        Some((least.min(value), greatest.max(value)))
    });
    bounds.map(|(least, greatest)| least / ROOM..greatest * ROOM)
}

/// A logarithmic axis, marked at 1, 2 and 5 of each decade, or at each power of ten when there are many.
struct Decades(Range<f64>);

impl Ranged for Decades {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let share = (value.max(f64::MIN_POSITIVE) / self.0.start).ln() / (self.0.end / self.0.start).ln();
        low + (share * f64::from(high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        marks(&self.0)
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

fn marks(range: &Range<f64>) -> Vec<f64> {
    let (first, last) = (range.start.log10().floor() as i32, range.end.log10().ceil() as i32);
    let of_decade: &[f64] = if last - first > 4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = (first..=last).flat_map(|decade| of_decade.iter().map(move |digit| digit * 10f64.powi(decade)));
    all.filter(|mark| range.contains(mark)).collect()
}

/// 20, 5 k, 10 M, 0.5.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        1e6.. => (value / 1e6, " M"),
        1e3.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    // What a power of ten has left behind its last digit is not worth showing.
    format!("{}{unit}", (value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_readable_marks() {
        assert_eq!(marks(&(0.3..25.0)), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(marks(&(50.0..2e7)), [100.0, 1e3, 1e4, 1e5, 1e6, 1e7]);
        assert_eq!([0.5, 20.0, 5e3, 1e7].map(short), ["0.5", "20", "5 k", "10 M"]);
        assert_eq!(range([0.0, 4.0, 100.0].into_iter()), Some(3.2..125.0));
        assert_eq!(range([0.0].into_iter()), None);
    }

    #[test]
    fn a_panel_has_a_line_for_each_system() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let line = |factor: f64| vec![(100.0, factor), (1000.0, 10.0 * factor)];
        let lines = vec![(Kind::Fluxrelay, line(1.0)), (Kind::Redis, line(3.0))];
        let panel = |title: &str, lines| Panel { title: title.into(), x: "servers", lines };
        let panels = [panel("cost, us", lines), panel("nothing was measured", Vec::new())];
        draw(file.path(), &panels).expect("drawn");
        let drawn = std::fs::read_to_string(file.path()).expect("an SVG");
        for words in ["<svg", "cost, us", "servers", "fluxrelay", "redis", "</svg>"] {
            assert!(drawn.contains(words), "{words} is missing in {drawn}");
        }
    }
}
