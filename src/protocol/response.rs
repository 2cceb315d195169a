//! What the broker may say to a plugin or a publisher, frame by frame, as protocol.md lays it out.

use bytes::BytesMut;

use super::codec::{BadField, Reader, Writer, bit};
use super::error::{EncodeError, ProtocolError};
use super::event::EventRef;
use super::fields::{EventPlace, PlayerRef, TicketRef};
use super::frame::{self, Direction, Frames};
use super::list::{Item, List};
use super::request::{encode_nonce, kind as request_kind};
use crate::limits::DELIVER_COMMANDS_MAX;

mod kind {
    pub(super) const PLUGIN_WELCOME: u8 = 0x41;
    pub(super) const PUBLISHER_WELCOME: u8 = 0x42;
    pub(super) const DELIVER: u8 = 0x43;
    pub(super) const CONFIRM: u8 = 0x44;
    pub(super) const PUBLISHED: u8 = 0x45;
    pub(super) const REFUSED: u8 = 0x46;
    pub(super) const EVENT: u8 = 0x47;
    pub(super) const EVENTS_LOST: u8 = 0x48;
    pub(super) const GO_AWAY: u8 = 0x49;
    pub(super) const ERROR: u8 = 0x4a;
    pub(super) const TICKET: u8 = 0x81;
}

/// A frame from the broker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Response<'a> {
    /// The plugin is logged in.
    PluginWelcome(PluginWelcome<'a>),
    /// The publisher is logged in.
    PublisherWelcome(PublisherWelcome),
    /// Plugin: run these.
    Deliver {
        /// 1 to `DELIVER_COMMANDS_MAX`.
        commands: List<'a, DeliveryRef<'a>>,
    },
    /// Plugin: the results of all batches up to this one are durable.
    Confirm {
        /// The batch.
        batch: u64,
    },
    /// Publisher: the order is durable.
    Published {
        /// As in the publish.
        request: u64,
        /// The order, of this publisher's store.
        order: u64,
        /// The same key and body were accepted before; nothing was added.
        replayed: bool,
        /// In the order of the publish, with "every server" expanded.
        commands: List<'a, CommandRef>,
    },
    /// Publisher: the order was not accepted; nothing changed.
    Refused {
        /// As in the publish.
        request: u64,
        /// A number of [`super::Code`].
        code: u16,
        /// When to try again; 0 = no advice.
        retry_after_ms: u32,
        /// For people: the field and its range.
        detail: &'a str,
    },
    /// Publisher: something happened.
    Event(EventRef<'a>),
    /// Publisher: events up to and including this place are no longer remembered; read the state over REST.
    EventsLost {
        /// The last one lost.
        place: EventPlace,
    },
    /// Answer: `Pong` with the same nonce.
    Ping {
        /// Any number.
        nonce: u64,
    },
    /// The answer to a `Ping`.
    Pong {
        /// As in the ping.
        nonce: u64,
    },
    /// The connection is about to close; connect again after the delay.
    GoAway {
        /// A number of [`super::Code`].
        code: u16,
        /// From now, in milliseconds.
        delay_ms: u32,
    },
    /// Something is wrong; the connection closes after this frame.
    Error {
        /// A number of [`super::Code`].
        code: u16,
        /// When to try again; 0 = no advice.
        retry_after_ms: u32,
        /// For people.
        detail: &'a str,
    },
    /// Plugin: a resume ticket in place of the one before. May be ignored.
    Ticket {
        /// Never empty.
        ticket: TicketRef<'a>,
    },
    /// A frame of unknown type that may be ignored.
    Skipped {
        /// Its type.
        kind: u8,
    },
}

/// See [`Response::PluginWelcome`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PluginWelcome<'a> {
    /// The version that both use from now on.
    pub version: u16,
    /// The capabilities that both know.
    pub capabilities: u32,
    /// The session; higher is newer.
    pub epoch: u64,
    /// A ping after so much silence; twice as long ends the connection.
    pub heartbeat_ms: u32,
    /// A delivery without a result is offered again after this.
    pub ack_deadline_ms: u32,
    /// Bytes of the largest frame either side may send from now on.
    pub frame_bytes_max: u32,
    /// Largest window.
    pub window_max: u32,
    /// For a faster login next time; empty = none.
    pub ticket: TicketRef<'a>,
    /// Listed in the hello, and not to be run: forget them.
    pub forget: List<'a, u64>,
}

