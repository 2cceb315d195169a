//! Opening a data directory's registry, and what its first start makes: data key, default store, admin key; and a new
//! admin key for when the first is lost.
//!
//! Files come before the rows that rest on them, so a first start that is cut short is simply done again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ledger::Ledger;
use super::{ADMIN_KEY, DEFAULT_STORE, RegistryOptions};
use crate::credentials::{
    ADMIN_FILE, DataKey, DataKeyFile, HashCost, Hasher, RandomPart, SECRET_FILE, Scope, Sealer, Secret,
    Subject,
};
use crate::ids::AuditId;
use crate::storage::StorageError;
use crate::storage::mirror::Mirror;
use crate::storage::registry::{
    Actor, AuditAction, AuditOutcome, AuditRecord, AuditTarget, Key, KeyRecord, REGISTRY_FILE, RegistryDb,
    RegistryMeta, RegistryRows, RowChange, Store,
};
use crate::time::UnixMs;

/// An open registry, before its threads start.
pub(super) struct Opened {
    pub(super) db: RegistryDb,
    pub(super) rows: RegistryRows,
    pub(super) ledger: Ledger,
    pub(super) data_key: DataKey,
    pub(super) admin_key: Option<Secret>,
}

/// Goes on from the open file: opening it first of all makes sure that no other process works in this directory.
pub(super) fn open(
    dir: &Path,
    (mut db, mut rows): (RegistryDb, RegistryRows),
    options: &RegistryOptions,
) -> Result<Opened, StorageError> {
    let (meta, data_key, admin_key) = match rows.meta {
        Some(meta) => (meta, known_data_key(dir, &meta)?, None),
        None => {
            let (meta, data_key, admin_key) = make(dir, &mut db, &mut rows, options)?;
            (meta, data_key, Some(admin_key))
        }
    };
    let ledger = Ledger::new(meta, &rows);
    Ok(Opened { db, rows, ledger, data_key, admin_key })
}

/// Replaces the admin key of a data directory that no broker has open: the way back in when it is lost. The old one is
/// dead when this returns the new one, which also lies in `admin.key`. The audit trail says that it was done.
///
/// # Errors
/// `InUse` while a broker runs, `Io` when there is no registry, and whatever else keeps one from being opened.
pub fn reset_admin_key(dir: &Path, hash_cost: HashCost, now: UnixMs) -> Result<Secret, StorageError> {
    let path = dir.join(REGISTRY_FILE);
    let not_there = |detail: &str| StorageError::Io {
        file: path.clone(),
        operation: "reset the admin key in",
        detail: detail.to_owned(),
    };
    if !path.exists() {
        return Err(not_there("there is no such file: name the data directory of a broker"));
    }
    let (mut db, rows) = RegistryDb::open(dir)?;
    let meta = rows.meta.ok_or_else(|| not_there("its broker was never started: start it"))?;
    let data_key = known_data_key(dir, &meta)?;
    Mirror::left_alone(dir)?;
    let (admin, admin_key) = new_admin_key(dir, &data_key, hash_cost, now)?;
    let record = audit(AuditId(rows.next_audit), now, AuditAction::AdminKeyReset);
    db.commit(&meta, &[RowChange::Key(admin.into()), record])?;
    Ok(admin_key)
}

/// The data key that a registry was made with.
fn known_data_key(dir: &Path, meta: &RegistryMeta) -> Result<DataKey, StorageError> {
    let path = dir.join(SECRET_FILE);
    match DataKeyFile::read(&path).map_err(|error| failed(&path, "read", &error))? {
        Some(data_key) if data_key.check_value() == meta.data_key_check => Ok(data_key),
        Some(_) => Err(wrong_data_key(&path, "it is not the one that this registry was made with")),
        None => Err(wrong_data_key(&path, "it is missing, and every token rests on it")),
    }
}

/// The first start.
fn make(
    dir: &Path,
    db: &mut RegistryDb,
    rows: &mut RegistryRows,
    options: &RegistryOptions,
) -> Result<(RegistryMeta, DataKey, Secret), StorageError> {
    let path = dir.join(SECRET_FILE);
    let data_key = match DataKeyFile::read(&path).map_err(|error| failed(&path, "read", &error))? {
        Some(left_by_a_cut_start) => left_by_a_cut_start,
        None => {
            let new = DataKey::generate();
            DataKeyFile::write(&path, &new).map_err(|error| failed(&path, "write", &error))?;
            new
        }
    };
    let now = (options.clock)();
    let (admin, admin_key) = new_admin_key(dir, &data_key, options.hash_cost, now)?;
    let store = Store { id: DEFAULT_STORE, name: "default".into(), created_at: now };
    let meta = RegistryMeta {
        next_store: DEFAULT_STORE.0 + 1,
        next_server: 1,
        next_key: ADMIN_KEY.0 + 1,
        data_key_check: data_key.check_value(),
    };
    let first = AuditId(rows.next_audit);
    db.commit(
        &meta,
        &[
            RowChange::Store(store.clone()),
            RowChange::Key(admin.clone().into()),
            audit(first, now, AuditAction::AdminKeyCreated),
        ],
    )?;
    *rows = RegistryRows {
        meta: Some(meta),
        stores: vec![store],
        servers: Vec::new(),
        keys: vec![admin],
        next_audit: first.0 + 1,
    };
    Ok((meta, data_key, admin_key))
}

/// A new admin key, written to its file: the row, which makes it valid, is the caller's to store.
fn new_admin_key(
    dir: &Path,
    data_key: &DataKey,
    hash_cost: HashCost,
    now: UnixMs,
) -> Result<(KeyRecord, Secret), StorageError> {
    let random = RandomPart::generate();
    let admin_key = Sealer::new(data_key).seal(Subject::Admin, &random);
    let path = dir.join(ADMIN_FILE);
    DataKeyFile::write_text(&path, &admin_key).map_err(|error| failed(&path, "write", &error))?;
    let hash = Hasher::default().make(&random, hash_cost);
    let key = Key {
        id: ADMIN_KEY,
        store: DEFAULT_STORE,
        scope: Scope::Admin,
        name: "admin".into(),
        created_at: now,
    };
    Ok((KeyRecord { key, hash }, admin_key))
}

fn audit(id: AuditId, at: UnixMs, action: AuditAction) -> RowChange {
    let (outcome, by, on) = (AuditOutcome::Done, Actor::LOCAL, AuditTarget::default());
    RowChange::Audit(Arc::new(AuditRecord { id, at, action, outcome, by, on }))
}

fn wrong_data_key(path: &Path, flaw: &str) -> StorageError {
    StorageError::Damaged {
        file: path.to_path_buf(),
        record: format!("the data key that {REGISTRY_FILE} rests on"),
        detail: flaw.to_owned(),
    }
}

fn failed(path: &Path, operation: &'static str, error: &io::Error) -> StorageError {
    let file: PathBuf = path.to_path_buf();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::Full { file },
        io::ErrorKind::InvalidData => {
            StorageError::Damaged { file, record: "the data key".into(), detail: error.to_string() }
        }
        _ => StorageError::Io { file, operation, detail: error.to_string() },
    }
}
