//! The threads that compute password hashes: few, bounded, apart from everything that delivers commands.
//!
//! They stand aside for all of that, as the doors do, so there may be as many as cores; one of them only gives way, so that
//! a hash ends in time also where others want every core for long. A hash has no steps between which it could let others go
//! first, so the threads that stand aside make up for it after: for as long as they kept the doors waiting. Logins and new credentials have a queue each and take
//! turns, so that neither can keep the other out. A login that cannot have its hash in time is sent away at once, with a
//! moment of its own to come back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use super::calendar::Calendar;
use super::counts::{LoginCounters, LoginCounts};
use super::queue::{Full, Login, LoginQueue, Share};
use super::verified::Verified;
use crate::broker::registry::Clock;
use crate::credentials::{HashCost, Hasher, Presented, RandomPart, SecretHash, Subject};
use crate::limits::{HASHES_MAKING_MAX, LOGIN_RETRY_AFTER_MS_MAX, LOGINS_WAITING_PER_THREAD_MAX};
use crate::priority;
use crate::time::UnixMs;

/// Microseconds of one hash, before any was measured.
const HASH_US: u64 = 17_000;
/// What one counts for at most: a machine that was asleep during one, or nearly so, is awake again.
const HASH_US_MAX: u64 = 1_000_000;
/// The longest rest after a hash.
const REST_MAX: Duration = Duration::from_millis(100);
/// Least milliseconds after which a login that was sent away may come back.
const RETRY_AFTER_MS_MIN: u64 = 1000;

/// Too many logins at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct Busy {
    pub(in crate::broker) retry_after_ms: u32,
}

/// How the pool works.
#[derive(Clone)]
pub(in crate::broker) struct PoolOptions {
    /// At least 1.
    pub(in crate::broker) threads: usize,
    /// A login that takes longer is sent away.
    pub(in crate::broker) timeout: Duration,
    /// What a new hash costs; old ones keep theirs.
    pub(in crate::broker) cost: HashCost,
    pub(in crate::broker) clock: Clock,
}

type Make = Box<dyn FnOnce(&mut Hasher) + Send>;

enum Work {
    Login(Box<Login>),
    Make(Make),
}

/// What the threads and the logins share.
struct State {
    logins: LoginQueue,
    makes: VecDeque<Make>,
    /// Whose turn it is when both wait.
    make_is_next: bool,
    /// What a hash took lately, in microseconds: how fast the queue is now.
    hash_us: u64,
    /// What one took lately while every thread had another, in microseconds, and rather less than more: how fast it will be once
    /// those that come at the same time are through. In their first seconds thousands are sent away, while a hash takes
    /// longer beside their handshakes; at moments so far apart the threads would be idle later. Not what one takes alone: on
    /// cores that are two halves of one, two at once take twice as long, and half of those who come back would be sent away again.
    calm_hash_us: u64,
    /// The moments to come back that have been given out to servers.
    servers: Calendar,
    /// And to keys, which are not behind servers there either.
    keys: Calendar,
    /// Threads that rest.
    resting: usize,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    more: Condvar,
    verified: Verified,
    counters: LoginCounters,
    options: PoolOptions,
}

/// The pool. Its threads end when it is dropped and their queues are empty.
pub(in crate::broker) struct LoginPool {
    shared: Arc<Shared>,
    making: Arc<Semaphore>,
}

