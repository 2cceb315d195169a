//! What lies on disk: one file per stored record, each with both conversions; nothing here opens a file.
//!
//! Every row is *sealed*: a header of our own (checksum seeded with the row's key, magic, kind, version,
//! length) and then what makes up most of a store packed (`pack.rs`), the rest as rkyv's archive, which is only ever read
//! through bytecheck. `docs/storage.md` gives the bytes. **Ordinals and the order of fields never change**; a new layout is a new version beside the old one.

use std::fmt;

use rkyv::Portable;
use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use twox_hash::XxHash3_64;

mod accepted;
pub(crate) mod audit;
mod block;
mod change;
mod changes;
mod command;
mod index;
mod keys;
mod meta;
mod old_command;
mod old_keys;
mod old_order;
mod order;
mod pack;
pub(crate) mod registry;
mod server;
mod vocabulary;

#[cfg(any(test, fuzzing))]
#[path = "../../../fuzz/check_record.rs"]
pub(crate) mod check_record;

#[cfg(test)]
#[path = "samples_tests.rs"]
pub(crate) mod samples;
#[cfg(test)]
pub(crate) use samples::assert_golden;

pub(crate) use block::{BLOCK_BYTES, Entry, Filling, decode_block, encode_block};
pub(crate) use changes::{changes_bytes, decode_changes, encode_changes};
pub(crate) use command::{decode_command, decode_text, encode_command};
pub(crate) use index::{EndedIndex, OrderIndex};
pub(crate) use keys::{KEYS_PER_ROW, decode_keys, encode_keys};
pub(crate) use meta::{ChainBase, JournalMeta, StoreMeta};
pub(crate) use old_command::decode_old_command;
#[cfg(any(test, fuzzing))]
pub(crate) use old_command::encode_old_command;
pub(crate) use old_keys::decode_old_keys;
#[cfg(any(test, fuzzing))]
pub(crate) use old_keys::encode_old_keys;
pub(crate) use old_order::decode_old_order;
#[cfg(any(test, fuzzing))]
pub(crate) use old_order::encode_old_order;
pub(crate) use order::{decode_order, encode_order};
pub(crate) use server::ServerEntry;

/// Bytes of the header of a sealed row.
pub(crate) const SEAL_BYTES: usize = 16;
/// Room made for a row, so that it seldom grows while it is written.
const ROW_BYTES_USUAL: usize = 512;
const MAGIC: [u8; 2] = *b"fr";

/// What a sealed row holds. Stored: never change a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A group commit of the journal: frames, not an archive.
    Commit = 1,
    /// A command with its history, of formats 1 and 2.
    OldCommand = 2,
    /// An order, of formats 1 and 2.
    OldOrder = 3,
    /// A server's totals.
    Server = 4,
    /// Remembered idempotency keys, of formats 1 and 2.
    OldKeys = 5,
    /// Which commands of a server a checkpoint ended.
    EndedIndex = 6,
    /// Which orders a checkpoint brought.
    OrderIndex = 7,
    /// Where the journal stands.
    JournalMeta = 8,
    /// Where the store at rest stands.
    StoreMeta = 9,
    /// A tenant.
    RegisteredStore = 10,
    /// A registered game server with the hash of its token.
    RegisteredServer = 11,
    /// An API key with its hash.
    ApiKey = 12,
    /// The numbers that the registry gives out next.
    RegistryMeta = 13,
    /// A record of the audit trail.
    Audit = 14,
    /// A block of commands with their histories.
    Commands = 15,
    /// A block of orders.
    Orders = 16,
    /// Remembered idempotency keys.
    Keys = 17,
}

impl Kind {
    /// The version that this program writes, and the only one so far that it reads.
    const fn version(self) -> u8 {
        1
    }
}

/// What does not hold about some stored bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw(pub(crate) String);

