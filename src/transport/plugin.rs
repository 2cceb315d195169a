//! The plugin's side of a connection: its frames to the session, what the engine says to frames.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::ending::Ending;
use super::settings::TransportSettings;
use crate::broker::{Handle, Mailbox, PluginLink, Server};
use crate::credentials::Ticket;
use crate::engine::{
    CloseReason, CommandResult, Delivery, Hello, OnDoubt, Outcome, Player, PlayerNews, PluginOut,
};
use crate::ids::{Seq, SessionEpoch};
use crate::limits::{ERROR_BYTES_MAX, FRAME_BYTES_MAX, OUTPUT_BYTES_MAX, RESULTS_MAX, WINDOW_MAX};
use crate::protocol::{
    self as wire, CAPABILITIES, Code, DeliveryRef, List, PlayerRef, PlayersKind, PluginHello, PluginWelcome,
    Request, Response, ResultRef, TicketRef, VERSION, check, encode_deliver,
};
use crate::time::UnixMs;

/// Result batches of one connection without a confirmation; at that many no more is read from it.
const BATCHES_MAX: usize = 256;
/// There is no ticket to replace.
const NEVER: UnixMs = UnixMs(u64::MAX);

/// A logged-in plugin.
pub(super) struct Plugin {
    link: PluginLink,
    /// Of its server when it logged in: what its tickets hold for.
    generation: u32,
    /// When its ticket is replaced.
    renew_ticket_at: UnixMs,
    last_batch: u64,
    unconfirmed: VecDeque<u64>,
    /// The latest confirmation that is not sent yet: they are cumulative.
    confirm: Option<u64>,
}

impl Plugin {
    pub(super) async fn connect(
        handle: &Handle,
        server: &Server,
        hello: &PluginHello<'_>,
        mailbox: Arc<Mailbox>,
    ) -> Result<Plugin, Ending> {
        let seqs = |ids: List<'_, u64>| ids.iter().map(Seq).collect();
        let hello = Hello {
            window: hello.window,
            held: seqs(hello.held),
            started: seqs(hello.started),
            finished: seqs(hello.finished),
            in_doubt: seqs(hello.in_doubt),
            players: hello.players.map(|players| players.iter().map(player).collect()),
        };
        let link = handle.connect_plugin(server.id, hello, mailbox).await?;
        // A token that was regenerated while it was being checked has ended sessions before this one began.
        match handle.registry().server(server.id) {
            Some(now) if now.generation == server.generation => {}
            Some(_) => return Err(CloseReason::TokenRevoked.into()),
            None => return Err(CloseReason::ServerRemoved.into()),
        }
        let (generation, renew_ticket_at) = (server.generation, NEVER);
        let unconfirmed = VecDeque::new();
        Ok(Plugin { link, generation, renew_ticket_at, last_batch: 0, unconfirmed, confirm: None })
    }

    /// False while so much is unconfirmed that the plugin has to wait.
    pub(super) fn may_read(&self) -> bool {
        self.unconfirmed.len() < BATCHES_MAX
    }

    /// Takes the frames of one message.
    pub(super) async fn on_frames(&mut self, message: &[u8], out: &mut BytesMut) -> Result<(), Ending> {
        let mut batch: (u64, Vec<CommandResult>) = Default::default();
        for frame in Request::decode_all(message, FRAME_BYTES_MAX) {
            let frame = frame?;
            if let Request::Results { batch: number, results } = frame {
                if number <= self.last_batch {
                    let detail = format!("results.batch must rise: {number} came after {}", self.last_batch);
                    return Err(Ending::error(Code::ProtocolViolation, detail));
                }
                self.last_batch = number;
                if batch.1.len() + results.len() > RESULTS_MAX {
                    self.report(&mut batch).await?;
                }
                batch.0 = number;
                batch.1.extend(results.iter().map(result));
                continue;
            }
            // The engine sees frames in the plugin's order.
            self.report(&mut batch).await?;
            match frame {
                Request::Credit { window } => self.link.credit(window).await?,
                Request::Started { ids } => self.link.started(ids.iter().map(Seq).collect()).await?,
                Request::Players { kind, players } => self.link.players(news(kind, players)).await?,
                Request::Ping { nonce } => put(Response::Pong { nonce }, out),
                Request::Pong { .. } | Request::Skipped { .. } => {}
                Request::PluginHello(_) | Request::PublisherHello(_) => {
                    return Err(Ending::error(Code::ProtocolViolation, "a hello came after the login"));
                }
                _ => {
                    return Err(Ending::error(
                        Code::ProtocolViolation,
                        "a publisher's frame came from a plugin",
                    ));
                }
            }
        }
        self.report(&mut batch).await
    }

