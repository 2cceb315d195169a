//! `fluxrelay bench soak`: a steady load for a long time, with what a network has to live with: connections that are cut,
//! commands that fail at first, players who are not there. Are time and memory at the end as they were at the start, and
//! did every command run?

mod course;
mod cuts;
mod windows;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::course::{Course, Member, PLAYER, Sums};
use self::cuts::Door;
use self::windows::{Drift, WINDOWS, Window};
use super::args::SoakArgs;
use super::broker::Broker;
use super::fleet;
use super::metrics::Metrics;
use super::report::Report;
use super::system::Fluxrelay;
use crate::cli::exit::CliError;
use crate::cli::output;
use crate::client::{Player, PluginClient, PublisherClient};
use crate::ids::ServerId;
use crate::limits::WINDOW_MAX;
use crate::load::{Quantiles, System, ThroughputLoad, now, spread};

/// Of so many servers one reaches the broker through the door that slams.
pub(super) const CUT_OF: u32 = 10;
/// Of what the closed loop does, how much the soak asks for.
const SHARE: f64 = 0.6;
/// How long the closed loop is measured for that.
const CALIBRATION: Duration = Duration::from_secs(10);
/// So few that each span has some, and so many that what is known of them has room in memory.
const COMMANDS: RangeInclusive<u64> = 20 * WINDOWS as u64..=1_000_000_000;
const CONNECTIONS: u32 = 4;
const IN_FLIGHT: u32 = 256;
/// Orders without an answer on each connection; beyond it, further ones wait, and are measured as late.
const UNANSWERED_MAX: u32 = 65_536;
/// A player comes or goes so often, on each server.
const PLAYER_STAYS: Duration = Duration::from_secs(10);
const PLAYER_STEP: Duration = Duration::from_millis(100);
/// How long the last commands may take, beside the wait before those that failed are tried again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// The orders of so long are sent together: a soak that woke for each would be busy with itself. Each one's time counts from when it was
/// meant to be sent.
const PACE: Duration = Duration::from_millis(1);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Measures.
pub(super) async fn run(system: &Fluxrelay, args: &SoakArgs, quiet: bool) -> Result<Report, CliError> {
    let rate = match args.rate {
        Some(rate) => rate,
        None => calibrated(system, args, quiet).await?,
    };
    let commands = (f64::from(rate) * args.duration.as_secs_f64()) as u64;
    if !COMMANDS.contains(&commands) {
        let (least, most) = (COMMANDS.start(), COMMANDS.end());
        let message = format!("--duration and --rate make {commands} commands: a soak has {least} to {most}");
        return Err(CliError::usage(message));
    }
    let interval = Duration::from_secs(1) / rate;
    let course = Arc::new(Course::new(commands, interval, args.bytes as usize));
    let members = Members::connect(system, &course, quiet).await?;
    let publishers = fleet::publishers(system.broker(), CONNECTIONS, UNANSWERED_MAX).await?;

    let before = system.usage();
    let started = course.begin();
    let _stops = StopAtEnd(&course);
    let pacer = Pacer {
        runtime: tokio::runtime::Handle::current(),
        course: Arc::clone(&course),
        publishers,
        servers: system.registered().iter().map(|server| server.id).collect(),
    };
    // A thread of its own, which waits for none of the runtime's.
    let pacing = tokio::task::spawn_blocking(move || pacer.pace());
    let mut disturbing = JoinSet::new();
    disturbing.spawn(come_and_go(members.plugins.clone()));
    disturbing.spawn(slam(Arc::clone(&members.door), args.cuts));
    let windows = watch(system, &course, args.duration, quiet).await?;
    let cores = before.zip(system.usage()).map(|(before, after)| {
        (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / started.elapsed().as_secs_f64()
    });
    pacing.await.map_err(|error| CliError::unexpected(format!("the pacer ended: {error}")))?;
    disturbing.shutdown().await;
    let sums = members.drain(&course, Duration::from_secs(args.retry_after), quiet).await?;

    let metrics = metrics(system.broker()).await?;
    let sweep_finds = metrics.value("fluxrelay_sweep_finds_total")?;
    let mut report = Report::new("soak", settings(args, rate));
    report_sums(&mut report, &sums, members.door.cut());
    report_drift(&mut report, &windows);
    if let Some(cores) = cores {
        report.figure("broker cpu", cores, "cores");
    }
    report.figure("idempotency keys", metrics.value("fluxrelay_idempotency_keys")?, "keys");
    report.figure("sweep finds", sweep_finds, "commands");
    report.note(
        "first and last: medians over the spans of the first and the last third of the run, a tenth of warm-up left out",
    );
    report.note(
        "memory: the broker's resident bytes, without those of the idempotency keys that it has to remember; of a span, \
         the median of one look a second",
    );
    let Sums { missing, again, refused, .. } = sums;
    if missing + again + refused > 0 || sweep_finds > 0.0 {
        let message = format!(
            "{missing} commands are missing, {again} came again although they were confirmed, {refused} were refused, \
             {sweep_finds} had been overlooked"
        );
        report.fail(CliError::unexpected(message));
    }
    Ok(report)
}

/// Nothing waits for the pacer when something else has failed.
struct StopAtEnd<'a>(&'a Course);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What a soak asks for: a share of what the closed loop does here and now.
async fn calibrated(system: &Fluxrelay, args: &SoakArgs, quiet: bool) -> Result<u32, CliError> {
    let load = ThroughputLoad {
        servers: args.servers,
        connections: CONNECTIONS,
        in_flight: IN_FLIGHT,
        bytes: args.bytes,
        duration: CALIBRATION,
    };
    let found = load.run(system, quiet).await?;
    found.check()?;
    let rate = (found.per_second * SHARE) as u32;
    if !quiet {
        let done = found.per_second;
        output::line(format_args!("the closed loop does {done:.0} commands/s; the soak asks for {rate}"))?;
    }
    Ok(rate.max(1))
}