impl Flaw {
    /// A flaw in words.
    pub(crate) fn new(words: impl Into<String>) -> Flaw {
        Flaw(words.into())
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What rkyv needs to write a value to the end of a `Vec`.
pub(crate) trait Archivable:
    for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Error>>
{
}
impl<T> Archivable for T where T: for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Error>> {}

/// Appends the archive of `value` to `bytes`.
pub(crate) fn archive(value: &impl Archivable, bytes: Vec<u8>) -> Vec<u8> {
    rkyv::api::high::to_bytes_in::<_, Error>(value, bytes)
        .expect("rkyv fails only past 2 GiB, far above what the limits admit")
}

/// Reads an archive in place, checked.
pub(crate) fn access<T>(bytes: &[u8]) -> Result<&T, Flaw>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, Error>>,
{
    rkyv::access::<T, Error>(bytes).map_err(|error| Flaw::new(format!("the archive does not check: {error}")))
}

/// Seals an archive of `value` under `key`.
pub(crate) fn seal(kind: Kind, key: u64, value: &impl Archivable) -> Vec<u8> {
    let mut row = Vec::with_capacity(ROW_BYTES_USUAL);
    row.resize(SEAL_BYTES, 0);
    let mut row = archive(value, row);
    finish_seal(kind, key, &mut row);
    row
}

/// Fills in the header at the start of `row`, whose body is complete.
pub(crate) fn finish_seal(kind: Kind, key: u64, row: &mut [u8]) {
    let length = u32::try_from(row.len() - SEAL_BYTES).expect("a row is far below 4 GiB");
    row[8..10].copy_from_slice(&MAGIC);
    row[10] = kind as u8;
    row[11] = kind.version();
    row[12..16].copy_from_slice(&length.to_le_bytes());
    let checksum = XxHash3_64::oneshot_with_seed(key, &row[8..]);
    row[..8].copy_from_slice(&checksum.to_le_bytes());
}

/// The body of a sealed row, after every check that its header allows.
pub(crate) fn unseal(kind: Kind, key: u64, row: &[u8]) -> Result<&[u8], Flaw> {
    let Some((header, body)) = row.split_first_chunk::<SEAL_BYTES>() else {
        return Err(Flaw::new(format!("{} bytes are shorter than a header", row.len())));
    };
    if header[8..10] != MAGIC {
        return Err(Flaw::new("it does not start as a record"));
    }
    let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    if u64::from(length) != body.len() as u64 {
        return Err(Flaw::new(format!("{} bytes where {length} were written", body.len())));
    }
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&header[..8]);
    if XxHash3_64::oneshot_with_seed(key, &row[8..]) != u64::from_le_bytes(checksum) {
        return Err(Flaw::new("the checksum does not match"));
    }
    if header[10] != kind as u8 {
        return Err(Flaw::new(format!("a record of kind {} where {} belongs", header[10], kind as u8)));
    }
    if header[11] != kind.version() {
        return Err(Flaw::new(format!("version {} where {} is known", header[11], kind.version())));
    }
    Ok(body)
}

/// The seed for a row with a two-part key.
pub(crate) fn pair_key(major: u64, minor: u32) -> u64 {
    major.rotate_left(32) ^ u64::from(minor)
}

#[cfg(test)]
mod seal_tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        let row = seal(Kind::Keys, 7, &vec![1u64, 2, 3]);
        assert!(unseal(Kind::Keys, 7, &row).is_ok());
        assert!(unseal(Kind::Keys, 8, &row).is_err(), "another key");
        assert!(unseal(Kind::Orders, 7, &row).is_err(), "another kind");
        for at in 0..row.len() {
            let mut damaged = row.clone();
            damaged[at] ^= 0x10;
            assert!(unseal(Kind::Keys, 7, &damaged).is_err(), "byte {at}");
        }
        for length in 0..row.len() {
            assert!(unseal(Kind::Keys, 7, &row[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut row = seal(Kind::Keys, 7, &vec![1u64]);
        row[11] = 2;
        let checksum = XxHash3_64::oneshot_with_seed(7, &row[8..]);
        row[..8].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(unseal(Kind::Keys, 7, &row), Err(Flaw::new("version 2 where 1 is known")));
    }
}
