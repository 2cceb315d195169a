//! Stores, servers and keys, and who may do what: a copy in memory that anybody reads without waiting, changed by
//! one writer that makes every change durable first.

mod changes;
mod check;
mod directory;
mod first_start;
mod key_watch;
mod ledger;
mod table;
mod writer;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::directory::Directory;
use self::writer::{Writer, WriterLink};
use super::login::{FailedLoginLimit, Failures, LoginCounts, LoginPool, PoolOptions, Tickets};
use crate::credentials::{Fingerprints, HashCost, Sealer, Secret, SecretHash};
use crate::ids::{KeyId, ServerId, StoreId};
use crate::storage::StorageError;
use crate::storage::mirror::Mirror;
use crate::storage::registry::{AuditReader, RegistryDb, RegistryRows};
use crate::time::{Millis, UnixMs};

pub use self::changes::Changes;
pub use self::first_start::reset_admin_key;
pub use self::key_watch::KeyWatch;
pub use crate::credentials::Scope;
pub use crate::storage::registry::{
    Actor, AuditAction, AuditOutcome, AuditPage, AuditQuery, AuditRecord, AuditTarget, Key, Server, Store,
    Who,
};

/// The store that exists from the first start.
pub const DEFAULT_STORE: StoreId = StoreId(1);
/// The row of the admin key among the keys: keys that are given out start at 1.
const ADMIN_KEY: KeyId = KeyId(0);

/// Reads the current time.
pub type Clock = Arc<dyn Fn() -> UnixMs + Send + Sync>;
/// Called once, when the disk failed after start: the process has to stop.
pub type OnFailure = Box<dyn Fn(StorageError) + Send + Sync>;

/// Who is calling, after a check of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// The key; `None` = the admin key.
    pub key: Option<KeyId>,
    /// What it may do.
    pub scope: Scope,
    /// The store that it sees (the default store for the admin key, which sees all).
    pub store: StoreId,
}

impl Principal {
    /// The name in which it acts, from this end of a connection.
    pub fn actor(&self, address: Option<SocketAddr>) -> Actor {
        let Principal { key, scope, store } = *self;
        Actor { who: key.map_or(Who::Admin, |id| Who::Key { id, scope, store }), address }
    }
}

/// Why a login was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Wrong, unknown, malformed: not told apart.
    #[error("the token or key is not valid")]
    Invalid,
    /// Too many logins at once: come back after this many milliseconds.
    #[error("busy, try again in {retry_after_ms} ms")]
    Busy {
        /// When.
        retry_after_ms: u32,
    },
    /// Not valid, and the same network has failed too often lately to be told what is wrong.
    #[error("too many failed logins from this network, try again in {retry_after_ms} ms")]
    Limited {
        /// When.
        retry_after_ms: u32,
    },
}

/// What can go wrong with a change of the registry. Nothing changed, except that after `Storage` it may have.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No such store, server or key.
    #[error("not found")]
    NotFound,
    /// That name is taken in this store (or among stores).
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    /// A bound is reached: how many there may be.
    #[error("there may be at most {0}")]
    Full(usize),
    /// A field is out of its range.
    #[error("{field} must {must}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// The range in words, to follow "must".
        must: String,
    },
    /// The disk failed; the process stops.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// How the registry works.
#[derive(Clone)]
pub struct RegistryOptions {
    /// Threads that compute password hashes, at least 1.
    pub login_threads: usize,
    /// The longest that a login may take.
    pub login_timeout: Duration,
    /// What a new hash costs; old ones keep theirs.
    pub hash_cost: HashCost,
    /// How long a record of the audit trail is kept.
    pub audit_kept: Millis,
    /// How long a resume ticket lasts, at most `TICKET_HOURS_MAX` hours; zero = none are given or taken.
    pub ticket_lifetime: Millis,
    /// How many logins of one network may fail.
    pub failed_logins: FailedLoginLimit,
    /// Where everything is kept a second time; it looked at the directory before.
    pub mirror: Option<Mirror>,
    /// The time for `created_at`, for tickets and for failed logins.
    pub clock: Clock,
}

/// What the first start made.
#[derive(Debug, Default)]
pub struct FirstStart {
    /// To be shown once; it also lies in `admin.key`. `None` = this was not the first start.
    pub admin_key: Option<Secret>,
}

