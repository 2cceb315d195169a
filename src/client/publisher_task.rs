//! The task behind a publisher client: keeps one connection up and every publish until it is answered.
//!
//! What must stay true: requests are sent in the order in which they came, and again, all that are unanswered, first
//! thing on a new connection; each is answered to its caller exactly once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::error::{ClientError, PublishError};
use super::event::PublisherEvent;
use super::options::PublisherOptions;
use super::order::Accepted;
use super::publisher::{Pending, Shared, State, Subscription};
use super::session::{End, GATHER_BYTES, Silence, send_frames};
use super::socket::{Arrived, Socket, Target};
use crate::ids::{CommandId, NumberMap, OrderId, Seq, ServerId, StoreId};
use crate::limits::FRAME_BYTES_MAX;
use crate::protocol::{
    CAPABILITIES, Code, CommandRef, Credential, EventPlace, List, PublisherHello, PublisherWelcome, Request,
    Response, VERSION,
};

pub(super) struct PublisherTask {
    shared: Arc<Shared>,
    target: Target,
    connect_timeout: Duration,
    backoff: Backoff,
    /// Unanswered publishes by number.
    waiting: NumberMap<u64, Pending>,
    events: Option<Follow>,
    session: Session,
    stopping: bool,
}

/// What belongs to one connection.
#[derive(Default)]
struct Session {
    /// Logged in, to this store.
    store: Option<StoreId>,
    /// Publishes that are not on this connection yet. Numbers are drawn before they are queued, so they may come out
    /// of order.
    unsent: VecDeque<u64>,
    /// Sent on this connection and unanswered.
    sent: usize,
    /// The broker's bound on `sent`.
    sent_max: usize,
    out: BytesMut,
    silence: Silence,
}

/// Who follows events.
struct Follow {
    subscription: Subscription,
    /// The broker knows.
    asked: bool,
    /// The follower's channel was full: nothing is passed on until it is empty and the broker is asked again.
    behind: bool,
}

impl PublisherTask {
    pub(super) fn new(options: &PublisherOptions, shared: Arc<Shared>) -> Result<PublisherTask, ClientError> {
        Ok(PublisherTask {
            shared,
            target: Target::new(options.route())?,
            connect_timeout: options.connect_timeout,
            backoff: Backoff::new(options.backoff),
            waiting: NumberMap::default(),
            events: None,
            session: Session::default(),
            stopping: false,
        })
    }

    pub(super) async fn run(mut self) {
        let error = loop {
            let (reason, asked) = match self.connection().await {
                End::Fatal(error) => break error,
                End::Retry { reason, after } => (reason, after),
            };
            self.shared.state.send_replace(State::Away);
            let wait = self.backoff.next_wait(asked);
            tracing::debug!(reason, ?wait, unanswered = self.waiting.len(), "publisher connection ended");
            if let Err(error) = self.pause(wait).await {
                break error;
            }
        };
        self.shared.state.send_replace(State::Ended(Arc::new(error.clone())));
        self.take_queue();
        for (_, pending) in std::mem::take(&mut self.waiting) {
            let _ = pending.answer.send(Err(PublishError::Unanswered(error.clone())));
        }
    }

    async fn pause(&mut self, wait: Duration) -> Result<(), ClientError> {
        let until = sleep(wait);
        tokio::pin!(until);
        loop {
            self.take_queue();
            if self.stopping {
                return Err(ClientError::Stopped);
            }
            tokio::select! {
                () = &mut until => return Ok(()),
                () = self.shared.wake.notified() => {}
            }
        }
    }

    async fn connection(&mut self) -> End {
        let started = Instant::now();
        let mut socket = match timeout(self.connect_timeout, Socket::dial(&mut self.target)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return error.into(),
            Err(_) => return End::lost("connecting took too long"),
        };
        let mut unsent: Vec<u64> = self.waiting.keys().copied().collect();
        unsent.sort_unstable();
        self.session = Session { unsent: unsent.into(), ..Session::default() };
        if let Some(events) = &mut self.events {
            events.asked = false;
        }
        let hello = PublisherHello {
            version_min: VERSION,
            version_max: VERSION,
            capabilities: CAPABILITIES,
            credential: match socket.has_shown_credential() {
                true => Credential::None,
                false => Credential::Token(self.target.credential()),
            },
        };
        Request::PublisherHello(hello).encode(&mut self.session.out).expect("a key of this length fits");
        let end = match self.serve(&mut socket, started + self.connect_timeout).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let _ = timeout(Duration::from_secs(1), socket.close()).await;
        end
    }

    async fn serve(&mut self, socket: &mut Socket, login_by: Instant) -> Result<Infallible, End> {
        let tick = sleep(self.session.silence.tick_length());
        tokio::pin!(tick);
        tick.as_mut().reset(Instant::now() + self.session.silence.tick_length());
        let shared = Arc::clone(&self.shared);
        // One that goes on waiting from turn to turn: getting in line and out again costs two locks.
        let mut woken = pin!(shared.wake.notified());
        loop {
            // Not left to the branch below, which a broker that is never silent keeps from its turn.
            if tick.is_elapsed() {
                if self.session.store.is_some() {
                    self.session.silence.on_tick()?;
                } else if Instant::now() >= login_by {
                    return Err(End::lost("logging in took too long"));
                }
                tick.as_mut().reset(Instant::now() + self.session.silence.tick_length());
            }
            self.take_queue();
            if self.stopping {
                return Err(End::Fatal(ClientError::Stopped));
            }
            if !socket.is_writing() {
                self.fill();
                send_frames(socket, &mut self.session.out).await?;
            }
            tokio::select! {
                // What there is most of first.
                biased;
                arrived = socket.step() => {
                    self.session.silence.on_heard();
                    if let Arrived::Frames(frames) = arrived? {
                        self.on_frames(&frames)?;
                    }
                }
                // Whoever else is about to publish goes first: what is published together travels together.
                () = &mut woken => {
                    woken.set(shared.wake.notified());
                    tokio::task::yield_now().await;
                }
                () = &mut tick => {}
            }
        }
    }

