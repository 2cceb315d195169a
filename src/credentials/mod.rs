//! Tokens and keys: making, hashing, checking; a secret is never printed.
//!
//! A credential is `<subject>.<secret>`. The secret has 32 characters: 24 random ones and 8 that are a keyed tag
//! over the subject and the 24, so that a forged one is refused without a password hash. Only an argon2id hash of
//! the 24 is stored. A resume ticket stands in for a server's token for a while and needs no hash. Nothing here keeps
//! state; who may do what is the registry's business.

mod data_key;
mod files;
mod fingerprints;
mod hash;
mod key_ring;
mod misplaced;
mod private_file;
mod random;
mod secret;
mod ticket;
mod ticket_keys;
mod token;

pub use data_key::{DataKey, DataKeyFile};
pub use files::{ADMIN_FILE, SECRET_FILE, SESSION_KEYS_FILE, TICKET_KEYS_FILE, TLS_CERT_FILE, TLS_KEY_FILE};
pub use fingerprints::Fingerprints;
pub use hash::{HashCost, Hasher, SecretHash};
pub use key_ring::KeysFound;
pub(crate) use key_ring::{KeyRing, RingKey, RingOwner};
pub use misplaced::{IN_URL, credential_parameter, redacted};
pub use random::RandomPart;
pub use secret::Secret;
pub use ticket::{TICKET_BYTES, Ticket, TicketClaim};
pub use ticket_keys::TicketKeys;
pub use token::{Presented, Sealer, Subject, TokenDigest};

/// What an API key may do. Ordinals are stored: never change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scope {
    /// Everything, in every store.
    Admin = 1,
    /// Publish, operate and read in one store.
    Publish = 2,
    /// Read in one store.
    Read = 3,
}

impl Scope {
    /// The name in REST and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Admin => "admin",
            Scope::Publish => "publish",
            Scope::Read => "read",
        }
    }

    /// The scope with this ordinal.
    pub fn from_ordinal(ordinal: u8) -> Option<Scope> {
        [Scope::Admin, Scope::Publish, Scope::Read].into_iter().find(|scope| *scope as u8 == ordinal)
    }
}
