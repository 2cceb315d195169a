//! The table of codes that frames, REST answers and logs share, and what can be wrong with bytes.
//!
//! A code's number and name never change and are never used for something else. No payload ever gets into an error.

use std::fmt;

/// What the peer does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same again fails again: change something first.
    Never,
    /// The same request may be done later: after `retry_after_ms` when that is given, else with growing pauses.
    Later,
    /// Connect again, with growing pauses that are spread at random.
    Reconnect,
}

impl Retry {
    /// The word in the table of protocol.md.
    pub const fn name(self) -> &'static str {
        match self {
            Retry::Never => "never",
            Retry::Later => "later",
            Retry::Reconnect => "reconnect",
        }
    }
}

macro_rules! codes {
    ($($variant:ident = $number:literal, $name:literal, $closes:literal, $retry:ident, $sentence:literal;)*) => {
        /// Why something was refused or a connection ended. The one table; protocol.md shows the same.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $sentence] $variant = $number,)*
        }

        impl Code {
            /// Every code, by rising number.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The number on the binary wire.
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The code with this number, if there is one.
            pub const fn from_number(number: u16) -> Option<Code> {
                match number {
                    $($number => Some(Code::$variant),)*
                    _ => None,
                }
            }

            /// The stable name, used by REST and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// What it means, as a sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Code::$variant => $sentence,)* }
            }

            /// Whether the binary connection ends (it comes in an `Error` frame, not in `Refused`).
            pub const fn closes(self) -> bool {
                match self { $(Code::$variant => $closes,)* }
            }

            /// Whether it makes sense to try again.
            pub const fn retry(self) -> Retry {
                match self { $(Code::$variant => Retry::$retry,)* }
            }
        }
    };
}

