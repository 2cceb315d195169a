//! `fluxrelay bench throughput`: the closed loop, and what it found.

use super::args::ThroughputArgs;
use super::report::Report;
use super::system::Fluxrelay;
use crate::cli::exit::CliError;

/// Measures; all figures are of the span after the warm-up.
pub(super) async fn run(broker: &Fluxrelay, args: &ThroughputArgs, quiet: bool) -> Result<Report, CliError> {
    let found = args.load.run(broker, quiet).await?;
    broker.leave(quiet)?;
    found.check()?;
    let mut report = Report::new("throughput", args.load.json());
    report.figure("completed", found.per_second, "commands/s");
    report.figure("mean time in flight", found.mean_time().as_secs_f64() * 1000.0, "ms");
    report.spent(&found.spent);
    report
        .note("in flight: until the publish is acknowledged as durable and the command was run and reported");
    report.note("counted: results that the broker has confirmed as durable");
    Ok(report)
}
