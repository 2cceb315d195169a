//! Stores, servers and keys: an in-memory copy that anybody reads without waiting, written through to disk.

use std::sync::Arc;

use crate::ids::{KeyId, ServerId, StoreId};
use crate::time::UnixMs;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Its id.
    pub id: StoreId,
    /// 1 to `NAME_BYTES_MAX` bytes.
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
    /// 1 to `NAME_BYTES_MAX` bytes.
    pub name: Arc<str>,
    /// 0 to `ADDRESS_BYTES_MAX` bytes.
    pub address: Arc<str>,
    /// When it was made.
    pub created_at: UnixMs,
    /// Rises with each new token, from 1.
    pub generation: u32,
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scope {
    /// Everything, in every store.
    Admin = 1,
    /// Publish, operate and read in one store.
    Publish = 2,
    /// Read in one store.
    Read = 3,
}

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
}

/// What can go wrong with a change of the registry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No such store or server.
    #[error("not found")]
    NotFound,
    /// That name is taken in this store.
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    /// A bound is reached: how many there may be.
    #[error("there may be at most {0}")]
    Full(usize),
    /// The disk failed; the process stops.
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
}

/// The registry. Every change is durable before it returns; all of them block for a disk sync, so async callers
/// use the `async` wrappers.
pub struct Registry {}

impl Registry {
    /// All stores.
    pub fn stores(&self) -> Vec<Store> {
        todo!()
    }
    /// One store.
    pub fn store(&self, id: StoreId) -> Option<Store> {
        todo!()
    }
    /// Servers of a store (`None` = all), by id.
    pub fn servers(&self, store: Option<StoreId>) -> Vec<Arc<Server>> {
        todo!()
    }
    /// One server.
    pub fn server(&self, id: ServerId) -> Option<Arc<Server>> {
        todo!()
    }
    /// Makes a store.
    pub async fn create_store(&self, name: &str) -> Result<Store, RegistryError> {
        todo!()
    }
    /// Makes a key; its text is shown once.
    pub async fn create_key(
        &self,
        store: StoreId,
        scope: Scope,
        name: &str,
    ) -> Result<(KeyId, crate::credentials::Secret), RegistryError> {
        todo!()
    }
    /// Makes a server; its token is shown once. The caller then tells the broker (`Handle::server_added`).
    pub async fn create_server(
        &self,
        store: StoreId,
        name: &str,
        address: &str,
    ) -> Result<(Arc<Server>, crate::credentials::Secret), RegistryError> {
        todo!()
    }
    /// Changes name or address.
    pub async fn update_server(
        &self,
        id: ServerId,
        name: Option<&str>,
        address: Option<&str>,
    ) -> Result<Arc<Server>, RegistryError> {
        todo!()
    }
    /// Removes a server. The caller then tells the broker (`Handle::server_removed`).
    pub async fn remove_server(&self, id: ServerId) -> Result<(), RegistryError> {
        todo!()
    }
    /// A new token; the old one is dead when this returns. The caller then tells the broker (`Handle::token_regenerated`).
    pub async fn regenerate_token(&self, id: ServerId) -> Result<crate::credentials::Secret, RegistryError> {
        todo!()
    }
    /// Checks a server's token. Same error and same time for unknown and wrong.
    pub async fn check_token(&self, token: &str) -> Result<Arc<Server>, AuthError> {
        todo!()
    }
    /// Checks an API key (admin's included).
    pub async fn check_key(&self, key: &str) -> Result<Principal, AuthError> {
        todo!()
    }
}
