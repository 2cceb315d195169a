//! What logged-in plugins cost while they have nothing to do: the broker's memory for each, and its CPU for all.
//!
//! Memory is what the broker's whole process has grown by: connection, session, engine, allocator. What a registered
//! server costs without a connection is there before.

use std::time::Duration;

use serde_json::json;

use super::args::IdleArgs;
use super::broker::Broker;
use super::fleet::{self, Registered};
use super::metrics::Metrics;
use super::report::Report;
use crate::cli::exit::CliError;
use crate::cli::{clock, output};
use crate::client::{DeliveredCommand, Report as Outcome};
use crate::limits::WINDOW_MAX;
use crate::load::{Usage, usage};

/// Measures.
pub(super) async fn run(
    broker: &Broker,
    servers: Vec<Registered>,
    args: &IdleArgs,
    quiet: bool,
) -> Result<Report, CliError> {
    let progress = output::spinner("measuring the broker without connections", quiet);
    let (before, cpu_before) = at_rest(broker, args.duration).await?;
    progress.finish_and_clear();
    let own_before = usage(std::process::id());
    let started = clock::now();
    // Nothing is published, so nothing is ever run.
    let handler = || |_: Vec<DeliveredCommand>, _: &mut Vec<Outcome>| {};
    let plugins = fleet::connect(broker, &servers, WINDOW_MAX, quiet, handler).await?;
    let connecting = started.elapsed();
    let progress = output::spinner("measuring idle plugins", quiet);
    let (after, cpu) = at_rest(broker, args.duration).await?;
    progress.finish_and_clear();
    let own_after = usage(std::process::id());
    let metrics = tokio::task::block_in_place(|| Metrics::read(&broker.rest()?))?;
    let sessions = metrics.value("fluxrelay_plugin_sessions")?;
    if sessions != plugins.len() as f64 {
        return Err(CliError::unexpected(format!(
            "of {} plugins {sessions} are still connected",
            plugins.len()
        )));
    }
    let count = plugins.len() as f64;
    let grown = |before: Usage, after: Usage| after.rss.saturating_sub(before.rss) as f64 / count;
    let mut report = Report::new("idle", settings(args));
    report.figure("memory", grown(before, after), "bytes/connection");
    report.figure("broker memory before", before.rss as f64 / 1048576.0, "MiB");
    report.figure("broker memory", after.rss as f64 / 1048576.0, "MiB");
    report.figure("broker cpu without connections", cpu_before, "cores");
    report.figure("broker cpu", cpu, "cores");
    report.figure("connected", count / connecting.as_secs_f64(), "logins/s");
    if let (Some(before), Some(after)) = (own_before, own_after) {
        report.figure("load generator memory", grown(before, after), "bytes/connection");
    }
    report
        .note("memory: what the broker's process has grown by, the sockets' buffers in the kernel left out");
    report.note("the servers were registered before, so what they cost without a connection is left out");
    Ok(report)
}

/// The broker's memory after a time of rest, in which the allocator gives back what was used for a moment only; and its
/// CPU meanwhile.
async fn at_rest(broker: &Broker, time: Duration) -> Result<(Usage, f64), CliError> {
    let unknown = || CliError::unexpected("this system does not say what the broker uses (no /proc)");
    let (before, started) = (broker.usage().ok_or_else(unknown)?, clock::now());
    tokio::time::sleep(time).await;
    let (after, seconds) = (broker.usage().ok_or_else(unknown)?, started.elapsed().as_secs_f64());
    Ok((after, (after.cpu - before.cpu).as_secs_f64() / seconds))
}

fn settings(args: &IdleArgs) -> serde_json::Value {
    json!({"servers": args.servers, "tls": args.tls, "seconds": args.duration.as_secs_f64()})
}
