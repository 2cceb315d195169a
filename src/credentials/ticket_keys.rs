//! The keys behind resume tickets and their file: two at most, the current and the one before it. Reads no clock.
//!
//! They are random, made anew every `TICKET_KEY_ROTATION_MS`, and lie in a file of their own outside the database. A
//! ticket is sealed with a key that is derived from one of them **and** from the data key, for one audience, so it is
//! worth nothing at another data directory, or for anything but a plugin's connection.
//!
//! The file: `frtk`, version 1, the number of keys (1 or 2), two zeros; for each key, the current one first, its
//! number (u32), when it was made (u64 ms) and 32 random bytes; at the end 16 bytes of a BLAKE3 hash over all that,
//! keyed by the data key. Numbers are little-endian.

use std::fmt;
use std::io;
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use super::data_key::DataKey;
use super::private_file::{read_private, write_private};
use super::random::random_bytes;
use super::ticket::{self, Ticket, TicketClaim};
use crate::limits::TICKET_KEY_ROTATION_MS;
use crate::time::{Millis, UnixMs};

const MAGIC: [u8; 4] = *b"frtk";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 8;
const KEY_BYTES: usize = 4 + 8 + 32;
const CHECK_BYTES: usize = 16;
const FILE_BYTES_MAX: usize = HEAD_BYTES + 2 * KEY_BYTES + CHECK_BYTES;

/// What a data directory had in the way of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysFound {
    /// A good file.
    Kept,
    /// No file.
    Missing,
    /// A file that does not check, cannot be read, or belongs to another data directory.
    Damaged,
}

/// One of the two.
#[derive(Clone)]
struct TicketKey {
    number: u32,
    made_at: UnixMs,
    random: [u8; 32],
    /// Derived from `random` and the data key: what tickets are sealed with.
    mac_key: [u8; 32],
}

impl Drop for TicketKey {
    fn drop(&mut self) {
        self.random.zeroize();
        self.mac_key.zeroize();
    }
}

/// What is the same for all keys of a data directory.
#[derive(Clone)]
struct Binding {
    data: [u8; 32],
    check: [u8; 32],
}

impl Binding {
    fn new(data_key: &DataKey) -> Binding {
        Binding {
            data: data_key.derive("fluxrelay 2026 resume ticket binding"),
            check: data_key.derive("fluxrelay 2026 ticket key file check"),
        }
    }

    fn key(&self, number: u32, made_at: UnixMs, random: [u8; 32]) -> TicketKey {
        let material = Zeroizing::new([self.data, random].concat());
        let mac_key =
            blake3::derive_key("fluxrelay 2026 resume ticket, audience: plugin connection", &material);
        TicketKey { number, made_at, random, mac_key }
    }
}

/// The keys that are alive.
#[derive(Clone)]
pub struct TicketKeys {
    binding: Binding,
    current: TicketKey,
    previous: Option<TicketKey>,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("current", &self.current.number).finish_non_exhaustive()
    }
}

impl TicketKeys {
    /// The keys in the file, or new ones, which are not in a file yet, and how it was. Never fails: what is lost with a
    /// lost file is that plugins log in with their tokens once.
    pub fn open(path: &Path, data_key: &DataKey, now: UnixMs) -> (TicketKeys, KeysFound) {
        let binding = Binding::new(data_key);
        let found = match read_private(path, FILE_BYTES_MAX) {
            Ok(None) => KeysFound::Missing,
            Err(_) => KeysFound::Damaged,
            Ok(Some(bytes)) => match TicketKeys::decode(&binding, &bytes) {
                Some(keys) => return (keys, KeysFound::Kept),
                None => KeysFound::Damaged,
            },
        };
        // The first number is random, so that a ticket of keys that were lost hardly ever names a key.
        let number = u32::from_le_bytes(random_bytes());
        let current = binding.key(number, now, random_bytes());
        (TicketKeys { binding, current, previous: None }, found)
    }

    /// Writes them to the file; they are durable when this returns.
    ///
    /// # Errors
    /// The file or its directory cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, &self.encode())
    }

    /// Whether the current key has been in use for its time. One that comes from far ahead, because the clock was wrong
    /// when it was made, is due too.
    pub fn is_due(&self, now: UnixMs) -> bool {
        let rotation = Millis(TICKET_KEY_ROTATION_MS);
        now - self.current.made_at >= rotation || self.current.made_at - now > rotation
    }

    /// The keys after a rotation: a new current one, and the one that was current.
    pub fn rotated(&self, now: UnixMs) -> TicketKeys {
        let number = self.current.number.wrapping_add(1);
        let current = self.binding.key(number, now, random_bytes());
        TicketKeys { binding: self.binding.clone(), current, previous: Some(self.current.clone()) }
    }

    /// The ticket for a claim, sealed with the current key.
    pub fn seal(&self, claim: TicketClaim) -> Ticket {
        ticket::seal(claim, self.current.low_number(), &self.current.mac_key)
    }

    /// What a presented ticket says, if it was sealed with a key that is alive and has not expired. About a microsecond,
    /// whatever is presented.
    pub fn open_ticket(&self, presented: &[u8], now: UnixMs) -> Option<TicketClaim> {
        let number = ticket::key_number(presented)?;
        let mut alive = std::iter::once(&self.current).chain(&self.previous);
        let key = alive.find(|key| key.low_number() == number)?;
        ticket::open(presented, &key.mac_key).filter(|claim| now < claim.expires_at)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let keys = std::iter::once(&self.current).chain(&self.previous);
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, 1 + u8::from(self.previous.is_some()), 0, 0]);
        for key in keys {
            bytes.extend_from_slice(&key.number.to_le_bytes());
            bytes.extend_from_slice(&key.made_at.0.to_le_bytes());
            bytes.extend_from_slice(&key.random);
        }
        let check = blake3::keyed_hash(&self.binding.check, &bytes);
        bytes.extend_from_slice(&check.as_bytes()[..CHECK_BYTES]);
        bytes
    }

    fn decode(binding: &Binding, bytes: &[u8]) -> Option<TicketKeys> {
        let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
        if blake3::keyed_hash(&binding.check, body).as_bytes()[..CHECK_BYTES] != *check {
            return None;
        }
        let (head, keys) = body.split_at_checked(HEAD_BYTES)?;
        let count = usize::from(head[5]);
        let good = head[..4] == MAGIC && head[4] == VERSION && (1..=2).contains(&count);
        if !good || keys.len() != count * KEY_BYTES {
            return None;
        }
        let mut keys = keys.chunks_exact(KEY_BYTES).map(|key| {
            let number = u32::from_le_bytes(key[..4].try_into().expect("four bytes"));
            let made_at = u64::from_le_bytes(key[4..12].try_into().expect("eight bytes"));
            binding.key(number, UnixMs(made_at), key[12..].try_into().expect("32 bytes"))
        });
        Some(TicketKeys { binding: binding.clone(), current: keys.next()?, previous: keys.next() })
    }
}

impl TicketKey {
    /// As much of the number as a ticket carries. The two that are alive differ in it, as they follow one another.
    fn low_number(&self) -> u8 {
        self.number.to_le_bytes()[0]
    }
}

#[cfg(test)]
#[path = "ticket_keys_tests.rs"]
mod tests;
