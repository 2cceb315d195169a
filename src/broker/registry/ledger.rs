//! The rules of the registry: what may be added, changed and removed, and which number it gets. No I/O, no thread.
//!
//! It runs ahead of the disk by the changes of one transaction; when that fails, nothing is decided any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::RegistryError;
use crate::credentials::{Scope, SecretHash};
use crate::ids::{AuditId, KeyId, ServerId, StoreId};
use crate::limits::{KEYS_MAX, KEYS_PER_STORE_MAX, SERVERS_MAX, SERVERS_PER_STORE_MAX, STORES_MAX};
use crate::storage::registry::{
    Actor, AuditAction, AuditOutcome, AuditRecord, AuditTarget, Key, KeyRecord, RegistryMeta, RegistryRows,
    RowChange, Server, ServerRecord, Store,
};
use crate::time::UnixMs;

/// A server to be made.
#[derive(Debug, Clone)]
pub(super) struct NewServer {
    pub(super) name: Arc<str>,
    pub(super) address: Arc<str>,
    pub(super) hash: SecretHash,
}

/// A wish.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// Nothing but the checks of `CreateServers`, before their hashes are paid for.
    AdmitServers {
        store: StoreId,
        names: Vec<Arc<str>>,
    },
    CreateStore {
        name: Arc<str>,
    },
    CreateServers {
        store: StoreId,
        servers: Vec<NewServer>,
    },
    UpdateServer {
        id: ServerId,
        name: Option<Arc<str>>,
        address: Option<Arc<str>>,
    },
    RemoveServer {
        id: ServerId,
    },
    RenewToken {
        id: ServerId,
        hash: SecretHash,
    },
    CreateKey {
        store: StoreId,
        scope: Scope,
        name: Arc<str>,
        hash: SecretHash,
    },
    RemoveKey {
        id: KeyId,
    },
    /// Write down what was done elsewhere.
    Note {
        action: AuditAction,
        outcome: AuditOutcome,
        on: AuditTarget,
    },
    /// Forget records of the audit trail that were written before.
    ExpireAudit {
        before: UnixMs,
    },
}

impl Op {
    /// What it is in the audit trail; `None` = it changes nothing, or says so itself.
    fn action(&self) -> Option<AuditAction> {
        Some(match self {
            Op::CreateStore { .. } => AuditAction::StoreCreated,
            Op::CreateServers { .. } => AuditAction::ServerCreated,
            Op::UpdateServer { .. } => AuditAction::ServerUpdated,
            Op::RemoveServer { .. } => AuditAction::ServerRemoved,
            Op::RenewToken { .. } => AuditAction::TokenRegenerated,
            Op::CreateKey { .. } => AuditAction::KeyCreated,
            Op::RemoveKey { .. } => AuditAction::KeyRemoved,
            Op::AdmitServers { .. } | Op::Note { .. } | Op::ExpireAudit { .. } => return None,
        })
    }
}

/// What came of a wish.
#[derive(Debug, Clone)]
pub(super) enum Done {
    Nothing,
    Store(Store),
    Servers(Vec<Arc<Server>>),
    Key(Key),
}

#[derive(Debug, Default)]
struct StoreBook {
    server_names: HashMap<Arc<str>, ServerId>,
    keys: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    meta: RegistryMeta,
    store_names: HashSet<Arc<str>>,
    stores: HashMap<StoreId, StoreBook>,
    servers: HashMap<ServerId, Arc<ServerRecord>>,
    keys: HashMap<KeyId, Key>,
    next_audit: u64,
}

impl Ledger {
    /// The ledger of these rows.
    pub(super) fn new(meta: RegistryMeta, rows: &RegistryRows) -> Ledger {
        let mut ledger = Ledger {
            meta,
            store_names: HashSet::new(),
            stores: HashMap::new(),
            servers: HashMap::with_capacity(rows.servers.len()),
            keys: HashMap::new(),
            next_audit: rows.next_audit,
        };
        for store in &rows.stores {
            ledger.note(&RowChange::Store(store.clone()));
        }
        for record in &rows.servers {
            ledger.note(&RowChange::Server(Arc::new(record.clone())));
        }
        for record in &rows.keys {
            ledger.note(&RowChange::Key(Arc::new(record.clone())));
        }
        ledger
    }

    /// The counters as they are after all wishes so far.
    pub(super) fn meta(&self) -> &RegistryMeta {
        &self.meta
    }

