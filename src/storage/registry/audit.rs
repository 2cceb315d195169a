//! The audit trail as plain data: who did what, from where, to what, and what came of it. Never holds a secret or a
//! command's text.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::credentials::Scope;
use crate::ids::{AuditId, CommandId, KeyId, ServerId, StoreId};
use crate::time::UnixMs;

macro_rules! actions {
    ($($(#[doc = $doc:literal])+ $variant:ident = $ordinal:literal, $name:literal;)+) => {
        /// What was done. Ordinals are stored and names are answered: never change either.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum AuditAction {
            $($(#[doc = $doc])+ $variant = $ordinal,)+
        }

        impl AuditAction {
            /// All, by rising ordinal.
            pub const ALL: &'static [AuditAction] = &[$(AuditAction::$variant),+];

            /// The name in REST, logs and on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(AuditAction::$variant => $name,)+ }
            }

            /// The action with this ordinal.
            pub const fn from_ordinal(ordinal: u8) -> Option<AuditAction> {
                match ordinal {
                    $($ordinal => Some(AuditAction::$variant),)+
                    _ => None,
                }
            }

            /// The action with this name.
            pub fn read(name: &str) -> Option<AuditAction> {
                AuditAction::ALL.iter().copied().find(|action| action.name() == name)
            }
        }
    };
}

actions! {
    /// A store was made.
    StoreCreated = 1, "store.create";
    /// An API key was made.
    KeyCreated = 2, "key.create";
    /// An API key was removed.
    KeyRemoved = 3, "key.remove";
    /// A server was registered.
    ServerCreated = 4, "server.create";
    /// A server's name or address was changed.
    ServerUpdated = 5, "server.update";
    /// A server was removed.
    ServerRemoved = 6, "server.remove";
    /// A server got a new token.
    TokenRegenerated = 7, "token.regenerate";
    /// A command was withdrawn.
    CommandCancelled = 8, "command.cancel";
    /// A command was offered again.
    CommandResent = 9, "command.resend";
    /// A command's text was changed.
    CommandEdited = 10, "command.edit";
    /// All that failed in a span of time was offered again.
    CommandsResent = 11, "commands.resend";
    /// The first start made the admin key.
    AdminKeyCreated = 12, "admin_key.create";
    /// The admin key was replaced on a stopped broker.
    AdminKeyReset = 13, "admin_key.reset";
    /// A backup was made.
    BackupCreated = 14, "backup.create";
    /// The data directory was made from a backup.
    BackupRestored = 15, "backup.restore";
}

/// What came of it. What was refused changed nothing and is no record. Ordinals are stored: never change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AuditOutcome {
    /// It is done and durable.
    Done = 1,
    /// The broker stopped before it could say: it may have been done.
    Unknown = 2,
}

impl AuditOutcome {
    /// The name in REST and logs.
    pub const fn name(self) -> &'static str {
        match self {
            AuditOutcome::Done => "done",
            AuditOutcome::Unknown => "unknown",
        }
    }

    /// The outcome with this ordinal.
    pub const fn from_ordinal(ordinal: u8) -> Option<AuditOutcome> {
        match ordinal {
            1 => Some(AuditOutcome::Done),
            2 => Some(AuditOutcome::Unknown),
            _ => None,
        }
    }
}

/// Whose name an action was done in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The program itself, or somebody at the command line of its machine.
    Local,
    /// The holder of the admin key.
    Admin,
    /// The holder of an API key.
    Key {
        /// The key.
        id: KeyId,
        /// What it may do.
        scope: Scope,
        /// Its store.
        store: StoreId,
    },
}

/// Who acts, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// In whose name.
    pub who: Who,
    /// The other end of the connection: a proxy's, when one stands between. `None` = there was no connection.
    pub address: Option<SocketAddr>,
}

impl Actor {
    /// The program itself.
    pub const LOCAL: Actor = Actor { who: Who::Local, address: None };

    /// The store whose share of the trail a record takes: the key's; `StoreId(0)` for the admin and the program.
    pub fn share(&self) -> StoreId {
        match self.who {
            Who::Local | Who::Admin => StoreId(0),
            Who::Key { store, .. } => store,
        }
    }
}

/// What an action was done to; only what applies is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditTarget {
    /// The store of it, or itself.
    pub store: Option<StoreId>,
    /// The server of it, or itself.
    pub server: Option<ServerId>,
    /// The API key.
    pub key: Option<KeyId>,
    /// The command; its server is `server` too.
    pub command: Option<CommandId>,
    /// Of many commands: how many, and the digest of their ids that the caller was answered.
    pub commands: Option<(u32, [u8; 16])>,
    /// The name of what was made, changed or removed: 1 to `NAME_BYTES_MAX` bytes.
    pub name: Option<Arc<str>>,
}

/// One record of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number: rising, never used twice.
    pub id: AuditId,
    /// When it was written.
    pub at: UnixMs,
    /// What was done.
    pub action: AuditAction,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// By whom.
    pub by: Actor,
    /// To what.
    pub on: AuditTarget,
}

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Older than this one.
    pub before: Option<AuditId>,
    /// Written at or after.
    pub from: Option<UnixMs>,
    /// Written before.
    pub to: Option<UnixMs>,
    /// Of this action only.
    pub action: Option<AuditAction>,
    /// At most so many.
    pub limit: usize,
}

/// Some records, newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditPage {
    /// May be fewer than the limit, or none, although there are more: one call looks at a bounded number.
    pub records: Vec<AuditRecord>,
    /// `before` of the next page; `None` = this was the last.
    pub next: Option<AuditId>,
}
