//! Threads, routing, group commit over shards, the clock, shutdown: everything between pure engine and sockets.

mod events;
mod handle;
mod login;
mod mailbox;
mod registry;
mod stats;
mod verified;

pub use events::{EventId, EventStream, Followed};
pub use handle::{
    BrokerError, CommandPage, Handle, OrderRequest, PluginLink, Published, PublisherLink, RequestedCommand,
    ResendFilter, Target,
};
pub use login::LoginCounts;
pub use mailbox::{Mailbox, ToPeer};
pub use registry::{
    AuthError, Clock, DEFAULT_STORE, FirstStart, Key, OnFailure, Principal, Registry, RegistryError,
    RegistryOptions, Scope, Server, Store,
};
pub use stats::Snapshot;

pub(crate) struct Inner {}
