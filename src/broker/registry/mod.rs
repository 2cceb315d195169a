//! Stores, servers and keys, and who may do what: a copy in memory that anybody reads without waiting, changed by
//! one writer that makes every change durable first.

mod check;
mod directory;
mod first_start;
mod ledger;
mod table;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use self::directory::Directory;
use self::ledger::{Done, NewServer, Op};
use self::writer::{Writer, WriterLink};
use super::login::{FailedLoginLimit, Failures, LoginCounts, LoginPool, PoolOptions, Tickets};
use crate::credentials::{Fingerprints, HashCost, RandomPart, Sealer, Secret, SecretHash, Subject};
use crate::ids::{KeyId, ServerId, StoreId};
use crate::limits::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX, SERVERS_PER_CALL_MAX};
use crate::storage::StorageError;
use crate::storage::registry::{RegistryDb, RegistryRows};
use crate::time::{Millis, UnixMs};

pub use crate::credentials::Scope;
pub use crate::storage::registry::{Key, Server, Store};

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
    /// How long a resume ticket lasts, at most `TICKET_HOURS_MAX` hours; zero = none are given or taken.
    pub ticket_lifetime: Millis,
    /// How many logins of one network may fail.
    pub failed_logins: FailedLoginLimit,
    /// The time for `created_at`, for tickets and for failed logins.
    pub clock: Clock,
}

/// What the first start made.
#[derive(Debug, Default)]
pub struct FirstStart {
    /// To be shown once; it also lies in `admin.key`. `None` = this was not the first start.
    pub admin_key: Option<Secret>,
}

/// The registry. Every change is durable before it returns, and goes through once it was handed over, even if the
/// caller stops waiting. Dropping it closes the file.
pub struct Registry {
    directory: Arc<Directory>,
    writer: WriterLink,
    logins: LoginPool,
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
        Registry::open_on(RegistryDb::open(dir)?, dir, options, on_failure)
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
            logins: LoginPool::start(pool).map_err(no_thread)?,
            failures: Failures::new(options.failed_logins),
            tickets: Tickets::open(dir, &opened.data_key, options.ticket_lifetime, clock),
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

    /// Keys of a store, by id, without their secrets; the admin key is not one of them.
    pub fn keys(&self, store: StoreId) -> Vec<Key> {
        self.directory.keys(store)
    }

    /// One key; the admin key is not found.
    pub fn key(&self, id: KeyId) -> Option<Key> {
        self.directory.key(id).filter(|record| record.key.id != ADMIN_KEY).map(|record| record.key.clone())
    }
}

/// Changing.
impl Registry {
    /// Makes a store.
    ///
    /// # Errors
    /// `Invalid`, `NameTaken`, `Full`, `Storage`.
    pub async fn create_store(&self, name: &str) -> Result<Store, RegistryError> {
        match self.writer.ask(Op::CreateStore { name: checked_name(name)? }).await? {
            Done::Store(store) => Ok(store),
            other => unreachable!("a store is made, not {other:?}"),
        }
    }

    /// Makes a key; its text is shown once.
    ///
    /// # Errors
    /// `Invalid` (there is one admin key, made at the first start), `NotFound` (the store), `Full`, `Storage`.
    pub async fn create_key(
        &self,
        store: StoreId,
        scope: Scope,
        name: &str,
    ) -> Result<(KeyId, Secret), RegistryError> {
        let name = checked_name(name)?;
        if scope == Scope::Admin {
            return Err(RegistryError::Invalid { field: "scope", must: "be publish or read".into() });
        }
        self.store(store).ok_or(RegistryError::NotFound)?;
        let random = RandomPart::generate();
        let hash = self.logins.make(random.clone()).await;
        match self.writer.ask(Op::CreateKey { store, scope, name, hash }).await? {
            Done::Key(key) => Ok((key.id, self.sealer.seal(Subject::Key(key.id), &random))),
            other => unreachable!("a key is made, not {other:?}"),
        }
    }

    /// Removes a key: it is refused from the moment this returns.
    ///
    /// # Errors
    /// `NotFound`, `Storage`.
    pub async fn remove_key(&self, id: KeyId) -> Result<(), RegistryError> {
        self.writer.ask(Op::RemoveKey { id }).await.map(|_| ())
    }

    /// Makes a server; its token is shown once. The caller then tells the broker (`Handle::server_added`).
    ///
    /// # Errors
    /// `Invalid`, `NotFound` (the store), `NameTaken`, `Full`, `Storage`.
    pub async fn create_server(
        &self,
        store: StoreId,
        name: &str,
        address: &str,
    ) -> Result<(Arc<Server>, Secret), RegistryError> {
        let mut made = self.create_servers(store, vec![(name.to_owned(), address.to_owned())]).await?;
        Ok(made.pop().expect("one in, one out"))
    }

