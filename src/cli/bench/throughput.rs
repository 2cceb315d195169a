//! Closed loop: so many orders in flight on each connection, each replaced when its publish is acknowledged and its
//! command has arrived, been run and reported.
//!
//! What is counted is the broker's confirmation that a result is durable, not the moment in which the plugin ran it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;

use super::args::ThroughputArgs;
use super::broker::{Broker, usage};
use super::fleet::{self, Registered};
use super::report::Report;
use super::text;
use crate::cli::exit::CliError;
use crate::cli::{clock, output};
use crate::client::{DeliveredCommand, Order, PluginHandler, PublisherClient, Report as Outcome, Servers};
use crate::ids::Seq;

/// How long the last orders may take once no more are sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What the loops share.
struct Shared {
    /// One for each order in flight: told when its command has run.
    slots: Vec<Notify>,
    completed: AtomicU64,
    acknowledged: AtomicU64,
    ran: AtomicU64,
    stop: AtomicBool,
}

/// A game server that runs everything at once.
struct Runner {
    shared: Arc<Shared>,
}

impl PluginHandler for Runner {
    fn run(&mut self, commands: Vec<DeliveredCommand>, reports: &mut Vec<Outcome>) {
        self.shared.ran.fetch_add(commands.len() as u64, Ordering::Relaxed);
        for command in commands {
            let slot = text::number(&command.text);
            reports.push(command.completed(None));
            if let Some(slot) = slot.and_then(|slot| self.shared.slots.get(slot as usize)) {
                slot.notify_one();
            }
        }
    }

    fn confirmed(&mut self, commands: &[Seq]) {
        self.shared.completed.fetch_add(commands.len() as u64, Ordering::Relaxed);
    }
}

/// Measures; all figures are of the span after the warm-up.
pub(super) async fn run(
    broker: &Broker,
    servers: Vec<Registered>,
    args: &ThroughputArgs,
    quiet: bool,
) -> Result<Report, CliError> {
    let servers: Arc<[Registered]> = servers.into();
    let in_flight = (args.connections * args.in_flight) as usize;
    let slots = (0..in_flight).map(|_| Notify::new()).collect();
    let shared = Arc::new(Shared {
        slots,
        completed: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        ran: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let runner = || Runner { shared: Arc::clone(&shared) };
    let plugins = fleet::connect(broker, &servers, quiet, runner).await?;
    let publishers = fleet::publishers(broker, args.connections, args.in_flight).await?;
    let mut loops = tokio::task::JoinSet::new();
    for slot in 0..in_flight {
        let publisher = publishers[slot % publishers.len()].clone();
        let bytes = args.bytes as usize;
        loops.spawn(closed_loop(Arc::clone(&shared), publisher, Arc::clone(&servers), slot, bytes));
    }
    let progress = output::spinner("measuring", quiet);
    tokio::time::sleep(args.duration / 4).await;
    let (started, before) = (clock::now(), shared.completed.load(Ordering::Relaxed));
    let (broker_before, own_before) = (broker.usage(), usage(std::process::id()));
    tokio::time::sleep(args.duration).await;
    let (seconds, after) = (started.elapsed().as_secs_f64(), shared.completed.load(Ordering::Relaxed));
    let (broker_after, own_after) = (broker.usage(), usage(std::process::id()));
    shared.stop.store(true, Ordering::Relaxed);
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
        while loops.join_next().await.is_some() {}
        while shared.completed.load(Ordering::Relaxed) < shared.acknowledged.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    progress.finish_and_clear();
    if drained.is_err() {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (acknowledged, ran) = (count(&shared.acknowledged), count(&shared.ran));
        let (left, completed) = (loops.len(), count(&shared.completed));
        return Err(CliError::unexpected(format!(
            "{left} orders did not end: {acknowledged} acknowledged, {ran} run, {completed} completed"
        )));
    }
    drop(plugins);
    if broker.usage().is_none() {
        fleet::remove(&broker.rest()?, &servers, quiet)?;
    }
    let mut report = Report::new("throughput", settings(args));
    let per_second = (after - before) as f64 / seconds;
    report.figure("completed", per_second, "commands/s");
    report.figure("mean time in flight", in_flight as f64 / per_second * 1000.0, "ms");
    if let (Some(before), Some(after)) = (broker_before, broker_after) {
        report.figure("broker cpu", (after.cpu - before.cpu).as_secs_f64() / seconds, "cores");
        report.figure("broker memory", after.rss as f64 / 1048576.0, "MiB");
    }
    if let (Some(before), Some(after)) = (own_before, own_after) {
        report.figure("load generator cpu", (after.cpu - before.cpu).as_secs_f64() / seconds, "cores");
    }
    report
        .note("in flight: until the publish is acknowledged as durable and the command was run and reported");
    report.note("counted: results that the broker has confirmed as durable");
    Ok(report)
}

async fn closed_loop(
    shared: Arc<Shared>,
    publisher: PublisherClient,
    servers: Arc<[Registered]>,
    slot: usize,
    bytes: usize,
) {
    // One for all rounds: what is measured is not how orders are made.
    let mut order = Order::one(Servers::All, text::numbered(slot as u64, bytes));
    let mut round = slot as u64;
    while !shared.stop.load(Ordering::Relaxed) {
        round = round.wrapping_add(shared.slots.len() as u64);
        let server = &servers[text::spread(round, servers.len())];
        order.commands[0].servers = Servers::One(server.id);
        match publisher.publish(&order).await {
            Ok(_) => drop(shared.acknowledged.fetch_add(1, Ordering::Relaxed)),
            // Overload is answered with a refusal, so the loop goes on; it is not counted.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        }
        shared.slots[slot].notified().await;
    }
}

fn settings(args: &ThroughputArgs) -> serde_json::Value {
    json!({"servers": args.servers, "connections": args.connections, "in_flight": args.in_flight,
           "bytes": args.bytes, "seconds": args.duration.as_secs_f64()})
}
