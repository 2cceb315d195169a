//! `fluxrelay bench latency`: the open loop, and what it found.

use super::args::LatencyArgs;
use super::report::Report;
use super::system::Fluxrelay;
use crate::cli::exit::CliError;

/// Measures.
pub(super) async fn run(broker: &Fluxrelay, args: &LatencyArgs, quiet: bool) -> Result<Report, CliError> {
    let found = args.load.run(broker, quiet).await?;
    broker.leave(quiet)?;
    found.check()?;
    let mut report = Report::new("latency", args.load.json());
    report.times(["receipt p50", "receipt p99", "receipt p99.9", "receipt max"], found.receipt);
    report.times(["ack p50", "ack p99", "ack p99.9", "ack max"], found.ack);
    report.spent(&found.spent);
    report.note("open loop; all times from the intended send time; receipt: the plugin has the command");
    if found.refused > 0 {
        let refused = found.refused;
        report.note(format!("{refused} orders were refused: the rate is above what the broker takes"));
    }
    Ok(report)
}
