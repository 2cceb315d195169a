//! Many commands for servers that are offline: how fast they are accepted, what they cost in memory, how soon the broker
//! is ready after `kill -9`, and whether every one of them arrives in the end, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::Notify;

use super::args::BacklogArgs;
use super::broker::{Broker, Usage, usage};
use super::fleet::{self, Registered};
use super::report::Report;
use super::text;
use crate::cli::exit::CliError;
use crate::cli::{clock, output};
use crate::client::{DeliveredCommand, Order, OrderCommand, PluginHandler, PublishError, PublisherClient};
use crate::client::{Report as Outcome, Servers};
use crate::ids::Seq;

/// How long one server's queue may take to drain, its login included.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(120);

/// What happened to each command.
struct Shared {
    /// How often each was handed to a plugin, by number.
    received: Vec<AtomicU8>,
    accepted: AtomicU64,
    next: AtomicU64,
    refused: AtomicU64,
}

/// A server that is drained: runs everything, and tells when it has all of its commands confirmed.
struct Drain {
    shared: Arc<Shared>,
    left: u64,
    done: Arc<Notify>,
}

impl PluginHandler for Drain {
    fn run(&mut self, commands: Vec<DeliveredCommand>, reports: &mut Vec<Outcome>) {
        for command in commands {
            let number = text::number(&command.text).map(|number| number as usize);
            if let Some(times) = number.and_then(|number| self.shared.received.get(number)) {
                times.fetch_add(1, Ordering::Relaxed);
            }
            reports.push(command.completed(None));
        }
    }

    fn confirmed(&mut self, commands: &[Seq]) {
        self.left = self.left.saturating_sub(commands.len() as u64);
        if self.left == 0 {
            self.done.notify_one();
        }
    }
}