/// The connected plugins, some of them behind a door.
struct Members {
    plugins: Vec<PluginClient>,
    door: Arc<Door>,
}

impl Members {
    async fn connect(system: &Fluxrelay, course: &Arc<Course>, quiet: bool) -> Result<Members, CliError> {
        let broker = system.broker();
        let door = Arc::new(Door::open(broker.address()?).await?);
        let behind = broker.behind(door.address());
        let (cut, whole) = system.registered().split_at(system.registered().len().div_ceil(CUT_OF as usize));
        let member = |timed| move || Member::new(Arc::clone(course), timed);
        let mut plugins = fleet::connect(&behind, cut, WINDOW_MAX, quiet, member(false)).await?;
        plugins.extend(fleet::connect(broker, whole, WINDOW_MAX, quiet, member(true)).await?);
        // From then on the broker knows that nobody is there.
        plugins
            .iter()
            .try_for_each(|plugin| plugin.players_online(Vec::new()))
            .map_err(fleet::client_failed)?;
        Ok(Members { plugins, door })
    }

    /// Waits until every command has run, and sums up.
    async fn drain(&self, course: &Course, retry_after: Duration, quiet: bool) -> Result<Sums, CliError> {
        let spinner = output::spinner("waiting for the last commands", quiet);
        for plugin in &self.plugins {
            plugin.players_online(vec![Player::named(PLAYER)]).map_err(fleet::client_failed)?;
        }
        let started = now();
        loop {
            let sums = course.sums();
            if sums.missing == 0 || started.elapsed() > retry_after + DRAIN_TIMEOUT {
                spinner.finish_and_clear();
                return Ok(sums);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Players come, and go, on each server in turn.
async fn come_and_go(plugins: Vec<PluginClient>) {
    let steps = (PLAYER_STAYS.as_millis() / PLAYER_STEP.as_millis()) as usize;
    let mut tick = tokio::time::interval(PLAYER_STEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for step in 0.. {
        tick.tick().await;
        for plugin in plugins.iter().skip(step % steps).step_by(steps) {
            let player = vec![Player::named(PLAYER)];
            let is_there = (step / steps) % 2 == 1;
            // One that has ended shows in what is missing.
            let _ = if is_there { plugin.players_left(player) } else { plugin.players_joined(player) };
        }
    }
}

/// Cuts so many connections a second.
async fn slam(door: Arc<Door>, per_second: u32) {
    if per_second == 0 {
        return;
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
    loop {
        tick.tick().await;
        door.slam();
    }
}

/// Measures span after span until the time is over.
async fn watch(
    system: &Fluxrelay,
    course: &Course,
    duration: Duration,
    quiet: bool,
) -> Result<Vec<Window>, CliError> {
    let mut windows = Vec::new();
    for number in 1..=WINDOWS {
        let end = course.intended(0) + duration * number / WINDOWS;
        let (mut memory, mut keys_bytes) = (Vec::new(), 0);
        // One look at the least, also when the one before took longer than a span.
        while memory.is_empty() || now() < end {
            tokio::time::sleep_until((now() + LOOK_INTERVAL).min(end).into()).await;
            let (all, keys) = memory_of(system).await?;
            memory.push(all.saturating_sub(keys));
            keys_bytes = keys;
        }
        let receipt = Quantiles::of(&course.take_times());
        let window = Window { receipt, memory: windows::median(&memory), keys_bytes };
        windows.push(window);
        if !quiet {
            let seconds = (duration * number / WINDOWS).as_secs();
            let ms = |time: Duration| time.as_secs_f64() * 1000.0;
            let mib = |bytes: u64| bytes as f64 / 1048576.0;
            output::line(format_args!(
                "{seconds:>5} s: receipt p50 {:.2} ms, p99 {:.2} ms; memory {:.0} MiB and {:.0} MiB of keys",
                ms(receipt.p50),
                ms(receipt.p99),
                mib(window.memory),
                mib(keys_bytes),
            ))?;
        }
    }
    Ok(windows)
}

/// The broker's resident bytes, and how many of them remembered idempotency keys take.
async fn memory_of(system: &Fluxrelay) -> Result<(u64, u64), CliError> {
    let unknown = || CliError::unexpected("this system does not say what the broker uses (no /proc)");
    let keys = metrics(system.broker()).await?.value("fluxrelay_idempotency_keys_bytes")? as u64;
    Ok((system.usage().ok_or_else(unknown)?.rss, keys))
}

async fn metrics(broker: &Broker) -> Result<Metrics, CliError> {
    tokio::task::block_in_place(|| Metrics::read(&broker.rest()?))
}

/// Sends each order at its time.
struct Pacer {
    runtime: tokio::runtime::Handle,
    course: Arc<Course>,
    publishers: Vec<PublisherClient>,
    servers: Vec<ServerId>,
}

impl Pacer {
    fn pace(self) {
        for number in 0..self.course.commands() {
            let early = self.course.intended(number).saturating_duration_since(now());
            if !early.is_zero() {
                std::thread::sleep(early.max(PACE));
            }
            if !self.course.goes_on() {
                return;
            }
            let server = self.servers[spread(number, self.servers.len())];
            let order = self.course.order(number, server);
            let publisher = self.publishers[number as usize % self.publishers.len()].clone();
            let course = Arc::clone(&self.course);
            self.runtime.spawn(async move {
                if publisher.publish(order).await.is_err() {
                    course.refused(number);
                }
            });
        }
    }
}

fn report_sums(report: &mut Report, sums: &Sums, cut: u64) {
    report.figure("commands run", sums.ran as f64, "commands");
    report.figure("publishes refused", sums.refused as f64, "commands");
    report.figure("missing", sums.missing as f64, "commands");
    report.figure("confirmed and delivered again", sums.again as f64, "commands");
    report.figure("delivered again after a cut", sums.repeated as f64, "commands");
    report.figure("failed at first", sums.failed as f64, "commands");
    report.figure("needed a player", sums.waited as f64, "commands");
    report.figure("connections cut", cut as f64, "");
}

fn report_drift(report: &mut Report, windows: &[Window]) {
    let drift = Drift::of(windows);
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    for (names, (first, last)) in [
        (["receipt p50 first", "receipt p50 last"], drift.p50),
        (["receipt p99 first", "receipt p99 last"], drift.p99),
    ] {
        report.figure(names[0], ms(first), "ms");
        report.figure(names[1], ms(last), "ms");
    }
    let (first, last) = drift.memory;
    report.figure("memory first", first / 1048576.0, "MiB");
    report.figure("memory last", last / 1048576.0, "MiB");
    report.figure("memory grown", 100.0 * (last - first) / first.max(1.0), "%");
    if let Some(last) = windows.last() {
        report.figure("memory of idempotency keys", last.keys_bytes as f64 / 1048576.0, "MiB");
    }
}

fn settings(args: &SoakArgs, rate: u32) -> serde_json::Value {
    json!({"servers": args.servers, "rate": rate, "bytes": args.bytes, "cuts": args.cuts,
           "retry_after_seconds": args.retry_after, "seconds": args.duration.as_secs_f64()})
}
