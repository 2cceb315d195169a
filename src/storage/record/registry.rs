//! The rows of `registry.redb` as they lie on disk, and both conversions. The order of fields never changes; a new
//! layout is a new version beside the old one.

use rkyv::{Archive, Serialize};

use super::{Flaw, Kind, access, seal, unseal};
use crate::credentials::{HashCost, Scope, SecretHash};
use crate::ids::{KeyId, ServerId, StoreId};
use crate::limits::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX};
use crate::storage::registry::{Key, KeyRecord, RegistryMeta, Server, ServerRecord, Store};
use crate::time::UnixMs;

#[derive(Archive, Serialize)]
pub(crate) struct HashV1 {
    memory_kib: u32,
    passes: u32,
    salt: [u8; 16],
    output: [u8; 32],
}

impl From<&SecretHash> for HashV1 {
    fn from(hash: &SecretHash) -> HashV1 {
        let HashCost { memory_kib, passes } = hash.cost;
        HashV1 { memory_kib, passes, salt: hash.salt, output: hash.output }
    }
}

impl ArchivedHashV1 {
    fn read(&self) -> Result<SecretHash, Flaw> {
        let cost = HashCost { memory_kib: self.memory_kib.to_native(), passes: self.passes.to_native() };
        if !cost.is_valid() {
            return Err(Flaw::new("a hash with a cost out of range"));
        }
        Ok(SecretHash { cost, salt: self.salt, output: self.output })
    }
}

#[derive(Archive, Serialize)]
pub(crate) struct StoreV1 {
    name: String,
    created_at: u64,
}

/// A store as a sealed row.
pub(crate) fn encode_store(store: &Store) -> Vec<u8> {
    let row = StoreV1 { name: store.name.to_string(), created_at: store.created_at.0 };
    seal(Kind::RegisteredStore, store.id.0.into(), &row)
}

/// The store in a sealed row.
pub(crate) fn decode_store(id: u32, row: &[u8]) -> Result<Store, Flaw> {
    let row: &ArchivedStoreV1 = access(unseal(Kind::RegisteredStore, id.into(), row)?)?;
    Ok(Store {
        id: StoreId(id),
        name: name(&row.name)?.into(),
        created_at: UnixMs(row.created_at.to_native()),
    })
}

#[derive(Archive, Serialize)]
pub(crate) struct ServerV1 {
    store: u32,
    name: String,
    address: String,
    created_at: u64,
    generation: u32,
    hash: HashV1,
}

/// A server as a sealed row.
pub(crate) fn encode_server(record: &ServerRecord) -> Vec<u8> {
    let server = &record.server;
    let row = ServerV1 {
        store: server.store.0,
        name: server.name.to_string(),
        address: server.address.to_string(),
        created_at: server.created_at.0,
        generation: server.generation,
        hash: (&record.hash).into(),
    };
    seal(Kind::RegisteredServer, server.id.0.into(), &row)
}

/// The server in a sealed row.
pub(crate) fn decode_server(id: u32, row: &[u8]) -> Result<ServerRecord, Flaw> {
    let row: &ArchivedServerV1 = access(unseal(Kind::RegisteredServer, id.into(), row)?)?;
    if row.address.len() > ADDRESS_BYTES_MAX {
        return Err(Flaw::new("an address out of range"));
    }
    let server = Server {
        id: ServerId(id),
        store: StoreId(row.store.to_native()),
        name: name(&row.name)?.into(),
        address: row.address.as_str().into(),
        created_at: UnixMs(row.created_at.to_native()),
        generation: row.generation.to_native(),
    };
    Ok(ServerRecord { server: server.into(), hash: row.hash.read()? })
}

#[derive(Archive, Serialize)]
pub(crate) struct KeyV1 {
    store: u32,
    scope: u8,
    name: String,
    created_at: u64,
    hash: HashV1,
}

/// An API key as a sealed row.
pub(crate) fn encode_key(record: &KeyRecord) -> Vec<u8> {
    let key = &record.key;
    let row = KeyV1 {
        store: key.store.0,
        scope: key.scope as u8,
        name: key.name.to_string(),
        created_at: key.created_at.0,
        hash: (&record.hash).into(),
    };
    seal(Kind::ApiKey, key.id.0.into(), &row)
}

