//! The text form of a credential and its tag.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;

use super::data_key::DataKey;
use super::random::{ALPHABET, RANDOM_CHARS, RandomPart};
use super::secret::Secret;
use crate::ids::{KeyId, ServerId};

/// Characters of the keyed tag: a guess passes with 2^-47.
pub(super) const TAG_CHARS: usize = 8;

/// Whose credential it is: the part before the dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A server's token.
    Server(ServerId),
    /// An API key.
    Key(KeyId),
    /// The admin key.
    Admin,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Server(id) => id.fmt(f),
            Subject::Key(id) => id.fmt(f),
            Subject::Admin => f.write_str("admin"),
        }
    }
}

impl Subject {
    fn parse(text: &str) -> Option<Subject> {
        if text == "admin" {
            return Some(Subject::Admin);
        }
        let server = ServerId::from_str(text).map(Subject::Server);
        server.or_else(|_| KeyId::from_str(text).map(Subject::Key)).ok()
    }
}

/// A keyed digest of a whole credential, under which a check of it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest(pub(super) [u8; 16]);

impl TokenDigest {
    /// Some bits of it, evenly spread.
    pub fn bits(&self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("16 bytes have 8"))
    }
}

/// A credential with the right tag: its secret may still be wrong or old.
#[derive(Debug, Clone)]
pub struct Presented {
    /// Whose it claims to be.
    pub subject: Subject,
    /// What its hash is made from.
    pub random: RandomPart,
    /// Under which the result of a check is remembered.
    pub digest: TokenDigest,
}

/// Makes credentials and opens presented ones, with a data directory's secret.
pub struct Sealer {
    tag_key: [u8; 32],
    digest_key: [u8; 32],
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(...)")
    }
}

impl Sealer {
    /// The sealer of a data directory.
    pub fn new(key: &DataKey) -> Sealer {
        Sealer {
            tag_key: key.derive("fluxrelay 2026 credential tag"),
            digest_key: key.derive("fluxrelay 2026 verified credential"),
        }
    }

    /// The credential of a subject, to be shown once.
    pub fn seal(&self, subject: Subject, random: &RandomPart) -> Secret {
        let mut text = format!("{subject}.");
        text.extend(random.0.iter().chain(&self.tag(subject, &random.0)).map(|byte| char::from(*byte)));
        Secret::new(text)
    }

    /// Reads a presented credential and checks its tag; about a microsecond, whatever is presented.
    pub fn open(&self, text: &str) -> Option<Presented> {
        let (subject, secret) = text.split_once('.')?;
        let subject = Subject::parse(subject)?;
        if secret.len() != RANDOM_CHARS + TAG_CHARS {
            return None;
        }
        let (random, tag) = secret.as_bytes().split_at(RANDOM_CHARS);
        let random = RandomPart(random.try_into().expect("split there"));
        let right: bool = self.tag(subject, &random.0).ct_eq(tag).into();
        right.then(|| Presented { subject, digest: self.digest(text), random })
    }

    fn tag(&self, subject: Subject, random: &[u8; RANDOM_CHARS]) -> [u8; TAG_CHARS] {
        let mut hasher = blake3::Hasher::new_keyed(&self.tag_key);
        hasher.update(subject.to_string().as_bytes());
        hasher.update(b".");
        hasher.update(random);
        let bytes = hasher.finalize();
        let bytes = bytes.as_bytes()[..16].try_into().expect("32 bytes have 16");
        let mut number = u128::from_le_bytes(bytes);
        // 128 bits over 62^8 (48 bits): the bias is below 2^-80.
        std::array::from_fn(|_| {
            let character = ALPHABET[(number % ALPHABET.len() as u128) as usize];
            number /= ALPHABET.len() as u128;
            character
        })
    }

    fn digest(&self, text: &str) -> TokenDigest {
        let bytes = blake3::keyed_hash(&self.digest_key, text.as_bytes());
        TokenDigest(bytes.as_bytes()[..16].try_into().expect("32 bytes have 16"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&DataKey::generate())
    }

    #[test]
    fn has_the_form_of_the_contract_and_opens() {
        let sealer = sealer();
        for (subject, prefix) in [
            (Subject::Server(ServerId(12)), "srv_12."),
            (Subject::Key(KeyId(3)), "key_3."),
            (Subject::Admin, "admin."),
        ] {
            let random = RandomPart::generate();
            let token = sealer.seal(subject, &random);
            let secret = token.reveal().strip_prefix(prefix).unwrap();
            assert_eq!(secret.len(), 32);
            assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let presented = sealer.open(token.reveal()).unwrap();
            assert_eq!((presented.subject, presented.random), (subject, random));
        }
    }

    #[test]
    fn any_changed_character_is_refused() {
        let sealer = sealer();
        let token = sealer.seal(Subject::Server(ServerId(12)), &RandomPart::generate());
        let text = token.reveal();
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'1' { b'3' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(sealer.open(&changed).is_none(), "byte {at}");
        }
    }

    #[test]
    fn malformed_and_foreign_ones_are_refused() {
        let sealer = sealer();
        let token = sealer.seal(Subject::Server(ServerId(12)), &RandomPart::generate());
        let text = token.reveal();
        assert!(Sealer::new(&DataKey::generate()).open(text).is_none(), "another directory's");
        let (_, secret) = text.split_once('.').unwrap();
        for bad in [
            String::new(),
            ".".into(),
            secret.into(),
            format!("srv_012.{secret}"),
            format!("srv_13.{secret}"),
            format!("key_12.{secret}"),
            format!("admin.{secret}"),
            format!("{text} "),
            text[..text.len() - 1].into(),
            format!("srv_12.{}", "é".repeat(16)),
        ] {
            assert!(sealer.open(&bad).is_none(), "{bad:?}");
        }
    }
}