    /// Takes what the handles were told since.
    fn take_queue(&mut self) {
        let mut queue = self.shared.queue.lock();
        self.session.unsent.extend(queue.publishes.iter().map(|(request, _)| *request));
        self.waiting.extend(queue.publishes.drain(..));
        self.stopping |= queue.stopping;
        if let Some(subscription) = queue.subscription.take() {
            self.events = Some(Follow { subscription, asked: false, behind: false });
        }
    }

    /// Appends everything that can be sent now.
    fn fill(&mut self) {
        if self.session.store.is_none() {
            return;
        }
        self.subscribe();
        let session = &mut self.session;
        while session.sent < session.sent_max && session.out.len() < GATHER_BYTES {
            let Some(request) = session.unsent.pop_front() else { break };
            if let Some(pending) = self.waiting.get(&request) {
                session.out.extend_from_slice(&pending.frame);
                session.sent += 1;
            }
        }
    }

    fn subscribe(&mut self) {
        let Some(follow) = &mut self.events else { return };
        let sender = &follow.subscription.sender;
        if sender.is_closed() {
            self.events = None;
            return;
        }
        if follow.behind && sender.capacity() == sender.max_capacity() {
            (follow.behind, follow.asked) = (false, false);
        }
        if !follow.asked {
            follow.asked = true;
            let after = follow.subscription.after;
            self.put(Request::Subscribe { after });
        }
    }

    fn on_frames(&mut self, message: &Bytes) -> Result<(), End> {
        for frame in Response::decode_all(message, FRAME_BYTES_MAX) {
            let frame = frame.map_err(|error| End::lost(format!("the broker sent a bad frame: {error}")))?;
            match frame {
                Response::PublisherWelcome(welcome) => self.on_welcome(&welcome),
                Response::Published { request, order, replayed, commands } => {
                    let accepted = self.accepted(order, replayed, commands);
                    self.answer(request, Ok(accepted));
                }
                Response::Refused { code, .. } if is_unknown(code) => {
                    // Accepted or not: sent again under the same key, the answer is the truth.
                    return Err(End::lost("the broker is stopping"));
                }
                Response::Refused { request, code, retry_after_ms, detail } => {
                    self.answer(request, Err(refused(code, retry_after_ms, detail)));
                }
                Response::Event(event) => {
                    let store = self.session.store.ok_or_else(|| End::lost("an event before the welcome"))?;
                    self.on_event(PublisherEvent::from_frame(&event, store));
                }
                Response::EventsLost { place } => self.on_event(PublisherEvent::Lost { place }),
                Response::Ping { nonce } => self.put(Request::Pong { nonce }),
                Response::Pong { .. } | Response::Ticket { .. } | Response::Skipped { .. } => {}
                Response::GoAway { code, delay_ms } => return Err(End::go_away(code, delay_ms)),
                Response::Error { code, retry_after_ms, detail } => {
                    return Err(End::refused(code, retry_after_ms, detail));
                }
                Response::PluginWelcome(_) | Response::Deliver { .. } | Response::Confirm { .. } => {
                    return Err(End::lost("the broker sent a plugin's frame"));
                }
            }
        }
        Ok(())
    }

    fn on_welcome(&mut self, welcome: &PublisherWelcome) {
        let store = StoreId(welcome.store);
        self.session.store = Some(store);
        self.session.sent_max = welcome.publishes_in_flight_max.max(1) as usize;
        self.session.silence = Silence::new(welcome.heartbeat_ms);
        self.backoff.on_success();
        self.shared.state.send_replace(State::Connected(store));
    }

    fn accepted(&self, order: u64, replayed: bool, commands: List<'_, CommandRef>) -> Accepted {
        let store = self.session.store.unwrap_or(StoreId(0));
        let id = |command: CommandRef| CommandId { server: ServerId(command.server), seq: Seq(command.seq) };
        Accepted {
            order: OrderId { store, seq: Seq(order) },
            replayed,
            commands: commands.iter().map(id).collect(),
        }
    }

    fn answer(&mut self, request: u64, answer: Result<Accepted, PublishError>) {
        // An answer to something that is not waiting is the broker's mistake, and harmless.
        if let Some(pending) = self.waiting.remove(&request) {
            self.session.sent = self.session.sent.saturating_sub(1);
            let _ = pending.answer.send(answer);
        }
    }

    fn on_event(&mut self, event: PublisherEvent) {
        let Some(follow) = &mut self.events else { return };
        if follow.behind {
            return;
        }
        let place: EventPlace = event.place();
        match follow.subscription.sender.try_send(event) {
            Ok(()) => follow.subscription.after = Some(place),
            Err(TrySendError::Full(_)) => follow.behind = true,
            Err(TrySendError::Closed(_)) => self.events = None,
        }
    }

    fn put(&mut self, request: Request<'_>) {
        request.encode(&mut self.session.out).expect("frames without lists always fit");
    }
}

/// Whether a code leaves open whether the order was accepted.
fn is_unknown(number: u16) -> bool {
    Code::from_number(number) == Some(Code::ShuttingDown)
}

fn refused(number: u16, retry_after_ms: u32, detail: &str) -> PublishError {
    PublishError::Refused {
        code: Code::from_number(number).unwrap_or(Code::Internal),
        detail: detail.to_owned(),
        retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(u64::from(retry_after_ms))),
    }
}