/// The API key in a sealed row.
pub(crate) fn decode_key(id: u32, row: &[u8]) -> Result<KeyRecord, Flaw> {
    let row: &ArchivedKeyV1 = access(unseal(Kind::ApiKey, id.into(), row)?)?;
    let scope = Scope::from_ordinal(row.scope).ok_or_else(|| Flaw::new("an unknown scope"))?;
    let key = Key {
        id: KeyId(id),
        store: StoreId(row.store.to_native()),
        scope,
        name: name(&row.name)?.into(),
        created_at: UnixMs(row.created_at.to_native()),
    };
    Ok(KeyRecord { key, hash: row.hash.read()? })
}

#[derive(Archive, Serialize)]
pub(crate) struct MetaV1 {
    next_store: u32,
    next_server: u32,
    next_key: u32,
    data_key_check: [u8; 16],
}

/// The counters as a sealed row.
pub(crate) fn encode_meta(meta: &RegistryMeta) -> Vec<u8> {
    let RegistryMeta { next_store, next_server, next_key, data_key_check } = *meta;
    seal(Kind::RegistryMeta, 0, &MetaV1 { next_store, next_server, next_key, data_key_check })
}

/// The counters in a sealed row.
pub(crate) fn decode_meta(row: &[u8]) -> Result<RegistryMeta, Flaw> {
    let row: &ArchivedMetaV1 = access(unseal(Kind::RegistryMeta, 0, row)?)?;
    Ok(RegistryMeta {
        next_store: row.next_store.to_native(),
        next_server: row.next_server.to_native(),
        next_key: row.next_key.to_native(),
        data_key_check: row.data_key_check,
    })
}

fn name(text: &str) -> Result<&str, Flaw> {
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
    fits.then_some(text).ok_or_else(|| Flaw::new("a name out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash() -> SecretHash {
        SecretHash::dummy(HashCost::STANDARD)
    }

    fn server() -> ServerRecord {
        let server = Server {
            id: ServerId(7),
            store: StoreId(2),
            name: "lobby".into(),
            address: "play.example.org".into(),
            created_at: UnixMs(1_700_000_000_000),
            generation: 3,
        };
        ServerRecord { server: server.into(), hash: hash() }
    }

    #[test]
    fn rows_read_back() {
        let store = Store { id: StoreId(2), name: "läden".into(), created_at: UnixMs(5) };
        assert_eq!(decode_store(2, &encode_store(&store)), Ok(store));
        assert_eq!(decode_server(7, &encode_server(&server())).map(|r| r.server), Ok(server().server));
        let record = server();
        assert_eq!(decode_server(7, &encode_server(&record)), Ok(record));
        for scope in [Scope::Admin, Scope::Publish, Scope::Read] {
            let key = Key { id: KeyId(9), store: StoreId(2), scope, name: "x".into(), created_at: UnixMs(1) };
            let record = KeyRecord { key, hash: hash() };
            assert_eq!(decode_key(9, &encode_key(&record)), Ok(record));
        }
        let meta = RegistryMeta { next_store: 1, next_server: 2, next_key: 3, data_key_check: [4; 16] };
        assert_eq!(decode_meta(&encode_meta(&meta)), Ok(meta));
    }

    /// The bytes in `docs/registry.md`; another layout needs another version.
    #[test]
    fn bytes_are_those_of_the_document() {
        let mut record = server();
        record.hash = SecretHash { cost: HashCost::STANDARD, salt: [0xAA; 16], output: [0xBB; 32] };
        let meta = RegistryMeta { next_store: 2, next_server: 8, next_key: 1, data_key_check: [0xCC; 16] };
        let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/registry.md"));
        for row in [encode_server(&record), encode_meta(&meta)] {
            let hex: Vec<String> =
                row.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect()).collect();
            let hex = hex.join("\n");
            assert!(document.contains(&format!("```\n{hex}\n```")), "docs/registry.md should have:\n{hex}");
        }
    }

    #[test]
    fn damage_is_noticed() {
        let row = encode_server(&server());
        assert!(decode_server(8, &row).is_err(), "a row of another server");
        assert!(decode_key(7, &row).is_err(), "a row of another table");
        for at in 0..row.len() {
            let mut damaged = row.clone();
            damaged[at] ^= 1;
            assert!(decode_server(7, &damaged).is_err(), "byte {at}");
            assert!(decode_server(7, &row[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn costs_out_of_range_are_refused() {
        let mut record = server();
        record.hash.cost.memory_kib = HashCost::MEMORY_KIB_MAX + 1;
        assert!(decode_server(7, &encode_server(&record)).is_err());
    }
}
