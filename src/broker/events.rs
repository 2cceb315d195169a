//! The recent events, remembered for those who follow them, from the first follower on: nobody can ask for earlier ones.
//!
//! Shards hand over whole batches through a channel and never wait; one task moves them into the ring a few
//! milliseconds later. A follower is a cursor into the ring: a slow one costs nothing and learns that it lost some.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::announced::Announced;
use crate::engine::Event;
use crate::ids::StoreId;

/// Events remembered for followers that come back.
const EVENTS_KEPT: usize = 65_536;
/// Batches on their way to the ring; when full, their events count as lost.
const BATCHES_MAX: usize = 4_096;
/// How long batches are gathered before followers are woken.
const GATHER: Duration = Duration::from_millis(5);
/// Events that a follower takes out of the ring at once.
const TAKE_MAX: usize = 256;

/// The place of an event: boot number and ordinal. Text form `<boot>-<ordinal>` (the SSE `id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The run of the broker.
    pub boot: u32,
    /// Its ordinal in that run, from 1.
    pub ordinal: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.ordinal)
    }
}

/// A text that is not an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event id of the form <boot>-<ordinal>")]
pub struct BadEventId;

impl FromStr for EventId {
    type Err = BadEventId;
    fn from_str(text: &str) -> Result<EventId, BadEventId> {
        let (boot, ordinal) = text.split_once('-').ok_or(BadEventId)?;
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if !digits(boot) || !digits(ordinal) {
            return Err(BadEventId);
        }
        Ok(EventId {
            boot: boot.parse().map_err(|_| BadEventId)?,
            ordinal: ordinal.parse().map_err(|_| BadEventId)?,
        })
    }
}

/// What a follower gets.
#[derive(Debug, Clone)]
pub enum Followed {
    /// The next event.
    Event(EventId, Event),
    /// Some events are no longer remembered (too slow, too long away, or the broker restarted): read the state
    /// again, then go on after this id.
    Lost(EventId),
}

/// The ring, and the way into it.
#[derive(Debug)]
pub(crate) struct EventHub {
    boot: u32,
    batches: Sender<Vec<Event>>,
    waiting: Receiver<Vec<Event>>,
    announced: Announced,
    followed: AtomicBool,
    closed: AtomicBool,
    wake: Notify,
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    /// The ordinal of the newest event.
    newest: u64,
    /// Ordinals below this are gone.
    lost_before: u64,
}

impl EventHub {
    pub(crate) fn new(boot: u32) -> Arc<EventHub> {
        let (batches, waiting) = crossbeam_channel::bounded(BATCHES_MAX);
        Arc::new(EventHub {
            boot,
            batches,
            waiting,
            announced: Announced::default(),
            followed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            wake: Notify::new(),
            ring: Mutex::default(),
            newest: watch::Sender::new(0),
        })
    }

    /// Whether there was ever a follower: nobody can ask for what happened before the first one.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// Hands over the events of a step. Never waits.
    pub(crate) fn publish(&self, batch: Vec<Event>) {
        if let Err(TrySendError::Full(batch)) = self.batches.try_send(batch) {
            let mut ring = self.ring.lock();
            ring.take_all(&self.waiting);
            ring.lose(batch.len() as u64);
        }
        if self.announced.announce() {
            self.wake.notify_one();
        }
    }

    /// Moves batches into the ring and wakes followers, until the hub is dropped by everybody else.
    pub(crate) async fn run(self: Arc<EventHub>) {
        loop {
            self.wake.notified().await;
            tokio::time::sleep(GATHER).await;
            self.announced.begin_look();
            let newest = {
                let mut ring = self.ring.lock();
                ring.take_all(&self.waiting);
                ring.newest
            };
            self.newest.send_replace(newest);
        }
    }

    /// The broker stops: followers get what is there, then the end.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.newest.send_modify(|_| ());
    }

    /// A follower of one store's events (`None` = all) after `since`, or from now on.
    pub(crate) fn follow(
        self: &Arc<EventHub>,
        store: Option<StoreId>,
        since: Option<EventId>,
    ) -> EventStream {
        self.followed.store(true, Ordering::Relaxed);
        let newest = self.newest.subscribe();
        let now = self.ring.lock().newest;
        let (after, lost) = match since {
            None => (now, false),
            Some(id) if id.boot == self.boot && id.ordinal <= now => (id.ordinal, false),
            Some(_) => (now, true),
        };
        EventStream { hub: Arc::clone(self), store, after, lost, newest, ready: VecDeque::new() }
    }
}