/// The registry. It is changed through [`Registry::by`]: every change is durable before it returns, and goes through
/// once it was handed over, even if the caller stops waiting. Dropping it closes the file.
pub struct Registry {
    directory: Arc<Directory>,
    writer: WriterLink,
    logins: LoginPool,
    trail: AuditReader,
    audit_kept: Millis,
    failures: Failures,
    tickets: Tickets,
    clock: Clock,
    sealer: Sealer,
    fingerprints: Fingerprints,
    /// Hashed against when a credential with the right tag names nobody: the answer takes the same time.
    nobody: SecretHash,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("servers", &self.directory.servers_len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// How many servers there are.
    pub(in crate::broker) fn servers_len(&self) -> usize {
        self.directory.servers_len()
    }

    /// Opens the registry of a data directory; at the first start makes its data key, the default store and the
    /// admin key. Blocks for disk reads and, at the first start, for a password hash.
    ///
    /// # Errors
    /// `InUse`, `TooNew`, `Damaged` (a row, or a data key that is missing or another one), `Full`, `Io`.
    pub fn open(
        dir: &Path,
        options: RegistryOptions,
        on_failure: impl Fn(StorageError) + Send + Sync + 'static,
    ) -> Result<(Registry, FirstStart), StorageError> {
        let db = match &options.mirror {
            Some(mirror) => RegistryDb::open_mirrored(dir, mirror)?,
            None => RegistryDb::open(dir)?,
        };
        Registry::open_on(db, dir, options, on_failure)
    }

    fn open_on(
        db: (RegistryDb, RegistryRows),
        dir: &Path,
        options: RegistryOptions,
        on_failure: impl Fn(StorageError) + Send + Sync + 'static,
    ) -> Result<(Registry, FirstStart), StorageError> {
        let opened = first_start::open(dir, db, &options)?;
        let directory = Arc::new(Directory::new(opened.rows));
        let no_thread = |error: std::io::Error| StorageError::Io {
            file: dir.to_path_buf(),
            operation: "start a thread for",
            detail: error.to_string(),
        };
        let trail = opened.db.audit();
        let writer = Writer {
            db: opened.db,
            ledger: opened.ledger,
            directory: Arc::clone(&directory),
            clock: Arc::clone(&options.clock),
            on_failure: Box::new(on_failure),
        };
        let pool = PoolOptions {
            threads: options.login_threads,
            timeout: options.login_timeout,
            cost: options.hash_cost,
            clock: Arc::clone(&options.clock),
        };
        let clock = Arc::clone(&options.clock);
        let registry = Registry {
            directory,
            writer: WriterLink::start(writer).map_err(no_thread)?,
            trail,
            audit_kept: options.audit_kept,
            logins: LoginPool::start(pool).map_err(no_thread)?,
            failures: Failures::new(options.failed_logins),
            tickets: Tickets::open(dir, &opened.data_key, options.ticket_lifetime, clock, options.mirror),
            clock: options.clock,
            sealer: Sealer::new(&opened.data_key),
            fingerprints: Fingerprints::new(&opened.data_key),
            nobody: SecretHash::dummy(options.hash_cost),
        };
        Ok((registry, FirstStart { admin_key: opened.admin_key }))
    }

    /// Makes the fingerprints of idempotency keys and orders.
    pub fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// What was counted about logins.
    pub fn login_counts(&self) -> LoginCounts {
        self.logins.counts()
    }
}

/// Reading. Nothing here waits.
impl Registry {
    /// All stores, by id.
    pub fn stores(&self) -> Vec<Store> {
        self.directory.stores()
    }

    /// One store.
    pub fn store(&self, id: StoreId) -> Option<Store> {
        self.directory.store(id)
    }

    /// Servers of a store (`None` = all), by id.
    pub fn servers(&self, store: Option<StoreId>) -> Vec<Arc<Server>> {
        self.directory.servers(store)
    }

    /// Ids of a store's servers, rising; empty when there is no such store.
    pub fn server_ids(&self, store: StoreId) -> Vec<ServerId> {
        self.directory.server_ids(store)
    }

    /// One server.
    pub fn server(&self, id: ServerId) -> Option<Arc<Server>> {
        self.directory.server(id).map(|record| Arc::clone(&record.server))
    }

    /// The store of a server: the same as [`Registry::server`] tells, for less.
    pub(crate) fn store_of(&self, id: ServerId) -> Option<StoreId> {
        self.directory.store_of(id)
    }

    /// Keys of a store, by id, without their secrets; the admin key is not one of them.
    pub fn keys(&self, store: StoreId) -> Vec<Key> {
        self.directory.keys(store)
    }

    /// Notices the removal of a key; the admin key (`None`) is never removed.
    pub fn watch_key(&self, key: Option<KeyId>) -> KeyWatch {
        KeyWatch::new(Arc::clone(&self.directory), key)
    }

    /// One key; the admin key is not found.
    pub fn key(&self, id: KeyId) -> Option<Key> {
        self.directory.key(id).filter(|record| record.key.id != ADMIN_KEY).map(|record| record.key.clone())
    }
}

/// The audit trail.
impl Registry {
    /// Changes in somebody's name: each of them is one record of the audit trail, durable together with it.
    pub fn by(&self, actor: Actor) -> Changes<'_> {
        Changes { registry: self, by: actor }
    }

    /// The trail's reader, which has the registry's file open.
    pub(super) fn trail(&self) -> &AuditReader {
        &self.trail
    }

    /// A page of the audit trail, newest first. Blocks for disk reads.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StorageError> {
        self.trail.page(query)
    }

    /// Removes the records of the audit trail whose time is over, some at a time. Blocks for the disk: not for
    /// async threads.
    ///
    /// # Errors
    /// Whatever keeps the trail from being read or written.
    pub(super) fn expire_audit(&self, now: UnixMs) -> Result<(), StorageError> {
        let before = UnixMs(now.0.saturating_sub(self.audit_kept.0));
        match self.trail.oldest()? {
            Some(oldest) if oldest < before => self.writer.expire_audit(before),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod registry_tests;
