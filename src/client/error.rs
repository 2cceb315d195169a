//! What can go wrong in a client, by operation, in words for whoever has to act. No secret is ever in them.

use std::time::Duration;

use super::ledger::LedgerError;
use crate::protocol::Code;
use crate::tls::{CertificateProblem, TlsError};

/// Options that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The URL.
    #[error("the broker's url {url:?} cannot be used: {reason}")]
    Url {
        /// As given.
        url: String,
        /// Why not.
        reason: &'static str,
    },
    /// The system's certificate authorities cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token's form.
    #[error("the token must have the form <server id>.<secret>, for example srv_1.AbC...")]
    Token,
    /// The key's form.
    #[error("the key must not be empty")]
    Key,
    /// A number.
    #[error("{option} must be {min} to {max}")]
    Range {
        /// Which.
        option: &'static str,
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
}

/// Why a client stopped for good. Everything that may pass by itself is retried instead.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// See [`OptionsError`].
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The ledger cannot be used, so nothing may run.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The broker refuses this client and would refuse it again.
    #[error("the broker ended the connection: {code}: {detail}")]
    Refused {
        /// The broker's code.
        code: Code,
        /// The broker's words.
        detail: String,
    },
    /// The broker at this address does not speak our protocol.
    #[error("{0}")]
    Foreign(String),
    /// The broker's certificate is not accepted, and no certificate of it was accepted before. Afterwards, and for
    /// dates that do not hold, a client goes on trying: the broker's next certificate may be right.
    #[error("{0}: {advice}", advice = .0.advice())]
    Certificate(CertificateProblem),
    /// Too much waits in the client: the connection is away, or reports come faster than they can be sent.
    #[error("the client's queue is full ({0} entries): wait until it is connected")]
    Full(usize),
    /// [`super::PluginClient::stop`] or [`super::PublisherClient::stop`] was called, or all handles are gone.
    #[error("the client was stopped")]
    Stopped,
}

/// Why an order was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The broker refused it; nothing was enqueued.
    #[error("refused: {code}: {detail}")]
    Refused {
        /// Why.
        code: Code,
        /// The broker's words, with the field.
        detail: String,
        /// When to try again, for codes that say `later`.
        retry_after: Option<Duration>,
    },
    /// The order does not fit in a frame, or one of its fields does not.
    #[error("the order cannot be sent: {0}")]
    TooLarge(String),
    /// The client ended before an answer came: the order may or may not have been accepted. Publish it again with the
    /// same key to find out.
    #[error("no answer: {0}")]
    Unanswered(#[from] ClientError),
}
