//! What readers see of the registry: everything that is durable, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::table::Table;
use crate::ids::{KeyId, ServerId, StoreId};
use crate::storage::registry::{Key, KeyRecord, RegistryRows, RowChange, Server, ServerRecord, Store};

/// A store and who belongs to it. Its lock is held for one insertion at a time, never over I/O.
#[derive(Debug)]
struct StoreView {
    store: Store,
    members: RwLock<Members>,
}

#[derive(Debug, Default, Clone)]
struct Members {
    servers: BTreeSet<ServerId>,
    keys: BTreeSet<KeyId>,
}

/// A server, and beside it what every command for it asks for: in the record it lies two pointers further on.
#[derive(Debug, Clone)]
struct ServerView {
    store: StoreId,
    record: Arc<ServerRecord>,
}

impl ServerView {
    fn new(record: Arc<ServerRecord>) -> ServerView {
        ServerView { store: record.server.store, record }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Directory {
    stores: Table<Arc<StoreView>>,
    servers: Table<ServerView>,
    keys: Table<Arc<KeyRecord>>,
    /// How often keys were removed.
    key_removals: watch::Sender<u64>,
}

impl Directory {
    /// The directory of these rows.
    pub(super) fn new(rows: RegistryRows) -> Directory {
        let mut members: BTreeMap<StoreId, Members> = BTreeMap::new();
        for ServerRecord { server, .. } in &rows.servers {
            members.entry(server.store).or_default().servers.insert(server.id);
        }
        for KeyRecord { key, .. } in &rows.keys {
            members.entry(key.store).or_default().keys.insert(key.id);
        }
        let view = |store: Store| {
            let members = members.remove(&store.id).unwrap_or_default();
            (store.id.0, Arc::new(StoreView { store, members: RwLock::new(members) }))
        };
        Directory {
            stores: Table::new(rows.stores.into_iter().map(view)),
            servers: Table::new(
                rows.servers.into_iter().map(|row| (row.server.id.0, ServerView::new(Arc::new(row)))),
            ),
            keys: Table::new(rows.keys.into_iter().map(|row| (row.key.id.0, Arc::new(row)))),
            key_removals: watch::Sender::new(0),
        }
    }

    pub(super) fn store(&self, id: StoreId) -> Option<Store> {
        self.stores.find(id.0).map(|view| view.store.clone())
    }

    pub(super) fn stores(&self) -> Vec<Store> {
        self.stores.all().iter().map(|view| view.store.clone()).collect()
    }

    pub(super) fn server(&self, id: ServerId) -> Option<Arc<ServerRecord>> {
        self.servers.look_at(id.0, |view| Arc::clone(&view.record))
    }

    /// The store of a server.
    pub(super) fn store_of(&self, id: ServerId) -> Option<StoreId> {
        self.servers.look_at(id.0, |view| view.store)
    }

    pub(super) fn servers_len(&self) -> usize {
        self.servers.len()
    }

    /// Servers of a store (`None` = all), by id.
    pub(super) fn servers(&self, store: Option<StoreId>) -> Vec<Arc<Server>> {
        let Some(store) = store else {
            return self.servers.all().iter().map(|view| Arc::clone(&view.record.server)).collect();
        };
        // One that was removed since is not there any more.
        let server = |id| self.servers.look_at(id, |view| Arc::clone(&view.record.server));
        self.server_ids(store).into_iter().filter_map(|id| server(id.0)).collect()
    }

    /// Ids of a store's servers, rising.
    pub(super) fn server_ids(&self, store: StoreId) -> Vec<ServerId> {
        let view = self.stores.find(store.0);
        view.map_or_else(Vec::new, |view| view.members.read().servers.iter().copied().collect())
    }

    /// Changes whenever keys were removed.
    pub(super) fn key_removals(&self) -> watch::Receiver<u64> {
        self.key_removals.subscribe()
    }

    pub(super) fn key(&self, id: KeyId) -> Option<Arc<KeyRecord>> {
        self.keys.find(id.0)
    }

    /// Keys of a store, by id; the admin key is not one of them.
    pub(super) fn keys(&self, store: StoreId) -> Vec<Key> {
        let Some(view) = self.stores.find(store.0) else { return Vec::new() };
        let ids: Vec<KeyId> = view.members.read().keys.iter().copied().collect();
        let key = |id: KeyId| self.keys.find(id.0).map(|record| record.key.clone());
        ids.into_iter().filter(|id| *id != super::ADMIN_KEY).filter_map(key).collect()
    }

    /// Shows durable changes to readers. Only the writer calls this.
    pub(super) fn publish(&self, changes: &[RowChange]) {
        let store_of_server = |id: ServerId| self.store_of(id);
        let store_of_key = |id: KeyId| self.keys.find(id.0).map(|record| record.key.store);
        let gone: Vec<Gone> = changes
            .iter()
            .filter_map(|change| match change {
                RowChange::ServerGone(id) => Some(Gone::Server(store_of_server(*id)?, *id)),
                RowChange::KeyGone(id) => Some(Gone::Key(store_of_key(*id)?, *id)),
                _ => None,
            })
            .collect();
        self.stores.change(changes.iter().filter_map(|change| match change {
            RowChange::Store(store) => {
                let view = StoreView { store: store.clone(), members: RwLock::default() };
                Some((store.id.0, Some(Arc::new(view))))
            }
            _ => None,
        }));
        self.servers.change(changes.iter().filter_map(|change| match change {
            RowChange::Server(record) => {
                Some((record.server.id.0, Some(ServerView::new(Arc::clone(record)))))
            }
            RowChange::ServerGone(id) => Some((id.0, None)),
            _ => None,
        }));
        self.keys.change(changes.iter().filter_map(|change| match change {
            RowChange::Key(record) => Some((record.key.id.0, Some(Arc::clone(record)))),
            RowChange::KeyGone(id) => Some((id.0, None)),
            _ => None,
        }));
        for change in changes {
            match change {
                RowChange::Server(record) => {
                    let server = &record.server;
                    self.edit_members(server.store, |members| members.servers.insert(server.id));
                }
                RowChange::Key(record) => {
                    let key = &record.key;
                    self.edit_members(key.store, |members| members.keys.insert(key.id));
                }
                _ => {}
            }
        }
        for gone in gone {
            match gone {
                Gone::Server(store, id) => self.edit_members(store, |members| members.servers.remove(&id)),
                Gone::Key(store, id) => self.edit_members(store, |members| members.keys.remove(&id)),
            };
        }
        if changes.iter().any(|change| matches!(change, RowChange::KeyGone(_))) {
            self.key_removals.send_modify(|count| *count += 1);
        }
    }

    fn edit_members(&self, store: StoreId, edit: impl FnOnce(&mut Members) -> bool) {
        if let Some(view) = self.stores.find(store.0) {
            edit(&mut view.members.write());
        }
    }
}

/// A member that leaves its store.
enum Gone {
    Server(StoreId, ServerId),
    Key(StoreId, KeyId),
}
