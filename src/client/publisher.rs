//! The publisher client as a program sees it: publish and wait for the answer, many at once; follow events.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::error::{ClientError, PublishError};
use super::event::PublisherEvent;
use super::options::PublisherOptions;
use super::order::{Accepted, Order};
use super::publisher_task::PublisherTask;
use crate::ids::StoreId;
use crate::protocol::EventPlace;

/// Events that wait for a slow follower; beyond it, following starts again from the last one taken.
pub(super) const EVENTS_MAX: usize = 4096;
/// How long [`PublisherClient::stop`] waits for the task.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A publish on its way.
pub(super) struct Pending {
    pub(super) frame: BytesMut,
    pub(super) answer: oneshot::Sender<Result<Accepted, PublishError>>,
    /// Given back with the answer.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// A wish to follow events.
pub(super) struct Subscription {
    pub(super) after: Option<EventPlace>,
    pub(super) sender: mpsc::Sender<PublisherEvent>,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) publishes: VecDeque<(u64, Pending)>,
    pub(super) subscription: Option<Subscription>,
    pub(super) stopping: bool,
}

/// Where a client stands.
#[derive(Debug, Clone)]
pub(super) enum State {
    Away,
    Connected(StoreId),
    Ended(Arc<ClientError>),
}

pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    pub(super) wake: Notify,
    pub(super) state: watch::Sender<State>,
    in_flight: Arc<Semaphore>,
    next_request: AtomicU64,
}

/// A connection of a store's backend that is kept up until it is stopped or dropped. Cheap to clone.
#[derive(Clone)]
pub struct PublisherClient {
    shared: Arc<Shared>,
    /// Its last clone's drop ends the task.
    _alive: Arc<Alive>,
}

struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.queue.lock().stopping = true;
        self.0.wake.notify_one();
    }
}

impl PublisherClient {
    /// Starts to connect, on the current tokio runtime.
    ///
    /// # Errors
    /// The options cannot be used.
    pub fn start(options: PublisherOptions) -> Result<PublisherClient, ClientError> {
        options.check()?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Notify::new(),
            state: watch::channel(State::Away).0,
            in_flight: Arc::new(Semaphore::new(options.in_flight as usize)),
            next_request: AtomicU64::new(1),
        });
        let task = PublisherTask::new(&options, shared.clone())?;
        tokio::spawn(task.run());
        Ok(PublisherClient { _alive: Arc::new(Alive(shared.clone())), shared })
    }

    /// Publishes an order and waits until it is durable. It is sent again, under the same key, when the connection is lost
    /// before the answer. Waits while `in_flight` others are unanswered. Dropping the future does not withdraw it.
    ///
    /// # Errors
    /// Refused (nothing was enqueued), too large for a frame, or the client ended without an answer.
    pub async fn publish(&self, order: impl Borrow<Order>) -> Result<Accepted, PublishError> {
        let shared = &self.shared;
        let permit = shared.in_flight.clone().acquire_owned().await.map_err(|_| self.end())?;
        // Drawn and encoded outside the lock: the task does not mind numbers that come out of order.
        let request = shared.next_request.fetch_add(1, Ordering::Relaxed);
        let frame =
            order.borrow().frame(request).map_err(|error| PublishError::TooLarge(error.to_string()))?;
        let (answer, answered) = oneshot::channel();
        shared.queue.lock().publishes.push_back((request, Pending { frame, answer, _permit: permit }));
        shared.wake.notify_one();
        // The task that would answer may have ended before it saw this one.
        if matches!(*shared.state.borrow(), State::Ended(_)) {
            return Err(self.end().into());
        }
        answered.await.unwrap_or_else(|_| Err(self.end().into()))
    }

    /// Follows the events of the key's store: all that are remembered after `after`, or from now on. It goes on where it
    /// stopped when the connection is lost. A second call takes the place of the first.
    pub fn events(&self, after: Option<EventPlace>) -> mpsc::Receiver<PublisherEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        self.shared.queue.lock().subscription = Some(Subscription { after, sender });
        self.shared.wake.notify_one();
        receiver
    }

    /// Waits until it is logged in; gives the key's store.
    ///
    /// # Errors
    /// Whatever ended the client.
    pub async fn connected(&self) -> Result<StoreId, ClientError> {
        let mut state = self.shared.state.subscribe();
        match state.wait_for(|state| !matches!(state, State::Away)).await.as_deref() {
            Ok(State::Connected(store)) => Ok(*store),
            _ => Err(self.end()),
        }
    }

    /// Waits until it is over and says why.
    pub async fn ended(&self) -> ClientError {
        let mut state = self.shared.state.subscribe();
        let _ = state.wait_for(|state| matches!(state, State::Ended(_))).await;
        self.end()
    }

    /// Closes. Publishes without an answer end with [`PublishError::Unanswered`].
    pub async fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_one();
        let _ = timeout(STOP_TIMEOUT, self.ended()).await;
    }

    fn end(&self) -> ClientError {
        match &*self.shared.state.borrow() {
            State::Ended(error) => (**error).clone(),
            _ => ClientError::Stopped,
        }
    }
}
