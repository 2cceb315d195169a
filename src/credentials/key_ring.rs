//! Random keys that are made anew from time to time, two alive at most: the current and the one before it; and their
//! file. Knows no purpose: who owns a ring derives its own keys from these. Reads no clock.
//!
//! The file: four bytes that say whose it is, version 1, the number of keys (1 or 2), two zeros; for each key, the current
//! one first, its number (u32), when it was made (u64 ms) and 32 random bytes; at the end 16 bytes of a BLAKE3 hash over
//! all that, keyed by the owner's check key. Numbers are little-endian.

use std::io;
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use super::private_file::{read_private, write_private};
use super::random::random_bytes;
use crate::time::{Millis, UnixMs};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 8;
const KEY_BYTES: usize = 4 + 8 + 32;
const CHECK_BYTES: usize = 16;
/// Bytes of a file with two keys.
pub(super) const FILE_BYTES_MAX: usize = HEAD_BYTES + 2 * KEY_BYTES + CHECK_BYTES;

/// What a data directory had in the way of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysFound {
    /// A good file.
    Kept,
    /// No file.
    Missing,
    /// A file that does not check, cannot be read, or belongs to something else.
    Damaged,
}

/// Whose keys they are.
#[derive(Clone)]
pub(crate) struct RingOwner {
    /// How the file begins.
    pub(crate) magic: [u8; 4],
    /// What the file's check is keyed with: a file that was written under another one is of no use.
    pub(crate) check: [u8; 32],
}

/// One of the two.
#[derive(Clone)]
pub(crate) struct RingKey {
    number: u32,
    made_at: UnixMs,
    random: [u8; 32],
}

impl RingKey {
    /// The two that are alive follow one another.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// When it was made.
    pub(crate) fn made_at(&self) -> UnixMs {
        self.made_at
    }

    /// To derive from; never to be used itself.
    pub(crate) fn random(&self) -> &[u8; 32] {
        &self.random
    }
}

impl Drop for RingKey {
    fn drop(&mut self) {
        self.random.zeroize();
    }
}

/// The keys that are alive.
#[derive(Clone)]
pub(crate) struct KeyRing {
    owner: RingOwner,
    current: RingKey,
    previous: Option<RingKey>,
}

impl KeyRing {
    /// The keys in the file, or new ones, which are not in a file yet, and how it was. Never fails: owners can do without
    /// what was sealed with lost keys.
    pub(crate) fn open(path: &Path, owner: RingOwner, now: UnixMs) -> (KeyRing, KeysFound) {
        let found = match read_private(path, FILE_BYTES_MAX) {
            Ok(None) => KeysFound::Missing,
            Err(_) => KeysFound::Damaged,
            Ok(Some(bytes)) => match KeyRing::decode(&owner, &bytes) {
                Some(ring) => return (ring, KeysFound::Kept),
                None => KeysFound::Damaged,
            },
        };
        // The first number is random, so that something of keys that were lost hardly ever names a key.
        let number = u32::from_le_bytes(random_bytes());
        let current = RingKey { number, made_at: now, random: random_bytes() };
        (KeyRing { owner, current, previous: None }, found)
    }

    /// Writes them to the file; they are durable when this returns.
    ///
    /// # Errors
    /// The file or its directory cannot be written.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, &self.encode())
    }

    /// Whether the current key has been in use for this long. One that comes from far ahead, because the clock was wrong
    /// when it was made, is due too.
    pub(crate) fn is_due(&self, now: UnixMs, rotation: Millis) -> bool {
        now - self.current.made_at >= rotation || self.current.made_at - now > rotation
    }

    /// The keys after a rotation: a new current one, and the one that was current.
    pub(crate) fn rotated(&self, now: UnixMs) -> KeyRing {
        let number = self.current.number.wrapping_add(1);
        let current = RingKey { number, made_at: now, random: random_bytes() };
        KeyRing { owner: self.owner.clone(), current, previous: Some(self.current.clone()) }
    }

    /// The current one.
    pub(crate) fn current(&self) -> &RingKey {
        &self.current
    }

    /// The current one, then the one before it.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &RingKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
        bytes.extend_from_slice(&self.owner.magic);
        bytes.extend_from_slice(&[VERSION, 1 + u8::from(self.previous.is_some()), 0, 0]);
        for key in self.alive() {
            bytes.extend_from_slice(&key.number.to_le_bytes());
            bytes.extend_from_slice(&key.made_at.0.to_le_bytes());
            bytes.extend_from_slice(&key.random);
        }
        let check = blake3::keyed_hash(&self.owner.check, &bytes);
        bytes.extend_from_slice(&check.as_bytes()[..CHECK_BYTES]);
        bytes
    }

    fn decode(owner: &RingOwner, bytes: &[u8]) -> Option<KeyRing> {
        let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
        if blake3::keyed_hash(&owner.check, body).as_bytes()[..CHECK_BYTES] != *check {
            return None;
        }
        let (head, keys) = body.split_at_checked(HEAD_BYTES)?;
        let count = usize::from(head[5]);
        let good = head[..4] == owner.magic && head[4] == VERSION && (1..=2).contains(&count);
        if !good || keys.len() != count * KEY_BYTES {
            return None;
        }
        let mut keys = keys.chunks_exact(KEY_BYTES).map(|key| {
            let number = u32::from_le_bytes(key[..4].try_into().expect("four bytes"));
            let made_at = u64::from_le_bytes(key[4..12].try_into().expect("eight bytes"));
            RingKey { number, made_at: UnixMs(made_at), random: key[12..].try_into().expect("32 bytes") }
        });
        Some(KeyRing { owner: owner.clone(), current: keys.next()?, previous: keys.next() })
    }
}
