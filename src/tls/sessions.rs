//! Keys of session tickets that outlive the process, so that clients which come back after a restart resume: they spare
//! themselves and the broker the certificate and its signature. Opens no socket; reads no clock but the one it is given.
//!
//! A ticket holds the whole session, sealed with AES-256-GCM under a key that is derived from a random one and the
//! certificate's fingerprint:
//!
//! ```text
//! at  0           4         16
//!     key number  nonce     the session, encrypted, and 16 bytes of tag
//!     u32         12 bytes  (numbers are little-endian)
//! ```
//! The random keys lie in a file of their own (`frts`, see `credentials::KeyRing`), are made anew every
//! `TLS_SESSION_KEY_ROTATION_MS`, and belong to one certificate: under another all are new, whatever was in the file, so
//! that whoever held the old ones can do nothing with sessions that begin under the new certificate.
//!
//! What must stay true: a ticket is sealed only with a key that is in its file already, if that can be written at all; no
//! ticket is taken after two rotations; and a ticket lets nobody in: who resumes still has to log in.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use parking_lot::Mutex;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::fingerprint::Fingerprint;
use crate::credentials::{KeyRing, KeysFound, RingKey, RingOwner};
use crate::limits::{TLS_SESSION_KEY_ROTATION_MS, TLS_TICKET_BYTES_MAX};
use crate::time::{Millis, UnixMs};

const MAGIC: [u8; 4] = *b"frts";
const NUMBER_BYTES: usize = 4;
const ROTATION: Millis = Millis(TLS_SESSION_KEY_ROTATION_MS);
/// How long after a rotation failed the next is tried.
const ROTATION_PAUSE: Millis = Millis::seconds(60);

/// Says what time it is.
pub type SessionClock = Arc<dyn Fn() -> UnixMs + Send + Sync>;

/// See the module.
pub(super) struct KeptSessions {
    file: PathBuf,
    certificate: Fingerprint,
    clock: SessionClock,
    keys: ArcSwap<Keys>,
    /// No rotation begins before; held while there is one.
    no_rotation_before: Mutex<UnixMs>,
}

/// The keys that are alive, the current one first.
struct Keys {
    ring: KeyRing,
    alive: Vec<SessionKey>,
}

struct SessionKey {
    number: u32,
    made_at: UnixMs,
    aead: RandomizedNonceKey,
}

impl SessionKey {
    fn new(key: &RingKey, certificate: Fingerprint) -> SessionKey {
        let material = Zeroizing::new([*key.random(), *certificate.bytes()].concat());
        let derived = Zeroizing::new(blake3::derive_key("fluxrelay 2026 TLS session ticket", &material));
        let aead = RandomizedNonceKey::new(&AES_256_GCM, &*derived).expect("AES-256 has keys of 32 bytes");
        SessionKey { number: key.number(), made_at: key.made_at(), aead }
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let number = self.number.to_le_bytes();
        let mut sealed = plain.to_vec();
        let nonce = self.aead.seal_in_place_append_tag(Aad::from(number), &mut sealed).ok()?;
        Some([&number[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, nonce: [u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.aead.open_in_place(nonce, Aad::from(self.number.to_le_bytes()), &mut sealed);
        let length = opened.ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

impl Keys {
    fn new(ring: KeyRing, certificate: Fingerprint) -> Keys {
        let alive = ring.alive().map(|key| SessionKey::new(key, certificate)).collect();
        Keys { ring, alive }
    }
}

impl KeptSessions {
    /// Reads the keys of this certificate, or makes new ones.
    pub(super) fn open(file: PathBuf, certificate: Fingerprint, clock: SessionClock) -> KeptSessions {
        let check = blake3::derive_key("fluxrelay 2026 TLS session key file check", certificate.bytes());
        let (ring, found) = KeyRing::open(&file, RingOwner { magic: MAGIC, check }, clock());
        let keys = ArcSwap::from_pointee(Keys::new(ring, certificate));
        let sessions = KeptSessions { file, certificate, clock, keys, no_rotation_before: Mutex::default() };
        match found {
            KeysFound::Kept => sessions.renew_if_due(),
            KeysFound::Missing | KeysFound::Damaged => {
                sessions.write(&sessions.keys.load().ring);
                tracing::info!(
                    file = %sessions.file.display(),
                    "made new keys for TLS sessions: with this certificate each client shakes hands in full once"
                );
            }
        }
        sessions
    }

    /// Makes a new key if the current one has been in use for its time. A new key that cannot be written is not used.
    pub(super) fn renew_if_due(&self) {
        let now = (self.clock)();
        let keys = self.keys.load();
        if !keys.ring.is_due(now, ROTATION) {
            return;
        }
        let mut no_rotation_before = self.no_rotation_before.lock();
        if now < *no_rotation_before {
            return;
        }
        let rotated = keys.ring.rotated(now);
        match self.write(&rotated) {
            true => self.keys.store(Arc::new(Keys::new(rotated, self.certificate))),
            false => *no_rotation_before = now + ROTATION_PAUSE,
        }
    }

    fn write(&self, ring: &KeyRing) -> bool {
        let directory = self.file.parent().map_or(Ok(()), super::make_private_folder);
        let written = directory.and_then(|()| ring.write(&self.file));
        if let Err(error) = &written {
            let file = self.file.display();
            tracing::warn!(%file, %error, "the keys of TLS sessions cannot be written: make room or mend the disk");
        }
        written.is_ok()
    }
}

impl fmt::Debug for KeptSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptSessions").field("file", &self.file).finish_non_exhaustive()
    }
}

impl ProducesTickets for KeptSessions {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        (TLS_SESSION_KEY_ROTATION_MS / 1000) as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.keys.load().alive[0].seal(plain)?;
        (sealed.len() <= TLS_TICKET_BYTES_MAX).then_some(sealed)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let bounded = (ticket.len() <= TLS_TICKET_BYTES_MAX).then_some(ticket)?;
        let (number, rest) = bounded.split_first_chunk::<NUMBER_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (number, now) = (u32::from_le_bytes(*number), (self.clock)());
        let keys = self.keys.load();
        let key = keys.alive.iter().find(|key| key.number == number)?;
        // A broker that was stopped for days has not rotated meanwhile.
        let is_young = now - key.made_at < Millis(2 * ROTATION.0);
        is_young.then(|| key.open(*nonce, sealed))?
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