impl Ring {
    fn take_all(&mut self, waiting: &Receiver<Vec<Event>>) {
        for batch in waiting.try_iter() {
            self.newest += batch.len() as u64;
            self.events.extend(batch);
        }
        let excess = self.events.len().saturating_sub(EVENTS_KEPT);
        self.events.drain(..excess);
        self.lost_before = self.lost_before.max(self.oldest());
    }

    fn lose(&mut self, count: u64) {
        self.events.clear();
        self.newest += count;
        self.lost_before = self.newest + 1;
    }

    /// The ordinal of the oldest remembered event, or the next one's.
    fn oldest(&self) -> u64 {
        self.newest + 1 - self.events.len() as u64
    }
}

/// A follower.
pub struct EventStream {
    hub: Arc<EventHub>,
    store: Option<StoreId>,
    after: u64,
    lost: bool,
    newest: watch::Receiver<u64>,
    ready: VecDeque<Followed>,
}

impl EventStream {
    /// The next one; `None` when the broker stops. Cancel-safe.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(followed) = self.ready.pop_front() {
                return Some(followed);
            }
            if std::mem::take(&mut self.lost) {
                return Some(Followed::Lost(EventId { boot: self.hub.boot, ordinal: self.after }));
            }
            self.newest.borrow_and_update();
            let closed = self.hub.closed.load(Ordering::Acquire);
            self.fill();
            if self.ready.is_empty() && !self.lost {
                if closed {
                    return None;
                }
                self.newest.changed().await.ok()?;
            }
        }
    }

    /// Takes the next events of this store out of the ring; looks at a bounded number under the lock.
    fn fill(&mut self) {
        let ring = self.hub.ring.lock();
        if self.after + 1 < ring.lost_before {
            self.after = ring.lost_before - 1;
            self.lost = true;
            return;
        }
        let oldest = ring.oldest();
        while self.after < ring.newest && self.ready.len() < TAKE_MAX {
            self.after += 1;
            let Some(event) = ring.events.get((self.after - oldest) as usize) else { return };
            if self.store.is_none_or(|store| store == event.store) {
                let id = EventId { boot: self.hub.boot, ordinal: self.after };
                self.ready.push_back(Followed::Event(id, event.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EventKind;
    use crate::ids::ServerId;
    use crate::time::UnixMs;

    fn event(store: u32, server: u32) -> Event {
        Event { at: UnixMs(1), store: StoreId(store), server: ServerId(server), what: EventKind::Online }
    }

    async fn server(stream: &mut EventStream) -> u32 {
        match stream.next().await {
            Some(Followed::Event(_, event)) => event.server.0,
            other => panic!("expected an event, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn followers_see_their_store_in_order_and_resume() {
        let hub = EventHub::new(7);
        tokio::spawn(Arc::clone(&hub).run());
        let mut all = hub.follow(None, None);
        let mut second = hub.follow(Some(StoreId(2)), None);
        hub.publish(vec![event(1, 1), event(2, 2)]);
        hub.publish(vec![event(1, 3), event(2, 4)]);
        assert_eq!([server(&mut all).await, server(&mut all).await], [1, 2]);
        assert_eq!([server(&mut second).await, server(&mut second).await], [2, 4]);
        let mut resumed = hub.follow(None, Some(EventId { boot: 7, ordinal: 3 }));
        assert_eq!(server(&mut resumed).await, 4);
    }

    #[tokio::test]
    async fn a_stopping_broker_ends_the_streams_after_what_is_there() {
        let hub = EventHub::new(7);
        tokio::spawn(Arc::clone(&hub).run());
        let mut stream = hub.follow(None, None);
        hub.publish(vec![event(1, 1)]);
        assert_eq!(server(&mut stream).await, 1);
        let waiting = tokio::spawn(async move { stream.next().await.is_none() });
        tokio::task::yield_now().await;
        hub.close();
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn an_id_of_another_run_is_lost() {
        let hub = EventHub::new(7);
        let mut stream = hub.follow(None, Some(EventId { boot: 6, ordinal: 1 }));
        assert!(matches!(stream.next().await, Some(Followed::Lost(EventId { boot: 7, ordinal: 0 }))));
    }

    #[tokio::test]
    async fn too_old_an_id_is_lost_and_the_rest_follows() {
        let hub = EventHub::new(1);
        tokio::spawn(Arc::clone(&hub).run());
        hub.publish((0..EVENTS_KEPT as u32 + 10).map(|n| event(1, n + 1)).collect());
        let mut behind = hub.follow(None, None);
        behind.after = 0;
        while hub.ring.lock().newest == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(behind.next().await, Some(Followed::Lost(EventId { ordinal: 10, .. }))));
        assert_eq!(server(&mut behind).await, 11);
    }
}
