//! Opening a data directory's registry, and what its first start makes: data key, default store, admin key.
//!
//! Files come before the rows that rest on them, so a first start that is cut short is simply done again.

use std::io;
use std::path::{Path, PathBuf};

use super::ledger::Ledger;
use super::{ADMIN_KEY, DEFAULT_STORE, RegistryOptions};
use crate::credentials::{DataKey, DataKeyFile, Hasher, RandomPart, Scope, Sealer, Secret, Subject};
use crate::storage::StorageError;
use crate::storage::registry::{
    Key, KeyRecord, REGISTRY_FILE, RegistryDb, RegistryMeta, RegistryRows, RowChange, Store,
};

/// The data key's file.
pub(super) const SECRET_FILE: &str = "secret.key";
/// The admin key's file; it may be removed once the key is noted.
pub(super) const ADMIN_FILE: &str = "admin.key";

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
    (db, mut rows): (RegistryDb, RegistryRows),
    options: &RegistryOptions,
) -> Result<Opened, StorageError> {
    let path = dir.join(SECRET_FILE);
    let data_key = DataKeyFile::read(&path).map_err(|error| failed(&path, "read", &error))?;
    let (meta, data_key, admin_key) = match (rows.meta, data_key) {
        (Some(meta), Some(data_key)) if data_key.check_value() == meta.data_key_check => {
            (meta, data_key, None)
        }
        (Some(_), Some(_)) => {
            return Err(wrong_data_key(&path, "it is not the one that this registry was made with"));
        }
        (Some(_), None) => return Err(wrong_data_key(&path, "it is missing, and every token rests on it")),
        (None, data_key) => {
            let (meta, data_key, admin_key) = make(dir, &db, &mut rows, data_key, options)?;
            (meta, data_key, Some(admin_key))
        }
    };
    let ledger = Ledger::new(meta, &rows);
    Ok(Opened { db, rows, ledger, data_key, admin_key })
}

/// The first start.
fn make(
    dir: &Path,
    db: &RegistryDb,
    rows: &mut RegistryRows,
    data_key: Option<DataKey>,
    options: &RegistryOptions,
) -> Result<(RegistryMeta, DataKey, Secret), StorageError> {
    let data_key = match data_key {
        Some(left_by_a_cut_start) => left_by_a_cut_start,
        None => {
            let path = dir.join(SECRET_FILE);
            let new = DataKey::generate();
            DataKeyFile::write(&path, &new).map_err(|error| failed(&path, "write", &error))?;
            new
        }
    };
    let random = RandomPart::generate();
    let admin_key = Sealer::new(&data_key).seal(Subject::Admin, &random);
    let path = dir.join(ADMIN_FILE);
    DataKeyFile::write_text(&path, &admin_key).map_err(|error| failed(&path, "write", &error))?;

    let now = (options.clock)();
    let store = Store { id: DEFAULT_STORE, name: "default".into(), created_at: now };
    let hash = Hasher::default().make(&random, options.hash_cost);
    let key = Key {
        id: ADMIN_KEY,
        store: DEFAULT_STORE,
        scope: Scope::Admin,
        name: "admin".into(),
        created_at: now,
    };
    let admin = KeyRecord { key, hash };
    let meta = RegistryMeta {
        next_store: DEFAULT_STORE.0 + 1,
        next_server: 1,
        next_key: ADMIN_KEY.0 + 1,
        data_key_check: data_key.check_value(),
    };
    db.commit(&meta, &[RowChange::Store(store.clone()), RowChange::Key(admin.clone().into())])?;
    *rows = RegistryRows { meta: Some(meta), stores: vec![store], servers: Vec::new(), keys: vec![admin] };
    Ok((meta, data_key, admin_key))
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
