//! Plugins on TLS lose their broker to `kill -9` and come back by themselves, with the client library's own waits: how
//! soon each is back, what that costs the broker, and what servers that are back already notice of the others.
//!
//! They come back by their tickets; with `--expired` the tickets are worth nothing, and everybody needs a password hash
//! at its full cost. With `--forged` logins that must fail come in from the kill to the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

use super::args::StormArgs;
use super::broker::Broker;
use super::fleet::{self, Registered};
use super::forged::{Answers, Flood};
use super::metrics::Metrics;
use super::probe::Probe;
use super::report::{Report, seconds_at};
use super::trickle::{Targets, Trickle};
use crate::cli::exit::CliError;
use crate::cli::{clock, output};
use crate::client::{ClientState, DeliveredCommand, PluginClient, Report as Outcome};
use crate::ids::{ServerId, SessionEpoch};
use crate::limits::WINDOW_MAX;
use crate::load::{Quantiles, Usage, usage};

/// How long the last plugin may take to come back.
const STORM_TIMEOUT: Duration = Duration::from_secs(900);
/// How often it is said how many are back.
const STEP: Duration = Duration::from_secs(5);
/// Servers among them to which deliveries are measured, at most; and one of so many.
const PROBED_MAX: usize = 100;
const PROBED_OF: usize = 10;
/// The file without which no ticket can be checked.
const TICKET_KEYS: &str = "tickets.key";

/// When things happened.
struct Times {
    killed: Instant,
    ready: Instant,
    /// Of each plugin, rising.
    back: Vec<Instant>,
    /// The publisher; `None` = not before the last plugin.
    publisher: Option<Instant>,
}

/// How long deliveries took.
struct Deliveries {
    before: Histogram<u64>,
    meanwhile: Option<Histogram<u64>>,
}

/// Measures; kills and restarts the broker on the way.
pub(super) async fn run(
    broker: &mut Broker,
    servers: Vec<Registered>,
    args: &StormArgs,
    quiet: bool,
) -> Result<Report, CliError> {
    let (probed, others) = servers.split_at((servers.len() / PROBED_OF).clamp(1, PROBED_MAX));
    let (probe, mut plugins) = Probe::connect(broker, probed, args.rate, quiet)?;
    // Orders go to the probed servers only.
    let handler = || |_: Vec<DeliveredCommand>, _: &mut Vec<Outcome>| {};
    plugins.extend(fleet::connect(broker, others, WINDOW_MAX, quiet, handler).await?);
    let progress = output::spinner("measuring deliveries before the kill", quiet);
    let calm = trickle(probe.start(0)).await?;
    tokio::time::sleep(args.duration).await;
    let before = calm.stop().await?;
    progress.finish_and_clear();

    probe.targets().clear();
    let comebacks = watch(&plugins, &servers, probed.len(), probe.targets()).await?;
    let own_before = usage(std::process::id());
    let killed = clock::now();
    tokio::task::block_in_place(|| broker.kill())?;
    if args.expired {
        broker.remove_file(TICKET_KEYS)?;
    }
    let flood = (args.forged > 0).then(|| Flood::start(broker, &servers, args.forged));
    tokio::task::block_in_place(|| broker.restart())?;
    let ready = clock::now();
    let storm = probe.start(1);
    let (back, steps) = all_back(comebacks, plugins.len(), killed, quiet).await?;
    let used = (broker.usage(), own_before.zip(usage(std::process::id())));
    let metrics = tokio::task::block_in_place(|| Metrics::read(&broker.rest()?))?;
    let (publisher_back, meanwhile) = delivered(storm).await?.unzip();
    let answers = flood.as_ref().map(Flood::answers);
    if let Some(flood) = flood {
        flood.stop().await?;
    }
    drop(plugins);

    let times = Times { killed, ready, back, publisher: publisher_back };
    let mut report = Report::new("storm", settings(args));
    report_times(&mut report, &times);
    report_logins(&mut report, &metrics, &times, answers)?;
    report_deliveries(&mut report, &Deliveries { before, meanwhile }, &times);
    report_usage(&mut report, &times, used);
    report.note(
        "back: logged in again, counted from the kill, and from when the new broker accepted connections",
    );
    report.note(format!("back so many seconds after the kill: {}", steps.join(", ")));
    Ok(report)
}

