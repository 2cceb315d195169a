//! `kill -9` under a closed loop, again and again: is anything that was acknowledged missing in the end, and does anything
//! come again whose acknowledgement the system had confirmed?
//!
//! All connections end with each kill, and new ones are made after it, so a command that was run and whose acknowledgement
//! was on its way may rightly come again. The last consumers stay until everything that was acknowledged has come, and a
//! while longer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::clock::now;
use super::settings::CrashLoad;
use super::system::{Publisher, Runner, System, Unexpected};
use super::text::number;
use super::{numbered, spread};
use crate::progress;

/// The end is given up when nothing more came for so long.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// What comes again comes within this time, once all has come.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The shortest time between two kills, as a share of the mean.
const SPAN_LEAST: f64 = 0.5;

/// What became of the commands.
#[derive(Debug, Clone)]
pub struct Crash {
    /// From the start after each kill until it served.
    pub ready: Vec<Duration>,
    /// Commands whose publish was acknowledged.
    pub acknowledged: u64,
    /// Publishes of which nobody knows, since a kill took their answer.
    pub unanswered: u64,
    /// Acknowledged commands that never came.
    pub missing: u64,
    /// Commands that came again although their acknowledgement had been confirmed.
    pub again_confirmed: u64,
    /// Commands that came again, whose acknowledgement a kill had cut off.
    pub again_unconfirmed: u64,
}

impl Crash {
    /// What must be true of a system that loses nothing and keeps what it has confirmed.
    ///
    /// # Errors
    /// Commands are missing or came again although they were confirmed; or nothing was acknowledged, so nothing was tried.
    pub fn check(&self) -> Result<(), Unexpected> {
        if self.acknowledged == 0 {
            return Err(Unexpected("nothing was acknowledged between the kills: give it more time".into()));
        }
        if self.missing + self.again_confirmed == 0 {
            return Ok(());
        }
        let (missing, again) = (self.missing, self.again_confirmed);
        Err(Unexpected(format!(
            "{missing} commands are missing, {again} came again although they were confirmed"
        )))
    }
}

/// What is known of one command.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    acknowledged: bool,
    ran: bool,
    confirmed: bool,
}

/// Of all commands, by their numbers.
#[derive(Debug, Default)]
struct Fates {
    each: Vec<Fate>,
    /// Not taken, for load.
    refused: u64,
    /// Why a publish was refused for good.
    failure: Option<String>,
    /// Deliveries.
    runs: u64,
    again_confirmed: u64,
    again_unconfirmed: u64,
}

impl Fates {
    /// A command more; its number.
    fn published(&mut self) -> u64 {
        self.each.push(Fate::default());
        self.each.len() as u64 - 1
    }

    fn of(&mut self, number: u64) -> Option<&mut Fate> {
        self.each.get_mut(usize::try_from(number).ok()?)
    }

    fn acknowledged(&mut self, number: u64) {
        self.of(number).expect("it was published").acknowledged = true;
    }

    fn ran(&mut self, number: u64) {
        self.runs += 1;
        let Some(fate) = self.of(number) else { return };
        let before = std::mem::replace(fate, Fate { ran: true, ..*fate });
        if before.confirmed {
            self.again_confirmed += 1;
        } else if before.ran {
            self.again_unconfirmed += 1;
        }
    }

    fn confirmed(&mut self, number: u64) {
        if let Some(fate) = self.of(number) {
            fate.confirmed = true;
        }
    }

    fn missing(&self) -> u64 {
        self.each.iter().filter(|fate| fate.acknowledged && !fate.ran).count() as u64
    }
}

/// A consumer: acknowledgements are confirmed in the order in which commands were run.
struct Watch {
    fates: Arc<Mutex<Fates>>,
    unconfirmed: VecDeque<u64>,
}

impl Runner for Watch {
    fn run<'t>(&mut self, texts: impl Iterator<Item = &'t str>) {
        let mut fates = self.fates.lock();
        for number in texts.filter_map(number) {
            fates.ran(number);
            self.unconfirmed.push_back(number);
        }
    }

    fn confirmed(&mut self, count: u64) {
        let mut fates = self.fates.lock();
        let count = self.unconfirmed.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        self.unconfirmed.drain(..count).for_each(|number| fates.confirmed(number));
    }
}

