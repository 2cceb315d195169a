//! Values that frames of both directions share: players, credentials, event ids, outcomes, statuses.

use std::fmt;

use super::codec::{BadField, Reader, Writer, in_range};
use super::error::EncodeError;
use super::list::Item;
use crate::limits::PLAYER_NAME_BYTES_MAX;

/// A player as a frame names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlayerRef<'a> {
    /// 1 to `PLAYER_NAME_BYTES_MAX` bytes.
    pub name: &'a str,
    /// The UUID as a number: its 32 hexadecimal digits read from left to right.
    pub uuid: Option<u128>,
}

const PLAYER_UUID: u8 = 1;

impl<'a> Item<'a> for PlayerRef<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, BadField> {
        let flags = reader.flags("player.flags", PLAYER_UUID)?;
        let name = reader.text("player.name")?;
        let uuid = reader.optional(flags & PLAYER_UUID != 0, |r| r.array("player.uuid"))?;
        Ok(PlayerRef { name, uuid: uuid.map(u128::from_be_bytes) })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.u8(if self.uuid.is_some() { PLAYER_UUID } else { 0 });
        writer.text("player.name", self.name)?;
        if let Some(uuid) = self.uuid {
            writer.raw(&uuid.to_be_bytes());
        }
        Ok(())
    }
}

/// What the players of a plugin's frame must hold to (a publisher's are checked by `check`, with a softer answer).
pub(super) fn plugin_player(player: &PlayerRef<'_>) -> Result<(), BadField> {
    in_range("player.name", player.name.len() as u64, 1, PLAYER_NAME_BYTES_MAX as u64)
}

/// How a peer proves who it is. `Debug` shows nothing of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Credential<'a> {
    /// Nothing here: it was given in the upgrade request (`Authorization: Bearer ...`).
    #[default]
    None,
    /// A server's token (plugin) or an API key (publisher).
    Token(&'a str),
    /// A resume ticket from an earlier welcome.
    Ticket(&'a [u8]),
    /// A resume ticket, and the server's token for when it is of no use.
    TicketAndToken {
        /// The ticket.
        ticket: &'a [u8],
        /// The token.
        token: &'a str,
    },
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::None => "None",
            Credential::Token(_) => "Token(...)",
            Credential::Ticket(_) => "Ticket(...)",
            Credential::TicketAndToken { .. } => "TicketAndToken(...)",
        })
    }
}

impl<'a> Credential<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, BadField> {
        Ok(match reader.u8_in("credential.kind", 0, 3)? {
            1 => Credential::Token(reader.text("credential.token")?),
            2 => Credential::Ticket(reader.bytes("credential.ticket")?),
            3 => Credential::TicketAndToken {
                ticket: reader.bytes("credential.ticket")?,
                token: reader.text("credential.token")?,
            },
            _ => Credential::None,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Credential::None => writer.u8(0),
            Credential::Token(token) => {
                writer.u8(1);
                writer.text("credential.token", token)?;
            }
            Credential::Ticket(ticket) => {
                writer.u8(2);
                writer.bytes("credential.ticket", ticket)?;
            }
            Credential::TicketAndToken { ticket, token } => {
                writer.u8(3);
                writer.bytes("credential.ticket", ticket)?;
                writer.text("credential.token", token)?;
            }
        }
        Ok(())
    }
}

/// A resume ticket as the broker gives it out: opaque, at most `TICKET_BYTES_MAX` long; empty = none. `Debug` shows
/// nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct TicketRef<'a>(pub &'a [u8]);

impl fmt::Debug for TicketRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "TicketRef(none)" } else { "TicketRef(...)" })
    }
}

/// The place of an event: run of the broker, and ordinal in that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPlace {
    /// The run of the broker.
    pub boot: u32,
    /// From 1.
    pub ordinal: u64,
}

impl EventPlace {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, BadField> {
        Ok(EventPlace { boot: reader.u32("boot")?, ordinal: reader.u64("ordinal")? })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.u32(self.boot);
        writer.u64(self.ordinal);
    }
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:literal {
        $($(#[$vdoc:meta])* $variant:ident = $number:literal, $text:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $number,)*
        }

        impl $name {
            /// All of them, by rising number.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The number on the wire.
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The one with this number.
            pub const fn from_number(number: u8) -> Option<$name> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }

            /// Its name in REST and events.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, BadField> {
                let number = reader.u8_in($field, 1, $max)?;
                Ok($name::from_number(number).expect("the range above holds exactly the known numbers"))
            }
        }
    };
}

numbered!(
    /// What came of a delivery.
    Outcome, "outcome", 4 {
        /// It ran.
        Completed = 1, "completed";
        /// It did not run, or ran with an error.
        Failed = 2, "failed";
        /// Its player is not online; it was not run.
        AwaitingPlayer = 3, "awaiting_player";
        /// It was started, and the plugin cannot say whether it ran.
        InDoubt = 4, "in_doubt";
    }
);

numbered!(
    /// Where a command is in its life.
    Status, "status", 8 {
        /// Waits for its server, its time, its predecessor or its retry.
        Pending = 1, "pending";
        /// Handed to the plugin, no result yet.
        Delivered = 2, "delivered";
        /// Waits for its player.
        AwaitingPlayer = 3, "awaiting_player";
        /// It ran.
        Completed = 4, "completed";
        /// All tries failed.
        Failed = 5, "failed";
        /// Started, and nobody can say whether it ran.
        InDoubt = 6, "in_doubt";
        /// Withdrawn.
        Cancelled = 7, "cancelled";
        /// Its time passed.
        Expired = 8, "expired";
    }
);

numbered!(
    /// How a `Players` frame is meant.
    PlayersKind, "kind", 3 {
        /// Exactly these are online.
        Online = 1, "online";
        /// These came.
        Joined = 2, "joined";
        /// These went.
        Left = 3, "left";
    }
);
