//! Idempotency keys that came with one checkpoint, in the rows of `keys`: docs/storage.md has the layout.

use super::pack::{self, Unpack};
use super::{Flaw, Kind, SEAL_BYTES, finish_seal, pair_key, unseal};
use crate::engine::{KeyDigest, KeyRow};
use crate::ids::{OrderId, Seq, StoreId};
use crate::time::UnixMs;

/// Keys in one row. Most take 20 to 22 bytes, and the database gives a row pages whose number is a power of two: 256 KiB.
pub(crate) const KEYS_PER_ROW: usize = 11_900;

/// The sealed row of one checkpoint's `chunk`-th keys.
pub(crate) fn encode_keys(checkpoint: u64, chunk: u32, keys: &[KeyRow]) -> Vec<u8> {
    let mut row = Vec::with_capacity(SEAL_BYTES + 16 + 24 * keys.len());
    row.resize(SEAL_BYTES, 0);
    let latest = keys.iter().map(|row| row.at.0).max().unwrap_or(0);
    pack::number(&mut row, latest);
    let (mut at, mut seq) = (latest, 0);
    for key in keys {
        row.extend_from_slice(&key.digest.key.to_le_bytes());
        row.extend_from_slice(&key.digest.body.to_le_bytes());
        pack::number(&mut row, key.order.store.0.into());
        pack::difference(&mut row, key.order.seq.0, seq);
        pack::difference(&mut row, key.at.0, at);
        (at, seq) = (key.at.0, key.order.seq.0);
    }
    finish_seal(Kind::Keys, pair_key(checkpoint, chunk), &mut row);
    row
}

/// Reads what [`encode_keys`] wrote there: when the youngest was accepted, after which all of them may go, and all of them.
pub(crate) fn decode_keys(
    checkpoint: u64,
    chunk: u32,
    row: &[u8],
) -> Result<(UnixMs, impl Iterator<Item = Result<KeyRow, Flaw>>), Flaw> {
    let mut unpack = Unpack(unseal(Kind::Keys, pair_key(checkpoint, chunk), row)?);
    let latest = unpack.number()?;
    let (mut at, mut seq) = (latest, 0);
    let mut next = move |unpack: &mut Unpack<'_>| {
        let digest =
            KeyDigest { key: u64::from_le_bytes(unpack.array()?), body: u64::from_le_bytes(unpack.array()?) };
        let store = StoreId(unpack.small()?);
        seq = unpack.difference(seq)?;
        at = unpack.difference(at)?;
        Ok(KeyRow { digest, order: OrderId { store, seq: Seq(seq) }, at: UnixMs(at) })
    };
    let keys = std::iter::from_fn(move || {
        if unpack.is_empty() {
            return None;
        }
        let key = next(&mut unpack);
        if key.is_err() {
            unpack = Unpack(&[]);
        }
        Some(key)
    });
    Ok((UnixMs(latest), keys))
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
        assert_eq!(found.collect::<Result<Vec<_>, _>>().as_ref(), Ok(&keys));
        assert_eq!(latest, keys.iter().map(|key| key.at).max().unwrap());
        assert!(decode_keys(1, 3, &row).is_err());
    }

    #[test]
    fn a_key_that_is_cut_ends_the_row_with_its_flaw() {
        let row = encode_keys(3, 1, &samples::keys());
        for length in 1..19 {
            let mut row = row[..row.len() - length].to_vec();
            finish_seal(Kind::Keys, pair_key(3, 1), &mut row);
            let found: Vec<_> = decode_keys(3, 1, &row).unwrap().1.collect();
            assert!(found.len() <= 3 && found.last().unwrap().is_err(), "{length}: {found:?}");
        }
    }

    #[test]
    fn a_full_row_fills_its_pages() {
        let bytes = |store, apart| {
            let keys: Vec<KeyRow> = (0..KEYS_PER_ROW as u64)
                .map(|n| KeyRow {
                    digest: KeyDigest { key: n, body: n },
                    order: OrderId { store: StoreId(store), seq: Seq((1 << 50) + 64 * n) },
                    at: UnixMs(1_790_000_000_000 + n * apart),
                })
                .collect();
            encode_keys(3, 1, &keys).len()
        };
        for (store, apart) in [(1, 0), (10_000, 100)] {
            let bytes = bytes(store, apart);
            assert!((235_000..262_000).contains(&bytes), "{bytes}");
        }
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("keys", &encode_keys(3, 1, &samples::keys()));
    }
}