/// See [`Response::PublisherWelcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublisherWelcome {
    /// The version that both use from now on.
    pub version: u16,
    /// The capabilities that both know.
    pub capabilities: u32,
    /// The key's store.
    pub store: u32,
    /// A ping after so much silence; twice as long ends the connection.
    pub heartbeat_ms: u32,
    /// Bytes of the largest frame either side may send from now on.
    pub frame_bytes_max: u32,
    /// Publishes without an answer yet, at most.
    pub publishes_in_flight_max: u32,
}

/// One command on its way to a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryRef<'a> {
    /// The command.
    pub id: u64,
    /// From 1; (id, attempt) names one execution.
    pub attempt: u16,
    /// Run it only while the player is online.
    pub require_online: bool,
    /// When the plugin cannot say whether it ran: true = it is run again, false = it is held.
    pub rerun: bool,
    /// The text.
    pub text: &'a str,
    /// Whom it is for.
    pub player: Option<PlayerRef<'a>>,
}

/// A command as a publisher knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandRef {
    /// The server that runs it.
    pub server: u32,
    /// Its number there.
    pub seq: u64,
}

impl<'a> Response<'a> {
    /// The first frame of `bytes` and how many bytes it took; `None` while it is incomplete.
    /// `max` bounds the whole frame, header included.
    pub fn decode(bytes: &'a [u8], max: usize) -> Result<Option<(Response<'a>, usize)>, ProtocolError> {
        frame::decode(bytes, max)
    }

    /// All frames of one whole message; an incomplete one at its end is an error.
    pub fn decode_all(message: &'a [u8], max: usize) -> Frames<'a, Response<'a>> {
        Frames::new(message, max)
    }

    /// Appends the frame to `buf`. `Skipped` appends nothing.
    ///
    /// # Errors
    /// A text or list is too long for its length field, or the frame is over `FRAME_BYTES_MAX`; `buf` is as it was.
    pub fn encode(&self, buf: &mut BytesMut) -> Result<(), EncodeError> {
        match *self {
            Response::PluginWelcome(welcome) => {
                frame::encode(buf, kind::PLUGIN_WELCOME, |w| welcome.write(w))
            }
            Response::PublisherWelcome(welcome) => {
                frame::encode(buf, kind::PUBLISHER_WELCOME, |w| welcome.write(w))
            }
            Response::Deliver { commands } => {
                frame::encode(buf, kind::DELIVER, |w| commands.write("commands", w))
            }
            Response::Confirm { batch } => encode_nonce(buf, kind::CONFIRM, batch),
            Response::Published { request, order, replayed, commands } => {
                frame::encode(buf, kind::PUBLISHED, |w| {
                    w.u64(request);
                    w.u64(order);
                    w.u8(bit(REPLAYED, replayed));
                    commands.write("commands", w)
                })
            }
            Response::Refused { request, code, retry_after_ms, detail } => {
                frame::encode(buf, kind::REFUSED, |w| {
                    w.u64(request);
                    write_problem(w, code, retry_after_ms, detail)
                })
            }
            Response::Event(event) => frame::encode(buf, kind::EVENT, |w| event.write(w)),
            Response::EventsLost { place } => frame::encode(buf, kind::EVENTS_LOST, |w| {
                place.write(w);
                Ok(())
            }),
            Response::Ping { nonce } => encode_nonce(buf, request_kind::PING, nonce),
            Response::Pong { nonce } => encode_nonce(buf, request_kind::PONG, nonce),
            Response::GoAway { code, delay_ms } => frame::encode(buf, kind::GO_AWAY, |w| {
                w.u16(code);
                w.u32(delay_ms);
                Ok(())
            }),
            Response::Error { code, retry_after_ms, detail } => {
                frame::encode(buf, kind::ERROR, |w| write_problem(w, code, retry_after_ms, detail))
            }
            Response::Ticket { ticket } => frame::encode(buf, kind::TICKET, |w| w.bytes("ticket", ticket.0)),
            Response::Skipped { .. } => Ok(()),
        }
    }
}

