//! The bytes of `journal.log`: the head of the file, the durable mark, the head of a segment, the head of a record.
//! `docs/storage.md` gives them; nothing here opens a file.
//!
//! Each is checked by an xxh3-64 whose seed says where it belongs: in this file (the salt), in this slot or at this place
//! of this segment. What an earlier use of a segment left, or what a text imitates, therefore does not check.

use twox_hash::XxHash3_64;

use crate::storage::record::Flaw;

/// The unit that a disk writes whole.
pub(super) const SECTOR: usize = 512;
/// Where the first segment begins; before it lie the head of the file and the mark.
pub(super) const DATA_START: u64 = 4096;
/// Where the mark lies.
pub(super) const MARK_AT: u64 = 512;
/// The version of the format of this file. One with a higher one is refused untouched.
pub(in crate::storage) const LOG_FORMAT: u32 = 2;
/// Bytes of the head of a record, before its body.
pub(super) const RECORD_HEAD: usize = 48;
/// The smallest segment: its head, the largest meta record and a part of a commit.
const SEGMENT_BYTES_MIN: u32 = 8 * 1024;
/// The largest segment, which is read whole.
const SEGMENT_BYTES_MAX: u32 = 64 * 1024 * 1024;

const FILE_MAGIC: [u8; 8] = *b"fluxjrnl";
const MARK_MAGIC: [u8; 2] = *b"fm";
const SEGMENT_MAGIC: [u8; 2] = *b"fs";
const RECORD_MAGIC: [u8; 2] = *b"fj";
const LAST_PART: u8 = 1;

/// A sector of its own.
pub(super) type Sector = [u8; SECTOR];

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn finish(bytes: &mut [u8], seed: u64) {
    let checksum = XxHash3_64::oneshot_with_seed(seed, &bytes[8..]);
    put(bytes, 0, &checksum.to_le_bytes());
}

fn checks(bytes: &[u8], seed: u64) -> bool {
    XxHash3_64::oneshot_with_seed(seed, &bytes[8..]) == u64_at(bytes, 0)
}

/// Whether a file may have segments of so many bytes.
pub(super) fn is_segment_size(bytes: u32) -> bool {
    (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) && u64::from(bytes).is_multiple_of(DATA_START)
}

/// The head of the file, written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHead {
    /// Bytes of every segment.
    pub(super) segment_bytes: u32,
    /// Belongs to this file alone, and to no text that anybody can write.
    pub(super) salt: u64,
}

/// Why a file's head is not one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    Damaged(Flaw),
    TooNew(u32),
}

impl FileHead {
    pub(super) fn encode(&self) -> Sector {
        let mut sector = [0; SECTOR];
        put(&mut sector, 8, &FILE_MAGIC);
        put(&mut sector, 16, &LOG_FORMAT.to_le_bytes());
        put(&mut sector, 20, &self.segment_bytes.to_le_bytes());
        put(&mut sector, 24, &self.salt.to_le_bytes());
        finish(&mut sector, 0);
        sector
    }

    /// Checksum, magic and version stand where they stand in every version.
    pub(super) fn decode(sector: &Sector) -> Result<FileHead, NoHead> {
        let damaged = |words: &str| Err(NoHead::Damaged(Flaw::new(words)));
        if sector[8..16] != FILE_MAGIC {
            return damaged("it does not start as a journal");
        }
        if !checks(sector, 0) {
            return damaged("the checksum does not match");
        }
        match u32_at(sector, 16) {
            LOG_FORMAT => {}
            newer if newer > LOG_FORMAT => return Err(NoHead::TooNew(newer)),
            _ => return damaged("not a known version"),
        }
        let head = FileHead { segment_bytes: u32_at(sector, 20), salt: u64_at(sector, 24) };
        if is_segment_size(head.segment_bytes) { Ok(head) } else { damaged("segments of no known size") }
    }

    fn slot_seed(&self, slot: u32) -> u64 {
        self.salt.wrapping_add(1 + u64::from(slot))
    }

    /// Another one for each sector of each segment: the factor is odd, so that no two segments have the same.
    fn place_seed(&self, segment: u64, at: usize) -> u64 {
        self.salt ^ segment.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((at / SECTOR) as u64)
    }
}

/// Up to where the log is known to be on disk. Behind the truth at most by what the last sync made so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Segments that the file has room for, at least.
    pub(super) slots: u32,
    /// The last commit.
    pub(super) commit: u64,
    /// The number of the segment that is being written; 0 = there is none yet.
    pub(super) segment: u64,
    /// Where in it the last record ends.
    pub(super) end: u32,
}

impl Mark {
    pub(super) fn encode(&self, head: &FileHead) -> Sector {
        let mut sector = [0; SECTOR];
        put(&mut sector, 8, &MARK_MAGIC);
        put(&mut sector, 12, &self.slots.to_le_bytes());
        put(&mut sector, 16, &self.commit.to_le_bytes());
        put(&mut sector, 24, &self.segment.to_le_bytes());
        put(&mut sector, 32, &self.end.to_le_bytes());
        finish(&mut sector, head.salt);
        sector
    }

    pub(super) fn decode(sector: &Sector, head: &FileHead) -> Result<Mark, Flaw> {
        if sector[8..10] != MARK_MAGIC || !checks(sector, head.salt) {
            return Err(Flaw::new("the checksum does not match"));
        }
        Ok(Mark {
            slots: u32_at(sector, 12),
            commit: u64_at(sector, 16),
            segment: u64_at(sector, 24),
            end: u32_at(sector, 32),
        })
    }
}

