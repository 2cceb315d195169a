//! Remembered idempotency keys, many to a row of `keys`.

use rkyv::{Archive, Serialize};

use super::{Flaw, Kind, access, pair_key, seal, unseal};
use crate::engine::{KeyDigest, KeyRow};
use crate::ids::{OrderId, Seq, StoreId};
use crate::time::UnixMs;

/// Keys in one row, so that no row is above about 2.4 MB.
pub(crate) const KEYS_PER_ROW: usize = 65_536;

#[derive(Archive, Serialize)]
struct KeysRecord {
    /// When the youngest was accepted: all of them may go once this is old enough.
    latest: u64,
    keys: Vec<KeyRecord>,
}

#[derive(Archive, Serialize)]
struct KeyRecord {
    key: u64,
    body: u64,
    store: u32,
    order: u64,
    at: u64,
}

/// The sealed row of one checkpoint's `chunk`-th keys.
pub(crate) fn encode_keys(checkpoint: u64, chunk: u32, keys: &[KeyRow]) -> Vec<u8> {
    let record = |row: &KeyRow| KeyRecord {
        key: row.digest.key,
        body: row.digest.body,
        store: row.order.store.0,
        order: row.order.seq.0,
        at: row.at.0,
    };
    let latest = keys.iter().map(|row| row.at.0).max().unwrap_or(0);
    let record = KeysRecord { latest, keys: keys.iter().map(record).collect() };
    seal(Kind::Keys, pair_key(checkpoint, chunk), &record)
}

/// Reads what [`encode_keys`] wrote there: when the youngest was accepted, and all of them.
pub(crate) fn decode_keys(
    checkpoint: u64,
    chunk: u32,
    row: &[u8],
) -> Result<(UnixMs, impl Iterator<Item = KeyRow>), Flaw> {
    let record = access::<ArchivedKeysRecord>(unseal(Kind::Keys, pair_key(checkpoint, chunk), row)?)?;
    let keys = record.keys.iter().map(|row| KeyRow {
        digest: KeyDigest { key: row.key.to_native(), body: row.body.to_native() },
        order: OrderId { store: StoreId(row.store.to_native()), seq: Seq(row.order.to_native()) },
        at: UnixMs(row.at.to_native()),
    });
    Ok((UnixMs(record.latest.to_native()), keys))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, assert_golden};
    use super::*;

    #[test]
    fn keys_read_back() {
        let keys = samples::keys();
        let row = encode_keys(3, 1, &keys);
        let (latest, found) = decode_keys(3, 1, &row).unwrap();
        assert_eq!(found.collect::<Vec<_>>(), keys);
        assert_eq!(latest, keys.iter().map(|key| key.at).max().unwrap());
        assert!(decode_keys(1, 3, &row).is_err());
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("keys", &encode_keys(3, 1, &samples::keys()));
    }
}
