//! Events as a publisher's program sees them.

use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::protocol::{EventPlace, EventRef, Status, What};
use crate::time::UnixMs;

/// What a follower is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublisherEvent {
    /// Something happened and is durable.
    Happened {
        /// Its place, to go on from after a restart.
        place: EventPlace,
        /// When.
        at: UnixMs,
        /// The server.
        server: ServerId,
        /// What.
        what: Happening,
    },
    /// Events up to and including this place are no longer remembered: read the state over REST.
    Lost {
        /// The last one lost.
        place: EventPlace,
    },
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// `server.online`
    ServerOnline,
    /// `server.offline`
    ServerOffline,
    /// `command.<status>`
    Command {
        /// The command.
        id: CommandId,
        /// Its order.
        order: OrderId,
        /// The status that it entered.
        status: Status,
        /// The attempt.
        attempt: u16,
        /// Why, as a number of protocol.md's table of notes.
        note: u8,
        /// The plugin's error text.
        error: Option<String>,
    },
}

impl PublisherEvent {
    /// Where it stands.
    pub fn place(&self) -> EventPlace {
        match self {
            PublisherEvent::Happened { place, .. } | PublisherEvent::Lost { place } => *place,
        }
    }

    pub(super) fn from_frame(event: &EventRef<'_>, store: StoreId) -> PublisherEvent {
        let server = ServerId(event.server);
        let what = match event.what {
            What::Online => Happening::ServerOnline,
            What::Offline => Happening::ServerOffline,
            What::Command(command) => Happening::Command {
                id: CommandId { server, seq: Seq(command.seq) },
                order: OrderId { store, seq: Seq(command.order) },
                status: command.status,
                attempt: command.attempt,
                note: command.note,
                error: command.error.map(str::to_owned),
            },
        };
        PublisherEvent::Happened { place: event.place, at: UnixMs(event.at), server, what }
    }
}