impl LoginPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(in crate::broker) fn start(mut options: PoolOptions) -> std::io::Result<LoginPool> {
        options.threads = options.threads.max(1);
        let threads = options.threads;
        let shared = Arc::new(Shared::new(options));
        let pool = LoginPool { shared, making: Arc::new(Semaphore::new(HASHES_MAKING_MAX)) };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new().name(format!("login-{number}")).spawn(move || {
                if number == 0 {
                    priority::give_way();
                    shared.hash_until_closed(|| Duration::ZERO);
                } else {
                    priority::stand_aside();
                    shared.hash_until_closed(priority::kept_waiting);
                }
            })?;
        }
        Ok(pool)
    }

    /// Whether the secret is the one behind `hash`, which belongs to this generation of the subject. A login of a
    /// `suspect` network may use half of the queue.
    pub(in crate::broker) async fn check(
        &self,
        presented: Presented,
        generation: u32,
        hash: SecretHash,
        within: Duration,
        suspect: bool,
    ) -> Result<bool, Busy> {
        let shared = &*self.shared;
        if let Some(right) = shared.verified.recall(presented.subject, presented.digest, generation) {
            shared.counters.recalled.rise();
            return Ok(right);
        }
        let within = within.min(shared.options.timeout);
        let (subject, bits) = (presented.subject, presented.digest.bits());
        let (answer, answered) = oneshot::channel();
        let login = Login { presented, generation, hash, answers: vec![answer] };
        let share = if suspect { Share::Half } else { Share::Whole };
        if shared.admit(login, within, share).is_err() {
            return Err(shared.busy(subject, bits));
        }
        match tokio::time::timeout(within, answered).await {
            Ok(Ok(right)) => Ok(right),
            Ok(Err(_)) | Err(_) => Err(shared.busy(subject, bits)),
        }
    }

    /// The hash to store for a new secret. Waits for its turn.
    pub(in crate::broker) async fn make(&self, random: RandomPart) -> SecretHash {
        let permits = Arc::clone(&self.making);
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let (answer, answered) = oneshot::channel();
        let cost = self.shared.options.cost;
        let make: Make = Box::new(move |hasher| {
            // The place in the queue is free again, whether or not the caller still waits.
            drop(permit);
            if !answer.is_closed() {
                let _ = answer.send(hasher.make(&random, cost));
            }
        });
        self.shared.state.lock().makes.push_back(make);
        self.shared.more.notify_one();
        answered.await.expect("a thread answers everybody who still waits")
    }

    /// How many hashes are computed at once.
    pub(in crate::broker) fn threads(&self) -> usize {
        self.shared.options.threads
    }

    /// The counters, to be raised by who decides without the pool.
    pub(in crate::broker) fn counters(&self) -> &LoginCounters {
        &self.shared.counters
    }

    /// A copy of what was counted.
    pub(in crate::broker) fn counts(&self) -> LoginCounts {
        let waiting = self.shared.state.lock().logins.len() as u64;
        LoginCounts { waiting, ..self.shared.counters.counts() }
    }
}

impl Drop for LoginPool {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.more.notify_all();
    }
}

impl Shared {
    fn new(options: PoolOptions) -> Shared {
        let state = State {
            logins: LoginQueue::new(options.threads * LOGINS_WAITING_PER_THREAD_MAX),
            makes: VecDeque::new(),
            make_is_next: false,
            hash_us: HASH_US,
            calm_hash_us: HASH_US,
            servers: Calendar::default(),
            keys: Calendar::default(),
            resting: 0,
            closed: false,
        };
        Shared {
            state: Mutex::new(state),
            more: Condvar::new(),
            verified: Verified::default(),
            counters: LoginCounters::default(),
            options,
        }
    }

    fn admit(&self, login: Login, within: Duration, share: Share) -> Result<(), Full> {
        let now = (self.options.clock)();
        let mut state = self.state.lock();
        let subject = login.presented.subject;
        state.calendar(subject).give_back(subject, micros(now));
        let Some(login) = state.logins.join(login) else { return Ok(()) };
        // Who is next may try, however slow it was before: else nobody would find out that it is not.
        let is_next = state.logins.ahead_of(subject) == 0 && state.makes.is_empty();
        if !is_next && state.wait(&login, self.options.threads) > within {
            return Err(Full);
        }
        state.logins.push(login, share)?;
        drop(state);
        self.more.notify_one();
        Ok(())
    }

    /// Sent away, with a moment to come back.
    fn busy(&self, subject: Subject, bits: u64) -> Busy {
        self.counters.busy.rise();
        let now = (self.options.clock)();
        let retry_after_ms = self.state.lock().next_moment(subject, now, self.options.threads, bits);
        Busy { retry_after_ms: u32::try_from(retry_after_ms).unwrap_or(u32::MAX) }
    }

    /// The loop of one thread. It rests after each piece of work for its share of the time for which that kept others waiting.
    fn hash_until_closed(&self, kept_waiting: impl Fn() -> Duration) {
        let sharers = u32::try_from(self.options.threads - 1).unwrap_or(u32::MAX).max(1);
        let mut hasher = Hasher::default();
        let mut rested = Duration::ZERO;
        while let Some(work) = self.next_work() {
            let before = kept_waiting();
            match work {
                Work::Login(login) => self.hash(*login, rested, &mut hasher),
                Work::Make(make) => make(&mut hasher),
            }
            rested = ((kept_waiting() - before) / sharers).min(REST_MAX);
            if !rested.is_zero() {
                self.state.lock().resting += 1;
                thread::sleep(rested);
                self.state.lock().resting -= 1;
            }
        }
    }

