//! Remembered idempotency keys, as formats 1 and 2 have them. Read once, by the upgrade.

use rkyv::{Archive, Serialize};

#[cfg(any(test, fuzzing))]
use super::seal;
use super::{Flaw, Kind, access, pair_key, unseal};
use crate::engine::{KeyDigest, KeyRow};
use crate::ids::{OrderId, Seq, StoreId};
use crate::time::UnixMs;

#[derive(Archive, Serialize)]
#[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "only what it is archived as is read"))]
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
#[cfg(any(test, fuzzing))]
pub(crate) fn encode_old_keys(checkpoint: u64, chunk: u32, keys: &[KeyRow]) -> Vec<u8> {
    let record = |row: &KeyRow| KeyRecord {
        key: row.digest.key,
        body: row.digest.body,
        store: row.order.store.0,
        order: row.order.seq.0,
        at: row.at.0,
    };
    let latest = keys.iter().map(|row| row.at.0).max().unwrap_or(0);
    let record = KeysRecord { latest, keys: keys.iter().map(record).collect() };
    seal(Kind::OldKeys, pair_key(checkpoint, chunk), &record)
}

/// Reads what [`encode_old_keys`] wrote there: when the youngest was accepted, and all of them.
pub(crate) fn decode_old_keys(
    checkpoint: u64,
    chunk: u32,
    row: &[u8],
) -> Result<(UnixMs, impl Iterator<Item = KeyRow>), Flaw> {
    let record = access::<ArchivedKeysRecord>(unseal(Kind::OldKeys, pair_key(checkpoint, chunk), row)?)?;
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
        let row = encode_old_keys(3, 1, &keys);
        let (latest, found) = decode_old_keys(3, 1, &row).unwrap();
        assert_eq!(found.collect::<Vec<_>>(), keys);
        assert_eq!(latest, keys.iter().map(|key| key.at).max().unwrap());
        assert!(decode_old_keys(1, 3, &row).is_err());
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("old_keys", &encode_old_keys(3, 1, &samples::keys()));
    }
}
