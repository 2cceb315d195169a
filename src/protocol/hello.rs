//! The first frame of a peer: who it is, what it speaks, and what it still holds from before.

use super::codec::{BadField, Reader, Writer};
use super::error::EncodeError;
use super::fields::{Credential, PlayerRef};
use super::frame::HEADER_BYTES;
use super::list::List;
use super::request::{ids, kind, player_list, window};

/// See [`super::Request::PluginHello`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PluginHello<'a> {
    /// Oldest protocol version that the plugin speaks.
    pub version_min: u16,
    /// Newest one.
    pub version_max: u16,
    /// Extras that it knows, as bits.
    pub capabilities: u32,
    /// Random, made once per process of the plugin.
    pub instance: [u8; 16],
    /// 0 to `WINDOW_MAX`.
    pub window: u32,
    /// Its token or ticket.
    pub credential: Credential<'a>,
    /// Received, not started. Each of the four lists: at most `HELLO_IDS_MAX`.
    pub held: List<'a, u64>,
    /// Started, still running.
    pub started: List<'a, u64>,
    /// Finished; results follow.
    pub finished: List<'a, u64>,
    /// Started before a crash; the plugin cannot vouch for them.
    pub in_doubt: List<'a, u64>,
    /// Everybody online; `None` = the plugin does not report players. At most `PLAYERS_MAX`.
    pub players: Option<List<'a, PlayerRef<'a>>>,
}

/// See [`super::Request::PublisherHello`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PublisherHello<'a> {
    /// Oldest protocol version that the publisher speaks.
    pub version_min: u16,
    /// Newest one.
    pub version_max: u16,
    /// Extras that it knows, as bits.
    pub capabilities: u32,
    /// Its API key.
    pub credential: Credential<'a>,
}

const HELLO_PLAYERS: u8 = 1;

impl<'a> PluginHello<'a> {
    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        let (version_min, version_max) = (r.u16("version_min")?, r.u16("version_max")?);
        let capabilities = r.u32("capabilities")?;
        let instance = r.array("instance")?;
        let window = window(r)?;
        let credential = Credential::read(r)?;
        let held = ids(r, "held")?;
        let started = ids(r, "started")?;
        let finished = ids(r, "finished")?;
        let in_doubt = ids(r, "in_doubt")?;
        let flags = r.flags("flags", HELLO_PLAYERS)?;
        let players = r.optional(flags & HELLO_PLAYERS != 0, player_list)?;
        Ok(PluginHello {
            version_min,
            version_max,
            capabilities,
            instance,
            window,
            credential,
            held,
            started,
            finished,
            in_doubt,
            players,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u16(self.version_min);
        w.u16(self.version_max);
        w.u32(self.capabilities);
        w.raw(&self.instance);
        w.u32(self.window);
        self.credential.write(w)?;
        self.held.write("held", w)?;
        self.started.write("started", w)?;
        self.finished.write("finished", w)?;
        self.in_doubt.write("in_doubt", w)?;
        w.u8(if self.players.is_some() { HELLO_PLAYERS } else { 0 });
        self.players.map_or(Ok(()), |players| players.write("players", w))
    }
}

impl<'a> PublisherHello<'a> {
    pub(super) fn read(r: &mut Reader<'a>) -> Result<Self, BadField> {
        Ok(PublisherHello {
            version_min: r.u16("version_min")?,
            version_max: r.u16("version_max")?,
            capabilities: r.u32("capabilities")?,
            credential: Credential::read(r)?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.u16(self.version_min);
        w.u16(self.version_max);
        w.u32(self.capabilities);
        self.credential.write(w)
    }
}

/// What the beginning of a hello tells before all of it has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HelloHead<'a> {
    /// Of a plugin.
    Plugin(Credential<'a>),
    /// Of a publisher.
    Publisher(Credential<'a>),
}

impl<'a> HelloHead<'a> {
    /// Reads it from the first bytes of a frame; `None` when it is no hello, or too little of it has come.
    pub fn of(bytes: &'a [u8]) -> Option<HelloHead<'a>> {
        let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let mut r = Reader::new(payload);
        let is_plugin = match header[0] {
            kind::PLUGIN_HELLO => true,
            kind::PUBLISHER_HELLO => false,
            _ => return None,
        };
        r.u16("version_min").ok()?;
        r.u16("version_max").ok()?;
        r.u32("capabilities").ok()?;
        if is_plugin {
            r.array::<16>("instance").ok()?;
            r.u32("window").ok()?;
        }
        let credential = Credential::read(&mut r).ok()?;
        Some(if is_plugin { HelloHead::Plugin(credential) } else { HelloHead::Publisher(credential) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::protocol::Request;

    #[test]
    fn the_head_of_a_hello_tells_who_it_is_before_the_lists_have_come() {
        let credential = Credential::TicketAndToken { ticket: &[1, 2, 3], token: "srv_7.secret" };
        let held: Vec<u64> = (1..1000).collect();
        let hello = PluginHello { credential, held: (&held).into(), ..PluginHello::default() };
        let mut frame = BytesMut::new();
        Request::PluginHello(hello).encode(&mut frame).unwrap();
        let publisher =
            PublisherHello { credential: Credential::Token("key_1.secret"), ..Default::default() };
        let mut other = BytesMut::new();
        Request::PublisherHello(publisher).encode(&mut other).unwrap();
        assert_eq!(HelloHead::of(&frame[..100]), Some(HelloHead::Plugin(credential)));
        assert_eq!(HelloHead::of(&other), Some(HelloHead::Publisher(publisher.credential)));
        assert_eq!(HelloHead::of(&frame[..40]), None);
        assert_eq!(HelloHead::of(&[0x10, 8, 0, 0]), None);
    }
}