    async fn report(&mut self, batch: &mut (u64, Vec<CommandResult>)) -> Result<(), Ending> {
        if !batch.1.is_empty() {
            let (number, results) = std::mem::take(batch);
            self.unconfirmed.push_back(number);
            self.link.results(number, results).await?;
        }
        Ok(())
    }

    /// Appends what the engine says.
    pub(super) fn put(
        &mut self,
        message: PluginOut,
        settings: &TransportSettings,
        out: &mut BytesMut,
    ) -> Result<(), Ending> {
        match message {
            PluginOut::Deliver(deliveries) => put_deliveries(&deliveries, out),
            PluginOut::Confirm { batch } => {
                self.confirm = Some(self.confirm.map_or(batch, |earlier| earlier.max(batch)));
                while self.unconfirmed.front().is_some_and(|number| *number <= batch) {
                    self.unconfirmed.pop_front();
                }
            }
            PluginOut::Welcome { epoch, forget } => self.put_welcome(epoch, &forget, settings, out),
            PluginOut::Close(reason) => return Err(reason.into()),
        }
        Ok(())
    }

    fn put_welcome(
        &mut self,
        epoch: SessionEpoch,
        forget: &[Seq],
        settings: &TransportSettings,
        out: &mut BytesMut,
    ) {
        let forget: Vec<u64> = forget.iter().map(|seq| seq.0).collect();
        let ticket = self.next_ticket();
        let welcome = PluginWelcome {
            version: VERSION,
            capabilities: CAPABILITIES,
            epoch: epoch.0,
            heartbeat_ms: settings.heartbeat_ms(),
            ack_deadline_ms: u32::try_from(settings.ack_deadline.as_millis()).unwrap_or(u32::MAX),
            frame_bytes_max: FRAME_BYTES_MAX as u32,
            window_max: WINDOW_MAX,
            ticket: TicketRef(ticket.as_ref().map_or(&[], Ticket::reveal)),
            forget: List::from(&forget),
        };
        put(Response::PluginWelcome(welcome), out);
    }

    /// To be called from time to time: a session that outlives half of its ticket gets a new one.
    pub(super) fn on_tick(&mut self, out: &mut BytesMut) {
        if self.link.now() >= self.renew_ticket_at
            && let Some(ticket) = self.next_ticket()
        {
            put(Response::Ticket { ticket: TicketRef(ticket.reveal()) }, out);
        }
    }

    fn next_ticket(&mut self) -> Option<Ticket> {
        let given = self.link.give_ticket(self.generation);
        self.renew_ticket_at = given.as_ref().map_or(NEVER, |(_, renew_at)| *renew_at);
        given.map(|(ticket, _)| ticket)
    }

    /// Appends what was held back to be said once.
    pub(super) fn put_last(&mut self, out: &mut BytesMut) {
        if let Some(batch) = self.confirm.take() {
            put(Response::Confirm { batch }, out);
        }
    }
}

fn put(frame: Response<'_>, out: &mut BytesMut) {
    frame.encode(out).expect("what the engine says fits in a frame");
}

fn put_deliveries(deliveries: &[Delivery], out: &mut BytesMut) {
    let mut rest = deliveries;
    while !rest.is_empty() {
        let count = encode_deliver(out, rest.iter().map(delivery)).expect("accepted commands fit in a frame");
        rest = &rest[count..];
    }
}

fn delivery(delivery: &Delivery) -> DeliveryRef<'_> {
    DeliveryRef {
        id: delivery.seq.0,
        attempt: delivery.attempt,
        require_online: delivery.require_online,
        rerun: delivery.on_doubt == OnDoubt::Rerun,
        text: &delivery.text,
        player: delivery.player.as_ref().map(|player| PlayerRef { name: &player.name, uuid: player.uuid }),
    }
}

pub(super) fn player(player: PlayerRef<'_>) -> Player {
    Player { name: player.name.into(), uuid: player.uuid }
}

fn news(kind: PlayersKind, players: List<'_, PlayerRef<'_>>) -> PlayerNews {
    let players = players.iter().map(player).collect();
    match kind {
        PlayersKind::Online => PlayerNews::Online(players),
        PlayersKind::Joined => PlayerNews::Joined(players),
        PlayersKind::Left => PlayerNews::Left(players),
    }
}

fn result(result: ResultRef<'_>) -> CommandResult {
    CommandResult {
        seq: Seq(result.id),
        attempt: Some(result.attempt),
        outcome: match result.outcome {
            wire::Outcome::Completed => Outcome::Completed,
            wire::Outcome::Failed => Outcome::Failed,
            wire::Outcome::AwaitingPlayer => Outcome::AwaitingPlayer,
            wire::Outcome::InDoubt => Outcome::InDoubt,
        },
        error: result.error.map(|text| check::cut(text, ERROR_BYTES_MAX).into()),
        output: result.output.map(|text| check::cut(text, OUTPUT_BYTES_MAX).into()),
    }
}
