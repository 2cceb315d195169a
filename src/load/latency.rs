//! Open loop: orders go out at a fixed rate, whatever comes back, and every time counts from the intended send time.
//!
//! A generator that is late is measured as late: nothing is left out when the system (or the machine) stalls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::clock::now;
use super::settings::LatencyLoad;
use super::system::{Publisher, Runner, System, Unexpected};
use super::tally::Tally;
use super::usage::{Meter, Spent};
use super::{Quantiles, histogram, note_time, numbered, spread};
use crate::progress::spinner;

/// How long the last commands may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Orders that may be without an answer on each connection; beyond it, further ones wait, and are measured as late.
const UNANSWERED_MAX: u32 = 65_536;

/// What an open loop found. Times count from the instant at which each order was meant to be sent.
#[derive(Debug, Clone)]
pub struct Latency {
    /// Until the server had the command.
    pub receipt: Quantiles,
    /// Until the publisher had the acknowledgement.
    pub ack: Quantiles,
    /// What it took, warm-up included.
    pub spent: Spent,
    /// Orders that were not acknowledged: the rate is above what the system takes.
    pub refused: u64,
    /// Acknowledged commands that never came, half a minute after the last order.
    pub missing: u64,
    /// Commands that came more than once.
    pub twice: u64,
}

impl Latency {
    /// What must be true of a system that loses nothing.
    ///
    /// # Errors
    /// Commands are missing or came twice.
    pub fn check(&self) -> Result<(), Unexpected> {
        Unexpected::unless_whole(self.missing, self.twice)
    }
}

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
    tally: Tally,
    received: AtomicU64,
    refused: AtomicU64,
    answered: AtomicU64,
}

struct Receiver(Arc<Shared>);

impl Runner for Receiver {
    fn run<'t>(&mut self, texts: impl Iterator<Item = &'t str>) {
        let now = now();
        let Some(schedule) = *self.0.schedule.lock() else { return };
        let mut receipts = self.0.receipts.lock();
        let mut received = 0;
        for number in texts.filter_map(|text| self.0.tally.note(text)) {
            received += 1;
            if number >= schedule.first {
                note_time(&mut receipts, now.saturating_duration_since(schedule.intended(number)));
            }
        }
        drop(receipts);
        self.0.received.fetch_add(received, Ordering::Relaxed);
    }

    fn confirmed(&mut self, _count: u64) {}
}

impl LatencyLoad {
    /// Measures.
    ///
    /// # Errors
    /// The system could not be connected to.
    pub async fn run<S: System>(&self, system: &S, quiet: bool) -> Result<Latency, S::Error> {
        let count = |span: Duration| (span.as_secs_f64() * f64::from(self.rate)) as u64;
        let first = count(self.duration / 4);
        let total = first + count(self.duration);
        let shared = Arc::new(Shared {
            schedule: Mutex::new(None),
            receipts: Mutex::new(histogram()),
            acks: Mutex::new(histogram()),
            tally: Tally::new(total),
            received: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let consumers = system.consumers(quiet, || Receiver(Arc::clone(&shared))).await?;
        system.go(&consumers)?;
        let publishers = system.publishers(self.connections, UNANSWERED_MAX).await?;
        let interval = Duration::from_secs(1) / self.rate;
        let schedule = Schedule { start: now() + Duration::from_millis(50), interval, first, total };
        *shared.schedule.lock() = Some(schedule);
        let progress = spinner("measuring", quiet);
        let meter = Meter::start(system);
        let pacer = Pacer {
            runtime: tokio::runtime::Handle::current(),
            shared: Arc::clone(&shared),
            publishers,
            servers: system.servers(),
            bytes: self.bytes as usize,
        };
        // A thread of its own: the runtime's timers are a millisecond apart, which is what is to be measured.
        let pacing = tokio::task::spawn_blocking(move || pacer.pace(schedule)).await;
        pacing.map_err(|error| Unexpected(format!("the pacer ended: {error}")))?;
        let spent = meter.stop(system);
        // What has not come by then is counted as missing.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, shared.rest(total)).await;
        progress.finish_and_clear();
        drop(consumers);
        let refused = shared.refused.load(Ordering::Relaxed);
        let (receipt, ack) = (Quantiles::of(&shared.receipts.lock()), Quantiles::of(&shared.acks.lock()));
        Ok(Latency {
            receipt,
            ack,
            spent,
            refused,
            missing: shared.tally.missing().saturating_sub(refused),
            twice: shared.tally.twice(),
        })
    }
}

impl Shared {
    /// Waits for the last answers and commands.
    async fn rest(&self, total: u64) {
        loop {
            let expected = total - self.refused.load(Ordering::Relaxed);
            let received = self.received.load(Ordering::Relaxed);
            if self.answered.load(Ordering::Relaxed) == total && received >= expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

struct Pacer<P> {
    runtime: tokio::runtime::Handle,
    shared: Arc<Shared>,
    publishers: Vec<P>,
    servers: usize,
    bytes: usize,
}

impl<P: Publisher> Pacer<P> {
    /// Sends each order at its time.
    fn pace(&self, schedule: Schedule) {
        for number in 0..schedule.total {
            let intended = schedule.intended(number);
            let early = intended.saturating_duration_since(now());
            if !early.is_zero() {
                std::thread::sleep(early);
            }
            let command = (spread(number, self.servers), numbered(number, self.bytes));
            let publisher = self.publishers[number as usize % self.publishers.len()].clone();
            let order = publisher.order(None, std::iter::once(command));
            let shared = Arc::clone(&self.shared);
            self.runtime.spawn(async move {
                match publisher.publish(&order).await {
                    Ok(()) if number >= schedule.first => {
                        note_time(&mut shared.acks.lock(), now().saturating_duration_since(intended));
                    }
                    Ok(()) => {}
                    Err(_) => drop(shared.refused.fetch_add(1, Ordering::Relaxed)),
                }
                shared.answered.fetch_add(1, Ordering::Relaxed);
            });
        }
    }
}
