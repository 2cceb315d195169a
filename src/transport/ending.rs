//! How a connection ends, and the one table from the broker's errors to codes.

use crate::broker::{AuthError, BrokerError};
use crate::engine::{CloseReason, Refusal};
use crate::protocol::{Code, ProtocolError, Response};

use crate::carrier::Fault;

/// When to try again after a queue was full, in milliseconds; queues drain by the work of servers, not of the broker.
const RETRY_FULL_MS: u32 = 1000;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// The peer is gone; nobody can be told.
    Gone,
    /// The peer is told why.
    Error {
        /// The code of the error frame.
        code: Code,
        /// When to try again; 0 = no advice.
        retry_after_ms: u32,
        /// For people: the field and its range.
        detail: String,
    },
    /// The peer is asked to come back.
    GoAway {
        /// After so many milliseconds.
        delay_ms: u32,
    },
}

impl Ending {
    pub(super) fn error(code: Code, detail: impl Into<String>) -> Ending {
        Ending::Error { code, retry_after_ms: 0, detail: detail.into() }
    }

    /// With the code's own sentence.
    pub(super) fn code(code: Code) -> Ending {
        Ending::error(code, code.sentence())
    }

    /// A name for logs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Ending::Gone => "gone",
            Ending::Error { code, .. } => code.name(),
            Ending::GoAway { .. } => "go_away",
        }
    }

    /// The frame that says it, and the WebSocket close code that goes with it.
    pub(super) fn frame(&self) -> Option<(Response<'_>, u16)> {
        match self {
            Ending::Gone => None,
            Ending::Error { code, retry_after_ms, detail } => {
                let close = match code {
                    Code::BadFrame => 1007,
                    Code::FrameTooLarge => 1009,
                    Code::Internal => 1011,
                    Code::ShuttingDown => 1001,
                    Code::LoginBusy => 1013,
                    _ => 1008,
                };
                let response =
                    Response::Error { code: code.number(), retry_after_ms: *retry_after_ms, detail };
                Some((response, close))
            }
            Ending::GoAway { delay_ms } => {
                Some((Response::GoAway { code: Code::ShuttingDown.number(), delay_ms: *delay_ms }, 1001))
            }
        }
    }
}

impl From<ProtocolError> for Ending {
    fn from(error: ProtocolError) -> Ending {
        Ending::error(error.code(), error.to_string())
    }
}

impl From<Fault> for Ending {
    fn from(fault: Fault) -> Ending {
        match fault {
            Fault::Lost => Ending::Gone,
            Fault::Text => {
                Ending::error(Code::ProtocolViolation, "a text message came: send binary messages")
            }
            Fault::TooLong(max) => {
                Ending::error(Code::FrameTooLarge, format!("a message has at most {max} bytes at this point"))
            }
            Fault::Malformed(detail) => Ending::error(Code::ProtocolViolation, detail),
        }
    }
}

impl From<CloseReason> for Ending {
    fn from(reason: CloseReason) -> Ending {
        Ending::code(match reason {
            CloseReason::Replaced => Code::Replaced,
            CloseReason::TokenRevoked => Code::TokenRevoked,
            CloseReason::ServerRemoved => Code::ServerRemoved,
        })
    }
}

impl From<AuthError> for Ending {
    fn from(error: AuthError) -> Ending {
        match error {
            AuthError::Invalid => Ending::code(Code::InvalidCredentials),
            AuthError::Busy { retry_after_ms } => {
                let detail = Code::LoginBusy.sentence().to_owned();
                Ending::Error { code: Code::LoginBusy, retry_after_ms, detail }
            }
            AuthError::Limited { retry_after_ms } => {
                let detail = "too many failed logins from this network".to_owned();
                Ending::Error { code: Code::LoginBusy, retry_after_ms, detail }
            }
        }
    }
}

/// What went wrong with a call of a connection, which has no answer of its own to carry it.
impl From<BrokerError> for Ending {
    fn from(error: BrokerError) -> Ending {
        match error {
            BrokerError::Stopping => Ending::code(Code::ShuttingDown),
            BrokerError::UnknownServer(_) | BrokerError::NotFound => Ending::code(Code::ServerRemoved),
            other => Ending::error(Code::Internal, other.to_string()),
        }
    }
}

/// Why a publish was not accepted: code, time to try again, words.
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) retry_after_ms: u32,
    pub(super) detail: String,
}

/// The answer to a refused publish.
pub(super) fn refused(error: BrokerError) -> Refused {
    let detail = error.to_string();
    let with = |code, retry_after_ms, detail| Refused { code, retry_after_ms, detail };
    match error {
        BrokerError::Refused(refusal) => match refusal {
            Refusal::KeyConflict => with(Code::KeyConflict, 0, Code::KeyConflict.sentence().to_owned()),
            Refusal::QueueFull(server) => {
                with(Code::QueueFull, RETRY_FULL_MS, format!("the queue of {server} is full"))
            }
            Refusal::Overloaded => {
                with(Code::Overloaded, RETRY_FULL_MS, Code::Overloaded.sentence().to_owned())
            }
            Refusal::UnknownServer(server) => {
                with(Code::UnknownServer, 0, format!("the store has no server {server}"))
            }
            Refusal::UnknownCommand => with(Code::NotFound, 0, detail),
            Refusal::WrongStatus(_) => with(Code::WrongStatus, 0, detail),
        },
        BrokerError::UnknownServer(_) | BrokerError::NoServers => with(Code::UnknownServer, 0, detail),
        BrokerError::NotFound => with(Code::NotFound, 0, detail),
        BrokerError::TooManyCommands { .. } => with(Code::TooManyCommands, 0, detail),
        BrokerError::Busy { retry_after_ms } => with(Code::Busy, retry_after_ms, detail),
        BrokerError::RateLimited { retry_after_ms } => with(Code::RateLimited, retry_after_ms, detail),
        BrokerError::StoreFull { retry_after_ms, .. } => with(Code::QueueFull, retry_after_ms, detail),
        BrokerError::DiskLow { retry_after_ms } => with(Code::StorageUnavailable, retry_after_ms, detail),
        BrokerError::Stopping => with(Code::ShuttingDown, RETRY_FULL_MS, detail),
    }
}