/// Waits for each plugin's next session, beside everything else.
async fn watch(
    plugins: &[PluginClient],
    servers: &[Registered],
    probed: usize,
    targets: &Arc<Targets>,
) -> Result<JoinSet<Result<Instant, CliError>>, CliError> {
    let mut comebacks = JoinSet::new();
    for (place, (plugin, server)) in plugins.iter().zip(servers).enumerate() {
        let before = plugin.connected().await.map_err(fleet::client_failed)?;
        let target = (place < probed).then(|| Arc::clone(targets));
        comebacks.spawn(comeback(plugin.clone(), before, server.id, target));
    }
    Ok(comebacks)
}

async fn comeback(
    plugin: PluginClient,
    before: SessionEpoch,
    server: ServerId,
    target: Option<Arc<Targets>>,
) -> Result<Instant, CliError> {
    let mut state = plugin.state();
    let decided = state.wait_for(|state| match state {
        ClientState::Connected(epoch) => *epoch != before,
        ClientState::Ended(_) => true,
        ClientState::Connecting | ClientState::Waiting { .. } => false,
    });
    match decided.await.as_deref() {
        Ok(ClientState::Ended(error)) => Err(fleet::client_failed((**error).clone())),
        Ok(_) => {
            let at = clock::now();
            if let Some(targets) = target {
                targets.add(server);
            }
            Ok(at)
        }
        Err(_) => Err(CliError::unexpected(format!("the plugin of {server} is gone"))),
    }
}

/// When each came back, rising; and how many were back at each step.
async fn all_back(
    mut comebacks: JoinSet<Result<Instant, CliError>>,
    count: usize,
    killed: Instant,
    quiet: bool,
) -> Result<(Vec<Instant>, Vec<String>), CliError> {
    let progress = output::progress(count as u64, "coming back", quiet);
    let (mut back, mut steps) = (Vec::with_capacity(count), Vec::new());
    let mut step = tokio::time::interval_at(tokio::time::Instant::from_std(killed + STEP), STEP);
    while back.len() < count {
        tokio::select! {
            comeback = comebacks.join_next() => {
                let comeback = comeback.expect("as many are watched as are waited for");
                back.push(comeback.map_err(|error| CliError::unexpected(error.to_string()))??);
                progress.inc(1);
            }
            at = step.tick() => {
                let after = at.into_std().saturating_duration_since(killed);
                if after > STORM_TIMEOUT {
                    let message = format!("of {count} plugins {} came back in {STORM_TIMEOUT:?}", back.len());
                    return Err(CliError::unexpected(message));
                }
                steps.push(format!("{}: {}", after.as_secs(), back.len()));
                if !quiet {
                    let (after, back) = (after.as_secs(), back.len());
                    progress.suspend(|| output::line(format_args!("{after:>4} s after the kill: {back} back")))?;
                }
            }
        }
    }
    progress.finish_and_clear();
    back.sort_unstable();
    steps.push(format!("{:.1}: {count}", (back[count - 1] - killed).as_secs_f64()));
    Ok((back, steps))
}

/// A trickle, once it has started.
async fn trickle(starting: JoinHandle<Result<Trickle, CliError>>) -> Result<Trickle, CliError> {
    starting.await.map_err(|error| CliError::unexpected(error.to_string()))?
}

/// When the publisher was back, and how long deliveries took from then on; `None` if it is not back yet.
async fn delivered(
    storm: JoinHandle<Result<Trickle, CliError>>,
) -> Result<Option<(Instant, Histogram<u64>)>, CliError> {
    if !storm.is_finished() {
        storm.abort();
        return Ok(None);
    }
    let trickle = trickle(storm).await?;
    Ok(Some((trickle.started(), trickle.stop().await?)))
}