codes! {
    BadFrame = 1, "bad_frame", true, Never, "The bytes do not form a frame of this protocol.";
    FrameTooLarge = 2, "frame_too_large", true, Never, "The frame is larger than this connection may send now.";
    UnsupportedVersion = 3, "unsupported_version", true, Never, "Broker and peer have no protocol version in common.";
    ProtocolViolation = 4, "protocol_violation", true, Never, "The message is not allowed here: wrong role, wrong moment, or not binary.";
    InvalidFrameField = 5, "invalid_frame_field", true, Never, "A field of a frame is out of its range.";
    SlowReader = 6, "slow_reader", true, Reconnect, "The peer did not read what was sent to it in time.";
    HeartbeatTimeout = 7, "heartbeat_timeout", true, Reconnect, "Nothing was heard from the peer for two heartbeats.";
    Internal = 8, "internal", true, Reconnect, "The broker met a fault of its own.";

    LoginRequired = 10, "login_required", true, Never, "The request needs a token or a key, and none was given.";
    InvalidCredentials = 11, "invalid_credentials", true, Never, "The token, ticket or key is not valid.";
    LoginTimeout = 12, "login_timeout", true, Reconnect, "No hello arrived in time.";
    LoginBusy = 13, "login_busy", true, Reconnect, "Too many logins at once.";
    Forbidden = 14, "forbidden", false, Never, "The key is valid but may not do this.";

    Replaced = 20, "replaced", true, Never, "A newer connection of the same server took over.";
    TokenRevoked = 21, "token_revoked", true, Never, "The server's token was regenerated.";
    ServerRemoved = 22, "server_removed", true, Never, "The server was removed.";
    ShuttingDown = 23, "shutting_down", true, Reconnect, "The broker is stopping.";

    Busy = 30, "busy", false, Later, "Too much is waiting at this moment.";
    Overloaded = 31, "overloaded", false, Later, "The broker holds as many unfinished commands as it may.";
    QueueFull = 32, "queue_full", false, Later, "The queue of a server, or of the whole store, is full.";
    StorageUnavailable = 33, "storage_unavailable", false, Later, "The storage cannot write; nothing was accepted.";
    RateLimited = 34, "rate_limited", false, Later, "Too many requests in too short a time.";

    KeyConflict = 40, "key_conflict", false, Never, "The idempotency key was used with another body.";
    UnknownServer = 41, "unknown_server", false, Never, "The store has no such server; the whole order was refused.";
    InvalidCommand = 42, "invalid_command", false, Never, "A command is empty, too long, or holds CR, LF or NUL.";
    InvalidField = 43, "invalid_field", false, Never, "A field is missing or out of its range.";
    TooManyCommands = 44, "too_many_commands", false, Never, "The order has more commands than one order may have.";

    InvalidBody = 50, "invalid_body", false, Never, "The body is not the JSON that this call takes.";
    BodyTooLarge = 51, "body_too_large", false, Never, "The body is larger than this call takes.";
    NotFound = 52, "not_found", false, Never, "There is nothing with this id or at this path.";
    MethodNotAllowed = 53, "method_not_allowed", false, Never, "The path exists, but not with this method.";
    WrongStatus = 54, "wrong_status", false, Never, "The command's status does not allow this.";
    NameTaken = 55, "name_taken", false, Never, "The name is in use already.";
    LimitReached = 56, "limit_reached", false, Never, "There may not be more of this.";
    UpgradeRequired = 57, "upgrade_required", false, Never, "This path takes WebSocket connections only.";
    BadHandshake = 58, "bad_handshake", false, Never, "The WebSocket handshake is not valid.";
    UnknownSubprotocol = 59, "unknown_subprotocol", false, Never, "The handshake offers subprotocols, but not fluxrelay.v1.";
    ForeignOrigin = 60, "foreign_origin", false, Never, "The handshake comes from a web page of another site.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with a field of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The payload ends inside the field.
    CutShort,
    /// The message ends inside the frame.
    Incomplete,
    /// The payload goes on after the last field.
    TrailingBytes,
    /// A text is not UTF-8.
    NotUtf8,
    /// A flag is set that has no meaning in this version.
    UnknownFlag,
    /// No frame of this direction has this type.
    UnknownType,
    /// The frame has `bytes` bytes, header included, and only `max` are allowed.
    TooLarge {
        /// Bytes of the whole frame.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A number, count or length is outside `min` to `max`.
    OutOfRange {
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::CutShort => f.write_str("the payload ends inside it"),
            Flaw::Incomplete => f.write_str("the message ends inside the frame"),
            Flaw::TrailingBytes => f.write_str("bytes follow the last field"),
            Flaw::NotUtf8 => f.write_str("is not UTF-8"),
            Flaw::UnknownFlag => f.write_str("has a flag that this version does not know"),
            Flaw::UnknownType => f.write_str("no frame of this direction has this type"),
            Flaw::TooLarge { bytes, max } => write!(f, "has {bytes} bytes, at most {max} are allowed"),
            Flaw::OutOfRange { min, max } => write!(f, "is not in the range {min} to {max}"),
        }
    }
}

/// Bytes that are not a valid frame. The connection ends with an `Error` frame that carries [`ProtocolError::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolError {
    /// The frame's type byte.
    pub frame: u8,
    /// The field, as protocol.md names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl ProtocolError {
    /// The code to answer with; every one of them closes the connection.
    pub fn code(&self) -> Code {
        match self.flaw {
            Flaw::TooLarge { .. } => Code::FrameTooLarge,
            Flaw::OutOfRange { .. } => Code::InvalidFrameField,
            _ => Code::BadFrame,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame type 0x{:02x}, {}: {}", self.frame, self.field, self.flaw)
    }
}

impl std::error::Error for ProtocolError {}

/// A message that does not fit in a frame; the buffer is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeError {
    /// What is too large.
    pub field: &'static str,
    /// Its bytes or count.
    pub size: usize,
    /// The most that fits.
    pub max: usize,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has size {}, at most {} fits in a frame", self.field, self.size, self.max)
    }
}

impl std::error::Error for EncodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_names_are_unique() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        let names: std::collections::HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for &code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
            assert!(code.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
        }
        assert_eq!(Code::from_number(0), None);
    }

    #[test]
    fn whatever_is_wrong_with_bytes_closes() {
        for flaw in [Flaw::CutShort, Flaw::TooLarge { bytes: 9, max: 8 }, Flaw::OutOfRange { min: 1, max: 2 }]
        {
            assert!(ProtocolError { frame: 1, field: "x", flaw }.code().closes());
        }
    }
}
