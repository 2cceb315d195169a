//! Changes of the registry, each a transaction as the broker's writer makes them, and what has to be found of them.
//! Must never look at the file to know what it should hold.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use fluxrelay::credentials::{HashCost, Scope, SecretHash};
use fluxrelay::ids::{AuditId, KeyId, ServerId, StoreId};
use fluxrelay::storage::StorageError;
use fluxrelay::storage::registry::{
    Actor, AuditAction, AuditOutcome, AuditQuery, AuditRecord, AuditTarget, Key, KeyRecord, RegistryDb,
    RegistryMeta, RowChange, Server, ServerRecord, Store, Who,
};
use fluxrelay::time::UnixMs;

use crate::disk::{Disk, REGISTRY, Random};

/// Everything that the registry amounts to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registered {
    meta: Option<RegistryMeta>,
    stores: Vec<Store>,
    servers: Vec<ServerRecord>,
    keys: Vec<KeyRecord>,
    /// By rising number.
    trail: Vec<AuditRecord>,
}

/// A registry that is open, and how far it got.
pub(crate) struct RegistryRun {
    db: RegistryDb,
    /// After each transaction that was begun; the first is what was found at the start.
    pub(crate) states: Vec<Registered>,
    /// For each acknowledged transaction, how many operations the disk had seen by then.
    pub(crate) acknowledged: Vec<usize>,
}

impl RegistryRun {
    /// Opens as the broker does, and reads everything.
    pub(crate) fn open(disk: &Disk) -> Result<RegistryRun, StorageError> {
        let (db, rows) = RegistryDb::open_with_backend(disk.file(REGISTRY))?;
        let page = db.audit().page(&AuditQuery { limit: usize::MAX, ..AuditQuery::default() })?;
        assert_eq!(page.next, None, "the trail fits on a page");
        let mut trail = page.records;
        trail.reverse();
        let last = trail.last().map_or(0, |record| record.id.0);
        assert_eq!(rows.next_audit, last + 1, "numbers of the trail go on");
        let found = Registered {
            meta: rows.meta,
            stores: rows.stores,
            servers: rows.servers,
            keys: rows.keys,
            trail,
        };
        Ok(RegistryRun { db, states: vec![found], acknowledged: Vec::new() })
    }

    /// One transaction with a few changes.
    pub(crate) fn commit(&mut self, disk: &Disk, random: &mut Random) -> Result<(), StorageError> {
        let mut state = self.states.last().expect("the first is there from the start").clone();
        let mut changes = Vec::new();
        for _ in 0..=random.below(3) {
            change(&mut state, &mut changes, random);
        }
        let meta = state.meta.expect("the first change makes it");
        self.states.push(state);
        self.db.commit(&meta, &changes)?;
        self.acknowledged.push(disk.operations());
        Ok(())
    }
}

fn bytes<const N: usize>(random: &mut Random) -> [u8; N] {
    std::array::from_fn(|_| random.next() as u8)
}

fn hash(random: &mut Random) -> SecretHash {
    SecretHash { cost: HashCost::TINY, salt: bytes(random), output: bytes(random) }
}

fn name(random: &mut Random) -> Arc<str> {
    format!("name-{}", "x".repeat(random.below(60))).into()
}

/// One change with its record of the trail.
fn change(state: &mut Registered, changes: &mut Vec<RowChange>, random: &mut Random) {
    let start = RegistryMeta { next_store: 1, next_server: 1, next_key: 0, data_key_check: [7; 16] };
    let mut meta = state.meta.unwrap_or(start);
    let at = UnixMs(1_000 + state.trail.len() as u64);
    let action = match random.below(6) {
        _ if state.stores.is_empty() => {
            let store = Store { id: StoreId(meta.next_store), name: "default".into(), created_at: at };
            meta.next_store += 1;
            changes.push(RowChange::Store(store.clone()));
            state.stores.push(store);
            AuditAction::StoreCreated
        }
        0 if !state.servers.is_empty() => {
            let gone = state.servers.remove(random.below(state.servers.len()));
            changes.push(RowChange::ServerGone(gone.server.id));
            AuditAction::ServerRemoved
        }
        1 if !state.servers.is_empty() => {
            let place = random.below(state.servers.len());
            let record = &mut state.servers[place];
            let server = Server { generation: record.server.generation + 1, ..Server::clone(&record.server) };
            *record = ServerRecord { server: Arc::new(server), hash: hash(random) };
            changes.push(RowChange::Server(Arc::new(record.clone())));
            AuditAction::TokenRegenerated
        }
        2 if !state.keys.is_empty() => {
            let gone = state.keys.remove(random.below(state.keys.len()));
            changes.push(RowChange::KeyGone(gone.key.id));
            AuditAction::KeyRemoved
        }
        3 => {
            let (id, store) = (KeyId(meta.next_key), StoreId(1));
            let key = Key { id, store, scope: Scope::Publish, name: name(random), created_at: at };
            meta.next_key += 1;
            let record = KeyRecord { key, hash: hash(random) };
            changes.push(RowChange::Key(Arc::new(record.clone())));
            state.keys.push(record);
            AuditAction::KeyCreated
        }
        _ => {
            let (id, store, name) = (ServerId(meta.next_server), StoreId(1), name(random));
            let server =
                Server { id, store, name, address: "a.example".into(), created_at: at, generation: 1 };
            meta.next_server += 1;
            let record = ServerRecord { server: Arc::new(server), hash: hash(random) };
            changes.push(RowChange::Server(Arc::new(record.clone())));
            state.servers.push(record);
            AuditAction::ServerCreated
        }
    };
    state.meta = Some(meta);
    let who = match random.below(2) {
        0 => Who::Admin,
        _ => Who::Key { id: KeyId(3), scope: Scope::Publish, store: StoreId(1) },
    };
    let by = Actor { who, address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))) };
    let on = AuditTarget { name: Some("x".into()), ..AuditTarget::default() };
    let id = AuditId(state.trail.last().map_or(0, |record| record.id.0) + 1);
    let record = AuditRecord { id, at, action, outcome: AuditOutcome::Done, by, on };
    state.trail.push(record.clone());
    changes.push(RowChange::Audit(Arc::new(record)));
}
