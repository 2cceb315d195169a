//! The publisher's side of a connection: orders to the desk, answers and events to frames.

use std::future::pending;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::FutureExt;

use super::ending::{Ending, Refused, refused};
use super::plugin::player;
use super::settings::TransportSettings;
use crate::broker::{
    BrokerError, EventId, EventStream, Followed, Handle, Mailbox, OrderRequest, Principal, Published,
    PublisherLink, RequestedCommand, Scope, Target,
};
use crate::engine::{Event, EventKind, Labels, NewCommand, OnDoubt, Player, Status};
use crate::ids::{ServerId, StoreId};
use crate::limits::FRAME_BYTES_MAX;
use crate::protocol::{
    self as wire, CAPABILITIES, Code, CommandEvent, CommandRef, EventPlace, EventRef, Publish,
    PublishCommand, PublisherWelcome, Request, Response, VERSION, What, check, encode_published,
};
use crate::time::{Millis, UnixMs};

/// Events in one turn, so that answers never wait long behind them.
const EVENTS_PER_TURN: usize = 256;

/// A logged-in publisher.
pub(super) struct Publisher {
    handle: Handle,
    store: StoreId,
    may_publish: bool,
    link: PublisherLink,
    in_flight: u32,
    in_flight_max: u32,
    events: Option<EventStream>,
}

impl Publisher {
    /// Connects and appends the welcome.
    pub(super) fn connect(
        handle: &Handle,
        principal: &Principal,
        mailbox: Arc<Mailbox>,
        settings: &TransportSettings,
        out: &mut BytesMut,
    ) -> Publisher {
        let welcome = PublisherWelcome {
            version: VERSION,
            capabilities: CAPABILITIES,
            store: principal.store.0,
            heartbeat_ms: settings.heartbeat_ms(),
            frame_bytes_max: FRAME_BYTES_MAX as u32,
            publishes_in_flight_max: settings.publish_window,
        };
        put(Response::PublisherWelcome(welcome), out);
        Publisher {
            handle: handle.clone(),
            store: principal.store,
            may_publish: matches!(principal.scope, Scope::Admin | Scope::Publish),
            link: handle.connect_publisher(principal.store, mailbox),
            in_flight: 0,
            in_flight_max: settings.publish_window,
            events: None,
        }
    }

    /// False while so much is unanswered that the publisher has to wait.
    pub(super) fn may_read(&self) -> bool {
        self.in_flight < self.in_flight_max
    }

    /// Takes the frames of one message.
    pub(super) async fn on_frames(&mut self, message: &[u8], out: &mut BytesMut) -> Result<(), Ending> {
        for frame in Request::decode_all(message, FRAME_BYTES_MAX) {
            match frame? {
                Request::Publish(publish) => self.publish(&publish, out).await,
                Request::Subscribe { after } => {
                    let after = after.map(|place| EventId { boot: place.boot, ordinal: place.ordinal });
                    self.events = Some(self.handle.events(Some(self.store), after));
                }
                Request::Ping { nonce } => put(Response::Pong { nonce }, out),
                Request::Pong { .. } | Request::Skipped { .. } => {}
                Request::PluginHello(_) | Request::PublisherHello(_) => {
                    return Err(Ending::error(Code::ProtocolViolation, "a hello came after the login"));
                }
                _ => {
                    return Err(Ending::error(
                        Code::ProtocolViolation,
                        "a plugin's frame came from a publisher",
                    ));
                }
            }
        }
        Ok(())
    }

    async fn publish(&mut self, publish: &Publish<'_>, out: &mut BytesMut) {
        let request = publish.request;
        if !self.may_publish {
            return put_refused(request, Code::Forbidden, 0, "the key may read, and not publish", out);
        }
        match order(self.handle.now(), publish) {
            Ok(order) => {
                self.in_flight += 1;
                self.link.publish(request, order).await;
            }
            Err(invalid) => put_refused(request, invalid.code, 0, &invalid.to_string(), out),
        }
    }