    fn next_work(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if let Some(work) = state.take_next() {
                return Some(work);
            }
            if state.closed {
                return None;
            }
            self.more.wait(&mut state);
        }
    }

    /// Answers a login; before it the thread has `rested`.
    fn hash(&self, login: Login, rested: Duration, hasher: &mut Hasher) {
        let Login { presented, generation, hash, answers } = login;
        let (subject, digest) = (presented.subject, presented.digest);
        // Another thread may have hashed the same meanwhile.
        let right = self.verified.recall(subject, digest, generation).unwrap_or_else(|| {
            let began = (self.options.clock)();
            let right = hasher.is_right(&presented.random, &hash);
            let took = (self.options.clock)() - began;
            self.state.lock().on_hash(took.0, rested, self.options.threads);
            self.counters.hashed.rise();
            self.verified.remember(subject, digest, generation, right);
            right
        });
        for answer in answers {
            // Who waited may have gone meanwhile.
            let _ = answer.send(right);
        }
    }
}

impl State {
    fn take_next(&mut self) -> Option<Work> {
        let make_first = std::mem::replace(&mut self.make_is_next, false);
        if make_first && let Some(make) = self.makes.pop_front() {
            return Some(Work::Make(make));
        }
        match self.logins.take_next() {
            Some(login) => {
                self.make_is_next = true;
                Some(Work::Login(Box::new(login)))
            }
            None => self.makes.pop_front().map(Work::Make),
        }
    }

    /// How long a new login would wait for the end of its hash.
    fn wait(&self, login: &Login, threads: usize) -> Duration {
        let logins = self.logins.ahead_of(login.presented.subject);
        let makes = self.makes.len().min(logins + 1);
        let hashes = (logins + makes) as u64 / threads as u64 + 1;
        Duration::from_micros(hashes.saturating_mul(self.hash_us))
    }

    /// Clocks give whole milliseconds, which even out over many hashes.
    fn on_hash(&mut self, took_ms: u64, rested: Duration, threads: usize) {
        let took_us = took_ms.saturating_mul(1000).min(HASH_US_MAX);
        let with_rest_us = took_us.saturating_add(rested.as_micros() as u64);
        self.hash_us = (self.hash_us * 15 + with_rest_us) / 16;
        // As many wait as there are threads, and none rests: none of them was idle just now.
        if self.logins.len() >= threads && self.resting == 0 {
            let (calm, share) = (self.calm_hash_us, if took_us < self.calm_hash_us { 16 } else { 64 });
            self.calm_hash_us = (calm * (share - 1) + took_us).div_ceil(share);
        }
    }

    fn calendar(&mut self, subject: Subject) -> &mut Calendar {
        match subject {
            Subject::Server(_) => &mut self.servers,
            Subject::Key(_) | Subject::Admin => &mut self.keys,
        }
    }

    /// When a login that is sent away may come back, in milliseconds from now: each a hash after the one before, so that they
    /// find room, and the threads something to do. Keys have every second turn, as in the queue.
    fn next_moment(&mut self, subject: Subject, now: UnixMs, threads: usize, bits: u64) -> u64 {
        let (now_us, threads) = (micros(now), threads as u64);
        let queue_us = self.logins.len() as u64 * self.hash_us / threads;
        let earliest = now_us + (RETRY_AFTER_MS_MIN * 1000).max(queue_us / 2);
        let turns = if matches!(subject, Subject::Server(_)) { 1 } else { 2 };
        let each_us = turns * self.calm_hash_us / threads;
        match self.calendar(subject).take(subject, now_us, earliest, each_us) {
            Some(moment) => (moment - now_us).div_ceil(1000),
            // More than there are moments: spread over the later half.
            None => LOGIN_RETRY_AFTER_MS_MAX / 2 + bits % (LOGIN_RETRY_AFTER_MS_MAX / 2),
        }
    }
}

fn micros(moment: UnixMs) -> u64 {
    moment.0.saturating_mul(1000)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
