//! Many commands for servers that are offline: how fast they are accepted, what they cost in memory, how soon the system
//! serves again after `kill -9`, and whether every one of them arrives in the end, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::clock::now;
use super::settings::BacklogLoad;
use super::system::{Publisher, Runner, System, Unexpected};
use super::tally::Tally;
use super::usage::{Meter, Spent};
use super::{numbered, spread};
use crate::progress;

/// The drain is given up when nothing was confirmed for so long.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Memory that has not shrunk for so long has settled; allocators give back in steps of some seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(12);
/// Then it is taken as it is.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What became of a backlog.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// Commands that were acknowledged as durable, a second.
    pub accepted: f64,
    /// What that took.
    pub spent: Spent,
    /// Publishes that were refused for load, and sent again.
    pub refused: u64,
    /// Bytes of the system's memory that each command took.
    pub memory: Option<f64>,
    /// Bytes of its files that each command took.
    pub disk: Option<f64>,
    /// From the start after the kill until it served.
    pub ready: Duration,
    /// As `memory`, of the started one.
    pub memory_after: Option<f64>,
    /// As `memory_after`, once it has settled: when it had not shrunk for a while.
    pub memory_at_rest: Option<f64>,
    /// As `disk`, at that time.
    pub disk_at_rest: Option<f64>,
    /// Commands confirmed a second, from when all consumers were connected and were allowed to receive.
    pub drained: f64,
    /// As `drained`, from the first consumer's connection on.
    pub drained_with_logins: f64,
    /// Commands that never came, half a minute after the last one that did.
    pub missing: u64,
    /// Commands that came more than once.
    pub twice: u64,
}

impl Backlog {
    /// What must be true of a system that loses nothing.
    ///
    /// # Errors
    /// Commands are missing or came twice.
    pub fn check(&self) -> Result<(), Unexpected> {
        Unexpected::unless_whole(self.missing, self.twice)
    }
}

/// What happened to the commands.
struct Shared {
    tally: Tally,
    next: AtomicU64,
    refused: AtomicU64,
    confirmed: AtomicU64,
    /// Told of each confirmation from that of the last command on.
    done: Notify,
    commands: u64,
}

struct Drain(Arc<Shared>);

impl Runner for Drain {
    fn run<'t>(&mut self, texts: impl Iterator<Item = &'t str>) {
        for text in texts {
            // One of another run is not counted anywhere, and nobody waits for it.
            let _ = self.0.tally.note(text);
        }
    }

    fn confirmed(&mut self, count: u64) {
        let confirmed = self.0.confirmed.fetch_add(count, Ordering::Relaxed) + count;
        if confirmed >= self.0.commands {
            self.0.done.notify_one();
        }
    }
}

impl BacklogLoad {
    /// Measures; kills and restarts the system on the way.
    ///
    /// # Errors
    /// The system could not be connected to, did not take a publish at all, or did not come back.
    pub async fn run<S: System>(&self, system: &mut S, quiet: bool) -> Result<Backlog, S::Error> {
        let shared = Arc::new(Shared {
            tally: Tally::new(self.commands),
            next: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            done: Notify::new(),
            commands: self.commands,
        });
        let each = |bytes: u64| bytes as f64 / self.commands as f64;
        let (empty, disk_before) = (system.usage(), system.disk_bytes());
        let spent = self.fill(system, &shared, quiet).await?;
        let disk = disk_before.zip(system.disk_bytes());
        let spinner = progress::spinner("killing it and starting it again", quiet);
        let ready = tokio::task::block_in_place(|| system.kill().and_then(|()| system.restart()))?;
        spinner.finish_and_clear();
        let restarted = empty.zip(system.usage());
        let settled = empty.zip(settled(system, quiet).await);
        let disk_at_rest = disk_before.zip(system.disk_bytes());
        let drained = self.drain(system, &shared, quiet).await?;
        Ok(Backlog {
            accepted: self.commands as f64 / spent.seconds,
            spent,
            refused: shared.refused.load(Ordering::Relaxed),
            memory: spent.system.map(|used| each(used.grown)),
            memory_at_rest: settled.map(|(empty, rss)| each(rss.saturating_sub(empty.rss))),
            disk: disk.map(|(before, after)| each(after.saturating_sub(before))),
            disk_at_rest: disk_at_rest.map(|(before, after)| each(after.saturating_sub(before))),
            ready,
            memory_after: restarted.map(|(empty, now)| each(now.rss.saturating_sub(empty.rss))),
            drained: drained.per_second,
            drained_with_logins: drained.per_second_with_logins,
            missing: shared.tally.missing(),
            twice: shared.tally.twice(),
        })
    }