impl CrashLoad {
    /// Kills and restarts the system, and counts.
    ///
    /// # Errors
    /// The system could not be connected to, or did not come back.
    pub async fn run<S: System>(&self, system: &mut S, quiet: bool) -> Result<Crash, S::Error> {
        let fates = Arc::new(Mutex::new(Fates::default()));
        let watch = || Watch { fates: Arc::clone(&fates), unconfirmed: VecDeque::new() };
        let mut ready = Vec::new();
        let progress = progress::progress(u64::from(self.kills), "killing it under load", quiet);
        for kill in 0..u64::from(self.kills) {
            // Consumers that lose their connection are what is wanted here, and not worth a line each.
            let consumers = system.consumers(true, watch).await?;
            system.go(&consumers)?;
            let publishers = system.publishers(self.connections, self.in_flight).await?;
            let killed = Arc::new(AtomicBool::new(false));
            let mut loops = JoinSet::new();
            for slot in 0..self.connections as usize * self.in_flight as usize {
                let publisher = publishers[slot % publishers.len()].clone();
                let orders = Orders {
                    fates: Arc::clone(&fates),
                    killed: Arc::clone(&killed),
                    servers: system.servers(),
                    bytes: self.bytes as usize,
                };
                loops.spawn(orders.publish(publisher));
            }
            tokio::time::sleep(self.span(kill)).await;
            killed.store(true, Ordering::Relaxed);
            tokio::task::block_in_place(|| system.kill())?;
            loops.shutdown().await;
            drop(publishers);
            system.cut(consumers);
            if let Some(reason) = fates.lock().failure.take() {
                return Err(Unexpected(format!("a publish failed before the kill: {reason}")).into());
            }
            ready.push(tokio::task::block_in_place(|| system.restart())?);
            progress.inc(1);
        }
        progress.finish_and_clear();
        let consumers = system.consumers(quiet, watch).await?;
        system.go(&consumers)?;
        all_came(&fates, quiet).await;
        drop(consumers);
        let fates = fates.lock();
        let acknowledged = fates.each.iter().filter(|fate| fate.acknowledged).count() as u64;
        Ok(Crash {
            ready,
            acknowledged,
            unanswered: fates.each.len() as u64 - acknowledged - fates.refused,
            missing: fates.missing(),
            again_confirmed: fates.again_confirmed,
            again_unconfirmed: fates.again_unconfirmed,
        })
    }

    /// How long the load runs before a kill: from half to one and a half times the span, spread evenly over the kills.
    fn span(&self, kill: u64) -> Duration {
        self.span.mul_f64(SPAN_LEAST + spread(kill, 1000) as f64 / 1000.0)
    }
}

/// What one order in flight is made of.
struct Orders {
    fates: Arc<Mutex<Fates>>,
    killed: Arc<AtomicBool>,
    servers: usize,
    bytes: usize,
}

impl Orders {
    /// Publishes one order after the other until a kill takes its answer.
    async fn publish<P: Publisher>(self, publisher: P) {
        let fates = &self.fates;
        loop {
            let number = fates.lock().published();
            let command = (spread(number, self.servers), numbered(number, self.bytes));
            let order = publisher.order(Some(format!("crash-{number}")), std::iter::once(command));
            match publisher.publish(&order).await {
                Ok(()) => fates.lock().acknowledged(number),
                Err(refused) => match refused.retry_after {
                    Some(wait) => {
                        fates.lock().refused += 1;
                        tokio::time::sleep(wait).await;
                    }
                    None => {
                        if !self.killed.load(Ordering::Relaxed) {
                            fates.lock().failure.get_or_insert(refused.reason);
                        }
                        return;
                    }
                },
            }
        }
    }
}

/// Waits until everything that was acknowledged has come and nothing comes again, or nothing more does.
async fn all_came(fates: &Mutex<Fates>, quiet: bool) {
    let spinner = progress::spinner("waiting for all that was acknowledged", quiet);
    let (mut runs, mut since) = (u64::MAX, now());
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let fates = fates.lock();
        if fates.runs != runs {
            (runs, since) = (fates.runs, now());
        }
        let patience = if fates.missing() == 0 { SETTLED_AFTER } else { STALL_TIMEOUT };
        if since.elapsed() > patience {
            break;
        }
    }
    spinner.finish_and_clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_told_apart() {
        let fates = Arc::new(Mutex::new(Fates::default()));
        for number in 0..4 {
            assert_eq!(fates.lock().published(), number);
            fates.lock().acknowledged(number);
        }
        let consumer = || Watch { fates: Arc::clone(&fates), unconfirmed: VecDeque::new() };
        let texts: Vec<String> = (0..3).map(|number| numbered(number, 20)).collect();
        let mut first = consumer();
        first.run(texts.iter().map(String::as_str));
        first.confirmed(1);
        let mut second = consumer();
        second.run(texts[..2].iter().map(String::as_str));
        let fates = fates.lock();
        assert_eq!((fates.again_confirmed, fates.again_unconfirmed, fates.missing()), (1, 1, 1));
    }

    #[test]
    fn spans_lie_around_their_mean() {
        let load = CrashLoad { span: Duration::from_secs(2), ..CrashLoad::tiny() };
        let spans: Vec<Duration> = (0..100).map(|kill| load.span(kill)).collect();
        let mean = spans.iter().sum::<Duration>() / 100;
        assert!(spans.iter().all(|span| (1..=3).contains(&span.as_secs())), "{spans:?}");
        assert!(mean.abs_diff(load.span) < Duration::from_millis(200), "{mean:?}");
    }
}