    /// Makes many servers (name, address), all or none, in one transaction; in the order given. The transaction
    /// is cheap; each token costs a password hash (16 ms of one core at the standard cost), so 10,000 servers
    /// take 160 s divided by the number of login threads.
    ///
    /// # Errors
    /// As [`Registry::create_server`]; `Invalid` also for more than `SERVERS_PER_CALL_MAX`.
    pub async fn create_servers(
        &self,
        store: StoreId,
        servers: Vec<(String, String)>,
    ) -> Result<Vec<(Arc<Server>, Secret)>, RegistryError> {
        if servers.len() > SERVERS_PER_CALL_MAX {
            let must = format!("be at most {SERVERS_PER_CALL_MAX} at once, not {}", servers.len());
            return Err(RegistryError::Invalid { field: "servers", must });
        }
        let checked =
            servers.iter().map(|(name, address)| Ok((checked_name(name)?, checked_address(address)?)));
        let checked = checked.collect::<Result<Vec<_>, RegistryError>>()?;
        let names = checked.iter().map(|(name, _)| Arc::clone(name)).collect();
        self.writer.ask(Op::AdmitServers { store, names }).await?;

        let randoms: Vec<RandomPart> = checked.iter().map(|_| RandomPart::generate()).collect();
        // A few at a time, so that a single registration beside this one waits for a few hashes only.
        let hashes = stream::iter(randoms.clone())
            .map(|random| self.logins.make(random))
            .buffered(2 * self.logins.threads());
        let hashes: Vec<SecretHash> = hashes.collect().await;
        let new =
            checked.into_iter().zip(hashes).map(|((name, address), hash)| NewServer { name, address, hash });
        match self.writer.ask(Op::CreateServers { store, servers: new.collect() }).await? {
            Done::Servers(made) => {
                let token = |(server, random): (Arc<Server>, &RandomPart)| {
                    let token = self.sealer.seal(Subject::Server(server.id), random);
                    (server, token)
                };
                Ok(made.into_iter().zip(&randoms).map(token).collect())
            }
            other => unreachable!("servers are made, not {other:?}"),
        }
    }

    /// Changes name or address.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, `NameTaken`, `Storage`.
    pub async fn update_server(
        &self,
        id: ServerId,
        name: Option<&str>,
        address: Option<&str>,
    ) -> Result<Arc<Server>, RegistryError> {
        let name = name.map(checked_name).transpose()?;
        let address = address.map(checked_address).transpose()?;
        one_server(self.writer.ask(Op::UpdateServer { id, name, address }).await?)
    }

    /// Removes a server. The caller then tells the broker (`Handle::server_removed`).
    ///
    /// # Errors
    /// `NotFound`, `Storage`.
    pub async fn remove_server(&self, id: ServerId) -> Result<(), RegistryError> {
        self.writer.ask(Op::RemoveServer { id }).await.map(|_| ())
    }

    /// A new token. When this returns, the higher generation is durable and the old token and all tickets are dead. The
    /// caller then tells the broker (`Handle::token_regenerated`), which ends the session.
    ///
    /// # Errors
    /// `NotFound`, `Storage`.
    pub async fn regenerate_token(&self, id: ServerId) -> Result<Secret, RegistryError> {
        self.server(id).ok_or(RegistryError::NotFound)?;
        let random = RandomPart::generate();
        let hash = self.logins.make(random.clone()).await;
        one_server(self.writer.ask(Op::RenewToken { id, hash }).await?)?;
        Ok(self.sealer.seal(Subject::Server(id), &random))
    }
}

fn one_server(done: Done) -> Result<Arc<Server>, RegistryError> {
    match done {
        Done::Servers(mut servers) => Ok(servers.pop().expect("one server was changed")),
        other => unreachable!("a server is changed, not {other:?}"),
    }
}

fn checked_name(name: &str) -> Result<Arc<str>, RegistryError> {
    checked_text("name", name, 1, NAME_BYTES_MAX)
}

fn checked_address(address: &str) -> Result<Arc<str>, RegistryError> {
    checked_text("address", address, 0, ADDRESS_BYTES_MAX)
}

fn checked_text(field: &'static str, text: &str, min: usize, max: usize) -> Result<Arc<str>, RegistryError> {
    if (min..=max).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.into());
    }
    let must = format!("have {min} to {max} bytes and no control characters");
    Err(RegistryError::Invalid { field, must })
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "login_tests.rs"]
mod login_tests;