    /// Publishes the whole backlog.
    async fn fill<S: System>(
        &self,
        system: &S,
        shared: &Arc<Shared>,
        quiet: bool,
    ) -> Result<Spent, S::Error> {
        let publishers = system.publishers(self.connections, self.in_flight).await?;
        let progress = progress::progress(self.commands, "publishing", quiet);
        let meter = Meter::start(system);
        let mut loops = JoinSet::new();
        for slot in 0..self.connections as usize * self.in_flight as usize {
            let publisher = publishers[slot % publishers.len()].clone();
            let load = Load { backlog: self.clone(), servers: system.servers() };
            loops.spawn(load.publish(Arc::clone(shared), publisher, progress.clone()));
        }
        while let Some(ended) = loops.join_next().await {
            ended.map_err(|error| Unexpected(error.to_string()))??;
        }
        progress.finish_and_clear();
        Ok(meter.stop(system))
    }

    /// Connects all servers, then lets them receive, until all commands are confirmed or no more come.
    async fn drain<S: System>(
        &self,
        system: &S,
        shared: &Arc<Shared>,
        quiet: bool,
    ) -> Result<Drained, S::Error> {
        let connecting = now();
        let consumers = system.consumers(quiet, || Drain(Arc::clone(shared))).await?;
        let progress = progress::progress(self.commands, "draining servers", quiet);
        let going = now();
        system.go(&consumers)?;
        let (mut confirmed, mut last) = (0, going);
        loop {
            let told = tokio::time::timeout(LOOK_INTERVAL, shared.done.notified()).await;
            let before = std::mem::replace(&mut confirmed, shared.confirmed.load(Ordering::Relaxed));
            if confirmed > before {
                last = now();
            }
            progress.set_position(confirmed.min(self.commands));
            // Where some came twice the last one is confirmed before all have come.
            let whole = told.is_ok() && shared.tally.missing() == 0;
            if whole || last.elapsed() > STALL_TIMEOUT {
                progress.finish_and_clear();
                return Ok(Drained::of(confirmed.min(self.commands), connecting, going, last));
            }
        }
    }
}

/// The resident bytes of a system that is left alone, once they do not get fewer any more.
async fn settled<S: System>(system: &S, quiet: bool) -> Option<u64> {
    let spinner = progress::spinner("waiting until its memory has settled", quiet);
    let began = now();
    let (mut least, mut since) = (system.usage()?.rss, began);
    while since.elapsed() < SETTLED_AFTER && began.elapsed() < SETTLE_TIMEOUT {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let rss = system.usage()?.rss;
        // By more than a hundredth.
        if rss < least - least / 100 {
            (least, since) = (rss, now());
        }
    }
    spinner.finish_and_clear();
    system.usage().map(|usage| usage.rss)
}

/// How fast it went.
struct Drained {
    per_second: f64,
    per_second_with_logins: f64,
}

impl Drained {
    fn of(confirmed: u64, connecting: Instant, going: Instant, done: Instant) -> Drained {
        let since = |start: Instant| confirmed as f64 / (done - start).as_secs_f64().max(1e-9);
        Drained { per_second: since(going), per_second_with_logins: since(connecting) }
    }
}

/// What each loop publishes its share of.
struct Load {
    backlog: BacklogLoad,
    servers: usize,
}

impl Load {
    async fn publish<P: Publisher>(
        self,
        shared: Arc<Shared>,
        publisher: P,
        progress: ProgressBar,
    ) -> Result<(), Unexpected> {
        let (per_order, bytes) = (u64::from(self.backlog.per_order), self.backlog.bytes as usize);
        loop {
            let first = shared.next.fetch_add(per_order, Ordering::Relaxed);
            if first >= self.backlog.commands {
                return Ok(());
            }
            let numbers = first..(first + per_order).min(self.backlog.commands);
            let count = numbers.end - numbers.start;
            let commands = numbers.map(|number| (spread(number, self.servers), numbered(number, bytes)));
            // One key for all tries, so that none of them can enqueue it twice.
            let order = publisher.order(Some(format!("backlog-{first}")), commands);
            while let Err(refused) = publisher.publish(&order).await {
                let Some(wait) = refused.retry_after else {
                    return Err(Unexpected(format!("a publish failed: {}", refused.reason)));
                };
                shared.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(wait).await;
            }
            progress.inc(count);
        }
    }
}
