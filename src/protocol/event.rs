//! The event frame: what happened to a server or a command of the publisher's store.

use super::codec::{BadField, Reader, Writer, bit};
use super::error::EncodeError;
use super::fields::{EventPlace, Status};

/// One event; durable when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// Its place.
    pub place: EventPlace,
    /// When, in Unix milliseconds.
    pub at: u64,
    /// The server.
    pub server: u32,
    /// What.
    pub what: What<'a>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// `server.online`
    Online,
    /// `server.offline`
    Offline,
    /// `command.<status>`
    Command(CommandEvent<'a>),
}

/// A command entered a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandEvent<'a> {
    /// The command; with the event's server it is a [`super::CommandRef`].
    pub seq: u64,
    /// Its order, of this publisher's store.
    pub order: u64,
    /// The status.
    pub status: Status,
    /// The attempt.
    pub attempt: u16,
    /// Why, as a number of the table of notes in protocol.md; new ones may appear.
    pub note: u8,
    /// The plugin's error text.
    pub error: Option<&'a str>,
}

const ONLINE: u8 = 1;
const OFFLINE: u8 = 2;
const COMMAND: u8 = 3;
const ERROR: u8 = 1;

impl<'a> EventRef<'a> {
    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        let place = EventPlace::read(r)?;
        let (at, server) = (r.u64("at")?, r.u32("server")?);
        let what = match r.u8_in("kind", ONLINE, COMMAND)? {
            ONLINE => What::Online,
            OFFLINE => What::Offline,
            _ => What::Command(CommandEvent::read(r)?),
        };
        Ok(EventRef { place, at, server, what })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        self.place.write(w);
        w.u64(self.at);
        w.u32(self.server);
        match &self.what {
            What::Online => w.u8(ONLINE),
            What::Offline => w.u8(OFFLINE),
            What::Command(command) => {
                w.u8(COMMAND);
                command.write(w)?;
            }
        }
        Ok(())
    }
}

impl<'a> CommandEvent<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        let (seq, order) = (r.u64("seq")?, r.u64("order")?);
        let status = Status::read(r)?;
        let (attempt, note) = (r.u16("attempt")?, r.u8("note")?);
        let flags = r.flags("flags", ERROR)?;
        let error = r.optional(flags & ERROR != 0, |r| r.text("error"))?;
        Ok(CommandEvent { seq, order, status, attempt, note, error })
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u64(self.seq);
        w.u64(self.order);
        w.u8(self.status.number());
        w.u16(self.attempt);
        w.u8(self.note);
        w.u8(bit(ERROR, self.error.is_some()));
        w.optional_text("error", self.error)
    }
}
