//! The keys behind resume tickets: two at most, the current and the one before it. Reads no clock.
//!
//! They are random, made anew every `TICKET_KEY_ROTATION_MS`, and lie in a file of their own outside the database
//! (`frtk`, see `key_ring`), whose check is keyed by the data key. A ticket is sealed with a key that is derived from one of
//! them **and** from the data key, for one audience, so it is worth nothing at another data directory, or for anything but
//! a plugin's connection.

use std::fmt;
use std::io;
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use super::data_key::DataKey;
use super::key_ring::{KeyRing, KeysFound, RingKey, RingOwner};
use super::ticket::{self, Ticket, TicketClaim};
use crate::limits::TICKET_KEY_ROTATION_MS;
use crate::time::{Millis, UnixMs};

const MAGIC: [u8; 4] = *b"frtk";
const ROTATION: Millis = Millis(TICKET_KEY_ROTATION_MS);

/// What tickets are sealed with: derived from a random key and the data key.
#[derive(Clone)]
struct MacKey([u8; 32]);

impl Drop for MacKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What is the same for all keys of a data directory.
fn binding(data_key: &DataKey) -> [u8; 32] {
    data_key.derive("fluxrelay 2026 resume ticket binding")
}

impl MacKey {
    fn new(binding: &[u8; 32], key: &RingKey) -> MacKey {
        let material = Zeroizing::new([*binding, *key.random()].concat());
        MacKey(blake3::derive_key("fluxrelay 2026 resume ticket, audience: plugin connection", &material))
    }
}

/// The keys that are alive.
#[derive(Clone)]
pub struct TicketKeys {
    binding: [u8; 32],
    ring: KeyRing,
    /// Of each key of the ring, in its order.
    mac_keys: Vec<MacKey>,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("current", &self.ring.current().number()).finish_non_exhaustive()
    }
}

impl TicketKeys {
    /// The keys in the file, or new ones, which are not in a file yet, and how it was. Never fails: what is lost with a
    /// lost file is that plugins log in with their tokens once.
    pub fn open(path: &Path, data_key: &DataKey, now: UnixMs) -> (TicketKeys, KeysFound) {
        let check = data_key.derive("fluxrelay 2026 ticket key file check");
        let (ring, found) = KeyRing::open(path, RingOwner { magic: MAGIC, check }, now);
        (TicketKeys::new(binding(data_key), ring), found)
    }

    fn new(binding: [u8; 32], ring: KeyRing) -> TicketKeys {
        let mac_keys = ring.alive().map(|key| MacKey::new(&binding, key)).collect();
        TicketKeys { binding, ring, mac_keys }
    }

    /// Writes them to the file; they are durable when this returns.
    ///
    /// # Errors
    /// The file or its directory cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        self.ring.write(path)
    }

    /// Whether the current key has been in use for its time. One that comes from far ahead, because the clock was wrong
    /// when it was made, is due too.
    pub fn is_due(&self, now: UnixMs) -> bool {
        self.ring.is_due(now, ROTATION)
    }

    /// The keys after a rotation: a new current one, and the one that was current.
    pub fn rotated(&self, now: UnixMs) -> TicketKeys {
        TicketKeys::new(self.binding, self.ring.rotated(now))
    }

    /// The ticket for a claim, sealed with the current key.
    pub fn seal(&self, claim: TicketClaim) -> Ticket {
        ticket::seal(claim, low_number(self.ring.current()), &self.mac_keys[0].0)
    }

    /// What a presented ticket says, if it was sealed with a key that is alive and has not expired. About a microsecond,
    /// whatever is presented.
    pub fn open_ticket(&self, presented: &[u8], now: UnixMs) -> Option<TicketClaim> {
        let number = ticket::key_number(presented)?;
        let mut alive = self.ring.alive().zip(&self.mac_keys);
        let (_, key) = alive.find(|(key, _)| low_number(key) == number)?;
        ticket::open(presented, &key.0).filter(|claim| now < claim.expires_at)
    }
}

/// As much of a key's number as a ticket carries. The two that are alive differ in it, as they follow one another.
fn low_number(key: &RingKey) -> u8 {
    key.number().to_le_bytes()[0]
}

#[cfg(test)]
#[path = "ticket_keys_tests.rs"]
mod tests;
