//! What a plugin or a publisher may say to the broker, frame by frame, as protocol.md lays it out.

use bytes::BytesMut;

use super::codec::{BadField, Reader, Writer, bit, in_range};
use super::error::{EncodeError, ProtocolError};
use super::fields::{EventPlace, Outcome, PlayerRef, PlayersKind, plugin_player};
use super::frame::{self, Direction, Frames};
use super::hello::{PluginHello, PublisherHello};
use super::list::{Item, List};
use super::publish::Publish;
use crate::limits::{HELLO_IDS_MAX, PLAYERS_MAX, RESULTS_MAX, WINDOW_MAX};

pub(super) mod kind {
    pub(crate) const PLUGIN_HELLO: u8 = 0x01;
    pub(crate) const PUBLISHER_HELLO: u8 = 0x02;
    pub(crate) const CREDIT: u8 = 0x03;
    pub(crate) const STARTED: u8 = 0x04;
    pub(crate) const RESULTS: u8 = 0x05;
    pub(crate) const PLAYERS: u8 = 0x06;
    pub(crate) const PUBLISH: u8 = 0x07;
    pub(crate) const SUBSCRIBE: u8 = 0x08;
    pub(crate) const PING: u8 = 0x10;
    pub(crate) const PONG: u8 = 0x11;
}

/// A frame to the broker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Request<'a> {
    /// First frame of a plugin. Answer: `PluginWelcome` or `Error`.
    PluginHello(PluginHello<'a>),
    /// First frame of a publisher. Answer: `PublisherWelcome` or `Error`.
    PublisherHello(PublisherHello<'a>),
    /// Plugin: how many commands may be out, unanswered. No answer.
    Credit {
        /// 0 (pause) to `WINDOW_MAX`.
        window: u32,
    },
    /// Plugin: it wrote down that it starts these. No answer.
    Started {
        /// At most `HELLO_IDS_MAX`.
        ids: List<'a, u64>,
    },
    /// Plugin: outcomes. Answer: `Confirm` once they are durable.
    Results {
        /// Rises by at least 1 from batch to batch of one connection.
        batch: u64,
        /// 1 to `RESULTS_MAX`.
        results: List<'a, ResultRef<'a>>,
    },
    /// Plugin: who is online. No answer.
    Players {
        /// How the list is meant.
        kind: PlayersKind,
        /// At most `PLAYERS_MAX`.
        players: List<'a, PlayerRef<'a>>,
    },
    /// Publisher: an order. Answer: `Published` or `Refused` with the same `request`.
    Publish(Publish<'a>),
    /// Publisher: send events from now on. Answer: `Event` frames.
    Subscribe {
        /// Only those after this one, as far as they are remembered; `None` = from now on.
        after: Option<EventPlace>,
    },
    /// Answer: `Pong` with the same nonce.
    Ping {
        /// Any number.
        nonce: u64,
    },
    /// The answer to the broker's `Ping`.
    Pong {
        /// As in the ping.
        nonce: u64,
    },
    /// A frame of unknown type that may be ignored.
    Skipped {
        /// Its type.
        kind: u8,
    },
}

/// One outcome of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultRef<'a> {
    /// The command.
    pub id: u64,
    /// As delivered, from 1.
    pub attempt: u16,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed; the broker keeps the first `ERROR_BYTES_MAX` bytes.
    pub error: Option<&'a str>,
    /// What the command printed; the broker keeps the first `OUTPUT_BYTES_MAX` bytes.
    pub output: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// The first frame of `bytes` and how many bytes it took; `None` while it is incomplete.
    /// `max` bounds the whole frame, header included.
    pub fn decode(bytes: &'a [u8], max: usize) -> Result<Option<(Request<'a>, usize)>, ProtocolError> {
        frame::decode(bytes, max)
    }

    /// All frames of one whole message; an incomplete one at its end is an error.
    pub fn decode_all(message: &'a [u8], max: usize) -> Frames<'a, Request<'a>> {
        Frames::new(message, max)
    }

    /// Appends the frame to `buf`. `Skipped` appends nothing.
    ///
    /// # Errors
    /// A text or list is too long for its length field, or the frame is over `FRAME_BYTES_MAX`; `buf` is as it was.
    pub fn encode(&self, buf: &mut BytesMut) -> Result<(), EncodeError> {
        match *self {
            Request::PluginHello(hello) => frame::encode(buf, kind::PLUGIN_HELLO, |w| hello.write(w)),
            Request::PublisherHello(hello) => frame::encode(buf, kind::PUBLISHER_HELLO, |w| hello.write(w)),
            Request::Credit { window } => frame::encode(buf, kind::CREDIT, |w| {
                w.u32(window);
                Ok(())
            }),
            Request::Started { ids } => frame::encode(buf, kind::STARTED, |w| ids.write("ids", w)),
            Request::Results { batch, results } => frame::encode(buf, kind::RESULTS, |w| {
                w.u64(batch);
                results.write("results", w)
            }),
            Request::Players { kind: meaning, players } => frame::encode(buf, kind::PLAYERS, |w| {
                w.u8(meaning.number());
                players.write("players", w)
            }),
            Request::Publish(publish) => frame::encode(buf, kind::PUBLISH, |w| publish.write(w)),
            Request::Subscribe { after } => frame::encode(buf, kind::SUBSCRIBE, |w| {
                w.u8(bit(SUBSCRIBE_AFTER, after.is_some()));
                if let Some(place) = after {
                    place.write(w);
                }
                Ok(())
            }),
            Request::Ping { nonce } => encode_nonce(buf, kind::PING, nonce),
            Request::Pong { nonce } => encode_nonce(buf, kind::PONG, nonce),
            Request::Skipped { .. } => Ok(()),
        }
    }
}

pub(super) fn encode_nonce(buf: &mut BytesMut, kind: u8, nonce: u64) -> Result<(), EncodeError> {
    frame::encode(buf, kind, |w| {
        w.u64(nonce);
        Ok(())
    })
}

/// Appends one `Results` frame with as many of `results` as fit; returns how many (at least 1 unless there are none).
///
/// # Errors
/// A text is over 65,535 bytes; `buf` is as it was. Cut texts before: the broker keeps only a part of long ones.
pub fn encode_results<'a>(
    buf: &mut BytesMut,
    batch: u64,
    results: impl IntoIterator<Item = ResultRef<'a>>,
) -> Result<usize, EncodeError> {
    let head = |w: &mut Writer<'_>| {
        w.u64(batch);
        Ok(())
    };
    frame::encode_some(buf, kind::RESULTS, head, results, RESULTS_MAX, Item::write)
}

