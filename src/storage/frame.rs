//! A journal frame: the changes of one shard between two seals, chained to the frame before it.
//!
//! A shard's thread encodes; the journal stores the bytes as they are; recovery checks every frame and its place
//! in the chain. Nothing here opens a file. `docs/storage.md` gives the bytes.

use super::contract::EncodedFrame;
use super::record::{ChainBase, Flaw, changes_bytes, decode_changes, encode_changes};
use crate::engine::Change;
use crate::ids::{FrameNo, ShardNo};

/// The hash of a frame: BLAKE3 over everything before it, cut to 16 bytes. Zeros = no frame before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameHash(pub [u8; 16]);

const HASH_BYTES: usize = 16;
const HEADER_BYTES: usize = 52;
const MAGIC: [u8; 2] = *b"ff";
const VERSION: u8 = 1;

/// Turns the changes of one shard into frames, each with the hash of the one before.
#[derive(Debug)]
pub struct FrameEncoder {
    shard: ShardNo,
    epoch: u32,
    last_no: FrameNo,
    last_hash: FrameHash,
}

impl FrameEncoder {
    /// Goes on after the shard's last frame, as recovery reports it (`FrameNo(0)` and zeros = none).
    pub fn new(shard: ShardNo, boot_epoch: u32, last_no: FrameNo, last_hash: FrameHash) -> FrameEncoder {
        FrameEncoder { shard, epoch: boot_epoch, last_no, last_hash }
    }

    /// Seals `changes` as frame `no`.
    ///
    /// # Panics
    /// If `no` does not follow the frame before it.
    pub fn encode(&mut self, no: FrameNo, changes: &[Change]) -> EncodedFrame {
        assert_eq!(no.0, self.last_no.0 + 1, "frames of a shard have no gap");
        let count = u32::try_from(changes.len()).expect("a frame has far fewer than 2^32 changes");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + changes_bytes(changes) + HASH_BYTES);
        bytes.resize(HEADER_BYTES, 0);
        let mut bytes = encode_changes(changes, bytes);
        let length = u32::try_from(bytes.len() - HEADER_BYTES).expect("a frame is far below 4 GiB");
        bytes[0..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        bytes[4..6].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[12..16].copy_from_slice(&count.to_le_bytes());
        bytes[16..24].copy_from_slice(&no.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&top_seq(changes).to_le_bytes());
        bytes[32..36].copy_from_slice(&length.to_le_bytes());
        bytes[36..52].copy_from_slice(&self.last_hash.0);
        let hash = hash(&bytes);
        bytes.extend_from_slice(&hash.0);
        self.last_no = no;
        self.last_hash = hash;
        EncodedFrame { shard: self.shard, no, bytes }
    }
}

/// The highest seq that these changes give out; 0 = none.
fn top_seq(changes: &[Change]) -> u64 {
    let top = |change: &Change| match change {
        Change::Order(order) => order.commands.iter().map(|command| command.id.seq.0).max(),
        _ => None,
    };
    changes.iter().filter_map(top).max().unwrap_or(0)
}

fn hash(bytes: &[u8]) -> FrameHash {
    let mut cut = [0; HASH_BYTES];
    cut.copy_from_slice(&blake3::hash(bytes).as_bytes()[..HASH_BYTES]);
    FrameHash(cut)
}

/// A frame as it lies on disk, its header read, its hash not yet checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameView<'a> {
    pub(super) shard: ShardNo,
    pub(super) no: FrameNo,
    pub(super) epoch: u32,
    pub(super) top_seq: u64,
    pub(super) hash: FrameHash,
    count: u32,
    before: FrameHash,
    hashed: &'a [u8],
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

impl<'a> FrameView<'a> {
    /// The frame at the start of `bytes`, and what follows it.
    pub(super) fn split(bytes: &'a [u8]) -> Result<(FrameView<'a>, &'a [u8]), Flaw> {
        if bytes.len() < HEADER_BYTES {
            return Err(Flaw::new(format!("{} bytes are shorter than a frame's header", bytes.len())));
        }
        if bytes[0..2] != MAGIC {
            return Err(Flaw::new("it does not start as a frame"));
        }
        if bytes[2] != VERSION {
            return Err(Flaw::new(format!("frame version {} where {VERSION} is known", bytes[2])));
        }
        let length = u32::from_le_bytes(array(bytes, 32)) as usize;
        let end = HEADER_BYTES.saturating_add(length);
        let after = end.saturating_add(HASH_BYTES);
        if bytes.len() < after {
            return Err(Flaw::new(format!("{} bytes where a frame of {after} belongs", bytes.len())));
        }
        let view = FrameView {
            shard: ShardNo(u16::from_le_bytes(array(bytes, 4))),
            epoch: u32::from_le_bytes(array(bytes, 8)),
            count: u32::from_le_bytes(array(bytes, 12)),
            no: FrameNo(u64::from_le_bytes(array(bytes, 16))),
            top_seq: u64::from_le_bytes(array(bytes, 24)),
            before: FrameHash(array(bytes, 36)),
            hashed: &bytes[..end],
            hash: FrameHash(array(bytes, end)),
        };
        Ok((view, &bytes[after..]))
    }

    /// Its changes, once everything about the frame itself has been checked.
    pub(super) fn changes(&self) -> Result<Vec<Change>, Flaw> {
        if hash(self.hashed) != self.hash {
            return Err(Flaw::new("the frame's hash does not match"));
        }
        let changes = decode_changes(&self.hashed[HEADER_BYTES..])?;
        if changes.len() as u64 != u64::from(self.count) {
            return Err(Flaw::new(format!("{} changes where {} were sealed", changes.len(), self.count)));
        }
        Ok(changes)
    }

    /// What is kept of the frame when it is forgotten.
    pub(super) fn base(&self) -> ChainBase {
        ChainBase {
            shard: self.shard,
            no: self.no,
            hash: self.hash.0,
            epoch: self.epoch,
            top_seq: self.top_seq,
        }
    }

    /// Checks that this frame may stand right after `last` (`None` = nothing is known of its shard).
    ///
    /// A frame that names no predecessor starts the chain anew: the first one ever, or the first one after the
    /// journal was moved away; then its number lies above all that the store at rest contains.
    pub(super) fn follows(&self, last: Option<&ChainBase>) -> Result<(), Flaw> {
        let (no, hash, epoch) = last.map_or((0, [0; 16], 0), |last| (last.no.0, last.hash, last.epoch));
        if self.epoch < epoch {
            let older = format!("written by run {} after one of run {epoch}", self.epoch);
            return Err(Flaw::new(older));
        }
        if Some(self.no.0) == no.checked_add(1) && self.before.0 == hash {
            return Ok(());
        }
        if self.before == FrameHash::default() && self.no.0 > no && (last.is_none() || self.epoch > epoch) {
            return Ok(());
        }
        Err(Flaw::new(format!("frame {} of shard {} does not follow frame {no}", self.no.0, self.shard.0)))
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