/// The head of a segment: which it is, and what it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHead {
    /// Rising; each opening goes on at a multiple of [`OPENING_STEP`].
    pub(super) no: u64,
    /// Where in the file it lies.
    pub(super) slot: u32,
    /// The run that began it.
    pub(super) boot: u32,
    /// The segment before it; 0 = none.
    pub(super) previous: u64,
    /// The last commit that was whole, and durable, when it was begun. Of what stands before it nothing later counts,
    /// but for `parts`.
    pub(super) after: u64,
    /// Parts of the next commit that stand before it.
    pub(super) parts: u32,
}

/// A crash may leave records of segments whose heads it did not leave. An opening numbers its own above all of them: far
/// fewer are begun between two syncs.
pub(super) const OPENING_STEP: u64 = 1 << 20;

impl SegmentHead {
    pub(super) fn encode(&self, file: &FileHead) -> Sector {
        let mut sector = [0; SECTOR];
        put(&mut sector, 8, &SEGMENT_MAGIC);
        put(&mut sector, 12, &self.boot.to_le_bytes());
        put(&mut sector, 16, &self.no.to_le_bytes());
        put(&mut sector, 24, &self.previous.to_le_bytes());
        put(&mut sector, 32, &self.after.to_le_bytes());
        put(&mut sector, 40, &self.parts.to_le_bytes());
        finish(&mut sector, file.slot_seed(self.slot));
        sector
    }

    /// `None`: there is no segment in this slot.
    pub(super) fn decode(sector: &Sector, slot: u32, file: &FileHead) -> Option<SegmentHead> {
        if sector[8..10] != SEGMENT_MAGIC || !checks(sector, file.slot_seed(slot)) {
            return None;
        }
        Some(SegmentHead {
            no: u64_at(sector, 16),
            slot,
            boot: u32_at(sector, 12),
            previous: u64_at(sector, 24),
            after: u64_at(sector, 32),
            parts: u32_at(sector, 40),
        })
    }
}

/// What a record is. Stored: never change a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RecordKind {
    /// Frames of one group commit, or a part of them.
    Commit = 1,
    /// Where the journal stands: a sealed row.
    Meta = 2,
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub(super) kind: RecordKind,
    /// Of a commit: whether it ends here.
    pub(super) last: bool,
    /// Of a commit: which part, from 0.
    pub(super) part: u32,
    /// Its number; of a meta record, that of the last commit before it.
    pub(super) commit: u64,
    /// Bytes of the body.
    pub(super) length: u32,
}

/// Bytes that a record with a body of `length` takes.
pub(super) fn record_bytes(length: usize) -> usize {
    (RECORD_HEAD + length).next_multiple_of(SECTOR)
}

/// What stands at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A record.
    Whole(RecordHead, &'a [u8]),
    /// The head of one; its body does not check.
    Torn(RecordHead),
    /// No record.
    Nothing,
}

impl RecordHead {
    /// Ends the record that begins at `start` of `bytes`, with its body in place: head, and zeros up to the next sector.
    /// `at` is its place in the segment.
    pub(super) fn finish(&self, bytes: &mut Vec<u8>, start: usize, file: &FileHead, segment: u64, at: usize) {
        let seed = file.place_seed(segment, at);
        let body = XxHash3_64::oneshot_with_seed(seed, &bytes[start + RECORD_HEAD..]);
        let head = &mut bytes[start..start + RECORD_HEAD];
        put(head, 8, &RECORD_MAGIC);
        head[10] = self.kind as u8;
        head[11] = if self.last { LAST_PART } else { 0 };
        put(head, 12, &self.part.to_le_bytes());
        put(head, 16, &self.commit.to_le_bytes());
        put(head, 24, &segment.to_le_bytes());
        put(head, 32, &self.length.to_le_bytes());
        put(head, 36, &[0; 4]);
        put(head, 40, &body.to_le_bytes());
        finish(head, seed);
        bytes.resize(start + record_bytes(self.length as usize), 0);
    }

    /// The head at this place, if it is one of this segment.
    pub(super) fn decode(bytes: &[u8], at: usize, segment: u64, file: &FileHead) -> Option<RecordHead> {
        let head = bytes.get(at..at + RECORD_HEAD)?;
        if head[8..10] != RECORD_MAGIC
            || u64_at(head, 24) != segment
            || !checks(head, file.place_seed(segment, at))
        {
            return None;
        }
        let kind = match head[10] {
            1 => RecordKind::Commit,
            2 => RecordKind::Meta,
            _ => return None,
        };
        Some(RecordHead {
            kind,
            last: head[11] == LAST_PART,
            part: u32_at(head, 12),
            commit: u64_at(head, 16),
            length: u32_at(head, 32),
        })
    }

    /// The last commit that was durable when this record was written.
    pub(super) fn durable_before(&self) -> u64 {
        match self.kind {
            RecordKind::Commit => self.commit.saturating_sub(1),
            RecordKind::Meta => self.commit,
        }
    }
}

/// What stands at `at` of a segment's bytes.
pub(super) fn record_at<'a>(bytes: &'a [u8], at: usize, segment: u64, file: &FileHead) -> Found<'a> {
    let Some(head) = RecordHead::decode(bytes, at, segment, file) else { return Found::Nothing };
    let start = at + RECORD_HEAD;
    match bytes.get(start..start.saturating_add(head.length as usize)) {
        Some(body)
            if XxHash3_64::oneshot_with_seed(file.place_seed(segment, at), body)
                == u64_at(&bytes[at..], 40) =>
        {
            Found::Whole(head, body)
        }
        _ => Found::Torn(head),
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
