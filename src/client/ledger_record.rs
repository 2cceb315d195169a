//! One record of the plugin's ledger file: its bytes, and the scan that tells a torn tail from damage.
//!
//! ```text
//! file    = header record*
//! header  = "FLUXLEDG" version:u32 server:u32 check:u64                        24 bytes
//! record  = length:u32 check:u64 body                                          length = bytes of body
//! body    = synced:u64 kind:u8 fields
//! kind 1  intents   count:u32 (seq:u64 attempt:u16)*
//! kind 2  outcome   seq:u64 attempt:u16 outcome:u8 error:text output:text      text = u32 (0 = absent, else length + 1) bytes
//! kind 3  forgotten count:u32 seq:u64*
//! ```
//! Integers are little-endian. `check` is XXH3-64 of the body, seeded with the record's offset, so that a record is
//! valid only where it was written. `synced` is the offset up to which the file was known to be durable when
//! the record was written: a bad record below the `synced` of a later good one is damage, not a torn tail.

use twox_hash::XxHash3_64;

use super::report::Report;
use crate::ids::{Seq, ServerId};
use crate::protocol::Outcome;

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 24;
/// Bytes before a record's body.
const PREFIX_BYTES: usize = 12;
/// Bytes of one body; larger groups are split.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Commands in one intents or forgotten record.
pub(super) const GROUP_MAX: usize = 4096;

const MAGIC: &[u8; 8] = b"FLUXLEDG";
const VERSION: u32 = 1;

const _: () = assert!(GROUP_MAX * 10 + 16 < BODY_BYTES_MAX);
const _: () = assert!(crate::limits::ERROR_BYTES_MAX + crate::limits::OUTPUT_BYTES_MAX + 64 < BODY_BYTES_MAX);

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// These are about to run.
    Intents(Vec<(Seq, u16)>),
    /// This is what came of one.
    Outcome(Report),
    /// The broker answers for these now.
    Forgotten(Vec<Seq>),
}

/// Why a header is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Not a ledger, or its first bytes are damaged.
    Foreign,
    /// A later format.
    TooNew(u32),
    /// Another server's.
    OtherServer(ServerId),
}

/// The first bytes of a ledger of this server.
pub(super) fn encode_header(server: ServerId) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&server.0.to_le_bytes());
    let check = XxHash3_64::oneshot(&bytes[..16]);
    bytes[16..].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// Checks the first bytes of a file.
pub(super) fn check_header(bytes: &[u8], server: ServerId) -> Result<(), BadHeader> {
    let mut reader = Reader(bytes);
    let magic = reader.take(8);
    let (version, owner, check) = (reader.u32(), reader.u32(), reader.u64());
    let (Some(magic), Some(version), Some(owner), Some(check)) = (magic, version, owner, check) else {
        return Err(BadHeader::Foreign);
    };
    if magic != MAGIC || XxHash3_64::oneshot(&bytes[..16]) != check {
        return Err(BadHeader::Foreign);
    }
    if version > VERSION {
        return Err(BadHeader::TooNew(version));
    }
    if owner != server.0 { Err(BadHeader::OtherServer(ServerId(owner))) } else { Ok(()) }
}

/// Where a record is going to stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The offset in the file of the first byte of the buffer that is written to.
    pub(super) base: u64,
    /// Up to where the file is known to be durable.
    pub(super) synced: u64,
}

/// Adds "these are about to run" to `out`; at most `GROUP_MAX`.
pub(super) fn put_intents(commands: &[(Seq, u16)], place: Place, out: &mut Vec<u8>) {
    put(1, place, out, |out| {
        out.extend_from_slice(&(commands.len() as u32).to_le_bytes());
        for (seq, attempt) in commands {
            out.extend_from_slice(&seq.0.to_le_bytes());
            out.extend_from_slice(&attempt.to_le_bytes());
        }
    });
}

/// Adds "this is what came of it" to `out`.
pub(super) fn put_outcome(report: &Report, place: Place, out: &mut Vec<u8>) {
    put(2, place, out, |out| {
        out.extend_from_slice(&report.seq.0.to_le_bytes());
        out.extend_from_slice(&report.attempt.to_le_bytes());
        out.push(report.outcome as u8);
        put_text(report.error.as_deref(), out);
        put_text(report.output.as_deref(), out);
    });
}