const SUBSCRIBE_AFTER: u8 = 1;

impl<'a> Direction<'a> for Request<'a> {
    fn read(kind: u8, r: &mut Reader<'a>) -> Option<Result<Self, BadField>> {
        Some(match kind {
            kind::PLUGIN_HELLO => PluginHello::read(r).map(Request::PluginHello),
            kind::PUBLISHER_HELLO => PublisherHello::read(r).map(Request::PublisherHello),
            kind::CREDIT => window(r).map(|window| Request::Credit { window }),
            kind::STARTED => ids(r, "ids").map(|ids| Request::Started { ids }),
            kind::RESULTS => results(r),
            kind::PLAYERS => players(r),
            kind::PUBLISH => Publish::read(r).map(Request::Publish),
            kind::SUBSCRIBE => subscribe(r),
            kind::PING => r.u64("nonce").map(|nonce| Request::Ping { nonce }),
            kind::PONG => r.u64("nonce").map(|nonce| Request::Pong { nonce }),
            _ => return None,
        })
    }

    fn skipped(kind: u8) -> Self {
        Request::Skipped { kind }
    }

    fn open_ended(kind: u8) -> bool {
        matches!(kind, kind::PLUGIN_HELLO | kind::PUBLISHER_HELLO)
    }
}

pub(super) fn window(r: &mut Reader<'_>) -> Result<u32, BadField> {
    let window = r.u32("window")?;
    in_range("window", u64::from(window), 0, u64::from(WINDOW_MAX))?;
    Ok(window)
}

pub(super) fn ids<'a>(r: &mut Reader<'a>, field: &'static str) -> Result<List<'a, u64>, BadField> {
    let ids = List::read(r, field, |_| Ok(()))?;
    in_range(field, ids.len() as u64, 0, HELLO_IDS_MAX as u64)?;
    Ok(ids)
}

pub(super) fn player_list<'a>(r: &mut Reader<'a>) -> Result<List<'a, PlayerRef<'a>>, BadField> {
    let players = List::read(r, "players", plugin_player)?;
    in_range("players", players.len() as u64, 0, PLAYERS_MAX as u64)?;
    Ok(players)
}

fn results<'a>(r: &mut Reader<'a>) -> Result<Request<'a>, BadField> {
    let batch = r.u64("batch")?;
    let results = List::read(r, "results", |result: &ResultRef<'a>| {
        in_range("attempt", u64::from(result.attempt), 1, 65_535)
    })?;
    in_range("results", results.len() as u64, 1, RESULTS_MAX as u64)?;
    Ok(Request::Results { batch, results })
}

fn players<'a>(r: &mut Reader<'a>) -> Result<Request<'a>, BadField> {
    let kind = PlayersKind::read(r)?;
    Ok(Request::Players { kind, players: player_list(r)? })
}

fn subscribe<'a>(r: &mut Reader<'a>) -> Result<Request<'a>, BadField> {
    let flags = r.flags("flags", SUBSCRIBE_AFTER)?;
    let after = r.optional(flags & SUBSCRIBE_AFTER != 0, EventPlace::read)?;
    Ok(Request::Subscribe { after })
}

const RESULT_ERROR: u8 = 1;
const RESULT_OUTPUT: u8 = 2;

impl<'a> Item<'a> for ResultRef<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        let (id, attempt) = (r.u64("id")?, r.u16("attempt")?);
        let outcome = Outcome::read(r)?;
        let flags = r.flags("flags", RESULT_ERROR | RESULT_OUTPUT)?;
        let error = r.optional(flags & RESULT_ERROR != 0, |r| r.text("error"))?;
        let output = r.optional(flags & RESULT_OUTPUT != 0, |r| r.text("output"))?;
        Ok(ResultRef { id, attempt, outcome, error, output })
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u64(self.id);
        w.u16(self.attempt);
        w.u8(self.outcome.number());
        w.u8(bit(RESULT_ERROR, self.error.is_some()) | bit(RESULT_OUTPUT, self.output.is_some()));
        w.optional_text("error", self.error)?;
        w.optional_text("output", self.output)
    }
}
