//! Threads, routing, group commit over shards, the clock, shutdown: everything between pure engine and sockets.
//!
//! ```text
//! connections, calls ─▶ inbox ─▶ shard thread ─▶ group commit ─▶ "durable" ─▶ shard threads ─▶ mailboxes, callers
//!                                     ├─ parts of a checkpoint ─▶ keeper thread ─▶ store at rest, trim the journal
//!                                     └─ texts that are due ─▶ texts thread ─▶ store at rest ─▶ shard thread
//!                                                              room thread ─▶ room in the journal for commits to come
//! ```

mod announced;
mod backups;
mod baton;
mod care;
mod clock;
mod cursor;
mod digest;
mod events;
mod group_commit;
mod handle;
mod inbox;
mod inner;
mod keeper;
mod limited;
mod lines;
mod login;
mod mailbox;
mod numbers;
mod operators;
mod quotas;
mod rate;
mod registry;
mod replay;
mod request;
mod room_thread;
mod shard_thread;
mod space;
mod start;
mod stats;
mod stepped;
mod texts_thread;

pub use care::{BackupError, BackupMade, RestoreError, check, is_backup_name, restore};
pub use events::{BadEventId, EventId, EventStream, Followed};
pub use handle::{Handle, PluginLink, PublisherLink};
pub use limited::Limit;
pub use login::{FailedLoginLimit, LoginCounts, Network, Origin};
pub use mailbox::{Mailbox, ToPeer};
pub use operators::ids_digest;
pub use quotas::QuotaSettings;
pub use rate::{Buckets, Rate};
pub use registry::{
    Actor, AuditAction, AuditOutcome, AuditPage, AuditQuery, AuditRecord, AuditTarget, AuthError, Changes,
    Clock as RegistryClock, DEFAULT_STORE, FirstStart, Key, KeyWatch, OnFailure, Principal, Registry,
    RegistryError, RegistryOptions, Scope, Server, Store, Who, reset_admin_key,
};
pub use request::{
    BrokerError, CommandPage, OrderRequest, Published, RequestedCommand, ResendFilter, Target,
};
pub use start::{Running, Settings, start};
pub use stats::Snapshot;
pub use stepped::{Stepped, SteppedKeeper};

use inner::Inner;