fn report_times(report: &mut Report, times: &Times) {
    let since = |from: Instant| -> Vec<Duration> {
        times.back.iter().map(|back| back.saturating_duration_since(from)).collect()
    };
    let (from_kill, from_ready) = (since(times.killed), since(times.ready));
    report.figure("ready after kill -9", (times.ready - times.killed).as_secs_f64(), "s");
    report.figure("back p50", seconds_at(&from_kill, 0.5), "s");
    report.figure("back p99", seconds_at(&from_kill, 0.99), "s");
    report.figure("back last", seconds_at(&from_kill, 1.0), "s");
    report.figure("back since ready p50", seconds_at(&from_ready, 0.5), "s");
    report.figure("back since ready p99", seconds_at(&from_ready, 0.99), "s");
    report.figure("back since ready last", seconds_at(&from_ready, 1.0), "s");
    let before = std::iter::once(&times.ready).chain(&times.back);
    let pauses = before.zip(&times.back).map(|(before, back)| back.saturating_duration_since(*before));
    let longest = pauses.max().unwrap_or_default();
    report.figure("longest time in which none came back", longest.as_secs_f64(), "s");
}

fn report_logins(
    report: &mut Report,
    metrics: &Metrics,
    times: &Times,
    answers: Option<Answers>,
) -> Result<(), CliError> {
    let hashed = metrics.value("fluxrelay_logins_hashed_total")?;
    report.figure("by ticket", metrics.value("fluxrelay_logins_by_ticket_total")?, "logins");
    report.figure("by token or key", metrics.value("fluxrelay_logins_by_token_total")?, "logins");
    report.figure("argon2 hashes", hashed, "hashes");
    report.figure("argon2 hashes of servers", 100.0 * hashed / times.back.len() as f64, "%");
    let resumed = metrics.value("fluxrelay_tls_handshakes_resumed_total")?;
    report.figure("tls sessions resumed", resumed, "handshakes");
    report.figure("tls handshakes", metrics.value("fluxrelay_tls_handshakes_total")?, "handshakes");
    report.figure("turned away", metrics.value("fluxrelay_logins_turned_away_total")?, "logins");
    if let Some(answers) = answers {
        let answered = (answers.refused + answers.sent_away + answers.denied) as f64;
        let seconds = times.back.last().map_or(0.0, |last| (*last - times.ready).as_secs_f64());
        report.figure("forged logins answered", answered / seconds, "logins/s");
        report.figure("forged logins told to come back", answers.sent_away as f64, "logins");
        report.figure("forged logins denied before the handshake", answers.denied as f64, "logins");
        report.figure("forged logins without an answer", answers.lost as f64, "logins");
        report.figure("forged logins not sent", answers.not_sent as f64, "logins");
        report.note(
            "without an answer: mostly before the new broker listened; not sent: too many were under way",
        );
    }
    Ok(())
}

fn report_deliveries(report: &mut Report, deliveries: &Deliveries, times: &Times) {
    let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64;
    let names =
        ["delivery before p50", "delivery before p99", "delivery before p99.9", "delivery before max"];
    report.times(names, Quantiles::of(&deliveries.before));
    let (Some(at), Some(meanwhile)) = (times.publisher, &deliveries.meanwhile) else {
        return report.note("the publisher was not back before the last plugin: no delivery was measured");
    };
    report.figure("publisher back", (at - times.killed).as_secs_f64(), "s");
    report.figure("deliveries in the storm", meanwhile.len() as f64, "commands");
    let names = [
        "delivery in storm p50",
        "delivery in storm p99",
        "delivery in storm p99.9",
        "delivery in storm max",
    ];
    report.times(names, Quantiles::of(meanwhile));
    report.figure("delivery p99, storm to before", p99(meanwhile) / p99(&deliveries.before), "times");
    report.note("delivery: from the intended send time to the plugin, to some of the servers that are back");
}

fn report_usage(report: &mut Report, times: &Times, (broker, own): (Option<Usage>, Option<(Usage, Usage)>)) {
    let seconds = times.back.last().map_or(0.0, |last| (*last - times.killed).as_secs_f64());
    if let Some(broker) = broker {
        report.figure("broker cpu", broker.cpu.as_secs_f64() / seconds, "cores");
        report.figure("broker memory", broker.rss as f64 / 1048576.0, "MiB");
    }
    if let Some((before, after)) = own {
        report.figure("load generator cpu", (after.cpu - before.cpu).as_secs_f64() / seconds, "cores");
    }
}

fn settings(args: &StormArgs) -> serde_json::Value {
    json!({"servers": args.servers, "forged": args.forged, "expired": args.expired, "rate": args.rate,
           "seconds": args.duration.as_secs_f64()})
}
