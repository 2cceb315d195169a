//! The threads that compute password hashes: few, bounded, apart from everything that delivers commands.
//!
//! Logins and new credentials have a queue each, so that neither can keep the other out. It knows no server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never, select};
use tokio::sync::{Semaphore, oneshot};

use super::verified::Verified;
use crate::credentials::{HashCost, Hasher, Presented, RandomPart, SecretHash};
use crate::limits::{HASHES_MAKING_MAX, LOGINS_WAITING_PER_THREAD_MAX};

/// Estimated milliseconds of one hash, for the time to come back.
const HASH_MS: u64 = 17;
/// Least milliseconds after which a refused login may come back; the spread is as long again.
const RETRY_AFTER_MS: u64 = 1000;

/// Too many logins at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) retry_after_ms: u32,
}

/// What was counted about logins since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoginCounts {
    /// Password hashes computed for logins.
    pub hashed: u64,
    /// Logins decided from memory.
    pub recalled: u64,
    /// Logins refused for their form or tag, without a hash.
    pub forged: u64,
    /// Logins refused after a hash.
    pub wrong: u64,
    /// Logins sent away because too many waited.
    pub busy: u64,
    /// Logins that wait for a hash now.
    pub waiting: u64,
}

/// The counters behind [`LoginCounts`].
#[derive(Debug, Default)]
pub(super) struct LoginCounters {
    pub(super) hashed: AtomicU64,
    pub(super) recalled: AtomicU64,
    pub(super) forged: AtomicU64,
    pub(super) wrong: AtomicU64,
    pub(super) busy: AtomicU64,
}

type Work = Box<dyn FnOnce(&mut Hasher) + Send>;

/// The pool. Its threads end when it is dropped and their queues are empty.
#[derive(Debug)]
pub(super) struct LoginPool {
    logins: Sender<Work>,
    makes: Sender<Work>,
    making: Arc<Semaphore>,
    threads: usize,
    timeout: Duration,
    cost: HashCost,
    verified: Arc<Verified>,
    counters: Arc<LoginCounters>,
}

impl LoginPool {
    /// Starts `threads` threads (at least 1); a login that takes longer than `timeout` is sent away.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(threads: usize, timeout: Duration, cost: HashCost) -> std::io::Result<LoginPool> {
        let threads = threads.max(1);
        let (logins, waiting_logins) = bounded(threads * LOGINS_WAITING_PER_THREAD_MAX);
        let (makes, waiting_makes) = bounded(HASHES_MAKING_MAX);
        for number in 0..threads {
            let (logins, makes) = (waiting_logins.clone(), waiting_makes.clone());
            thread::Builder::new()
                .name(format!("login-{number}"))
                .spawn(move || hash_until_closed(logins, makes))?;
        }
        let making = Arc::new(Semaphore::new(HASHES_MAKING_MAX));
        let (verified, counters) = Default::default();
        Ok(LoginPool { logins, makes, making, threads, timeout, cost, verified, counters })
    }

    /// Whether the secret is the one behind `hash`, which belongs to this generation of the subject.
    pub(super) async fn check(
        &self,
        presented: Presented,
        generation: u32,
        hash: SecretHash,
    ) -> Result<bool, Busy> {
        let digest = presented.digest;
        if let Some(right) = self.verified.recall(digest, generation) {
            self.counters.recalled.fetch_add(1, Ordering::Relaxed);
            return Ok(right);
        }
        let (answer, answered) = oneshot::channel();
        let (verified, counters) = (Arc::clone(&self.verified), Arc::clone(&self.counters));
        let work: Work = Box::new(move |hasher| {
            if answer.is_closed() {
                return;
            }
            // Many connections may present the same credential at once: only the first of them costs a hash.
            let right = verified.recall(digest, generation).unwrap_or_else(|| {
                counters.hashed.fetch_add(1, Ordering::Relaxed);
                let right = hasher.is_right(&presented.random, &hash);
                verified.remember(digest, generation, right);
                right
            });
            // The caller may have gone meanwhile.
            let _ = answer.send(right);
        });
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.logins.try_send(work) {
            return Err(self.busy(digest.bits()));
        }
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(Ok(right)) => Ok(right),
            Ok(Err(_)) | Err(_) => Err(self.busy(digest.bits())),
        }
    }

    /// The hash to store for a new secret. Waits for its turn.
    pub(super) async fn make(&self, random: RandomPart) -> SecretHash {
        let permits = Arc::clone(&self.making);
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let (answer, answered) = oneshot::channel();
        let cost = self.cost;
        let work: Work = Box::new(move |hasher| {
            // The place in the queue is free again, whether or not the caller still waits.
            drop(permit);
            if !answer.is_closed() {
                let _ = answer.send(hasher.make(&random, cost));
            }
        });
        self.makes
            .try_send(work)
            .expect("there are as many places as permits, and threads as long as the pool");
        answered.await.expect("a thread answers everybody who still waits")
    }

    /// How many hashes are computed at once.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// The counters, to be raised by who refuses without the pool.
    pub(super) fn counters(&self) -> &LoginCounters {
        &self.counters
    }

    /// A copy of what was counted.
    pub(super) fn counts(&self) -> LoginCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LoginCounts {
            hashed: load(&self.counters.hashed),
            recalled: load(&self.counters.recalled),
            forged: load(&self.counters.forged),
            wrong: load(&self.counters.wrong),
            busy: load(&self.counters.busy),
            waiting: self.logins.len() as u64,
        }
    }

    /// Sent away until the queue has room again, spread by some bits so that not all come back at once.
    fn busy(&self, bits: u64) -> Busy {
        self.counters.busy.fetch_add(1, Ordering::Relaxed);
        let queue_ms = self.logins.len() as u64 * HASH_MS / self.threads as u64;
        let least = RETRY_AFTER_MS + queue_ms;
        Busy { retry_after_ms: (least + bits % least) as u32 }
    }
}

/// The loop of one thread: takes from both queues alike, ends when both are closed and empty.
fn hash_until_closed(mut logins: Receiver<Work>, mut makes: Receiver<Work>) {
    let mut hasher = Hasher::default();
    let mut open = 2;
    while open > 0 {
        select! {
            recv(logins) -> work => match work {
                Ok(work) => work(&mut hasher),
                Err(_) => { logins = never(); open -= 1; }
            },
            recv(makes) -> work => match work {
                Ok(work) => work(&mut hasher),
                Err(_) => { makes = never(); open -= 1; }
            },
        }
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