    /// Decides on a wish; what has to be stored for it is added to `changes`, its records of the audit trail included:
    /// one for each thing that changes.
    pub(super) fn decide(
        &mut self,
        op: Op,
        by: Actor,
        now: UnixMs,
        changes: &mut Vec<RowChange>,
    ) -> Result<Done, RegistryError> {
        let from = changes.len();
        let action = op.action();
        let done = match op {
            Op::AdmitServers { store, names } => {
                self.admit_servers(store, &names)?;
                Done::Nothing
            }
            Op::CreateStore { name } => self.create_store(name, now, changes)?,
            Op::CreateServers { store, servers } => self.create_servers(store, servers, now, changes)?,
            Op::UpdateServer { id, name, address } => self.update_server(id, name, address, changes)?,
            Op::RemoveServer { id } => {
                self.record(id)?;
                changes.push(RowChange::ServerGone(id));
                Done::Nothing
            }
            Op::RenewToken { id, hash } => self.renew_token(id, hash, changes)?,
            Op::CreateKey { store, scope, name, hash } => {
                self.create_key(store, scope, name, hash, now, changes)?
            }
            Op::RemoveKey { id } => {
                self.keys.get(&id).ok_or(RegistryError::NotFound)?;
                changes.push(RowChange::KeyGone(id));
                Done::Nothing
            }
            Op::Note { action, outcome, on } => {
                changes.push(self.record_of(now, by, action, outcome, on));
                Done::Nothing
            }
            Op::ExpireAudit { before } => {
                changes.push(RowChange::AuditBefore(before));
                Done::Nothing
            }
        };
        let decided = changes.len();
        for at in from..decided {
            if let Some(action) = action {
                let on = self.target(&changes[at]);
                changes.push(self.record_of(now, by, action, AuditOutcome::Done, on));
            }
            self.note(&changes[at]);
        }
        Ok(done)
    }

    /// The next record of the audit trail.
    fn record_of(
        &mut self,
        at: UnixMs,
        by: Actor,
        action: AuditAction,
        outcome: AuditOutcome,
        on: AuditTarget,
    ) -> RowChange {
        let id = AuditId(self.next_audit);
        self.next_audit += 1;
        RowChange::Audit(Arc::new(AuditRecord { id, at, action, outcome, by, on }))
    }

    /// What a change is done to, looked up before it is taken in.
    fn target(&self, change: &RowChange) -> AuditTarget {
        let none = AuditTarget::default();
        let of_server = |server: &Server| AuditTarget {
            store: Some(server.store),
            server: Some(server.id),
            name: Some(Arc::clone(&server.name)),
            ..AuditTarget::default()
        };
        let of_key = |key: &Key| AuditTarget {
            store: Some(key.store),
            key: Some(key.id),
            name: Some(Arc::clone(&key.name)),
            ..AuditTarget::default()
        };
        match change {
            RowChange::Store(store) => {
                AuditTarget { store: Some(store.id), name: Some(Arc::clone(&store.name)), ..none }
            }
            RowChange::Server(record) => of_server(&record.server),
            RowChange::ServerGone(id) => self.servers.get(id).map_or(none, |gone| of_server(&gone.server)),
            RowChange::Key(record) => of_key(&record.key),
            RowChange::KeyGone(id) => self.keys.get(id).map_or(none, of_key),
            RowChange::Audit(_) | RowChange::AuditBefore(_) => none,
        }
    }

    fn admit_servers(&self, store: StoreId, names: &[Arc<str>]) -> Result<(), RegistryError> {
        let book = self.stores.get(&store).ok_or(RegistryError::NotFound)?;
        let mut seen = HashSet::with_capacity(names.len());
        let taken = names.iter().find(|name| book.server_names.contains_key(*name) || !seen.insert(*name));
        if let Some(name) = taken {
            return Err(RegistryError::NameTaken(name.to_string()));
        }
        room(self.servers.len(), names.len(), SERVERS_MAX)?;
        room(book.server_names.len(), names.len(), SERVERS_PER_STORE_MAX)
    }

    fn create_store(
        &mut self,
        name: Arc<str>,
        now: UnixMs,
        changes: &mut Vec<RowChange>,
    ) -> Result<Done, RegistryError> {
        if self.store_names.contains(&name) {
            return Err(RegistryError::NameTaken(name.to_string()));
        }
        room(self.stores.len(), 1, STORES_MAX)?;
        let store = Store { id: StoreId(give_out(&mut self.meta.next_store)?), name, created_at: now };
        changes.push(RowChange::Store(store.clone()));
        Ok(Done::Store(store))
    }

