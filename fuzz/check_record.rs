//! Any bytes as a stored record, with a checksum that matches, so that the checks behind it are reached: refused in words,
//! or read into something that is written and read again as the same.
//!
//! Compiled into the library, in its tests and under `cfg(fuzzing)` alone: nobody else has a way to records that were not
//! written by this program, and none should.

use super::audit::{decode_audit, encode_audit};
use super::registry::{
    decode_key, decode_meta, decode_server, decode_store, encode_key, encode_meta, encode_server,
    encode_store,
};
use super::*;
use crate::ids::{AuditId, CommandId, Seq, ServerId};
use crate::storage::CommitNo;
use crate::storage::frame::FrameView;
use crate::storage::journal::for_each_frame;

/// Where every record stands.
const KEY: u64 = 1;
/// The second part of a key, where there is one.
const MINOR: u32 = 1;
/// Chooses frames, whatever kinds there will be.
const FRAMES: u8 = 0xff;
/// Bytes of a frame's header, where its length stands in it, and bytes of its hash: docs/storage.md.
const FRAME_HEADER_BYTES: usize = 52;
const FRAME_LENGTH_AT: usize = 32;
const FRAME_HASH_BYTES: usize = 16;

/// All kinds of sealed rows but the journal's.
const KINDS: [(Kind, u64); 16] = [
    (Kind::OldCommand, KEY),
    (Kind::OldOrder, KEY),
    (Kind::Server, KEY),
    (Kind::OldKeys, KEY << 32 ^ MINOR as u64),
    (Kind::EndedIndex, KEY << 32 ^ MINOR as u64),
    (Kind::OrderIndex, KEY << 32 ^ MINOR as u64),
    (Kind::JournalMeta, 0),
    (Kind::StoreMeta, 0),
    (Kind::RegisteredStore, KEY),
    (Kind::RegisteredServer, KEY),
    (Kind::ApiKey, KEY),
    (Kind::RegistryMeta, 0),
    (Kind::Audit, KEY),
    (Kind::Commands, KEY),
    (Kind::Orders, KEY),
    (Kind::Keys, KEY << 32 ^ MINOR as u64),
];

/// Reads a row, and writes what was read.
fn again(kind: Kind, row: &[u8]) -> Result<Vec<u8>, Flaw> {
    let id = KEY as u32;
    Ok(match kind {
        Kind::Commit => return Err(Flaw::new("frames are checked apart")),
        Kind::OldCommand => encode_old_command(&decode_old_command(Seq(KEY), row)?),
        Kind::OldOrder => encode_old_order(&decode_old_order(Seq(KEY), row)?),
        Kind::Commands => block_again(kind, row, |seq, row| {
            let id = CommandId { server: ServerId(id), seq };
            Ok(encode_command(&decode_command(id, row)?))
        })?,
        Kind::Orders => block_again(kind, row, |seq, row| Ok(encode_order(&decode_order(seq, row)?)))?,
        Kind::Server => ServerEntry::decode(ServerId(id), row)?.encode(ServerId(id)),
        Kind::OldKeys => {
            encode_old_keys(KEY, MINOR, &decode_old_keys(KEY, MINOR, row)?.1.collect::<Vec<_>>())
        }
        Kind::Keys => {
            let keys = decode_keys(KEY, MINOR, row)?.1.collect::<Result<Vec<_>, Flaw>>()?;
            encode_keys(KEY, MINOR, &keys)
        }
        Kind::EndedIndex => EndedIndex::decode(KEY, ServerId(MINOR), row)?.encode(KEY, ServerId(MINOR)),
        Kind::OrderIndex => OrderIndex::decode(KEY, MINOR, row)?.encode(KEY, MINOR),
        Kind::JournalMeta => JournalMeta::decode(row)?.encode(),
        Kind::StoreMeta => StoreMeta::decode(row)?.encode(),
        Kind::RegisteredStore => encode_store(&decode_store(id, row)?),
        Kind::RegisteredServer => encode_server(&decode_server(id, row)?),
        Kind::ApiKey => encode_key(&decode_key(id, row)?),
        Kind::RegistryMeta => encode_meta(&decode_meta(row)?),
        Kind::Audit => encode_audit(&decode_audit(AuditId(KEY), row)?),
    })
}

/// Reads the rows of a block, and writes what was read.
fn block_again(
    kind: Kind,
    block: &[u8],
    again: impl Fn(Seq, &[u8]) -> Result<Vec<u8>, Flaw>,
) -> Result<Vec<u8>, Flaw> {
    let rows = decode_block(kind, KEY, block)?.into_iter();
    let rows = rows.map(|(seq, row)| Ok((seq, again(seq, row)?))).collect::<Result<Vec<_>, Flaw>>()?;
    Ok(encode_block(kind, KEY, rows.iter().map(|(seq, row)| (*seq, &row[..]))))
}

fn sealed(kind: Kind, key: u64, body: &[u8]) -> Vec<u8> {
    let mut row = [&[0; SEAL_BYTES], body].concat();
    finish_seal(kind, key, &mut row);
    row
}

/// Panics if some record reads `data` as what it does not say.
pub fn check_record(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    if choice == FRAMES {
        return frames(body);
    }
    let (kind, key) = &KINDS[usize::from(choice) % KINDS.len()];
    assert!(again(*kind, body).is_err(), "no checksum is right by chance");
    match again(*kind, &sealed(*kind, *key, body)) {
        Err(flaw) => assert!(!flaw.0.is_empty()),
        Ok(written) => assert_eq!(again(*kind, &written), Ok(written), "{kind:?}"),
    }
}

/// Frames one after the other, the first with a hash that matches.
fn frames(body: &[u8]) {
    let mut body = body.to_vec();
    if let Some(length) = body.get(FRAME_LENGTH_AT..FRAME_LENGTH_AT + 4) {
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let end = FRAME_HEADER_BYTES.saturating_add(length);
        if body.len() >= end.saturating_add(FRAME_HASH_BYTES) {
            let hash = blake3::hash(&body[..end]);
            body[end..end + FRAME_HASH_BYTES].copy_from_slice(&hash.as_bytes()[..FRAME_HASH_BYTES]);
        }
    }
    let row = sealed(Kind::Commit, KEY, &body);
    let read = |frame: FrameView<'_>| {
        let _ = frame.follows(None);
        let _ = frame.follows(Some(&frame.base()));
        let written = encode_changes(&frame.changes()?, Vec::new());
        let again = encode_changes(&decode_changes(&written).expect("it was just written"), Vec::new());
        assert_eq!(again, written);
        Ok(())
    };
    if let Err(flaw) = for_each_frame(CommitNo(KEY), &row, read) {
        assert!(!flaw.0.is_empty());
    }
}

#[test]
fn the_corpus_of_records_holds() {
    crate::corpus::replay("record", check_record);
}