/// Measures; kills and restarts the broker on the way.
pub(super) async fn run(
    broker: &mut Broker,
    servers: Vec<Registered>,
    args: &BacklogArgs,
    quiet: bool,
) -> Result<Report, CliError> {
    let servers: Arc<[Registered]> = servers.into();
    let shared = Arc::new(Shared {
        received: (0..args.commands).map(|_| AtomicU8::new(0)).collect(),
        accepted: AtomicU64::new(0),
        next: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    let mut report = Report::new("backlog", settings(args));
    let empty = broker.usage();
    fill(broker, args, &servers, &shared, quiet, &mut report).await?;

    let progress = output::spinner("killing the broker and starting it again", quiet);
    let killed = tokio::task::block_in_place(|| broker.kill_and_restart())?;
    progress.finish_and_clear();
    report.figure("ready after kill -9", killed.as_secs_f64(), "s");
    if let (Some(empty), Some(used)) = (empty, broker.usage()) {
        let grown = used.rss.saturating_sub(empty.rss) as f64;
        report.figure("memory after restart", grown / args.commands as f64, "bytes/command");
    }

    let started = clock::now();
    drain(broker, args, &servers, &shared, quiet).await?;
    report.figure(
        "drained, logins included",
        args.commands as f64 / started.elapsed().as_secs_f64(),
        "commands/s",
    );
    let times = |wanted: fn(u8) -> bool| {
        shared.received.iter().filter(|times| wanted(times.load(Ordering::Relaxed))).count()
    };
    let (missing, twice) = (times(|times| times == 0), times(|times| times > 1));
    report.figure("missing", missing as f64, "commands");
    report.figure("delivered twice", twice as f64, "commands");
    if missing + twice > 0 {
        report.print()?;
        return Err(CliError::unexpected(format!("{missing} commands are missing, {twice} came twice")));
    }
    Ok(report)
}

/// Publishes the whole backlog and notes rate and memory.
async fn fill(
    broker: &Broker,
    args: &BacklogArgs,
    servers: &Arc<[Registered]>,
    shared: &Arc<Shared>,
    quiet: bool,
    report: &mut Report,
) -> Result<(), CliError> {
    let publishers = fleet::publishers(broker, args.connections, args.in_flight).await?;
    let progress = output::progress(args.commands, "publishing", quiet);
    let before = broker.usage();
    let own_before = usage(std::process::id());
    let started = clock::now();
    let mut loops = tokio::task::JoinSet::new();
    for slot in 0..(args.connections * args.in_flight) as usize {
        let publisher = publishers[slot % publishers.len()].clone();
        let (shared, servers) = (Arc::clone(shared), Arc::clone(servers));
        loops.spawn(publish_loop(shared, publisher, servers, Load::of(args), progress.clone()));
    }
    while let Some(ended) = loops.join_next().await {
        ended.map_err(|error| CliError::unexpected(error.to_string()))??;
    }
    let seconds = started.elapsed().as_secs_f64();
    progress.finish_and_clear();
    report.figure("accepted", args.commands as f64 / seconds, "commands/s");
    if let (Some(before), Some(after)) = (before, broker.usage()) {
        report_memory(report, before, after, args.commands, seconds);
    }
    if let (Some(before), Some(after)) = (own_before, usage(std::process::id())) {
        report.figure("load generator cpu", (after.cpu - before.cpu).as_secs_f64() / seconds, "cores");
    }
    if let Some(bytes) = broker.disk_bytes() {
        report.figure("disk", bytes as f64 / args.commands as f64, "bytes/command");
    }
    let refused = shared.refused.load(Ordering::Relaxed);
    if refused > 0 {
        report.note(format!("{refused} publishes were refused for load and sent again"));
    }
    Ok(())
}

fn report_memory(report: &mut Report, before: Usage, after: Usage, commands: u64, seconds: f64) {
    let grown = after.rss.saturating_sub(before.rss) as f64;
    report.figure("memory", grown / commands as f64, "bytes/command");
    report.figure("broker memory", after.rss as f64 / 1048576.0, "MiB");
    report.figure("broker cpu", (after.cpu - before.cpu).as_secs_f64() / seconds, "cores");
}

/// What is published.
#[derive(Clone, Copy)]
struct Load {
    commands: u64,
    per_order: u64,
    bytes: usize,
}

impl Load {
    fn of(args: &BacklogArgs) -> Load {
        Load { commands: args.commands, per_order: u64::from(args.per_order), bytes: args.bytes as usize }
    }
}

async fn publish_loop(
    shared: Arc<Shared>,
    publisher: PublisherClient,
    servers: Arc<[Registered]>,
    load: Load,
    progress: ProgressBar,
) -> Result<(), CliError> {
    loop {
        let first = shared.next.fetch_add(load.per_order, Ordering::Relaxed);
        if first >= load.commands {
            return Ok(());
        }
        let numbers = first..(first + load.per_order).min(load.commands);
        let count = numbers.end - numbers.start;
        let commands = numbers.map(|number| {
            let server = servers[text::spread(number, servers.len())].id;
            OrderCommand::new(Servers::One(server), text::numbered(number, load.bytes))
        });
        // One key for all tries, so that none of them can enqueue it twice.
        let key = format!("backlog-{first}");
        let order = Order { key: Some(key), commands: commands.collect(), ..Order::default() };
        loop {
            match publisher.publish(&order).await {
                Ok(_) => break,
                Err(PublishError::Refused { retry_after: Some(wait), .. }) => {
                    shared.refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return Err(CliError::unexpected(format!("a publish failed: {error}"))),
            }
        }
        shared.accepted.fetch_add(count, Ordering::Relaxed);
        progress.inc(count);
    }
}

/// Connects the servers, so many at once, each until it has all of its commands.
async fn drain(
    broker: &Broker,
    args: &BacklogArgs,
    servers: &Arc<[Registered]>,
    shared: &Arc<Shared>,
    quiet: bool,
) -> Result<(), CliError> {
    let mut expected = vec![0_u64; servers.len()];
    (0..args.commands).for_each(|number| expected[text::spread(number, servers.len())] += 1);
    let progress = output::progress(servers.len() as u64, "draining servers", quiet);
    let drains = servers.iter().zip(expected).filter(|(_, left)| *left > 0).map(|(server, left)| {
        let (done, progress) = (Arc::new(Notify::new()), progress.clone());
        let drain = Drain { shared: Arc::clone(shared), left, done: Arc::clone(&done) };
        async move {
            let client = fleet::plugin(broker, server, drain).await?;
            let all = tokio::time::timeout(DRAIN_TIMEOUT, done.notified()).await;
            progress.inc(1);
            drop(client);
            let late =
                |_| CliError::unexpected(format!("{} did not get all of its {left} commands", server.id));
            all.map_err(late)
        }
    });
    stream::iter(drains).buffer_unordered(fleet::AT_ONCE).try_collect::<Vec<()>>().await?;
    progress.finish_and_clear();
    Ok(())
}

fn settings(args: &BacklogArgs) -> serde_json::Value {
    json!({"servers": args.servers, "connections": args.connections, "in_flight": args.in_flight,
           "commands": args.commands, "per_order": args.per_order, "bytes": args.bytes})
}