/// Appends one `Deliver` frame with as many of `commands` as fit; returns how many (at least 1 unless there are none).
///
/// # Errors
/// A text is over 65,535 bytes; `buf` is as it was.
pub fn encode_deliver<'a>(
    buf: &mut BytesMut,
    commands: impl IntoIterator<Item = DeliveryRef<'a>>,
) -> Result<usize, EncodeError> {
    frame::encode_some(buf, kind::DELIVER, |_| Ok(()), commands, DELIVER_COMMANDS_MAX, Item::write)
}

/// Appends one `Published` frame.
///
/// # Errors
/// As [`Response::encode`]; never with `ORDER_COMMANDS_MAX` commands or fewer.
pub fn encode_published(
    buf: &mut BytesMut,
    request: u64,
    order: u64,
    replayed: bool,
    commands: impl ExactSizeIterator<Item = CommandRef>,
) -> Result<(), EncodeError> {
    frame::encode(buf, kind::PUBLISHED, |w| {
        w.u64(request);
        w.u64(order);
        w.u8(bit(REPLAYED, replayed));
        w.u16(super::codec::u16_len("commands", commands.len())?);
        for command in commands {
            command.write(w)?;
        }
        Ok(())
    })
}

const REPLAYED: u8 = 1;

impl<'a> Direction<'a> for Response<'a> {
    fn read(kind: u8, r: &mut Reader<'a>) -> Option<Result<Self, BadField>> {
        Some(match kind {
            kind::PLUGIN_WELCOME => PluginWelcome::read(r).map(Response::PluginWelcome),
            kind::PUBLISHER_WELCOME => PublisherWelcome::read(r).map(Response::PublisherWelcome),
            kind::DELIVER => {
                List::read(r, "commands", |_| Ok(())).map(|commands| Response::Deliver { commands })
            }
            kind::CONFIRM => r.u64("batch").map(|batch| Response::Confirm { batch }),
            kind::PUBLISHED => read_published(r),
            kind::REFUSED => read_refused(r),
            kind::EVENT => EventRef::read(r).map(Response::Event),
            kind::EVENTS_LOST => EventPlace::read(r).map(|place| Response::EventsLost { place }),
            request_kind::PING => r.u64("nonce").map(|nonce| Response::Ping { nonce }),
            request_kind::PONG => r.u64("nonce").map(|nonce| Response::Pong { nonce }),
            kind::GO_AWAY => read_go_away(r),
            kind::ERROR => read_error(r),
            kind::TICKET => r.bytes("ticket").map(|ticket| Response::Ticket { ticket: TicketRef(ticket) }),
            _ => return None,
        })
    }

    fn skipped(kind: u8) -> Self {
        Response::Skipped { kind }
    }

    fn open_ended(_kind: u8) -> bool {
        false
    }
}

fn write_problem(
    w: &mut Writer<'_>,
    code: u16,
    retry_after_ms: u32,
    detail: &str,
) -> Result<(), EncodeError> {
    w.u16(code);
    w.u32(retry_after_ms);
    w.text("detail", detail)
}

fn read_published<'a>(r: &mut Reader<'a>) -> Result<Response<'a>, BadField> {
    Ok(Response::Published {
        request: r.u64("request")?,
        order: r.u64("order")?,
        replayed: r.flags("flags", REPLAYED)? & REPLAYED != 0,
        commands: List::read(r, "commands", |_| Ok(()))?,
    })
}