    fn create_servers(
        &mut self,
        store: StoreId,
        servers: Vec<NewServer>,
        now: UnixMs,
        changes: &mut Vec<RowChange>,
    ) -> Result<Done, RegistryError> {
        let names: Vec<Arc<str>> = servers.iter().map(|server| Arc::clone(&server.name)).collect();
        self.admit_servers(store, &names)?;
        let mut made = Vec::with_capacity(servers.len());
        for NewServer { name, address, hash } in servers {
            let id = ServerId(give_out(&mut self.meta.next_server)?);
            let server = Arc::new(Server { id, store, name, address, created_at: now, generation: 1 });
            made.push(Arc::clone(&server));
            changes.push(RowChange::Server(Arc::new(ServerRecord { server, hash })));
        }
        Ok(Done::Servers(made))
    }

    fn update_server(
        &mut self,
        id: ServerId,
        name: Option<Arc<str>>,
        address: Option<Arc<str>>,
        changes: &mut Vec<RowChange>,
    ) -> Result<Done, RegistryError> {
        let record = self.record(id)?;
        let mut server = Server::clone(&record.server);
        if let Some(name) = name {
            let book = self.stores.get(&server.store).expect("a server's store exists");
            if book.server_names.get(&name).is_some_and(|owner| *owner != id) {
                return Err(RegistryError::NameTaken(name.to_string()));
            }
            server.name = name;
        }
        server.address = address.unwrap_or(server.address);
        Ok(replace(changes, server, record.hash.clone()))
    }

    fn renew_token(
        &mut self,
        id: ServerId,
        hash: SecretHash,
        changes: &mut Vec<RowChange>,
    ) -> Result<Done, RegistryError> {
        let mut server = Server::clone(&self.record(id)?.server);
        let highest = RegistryError::Full(u32::MAX as usize);
        server.generation = server.generation.checked_add(1).ok_or(highest)?;
        Ok(replace(changes, server, hash))
    }

    fn create_key(
        &mut self,
        store: StoreId,
        scope: Scope,
        name: Arc<str>,
        hash: SecretHash,
        now: UnixMs,
        changes: &mut Vec<RowChange>,
    ) -> Result<Done, RegistryError> {
        let book = self.stores.get(&store).ok_or(RegistryError::NotFound)?;
        room(self.keys.len(), 1, KEYS_MAX)?;
        room(book.keys, 1, KEYS_PER_STORE_MAX)?;
        let id = KeyId(give_out(&mut self.meta.next_key)?);
        let key = Key { id, store, scope, name, created_at: now };
        changes.push(RowChange::Key(Arc::new(KeyRecord { key: key.clone(), hash })));
        Ok(Done::Key(key))
    }

    fn record(&self, id: ServerId) -> Result<&Arc<ServerRecord>, RegistryError> {
        self.servers.get(&id).ok_or(RegistryError::NotFound)
    }

    /// Takes a decided change in.
    fn note(&mut self, change: &RowChange) {
        match change {
            RowChange::Store(store) => {
                self.store_names.insert(Arc::clone(&store.name));
                self.stores.entry(store.id).or_default();
            }
            RowChange::Server(record) => {
                let server = &record.server;
                let book = self.stores.entry(server.store).or_default();
                if let Some(before) = self.servers.insert(server.id, Arc::clone(record)) {
                    book.server_names.remove(&before.server.name);
                }
                book.server_names.insert(Arc::clone(&server.name), server.id);
            }
            RowChange::ServerGone(id) => {
                let gone = self.servers.remove(id).expect("only what exists is removed");
                let book = self.stores.get_mut(&gone.server.store).expect("a server's store exists");
                book.server_names.remove(&gone.server.name);
            }
            RowChange::Key(record) if record.key.id == super::ADMIN_KEY => {}
            RowChange::Key(record) => {
                self.keys.insert(record.key.id, record.key.clone());
                self.stores.entry(record.key.store).or_default().keys += 1;
            }
            RowChange::KeyGone(id) => {
                let gone = self.keys.remove(id).expect("only what exists is removed");
                self.stores.get_mut(&gone.store).expect("a key's store exists").keys -= 1;
            }
            RowChange::Audit(_) | RowChange::AuditBefore(_) => {}
        }
    }
}

fn replace(changes: &mut Vec<RowChange>, server: Server, hash: SecretHash) -> Done {
    let server = Arc::new(server);
    changes.push(RowChange::Server(Arc::new(ServerRecord { server: Arc::clone(&server), hash })));
    Done::Servers(vec![server])
}

fn room(used: usize, more: usize, max: usize) -> Result<(), RegistryError> {
    if used + more > max { Err(RegistryError::Full(max)) } else { Ok(()) }
}

/// The next number; numbers are never used twice.
fn give_out(next: &mut u32) -> Result<u32, RegistryError> {
    let number = *next;
    *next = number.checked_add(1).ok_or(RegistryError::Full(u32::MAX as usize))?;
    Ok(number)
}
