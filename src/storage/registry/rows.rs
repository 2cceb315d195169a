//! What is registered, as plain data: stores, servers, API keys.

use std::sync::Arc;

use super::audit::AuditRecord;
use crate::credentials::{Scope, SecretHash};
use crate::ids::{KeyId, ServerId, StoreId};
use crate::time::UnixMs;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Its id.
    pub id: StoreId,
    /// 1 to `NAME_BYTES_MAX` bytes, unique.
    pub name: Arc<str>,
    /// When it was made.
    pub created_at: UnixMs,
}

/// A registered game server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Its store.
    pub store: StoreId,
    /// 1 to `NAME_BYTES_MAX` bytes, unique in its store.
    pub name: Arc<str>,
    /// 0 to `ADDRESS_BYTES_MAX` bytes.
    pub address: Arc<str>,
    /// When it was made.
    pub created_at: UnixMs,
    /// Rises with each new token, from 1.
    pub generation: u32,
}

/// An API key. Its secret is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id; 0 is the admin key of the data directory.
    pub id: KeyId,
    /// The store that it sees.
    pub store: StoreId,
    /// What it may do.
    pub scope: Scope,
    /// 1 to `NAME_BYTES_MAX` bytes.
    pub name: Arc<str>,
    /// When it was made.
    pub created_at: UnixMs,
}

/// A server with the hash of its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRecord {
    /// The server.
    pub server: Arc<Server>,
    /// Of its current token.
    pub hash: SecretHash,
}

/// An API key with the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key.
    pub key: Key,
    /// Of its secret.
    pub hash: SecretHash,
}

/// The numbers that come next, and which data key the hashes and tags belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryMeta {
    /// No store has this number or a higher one, or ever had.
    pub next_store: u32,
    /// No server has this number or a higher one, or ever had.
    pub next_server: u32,
    /// No key has this number or a higher one, or ever had.
    pub next_key: u32,
    /// [`crate::credentials::DataKey::check_value`] of the data key.
    pub data_key_check: [u8; 16],
}

/// Everything that is registered, as found at start-up.
#[derive(Debug, Default)]
pub struct RegistryRows {
    /// `None` = a new file.
    pub meta: Option<RegistryMeta>,
    /// By id.
    pub stores: Vec<Store>,
    /// By id.
    pub servers: Vec<ServerRecord>,
    /// By id; the admin key first.
    pub keys: Vec<KeyRecord>,
    /// The number of the next record of the audit trail.
    pub next_audit: u64,
}

/// One change of the tables.
#[derive(Debug, Clone)]
pub enum RowChange {
    /// Insert or replace.
    Store(Store),
    /// Insert or replace.
    Server(Arc<ServerRecord>),
    /// Remove.
    ServerGone(ServerId),
    /// Insert or replace.
    Key(Arc<KeyRecord>),
    /// Remove.
    KeyGone(KeyId),
    /// Append to the audit trail; what passes its bounds goes.
    Audit(Arc<AuditRecord>),
    /// Remove records of the audit trail that were written before, some at a time.
    AuditBefore(UnixMs),
}
