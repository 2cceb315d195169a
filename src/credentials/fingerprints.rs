//! Keyed digests of idempotency keys and orders: nobody without the data directory's secret can make two collide.

use super::data_key::DataKey;
use crate::ids::StoreId;

/// Makes the fingerprints under which an order is found again.
#[derive(Clone)]
pub struct Fingerprints {
    key: [u8; 32],
    body: [u8; 32],
}

impl std::fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprints(...)")
    }
}

impl Fingerprints {
    /// The fingerprints of a data directory.
    pub fn new(key: &DataKey) -> Fingerprints {
        Fingerprints {
            key: key.derive("fluxrelay 2026 idempotency key"),
            body: key.derive("fluxrelay 2026 order body"),
        }
    }

    /// Of a store's idempotency key.
    pub fn key(&self, store: StoreId, idempotency_key: &str) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&store.0.to_le_bytes());
        hasher.update(idempotency_key.as_bytes());
        first_64_bits(&hasher.finalize())
    }

    /// Of an order's canonical bytes.
    pub fn body(&self, canonical: &[u8]) -> u64 {
        first_64_bits(&blake3::keyed_hash(&self.body, canonical))
    }
}

fn first_64_bits(hash: &blake3::Hash) -> u64 {
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("32 bytes have 8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depend_on_store_key_and_directory() {
        let fingerprints = Fingerprints::new(&DataKey::generate());
        let one = fingerprints.key(StoreId(1), "a");
        assert_eq!(one, fingerprints.clone().key(StoreId(1), "a"));
        assert_ne!(one, fingerprints.key(StoreId(2), "a"));
        assert_ne!(one, fingerprints.key(StoreId(1), "b"));
        assert_ne!(one, Fingerprints::new(&DataKey::generate()).key(StoreId(1), "a"));
    }

    #[test]
    fn body_and_key_are_apart() {
        let fingerprints = Fingerprints::new(&DataKey::generate());
        let key = fingerprints.key(StoreId(1), "a");
        assert_ne!(key, fingerprints.body(b"\x01\0\0\0a"));
    }
}