/// Adds "the broker answers for these" to `out`; at most `GROUP_MAX`.
pub(super) fn put_forgotten(seqs: &[Seq], place: Place, out: &mut Vec<u8>) {
    put(3, place, out, |out| {
        out.extend_from_slice(&(seqs.len() as u32).to_le_bytes());
        for seq in seqs {
            out.extend_from_slice(&seq.0.to_le_bytes());
        }
    });
}

fn put(kind: u8, place: Place, out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    out.extend_from_slice(&place.synced.to_le_bytes());
    out.push(kind);
    fields(out);
    let body = start + PREFIX_BYTES;
    let length = out.len() - body;
    assert!(length <= BODY_BYTES_MAX, "callers split groups and cut texts");
    let check = XxHash3_64::oneshot_with_seed(place.base + start as u64, &out[body..]);
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    out[start + 4..body].copy_from_slice(&check.to_le_bytes());
}

/// What a scan found.
#[derive(Debug, PartialEq)]
pub(super) enum Scanned {
    /// All records are whole.
    Whole,
    /// The file ends, from this offset on, in a write that was never made durable.
    Torn(u64),
    /// The record at this offset was durable once and cannot be read any more.
    Damaged(u64),
}

/// Reads all records of a file (its header included in `bytes`), in order.
pub(super) fn scan(bytes: &[u8], mut each: impl FnMut(Record)) -> Scanned {
    let mut offset = HEADER_BYTES;
    while offset < bytes.len() {
        let Some((record, _, length)) = decode_at(bytes, offset) else {
            return if synced_after(bytes, offset) > offset as u64 {
                Scanned::Damaged(offset as u64)
            } else {
                Scanned::Torn(offset as u64)
            };
        };
        each(record);
        offset += length;
    }
    Scanned::Whole
}

/// The furthest `synced` of any good record behind `offset`, wherever it starts.
fn synced_after(bytes: &[u8], offset: usize) -> u64 {
    let mut synced = 0;
    let mut at = offset + 1;
    while at < bytes.len() {
        match decode_at(bytes, at) {
            Some((_, upto, length)) => {
                synced = synced.max(upto);
                at += length;
            }
            None => at += 1,
        }
    }
    synced
}

/// The record at an offset, its `synced` and its whole length.
fn decode_at(bytes: &[u8], offset: usize) -> Option<(Record, u64, usize)> {
    let mut prefix = Reader(bytes.get(offset..)?);
    let length = prefix.u32()? as usize;
    let check = prefix.u64()?;
    if length > BODY_BYTES_MAX {
        return None;
    }
    let body = prefix.take(length)?;
    if XxHash3_64::oneshot_with_seed(offset as u64, body) != check {
        return None;
    }
    let mut reader = Reader(body);
    let synced = reader.u64()?;
    let record = match reader.u8()? {
        1 => {
            let count = reader.u32()?;
            Record::Intents(
                (0..count).map(|_| Some((Seq(reader.u64()?), reader.u16()?))).collect::<Option<_>>()?,
            )
        }
        2 => Record::Outcome(Report {
            seq: Seq(reader.u64()?),
            attempt: reader.u16()?,
            outcome: Outcome::from_number(reader.u8()?)?,
            error: reader.text()?,
            output: reader.text()?,
        }),
        3 => {
            let count = reader.u32()?;
            Record::Forgotten((0..count).map(|_| reader.u64().map(Seq)).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    reader.0.is_empty().then_some((record, synced, PREFIX_BYTES + length))
}

fn put_text(text: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(&text.map_or(0, |text| text.len() as u32 + 1).to_le_bytes());
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

/// Reads front to back; `None` = too short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `None` = too short or not UTF-8, `Some(None)` = absent.
    fn text(&mut self) -> Option<Option<String>> {
        match self.u32()? {
            0 => Some(None),
            length => {
                let bytes = self.take(length as usize - 1)?;
                std::str::from_utf8(bytes).ok().map(|text| Some(text.to_owned()))
            }
        }
    }
}
