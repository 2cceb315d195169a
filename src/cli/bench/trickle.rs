//! A steady trickle of orders to servers that are connected: how long deliveries take while something else goes on.
//!
//! An open loop: every time counts from the intended send time, so nothing is left out when somebody stalls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;

use crate::cli::clock;
use crate::cli::exit::CliError;
use crate::client::{DeliveredCommand, Order, PluginHandler, PublisherClient, Report as Outcome, Servers};
use crate::ids::ServerId;
use crate::load::{histogram, note_time, number, numbered, spread};

/// How long the last commands may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of each command.
const COMMAND_BYTES: usize = 128;
/// Numbers of one trickle's orders are below, so that a late command of an earlier one is not taken for one of these.
const NUMBERS: u64 = 1 << 32;

/// Servers that are connected now.
#[derive(Default)]
pub(super) struct Targets(RwLock<Vec<ServerId>>);

impl Targets {
    /// One more.
    pub(super) fn add(&self, server: ServerId) {
        self.0.write().push(server);
    }

    /// None any more.
    pub(super) fn clear(&self) {
        self.0.write().clear();
    }

    fn pick(&self, number: u64) -> Option<ServerId> {
        let servers = self.0.read();
        (!servers.is_empty()).then(|| servers[spread(number, servers.len())])
    }
}

/// The trickle that runs now, as the plugins see it.
#[derive(Default)]
pub(super) struct Receipts(Mutex<Option<Run>>);

struct Run {
    ordinal: u64,
    schedule: Schedule,
    times: Histogram<u64>,
    received: u64,
}

#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    interval: Duration,
}

impl Schedule {
    fn intended(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos(self.interval.as_nanos() as u64 * (number % NUMBERS))
    }
}

/// A game server that runs everything at once and notes when it came.
pub(super) struct Runner(pub(super) Arc<Receipts>);

impl PluginHandler for Runner {
    fn run(&mut self, commands: Vec<DeliveredCommand>, reports: &mut Vec<Outcome>) {
        let now = clock::now();
        if let Some(run) = self.0.0.lock().as_mut() {
            let numbers = commands.iter().filter_map(|command| number(&command.text));
            for number in numbers.filter(|number| number / NUMBERS == run.ordinal) {
                run.received += 1;
                let waited = now.saturating_duration_since(run.schedule.intended(number));
                note_time(&mut run.times, waited);
            }
        }
        reports.extend(commands.iter().map(|command| command.completed(None)));
    }
}

/// Orders that go out at a fixed rate until they are stopped.
pub(super) struct Trickle {
    receipts: Arc<Receipts>,
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    started: Instant,
    pacer: JoinHandle<u64>,
}

impl Trickle {
    /// Starts on the current runtime: `per_second` orders of one command, to any of `targets`; none while there are
    /// none. One at a time, each with an `ordinal` of its own.
    pub(super) fn start(
        publisher: PublisherClient,
        targets: Arc<Targets>,
        receipts: Arc<Receipts>,
        per_second: u32,
        ordinal: u64,
    ) -> Trickle {
        let interval = Duration::from_secs(1) / per_second;
        let schedule = Schedule { start: clock::now(), interval };
        *receipts.0.lock() = Some(Run { ordinal, schedule, times: histogram(), received: 0 });
        let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pacer = Pacer {
            runtime: tokio::runtime::Handle::current(),
            publisher,
            targets,
            schedule,
            first: ordinal * NUMBERS,
            stop: Arc::clone(&stop),
            refused: Arc::clone(&refused),
        };
        // A thread of its own: the runtime's timers are a millisecond apart.
        let pacer = tokio::task::spawn_blocking(move || pacer.pace());
        Trickle { receipts, stop, refused, started: schedule.start, pacer }
    }

    /// When it started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Stops, waits until every command has arrived, and gives their times.
    pub(super) async fn stop(self) -> Result<Histogram<u64>, CliError> {
        self.stop.store(true, Ordering::Relaxed);
        let failed = |error| CliError::unexpected(format!("the pacer ended: {error}"));
        let sent = self.pacer.await.map_err(failed)?;
        let started = clock::now();
        loop {
            let expected = sent - self.refused.load(Ordering::Relaxed);
            let received = self.receipts.0.lock().as_ref().map_or(0, |run| run.received);
            if received >= expected {
                break;
            }
            if started.elapsed() > DRAIN_TIMEOUT {
                let message = format!("of {expected} commands for connected servers {received} arrived");
                return Err(CliError::unexpected(message));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let run = self.receipts.0.lock().take();
        Ok(run.expect("one trickle at a time, and this one has not been taken").times)
    }
}

struct Pacer {
    runtime: tokio::runtime::Handle,
    publisher: PublisherClient,
    targets: Arc<Targets>,
    schedule: Schedule,
    first: u64,
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
}

impl Pacer {
    /// Sends each order at its time; gives how many.
    fn pace(self) -> u64 {
        let mut sent = 0;
        for number in self.first.. {
            let early = self.schedule.intended(number).saturating_duration_since(clock::now());
            if !early.is_zero() {
                std::thread::sleep(early);
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let Some(server) = self.targets.pick(number) else { continue };
            sent += 1;
            let order = Order::one(Servers::One(server), numbered(number, COMMAND_BYTES));
            let (publisher, refused) = (self.publisher.clone(), Arc::clone(&self.refused));
            self.runtime.spawn(async move {
                if publisher.publish(order).await.is_err() {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        sent
    }
}
