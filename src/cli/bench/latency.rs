//! Open loop: orders go out at a fixed rate, whatever comes back, and every time counts from the intended send time.
//!
//! A generator that is late is measured as late: nothing is left out when the broker (or the machine) stalls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde_json::json;

use super::args::LatencyArgs;
use super::broker::{Broker, usage};
use super::fleet::{self, Registered};
use super::report::{Report, histogram, note_time};
use super::text;
use crate::cli::exit::CliError;
use crate::cli::{clock, output};
use crate::client::{DeliveredCommand, Order, PluginHandler, PublisherClient, Report as Outcome, Servers};

/// How long the last commands may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// When each order is meant to be sent.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    interval: Duration,
    /// Orders before this one warm up.
    first: u64,
    /// Orders in all.
    total: u64,
}

impl Schedule {
    fn intended(&self, number: u64) -> Instant {
        let nanoseconds = self.interval.as_nanos() as u64 * number;
        self.start + Duration::from_nanos(nanoseconds)
    }
}

struct Shared {
    schedule: Mutex<Option<Schedule>>,
    receipts: Mutex<Histogram<u64>>,
    acks: Mutex<Histogram<u64>>,
    received: AtomicU64,
    refused: AtomicU64,
    acked: AtomicU64,
}

struct Runner(Arc<Shared>);

impl PluginHandler for Runner {
    fn run(&mut self, commands: Vec<DeliveredCommand>, reports: &mut Vec<Outcome>) {
        let now = clock::now();
        let schedule = *self.0.schedule.lock();
        let mut receipts = self.0.receipts.lock();
        for command in &commands {
            let measured = schedule.zip(text::number(&command.text));
            if let Some((schedule, number)) = measured.filter(|(schedule, number)| *number >= schedule.first)
            {
                note_time(&mut receipts, now.saturating_duration_since(schedule.intended(number)));
            }
        }
        drop(receipts);
        self.0.received.fetch_add(commands.len() as u64, Ordering::Relaxed);
        reports.extend(commands.iter().map(|command| command.completed(None)));
    }
}

/// Measures.
pub(super) async fn run(
    broker: &Broker,
    servers: Vec<Registered>,
    args: &LatencyArgs,
    quiet: bool,
) -> Result<Report, CliError> {
    let shared = Arc::new(Shared {
        schedule: Mutex::new(None),
        receipts: Mutex::new(histogram()),
        acks: Mutex::new(histogram()),
        received: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        acked: AtomicU64::new(0),
    });
    let plugins = fleet::connect(broker, &servers, quiet, || Runner(Arc::clone(&shared))).await?;
    let publishers = fleet::publishers(broker, args.connections, 65_536).await?;
    let interval = Duration::from_secs(1) / args.rate;
    let count = |span: Duration| (span.as_secs_f64() * f64::from(args.rate)) as u64;
    let first = count(args.duration / 4);
    let total = first + count(args.duration);
    let schedule = Schedule { start: clock::now() + Duration::from_millis(50), interval, first, total };
    *shared.schedule.lock() = Some(schedule);
    let progress = output::spinner("measuring", quiet);
    let (broker_before, own_before) = (broker.usage(), usage(std::process::id()));
    let pacing = {
        let (shared, servers) = (Arc::clone(&shared), servers.clone());
        let (bytes, runtime) = (args.bytes as usize, tokio::runtime::Handle::current());
        // A thread of its own: the runtime's timers are a millisecond apart, which is what is to be measured.
        tokio::task::spawn_blocking(move || pace(&runtime, &shared, schedule, &publishers, &servers, bytes))
    };
    pacing.await.map_err(|error| CliError::unexpected(format!("the pacer ended: {error}")))?;
    let (broker_after, own_after) = (broker.usage(), usage(std::process::id()));
    wait_for_rest(&shared, total).await?;
    progress.finish_and_clear();
    drop(plugins);
    if broker.usage().is_none() {
        fleet::remove(&broker.rest()?, &servers, quiet)?;
    }
    let seconds = schedule.interval.as_secs_f64() * total as f64;
    let mut report = Report::new("latency", settings(args));
    let receipt = ["receipt p50", "receipt p99", "receipt p99.9", "receipt max"];
    report.times(receipt, &shared.receipts.lock());
    report.times(["ack p50", "ack p99", "ack p99.9", "ack max"], &shared.acks.lock());
    if let (Some(before), Some(after)) = (broker_before, broker_after) {
        report.figure("broker cpu", (after.cpu - before.cpu).as_secs_f64() / seconds, "cores");
        report.figure("broker memory", after.rss as f64 / 1048576.0, "MiB");
    }
    if let (Some(before), Some(after)) = (own_before, own_after) {
        report.figure("load generator cpu", (after.cpu - before.cpu).as_secs_f64() / seconds, "cores");
    }
    report.note("open loop; all times from the intended send time; receipt: the plugin has the command");
    let refused = shared.refused.load(Ordering::Relaxed);
    if refused > 0 {
        report.note(format!("{refused} orders were refused: the rate is above what the broker takes"));
    }
    Ok(report)
}

/// Sends each order at its time.
fn pace(
    runtime: &tokio::runtime::Handle,
    shared: &Arc<Shared>,
    schedule: Schedule,
    publishers: &[PublisherClient],
    servers: &[Registered],
    bytes: usize,
) {
    for number in 0..schedule.total {
        let intended = schedule.intended(number);
        let early = intended.saturating_duration_since(clock::now());
        if !early.is_zero() {
            std::thread::sleep(early);
        }
        let server = servers[text::spread(number, servers.len())].id;
        let order = Order::one(Servers::One(server), text::numbered(number, bytes));
        let publisher = publishers[number as usize % publishers.len()].clone();
        let shared = Arc::clone(shared);
        runtime.spawn(async move {
            match publisher.publish(order).await {
                Ok(_) if number >= schedule.first => {
                    note_time(&mut shared.acks.lock(), clock::now().saturating_duration_since(intended));
                }
                Ok(_) => {}
                Err(_) => drop(shared.refused.fetch_add(1, Ordering::Relaxed)),
            }
            shared.acked.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// Waits for the last answers and commands; every accepted one must arrive.
async fn wait_for_rest(shared: &Shared, total: u64) -> Result<(), CliError> {
    let started = clock::now();
    loop {
        let answered = shared.acked.load(Ordering::Relaxed);
        let expected = total - shared.refused.load(Ordering::Relaxed);
        let received = shared.received.load(Ordering::Relaxed);
        if answered == total && received >= expected {
            return Ok(());
        }
        if started.elapsed() > DRAIN_TIMEOUT {
            let message = format!(
                "of {total} orders {answered} were answered; of {expected} commands {received} arrived"
            );
            return Err(CliError::unexpected(message));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn settings(args: &LatencyArgs) -> serde_json::Value {
    json!({"servers": args.servers, "connections": args.connections, "rate": args.rate,
           "bytes": args.bytes, "seconds": args.duration.as_secs_f64()})
}
