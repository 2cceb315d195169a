//! The first frame of a peer: who it is, what it speaks, and what it still holds from before.

use super::codec::{BadField, Reader, Writer};
use super::error::EncodeError;
use super::fields::{Credential, PlayerRef};
use super::list::List;
use super::request::{ids, player_list, window};

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
