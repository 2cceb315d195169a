//! The public library: a plugin client and a publisher client over the binary protocol.
//!
//! Both keep one connection up, with jittered waits, until they are stopped, dropped, or told by the broker that
//! trying again is of no use. Nothing that was reported or published gets lost on the way: reports are sent until they
//! are confirmed, publishes until they are answered, under one idempotency key each.

mod backoff;
mod blocking;
mod dial;
mod error;
mod event;
mod gathering;
mod ledger;
mod ledger_entries;
mod ledger_file;
mod ledger_record;
mod online;
mod options;
mod order;
mod plugin;
mod plugin_task;
mod publisher;
mod publisher_task;
#[cfg(feature = "quic")]
mod quic;
mod report;
mod session;
mod socket;
mod ticket;
mod upgrade;

pub use crate::protocol::{Code, EventPlace, Outcome, Status};
pub use crate::tls::{ClientTls, Fingerprint, TlsError, Trust};
pub use backoff::BackoffOptions;
pub use error::{ClientError, OptionsError, PublishError};
pub use event::{Happening, PublisherEvent};
pub use ledger::{Entry, Ledger, LedgerError};
pub use ledger_file::LedgerFile;
pub use options::{Player, PluginOptions, PublisherOptions};
pub use order::{Accepted, Order, OrderCommand, Servers};
pub use plugin::{ClientState, DeliveredCommand, PluginClient, PluginHandler};
pub use publisher::PublisherClient;
pub use report::Report;
