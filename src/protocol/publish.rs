//! The publish frame: an order, whole. Its contents are judged by `check`, so that a bad order costs no connection.

use bytes::BytesMut;

use super::codec::{BadField, Reader, Writer, bit, u16_len};
use super::error::EncodeError;
use super::fields::PlayerRef;
use super::frame;
use super::list::{Item, List};
use super::request::kind;

/// See [`super::Request::Publish`]. Its contents are checked by [`super::check::publish`], not by the decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Publish<'a> {
    /// The publisher's number for the answer.
    pub request: u64,
    /// What is said of the whole order.
    pub order: OrderHead<'a>,
    /// 1 to `ORDER_COMMANDS_MAX`.
    pub commands: List<'a, PublishCommand<'a>>,
}

/// What a publish says of its whole order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrderHead<'a> {
    /// The idempotency key.
    pub key: Option<&'a str>,
    /// The publisher's own name for the order.
    pub reference: Option<&'a str>,
    /// The player of every command that names none.
    pub player: Option<PlayerRef<'a>>,
    /// Each command waits until the one before it on the same server has ended.
    pub ordered: bool,
}

/// One command of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishCommand<'a> {
    /// The server; 0 = every server of the store.
    pub server: u32,
    /// 1 to `COMMAND_BYTES_MAX` bytes, no CR, LF or NUL.
    pub text: &'a str,
    /// Whom it is for; `None` = the order's player.
    pub player: Option<PlayerRef<'a>>,
    /// Run it only while the player is online.
    pub require_online: bool,
    /// When nobody can say whether it ran: true = run it again, false = hold it as `in_doubt`.
    pub rerun: bool,
    /// Not before so many milliseconds after acceptance.
    pub delay_ms: Option<u64>,
    /// Not before this time, in Unix milliseconds.
    pub not_before: Option<u64>,
    /// Not after this time, in Unix milliseconds.
    pub expires_at: Option<u64>,
    /// A label.
    pub stage: Option<&'a str>,
    /// A JSON object as text.
    pub metadata: Option<&'a str>,
}

/// Appends one `Publish` frame with all of `commands`.
///
/// # Errors
/// As [`super::Request::encode`]: an order is whole or not at all.
pub fn encode_publish<'a>(
    buf: &mut BytesMut,
    request: u64,
    order: &OrderHead<'_>,
    commands: impl ExactSizeIterator<Item = PublishCommand<'a>>,
) -> Result<(), EncodeError> {
    frame::encode(buf, kind::PUBLISH, |w| {
        w.u64(request);
        order.write(w)?;
        w.u16(u16_len("commands", commands.len())?);
        for command in commands {
            command.write(w)?;
        }
        Ok(())
    })
}

impl<'a> Publish<'a> {
    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        Ok(Publish {
            request: r.u64("request")?,
            order: OrderHead::read(r)?,
            commands: List::read(r, "commands", |_| Ok(()))?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u64(self.request);
        self.order.write(w)?;
        self.commands.write("commands", w)
    }
}

const ORDERED: u8 = 1;
const KEY: u8 = 2;
const REFERENCE: u8 = 4;
const ORDER_PLAYER: u8 = 8;
const ORDER_FLAGS: u8 = ORDERED | KEY | REFERENCE | ORDER_PLAYER;

impl<'a> OrderHead<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        let flags = r.flags("flags", ORDER_FLAGS)?;
        Ok(OrderHead {
            ordered: flags & ORDERED != 0,
            key: r.optional(flags & KEY != 0, |r| r.text("key"))?,
            reference: r.optional(flags & REFERENCE != 0, |r| r.text("reference"))?,
            player: r.optional(flags & ORDER_PLAYER != 0, PlayerRef::read)?,
        })
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u8(bit(ORDERED, self.ordered)
            | bit(KEY, self.key.is_some())
            | bit(REFERENCE, self.reference.is_some())
            | bit(ORDER_PLAYER, self.player.is_some()));
        w.optional_text("key", self.key)?;
        w.optional_text("reference", self.reference)?;
        self.player.map_or(Ok(()), |player| player.write(w))
    }
}

const REQUIRE_ONLINE: u8 = 1;
const RERUN: u8 = 2;
const PLAYER: u8 = 4;
const DELAY: u8 = 8;
const NOT_BEFORE: u8 = 16;
const EXPIRES_AT: u8 = 32;
const STAGE: u8 = 64;
const METADATA: u8 = 128;

impl<'a> Item<'a> for PublishCommand<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        let server = r.u32("server")?;
        let flags = r.u8("flags")?;
        Ok(PublishCommand {
            server,
            text: r.text("command")?,
            require_online: flags & REQUIRE_ONLINE != 0,
            rerun: flags & RERUN != 0,
            player: r.optional(flags & PLAYER != 0, PlayerRef::read)?,
            delay_ms: r.optional(flags & DELAY != 0, |r| r.u64("delay_ms"))?,
            not_before: r.optional(flags & NOT_BEFORE != 0, |r| r.u64("not_before"))?,
            expires_at: r.optional(flags & EXPIRES_AT != 0, |r| r.u64("expires_at"))?,
            stage: r.optional(flags & STAGE != 0, |r| r.text("stage"))?,
            metadata: r.optional(flags & METADATA != 0, |r| r.text("metadata"))?,
        })
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u32(self.server);
        w.u8(bit(REQUIRE_ONLINE, self.require_online)
            | bit(RERUN, self.rerun)
            | bit(PLAYER, self.player.is_some())
            | bit(DELAY, self.delay_ms.is_some())
            | bit(NOT_BEFORE, self.not_before.is_some())
            | bit(EXPIRES_AT, self.expires_at.is_some())
            | bit(STAGE, self.stage.is_some())
            | bit(METADATA, self.metadata.is_some()));
        w.text("command", self.text)?;
        self.player.map_or(Ok(()), |player| player.write(w))?;
        for number in [self.delay_ms, self.not_before, self.expires_at].into_iter().flatten() {
            w.u64(number);
        }
        w.optional_text("stage", self.stage)?;
        w.optional_text("metadata", self.metadata)
    }
}
