//! Changes of the registry in somebody's name: checks fields, makes credentials, and has the writer do it.
//!
//! It decides nothing about what exists; the ledger does. A secret leaves only as what is shown once.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::ledger::{Done, NewServer, Op};
use super::{Actor, AuditAction, AuditOutcome, AuditTarget, Registry, RegistryError, Scope, Server, Store};
use crate::credentials::{RandomPart, Secret, SecretHash, Subject};
use crate::ids::{KeyId, ServerId, StoreId};
use crate::limits::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX, SERVERS_PER_CALL_MAX};

/// See [`Registry::by`]. Every change is durable before it returns, and goes through once it was handed over, even if
/// the caller stops waiting.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'r> {
    pub(super) registry: &'r Registry,
    pub(super) by: Actor,
}

impl Changes<'_> {
    /// Makes a store.
    ///
    /// # Errors
    /// `Invalid`, `NameTaken`, `Full`, `Storage`.
    pub async fn create_store(&self, name: &str) -> Result<Store, RegistryError> {
        match self.ask(Op::CreateStore { name: checked_name(name)? }).await? {
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
        self.registry.store(store).ok_or(RegistryError::NotFound)?;
        let random = RandomPart::generate();
        let hash = self.registry.logins.make(random.clone()).await;
        match self.ask(Op::CreateKey { store, scope, name, hash }).await? {
            Done::Key(key) => Ok((key.id, self.registry.sealer.seal(Subject::Key(key.id), &random))),
            other => unreachable!("a key is made, not {other:?}"),
        }
    }

    /// Removes a key: it is refused from the moment this returns.
    ///
    /// # Errors
    /// `NotFound`, `Storage`.
    pub async fn remove_key(&self, id: KeyId) -> Result<(), RegistryError> {
        self.ask(Op::RemoveKey { id }).await.map(|_| ())
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
    /// As [`Changes::create_server`]; `Invalid` also for more than `SERVERS_PER_CALL_MAX`.
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
        self.ask(Op::AdmitServers { store, names }).await?;

        let randoms: Vec<RandomPart> = checked.iter().map(|_| RandomPart::generate()).collect();
        // A few at a time, so that a single registration beside this one waits for a few hashes only.
        let hashes = stream::iter(randoms.clone())
            .map(|random| self.registry.logins.make(random))
            .buffered(2 * self.registry.logins.threads());
        let hashes: Vec<SecretHash> = hashes.collect().await;
        let new =
            checked.into_iter().zip(hashes).map(|((name, address), hash)| NewServer { name, address, hash });
        match self.ask(Op::CreateServers { store, servers: new.collect() }).await? {
            Done::Servers(made) => {
                let token = |(server, random): (Arc<Server>, &RandomPart)| {
                    let token = self.registry.sealer.seal(Subject::Server(server.id), random);
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
        one_server(self.ask(Op::UpdateServer { id, name, address }).await?)
    }

    /// Removes a server. The caller then tells the broker (`Handle::server_removed`).
    ///
    /// # Errors
    /// `NotFound`, `Storage`.
    pub async fn remove_server(&self, id: ServerId) -> Result<(), RegistryError> {
        self.ask(Op::RemoveServer { id }).await.map(|_| ())
    }

    /// A new token. When this returns, the higher generation is durable and the old token and all tickets are dead. The
    /// caller then tells the broker (`Handle::token_regenerated`), which ends the session.
    ///
    /// # Errors
    /// `NotFound`, `Storage`.
    pub async fn regenerate_token(&self, id: ServerId) -> Result<Secret, RegistryError> {
        self.registry.server(id).ok_or(RegistryError::NotFound)?;
        let random = RandomPart::generate();
        let hash = self.registry.logins.make(random.clone()).await;
        one_server(self.ask(Op::RenewToken { id, hash }).await?)?;
        Ok(self.registry.sealer.seal(Subject::Server(id), &random))
    }

    /// Writes down what was done elsewhere in this name; durable when this returns.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn note(
        &self,
        action: AuditAction,
        outcome: AuditOutcome,
        on: AuditTarget,
    ) -> Result<(), RegistryError> {
        self.ask(Op::Note { action, outcome, on }).await.map(|_| ())
    }

    async fn ask(&self, op: Op) -> Result<Done, RegistryError> {
        self.registry.writer.ask(op, self.by).await
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