    /// Appends the answer to a publish.
    pub(super) fn put(&mut self, request: u64, result: Result<Published, BrokerError>, out: &mut BytesMut) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match result {
            Ok(published) => {
                let id = |id: &crate::ids::CommandId| CommandRef { server: id.server.0, seq: id.seq.0 };
                let (order, commands) = (published.order.seq.0, published.commands.iter().map(id));
                encode_published(out, request, order, published.replayed, commands)
                    .expect("an order's ids fit in a frame");
            }
            Err(error) => {
                let Refused { code, retry_after_ms, detail } = refused(error);
                put_refused(request, code, retry_after_ms, &detail, out);
            }
        }
    }

    /// The next event; never, when nothing is followed. Cancel-safe.
    pub(super) async fn next_event(&mut self) -> Option<Followed> {
        match &mut self.events {
            Some(events) => events.next().await,
            None => pending().await,
        }
    }

    /// Appends an event and those right behind it.
    pub(super) fn put_events(&mut self, first: Option<Followed>, out: &mut BytesMut) {
        let mut next = first;
        for turn in 1..=EVENTS_PER_TURN {
            match next {
                Some(Followed::Event(id, event)) => put_event(id, &event, out),
                Some(Followed::Lost(id)) => put(Response::EventsLost { place: place(id) }, out),
                // The broker stops; a go-away follows.
                None => {
                    self.events = None;
                    return;
                }
            }
            if turn == EVENTS_PER_TURN {
                return;
            }
            match self.next_event().now_or_never() {
                Some(following) => next = following,
                None => return,
            }
        }
    }
}

fn put(frame: Response<'_>, out: &mut BytesMut) {
    frame.encode(out).expect("frames without long lists fit");
}

fn put_refused(request: u64, code: Code, retry_after_ms: u32, detail: &str, out: &mut BytesMut) {
    put(Response::Refused { request, code: code.number(), retry_after_ms, detail }, out);
}

fn place(id: EventId) -> EventPlace {
    EventPlace { boot: id.boot, ordinal: id.ordinal }
}

fn put_event(id: EventId, event: &Event, out: &mut BytesMut) {
    let what = match &event.what {
        EventKind::Online => What::Online,
        EventKind::Offline => What::Offline,
        EventKind::Command { seq, order, status, attempt, note, error } => What::Command(CommandEvent {
            seq: seq.0,
            order: order.seq.0,
            status: status_of(*status),
            attempt: *attempt,
            note: *note as u8,
            error: error.as_deref(),
        }),
    };
    put(Response::Event(EventRef { place: place(id), at: event.at.0, server: event.server.0, what }), out);
}

fn status_of(status: Status) -> wire::Status {
    match status {
        Status::Pending => wire::Status::Pending,
        Status::Delivered => wire::Status::Delivered,
        Status::AwaitingPlayer => wire::Status::AwaitingPlayer,
        Status::Completed => wire::Status::Completed,
        Status::Failed => wire::Status::Failed,
        Status::InDoubt => wire::Status::InDoubt,
        Status::Cancelled => wire::Status::Cancelled,
        Status::Expired => wire::Status::Expired,
    }
}

/// Checks a publish and makes it the broker's.
fn order(now: UnixMs, publish: &Publish<'_>) -> Result<OrderRequest, check::Invalid> {
    check::publish(now, publish)?;
    let of_order: Option<Player> = publish.order.player.map(player);
    Ok(OrderRequest {
        key: publish.order.key.map(Into::into),
        reference: publish.order.reference.map(Into::into),
        ordered: publish.order.ordered,
        commands: publish.commands.iter().map(|each| command(&each, of_order.as_ref())).collect(),
        player: of_order,
    })
}

fn command(command: &PublishCommand<'_>, of_order: Option<&Player>) -> RequestedCommand {
    let labels = (command.stage.is_some() || command.metadata.is_some()).then(|| {
        Box::new(Labels { stage: command.stage.map(Into::into), metadata: command.metadata.map(Into::into) })
    });
    RequestedCommand {
        target: match command.server {
            0 => Target::All,
            server => Target::One(ServerId(server)),
        },
        delay: command.delay_ms.map(Millis),
        command: NewCommand {
            server: ServerId(0),
            text: command.text.into(),
            player: command.player.map(player).or_else(|| of_order.cloned()),
            require_online: command.require_online,
            not_before: command.not_before.map(UnixMs),
            expires_at: command.expires_at.map(UnixMs),
            on_doubt: if command.rerun { OnDoubt::Rerun } else { OnDoubt::Hold },
            labels,
        },
    }
}
