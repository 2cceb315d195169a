//! Closed loop: so many orders in flight on each connection, each replaced when its publish is acknowledged and its
//! command has arrived and been run.
//!
//! What is counted is the system's confirmation of a consumer's acknowledgement, not the moment in which it was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::settings::ThroughputLoad;
use super::system::{Publisher, Runner, System, Unexpected};
use super::usage::{Meter, Spent};
use super::{number, numbered, spread};
use crate::progress::spinner;

/// How long the last orders may take once no more are sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a closed loop found; all figures but the last four are of the span after the warm-up.
#[derive(Debug, Clone)]
pub struct Throughput {
    /// Commands whose acknowledgements were confirmed, a second.
    pub per_second: f64,
    /// Orders that were in flight all the time.
    pub in_flight: u64,
    /// What it took.
    pub spent: Spent,
    /// Publishes that were not acknowledged, and so not counted.
    pub refused: u64,
    /// Acknowledged commands that never came, half a minute after the last order.
    pub missing: u64,
    /// Commands that came more often than they were published.
    pub twice: u64,
    /// Acknowledged commands that came, and whose acknowledgement was not confirmed.
    pub unconfirmed: u64,
}

impl Throughput {
    /// The mean time from an order's publish to the next one in its place.
    pub fn mean_time(&self) -> Duration {
        Duration::from_secs_f64(if self.per_second > 0.0 {
            self.in_flight as f64 / self.per_second
        } else {
            0.0
        })
    }

    /// What must be true of a system that loses nothing.
    ///
    /// # Errors
    /// Commands are missing, came twice, or were not confirmed.
    pub fn check(&self) -> Result<(), Unexpected> {
        Unexpected::unless_whole(self.missing, self.twice)?;
        if self.unconfirmed > 0 {
            return Err(Unexpected(format!("{} results were not confirmed", self.unconfirmed)));
        }
        Ok(())
    }
}

/// What the loops share.
struct Shared {
    /// One for each order in flight: told when its command has run.
    slots: Vec<Notify>,
    completed: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    ran: AtomicU64,
    stop: AtomicBool,
}

struct Slots(Arc<Shared>);

impl Runner for Slots {
    fn run<'t>(&mut self, texts: impl Iterator<Item = &'t str>) {
        let mut ran = 0;
        for text in texts {
            ran += 1;
            if let Some(slot) = number(text).and_then(|slot| self.0.slots.get(slot as usize)) {
                slot.notify_one();
            }
        }
        self.0.ran.fetch_add(ran, Ordering::Relaxed);
    }

    fn confirmed(&mut self, count: u64) {
        self.0.completed.fetch_add(count, Ordering::Relaxed);
    }
}

impl ThroughputLoad {
    /// Measures.
    ///
    /// # Errors
    /// The system could not be connected to.
    pub async fn run<S: System>(&self, system: &S, quiet: bool) -> Result<Throughput, S::Error> {
        let in_flight = self.connections as usize * self.in_flight as usize;
        let shared = Arc::new(Shared {
            slots: (0..in_flight).map(|_| Notify::new()).collect(),
            completed: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            ran: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let consumers = system.consumers(quiet, || Slots(Arc::clone(&shared))).await?;
        system.go(&consumers)?;
        let publishers = system.publishers(self.connections, self.in_flight).await?;
        let mut loops = JoinSet::new();
        for slot in 0..in_flight {
            let publisher = publishers[slot % publishers.len()].clone();
            let text = numbered(slot as u64, self.bytes as usize);
            loops.spawn(closed_loop(Arc::clone(&shared), publisher, system.servers(), slot, text));
        }
        let progress = spinner("measuring", quiet);
        tokio::time::sleep(self.duration / 4).await;
        let (meter, before) = (Meter::start(system), shared.completed.load(Ordering::Relaxed));
        tokio::time::sleep(self.duration).await;
        let (spent, after) = (meter.stop(system), shared.completed.load(Ordering::Relaxed));
        shared.stop.store(true, Ordering::Relaxed);
        // What has not ended by then is counted as missing.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, shared.rest(loops)).await;
        progress.finish_and_clear();
        drop(consumers);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (acknowledged, ran, refused) =
            (count(&shared.acknowledged), count(&shared.ran), count(&shared.refused));
        Ok(Throughput {
            per_second: (after - before) as f64 / spent.seconds,
            in_flight: in_flight as u64,
            spent,
            refused,
            missing: acknowledged.saturating_sub(ran),
            // One that was refused may have been taken all the same.
            twice: ran.saturating_sub(acknowledged + refused),
            unconfirmed: acknowledged.min(ran).saturating_sub(count(&shared.completed)),
        })
    }
}

impl Shared {
    /// Waits until the loops have ended and all that was acknowledged is confirmed.
    async fn rest(&self, mut loops: JoinSet<()>) {
        while loops.join_next().await.is_some() {}
        while self.completed.load(Ordering::Relaxed) < self.acknowledged.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn closed_loop<P: Publisher>(
    shared: Arc<Shared>,
    publisher: P,
    servers: usize,
    slot: usize,
    text: String,
) {
    // One for all rounds: what is measured is not how orders are made.
    let mut order = publisher.order(None, std::iter::once((0, text)));
    let mut round = slot as u64;
    while !shared.stop.load(Ordering::Relaxed) {
        round = round.wrapping_add(shared.slots.len() as u64);
        publisher.aim(&mut order, spread(round, servers));
        match publisher.publish(&order).await {
            Ok(()) => drop(shared.acknowledged.fetch_add(1, Ordering::Relaxed)),
            // Overload is answered with a refusal, so the loop goes on; it is not counted.
            Err(_) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        }
        shared.slots[slot].notified().await;
    }
}
