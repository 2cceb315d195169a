//! Curves: each figure against the load, the number of servers, and the size of the backlog, as SVG files for people and one
//! JSON file for programs.

mod chart;

use std::time::Duration;

use fluxrelay::cli::CliError;
use fluxrelay::load::{BacklogLoad, LatencyLoad, ThroughputLoad};
use serde_json::json;

use self::chart::{Panel, draw};
use crate::args::{Common, Curve, Mode, PlotArgs};
use crate::compare::{measure, print_json};
use crate::figures::Figures;
use crate::kind::Kind;
use crate::programs::Programs;
use crate::table::median;

/// A figure that is drawn: how it is headed, and what it is in a run's figures.
struct Drawn {
    title: &'static str,
    value: fn(&Figures) -> Option<f64>,
}

impl Curve {
    fn name(self) -> &'static str {
        match self {
            Curve::Latency => "latency",
            Curve::Servers => "servers",
            Curve::Backlog => "backlog",
        }
    }

    /// What the x axis counts.
    fn axis(self) -> &'static str {
        match self {
            Curve::Latency => "orders a second, 1,000 servers",
            Curve::Servers => "connected servers",
            Curve::Backlog => "commands that wait, 10,000 servers",
        }
    }

    fn points(self, most: u64) -> Vec<u64> {
        let all: &[u64] = match self {
            Curve::Latency => &[500, 1000, 2000, 5000, 10_000, 20_000, 40_000],
            Curve::Servers => &[100, 300, 1000, 3000, 10_000, 20_000],
            Curve::Backlog => &[10_000, 100_000, 1_000_000, 10_000_000],
        };
        all.iter().copied().filter(|point| *point <= most).collect()
    }

    fn mode(self, point: u64, duration: Duration) -> Mode {
        match self {
            Curve::Latency => Mode::Latency(LatencyLoad {
                servers: 1000,
                connections: 4,
                rate: point as u32,
                bytes: 128,
                duration,
            }),
            Curve::Servers => {
                let servers = point as u32;
                Mode::Throughput(ThroughputLoad {
                    servers,
                    connections: 4,
                    in_flight: 256,
                    bytes: 128,
                    duration,
                })
            }
            Curve::Backlog => Mode::Backlog(BacklogLoad {
                commands: point,
                servers: 10_000,
                connections: 4,
                in_flight: 1024,
                bytes: 128,
                per_order: 1,
            }),
        }
    }

    fn drawn(self) -> &'static [Drawn] {
        match self {
            Curve::Latency => &[
                Drawn { title: "receipt p50, ms", value: |figures| figures.value("receipt p50") },
                Drawn { title: "receipt p99, ms", value: |figures| figures.value("receipt p99") },
            ],
            Curve::Servers => &[
                Drawn { title: "completed commands/s", value: |figures| figures.value("completed") },
                Drawn { title: "the system's CPU for a command, us", value: cost },
            ],
            Curve::Backlog => &[
                Drawn {
                    title: "memory at rest, bytes a command",
                    value: |figures| figures.value("memory at rest"),
                },
                Drawn { title: "disk, bytes a command", value: |figures| figures.value("disk") },
                Drawn {
                    title: "ready after kill -9, s",
                    value: |figures| figures.value("ready after kill -9"),
                },
            ],
        }
    }
}

/// Microseconds of CPU for each completed command.
fn cost(figures: &Figures) -> Option<f64> {
    Some(figures.value("system cpu")? / figures.value("completed")? * 1e6)
}

/// Measures and draws: the files are written after each curve, so that a later one that fails takes nothing with it.
pub(crate) async fn run(args: &PlotArgs, common: &Common, programs: &Programs) -> Result<(), CliError> {
    let cannot = |error| CliError::local(format_args!("cannot write to {}", args.folder.display()), error);
    std::fs::create_dir_all(&args.folder).map_err(cannot)?;
    let mut document = serde_json::Map::new();
    for curve in &args.curves {
        let mut panels: Vec<Panel> = curve.drawn().iter().map(|drawn| panel(*curve, drawn)).collect();
        for point in curve.points(args.most) {
            let mode = curve.mode(point, Duration::from_secs(args.seconds));
            for (kind, runs) in runs(&mode, point, programs, common).await {
                for (panel, drawn) in panels.iter_mut().zip(curve.drawn()) {
                    if let Some(value) = median(runs.iter().filter_map(drawn.value).collect()) {
                        panel.add(kind, point, value);
                    }
                }
            }
        }
        panels.retain(|panel| !panel.lines.is_empty());
        if panels.is_empty() {
            continue;
        }
        draw(&args.folder.join(format!("{}.svg", curve.name())), &panels)?;
        document.insert(curve.name().to_owned(), panels.iter().map(Panel::json).collect());
        let text = format!("{:#}\n", serde_json::Value::Object(document.clone()));
        std::fs::write(args.folder.join("curves.json"), text).map_err(cannot)?;
    }
    if document.is_empty() {
        return Err(CliError::unexpected(format!("nothing was measured up to {}", args.most)));
    }
    if common.json {
        print_json(&document.into())?;
    }
    Ok(())
}

/// All rounds at one point, all systems in turns. A run that fails, or that the system did not keep up with, is said and
/// left out.
async fn runs(mode: &Mode, point: u64, programs: &Programs, common: &Common) -> Vec<(Kind, Vec<Figures>)> {
    let mut all: Vec<(Kind, Vec<Figures>)> = common.systems.iter().map(|kind| (*kind, Vec::new())).collect();
    for round in 1..=common.rounds {
        for (kind, runs) in &mut all {
            let what = format!("{} at {point}, {round} of {}: {}", mode.name(), common.rounds, kind.name());
            anstream::eprintln!("{what}");
            match measure(*kind, mode, programs, common).await {
                Ok(figures) if kept_up(mode, &figures) => runs.push(figures),
                Ok(_) => anstream::eprintln!("{what}: left out, it did not keep up"),
                Err(error) => anstream::eprintln!("{what}: left out: {}", error.message),
            }
        }
    }
    all
}

/// Whether every command came; and in an open loop, whether every order was taken, or else the times would be those of the rest.
fn kept_up(mode: &Mode, figures: &Figures) -> bool {
    let is_open_loop = matches!(mode, Mode::Latency(_));
    figures.is_without("missing") && (!is_open_loop || figures.is_without("publishes refused"))
}

fn panel(curve: Curve, drawn: &Drawn) -> Panel {
    Panel { title: drawn.title.to_owned(), x: curve.axis(), lines: Vec::new() }
}

impl Panel {
    /// Adds a point; one that is nothing, or beyond all bounds, has no place on a logarithmic axis.
    fn add(&mut self, kind: Kind, point: u64, value: f64) {
        if !value.is_finite() || value <= 0.0 {
            return;
        }
        let place = self.lines.iter().position(|(other, _)| *other == kind).unwrap_or_else(|| {
            self.lines.push((kind, Vec::new()));
            self.lines.len() - 1
        });
        self.lines[place].1.push((point as f64, value));
    }

    fn json(&self) -> serde_json::Value {
        let lines: serde_json::Map<_, _> =
            self.lines.iter().map(|(kind, points)| (kind.name().to_owned(), json!(points))).collect();
        json!({"figure": self.title, "against": self.x, "points": lines})
    }
}
