//! The registry's rows, and what must hold between them.

use std::collections::HashSet;

use redb::{ReadTransaction, ReadableTable};

use super::{Inspection, TableCount};
use crate::ids::AuditId;
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::Flaw;
use crate::storage::record::audit::decode_audit;
use crate::storage::record::registry::{decode_key, decode_meta, decode_server, decode_store};
use crate::storage::registry::{
    AUDIT, AUDIT_BY_STORE, COUNTERS_KEY, REGISTRY_KEYS, REGISTRY_SERVERS, REGISTRY_STORES,
};

/// Checks every row.
pub(super) fn rows(
    look: &mut Inspection<'_>,
    reader: &ReadTransaction,
    file: &DbFile,
) -> Result<(), StorageError> {
    let Some(meta) = look.meta(reader, file, COUNTERS_KEY, decode_meta)? else { return Ok(()) };
    look.report.data_key_check = Some(meta.data_key_check);
    let mut stores = HashSet::new();
    look.walk(reader, file, (REGISTRY_STORES, "stores"), |id, row| {
        stores.insert(id);
        let decoded = decode_store(id, row).map(drop);
        decoded.and_then(|()| given_out(id, meta.next_store)).map_err(|flaw| (id.to_string(), flaw))
    })?;
    let of_known_store = |store: u32| match stores.contains(&store) {
        true => Ok(()),
        false => Err(Flaw::new("it belongs to a store that does not exist")),
    };
    look.walk(reader, file, (REGISTRY_SERVERS, "servers"), |id, row| {
        let decoded = decode_server(id, row).and_then(|record| of_known_store(record.server.store.0));
        decoded.and_then(|()| given_out(id, meta.next_server)).map_err(|flaw| (id.to_string(), flaw))
    })?;
    look.walk(reader, file, (REGISTRY_KEYS, "keys"), |id, row| {
        let decoded = decode_key(id, row).and_then(|record| of_known_store(record.key.store.0));
        decoded.and_then(|()| given_out(id, meta.next_key)).map_err(|flaw| (id.to_string(), flaw))
    })?;
    trail(look, reader, file)
}

fn given_out(id: u32, next: u32) -> Result<(), Flaw> {
    if id < next { Ok(()) } else { Err(Flaw::new("a number that was not given out yet")) }
}

/// The audit trail: every record, and that each stands once among those of the store whose share it takes.
fn trail(look: &mut Inspection<'_>, reader: &ReadTransaction, file: &DbFile) -> Result<(), StorageError> {
    let opened = reader.open_table(AUDIT_BY_STORE).map_err(file.redb("open a table of"));
    let Some(by_store) = look.or_damage(opened)? else { return Ok(()) };
    let mut records = 0;
    look.walk(reader, file, (AUDIT, "audit"), |id, row| {
        let flawed = |flaw| (id.to_string(), flaw);
        records += 1;
        let record = decode_audit(AuditId(id), row).map_err(flawed)?;
        match by_store.get((record.by.share().0, id)) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(flawed(Flaw::new("it is not listed in audit_by_store"))),
            Err(error) => Err(flawed(Flaw::new(error.to_string()))),
        }
    })?;
    let mut listed = 0;
    let iter = by_store.iter().map_err(file.redb("read"));
    let Some(iter) = look.or_damage(iter)? else { return Ok(()) };
    for row in iter {
        if look.or_damage(row.map_err(file.redb("read")))?.is_none() {
            break;
        }
        listed += 1;
    }
    look.report.tables.push(TableCount { file: look.file, table: "audit_by_store", rows: listed });
    if listed > records {
        look.damage("audit_by_store", format!("it lists {listed} records where audit has {records}"));
    }
    Ok(())
}