fn read_refused<'a>(r: &mut Reader<'a>) -> Result<Response<'a>, BadField> {
    Ok(Response::Refused {
        request: r.u64("request")?,
        code: r.u16("code")?,
        retry_after_ms: r.u32("retry_after_ms")?,
        detail: r.text("detail")?,
    })
}

fn read_go_away<'a>(r: &mut Reader<'a>) -> Result<Response<'a>, BadField> {
    Ok(Response::GoAway { code: r.u16("code")?, delay_ms: r.u32("delay_ms")? })
}

fn read_error<'a>(r: &mut Reader<'a>) -> Result<Response<'a>, BadField> {
    let (code, retry_after_ms) = (r.u16("code")?, r.u32("retry_after_ms")?);
    Ok(Response::Error { code, retry_after_ms, detail: r.text("detail")? })
}

impl<'a> PluginWelcome<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        Ok(PluginWelcome {
            version: r.u16("version")?,
            capabilities: r.u32("capabilities")?,
            epoch: r.u64("epoch")?,
            heartbeat_ms: r.u32("heartbeat_ms")?,
            ack_deadline_ms: r.u32("ack_deadline_ms")?,
            frame_bytes_max: r.u32("frame_bytes_max")?,
            window_max: r.u32("window_max")?,
            ticket: TicketRef(r.bytes("ticket")?),
            forget: List::read(r, "forget", |_| Ok(()))?,
        })
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u16(self.version);
        w.u32(self.capabilities);
        w.u64(self.epoch);
        w.u32(self.heartbeat_ms);
        w.u32(self.ack_deadline_ms);
        w.u32(self.frame_bytes_max);
        w.u32(self.window_max);
        w.bytes("ticket", self.ticket.0)?;
        self.forget.write("forget", w)
    }
}

impl PublisherWelcome {
    fn read(r: &mut Reader<'_>) -> Result<Self, BadField> {
        Ok(PublisherWelcome {
            version: r.u16("version")?,
            capabilities: r.u32("capabilities")?,
            store: r.u32("store")?,
            heartbeat_ms: r.u32("heartbeat_ms")?,
            frame_bytes_max: r.u32("frame_bytes_max")?,
            publishes_in_flight_max: r.u32("publishes_in_flight_max")?,
        })
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u16(self.version);
        w.u32(self.capabilities);
        w.u32(self.store);
        w.u32(self.heartbeat_ms);
        w.u32(self.frame_bytes_max);
        w.u32(self.publishes_in_flight_max);
        Ok(())
    }
}

const REQUIRE_ONLINE: u8 = 1;
const RERUN: u8 = 2;
const PLAYER: u8 = 4;

impl<'a> Item<'a> for DeliveryRef<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        let (id, attempt) = (r.u64("id")?, r.u16("attempt")?);
        let flags = r.flags("flags", REQUIRE_ONLINE | RERUN | PLAYER)?;
        let text = r.text("command")?;
        let player = r.optional(flags & PLAYER != 0, PlayerRef::read)?;
        let (require_online, rerun) = (flags & REQUIRE_ONLINE != 0, flags & RERUN != 0);
        Ok(DeliveryRef { id, attempt, require_online, rerun, text, player })
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u64(self.id);
        w.u16(self.attempt);
        w.u8(bit(REQUIRE_ONLINE, self.require_online)
            | bit(RERUN, self.rerun)
            | bit(PLAYER, self.player.is_some()));
        w.text("command", self.text)?;
        self.player.map_or(Ok(()), |player| player.write(w))
    }
}

impl<'a> Item<'a> for CommandRef {
    fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        Ok(CommandRef { server: r.u32("server")?, seq: r.u64("seq")? })
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u32(self.server);
        w.u64(self.seq);
        Ok(())
    }
}
