//! Threads, routing, group commit over shards, the clock, shutdown: everything between pure engine and sockets.

mod events;
mod handle;
mod mailbox;
mod registry;
mod stats;

pub use events::{EventId, EventStream, Followed};
pub use handle::{
    BrokerError, CommandPage, Handle, OrderRequest, PluginLink, Published, PublisherLink, RequestedCommand,
    ResendFilter, Target,
};
pub use mailbox::{Mailbox, ToPeer};
pub use registry::{AuthError, Principal, Registry, RegistryError, Scope, Server, Store};
pub use stats::Snapshot;

pub(crate) struct Inner {}
